use serde_json::{Value, json};

use super::*;
use crate::note;
use crate::report::fixture::{self, HOSTILE};
use crate::result::{RequestResult, UNKNOWN_RUN, VictimVerdict, expectations};
use crate::scenario::catalogue;

const CLUSTER: &str = "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/rg/providers/\
                       Microsoft.ContainerService/managedClusters/blue";

fn now() -> Timestamp {
    "2026-05-05T08:00:00.7Z".parse().unwrap()
}

/// Returns a run of a cluster that is known in Azure, whose alerts were verified.
pub(crate) fn run() -> RunResult {
    let mut run = fixture::verified();
    run.run = "q33wg4p3".into();
    run.cluster.resource_id = Some(CLUSTER.into());
    run
}

/// Returns the alerts of a built-in scenario as those of `run`, which is not verified.
fn expecting(scenario: &str) -> RunResult {
    let mut run = run();
    run.verification = None;
    run.scenarios.truncate(1);
    run.scenarios[0].alerts = expectations(&catalogue::find(scenario).unwrap().alerts);
    run
}

/// Calls `each` with every text of a document.
fn texts(value: &Value, each: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => each(text),
        Value::Array(values) => values.iter().for_each(|value| texts(value, each)),
        Value::Object(fields) => fields.values().for_each(|value| texts(value, each)),
        _ => {}
    }
}

#[test]
fn verified_run_has_its_alerts_with_ids_and_links() {
    let handover = handover(&run(), now());
    let alerts: Vec<_> = handover
        .alerts
        .iter()
        .map(|alert| {
            (
                alert.expected.as_deref(),
                &*alert.name,
                &*alert.id,
                alert.link.as_deref(),
            )
        })
        .collect();
    let link = Some("https://portal.example/1");
    let id = "/subscriptions/s/alerts/1";
    assert_eq!(
        alerts,
        [
            (Some("alpha"), "alpha", id, link),
            (Some("late"), "late", id, link),
            (None, "One more", id, link)
        ]
    );
    let open = handover.outstanding.iter();
    let open: Vec<_> = open.map(|alert| (&*alert.id, alert.verdict)).collect();
    assert_eq!(
        open,
        [
            ("missing", Some(Verdict::NotRaised)),
            ("open", Some(Verdict::Waiting)),
            ("absent", Some(Verdict::NotExpected)),
            ("drift", Some(Verdict::Unknown))
        ]
    );
    // The window is that of the verification, which excludes the time of other runs.
    assert_eq!(handover.run.from, "2026-05-04T09:58:00Z".parse().unwrap());
    assert_eq!(
        handover.verification.source.as_deref(),
        Some("Azure Resource Graph")
    );
}

#[test]
fn only_plain_https_links_are_kept() {
    for (link, is_kept) in [
        ("https://portal.example/1", true),
        ("http://portal.example/1", false),
        ("javascript:alert(1)", false),
        ("https://me:secret@portal.example/1", false),
        ("portal", false),
    ] {
        let mut run = run();
        run.verification.as_mut().unwrap().additional[0].link = Some(link.into());
        let alert = handover(&run, now()).alerts.pop().unwrap();
        assert_eq!(alert.link.as_deref(), is_kept.then_some(link));
    }
}

#[test]
fn alerts_of_each_victim_are_listed_once() {
    let mut run = run();
    let alert = &mut run.verification.as_mut().unwrap().alerts[0];
    let raised = alert.raised.clone().unwrap();
    let victim = |pod: &str, id: &str| VictimVerdict {
        pod: pod.into(),
        group: None,
        verdict: Verdict::Raised,
        reason: None,
        raised: Some(RaisedAlert {
            id: id.into(),
            ..raised.clone()
        }),
    };
    alert.victims = vec![victim("a", &raised.id), victim("b", "/alerts/2")];
    let ids: Vec<String> = handover(&run, now())
        .alerts
        .into_iter()
        .filter(|found| found.expected.as_deref() == Some("alpha"))
        .map(|alert| alert.id)
        .collect();
    assert_eq!(ids, [raised.id, "/alerts/2".to_owned()]);
    run.victims = vec![run.victims[0].clone(); 101];
    for (number, victim) in run.victims.iter_mut().enumerate() {
        victim.pod = format!("mdc-simulation-victim-{number}");
    }
    let pods = handover(&run, now()).run.pods;
    assert_eq!(pods.len(), 103);
    assert_eq!(
        pods[..2],
        ["mdc-simulation-attacker", "mdc-simulation-attacker-2"]
    );
}

