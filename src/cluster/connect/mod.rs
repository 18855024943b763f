//! Turns a kubeconfig and flags into a client, as kubectl does.
//!
//! The client library differs from kubectl: it fails on a missing file in `KUBECONFIG`, compares `NO_PROXY` with the
//! wrong host, retries writes, sends credentials over plain HTTP (<https://github.com/kube-rs/kube/issues/1593>), and
//! does not show the install hint of a plugin. This module therefore uses its types of entries, its `Config` and its
//! headers, and implements every decision in between. [`resolve`] reads files and an [`Environment`] passed as a value,
//! and opens no connection; [`client`] creates the client and may run a credential plugin.
//!
//! The namespace of a context or pod is ignored: every call names its namespace.

mod client;
mod credentials;
mod error;
mod options;
mod overrides;
mod server;
#[cfg(test)]
mod testing;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use kube::config::{AuthInfo, Cluster};

use super::kubeconfig::{Kubeconfig, Selection, load, select};
use crate::files;
use crate::net::Environment;
use crate::net::proxy::proxy_for;

pub use client::client;
pub use credentials::may_prompt;
pub use error::ConnectError;
pub(super) use error::{HINT_KUBELOGIN, is_kubelogin};
pub use options::ConnectOptions;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The cluster and identity of a connection, to show before anything is done there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The context, if one is used.
    pub context: Option<String>,
    /// The kubeconfig's name for the cluster.
    pub cluster: Option<String>,
    /// The kubeconfig's name for the user.
    pub user: Option<String>,
    /// The API server's address.
    pub server: String,
    /// Whether the pod's service account is used.
    pub in_cluster: bool,
}

/// Selects the cluster and the identity.
///
/// Flags take precedence over the kubeconfig (`--kubeconfig`, else the list in `KUBECONFIG`, else `~/.kube/config`),
/// and the kubeconfig over the service account of the pod.
///
/// # Errors
/// If a file, an entry or a setting cannot be used; there is no fallback.
pub fn resolve(
    options: &ConnectOptions,
    environment: &Environment,
) -> Result<(kube::Config, Target), ConnectError> {
    if options.insecure_skip_tls_verify && options.certificate_authority.is_some() {
        return Err(ConnectError::AuthorityAndInsecure);
    }
    let (kubeconfig, mut tried) = load(options, environment)?;
    // Flags that name an entry do not refer to the cluster that this runs in.
    let named = options.context.is_some() || options.cluster.is_some() || options.user.is_some();
    let mut selection = match kubeconfig {
        Some(kubeconfig) => select(options, kubeconfig)?,
        None if options.server.is_some() && !named => select(options, Kubeconfig::default())?,
        None if named => return Err(ConnectError::NotConfigured { tried }),
        None => in_cluster(environment)?.ok_or_else(|| {
            tried.push("the service account of a pod (not in a pod)".to_owned());
            ConnectError::NotConfigured { tried }
        })?,
    };
    overrides::apply_overrides(options, &mut selection)?;
    configure(options, environment, selection)
}

/// Returns the service account of the pod, or `None` outside of a pod.
fn in_cluster(environment: &Environment) -> Result<Option<Selection>, ConnectError> {
    let host = environment.text("KUBERNETES_SERVICE_HOST");
    let port = environment.text("KUBERNETES_SERVICE_PORT");
    let token = environment.service_account.join("token");
    let (Some(host), Some(port), true) = (host, port, token.is_file()) else {
        return Ok(None);
    };
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host
    };
    let authority = environment.service_account.join("ca.crt");
    Ok(Some(Selection {
        cluster: Cluster {
            server: Some(format!("https://{host}:{port}")),
            certificate_authority: Some(path_text("certificate authority", &authority)?),
            ..Cluster::default()
        },
        user: AuthInfo {
            token_file: Some(path_text("token", &token)?),
            ..AuthInfo::default()
        },
        in_cluster: true,
        ..Selection::default()
    }))
}

fn path_text(what: &'static str, path: &Path) -> Result<String, ConnectError> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| ConnectError::File {
            what,
            path: path.to_owned(),
            source: io::Error::new(io::ErrorKind::InvalidInput, "the path is not UTF-8"),
        })
}

fn read_file(what: &'static str, path: &Path) -> Result<Vec<u8>, ConnectError> {
    files::read(path).map_err(|source| ConnectError::File {
        what,
        path: path.to_owned(),
        source,
    })
}

