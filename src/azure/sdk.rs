//! Lets the official crates send their requests by [`Transport`].

use std::time::Duration;

use async_trait::async_trait;
use azure_core::error::ErrorKind;
use azure_core::http::headers::Headers;
use azure_core::http::{AsyncRawResponse, HttpClient, Request as SdkRequest};
use http::{HeaderName, Method, Request};

use crate::net::http::Transport;
use crate::net::{Cause, Explanation};

/// Timeout of a request for a token.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(30);
const HINT_NETWORK: &str =
    "check the network, HTTPS_PROXY and NO_PROXY; compare with: az account list-locations";

/// Adds the hint of Azure to a failure of the transport.
pub(super) fn explain(failure: Explanation) -> Explanation {
    match failure.cause {
        Cause::TooLarge => Explanation {
            cause: Cause::Unreadable,
            ..failure
        },
        Cause::Unreachable | Cause::TimedOut if failure.hint.is_none() => failure.with_hint(HINT_NETWORK),
        _ => failure,
    }
}

/// Sends the requests for tokens.
#[async_trait]
impl HttpClient for Transport {
    async fn execute_request(&self, request: &SdkRequest) -> azure_core::Result<AsyncRawResponse> {
        let unsendable = |error: http::Error| azure_core::Error::new(ErrorKind::DataConversion, error);
        let azure_core::http::Body::Bytes(body) = request.body() else {
            let message = "streamed requests are not supported";
            return Err(azure_core::Error::with_message(ErrorKind::Other, message));
        };
        let mut outgoing = Request::builder()
            .method(
                Method::from_bytes(request.method().as_str().as_bytes()).map_err(|e| unsendable(e.into()))?,
            )
            .uri(request.url().as_str());
        for (name, value) in request.headers().iter() {
            let name = HeaderName::from_bytes(name.as_str().as_bytes()).map_err(|e| unsendable(e.into()))?;
            outgoing = outgoing.header(name, value.as_str());
        }
        let outgoing = outgoing.body(body.clone()).map_err(unsendable)?;
        let answer = self
            .send(outgoing, TOKEN_TIMEOUT)
            .await
            .map_err(|error| azure_core::Error::with_message(ErrorKind::Io, error.message))?;
        let mut headers = Headers::new();
        for (name, value) in &answer.headers {
            if let Ok(value) = value.to_str() {
                headers.insert(name.as_str().to_owned(), value.to_owned());
            }
        }
        let status = answer.status.as_u16().into();
        Ok(AsyncRawResponse::from_bytes(status, headers, answer.body))
    }
}
