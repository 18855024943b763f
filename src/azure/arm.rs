//! Azure Resource Manager: requests with a bound, a login that is renewed, waits as Azure tells them, pages.
//!
//! What is waited for is bounded by the patience of whoever asks, for a whole list with its pages and waits.
//! Throttling is told by `Retry-After` (Azure Resource Manager, on 429) and by `x-ms-user-quota-remaining` and
//! `x-ms-user-quota-resets-after` (Resource Graph, on every answer): Microsoft's "Guidance for throttled
//! requests in Azure Resource Graph".

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, RETRY_AFTER, USER_AGENT};
use http::{Method, Request, StatusCode, Uri};
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::login::{Held, Login, LoginKind, LoginOptions};
use super::{AzureError, Cloud, Result, page, sdk};
use crate::net::http::{AGENT, Answer, Bytes, Transport, bearer};
use crate::net::{Cause, Environment, Explanation};

/// Bound of one request unless the user gives another.
const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Bound of one read, with all its pages and waits.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a read is repeated after an answer of 500, 502, 503 or 504.
const REPEATS: u32 = 2;
/// What is waited before the first of these; twice that before the next.
const PAUSE: Duration = Duration::from_millis(500);
/// What is waited where Azure asks for patience and does not say how much: Resource Graph's window.
const WINDOW: Duration = Duration::from_secs(5);
/// More pages than 90 days of alerts have: a list that goes on is one that goes round.
const MAX_PAGES: usize = 1000;
/// The most that Resource Graph puts on a page.
const ROWS: u16 = 1000;
const GRAPH: &str = "/providers/Microsoft.ResourceGraph/resources?api-version=2022-10-01";

/// Where and as whom Azure is asked.
#[derive(Clone)]
pub struct ArmOptions {
    /// Which cloud.
    pub cloud: Cloud,
    /// As whom.
    pub login: LoginOptions,
    /// A file with certificates in PEM to trust beside those of the system.
    pub certificate_authority: Option<PathBuf>,
    /// Bound of one request.
    pub request_timeout: Duration,
    /// The variables of the process.
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

/// A right in Azure, and the smallest role built in that has it (Microsoft's page on built-in roles).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    /// Such as `Microsoft.Security/alerts/read`.
    pub action: &'static str,
    /// Such as `Security Reader`.
    pub role: &'static str,
}

impl Right {
    /// To read alerts.
    pub const ALERTS: Self = Self::new("Microsoft.Security/alerts/read", "Security Reader");
    /// To read which plans are on.
    pub const PLANS: Self = Self::new("Microsoft.Security/pricings/read", "Security Reader");
    /// To read suppression rules.
    pub const RULES: Self = Self::new(
        "Microsoft.Security/alertsSuppressionRules/read",
        "Security Reader",
    );
    /// To read AKS clusters.
    pub const CLUSTERS: Self = Self::new("Microsoft.ContainerService/managedClusters/read", "Reader");
    /// To read connectors of other clouds.
    pub const CONNECTORS: Self = Self::new("Microsoft.Security/securityConnectors/read", "Security Reader");
    /// To read clusters that Azure Arc connects.
    pub const CONNECTED: Self = Self::new("Microsoft.Kubernetes/connectedClusters/read", "Reader");

    const fn new(action: &'static str, role: &'static str) -> Self {
        Self { action, role }
    }
}

/// What a request is for: for its error.
#[derive(Clone, Debug)]
pub struct Call {
    /// Completing "failed to ...".
    pub doing: String,
    /// The right that it takes.
    pub right: Right,
    /// Where that is needed: the id of a subscription or a group; empty where it is not one place.
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
    /// When Resource Graph may be asked again.
    graph_free: Mutex<Option<Instant>>,
}

/// A request to send, perhaps more than once.
struct Outgoing<'a> {
    call: &'a Call,
    method: Method,
    uri: Uri,
    body: Bytes,
}

