//! A server that records the identity of each request, with and without TLS.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::Response;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::{
    DigitallySignedStruct, DistinguishedName, Error as TlsError, ServerConfig, SignatureScheme,
};

/// A certificate with its key, in PEM.
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
}

pub(super) fn pair(name: &str) -> (Pair, Vec<u8>, Vec<u8>) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let pair = Pair {
        certificate: made.cert.pem(),
        key: made.signing_key.serialize_pem(),
    };
    (pair, made.cert.der().to_vec(), made.signing_key.serialize_der())
}

/// Returns the certificate as X.509 version 1, without its version and its extensions.
///
/// The signature is that of version 3; no client checks it.
pub(super) fn version_one(der: &[u8]) -> String {
    fn element(der: &[u8]) -> (u8, &[u8], &[u8]) {
        let (length, start) = match der[1] {
            short @ 0..=0x7f => (usize::from(short), 2),
            0x80 | 0x81 => (usize::from(der[2]), 3),
            _ => (usize::from(der[2]) << 8 | usize::from(der[3]), 4),
        };
        let (whole, rest) = der.split_at(start + length);
        (der[0], whole, rest)
    }
    fn content(whole: &[u8]) -> &[u8] {
        let header = match whole[1] {
            0..=0x7f => 2,
            0x80 | 0x81 => 3,
            _ => 4,
        };
        &whole[header..]
    }
    fn sequence(parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let length = content.len().to_be_bytes();
        let header = match content.len() {
            0..=0x7f => vec![0x30, length[7]],
            0x80..=0xff => vec![0x30, 0x81, length[7]],
            _ => vec![0x30, 0x82, length[6], length[7]],
        };
        [header, content].concat()
    }
    let (_, signed, rest) = element(content(element(der).1));
    let mut fields = content(signed);
    let mut kept: Vec<&[u8]> = vec![];
    while !fields.is_empty() {
        let (tag, whole, rest) = element(fields);
        if tag != 0xa0 && tag != 0xa3 {
            kept.push(whole);
        }
        fields = rest;
    }
    let der = sequence(&[&sequence(&kept), rest]);
    pem::encode(&pem::Pem::new("CERTIFICATE", der))
}

/// Accepts every client certificate.
#[derive(Debug)]
struct AnyClient;

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// The identity in a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity {
    pub(super) authorization: String,
    impersonated: String,
    /// The digest of the client certificate.
    certificate: Option<String>,
}

pub(super) type Log = Arc<Mutex<Vec<Identity>>>;

/// Responds to `/version`, and with 401 to paths below `/401`.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, certificate: Option<String>, log: Log) {
    let service = service_fn(|request: http::Request<Incoming>| {
        let header = |name: &str| {
            let value = request.headers().get(name);
            value.map_or(String::new(), |value| value.to_str().unwrap().to_owned())
        };
        log.lock().unwrap().push(Identity {
            authorization: header("authorization"),
            impersonated: header("impersonate-user"),
            certificate: certificate.clone(),
        });
        let refused = request.uri().path().starts_with("/401");
        let (code, body) = if refused {
            (
                401,
                r#"{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Unauthorized","code":401,"message":"Unauthorized"}"#,
            )
        } else {
            (200, r#"{"major":"1","minor":"33","gitVersion":"v1.33.1"}"#)
        };
        let response = Response::builder()
            .status(code)
            .header("content-type", "application/json");
        std::future::ready(Ok::<_, Infallible>(
            response.body(Full::<Bytes>::from(body)).unwrap(),
        ))
    });
    let _ended = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// Servers with and without TLS.
pub(super) struct Servers {
    pub(super) https: SocketAddr,
    pub(super) http: SocketAddr,
    pub(super) authority: String,
    pub(super) log: Log,
}

impl Servers {
    pub(super) async fn start() -> Self {
        let (authority, certificate, key) = pair("127.0.0.1");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(Arc::new(AnyClient))
            .with_single_cert(vec![certificate.into()], PrivateKeyDer::try_from(key).unwrap())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let log = Log::default();
        let listen = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (secure, plain) = (listen().await, listen().await);
        let (https, http) = (secure.local_addr().unwrap(), plain.local_addr().unwrap());
        let seen = log.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = secure.accept().await {
                let (acceptor, seen) = (acceptor.clone(), seen.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let certificates = stream.get_ref().1.peer_certificates();
                    let digest = |chain: &[CertificateDer]| BASE64.encode(Sha256::digest(&chain[0]));
                    let certificate = certificates.map(digest);
                    serve(stream, certificate, seen).await;
                });
            }
        });
        let seen = log.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = plain.accept().await {
                tokio::spawn(serve(stream, None, seen.clone()));
            }
        });
        Self {
            https,
            http,
            authority: authority.certificate,
            log,
        }
    }
}
