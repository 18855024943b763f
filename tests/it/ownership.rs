//! Which objects are deleted and which are kept.
//!
//! Uses real objects, and a fake of API servers that a real cluster does not offer.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json as value};

use crate::apiserver::{Answer, ApiServer, Recorded, failure, json};
use crate::cluster::{hold, while_attacking};
use crate::range::{
    Identity, Running, Space, Webhook, assert_nothing_left, kubectl, shared, sim, sim_unasked, text,
};

/// The namespace of run `abcdefgh` with its victim, on an API server that also serves the given kinds.
#[derive(Clone, Default)]
struct World {
    /// Metadata of the objects of a kind, by group, version, plural and kind.
    kinds: Vec<(&'static str, &'static str, &'static str, &'static str, Listing)>,
    /// Whether the API server is older than aggregated discovery (1.26).
    legacy: bool,
    /// Groups for which aggregated discovery has no current document.
    stale: Vec<&'static str>,
    /// What a `ResourceQuota` counts, by key; the API server rejects a quota if this is empty.
    counts: BTreeMap<&'static str, &'static str>,
}

#[derive(Clone)]
enum Listing {
    Objects(Vec<Value>),
    Forbidden,
    Unavailable,
}

const POD: &str = "pod-uid";

/// Returns the metadata of an object, owned by a pod if `owner` is given.
fn metadata(name: &str, owner: Option<&str>) -> Value {
    let owners = owner.map(
        |uid| value!([{ "apiVersion": "v1", "kind": "Pod", "name": "mdc-simulation-victim", "uid": uid }]),
    );
    value!({ "name": name, "namespace": "sim", "uid": format!("{name}-uid"), "ownerReferences": owners })
}

impl World {
    fn with(
        group: &'static str,
        version: &'static str,
        plural: &'static str,
        kind: &'static str,
        listing: Listing,
    ) -> Self {
        let root = Listing::Objects(vec![metadata("kube-root-ca.crt", None)]);
        let default = Listing::Objects(vec![metadata("default", None)]);
        Self {
            kinds: vec![
                (group, version, plural, kind, listing),
                ("", "v1", "configmaps", "ConfigMap", root),
                ("", "v1", "serviceaccounts", "ServiceAccount", default),
            ],
            ..Self::default()
        }
    }

    async fn start(self) -> ApiServer {
        let deleted: Mutex<Vec<String>> = Mutex::default();
        ApiServer::start(move |request| {
            let path = request.path.split('?').next().unwrap().to_owned();
            let mut deleted = deleted.lock().unwrap();
            if request.method == Method::DELETE {
                deleted.push(path);
                return json(200, &value!({ "kind": "Status", "status": "Success" }));
            }
            if request.method == Method::POST {
                let created = format!("{path}/mdc-simulation-count-abcdefgh");
                deleted.retain(|path| *path != created);
            }
            if deleted.contains(&path) {
                return failure(404, "NotFound", "not found");
            }
            self.answer(request, &path, &deleted)
        })
        .await
    }

