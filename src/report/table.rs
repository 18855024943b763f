//! Results as human-readable tables, within the width of the terminal, or 80 columns.

use std::collections::BTreeSet;
use std::fmt::Write;

use tabled::builder::Builder;
use tabled::settings::{Padding, Style};
use textwrap::core::display_width;
use textwrap::{Options, WordSeparator, WordSplitter};

use super::coverage;
use super::reasons::{Reasons, any_ran, proved};
use super::style::visible;
use super::{GREEN, RED, Setting, Width, YELLOW, milliseconds, outcome, paint};
use crate::result::{
    AlertExpectation, AlertVerdict, Cleanup, CleanupResult, RunResult, StepResult, Verdict, Verification,
};
use crate::scenario::catalogue;
use crate::words::counted;

const DEFAULT_WIDTH: usize = 80;
/// Columns between two columns of a table.
const GAP: usize = 2;

pub(super) fn width() -> usize {
    terminal_size::terminal_size().map_or(DEFAULT_WIDTH, |(width, _)| usize::from(width.0).max(40))
}

/// Returns the options for wrapping. Words are not split at hyphens, so that flags and names can be copied.
fn options<'a>(width: usize) -> Options<'a> {
    Options::new(width).word_splitter(WordSplitter::NoHyphenation)
}

/// Wraps a text at the width of the terminal; `indent` prefixes its continuation lines.
pub(super) fn fill(text: &str, indent: &str) -> String {
    textwrap::fill(&visible(text), options(width()).subsequent_indent(indent))
}

/// Returns the width of the longest part of a text that is not split.
fn longest_word(text: &str) -> usize {
    let lines = text
        .lines()
        .flat_map(|line| WordSeparator::new().find_words(line));
    lines.map(|word| display_width(&word)).max().unwrap_or(0)
}

/// Formats a table without borders.
///
/// If it is wider than the screen, its widest columns are wrapped. Words are split only if no column can be narrowed
/// otherwise.
pub(super) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>, may: Width) -> String {
    let header = header.iter().map(|&title| title.to_owned()).collect();
    let rows = rows
        .into_iter()
        .map(|row| row.iter().map(|cell| visible(cell)).collect());
    let mut rows: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
    let columns = 0..rows[0].len();
    let widest = |of: fn(&str) -> usize| -> Vec<usize> {
        let column = |column: usize| rows.iter().map(|row| of(&row[column])).max().unwrap_or(0);
        columns.clone().map(column).collect()
    };
    let (mut widths, words) = (widest(display_width), widest(longest_word));
    let room = match may {
        Width::Screen => width().saturating_sub(GAP * (widths.len() - 1)),
        Width::Wide => usize::MAX,
    };
    while widths.iter().sum::<usize>() > room {
        let whole = columns.clone().filter(|&column| widths[column] > words[column]);
        let widest = whole.max_by_key(|&column| widths[column]);
        let widest = widest.or_else(|| columns.clone().max_by_key(|&column| widths[column]));
        widths[widest.expect("a table has columns")] -= 1;
    }
    for row in &mut rows {
        for (cell, width) in row.iter_mut().zip(&widths) {
            if display_width(cell) > *width {
                *cell = textwrap::fill(cell, options(*width));
            }
        }
    }
    let mut table = rows.into_iter().collect::<Builder>().build();
    table.with(Style::empty()).with(Padding::new(0, GAP, 0, 0));
    table
        .to_string()
        .lines()
        .flat_map(|line| [line.trim_end(), "\n"])
        .collect()
}

