//! The matrix of steps and victims, and the evidence of each step.

use super::super::milliseconds;
use super::super::reasons::reason_of_halt;
use super::{Mark, fact, outcome, utc};
use crate::plan::POOL_LABELS;
use crate::result::{RequestResult, RunResult, StepResult, Victim};
use crate::scenario::Outcome;

/// An older label of AKS with the name of a node's pool.
const OLD_POOL_LABEL: &str = "agentpool";

/// The steps of a run by scenario, with a column for each place in which steps ran.
pub(super) struct Steps<'a> {
    pub columns: Vec<Column<'a>>,
    pub scenarios: Vec<Group<'a>>,
    /// The reasons to which cells refer by number.
    pub reasons: Vec<&'a str>,
}

/// A victim, or the Kubernetes API.
pub(super) struct Column<'a> {
    victim: Option<&'a str>,
    /// The group of nodes for which the victim stands or else its node or, if unknown, its pod.
    pub title: &'a str,
    /// The node of a group, or the pool of a node.
    pub note: Option<String>,
}

/// A victim, and how many of its steps were proved.
pub(super) struct Place<'a> {
    pub victim: &'a Victim,
    pub pool: Option<&'a str>,
    pub class: &'static str,
    pub proved: String,
    /// Whether a sensor was ready on its node, and why not.
    pub sensor: Option<(Mark, &'a str)>,
}

/// The steps of a scenario.
pub(super) struct Group<'a> {
    pub id: &'a str,
    pub title: &'a str,
    pub rows: Vec<Row<'a>>,
    pub evidence: Vec<Evidence<'a>>,
    pub summary: String,
}

/// A step, with its results in each column.
pub(super) struct Row<'a> {
    pub id: &'a str,
    pub title: &'a str,
    pub cells: Vec<Vec<Entry>>,
}

/// The result of a step in a column.
pub(super) struct Entry {
    pub mark: Mark,
    pub time: String,
    /// Number of the reason.
    pub reason: Option<usize>,
}

/// Everything that is known of a step in one place.
pub(super) struct Evidence<'a> {
    pub step: &'a StepResult,
    pub place: &'a str,
    pub mark: Mark,
    pub started: String,
    pub time: String,
    pub request: Option<String>,
}

impl<'a> Steps<'a> {
    pub fn of(result: &'a RunResult) -> Self {
        let columns = columns(result);
        let mut reasons: Vec<&str> = vec![];
        for reason in result.steps().filter_map(|step| step.reason.as_deref()) {
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
        let scenarios = result.scenarios.iter().map(|scenario| {
            let proved = scenario
                .steps
                .iter()
                .filter(|step| step.outcome == Outcome::Proved);
            Group {
                id: &scenario.id,
                title: &scenario.title,
                rows: rows(&scenario.steps, &columns, &reasons),
                evidence: scenario.steps.iter().map(|step| evidence(step, result)).collect(),
                summary: format!("{} of {} proved", proved.count(), scenario.steps.len()),
            }
        });
        Self {
            scenarios: scenarios.collect(),
            columns,
            reasons,
        }
    }
}

/// Returns the victims of a run.
pub(super) fn victims(result: &RunResult) -> Vec<Place<'_>> {
    let victims = result.victims.iter().map(|victim| {
        let steps = result.steps();
        let steps: Vec<&StepResult> = steps
            .filter(|step| step.victim.as_ref() == Some(&victim.pod))
            .collect();
        let proved = steps.iter().filter(|step| step.outcome == Outcome::Proved);
        Place {
            victim,
            pool: pool(victim),
            class: rating(&steps),
            proved: format!("{} of {}", proved.count(), steps.len()),
            sensor: victim.sensor.as_ref().map(fact),
        }
    });
    victims.collect()
}

/// Returns the class of steps as a whole. A step that does not apply to the cluster may be skipped.
pub(super) fn rating(steps: &[&StepResult]) -> &'static str {
    let passes = |step: &&StepResult| match step.outcome {
        Outcome::Proved => true,
        Outcome::Skipped => reason_of_halt(step).is_none(),
        Outcome::Failed | Outcome::Blocked => false,
    };
    match steps {
        [] => "idle",
        steps if steps.iter().all(passes) => "good",
        _ => "bad",
    }
}

