//! Why a request failed, for code and for people: the same form for Kubernetes, Azure and image registries.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use crate::untrusted;

/// The kind of failure, for code to branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No server was reached: name, address, proxy or TLS.
    Unreachable,
    /// The server does not accept the credentials (401).
    Unauthorized,
    /// The server refuses the request for lack of a permission or by an admission rule (403).
    Forbidden,
    /// The object or the kind does not exist (404).
    NotFound,
    /// The object changed in between (409).
    Conflict,
    /// The object exists already (409).
    AlreadyExists,
    /// The content of the object is refused (422, or an admission webhook).
    Invalid,
    /// The client or the server timed out (504).
    TimedOut,
    /// The server asks the client to retry later (429, 503).
    Busy,
    /// No credentials were obtained: a plugin, a CLI, a file or a certificate failed.
    Auth,
    /// The answer exceeds its limit.
    TooLarge,
    /// The answer or file cannot be parsed.
    Unreadable,
    /// A setting is invalid.
    Setting,
    /// Anything else.
    Other,
}

/// The explanation of a failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Explanation {
    /// The kind of failure.
    pub cause: Cause,
    /// A lower-case fragment without control characters (except line feeds) and secrets.
    pub message: String,
    /// The next command or setting to try.
    pub hint: Option<String>,
    /// The delay after which the server wants a retry.
    pub retry_after: Option<Duration>,
}

impl Explanation {
    /// Creates an explanation, with its message sanitized and truncated.
    pub(crate) fn new(cause: Cause, message: impl AsRef<str>) -> Self {
        // The body of an error may have many pages.
        const MAX_LENGTH: usize = 4096;
        let message = message.as_ref();
        let mut ends = (0..=MAX_LENGTH.min(message.len())).rev();
        let end = ends.find(|at| message.is_char_boundary(*at)).unwrap_or(0);
        let ellipsis = if end < message.len() { " ..." } else { "" };
        Self {
            cause,
            message: untrusted::lines(&message[..end]) + ellipsis,
            hint: None,
            retry_after: None,
        }
    }

    /// Sets the hint, sanitized.
    pub(crate) fn with_hint(mut self, hint: impl AsRef<str>) -> Self {
        self.hint = Some(untrusted::line(hint.as_ref()));
        self
    }
}

/// Returns `error` and its causes, outermost first. An [`io::Error`] hides its content from `source`.
pub(crate) fn causes<'a>(error: &'a (dyn StdError + 'static)) -> Vec<&'a (dyn StdError + 'static)> {
    const MAX_DEPTH: usize = 16;
    let cause = |error: &&'a (dyn StdError + 'static)| {
        let error: &'a (dyn StdError + 'static) = *error;
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(content) => Some(content as &(dyn StdError + 'static)),
            None => error.source(),
        }
    };
    std::iter::successors(Some(error), cause)
        .take(MAX_DEPTH)
        .collect()
}
