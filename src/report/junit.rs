//! Results as `JUnit` XML: a suite per scenario with a test per step, one suite for the alerts and one for the run.
//!
//! Readers track a test across runs by its class and name. Both are IDs; titles and display names are in the output of
//! a test.
//!
//! `JUnit` XML has no standard. This module writes what the schema of Jenkins' xUnit plugin accepts; `tests/it` checks
//! it.

use jiff::Timestamp;
use quick_xml::se::Serializer;
use serde::Serialize;

use super::coverage::victim;
use super::meaning::meaning;
use super::reasons::reason_of_halt;
use super::table::{clean, seconds as seconds_to_detect};
use crate::exit::Exit;
use crate::result::{
    AlertVerdict, FleetResult, RunResult, ScenarioResult, StepResult, Verdict, Verification, Victim,
};
use crate::scenario::Outcome;

/// Suite and class of the entire run.
const RUN: &str = "defender-sim.run";
/// Suite and class with a test per expected alert.
const ALERTS: &str = "defender-sim.alerts";

#[derive(Serialize)]
#[serde(rename = "testsuites")]
struct Suites<'a> {
    #[serde(rename = "@name")]
    name: &'a str,
    #[serde(rename = "@tests")]
    tests: usize,
    #[serde(rename = "@failures")]
    failures: usize,
    #[serde(rename = "@errors")]
    errors: usize,
    #[serde(rename = "@time")]
    time: Milliseconds,
    testsuite: Vec<Suite<'a>>,
}

#[derive(Serialize)]
struct Suite<'a> {
    #[serde(rename = "@name")]
    name: String,
    #[serde(rename = "@tests")]
    tests: usize,
    #[serde(rename = "@failures")]
    failures: usize,
    #[serde(rename = "@errors")]
    errors: usize,
    #[serde(rename = "@skipped")]
    skipped: usize,
    #[serde(rename = "@time")]
    time: Milliseconds,
    #[serde(rename = "@timestamp")]
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    properties: Option<Properties<'a>>,
    testcase: Vec<Case>,
}

#[derive(Serialize)]
struct Properties<'a> {
    property: Vec<Property<'a>>,
}

#[derive(Serialize)]
struct Property<'a> {
    #[serde(rename = "@name")]
    name: &'static str,
    #[serde(rename = "@value")]
    value: &'a str,
}

#[derive(Serialize)]
struct Case {
    #[serde(rename = "@name")]
    name: String,
    #[serde(rename = "@classname")]
    class: String,
    #[serde(rename = "@time", skip_serializing_if = "Option::is_none")]
    time: Option<Milliseconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<Cause>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Cause>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<Cause>,
    #[serde(rename = "system-out", skip_serializing_if = "Option::is_none")]
    out: Option<String>,
}

/// Why a test did not pass. Readers show either the message or the text, rarely both.
#[derive(Serialize)]
struct Cause {
    #[serde(rename = "@type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(rename = "@message")]
    message: String,
    #[serde(rename = "$text", skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

/// A duration in seconds, written without a sign.
///
/// Readers reject the negative duration of a clock that was set back, and -0, the sum of no durations.
#[derive(Clone, Copy)]
struct Milliseconds(f64);

impl Serialize for Milliseconds {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ms = if self.0 > 0.0 { self.0 } else { 0.0 };
        serializer.collect_str(&format_args!("{:.3}", ms / 1000.0))
    }
}

/// Renders a result as an XML document.
pub(super) fn render(result: &RunResult) -> String {
    document(of_run(result), took(result.started, result.ended))
}

