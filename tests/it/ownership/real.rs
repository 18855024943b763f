//! On real objects.

use serde_json::{Value, json as value};

use crate::cluster::{hold, while_attacking};
use crate::range::{
    Identity, Running, Space, Webhook, assert_nothing_left, kubectl, shared, sim, sim_unasked, text,
};

fn apply(object: &Value) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), object.to_string()).unwrap();
    kubectl(&["apply", "-f", file.path().to_str().unwrap()]);
}

#[test]
#[ignore = "needs the range: make range"]
fn cleanup_leaves_objects_that_only_carry_our_label() {
    let _shared = shared();
    let (shop, team) = (Space::new("shop", &[]), Space::new("team", &[]));
    let ours = "app.kubernetes.io/managed-by=kubectl-defender-sim";
    kubectl(&["label", "namespace", &team.0, ours]);
    for (kind, name) in [("secret generic", "db-password"), ("configmap", "app-config")] {
        let mut create = vec!["create"];
        create.extend(kind.split(' '));
        kubectl(&[&create[..], &[name, "-n", &shop.0, "--from-literal=a=b"]].concat());
        kubectl(&[
            "label",
            kind.split(' ').next().unwrap(),
            name,
            "-n",
            &shop.0,
            ours,
        ]);
    }
    // With the run label as well, but with names that no run uses.
    kubectl(&[
        "label",
        "secret",
        "db-password",
        "-n",
        &shop.0,
        "defender-sim/run=abcdefgh",
    ]);
    for space in [&shop.0, &team.0] {
        let ran = sim(&["cleanup", "--force", "-n", space]).assert(0);
        assert!(ran.stdout.contains("Nothing to remove."), "{ran:#?}");
    }
    kubectl(&["get", "secret/db-password", "configmap/app-config", "-n", &shop.0]);
    assert_eq!(
        kubectl(&["get", "namespace", &team.0, "-o", "jsonpath={.status.phase}"]),
        "Active"
    );
}

#[test]
#[ignore = "needs the range: make range"]
fn namespace_with_foreign_objects_is_kept_however_they_look() {
    let _shared = shared();
    let label = value!({ "app.kubernetes.io/managed-by": "kubectl-defender-sim" });
    let many: Vec<Value> = (0..700)
        .map(|n| value!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": format!("aaa-{n:03}"), "labels": { "defender-sim/run": "abcdefgh" } } }))
        .collect();
    let cases = [
        (
            "configmap/zzz-precious",
            value!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "zzz-precious", "labels": label } }),
        ),
        (
            "secret/deployer-token-abcde",
            value!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "deployer-token-abcde" }, "stringData": { "a": "b" } }),
        ),
        (
            "persistentvolumeclaim/data",
            value!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "data", "labels": label },
            "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } } }),
        ),
        (
            "configmap/aaa-000",
            value!({ "apiVersion": "v1", "kind": "List", "items": many }),
        ),
        (
            "endpoints/precious",
            value!({ "apiVersion": "v1", "kind": "Endpoints", "metadata": { "name": "precious" } }),
        ),
    ];
    let n = Space::named("foreign").0.clone();
    for (reference, object) in cases {
        let space = Space(n.clone());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), object.to_string()).unwrap();
        let apply = ["apply", "-n", &n, "-f", file.path().to_str().unwrap()];
        let ran = while_attacking(Identity::Admin, &n, || {
            kubectl(&apply);
        })
        .assert(6);
        assert!(
            ran.stderr.contains(&format!("it holds {reference}, which")),
            "{reference}: {ran:#?}"
        );
        kubectl(&["get", reference, "-n", &n]);
        kubectl(&["delete", "namespace", &space.0]);
    }
}

#[test]
#[ignore = "needs the range: make range"]
fn objects_of_kinds_that_the_user_may_not_list_keep_the_namespace() {
    let _shared = shared();
    let space = Space::named("unlisted");
    let claim = value!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "data", "namespace": &space.0 },
        "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } } });
    let ran = while_attacking(Identity::Operator, &space.0, || apply(&claim)).assert(6);
    let reason = "it holds 1 persistentvolumeclaims, which you may not list";
    assert!(ran.stderr.contains(reason), "{ran:#?}");
    kubectl(&["get", "pvc", "data", "-n", &space.0]);
}

