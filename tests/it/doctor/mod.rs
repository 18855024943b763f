//! Every check of `doctor` with every result, on a real cluster and on a fake one.
//!
//! The fake cluster gives responses that a real one does not. Checks that depend only on the data read are tested next
//! to their implementation.

mod azure;
mod fake;
mod images;
mod range;
pub mod sensors;

use std::process::Command;

use serde_json::{Value, json as value};

use crate::apiserver::{Answer, ApiServer, Recorded, failure, json};
use crate::contract::assert_keeps_to;
use crate::range::{Ran, kubectl, sim, text};

const TOKEN: &str = "a-token-that-nobody-may-see";

/// The IDs of the checks, in order.
const IDS: [&str; 20] = [
    "reachable",
    "identity",
    "rights",
    "namespace",
    "admission",
    "quota",
    "nodes",
    "images",
    "network-policies",
    "active-run",
    "leftovers",
    "sensor",
    "sensor-ready",
    "sensor-features",
    "azure-cluster",
    "azure-plan",
    "azure-profile",
    "azure-exclusions",
    "azure-alerts",
    "azure-rules",
];

/// The result of `doctor` as JSON, validated against its schema.
struct Doctor(Value);

impl Doctor {
    fn of(json: Value) -> Self {
        assert_keeps_to("doctor", &json);
        Self(json)
    }

    /// Runs `doctor` for a scenario in a namespace of the real cluster.
    fn run(scenario: &str, namespace: &str, flags: &[&str]) -> Self {
        let arguments = [&["doctor", scenario, "-n", namespace, "-o", "json"], flags].concat();
        let ran = sim(&arguments);
        let result = Self::of(ran.json());
        assert_eq!(
            ran.code.map(Value::from).as_ref(),
            Some(&result.0["exitCode"]),
            "{ran:#?}"
        );
        result
    }

    fn check(&self, id: &str) -> &Value {
        let checks = self.0["checks"].as_array().unwrap();
        checks.iter().find(|check| check["id"] == id).unwrap()
    }

    /// Asserts the status of a check, and a part of its message or advice.
    #[track_caller]
    fn assert(&self, id: &str, status: &str, part: &str) {
        let check = self.check(id);
        let found = format!("{} {}", text(&check["seen"]), text(&check["advice"]));
        assert_eq!(check["status"], status, "{check:#}");
        assert!(found.contains(part), "no {part:?} in {check:#}");
    }
}

fn apply(manifest: &Value) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), manifest.to_string()).unwrap();
    kubectl(&["apply", "-f", file.path().to_str().unwrap()]);
}

/// Starts a fake cluster with two nodes and a sensor on one; `change` may override responses.
pub async fn fake_cluster(change: impl Fn(&Recorded) -> Option<Answer> + Send + Sync + 'static) -> ApiServer {
    ApiServer::start(move |request| change(request).unwrap_or_else(|| usual(request))).await
}

fn usual(request: &Recorded) -> Answer {
    let path = request.path.split('?').next().unwrap_or_default();
    let node = |name: &str| {
        value!({
            "metadata": { "name": name, "labels": { "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64" } },
            "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
        })
    };
    let list = |items: &[Value]| json(200, &value!({ "metadata": {}, "items": items }));
    match path {
        "/version" => json(
            200,
            &value!({
                "major": "1", "minor": "33", "gitVersion": "v1.33.1", "gitCommit": "", "gitTreeState": "",
                "buildDate": "", "goVersion": "", "compiler": "", "platform": "",
            }),
        ),
        "/apis" => json(
            200,
            &value!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": [{
                "name": "cilium.io", "versions": [{ "groupVersion": "cilium.io/v2", "version": "v2" }],
            }] }),
        ),
        // In two pages.
        "/api/v1/nodes" if request.path.contains("continue=next") => list(&[node("two")]),
        "/api/v1/nodes" => json(
            200,
            &value!({ "metadata": { "continue": "next" }, "items": [node("one")] }),
        ),
        "/apis/apps/v1/daemonsets" => list(&[value!({
            "metadata": { "name": "microsoft-defender-collectors-ds", "namespace": "mdc" },
            "spec": {
                "selector": { "matchLabels": { "a": "b" } },
                "template": { "spec": { "containers": [{ "name": "c" }] } },
            },
            "status": { "currentNumberScheduled": 1, "desiredNumberScheduled": 2, "numberMisscheduled": 0, "numberReady": 1 },
        })]),
        "/api/v1/namespaces/mdc/pods" => list(&[value!({
            "metadata": { "name": "p", "ownerReferences": [{ "kind": "DaemonSet", "name": "microsoft-defender-collectors-ds" }] },
            "spec": { "nodeName": "one" },
            "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
        })]),
        path if path.starts_with("/apis/authorization") => {
            let mut review: Value = serde_json::from_slice(&request.body).unwrap();
            review["status"] = value!({ "allowed": true });
            json(201, &review)
        }
        path if path.starts_with("/apis/authentication") => failure(404, "NotFound", "no such kind"),
        "/api/v1/namespaces/mdc-simulation" => json(
            200,
            &value!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                "metadata": { "name": "mdc-simulation", "uid": "1" },
            }),
        ),
        // The objects of a run are admitted.
        _ if request.method == "POST" => json(201, &serde_json::from_slice(&request.body).unwrap()),
        path if path.contains("/mdc-simulation") && !path.ends_with('s') || path.ends_with("azure-arc") => {
            failure(404, "NotFound", "not found")
        }
        _ => list(&[]),
    }
}

/// Prepares `doctor` for a fake cluster. All other hosts are behind a proxy that does not exist.
fn command(server: &ApiServer) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-defender_sim"));
    command.args(["doctor", "webshell", "-o", "json", "--server", &server.url()]);
    command
        .env_clear()
        .envs([("HOME", "/nonexistent"), ("HTTPS_PROXY", "http://127.0.0.1:9")]);
    command
}

/// Runs `doctor` for a fake cluster.
fn doctor(server: &ApiServer, arguments: &[&str]) -> Doctor {
    run(command(server).args(arguments))
}

fn run(command: &mut Command) -> Doctor {
    let output = command.output().unwrap();
    let ran = Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    };
    Doctor::of(ran.json())
}

#[test]
fn doctor_takes_scenarios_that_there_are() {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-defender_sim"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", "/nonexistent")
            .output()
            .unwrap()
    };
    let output = run(&["doctor", "no-such-scenario"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("possible values: recon"));
    let output = run(&["doctor", "recon", "recon"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("recon is named twice"));
    assert_eq!(
        run(&["doctor"]).status.code(),
        Some(3),
        "no cluster is configured"
    );
    let help = String::from_utf8(run(&["doctor", "--help"]).stdout).unwrap();
    for line in help.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}
