//! The note for a SOC before a run.

use schemars::JsonSchema;
use serde::Serialize;

use super::{AlertExpectation, ClusterInfo, NOTE_SCHEMA};

/// What a SOC needs to know before a run: which alerts are a test, and how to recognize them.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    /// Name and version of this schema.
    #[schemars(extend("const" = NOTE_SCHEMA))]
    pub schema: &'static str,
    /// Version of this tool.
    pub version: &'static str,
    /// ID of the run.
    pub run: String,
    /// The cluster and the user.
    pub cluster: ClusterInfo,
    /// The namespace.
    pub namespace: String,
    /// The pods.
    pub pods: Vec<String>,
    /// Service account of the pods.
    pub service_account: String,
    /// Images of the pods.
    pub images: Vec<String>,
    /// Label of every object of the run, as a selector.
    pub selector: String,
    /// User agent of the client in the audit log.
    pub user_agent: String,
    /// Start of the run at the earliest.
    pub from: jiff::Timestamp,
    /// End of the run at the latest. Alerts may be raised later.
    pub until: jiff::Timestamp,
    /// Time until which alerts about the run may be raised.
    pub alerts_until: jiff::Timestamp,
    /// The steps.
    pub steps: Vec<NoteStep>,
    /// Every address that the victims contact.
    pub addresses: Vec<String>,
    /// The expected alerts.
    pub alerts: Vec<AlertExpectation>,
    /// Query of a Log Analytics workspace (KQL) for alerts that name the namespace and a pod or the service account of
    /// the run.
    pub query: String,
}

/// A step of a run.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NoteStep {
    /// `<scenario>.<step>`.
    pub id: String,
    /// Title of the step.
    pub title: String,
    /// IDs of the MITRE ATT&CK techniques, as of ATT&CK v19.
    pub techniques: Vec<String>,
}