/// Formats the expected alerts, each once, and those that cannot be raised.
pub(super) fn expected(alerts: &[AlertExpectation], width: Width) -> String {
    if alerts.is_empty() {
        return "No alert is expected.\n".to_owned();
    }
    let mut seen = BTreeSet::new();
    let (expected, excluded): (Vec<_>, Vec<_>) = alerts
        .iter()
        .filter(|alert| seen.insert(&alert.id))
        .partition(|alert| alert.not_expected.is_none());
    let mut parts = vec![];
    if !expected.is_empty() {
        parts.push(match width {
            Width::Screen => expected_list(&expected),
            Width::Wide => expected_table(&expected),
        });
    }
    let mut by_reason: Vec<(&str, Vec<&AlertExpectation>)> = vec![];
    for alert in excluded {
        let reason = alert.not_expected.as_deref().unwrap_or_default();
        match by_reason.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, alerts)) => alerts.push(alert),
            None => by_reason.push((reason, vec![alert])),
        }
    }
    for (reason, alerts) in by_reason {
        let mut text = fill(&format!("NOT EXPECTED: {reason}"), "  ") + "\n";
        for alert in alerts {
            let _ = writeln!(text, "{}", fill(&format!("  {}", alert.name), "    "));
        }
        parts.push(text);
    }
    parts.join("\n")
}

/// Formats one line per alert, and one with its prerequisites.
fn expected_list(alerts: &[&AlertExpectation]) -> String {
    let severity = |alert: &AlertExpectation| alert.severity.clone().unwrap_or_else(|| "-".to_owned());
    let width = alerts
        .iter()
        .map(|alert| severity(alert).len())
        .max()
        .unwrap_or_default()
        .max(8);
    let indent = " ".repeat(width + 3);
    let mut text = "EXPECTED ALERTS\n".to_owned();
    for alert in alerts {
        let line = format!("  {:width$} {}", severity(alert), alert.name);
        let _ = writeln!(text, "{}", fill(&line, &indent));
        let optional = alert
            .optional
            .then(|| "optional: it need not be raised".to_owned());
        let needs = alert.needs.as_ref().map(|needs| format!("needs {needs}"));
        if let Some(note) = needs.or(optional) {
            let _ = writeln!(text, "{}", fill(&format!("{indent}{note}"), &indent));
        }
    }
    text
}

fn expected_table(alerts: &[&AlertExpectation]) -> String {
    let rows = alerts.iter().map(|alert| {
        let optional = alert.optional.then(|| "none (optional)".to_owned());
        vec![
            alert.id.clone(),
            alert.name.clone(),
            alert.severity.clone().unwrap_or_else(|| "-".into()),
            alert.needs.clone().or(optional).unwrap_or_default(),
        ]
    });
    table(&["ID", "EXPECTED ALERTS", "SEVERITY", "NEEDS"], rows, Width::Wide)
}

/// Formats a run, without its steps and its location if the progress display has just shown them.
pub(super) fn run(result: &RunResult, width: Width, is_shown: bool) -> String {
    let mut text = String::new();
    if is_shown {
        text.push('\n');
    } else if any_ran(result) {
        text += &steps(result, width);
        text.push('\n');
    }
    if coverage::is_of(result) {
        text += &coverage::groups(result, width);
        text.push('\n');
    }
    let (proved, all) = proved(result);
    if let Some(verification) = &result.verification {
        let _ = writeln!(text, "{}", verdicts(verification, width));
    } else if proved > 0 {
        let alerts = result
            .scenarios
            .iter()
            .flat_map(|scenario| scenario.alerts.clone());
        let _ = writeln!(text, "{}", expected(&alerts.collect::<Vec<_>>(), width));
    }
    let _ = writeln!(text, "{}", fill(&summary(result, (proved, all), is_shown), ""));
    if let Some(cleanup) = &result.cleanup {
        let _ = writeln!(text, "{}", fill(&clean(cleanup), ""));
    }
    if let Some(until) = result.kept_until {
        let kept = format!("Kept for inspection until about {until:.0}.");
        let _ = writeln!(text, "{}", fill(&kept, ""));
    }
    text
}

