//! A result as GitHub-flavoured Markdown: for a comment on a pull request, or a job summary.
//!
//! Text from outside is shown as it is; nothing in it is markup, though GitHub makes links of addresses.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::export::meaning;
use super::milliseconds;
use super::table::{clean, seconds};
use crate::result::{AlertVerdict, RunResult, StepResult, Verdict, Verification};
use crate::scenario::Outcome;
use crate::words::counted;

pub(super) fn render(result: &RunResult) -> String {
    let all = result.scenarios.iter().flat_map(|scenario| &scenario.steps);
    let proved = all.clone().filter(|step| step.outcome == Outcome::Proved).count();
    let mut text = String::new();
    let _ = writeln!(
        text,
        "## Attack simulation: {proved} of {} proved",
        counted(all.count(), "step")
    );
    let _ = writeln!(text, "\n{}", place(result));
    if let Some(problem) = &result.problem {
        let _ = writeln!(text, "\n**Error:** {}", code(&problem.message));
        for detail in &problem.details {
            let _ = writeln!(text, "- {}", code(detail));
        }
        if let Some(hint) = &problem.hint {
            let _ = writeln!(text, "\n**Hint:** {}", code(hint));
        }
    }
    let steps = result.scenarios.iter().flat_map(|scenario| {
        scenario.steps.iter().map(|step| {
            [
                format!("{}.{}", scenario.id, step.id),
                plain(&step.title),
                outcome(step.outcome).to_owned(),
                milliseconds(step.duration_ms),
                evidence(step),
            ]
        })
    });
    table(&mut text, ["Step", "Title", "Result", "Time", "Evidence"], steps);
    if let Some(verification) = &result.verification {
        verdicts(&mut text, verification);
    } else if proved > 0 {
        // As in the table for people: nothing that was not done raises an alert.
        let mut seen = BTreeSet::new();
        let alerts = result.scenarios.iter().flat_map(|scenario| &scenario.alerts);
        let rows = alerts.filter(|alert| seen.insert(&alert.id)).map(|alert| {
            [
                plain(&alert.name),
                plain(alert.severity.as_deref().unwrap_or("unknown")),
                plain(alert.needs.as_deref().unwrap_or_default()),
            ]
        });
        table(&mut text, ["Alert to expect", "Severity", "Needs"], rows);
    }
    if let Some(problem) = &result.unread {
        let _ = writeln!(
            text,
            "\n**Alerts were not read to the end:** {}",
            code(&problem.message)
        );
    }
    if let Some(cleanup) = &result.cleanup {
        let _ = writeln!(text, "\n**Clean-up:** {}", plain(&clean(cleanup)));
        for problem in &cleanup.problems {
            let _ = writeln!(text, "- {}", code(problem));
        }
    }
    if let Some(until) = result.kept_until {
        let _ = writeln!(
            text,
            "\n**Kept for a look:** the cluster ends and removes it at about {until:.0}."
        );
    }
    let _ = writeln!(text, "\n**Exit code {}:** {}.", result.exit_code, meaning(result));
    text
}

fn verdicts(text: &mut String, verification: &Verification) {
    let rows = verification.alerts.iter().map(|alert| {
        let raised = alert.raised.as_ref();
        [
            plain(&alert.name),
            verdict(alert).to_owned(),
            seconds(raised.and_then(|raised| raised.seconds_to_detect)),
            plain(
                raised
                    .and_then(|raised| raised.severity.as_deref())
                    .unwrap_or_default(),
            ),
            plain(alert.reason.as_deref().unwrap_or_default()),
        ]
    });
    table(text, ["Alert", "Verdict", "After", "Severity", "Reason"], rows);
    let further = verification.additional.iter().map(|alert| {
        [
            plain(&alert.name),
            plain(alert.severity.as_deref().unwrap_or("unknown")),
        ]
    });
    if !verification.additional.is_empty() {
        table(text, ["Further alert of the same pods", "Severity"], further);
    }
    let _ = writeln!(
        text,
        "\nAs of {:.0} in {}.",
        verification.looked,
        plain(&verification.source)
    );
}

fn verdict(alert: &AlertVerdict) -> &'static str {
    match alert.verdict {
        Verdict::Raised if alert.late => "⏰ raised too late",
        Verdict::Raised => "✅ raised",
        Verdict::NotRaised => "❌ not raised",
        Verdict::Waiting => "⏳ waiting",
        Verdict::NotExpected => "➖ not expected here",
        Verdict::CouldNotTell => "❔ unknown",
    }
}

fn place(result: &RunResult) -> String {
    let cluster = &result.cluster;
    let mut text = format!(
        "Run {} in namespace {}",
        code(&result.run),
        code(&result.namespace)
    );
    if let Some(context) = &cluster.context {
        let _ = write!(text, " of context {}", code(context));
    }
    let _ = write!(text, " at {}", code(&cluster.server));
    if let Some(user) = &cluster.user {
        let _ = write!(text, " as {}", code(user));
    }
    let _ = write!(text, ", kubectl defender-sim {}.", result.version);
    text
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Proved => "✅ proved",
        Outcome::Failed => "❌ failed",
        Outcome::Blocked => "⛔ blocked",
        Outcome::Skipped => "➖ skipped",
    }
}

fn evidence(step: &StepResult) -> String {
    let said: Vec<String> = step
        .reason
        .iter()
        .chain(&step.evidence)
        .map(|text| code(text))
        .collect();
    said.join("; ")
}

