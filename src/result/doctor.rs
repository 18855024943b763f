//! The result of `doctor`.

use schemars::JsonSchema;
use serde::Serialize;

use super::{ClusterInfo, DOCTOR_SCHEMA};
use crate::exit::Exit;

/// Whether a run can succeed in this cluster, and whether Defender can detect it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DoctorResult {
    /// Name and version of this schema.
    #[schemars(extend("const" = DOCTOR_SCHEMA))]
    pub schema: &'static str,
    /// Version of this tool.
    pub version: &'static str,
    /// The cluster and the user.
    pub cluster: ClusterInfo,
    /// The namespace of a run.
    pub namespace: String,
    /// The checked scenarios.
    pub scenarios: Vec<String>,
    /// Every check, in a fixed order.
    pub checks: Vec<CheckResult>,
    /// Meaning of the exit code.
    pub exit: Exit,
    /// Exit code of the process.
    pub exit_code: u8,
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckResult {
    /// ID of the check, which does not change between versions.
    pub id: &'static str,
    /// Title of the check.
    pub title: &'static str,
    /// The status.
    pub status: CheckStatus,
    /// The observation.
    pub seen: String,
    /// What to do about it.
    pub advice: Option<String>,
}

/// The status of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum CheckStatus {
    /// No objection.
    Ok,
    /// A run works, but some steps may fail or some alerts cannot be raised.
    Warning,
    /// A run cannot work, or no alert can be raised.
    Failed,
    /// It could not be determined.
    Unknown,
    /// It does not apply here.
    NotApplicable,
}