/// Formats what ran, where and when, and how many steps were proved.
fn summary(result: &RunResult, (proved, all): (usize, usize), is_shown: bool) -> String {
    let seconds = (result.ended - result.started)
        .total(jiff::Unit::Second)
        .unwrap_or_default();
    let place = format!("in namespace {} of {}", result.namespace, result.cluster);
    let time = format!("{:.0} to {:.0}", result.started, result.ended);
    let steps = format!("{proved} of {} proved in {seconds:.1} s", counted(all, "step"));
    if is_shown {
        format!("Run {}: {steps}, {time}.", result.run)
    } else if result.is_identified() {
        format!("Run {} {place}: {steps}, {time}.", result.run)
    } else {
        format!("Alerts {place}, {time}.")
    }
}

fn steps(result: &RunResult, width: Width) -> String {
    if result.victims.len() < 2 {
        return steps_in_detail(result, width, |_| true);
    }
    let mut text = coverage::steps(result, width);
    if result.steps().any(|step| step.victim.is_none()) {
        text.push('\n');
        text += &steps_in_detail(result, width, |step| step.victim.is_none());
    }
    text
}

fn steps_in_detail(result: &RunResult, width: Width, is_shown: fn(&StepResult) -> bool) -> String {
    let reasons = Reasons::of(result);
    let rows = result.scenarios.iter().flat_map(|scenario| {
        scenario.steps.iter().filter(|step| is_shown(step)).map(|step| {
            let evidence = reasons.of_step(step).into_iter().chain(step.evidence.clone());
            let mut row = vec![
                format!("{}.{}", scenario.id, step.id),
                outcome(step.outcome),
                milliseconds(step.duration_ms),
                evidence.collect::<Vec<_>>().join("; "),
            ];
            if width == Width::Wide {
                let status = step
                    .exit_status
                    .map_or_else(|| "-".to_owned(), |status| status.to_string());
                row.splice(3..3, [status, step.techniques.join(" ")]);
            }
            row
        })
    });
    let mut header = vec!["STEP", "RESULT", "TIME", "EVIDENCE"];
    if width == Width::Wide {
        header.splice(3..3, ["STATUS", "TECHNIQUES"]);
    }
    let mut text = table(&header, rows, width);
    for note in reasons.notes() {
        let _ = writeln!(text, "{}", fill(&note, "    "));
    }
    text
}

/// Formats one line per run.
pub(super) fn history(runs: &[RunResult], width: Width) -> String {
    let rows = runs.iter().map(|run| {
        let (proved, steps) = proved(run);
        let cluster = run.cluster.context.as_ref().unwrap_or(&run.cluster.server);
        let alerts = run.verification.as_ref().map(|verification| {
            let (raised, expected) = verification.raised(false);
            format!("{raised} of {expected}")
        });
        let mut row = vec![
            run.run.clone(),
            run.started.strftime("%Y-%m-%dT%H:%MZ").to_string(),
            cluster.clone(),
            scenarios(run),
            format!("{proved} of {steps}"),
            alerts.unwrap_or_else(|| "-".to_owned()),
            run.exit_code.to_string(),
        ];
        if width == Width::Wide {
            row.push(run.namespace.clone());
            row.push(seconds(Some(
                (run.ended - run.started)
                    .total(jiff::Unit::Second)
                    .unwrap_or_default(),
            )));
            row.push(seconds(slowest(run)));
        }
        row
    });
    let mut header = vec![
        "RUN",
        "STARTED",
        "CLUSTER",
        "SCENARIOS",
        "PROVED",
        "ALERTS",
        "EXIT",
    ];
    if width == Width::Wide {
        header.extend(["NAMESPACE", "DURATION", "SLOWEST ALERT"]);
    }
    table(&header, rows, width)
}

/// Returns the IDs of a run's scenarios, or the command that runs all of them.
fn scenarios(run: &RunResult) -> String {
    let ids: Vec<&str> = run
        .scenarios
        .iter()
        .map(|scenario| scenario.id.as_str())
        .collect();
    if catalogue::attacks().eq(ids.iter().copied()) {
        "all".to_owned()
    } else {
        ids.join(" ")
    }
}

