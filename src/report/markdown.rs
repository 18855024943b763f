//! Results as GitHub-flavoured Markdown, for a pull request comment or a job summary.
//!
//! Untrusted text is shown verbatim and never acts as markup, although GitHub turns URLs into links.

use std::collections::BTreeSet;
use std::fmt::Write;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use url::Url;

use super::coverage;
use super::meaning::{State, meaning, news, portal, proved_steps};
use super::milliseconds;
use super::reasons::{Reasons, any_ran, proved};
use super::table::{clean, note, seconds};
use crate::exit::Exit;
use crate::result::{
    AlertVerdict, Cleanup, ClusterInfo, FleetResult, Problem, RaisedAlert, RunResult, StepResult, Verdict,
    Verification,
};
use crate::scenario::Outcome;
use crate::words::counted;

/// Characters that would end a link destination or a table cell, or act as markup in one.
const DESTINATION: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'$')
    .add(b'(')
    .add(b')')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'`')
    .add(b'|');

/// Renders a result: the title with the news, then the alerts, then the steps.
pub(super) fn render(result: &RunResult) -> String {
    let mut text = format!("## {}\n\n{}\n", title(result), header(result));
    if let Some(problem) = &result.problem {
        add_problem(&mut text, "Error", problem);
    }
    if let Some(problem) = &result.verification_problem {
        add_problem(&mut text, "Alerts were not read completely", problem);
    }
    let mut cleanup = result.cleanup.as_ref();
    if let Some(verification) = &result.verification {
        alerts(&mut text, verification);
        groups(&mut text, result);
        details(&mut text, result);
        cleanup = cleanup.filter(|cleanup| !cleanup.is_clean());
    } else {
        steps(&mut text, result);
        groups(&mut text, result);
        expected(&mut text, result);
    }
    if let Some(cleanup) = cleanup {
        add_cleanup(&mut text, cleanup);
    }
    if let Some(until) = result.kept_until {
        let _ = writeln!(text, "\n**Kept for inspection** until about {until:.0}.");
    }
    let _ = writeln!(text, "\n**Exit code {}:** {}.", result.exit_code, meaning(result));
    text
}

/// Renders the results of several clusters: a table of all of them, then each result.
pub(super) fn render_fleet(fleet: &FleetResult) -> String {
    let passed = fleet
        .clusters
        .iter()
        .filter(|cluster| cluster.exit == Exit::Ok)
        .count();
    let mark = if fleet.exit == Exit::Ok { "✅" } else { "❌" };
    let clusters = counted(fleet.clusters.len(), "cluster");
    let mut text = format!("## {mark} {passed} of {clusters} passed\n");
    let rows = fleet.clusters.iter().map(|cluster| {
        let run = cluster.run();
        let alerts = run.and_then(|run| run.verification.as_ref()).map(|verification| {
            let (raised, all) = verification.raised(false);
            format!("{raised} of {all}")
        });
        [
            code(&cluster.context),
            run.map_or_else(|| "-".to_owned(), |run| code(&run.run)),
            run.map_or_else(|| "-".to_owned(), proved_steps),
            alerts.unwrap_or_else(|| "-".to_owned()),
            cluster.exit_code.to_string(),
        ]
    });
    table(
        &mut text,
        ["Cluster", "Run", "Steps", "Alerts", "Exit code"],
        rows,
    );
    for cluster in &fleet.clusters {
        match (cluster.run(), &cluster.problem) {
            (Some(run), _) => {
                let rest = render(run);
                let rest = rest.strip_prefix("## ").unwrap_or(&rest);
                let _ = write!(text, "\n### {}: {rest}", code(&cluster.context));
            }
            (None, problem) => {
                let _ = writeln!(text, "\n### {}: ❌ no result", code(&cluster.context));
                if let Some(problem) = problem {
                    add_problem(&mut text, "Error", problem);
                }
            }
        }
    }
    let _ = writeln!(text, "\n**Exit code of the fleet: {}**", fleet.exit_code);
    text
}

/// Adds the steps and a verified cleanup as a collapsed section, because they are not news.
fn details(text: &mut String, result: &RunResult) {
    let (mut folded, mut summary) = (String::new(), proved_steps(result));
    steps(&mut folded, result);
    if let Some(cleanup) = result.cleanup.as_ref().filter(|cleanup| cleanup.is_clean()) {
        add_cleanup(&mut folded, cleanup);
        summary += ", cleanup verified";
    }
    if !folded.is_empty() {
        let summary = format!("<details><summary>{summary}</summary>");
        let _ = writeln!(text, "\n{summary}\n{folded}\n</details>");
    }
}

/// Returns the news with a mark of its state.
fn title(result: &RunResult) -> String {
    let (state, news) = news(result);
    let mark = match state {
        State::Passed => "✅",
        State::Waiting => "⏳",
        State::AlertsPassed => "⚠️",
        State::Failed => "❌",
    };
    format!("{mark} {news}")
}

