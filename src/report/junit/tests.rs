use super::*;
use crate::report::fixture;

/// Returns the element that begins with `start`, up to its `end`.
fn element(text: &str, start: &str, end: &str) -> String {
    let from = text.find(start).unwrap_or_else(|| panic!("no {start} in {text}"));
    let length = text[from..].find(end).unwrap() + end.len();
    text[from..from + length].to_owned()
}

/// Returns the names of all tests, with their classes.
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
    // Texts, outcomes and times may differ between runs.
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
    // The next step belongs to the next scenario.
    assert_eq!(of_fetch(|_| {}).unwrap(), "\"1.000\"");
    let next_is_unknown = |result: &mut RunResult| result.scenarios[1].steps[0].started = None;
    assert_eq!(of_fetch(next_is_unknown), None);
    let was_not_sent = |result: &mut RunResult| result.scenarios[0].steps[1].started = None;
    assert_eq!(of_fetch(was_not_sent), None);
    let clock_was_set_back = |result: &mut RunResult| {
        result.scenarios[1].steps[0].started = Some(result.started);
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
    let part = r#"<failure type="not-verified" message="Could not verify that nothing was left behind.">"#;
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
    unread.verification_problem = fixture::not_started().problem;
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
    // Other tests cover these codes: objects left behind, and a run whose alerts were read later.
    for exit in [Exit::Interrupted, Exit::Terminated, Exit::LeftBehind, Exit::Ok] {
        (result.exit, result.exit_code) = (exit, exit.code());
        let text = render(&result);
        let error = element(&text, "<testcase name=\"run completed\"", "</testcase>");
        assert!(error.contains("<error message="), "{exit:?}: {text}");
        let part = r#"<skipped message="not run: see defender-sim.run"/>"#;
        assert!(text.contains(part), "{exit:?}: {text}");
    }
    // An inapplicable step is skipped for its own reason.
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
