//! kubectl and this program side by side: the same kubeconfig and flags, the same server, and what it saw of each.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::Response;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
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
struct Pair {
    certificate: String,
    key: String,
}

fn pair(name: &str) -> (Pair, Vec<u8>, Vec<u8>) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let pair = Pair {
        certificate: made.cert.pem(),
        key: made.signing_key.serialize_pem(),
    };
    (pair, made.cert.der().to_vec(), made.signing_key.serialize_der())
}

/// The certificate as X.509 version 1: without its version and its extensions. The signature is that of version 3, which
/// no client checks.
fn version_one(der: &[u8]) -> String {
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

/// Lets every client certificate in.
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

/// What one request brought along.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    authorization: String,
    impersonated: String,
    /// Its digest.
    certificate: Option<String>,
}

type Log = Arc<Mutex<Vec<Identity>>>;

/// Answers `/version`; below `/401` it answers that nobody is known.
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

/// A server with and one without TLS.
struct Servers {
    https: SocketAddr,
    http: SocketAddr,
    authority: String,
    log: Log,
}

impl Servers {
    async fn start() -> Self {
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

/// What can be compared of one program's run.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    connected: bool,
    identities: BTreeSet<Identity>,
    plugin_runs: usize,
    exec_info: Option<Value>,
}

/// The folder of one case.
struct Case<'a> {
    servers: &'a Servers,
    folder: TempDir,
    /// In what the two programs were not alike.
    differences: RefCell<Vec<String>>,
}

impl Drop for Case<'_> {
    fn drop(&mut self) {
        let differences = self.differences.take();
        // A second panic would abort the other tests.
        assert!(
            std::thread::panicking() || differences.is_empty(),
            "{}",
            differences.join("\n\n")
        );
    }
}

/// Each line of `text` indented below a block scalar's `|`.
fn block(text: &str) -> String {
    text.lines().fold("|".to_owned(), |mut out, line| {
        write!(out, "\n        {line}").unwrap();
        out
    })
}

fn wrapped(text: &str) -> String {
    let encoded = BASE64.encode(text);
    let lines: Vec<&str> = encoded
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    lines.join("\n")
}

impl<'a> Case<'a> {
    fn new(servers: &'a Servers) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            servers,
            folder,
            differences: RefCell::default(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name).to_str().unwrap().to_owned()
    }

