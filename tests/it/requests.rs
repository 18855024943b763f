//! Steps that call the Kubernetes API, on the real cluster.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use defender_sim::scenario::{Step, catalogue};
use serde_json::Value;

use crate::files::Folder;
use crate::range::{
    Finally, Identity, Ran, Running, Space, Webhook, apply, assert_nothing_left, await_that, kubectl, shared,
    sim, sim_as, state, text, try_kubectl,
};

/// Every kind that steps create.
const KINDS: &str = "pods,services,events,deployments,roles,rolebindings,clusterroles,clusterrolebindings,\
                     validatingwebhookconfigurations,mutatingwebhookconfigurations";

/// The scenarios that need consent of their own.
const GUARDED: [&str; 4] = ["admission", "kube-system", "miner-image", "coredns"];

/// Returns the objects of a run, in all namespaces.
fn left(run: &str) -> String {
    let label = format!("defender-sim/run={run}");
    kubectl(&["get", KINDS, "-A", "-l", &label, "-o", "name"])
}

/// Returns the outcomes and reasons of a run by step.
fn outcomes(ran: &Ran) -> BTreeMap<String, (String, String)> {
    let result = ran.json();
    let scenarios = result["scenarios"].as_array().unwrap().iter();
    let steps = scenarios.flat_map(|scenario| scenario["steps"].as_array().unwrap().clone());
    let entry = |step: Value| (text(&step["id"]), (text(&step["outcome"]), text(&step["reason"])));
    steps.map(entry).collect()
}

#[track_caller]
fn assert_outcome(ran: &Ran, step: &str, outcome: &str, reason: &str) {
    let outcomes = outcomes(ran);
    let (found, why) = &outcomes[step];
    assert!(found == outcome && why.contains(reason), "{step}: {outcomes:#?}");
    assert_eq!(left(&text(&ran.json()["run"])), "");
}

/// Returns the records of a run in the audit log, except those of requests with another user agent.
fn audited(run: &str) -> Vec<Value> {
    let log = std::fs::read_to_string(state().join("log/audit.jsonl")).unwrap();
    let of_run = log.lines().filter(|line| line.contains(run));
    let records = of_run.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    records
        .filter(|record| text(&record["userAgent"]).contains(run))
        .collect()
}

/// Returns the resources of the objects that a run created, according to the audit log.
fn creations_of(run: &str) -> Vec<String> {
    let records = audited(run).into_iter();
    let created =
        records.filter(|record| record["verb"] == "create" && record["responseStatus"]["code"] == 201);
    let resources = created.map(|record| text(&record["objectRef"]["resource"]));
    resources
        .filter(|resource| !resource.starts_with("selfsubject"))
        .collect()
}

/// Returns the first step of a built-in scenario that creates an object of this kind.
fn creation(scenario: &str, kind: &str) -> Step {
    let steps = &catalogue::find(scenario).unwrap().steps;
    let of_kind = |step: &&Step| {
        step.request
            .as_ref()
            .is_some_and(|request| request.kind() == kind)
    };
    steps.iter().find(of_kind).unwrap().clone()
}

/// Writes a scenario with these steps, which would keep their objects for a minute.
fn held(folder: &Folder, mut steps: Vec<Step>) -> String {
    for (i, step) in steps.iter_mut().enumerate() {
        step.id = format!("{}-{i}", step.id);
        if let Some(request) = &mut step.request {
            request.hold_seconds = 60;
        }
    }
    let scenario = serde_json::json!({
        "apiVersion": "defender-sim/v1", "id": "held", "title": "t", "description": "d", "steps": steps, "alerts": [],
        "consent": "A test.",
    });
    let file = folder.write("held.yaml", scenario.to_string());
    file.to_str().unwrap().to_owned()
}

static COREDNS_CUSTOM: Mutex<()> = Mutex::new(());

/// Creates the `ConfigMap` that AKS has, for one test at a time.
fn coredns_custom() -> (Finally<impl FnMut()>, MutexGuard<'static, ()>) {
    let guard = COREDNS_CUSTOM.lock().unwrap_or_else(PoisonError::into_inner);
    let name = ["configmap", "coredns-custom", "-n", "kube-system"];
    kubectl(&[&["create"], &name[..], &["--from-literal=a=b"]].concat());
    let removed = Finally(move || {
        try_kubectl(&[&["delete"], &name[..]].concat());
    });
    (removed, guard)
}

