//! The HTTP client below the Kubernetes client: connections, and credentials that are renewed.
//!
//! That of the client library runs the credential plugin itself (see [`super::plugin`]), prefers a stale `token` to
//! `tokenFile`, and does not run the plugin again when the API server answers 401.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::connect::proxy::SocksV5;
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use kube::client::Body;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::sync::{Mutex, oneshot};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service, ServiceExt};

use super::plugin::{Credentials, Plugin, PluginError};
use crate::files;
use crate::net::http::{bearer, tunnel};

/// Time after which a token file is read again, as in client-go.
const TOKEN_FILE: Duration = Duration::from_secs(60);

type Connected = BoxCloneSyncService<Request<Body>, Response<Incoming>, ClientError>;

/// The source of credentials.
pub(super) enum Source {
    /// The credentials do not change.
    Fixed,
    /// A token file.
    File(PathBuf),
    /// A credential plugin.
    Plugin(Box<Plugin>),
}

impl Source {
    /// Returns the source for a file that was just read, and the time to read it again.
    pub(super) fn file(path: PathBuf) -> (Self, Option<Timestamp>) {
        (Self::File(path), after(TOKEN_FILE))
    }
}

/// The parameters of connections, except the client certificate.
pub(super) struct Connector {
    pub(super) tls: ClientConfig,
    pub(super) server_name: Option<ServerName<'static>>,
    pub(super) proxy: Option<Uri>,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) write_timeout: Option<Duration>,
}

impl Connector {
    /// Creates a client with its own connections.
    fn client(&self, identity: Option<&Arc<CertifiedKey>>) -> Connected {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        let mut tls = self.tls.clone();
        if let Some(identity) = identity {
            tls.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(identity.clone()));
        }
        match &self.proxy {
            None => self.secured(tls, http),
            Some(proxy) if proxy.scheme_str() == Some("socks5") => {
                self.secured(tls, SocksV5::new(proxy.clone(), http))
            }
            Some(proxy) if proxy.scheme_str() == Some("https") => {
                let http = HttpsConnectorBuilder::new()
                    .with_tls_config(self.tls.clone())
                    .https_or_http()
                    .enable_http1()
                    .wrap_connector(http);
                self.secured(tls, tunnel(proxy.clone(), http))
            }
            Some(proxy) => self.secured(tls, tunnel(proxy.clone(), http)),
        }
    }

    fn secured<C>(&self, tls: ClientConfig, connector: C) -> Connected
    where
        C: Service<Uri> + Clone + Send + Sync + 'static,
        C::Response: Connection + Read + Write + Send + Unpin + 'static,
        C::Future: Send + 'static,
        C::Error: Into<BoxError>,
    {
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        let builder = match &self.server_name {
            Some(name) => builder.with_server_name_resolver(FixedServerNameResolver::new(name.clone())),
            None => builder,
        };
        let mut connector = TimeoutConnector::new(builder.enable_http1().wrap_connector(connector));
        connector.set_connect_timeout(self.connect_timeout);
        connector.set_write_timeout(self.write_timeout);
        BoxCloneSyncService::new(Client::builder(TokioExecutor::new()).build::<_, Body>(connector))
    }
}

/// A service that sends requests with current credentials.
#[derive(Clone)]
pub(super) struct Authenticate(Arc<Shared>);

struct Shared {
    connector: Connector,
    source: Source,
    state: Mutex<State>,
}

struct State {
    current: Current,
    expires: Option<Timestamp>,
    identity: Option<Arc<CertifiedKey>>,
    /// The running plugin. If a request times out, the next one continues to wait for it.
    running: Option<oneshot::Receiver<Result<Credentials, PluginError>>>,
}

#[derive(Clone)]
struct Current {
    authorization: Option<HeaderValue>,
    client: Connected,
    /// The number of renewals.
    generation: u64,
}

