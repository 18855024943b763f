//! Why a command failed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::exit::Exit;

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
    /// The exit code.
    #[serde(skip)]
    pub exit: Exit,
}

impl Problem {
    /// A problem without a hint or details.
    pub fn new(exit: Exit, message: String) -> Self {
        Self {
            message,
            hint: None,
            details: vec![],
            exit,
        }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn with_hint(self, hint: String) -> Self {
        Self {
            hint: Some(hint),
            ..self
        }
    }

    /// Adds what the cluster or a file said.
    #[must_use]
    pub fn with_details(self, details: Vec<String>) -> Self {
        Self { details, ..self }
    }

    /// Something that the user asked for and that cannot be done so; `hint` is the next command.
    pub fn usage(message: String, hint: Option<&str>) -> Self {
        Self {
            hint: hint.map(str::to_owned),
            ..Self::new(Exit::Usage, message)
        }
    }
}