#[test]
fn unverified_run_has_its_expected_alerts_once_and_the_usual_window() {
    let mut run = fixture::mixed();
    run.verification_problem
        .clone_from(&fixture::not_started().problem);
    let handover = handover(&run, now());
    assert!(handover.alerts.is_empty() && handover.verification.read.is_none());
    assert_eq!(
        handover.verification.problem.as_deref(),
        Some("pods is forbidden")
    );
    let open = handover.outstanding.iter();
    let open: Vec<_> = open.map(|alert| (&*alert.name, alert.verdict)).collect();
    assert_eq!(open, [("Alpha", None), ("Beta", None)]);
    let marks = handover.run;
    let time = |text: &str| text.parse::<Timestamp>().unwrap();
    assert_eq!(marks.from, time("2026-01-02T03:02:05Z"));
    assert_eq!(marks.until, time("2026-01-02T03:06:17.5Z"));
    assert_eq!(marks.alerts_until, time("2026-01-02T04:34:17.5Z"));
}

#[test]
fn marks_are_those_of_the_note_before_the_run() {
    let note = note::tests::note("sim");
    let mut run = run();
    run.run.clone_from(&note.run);
    let marks = handover(&run, now()).run;
    assert_eq!(marks.service_account.as_ref(), Some(&note.service_account));
    assert_eq!(marks.selector.as_ref(), Some(&note.selector));
    assert_eq!(marks.pods, note.pods);
    let agent = format!("kubectl-defender_sim/1.2.3 (run {})", note.run);
    assert_eq!(marks.user_agent, Some(agent));
}

#[test]
fn run_without_pods_is_recognized_by_its_objects() {
    let mut run = expecting("rbac");
    run.victims.clear();
    run.scenarios[0].steps[0].request = Some(RequestResult {
        objects: vec!["role/defender-sim-q33wg4p3-role".into()],
        namespace: Some("kube-system".into()),
        ..RequestResult::default()
    });
    let handover = handover(&run, now());
    let marks = handover.run;
    assert!(marks.pods.is_empty() && marks.service_account.is_none());
    assert_eq!(marks.objects, ["role/defender-sim-q33wg4p3-role"]);
    assert_eq!(marks.other_namespaces, ["kube-system"]);
    assert!(!handover.queries.resource_graph.contains("attacker"));
    let suppression = handover.suppression;
    assert!(suppression.rules.is_empty() && suppression.caveats.is_empty());
    assert!(suppression.without[0].reason.contains("does not name the pods"));
}

#[test]
fn run_without_resource_id_has_queries_and_no_rule() {
    for id in [None, Some("/subscriptions/x"), Some("' or 1==1")] {
        let mut run = expecting("crypto");
        run.cluster.resource_id = id.map(str::to_owned);
        let handover = handover(&run, now());
        assert_eq!(handover.run.cluster.resource_id, None);
        for query in [&handover.queries.resource_graph, &handover.queries.log_analytics] {
            assert!(query.contains("text has \"q33wg4p3\"\n    or (("), "{query}");
            assert!(
                !query.contains("managedClusters") && !query.contains("1==1"),
                "{query}"
            );
        }
        let suppression = handover.suppression;
        assert!(suppression.rules.is_empty(), "{suppression:?}");
        let reason = "the resource ID of the cluster is unknown";
        assert!(suppression.without.iter().any(|alert| alert.reason == reason));
    }
}

#[test]
fn run_without_an_id_is_found_by_time_and_place() {
    for id in [UNKNOWN_RUN, "a", "has"] {
        let mut run = run();
        run.run = id.into();
        let handover = handover(&run, now());
        assert!(handover.run.user_agent.is_none() && handover.run.service_account.is_none());
        for query in [&handover.queries.resource_graph, &handover.queries.log_analytics] {
            assert!(!query.contains(&format!("text has \"{id}\"")), "{query}");
            assert!(query.contains("text has \"sim\""), "{query}");
        }
    }
}

