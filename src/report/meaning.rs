//! What several formats say about a result in the same words.

use url::Url;

use crate::exit::Exit;
use crate::result::{RaisedAlert, RunResult, Verification};

/// What the exit code of a result means, in the words of the documentation. Where alerts were looked for,
/// success may be `verify`'s: that says nothing of the run.
pub(super) fn meaning(result: &RunResult) -> &'static str {
    let verified = |verification: &Verification| verification.failure.is_none();
    if result.exit == Exit::Ok && result.verification.as_ref().is_some_and(verified) {
        return "the alerts pass: none is known to be missing or unexpected";
    }
    let listed = Exit::ALL.into_iter().find(|(listed, _)| *listed == result.exit);
    listed.expect("every exit code is listed").1
}

/// Where the portal shows an alert; `None` unless it is a plain HTTPS address.
pub(super) fn portal(alert: &RaisedAlert) -> Option<Url> {
    let url = Url::parse(alert.link.as_deref()?).ok()?;
    let is_plain = url.username().is_empty() && url.password().is_none();
    (url.scheme() == "https" && is_plain).then_some(url)
}
