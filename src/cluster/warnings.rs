//! Reads the `Warning` headers of the API server.
//!
//! kubectl prints them (`would violate PodSecurity ...`), while the client library drops them. This layer passes each
//! different text to a callback once per process, since a run sends the same kind of request many times.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::{HeaderMap, Request, Response, header::WARNING};
use tower::{Layer, Service};

use crate::untrusted;

/// Limit of different texts, so that a server cannot fill the memory or the screen.
const MAX_TEXTS: usize = 200;

/// A warning that the survey of a namespace causes and no user can avoid.
const SURVEY_WARNING: &str = "v1 Endpoints is deprecated";

static SEEN: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);

/// Adds [`Warnings`] to a client's service.
#[derive(Clone, Debug)]
pub struct WarningsLayer<F> {
    callback: F,
}

impl<F: Fn(&str)> WarningsLayer<F> {
    /// Creates a layer that passes every new text to `callback`.
    pub fn new(callback: F) -> Self {
        Self { callback }
    }
}

impl<S, F: Clone> Layer<S> for WarningsLayer<F> {
    type Service = Warnings<S, F>;

    fn layer(&self, inner: S) -> Self::Service {
        Warnings {
            inner,
            callback: self.callback.clone(),
        }
    }
}

/// A service that reads the headers of each response.
#[derive(Clone, Debug)]
pub struct Warnings<S, F> {
    inner: S,
    callback: F,
}

impl<S, F, A, B> Service<Request<A>> for Warnings<S, F>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
    F: Fn(&str) + Clone + Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let answer = self.inner.call(request);
        let callback = self.callback.clone();
        Box::pin(async move {
            let response = answer.await?;
            for text in texts(response.headers()) {
                if !text.starts_with(SURVEY_WARNING) && is_new(&text) {
                    callback(&text);
                }
            }
            Ok(response)
        })
    }
}

fn is_new(text: &str) -> bool {
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    seen.len() < MAX_TEXTS && seen.insert(text.to_owned())
}

/// Returns the texts of all warnings with code 299, the only one of Kubernetes, in order.
pub(super) fn texts(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(WARNING).into_iter();
    values
        .flat_map(|value| parse(&String::from_utf8_lossy(value.as_bytes())))
        .collect()
}

/// Parses a header value: `code agent "text" ["date"]`, separated by commas (RFC 7234, section 5.5), up to the first
/// error.
fn parse(value: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = value.trim_start_matches([' ', ',', '\t']);
    while !rest.is_empty() {
        let mut head = rest.splitn(3, ' ');
        let (Some(code), Some(_agent), Some(tail)) = (head.next(), head.next(), head.next()) else {
            break;
        };
        let Some((text, tail)) = parse_quoted(tail) else {
            break;
        };
        if code == "299" {
            let text = untrusted::lines(&text);
            if !text.is_empty() {
                found.push(text);
            }
        }
        let tail = tail.trim_start();
        let tail = parse_quoted(tail).map_or(tail, |(_date, tail)| tail.trim_start());
        let Some(tail) = tail.strip_prefix(',') else { break };
        rest = tail.trim_start_matches([' ', ',', '\t']);
    }
    found
}

/// Parses a quoted string at the start of `text` and returns it with the rest.
fn parse_quoted(text: &str) -> Option<(String, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut out = String::new();
    let mut characters = inner.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((out, &inner[at + 1..])),
            '\\' => out.push(characters.next()?.1),
            _ => out.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_parsed_in_all_forms() {
        for (value, expected) in [
            (
                r#"299 - "unknown field \"spec.x\"""#,
                &[r#"unknown field "spec.x""#][..],
            ),
            (r#"299 - "a, b", 299 - "c""#, &["a, b", "c"]),
            (
                r#"299 - "a" "Wed, 21 Oct 2015 07:28:00 GMT",299 x "b""#,
                &["a", "b"],
            ),
            (r#"110 - "stale", 299 - "kept""#, &["kept"]),
            (r#"299 - "back\\slash""#, &["back\\slash"]),
            ("299 - \"red \u{1b}[31malert\"", &["red [31malert"]),
            (r#"299 - "no end"#, &[]),
            (r#"299 - "ends in escape\"#, &[]),
            (r#"299 - """#, &[]),
            ("rubbish", &[]),
            ("", &[]),
            (" , ", &[]),
        ] {
            assert_eq!(parse(value), expected, "{value}");
        }
    }

    #[test]
    fn headers_keep_their_order() {
        let mut headers = HeaderMap::new();
        headers.append(WARNING, r#"299 - "one""#.parse().unwrap());
        headers.append(WARNING, r#"299 - "two""#.parse().unwrap());
        assert_eq!(texts(&headers), ["one", "two"]);
    }

    #[test]
    fn repeated_text_is_not_new() {
        assert!(is_new("a warning of this test only"));
        assert!(!is_new("a warning of this test only"));
    }
}
