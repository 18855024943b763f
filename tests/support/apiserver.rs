//! A stand-in for the API server: real HTTP on a port of 127.0.0.1, recording every request.
//!
//! ```ignore
//! let server = ApiServer::start(|request| match request.path.as_str() {
//!     "/version" => json(200, &serde_json::json!({"major": "1", "minor": "33"})),
//!     _ => failure(404, "NotFound", "the server could not find the requested resource"),
//! }).await;
//! // ... drive a client against server.url() ...
//! assert_eq!(server.requests()[0].path, "/version");
//! ```
//!
//! The closure returns every response, so the test of a fault is a closure that returns this fault; the state that it
//! needs is captured. [`ApiServer::start_tls`] does the same over TLS with its own certificate for the given names.
//! [`Proxy`] is a minimal forward proxy: it records each `CONNECT` and connects all of them to one server. All of them
//! stop when dropped.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::{HeaderMap, Method, Response, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// A received request.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub method: Method,
    /// Path and query.
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Recorded {
    /// Returns the values of a header as one text, which is empty if the header is missing.
    pub fn header(&self, name: &str) -> String {
        let values = self.headers.get_all(name).iter();
        let values: Vec<_> = values
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect();
        values.join(", ")
    }
}

/// The response that the closure returns.
pub type Answer = Response<Full<Bytes>>;

/// The stand-in for the API server; see the top of this file.
pub struct ApiServer {
    address: SocketAddr,
    scheme: &'static str,
    certificate: String,
    seen: Arc<Mutex<Vec<Recorded>>>,
    task: JoinHandle<()>,
}

impl ApiServer {
    /// Starts a server for plain HTTP.
    pub async fn start(answer: impl Fn(&Recorded) -> Answer + Send + Sync + 'static) -> Self {
        Self::serve(None, String::new(), answer).await
    }

    /// Starts a server for HTTPS with a self-signed certificate for `names` (DNS names or addresses).
    pub async fn start_tls(
        names: &[&str],
        answer: impl Fn(&Recorded) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let pair = rcgen::generate_simple_self_signed(names).unwrap();
        let key = PrivateKeyDer::try_from(pair.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![pair.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::serve(Some(acceptor), pair.cert.pem(), answer).await
    }

    async fn serve(
        tls: Option<TlsAcceptor>,
        certificate: String,
        answer: impl Fn(&Recorded) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let seen: Arc<Mutex<Vec<Recorded>>> = Arc::default();
        let answer = Arc::new(answer);
        let record = seen.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, answer, record) = (tls.clone(), answer.clone(), record.clone());
                tokio::spawn(async move {
                    match tls {
                        None => talk(stream, answer, record).await,
                        // Tests also use clients that reject the certificate.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                talk(stream, answer, record).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            address,
            scheme,
            certificate,
            seen,
            task,
        }
    }

    /// Returns the address for a kubeconfig's `server`.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Returns host and port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the certificate in PEM if the server uses TLS.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Returns all requests so far, in order.
    pub fn requests(&self) -> Vec<Recorded> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn talk<S, F>(stream: S, answer: Arc<F>, record: Arc<Mutex<Vec<Recorded>>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Fn(&Recorded) -> Answer,
{
    let service = service_fn(|request: http::Request<Incoming>| async {
        let (head, body) = request.into_parts();
        let body = body
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default();
        let path = head
            .uri
            .path_and_query()
            .map_or(String::new(), ToString::to_string);
        let recorded = Recorded {
            method: head.method,
            path,
            headers: head.headers,
            body,
        };
        record.lock().unwrap().push(recorded.clone());
        Ok::<_, Infallible>(answer(&recorded))
    });
    // How a client closes its connection is not tested.
    let _ended = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// Returns a response with a JSON body.
pub fn json(code: u16, body: &serde_json::Value) -> Answer {
    let response = Response::builder()
        .status(code)
        .header(CONTENT_TYPE, "application/json");
    response.body(Full::from(body.to_string())).unwrap()
}

/// Returns a response with a `Status` object, as the API server does for errors.
pub fn failure(code: u16, reason: &str, message: &str) -> Answer {
    json(
        code,
        &serde_json::json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "code": code, "reason": reason, "message": message,
        }),
    )
}

/// A forward proxy for `CONNECT`; see the top of this file.
pub struct Proxy {
    address: SocketAddr,
    targets: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy that connects every client to `server`, regardless of the requested target.
    pub async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let targets: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = targets.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(tunnel(stream, server, noted.clone()));
            }
        });
        Self {
            address,
            targets,
            task,
        }
    }

    /// Returns host and port, without a scheme.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the `host:port` of each `CONNECT` so far.
    pub fn targets(&self) -> Vec<String> {
        self.targets.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn tunnel(
    stream: TcpStream,
    server: SocketAddr,
    noted: Arc<Mutex<Vec<String>>>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut request = String::new();
    stream.read_line(&mut request).await?;
    let target = request.split(' ').nth(1).unwrap_or_default().to_owned();
    while !request.ends_with("\r\n\r\n") {
        if stream.read_line(&mut request).await? == 0 {
            return Ok(());
        }
    }
    noted.lock().unwrap().push(target);
    let mut onward = TcpStream::connect(server).await?;
    stream
        .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        .await?;
    tokio::io::copy_bidirectional(&mut stream, &mut onward).await?;
    Ok(())
}
