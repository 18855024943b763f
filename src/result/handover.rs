//! What a SOC needs after a run.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::{ClusterInfo, HANDOVER_SCHEMA, UnattributedAlert, Verdict};

/// What a SOC needs after a run: its alerts, the queries that find them, and how to recognize the run.
///
/// It is derived from the record of the run. Nothing is read or changed in Azure.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Handover {
    /// Name and version of this schema.
    #[schemars(extend("const" = HANDOVER_SCHEMA))]
    pub schema: &'static str,
    /// Version of the tool that ran.
    pub version: String,
    /// Time at which this document was created.
    pub created: Timestamp,
    /// How to recognize the run.
    pub run: RunMarks,
    /// Whether and when its alerts were verified.
    pub verification: HandoverVerification,
    /// The alerts of the run, as read last.
    pub alerts: Vec<HandoverAlert>,
    /// Alerts that may belong to the run.
    pub unattributed: Vec<UnattributedAlert>,
    /// Alerts that the run is expected to raise and that are not among `alerts`.
    pub outstanding: Vec<OutstandingAlert>,
    /// Queries (KQL) that find the alerts of the run.
    pub queries: Queries,
    /// Rules that would dismiss alerts of runs in this namespace.
    pub suppression: Suppression,
}

/// The marks of a run in alerts and logs.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunMarks {
    /// ID of the run, part of the names of its objects; `unknown` if there is none.
    pub id: String,
    /// IDs of its scenarios.
    pub scenarios: Vec<String>,
    /// The cluster and the user.
    pub cluster: ClusterInfo,
    /// The namespace.
    pub namespace: String,
    /// Other namespaces in which steps acted.
    pub other_namespaces: Vec<String>,
    /// The pods; empty for a run without pods.
    pub pods: Vec<String>,
    /// The nodes of the attacked pods.
    pub nodes: Vec<String>,
    /// Service account of the pods.
    pub service_account: Option<String>,
    /// Objects that steps created or read through the Kubernetes API, as `kind/name`.
    pub objects: Vec<String>,
    /// Label of every object of the run, as a selector.
    pub selector: Option<String>,
    /// User agent of the run's client in the audit log of the cluster.
    pub user_agent: Option<String>,
    /// Time of the start, in the cluster's time.
    pub started: Timestamp,
    /// Time of the end, in the cluster's time.
    pub ended: Timestamp,
    /// Alerts about activity that ended earlier do not belong to the run.
    pub from: Timestamp,
    /// Alerts about activity that started later do not belong to the run.
    pub until: Timestamp,
    /// Time until which alerts about the run may be raised.
    pub alerts_until: Timestamp,
    /// Seconds by which the cluster's clock was ahead of the clock of the machine that started the run, if known.
    pub clock_offset_seconds: Option<i64>,
}

/// Whether and when the alerts of a run were verified.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HandoverVerification {
    /// Time at which alerts were read last; `null` if they were not.
    pub read: Option<Timestamp>,
    /// Where they were read.
    pub source: Option<String>,
    /// Why alerts could not be read, or not all of them.
    pub problem: Option<String>,
}

/// An alert of a run.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HandoverAlert {
    /// ID at the source; empty if it has none.
    pub id: String,
    /// Display name at the source.
    pub name: String,
    /// ID in the alert catalogue; `null` if no scenario of the run is expected to raise it.
    pub expected: Option<String>,
    /// Severity.
    pub severity: Option<String>,
    /// Status, such as `Active` or `Dismissed`.
    pub status: Option<String>,
    /// Time at which it was raised.
    pub generated: Option<Timestamp>,
    /// Link to the portal, if it is a plain HTTPS address.
    pub link: Option<String>,
}

/// An expected alert that was not raised so far.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutstandingAlert {
    /// ID in the alert catalogue.
    pub id: String,
    /// Display name in the catalogue.
    pub name: String,
    /// The verdict; `null` if alerts were not verified.
    pub verdict: Option<Verdict>,
}

/// Queries that find the alerts of a run.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Queries {
    /// For Azure Resource Graph, table `securityresources`.
    pub resource_graph: String,
    /// For a Log Analytics workspace or Microsoft Sentinel, table `SecurityAlert`.
    pub log_analytics: String,
}

/// Proposed rules that dismiss alerts. Nothing creates them.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Suppression {
    /// One rule for each alert type.
    pub rules: Vec<RuleProposal>,
    /// Expected alerts without a rule, and why.
    pub without: Vec<AlertWithoutRule>,
    /// What is assumed, and what to check before a rule is enabled.
    pub caveats: Vec<String>,
}

/// An alert for which no rule is proposed.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertWithoutRule {
    /// Display name in the catalogue.
    pub name: String,
    /// The reason.
    pub reason: String,
}

/// A request to Azure Resource Manager that would create a rule.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleProposal {
    /// ID in the alert catalogue.
    pub alert: String,
    /// HTTP method.
    pub method: &'static str,
    /// Path and query of the request.
    pub path: String,
    /// Body of the request.
    pub body: Rule,
}

/// A resource `Microsoft.Security/alertsSuppressionRules`, version 2019-01-01-preview.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Its properties.
    pub properties: RuleProperties,
}

/// The properties of a suppression rule.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleProperties {
    /// Type of the alerts.
    pub alert_type: String,
    /// Why the alerts are dismissed.
    pub reason: &'static str,
    /// `Disabled`: the person who creates the rule enables it.
    pub state: &'static str,
    /// What the rule is for.
    pub comment: String,
    /// Time at which the rule expires.
    pub expiration_date_utc: String,
    /// The conditions.
    pub suppression_alerts_scope: RuleScope,
}

/// The conditions of a suppression rule.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleScope {
    /// The conditions, which all have to be met.
    pub all_of: Vec<RuleCondition>,
}

/// A condition on the entities of an alert.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleCondition {
    /// The field of the entity.
    pub field: &'static str,
    /// Its possible values.
    #[serde(rename = "in")]
    pub values: Vec<String>,
}
