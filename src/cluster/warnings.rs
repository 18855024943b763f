//! What the API server wants said besides its answer: the `Warning` headers.
//!
//! kubectl prints them (`would violate PodSecurity ...`), the client library drops them. The layer here reads
//! them from every response and hands each text to a callback once per process, since a run sends the same
//! kind of request many times. Nothing is printed here.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::{HeaderMap, Request, Response, header::WARNING};
use tower::{Layer, Service};

use crate::untrusted;

/// More different texts than this are not remembered, and so not passed on: a server must not be able to fill
/// the memory or the screen.
const REMEMBERED: usize = 200;

/// The survey of a namespace has to list this kind too, and no user can do anything about it.
const OF_SURVEY: &str = "v1 Endpoints is deprecated";

static SEEN: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);

/// Puts [`Warnings`] around a client's service.
#[derive(Clone, Debug)]
pub struct WarningsLayer<F> {
    tell: F,
}

impl<F: Fn(&str)> WarningsLayer<F> {
    /// `tell` receives every text that this process has not seen before.
    pub fn new(tell: F) -> Self {
        Self { tell }
    }
}

impl<S, F: Clone> Layer<S> for WarningsLayer<F> {
    type Service = Warnings<S, F>;

    fn layer(&self, inner: S) -> Self::Service {
        Warnings {
            inner,
            tell: self.tell.clone(),
        }
    }
}

/// A service that looks at the headers of each response and changes nothing.
#[derive(Clone, Debug)]
pub struct Warnings<S, F> {
    inner: S,
    tell: F,
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
        let tell = self.tell.clone();
        Box::pin(async move {
            let response = answer.await?;
            for text in texts(response.headers()) {
                if !text.starts_with(OF_SURVEY) && first_time(&text) {
                    tell(&text);
                }
            }
            Ok(response)
        })
    }
}

fn first_time(text: &str) -> bool {
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    seen.len() < REMEMBERED && seen.insert(text.to_owned())
}

/// The texts of all warnings with code 299, the only one Kubernetes uses, in the order sent.
fn texts(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(WARNING).into_iter();
    values
        .flat_map(|value| parse(&String::from_utf8_lossy(value.as_bytes())))
        .collect()
}

/// One header value: `code agent "text" ["date"]`, several of them separated by commas
/// (RFC 7234, section 5.5). What does not follow that form ends the reading.
fn parse(value: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = value.trim_start_matches([' ', ',', '\t']);
    while !rest.is_empty() {
        let mut head = rest.splitn(3, ' ');
        let (Some(code), Some(_agent), Some(tail)) = (head.next(), head.next(), head.next()) else {
            break;
        };
        let Some((text, tail)) = quoted(tail) else { break };
        if code == "299" {
            let text = untrusted::lines(&text);
            if !text.is_empty() {
                found.push(text);
            }
        }
        let tail = tail.trim_start();
        let tail = quoted(tail).map_or(tail, |(_date, tail)| tail.trim_start());
        let Some(tail) = tail.strip_prefix(',') else { break };
        rest = tail.trim_start_matches([' ', ',', '\t']);
    }
    found
}

/// A quoted string at the start of `text`, unescaped, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
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
    fn the_header_is_read_in_all_its_forms() {
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
    fn several_headers_keep_their_order() {
        let mut headers = HeaderMap::new();
        headers.append(WARNING, r#"299 - "one""#.parse().unwrap());
        headers.append(WARNING, r#"299 - "two""#.parse().unwrap());
        assert_eq!(texts(&headers), ["one", "two"]);
    }

    #[test]
    fn a_text_is_told_once() {
        assert!(first_time("told once, in this test only"));
        assert!(!first_time("told once, in this test only"));
    }
}
