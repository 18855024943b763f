//! Requests to Azure Resource Manager and Resource Graph, with renewed tokens, retries and pages.
//!
//! A time limit covers a whole list with its pages and waits.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{Method, Request, StatusCode, Uri};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::login::{CachedToken, Login, LoginKind, LoginOptions};
use super::throttle::{self, WINDOW, pause};
use super::{AzureError, Cloud, Result, page, sdk};
use crate::net::http::{AGENT, Answer, Bytes, Transport, bearer};
use crate::net::{Cause, Environment, Explanation};

/// Timeout of a request.
const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Time limit of a read, with all its pages and waits.
const READ_TIMEOUT: Duration = Duration::from_secs(120);
/// Retries after a status of 500, 502, 503 or 504.
const MAX_RETRIES: u32 = 2;
/// Wait before the first retry; it doubles for the next one.
const PAUSE: Duration = Duration::from_millis(500);
/// Limit of pages, which exceeds 90 days of alerts and detects lists that loop.
const MAX_PAGES: usize = 1000;
/// Limit of rows that Resource Graph returns on a page.
const PAGE_SIZE: u16 = 1000;
const GRAPH: &str = "/providers/Microsoft.ResourceGraph/resources?api-version=2022-10-01";

/// The options of a connection to Azure.
#[derive(Clone)]
pub struct ArmOptions {
    /// The cloud.
    pub cloud: Cloud,
    /// The login.
    pub login: LoginOptions,
    /// A PEM file with certificates to trust besides those of the system.
    pub certificate_authority: Option<PathBuf>,
    /// Timeout of a request.
    pub request_timeout: Duration,
    /// The process environment.
    pub environment: Environment,
}

impl Default for ArmOptions {
    fn default() -> Self {
        Self {
            cloud: Cloud::default(),
            login: LoginOptions::default(),
            certificate_authority: None,
            request_timeout: DEFAULT_REQUEST_TIMEOUT,
            environment: Environment::default(),
        }
    }
}

/// A permission in Azure, and the smallest built-in role that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    /// The action, such as `Microsoft.Security/alerts/read`.
    pub action: &'static str,
    /// The role, such as `Security Reader`.
    pub role: &'static str,
}

impl Right {
    /// Read alerts.
    pub const ALERTS: Self = Self::new("Microsoft.Security/alerts/read", "Security Reader");
    /// Read plans.
    pub const PLANS: Self = Self::new("Microsoft.Security/pricings/read", "Security Reader");
    /// Read suppression rules.
    pub const RULES: Self = Self::new(
        "Microsoft.Security/alertsSuppressionRules/read",
        "Security Reader",
    );
    /// Read AKS clusters.
    pub const CLUSTERS: Self = Self::new("Microsoft.ContainerService/managedClusters/read", "Reader");
    /// Read connectors of other clouds.
    pub const CONNECTORS: Self = Self::new("Microsoft.Security/securityConnectors/read", "Security Reader");
    /// Read Arc-connected clusters.
    pub const CONNECTED: Self = Self::new("Microsoft.Kubernetes/connectedClusters/read", "Reader");

    const fn new(action: &'static str, role: &'static str) -> Self {
        Self { action, role }
    }
}

/// The purpose of a request, for its errors.
#[derive(Clone, Debug)]
pub struct Call {
    /// The operation, which completes "failed to ...".
    pub doing: String,
    /// The required permission.
    pub right: Right,
    /// The scope of the permission: the ID of a subscription or group; empty if it has several.
    pub scope: String,
}

/// A connection to Azure Resource Manager. Clones share login and connections.
#[derive(Clone)]
pub struct Arm(Arc<Shared>);

struct Shared {
    cloud: Cloud,
    endpoint: Uri,
    transport: Transport,
    login: Login,
    request_timeout: Duration,
    /// The end of the throttling by Resource Graph.
    graph_free: Mutex<Option<Instant>>,
}

/// A request that may be sent several times.
struct Outgoing<'a> {
    call: &'a Call,
    method: Method,
    uri: Uri,
    body: Bytes,
}

