//! Passes on what the API server warns of, as kubectl does: `Warning` headers of responses, each text once.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::header::WARNING;
use http::{Request, Response};
use tower::{Layer, Service};

use crate::scenario::proof::presentable;

/// Puts [`Warnings`] around a client.
#[derive(Clone)]
pub(super) struct WarningLayer<F> {
    tell: F,
    told: Arc<Mutex<BTreeSet<String>>>,
}

impl<F: Fn(&str)> WarningLayer<F> {
    pub(super) fn new(tell: F) -> Self {
        Self {
            tell,
            told: Arc::default(),
        }
    }

    fn look<B>(&self, response: &Response<B>) {
        let values = response
            .headers()
            .get_all(WARNING)
            .iter()
            .filter_map(|value| value.to_str().ok());
        for text in values.flat_map(texts).map(|text| presentable(&text)) {
            if self
                .told
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(text.clone())
            {
                (self.tell)(&text);
            }
        }
    }
}

impl<F: Clone, S> Layer<S> for WarningLayer<F> {
    type Service = Warnings<F, S>;

    fn layer(&self, inner: S) -> Self::Service {
        Warnings {
            layer: self.clone(),
            inner,
        }
    }
}

/// Reads the header of every response that passes.
#[derive(Clone)]
pub(super) struct Warnings<F, S> {
    layer: WarningLayer<F>,
    inner: S,
}

impl<F, S, A, B> Service<Request<A>> for Warnings<F, S>
where
    F: Fn(&str) + Clone + Send + 'static,
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let layer = self.layer.clone();
        let response = self.inner.call(request);
        Box::pin(async move {
            let response = response.await?;
            layer.look(&response);
            Ok(response)
        })
    }
}

/// The texts of one header: `299 - "text" "date", 299 - "another"` (RFC 7234, 5.5).
fn texts(header: &str) -> Vec<String> {
    let mut texts = vec![];
    let mut rest = header;
    while let Some(start) = rest
        .strip_prefix("299 ")
        .and_then(|rest| rest.split_once(" \""))
        .map(|(_, text)| text)
    {
        let mut text = String::new();
        let mut characters = start.char_indices();
        let mut end = start.len();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    end = at + 1;
                    break;
                }
                '\\' => text.extend(characters.next().map(|(_, escaped)| escaped)),
                other => text.push(other),
            }
        }
        texts.push(text);
        rest = start[end..]
            .split_once(',')
            .map_or("", |(_, rest)| rest.trim_start());
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read() {
        for (header, expected) in [
            (r#"299 - "one""#, vec!["one"]),
            (
                r#"299 - "say \"hi\", all", 299 kube "two""#,
                vec![r#"say "hi", all"#, "two"],
            ),
            (r#"299 - "one" "Wed, 21 Oct 2015 07:28:00 GMT""#, vec!["one"]),
            (r#"110 - "stale""#, vec![]),
            ("299", vec![]),
            (r#"299 - "open"#, vec!["open"]),
        ] {
            assert_eq!(texts(header), expected, "{header}");
        }
    }

    #[test]
    fn each_text_is_told_once() {
        let heard = Arc::new(Mutex::new(vec![]));
        let ear = heard.clone();
        let layer = WarningLayer::new(move |text: &str| ear.lock().unwrap().push(text.to_owned()));
        let response = Response::builder()
            .header(WARNING, r#"299 - "deprecated""#)
            .body(())
            .unwrap();
        layer.look(&response);
        layer.clone().look(&response);
        assert_eq!(*heard.lock().unwrap(), ["deprecated"]);
    }
}
