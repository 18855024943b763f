//! Human-readable output of `doctor`.

use std::fmt::Write;

use super::table::{fill, table};
use super::{GREEN, RED, Width, YELLOW, paint};
use crate::result::{CheckResult, CheckStatus, DoctorResult};

/// Width of the column with the check IDs.
const CHECK: usize = 16;
const RESULT: usize = 14;

fn word(status: CheckStatus) -> &'static str {
    match status {
        CheckStatus::Ok => "ok",
        CheckStatus::Warning => "warning",
        CheckStatus::Failed => "failed",
        CheckStatus::Unknown => "unknown",
        CheckStatus::NotApplicable => "not applicable",
    }
}

fn painted(status: CheckStatus, text: &str) -> String {
    match status {
        CheckStatus::Ok => paint(text, GREEN),
        CheckStatus::Warning | CheckStatus::Unknown => paint(text, YELLOW),
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
        CheckStatus::Unknown,
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

/// Renders one line per check, most urgent first, each followed by its advice. Checks with the same finding share a
/// line.
fn checks(result: &DoctorResult) -> String {
    let mut text = format!("{:CHECK$}  {:RESULT$}  SEEN\n", "CHECK", "RESULT");
    let below = " ".repeat(CHECK + RESULT + 4);
    let mut checks: Vec<&CheckResult> = result.checks.iter().collect();
    checks.sort_by_key(|check| urgency(check.status));
    while let Some(check) = checks.first().copied() {
        let is_same = |other: &&CheckResult| {
            (other.status, &other.seen, &other.advice) == (check.status, &check.seen, &check.advice)
        };
        let same: Vec<&str> = checks
            .iter()
            .filter(|other| is_same(other))
            .skip(1)
            .map(|other| other.id)
            .collect();
        let status = painted(check.status, &format!("{:RESULT$}", word(check.status)));
        let first = format!("{:CHECK$}  {status}  ", check.id);
        let _ = writeln!(text, "{}", fill(&format!("{first}{}", check.seen), &below));
        let also = (!same.is_empty()).then(|| format!("the same: {}", same.join(", ")));
        for more in also.iter().chain(&check.advice) {
            let _ = writeln!(text, "{}", fill(&format!("{below}{more}"), &below));
        }
        checks.retain(|other| !is_same(other));
    }
    text
}

/// Returns the rank of a status for sorting: the most urgent is first.
fn urgency(status: CheckStatus) -> u8 {
    match status {
        CheckStatus::Failed => 0,
        CheckStatus::Warning => 1,
        CheckStatus::Unknown => 2,
        CheckStatus::Ok => 3,
        CheckStatus::NotApplicable => 4,
    }
}