impl Arm {
    /// Prepares a connection. Sends no request.
    ///
    /// # Errors
    /// If certificates cannot be used.
    pub fn new(options: ArmOptions) -> Result<Self> {
        let ArmOptions {
            cloud,
            login,
            certificate_authority,
            request_timeout,
            environment,
        } = options;
        let doing = "prepare the connection to Azure";
        let endpoint = cloud.endpoint().parse().map_err(|_| {
            Explanation::new(Cause::Setting, "the endpoint of the cloud is not a URL").failed_to(doing)
        })?;
        let transport = Transport::new(certificate_authority.as_deref(), environment.clone())
            .map_err(|failure| sdk::explain(failure).failed_to(doing))?;
        let login = Login::new(login, environment, cloud.clone(), transport.clone());
        Ok(Self(Arc::new(Shared {
            cloud,
            endpoint,
            transport,
            login,
            request_timeout,
            graph_free: Mutex::default(),
        })))
    }

    /// Logs in, if necessary, and returns the kind of login.
    ///
    /// # Errors
    /// If no login is available.
    pub async fn log_in(&self) -> Result<LoginKind> {
        let token = self.0.login.token(None).await;
        let token = token.map_err(|explained| explained.failed_to("log in to Azure"))?;
        Ok(token.kind)
    }

    /// Reads the JSON at `path` (with its query). Retries failures of the server.
    ///
    /// # Errors
    /// If no login is available, or the answer is missing, a refusal or malformed.
    pub async fn get(&self, call: &Call, path: &str) -> Result<Value> {
        let outgoing = self.outgoing(call, Method::GET, path, None)?;
        parsed(call, path, &self.send(&outgoing, deadline()).await?)
    }

    /// Passes each item of the list at `path` to `item`, from all pages.
    ///
    /// # Errors
    /// Those of [`Arm::get`], and if the link to the next page has another origin, which would receive the token.
    pub async fn list(&self, call: &Call, path: &str, mut item: impl FnMut(Value)) -> Result<()> {
        let deadline = deadline();
        let mut outgoing = self.outgoing(call, Method::GET, path, None)?;
        for _ in 0..MAX_PAGES {
            let answer = self.send(&outgoing, deadline).await?;
            let page = items(call, outgoing.uri.path(), &answer, &mut item)?;
            let Some(link) = page.rest.get("nextLink").and_then(Value::as_str) else {
                return Ok(());
            };
            if link.is_empty() {
                return Ok(());
            }
            outgoing.uri = self
                .next(link)
                .map_err(|explained| explained.failed_to(&call.doing))?;
        }
        Err(endless(call))
    }

    /// Passes each row of a query of Resource Graph to `item`, from all pages. If `subscriptions` is empty, the query
    /// covers all that the login can read.
    ///
    /// # Errors
    /// Those of [`Arm::get`].
    pub async fn graph(
        &self,
        call: &Call,
        query: &str,
        subscriptions: &[String],
        mut item: impl FnMut(Value),
    ) -> Result<()> {
        let deadline = deadline();
        let mut body = json!({
            "query": query,
            "options": {"$top": PAGE_SIZE, "resultFormat": "objectArray"},
        });
        if !subscriptions.is_empty() {
            body["subscriptions"] = json!(subscriptions);
        }
        for _ in 0..MAX_PAGES {
            let outgoing = self.outgoing(call, Method::POST, GRAPH, Some(&body))?;
            let free = *self
                .0
                .graph_free
                .lock()
                .expect("nothing panics while it holds this");
            if let Some(wait) = free.and_then(|free| free.checked_duration_since(Instant::now())) {
                pause(wait, deadline)
                    .await
                    .map_err(|explained| explained.failed_to(&call.doing))?;
            }
            let answer = self.send(&outgoing, deadline).await?;
            if let Some(wait) = throttle::quota_wait(&answer.headers) {
                *self
                    .0
                    .graph_free
                    .lock()
                    .expect("nothing panics while it holds this") = Some(Instant::now() + wait);
            }
            let page = items(call, outgoing.uri.path(), &answer, &mut item)?;
            match page.rest.get("$skipToken").and_then(Value::as_str) {
                Some(token) if !token.is_empty() => body["options"]["$skipToken"] = json!(token),
                _ => return Ok(()),
            }
        }
        Err(endless(call))
    }

