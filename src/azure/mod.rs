//! The only place that talks to Azure: it reads the alerts that Defender raised, finds a cluster as an Azure
//! resource, and reads how Defender is set up for it. It changes nothing there.
//!
//! ```text
//! locate, Source, plan, ... --> Arm (waits, renewals, pages) --> Transport (hyper, rustls) --> Azure
//!                                      |                                 ^
//!                                      +--> Login (tokens) --> azure_identity
//! ```
//!
//! The login is that of the official crates; their transport is replaced by [`crate::net::http`], so that there
//! is one TLS stack. Every call is bounded, names in its error what it was doing,
//! and says which right is missing where one is. Tokens are secrets as types, and what Azure says goes through
//! [`crate::untrusted`].

mod arm;
mod cloud;
mod locate;
mod login;
mod page;
mod posture;
mod resource;
mod saved;
mod sdk;
mod source;

use std::time::Duration;

use crate::untrusted;

pub use arm::{Arm, ArmOptions, Call, DEFAULT_PATIENCE, DEFAULT_REQUEST_TIMEOUT, Right};
pub use cloud::{Cloud, CustomCloud};
pub use locate::{AzureOptions, Located, locate};
pub use login::{LoginKind, LoginOptions};
pub use posture::{
    ClusterFacts, EXCLUSION_TAGS, Extension, Plan, SuppressionRule, alerts_readable, cluster_facts, plan,
    suppression_rules,
};
pub use resource::{AzureCluster, ClusterHints, ClusterKind, Search, find_cluster};
pub use saved::{HOW_TO_SAVE, MAX_FILE, Saved};
pub use source::{Answer, Scope, Source};

/// What kind of thing went wrong; the part that code can branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Azure was not reached: name, address, proxy or TLS.
    Unreachable,
    /// No token could be had on this side.
    Login,
    /// Azure does not accept the token (401), nor a new one.
    Unauthorized,
    /// Azure knows who asks and says no (403).
    Forbidden,
    /// What was asked for does not exist (404).
    NotFound,
    /// Azure asks for more patience than there is (429).
    Busy,
    /// No answer in time.
    TimedOut,
    /// An answer, or a file, that cannot be read.
    Unreadable,
    /// A setting that cannot be used.
    Setting,
    /// Anything else.
    Other,
}

/// What went wrong, told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// For code.
    pub cause: Cause,
    /// For people: lower-case, no full stop, free of control characters (line feeds excepted) and secrets.
    pub message: String,
    /// A command or a setting to try next.
    pub hint: Option<String>,
    /// When Azure wants to be asked again, where it said so.
    pub retry_after: Option<Duration>,
}

impl Explained {
    fn new(cause: Cause, message: impl AsRef<str>) -> Self {
        Self {
            cause,
            message: untrusted::lines(message.as_ref()),
            hint: None,
            retry_after: None,
        }
    }

    fn hint(mut self, hint: impl AsRef<str>) -> Self {
        self.hint = Some(untrusted::line(hint.as_ref()));
        self
    }

    fn doing(self, doing: impl Into<String>) -> AzureError {
        AzureError {
            doing: doing.into(),
            explained: self,
        }
    }
}

/// A look into Azure, or into a file with alerts, that did not work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to {doing}: {}", explained.message)]
pub struct AzureError {
    /// What was being done, completing "failed to ...".
    pub doing: String,
    /// Why it did not work.
    pub explained: Explained,
}

type Result<T> = std::result::Result<T, AzureError>;
