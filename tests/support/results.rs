//! Sample results of runs for the tests of their output. Shared by the unit tests and `tests/it`, which is why types
//! are named through the root of the crate that includes this file.

use crate::exit::Exit;
use crate::result::{
    AlertExpectation, AlertVerdict, Cleanup, ClusterInfo, Problem, RUN_SCHEMA, RaisedAlert, RunResult,
    ScenarioResult, StepResult, Verdict, Verification, Victim,
};
use crate::scenario::Outcome;

/// Text that is markup in XML, HTML and Markdown, and contains characters that XML 1.0 forbids.
pub const HOSTILE: &str = "a|b `c` <b>&amp;</b>\r\n]]>\u{0}\u{1b}[31m\u{ffff} \\| @all \"q\" *d* $e$";

fn step(id: &str, techniques: &[&str], outcome: Outcome, reason: Option<&str>) -> StepResult {
    StepResult {
        id: id.into(),
        title: format!("the {id} one"),
        techniques: techniques.iter().map(|&id| id.into()).collect(),
        victim: Some("mdc-simulation-victim".into()),
        started: None,
        outcome,
        reason: reason.map(Into::into),
        exit_status: None,
        duration_ms: None,
        evidence: None,
        request: None,
    }
}

/// Returns a run of two scenarios with every outcome and nothing left behind.
pub fn mixed() -> RunResult {
    let started = |second: &str| format!("2026-01-02T03:04:{second}Z").parse().ok();
    let mut look = step("look", &["T1613", "T1069"], Outcome::Proved, None);
    look.started = started("06");
    look.duration_ms = Some(1234.5);
    look.evidence = Some("3 pods seen".into());
    let mut fetch = step("fetch", &["T1105"], Outcome::Failed, Some("exit status 1"));
    fetch.started = started("08");
    fetch.duration_ms = Some(20.0);
    fetch.evidence = Some("no route".into());
    let mut send = step(
        "send",
        &["T1613", "T1496.001"],
        Outcome::Blocked,
        Some("timed out"),
    );
    send.started = started("09");
    let read = step("read", &["T1528"], Outcome::Skipped, Some("no such service"));
    let alert = |name: &str, severity: Option<&str>| AlertExpectation {
        id: name.to_lowercase(),
        name: name.into(),
        severity: severity.map(Into::into),
        needs: severity.is_none().then(|| "a sensor".into()),
        steps: vec![],
        optional: false,
        not_expected: None,
    };
    let scenario = |id: &str, steps, alerts| ScenarioResult {
        id: id.into(),
        title: format!("The {id} scenario"),
        tactics: vec![],
        steps,
        alerts,
    };
    RunResult {
        uncovered: vec![],
        clock_offset_seconds: None,
        schema: RUN_SCHEMA.into(),
        version: "1.2.3".into(),
        run: "k7".into(),
        kept_until: None,
        facts: None,
        verification: None,
        verification_problem: None,
        cluster: ClusterInfo {
            kubeconfig_user: None,
            impersonated: None,
            resource_id: None,
            context: Some("prod".into()),
            server: "https://192.0.2.1".into(),
            version: Some("v1.34.4".into()),
            user: Some("jane".into()),
        },
        namespace: "sim".into(),
        victims: vec![Victim {
            pod: "mdc-simulation-victim".into(),
            node: Some("node-1".into()),
            ..Victim::default()
        }],
        started: "2026-01-02T03:04:05Z".parse().expect("a fixed time"),
        ended: "2026-01-02T03:04:17.5Z".parse().expect("a fixed time"),
        scenarios: vec![
            scenario("one", vec![look, fetch], vec![alert("Alpha", Some("high"))]),
            scenario(
                "two",
                vec![send, read],
                vec![alert("Alpha", Some("high")), alert("Beta", None)],
            ),
        ],
        problem: None,
        cleanup: Some(Cleanup {
            removed: vec!["pod/a".into(), "pod/b".into()],
            left: vec![],
            verified: true,
            problems: vec![],
        }),
        exit: Exit::NotProved,
        exit_code: Exit::NotProved.code(),
    }
}