    fn answer(&self, request: &Recorded, path: &str, deleted: &[String]) -> Answer {
        let ours = value!({ "defender-sim/run": "abcdefgh" });
        let partial = |metadata: Value| value!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata });
        let list = |items: Vec<Value>| {
            let items: Vec<Value> = items.into_iter().map(partial).collect();
            json(
                200,
                &value!({ "metadata": { "resourceVersion": "1" }, "items": items }),
            )
        };
        let victim = "/api/v1/namespaces/sim/pods/mdc-simulation-victim";
        let pod = value!({ "name": "mdc-simulation-victim", "namespace": "sim", "uid": POD, "labels": ours.clone() });
        match path {
            "/api" | "/apis" => self.discovery(request, path),
            "/api/v1" => self.resources("", "v1"),
            "/api/v1/namespaces/sim" => json(
                200,
                &partial(value!({ "name": "sim", "uid": "space-uid", "labels": ours })),
            ),
            "/api/v1/namespaces/sim/pods" if deleted.iter().any(|path| path == victim) => list(vec![]),
            "/api/v1/namespaces/sim/pods" => list(vec![pod]),
            path if path == victim => json(200, &partial(pod)),
            "/api/v1/namespaces/sim/resourcequotas" if request.method == Method::POST => {
                if self.counts.is_empty() {
                    return failure(403, "Forbidden", "you may not");
                }
                json(201, &serde_json::from_slice(&request.body).unwrap())
            }
            "/api/v1/namespaces/sim/resourcequotas/mdc-simulation-count-abcdefgh" => json(
                200,
                &value!({ "metadata": {}, "status": { "used": self.counts } }),
            ),
            path => {
                if let Some(group) = path
                    .strip_prefix("/apis/")
                    .filter(|rest| rest.matches('/').count() == 1)
                {
                    let (group, version) = group.split_once('/').unwrap();
                    return self.resources(group, version);
                }
                let found = self.kinds.iter().find(|(group, version, plural, ..)| {
                    let root = if group.is_empty() {
                        format!("/api/{version}")
                    } else {
                        format!("/apis/{group}/{version}")
                    };
                    path == format!("{root}/namespaces/sim/{plural}")
                });
                match found {
                    _ if request.path.contains("labelSelector") => list(vec![]),
                    Some((.., Listing::Objects(objects))) => list(objects.clone()),
                    Some((.., Listing::Forbidden)) => failure(403, "Forbidden", "you may not"),
                    Some((.., Listing::Unavailable)) => failure(503, "ServiceUnavailable", "not now"),
                    None => failure(404, "NotFound", "not found"),
                }
            }
        }
    }

    fn discovery(&self, request: &Recorded, path: &str) -> Answer {
        let aggregated = request.header("accept").contains("APIGroupDiscoveryList");
        let core = path == "/api";
        if self.legacy || !aggregated {
            let groups =
                self.kinds
                    .iter()
                    .filter(|(group, ..)| !group.is_empty())
                    .map(|(group, version, ..)| {
                        let version =
                            value!({ "groupVersion": format!("{group}/{version}"), "version": version });
                        value!({ "name": group, "versions": [version], "preferredVersion": version })
                    });
            return json(
                200,
                &if core {
                    value!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] })
                } else {
                    value!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups.collect::<Vec<_>>() })
                },
            );
        }
        let mut groups: BTreeMap<(&str, &str), Vec<Value>> = BTreeMap::new();
        for (group, version, plural, kind, _) in
            self.kinds.iter().filter(|(group, ..)| group.is_empty() == core)
        {
            groups.entry((group, version)).or_default().push(value!({
                "resource": plural, "scope": "Namespaced", "verbs": ["create", "delete", "get", "list", "watch"],
                "responseKind": { "group": group, "version": version, "kind": kind },
            }));
        }
        if !core && groups.is_empty() {
            groups.entry(("apps", "v1")).or_default();
        }
        let items: Vec<Value> = groups
            .into_iter()
            .map(|((group, version), resources)| {
                let freshness = if self.stale.contains(&group) {
                    "Stale"
                } else {
                    "Current"
                };
                let version = value!({ "version": version, "resources": resources, "freshness": freshness });
                value!({ "metadata": { "name": group }, "versions": [version] })
            })
            .collect();
        json(
            200,
            &value!({ "kind": "APIGroupDiscoveryList", "metadata": {}, "items": items }),
        )
    }

    fn resources(&self, group: &str, version: &str) -> Answer {
        let resources = self
            .kinds
            .iter()
            .filter(|(of, of_version, ..)| *of == group && *of_version == version);
        let resources: Vec<Value> = resources
            .map(|(_, _, plural, kind, _)| {
                let verbs = ["create", "delete", "get", "list", "watch"];
                value!({ "name": plural, "singularName": "", "namespaced": true, "kind": kind, "verbs": verbs })
            })
            .collect();
        let version = if group.is_empty() {
            version.to_owned()
        } else {
            format!("{group}/{version}")
        };
        json(
            200,
            &value!({ "kind": "APIResourceList", "groupVersion": version, "resources": resources }),
        )
    }
}

