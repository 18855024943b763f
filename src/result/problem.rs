//! Why a command failed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a command or a run failed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The object and the cause.
    pub message: String,
    /// The next command.
    pub hint: Option<String>,
    /// Details from the cluster or a file.
    pub details: Vec<String>,
}