#[test]
#[ignore = "needs the range: make range"]
fn run_whose_objects_were_relabelled_is_removed_by_uid() {
    let _shared = shared();
    let space = Space::new("relabelled", &[]);
    let n = &space.0;
    let file = hold();
    let arguments = ["run", "-f", file.path().to_str().unwrap(), "-n", n];
    let strip = || {
        for (kind, name) in [("job", "mdc-simulation"), ("service", "mdc-simulation-victim")] {
            let keys = ["app.kubernetes.io/managed-by-", "defender-sim/run-"];
            kubectl(&[&["label", kind, name, "-n", n][..], &keys].concat());
        }
        let orphan = r#"[{"op":"remove","path":"/metadata/ownerReferences"}]"#;
        kubectl(&[
            "patch",
            "service/mdc-simulation-victim",
            "-n",
            n,
            "--type=json",
            "-p",
            orphan,
        ]);
    };
    let left = || {
        let kinds = "jobs,services,pods,secrets,configmaps,networkpolicies";
        kubectl(&["get", kinds, "-n", n, "-o", "name"])
    };
    let mut running = Running::start(&arguments);
    running.await_line("attacking");
    strip();
    kubectl(&["exec", "mdc-simulation-victim", "-n", n, "--", "touch", "/tmp/go"]);
    let ran = running.end().assert(0);
    assert!(
        ran.stdout.contains("10 objects removed, nothing left."),
        "{ran:#?}"
    );
    assert_eq!(left(), "configmap/kube-root-ca.crt\n", "left behind");

    // The same after SIGKILL: the record in the anchor has the UIDs.
    let mut running = Running::start(&arguments);
    let run = running.run();
    running.await_line("attacking");
    strip();
    running.signal("KILL");
    running.end();
    let ran = sim(&["cleanup", "--run", &run, "-n", n]).assert(0);
    assert!(
        ran.stdout.contains("10 objects removed, nothing left."),
        "{ran:#?}"
    );
    assert_eq!(left(), "configmap/kube-root-ca.crt\n", "left behind");
}

#[test]
#[ignore = "needs the range: make range"]
fn cleanup_asks_before_it_removes_and_leaves_runs_in_progress_alone() {
    let _shared = shared();
    let space = Space::new("asks", &[]);
    let n = &space.0;
    let ran = sim(&["webshell", "-n", n, "--keep", "-o", "json"]).assert(0);
    let run = text(&ran.json()["run"]);
    let pods = || kubectl(&["get", "pods", "-n", n, "-o", "name"]).lines().count();

    let ran = sim(&["cleanup", "-n", n]).assert(0);
    assert!(
        ran.stdout.contains(&format!(
            "skipped  run {run} of tenant in namespace {n}: may be in"
        )),
        "{ran:#?}"
    );
    assert!(
        ran.stderr.contains(&format!("cleanup --run {run} -n {n}")),
        "{ran:#?}"
    );
    let ran = sim_unasked(&["cleanup", "-n", n, "--force"]).assert(3);
    assert!(ran.stderr.contains("not a terminal"), "{ran:#?}");
    let ran = sim_unasked(&["cleanup", "--dry-run", "--run", &run, "-n", n]).assert(0);
    assert!(
        ran.stdout
            .contains(&format!("would remove  {n}: pod/mdc-simulation-victim")),
        "{ran:#?}"
    );
    assert!(
        ran.stdout
            .contains("10 objects would be removed; nothing was changed."),
        "{ran:#?}"
    );
    assert_eq!(pods(), 2);
    let ran = sim(&["cleanup", "--run", "abcdefgh", "-n", n]).assert(3);
    assert!(
        ran.stderr.contains("run abcdefgh has no objects in namespace"),
        "{ran:#?}"
    );
    assert_eq!(pods(), 2);
    sim(&["cleanup", "--run", &run, "-n", n]).assert(0);
    assert_nothing_left(n);
}

#[test]
#[ignore = "needs the range: make range"]
fn cleanup_leaves_runs_of_other_users_alone() {
    let _shared = shared();
    let space = Space::new("others", &[]);
    let n = &space.0;
    sim(&["webshell", "-n", n, "--keep", "--deadline=20s"]).assert(0);
    // The deadline in the record expires, but the objects are kept.
    let orphan = ["delete", "job", "mdc-simulation", "-n", n, "--cascade=orphan"];
    let job = kubectl(&["get", "job", "mdc-simulation", "-n", n, "-o", "json"]);
    let mut job: Value = serde_json::from_str(&job).unwrap();
    kubectl(&orphan);
    let record = text(&job["metadata"]["annotations"]["defender-sim/record"]);
    let mut record: Value = serde_json::from_str(&record).unwrap();
    record["deadline"] = value!("2026-01-01T00:00:00Z");
    let anchor = value!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": { "name": "mdc-simulation", "namespace": n, "labels": job["metadata"]["labels"].take(),
            "annotations": { "defender-sim/record": record.to_string() } },
        "spec": { "parallelism": 0, "template": { "spec": { "restartPolicy": "Never",
            "containers": [{ "name": "none", "image": "none" }] } } },
    });
    apply(&anchor);
    let other = ["--as", "second-operator", "--as-group", "system:masters"];
    let ran = sim(&[&["cleanup", "-n", n][..], &other].concat()).assert(0);
    assert!(ran.stdout.contains("started by another user"), "{ran:#?}");
    kubectl(&["get", "job", "mdc-simulation", "-n", n]);
    sim(&[&["cleanup", "--force", "-n", n][..], &other].concat()).assert(0);
    assert_nothing_left(n);
}

