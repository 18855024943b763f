//! Results as tables for people, within the width of the terminal, or 80 columns.

use std::collections::BTreeSet;
use std::fmt::Write;

use tabled::builder::Builder;
use tabled::settings::{Padding, Style};
use textwrap::core::display_width;

use super::{milliseconds, outcome};
use crate::defender::alerts;
use crate::result::{Cleanup, CleanupResult, RunResult};
use crate::scenario::Outcome;

const DEFAULT_WIDTH: usize = 80;
/// Columns between columns.
const GAP: usize = 2;

pub(super) fn width() -> usize {
    terminal_size::terminal_size().map_or(DEFAULT_WIDTH, |(width, _)| usize::from(width.0).max(40))
}

/// A table without lines. Where it is too wide, its widest columns are wrapped.
pub(super) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let header = header.iter().map(|&title| title.to_owned()).collect();
    let mut rows: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
    let mut widths: Vec<usize> = (0..rows[0].len())
        .map(|column| {
            rows.iter()
                .map(|row| display_width(&row[column]))
                .max()
                .unwrap_or(0)
        })
        .collect();
    let room = width().saturating_sub(GAP * (widths.len() - 1));
    while widths.iter().sum::<usize>() > room {
        let widest = widths.iter_mut().max().expect("a table has columns");
        *widest -= 1;
    }
    for row in &mut rows {
        for (cell, width) in row.iter_mut().zip(&widths) {
            if display_width(cell) > *width {
                *cell = textwrap::fill(cell, *width);
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

/// The alerts to expect, by id, each once.
pub(super) fn expected<'a>(ids: impl Iterator<Item = &'a str>) -> String {
    let mut seen = BTreeSet::new();
    let rows = ids
        .filter(|id| seen.insert(*id))
        .filter_map(alerts::find)
        .map(|alert| {
            vec![
                alert.name.clone(),
                alert.severity.clone().unwrap_or_else(|| "unknown".into()),
                alert.needs.clone().unwrap_or_default(),
            ]
        });
    table(&["ALERTS TO EXPECT", "SEVERITY", "NEEDS"], rows)
}

pub(super) fn run(result: &RunResult) -> String {
    let steps = result.scenarios.iter().flat_map(|scenario| {
        scenario.steps.iter().map(|step| {
            let said = step
                .reason
                .iter()
                .chain(&step.evidence)
                .cloned()
                .collect::<Vec<_>>()
                .join("; ");
            vec![
                format!("{}.{}", scenario.id, step.id),
                outcome(step.outcome),
                milliseconds(step.duration_ms),
                said,
            ]
        })
    });
    let mut text = table(&["STEP", "RESULT", "TIME", "EVIDENCE"], steps);
    let all = result.scenarios.iter().flat_map(|scenario| &scenario.steps);
    let proved = all.clone().filter(|step| step.outcome == Outcome::Proved).count();
    if proved > 0 {
        let alerts = result.scenarios.iter().flat_map(|scenario| &scenario.alerts);
        let _ = write!(text, "\n{}", expected(alerts.map(|alert| alert.id.as_str())));
    }
    let _ = writeln!(
        text,
        "\nRun {} in namespace {}: {proved} of {} steps proved.",
        result.run,
        result.namespace,
        all.count()
    );
    if let Some(cleanup) = &result.cleanup {
        let _ = writeln!(text, "{}", textwrap::fill(&clean(cleanup), width()));
    }
    text
}

fn clean(cleanup: &Cleanup) -> String {
    match (cleanup.removed.len(), cleanup.is_clean()) {
        (0, true) => "Nothing was there to remove.".to_owned(),
        (n, true) => format!(
            "{n} {} removed, nothing left.",
            if n == 1 { "object" } else { "objects" }
        ),
        (_, false) if !cleanup.verified => "Whether anything is left could not be seen.".to_owned(),
        (n, false) => format!("{n} removed, LEFT BEHIND: {}.", cleanup.left.join(", ")),
    }
}

pub(super) fn cleanup(result: &CleanupResult) -> String {
    let mut text = String::new();
    for object in &result.cleanup.removed {
        let _ = writeln!(text, "removed  {object}");
    }
    for object in &result.cleanup.left {
        let _ = writeln!(text, "left     {object}");
    }
    let _ = writeln!(text, "{}", clean(&result.cleanup));
    text
}
