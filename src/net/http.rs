//! HTTP to Azure and image registries on the stack of the Kubernetes client: hyper, and rustls with ring.
//!
//! This module owns connections, certificates, proxies, the timeout of a single request and the limit of an answer.
//! It does not follow redirects, which would send a token to another host.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::HeaderMap;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
pub use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

use rustls_platform_verifier::Verifier;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};

use super::{Cause, Environment, Explanation, causes, pem};
use crate::files;
use crate::net::proxy::proxy_for;

/// The user agent of this program.
pub const AGENT: &str = concat!("kubectl-defender-sim/", env!("CARGO_PKG_VERSION"));
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Limit of an answer; Resource Graph sends up to 16 MiB.
const MAX_ANSWER: usize = 64 << 20;
/// The address of managed identity, which is on the local link and never behind a proxy.
const LINK_LOCAL: &str = "169.254.169.254";

type Connected = BoxCloneSyncService<Request<Full<Bytes>>, Response<Incoming>, ClientError>;

/// An answer with its whole body.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Returns the `Authorization` header for a token, or `None` if a header cannot hold it. No log shows it.
pub(crate) fn bearer(token: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// An HTTP client. Clones share their connections.
#[derive(Clone)]
pub struct Transport(Arc<Inner>);

struct Inner {
    tls: ClientConfig,
    environment: Environment,
    /// Clients by origin, which the proxy depends on.
    clients: Mutex<HashMap<String, Connected>>,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}

impl Transport {
    /// Creates a client that trusts the system's certificates and those in the PEM file `authority`, and uses the
    /// proxies of `environment`.
    ///
    /// # Errors
    /// If certificates cannot be used.
    pub fn new(authority: Option<&Path>, environment: Environment) -> Result<Self, Explanation> {
        let extra = authority.map(certificates).transpose()?.unwrap_or_default();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let refuse = |error: rustls::Error| {
            Explanation::new(
                Cause::Setting,
                format!("the certificates cannot be used: {error}"),
            )
            .with_hint("check the certificates of the system and of the option for a certificate authority")
        };
        let verifier = Verifier::new_with_extra_roots(extra, provider.clone()).map_err(refuse)?;
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(refuse)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(Self::with_tls(tls, environment))
    }

    /// Creates a client for plain HTTP, which needs no certificates. It trusts none.
    pub fn plain(environment: Environment) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider supports the default versions")
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        Self::with_tls(tls, environment)
    }

    fn with_tls(tls: ClientConfig, environment: Environment) -> Self {
        Self(Arc::new(Inner {
            tls,
            environment,
            clients: Mutex::default(),
        }))
    }

    /// Sends a request and reads the whole answer, whatever its status, within `timeout`.
    ///
    /// # Errors
    /// If no answer was received. The explanation holds neither headers nor the query.
    pub async fn send(&self, request: Request<Bytes>, timeout: Duration) -> Result<Answer, Explanation> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let client = self.client(request.uri())?;
        let exchange = async {
            let response = client
                .oneshot(request.map(Full::new))
                .await
                .map_err(|error| explain(&error, &host))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    let message = format!("the answer is larger than {} MiB", MAX_ANSWER >> 20);
                    return Explanation::new(Cause::TooLarge, message);
                }
                explain(&*error, &host)
            })?;
            Ok(Answer {
                status: head.status,
                headers: head.headers,
                body: body.to_bytes(),
            })
        };
        tokio::time::timeout(timeout, exchange).await.unwrap_or_else(|_| {
            let message = format!("{host} did not answer within {:.0} s", timeout.as_secs_f64());
            Err(Explanation::new(Cause::TimedOut, message))
        })
    }

    fn client(&self, uri: &Uri) -> Result<Connected, Explanation> {
        let origin = format!(
            "{}://{}",
            uri.scheme_str().unwrap_or_default(),
            uri.authority().map_or("", |authority| authority.as_str())
        );
        let mut clients = self.0.clients.lock().expect("nothing panics while it holds this");
        if let Some(client) = clients.get(&origin) {
            return Ok(client.clone());
        }
        let proxy = if uri.host() == Some(LINK_LOCAL) {
            None
        } else {
            proxy_for(uri, None, |name| self.0.environment.text(name)).map_err(|error| {
                let hint = "check HTTPS_PROXY and NO_PROXY";
                Explanation::new(Cause::Unreachable, error.to_string()).with_hint(hint)
            })?
        };
        let client = self.connect(proxy);
        clients.insert(origin, client.clone());
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
    // Only managed identity, on the local link, and a Pushgateway use plain HTTP.
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

pub(crate) fn tunnel<C>(proxy: Uri, connector: C) -> Tunnel<C> {
    let user = proxy
        .authority()
        .and_then(|authority| authority.as_str().rsplit_once('@'))
        .map(|(user, _)| user.to_owned());
    let tunnel = Tunnel::new(proxy, connector);
    let Some(user) = user else {
        return tunnel;
    };
    // A URL escapes some characters of user names and passwords.
    let decoded: Vec<u8> = percent_encoding::percent_decode_str(&user).collect();
    match HeaderValue::from_str(&format!("Basic {}", BASE64.encode(decoded))) {
        Ok(header) => tunnel.with_auth(header),
        Err(_) => tunnel,
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Explanation> {
    let refuse = |reason: String| {
        let message = format!(
            "the certificate authority {} cannot be used: {reason}",
            path.display()
        );
        Explanation::new(Cause::Setting, message).with_hint("name a file with certificates in PEM")
    };
    let content = files::read(path).map_err(|error| refuse(error.to_string()))?;
    let certificates = pem::certificates(&content);
    if certificates.is_empty() {
        return Err(refuse("it holds no certificate".to_owned()));
    }
    Ok(certificates)
}

/// Explains an error of a connection.
fn explain(error: &(dyn StdError + 'static), host: &str) -> Explanation {
    let links = causes(error);
    let starts = |text: &str| links.iter().any(|link| link.to_string().starts_with(text));
    let innermost = links.last().map_or(String::new(), ToString::to_string);
    let tls = links.iter().find_map(|link| link.downcast_ref::<rustls::Error>());
    if let Some(rustls::Error::InvalidCertificate(reason)) = tls {
        let message = format!("the certificate of {host} is not accepted: {reason}");
        let hint = "if a proxy intercepts TLS, add its authority to those that the system trusts";
        return Explanation::new(Cause::Unreachable, message).with_hint(hint);
    }
    let message = if starts("tunnel error") || starts("SOCKS error") {
        format!("the proxy refuses to connect to {host}: {innermost}")
    } else if starts("dns error") {
        format!("failed to resolve {host}: {innermost}")
    } else {
        format!("no answer from {host}: {innermost}")
    };
    Explanation::new(Cause::Unreachable, message)
}
