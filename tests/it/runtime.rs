//! The programs that the runtime scenarios execute, compared with those declared in `tests/support/programs.tsv`.

use std::collections::BTreeSet;

use defender_sim::scenario::Scenario;
use defender_sim::scenario::catalogue::{self, Family};
use regex::Regex;

use crate::range::{Space, alone, assert_nothing_left};
use crate::recorder::{Program, deliveries, record_run};

/// A line of the file: a program that a step executes.
struct Declared {
    step: &'static str,
    line: &'static str,
    name: Regex,
    command: Regex,
}

impl Declared {
    fn parse(line: &'static str) -> Self {
        let columns: Vec<&str> = line.split('\t').collect();
        let [step, name, command] = columns[..] else {
            panic!("not 3 columns: {line}");
        };
        let whole = |expression: &str| Regex::new(&format!("^(?:{expression})$")).expect(line);
        Self {
            step,
            line,
            name: whole(name),
            command: whole(command),
        }
    }

    fn matches(&self, program: &Program) -> bool {
        self.name.is_match(&program.name) && self.command.is_match(&program.command())
    }
}

fn declared() -> Vec<Declared> {
    let lines = include_str!("../support/programs.tsv").lines();
    let declared = lines.filter(|line| !line.starts_with('#'));
    declared.map(Declared::parse).collect()
}

/// Returns the IDs of the steps that run in the victim, which are all but calls to the Kubernetes API.
fn steps_in_victim(scenario: &Scenario) -> impl Iterator<Item = String> {
    let steps = scenario.steps.iter().filter(|step| step.runs_in_victim());
    steps.map(|step| format!("{}.{}", scenario.id, step.id))
}

#[test]
fn steps_declare_programs_and_alerts_name_steps() {
    let entries = catalogue::entries().iter().zip(catalogue::all());
    let runtime = entries.filter(|(entry, _)| entry.family == Family::Runtime);
    let scenarios: Vec<&Scenario> = runtime.map(|(_, scenario)| scenario).collect();
    let declared = declared();
    let with_programs: BTreeSet<String> = declared.iter().map(|program| program.step.to_owned()).collect();
    let steps: BTreeSet<String> = scenarios
        .iter()
        .flat_map(|scenario| steps_in_victim(scenario))
        .collect();
    let undeclared: Vec<&String> = steps.difference(&with_programs).collect();
    assert!(undeclared.is_empty(), "steps without programs: {undeclared:?}");
    let unknown: Vec<&String> = with_programs.difference(&steps).collect();
    assert!(unknown.is_empty(), "unknown steps: {unknown:?}");
    let distinct: BTreeSet<&str> = declared.iter().map(|program| program.line).collect();
    assert_eq!(distinct.len(), declared.len(), "a line is repeated");
    for scenario in scenarios {
        for alert in scenario.alerts.iter().filter(|alert| alert.id != "web-shell") {
            let (scenario, alert_id) = (&scenario.id, &alert.id);
            assert!(!alert.steps.is_empty(), "{scenario}: {alert_id} names no steps");
            assert!(alert.optional, "{scenario}: {alert_id} is required");
        }
    }
}

#[test]
#[ignore = "needs the range: make range"]
fn scenarios_execute_the_declared_programs() {
    let _alone = alone();
    let space = Space::named("tree-runtime");
    let (ran, programs) = record_run(&space, &["--family", "runtime"]);
    ran.assert_proved();
    assert_nothing_left(&space.0);

    let scenarios = catalogue::family(Family::Runtime).map(|id| catalogue::find(id).unwrap());
    let steps: Vec<String> = scenarios.flat_map(steps_in_victim).collect();
    let deliveries = deliveries(&programs);
    let delivered: Vec<&str> = deliveries.iter().map(|delivery| delivery.step.as_str()).collect();
    assert_eq!(delivered, steps);

    let victim = &programs["victim"];
    let declared = declared();
    let mut missing = vec![];
    for delivery in &deliveries {
        let is_below = |program: &&Program| program.above.contains(&delivery.bash);
        let below: Vec<&Program> = victim.iter().filter(is_below).collect();
        let of_step = declared.iter().filter(|program| program.step == delivery.step);
        let absent: Vec<&str> = of_step
            .filter(|expected| !below.iter().any(|program| expected.matches(program)))
            .map(|expected| expected.line)
            .collect();
        if !absent.is_empty() {
            let executed = below.iter().map(|p| format!("{}\t{}", p.name, p.command()));
            missing.push((absent, executed.collect::<Vec<_>>()));
        }
    }
    assert!(missing.is_empty(), "not executed, and executed: {missing:#?}");
}
