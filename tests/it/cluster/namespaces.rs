//! Namespaces that a run is given or creates, and what it applies there.

use serde_json::json as value;

use super::apply;
use crate::cluster::while_attacking;
use crate::range::{
    Finally, Identity, Space, alone, assert_nothing_left, default_namespace, kubectl, left_in, shared, sim,
    try_kubectl,
};

#[test]
#[ignore = "needs the range: make range"]
fn a_given_namespace_is_used_and_stays_with_everything_in_it() {
    let _shared = shared();
    let space = Space::new("given", &["pod-security.kubernetes.io/enforce=baseline"]);
    kubectl(&[
        "create",
        "configmap",
        "mine",
        "-n",
        &space.0,
        "--from-literal=a=b",
    ]);
    let before = identities(&space.0);
    sim(&["recon", "-n", &space.0]).assert(0);
    assert_eq!(identities(&space.0), before);
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn a_default_namespace_of_somebody_else_is_not_touched() {
    let (_shared, _default) = (shared(), default_namespace());
    kubectl(&["create", "namespace", "mdc-simulation"]);
    kubectl(&["create", "configmap", "mine", "-n", "mdc-simulation"]);
    let before = identities("mdc-simulation");
    let ran = sim(&["recon"]).assert(3);
    assert!(
        ran.stderr
            .contains("namespace mdc-simulation exists and was not created by this tool"),
        "{}",
        ran.stderr
    );
    assert_eq!(identities("mdc-simulation"), before);
    sim(&["cleanup", "-n", "mdc-simulation"]).assert(0);
    assert_eq!(identities("mdc-simulation"), before);
}

#[test]
#[ignore = "needs the range: make range"]
fn a_namespace_of_ours_that_holds_something_else_is_kept() {
    let _shared = shared();
    let space = Space::named("mixed");
    let ran = while_attacking(Identity::Operator, &space.0, || {
        kubectl(&["create", "configmap", "mine", "-n", &space.0]);
    })
    .assert(6);
    assert!(ran.stderr.contains("it holds configmap/mine"), "{}", ran.stderr);
    kubectl(&["get", "configmap", "mine", "-n", &space.0]);
    assert_eq!(left_in(&space.0), [format!("namespace/{}", space.0)]);
}

/// One kind in a group is only served in a version that the group does not prefer.
#[test]
#[ignore = "needs the range: make range"]
fn what_is_served_in_an_old_version_only_is_seen_too() {
    // Cleanup in other tests lists every kind, and fails for one that is being registered or deleted.
    let _alone = alone();
    let space = Space::named("old-version");
    let kind = |plural: &str, kind: &str, version: &str| {
        value!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": { "name": format!("{plural}.sim.example.org"), "labels": { "test": "defender-sim" } },
            "spec": {
                "group": "sim.example.org", "scope": "Namespaced", "names": { "plural": plural, "kind": kind },
                "versions": [{ "name": version, "served": true, "storage": true, "schema": { "openAPIV3Schema":
                    { "type": "object", "x-kubernetes-preserve-unknown-fields": true } } }],
            },
        })
    };
    let kinds = ["crds", "-l", "test=defender-sim"];
    let _clean = Finally(|| {
        try_kubectl(&[&["delete"][..], &kinds, &["--ignore-not-found"]].concat());
    });
    for definition in [kind("news", "New", "v1"), kind("olds", "Old", "v1alpha1")] {
        apply("default", &definition.to_string());
    }
    kubectl(
        &[
            &["wait", "--for=condition=Established", "--timeout=30s"][..],
            &kinds,
        ]
        .concat(),
    );
    let object =
        value!({ "apiVersion": "sim.example.org/v1alpha1", "kind": "Old", "metadata": { "name": "mine" } });
    // Without permission to list the kind, the object cannot be named.
    let ran = while_attacking(Identity::Admin, &space.0, || apply(&space.0, &object.to_string())).assert(6);
    assert!(ran.stderr.contains("it holds old/mine"), "{}", ran.stderr);
    kubectl(&["get", "olds.sim.example.org", "mine", "-n", &space.0]);
}

#[test]
#[ignore = "needs the range: make range"]
fn the_manifests_of_a_dry_run_are_what_a_run_applies() {
    let _shared = shared();
    let space = Space::named("dry-run");
    let dry = sim(&["webshell", "-n", &space.0, "--dry-run=client", "-o", "yaml"]).assert(0);
    assert_eq!(
        try_kubectl(&["get", "namespace", &space.0]).code,
        Some(1),
        "a dry run made something"
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), dry.stdout).unwrap();
    kubectl(&["apply", "-f", file.path().to_str().unwrap()]);
    let n = &space.0;
    kubectl(&[
        "wait",
        "--for=condition=Ready",
        "pod",
        "--all",
        "-n",
        n,
        "--timeout=60s",
    ]);
    kubectl(&[
        "annotate",
        "pod",
        "mdc-simulation-attacker",
        "defender-sim/go=yes",
        "-n",
        n,
    ]);
    kubectl(&[
        "wait",
        "--for=jsonpath={.status.phase}=Succeeded",
        "pod/mdc-simulation-attacker",
        "-n",
        n,
        "--timeout=60s",
    ]);
    let log = kubectl(&["logs", "mdc-simulation-attacker", "-n", n]);
    assert!(
        log.contains(" webshell.whoami 0 ") && log.contains("www-data"),
        "{log}"
    );
    sim(&["cleanup", "--force", "-n", n]).assert(0);
    assert_nothing_left(n);
}

/// Returns the UID and resource version of the namespace and of all of the user's objects in it.
fn identities(namespace: &str) -> String {
    let form = r#"jsonpath={range .items[*]}{.metadata.name} {.metadata.uid} {.metadata.resourceVersion}{"\n"}{end}"#;
    let space = format!("metadata.name={namespace}");
    kubectl(&[
        "get",
        "configmaps,secrets,serviceaccounts",
        "-n",
        namespace,
        "-o",
        form,
    ]) + &kubectl(&["get", "namespaces", "--field-selector", &space, "-o", form])
}