impl Arm {
    /// Makes ready to ask. Nothing is sent yet, and nobody is logged in.
    ///
    /// # Errors
    ///
    /// Certificates that cannot be used.
    pub fn new(options: ArmOptions) -> Result<Self> {
        let ArmOptions {
            cloud,
            login,
            certificate_authority,
            request_timeout,
            environment,
        } = options;
        let doing = || "make ready to ask Azure";
        let endpoint = cloud.endpoint().parse().map_err(|_| {
            Explanation::new(Cause::Setting, "the endpoint of the cloud is no address").failed_to(doing())
        })?;
        let transport = Transport::new(certificate_authority.as_deref(), environment.clone())
            .map_err(|failure| sdk::explain(failure).failed_to(doing()))?;
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

    /// Logs in, unless that is done, and says how.
    ///
    /// # Errors
    ///
    /// No login.
    pub async fn log_in(&self) -> Result<LoginKind> {
        let token = self.0.login.token(None).await;
        let token = token.map_err(|explained| explained.failed_to("log in to Azure"))?;
        Ok(token.kind)
    }

    /// Reads the JSON at `path` (with its query), repeated where Azure has trouble.
    ///
    /// # Errors
    ///
    /// No login, no answer, or one that says no or cannot be read; each says what to do.
    pub async fn get(&self, call: &Call, path: &str) -> Result<Value> {
        let outgoing = self.outgoing(call, Method::GET, path, None)?;
        parsed(call, path, &self.send(&outgoing, deadline()).await?)
    }

    /// Reads the list at `path` with all its pages, handing over each item.
    ///
    /// # Errors
    ///
    /// As [`Arm::get`]; also where a next page is at another place, since the token would go there.
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

    /// Asks Resource Graph, with all pages, handing over each row. `subscriptions` may be empty: then all are
    /// asked that the login can read.
    ///
    /// # Errors
    ///
    /// As [`Arm::get`].
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
            "options": {"$top": ROWS, "resultFormat": "objectArray"},
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
            if let Some(wait) = used_up(&answer.headers) {
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
                format!("{:?} is no path in Azure", without_query(path)),
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

    /// The address of a next page, taken as it is, if it is at the same place.
    fn next(&self, link: &str) -> std::result::Result<Uri, Explanation> {
        let here = &self.0.endpoint;
        let port = |uri: &Uri| uri.port_u16().unwrap_or(443);
        let same = |uri: &Uri| {
            let authority = uri.authority().map_or("", |authority| authority.as_str());
            uri.scheme_str() == Some("https")
                && !authority.contains('@')
                && uri.host().map(str::to_ascii_lowercase) == here.host().map(str::to_ascii_lowercase)
                && port(uri) == port(here)
        };
        let uri: Option<Uri> = link.parse().ok();
        uri.filter(same).ok_or_else(|| {
            let message = "the next page is said to be at another place, which is not asked";
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
        let (mut refused, mut repeats) = (None, 0);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let message = format!("there was no whole answer within {:.0} s", PATIENCE.as_secs_f64());
                return Err(Explanation::new(Cause::TimedOut, message));
            }
            let held = tokio::time::timeout(left, login.token(refused))
                .await
                .map_err(|_| {
                    let message = format!("there was no login within {:.0} s", left.as_secs_f64());
                    Explanation::new(Cause::TimedOut, message)
                })??;
            let bound = self.0.request_timeout.min(left);
            let sent = transport.send(request(outgoing, &held)?, bound).await;
            let answer = sent.map_err(sdk::explain)?;
            let told = retry_after(&answer.headers);
            match answer.status.as_u16() {
                200..=299 => return Ok(answer),
                401 if refused.is_none() => refused = Some(held.number),
                429 => {
                    let wait = told.or_else(|| resets_after(&answer.headers)).unwrap_or(WINDOW);
                    pause(wait.max(PAUSE), deadline).await?;
                }
                500 | 502 | 503 | 504 if repeats < REPEATS => {
                    repeats += 1;
                    pause(told.unwrap_or(PAUSE * repeats), deadline).await?;
                }
                _ => return Err(refusal(outgoing, &held, &answer)),
            }
        }
    }
}

fn request(outgoing: &Outgoing<'_>, held: &Held) -> std::result::Result<Request<Bytes>, Explanation> {
    let unsendable = || Explanation::new(Cause::Auth, "the token has characters that no token has");
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
    Instant::now() + PATIENCE
}

/// Waits, unless that would take longer than there is.
async fn pause(wait: Duration, deadline: Instant) -> std::result::Result<(), Explanation> {
    if wait > deadline.saturating_duration_since(Instant::now()) {
        let message = format!(
            "Azure has too many requests and wants to be asked again in {:.0} s, which is longer than this waits",
            wait.as_secs_f64().ceil()
        );
        let mut explained = Explanation::new(Cause::Busy, message).with_hint("try again later");
        explained.retry_after = Some(wait);
        return Err(explained);
    }
    tokio::time::sleep(wait).await;
    Ok(())
}

/// `Retry-After`: seconds, or a time, which is compared with the server's own clock where it says that.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let time = |text: &str| Some(jiff::fmt::rfc2822::parse(text).ok()?.timestamp());
    let value = text(RETRY_AFTER)?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let now = text(DATE).and_then(time).unwrap_or_else(Timestamp::now);
    Some(
        time(value)?
            .duration_since(now)
            .max(SignedDuration::ZERO)
            .unsigned_abs(),
    )
}

/// When Resource Graph counts anew, where it says so: `hh:mm:ss`.
fn resets_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("x-ms-user-quota-resets-after")?.to_str().ok()?;
    let parts: Vec<u64> = text
        .split(':')
        .map(|part| part.trim().parse().ok())
        .collect::<Option<_>>()?;
    let [hours @ 0..=24, minutes @ 0..=59, seconds @ 0..=59] = parts[..] else {
        return None;
    };
    Some(Duration::from_secs((hours * 60 + minutes) * 60 + seconds))
}

