//! Verification of alerts from files, from a fake Azure, and on a real cluster.

pub mod azure;
mod files;
mod range;

use std::process::{Command, Output, Stdio};

use defender_sim::result::RunResult;
use serde_json::{Value, json};

use crate::results;

/// A machine with its own records and files.
pub struct Machine(pub tempfile::TempDir);

impl Machine {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn file(&self, name: &str, content: &Value) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, content.to_string()).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-defender_sim"));
        command.args(arguments).env_clear().env("HOME", "/nonexistent");
        command.env("XDG_STATE_HOME", self.0.path()).stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    #[track_caller]
    pub fn printed(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        String::from_utf8_lossy(&output.stdout).into_owned() + &stderr
    }

    #[track_caller]
    pub fn json(&self, arguments: &[&str], code: i32) -> Value {
        let output = self.run(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Saves a record like a run does.
    pub fn record(&self, run: &RunResult) {
        let folder = self.0.path().join("defender-sim/runs");
        std::fs::create_dir_all(&folder).unwrap();
        let text = serde_json::to_string(run).unwrap();
        std::fs::write(folder.join(format!("{}.json", run.run)), text).unwrap();
    }
}

/// Returns a recon run of 2026-05-04, 10:00 to 10:01, with every step proved.
pub fn recon() -> RunResult {
    let mut run = results::mixed();
    run.run = "abcdefgh".into();
    run.namespace = "mdc-simulation".into();
    run.started = "2026-05-04T10:00:00Z".parse().unwrap();
    run.ended = "2026-05-04T10:01:00Z".parse().unwrap();
    let scenario = defender_sim::scenario::catalogue::find("recon").unwrap();
    let steps = scenario.steps.iter().map(|step| {
        json!({"id": step.id, "title": step.title, "techniques": [], "started": "2026-05-04T10:00:10Z", "outcome": "proved"})
    });
    let alerts = defender_sim::result::expectations(&scenario.alerts);
    run.scenarios = serde_json::from_value(json!([{
        "id": "recon", "title": "t", "tactics": [], "steps": steps.collect::<Vec<_>>(), "alerts": alerts,
    }]))
    .unwrap();
    run
}

pub fn alert(name: &str) -> Value {
    json!({"id": format!("/alerts/{name}"), "properties": {
        "alertDisplayName": name, "severity": "Medium", "status": "Active",
        "startTimeUtc": "2026-05-04T10:00:30Z", "endTimeUtc": "2026-05-04T10:00:40Z",
        "timeGeneratedUtc": "2026-05-04T10:20:10Z", "alertUri": "https://portal.example/1",
        "entities": [{"type": "K8s-namespace", "name": "mdc-simulation"}, {"type": "K8s-pod", "name": "mdc-simulation-victim"}],
    }})
}

/// Returns an alert in another namespace: a list without any alert is rejected.
pub fn unrelated() -> Value {
    let mut other = alert("Suspicious PHP execution detected");
    other["properties"]["entities"] = json!([{"type": "K8s-namespace", "name": "shop"}]);
    other
}

pub const RECON: [&str; 4] = [
    "Possible Web Shell activity detected",
    "Suspicious Kubernetes service account operation detected",
    "Network Scanning Tool Detected (Preview)",
    "Suspicious access to workload identity token or service account token detected",
];

fn verdicts(result: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let alerts = result["verification"]["alerts"].as_array().unwrap().iter();
    alerts
        .map(|alert| (text(&alert["id"]), text(&alert["verdict"])))
        .collect()
}