fn coredns_entries() -> String {
    let name = ["configmap", "coredns-custom", "-n", "kube-system"];
    kubectl(&[&["get"], &name[..], &["-o", "jsonpath={.data}"]].concat())
}

#[test]
#[ignore = "needs the range: make range"]
fn control_plane_scenarios_are_proved_in_the_audit_log_and_leave_nothing() {
    let _shared = shared();
    let space = Space::new("control", &[]);
    let _custom = coredns_custom();
    let guarded = GUARDED.map(|id| ["--allow", id]);
    let family = ["run", "--family", "control-plane"];
    let flags = ["-n", &space.0, "-o", "json"];
    let arguments = [&family[..], &GUARDED, guarded.as_flattened(), &flags].concat();
    let ran = sim_as(Identity::Admin, &arguments).assert(0);
    ran.assert_proved();

    let result = ran.json();
    let run = text(&result["run"]);
    assert_eq!(left(&run), "");
    assert_eq!(coredns_entries(), r#"{"a":"b"}"#);
    let log = std::fs::read_to_string(state().join("log/audit.jsonl")).unwrap();
    let records: Vec<Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let scenarios = result["scenarios"].as_array().unwrap().iter();
    let steps = scenarios.flat_map(|scenario| scenario["steps"].as_array().unwrap());
    let requests: Vec<&Value> = steps.filter(|step| !step["request"].is_null()).collect();
    assert!(requests.len() > 15, "{requests:#?}");
    for step in requests {
        let id = &step["request"]["auditId"];
        let record = records.iter().find(|record| record["auditID"] == *id);
        let record = record.unwrap_or_else(|| panic!("no record of {step:#}"));
        let agent = text(&record["userAgent"]);
        assert!(
            agent.contains(&run) || agent.contains("kube-hunter"),
            "{record:#}"
        );
        assert_eq!(record["verb"], step["request"]["verb"], "{record:#}");
    }
}

/// The request of the canary needs neither pods nor consent, nor the namespace that it lists.
#[test]
#[ignore = "needs the range: make range"]
fn pods_of_the_canary_namespace_are_listed() {
    let _shared = shared();
    let folder = Folder::new();
    let mut canary = catalogue::find("canary").unwrap().clone();
    canary.steps.retain(|step| step.request.is_some());
    canary.alerts.clear();
    let canary = serde_json::to_string(&canary).unwrap();
    let file = folder.write("canary.yaml", canary);
    let arguments = ["run", "-f", file.to_str().unwrap(), "-o", "json"];
    let ran = sim_as(Identity::Admin, &arguments).assert(0);
    assert_outcome(&ran, "control-plane-canary", "proved", "");
    let id = &ran.json()["scenarios"][0]["steps"][0]["request"]["auditId"];
    let records = audited(&text(&ran.json()["run"]));
    let record = records.iter().find(|record| record["auditID"] == *id).unwrap();
    assert_eq!(record["objectRef"]["namespace"], "asc-alerttest-662jfi039n");
    assert_eq!(record["verb"], "list", "{record:#}");
}

#[test]
#[ignore = "needs the range: make range"]
fn run_without_pods_needs_neither_images_nor_a_namespace_of_its_own() {
    let _shared = shared();
    let ran = sim_as(
        Identity::Admin,
        &["rbac", "--victim-image=registry.invalid/none", "-o", "json"],
    )
    .assert(0);
    let result = ran.json();
    assert_eq!(
        (&result["namespace"], &result["victims"]),
        (&"default".into(), &Value::Array(vec![]))
    );
    let time = |field: &str| text(&result[field]).parse::<jiff::Timestamp>().unwrap();
    // It takes 0.3 s on an idle machine.
    let took = time("ended").duration_since(time("started"));
    assert!(took.as_secs() < 10, "{took}");
    assert_eq!(left(&text(&result["run"])), "");
    let absent = sim_as(Identity::Admin, &["rbac", "-n", "test-no-such-namespace"]).assert(3);
    assert!(
        absent
            .stderr
            .contains("namespace test-no-such-namespace does not exist"),
        "{absent:#?}"
    );
}

#[test]
#[ignore = "needs the range: make range"]
fn guarded_scenario_needs_to_be_allowed() {
    let _shared = shared();
    for id in GUARDED {
        let ran = sim_as(Identity::Admin, &[id]).assert(3);
        let asked =
            ran.stderr.contains("needs consent of its own") && ran.stderr.contains(&format!("--allow {id}"));
        assert!(asked, "{ran:#?}");
    }
}

#[test]
#[ignore = "needs the range: make range"]
fn requests_without_rights_are_skipped() {
    let _shared = shared();
    let space = Space::new("rightless", &[]);
    let ran = sim(&["rbac", "-n", &space.0, "-o", "json"]).assert(0);
    for step in [
        "secrets-role",
        "wildcard-cluster-role",
        "admin-role-binding",
        "admin-cluster-role-binding",
    ] {
        assert_outcome(&ran, step, "skipped", "missing rights: ");
    }

    // A user without any right, in a namespace that it cannot even read.
    let scenarios = ["run", "inert-workloads", "events", "exposed-service"];
    let flags = ["-n", &space.0, "--as", "nobody", "-o", "json"];
    let ran = sim(&[&scenarios[..], &flags].concat()).assert(0);
    for (step, resource) in [
        ("privileged", "deployments.apps"),
        ("delete", "events"),
        ("redis", "services"),
    ] {
        assert_outcome(&ran, step, "skipped", &format!("missing rights: {resource} ("));
    }
    assert_eq!(creations_of(&text(&ran.json()["run"])), Vec::<String>::new());

    // Who may create a role, but not delete it, must not be left with it.
    let manifest = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
          "metadata": { "name": "creator", "namespace": space.0 },
          "rules": [{ "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["create", "get", "escalate"] }] },
        { "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
          "metadata": { "name": "creator", "namespace": space.0 },
          "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "creator" },
          "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "creator" }] },
    ] });
    apply(&manifest.to_string());
    let ran = sim(&["rbac", "-n", &space.0, "--as", "creator", "-o", "json"]).assert(0);
    assert_outcome(
        &ran,
        "secrets-role",
        "skipped",
        "roles.rbac.authorization.k8s.io (delete)",
    );
    assert_eq!(creations_of(&text(&ran.json()["run"])), Vec::<String>::new());

    // A right that only the content of the object needs.
    kubectl(&[
        "patch",
        "role",
        "creator",
        "-n",
        &space.0,
        "--type=json",
        "-p",
        r#"[{"op": "replace", "path": "/rules/0/verbs", "value": ["create", "get", "delete"]}]"#,
    ]);
    await_that("the role may be deleted", Duration::from_secs(20), || {
        let question = [
            "auth", "can-i", "delete", "roles", "-n", &space.0, "--as", "creator",
        ];
        try_kubectl(&question).stdout == "yes\n"
    });
    let ran = sim(&["rbac", "-n", &space.0, "--as", "creator", "-o", "json"]).assert(0);
    assert_outcome(
        &ran,
        "secrets-role",
        "skipped",
        "attempting to grant RBAC permissions not currently held",
    );
}

#[test]
#[ignore = "needs the range: make range"]
fn requests_that_policies_refuse_are_blocked() {
    let _shared = shared();
    let space = Space::new(
        "policies",
        &[
            "pod-security.kubernetes.io/enforce=restricted",
            "pod-security.kubernetes.io/warn=restricted",
        ],
    );
    let name = format!("no-privileged-{}", space.0);
    let policy = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": { "name": name },
          "spec": {
            "matchConstraints": { "resourceRules": [{ "apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"] }] },
            "validations": [{ "expression": "!object.spec.template.spec.containers.exists(c, has(c.securityContext) && has(c.securityContext.privileged) && c.securityContext.privileged)",
                              "message": "no privileged templates here" }] } },
        { "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": { "name": name },
          "spec": { "policyName": name, "validationActions": ["Deny"],
            "matchResources": { "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": space.0 } } } } },
    ] });
    apply(&policy.to_string());
    let _removed = Finally(|| {
        try_kubectl(&[
            "delete",
            "validatingadmissionpolicy,validatingadmissionpolicybinding",
            &name,
        ]);
    });
    let run = || {
        sim_as(
            Identity::Admin,
            &[
                "run",
                "inert-workloads",
                "gated-deployment",
                "-n",
                &space.0,
                "-o",
                "json",
            ],
        )
    };
    let mut ran = run();
    // A new policy takes a moment.
    for _ in 0..20 {
        if outcomes(&ran)["privileged"].0 == "blocked" {
            break;
        }
        std::thread::sleep(Duration::from_millis(500));
        ran = run();
    }
    let ran = ran.assert(4);
    assert_outcome(
        &ran,
        "privileged",
        "blocked",
        &format!("ValidatingAdmissionPolicy '{name}'"),
    );
    // Pod Security only warns about Deployments.
    assert_outcome(&ran, "mount-root", "proved", "");
    assert!(ran.stdout.contains("would violate PodSecurity"), "{ran:#?}");

    // It refuses pods.
    let mut pod = catalogue::find("kube-system").unwrap().clone();
    let request = pod.steps[0].request.as_mut().unwrap();
    request.object["metadata"] = serde_json::json!({});
    request.object["spec"]["hostNetwork"] = true.into();
    let folder = Folder::new();
    let file = folder.write("pod.yaml", serde_json::to_string(&pod).unwrap());
    let file = ["run", "-f", file.to_str().unwrap(), "--allow", "kube-system"];
    let ran = sim_as(
        Identity::Admin,
        &[&file[..], &["-n", &space.0, "-o", "json"]].concat(),
    )
    .assert(4);
    assert_outcome(&ran, "pod", "blocked", "violates PodSecurity");
}

