//! Sends the requests of steps, with everything that the API server answers.

use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt as _;
use kube::client::Body;
use kube::core::Status;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::explain::explain;
use super::warnings;
use super::{Cluster, Result};
use crate::manifest::{Kind, OWNER};
use crate::net::Explanation;
use crate::untrusted;

/// A request to the Kubernetes API on behalf of a step.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The method.
    pub method: Verb,
    /// The kind.
    pub kind: Kind,
    /// The namespace; `None` for a cluster-scoped kind.
    pub namespace: Option<&'a str>,
    /// The name, except for `Create` and `List`.
    pub name: Option<&'a str>,
    /// The body.
    pub body: Option<&'a Value>,
    /// The user agent, if it is not the client's.
    pub user_agent: Option<&'a str>,
}

/// What a [`Call`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Creates an object; unknown fields are refused.
    Create,
    /// Lists at most one object, or none.
    List,
    /// Reads an object.
    Get,
    /// Merges the body into an object; unknown fields are refused.
    Patch,
}

/// The API server's answer to a [`Call`].
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// ID of the request in the audit log.
    pub audit_id: Option<String>,
    /// Warnings, such as those of policies that only warn.
    pub warnings: Vec<String>,
    /// The object, or why the API server refused.
    pub content: std::result::Result<Value, Explanation>,
}

impl Cluster {
    /// Sends a request. A refusal by the API server is an answer, not an error.
    ///
    /// # Errors
    /// Fails if no answer arrived: whether the request took effect is then unknown.
    pub async fn send(&self, call: Call<'_>) -> Result<Answer> {
        let (method, query) = match call.method {
            Verb::Create => (
                Method::POST,
                format!("?fieldManager={OWNER}&fieldValidation=Strict"),
            ),
            Verb::Patch => (
                Method::PATCH,
                format!("?fieldManager={OWNER}&fieldValidation=Strict"),
            ),
            Verb::List => (Method::GET, "?limit=1".to_owned()),
            Verb::Get => (Method::GET, String::new()),
        };
        let content_type = match call.method {
            Verb::Patch => "application/merge-patch+json",
            _ => "application/json",
        };
        let path = path(call.kind, call.namespace, call.name);
        let mut request = http::Request::builder()
            .method(&method)
            .uri(format!("{path}{query}"))
            .header(CONTENT_TYPE, content_type);
        if let Some(agent) = call.user_agent {
            request = request.header(USER_AGENT, agent);
        }
        let body = call
            .body
            .map_or_else(Vec::new, |body| body.to_string().into_bytes());
        let doing = || format!("send {method} {path}");
        self.call(doing, async {
            let request = request.body(Body::from(body)).map_err(kube::Error::HttpError)?;
            let response = self.client.send(request).await?;
            let (head, body) = response.into_parts();
            let body = body.collect().await?.to_bytes();
            let content = if head.status.is_success() {
                Ok(serde_json::from_slice(&body).map_err(kube::Error::SerdeError)?)
            } else {
                Err(refusal(head.status, &body))
            };
            Ok(Answer {
                status: head.status.as_u16(),
                audit_id: audit_id(&head.headers),
                warnings: warnings::texts(&head.headers),
                content,
            })
        })
        .await
    }
}

fn path(kind: Kind, namespace: Option<&str>, name: Option<&str>) -> String {
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let api = match kind.group() {
        "" => format!("/api/{}", kind.version()),
        group => format!("/apis/{group}/{}", kind.version()),
    };
    let namespace = namespace.map_or_else(String::new, |namespace| {
        format!("/namespaces/{}", encoded(namespace))
    });
    let name = name.map_or_else(String::new, |name| format!("/{}", encoded(name)));
    format!("{api}{namespace}/{}{name}", kind.plural())
}

fn audit_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get("audit-id")?.to_str().ok()?;
    Some(untrusted::line(id))
}

fn refusal(code: StatusCode, body: &[u8]) -> Explanation {
    let status = serde_json::from_slice::<Status>(body).unwrap_or_else(|_| Status {
        message: String::from_utf8_lossy(body).into_owned(),
        code: code.as_u16(),
        ..Status::default()
    });
    let status = Status {
        code: code.as_u16(),
        ..status
    };
    explain(&kube::Error::Api(Box::new(status)))
}
