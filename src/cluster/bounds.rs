//! Limits answers of the API server and detects answers of other servers.
//!
//! The client library reads an answer to its last byte and a watch to its next line feed, so a broken or hostile
//! server can fill the memory. [`BoundsLayer`] aborts such an answer with [`TooLarge`]. Watches and followed logs are
//! streams without a total limit; each event of a watch has one, and the reader of a log limits its lines. The library
//! accepts any JSON object as a `Status` and follows no redirect, which loses the HTTP status of a proxy's refusal:
//! this layer turns such answers into a `Status` or [`NotKubernetes`].

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Bytes, Frame, SizeHint};
use serde_json::{Value, json};
use tower::{BoxError, Layer, Service};

/// Limit of an answer.
pub const ANSWER: u64 = 64 << 20;
/// Limit of an error response.
pub const FAILURE: u64 = 1 << 20;
/// Limit of one event of a watch.
pub const EVENT: u64 = 16 << 20;

/// An answer that exceeds its limit.
#[derive(Debug, thiserror::Error)]
#[error("{what} is larger than {} MiB", limit >> 20)]
pub struct TooLarge {
    what: String,
    limit: u64,
}

/// An answer that is not from an API server.
#[derive(Debug, thiserror::Error)]
pub enum NotKubernetes {
    #[error("{what} is a redirect (HTTP {status}) to {location:?}, not one of the Kubernetes API")]
    Redirect {
        what: String,
        status: u16,
        /// The target without its query.
        location: String,
    },
    #[error("{what} is a web page (HTTP {status}), not one of the Kubernetes API")]
    Page { what: String, status: u16 },
}

/// Adds [`Bounds`] to a client's service.
#[derive(Clone, Debug)]
pub struct BoundsLayer {
    server: Arc<str>,
}

impl BoundsLayer {
    /// Creates a layer that names `server` in errors.
    pub fn new(server: &Uri) -> Self {
        let server = server.to_string();
        Self {
            server: server.trim_end_matches('/').into(),
        }
    }
}

impl<S> Layer<S> for BoundsLayer {
    type Service = Bounds<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Bounds {
            inner,
            server: self.server.clone(),
        }
    }
}

/// A service that limits the body of each response.
#[derive(Clone, Debug)]
pub struct Bounds<S> {
    inner: S,
    server: Arc<str>,
}

impl<S, A, B> Service<Request<A>> for Bounds<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Either<Bounded<B>, Full<Bytes>>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let uri = request.uri();
        let has = |parameter: &str| {
            let parameters = uri.query().unwrap_or_default().split('&');
            parameters
                .filter_map(|pair| pair.split_once('='))
                .any(|(name, value)| name == parameter && matches!(value, "true" | "1"))
        };
        let (watched, followed) = (has("watch"), has("follow"));
        let what = format!(
            "the answer of {} to {} {}",
            self.server,
            request.method(),
            uri.path()
        );
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await.map_err(Into::into)?;
            let failed = response.status().is_client_error() || response.status().is_server_error();
            if !failed {
                check(&what, response.status(), response.headers())?;
            }
            let limit = match (failed, watched, followed) {
                (true, ..) => Limit::Total(FAILURE),
                (false, true, _) => Limit::Line(EVENT),
                (false, false, true) => Limit::None,
                (false, false, false) => Limit::Total(ANSWER),
            };
            let response = response.map(|inner| Bounded {
                inner,
                what,
                limit,
                read: 0,
                ended: false,
            });
            if !failed {
                return Ok(response.map(Either::Left));
            }
            let (mut head, body) = response.into_parts();
            let body = body.collect().await?.to_bytes();
            head.headers.remove(CONTENT_LENGTH);
            head.headers.remove(TRANSFER_ENCODING);
            let body = Full::new(as_status(head.status, body));
            Ok(Response::from_parts(head, Either::Right(body)))
        })
    }
}

/// Refuses redirects and web pages.
fn check(what: &str, status: StatusCode, headers: &HeaderMap) -> Result<(), NotKubernetes> {
    let header = |name: HeaderName| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default()
    };
    let (what, code) = (what.to_owned(), status.as_u16());
    if status.is_redirection() {
        let location = header(LOCATION).split(['?', '#']).next().unwrap_or_default();
        return Err(NotKubernetes::Redirect {
            what,
            status: code,
            location: location.to_owned(),
        });
    }
    if header(CONTENT_TYPE).starts_with("text/html") {
        return Err(NotKubernetes::Page { what, status: code });
    }
    Ok(())
}

/// Converts the body of a failure to a `Status` with the code of the response, unless it is one.
fn as_status(code: StatusCode, body: Bytes) -> Bytes {
    let parsed = serde_json::from_slice::<Value>(&body);
    if parsed.is_ok_and(|status| status["kind"] == "Status" && status["code"] == code.as_u16()) {
        return body;
    }
    let text = String::from_utf8_lossy(&body);
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": code.as_u16(),
        "reason": code.canonical_reason().unwrap_or_default(),
        "message": text.trim(),
    });
    status.to_string().into()
}

