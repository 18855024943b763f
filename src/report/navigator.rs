//! Results as ATT&CK Navigator layers: an entry for each technique of the steps that ran.
//!
//! Fields as of version 4.5 of the layer format, see <https://github.com/mitre-attack/attack-navigator>
//! (`layers/spec/v4.5/layerformat.md`). The format has no machine-readable schema.

use std::collections::BTreeMap;

use serde::Serialize;

use super::json;
use super::meaning::portal;
use super::reasons::reason_of_halt;
use super::table::seconds;
use crate::result::{AlertVerdict, RunResult, ScenarioResult, StepResult, Verdict, Verification};
use crate::scenario::Outcome;

/// The coverage of a step or of a technique, worst first. The worst step that uses a technique determines its coverage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Coverage {
    NotDetected,
    Late,
    Unproved,
    Unknown,
    Detected,
    /// No expected alert belongs to this step alone.
    NoAlert,
    /// Without verification: the step ran but was not proved.
    Run,
    /// Without verification: the step was proved.
    Proved,
}

impl Coverage {
    /// Returns the values that a layer can have, for its legend.
    fn all(verification: Option<&Verification>) -> &'static [Coverage] {
        match verification {
            None => &[Coverage::Proved, Coverage::Run],
            Some(_) => &[
                Coverage::Detected,
                Coverage::Late,
                Coverage::NotDetected,
                Coverage::Unproved,
                Coverage::Unknown,
                Coverage::NoAlert,
            ],
        }
    }

    /// Returns the coverage of a step by its alerts, or `None` if it did not run.
    fn of(step: &StepResult, alerts: &[&AlertVerdict], verified: bool) -> Option<Self> {
        let has_run = step.has_run() && step.outcome != Outcome::Skipped;
        let is_proved = step.outcome == Outcome::Proved;
        match Self::of_alerts(alerts) {
            // Defender detected the step, regardless of what the victim reported.
            raised @ Some(Coverage::Detected | Coverage::Late) => raised,
            _ if !has_run => None,
            _ if !verified => Some(if is_proved {
                Coverage::Proved
            } else {
                Coverage::Run
            }),
            _ if !is_proved => Some(Coverage::Unproved),
            other => other.or(Some(Coverage::NoAlert)),
        }
    }

    /// Returns the coverage by alerts. One in time is enough; a missing one outweighs unknown ones.
    fn of_alerts(alerts: &[&AlertVerdict]) -> Option<Self> {
        let of_alert = |alert: &&AlertVerdict| match alert.verdict {
            Verdict::Raised if alert.late => Coverage::Late,
            Verdict::Raised => Coverage::Detected,
            Verdict::NotRaised => Coverage::NotDetected,
            Verdict::Waiting | Verdict::NotExpected | Verdict::Unknown => Coverage::Unknown,
        };
        let order = [
            Coverage::Detected,
            Coverage::Late,
            Coverage::NotDetected,
            Coverage::Unknown,
        ];
        let found: Vec<Coverage> = alerts.iter().map(of_alert).collect();
        order.into_iter().find(|coverage| found.contains(coverage))
    }

    /// Returns the score, if any, the colour, and the meaning of both.
    fn legend(self) -> (Option<u8>, &'static str, &'static str) {
        match self {
            Coverage::Detected => (Some(100), "#5cb85c", "100: every step was detected"),
            Coverage::Late => (Some(50), "#f7e463", "50: a step was detected too late"),
            Coverage::NotDetected => (Some(0), "#d9534f", "0: a step was not detected"),
            Coverage::Unproved => (None, "#cccccc", "no score: a step ran and was not proved"),
            Coverage::Unknown => (None, "#f0ad4e", "no score: unknown whether a step was detected"),
            Coverage::NoAlert => (None, "#9ecae1", "no score: no alert is about its steps alone"),
            Coverage::Run => (Some(50), "#f0ad4e", "50: a step ran and was not proved"),
            Coverage::Proved => (Some(100), "#5cb85c", "100: every step was proved"),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    name: String,
    versions: Versions,
    domain: &'static str,
    description: String,
    filters: Filters,
    layout: Layout,
    techniques: Vec<Technique>,
    legend_items: Vec<LegendItem>,
    metadata: Vec<Metadata>,
}

#[derive(Serialize)]
struct Versions {
    attack: &'static str,
    navigator: &'static str,
    layer: &'static str,
}

#[derive(Serialize)]
struct Filters {
    platforms: [&'static str; 3],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Layout {
    #[serde(rename = "layout")]
    arrangement: &'static str,
    #[serde(rename = "showID")]
    show_id: bool,
    expanded_subtechniques: &'static str,
}

#[derive(Serialize)]
struct Technique {
    #[serde(rename = "techniqueID")]
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<u8>,
    color: &'static str,
    comment: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    metadata: Vec<Metadata>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    links: Vec<Link>,
}

#[derive(Serialize)]
struct LegendItem {
    label: &'static str,
    color: &'static str,
}

/// A metadata entry. The Navigator rejects one without a value.
#[derive(Serialize)]
struct Metadata {
    name: &'static str,
    value: String,
}

#[derive(Serialize)]
struct Link {
    label: String,
    url: String,
}

/// Renders a result as a layer.
pub(super) fn render(result: &RunResult) -> String {
    let metadata = [
        ("run", result.run.clone()),
        ("started", result.started.to_string()),
        ("kubectl defender-sim", result.version.clone().into_owned()),
    ];
    let legend = Coverage::all(result.verification.as_ref()).iter();
    let legend = legend.map(|coverage| coverage.legend());
    let techniques = techniques(result);
    let layer = Layer {
        name: format!("Attack simulation {}", result.run),
        // Results use the IDs of ATT&CK v19, which this Navigator version includes.
        versions: Versions {
            attack: "19",
            navigator: "5.3.2",
            layer: "4.5",
        },
        domain: "enterprise-attack",
        description: description(result, &techniques),
        filters: Filters {
            platforms: ["Linux", "Containers", "IaaS"],
        },
        layout: Layout {
            arrangement: "side",
            show_id: true,
            // Sub-techniques are hidden otherwise.
            expanded_subtechniques: "annotated",
        },
        techniques,
        legend_items: legend
            .map(|(_, color, label)| LegendItem { label, color })
            .collect(),
        metadata: metadata.map(|(name, value)| Metadata { name, value }).into(),
    };
    json(&layer)
}

/// Describes what the layer shows, or why it is empty.
fn description(result: &RunResult, techniques: &[Technique]) -> String {
    let contents = match result.verification {
        None => "Techniques that a run of kubectl defender-sim used, and whether their steps were proved.",
        Some(_) => {
            "Techniques that a run of kubectl defender-sim used, and whether Defender raised an alert in time."
        }
    };
    if !techniques.is_empty() {
        return contents.to_owned();
    }
    let problem = result.problem.as_ref().map(|problem| problem.message.as_str());
    let halt = problem.or_else(|| result.steps().find_map(reason_of_halt));
    let empty = match (result.steps().next(), halt) {
        (None, _) => "No step is recorded".to_owned(),
        (Some(_), None) => "No step that uses a technique ran".to_owned(),
        (Some(_), Some(reason)) => format!("No step that uses a technique ran: {reason}"),
    };
    format!("{contents} {empty}.")
}

/// Returns the alerts of a step. An alert of an entire scenario counts only if the step is its only one.
fn alerts<'a>(
    scenario: &ScenarioResult,
    step: &StepResult,
    verification: Option<&'a Verification>,
) -> Vec<&'a AlertVerdict> {
    let is_about_step = |alert: &&AlertVerdict| {
        let expected = scenario.alerts.iter().find(|expected| expected.id == alert.id);
        expected.is_some_and(|expected| match &expected.steps[..] {
            [] => scenario.steps.len() == 1,
            steps => steps.contains(&step.id),
        })
    };
    let alerts = verification.iter().flat_map(|verification| &verification.alerts);
    alerts.filter(is_about_step).collect()
}

