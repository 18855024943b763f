//! Does the API server answer? Its version, where it does.

use super::Finding;
use super::look::Look;

/// Also says what the version is; none where the server does not answer.
pub(super) async fn check(look: &Look) -> (Finding, Option<String>) {
    match look.cluster.version().await {
        Ok(version) => (Finding::ok(format!("Kubernetes {version}")), Some(version)),
        Err(error) => {
            let told = Finding::failed(error.to_string());
            let hint = error.explained.hint;
            (hint.into_iter().fold(told, Finding::advise), None)
        }
    }
}
