//! A result as `JUnit` XML: a suite for each scenario with a test for each step, one for the alerts, one for the run.
//!
//! Readers follow a test from run to run by its class and name. Both are ids, so titles and display names are in
//! the output of a test.
//!
//! No standard defines `JUnit` XML. This is what the schema of Jenkins' xUnit plugin accepts, which `tests/it` checks.

use jiff::Timestamp;
use quick_xml::se::Serializer;
use serde::Serialize;

use super::export::meaning;
use super::reasons::reason_of_halt;
use super::table::{clean, seconds as seconds_to_detect};
use crate::exit::Exit;
use crate::result::{AlertVerdict, RunResult, ScenarioResult, StepResult, Verdict, Verification};
use crate::scenario::Outcome;

/// Suite and class of the run as a whole.
const RUN: &str = "defender-sim.run";
/// Suite and class with a test for each expected alert.
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

/// Why a test did not pass. Readers show the message or the text, seldom both.
#[derive(Serialize)]
struct Cause {
    #[serde(rename = "@type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(rename = "@message")]
    message: String,
    #[serde(rename = "$text", skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

/// A duration that is written in seconds, without a sign: readers refuse that of a clock that was set back, and
/// -0, the sum of no durations.
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
    let error = run_error(result);
    let mut durations = durations(result).into_iter();
    let mut suites: Vec<Suite> = vec![];
    for scenario in &result.scenarios {
        let class = class(scenario);
        let steps = scenario.steps.iter().zip(durations.by_ref());
        let cases = steps.map(|(step, ms)| step_case(&class, step, ms, error.is_some()));
        let cases: Vec<Case> = cases.collect();
        let started = scenario.steps.iter().find_map(|step| step.begun);
        suites.push(suite(class, started.unwrap_or(result.started), cases));
    }
    suites.extend(alerts(result));
    let mut run = suite(
        RUN.to_owned(),
        result.started,
        vec![completed(error), cleanup(result)],
    );
    run.time = Milliseconds(result.ended.duration_since(result.started).as_secs_f64() * 1000.0);
    run.properties = Some(properties(result));
    let time = run.time;
    suites.push(run);
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

/// Whether XML 1.0 can hold a character at all, escaped or not.
fn in_xml(char: char) -> bool {
    match char {
        '\t' | '\n' | '\r' => true,
        '\u{fffe}' | '\u{ffff}' => false,
        _ => char >= ' ',
    }
}

/// Suite and class of a scenario. A scenario file may have the id of one of the other suites.
fn class(scenario: &ScenarioResult) -> String {
    let class = format!("defender-sim.{}", scenario.id);
    if [RUN, ALERTS].contains(&class.as_str()) {
        format!("defender-sim.scenario.{}", scenario.id)
    } else {
        class
    }
}

/// How long each step of the run took, in milliseconds: in the victim, or, if that is unknown, until the next step
/// was sent.
fn durations(result: &RunResult) -> Vec<Option<f64>> {
    let steps: Vec<&StepResult> = result.steps().collect();
    let next = |index: usize| steps[index + 1..].iter().find_map(|step| step.begun);
    let until_next = |index: usize| {
        let duration = next(index)?.duration_since(steps[index].begun?);
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
        ("run", Some(&result.run)),
        ("context", cluster.context.as_ref()),
        ("server", Some(&cluster.server)),
        ("serverVersion", cluster.version.as_ref()),
        ("namespace", Some(&result.namespace)),
        ("node", result.node.as_ref()),
        ("user", cluster.user.as_ref()),
    ];
    let known = properties
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| (name, value.as_str())));
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

