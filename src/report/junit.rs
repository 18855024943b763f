//! A result as `JUnit` XML: a suite for each scenario with a test for each step, and one for the run itself.
//!
//! No standard says what `JUnit` XML is. This is what the schema of Jenkins' xUnit plugin takes, which
//! `tests/it` checks.

use quick_xml::se::Serializer;
use serde::Serialize;

use super::export::meaning;
use super::table::{clean, seconds as seconds_to_detect};
use crate::exit::Exit;
use crate::result::{AlertVerdict, RunResult, StepResult, Verdict, Verification};
use crate::scenario::Outcome;

/// Name of the run's own suite. No scenario can be called so: an id has no dots.
const RUN: &str = "defender-sim.run";
/// Name of the suite with a test for each expected alert.
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
    time: String,
    testsuite: Vec<Suite<'a>>,
}

#[derive(Serialize)]
struct Suite<'a> {
    #[serde(rename = "@name")]
    name: &'a str,
    #[serde(rename = "@tests")]
    tests: usize,
    #[serde(rename = "@failures")]
    failures: usize,
    #[serde(rename = "@errors")]
    errors: usize,
    #[serde(rename = "@skipped")]
    skipped: usize,
    #[serde(rename = "@time")]
    time: String,
    #[serde(rename = "@timestamp", skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    properties: Properties<'a>,
    testcase: Vec<Case<'a>>,
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
struct Case<'a> {
    #[serde(rename = "@name")]
    name: String,
    #[serde(rename = "@classname")]
    class: &'a str,
    #[serde(rename = "@time", skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<Said>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Said>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<Said>,
    #[serde(rename = "system-out", skip_serializing_if = "Option::is_none")]
    out: Option<String>,
}

/// Why a test did not pass. Readers show the message or the text, seldom both.
#[derive(Serialize)]
struct Said {
    #[serde(rename = "@type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(rename = "@message")]
    message: String,
    #[serde(rename = "$text")]
    text: String,
}

pub(super) fn render(result: &RunResult) -> String {
    let mut suites: Vec<Suite> = result
        .scenarios
        .iter()
        .map(|scenario| {
            let ms = scenario.steps.iter().filter_map(|step| step.duration_ms).sum();
            let cases = scenario.steps.iter().map(|step| case(&scenario.id, step));
            suite(result, &scenario.id, ms, cases.collect())
        })
        .collect();
    let mut cases = vec![];
    if let Some(verification) = &result.verification {
        cases.extend(verification.alerts.iter().map(alert));
        cases.push(coverage(verification));
    }
    if let Some(problem) = &result.unread {
        let mut case = passed(ALERTS, "alerts are read to the end");
        let hint: Vec<String> = problem.hint.iter().cloned().collect();
        case.error = Some(said(None, &problem.message, &hint));
        cases.push(case);
    }
    if !cases.is_empty() {
        suites.push(suite(result, ALERTS, 0.0, cases));
    }
    let ms = result.ended.duration_since(result.started).as_secs_f64() * 1000.0;
    let own = vec![end(result), cleanup(result)];
    let mut own = suite(result, RUN, ms, own);
    own.timestamp = Some(result.started.to_string());
    suites.push(own);
    let sum = |count: fn(&Suite) -> usize| suites.iter().map(count).sum();
    let suites = Suites {
        name: "kubectl defender-sim",
        tests: sum(|suite| suite.tests),
        failures: sum(|suite| suite.failures),
        errors: sum(|suite| suite.errors),
        time: seconds(ms),
        testsuite: suites,
    };
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let mut serializer = Serializer::new(&mut text);
    serializer.indent(' ', 2);
    suites.serialize(serializer).expect("a result is always XML");
    text.retain(in_xml);
    text
}

/// Whether XML 1.0 can hold it at all; escaping does not help those it cannot.
fn in_xml(char: char) -> bool {
    match char {
        '\t' | '\n' | '\r' => true,
        '\u{fffe}' | '\u{ffff}' => false,
        _ => char >= ' ',
    }
}

fn seconds(ms: f64) -> String {
    // Neither a clock that was set back nor the sum of nothing, -0, may have a sign, which readers refuse.
    let ms = if ms > 0.0 { ms } else { 0.0 };
    format!("{:.3}", ms / 1000.0)
}

