//! What a cleanup did.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CLEANUP_SCHEMA, ClusterInfo};
use crate::exit::Exit;

/// What a clean-up did, and what a look afterwards found.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CleanupResult {
    /// Names and versions this schema.
    #[schemars(extend("const" = CLEANUP_SCHEMA))]
    pub schema: &'static str,
    /// Which cluster.
    pub cluster: ClusterInfo,
    /// Namespaces that held objects of this tool.
    pub namespaces: Vec<String>,
    /// Objects that a dry run would remove.
    pub would_remove: Vec<String>,
    /// Runs that were left alone.
    pub skipped: Vec<SkippedRun>,
    /// What was done.
    #[serde(flatten)]
    pub cleanup: Cleanup,
    /// What the process says to its caller.
    pub exit: Exit,
    /// The number of that.
    pub exit_code: u8,
}

/// A run that `cleanup` found and left alone.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SkippedRun {
    /// The run.
    pub run: String,
    /// Its namespace.
    pub namespace: String,
    /// The user who started it, according to its record.
    pub user: Option<String>,
    /// When the cluster ends it, according to its record.
    pub deadline: Option<jiff::Timestamp>,
    /// Why it was left alone.
    pub reason: String,
}