#[test]
#[ignore = "needs the range: make range"]
fn requests_that_a_webhook_refuses_are_blocked() {
    let _shared = shared();
    let space = Space::new("refusing", &[]);
    let message = "the range refuses Services".into();
    let _webhook = Webhook::start(&space.0, &message, &["Service"]);
    let scenarios = ["run", "exposed-service", "events"];
    let flags = ["-n", &space.0, "-o", "json"];
    let ran = sim_as(Identity::Admin, &[&scenarios[..], &flags].concat()).assert(4);
    let reason = "admission webhook \"webhook.test.example\" denied the request: the range refuses Services";
    assert_outcome(&ran, "redis", "blocked", reason);
    assert_outcome(&ran, "delete", "proved", "");
    // A refused request is in the audit log, too.
    let steps = ran.json()["scenarios"][0]["steps"].take();
    let id = &steps[0]["request"]["auditId"];
    let records = audited(&text(&ran.json()["run"]));
    let record = records.iter().find(|record| record["auditID"] == *id).unwrap();
    assert_eq!(record["responseStatus"]["code"], 403, "{record:#}");
}

#[test]
#[ignore = "needs the range: make range"]
fn object_that_loses_a_lock_fails_its_step_and_is_deleted() {
    let _shared = shared();
    let space = Space::new("unlocked", &[]);
    let patch = serde_json::json!([
        { "op": "replace", "path": "/spec/replicas", "value": 1 },
        { "op": "remove", "path": "/spec/loadBalancerClass" },
        { "op": "remove", "path": "/spec/schedulingGates" },
        { "op": "remove", "path": "/subjects" },
    ]);
    let kinds = ["Deployment", "Service", "Pod", "RoleBinding"];
    let _webhook = Webhook::start(&space.0, &patch, &kinds);
    let ran = sim_as(
        Identity::Admin,
        &[
            "run",
            "inert-workloads",
            "exposed-service",
            "gated-deployment",
            "rbac",
            "-n",
            &space.0,
            "-o",
            "json",
        ],
    )
    .assert(4);
    for (step, lock) in [
        ("privileged", "/spec/replicas"),
        ("redis", "/spec/loadBalancerClass"),
        ("vulnerable-image", "/spec/schedulingGates"),
        ("admin-role-binding", "/subjects"),
    ] {
        assert_outcome(&ran, step, "failed", lock);
    }
    // The webhook leaves other kinds alone.
    assert_outcome(&ran, "secrets-role", "proved", "");
}

