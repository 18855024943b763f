//! Failures that a real cluster does not produce on demand.
//!
//! The API server fails temporarily or permanently while a run is removed.

use std::process::Command;
use std::sync::Mutex;

use http::Method;
use serde_json::{Value, json as value};

use crate::apiserver::{Answer, ApiServer, Recorded, failure, json};

/// Starts an API server with a pod of a run in namespace `work`, which belongs to another user.
///
/// `fault` may override the response; it receives the number of earlier requests of the same kind.
async fn with_a_pod(fault: impl Fn(&Recorded, usize) -> Option<Answer> + Send + Sync + 'static) -> ApiServer {
    let seen: Mutex<Vec<(Method, String)>> = Mutex::default();
    let gone = Mutex::new(false);
    ApiServer::start(move |request| {
        let key = (request.method.clone(), request.path.clone());
        let mut seen = seen.lock().unwrap();
        let before = seen.iter().filter(|other| **other == key).count();
        seen.push(key);
        if let Some(answer) = fault(request, before) {
            return answer;
        }
        let object = |name: &str, labels: Value| {
            let metadata = value!({ "name": name, "namespace": "work", "uid": "1", "labels": labels });
            value!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata })
        };
        let mut gone = gone.lock().unwrap();
        match request.path.split('?').next().unwrap() {
            "/api/v1/namespaces/work" => json(200, &object("work", value!({}))),
            "/api/v1/namespaces/work/pods/mdc-simulation-victim" if request.method == Method::DELETE => {
                *gone = true;
                json(200, &value!({ "kind": "Status", "status": "Success" }))
            }
            path if path.ends_with("/mdc-simulation") || path.contains("/selfsubjectreviews") => {
                failure(404, "NotFound", "not found")
            }
            "/api/v1/namespaces/work/pods/mdc-simulation-victim" if *gone => {
                failure(404, "NotFound", "not found")
            }
            path => {
                let ours = value!({ "defender-sim/run": "abcdefgh" });
                let pods = path.ends_with("/pods") && !*gone;
                let items = Vec::from_iter(pods.then(|| object("mdc-simulation-victim", ours)));
                json(
                    200,
                    &value!({ "metadata": { "resourceVersion": "1" }, "items": items }),
                )
            }
        }
    })
    .await
}

/// Runs `cleanup` for that namespace; returns its exit code and its result.
fn cleanup(server: &ApiServer) -> (Option<i32>, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_kubectl-defender_sim"))
        .args([
            "cleanup",
            "--yes",
            "-n",
            "work",
            "-o",
            "json",
            "--server",
            &server.url(),
        ])
        .env_clear()
        .env("HOME", "/nonexistent")
        .output()
        .unwrap();
    let answer = serde_json::from_slice(&output.stdout);
    (
        output.status.code(),
        answer.unwrap_or_else(|_| panic!("{output:?}")),
    )
}

fn busy() -> Answer {
    failure(503, "ServiceUnavailable", "not now")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_outlasts_an_api_server_that_is_not_there_for_a_while() {
    for part in [
        "/namespaces/work?",
        "/namespaces/work",
        "/pods?",
        "/pods/mdc-simulation-victim",
    ] {
        let server =
            with_a_pod(move |request, before| (before == 0 && request.path.contains(part)).then(busy)).await;
        let (code, answer) = cleanup(&server);
        assert_eq!(code, Some(0), "{part}: {answer:#}");
        assert_eq!(
            answer["removed"],
            value!(["work: pod/mdc-simulation-victim"]),
            "{part}"
        );
        assert_eq!(answer["problems"], value!([]), "{part}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_called_removed_that_was_not_seen_to_go() {
    // The namespace cannot be read, so whether it had to be removed is unknown.
    let refused = || failure(403, "Forbidden", "you may not");
    let server = with_a_pod(move |request, _| {
        let space = request.path.split('?').next() == Some("/api/v1/namespaces/work");
        space.then(refused)
    })
    .await;
    let (code, answer) = cleanup(&server);
    assert_eq!(code, Some(6), "{answer:#}");
    assert_eq!(
        (&answer["verified"], &answer["removed"]),
        (&value!(false), &value!([]))
    );

    // The pod can be read but not deleted.
    let server = with_a_pod(move |request, _| (request.method == Method::DELETE).then(refused)).await;
    let (code, answer) = cleanup(&server);
    assert_eq!(code, Some(6), "{answer:#}");
    assert_eq!(answer["removed"], value!([]));
    assert_eq!(answer["left"], value!(["work: pod/mdc-simulation-victim"]));
}
