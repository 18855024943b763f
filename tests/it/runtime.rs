//! The runtime scenarios: every step is proved, and the kernel records the programs by which Defender may recognize it.

use std::collections::BTreeSet;

use defender_sim::scenario::Scenario;
use defender_sim::scenario::catalogue::{self, Family};
use regex::Regex;

use crate::range::{Identity, Space, alone, assert_nothing_left, shared, sim_as};
use crate::trees::{Program, record};

/// Steps and regular expressions for the command lines of their programs.
const PROGRAMS: &str = include_str!("../support/programs.tsv");

fn programs() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = PROGRAMS.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split_once('\t').unwrap())
}

fn scenarios() -> impl Iterator<Item = &'static Scenario> {
    catalogue::family(Family::Runtime).map(|id| catalogue::find(id).unwrap())
}

/// Returns the full IDs of the steps that run in the victim.
fn steps() -> BTreeSet<String> {
    let steps = scenarios().flat_map(|scenario| scenario.steps.iter().map(move |step| (scenario, step)));
    let in_victim = steps.filter(|(_, step)| step.runs_in_victim());
    in_victim
        .map(|(scenario, step)| format!("{}.{}", scenario.id, step.id))
        .collect()
}

#[test]
fn every_runtime_step_has_programs_and_every_alert_has_steps() {
    let listed: BTreeSet<String> = programs().map(|(step, _)| step.to_owned()).collect();
    assert_eq!(listed, steps());
    for scenario in scenarios() {
        for alert in scenario.alerts.iter().filter(|alert| alert.id != "web-shell") {
            assert!(
                !alert.steps.is_empty() && alert.optional,
                "{}: {}",
                scenario.id,
                alert.id
            );
        }
    }
}

#[test]
#[ignore = "needs the range: make range"]
fn runtime_scenarios_are_proved_and_leave_nothing() {
    let _shared = shared();
    let space = Space::named("runtime");
    let arguments = ["run", "--family", "runtime", "-n", &space.0, "-o", "json"];
    let ran = sim_as(Identity::Admin, &arguments).assert(0);
    ran.assert_proved();
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn programs_of_runtime_steps_are_executed_as_listed() {
    let _alone = alone();
    let space = Space::named("programs");
    let ids: Vec<&str> = catalogue::family(Family::Runtime).collect();
    let recorded = record(&space, &ids);
    let lines: Vec<String> = recorded["victim"].iter().map(Program::command).collect();
    let missing: Vec<(&str, &str)> = programs()
        .filter(|(_, pattern)| {
            let pattern = Regex::new(pattern).unwrap();
            !lines.iter().any(|line| pattern.is_match(line))
        })
        .collect();
    assert!(missing.is_empty(), "{missing:#?}\n{lines:#?}");
}