#[test]
fn rule_is_limited_to_type_cluster_namespace_and_pods_and_expires() {
    let suppression = handover(&expecting("crypto"), now()).suppression;
    let rule = &suppression.rules[0];
    assert_eq!(
        rule.path,
        "/subscriptions/00000000-0000-4000-8000-000000000001/providers/Microsoft.Security/\
         alertsSuppressionRules/defender-sim-q33wg4p3-miner-download?api-version=2019-01-01-preview"
    );
    assert_eq!(
        serde_json::to_value(&rule.body).unwrap(),
        json!({"properties": {
            "alertType": "K8S.NODE_CryptoCoinMinerDownload",
            "reason": "SpecificEntityFalsePositive",
            "state": "Disabled",
            "comment": "attack simulation, run q33wg4p3 of kubectl defender-sim",
            "expirationDateUtc": "2026-05-06T08:00:00Z",
            "suppressionAlertsScope": {"allOf": [
                {"field": "entities.azureresource.resourceid", "in": [CLUSTER]},
                {"field": "entities.k8snamespace.name", "in": ["sim"]},
                {"field": "entities.k8spod.name", "in": ["mdc-simulation-attacker", "mdc-simulation-victim"]},
            ]},
        }})
    );
    let untyped = suppression.without.iter().map(|alert| &*alert.reason);
    assert!(
        untyped
            .clone()
            .any(|reason| reason.starts_with("its type is not public"))
    );
}

#[test]
fn every_rule_has_a_type_and_a_valid_name() {
    for scenario in catalogue::all() {
        for rule in handover(&expecting(&scenario.id), now()).suppression.rules {
            let properties = &rule.body.properties;
            assert!(properties.alert_type.starts_with("K8S"), "{rule:?}");
            assert_eq!(properties.suppression_alerts_scope.all_of.len(), 3);
            let name = rule.path.split('?').next().unwrap().rsplit('/').next().unwrap();
            // As Microsoft's policy definition states.
            let is_valid = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            assert!(name.len() <= 50 && name.chars().all(is_valid), "{name}");
        }
    }
}

#[test]
fn hostile_text_stays_in_one_line_and_in_its_quotes() {
    let usual = handover(&run(), now());
    let mut hostile = fixture::hostile();
    let injection = format!("sim\" or 1==1 // \\ | project x\n| take 1 {HOSTILE}");
    hostile.run = "q33wg4p3".into();
    hostile.namespace.clone_from(&injection);
    hostile.version = injection.clone().into();
    hostile.cluster.resource_id = Some(format!("{CLUSTER}\"or`1==1|"));
    hostile.victims[0].pod.clone_from(&injection);
    hostile.victims[0].node = Some(injection.clone());
    hostile.verification = run().verification;
    let verification = hostile.verification.as_mut().unwrap();
    verification.source.clone_from(&injection);
    for alert in &mut verification.additional {
        (alert.id, alert.name) = (injection.clone(), injection.clone());
        (alert.severity, alert.status) = (Some(injection.clone()), Some(injection.clone()));
    }
    let document = handover(&hostile, now());
    for (query, usual) in [
        (&document.queries.resource_graph, &usual.queries.resource_graph),
        (&document.queries.log_analytics, &usual.queries.log_analytics),
    ] {
        assert_eq!(query.lines().count(), usual.lines().count(), "{query}");
        assert!(
            query.contains(r#"text has "sim\" or 1==1 // \\ | project x | take 1 a|b"#),
            "{query}"
        );
        assert!(query.contains(r#"/blue\"or`1==1|""#), "{query}");
        // Without the literals, nothing of the text is left.
        let literal = without_literals(query);
        assert!(
            !literal.contains("1==1") && !literal.contains("take"),
            "{literal}"
        );
    }
    let mut value = serde_json::to_value(&document).unwrap();
    value["queries"] = Value::Null;
    let mut injected = 0;
    texts(&value, &mut |text| {
        assert!(!text.contains(['\n', '\u{1b}', '\0']), "{text:?}");
        injected += usize::from(text.contains("1==1"));
    });
    assert!(injected > 8, "{injected}");
}

/// Removes the string literals of a query.
fn without_literals(query: &str) -> String {
    let mut rest = query.chars();
    let mut outside = String::new();
    let mut is_quoted = false;
    while let Some(c) = rest.next() {
        match c {
            '\\' if is_quoted => {
                rest.next();
            }
            '"' => is_quoted = !is_quoted,
            _ if !is_quoted => outside.push(c),
            _ => {}
        }
    }
    assert!(!is_quoted, "{query}");
    outside
}
