//! Against a stand-in for API servers that a real cluster does not offer.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;

use http::Method;
use serde_json::{Value, json as value};

use crate::apiserver::{Answer, ApiServer, Recorded, failure, json};

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