/// Creates the configuration of the client library.
fn configure(
    options: &ConnectOptions,
    environment: &Environment,
    selection: Selection,
) -> Result<(kube::Config, Target), ConnectError> {
    let Selection {
        context,
        cluster_name,
        user_name,
        cluster,
        mut user,
        in_cluster,
    } = selection;
    let Some(server) = &cluster.server else {
        let cluster = cluster_name.unwrap_or_default();
        return Err(ConnectError::NoServer { cluster });
    };
    let url = server::address(server)?;
    let is_plain = url.scheme_str() == Some("http");
    let authority = server::authority(&cluster)?;
    if authority.is_some() && cluster.insecure_skip_tls_verify == Some(true) && !is_plain {
        return Err(ConnectError::AuthorityAndInsecure);
    }
    let is_reread = in_cluster && authority.is_some() && options.certificate_authority.is_none();
    let name = user_name.as_deref().unwrap_or_default();
    credentials::check_user(name, &user)?;
    if is_plain {
        // As in kubectl, without TLS no credentials are sent and no plugin runs.
        user = credentials::impersonation(&mut user);
    }
    credentials::check_login(name, &user)?;
    credentials::select_credentials(&mut user)?;
    if let Some(exec) = &mut user.exec {
        credentials::prepare_plugin(exec, &cluster, authority.as_deref(), environment)?;
    }
    let certificates = authority.as_deref().map(server::certificates).transpose()?;
    let mut config = kube::Config::new(url.clone());
    config.root_cert = certificates;
    if is_reread {
        config.root_cert_file = cluster.certificate_authority.as_ref().map(PathBuf::from);
    }
    config.accept_invalid_certs = cluster.insecure_skip_tls_verify.unwrap_or(false);
    config.tls_server_name.clone_from(&cluster.tls_server_name);
    config.proxy_url = proxy_for(&url, cluster.proxy_url.as_deref(), |name| environment.text(name))?;
    config.auth_info = user;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // A timeout would cut logs and watches; each call has its own.
    config.read_timeout = None;
    // A retry would repeat writes as well.
    config.default_retry = false;

    let target = Target {
        context,
        cluster: cluster_name,
        user: user_name,
        server: url.to_string().trim_end_matches('/').to_owned(),
        in_cluster,
    };
    Ok((config, target))
}

/// Decodes base64 as Go does, without regard to line breaks.
fn decoded(field: &str, data: &str) -> Result<Vec<u8>, String> {
    let packed: String = data.split_ascii_whitespace().collect();
    BASE64
        .decode(packed)
        .map_err(|error| format!("{field} is not base64: {error}"))
}

#[cfg(test)]
mod tests {
    use super::error::format_names;
    use super::testing::{TWO, home, options, refused, set, some, write};
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn current_context_of_default_file_is_used() {
        let (_home, environment) = home(TWO);
        let (config, target) = resolve(&ConnectOptions::default(), &environment).unwrap();
        let expected = Target {
            context: some("blue"),
            cluster: some("b"),
            user: some("bob"),
            server: "https://b.example.test:6443".to_owned(),
            in_cluster: false,
        };
        assert_eq!(target, expected);
        assert_eq!(config.auth_info.token.unwrap().expose_secret(), "bob-token");
        assert_eq!(config.auth_info.impersonate, None, "an empty value is none");
        assert!(config.root_cert.is_none(), "an empty value is none");
        assert!(!config.default_retry && config.read_timeout.is_none());
        assert_eq!(config.connect_timeout, Some(CONNECT_TIMEOUT));
    }

    #[test]
    fn listed_files_are_merged_and_missing_ones_skipped() {
        let (home, mut environment) = home(TWO);
        let first = write(
            &home,
            "first",
            "current-context: ''\nclusters: [{name: b, cluster: {server: 'https://first:1'}}]",
        );
        let second = home.path().join(".kube/config");
        let missing = home.path().join("missing");
        let list = std::env::join_paths([Path::new(""), &missing, &first, Path::new(""), &second]).unwrap();
        set(&mut environment, "KUBECONFIG", list);
        let (_, target) = resolve(&ConnectOptions::default(), &environment).unwrap();
        assert_eq!(
            target.context.as_deref(),
            Some("blue"),
            "an empty value hides nothing"
        );
        assert_eq!(target.server, "https://first:1", "the first file wins");

        set(&mut environment, "KUBECONFIG", "");
        assert!(
            resolve(&ConnectOptions::default(), &environment).is_ok(),
            "empty means the default file"
        );
        set(&mut environment, "KUBECONFIG", missing.clone());
        let error = refused(&ConnectOptions::default(), &environment).to_string();
        assert!(
            error.contains("missing (does not exist)") && error.contains("service account"),
            "{error}"
        );
    }

    #[test]
    fn invalid_file_is_named_and_not_quoted() {
        let (home, mut environment) = home(TWO);
        let broken = write(
            &home,
            "broken",
            "users: [{name: a, user: {token: s3cret}}]\ncontexts: {]",
        );
        for path in [broken, home.path().to_owned()] {
            let by_flag = options(|o| o.kubeconfig = Some(path.clone()));
            set(&mut environment, "KUBECONFIG", path.clone());
            for options in [by_flag, ConnectOptions::default()] {
                let error = refused(&options, &environment).to_string();
                assert!(error.contains(path.to_str().unwrap()), "{error}");
                assert!(!error.contains("s3cret"), "{error}");
            }
        }
        let absent = options(|o| o.kubeconfig = Some(home.path().join("absent")));
        let error = refused(&absent, &environment);
        assert!(
            matches!(error, ConnectError::KubeconfigMissing { .. }),
            "{error:?}"
        );
        assert!(error.hint().is_some());
    }

