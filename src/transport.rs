//! HTTP to Azure on the stack that the Kubernetes client brings along: hyper, and rustls with ring.
//!
//! It owns connections, certificates, proxies, the bound of a single request and the size of an answer.
//! `HTTPS_PROXY` and `NO_PROXY` mean what they mean for the cluster. Redirects are not followed: none is part
//! of these APIs, and a token must not leave for another place.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::error::ErrorKind;
use azure_core::http::headers::Headers;
use azure_core::http::{AsyncRawResponse, HttpClient, Request as SdkRequest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::HeaderMap;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls_platform_verifier::Verifier;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};

use super::{Cause, Environment, Explained};
use crate::cluster::proxy::proxy_for;

/// Bound of one request for a token.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// More than Resource Graph puts into an answer (16 MiB), and a bound for what is held at once.
const MAX_ANSWER: usize = 64 << 20;
/// Where managed identity is: on the machine's own link, so never behind a proxy.
const LINK_LOCAL: &str = "169.254.169.254";
const HINT_NETWORK: &str =
    "check the network, HTTPS_PROXY and NO_PROXY; compare with: az account list-locations";

type Connected = BoxCloneSyncService<Request<Full<Bytes>>, Response<Incoming>, ClientError>;

/// A whole answer.
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// See the module's description. Clones share their connections.
#[derive(Clone)]
pub(super) struct Transport(Arc<Inner>);

struct Inner {
    tls: ClientConfig,
    environment: Environment,
    /// A client for each place: which proxy is used depends on it.
    clients: Mutex<HashMap<String, Connected>>,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}

impl Transport {
    /// Trusts what the system trusts, and the certificates in the PEM file `authority` as well.
    pub fn new(authority: Option<&Path>, environment: Environment) -> Result<Self, Explained> {
        let extra = authority.map(certificates).transpose()?.unwrap_or_default();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let refuse = |error: rustls::Error| {
            Explained::new(
                Cause::Setting,
                format!("the certificates cannot be used: {error}"),
            )
            .hint("check the certificates of the system and of the option for a certificate authority")
        };
        let verifier = Verifier::new_with_extra_roots(extra, provider.clone()).map_err(refuse)?;
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(refuse)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(Self(Arc::new(Inner {
            tls,
            environment,
            clients: Mutex::default(),
        })))
    }

    /// Sends one request and reads the whole answer, whatever its status, within `bound`.
    pub async fn send(&self, request: Request<Full<Bytes>>, bound: Duration) -> Result<Answer, Explained> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let client = self.client(request.uri())?;
        let exchange = async {
            let response = client
                .oneshot(request)
                .await
                .map_err(|error| told(&error, &host))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    let message = format!("the answer is larger than {} MiB", MAX_ANSWER >> 20);
                    return Explained::new(Cause::Unreadable, message);
                }
                told(&*error, &host)
            })?;
            Ok(Answer {
                status: head.status,
                headers: head.headers,
                body: body.to_bytes(),
            })
        };
        tokio::time::timeout(bound, exchange).await.unwrap_or_else(|_| {
            let message = format!("{host} did not answer within {:.0} s", bound.as_secs_f64());
            Err(Explained::new(Cause::TimedOut, message).hint(HINT_NETWORK))
        })
    }

    fn client(&self, uri: &Uri) -> Result<Connected, Explained> {
        let place = format!(
            "{}://{}",
            uri.scheme_str().unwrap_or_default(),
            uri.authority().map_or("", |authority| authority.as_str())
        );
        let mut clients = self.0.clients.lock().expect("nothing panics while it holds this");
        if let Some(client) = clients.get(&place) {
            return Ok(client.clone());
        }
        let proxy = if uri.host() == Some(LINK_LOCAL) {
            None
        } else {
            proxy_for(uri, None, |name| self.0.environment.get(name)).map_err(|error| {
                Explained::new(Cause::Unreachable, error.to_string()).hint("check HTTPS_PROXY and NO_PROXY")
            })?
        };
        let client = self.connect(proxy);
        clients.insert(place, client.clone());
        Ok(client)
    }

    fn connect(&self, proxy: Option<Uri>) -> Connected {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let tls = &self.0.tls;
        match proxy {
            None => boxed(secured(tls, connector)),
            Some(proxy) if proxy.scheme_str() == Some("socks5") => {
                boxed(secured(tls, SocksV5::new(proxy, connector)))
            }
            Some(proxy) if proxy.scheme_str() == Some("https") => {
                boxed(secured(tls, tunnel(proxy, secured(tls, connector))))
            }
            Some(proxy) => boxed(secured(tls, tunnel(proxy, connector))),
        }
    }
}

