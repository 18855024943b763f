//! Checks on a real cluster.

use std::time::Duration;

use serde_json::json as value;

use super::{Doctor, IDS, apply};
use crate::range::{Finally, Space, await_that, kubectl, left_in, shared, sim, text, try_kubectl};

#[test]
#[ignore = "needs the range: make range"]
fn every_check_has_a_result_in_an_existing_namespace() {
    let _shared = shared();
    let space = Space::new("doctor-there", &[]);
    await_that("the service account", Duration::from_secs(20), || {
        try_kubectl(&["get", "serviceaccount", "default", "-n", &space.0]).code == Some(0)
    });
    let result = Doctor::run("recon", &space.0, &[]);
    result.assert("reachable", "ok", "Kubernetes v1.34.");
    result.assert("identity", "ok", "admin");
    result.assert("rights", "ok", "all 38 in namespace");
    result.assert("namespace", "ok", "not created by this tool");
    result.assert("admission", "ok", "all 10 objects admitted");
    result.assert("quota", "ok", "none in namespace");
    result.assert("nodes", "ok", "1 of 1 node can take the pods");
    // The node has the images; `latest` is pulled again, from a registry that is unreachable here.
    result.assert("images", "unknown", "on 1 node, mutable tag");
    Doctor::run("recon", &space.0, &["--image-pull-policy=IfNotPresent"]).assert(
        "images",
        "ok",
        "on 1 node, mutable tag",
    );
    result.assert("network-policies", "ok", "0 policies");
    result.assert("active-run", "ok", "none in namespace");
    assert_eq!(result.0["cluster"]["user"], "admin");
    assert_eq!(result.0["namespace"], space.0.as_str());
    assert_eq!(result.0["scenarios"], value!(["recon"]));
    let ids = result.0["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| text(&check["id"]));
    assert_eq!(ids.collect::<Vec<_>>(), IDS);
    assert_eq!(left_in(&space.0), Vec::<String>::new(), "it only reads");
}

#[test]
#[ignore = "needs the range: make range"]
#[expect(clippy::too_many_lines, reason = "one namespace whose policies change")]
fn policies_that_block_a_run_fail_their_checks() {
    let _shared = shared();
    let space = Space::new("doctor-policies", &[]);
    await_that("the service account", Duration::from_secs(20), || {
        try_kubectl(&["get", "serviceaccount", "default", "-n", &space.0]).code == Some(0)
    });
    kubectl(&[
        "label",
        "namespace",
        &space.0,
        "pod-security.kubernetes.io/enforce=restricted",
    ]);
    Doctor::run("webshell", &space.0, &[]).assert("admission", "failed", "violates PodSecurity");
    kubectl(&[
        "label",
        "namespace",
        &space.0,
        "pod-security.kubernetes.io/enforce-",
    ]);
    kubectl(&[
        "create",
        "quota",
        "few",
        "--hard=pods=1,secrets=9",
        "-n",
        &space.0,
    ]);
    let metadata = |name: &str| value!({ "name": name, "namespace": space.0 });
    apply(&value!({
        "apiVersion": "v1", "kind": "LimitRange", "metadata": metadata("small"),
        "spec": { "limits": [{ "type": "Container", "max": { "memory": "100Mi" } }] },
    }));
    apply(&value!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata("deny"),
        "spec": { "podSelector": {}, "policyTypes": ["Egress"] },
    }));
    await_that("the quota is counted", Duration::from_secs(20), || {
        let used = [
            "get",
            "quota",
            "few",
            "-n",
            &space.0,
            "-o",
            "jsonpath={.status.used.pods}",
        ];
        try_kubectl(&used).stdout == "0"
    });
    let result = Doctor::run("crypto", &space.0, &["--node-selector=no=where"]);
    result.assert(
        "admission",
        "failed",
        "maximum memory usage per Container is 100Mi",
    );
    result.assert("quota", "failed", "quota few: 0 of 1 pods used, not enough left");
    result.assert(
        "network-policies",
        "warning",
        "the victim's connection to the attacker",
    );
    result.assert("nodes", "unknown", "1 without the labels of --node-selector");
    assert_eq!(result.0["exit"], "notStarted");

    kubectl(&[
        "create",
        "service",
        "clusterip",
        "mdc-simulation-victim",
        "--tcp=80",
        "-n",
        &space.0,
    ]);
    let result = Doctor::run("webshell", &space.0, &[]);
    result.assert(
        "namespace",
        "failed",
        "service/mdc-simulation-victim exists in namespace",
    );

    // Quotas with room; images that cannot be pulled, or are invalid references.
    kubectl(&[
        "patch",
        "quota",
        "few",
        "-n",
        &space.0,
        "-p",
        r#"{"spec":{"hard":{"pods":"9"}}}"#,
    ]);
    kubectl(&["delete", "limitrange", "small", "-n", &space.0]);
    let digest = format!("--attacker-image=x/y@sha256:{}", "0".repeat(64));
    let never = [digest.as_str(), "--image-pull-policy=Never"];
    await_that("the quota is counted", Duration::from_secs(20), || {
        let result = Doctor::run("webshell", &space.0, &never);
        result.assert("images", "warning", "no node lists x/y@sha256:0000");
        result.check("quota")["status"] == "ok"
    });
    Doctor::run("webshell", &space.0, &["--victim-image=A:b:c"]).assert(
        "images",
        "failed",
        "not a valid image reference",
    );
}

