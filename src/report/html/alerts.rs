//! The verdicts on alerts or, without verification, the expected alerts.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::super::meaning::portal;
use super::super::reasons::proved;
use super::super::table::note;
use super::steps::{self, title};
use super::{Mark, Tile, mark, seconds, utc};
use crate::result::{AlertVerdict, RaisedAlert, RunResult, Verdict};

/// What is known of the alerts of a run.
#[derive(Default)]
pub(super) struct Alerts<'a> {
    /// When the alerts were read.
    pub read: String,
    pub verdicts: Vec<Row<'a>>,
    /// Without verification: the alerts that may be raised, and those that cannot. Each list has a caption, and the
    /// meaning of its notes.
    pub unverified: Vec<(&'static str, &'static str, Vec<Expected<'a>>)>,
    pub additional: Vec<Row<'a>>,
    /// With several victims: their titles and notes, and the verdicts for each of them by alert.
    pub places: Vec<(&'a str, Option<String>)>,
    pub by_place: Vec<(&'a str, Vec<Option<Cell<'a>>>)>,
}

/// The verdict on an alert for a victim.
pub(super) struct Cell<'a> {
    pub mark: Mark,
    pub after: String,
    pub note: &'a str,
}

/// An alert with its verdict.
pub(super) struct Row<'a> {
    pub id: &'a str,
    pub name: &'a str,
    pub link: Option<String>,
    pub mark: Mark,
    pub severity: &'a str,
    pub after: String,
    pub raised: String,
    pub steps: String,
    pub note: &'a str,
}

/// An alert before verification.
pub(super) struct Expected<'a> {
    pub name: &'a str,
    pub severity: &'a str,
    pub steps: String,
    pub note: &'a str,
}

impl<'a> Alerts<'a> {
    /// Returns the verdicts, or what can be expected. Without a proved step, no alert is expected.
    pub fn of(result: &'a RunResult) -> Self {
        let Some(verification) = &result.verification else {
            return Self::unverified(result);
        };
        let verdicts = verification.alerts.iter();
        let additional = verification.additional.iter();
        Self {
            read: utc(verification.read),
            places: result
                .victims
                .iter()
                .map(|victim| (title(victim), steps::note(victim)))
                .collect(),
            by_place: by_place(result, &verification.alerts),
            verdicts: verdicts.map(|alert| row(result, alert)).collect(),
            additional: additional
                .map(|alert| raised(result, alert, "", &alert.name))
                .collect(),
            ..Self::default()
        }
    }

    fn unverified(result: &'a RunResult) -> Self {
        if proved(result).0 == 0 {
            return Self::default();
        }
        let mut seen = BTreeSet::new();
        let (mut expected, mut excluded) = (vec![], vec![]);
        for alert in result.scenarios.iter().flat_map(|scenario| &scenario.alerts) {
            if !seen.insert(&alert.id) {
                continue;
            }
            let optional = alert.optional.then_some("optional");
            let (list, note) = match &alert.not_expected {
                Some(reason) => (&mut excluded, Some(reason.as_str())),
                None => (&mut expected, alert.needs.as_deref().or(optional)),
            };
            list.push(Expected {
                name: &alert.name,
                severity: alert.severity.as_deref().unwrap_or("unknown"),
                steps: steps_of(result, &alert.id),
                note: note.unwrap_or_default(),
            });
        }
        let lists = [
            ("Expected alerts", "Needs", expected),
            ("Alerts that are not expected", "Reason", excluded),
        ];
        let filled = lists.into_iter().filter(|(_, _, alerts)| !alerts.is_empty());
        Self {
            unverified: filled.collect(),
            ..Self::default()
        }
    }
}

/// Returns the verdicts for each victim on the alerts that have any.
fn by_place<'a>(result: &'a RunResult, alerts: &'a [AlertVerdict]) -> Vec<(&'a str, Vec<Option<Cell<'a>>>)> {
    let alerts = alerts.iter().filter(|alert| !alert.victims.is_empty());
    let rows = alerts.map(|alert| {
        let cells = result.victims.iter().map(|victim| {
            let verdict = alert.victims.iter().find(|verdict| verdict.pod == victim.pod)?;
            let raised = verdict.raised.as_ref();
            Some(Cell {
                mark: mark_of(verdict.verdict),
                after: raised.map_or_else(String::new, |raised| seconds(raised.seconds_to_detect)),
                note: verdict.reason.as_deref().unwrap_or_default(),
            })
        });
        (alert.name.as_str(), cells.collect())
    });
    rows.collect()
}

/// Returns the mark of a verdict.
pub(super) fn verdict(alert: &AlertVerdict) -> Mark {
    match alert.verdict {
        Verdict::Raised if alert.late => mark("bad", "!", "raised too late"),
        verdict => mark_of(verdict),
    }
}

