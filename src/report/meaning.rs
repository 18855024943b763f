//! What several formats say about a result in the same words.

use url::Url;

use crate::exit::Exit;
use crate::result::{RaisedAlert, RunResult, Verification};

/// Returns the meaning of a result's exit code, as documented.
///
/// If alerts were verified, success may be that of `verify`, which does not cover the run.
pub(crate) fn meaning(result: &RunResult) -> &'static str {
    let verified = |verification: &Verification| verification.failure.is_none();
    if result.exit == Exit::Ok && result.verification.as_ref().is_some_and(verified) {
        return "the alerts pass: none is known to be missing or unexpected";
    }
    let listed = Exit::ALL.into_iter().find(|(listed, _)| *listed == result.exit);
    listed.expect("every exit code is listed").1
}

/// Returns the portal URL of an alert, or `None` if it is not a plain HTTPS URL.
pub(super) fn portal(alert: &RaisedAlert) -> Option<Url> {
    let url = Url::parse(alert.link.as_deref()?).ok()?;
    let is_plain = url.username().is_empty() && url.password().is_none();
    (url.scheme() == "https" && is_plain).then_some(url)
}