/// A test for a step. One that a halt of the run kept from running refers to the test that has the error.
fn step_case(class: &str, step: &StepResult, ms: Option<f64>, halted: bool) -> Case {
    let mut case = passed(class, &step.id);
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

/// The suite of the alerts, if any were looked for.
fn alerts<'a>(result: &RunResult) -> Option<Suite<'a>> {
    let verification = result.verification.as_ref();
    let mut cases = vec![];
    if let Some(verification) = verification {
        cases.extend(verification.alerts.iter().map(alert_case));
        cases.push(coverage(verification));
    }
    if let Some(problem) = &result.unread {
        let mut case = passed(ALERTS, "alerts read");
        let hint: Vec<String> = problem.hint.iter().cloned().collect();
        case.error = Some(cause(None, &problem.message, &hint));
        cases.push(case);
    }
    let read = verification.map_or(result.ended, |verification| verification.looked);
    (!cases.is_empty()).then(|| suite(ALERTS.to_owned(), read, cases))
}

/// Whether an expected alert was raised.
fn alert_case(alert: &AlertVerdict) -> Case {
    let mut case = passed(ALERTS, &alert.id);
    let word = alert.verdict.as_str();
    let why = alert.reason.as_deref().unwrap_or(word);
    match alert.verdict {
        Verdict::Raised if !alert.late => {}
        Verdict::Raised | Verdict::NotRaised => case.failure = Some(cause(Some(word), why, &[])),
        // Neither a success nor a failure: the format has no more than that.
        Verdict::Waiting | Verdict::NotExpected | Verdict::CouldNotTell => {
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

/// Whether the alerts pass as a whole: readers neither fail nor warn about tests that were skipped.
fn coverage(verification: &Verification) -> Case {
    let name = if verification.alerts.is_empty() {
        "no alerts raised"
    } else {
        "expected alerts raised"
    };
    let mut case = passed(ALERTS, name);
    let failure = verification.failure.as_ref();
    case.failure = failure.map(|failure| cause(Some("alerts"), failure, &verification.contradictions));
    case
}

/// Why the run did not complete, if it did not.
fn run_error(result: &RunResult) -> Option<Cause> {
    if let Some(problem) = &result.problem {
        let more: Vec<String> = problem.details.iter().chain(&problem.hint).cloned().collect();
        return Some(cause(None, &problem.message, &more));
    }
    let verification = result.verification.as_ref();
    let failure = verification.and_then(|verification| verification.failure.as_ref());
    let has_test = match result.exit {
        Exit::Ok | Exit::NotProved | Exit::LeftBehind => true,
        Exit::AlertMissing => result.unread.is_some() || failure.is_some(),
        _ => false,
    };
    if !has_test {
        // An exit code that no test reports must not look like success.
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
mod tests {
    use super::*;
    use crate::report::fixture;

    /// The part of the document from `start` on to the end of the element that it begins.
    fn element(text: &str, start: &str, end: &str) -> String {
        let from = text.find(start).unwrap_or_else(|| panic!("no {start} in {text}"));
        let length = text[from..].find(end).unwrap() + end.len();
        text[from..from + length].to_owned()
    }

    /// The names of all tests, with their classes.
    fn identities(result: &RunResult) -> Vec<String> {
        let text = render(result);
        let cases = text.split("<testcase name=\"").skip(1);
        cases
            .map(|case| {
                case.split(['>', '/'])
                    .next()
                    .unwrap()
                    .split(" time=")
                    .next()
                    .unwrap()
            })
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn baseline_fails_if_an_alert_was_raised() {
        let mut result = fixture::verified();
        let verification = result.verification.as_mut().unwrap();
        verification.alerts.clear();
        verification.additional.clear();
        verification.failure = None;
        let case = r#"<testcase name="no alerts raised" classname="defender-sim.alerts"/>"#;
        assert!(render(&result).contains(case));
        let raised = fixture::verified().verification.unwrap().alerts;
        let raised = raised.into_iter().find_map(|alert| alert.raised).unwrap();
        let verification = result.verification.as_mut().unwrap();
        verification.additional = vec![raised];
        verification.failure = Some("no alert was expected, but these were raised: x".into());
        result.exit = Exit::AlertMissing;
        let text = render(&result);
        let part = "message=\"no alert was expected, but these were raised: x\"";
        assert!(text.contains(part), "{text}");
        assert_eq!(text.matches("<error").count(), 0, "one fault once: {text}");
    }

    #[test]
    fn every_outcome_has_its_element() {
        let text = render(&fixture::mixed());
        let suite = element(&text, "<testsuite name=\"defender-sim.one\"", "</testsuite>");
        assert_eq!(
            suite,
            r#"<testsuite name="defender-sim.one" tests="2" failures="1" errors="0" skipped="0" time="1.254" timestamp="2026-01-02T03:04:06">
    <testcase name="look" classname="defender-sim.one" time="1.234">
      <system-out>the look one
3 pods seen</system-out>
    </testcase>
    <testcase name="fetch" classname="defender-sim.one" time="0.020">
      <failure type="failed" message="exit status 1">exit status 1</failure>
      <system-out>the fetch one
no route</system-out>
    </testcase>
  </testsuite>"#
        );
        for part in [
            r#"<testsuites name="kubectl defender-sim" tests="6" failures="2" errors="0" time="12.500">"#,
            r#"<testsuite name="defender-sim.two" tests="2" failures="1" errors="0" skipped="1" time="0.000" timestamp="2026-01-02T03:04:09">"#,
            r#"<failure type="blocked" message="timed out">timed out</failure>"#,
            r#"<skipped message="no such service">no such service</skipped>"#,
            r#"<testcase name="run completed" classname="defender-sim.run"/>"#,
            "<system-out>2 objects removed, nothing left.</system-out>",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn properties_are_those_of_the_run_suite() {
        let text = render(&fixture::mixed());
        let start = r#"<testsuite name="defender-sim.run" tests="2" failures="0" errors="0" skipped="0" time="12.500" timestamp="2026-01-02T03:04:05">
    <properties>
      <property name="run" value="k7"/>
      <property name="context" value="prod"/>
      <property name="server" value="https://192.0.2.1"/>
      <property name="serverVersion" value="v1.34.4"/>
      <property name="namespace" value="sim"/>
      <property name="node" value="node-1"/>
      <property name="user" value="jane"/>
      <property name="version" value="1.2.3"/>
    </properties>
"#;
        assert!(text.contains(start), "{text}");
        assert_eq!(text.matches("<properties>").count(), 1, "{text}");
    }

    #[test]
    fn identities_of_tests_are_those_of_every_run() {
        let verified = fixture::verified();
        let before = identities(&verified);
        for identity in [
            r#"look" classname="defender-sim.one""#,
            r#"missing" classname="defender-sim.alerts""#,
            r#"cleanup verified" classname="defender-sim.run""#,
        ] {
            assert!(before.contains(&identity.to_owned()), "{identity} in {before:?}");
        }
        // Texts, outcomes and times may change from run to run.
        let mut other = fixture::verified();
        for step in other
            .scenarios
            .iter_mut()
            .flat_map(|scenario| &mut scenario.steps)
        {
            (step.title, step.outcome) = ("reworded".into(), Outcome::Skipped);
            step.reason = Some("does not apply".into());
        }
        for alert in &mut other.verification.as_mut().unwrap().alerts {
            (alert.name, alert.verdict) = ("reworded".into(), Verdict::Waiting);
        }
        assert_eq!(identities(&other), before);
    }

    #[test]
    fn scenario_never_shares_a_suite_with_alerts_or_run() {
        let mut result = fixture::verified();
        result.scenarios[0].id = "alerts".into();
        result.scenarios[1].id = "run".into();
        let text = render(&result);
        for suite in ["scenario.alerts", "scenario.run", "alerts", "run"] {
            let start = format!("<testsuite name=\"defender-sim.{suite}\"");
            assert_eq!(text.matches(&start).count(), 1, "{suite} in {text}");
        }
    }

    #[test]
    fn time_of_a_failed_step_lasts_until_the_next_one_was_sent() {
        let of_fetch = |change: fn(&mut RunResult)| {
            let mut result = fixture::mixed();
            result.scenarios[0].steps[1].duration_ms = None;
            change(&mut result);
            let text = render(&result);
            let case = element(&text, "<testcase name=\"fetch\"", ">");
            case.split(" time=")
                .nth(1)
                .map(|time| time.trim_end_matches('>').to_owned())
        };
        // The next step is one of the next scenario.
        assert_eq!(of_fetch(|_| {}).unwrap(), "\"1.000\"");
        let next_is_unknown = |result: &mut RunResult| result.scenarios[1].steps[0].begun = None;
        assert_eq!(of_fetch(next_is_unknown), None);
        let was_not_sent = |result: &mut RunResult| result.scenarios[0].steps[1].begun = None;
        assert_eq!(of_fetch(was_not_sent), None);
        let clock_was_set_back = |result: &mut RunResult| {
            result.scenarios[1].steps[0].begun = Some(result.started);
        };
        assert_eq!(of_fetch(clock_was_set_back).unwrap(), "\"0.000\"");
    }

    #[test]
    fn leftovers_are_a_failure() {
        let mut result = fixture::unclean();
        let text = render(&result);
        let part = r#"<failure type="left-behind" message="1 removed, LEFT BEHIND: pod/b.">1 removed, LEFT BEHIND: pod/b.
pod/b: forbidden</failure>"#;
        assert!(text.contains(part), "{text}");
        result.cleanup.as_mut().unwrap().verified = false;
        let text = render(&result);
        let part =
            r#"<failure type="not-verified" message="Could not verify that nothing was left behind.">"#;
        assert!(text.contains(part), "{text}");
    }

    #[test]
    fn reason_of_a_halt_is_the_one_error() {
        let text = render(&fixture::not_started());
        for part in [
            r#"tests="6" failures="0" errors="1""#,
            r#"<error message="pods is forbidden">pods is forbidden
in namespace sim
kubectl auth can-i create pods</error>"#,
            r#"<skipped message="nothing was created">"#,
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let not_run = r#"<skipped message="not run: see defender-sim.run"/>"#;
        assert_eq!(text.matches(not_run).count(), 4, "{text}");
        assert_eq!(text.matches("pods is forbidden").count(), 2, "{text}");
        let mut unread = fixture::verified();
        unread.verification = None;
        unread.unread = fixture::not_started().problem;
        (unread.exit, unread.exit_code) = (Exit::AlertMissing, 5);
        let text = render(&unread);
        let part = r#"name="alerts read""#;
        assert!(text.contains(part), "{text}");
        assert_eq!(text.matches("<error ").count(), 1, "{text}");
    }

    #[test]
    fn interrupted_run_is_an_error_whatever_its_exit_code() {
        let mut result = fixture::interrupted();
        let read = &mut result.scenarios[1].steps[1];
        read.reason = Some("not run: interrupted".into());
        // Left behind, or read again for its alerts: other tests are about these codes.
        for exit in [Exit::Interrupted, Exit::Terminated, Exit::LeftBehind, Exit::Ok] {
            (result.exit, result.exit_code) = (exit, exit.code());
            let text = render(&result);
            let error = element(&text, "<testcase name=\"run completed\"", "</testcase>");
            assert!(error.contains("<error message="), "{exit:?}: {text}");
            let part = r#"<skipped message="not run: see defender-sim.run"/>"#;
            assert!(text.contains(part), "{exit:?}: {text}");
        }
        // A step that does not apply is skipped for its own reason.
        assert!(!render(&fixture::interrupted()).contains("not run: see"));
    }

    #[test]
    fn text_from_outside_stays_text_and_loses_only_what_xml_cannot_hold() {
        let text = render(&fixture::hostile());
        assert!(text.chars().all(in_xml), "{text}");
        assert!(!text.contains("<b>") && !text.contains("]]>"), "{text}");
        let out = element(&text, "<system-out>", "</system-out>");
        let out = out
            .strip_prefix("<system-out>")
            .unwrap()
            .strip_suffix("</system-out>");
        assert_eq!(
            quick_xml::escape::unescape(out.unwrap()).unwrap(),
            format!(
                "{0}\n{0}",
                fixture::HOSTILE.replace(['\0', '\u{1b}', '\u{ffff}'], "")
            )
        );
    }

    #[test]
    fn each_expected_alert_is_a_test() {
        let text = render(&fixture::verified());
        assert!(
            text.contains(
                r#"<testsuite name="defender-sim.alerts" tests="7" failures="3" errors="0" skipped="3" time="0.000" timestamp="2026-05-04T11:00:00">"#
            ),
            "{text}"
        );
        for part in [
            "<testcase name=\"missing\" classname=\"defender-sim.alerts\">",
            "The alpha alert\nHigh, raised after 40 min https://portal.example/1",
            r#"<failure type="not raised" message="not raised">"#,
            r#"<skipped message="waiting">"#,
            r#"<skipped message="not applicable: step not proved: one.fetch">"#,
            r#"<skipped message="unknown: it needs a drift policy">"#,
            r#"<failure type="raised" message="too late: after 2400 s, not within 30m">"#,
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