/// Renders the results of several clusters as one XML document. Suites and classes name the cluster.
pub(super) fn render_fleet(fleet: &FleetResult) -> String {
    let mut suites = vec![];
    for cluster in &fleet.clusters {
        let mut of_cluster = match (cluster.run(), &cluster.problem) {
            (Some(run), _) => of_run(run),
            (None, problem) => {
                let message = problem.as_ref().map_or("no result", |problem| &problem.message);
                let hint = problem.as_ref().and_then(|problem| problem.hint.clone());
                let error = cause(None, message, hint.as_slice());
                vec![suite(RUN.to_owned(), fleet.started, vec![completed(Some(error))])]
            }
        };
        for suite in &mut of_cluster {
            let rename = |name: &str| {
                let rest = name.strip_prefix("defender-sim.").unwrap_or(name);
                format!("defender-sim.{}.{rest}", cluster.context)
            };
            suite.name = rename(&suite.name);
            for case in &mut suite.testcase {
                case.class = rename(&case.class);
            }
        }
        suites.extend(of_cluster);
    }
    document(suites, took(fleet.started, fleet.ended))
}

fn took(started: Timestamp, ended: Timestamp) -> Milliseconds {
    Milliseconds(ended.duration_since(started).as_secs_f64() * 1000.0)
}

/// Returns the suites of a run: its scenarios, its alerts, and the run itself as the last one.
fn of_run(result: &RunResult) -> Vec<Suite<'_>> {
    let error = run_error(result);
    let mut durations = durations(result).into_iter();
    let mut suites: Vec<Suite> = vec![];
    for scenario in &result.scenarios {
        let class = class(scenario);
        let steps = scenario.steps.iter().zip(durations.by_ref());
        let cases = steps.map(|(step, ms)| {
            let group = victim(result, step).filter(|_| result.victims.len() > 1);
            let name = on(&step.id, group.map(Victim::label));
            step_case((&class, &name), step, ms, error.is_some())
        });
        let cases: Vec<Case> = cases.collect();
        let started = scenario.steps.iter().find_map(|step| step.started);
        suites.push(suite(class, started.unwrap_or(result.started), cases));
    }
    suites.extend(alerts(result));
    let mut cases = vec![completed(error), cleanup(result)];
    cases.extend(result.uncovered.iter().map(|group| {
        let mut case = passed(RUN, &on("covered", Some(&group.group)));
        case.skipped = Some(cause(None, &format!("not covered: {}", group.reason), &[]));
        case
    }));
    let mut run = suite(RUN.to_owned(), result.started, cases);
    run.time = took(result.started, result.ended);
    run.properties = Some(properties(result));
    suites.push(run);
    suites
}

fn document(suites: Vec<Suite>, time: Milliseconds) -> String {
    let sum = |count: fn(&Suite) -> usize| suites.iter().map(count).sum();
    let suites = Suites {
        name: "kubectl defender-sim",
        tests: sum(|suite| suite.tests),
        failures: sum(|suite| suite.failures),
        errors: sum(|suite| suite.errors),
        time,
        testsuite: suites,
    };
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let mut serializer = Serializer::new(&mut text);
    serializer.indent(' ', 2);
    suites.serialize(serializer).expect("a result is always XML");
    text.retain(in_xml);
    text
}

/// Returns whether XML 1.0 can represent a character, escaped or not.
pub(super) fn in_xml(char: char) -> bool {
    match char {
        '\t' | '\n' | '\r' => true,
        '\u{fffe}' | '\u{ffff}' => false,
        _ => char >= ' ',
    }
}

/// Returns the name of a test on a group of nodes, if there are several.
fn on(name: &str, group: Option<&str>) -> String {
    group.map_or_else(|| name.to_owned(), |group| format!("{name} on {group}"))
}

/// Returns the suite and class of a scenario. A scenario file may use the ID of one of the other suites.
fn class(scenario: &ScenarioResult) -> String {
    let class = format!("defender-sim.{}", scenario.id);
    if [RUN, ALERTS].contains(&class.as_str()) {
        format!("defender-sim.scenario.{}", scenario.id)
    } else {
        class
    }
}

/// Returns the duration of each step in milliseconds.
///
/// This is the duration in the victim or, if unknown and there is one victim, the time until the next step was sent.
fn durations(result: &RunResult) -> Vec<Option<f64>> {
    let steps: Vec<&StepResult> = result.steps().collect();
    let is_sequence = result.victims.len() < 2;
    let next = |index: usize| {
        let next = steps[index + 1..].iter().find_map(|step| step.started);
        next.filter(|_| is_sequence)
    };
    let until_next = |index: usize| {
        let duration = next(index)?.duration_since(steps[index].started?);
        Some(duration.as_secs_f64() * 1000.0)
    };
    let steps = steps.iter().enumerate();
    steps
        .map(|(index, step)| step.duration_ms.or_else(|| until_next(index)))
        .collect()
}

