//! Checks on a fake cluster.

use serde_json::{Value, json as value};

use super::{IDS, doctor, fake_cluster, usual};
use crate::apiserver::{Recorded, failure, json};

#[tokio::test(flavor = "multi_thread")]
async fn node_without_the_sensor_is_named() {
    let server = fake_cluster(|_| None).await;
    let result = doctor(&server, &[]);
    result.assert("nodes", "ok", "2 of 2 nodes can take the pods");
    result.assert(
        "sensor-ready",
        "warning",
        "1 of 2 pods ready; none on 1 of 2 nodes that take the pods of a run: two",
    );
    let government = doctor(&server, &["ti-domain", "--azure-cloud=AzureUSGovernment"]);
    government.assert("sensor-features", "warning", "the cluster is in Azure Government");
    result.assert("identity", "unknown", "does not report it");
    result.assert("namespace", "failed", "to use it unchanged: -n mdc-simulation");
    result.assert("admission", "ok", "all 10 objects admitted");
    result.assert("network-policies", "unknown", "those of Cilium are not read");
    result.assert("leftovers", "ok", "none");
    let asked = server.requests();
    let limited = |path: &str| {
        asked
            .iter()
            .any(|request| request.path.starts_with(path) && request.path.contains("limit="))
    };
    for path in [
        "/api/v1/nodes?",
        "/api/v1/namespaces/mdc/pods?",
        "/api/v1/pods?",
        "/api/v1/secrets?",
    ] {
        assert!(limited(path), "{path} is not listed in pages");
    }
    let pods = asked
        .iter()
        .find(|request| request.path.starts_with("/api/v1/namespaces/mdc/pods?"))
        .unwrap();
    assert!(pods.path.contains("labelSelector=a%3Db"), "{}", pods.path);
    let changes = asked
        .iter()
        .filter(|request| request.method != "GET" && !request.path.starts_with("/apis/auth"));
    for change in changes {
        assert!(
            change.path.contains("dryRun=All"),
            "{} {}",
            change.method,
            change.path
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_and_sensors_that_cannot_be_listed_are_unknown() {
    let forbidden = |request: &Recorded, path: &str| {
        request
            .path
            .starts_with(path)
            .then(|| failure(403, "Forbidden", "you may not"))
    };
    let server = fake_cluster(move |request| forbidden(request, "/api/v1/nodes")).await;
    let result = doctor(&server, &[]);
    result.assert("nodes", "unknown", "failed to list nodes in all namespaces");
    result.assert("sensor", "ok", "Helm chart, version unknown");
    result.assert(
        "sensor-ready",
        "unknown",
        "1 of 2 pods ready; on which nodes: failed to list nodes",
    );

    // Only the documented namespaces of the sensor can be listed.
    let server = fake_cluster(move |request| {
        if request
            .path
            .starts_with("/apis/apps/v1/namespaces/mdc/daemonsets")
        {
            let mut all = request.clone();
            all.path = "/apis/apps/v1/daemonsets".into();
            return Some(usual(&all));
        }
        forbidden(request, "/apis/apps/v1/daemonsets")
    })
    .await;
    doctor(&server, &[]).assert("sensor", "ok", "Helm chart");
    // A sensor may be in a namespace that cannot be listed.
    let server = fake_cluster(move |request| forbidden(request, "/apis/apps/v1/daemonsets")).await;
    doctor(&server, &[]).assert("sensor", "unknown", "failed to list daemonsets in all namespaces");

    // A namespace that does not exist and may not be created.
    let server = fake_cluster(|request| {
        let body = String::from_utf8_lossy(&request.body);
        let make = body.contains("\"namespaces\"") && body.contains("\"create\"");
        if request.path.starts_with("/apis/authorization") && make {
            let mut review: Value = serde_json::from_slice(&request.body).unwrap();
            review["status"] = value!({ "allowed": false });
            return Some(json(201, &review));
        }
        let absent = request.path == "/api/v1/namespaces/mdc-simulation";
        absent.then(|| failure(404, "NotFound", "not found"))
    })
    .await;
    let result = doctor(&server, &[]);
    result.assert(
        "rights",
        "failed",
        "1 right missing in namespace mdc-simulation: namespaces (create)",
    );
    result.assert("namespace", "ok", "a run creates and deletes it");

    // A webhook that does not support dry runs.
    let server = fake_cluster(|request| {
        let pod = request.method == "POST" && request.path.contains("/pods?");
        pod.then(|| {
            failure(
                400,
                "BadRequest",
                "admission webhook \"w\" does not support dry run",
            )
        })
    })
    .await;
    doctor(&server, &[]).assert(
        "admission",
        "unknown",
        "pod/mdc-simulation-victim: admission webhook",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_cluster_is_asked_nothing_else() {
    let server = fake_cluster(|request| {
        (request.path == "/version").then(|| failure(503, "ServiceUnavailable", "not now"))
    })
    .await;
    let result = doctor(&server, &[]);
    result.assert("reachable", "failed", "not now");
    for id in &IDS[1..] {
        result.assert(id, "unknown", "the cluster did not answer");
    }
    assert_eq!(result.0["exitCode"], 3);
    assert!(server.requests().iter().all(|request| request.path == "/version"));

    let server = fake_cluster(|request| {
        (request.path != "/version").then(|| failure(401, "Unauthorized", "Unauthorized"))
    })
    .await;
    let result = doctor(&server, &[]);
    result.assert("reachable", "ok", "v1.33.1");
    result.assert("identity", "failed", "kubectl auth whoami");
    result.assert("rights", "unknown", "failed to check permissions");
    result.assert("admission", "unknown", "failed to ");
}
