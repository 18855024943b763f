//! The runtime scenarios: every step is proved, and the kernel records the programs by which Defender may recognize it.

use std::collections::BTreeSet;

use defender_sim::scenario::Scenario;
use defender_sim::scenario::catalogue::{self, Family};
use regex::Regex;
use serde_json::Value;

use crate::range::{Space, alone, assert_nothing_left};
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
fn runtime_scenarios_are_proved_and_execute_their_programs() {
    let _alone = alone();
    let space = Space::named("runtime");
    let report = tempfile::NamedTempFile::new().unwrap();
    let report_flag = format!("json={}", report.path().display());
    let ids: Vec<&str> = catalogue::family(Family::Runtime).collect();
    let recorded = record(&space, &[&ids[..], &["--report", &report_flag]].concat());

    let result: Value = serde_json::from_str(&std::fs::read_to_string(report.path()).unwrap()).unwrap();
    let scenarios = result["scenarios"].as_array().unwrap().iter();
    let steps = scenarios.flat_map(|scenario| scenario["steps"].as_array().unwrap());
    let unproved: Vec<&Value> = steps.filter(|step| step["outcome"] != "proved").collect();
    assert!(unproved.is_empty(), "{unproved:#?}");
    assert_nothing_left(&space.0);

    let lines: Vec<String> = recorded["victim"].iter().map(Program::command).collect();
    let missing: Vec<(&str, &str)> = programs()
        .filter(|(_, pattern)| {
            let pattern = Regex::new(pattern).unwrap();
            !lines.iter().any(|line| pattern.is_match(line))
        })
        .collect();
    assert!(missing.is_empty(), "{missing:#?}\n{lines:#?}");
}
