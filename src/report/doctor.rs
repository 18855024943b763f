//! What `doctor` found, for people.

use std::fmt::Write;

use super::table::{fill, table};
use super::{GREEN, RED, Width, YELLOW, paint};
use crate::result::{CheckStatus, DoctorResult};

/// Room for an id, and for what a check came to.
const CHECK: usize = 16;
const RESULT: usize = 14;

fn word(status: CheckStatus) -> &'static str {
    match status {
        CheckStatus::Ok => "ok",
        CheckStatus::Warning => "warning",
        CheckStatus::Failed => "failed",
        CheckStatus::CouldNotTell => "could not tell",
        CheckStatus::NotApplicable => "not applicable",
    }
}

fn painted(status: CheckStatus, text: &str) -> String {
    match status {
        CheckStatus::Ok => paint(text, GREEN),
        CheckStatus::Warning | CheckStatus::CouldNotTell => paint(text, YELLOW),
        CheckStatus::Failed => paint(text, RED),
        CheckStatus::NotApplicable => text.to_owned(),
    }
}

pub(super) fn doctor(result: &DoctorResult, wide: Width) -> String {
    let mut text = match wide {
        Width::Screen => checks(result),
        Width::Wide => {
            let rows = result.checks.iter().map(|check| {
                vec![
                    check.id.to_owned(),
                    painted(check.status, word(check.status)),
                    check.seen.clone(),
                    check.advice.clone().unwrap_or_default(),
                ]
            });
            table(&["CHECK", "RESULT", "SEEN", "ADVICE"], rows, wide)
        }
    };
    let number = |status| {
        result
            .checks
            .iter()
            .filter(|check| check.status == status)
            .count()
    };
    let statuses = [
        CheckStatus::Ok,
        CheckStatus::Warning,
        CheckStatus::Failed,
        CheckStatus::CouldNotTell,
        CheckStatus::NotApplicable,
    ];
    let counts: Vec<String> = statuses
        .into_iter()
        .filter(|&status| number(status) > 0)
        .map(|status| format!("{} {}", number(status), word(status)))
        .collect();
    let last = format!(
        "{} in namespace {} of {}: {}.",
        result.scenarios.join(", "),
        result.namespace,
        result.cluster,
        counts.join(", ")
    );
    let _ = writeln!(text, "\n{}", fill(&last, ""));
    text
}

/// A line for each check, wrapped beside its result, and below it what to do.
fn checks(result: &DoctorResult) -> String {
    let mut text = format!("{:CHECK$}  {:RESULT$}  SEEN\n", "CHECK", "RESULT");
    let below = " ".repeat(CHECK + RESULT + 4);
    for check in &result.checks {
        let status = painted(check.status, &format!("{:RESULT$}", word(check.status)));
        let first = format!("{:CHECK$}  {status}  ", check.id);
        let _ = writeln!(text, "{}", fill(&format!("{first}{}", check.seen), &below));
        if let Some(advice) = &check.advice {
            let _ = writeln!(text, "{}", fill(&format!("    {advice}"), "    "));
        }
    }
    text
}
