//! Creates the client for a resolved configuration.

use http::HeaderValue;
use http::header::USER_AGENT;
use kube::client::{ClientBuilder, ConfigExt};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, ServerName};
use tower::ServiceBuilder;

use super::ConnectError;
use super::credentials::{impersonation, load_credentials};
use crate::cluster::authenticate::{Authenticate, Connector};
use crate::cluster::bounds::BoundsLayer;
use crate::cluster::explain::explain;
use crate::cluster::warnings::WarningsLayer;

/// Creates the connector for `config`, which must not hold credentials: the library would run the plugin to read its
/// certificate.
fn connector(config: &mut kube::Config) -> Result<Connector, ConnectError> {
    if let Some(certificates) = &mut config.root_cert {
        // As in Go, an invalid certificate does not affect the others.
        let found = certificates.len();
        certificates.retain(|der| {
            RootCertStore::empty()
                .add(CertificateDer::from(der.as_slice()))
                .is_ok()
        });
        if certificates.is_empty() {
            let reason = "none of its certificates can be parsed".to_owned();
            return Err(ConnectError::Authority { reason });
        }
        if certificates.len() < found {
            // The library would read the file again and refuse it.
            config.root_cert_file = None;
        }
    }
    let server_name = match &config.tls_server_name {
        None => None,
        Some(name) => Some(
            ServerName::try_from(name.clone())
                .map_err(|_| ConnectError::TlsServerName { name: name.clone() })?,
        ),
    };
    let tls = config.rustls_client_config();
    Ok(Connector {
        tls: tls.map_err(|error| ConnectError::Client(explain(&error)))?,
        server_name,
        proxy: config.proxy_url.clone(),
        connect_timeout: config.connect_timeout,
        write_timeout: config.write_timeout,
    })
}

/// Creates a client that sends `user_agent` and passes each different warning of the server to `warnings`.
///
/// Must be called within a Tokio runtime. Runs the credential plugin, if there is one, and waits for it.
///
/// # Errors
/// If a plugin or a certificate yields no credentials, or the proxy is not supported.
pub fn client(
    mut config: kube::Config,
    user_agent: &str,
    warnings: impl Fn(&str) + Clone + Send + Sync + 'static,
) -> Result<kube::Client, ConnectError> {
    let agent = HeaderValue::from_str(user_agent).map_err(|_| ConnectError::UserAgent {
        agent: user_agent.to_owned(),
    })?;
    let mut user = std::mem::take(&mut config.auth_info);
    config.auth_info = impersonation(&mut user);
    let connector = connector(&mut config)?;
    let (source, credentials) = load_credentials(&user)?;
    let refuse = |error: kube::Error| ConnectError::Client(explain(&error));
    let headers = config.extra_headers_layer().map_err(refuse)?;
    config.auth_info.auth_provider = user.auth_provider;
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(refuse)?)
        .layer(headers)
        .map_request(move |mut request: http::Request<_>| {
            // A step may name another program than this one.
            request
                .headers_mut()
                .entry(USER_AGENT)
                .or_insert_with(|| agent.clone());
            request
        })
        .service(Authenticate::new(connector, source, credentials));
    let builder = ClientBuilder::new(service, config.default_namespace)
        .with_layer(&BoundsLayer::new(&config.cluster_url))
        .with_layer(&WarningsLayer::new(warnings));
    Ok(builder.build())
}

#[cfg(test)]
mod tests {
    use super::super::resolve;
    use super::super::testing::{options, some};
    use super::*;
    use crate::net::Environment;

    /// A kubeconfig with every kind of field in it.
    const RICH: &str = "
apiVersion: v1
kind: Config
current-context: a
preferences: {}
clusters:
- name: a
  cluster: {server: 'https://127.0.0.1:1/base', certificate-authority-data: QQ==, proxy-url: 'http://127.0.0.1:2', tls-server-name: x, extensions: [{name: client.authentication.k8s.io/exec, extension: {a: [1]}}]}
- name: b
  cluster: {server: '127.0.0.1:1', insecure-skip-tls-verify: true}
users:
- name: a
  user: {token: abc, as: jane, as-uid: u, as-groups: [g], as-user-extra: {k: [v]}}
- name: b
  user: {username: u, password: p}
- name: c
  user: {client-certificate-data: QQ==, client-key-data: QQ==, auth-provider: {name: oidc, config: {id-token: a.b.c, idp-issuer-url: 'https://x'}}}
- name: d
  user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: 'false', args: [x], env: [{name: N, value: v}], interactiveMode: Never, provideClusterInfo: true, installHint: get it}}
contexts:
- name: a
  context: {cluster: a, user: a, namespace: n}
";

    /// Replacements for words of a kubeconfig.
    const PIECES: [&str; 22] = [
        "",
        "null",
        "~",
        "''",
        "[]",
        "{}",
        "0",
        "-1",
        "1e999",
        "true",
        ".nan",
        "'\u{0}'",
        "\"\\0\"",
        "\"\\n\"",
        "\u{feff}",
        "\u{202e}",
        "é",
        "&x",
        "*x",
        "<<",
        "!!binary x",
        "https://[::1",
    ];

    #[tokio::test]
    async fn no_kubeconfig_causes_a_panic() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        let mut contents: Vec<Vec<u8>> = vec![];
        let words = RICH.split(|c: char| !c.is_ascii_alphanumeric() && !"-./".contains(c));
        let words: std::collections::BTreeSet<&str> = words.filter(|word| !word.is_empty()).collect();
        for word in words {
            contents.extend(PIECES.map(|piece| RICH.replace(word, piece).into_bytes()));
        }
        for at in (0..RICH.len()).step_by(7) {
            contents.push(RICH.as_bytes()[..at].to_vec());
            contents.push([&RICH.as_bytes()[..at], b"\xff", &RICH.as_bytes()[at..]].concat());
            let units: Vec<u8> = RICH.encode_utf16().flat_map(u16::to_le_bytes).collect();
            contents.push([b"\xff\xfe", &units[..at]].concat());
            contents.push([b"\xfe\xff", &units[..at]].concat());
        }
        assert!(contents.len() > 1000);
        let users = [None, some("b"), some("c"), some("d")];
        let mut clients = 0;
        for (number, content) in contents.iter().enumerate() {
            std::fs::write(&path, content).unwrap();
            let options = options(|o| {
                o.kubeconfig = Some(path.clone());
                o.user = users[number % users.len()].clone();
                o.cluster = some("b").filter(|_| number % 3 == 0);
            });
            let environment = Environment::from_process();
            // A panic here fails the test, with the content in its message.
            let connected = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let (config, _) = resolve(&options, &environment)?;
                client(config, "agent", |_: &str| {}).map(|_| ())
            }));
            match connected {
                Ok(Ok(())) => clients += 1,
                Ok(Err(error)) => assert!(!error.to_string().is_empty()),
                Err(panic) => panic!("{panic:?}: {}", String::from_utf8_lossy(content)),
            }
        }
        assert!(clients > 0, "some of them can be used");
    }
}
