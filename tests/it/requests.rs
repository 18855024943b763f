//! Steps that call the Kubernetes API, on the real cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::files::Folder;
use crate::range::{
    Finally, Identity, Ran, Running, Space, Webhook, apply, await_that, kubectl, shared, sim, sim_as, state,
    text, try_kubectl,
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

#[test]
#[ignore = "needs the range: make range"]
fn control_plane_scenarios_are_proved_in_the_audit_log_and_leave_nothing() {
    let _shared = shared();
    let space = Space::new("control", &[]);
    kubectl(&[
        "create",
        "configmap",
        "coredns-custom",
        "-n",
        "kube-system",
        "--from-literal=a=b",
    ]);
    let _removed = Finally(|| {
        try_kubectl(&["delete", "configmap", "coredns-custom", "-n", "kube-system"]);
    });
    let guarded = GUARDED.map(|id| ["--allow", id]);
    let family = ["run", "--family", "control-plane"];
    let flags = ["-n", &space.0, "-o", "json"];
    let arguments = [&family[..], &GUARDED, guarded.as_flattened(), &flags].concat();
    let ran = sim_as(Identity::Admin, &arguments).assert(0);
    ran.assert_proved();

    let result = ran.json();
    let run = text(&result["run"]);
    assert_eq!(left(&run), "");
    assert_eq!(
        kubectl(&[
            "get",
            "configmap",
            "coredns-custom",
            "-n",
            "kube-system",
            "-o",
            "jsonpath={.data}"
        ]),
        r#"{"a":"b"}"#
    );
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
    let mut pod = defender_sim::scenario::catalogue::find("kube-system")
        .unwrap()
        .clone();
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
fn object_that_loses_a_lock_fails_its_step_and_is_deleted() {
    let _shared = shared();
    let space = Space::new("unlocked", &[]);
    let patch = serde_json::json!([
        { "op": "replace", "path": "/spec/replicas", "value": 1 },
        { "op": "remove", "path": "/spec/loadBalancerClass" },
    ]);
    let _webhook = Webhook::start(&space.0, &patch, &["Deployment", "Service"]);
    let ran = sim_as(
        Identity::Admin,
        &[
            "run",
            "inert-workloads",
            "exposed-service",
            "-n",
            &space.0,
            "-o",
            "json",
        ],
    )
    .assert(4);
    assert_outcome(&ran, "privileged", "failed", "/spec/replicas");
    assert_outcome(&ran, "redis", "failed", "/spec/loadBalancerClass");
}

#[test]
#[ignore = "needs the range: make range"]
fn killed_client_leaves_nothing_of_any_kind() {
    let _shared = shared();
    let space = Space::new("killed", &[]);
    // Every request of every scenario, which would keep its object for a minute.
    let folder = Folder::new();
    let mut steps = vec![];
    for id in [
        "rbac",
        "inert-workloads",
        "events",
        "admission",
        "kube-system",
        "exposed-service",
    ] {
        let scenario = defender_sim::scenario::catalogue::find(id).unwrap();
        steps.extend(scenario.steps.iter().cloned().map(|mut step| {
            step.request.as_mut().unwrap().hold_seconds = 60;
            step
        }));
    }
    let number = steps.len();
    let scenario = serde_json::json!({
        "apiVersion": "defender-sim/v1", "id": "held", "title": "t", "description": "d", "steps": steps, "alerts": [],
        "consent": "A test.",
    });
    let file = folder.write("held.yaml", scenario.to_string());
    let mut running = Running::start_as(
        Identity::Admin,
        &[
            "run",
            "-f",
            file.to_str().unwrap(),
            "--allow",
            "held",
            "-n",
            &space.0,
            "-v",
        ],
    );
    let run = running.run();
    for _ in 0..number.min(8) {
        running.await_line("started");
    }
    std::thread::sleep(Duration::from_millis(100));
    running.signal("KILL");
    await_that("everything is gone", Duration::from_secs(10), || {
        left(&run).is_empty()
    });
}