    fn outgoing<'a>(
        &self,
        call: &'a Call,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Outgoing<'a>> {
        let uri = format!("{}{path}", self.0.cloud.endpoint());
        let uri = uri.parse().map_err(|_| {
            Explanation::new(
                Cause::Setting,
                format!("{:?} is not a path in Azure", without_query(path)),
            )
            .failed_to(&call.doing)
        })?;
        Ok(Outgoing {
            call,
            method,
            uri,
            body: body.map_or(Bytes::new(), |body| Bytes::from(body.to_string())),
        })
    }

    /// Parses the link to the next page, which must have the same origin.
    fn next(&self, link: &str) -> std::result::Result<Uri, Explanation> {
        let here = &self.0.endpoint;
        let port = |uri: &Uri| uri.port_u16().unwrap_or(443);
        let is_same_origin = |uri: &Uri| {
            let authority = uri.authority().map_or("", |authority| authority.as_str());
            uri.scheme_str() == Some("https")
                && !authority.contains('@')
                && uri.host().map(str::to_ascii_lowercase) == here.host().map(str::to_ascii_lowercase)
                && port(uri) == port(here)
        };
        let uri: Option<Uri> = link.parse().ok();
        uri.filter(is_same_origin).ok_or_else(|| {
            let message = "the link to the next page has another origin, which is not trusted";
            Explanation::new(Cause::Unreadable, message)
        })
    }

    async fn send(&self, outgoing: &Outgoing<'_>, deadline: Instant) -> Result<Answer> {
        self.exchange(outgoing, deadline)
            .await
            .map_err(|explained| explained.failed_to(&outgoing.call.doing))
    }

    async fn exchange(
        &self,
        outgoing: &Outgoing<'_>,
        deadline: Instant,
    ) -> std::result::Result<Answer, Explanation> {
        let Shared { login, transport, .. } = &*self.0;
        let (mut refused, mut retries) = (None, 0);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let message = format!("no complete answer within {:.0} s", READ_TIMEOUT.as_secs_f64());
                return Err(Explanation::new(Cause::TimedOut, message));
            }
            let held = tokio::time::timeout(left, login.token(refused))
                .await
                .map_err(|_| {
                    let message = format!("no login within {:.0} s", left.as_secs_f64());
                    Explanation::new(Cause::TimedOut, message)
                })??;
            let timeout = self.0.request_timeout.min(left);
            let sent = transport.send(request(outgoing, &held)?, timeout).await;
            let answer = sent.map_err(sdk::explain)?;
            let retry_after = throttle::retry_after(&answer.headers);
            match answer.status.as_u16() {
                200..=299 => return Ok(answer),
                401 if refused.is_none() => refused = Some(held.number),
                429 => {
                    let wait = retry_after
                        .or_else(|| throttle::resets_after(&answer.headers))
                        .unwrap_or(WINDOW);
                    pause(wait.max(PAUSE), deadline).await?;
                }
                500 | 502 | 503 | 504 if retries < MAX_RETRIES => {
                    retries += 1;
                    pause(retry_after.unwrap_or(PAUSE * retries), deadline).await?;
                }
                _ => return Err(refusal(outgoing, &held, &answer)),
            }
        }
    }
}

fn request(outgoing: &Outgoing<'_>, held: &CachedToken) -> std::result::Result<Request<Bytes>, Explanation> {
    let unsendable = || Explanation::new(Cause::Auth, "the token has characters that a header cannot hold");
    let token = bearer(held.token.expose_secret()).ok_or_else(unsendable)?;
    Request::builder()
        .method(&outgoing.method)
        .uri(&outgoing.uri)
        .header(AUTHORIZATION, token)
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, AGENT)
        .body(outgoing.body.clone())
        .map_err(|_| unsendable())
}

fn deadline() -> Instant {
    Instant::now() + READ_TIMEOUT
}

