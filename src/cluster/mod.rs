//! The only module that talks to Kubernetes.
//!
//! Every call has a timeout, and its error names the operation and the object. Changes and deletions are limited to the
//! object with the kind, name and UID that the caller passes.

mod about;
mod authenticate;
mod bounds;
pub mod connect;
pub mod explain;
mod found;
mod identity;
pub mod kubeconfig;
mod objects;
mod others;
mod plugin;
mod pods;
pub mod request;
mod schedule;
mod survey;
mod warnings;

use std::time::Duration;

use kube::Client;

use crate::kubectl::Kubectl;
use crate::net::{Cause, Explanation};
use explain::explain;

pub use found::{Found, selector, selects};
pub use others::Selectors;
pub use pods::PodChange;
pub use schedule::Schedule;
pub use survey::Survey;

/// Timeout of a call unless the user sets one. Callers bound watches and followed logs.
pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Limit of concurrent calls.
const PARALLEL: usize = 16;

/// A failed call to the cluster.
#[derive(Clone, Debug, thiserror::Error)]
#[error("failed to {doing}: {}", explained.message)]
pub struct ClusterError {
    /// The operation, which completes "failed to ...".
    pub doing: String,
    /// The explanation of the failure.
    pub explained: Explanation,
}

impl ClusterError {
    /// Reports whether a retry is of no use.
    pub fn is_final(&self) -> bool {
        let transient = [Cause::Unreachable, Cause::TimedOut, Cause::Busy, Cause::Other];
        !transient.contains(&self.explained.cause)
    }

    /// Reports whether the object does not exist.
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
    /// Wraps a client; `request_timeout` limits each call.
    pub fn new(client: Client, request_timeout: Duration) -> Self {
        Self {
            client,
            request_timeout,
            kubectl: Kubectl::default(),
        }
    }

    /// Sets the builder of commands in hints.
    #[must_use]
    pub fn with_hints(self, kubectl: Kubectl) -> Self {
        Self { kubectl, ..self }
    }

    /// Returns the builder of commands in hints.
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

fn describe_scope(namespace: Option<&str>) -> String {
    namespace.map_or_else(|| "all namespaces".to_owned(), |name| format!("namespace {name}"))
}