/// Returns the number of seconds of a run's slowest alert.
fn slowest(run: &RunResult) -> Option<f64> {
    let alerts = run
        .verification
        .iter()
        .flat_map(|verification| &verification.alerts);
    let raised = alerts.filter_map(|alert| alert.raised.as_ref());
    raised
        .filter_map(|raised| raised.seconds_to_detect)
        .reduce(f64::max)
}

/// Formats one line per setting that has a value; in the wide format, per setting.
pub(super) fn settings(settings: &[Setting], width: Width) -> String {
    let shown = settings
        .iter()
        .filter(|setting| width == Width::Wide || !setting.value.is_empty());
    let rows = shown.map(|setting| {
        let mut row = vec![
            setting.name.clone(),
            setting.value.clone(),
            setting.origin.to_owned(),
        ];
        if width == Width::Wide {
            row.push(setting.variable.clone());
        }
        row
    });
    let mut header = vec!["SETTING", "VALUE", "FROM"];
    if width == Width::Wide {
        header.push("VARIABLE");
    }
    table(&header, rows, width)
}

/// Formats the verdict on each expected alert, and the other alerts that were raised.
fn verdicts(verification: &Verification, width: Width) -> String {
    let rows = verification.alerts.iter().map(|alert| {
        let raised = alert.raised.as_ref();
        let status = raised
            .and_then(|raised| raised.status.as_deref())
            .filter(|status| status.eq_ignore_ascii_case("dismissed"));
        let notes: Vec<&str> = status.into_iter().chain(note(alert)).collect();
        let mut row = vec![
            alert.name.clone(),
            verdict(alert),
            seconds(raised.and_then(|raised| raised.seconds_to_detect)),
            notes.join("; "),
        ];
        if width == Width::Wide {
            let severity = raised.and_then(|raised| raised.severity.clone());
            row.push(severity.unwrap_or_default());
            row.push(raised.and_then(|raised| raised.link.clone()).unwrap_or_default());
        }
        row
    });
    let mut header = vec!["ALERT", "VERDICT", "AFTER", "REASON"];
    if width == Width::Wide {
        header.extend(["SEVERITY", "LINK"]);
    }
    let nothing = verification.alerts.is_empty();
    let mut parts = vec![];
    if !nothing {
        parts.push(table(&header, rows, width));
    }
    let further = verification.additional.iter().map(|alert| {
        vec![
            alert.name.clone(),
            alert.severity.clone().unwrap_or_else(|| "-".into()),
        ]
    });
    if !verification.additional.is_empty() {
        parts.push(table(&["OTHER ALERTS OF THIS RUN", "SEVERITY"], further, width));
    }
    let unknown = verification.unattributed.iter();
    let unknown = unknown.map(|alert| vec![alert.name.clone(), alert.reason.clone()]);
    if !verification.unattributed.is_empty() {
        parts.push(table(
            &["ALERTS THAT MAY BE OF THIS RUN", "UNKNOWN BECAUSE"],
            unknown,
            width,
        ));
    }
    let count = match (nothing, verification.additional.len()) {
        (false, _) => format!("{} raised{}", raised(verification), verification.everywhere()),
        (true, 0) => "No alert was expected, and none was raised".to_owned(),
        (true, more) => format!("No alert was expected, and {more} raised"),
    };
    let looked = format!("as of {:.0} in {}.", verification.read, verification.source);
    parts.push(format!("{}\n", fill(&format!("{count}, {looked}"), "")));
    parts.join("\n")
}

/// Returns the reason of a verdict, or that the alert is optional.
pub(super) fn note(alert: &AlertVerdict) -> Option<&str> {
    let optional = alert.optional.then_some("optional");
    alert.reason.as_deref().or(optional)
}

/// Formats how many alerts were raised: `2 of 3 expected alerts and 1 of 4 optional ones`.
pub(super) fn raised(verification: &Verification) -> String {
    let (raised, expected) = verification.raised(false);
    let required = format!("{raised} of {}", counted(expected, "expected alert"));
    match (expected, verification.raised(true)) {
        (_, (_, 0)) => required,
        (0, (raised, optional)) => format!("{raised} of {}", counted(optional, "optional alert")),
        (_, (raised, optional)) => format!("{required} and {raised} of {optional} optional"),
    }
}

