//! Runs that a `CronJob` starts, on a real cluster.

use std::time::{Duration, SystemTime};

use defender_sim::manifest::rights::ROLE;
use defender_sim::result::Detections;
use serde_json::{Value, json};

use crate::contract::assert_keeps_to;
use crate::range::{
    Identity, Ran, Space, apply, await_that, kubectl, shared, sim, sim_as, text, try_kubectl,
};
use crate::verify::{Machine, RECON, alert};

/// What a run may do to its `CronJob`, its `ConfigMap` and its events: group, resource, verb.
const RIGHTS: [(&str, &str, &str); 4] = [
    ("batch", "cronjobs", "get"),
    ("", "configmaps", "get"),
    ("", "configmaps", "update"),
    ("events.k8s.io", "events", "create"),
];

/// Returns a role in a namespace with these rights.
fn role(namespace: &str, rights: &[(&str, &str, &str)]) -> Value {
    let rule = |(group, resource, verb): &(&str, &str, &str)| {
        let mut rule = json!({ "apiGroups": [group], "resources": [resource], "verbs": [verb] });
        // Objects that are created cannot be named.
        if *verb != "create" {
            rule["resourceNames"] = json!(["sim"]);
        }
        rule
    };
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": { "name": "sim", "namespace": namespace },
        "rules": rights.iter().map(rule).collect::<Vec<_>>(),
    })
}

/// Creates a suspended `CronJob` and its `ConfigMap`, both named `sim`, in a new namespace, with the permissions of its
/// runs on them.
fn scheduled(name: &str) -> Space {
    let space = Space::new(name, &[]);
    // Runs take place elsewhere.
    kubectl(&["delete", "rolebinding", ROLE, "-n", &space.0]);
    let pod =
        json!({ "restartPolicy": "Never", "containers": [{ "name": "sim", "image": "none.invalid/sim" }] });
    let job = json!({
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": { "name": "sim", "namespace": space.0 },
        "spec": {
            "schedule": "0 0 1 1 *",
            "suspend": true,
            "jobTemplate": { "spec": { "template": { "spec": pod } } },
        },
    });
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": "sim", "namespace": space.0 },
    });
    let role = role(&space.0, &RIGHTS);
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": { "name": "sim", "namespace": space.0 },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "sim" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": Identity::Tenant.name() }],
    });
    let items = [job, map, role, binding];
    apply(&json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string());
    space
}

/// Saves alerts about continuing activity in a namespace.
fn saved(machine: &Machine, namespace: &str, alerts: &[&str]) -> String {
    let ongoing = |name: &&str| {
        let mut alert = alert(name);
        alert["properties"]["endTimeUtc"] = "2099-01-01T00:00:00Z".into();
        alert["properties"]["entities"][0]["name"] = namespace.into();
        alert
    };
    let alerts: Vec<Value> = alerts.iter().map(ongoing).collect();
    let path = machine.file("alerts.json", &alerts.into());
    // A file from before the end of the wait could lack alerts.
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(86400))
        .unwrap();
    path
}

/// Runs a scenario in the namespace `runs` for the `CronJob` in `jobs`, and verifies its alerts by a file.
fn verify(scenario: &str, (runs, jobs): (&Space, &Space), alerts: &str, more: &[&str]) -> Ran {
    let job = format!("{}/sim", jobs.0);
    let arguments = [
        scenario,
        "-n",
        &runs.0,
        "--verify",
        "--alerts",
        alerts,
        "--assume=sensor=yes",
        "--cron-job",
        &job,
    ];
    sim(&[&arguments, more].concat())
}

