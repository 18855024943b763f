//! Runs with several victims: what was proved and raised on each group of nodes, and which groups had no victim.

use std::fmt::Write as _;

use textwrap::core::display_width;

use super::reasons::Reasons;
use super::table::{fill, table, width};
use super::{GREEN, RED, Width, YELLOW, outcome, paint};
use crate::defender::facts::Fact;
use crate::result::{RunResult, ScenarioResult, StepResult, Uncovered, Verdict, Victim};
use crate::scenario::Outcome;
use crate::words::counted;

/// Columns of the longest outcome.
const OUTCOME: usize = 7;
/// Columns between two columns.
const GAP: usize = 2;

/// Whether the run was to cover groups of nodes.
pub(super) fn is_of(result: &RunResult) -> bool {
    result.victims.len() > 1 || !result.uncovered.is_empty()
}

/// Formats the outcome of each step on each group, if that fits the width, and the reasons of those not proved.
pub(super) fn steps(result: &RunResult, may: Width) -> String {
    let labels: Vec<&str> = result.victims.iter().map(Victim::label).collect();
    let ids = in_victims(result).map(|(scenario, step)| display_width(&id(scenario, step)));
    let columns = labels.iter().map(|label| display_width(label).max(OUTCOME) + GAP);
    let fits = may == Width::Wide || ids.max().unwrap_or(4) + columns.sum::<usize>() <= width();
    let mut text = String::new();
    if fits {
        let rows = in_victims(result).map(|(scenario, first)| {
            let mut row = vec![id(scenario, first)];
            row.extend(result.victims.iter().map(|victim| {
                let mut steps = scenario.steps.iter();
                let step =
                    steps.find(|step| step.id == first.id && step.victim.as_ref() == Some(&victim.pod));
                step.map_or_else(String::new, |step| outcome(step.outcome))
            }));
            row
        });
        let mut header = vec!["STEP"];
        header.extend(labels);
        text += &table(&header, rows, may);
    }
    let reasons = Reasons::of(result);
    for scenario in &result.scenarios {
        for step in scenario
            .steps
            .iter()
            .filter(|step| step.outcome != Outcome::Proved)
        {
            if let (Some(victim), Some(reason)) = (victim(result, step), reasons.of_step(step)) {
                let line = format!("{} {}: {reason}", victim.label(), id(scenario, step));
                let _ = writeln!(text, "{}", fill(&line, "    "));
            }
        }
    }
    for note in reasons.notes() {
        let _ = writeln!(text, "{}", fill(&note, "    "));
    }
    text
}

/// Formats one line for each group, and one for each that had no victim.
pub(super) fn groups(result: &RunResult, may: Width) -> String {
    let has_facts = result.victims.iter().any(|victim| victim.sensor.is_some());
    let has_alerts = result.verification.is_some();
    let rows = result.victims.iter().map(|victim| {
        let found = row(result, victim);
        let mut cells = vec![
            victim.label().to_owned(),
            victim.node.clone().unwrap_or_else(|| "-".to_owned()),
            found.proved(),
        ];
        let style = match found.sensor {
            "ready" => GREEN,
            "not ready" => RED,
            _ => YELLOW,
        };
        cells.extend(has_facts.then(|| paint(found.sensor, style)));
        let style = if found.raised.0 == found.raised.1 {
            GREEN
        } else {
            RED
        };
        cells.extend(has_alerts.then(|| paint(&found.raised(), style)));
        cells
    });
    let mut header = vec!["GROUP", "NODE", "PROVED"];
    if has_facts {
        header.push("SENSOR");
    }
    if has_alerts {
        header.push("ALERTS");
    }
    table(&header, rows, may) + &uncovered(&result.uncovered)
}

/// Formats the groups without a victim.
pub(super) fn uncovered(groups: &[Uncovered]) -> String {
    let mut text = String::new();
    if !groups.is_empty() {
        text += "\nNOT COVERED\n";
    }
    for group in groups {
        let line = format!(
            "  {} ({}): {}",
            group.group,
            counted(group.nodes, "node"),
            group.reason
        );
        let _ = writeln!(text, "{}", fill(&line, "    "));
    }
    text
}

/// What was observed of a victim.
pub(super) struct Row {
    /// The number of proved steps, and of all.
    proved: (usize, usize),
    /// Whether a sensor was ready on its node.
    pub sensor: &'static str,
    /// The number of required alerts that were raised, and of all.
    raised: (usize, usize),
}

impl Row {
    pub fn proved(&self) -> String {
        format!("{} of {}", self.proved.0, self.proved.1)
    }

    /// Formats how many of the required alerts were raised; a dash if none was judged.
    pub fn raised(&self) -> String {
        match self.raised {
            (_, 0) => "-".to_owned(),
            (raised, all) => format!("{raised} of {all}"),
        }
    }
}

/// Returns what was observed of a victim.
pub(super) fn row(result: &RunResult, victim: &Victim) -> Row {
    let steps = || {
        result
            .steps()
            .filter(|step| step.victim.as_ref() == Some(&victim.pod))
    };
    let alerts = result
        .verification
        .iter()
        .flat_map(|verification| &verification.alerts);
    let required = alerts.filter(|alert| !alert.optional);
    let verdicts = required.flat_map(|alert| &alert.victims);
    let verdicts: Vec<Verdict> = verdicts
        .filter(|verdict| verdict.pod == victim.pod)
        .map(|verdict| verdict.verdict)
        .collect();
    let raised = verdicts.iter().filter(|verdict| **verdict == Verdict::Raised);
    Row {
        proved: (
            steps().filter(|step| step.outcome == Outcome::Proved).count(),
            steps().count(),
        ),
        sensor: match &victim.sensor {
            Some(Fact::Yes) => "ready",
            Some(Fact::No(_)) => "not ready",
            Some(Fact::Unknown(_)) | None => "unknown",
        },
        raised: (raised.count(), verdicts.len()),
    }
}

/// Returns each step that runs in victims once.
fn in_victims(result: &RunResult) -> impl Iterator<Item = (&ScenarioResult, &StepResult)> {
    let first = result.victims.first().map(|victim| &victim.pod);
    result.scenarios.iter().flat_map(move |scenario| {
        let steps = scenario.steps.iter();
        let steps = steps.filter(move |step| step.victim.is_some() && step.victim.as_ref() == first);
        steps.map(move |step| (scenario, step))
    })
}

fn id(scenario: &ScenarioResult, step: &StepResult) -> String {
    format!("{}.{}", scenario.id, step.id)
}

/// Returns the victim of a step.
pub(super) fn victim<'a>(result: &'a RunResult, step: &StepResult) -> Option<&'a Victim> {
    let pod = step.victim.as_ref()?;
    result.victims.iter().find(|victim| victim.pod == *pod)
}
