//! Whom does the cluster take the caller for?

use super::look::Look;
use super::{Checked, Finding};
use crate::net::Cause;

pub(super) async fn check(look: &Look) -> Checked {
    match look.user().await {
        Ok(Some(user)) => Ok(Finding::ok(user)),
        Ok(None) => Ok(Finding::not_told(
            "the cluster does not say (Kubernetes before 1.28, or you may not ask)",
        )),
        // A version is given to everybody; this is the first question that takes a login.
        Err(error) if error.explained.cause == Cause::Unauthorized => {
            let told = Finding::failed(error.to_string());
            Ok(error.explained.hint.into_iter().fold(told, Finding::advise))
        }
        Err(error) => Err(error.into()),
    }
}