fn suite<'a>(name: String, started: Timestamp, cases: Vec<Case>) -> Suite<'a> {
    let count = |has: fn(&Case) -> bool| cases.iter().filter(|case| has(case)).count();
    Suite {
        name,
        tests: cases.len(),
        failures: count(|case| case.failure.is_some()),
        errors: count(|case| case.error.is_some()),
        skipped: count(|case| case.skipped.is_some()),
        time: Milliseconds(cases.iter().filter_map(|case| case.time).map(|time| time.0).sum()),
        timestamp: started.strftime("%Y-%m-%dT%H:%M:%S").to_string(),
        properties: None,
        testcase: cases,
    }
}

fn properties(result: &RunResult) -> Properties<'_> {
    let cluster = &result.cluster;
    let properties = [
        ("run", Some(&*result.run)),
        ("context", cluster.context.as_deref()),
        ("server", Some(&*cluster.server)),
        ("serverVersion", cluster.version.as_deref()),
        ("namespace", Some(&*result.namespace)),
        ("node", result.node()),
        ("user", cluster.user.as_deref()),
    ];
    let known = properties
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    let property = known
        .chain([("version", &*result.version)])
        .map(|(name, value)| Property { name, value });
    Properties {
        property: property.collect(),
    }
}

fn passed(class: &str, name: &str) -> Case {
    Case {
        name: name.to_owned(),
        class: class.to_owned(),
        time: None,
        skipped: None,
        error: None,
        failure: None,
        out: None,
    }
}

fn cause(kind: Option<&'static str>, message: &str, more: &[String]) -> Cause {
    let mut text = message.to_owned();
    for line in more {
        text.push('\n');
        text.push_str(line);
    }
    Cause {
        kind,
        message: message.to_owned(),
        text: Some(text),
    }
}

/// Creates the test of a step. If the run halted before the step, it refers to the test with the error.
fn step_case((class, name): (&str, &str), step: &StepResult, ms: Option<f64>, halted: bool) -> Case {
    let mut case = passed(class, name);
    let out = [&step.title].into_iter().chain(&step.evidence);
    case.out = Some(out.map(String::as_str).collect::<Vec<_>>().join("\n"));
    let word = step.outcome.as_str();
    let why = step.reason.as_deref().unwrap_or(word);
    case.time = ms.map(Milliseconds);
    match step.outcome {
        Outcome::Proved => {}
        Outcome::Failed | Outcome::Blocked => case.failure = Some(cause(Some(word), why, &[])),
        Outcome::Skipped if halted && reason_of_halt(step).is_some() => {
            case.skipped = Some(Cause {
                kind: None,
                message: format!("not run: see {RUN}"),
                text: None,
            });
        }
        Outcome::Skipped => case.skipped = Some(cause(None, why, &[])),
    }
    case
}

/// Creates the suite of the alerts, or returns `None` if they were not verified.
fn alerts<'a>(result: &RunResult) -> Option<Suite<'a>> {
    let verification = result.verification.as_ref();
    let mut cases = vec![];
    if let Some(verification) = verification {
        for alert in &verification.alerts {
            let of_victims = alert.victims.iter().map(|verdict| {
                let victim = result.victims.iter().find(|victim| victim.pod == verdict.pod);
                let name = on(&alert.id, Some(victim.map_or(&*verdict.pod, Victim::label)));
                let limit = alert.late.then_some(verdict.reason.as_ref()).flatten();
                let part = AlertVerdict {
                    id: name,
                    verdict: verdict.verdict,
                    reason: verdict.reason.clone(),
                    late: limit.is_some() && verdict.verdict == Verdict::Raised,
                    raised: verdict.raised.clone(),
                    victims: vec![],
                    ..alert.clone()
                };
                alert_case(&part)
            });
            cases.extend(of_victims);
            cases.extend(alert.victims.is_empty().then(|| alert_case(alert)));
        }
        cases.push(coverage(verification));
    }
    if let Some(problem) = &result.verification_problem {
        let mut case = passed(ALERTS, "alerts read");
        let hint: Vec<String> = problem.hint.iter().cloned().collect();
        case.error = Some(cause(None, &problem.message, &hint));
        cases.push(case);
    }
    let read = verification.map_or(result.ended, |verification| verification.read);
    (!cases.is_empty()).then(|| suite(ALERTS.to_owned(), read, cases))
}

