//! The result of a command that worked on several clusters.

use schemars::JsonSchema;
use serde::Serialize;

use super::{CleanupResult, DoctorResult, FLEET_SCHEMA, PlanResult, Problem, RunResult};
use crate::exit::Exit;

/// What a command did in each cluster of a fleet.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FleetResult {
    /// Name and version of this schema.
    #[schemars(extend("const" = FLEET_SCHEMA))]
    pub schema: &'static str,
    /// Version of this tool.
    pub version: &'static str,
    /// Time of the start.
    pub started: jiff::Timestamp,
    /// Time of the end.
    pub ended: jiff::Timestamp,
    /// The clusters, in the order in which they were named.
    pub clusters: Vec<ClusterOutcome>,
    /// The exit code of the cluster whose outcome is the worst.
    pub exit: Exit,
    /// Exit code of the process.
    pub exit_code: u8,
}

/// What a command did in one cluster of a fleet: a result, or the problem because of which there is none.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterOutcome {
    /// Context of the kubeconfig.
    pub context: String,
    /// The document that the command prints for this cluster alone.
    pub result: Option<ClusterResult>,
    /// Why there is no result.
    pub problem: Option<Problem>,
    /// Meaning of the exit code.
    pub exit: Exit,
    /// Exit code that the command would have for this cluster alone.
    pub exit_code: u8,
}

/// The result for one cluster; its `schema` names its kind.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum ClusterResult {
    /// Of a run, and of `verify`.
    Run(Box<RunResult>),
    /// Of a dry run.
    Plan(Box<PlanResult>),
    /// Of `doctor`.
    Doctor(Box<DoctorResult>),
    /// Of `cleanup`.
    Cleanup(Box<CleanupResult>),
}

impl ClusterResult {
    /// Returns the exit code of the result.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Run(result) => result.exit,
            Self::Plan(result) => result.exit,
            Self::Doctor(result) => result.exit,
            Self::Cleanup(result) => result.exit,
        }
    }
}

impl ClusterOutcome {
    /// Creates the outcome of a cluster with a result. A run that did not start because of a problem is that problem.
    pub fn new(context: String, result: ClusterResult) -> Self {
        let exit = result.exit();
        if let ClusterResult::Run(run) = &result
            && run.problem.is_some()
            && run.cleanup.is_none()
            && run.kept_until.is_none()
            && run.verification.is_none()
        {
            return Self::failed(context, run.problem.clone(), exit);
        }
        Self {
            context,
            result: Some(result),
            problem: None,
            exit,
            exit_code: exit.code(),
        }
    }

    /// Creates the outcome of a cluster without a result.
    pub fn failed(context: String, problem: impl Into<Option<Problem>>, exit: Exit) -> Self {
        Self {
            context,
            result: None,
            problem: problem.into(),
            exit,
            exit_code: exit.code(),
        }
    }

    /// Returns the result of a run, if this is one.
    pub fn run(&self) -> Option<&RunResult> {
        match &self.result {
            Some(ClusterResult::Run(result)) => Some(result),
            _ => None,
        }
    }

    /// Adds a failure beyond those of the result.
    pub fn add_failure(&mut self, exit: Exit) {
        self.exit = self.exit.worse(exit);
        self.exit_code = self.exit.code();
    }
}

impl FleetResult {
    /// Creates the result of a fleet, with its start and its end.
    pub fn new(clusters: Vec<ClusterOutcome>, (started, ended): (jiff::Timestamp, jiff::Timestamp)) -> Self {
        let exits = clusters.iter().map(|cluster| cluster.exit);
        let exit = exits.fold(Exit::Ok, Exit::worse);
        Self {
            schema: FLEET_SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            started,
            ended,
            clusters,
            exit,
            exit_code: exit.code(),
        }
    }

    /// Returns the results of runs with their contexts.
    pub fn runs(&self) -> impl Iterator<Item = (&str, &RunResult)> {
        let clusters = self.clusters.iter();
        clusters.filter_map(|cluster| Some((cluster.context.as_str(), cluster.run()?)))
    }
}
