//! The note for a SOC before a run.

use schemars::JsonSchema;
use serde::Serialize;

use super::{AlertExpectation, ClusterInfo, NOTE_SCHEMA};

/// What a SOC has to know before a run: which alerts are a test, and how to recognize them.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    /// Names and versions this schema.
    #[schemars(extend("const" = NOTE_SCHEMA))]
    pub schema: &'static str,
    /// Version of this tool.
    pub version: &'static str,
    /// Names the run.
    pub run: String,
    /// Which cluster, as whom.
    pub cluster: ClusterInfo,
    /// The namespace it runs in.
    pub namespace: String,
    /// Pods it runs in.
    pub pods: Vec<String>,
    /// Service account of the pods.
    pub service_account: String,
    /// Images of the pods.
    pub images: Vec<String>,
    /// Label that every object of the run carries, as a selector.
    pub selector: String,
    /// How the run's client names itself in the audit log.
    pub user_agent: String,
    /// Not before this time.
    pub from: jiff::Timestamp,
    /// Nothing of the run acts after this time. Alerts may be raised later.
    pub until: jiff::Timestamp,
    /// Alerts about the run may be raised until this time.
    pub alerts_until: jiff::Timestamp,
    /// What it does, as `<scenario>.<step>: title`.
    pub steps: Vec<String>,
    /// The same steps with their techniques.
    pub step_details: Vec<NoteStep>,
    /// Every address that the victim contacts.
    pub addresses: Vec<String>,
    /// The alerts to expect.
    pub alerts: Vec<AlertExpectation>,
    /// Query of a Log Analytics workspace (KQL) for alerts that name the namespace and a pod or the service account of
    /// the run.
    pub query: String,
}

/// A step that a run is going to take.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NoteStep {
    /// `<scenario>.<step>`.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Ids of the MITRE ATT&CK techniques that it uses, as of ATT&CK v19.
    pub techniques: Vec<String>,
}
