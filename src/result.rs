//! What a run was found to have done: the contract of the JSON output.
//!
//! The engine fills it in, reports print it. Fields are only ever added within one schema version.

use serde::Serialize;

use crate::exit::Exit;
use crate::scenario::Outcome;

/// Schema of [`RunResult`] in JSON.
pub const RUN_SCHEMA: &str = "defender-sim/run/v1";
/// Schema of [`CleanupResult`] in JSON.
pub const CLEANUP_SCHEMA: &str = "defender-sim/cleanup/v1";

/// One run from start to verified end.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunResult {
    /// Always [`RUN_SCHEMA`].
    pub schema: &'static str,
    /// Version of this tool.
    pub version: &'static str,
    /// Names the run.
    pub run: String,
    /// Which cluster it ran in.
    pub cluster: ClusterInfo,
    /// The namespace it ran in.
    pub namespace: String,
    /// When it started.
    pub started: jiff::Timestamp,
    /// When it ended, clean-up included.
    pub ended: jiff::Timestamp,
    /// What became of each scenario.
    pub scenarios: Vec<ScenarioResult>,
    /// What kept the run from going on, where something did.
    pub problem: Option<Problem>,
    /// What the clean-up found; `None` where nothing had been made.
    pub cleanup: Option<Cleanup>,
    /// What the process says to its caller.
    pub exit: Exit,
    /// The number of that.
    pub exit_code: u8,
}

/// Which cluster, as whom.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterInfo {
    /// Context of the kubeconfig, where one was used.
    pub context: Option<String>,
    /// Address of the API server.
    pub server: String,
    /// Its version.
    pub version: Option<String>,
    /// Who the API server takes the caller for.
    pub user: Option<String>,
}

/// What became of one scenario.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScenarioResult {
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Ids of the MITRE ATT&CK tactics that it serves, as of ATT&CK v19.
    pub tactics: Vec<String>,
    /// Its steps, in order.
    pub steps: Vec<StepResult>,
    /// The alerts to expect of it.
    pub alerts: Vec<AlertExpectation>,
}

/// What became of one step.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepResult {
    /// Its id within the scenario.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Ids of the MITRE ATT&CK techniques that it uses, as of ATT&CK v19.
    pub techniques: Vec<String>,
    /// What is known about it.
    pub outcome: Outcome,
    /// Why, where it is not proved.
    pub reason: Option<String>,
    /// Exit status that the victim reported.
    pub exit_status: Option<u8>,
    /// How long it took in the victim, in milliseconds.
    pub duration_ms: Option<f64>,
    /// A short observation from inside the victim; never a secret.
    pub evidence: Option<String>,
}

/// An alert that Defender ought to raise.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AlertExpectation {
    /// Its id in the alert catalogue.
    pub id: String,
    /// Its display name.
    pub name: String,
    /// Its severity, where known.
    pub severity: Option<String>,
    /// What has to be in place for it, beyond plan and sensor.
    pub needs: Option<String>,
}

/// Why a run did not go on.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The object and the cause.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// What the cluster said about it.
    pub details: Vec<String>,
    /// What it means for the process.
    #[serde(skip)]
    pub exit: Exit,
}

/// What a clean-up did, and what a look afterwards found.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cleanup {
    /// Objects that were removed, as `kind/name`, with the namespace where several are concerned.
    pub removed: Vec<String>,
    /// Objects that are still there, and why where that is known.
    pub left: Vec<String>,
    /// Whether the look that nothing is left could be made.
    pub verified: bool,
    /// What went wrong, where something did.
    pub problems: Vec<String>,
}

impl Cleanup {
    /// Whether the cluster was seen to hold nothing more of the run.
    pub fn is_clean(&self) -> bool {
        self.verified && self.left.is_empty()
    }

    /// Adds what another clean-up found.
    pub fn absorb(&mut self, other: Cleanup) {
        self.removed.extend(other.removed);
        self.left.extend(other.left);
        self.verified &= other.verified;
        self.problems.extend(other.problems);
    }
}

/// What `cleanup` found and did.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CleanupResult {
    /// Always [`CLEANUP_SCHEMA`].
    pub schema: &'static str,
    /// Which cluster.
    pub cluster: ClusterInfo,
    /// Which namespaces held something of this tool.
    pub namespaces: Vec<String>,
    /// What was done.
    #[serde(flatten)]
    pub cleanup: Cleanup,
    /// What the process says to its caller.
    pub exit: Exit,
    /// The number of that.
    pub exit_code: u8,
}