/// Creates the test of an expected alert.
fn alert_case(alert: &AlertVerdict) -> Case {
    let mut case = passed(ALERTS, &alert.id);
    let word = alert.verdict.as_str();
    let why = alert.reason.as_deref().unwrap_or(word);
    match alert.verdict {
        Verdict::Raised if !alert.late || alert.optional => {}
        Verdict::Raised | Verdict::NotRaised => case.failure = Some(cause(Some(word), why, &[])),
        // Neither a success nor a failure, which the format can only express as skipped.
        Verdict::Waiting | Verdict::NotExpected | Verdict::Unknown => {
            let reason = alert.reason.iter().map(|reason| format!(": {reason}"));
            let message: String = [word.to_owned()].into_iter().chain(reason).collect();
            case.skipped = Some(cause(None, &message, &[]));
        }
    }
    let raised = alert.raised.iter().map(|raised| {
        let severity = raised.severity.as_deref().unwrap_or("unknown severity");
        let after = seconds_to_detect(raised.seconds_to_detect);
        let link = raised.link.as_deref().unwrap_or_default();
        format!("{severity}, raised after {after} {link}")
    });
    let out = [alert.name.clone()].into_iter().chain(raised);
    case.out = Some(out.collect::<Vec<_>>().join("\n"));
    case
}

/// Creates the test that the alerts pass as a whole: readers neither fail nor warn about skipped tests.
fn coverage(verification: &Verification) -> Case {
    let name = if verification.alerts.is_empty() {
        "no alerts raised"
    } else {
        "expected alerts raised"
    };
    let mut case = passed(ALERTS, name);
    let failure = verification.failure.as_ref();
    case.failure = failure.map(|failure| cause(Some("alerts"), failure, &verification.warnings()));
    case
}

/// Returns why the run did not complete, or `None` if it did.
fn run_error(result: &RunResult) -> Option<Cause> {
    if let Some(problem) = &result.problem {
        let more: Vec<String> = problem.details.iter().chain(&problem.hint).cloned().collect();
        return Some(cause(None, &problem.message, &more));
    }
    let verification = result.verification.as_ref();
    let failure = verification.and_then(|verification| verification.failure.as_ref());
    let has_test = match result.exit {
        Exit::Ok | Exit::NotProved | Exit::LeftBehind => true,
        Exit::AlertMissing => result.verification_problem.is_some() || failure.is_some(),
        _ => false,
    };
    if !has_test {
        // An exit code that no test reports must not be mistaken for success.
        return Some(cause(None, meaning(result), &[]));
    }
    let halt = result.steps().find_map(reason_of_halt);
    halt.map(|reason| cause(None, reason, &[]))
}

fn completed(error: Option<Cause>) -> Case {
    let mut case = passed(RUN, "run completed");
    case.error = error;
    case
}

fn cleanup(result: &RunResult) -> Case {
    let mut case = passed(RUN, "cleanup verified");
    match &result.cleanup {
        None if result.kept_until.is_some() => {
            case.skipped = Some(cause(None, "the pods were kept, as requested", &[]));
        }
        None => case.skipped = Some(cause(None, "nothing was created", &[])),
        Some(cleanup) if cleanup.is_clean() => case.out = Some(clean(cleanup)),
        Some(cleanup) => {
            let kind = if cleanup.verified {
                "left-behind"
            } else {
                "not-verified"
            };
            case.failure = Some(cause(Some(kind), &clean(cleanup), &cleanup.problems));
        }
    }
    case
}

#[cfg(test)]
mod tests;
