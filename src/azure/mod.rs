//! The only module that talks to Azure: it reads the alerts of Defender, finds the cluster as an Azure resource, and
//! reads the configuration of Defender for it. It changes nothing.
//!
//! ```text
//! locate, Source, plan, ... --> Arm (waits, renewals, pages) --> Transport (hyper, rustls) --> Azure
//!                                      |                                 ^
//!                                      +--> Login (tokens) --> azure_identity
//! ```
//!
//! The login is that of the official crates on the transport of [`crate::net::http`], so that there is one TLS stack.
//! Every call has a timeout, and its error names the operation and a missing permission.

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
mod throttle;

use crate::net::Explanation;

pub use arm::{Arm, ArmOptions, Call, Right};
pub use cloud::Cloud;
pub use locate::{AzureOptions, Located, locate};
pub use login::{LoginKind, LoginOptions};
pub use posture::{
    ClusterFacts, EXCLUSION_TAGS, Extension, Plan, SuppressionRule, can_read_alerts, cluster_facts, plan,
    suppression_rules,
};
pub use resource::{AzureCluster, ClusterHints, ClusterKind, Search, find_cluster};
pub use saved::{HOW_TO_SAVE, MAX_FILE, Saved};
pub use source::{Answer, Scope, Source};

impl Explanation {
    /// Returns the error of an operation, which completes "failed to ...".
    fn failed_to(self, doing: impl Into<String>) -> AzureError {
        AzureError {
            doing: doing.into(),
            explained: self,
        }
    }
}

/// A failure to read from Azure or from a file with alerts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to {doing}: {}", explained.message)]
pub struct AzureError {
    /// The operation, which completes "failed to ...".
    pub doing: String,
    /// The explanation of the failure.
    pub explained: Explanation,
}

type Result<T> = std::result::Result<T, AzureError>;