fn verdict(alert: &AlertVerdict) -> String {
    let style = match alert.verdict {
        Verdict::Raised if !alert.late => GREEN,
        Verdict::Raised | Verdict::NotRaised => RED,
        _ => YELLOW,
    };
    let late = if alert.late { " late" } else { "" };
    paint(&format!("{}{late}", alert.verdict.as_str()), style)
}

/// Formats a duration. Alerts usually take minutes.
pub(super) fn seconds(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(seconds) if seconds < 90.0 => format!("{seconds:.0} s"),
        Some(seconds) => format!("{:.0} min", seconds / 60.0),
    }
}

/// Formats the outcome of a cleanup as a sentence.
pub(super) fn clean(cleanup: &Cleanup) -> String {
    match (cleanup.removed.len(), cleanup.is_clean()) {
        (0, true) => "Nothing to remove.".to_owned(),
        (n, true) => format!("{} removed, nothing left.", counted(n, "object")),
        (_, false) if !cleanup.verified => "Could not verify that nothing was left behind.".to_owned(),
        (n, false) => format!("{n} removed, LEFT BEHIND: {}.", cleanup.left.join(", ")),
    }
}

pub(super) fn cleanup(result: &CleanupResult) -> String {
    let mut text = String::new();
    for object in &result.would_remove {
        let _ = writeln!(text, "would remove  {object}");
    }
    for object in &result.cleanup.removed {
        let _ = writeln!(text, "removed  {object}");
    }
    for object in &result.cleanup.left {
        let _ = writeln!(text, "left     {object}");
    }
    for run in &result.skipped {
        let owner = run
            .user
            .as_ref()
            .map_or_else(String::new, |user| format!(" of {user}"));
        let _ = writeln!(
            text,
            "skipped  run {}{owner} in namespace {}: {}",
            run.run, run.namespace, run.reason
        );
    }
    let sentence = match (result.would_remove.len(), result.skipped.len()) {
        (0, 0) => clean(&result.cleanup),
        (0, skipped) if result.cleanup.is_clean() => {
            let removed = counted(result.cleanup.removed.len(), "object");
            format!("{removed} removed; {} left alone.", counted(skipped, "run"))
        }
        (0, _) => clean(&result.cleanup),
        (objects, _) => format!(
            "{} would be removed; nothing was changed.",
            counted(objects, "object")
        ),
    };
    let _ = writeln!(text, "{}", fill(&sentence, ""));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn no_word_is_torn_while_another_column_has_room() {
        let row = [
            "k7abcdef",
            "2026-05-04T10:00Z",
            "recon lateral-movement secrets crypto",
            "14 of 15",
            "11 of 12 that are expected, and one more",
            "79 min",
        ];
        let header = ["RUN", "STARTED", "SCENARIOS", "PROVED", "ALERTS", "SLOWEST"];
        let row = row.map(str::to_owned).to_vec();
        let text = table(&header, [row.clone()], Width::Screen);
        for line in text.lines() {
            assert!(display_width(line) <= width(), "{text}");
        }
        for word in row.iter().flat_map(|cell| cell.split(' ')) {
            assert!(text.contains(word), "{word} in {text}");
        }
    }

    #[test]
    fn a_late_alert_is_told_in_words_too() {
        let verification = fixture::verified().verification.unwrap();
        let text = verdicts(&verification, Width::Wide);
        assert!(text.contains(&paint("raised late", RED)), "{text}");
        assert!(text.contains("2 of 6 expected alerts raised"), "{text}");
    }

    #[test]
    fn a_word_that_fits_nowhere_is_torn() {
        let text = table(
            &["A", "B"],
            [vec!["x".repeat(200), "y".to_owned()]],
            Width::Screen,
        );
        assert!(text.lines().all(|line| display_width(line) <= width()), "{text}");
        assert_eq!(text.matches('x').count(), 200);
    }
}
