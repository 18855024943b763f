//! Alerts from a fake Azure.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::{Machine, recon, verdicts};
use crate::arm::{FakeArm, FakeCli, Fault, GROUP, SUBSCRIPTION};
use crate::contract::assert_keeps_to;

/// Creates a run that has just ended, and a fake Azure with its alerts.
async fn just_ended() -> (Machine, FakeAzure) {
    let machine = Machine::new();
    let mut run = recon();
    run.ended = jiff::Timestamp::now();
    run.started = run.ended - jiff::SignedDuration::from_secs(30);
    machine.record(&run);
    let watched = FakeAzure::new(run.run, machine.0.path()).await;
    (machine, watched)
}

#[tokio::test(flavor = "multi_thread")]
async fn permission_lost_during_the_wait_fails() {
    let (_machine, watched) = just_ended().await;
    let mut waiting = watched.verify(&["--interval=1s", "--wait=5m"]).spawn().unwrap();
    let mut lines = BufReader::new(waiting.stderr.take().unwrap()).lines();
    let first = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await;
    let first = first.unwrap().unwrap().unwrap();
    assert!(first.contains("waiting for 4"), "{first}");
    watched.azure.with(|state| state.forbidden = true);
    let output = tokio::time::timeout(Duration::from_secs(60), waiting.wait_with_output()).await;
    let output = output.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(5));
    // The last verdicts are reported.
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(verdicts(&result).iter().all(|(_, verdict)| verdict == "waiting"));
    let mut printed = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        printed.push_str(&line);
    }
    assert!(printed.contains("Microsoft.Security/alerts/read"), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn first_read_is_retried_after_the_time_azure_names() {
    let (_machine, watched) = just_ended().await;
    // The plan is read first, then alerts, with three attempts.
    watched.azure.fault(Fault::Headers(vec![]));
    (0..3).for_each(|_| watched.azure.fault(Fault::Status(503, vec![])));
    let later = vec![("retry-after", "300".to_owned())];
    watched.azure.fault(Fault::Status(429, later));
    let mut waiting = watched.verify(&["--interval=1s", "--wait=30m"]).spawn().unwrap();
    let mut lines = BufReader::new(waiting.stderr.take().unwrap()).lines();
    for part in ["Azure failed (503)", "another 300 s"] {
        let line = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await;
        let line = line.unwrap().unwrap().unwrap();
        assert!(line.contains(part), "{part} in {line}");
    }
    let asked = watched.azure.server.requests().len();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(watched.azure.server.requests().len(), asked);
    waiting.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_aborts_a_slow_read() {
    let (_machine, watched) = just_ended().await;
    watched.azure.fault(Fault::Slow(Duration::from_secs(20)));
    let verifying = watched.verify(&["--alerts-source=api"]).spawn().unwrap();
    let asked = async {
        while watched.azure.server.requests().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asked)
        .await
        .unwrap();
    let pid = verifying.id().unwrap().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    let output = tokio::time::timeout(Duration::from_secs(15), verifying.wait_with_output()).await;
    let output = output.expect("it does not wait for the answer").unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
}

const TOKEN: &str = "a-token-that-nobody-may-see";

/// A run, and a fake Azure with its alerts.
pub struct FakeAzure {
    run: String,
    pub cluster: String,
    /// The folder of records.
    state: std::path::PathBuf,
    pub azure: FakeArm,
    cli: FakeCli,
}

impl FakeAzure {
    /// Starts for a run with its record below `state`.
    pub async fn new(run: String, state: &Path) -> Self {
        let azure = FakeArm::start().await;
        azure.accept(TOKEN);
        Self {
            run,
            cluster: format!(
                "/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.ContainerService/managedClusters/range"
            ),
            state: state.to_owned(),
            azure,
            cli: FakeCli::new("az", TOKEN),
        }
    }

    /// Prepares `verify`.
    pub fn verify(&self, flags: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_kubectl-defender_sim"));
        command.args(["verify", &self.run, "-o", "json", "--resource-id", &self.cluster]);
        command.args(["--azure-cloud", &self.azure.server.url(), "--azure-ca"]);
        command.arg(self.azure.authority()).args(flags);
        let path = format!("{}:/usr/bin:/bin", self.cli.folder().display());
        command
            .env_clear()
            .envs([("PATH", path.as_str()), ("HOME", "/nonexistent")])
            .env("XDG_STATE_HOME", &self.state)
            .kill_on_drop(true);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs `verify` to its end and returns the verdicts.
    pub async fn verdicts(&self, flags: &[&str], code: i32) -> BTreeMap<String, String> {
        verdicts(&self.result(flags, code).await).into_iter().collect()
    }

    /// Runs `verify` to its end and returns the result.
    pub async fn result(&self, flags: &[&str], code: i32) -> Value {
        let output = self.verify(flags).output().await.unwrap();
        let (stdout, stderr) = (output.stdout, String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{flags:?}: {stderr}");
        assert!(!stderr.contains(TOKEN) && !String::from_utf8_lossy(&stdout).contains(TOKEN));
        let result: Value = serde_json::from_slice(&stdout).unwrap();
        assert_keeps_to("run", &result);
        result
    }

    pub fn plan(&self, tier: &str) {
        let path = format!("/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Security/pricings/Containers");
        let plan = json!({"properties": {"pricingTier": tier}});
        self.azure.with(|state| state.objects.insert(path, plan));
    }
}