/// Returns the name of the pool of a victim's node.
fn pool(victim: &Victim) -> Option<&str> {
    let labels = &victim.node_labels;
    let found = POOL_LABELS
        .iter()
        .chain([&OLD_POOL_LABEL])
        .find_map(|label| labels.get(*label));
    found.map(String::as_str)
}

/// Returns the group of nodes for which a victim stands, or else its node, or its pod.
pub(super) fn title(victim: &Victim) -> &str {
    let node = victim.node.as_deref();
    victim.group.as_deref().or(node).unwrap_or(&victim.pod)
}

/// Returns what the title of a victim leaves out: the node of a group, or the pool of a node.
pub(super) fn note(victim: &Victim) -> Option<String> {
    match (&victim.group, &victim.node) {
        (Some(group), Some(node)) if group != node => Some(format!("node {node}")),
        (Some(group), _) if pool(victim) == Some(group) => None,
        _ => pool(victim).map(|pool| format!("pool {pool}")),
    }
}

/// Returns a column for each victim and, if there are steps of these, for further pods and the Kubernetes API.
fn columns(result: &RunResult) -> Vec<Column<'_>> {
    let victims = result.victims.iter().map(|victim| Column {
        victim: Some(&victim.pod),
        title: title(victim),
        note: note(victim),
    });
    let mut columns: Vec<Column> = victims.collect();
    for step in result.steps() {
        let victim = step.victim.as_deref();
        if columns.iter().all(|column| column.victim != victim) {
            columns.push(Column {
                victim,
                title: place(victim),
                note: None,
            });
        }
    }
    // A pod of which no step is known would be an empty column.
    columns.retain(|column| {
        let mut steps = result.steps();
        steps.any(|step| step.victim.as_deref() == column.victim)
    });
    columns
}

fn place(victim: Option<&str>) -> &str {
    victim.unwrap_or("Kubernetes API")
}

/// Returns a row for each step: their results are adjacent or far apart, depending on the order of the run.
fn rows<'a>(steps: &'a [StepResult], columns: &[Column], reasons: &[&str]) -> Vec<Row<'a>> {
    let mut rows: Vec<Row> = vec![];
    for step in steps {
        let known = rows.iter().position(|row| row.id == step.id);
        let index = known.unwrap_or_else(|| {
            rows.push(Row {
                id: &step.id,
                title: &step.title,
                cells: columns.iter().map(|_| vec![]).collect(),
            });
            rows.len() - 1
        });
        let column = columns
            .iter()
            .position(|column| column.victim == step.victim.as_deref());
        let reason = step.reason.as_deref();
        let number = reason.and_then(|reason| reasons.iter().position(|known| *known == reason));
        let entry = Entry {
            mark: outcome(step.outcome),
            time: step
                .duration_ms
                .map_or_else(String::new, |ms| milliseconds(Some(ms))),
            reason: number.map(|number| number + 1),
        };
        if let Some(column) = column {
            rows[index].cells[column].push(entry);
        }
    }
    rows
}

fn evidence<'a>(step: &'a StepResult, result: &'a RunResult) -> Evidence<'a> {
    let pod = step.victim.as_deref();
    let victim = result.victims.iter().find(|victim| Some(&*victim.pod) == pod);
    Evidence {
        step,
        place: victim.map_or(place(pod), title),
        mark: outcome(step.outcome),
        started: step.started.map_or_else(|| "-".to_owned(), utc),
        time: milliseconds(step.duration_ms),
        request: step.request.as_ref().map(request),
    }
}

/// Formats a request and its answer.
fn request(request: &RequestResult) -> String {
    let mut parts = vec![format!("{} {}", request.verb, request.objects.join(", "))];
    parts.extend(request.namespace.iter().map(|name| format!("namespace {name}")));
    parts.extend(request.status.map(|status| format!("HTTP {status}")));
    parts.extend(request.uid.iter().map(|uid| format!("UID {uid}")));
    parts.extend(request.audit_id.iter().map(|id| format!("audit ID {id}")));
    parts.extend(request.warnings.iter().map(|text| format!("warning: {text}")));
    parts.join("; ")
}
