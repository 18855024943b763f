//! The result of a cleanup.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CLEANUP_SCHEMA, ClusterInfo};
use crate::exit::Exit;

/// What a cleanup removed, and what remained.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cleanup {
    /// Removed objects as `kind/name`, prefixed by their namespace if there are several.
    pub removed: Vec<String>,
    /// Objects that still exist.
    pub left: Vec<String>,
    /// Whether it could be verified that nothing else remained.
    pub verified: bool,
    /// What went wrong.
    pub problems: Vec<String>,
}

impl Cleanup {
    /// Returns `true` if it was verified that nothing of the run remains.
    pub fn is_clean(&self) -> bool {
        self.verified && self.left.is_empty()
    }

    /// Adds the result of another cleanup.
    pub fn absorb(&mut self, other: Cleanup) {
        self.removed.extend(other.removed);
        self.left.extend(other.left);
        self.verified &= other.verified;
        self.problems.extend(other.problems);
    }
}

/// The result of the command `cleanup`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CleanupResult {
    /// Name and version of this schema.
    #[schemars(extend("const" = CLEANUP_SCHEMA))]
    pub schema: &'static str,
    /// The cluster.
    pub cluster: ClusterInfo,
    /// Namespaces with objects of this tool.
    pub namespaces: Vec<String>,
    /// Objects that a dry run would remove.
    pub would_remove: Vec<String>,
    /// Runs that were kept.
    pub skipped: Vec<SkippedRun>,
    /// What was removed.
    #[serde(flatten)]
    pub cleanup: Cleanup,
    /// Meaning of the exit code.
    pub exit: Exit,
    /// Exit code of the process.
    pub exit_code: u8,
}

/// A run that `cleanup` kept.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SkippedRun {
    /// ID of the run.
    pub run: String,
    /// Namespace of the run.
    pub namespace: String,
    /// The user who started it, according to its record.
    pub user: Option<String>,
    /// Time at which the cluster ends it, according to its record.
    pub deadline: Option<jiff::Timestamp>,
    /// Why it was kept.
    pub reason: String,
}