/// How long Resource Graph may not be asked after this answer.
fn used_up(headers: &HeaderMap) -> Option<Duration> {
    let left = headers.get("x-ms-user-quota-remaining")?.to_str().ok()?;
    (left.trim() == "0").then(|| resets_after(headers).unwrap_or(WINDOW))
}

/// The error that Azure Resource Manager answers with.
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

fn refusal(outgoing: &Outgoing<'_>, held: &Held, answer: &Answer) -> Explanation {
    let Refusal { error } = serde_json::from_slice(&answer.body).unwrap_or_default();
    let said = match (error.code.as_str(), error.message.as_str()) {
        ("", "") => format!("{} answers {}", outgoing.uri.path(), answer.status),
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
                "Azure does not accept the login ({}), nor a new token of it: {said}",
                held.kind
            );
            Explanation::new(Cause::Unauthorized, message).with_hint("log in again: az logout, then az login")
        }
        StatusCode::FORBIDDEN => {
            let message = format!(
                "the login ({}) lacks the right {} on {place}, which the role {} has: {said}",
                held.kind, right.action, right.role
            );
            Explanation::new(Cause::Forbidden, message).with_hint(format!(
                "have it assigned: az role assignment create --role \"{}\" --assignee WHO --scope {}",
                right.role,
                if scope.is_empty() {
                    "/subscriptions/ID"
                } else {
                    scope
                }
            ))
        }
        StatusCode::NOT_FOUND => Explanation::new(Cause::NotFound, said)
            .with_hint("compare the subscription and the names with: az account show, az aks list -o table"),
        status if status.is_server_error() => {
            let message = format!("Azure has trouble ({}): {said}", status.as_u16());
            Explanation::new(Cause::Other, message).with_hint("try again later")
        }
        _ => Explanation::new(Cause::Other, said),
    }
}

fn parsed(call: &Call, path: &str, answer: &Answer) -> Result<Value> {
    // An answer without content is one (204).
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
    let message = format!("the answer of {path} cannot be read: {}", page::place(error));
    Explanation::new(Cause::Unreadable, message)
        .with_hint("does a proxy answer in Azure's place? check HTTPS_PROXY and NO_PROXY")
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

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn waits_are_read_in_every_form() {
        for (pairs, expected) in [
            (&[("retry-after", "7")][..], Some(7)),
            (
                &[
                    ("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"),
                    ("date", "Sun, 06 Nov 1994 08:49:07 GMT"),
                ],
                Some(30),
            ),
            (&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")], Some(0)),
            (&[("retry-after", "soon")], None),
            (&[], None),
        ] {
            assert_eq!(
                retry_after(&headers(pairs)),
                expected.map(Duration::from_secs),
                "{pairs:?}"
            );
        }
        for (text, expected) in [
            ("00:00:05", Some(5)),
            ("01:02:03", Some(3723)),
            ("5", None),
            ("00:61:00", None),
            ("-1:00:00", None),
        ] {
            let headers = headers(&[("x-ms-user-quota-resets-after", text)]);
            assert_eq!(
                resets_after(&headers),
                expected.map(Duration::from_secs),
                "{text}"
            );
        }
        let quota = |left, resets| {
            headers(&[
                ("x-ms-user-quota-remaining", left),
                ("x-ms-user-quota-resets-after", resets),
            ])
        };
        assert_eq!(used_up(&quota("1", "00:00:03")), None);
        assert_eq!(used_up(&quota("0", "00:00:03")), Some(Duration::from_secs(3)));
        assert_eq!(used_up(&quota("0", "?")), Some(WINDOW));
    }

    #[test]
    fn a_next_page_is_asked_for_only_at_the_same_place() {
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
