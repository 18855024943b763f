//! Checks that the API server answers.

use crate::doctor::finding::Finding;
use crate::doctor::snapshot::Snapshot;

/// Also returns the version of the API server, if it answers.
pub(in crate::doctor) async fn check(snapshot: &Snapshot) -> (Finding, Option<String>) {
    match snapshot.cluster.version().await {
        Ok(version) => (Finding::ok(format!("Kubernetes {version}")), Some(version)),
        Err(error) => {
            let failed = Finding::failed(error.to_string());
            (failed.hint(error.explained.hint), None)
        }
    }
}