#[test]
#[ignore = "needs the range: make range"]
fn system_namespaces_need_a_flag() {
    let _shared = shared();
    let jobs = || kubectl(&["get", "jobs,pods", "-n", "kube-system", "-o", "name"]);
    let before = jobs();
    for command in ["webshell", "cleanup"] {
        let ran = sim(&[command, "-n", "kube-system"]).assert(3);
        assert!(
            ran.stderr.contains("kube-system is a system namespace"),
            "{ran:#?}"
        );
        assert!(ran.stderr.contains("--allow-system-namespace"), "{ran:#?}");
    }
    assert_eq!(jobs(), before);
    sim(&["webshell", "-n", "kube-system", "--allow-system-namespace"]).assert(0);
    sim(&["cleanup", "-n", "kube-system", "--allow-system-namespace"]).assert(0);
    assert_eq!(jobs(), before);
}

#[test]
#[ignore = "needs the range: make range"]
fn run_survives_a_policy_that_rewrites_the_label_of_the_tool() {
    let _shared = shared();
    let space = Space::new("rewritten", &[]);
    let label = "/metadata/labels/app.kubernetes.io~1managed-by";
    let patch = value!([{ "op": "replace", "path": label, "value": "platform-team" }]);
    let webhook = Webhook::start(&space.0, &patch, &[]);
    let ran = sim(&["webshell", "-n", &space.0]).assert(0);
    assert!(
        ran.stdout.contains("10 objects removed, nothing left."),
        "{ran:#?}"
    );
    assert!(
        ran.stderr
            .contains("app.kubernetes.io/managed-by of job.batch/mdc-simulation is platform-team"),
        "{ran:#?}"
    );
    let left = kubectl(&[
        "get",
        "jobs,services,pods,secrets,networkpolicies",
        "-n",
        &space.0,
        "-o",
        "name",
    ]);
    assert_eq!(left, "");
    // The same after SIGKILL.
    let mut running = Running::start(&["webshell", "-n", &space.0]);
    running.await_line("attacking");
    running.signal("KILL");
    running.end();
    let ran = sim(&["cleanup", "--force", "-n", &space.0]).assert(0);
    assert!(
        ran.stdout.contains("10 objects removed, nothing left."),
        "{ran:#?}"
    );
    drop(webhook);
}

#[test]
#[ignore = "needs the range: make range"]
fn run_is_refused_and_removed_by_uid_when_labels_or_owners_are_taken_away() {
    let _shared = shared();
    let space = Space::new("tampered", &[]);
    for (patch, kinds, reason) in [
        (
            value!([{ "op": "remove", "path": "/metadata/labels" }]),
            &[][..],
            "the label app.kubernetes.io",
        ),
        (
            value!([{ "op": "remove", "path": "/metadata/labels/defender-sim~1run" }]),
            &["Service"],
            "the label defender-sim/run",
        ),
        (
            value!([{ "op": "replace", "path": "/metadata/labels/defender-sim~1run", "value": "abcdefgh" }]),
            &["Pod"],
            "is abcdefgh",
        ),
        (
            value!([{ "op": "remove", "path": "/metadata/ownerReferences" }]),
            &["Secret"],
            "has lost its owner",
        ),
    ] {
        let webhook = Webhook::start(&space.0, &patch, kinds);
        let ran = sim(&["webshell", "-n", &space.0]).assert(3);
        drop(webhook);
        assert!(
            ran.stderr
                .contains("something in the cluster changes the objects of a run"),
            "{ran:#?}"
        );
        assert!(ran.stderr.contains(reason), "{reason}: {ran:#?}");
        assert!(ran.stdout.contains("nothing left"), "{ran:#?}");
        let left = kubectl(&[
            "get",
            "jobs,services,pods,secrets,networkpolicies",
            "-n",
            &space.0,
            "-o",
            "name",
        ]);
        assert_eq!(left, "", "{patch}");
    }
}