    #[test]
    fn unknown_names_are_refused_with_the_known() {
        let (_home, environment) = home(TWO);
        for (options, message) in [
            (
                options(|o| o.context = some("x")),
                r#"the kubeconfig has no context "x" (it has anonymous, blue, red, torn)"#,
            ),
            (
                options(|o| o.cluster = some("x")),
                r#"the kubeconfig has no cluster "x" (it has b, r)"#,
            ),
            (
                options(|o| o.context = some("torn")),
                r#"the kubeconfig has no cluster "gone" (it has b, r)"#,
            ),
            (
                options(|o| o.user = some("x")),
                r#"the kubeconfig has no user "x" (it has ann, bob)"#,
            ),
        ] {
            let error = refused(&options, &environment);
            assert_eq!(error.to_string(), message);
            assert!(error.hint().unwrap().contains("kubectl config get-"));
        }
        let many: Vec<String> = (10..25).rev().map(|number| format!("c{number}")).collect();
        assert_eq!(
            format_names(&many),
            " (it has c10, c11, c12, c13, c14, c15, c16, c17, c18, c19 and 5 more)"
        );
        let anonymous = options(|o| o.context = some("anonymous"));
        assert!(resolve(&anonymous, &environment).is_ok(), "as kubectl does");
    }

    #[test]
    fn missing_current_context_is_refused_with_the_known() {
        let (_home, environment) = home(&TWO.replace("current-context: blue", "current-context: ''"));
        let error = refused(&ConnectOptions::default(), &environment);
        assert!(error.to_string().contains("(it has anonymous, blue, red, torn)"));
        let hint = error.hint().unwrap();
        assert!(hint.contains("kubectl config use-context NAME") && hint.contains("--context"));
        let by_server = options(|o| o.server = some("https://x"));
        assert_eq!(resolve(&by_server, &environment).unwrap().1.context, None);
    }

    #[test]
    fn server_flag_needs_no_kubeconfig() {
        let alone = options(|o| o.server = some("10.0.0.1:6443"));
        let (config, target) = resolve(&alone, &Environment::default()).unwrap();
        assert_eq!(target.server, "https://10.0.0.1:6443");
        assert!(config.auth_info.token.is_none());
        for (server, part) in [
            ("ftp://x", "neither"),
            ("https://", ""),
            ("https://a b", ""),
            ("https://x/?q=1", "query"),
            ("", ""),
        ] {
            let error = refused(&options(|o| o.server = some(server)), &Environment::default());
            assert!(
                matches!(error, ConnectError::Server { .. } | ConnectError::NoServer { .. }),
                "{error:?}"
            );
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn pod_uses_its_service_account() {
        let directory = tempfile::tempdir().unwrap();
        let mut environment = Environment {
            service_account: directory.path().to_owned(),
            ..Environment::default()
        };
        set(&mut environment, "KUBERNETES_SERVICE_HOST", "fd00::1");
        set(&mut environment, "KUBERNETES_SERVICE_PORT", "443");
        let error = refused(&ConnectOptions::default(), &environment);
        assert!(
            matches!(error, ConnectError::NotConfigured { .. }),
            "no token, no pod: {error:?}"
        );

        write(&directory, "token", "pod-token");
        let authority = write(&directory, "ca.crt", "not PEM");
        let error = refused(&ConnectOptions::default(), &environment).to_string();
        assert!(error.contains("ca.crt holds no certificate"), "{error}");
        write(
            &directory,
            "ca.crt",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        );
        let (config, target) = resolve(&ConnectOptions::default(), &environment).unwrap();
        assert!(target.in_cluster);
        assert_eq!(target.server, "https://[fd00::1]:443");
        assert_eq!(config.root_cert_file, Some(authority));
        assert_eq!(
            config.auth_info.token_file.as_deref(),
            directory.path().join("token").to_str()
        );

        let named = options(|o| o.context = some("prod"));
        let error = refused(&named, &environment);
        assert!(
            matches!(error, ConnectError::NotConfigured { .. }),
            "not another cluster: {error:?}"
        );
    }

    #[test]
    fn proxy_is_that_of_the_environment() {
        let mut environment = Environment::default();
        set(&mut environment, "HTTPS_PROXY", "proxy.test:3128");
        set(&mut environment, "NO_PROXY", ".internal.test,");
        for (server, expected) in [
            ("https://x.test", some("http://proxy.test:3128/")),
            ("https://a.internal.test", None),
        ] {
            let (config, _) = resolve(&options(|o| o.server = some(server)), &environment).unwrap();
            assert_eq!(config.proxy_url.map(|uri| uri.to_string()), expected);
        }
        set(&mut environment, "HTTPS_PROXY", "gopher://proxy.test");
        let error = refused(&options(|o| o.server = some("https://x.test")), &environment);
        assert!(
            error.to_string().contains("HTTPS_PROXY") && error.hint().is_some(),
            "{error}"
        );
    }
}