/// The error response of Azure Resource Manager.
#[derive(Default, Deserialize)]
struct Refusal {
    error: Reason,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Reason {
    code: String,
    message: String,
}

fn refusal(outgoing: &Outgoing<'_>, held: &CachedToken, answer: &Answer) -> Explanation {
    let Refusal { error } = serde_json::from_slice(&answer.body).unwrap_or_default();
    let reason = match (error.code.as_str(), error.message.as_str()) {
        ("", "") => format!("{} answered {}", outgoing.uri.path(), answer.status),
        (code, message) => format!("{code}: {message}"),
    };
    let Call { right, scope, .. } = outgoing.call;
    let place = if scope.is_empty() {
        "the subscription"
    } else {
        scope
    };
    match answer.status {
        StatusCode::UNAUTHORIZED => {
            let message = format!(
                "Azure does not accept the login ({}), nor a renewed token: {reason}",
                held.kind
            );
            Explanation::new(Cause::Unauthorized, message).with_hint("log in again: az logout, then az login")
        }
        StatusCode::FORBIDDEN => {
            let message = format!(
                "the login ({}) lacks the permission {} on {place}, which the role {} has: {reason}",
                held.kind, right.action, right.role
            );
            Explanation::new(Cause::Forbidden, message).with_hint(format!(
                "have the role assigned: az role assignment create --role \"{}\" --assignee WHO --scope {}",
                right.role,
                if scope.is_empty() {
                    "/subscriptions/ID"
                } else {
                    scope
                }
            ))
        }
        StatusCode::NOT_FOUND => Explanation::new(Cause::NotFound, reason)
            .with_hint("compare the subscription and the names with: az account show, az aks list -o table"),
        status if status.is_server_error() => {
            let message = format!("Azure failed ({}): {reason}", status.as_u16());
            Explanation::new(Cause::Other, message).with_hint("try again later")
        }
        _ => Explanation::new(Cause::Other, reason),
    }
}

fn parsed(call: &Call, path: &str, answer: &Answer) -> Result<Value> {
    // 204 has no content.
    if answer.body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&answer.body).map_err(|error| unreadable(call, without_query(path), &error))
}

fn items(call: &Call, path: &str, answer: &Answer, item: &mut dyn FnMut(Value)) -> Result<page::Page> {
    let mut from = serde_json::Deserializer::from_slice(&answer.body);
    let page = page::read(&mut from, item).and_then(|page| from.end().map(|()| page));
    let page = page.map_err(|error| unreadable(call, path, &error))?;
    if !page.listed {
        let message = format!("the answer of {path} holds no list");
        return Err(Explanation::new(Cause::Unreadable, message).failed_to(&call.doing));
    }
    Ok(page)
}

fn unreadable(call: &Call, path: &str, error: &serde_json::Error) -> AzureError {
    let message = format!(
        "the answer of {path} cannot be parsed: {}",
        page::describe_error(error)
    );
    Explanation::new(Cause::Unreadable, message)
        .with_hint("check HTTPS_PROXY and NO_PROXY: a proxy may have answered")
        .failed_to(&call.doing)
}

fn endless(call: &Call) -> AzureError {
    let message = format!("the list has more than {MAX_PAGES} pages");
    Explanation::new(Cause::Unreadable, message).failed_to(&call.doing)
}

fn without_query(path: &str) -> &str {
    path.split_once('?').map_or(path, |(path, _)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_page_must_have_the_same_origin() {
        let at = |endpoint: &str| {
            let cloud = endpoint.parse().unwrap();
            Arm::new(ArmOptions {
                cloud,
                ..ArmOptions::default()
            })
        };
        let arm = at("https://arm.example.test").unwrap();
        for (link, taken) in [
            ("https://arm.example.test/x?$skiptoken=a%2Fb", true),
            ("https://ARM.example.test:443/x", true),
            ("https://arm.example.test:8443/x", false),
            ("http://arm.example.test/x", false),
            ("https://other.example.test/x", false),
            ("https://arm.example.test@other.example.test/x", false),
            ("https://me@arm.example.test/x", false),
            ("/x", false),
            ("not a link", false),
        ] {
            let next = arm.next(link);
            assert_eq!(next.is_ok(), taken, "{link}");
            if let Ok(uri) = next {
                assert!(
                    uri.to_string().ends_with(link.rsplit_once('/').unwrap().1),
                    "verbatim"
                );
            }
        }
    }
}