/// Runs `cleanup`; returns its exit code, its result, and whether the namespace was deleted.
fn cleanup(server: &ApiServer) -> (Option<i32>, Value, bool) {
    let output = Command::new(env!("CARGO_BIN_EXE_kubectl-defender_sim"))
        .args([
            "cleanup",
            "--yes",
            "-n",
            "sim",
            "-o",
            "json",
            "--server",
            &server.url(),
        ])
        .env_clear()
        .env("HOME", "/nonexistent")
        .output()
        .unwrap();
    let answer = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let deleted = server.requests().iter().any(|request| {
        request.method == Method::DELETE && request.path.starts_with("/api/v1/namespaces/sim?")
    });
    (output.status.code(), answer, deleted)
}

#[track_caller]
fn assert_kept(server: &ApiServer, reason: &str) {
    let (code, answer, deleted) = cleanup(server);
    assert!(!deleted, "the namespace was deleted: {answer:#}");
    assert_eq!(code, Some(6), "{answer:#}");
    assert!(
        answer["problems"].to_string().contains(reason),
        "no {reason:?} in {answer:#}"
    );
}

#[track_caller]
fn assert_removed(server: &ApiServer) {
    let (code, answer, deleted) = cleanup(server);
    assert!(deleted, "the namespace was kept: {answer:#}");
    assert_eq!(code, Some(0), "{answer:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cleanup_keeps_namespace_with_foreign_object_on_servers_without_aggregated_discovery() {
    let foreign = || Listing::Objects(vec![metadata("precious", None)]);
    for (group, version, plural, kind) in [
        ("", "v1", "configmaps", "ConfigMap"),
        ("example.org", "v1alpha1", "things", "Thing"),
    ] {
        for legacy in [true, false] {
            let mut world = World::with(group, version, plural, kind, foreign());
            world.kinds.truncate(1);
            world.legacy = legacy;
            assert_kept(
                &world.start().await,
                &format!("it holds {}/precious", kind.to_lowercase()),
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cleanup_deletes_empty_namespace_on_servers_without_aggregated_discovery() {
    let mut world = World::with("example.org", "v1", "things", "Thing", Listing::Objects(vec![]));
    world.legacy = true;
    assert_removed(&world.start().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn cleanup_deletes_namespace_with_objects_that_our_pods_own() {
    for (group, version, plural, kind, object) in [
        (
            "wgpolicyk8s.io",
            "v1alpha2",
            "policyreports",
            "PolicyReport",
            metadata("22222222-2222", Some(POD)),
        ),
        (
            "aquasecurity.github.io",
            "v1alpha1",
            "configauditreports",
            "ConfigAuditReport",
            metadata("pod-x", Some(POD)),
        ),
        (
            "cilium.io",
            "v2",
            "ciliumendpoints",
            "CiliumEndpoint",
            metadata("mdc-simulation-victim", Some(POD)),
        ),
        (
            "projectcalico.org",
            "v3",
            "networkpolicies",
            "NetworkPolicy",
            metadata("knp.default.x", None),
        ),
    ] {
        let world = World::with(group, version, plural, kind, Listing::Objects(vec![object]));
        assert_removed(&world.start().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cleanup_keeps_namespace_with_objects_that_foreign_pods_own() {
    let report = metadata("report", Some("another-pod"));
    let world = World::with(
        "wgpolicyk8s.io",
        "v1alpha2",
        "policyreports",
        "PolicyReport",
        Listing::Objects(vec![report]),
    );
    assert_kept(&world.start().await, "it holds policyreport/report");
}

#[tokio::test(flavor = "multi_thread")]
async fn cleanup_keeps_namespace_when_an_api_is_broken() {
    let mut world = World::with("example.org", "v1", "things", "Thing", Listing::Objects(vec![]));
    world.stale = vec!["example.org"];
    assert_kept(&world.start().await, "example.org/v1 is not available");
    let world = World::with("example.org", "v1", "things", "Thing", Listing::Unavailable);
    assert_kept(&world.start().await, "failed to list things.example.org");
}

#[tokio::test(flavor = "multi_thread")]
async fn cleanup_counts_objects_of_kinds_that_may_not_be_listed() {
    let forbidden = |counts: &[(&'static str, &'static str)]| {
        let mut world = World::with("example.org", "v1", "things", "Thing", Listing::Forbidden);
        world.counts = counts.iter().copied().collect();
        world
    };
    let key = "count/things.example.org";
    assert_removed(&forbidden(&[(key, "0")]).start().await);
    assert_kept(
        &forbidden(&[(key, "2")]).start().await,
        "it holds 2 things.example.org",
    );
    assert_kept(
        &forbidden(&[("count/others", "0")]).start().await,
        "whether it holds any things.example.org",
    );
    assert_kept(&forbidden(&[]).start().await, "you may not");
}

#[tokio::test(flavor = "multi_thread")]
async fn cleanup_of_unknown_run_fails() {
    let server = World::with("", "v1", "secrets", "Secret", Listing::Objects(vec![]))
        .start()
        .await;
    let run = |id: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-defender_sim"));
        command.args([
            "cleanup",
            "--yes",
            "-n",
            "sim",
            "--server",
            &server.url(),
            "--run",
            id,
        ]);
        command.env_clear().env("HOME", "/nonexistent").output().unwrap()
    };
    let output = run("hgfedcba");
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("run hgfedcba has no objects in namespace sim"),
        "{output:?}"
    );
    assert_eq!(run("nonesuch-id").status.code(), Some(2), "not a run ID");
    assert!(
        server
            .requests()
            .iter()
            .all(|request| request.method != Method::DELETE)
    );
}

// --- on real objects

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
fn only_a_second_interrupt_ends_a_run_at_once() {
    let _shared = shared();
    for (name, signals, code) in [
        ("hup", &["HUP", "HUP", "HUP"][..], 129),
        ("term", &["TERM", "TERM"], 143),
        ("int-term", &["INT", "TERM"], 130),
    ] {
        let space = Space::named(&format!("signals-{name}"));
        let mut running = Running::start(&["recon", "-n", &space.0]);
        running.await_line("attacking");
        for signal in signals {
            running.signal(signal);
            std::thread::sleep(Duration::from_millis(300));
        }
        let ran = running.end().assert(code);
        assert!(ran.stdout.contains("nothing left"), "{name}: {ran:#?}");
        assert_nothing_left(&space.0);
    }
}

#[test]
#[ignore = "needs the range: make range"]
fn run_ended_at_once_keeps_its_record() {
    let _shared = shared();
    let space = Space::named("ended");
    let mut running = Running::start(&["recon", "-n", &space.0]);
    let run = running.run();
    running.await_line("attacking");
    running.signal("INT");
    running.await_line("stopping");
    std::thread::sleep(Duration::from_millis(300));
    running.signal("INT");
    let ran = running.end().assert(130);
    assert!(
        ran.stderr
            .contains(&format!("cleanup --run {run} -n {}", space.0)),
        "{ran:#?}"
    );
    let report = sim(&["report", &run]).assert(0);
    assert!(report.stderr.contains("ended before the run did"), "{report:#?}");
    sim(&["cleanup", "--run", &run, "-n", &space.0]).assert(0);
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn run_started_with_hangup_ignored_survives_it() {
    let _shared = shared();
    let space = Space::named("nohup");
    let mut running = Running::start_under(&["nohup"], &["webshell", "-n", &space.0]);
    running.await_line("waiting for pod/");
    running.signal("HUP");
    running.end().assert(0);
    assert_nothing_left(&space.0);
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

#[test]
#[ignore = "needs the range: make range"]
fn times_of_a_run_are_the_cluster_s_whatever_the_clock_of_the_client() {
    let _shared = shared();
    let space = Space::named("clock");
    let arguments = ["webshell", "-n", &space.0, "-o", "json"];
    let running = Running::start_under(&["faketime", "-f", "+20m"], &arguments);
    let ran = running.end().assert(0);
    let json = ran.json();
    let offset = json["clockOffsetSeconds"].as_i64().unwrap();
    assert!((-1210..-1190).contains(&offset), "{offset}");
    assert!(ran.stderr.contains("this machine's clock is 1"), "{ran:#?}");
    let step = &json["scenarios"][0]["steps"][0];
    for time in [&json["started"], &json["ended"], &step["begun"]] {
        let time: jiff::Timestamp = text(time).parse().unwrap();
        let age = jiff::Timestamp::now().duration_since(time).as_secs();
        assert!((-10..120).contains(&age), "{time}");
    }
    assert_nothing_left(&space.0);
}