/// Formats which scenarios ran, where and when.
fn header(result: &RunResult) -> String {
    let scenarios: Vec<String> = result
        .scenarios
        .iter()
        .map(|scenario| code(&scenario.id))
        .collect();
    let run = result
        .is_identified()
        .then(|| format!("run {}", code(&result.run)));
    let node = result.node().filter(|_| !coverage::is_of(result));
    let node = node.map(|node| format!("node {}", code(node)));
    let parts = [scenarios.join(" ")].into_iter().chain(run);
    let parts = parts
        .chain([place(&result.namespace, &result.cluster)])
        .chain(node);
    let parts = parts.chain([
        period(result.started, result.ended),
        format!("kubectl defender-sim {}", plain(&result.version)),
    ]);
    let parts = parts.filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join(" · ")
}

/// Formats a namespace with its cluster and user.
pub(super) fn place(namespace: &str, cluster: &ClusterInfo) -> String {
    let mut place = format!("namespace {}", code(namespace));
    if let Some(context) = &cluster.context {
        let _ = write!(place, " of context {}", code(context));
    }
    let _ = write!(place, " at {}", code(&cluster.server));
    if let Some(user) = &cluster.user {
        let _ = write!(place, " as {}", code(user));
    }
    place
}

/// Formats a period in UTC. If it is within one day, the date is written once.
pub(super) fn period(from: jiff::Timestamp, until: jiff::Timestamp) -> String {
    let day = |time: jiff::Timestamp| time.strftime("%Y-%m-%d ").to_string();
    let until_day = if day(from) == day(until) {
        String::new()
    } else {
        day(until)
    };
    format!(
        "{} to {until_day}{} UTC",
        from.strftime("%Y-%m-%d %H:%M:%S"),
        until.strftime("%H:%M:%S")
    )
}

fn add_problem(text: &mut String, title: &str, problem: &Problem) {
    let _ = writeln!(text, "\n**{title}:** {}", code(&problem.message));
    list(text, problem.details.iter().map(|detail| code(detail)));
    if let Some(hint) = &problem.hint {
        let _ = writeln!(text, "\n**Hint:** {}", code(hint));
    }
}

fn add_cleanup(text: &mut String, cleanup: &Cleanup) {
    let _ = writeln!(text, "\n**Cleanup:** {}", plain(&clean(cleanup)));
    list(text, cleanup.problems.iter().map(|problem| code(problem)));
}

/// Adds the steps, if any ran, and below them the reasons that several steps share.
fn steps(text: &mut String, result: &RunResult) {
    if !any_ran(result) {
        return;
    }
    let reasons = Reasons::of(result);
    let rows = result.scenarios.iter().flat_map(|scenario| {
        scenario.steps.iter().map(|step| {
            let victim = coverage::victim(result, step).filter(|_| coverage::is_of(result));
            let group = victim.map_or_else(String::new, |victim| format!(" on {}", victim.label()));
            [
                plain(&format!("{}.{}{group}", scenario.id, step.id)),
                plain(&step.title),
                outcome(step.outcome),
                milliseconds(step.duration_ms),
                evidence(step, &reasons),
            ]
        })
    });
    table(text, ["Step", "Title", "Result", "Time", "Evidence"], rows);
    list(text, reasons.notes().map(|note| code(&note)));
}

/// Adds what was proved and raised on each group of nodes, and the groups that were not covered.
fn groups(text: &mut String, result: &RunResult) {
    if !coverage::is_of(result) {
        return;
    }
    let rows = result.victims.iter().map(|victim| {
        let row = coverage::row(result, victim);
        [
            plain(victim.label()),
            victim.node.as_deref().map_or_else(|| "-".to_owned(), code),
            plain(&row.proved()),
            plain(row.sensor),
            plain(&row.raised()),
        ]
    });
    table(
        text,
        [
            "Group of nodes",
            "Node",
            "Steps proved",
            "Sensor",
            "Alerts raised",
        ],
        rows,
    );
    let rows = result
        .uncovered
        .iter()
        .map(|group| [plain(&group.group), group.nodes.to_string(), plain(&group.reason)]);
    table(text, ["Group not covered", "Nodes", "Reason"], rows);
}

/// Adds the expected alerts, each once, and those that cannot be raised. Without a proved step, no alert is expected.
fn expected(text: &mut String, result: &RunResult) {
    if proved(result).0 == 0 {
        return;
    }
    let mut seen = BTreeSet::new();
    let alerts = result.scenarios.iter().flat_map(|scenario| &scenario.alerts);
    let (expected, excluded): (Vec<_>, Vec<_>) = alerts
        .filter(|alert| seen.insert(&alert.id))
        .partition(|alert| alert.not_expected.is_none());
    let rows = expected.into_iter().map(|alert| {
        let optional = alert.optional.then_some("none (optional)");
        [
            plain(&alert.name),
            plain(alert.severity.as_deref().unwrap_or("unknown")),
            plain(alert.needs.as_deref().or(optional).unwrap_or_default()),
        ]
    });
    table(text, ["Expected alert", "Severity", "Needs"], rows);
    let rows = excluded.into_iter().map(|alert| {
        let reason = alert.not_expected.as_deref();
        [plain(&alert.name), plain(reason.unwrap_or_default())]
    });
    table(text, ["Alert not expected", "Reason"], rows);
}