fn mark_of(verdict: Verdict) -> Mark {
    let word = verdict.as_str();
    match verdict {
        Verdict::Raised => mark("good", "✓", word),
        Verdict::NotRaised => mark("bad", "✗", word),
        Verdict::Waiting => mark("warn", "…", word),
        Verdict::NotExpected => mark("idle", "–", word),
        Verdict::Unknown => mark("warn", "?", word),
    }
}

fn row<'a>(result: &'a RunResult, alert: &'a AlertVerdict) -> Row<'a> {
    let row = alert
        .raised
        .as_ref()
        .map(|found| raised(result, found, &alert.id, &alert.name));
    let mut expected = result.scenarios.iter().flat_map(|scenario| &scenario.alerts);
    let severity = expected
        .find(|expected| expected.id == alert.id)
        .and_then(|expected| expected.severity.as_deref());
    let row = row.unwrap_or_else(|| Row {
        id: &alert.id,
        name: &alert.name,
        link: None,
        mark: verdict(alert),
        severity: severity.unwrap_or("-"),
        after: "-".to_owned(),
        raised: String::new(),
        steps: String::new(),
        note: "",
    });
    let status = alert.raised.as_ref().and_then(|raised| raised.status.as_deref());
    let is_dismissed = status.is_some_and(|status| status.eq_ignore_ascii_case("dismissed"));
    let dismissed = if is_dismissed { ", dismissed" } else { "" };
    Row {
        mark: verdict(alert),
        raised: format!("{}{dismissed}", row.raised),
        steps: steps_of(result, &alert.id),
        note: note(alert).unwrap_or_default(),
        ..row
    }
}

fn raised<'a>(result: &RunResult, alert: &'a RaisedAlert, id: &'a str, name: &'a str) -> Row<'a> {
    Row {
        id,
        name,
        link: portal(alert).map(String::from),
        mark: mark("warn", "!", "raised"),
        severity: alert.severity.as_deref().unwrap_or("unknown"),
        after: seconds(alert.seconds_to_detect),
        raised: alert
            .generated
            .map(|time| time_of(result, time))
            .unwrap_or_default(),
        steps: String::new(),
        note: alert.status.as_deref().unwrap_or_default(),
    }
}

/// Formats a time, without its date if that is the date of the run.
fn time_of(result: &RunResult, time: Timestamp) -> String {
    let day = |time: Timestamp| time.strftime("%F").to_string();
    if day(time) == day(result.started) {
        time.strftime("%H:%M:%S UTC").to_string()
    } else {
        utc(time)
    }
}

/// Returns the steps that raise an alert: their IDs, or the scenario for all of its steps.
fn steps_of(result: &RunResult, id: &str) -> String {
    let mut found = vec![];
    for scenario in &result.scenarios {
        for alert in scenario.alerts.iter().filter(|alert| alert.id == id) {
            if alert.steps.is_empty() {
                found.push(format!("all of {}", scenario.id));
            }
            let steps = alert.steps.iter();
            found.extend(steps.map(|step| format!("{}.{step}", scenario.id)));
        }
    }
    if found.len() > 4 {
        let more = found.split_off(3).len();
        found.push(format!("{more} more"));
    }
    found.join(", ")
}

/// Returns the numbers of raised alerts and of the time to detect them.
pub(super) fn tiles(result: &RunResult) -> Vec<Tile> {
    let Some(verification) = &result.verification else {
        return vec![Tile {
            class: "idle",
            label: "Alerts raised",
            value: "not verified".to_owned(),
            note: String::new(),
        }];
    };
    let (raised, all) = verification.raised(false);
    let class = if verification.failure.is_some() {
        "bad"
    } else if verification.count(Verdict::Waiting) > 0 {
        "warn"
    } else {
        "good"
    };
    let note = match verification.raised(true) {
        (_, 0) => String::new(),
        (raised, all) => format!("{raised} of {all} optional"),
    };
    let alerts = Tile {
        class,
        label: "Alerts raised",
        value: format!("{raised} of {all}"),
        note,
    };
    let found = verification.alerts.iter();
    let found = found.filter_map(|alert| alert.raised.as_ref()?.seconds_to_detect);
    let mut times: Vec<f64> = found.collect();
    times.sort_by(f64::total_cmp);
    let median = times.get(times.len().saturating_sub(1) / 2).copied();
    let time = median.map(|median| Tile {
        class: "idle",
        label: "Median time to detect",
        value: seconds(Some(median)),
        note: format!("slowest {}", seconds(times.last().copied())),
    });
    [alerts].into_iter().chain(time).collect()
}
