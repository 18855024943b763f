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

use crate::net::Explanation;

pub use arm::{Arm, ArmOptions, Call, Right};
pub use cloud::Cloud;
pub use locate::{AzureOptions, Located, locate};
pub use login::{LoginKind, LoginOptions};
pub use posture::{
    ClusterFacts, EXCLUSION_TAGS, Extension, Plan, SuppressionRule, alerts_readable, cluster_facts, plan,
    suppression_rules,
};
pub use resource::{AzureCluster, ClusterHints, ClusterKind, Search, find_cluster};
pub use saved::{HOW_TO_SAVE, MAX_FILE, Saved};
pub use source::{Answer, Scope, Source};

impl Explanation {
    /// Completes the explanation to an error.
    fn failed_to(self, doing: impl Into<String>) -> AzureError {
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
    pub explained: Explanation,
}

type Result<T> = std::result::Result<T, AzureError>;