#[test]
#[ignore = "needs the range: make range"]
fn killed_client_leaves_nothing_of_any_kind() {
    let _shared = shared();
    let space = Space::new("killed", &[]);
    let kinds = [
        ("rbac", "Role"),
        ("rbac", "ClusterRole"),
        ("rbac", "RoleBinding"),
        ("rbac", "ClusterRoleBinding"),
        ("admission", "ValidatingWebhookConfiguration"),
        ("admission", "MutatingWebhookConfiguration"),
        ("kube-system", "Pod"),
        ("gated-deployment", "Pod"),
        ("inert-workloads", "Deployment"),
        ("exposed-service", "Service"),
    ];
    // A run performs eight requests at a time.
    for kinds in kinds.chunks(5) {
        let folder = Folder::new();
        let steps = kinds.iter().map(|(scenario, kind)| creation(scenario, kind));
        let file = held(&folder, steps.collect());
        let flags = ["--allow", "held", "-n", &space.0];
        let mut running = Running::start_as(
            Identity::Admin,
            &[&["run", "-f", file.as_str()][..], &flags].concat(),
        );
        let run = running.run();
        await_that("every object was created", Duration::from_secs(20), || {
            creations_of(&run).len() == kinds.len()
        });
        running.signal("KILL");
        await_that("everything is gone", Duration::from_secs(10), || {
            left(&run).is_empty()
        });
        let is_deletion = |record: &Value| record["verb"] == "delete";
        let deleted: Vec<Value> = audited(&run).into_iter().filter(is_deletion).collect();
        assert!(deleted.is_empty(), "the client itself deleted them: {deleted:#?}");
    }
}

