//! The alert catalogue, with the steps of the scenarios that raise each alert.

use std::fmt::Write as _;

use serde::Serialize;

use super::Width;
use super::table::{fill, table};
use crate::defender::alerts::{Alert, Certainty, Cloud, Plane};
use crate::scenario::Scenario;
use crate::words::counted;

/// An alert as it is listed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListedAlert<'a> {
    #[serde(flatten)]
    alert: &'a Alert,
    /// What raises it.
    raised_by: Vec<Trigger<'a>>,
}

/// What a scenario states about an alert.
#[derive(Serialize)]
struct Trigger<'a> {
    scenario: &'a str,
    /// The step that raises it, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<&'a str>,
    optional: bool,
}

/// Lists the alerts with what raises them.
pub(super) fn listed<'a>(alerts: &'a [Alert], scenarios: &'a [Scenario]) -> Vec<ListedAlert<'a>> {
    let raised_by = |alert: &Alert| {
        let triggers = scenarios.iter().flat_map(|scenario| {
            let expected = scenario.alerts.iter().filter(|expected| expected.id == alert.id);
            expected.flat_map(|expected| {
                let whole = expected.steps.is_empty().then_some(None);
                let steps = expected.steps.iter().map(|step| Some(step.as_str()));
                steps.chain(whole).map(|step| Trigger {
                    scenario: &scenario.id,
                    step,
                    optional: expected.optional,
                })
            })
        });
        triggers.collect()
    };
    let list = |alert| ListedAlert {
        alert,
        raised_by: raised_by(alert),
    };
    alerts.iter().map(list).collect()
}

/// Formats one table per plane.
pub(super) fn alerts(listed: &[ListedAlert], scenarios: usize, width: Width) -> String {
    let mut text = String::new();
    for (plane, title) in [
        (Plane::ControlPlane, "CONTROL PLANE"),
        (Plane::Runtime, "RUNTIME"),
    ] {
        let alerts = listed.iter().filter(|listed| listed.alert.plane == plane);
        let rows = alerts.map(|listed| row(listed, scenarios, width));
        let mut header = vec![title, "SEVERITY", "CERTAINTY", "RAISED BY"];
        if width == Width::Wide {
            header.extend(["ALERT", "TYPE", "TACTICS", "CLOUDS", "SOURCE", "NEEDS"]);
        }
        let _ = writeln!(text, "{}", table(&header, rows, width));
    }
    let raised = listed.iter().filter(|listed| !listed.raised_by.is_empty());
    let excluded = listed.iter().filter(|listed| listed.alert.excluded.is_some());
    let count = format!(
        "{}: scenarios raise {}; {} cannot be raised safely.",
        counted(listed.len(), "alert"),
        raised.count(),
        excluded.count()
    );
    let _ = writeln!(text, "{}", fill(&count, ""));
    text
}

fn row(listed: &ListedAlert, scenarios: usize, width: Width) -> Vec<String> {
    let alert = listed.alert;
    let or_unknown = |text: Option<String>| {
        text.filter(|text| !text.is_empty())
            .unwrap_or_else(|| "-".to_owned())
    };
    let mut row = vec![
        alert.id.clone(),
        or_unknown(alert.severity.clone()),
        certainty(alert.certainty).to_owned(),
        match width {
            Width::Screen => raised_by(listed, scenarios),
            Width::Wide => raised_by_steps(listed),
        },
    ];
    if width == Width::Wide {
        row.extend([
            alert.name.clone(),
            or_unknown(alert.alert_type.clone()),
            or_unknown(Some(alert.tactics.join(" "))),
            or_unknown(Some(clouds(alert))),
            alert.source.clone(),
            alert.needs.clone().unwrap_or_default(),
        ]);
    }
    row
}

fn certainty(certainty: Certainty) -> &'static str {
    match certainty {
        Certainty::Sampled => "sampled",
        Certainty::Documented => "documented",
        Certainty::Unverified => "unverified",
    }
}

fn clouds(alert: &Alert) -> String {
    let names = alert.clouds.iter().map(Cloud::to_string);
    let windows = alert.windows.then(|| "(also Windows)".to_owned());
    names.chain(windows).collect::<Vec<_>>().join(" ")
}

/// Returns the scenarios that raise an alert, or why none does.
fn raised_by(listed: &ListedAlert, scenarios: usize) -> String {
    let mut ids: Vec<&str> = listed.raised_by.iter().map(|trigger| trigger.scenario).collect();
    ids.dedup();
    match ids.len() {
        0 => nothing(listed.alert),
        all if all == scenarios => "every scenario".to_owned(),
        1 | 2 => ids.join(" "),
        many => format!("{many} scenarios"),
    }
}

/// Returns the steps that raise an alert, or why none does.
fn raised_by_steps(listed: &ListedAlert) -> String {
    let steps = listed.raised_by.iter().map(|trigger| {
        let step = trigger.step.iter().map(|step| format!(".{step}"));
        let optional = trigger.optional.then(|| " (optional)".to_owned());
        let parts = step.chain(optional).collect::<String>();
        format!("{}{parts}", trigger.scenario)
    });
    match steps.collect::<Vec<_>>() {
        steps if steps.is_empty() => nothing(listed.alert),
        steps => steps.join(", "),
    }
}

fn nothing(alert: &Alert) -> String {
    match &alert.excluded {
        Some(reason) => format!("nothing: {reason}"),
        None => "nothing yet".to_owned(),
    }
}
