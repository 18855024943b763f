//! Clusters by scenarios: what was proved and raised in each cluster.

use crate::exit::Exit;
use crate::result::{ClusterOutcome, FleetResult, RunResult, ScenarioResult, Verdict};
use crate::scenario::Outcome;

/// The rating of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::report) enum Tone {
    Good,
    Warn,
    Bad,
    Idle,
}

/// A number in a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::report) struct Part {
    pub text: String,
    pub tone: Tone,
    /// What the number counts.
    pub what: &'static str,
}

/// A scenario, or a summary of the cluster, with a cell for each cluster.
pub(in crate::report) struct Column<'a> {
    pub title: &'a str,
    pub cells: Vec<Vec<Part>>,
}

/// Returns a column for each scenario that ran in any of the clusters, for the alerts if they were verified, and for the
/// exit codes.
pub(in crate::report) fn columns(fleet: &FleetResult) -> Vec<Column<'_>> {
    let mut ids: Vec<&str> = vec![];
    for (_, run) in fleet.runs() {
        for scenario in &run.scenarios {
            if !ids.contains(&scenario.id.as_str()) {
                ids.push(&scenario.id);
            }
        }
    }
    let clusters = || fleet.clusters.iter();
    let mut columns: Vec<Column> = vec![];
    for id in ids {
        let cells = clusters().map(|cluster| cluster.run().map_or_else(Vec::new, |run| of_scenario(run, id)));
        let cells = cells.collect();
        columns.push(Column { title: id, cells });
    }
    if fleet.runs().any(|(_, run)| run.verification.is_some()) {
        columns.push(Column {
            title: "ALERTS",
            cells: clusters().map(of_alerts).collect(),
        });
    }
    columns.push(Column {
        title: "EXIT",
        cells: clusters().map(of_exit).collect(),
    });
    columns
}

/// Returns how many steps of a scenario were proved and, if that was verified, how many of its alerts were raised.
fn of_scenario(run: &RunResult, id: &str) -> Vec<Part> {
    let scenarios = run.scenarios.iter();
    let mut parts = vec![];
    for scenario in scenarios.filter(|scenario| scenario.id == id) {
        parts.extend(steps(scenario));
        parts.extend(alerts(run, scenario));
    }
    parts
}

fn steps(scenario: &ScenarioResult) -> Option<Part> {
    let number = |outcome| {
        let steps = scenario.steps.iter();
        steps.filter(|step| step.outcome == outcome).count()
    };
    let proved = number(Outcome::Proved);
    let tone = match (number(Outcome::Failed), number(Outcome::Blocked)) {
        (0, 0) if proved == 0 => Tone::Idle,
        (0, 0) => Tone::Good,
        (0, _) => Tone::Warn,
        _ => Tone::Bad,
    };
    let all = scenario.steps.len();
    (all > 0).then(|| Part {
        text: format!("{proved}/{all}"),
        tone,
        what: "steps",
    })
}

fn alerts(run: &RunResult, scenario: &ScenarioResult) -> Option<Part> {
    let alerts = run.verification.as_ref()?.alerts.iter();
    let required = alerts.filter(|alert| !alert.optional && alert.scenarios.contains(&scenario.id));
    let (mut raised, mut all, mut is_missing) = (0, 0, false);
    for alert in required {
        all += 1;
        raised += usize::from(alert.verdict == Verdict::Raised);
        is_missing |= alert.verdict == Verdict::NotRaised || alert.late;
    }
    let tone = match (is_missing, raised == all) {
        (true, _) => Tone::Bad,
        (false, true) => Tone::Good,
        (false, false) => Tone::Warn,
    };
    (all > 0).then(|| Part {
        text: format!("{raised}/{all}"),
        tone,
        what: "alerts",
    })
}

/// Returns how many of all required alerts were raised in a cluster.
fn of_alerts(cluster: &ClusterOutcome) -> Vec<Part> {
    let verification = cluster.run().and_then(|run| run.verification.as_ref());
    let part = verification.map(|verification| {
        let (raised, all) = verification.raised(false);
        Part {
            text: format!("{raised} of {all}"),
            tone: match verification.failure {
                Some(_) => Tone::Bad,
                None if raised == all => Tone::Good,
                None => Tone::Warn,
            },
            what: "",
        }
    });
    part.into_iter().collect()
}

fn of_exit(cluster: &ClusterOutcome) -> Vec<Part> {
    vec![Part {
        text: cluster.exit_code.to_string(),
        tone: if cluster.exit == Exit::Ok {
            Tone::Good
        } else {
            Tone::Bad
        },
        what: "",
    }]
}
