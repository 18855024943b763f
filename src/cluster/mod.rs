//! The only place that talks to Kubernetes.
//!
//! Every call is bounded, names in its error what it was doing to which object, and changes or removes
//! only what its caller names with kind, name and UID.

mod about;
mod authenticate;
pub mod bounds;
pub mod connect;
pub mod explain;
mod found;
mod identity;
pub mod kubeconfig;
mod objects;
mod others;
pub mod plugin;
mod pods;
mod survey;
pub mod warnings;

use std::time::Duration;

use kube::Client;

use crate::kubectl::Kubectl;
use crate::net::{Cause, Explanation};
use explain::explain;

pub use found::{Found, selector};
pub use others::Which;
pub use pods::PodChange;
pub use survey::Survey;

/// Bound of one call unless the user gives another; watches and followed logs are bounded by their callers.
pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Calls under way at once where many are made.
const PARALLEL: usize = 16;

/// A call to the cluster that did not work.
#[derive(Clone, Debug, thiserror::Error)]
#[error("failed to {doing}: {}", explained.message)]
pub struct ClusterError {
    /// What was being done, completing "failed to ...".
    pub doing: String,
    /// Why it did not work.
    pub explained: Explanation,
}

impl ClusterError {
    /// Whether asking again would be of no use: the answer is about the question, not about the moment.
    pub fn is_final(&self) -> bool {
        let passing = [Cause::Unreachable, Cause::TimedOut, Cause::Busy, Cause::Other];
        !passing.contains(&self.explained.cause)
    }

    /// Whether the object was not there.
    pub fn is_not_found(&self) -> bool {
        self.explained.cause == Cause::NotFound
    }
}

type Result<T> = std::result::Result<T, ClusterError>;

/// A connection to one cluster.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    request_timeout: Duration,
    kubectl: Kubectl,
}

impl Cluster {
    /// Wraps a client; `request_timeout` bounds each single call.
    pub fn new(client: Client, request_timeout: Duration) -> Self {
        Self {
            client,
            request_timeout,
            kubectl: Kubectl::default(),
        }
    }

    /// Makes hints repeat the connection flags of `kubectl`.
    #[must_use]
    pub fn with_hints(self, kubectl: Kubectl) -> Self {
        Self { kubectl, ..self }
    }

    /// The commands of hints about this cluster.
    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    async fn call<T>(
        &self,
        doing: impl FnOnce() -> String,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T> {
        let explained = match tokio::time::timeout(self.request_timeout, call).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => {
                let explained = explain(&error);
                let hint = explained.hint.as_deref();
                Explanation {
                    hint: hint.map(|hint| self.kubectl.complete(hint)),
                    ..explained
                }
            }
            Err(_) => {
                let message = format!("no answer within {} s", self.request_timeout.as_secs());
                Explanation::new(Cause::TimedOut, message)
                    .with_hint("give the cluster more time with --request-timeout")
            }
        };
        Err(ClusterError {
            doing: doing(),
            explained,
        })
    }
}

fn place(namespace: Option<&str>) -> String {
    namespace.map_or_else(|| "all namespaces".to_owned(), |name| format!("namespace {name}"))
}