/// The garbage collector ignores Events; the API server deletes them after an hour.
#[test]
#[ignore = "needs the range: make range"]
fn cleanup_removes_events_that_a_killed_client_left() {
    let _shared = shared();
    let space = Space::new("killed-events", &[]);
    let folder = Folder::new();
    let file = held(&folder, vec![creation("events", "Event")]);
    let arguments = ["run", "-f", &file, "--allow", "held", "-n", &space.0];
    let mut running = Running::start_as(Identity::Admin, &arguments);
    let run = running.run();
    await_that("every event was created", Duration::from_secs(20), || {
        left(&run).lines().count() == 10
    });
    running.signal("KILL");
    sim_as(Identity::Admin, &["cleanup", "--run", &run, "-n", &space.0]).assert(0);
    assert_eq!(left(&run), "");
}

#[test]
#[ignore = "needs the range: make range"]
fn objects_of_a_run_with_pods_belong_to_its_anchor() {
    let _shared = shared();
    let space = Space::new("mixed", &[]);
    let n = space.0.as_str();
    let folder = Folder::new();
    let script = serde_json::json!({ "id": "script", "title": "t", "script": "true", "proof": "p" });
    let script: Step = serde_json::from_value(script).unwrap();
    let requested = [
        ("rbac", "Role"),
        ("rbac", "ClusterRole"),
        ("inert-workloads", "Deployment"),
    ];
    let requested = requested.map(|(scenario, kind)| creation(scenario, kind));
    let file = held(&folder, [vec![script], requested.to_vec()].concat());
    let arguments = ["run", "-f", &file, "--allow", "held", "-n", n];
    let mut running = Running::start_as(Identity::Admin, &arguments);
    let run = running.run();
    let label = format!("defender-sim/run={run}");
    let owner = "jsonpath={range .items[*]}{.metadata.ownerReferences[*].uid} {end}";
    let owners = || {
        let namespaced = ["get", "roles,deployments", "-n", n, "-l", &label, "-o", owner];
        kubectl(&namespaced)
    };
    await_that("both objects exist", Duration::from_secs(90), || {
        owners().split_whitespace().count() == 2
    });
    let anchor = [
        "get",
        "job",
        "mdc-simulation",
        "-n",
        n,
        "-o",
        "jsonpath={.metadata.uid}",
    ];
    let anchor = kubectl(&anchor);
    assert_eq!(owners(), format!("{anchor} {anchor} "));
    // The anchor cannot own it.
    await_that("the cluster role is gone", Duration::from_secs(10), || {
        kubectl(&["get", "clusterroles", "-l", &label, "-o", "name"]).is_empty()
    });
    running.await_line("script-0: proved");
    running.signal("KILL");
    running.end();
    assert_eq!(owners(), format!("{anchor} {anchor} "));
    sim_as(Identity::Admin, &["cleanup", "--run", &run, "-n", n]).assert(0);
    assert_eq!(left(&run), "");
    assert_nothing_left(n);
}

#[test]
#[ignore = "needs the range: make range"]
fn cleanup_removes_entries_that_a_killed_client_left() {
    let _shared = shared();
    let _custom = coredns_custom();
    let patch = serde_json::json!({ "data": { "defender-sim-q33wg4p3.txt": "# x", "own.override": "" } });
    let map = ["configmap", "coredns-custom", "-n", "kube-system"];
    kubectl(&[&["patch"], &map[..], &["-p", &patch.to_string()]].concat());
    let cleanup = ["cleanup", "--run", "q33wg4p3", "--allow-system-namespace"];
    let ran = sim_as(Identity::Admin, &cleanup).assert(0);
    assert!(
        ran.stdout.contains("an entry of configmap/coredns-custom"),
        "{ran:#?}"
    );
    assert_eq!(coredns_entries(), r#"{"a":"b","own.override":""}"#);
}