fn secured<C>(tls: &ClientConfig, connector: C) -> HttpsConnector<C> {
    // Plain HTTP is for managed identity on the machine's own link; `Arm` takes no other address than https.
    HttpsConnectorBuilder::new()
        .with_tls_config(tls.clone())
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector)
}

fn boxed<C>(connector: C) -> Connected
where
    C: Connect + Clone + Send + Sync + 'static,
    Client<C, Full<Bytes>>: Service<Request<Full<Bytes>>, Response = Response<Incoming>, Error = ClientError>,
    <Client<C, Full<Bytes>> as Service<Request<Full<Bytes>>>>::Future: Send,
{
    BoxCloneSyncService::new(Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(connector))
}

fn tunnel<C>(proxy: Uri, connector: C) -> Tunnel<C> {
    let user = proxy
        .authority()
        .and_then(|authority| authority.as_str().rsplit_once('@'))
        .map(|(user, _)| user.to_owned());
    let tunnel = Tunnel::new(proxy, connector);
    let Some(user) = user else {
        return tunnel;
    };
    // Characters that a user name or a password cannot hold in a URL are escaped there.
    let plain: Vec<u8> = percent_encoding::percent_decode_str(&user).collect();
    match HeaderValue::from_str(&format!("Basic {}", BASE64.encode(plain))) {
        Ok(header) => tunnel.with_auth(header),
        Err(_) => tunnel,
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Explained> {
    let refuse = |reason: String| {
        let message = format!(
            "the certificate authority {} cannot be used: {reason}",
            path.display()
        );
        Explained::new(Cause::Setting, message).hint("name a file with certificates in PEM")
    };
    let content = std::fs::read(path).map_err(|error| refuse(error.to_string()))?;
    let blocks = pem::parse_many(content).map_err(|error| refuse(error.to_string()))?;
    let certificates: Vec<_> = blocks
        .into_iter()
        .filter(|block| block.tag() == "CERTIFICATE")
        .map(|block| CertificateDer::from(block.into_contents()))
        .collect();
    if certificates.is_empty() {
        return Err(refuse("it holds no certificate".to_owned()));
    }
    Ok(certificates)
}

/// What is behind an error. An `io::Error` hides its content from `source`.
fn cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(content) => Some(content),
        None => error.source(),
    }
}

/// What a connection's error means. None of these texts holds a header or a query.
fn told(error: &(dyn StdError + 'static), host: &str) -> Explained {
    let links: Vec<_> = std::iter::successors(Some(error), |error| cause(*error))
        .take(16)
        .collect();
    let starts = |text: &str| links.iter().any(|link| link.to_string().starts_with(text));
    let innermost = links.last().map_or(String::new(), ToString::to_string);
    let tls = links.iter().find_map(|link| link.downcast_ref::<rustls::Error>());
    if let Some(rustls::Error::InvalidCertificate(reason)) = tls {
        let message = format!("the certificate of {host} is not accepted: {reason}");
        return Explained::new(Cause::Unreachable, message)
            .hint("where a proxy opens TLS, add its authority to those that the system trusts");
    }
    let message = if starts("tunnel error") || starts("SOCKS error") {
        format!("the proxy does not connect to {host}: {innermost}")
    } else if starts("dns error") {
        format!("the name {host} cannot be resolved: {innermost}")
    } else {
        format!("no answer from {host}: {innermost}")
    };
    Explained::new(Cause::Unreachable, message).hint(HINT_NETWORK)
}

/// What the official crates send for a token.
#[async_trait]
impl HttpClient for Transport {
    async fn execute_request(&self, request: &SdkRequest) -> azure_core::Result<AsyncRawResponse> {
        let unsendable = |error: http::Error| azure_core::Error::new(ErrorKind::DataConversion, error);
        let azure_core::http::Body::Bytes(body) = request.body() else {
            let message = "a token is never asked for by a stream";
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
        let outgoing = outgoing.body(Full::new(body.clone())).map_err(unsendable)?;
        let answer = self
            .send(outgoing, TOKEN_TIMEOUT)
            .await
            .map_err(|explained| azure_core::Error::with_message(ErrorKind::Io, explained.message))?;
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