/// What the steps that use a technique add to its entry.
#[derive(Default)]
struct Entry<'a> {
    coverage: Option<Coverage>,
    lines: Vec<String>,
    alerts: Vec<&'a AlertVerdict>,
}

fn techniques(result: &RunResult) -> Vec<Technique> {
    let verification = result.verification.as_ref();
    let mut entries: BTreeMap<&str, Entry> = BTreeMap::new();
    for scenario in &result.scenarios {
        for step in &scenario.steps {
            let alerts = alerts(scenario, step, verification);
            let coverage = Coverage::of(step, &alerts, verification.is_some());
            let outcome = step.outcome.as_str();
            let line = format!(
                "{}.{} {outcome}{}",
                scenario.id,
                step.id,
                because(step.reason.as_ref())
            );
            for id in &step.techniques {
                let entry = entries.entry(id).or_default();
                entry.coverage = entry.coverage.into_iter().chain(coverage).min();
                entry.lines.push(line.clone());
                for alert in &alerts {
                    if !entry.alerts.iter().any(|known| known.id == alert.id) {
                        entry.alerts.push(alert);
                    }
                }
            }
        }
    }
    let entries = entries.into_iter();
    entries
        .filter_map(|(id, entry)| {
            let (score, color, _) = entry.coverage?.legend();
            let alerts = entry.alerts.iter();
            let lines = alerts.map(|alert| {
                let verdict = alert.verdict.as_str();
                format!("{}: {verdict}{}", alert.name, because(alert.reason.as_ref()))
            });
            Some(Technique {
                id: id.to_owned(),
                score,
                color,
                comment: entry
                    .lines
                    .iter()
                    .cloned()
                    .chain(lines)
                    .collect::<Vec<_>>()
                    .join("\n"),
                metadata: metadata(&result.run, &entry.alerts),
                links: entry.alerts.iter().filter_map(|alert| link(alert)).collect(),
            })
        })
        .collect()
}

/// Formats a reason as a suffix of what it explains.
fn because(reason: Option<&String>) -> String {
    reason.map_or_else(String::new, |reason| format!(": {reason}"))
}

/// Returns the run and the verdict on each alert; empty without alerts.
fn metadata(run: &str, alerts: &[&AlertVerdict]) -> Vec<Metadata> {
    let entry = |name, value: String| Metadata { name, value };
    let mut metadata = vec![];
    for alert in alerts {
        metadata.push(entry("alert", alert.name.clone()));
        metadata.push(entry("verdict", alert.verdict.as_str().to_owned()));
        let time = alert.raised.as_ref().and_then(|raised| raised.seconds_to_detect);
        metadata.extend(time.map(|time| entry("time to detect", seconds(Some(time)))));
    }
    if !metadata.is_empty() {
        metadata.push(entry("run", run.to_owned()));
    }
    metadata
}

fn link(alert: &AlertVerdict) -> Option<Link> {
    Some(Link {
        label: alert.name.clone(),
        url: portal(alert.raised.as_ref()?)?.into(),
    })
}

#[cfg(test)]
mod tests;
