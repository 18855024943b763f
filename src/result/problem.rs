//! Why a command could not do what it was asked for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a run did not go on.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The object and the cause.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// What the cluster said about it.
    pub details: Vec<String>,
}