/// Adds the verdict on each expected alert, and the other alerts that were raised.
fn alerts(text: &mut String, verification: &Verification) {
    if let Some(failure) = &verification.failure {
        let _ = writeln!(text, "\n**Failure:** {}", code(failure));
    }
    let rows = verification.alerts.iter().map(|alert| {
        let raised = alert.raised.as_ref();
        [
            link(&alert.name, raised),
            verdict(alert),
            plain(
                raised
                    .and_then(|raised| raised.severity.as_deref())
                    .unwrap_or_default(),
            ),
            seconds(raised.and_then(|raised| raised.seconds_to_detect)),
            plain(note(alert).unwrap_or_default()),
        ]
    });
    let header = ["Alert", "Verdict", "Severity", "Time to detect", "Reason"];
    table(text, header, rows);
    let rows = verification.additional.iter().map(|alert| {
        [
            link(&alert.name, Some(alert)),
            plain(alert.severity.as_deref().unwrap_or("unknown")),
        ]
    });
    table(text, ["Other alert of this run", "Severity"], rows);
    let rows = verification.unattributed.iter();
    let rows = rows.map(|alert| [plain(&alert.name), plain(&alert.reason)]);
    table(text, ["Alert that may be of this run", "Unknown because"], rows);
    for warning in verification.warnings() {
        let _ = writeln!(text, "\n**Warning:** {}", code(&warning));
    }
    let _ = writeln!(
        text,
        "\nAs of {:.0} in {}.",
        verification.read,
        plain(&verification.source)
    );
}

fn verdict(alert: &AlertVerdict) -> String {
    let mark = match alert.verdict {
        Verdict::Raised if alert.late => "⏰",
        Verdict::Raised => "✅",
        Verdict::NotRaised => "❌",
        Verdict::Waiting => "⏳",
        Verdict::NotExpected => "➖",
        Verdict::Unknown => "❔",
    };
    let late = if alert.late { " too late" } else { "" };
    format!("{mark} {}{late}", alert.verdict.as_str())
}

fn outcome(outcome: Outcome) -> String {
    let mark = match outcome {
        Outcome::Proved => "✅",
        Outcome::Failed => "❌",
        Outcome::Blocked => "⛔",
        Outcome::Skipped => "➖",
    };
    format!("{mark} {}", outcome.as_str())
}

fn evidence(step: &StepResult, reasons: &Reasons) -> String {
    let reason = reasons.of_step(step);
    let parts = reason.iter().chain(&step.evidence).map(|text| code(text));
    parts.collect::<Vec<_>>().join("; ")
}

/// Adds a table, if it has rows.
pub(super) fn table<const N: usize>(
    text: &mut String,
    header: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) {
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return;
    }
    let _ = writeln!(text, "\n| {} |\n|{}", header.join(" | "), " --- |".repeat(N));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
}

/// Adds a list, if it has items.
pub(super) fn list(text: &mut String, items: impl Iterator<Item = String>) {
    for (index, item) in items.enumerate() {
        let paragraph = if index == 0 { "\n" } else { "" };
        let _ = writeln!(text, "{paragraph}- {item}");
    }
}

/// Formats the name of an alert, linked to the portal.
fn link(name: &str, raised: Option<&RaisedAlert>) -> String {
    link_to(name, raised.and_then(portal).as_ref().map(Url::as_str))
}

/// Formats a text, linked to a URL if there is one.
pub(super) fn link_to(text: &str, url: Option<&str>) -> String {
    match url {
        None => plain(text),
        Some(url) => {
            let destination = utf8_percent_encode(url, DESTINATION).to_string();
            format!("[{}]({})", plain(text), destination.replace('&', "&amp;"))
        }
    }
}

/// Escapes a text so that it is one line without markup.
pub(super) fn plain(text: &str) -> String {
    let mut escaped = String::new();
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            // A backslash would not work: a table is split into cells before anything else is parsed.
            '|' => escaped.push_str("&#124;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '~' | '$' => escaped.extend(['\\', char]),
            _ if char.is_control() => escaped.push(' '),
            _ => escaped.push(char),
        }
    }
    escaped
}

/// Like [`plain`], but GitHub does not link names, numbers and commits in it. A code span could not hold a backtick.
pub(super) fn code(text: &str) -> String {
    format!("<code>{}</code>", plain(text))
}

#[cfg(test)]
mod tests;
