//! What `doctor` found.

use schemars::JsonSchema;
use serde::Serialize;

use super::{ClusterInfo, DOCTOR_SCHEMA};
use crate::exit::Exit;

/// What `doctor` found out: whether a run can work here, and whether Defender can see it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DoctorResult {
    /// Names and versions this schema.
    #[schemars(extend("const" = DOCTOR_SCHEMA))]
    pub schema: &'static str,
    /// Version of this tool.
    pub version: &'static str,
    /// Which cluster, as whom.
    pub cluster: ClusterInfo,
    /// The namespace that a run would use.
    pub namespace: String,
    /// The scenarios that it was asked for.
    pub scenarios: Vec<String>,
    /// Every check, in a fixed order.
    pub checks: Vec<CheckResult>,
    /// What the process says to its caller.
    pub exit: Exit,
    /// The number of that.
    pub exit_code: u8,
}

/// What one check saw.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckResult {
    /// Names the check; stays the same from version to version.
    pub id: &'static str,
    /// What it is about.
    pub title: &'static str,
    /// What it came to.
    pub status: CheckStatus,
    /// What was seen.
    pub seen: String,
    /// What to do about it.
    pub advice: Option<String>,
}

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum CheckStatus {
    /// As it has to be.
    Ok,
    /// A run works, but perhaps not all of it, or not all alerts can come.
    Warning,
    /// A run cannot work, or no alert can come.
    Failed,
    /// It could not be seen.
    CouldNotTell,
    /// It does not matter here.
    NotApplicable,
}
