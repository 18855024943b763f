//! What a dry run prints.

use schemars::JsonSchema;
use serde::Serialize;

use super::{AlertExpectation, ClusterInfo, PLAN_SCHEMA};
use crate::exit::Exit;

/// What a run would do; what the API server says to that, where it was asked.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanResult {
    /// Names and versions this schema.
    #[schemars(extend("const" = PLAN_SCHEMA))]
    pub schema: &'static str,
    /// Version of this tool.
    pub version: &'static str,
    /// Which cluster it would run in, as whom; version and user only where the cluster was asked. If none is
    /// configured, `server` is `no cluster`.
    pub cluster: ClusterInfo,
    /// The namespace it would run in.
    pub namespace: String,
    /// Image of the attacker pod.
    pub attacker_image: String,
    /// Image of the victim pod.
    pub victim_image: String,
    /// Every object that would be made, in this order.
    pub objects: Vec<PlannedObject>,
    /// Every step, in order.
    pub steps: Vec<PlannedStep>,
    /// Every address that the victim would contact.
    pub addresses: Vec<String>,
    /// The alerts to expect.
    pub alerts: Vec<AlertExpectation>,
    /// Seconds after which the cluster would end the run by itself.
    pub deadline_seconds: u64,
    /// What the process says to its caller.
    pub exit: Exit,
    /// The number of that.
    pub exit_code: u8,
}

/// An object that a run would make.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedObject {
    /// Kind and name, as kubectl prints them.
    pub name: String,
    /// What the API server says to it; nothing where it was not asked.
    pub admission: Option<Admission>,
}

/// What the API server says to an object that it is shown and does not keep.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", tag = "verdict", content = "reason")]
pub enum Admission {
    /// It would take it.
    Admitted,
    /// It would not, for this reason.
    Refused(String),
    /// It cannot be asked, for this reason.
    NotTold(String),
}

/// A step that a run would take.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedStep {
    /// `<scenario>.<step>`.
    pub id: String,
    /// Its title.
    pub title: String,
    /// The pod it would run in.
    pub pod: String,
    /// What would run there.
    pub script: String,
    /// What would prove it.
    pub proof: String,
}