fn suite<'a>(result: &'a RunResult, name: &'a str, ms: f64, cases: Vec<Case<'a>>) -> Suite<'a> {
    let cluster = &result.cluster;
    let properties = [
        ("run", Some(&result.run)),
        ("context", cluster.context.as_ref()),
        ("server", Some(&cluster.server)),
        ("serverVersion", cluster.version.as_ref()),
        ("namespace", Some(&result.namespace)),
        ("user", cluster.user.as_ref()),
    ];
    let known = properties
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| (name, value.as_str())));
    let property = known
        .chain([("version", &*result.version)])
        .map(|(name, value)| Property { name, value })
        .collect();
    let count = |has: fn(&Case) -> bool| cases.iter().filter(|case| has(case)).count();
    Suite {
        name,
        tests: cases.len(),
        failures: count(|case| case.failure.is_some()),
        errors: count(|case| case.error.is_some()),
        skipped: count(|case| case.skipped.is_some()),
        time: seconds(ms),
        timestamp: None,
        properties: Properties { property },
        testcase: cases,
    }
}

fn passed(class: &str, name: impl Into<String>) -> Case<'_> {
    Case {
        name: name.into(),
        class,
        time: None,
        skipped: None,
        error: None,
        failure: None,
        out: None,
    }
}

fn said(kind: Option<&'static str>, message: &str, more: &[String]) -> Said {
    let mut text = message.to_owned();
    for line in more {
        text.push('\n');
        text.push_str(line);
    }
    Said {
        kind,
        message: message.to_owned(),
        text,
    }
}

fn case<'a>(scenario: &'a str, step: &StepResult) -> Case<'a> {
    let mut case = passed(scenario, format!("{}: {}", step.id, step.title));
    case.time = step.duration_ms.map(seconds);
    case.out.clone_from(&step.evidence);
    let word = step.outcome.as_str();
    let why = step.reason.as_deref().unwrap_or(word);
    match step.outcome {
        Outcome::Proved => {}
        Outcome::Failed | Outcome::Blocked => case.failure = Some(said(Some(word), why, &[])),
        Outcome::Skipped => case.skipped = Some(said(None, why, &[])),
    }
    case
}

/// Whether an expected alert was raised.
fn alert(alert: &AlertVerdict) -> Case<'static> {
    let mut case = passed(ALERTS, format!("{}: {}", alert.id, alert.name));
    let word = alert.verdict.as_str();
    let why = alert.reason.as_deref().unwrap_or(word);
    match alert.verdict {
        Verdict::Raised if !alert.late => {}
        Verdict::Raised | Verdict::NotRaised => case.failure = Some(said(Some(word), why, &[])),
        // No success and no failure: that is all that a reader of this format is told.
        Verdict::Waiting | Verdict::NotExpected | Verdict::CouldNotTell => {
            let more = alert.reason.iter().map(|reason| format!(": {reason}"));
            let message: String = [word.to_owned()].into_iter().chain(more).collect();
            case.skipped = Some(said(None, &message, &[]));
        }
    }
    if let Some(raised) = &alert.raised {
        let severity = raised.severity.as_deref().unwrap_or("unknown severity");
        let after = seconds_to_detect(raised.seconds_to_detect);
        let link = raised.link.as_deref().unwrap_or_default();
        case.out = Some(format!("{severity}, raised after {after} {link}"));
    }
    case
}

/// Whether the alerts pass as a whole: readers neither fail nor warn about tests that were skipped.
fn coverage(verification: &Verification) -> Case<'static> {
    let name = if verification.alerts.is_empty() {
        "no alert is raised"
    } else {
        "enough alerts are raised"
    };
    let mut case = passed(ALERTS, name);
    let failure = verification.failure.as_ref();
    case.failure = failure.map(|failure| said(Some("alerts"), failure, &verification.contradictions));
    case
}

/// Whether the run went on to its end; steps that were not begun for it are only skipped.
fn end(result: &RunResult) -> Case<'static> {
    let mut case = passed(RUN, "the run goes on to its end");
    let failure = result
        .verification
        .as_ref()
        .and_then(|verification| verification.failure.as_ref());
    if let Some(problem) = &result.problem {
        let more: Vec<String> = problem.details.iter().chain(&problem.hint).cloned().collect();
        case.error = Some(said(None, &problem.message, &more));
    } else if !(matches!(result.exit, Exit::Ok | Exit::NotProved | Exit::LeftBehind)
        || (result.exit == Exit::AlertMissing && (result.unread.is_some() || failure.is_some())))
    {
        // Those have a test that says so; a code that has none must not look like success.
        case.error = Some(said(None, meaning(result), &[]));
    }
    case
}