#[test]
#[ignore = "needs the range: make range"]
fn missing_namespace_is_not_a_failure() {
    let _shared = shared();
    let space = Space::named("doctor-absent");
    let result = Doctor::run("webshell", &space.0, &[]);
    result.assert("namespace", "ok", "a run creates and deletes it");
    result.assert("rights", "ok", "all 44");
    result.assert("admission", "unknown", "does not exist");
    result.assert("quota", "notApplicable", "does not exist");
    result.assert("network-policies", "notApplicable", "does not exist");
    result.assert("active-run", "ok", "none");

    // Each missing permission is named; what cannot be listed is unknown.
    let result = Doctor::run("webshell", &space.0, &["--as=nobody"]);
    result.assert("rights", "failed", "38 rights missing");
    result.assert("rights", "failed", "namespaces (get), ");
    result.assert("rights", "failed", "kubectl auth can-i get pods");
    result.assert("identity", "ok", "nobody");
    for id in [
        "namespace",
        "admission",
        "quota",
        "nodes",
        "network-policies",
        "active-run",
        "leftovers",
        "sensor",
    ] {
        result.assert(id, "unknown", "failed to ");
    }
    for id in ["sensor-ready", "sensor-features"] {
        result.assert(id, "unknown", "failed to list daemonsets");
    }
    result.assert("images", "unknown", "unknown whether a node has it");

    let result = sim(&["doctor", "-o", "name"]).stdout;
    assert_eq!(result.lines().collect::<Vec<_>>(), IDS);
    let table = sim(&["doctor", "webshell", "-n", &space.0]);
    for line in table.stdout.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let lines: Vec<&str> = table.stdout.lines().collect();
    assert_eq!(lines[0], "CHECK             RESULT          SEEN");
    let with = |result: &str| {
        lines
            .iter()
            .position(|line| line.get(18..).is_some_and(|rest| rest.starts_with(result)))
    };
    let attention = with("unknown").or(with("failed")).unwrap();
    assert!(attention < with("ok").unwrap(), "failures are first: {table:#?}");
    let advice = format!("\n{}to check before a run, create a namespace", " ".repeat(34));
    assert!(table.stdout.contains(&advice), "{table:#?}");
    assert_eq!(table.stderr, "checking\n");
    let wide = sim(&["doctor", "webshell", "-n", &space.0, "-o", "wide", "-q"]);
    assert!(
        wide.stdout.lines().next().unwrap().ends_with("ADVICE"),
        "{wide:#?}"
    );
    assert_eq!(wide.stderr, "");
    let yaml = sim(&["doctor", "webshell", "-n", &space.0, "-o", "yaml"]).stdout;
    Doctor::of(serde_saphyr::from_str(&yaml).unwrap()).assert("reachable", "ok", "");
}

#[test]
#[ignore = "needs the range: make range"]
fn other_runs_and_leftovers_are_found() {
    let _shared = shared();
    let space = Space::named("doctor-busy");
    sim(&["webshell", "-n", &space.0, "--keep"]).assert(0);
    let result = Doctor::run("webshell", &space.0, &[]);
    result.assert("active-run", "failed", " of operator holds namespace ");
    result.assert("namespace", "ok", "created by this tool");
    result.assert("admission", "unknown", "the objects of another run");
    // Other tests may have leftovers elsewhere.
    let status = text(&result.check("leftovers")["status"]);
    assert!(["ok", "warning"].contains(&status.as_str()), "{status}");
    result.assert("leftovers", &status, "in progress");

    // Delete the anchor of the run and orphan its objects.
    kubectl(&[
        "delete",
        "job",
        "mdc-simulation",
        "-n",
        &space.0,
        "--cascade=orphan",
    ]);
    let result = Doctor::run("webshell", &space.0, &[]);
    result.assert("active-run", "ok", "none");
    result.assert("leftovers", "warning", "kubectl defender-sim cleanup");
    result.assert("namespace", "failed", "kubectl defender-sim cleanup");
    sim(&["cleanup", "--force", "-n", &space.0]).assert(0);

    // A namespace that is being deleted.
    let space = Space::new("doctor-going", &[]);
    let hold = r#"{"metadata":{"finalizers":["test.example/hold"]}}"#;
    kubectl(&["create", "configmap", "hold", "-n", &space.0]);
    kubectl(&["patch", "configmap", "hold", "-n", &space.0, "-p", hold]);
    let release = r#"{"metadata":{"finalizers":null}}"#;
    let _release = Finally(|| {
        try_kubectl(&["patch", "configmap", "hold", "-n", &space.0, "-p", release]);
    });
    kubectl(&["delete", "namespace", &space.0, "--wait=false"]);
    let result = Doctor::run("webshell", &space.0, &[]);
    result.assert("namespace", "failed", "is being deleted");
    result.assert("admission", "unknown", "accepts no objects");
    let label = "defender-sim/run=abcdefgh";
    kubectl(&["label", "namespace", &space.0, label]);
    Doctor::run("webshell", &space.0, &[]).assert("namespace", "warning", "a run waits up to a minute");
}