/// Returns type, reason and note of the events of a namespace, in their order.
fn events(namespace: &str) -> Vec<(String, String, String)> {
    let listed = kubectl(&["get", "events.events.k8s.io", "-n", namespace, "-o", "json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let mut items = listed["items"].as_array().unwrap().clone();
    items.sort_by_key(|event| text(&event["eventTime"]));
    let parts = |event: &Value| {
        assert_eq!(text(&event["regarding"]["kind"]), "CronJob", "{event}");
        (text(&event["type"]), text(&event["reason"]), text(&event["note"]))
    };
    items.iter().map(parts).collect()
}

#[test]
#[ignore = "needs the range: make range"]
fn alert_that_is_not_raised_any_more_is_an_event_of_the_cron_job() {
    let _shared = shared();
    let (jobs, runs) = (scheduled("cron-jobs"), Space::new("cron-runs", &[]));
    let machine = Machine::new();
    let verified = |alerts: &[&str]| -> Ran {
        let file = saved(&machine, &runs.0, alerts);
        verify("recon", (&runs, &jobs), &file, &["-o", "json"])
    };
    let first = verified(&RECON).assert(0).json();
    let id = text(&first["run"]);
    let state = kubectl(&[
        "get",
        "configmap",
        "sim",
        "-n",
        &jobs.0,
        "-o",
        "jsonpath={.data.state\\.json}",
    ]);
    let detections = Detections::from_json(&state).unwrap();
    assert_eq!(detections.of("web-shell").unwrap().run, id, "{state}");
    let [(kind, reason, note)] = &events(&jobs.0)[..] else {
        panic!("{:?}", events(&jobs.0));
    };
    assert_eq!((kind.as_str(), reason.as_str()), ("Normal", "RunSucceeded"));
    assert!(
        note.contains(&id) && note.contains("3 of 3 steps proved"),
        "{note}"
    );

    let second = verified(&RECON[1..]).assert(5);
    assert_keeps_to("run", &second.json());
    let regressions = &second.json()["verification"]["regressions"];
    assert_eq!(text(&regressions[0]["lastRun"]), id, "{regressions}");
    assert!(
        second.stderr.contains(&format!("was raised for run {id}")),
        "{}",
        second.stderr
    );
    let events = events(&jobs.0);
    let reasons: Vec<&str> = events.iter().map(|(_, reason, _)| reason.as_str()).collect();
    assert_eq!(reasons, ["RunSucceeded", "RunFailed", "DetectionRegressed"]);
    let (kind, _, note) = &events[2];
    assert!(kind == "Warning" && note.contains(&id), "{note}");
}

#[test]
#[ignore = "needs the range: make range"]
fn each_right_on_the_cron_job_is_needed_and_named() {
    let _shared = shared();
    let (jobs, runs) = (scheduled("cron-rights"), Space::new("cron-limited", &[]));
    let machine = Machine::new();
    let file = saved(&machine, &runs.0, &RECON[..1]);
    for (number, (_, resource, verb)) in RIGHTS.into_iter().enumerate() {
        let mut rights = RIGHTS.to_vec();
        rights.remove(number);
        apply(&role(&jobs.0, &rights).to_string());
        await_that("the right is gone", Duration::from_secs(20), || {
            let object = format!("{resource}/sim");
            let object = if verb == "create" {
                "events.events.k8s.io"
            } else {
                &object
            };
            let question = [
                "auth",
                "can-i",
                verb,
                object,
                "-n",
                &jobs.0,
                "--as",
                Identity::Tenant.name(),
            ];
            try_kubectl(&question).stdout == "no\n"
        });
        let ran = verify("webshell", (&runs, &jobs), &file, &[]);
        // What is written comes after the run.
        let expected = if verb == "get" { 3 } else { 7 };
        assert_eq!(ran.code, Some(expected), "{verb} {resource}: {ran:#?}");
        assert!(
            ran.stderr.contains(&format!("{verb} ")) && ran.stderr.contains("forbidden"),
            "{ran:#?}"
        );
    }
}

#[test]
#[ignore = "needs the range: make range"]
fn run_that_cannot_start_is_an_event_of_the_cron_job() {
    let _shared = shared();
    let (jobs, runs) = (scheduled("cron-failed"), Space::new("cron-quota", &[]));
    let quota = json!({
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": { "name": "none", "namespace": runs.0 },
        "spec": { "hard": { "pods": "0" } },
    });
    apply(&quota.to_string());
    let job = format!("{}/sim", jobs.0);
    let ran = sim(&["recon", "-n", &runs.0, "--cron-job", &job]).assert(3);
    let events = events(&jobs.0);
    let [(kind, reason, note)] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!((kind.as_str(), reason.as_str()), ("Warning", "RunFailed"));
    assert!(note.contains("quota"), "{note}\n{ran:?}");
}

#[test]
#[ignore = "needs the range: make range"]
fn result_that_cannot_be_published_has_its_own_exit_code() {
    let _shared = shared();
    let jobs = scheduled("cron-gone");
    let job = format!("{}/other", jobs.0);
    let ran = sim_as(Identity::Admin, &["rbac", "-n", &jobs.0, "--cron-job", &job]).assert(3);
    assert!(ran.stderr.contains("\"other\" not found"), "{ran:?}");

    let job = format!("{}/sim", jobs.0);
    let arguments = [
        "rbac",
        "-n",
        &jobs.0,
        "--cron-job",
        &job,
        "--push-gateway",
        "http://127.0.0.1:9",
    ];
    let ran = sim_as(Identity::Admin, &arguments).assert(7);
    assert!(
        ran.stderr
            .contains("failed to send metrics to http://127.0.0.1:9"),
        "{ran:?}"
    );
    assert_eq!(events(&jobs.0).len(), 1);
    let state = ["get", "configmap", "sim", "-n", &jobs.0, "-o", "jsonpath={.data}"];
    assert_eq!(try_kubectl(&state).stdout, "", "alerts were not read");
}
