//! The result of a dry run.

use schemars::JsonSchema;
use serde::Serialize;

use super::{AlertExpectation, ClusterInfo, PLAN_SCHEMA, Uncovered};
use crate::exit::Exit;

/// What a run would do, and whether the API server admits it, if it was asked.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanResult {
    /// Name and version of this schema.
    #[schemars(extend("const" = PLAN_SCHEMA))]
    pub schema: &'static str,
    /// Version of this tool.
    pub version: &'static str,
    /// The cluster; version and user only if the cluster was contacted. Without a configured cluster, `server` is
    /// `no cluster`.
    pub cluster: ClusterInfo,
    /// The namespace.
    pub namespace: String,
    /// Image of the attacker pod; `null` for a run without pods.
    pub attacker_image: Option<String>,
    /// The pods that would be attacked.
    pub victims: Vec<PlannedVictim>,
    /// The groups of nodes that would have no victim, if the run is to cover groups of nodes.
    pub uncovered: Vec<Uncovered>,
    /// Every object that would be created, in this order.
    pub objects: Vec<PlannedObject>,
    /// Every step, in order.
    pub steps: Vec<PlannedStep>,
    /// Every address that the victims would contact.
    pub addresses: Vec<String>,
    /// The expected alerts.
    pub alerts: Vec<AlertExpectation>,
    /// Seconds after which the cluster would end the run.
    pub deadline_seconds: u64,
    /// Meaning of the exit code.
    pub exit: Exit,
    /// Exit code of the process.
    pub exit_code: u8,
}

/// A pod that would be attacked.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedVictim {
    /// Name of the pod.
    pub pod: String,
    /// The group of nodes for which it would stand, if the run is to cover groups of nodes.
    pub group: Option<String>,
    /// Image of the pod.
    pub image: String,
}

/// An object that a run would create.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedObject {
    /// Kind and name, as kubectl prints them.
    pub name: String,
    /// Whether the API server admits it; `null` if it was not asked.
    pub admission: Option<Admission>,
}

/// Whether the API server admits an object, according to a dry run.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", tag = "verdict", content = "reason")]
pub enum Admission {
    /// It does.
    Admitted,
    /// It does not, for this reason.
    Refused(String),
    /// It was not asked, for this reason.
    NotAsked(String),
}

/// A step of a plan.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedStep {
    /// `<scenario>.<step>`.
    pub id: String,
    /// Title of the step.
    pub title: String,
    /// The pods in which it would run; empty for a request to the Kubernetes API.
    pub victims: Vec<String>,
    /// Text that would run there.
    pub script: Option<String>,
    /// Request that would be sent to the Kubernetes API.
    pub request: Option<PlannedRequest>,
    /// What would prove it.
    pub proof: String,
}

/// A request to the Kubernetes API.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedRequest {
    /// The verb.
    pub verb: String,
    /// The kind, as a plural with its group: `clusterroles.rbac.authorization.k8s.io`.
    pub resource: String,
    /// The objects, as they would be sent.
    pub objects: Vec<serde_json::Value>,
}