/// Returns a run with verified alerts: one verdict of each kind, and one more alert.
pub fn verified() -> RunResult {
    let time = |text: &str| text.parse().unwrap();
    let raised = |name: &str, status: &str| RaisedAlert {
        id: "/subscriptions/s/alerts/1".into(),
        name: name.into(),
        severity: Some("High".into()),
        status: Some(status.into()),
        generated: Some(time("2026-05-04T10:40:00Z")),
        seconds_to_detect: Some(2400.0),
        link: Some("https://portal.example/1".into()),
    };
    let verdict = |id: &str, verdict, reason: Option<&str>| AlertVerdict {
        victims: vec![],
        id: id.into(),
        name: format!("The {id} alert"),
        scenarios: vec!["one".into()],
        optional: false,
        verdict,
        reason: reason.map(Into::into),
        late: false,
        raised: (verdict == Verdict::Raised).then(|| raised(id, "Dismissed")),
    };
    let mut late = verdict(
        "late",
        Verdict::Raised,
        Some("too late: after 2400 s, not within 30m"),
    );
    late.late = true;
    let mut result = mixed();
    result.scenarios[0].alerts[0].steps = vec!["look".into()];
    let id = result.scenarios[0].alerts[0].id.clone();
    result.verification = Some(Verification {
        source: "Azure Resource Graph".into(),
        read: time("2026-05-04T11:00:00Z"),
        from: time("2026-05-04T09:58:00Z"),
        until: time("2026-05-04T10:03:00Z"),
        alerts: vec![
            verdict(&id, Verdict::Raised, None),
            verdict("missing", Verdict::NotRaised, None),
            verdict("open", Verdict::Waiting, None),
            verdict("absent", Verdict::NotExpected, Some("step not proved: one.fetch")),
            verdict("drift", Verdict::Unknown, Some("it needs a drift policy")),
            late,
        ],
        additional: vec![raised("One more", "Active")],
        unattributed: vec![],
        contradictions: vec![],
        regressions: vec![],
        failure: Some("1 of 6 expected alerts were raised".into()),
    });
    result.exit = Exit::AlertMissing;
    result.exit_code = result.exit.code();
    result
}

/// Returns a run for each way to end, and a hostile one.
pub fn all() -> [RunResult; 6] {
    [
        mixed(),
        verified(),
        unclean(),
        not_started(),
        interrupted(),
        hostile(),
    ]
}

/// Returns a run that left something behind.
pub fn unclean() -> RunResult {
    let cleanup = Cleanup {
        removed: vec!["pod/a".into()],
        left: vec!["pod/b".into()],
        verified: true,
        problems: vec!["pod/b: forbidden".into()],
    };
    RunResult {
        uncovered: vec![],
        cleanup: Some(cleanup),
        exit: Exit::LeftBehind,
        exit_code: Exit::LeftBehind.code(),
        ..mixed()
    }
}

/// Returns a run with a problem before anything was created.
pub fn not_started() -> RunResult {
    let mut result = RunResult {
        problem: Some(Problem {
            message: "pods is forbidden".into(),
            hint: Some("kubectl auth can-i create pods".into()),
            details: vec!["in namespace sim".into()],
        }),
        cleanup: None,
        exit: Exit::NotStarted,
        exit_code: Exit::NotStarted.code(),
        ..mixed()
    };
    for step in result
        .scenarios
        .iter_mut()
        .flat_map(|scenario| &mut scenario.steps)
    {
        *step = self::step(
            &step.id,
            &["T1613"],
            Outcome::Skipped,
            Some("not run: pods is forbidden"),
        );
    }
    result
}

/// Returns a run that was stopped by a signal.
pub fn interrupted() -> RunResult {
    RunResult {
        uncovered: vec![],
        exit: Exit::Interrupted,
        exit_code: Exit::Interrupted.code(),
        ..mixed()
    }
}

/// Returns a run with [`HOSTILE`] in every text from outside.
pub fn hostile() -> RunResult {
    let text = || HOSTILE.to_owned();
    let mut result = unclean();
    result.cluster.context = Some(text());
    result.cluster.server = text();
    result.cluster.version = Some(text());
    result.cluster.user = Some(text());
    for scenario in &mut result.scenarios {
        scenario.title = text();
        for alert in &mut scenario.alerts {
            alert.name = text();
            alert.needs = Some(text());
        }
        for step in &mut scenario.steps {
            step.title = text();
            step.reason = step.reason.is_some().then(text);
            step.evidence = Some(text());
        }
    }
    result.problem = Some(Problem {
        message: text(),
        hint: Some(text()),
        details: vec![text()],
    });
    let cleanup = result.cleanup.as_mut().expect("an unclean one");
    cleanup.left = vec![text()];
    cleanup.problems = vec![text()];
    result
}