    /// A plugin that counts its runs, keeps what it was given, and prints `answer`, in which `$` expands.
    fn plugin(&self, answer: &str) {
        use std::os::unix::fs::PermissionsExt;

        let script = "#!/bin/sh\ncd \"${0%/*}\"\necho run >> runs\nprintf %s \"$KUBERNETES_EXEC_INFO\" > info\ncat <<END\n";
        self.write("plugin", format!("{script}{answer}\nEND\n"));
        std::fs::set_permissions(self.path("plugin"), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn https(&self) -> String {
        format!(
            "{{server: 'https://{}', certificate-authority-data: {}}}",
            self.servers.https,
            BASE64.encode(&self.servers.authority)
        )
    }

    fn http(&self) -> String {
        format!("{{server: 'http://{}'}}", self.servers.http)
    }

    fn config(&self, cluster: &str, user: &str) {
        self.write(
            "config",
            format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
                 contexts:\n- name: c\n  context: {{cluster: c, user: u}}\n\
                 clusters:\n- name: c\n  cluster: {cluster}\nusers:\n- name: u\n  user: {user}\n"
            ),
        );
    }

    fn run(&self, program: &Path, flags: &[&str]) -> (Outcome, String) {
        self.servers.log.lock().unwrap().clear();
        for left in ["runs", "info"] {
            let _ = std::fs::remove_file(self.path(left));
        }
        let Output {
            status,
            stdout,
            stderr,
        } = Command::new(program)
            .args(["version", "--kubeconfig", "config"])
            .args(flags)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("OUTER", "outer")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let read = |name| std::fs::read_to_string(self.path(name)).ok();
        let outcome = Outcome {
            connected: status.success(),
            identities: self.servers.log.lock().unwrap().iter().cloned().collect(),
            plugin_runs: read("runs").map_or(0, |runs| runs.lines().count()),
            exec_info: read("info").map(|info| serde_json::from_str(&info).unwrap()),
        };
        let text = [stdout, stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        (outcome, text.concat())
    }

    fn ours(&self, flags: &[&str]) -> (Outcome, String) {
        self.run(Path::new(env!("CARGO_BIN_EXE_kubectl-defender_sim")), flags)
    }

    fn kubectl(&self, flags: &[&str]) -> (Outcome, String) {
        self.run(&kubectl(), flags)
    }

    /// Runs both, and expects the same of both.
    fn compare(&self, name: &str, flags: &[&str]) -> Outcome {
        let (mut theirs, their_text) = self.kubectl(flags);
        // Some distributions' kubectl asks for the server's version first, by the same way.
        theirs.plugin_runs = theirs.plugin_runs.min(1);
        let (ours, text) = self.ours(flags);
        if ours != theirs || text.contains("panicked") {
            self.differences.borrow_mut().push(format!(
                "{name}: {ours:?}\nkubectl: {theirs:?}\n{their_text}\nours: {text}"
            ));
        }
        ours
    }
}

/// The kubectl of the tests on a cluster, or that of the machine.
fn kubectl() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/range-cache/bin/kubectl");
    if built.is_file() {
        return built;
    }
    which::which("kubectl").expect("kubectl is on PATH")
}

const EXEC: &str = "apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: ./plugin";

fn credential(status: &str) -> String {
    format!(
        r#"{{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{{{status}}}}}"#
    )
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kubectl: make range"]
async fn credentials_are_those_that_kubectl_sends() {
    let servers = Servers::start().await;
    let (client, der, _) = pair("v3-user");
    let old = version_one(&der);
    let (other, ..) = pair("other");
    let encoded = |text: &str| BASE64.encode(text);
    let certificate = |certificate: &str, key: &str| {
        format!(
            "client-certificate-data: {}, client-key-data: {}",
            encoded(certificate),
            encoded(key)
        )
    };
    let v3 = certificate(&client.certificate, &client.key);
    let v1 = certificate(&old, &client.key);
    let mixed = certificate(&other.certificate, &client.key);
    let exec = format!("exec: {{{EXEC}}}");
    let json_token = credential(r#""token":"from-plugin""#);
    let in_json = |text: &str| Value::from(text).to_string();
    let plugin_pair = format!(
        r#""clientCertificateData":{},"clientKeyData":{}"#,
        in_json(&client.certificate),
        in_json(&client.key)
    );
    let cases: Vec<(&str, String, Option<String>, &[&str])> = vec![
        ("token", "token: abc".into(), None, &[]),
        ("basic", "username: u, password: p".into(), None, &[]),
        ("basic without password", "username: u".into(), None, &[]),
        (
            "token and basic",
            "token: abc, username: u, password: p".into(),
            None,
            &[],
        ),
        (
            "token file and basic",
            "tokenFile: token, username: u, password: p".into(),
            None,
            &[],
        ),
        (
            "token and token file",
            "token: old, tokenFile: token".into(),
            None,
            &[],
        ),
        (
            "token and missing token file",
            "token: old, tokenFile: gone".into(),
            None,
            &[],
        ),
        ("missing token file", "tokenFile: gone".into(), None, &[]),
        ("empty token file", "tokenFile: empty".into(), None, &[]),
        ("token with a line feed", "token: \"a\\nb\"".into(), None, &[]),
        ("certificate", v3.clone(), None, &[]),
        ("certificate of version 1", v1.clone(), None, &[]),
        ("certificate and token", format!("{v3}, token: abc"), None, &[]),
        ("certificate of another key", mixed, None, &[]),
        (
            "certificate without key",
            format!(
                "client-certificate-data: {}, token: abc",
                encoded(&client.certificate)
            ),
            None,
            &[],
        ),
        (
            "key without certificate",
            format!("client-key-data: {}, token: abc", encoded(&client.key)),
            None,
            &[],
        ),
        (
            "certificate twice",
            format!("{v3}, client-certificate: token"),
            None,
            &[],
        ),
        (
            "certificate that is none",
            certificate("not PEM", &client.key),
            None,
            &[],
        ),
        ("plugin", exec.clone(), Some(json_token.clone()), &[]),
        (
            "plugin and token",
            format!("{exec}, token: abc"),
            Some(json_token.clone()),
            &[],
        ),
        (
            "plugin and token flag",
            exec.clone(),
            Some(json_token.clone()),
            &["--token", "flag"],
        ),
        (
            "plugin and basic",
            format!("{exec}, username: u"),
            Some(json_token.clone()),
            &[],
        ),
        (
            "plugin and certificate",
            format!("{exec}, {v3}"),
            Some(json_token.clone()),
            &[],
        ),
        (
            "plugin and provider",
            format!("{exec}, auth-provider: {{name: oidc}}"),
            Some(json_token.clone()),
            &[],
        ),
        (
            "plugin with certificate",
            exec.clone(),
            Some(credential(&plugin_pair)),
            &[],
        ),
        (
            "plugin with both",
            exec.clone(),
            Some(credential(&format!(r#"{plugin_pair},"token":"t""#))),
            &[],
        ),
        (
            "plugin with half",
            exec.clone(),
            Some(credential(r#""clientCertificateData":"x""#)),
            &[],
        ),
        (
            "plugin with empty texts",
            exec.clone(),
            Some(credential(
                r#""token":"t","clientCertificateData":"","clientKeyData":"""#,
            )),
            &[],
        ),
        (
            "plugin with nulls",
            exec.clone(),
            Some(credential(
                r#""token":"t","clientCertificateData":null,"expirationTimestamp":null"#,
            )),
            &[],
        ),
        (
            "plugin with empty token",
            exec.clone(),
            Some(credential(r#""token":"""#)),
            &[],
        ),
        (
            "plugin without status",
            exec.clone(),
            Some(json_token.replace("status", "spec")),
            &[],
        ),
        (
            "plugin of another version",
            exec.clone(),
            Some(json_token.replace("/v1", "/v1beta1")),
            &[],
        ),
        (
            "plugin of another kind",
            exec.clone(),
            Some(json_token.replace("ExecCredential", "Status")),
            &[],
        ),
        (
            "plugin with bad time",
            exec.clone(),
            Some(credential(r#""token":"t","expirationTimestamp":"soon""#)),
            &[],
        ),
        ("plugin with rubbish", exec.clone(), Some("rubbish".into()), &[]),
        (
            "plugin with YAML",
            exec.clone(),
            Some(
                "kind: ExecCredential\napiVersion: client.authentication.k8s.io/v1\nstatus: {token: t}"
                    .into(),
            ),
            &[],
        ),
        (
            "plugin that expired",
            exec.clone(),
            Some(credential(
                r#""token":"t","expirationTimestamp":"2099-01-01T00:00:00Z""#,
            )),
            &[],
        ),
        (
            "plugin with cluster",
            format!("exec: {{{EXEC}, provideClusterInfo: true}}"),
            Some(json_token.clone()),
            &[],
        ),
        (
            "plugin with arguments",
            format!("exec: {{{EXEC}, args: [a, b]}}"),
            Some(credential(r#""token":"$1-$2""#)),
            &[],
        ),
        (
            "variable",
            format!("exec: {{{EXEC}, env: [{{name: OUTER, value: inner}}]}}"),
            Some(credential(r#""token":"x$OUTER""#)),
            &[],
        ),
        (
            "variable that is empty",
            format!("exec: {{{EXEC}, env: [{{name: OUTER, value: ''}}]}}"),
            Some(credential(r#""token":"x$OUTER""#)),
            &[],
        ),
        (
            "variable without value",
            format!("exec: {{{EXEC}, env: [{{name: OUTER}}]}}"),
            Some(credential(r#""token":"x$OUTER""#)),
            &[],
        ),
        (
            "variable that is null",
            format!("exec: {{{EXEC}, env: [{{name: OUTER, value: null}}]}}"),
            Some(credential(r#""token":"x$OUTER""#)),
            &[],
        ),
        (
            "variable without name",
            format!("exec: {{{EXEC}, env: [{{value: x}}]}}"),
            Some(json_token.clone()),
            &[],
        ),
        (
            "plugin without version",
            "exec: {interactiveMode: Never, command: ./plugin}".into(),
            Some(json_token.clone()),
            &[],
        ),
        (
            "plugin of an old version",
            exec.replace("/v1", "/v1alpha1"),
            Some(json_token.clone()),
            &[],
        ),
        (
            "plugin without mode",
            exec.replace("interactiveMode: Never, ", ""),
            Some(json_token.clone()),
            &[],
        ),
        (
            "plugin without mode in beta",
            exec.replace("interactiveMode: Never, ", "")
                .replace("/v1", "/v1beta1"),
            Some(json_token.replace("/v1", "/v1beta1")),
            &[],
        ),
        (
            "plugin with empty mode in beta",
            exec.replace("Never", "''").replace("/v1", "/v1beta1"),
            Some(json_token.replace("/v1", "/v1beta1")),
            &[],
        ),
        (
            "plugin with bad mode",
            exec.replace("Never", "Sometimes"),
            Some(json_token.clone()),
            &[],
        ),
        (
            "plugin that always asks",
            exec.replace("Never", "Always"),
            Some(json_token.clone()),
            &[],
        ),
        (
            "plugin without command",
            exec.replace(", command: ./plugin", ""),
            Some(json_token.clone()),
            &[],
        ),
        (
            "provider that was removed",
            "auth-provider: {name: gcp}".into(),
            None,
            &[],
        ),
        (
            "provider without content",
            "auth-provider: {name: azure, config: null}".into(),
            None,
            &[],
        ),
        ("impersonation", "token: abc, as: jane".into(), None, &[]),
        ("group alone", "token: abc, as-groups: [a]".into(), None, &[]),
    ];
    for (name, user, answer, flags) in cases {
        let case = Case::new(&servers);
        case.write("token", "from-file\n");
        case.write("empty", "\n");
        case.plugin(answer.as_deref().unwrap_or("none"));
        case.config(&case.https(), &format!("{{{user}}}"));
        let secure = case.compare(name, flags);
        assert!(secure.plugin_runs <= 1, "{name}: {secure:?}");

        case.config(&case.http(), &format!("{{{user}}}"));
        let plain = case.compare(&format!("{name}, plain HTTP"), flags);
        assert_eq!(plain.plugin_runs, 0, "{name}: {plain:?}");
        assert!(
            plain
                .identities
                .iter()
                .all(|identity| identity.authorization.is_empty()),
            "{name}: {plain:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kubectl: make range"]
async fn refused_credentials_make_the_plugin_run_again() {
    let servers = Servers::start().await;
    let case = Case::new(&servers);
    case.plugin(&credential(r#""token":"t""#));
    let cluster = case.https().replace("', cert", "/401', cert");
    case.config(&cluster, &format!("{{exec: {{{EXEC}}}}}"));
    let (theirs, _) = case.kubectl(&[]);
    assert!(!theirs.connected && theirs.plugin_runs > 1, "{theirs:?}");
    let (ours, text) = case.ours(&[]);
    assert_eq!((ours.connected, ours.plugin_runs), (false, 2), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kubectl: make range"]
async fn certificates_are_read_as_kubectl_reads_them() {
    let servers = Servers::start().await;
    let (client, ..) = pair("user");
    let authority = &servers.authority;
    let server = format!("server: 'https://{}'", servers.https);
    let broken = "-----BEGIN CERTIFICATE-----\nrubbish!\n-----END CERTIFICATE-----\n";
    let strange = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let torn = "-----BEGIN CERTIFICATE-----\nAAAA\n";
    let user = format!(
        "\n    client-certificate-data: {}\n    client-key-data: {}",
        block(&wrapped(&client.certificate)),
        block(&wrapped(&client.key))
    );
    let data = |text: &str| {
        format!(
            "{{{server}, certificate-authority-data: {}}}",
            BASE64.encode(text)
        )
    };
    let folded = |text: &str| {
        format!(
            "\n    {server}\n    certificate-authority-data: {}",
            block(&wrapped(text))
        )
    };
    for (name, cluster) in [
        ("wrapped", folded(authority)),
        ("good", data(authority)),
        ("broken first", data(&format!("{broken}{authority}"))),
        ("broken last", data(&format!("{authority}{broken}"))),
        ("strange first", data(&format!("{strange}{authority}"))),
        ("torn first", data(&format!("{torn}{authority}"))),
        ("text around", data(&format!("Issuer: x\n{authority}\nend"))),
        ("key beside it", data(&format!("{}{authority}", client.key))),
        ("broken alone", data(broken)),
        ("strange alone", data(strange)),
        ("not PEM", data("rubbish")),
        (
            "not base64",
            format!("{{{server}, certificate-authority-data: '!'}}"),
        ),
        (
            "insecure",
            format!("{{{server}, insecure-skip-tls-verify: true}}"),
        ),
        (
            "insecure and data",
            data(authority).replace('}', ", insecure-skip-tls-verify: true}"),
        ),
        (
            "insecure and file",
            format!("{{{server}, insecure-skip-tls-verify: true, certificate-authority: ca}}"),
        ),
        ("file", format!("{{{server}, certificate-authority: ca}}")),
        (
            "file and data",
            data(authority).replace('}', ", certificate-authority: ca}"),
        ),
        (
            "missing file",
            format!("{{{server}, certificate-authority: gone}}"),
        ),
        (
            "empty values",
            data(authority).replace(
                '}',
                ", certificate-authority: '', proxy-url: '', tls-server-name: ''}",
            ),
        ),
    ] {
        let case = Case::new(&servers);
        case.write("ca", authority);
        case.config(&cluster, &user);
        case.compare(name, &[]);
        if name == "not base64" {
            // kubectl reads it also where a flag takes its place.
            continue;
        }
        case.compare(&format!("{name}, insecure flag"), &["--insecure-skip-tls-verify"]);
        case.compare(
            &format!("{name}, authority flag"),
            &["--certificate-authority", "ca"],
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kubectl: make range"]
async fn kubeconfigs_are_read_as_kubectl_reads_them() {
    let servers = Servers::start().await;
    let case = Case::new(&servers);
    case.plugin(&credential(r#""token":"from-plugin""#));
    let cluster = case.https();
    let base = format!(
        "current-context: c\ncontexts:\n- name: c\n  context: {{cluster: c, user: u}}\nclusters:\n- name: c\n  cluster: {cluster}\n\
         users:\n- name: u\n  user: {{token: abc}}\n"
    );
    let with = |text: &str| format!("{base}{text}");
    let cases = [
        ("plain", base.clone()),
        (
            "null fields",
            with("preferences: null\nextensions: null\nkind: Config\napiVersion: v1\n"),
        ),
        ("null user", with("- name: other\n  user: null\n")),
        ("null entry", with("- null\n")),
        ("user without name", with("- user: {token: x}\n")),
        ("user without content", with("- name: other\n")),
        (
            "null provider",
            with("- {name: o, user: {auth-provider: null, exec: null, token: null}}\n"),
        ),
        (
            "provider without name",
            with("- {name: o, user: {auth-provider: {config: {a: null}}}}\n"),
        ),
        (
            "null variables",
            with("- {name: o, user: {exec: {command: x, env: null, args: null}}}\n"),
        ),
        (
            "null in lists",
            with("- {name: o, user: {as-groups: null, as-user-extra: null}}\n"),
        ),
        (
            "unknown mode elsewhere",
            with("- {name: o, user: {exec: {interactiveMode: ''}}}\n"),
        ),
        (
            "extension without content",
            base.replace("cluster: {server", "cluster: {extensions: [{name: x}], server"),
        ),
        (
            "context without name",
            base.replace("contexts:\n", "contexts:\n- context: {cluster: c}\n"),
        ),
        (
            "context without cluster",
            base.replace("contexts:\n", "contexts:\n- {name: d, context: {user: u}}\n"),
        ),
        (
            "context without content",
            base.replace("contexts:\n", "contexts:\n- {name: d}\n"),
        ),
        ("unknown fields", with("  more: 1\nfield: [a]\n")),
        (
            "two users of one name",
            with("- {name: u, user: {token: second}}\n"),
        ),
        (
            "two clusters of one name",
            base.replace("clusters:\n", "clusters:\n- {name: c, cluster: {}}\n"),
        ),
        (
            "two contexts of one name",
            base.replace("contexts:\n", "contexts:\n- {name: c}\n"),
        ),
        ("two others of one name", with("- {name: o}\n- {name: o}\n")),
        (
            "repeated key",
            base.replace("token: abc", "token: abc, token: def"),
        ),
        (
            "repeated list",
            with("users:\n- {name: u, user: {token: second}}\n"),
        ),
        (
            "second document",
            format!("{base}---\nusers: [{{name: u, user: {{token: second}}}}]\n"),
        ),
        ("document mark at the end", with("---\n")),
        ("document mark first", format!("---\n{base}")),
        ("number as token", base.replace("abc", "123")),
        (
            "text as bool",
            base.replace("{server", "{insecure-skip-tls-verify: 'no', server"),
        ),
        (
            "yes as bool",
            base.replace("{server", "{disable-compression: yes, server"),
        ),
        ("list as user", base.replace("{token: abc}", "[abc]")),
        ("another kind", with("kind: Pod\napiVersion: v1\n")),
        ("another version", with("kind: Config\napiVersion: v2\n")),
        ("text", "text".to_owned()),
        ("list", "[a]".to_owned()),
        ("anchor", base.replace("{token: abc}", "&x {token: abc}")),
        ("merge key", base.replace("{token: abc}", "{<<: {token: abc}}")),
    ];
    for (name, content) in cases {
        case.write("config", &content);
        case.compare(name, &[]);
    }
    let units: Vec<u16> = base.encode_utf16().collect();
    let little: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
    let big: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
    for (name, content) in [
        ("UTF-16LE", [&[0xff, 0xfe], &little[..]].concat()),
        ("UTF-16BE", [&[0xfe, 0xff], &big[..]].concat()),
        ("torn UTF-16LE", [&[0xff, 0xfe], &little[..], b"\0"].concat()),
        ("torn UTF-16BE", [&[0xfe, 0xff], &big[..], b"\0"].concat()),
        (
            "UTF-8 with a mark",
            [&[0xef, 0xbb, 0xbf], base.as_bytes()].concat(),
        ),
        ("not UTF-8", [base.as_bytes(), b"a: \xff\n"].concat()),
    ] {
        case.write("config", content);
        case.compare(name, &[]);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kubectl: make range"]
async fn token_with_line_feed_of_a_plugin_is_trimmed_where_kubectl_fails() {
    let servers = Servers::start().await;
    let case = Case::new(&servers);
    case.plugin(&credential(r#""token":"abc\\n""#));
    case.config(&case.https(), &format!("{{exec: {{{EXEC}}}}}"));
    assert!(!case.kubectl(&[]).0.connected);
    let (ours, text) = case.ours(&[]);
    assert!(ours.connected, "{text}");
    assert_eq!(ours.identities.first().unwrap().authorization, "Bearer abc");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kubectl: make range"]
async fn empty_flags_mean_not_given_as_with_kubectl() {
    let servers = Servers::start().await;
    let case = Case::new(&servers);
    case.config(&case.https(), "{token: abc}");
    for flag in [
        "--context",
        "--cluster",
        "--user",
        "--server",
        "--tls-server-name",
        "--certificate-authority",
        "--client-certificate",
        "--client-key",
        "--token",
        "--as",
        "--as-uid",
        "--namespace",
    ] {
        let outcome = case.compare(flag, &[flag, ""]);
        assert!(outcome.connected, "{flag}");
        let joined = format!("{flag}=");
        assert!(case.compare(flag, &[&joined]).connected, "{flag}");
    }
    for timeout in ["0", "0s", "5", "5s"] {
        let flag = format!("--request-timeout={timeout}");
        assert!(case.compare(&flag, &[&flag]).connected, "{flag}");
    }
}

/// OpenSSL's server, with a certificate that it makes.
struct OddServer {
    process: std::process::Child,
    url: String,
    folder: TempDir,
}

impl OddServer {
    /// `curves` are those of the authority and of the server.
    fn start(curves: [&str; 2], digest: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let openssl = |arguments: &str| {
            let made = Command::new("openssl")
                .args(arguments.split(' '))
                .current_dir(folder.path())
                .output()
                .unwrap();
            assert!(made.status.success(), "{arguments}: {made:?}");
        };
        let [authority, server] = curves;
        openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:{authority} -nodes -keyout ca.key -out ca.crt -days 9 -subj /CN=ca"
        ));
        openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:{server} -nodes -keyout key -out crt -days 9 -subj /CN=s \
             -CA ca.crt -CAkey ca.key {digest} -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=CA:FALSE"
        ));
        let mut process = Command::new("openssl")
            .args([
                "s_server",
                "-accept",
                "127.0.0.1:0",
                "-cert",
                "crt",
                "-key",
                "key",
                "-www",
            ])
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = std::io::BufRead::lines(std::io::BufReader::new(process.stdout.take().unwrap()));
        let line = lines
            .map_while(Result::ok)
            .find(|line| line.starts_with("ACCEPT "));
        let url = format!("https://{}", line.unwrap().trim_start_matches("ACCEPT "));
        Self { process, url, folder }
    }
}

impl Drop for OddServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
#[ignore = "needs openssl: make range"]
fn algorithm_that_is_not_supported_is_named() {
    for (curves, digest, part) in [
        (
            ["P-256", "P-256"],
            "-sha512",
            "signed with ECDSA with SHA-512, which is not supported",
        ),
        (
            ["P-521", "P-256"],
            "-sha256",
            "by a key for the curve P-521, which is not supported",
        ),
        (
            ["P-256", "P-521"],
            "-sha256",
            "a server certificate with a P-521 key",
        ),
        (["P-384", "P-256"], "-sha256", "is a web page (HTTP 200)"),
    ] {
        let server = OddServer::start(curves, digest);
        let output = Command::new(env!("CARGO_BIN_EXE_kubectl-defender_sim"))
            .args([
                "version",
                "--server",
                &server.url,
                "--certificate-authority",
                "ca.crt",
            ])
            .current_dir(server.folder.path())
            .env("HOME", server.folder.path())
            .env_remove("KUBECONFIG")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(part), "{curves:?} {digest}: {stderr}");
        assert_eq!(output.status.code(), Some(3));
    }
}
