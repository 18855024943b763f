//! Checks which user the API server authenticates the caller as.

use crate::doctor::finding::{Checked, Finding};
use crate::doctor::snapshot::Snapshot;
use crate::net::Cause;

pub(super) async fn check(snapshot: &Snapshot) -> Checked {
    match snapshot.user().await {
        Ok(Some(user)) => Ok(Finding::ok(user)),
        Ok(None) => Ok(Finding::unknown(
            "the cluster does not report it (Kubernetes before 1.28, or not allowed)",
        )),
        // Everybody may read the version; this is the first request that needs a login.
        Err(error) if error.explained.cause == Cause::Unauthorized => {
            Ok(Finding::failed(error.to_string()).hint(error.explained.hint))
        }
        Err(error) => Err(error.into()),
    }
}