impl Authenticate {
    /// Creates a service that starts with `credentials` and renews them from `source`.
    pub(super) fn new(connector: Connector, source: Source, credentials: Credentials) -> Self {
        let state = State {
            current: Current {
                client: connector.client(credentials.identity.as_ref()),
                authorization: credentials.authorization,
                generation: 0,
            },
            expires: credentials.expires,
            identity: credentials.identity,
            running: None,
        };
        Self(Arc::new(Shared {
            connector,
            source,
            state: Mutex::new(state),
        }))
    }
}

impl Shared {
    /// Returns the credentials, renewed if they have expired or generation `refused` is current.
    async fn current(&self, refused: Option<u64>) -> Result<Current, PluginError> {
        let mut state = self.state.lock().await;
        let expired = state.expires.is_some_and(|expires| expires <= Timestamp::now());
        if expired || refused == Some(state.current.generation) {
            match &self.source {
                Source::Fixed => {}
                Source::File(path) => {
                    // Reading a pipe again would wait for a writer that has exited. If the file is missing, the last
                    // token is kept: https://github.com/kubernetes/kubernetes/issues/68164
                    if path.is_file()
                        && let Some(token) = files::read(path).ok().and_then(|text| parse_token(&text))
                    {
                        state.replace(Some(token), None, &self.connector);
                    }
                    state.expires = after(TOKEN_FILE);
                }
                Source::Plugin(plugin) => {
                    let plugin = plugin.clone();
                    let running = state.running.get_or_insert_with(|| {
                        let (sender, receiver) = oneshot::channel();
                        // A task of the runtime would delay its shutdown if the plugin hangs.
                        thread::spawn(move || sender.send(plugin.run()));
                        receiver
                    });
                    let renewed = running.await;
                    state.running = None;
                    if let Ok(renewed) = renewed {
                        let renewed = renewed?;
                        state.expires = renewed.expires;
                        state.replace(renewed.authorization, renewed.identity, &self.connector);
                    }
                }
            }
        }
        Ok(state.current.clone())
    }
}

impl State {
    fn replace(
        &mut self,
        authorization: Option<HeaderValue>,
        identity: Option<Arc<CertifiedKey>>,
        connector: &Connector,
    ) {
        let chain = |identity: &Option<Arc<CertifiedKey>>| identity.as_ref().map(|pair| pair.cert.clone());
        let (same_header, same_identity) = (
            self.current.authorization == authorization,
            chain(&self.identity) == chain(&identity),
        );
        if same_header && same_identity {
            return;
        }
        if !same_identity {
            // The certificate belongs to the connection.
            self.current.client = connector.client(identity.as_ref());
        }
        self.identity = identity;
        self.current.authorization = authorization;
        self.current.generation += 1;
    }
}

impl Service<Request<Body>> for Authenticate {
    type Response = Response<Incoming>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shared = self.0.clone();
        Box::pin(async move {
            let current = shared.current(None).await?;
            let again = match shared.source {
                Source::Fixed => None,
                Source::File(_) | Source::Plugin(_) => clone_request(&request),
            };
            let response = current.send(request).await?;
            if response.status() != StatusCode::UNAUTHORIZED {
                return Ok(response);
            }
            // A request with 401 had no effect, and the credentials may have been revoked.
            match (again, shared.current(Some(current.generation)).await) {
                (Some(again), Ok(renewed)) if renewed.generation != current.generation => {
                    Ok(renewed.send(again).await?)
                }
                _ => Ok(response),
            }
        })
    }
}

impl Current {
    async fn send(&self, mut request: Request<Body>) -> Result<Response<Incoming>, ClientError> {
        if let Some(value) = &self.authorization {
            request
                .headers_mut()
                .entry(AUTHORIZATION)
                .or_insert_with(|| value.clone());
        }
        self.client.clone().oneshot(request).await
    }
}

fn clone_request(request: &Request<Body>) -> Option<Request<Body>> {
    let mut copy = Request::new(request.body().try_clone()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

fn after(time: Duration) -> Option<Timestamp> {
    Timestamp::now().checked_add(time).ok()
}

/// Returns the header for the content of a token file.
fn parse_token(text: &[u8]) -> Option<HeaderValue> {
    let token = std::str::from_utf8(text).ok()?.trim();
    (!token.is_empty()).then(|| bearer(token)).flatten()
}