fn cleanup(result: &RunResult) -> Case<'_> {
    let mut case = passed(RUN, "nothing is left in the cluster");
    match &result.cleanup {
        None if result.kept_until.is_some() => {
            case.skipped = Some(said(None, "it was kept, as asked for", &[]));
        }
        None => case.skipped = Some(said(None, "nothing had been made", &[])),
        Some(cleanup) if cleanup.is_clean() => case.out = Some(clean(cleanup)),
        Some(cleanup) => {
            let kind = if cleanup.verified {
                "left-behind"
            } else {
                "not-verified"
            };
            case.failure = Some(said(Some(kind), &clean(cleanup), &cleanup.problems));
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

    #[test]
    fn where_no_alert_may_come_one_that_came_fails() {
        let mut result = fixture::verified();
        let verification = result.verification.as_mut().unwrap();
        verification.alerts.clear();
        verification.additional.clear();
        verification.failure = None;
        assert!(
            render(&result)
                .contains("<testcase name=\"no alert is raised\" classname=\"defender-sim.alerts\"/>")
        );
        let raised = fixture::verified().verification.unwrap().alerts;
        let raised = raised.into_iter().find_map(|alert| alert.raised).unwrap();
        let verification = result.verification.as_mut().unwrap();
        verification.additional = vec![raised];
        verification.failure = Some("no alert was expected, but raised: x".into());
        result.exit = Exit::AlertMissing;
        let text = render(&result);
        assert!(
            text.contains("message=\"no alert was expected, but raised: x\""),
            "{text}"
        );
        assert_eq!(
            text.matches("<error").count(),
            0,
            "one fault is told once: {text}"
        );
    }

    #[test]
    fn every_outcome_has_its_element() {
        let text = render(&fixture::mixed());
        let suite = element(&text, "<testsuite name=\"one\"", "</testsuite>");
        assert_eq!(
            suite,
            r#"<testsuite name="one" tests="2" failures="1" errors="0" skipped="0" time="1.254">
    <properties>
      <property name="run" value="k7"/>
      <property name="context" value="prod"/>
      <property name="server" value="https://192.0.2.1"/>
      <property name="serverVersion" value="v1.34.4"/>
      <property name="namespace" value="sim"/>
      <property name="user" value="jane"/>
      <property name="version" value="1.2.3"/>
    </properties>
    <testcase name="look: the look one" classname="one" time="1.234">
      <system-out>3 pods seen</system-out>
    </testcase>
    <testcase name="fetch: the fetch one" classname="one" time="0.020">
      <failure type="failed" message="exit status 1">exit status 1</failure>
      <system-out>no route</system-out>
    </testcase>
  </testsuite>"#
        );
        for part in [
            r#"<testsuites name="kubectl defender-sim" tests="6" failures="2" errors="0" time="12.500">"#,
            r#"<testsuite name="two" tests="2" failures="1" errors="0" skipped="1" time="0.000">"#,
            r#"<failure type="blocked" message="timed out">timed out</failure>"#,
            r#"<skipped message="no such service">no such service</skipped>"#,
            r#"<testsuite name="defender-sim.run" tests="2" failures="0" errors="0" skipped="0" time="12.500" timestamp="2026-01-02T03:04:05Z">"#,
            r#"<testcase name="the run goes on to its end" classname="defender-sim.run"/>"#,
            "<system-out>2 objects removed, nothing left.</system-out>",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn what_is_left_behind_is_a_failure() {
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
    fn what_kept_the_run_from_going_on_is_an_error() {
        let text = render(&fixture::not_started());
        for part in [
            r#"tests="6" failures="0" errors="1""#,
            r#"<error message="pods is forbidden">pods is forbidden
in namespace sim
kubectl auth can-i create pods</error>"#,
            r#"<skipped message="nothing had been made">"#,
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let mut unread = fixture::verified();
        unread.verification = None;
        unread.unread = fixture::not_started().problem;
        (unread.exit, unread.exit_code) = (Exit::AlertMissing, 5);
        let text = render(&unread);
        let part = r#"name="alerts are read to the end""#;
        assert!(text.contains(part), "{text}");
        assert_eq!(text.matches("<error ").count(), 1, "{text}");
        let text = render(&fixture::interrupted());
        let part = r#"<error message="interrupted">"#;
        assert!(text.contains(part), "{text}");
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
            fixture::HOSTILE.replace(['\0', '\u{1b}', '\u{ffff}'], "")
        );
    }

    #[test]
    fn each_expected_alert_is_a_test() {
        let text = render(&fixture::verified());
        assert!(
            text.contains(
                r#"<testsuite name="defender-sim.alerts" tests="7" failures="3" errors="0" skipped="3""#
            ),
            "{text}"
        );
        for part in [
            "High, raised after 40 min https://portal.example/1",
            r#"<failure type="not raised" message="not raised">"#,
            r#"<skipped message="waiting">"#,
            r#"<skipped message="not expected here: not proved: one.fetch">"#,
            r#"<skipped message="unknown: it needs a drift policy">"#,
            r#"<failure type="raised" message="too late: after 2400 s, not within 30m">"#,
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