fn table<const N: usize>(text: &mut String, header: [&str; N], rows: impl Iterator<Item = [String; N]>) {
    let _ = writeln!(text, "\n| {} |\n|{}", header.join(" | "), " --- |".repeat(N));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
}

/// Text on one line in which nothing is markup.
fn plain(text: &str) -> String {
    let mut escaped = String::new();
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            // A backslash would not do: the columns of a table are told apart before anything else is read.
            '|' => escaped.push_str("&#124;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '~' | '$' => escaped.extend(['\\', char]),
            _ if char.is_control() => escaped.push(' '),
            _ => escaped.push(char),
        }
    }
    escaped
}

/// The same where GitHub looks for no names, numbers and commits either. A code span could hold no backtick.
fn code(text: &str) -> String {
    format!("<code>{}</code>", plain(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;
    use crate::report::fixture;

    #[test]
    fn every_outcome_has_its_line() {
        assert_eq!(
            render(&fixture::mixed()),
            "\
## Attack simulation: 1 of 4 steps proved

Run <code>k7</code> in namespace <code>sim</code> of context <code>prod</code> at <code>https://192.0.2.1</code> as \
             <code>jane</code>, kubectl defender-sim 1.2.3.

| Step | Title | Result | Time | Evidence |
| --- | --- | --- | --- | --- |
| one.look | the look one | ✅ proved | 1.2 s | <code>3 pods seen</code> |
| one.fetch | the fetch one | ❌ failed | 20 ms | <code>exit status 1</code>; <code>no route</code> |
| two.send | the send one | ⛔ blocked | - | <code>timed out</code> |
| two.read | the read one | ➖ skipped | - | <code>no such service</code> |

| Alert to expect | Severity | Needs |
| --- | --- | --- |
| Alpha | high |  |
| Beta | unknown | a sensor |

**Clean-up:** 2 objects removed, nothing left.

**Exit code 4:** a step was not proved.
"
        );
    }

    #[test]
    fn what_is_left_behind_is_said() {
        let text = render(&fixture::unclean());
        let end = "\n**Clean-up:** 1 removed, LEFT BEHIND: pod/b.\n- <code>pod/b: forbidden</code>\n\n**Exit code 6:** \
                   objects were left behind, or cleanup could not be verified.\n";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn what_the_exit_code_means_is_true_of_a_look_for_alerts_too() {
        let last = |result: &RunResult| render(result).lines().last().unwrap().to_owned();
        // Every alert was raised, of a run with a failed step that left something behind.
        let mut seen = fixture::unclean();
        seen.verification = fixture::verified().verification;
        let verification = seen.verification.as_mut().unwrap();
        verification.alerts.truncate(1);
        verification.failure = None;
        (seen.exit, seen.exit_code) = (Exit::Ok, 0);
        assert_eq!(
            last(&seen),
            "**Exit code 0:** the alerts pass: none is known to be missing or unexpected."
        );
        seen.unread = fixture::not_started().problem;
        let text = render(&seen);
        assert!(
            text.contains("\n**Alerts were not read to the end:** <code>"),
            "{text}"
        );
        let mut stopped = seen;
        (stopped.exit, stopped.exit_code) = (Exit::Interrupted, 130);
        assert_eq!(last(&stopped), "**Exit code 130:** interrupted.");
    }

    #[test]
    fn a_problem_comes_first_and_leaves_out_what_cannot_be_said() {
        let text = render(&fixture::not_started());
        let part = "1.2.3.\n\n**Error:** <code>pods is forbidden</code>\n- <code>in namespace sim</code>\n\n**Hint:** \
                    <code>kubectl auth can-i create pods</code>\n\n| Step |";
        assert!(text.contains(part), "{text}");
        assert!(!text.contains("Alert") && !text.contains("Clean-up"), "{text}");
    }

    #[test]
    fn text_from_outside_is_no_markup() {
        assert_eq!(
            plain(fixture::HOSTILE),
            "a&#124;b \\`c\\` &lt;b&gt;&amp;amp;&lt;/b&gt;  \\]\\]&gt;  \\[31m\u{ffff} \\\\&#124; @all \"q\" \\*d\\* \\$e\\$"
        );
        let (usual, hostile) = (render(&fixture::unclean()), render(&fixture::hostile()));
        let columns = |text: &str| -> Vec<usize> {
            let rows = text.lines().filter(|line| line.starts_with('|'));
            rows.map(|row| row.matches('|').count()).collect()
        };
        assert_eq!(columns(&usual), columns(&hostile));
        assert!(!hostile.contains("<b>"), "{hostile}");
    }

    #[test]
    fn each_expected_alert_has_its_verdict() {
        let text = render(&fixture::verified());
        let table = "\
| Alert | Verdict | After | Severity | Reason |
| --- | --- | --- | --- | --- |
| The alpha alert | ✅ raised | 40 min | High |  |
| The missing alert | ❌ not raised | - |  |  |
| The open alert | ⏳ waiting | - |  |  |
| The absent alert | ➖ not expected here | - |  | not proved: one.fetch |
| The drift alert | ❔ unknown | - |  | it needs a drift policy |
| The late alert | ⏰ raised too late | 40 min | High | too late: after 2400 s, not within 30m |

| Further alert of the same pods | Severity |
| --- | --- |
| One more | High |

As of 2026-05-04T11:00:00Z in Azure Resource Graph.
";
        assert!(text.contains(table), "{text}");
    }
}