#[derive(Clone, Copy, Debug)]
enum Limit {
    None,
    Total(u64),
    Line(u64),
}

/// A body that fails with [`TooLarge`] at its limit.
#[derive(Debug)]
pub struct Bounded<B> {
    inner: B,
    what: String,
    limit: Limit,
    /// Bytes read, or bytes read since the last line feed.
    read: u64,
    ended: bool,
}

impl<B> Bounded<B> {
    fn too_large(&mut self, what: String, limit: u64) -> BoxError {
        self.ended = true;
        Box::new(TooLarge { what, limit })
    }

    fn count(&mut self, data: &[u8]) -> Result<(), BoxError> {
        match self.limit {
            Limit::None => {}
            Limit::Total(limit) => {
                self.read += data.len() as u64;
                if self.read > limit {
                    return Err(self.too_large(self.what.clone(), limit));
                }
            }
            Limit::Line(limit) => {
                for line in data.split_inclusive(|byte| *byte == b'\n') {
                    self.read += line.len() as u64;
                    if self.read > limit {
                        return Err(self.too_large(format!("an event in {}", self.what), limit));
                    }
                    if line.ends_with(b"\n") {
                        self.read = 0;
                    }
                }
            }
        }
        Ok(())
    }
}

impl<B> Body for Bounded<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        // A `Content-Length` above the limit fails before the body is read.
        if let Limit::Total(limit) = self.limit
            && self.read == 0
            && self.inner.size_hint().lower() > limit
        {
            let what = self.what.clone();
            return Poll::Ready(Some(Err(self.too_large(what, limit))));
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(Into::into)?;
            if let Some(data) = frame.data_ref() {
                self.count(data)?;
            }
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, Full, StreamBody};

    const MIB: usize = 1 << 20;

    /// Sends a request whose answer has `status` and consists of `chunks`, and returns the number of bytes read.
    async fn answer(path: &str, status: u16, chunks: Vec<Vec<u8>>) -> Result<usize, String> {
        let service = tower::service_fn(move |_: Request<()>| {
            let frames = chunks
                .clone()
                .into_iter()
                .map(|chunk| Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from(chunk))));
            let body = StreamBody::new(futures::stream::iter(frames));
            let response = Response::builder().status(status).body(body).unwrap();
            std::future::ready(Ok::<_, std::convert::Infallible>(response))
        });
        let layer = BoundsLayer::new(&Uri::from_static("https://x:6443/"));
        let request = Request::get(path).body(()).unwrap();
        let response = layer.layer(service).call(request).await;
        let response = response.map_err(|error| error.to_string())?;
        let collected = response.into_body().collect().await;
        collected
            .map(|body| body.to_bytes().len())
            .map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn answer_fails_one_byte_above_its_limit() {
        let full = vec![vec![b'x'; MIB]; 64];
        assert_eq!(answer("/version", 200, full.clone()).await, Ok(64 * MIB));
        let more = [full, vec![vec![b'x']]].concat();
        let message = "the answer of https://x:6443 to GET /version is larger than 64 MiB";
        assert_eq!(
            answer("/version?a=b", 200, more.clone()).await,
            Err(message.to_owned())
        );
        let watched = "/version?watch=false&follow=0";
        assert_eq!(answer(watched, 200, more).await, Err(message.to_owned()));
    }

    #[tokio::test]
    async fn failure_has_a_smaller_limit_even_for_streams() {
        for path in ["/api", "/api?watch=true", "/log?follow=true"] {
            let error = answer(path, 500, vec![vec![b'x'; MIB + 1]]).await.unwrap_err();
            assert!(error.ends_with(" is larger than 1 MiB"), "{error}");
        }
    }

    #[tokio::test]
    async fn watch_is_limited_by_event_and_log_is_not_limited() {
        let events = vec![[&vec![b'x'; MIB - 1][..], b"\n"].concat(); 70];
        assert_eq!(answer("/pods?watch=true", 200, events).await, Ok(70 * MIB));
        let endless = vec![vec![b'x'; MIB]; 70];
        let message = "an event in the answer of https://x:6443 to GET /pods is larger than 16 MiB";
        assert_eq!(
            answer("/pods?limit=1&watch=1", 200, endless.clone()).await,
            Err(message.to_owned())
        );
        assert_eq!(answer("/log?follow=true", 200, endless).await, Ok(70 * MIB));
    }

    #[tokio::test]
    async fn content_length_above_limit_fails_before_reading() {
        let mut body = Bounded {
            inner: Full::new(Bytes::from(vec![0; 9])),
            what: "it".to_owned(),
            limit: Limit::Total(8),
            read: 0,
            ended: false,
        };
        assert!(body.frame().await.unwrap().is_err());
        assert_eq!(body.read, 0);
        assert!(body.frame().await.is_none(), "the end follows the error");
    }
}
