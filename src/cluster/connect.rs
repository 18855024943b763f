//! How a kubeconfig and flags become a client, as kubectl does it.
//!
//! The client library can do this alone, but not as a kubectl user expects: it stops at a missing file in
//! `KUBECONFIG`, compares `NO_PROXY` with the wrong host, repeats writes, sends credentials over plain HTTP
//! (<https://github.com/kube-rs/kube/issues/1593>), and does not show a plugin's install hint. So its types of
//! entries, its `Config` and its headers are used, and every decision in between is made here. [`resolve`] reads files
//! and an [`Environment`] given as a value, and opens no connection; [`client`] makes the client and may run a
//! credential plugin.
//!
//! The namespace of a context or of a pod is not read: a run works in the one of `-n`, or in its own, and
//! every call names it.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderValue, Uri, header::USER_AGENT};
use kube::client::{ClientBuilder, ConfigExt};
use kube::config::{AuthInfo, Cluster, ExecAuthCluster, ExecConfig, ExecInteractiveMode};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, ServerName};
use secrecy::{ExposeSecret, SecretString};
use tower::ServiceBuilder;

use super::authenticate::{Authenticate, Connector, Source};
use super::bounds::BoundsLayer;
use super::explain::{explain, explain_plugin};
use super::identity;
use super::kubeconfig::{Chosen, Kubeconfig, choose, load};
use super::plugin::{self, Credentials, Plugin};
use super::warnings::WarningsLayer;
use crate::files;
use crate::kubectl::Kubectl;
use crate::net::http::bearer;
use crate::net::proxy::{ProxyError, proxy_for, without_credentials};
use crate::net::{Environment, Explanation, pem};
use crate::untrusted;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What the command line says about the connection; each field is the kubectl flag of that name.
#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    /// `--kubeconfig`: this file and no other.
    pub kubeconfig: Option<PathBuf>,
    /// `--context`.
    pub context: Option<String>,
    /// `--cluster`.
    pub cluster: Option<String>,
    /// `--user`.
    pub user: Option<String>,
    /// `--server`.
    pub server: Option<String>,
    /// `--token`: takes the place of all other credentials.
    pub token: Option<SecretString>,
    /// `--as`.
    pub impersonate: Option<String>,
    /// `--as-uid`.
    pub impersonate_uid: Option<String>,
    /// `--as-group`, repeatable.
    pub impersonate_groups: Vec<String>,
    /// `--as-user-extra key=value`, repeatable, also with the same key.
    pub impersonate_user_extra: Vec<(String, String)>,
    /// `--certificate-authority`.
    pub certificate_authority: Option<PathBuf>,
    /// `--client-certificate`.
    pub client_certificate: Option<PathBuf>,
    /// `--client-key`.
    pub client_key: Option<PathBuf>,
    /// `--tls-server-name`.
    pub tls_server_name: Option<String>,
    /// `--insecure-skip-tls-verify`.
    pub insecure_skip_tls_verify: bool,
}

impl ConnectOptions {
    /// Whether the command line has none of these flags.
    pub fn is_default(&self) -> bool {
        self.token.is_none() && self.kubectl() == Kubectl::default()
    }

    /// The commands of hints, with these flags repeated; `--token` is not.
    #[must_use]
    pub fn kubectl(&self) -> Kubectl {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.to_string_lossy().into_owned());
        let one = [
            ("kubeconfig", path(&self.kubeconfig)),
            ("context", self.context.clone()),
            ("cluster", self.cluster.clone()),
            ("user", self.user.clone()),
            ("server", self.server.clone()),
            ("tls-server-name", self.tls_server_name.clone()),
            ("certificate-authority", path(&self.certificate_authority)),
            ("client-certificate", path(&self.client_certificate)),
            ("client-key", path(&self.client_key)),
            ("as", self.impersonate.clone()),
            ("as-uid", self.impersonate_uid.clone()),
        ];
        let one = one.into_iter().filter(|(_, value)| value.is_some());
        let groups = self.impersonate_groups.iter();
        let groups = groups.map(|group| ("as-group", Some(group.clone())));
        let extra = self.impersonate_user_extra.iter();
        let extra = extra.map(|(key, value)| ("as-user-extra", Some(format!("{key}={value}"))));
        let insecure = self
            .insecure_skip_tls_verify
            .then_some(("insecure-skip-tls-verify", None));
        Kubectl::new(one.chain(groups).chain(extra).chain(insecure))
    }
}

/// Where a connection leads, for people to read before anything is done there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The context used, if one was.
    pub context: Option<String>,
    /// The kubeconfig's name for the cluster.
    pub cluster: Option<String>,
    /// The kubeconfig's name for the user.
    pub user: Option<String>,
    /// The API server's address.
    pub server: String,
    /// Whether the pod's own service account is used.
    pub in_cluster: bool,
}

/// Why there is no client. Each message names the object and the cause; [`ConnectError::hint`] says what to
/// do next.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The file of `--kubeconfig` is not there.
    #[error("the kubeconfig {path:?} does not exist")]
    KubeconfigMissing {
        /// The file.
        path: PathBuf,
    },
    /// A file is there but cannot be used.
    #[error("the kubeconfig {path:?} cannot be used: {reason}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What the system or the parser says.
        reason: String,
    },
    /// There is nothing to connect with.
    #[error("no cluster is configured: looked at {}", looked.join(", "))]
    NotConfigured {
        /// The places looked at, with what was (not) found there.
        looked: Vec<String>,
    },
    /// The kubeconfig has contexts, but none is chosen.
    #[error("the kubeconfig has no current context{}", listed(known))]
    NoCurrentContext {
        /// The contexts there are.
        known: Vec<String>,
    },
    /// A context, cluster or user that the kubeconfig does not have.
    #[error("the kubeconfig has no {kind} {name:?}{}", listed(known))]
    Unknown {
        /// `context`, `cluster` or `user`.
        kind: &'static str,
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// The cluster entry has no address.
    #[error("the cluster {cluster:?} of the kubeconfig has no server")]
    NoServer {
        /// The cluster's name.
        cluster: String,
    },
    /// An address that is none, or that holds credentials.
    #[error("{server:?} cannot be used as the address of an API server: {reason}")]
    Server {
        /// The address as given, without user name, password and query.
        server: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that a flag or the service account names.
    #[error("the {what} {path:?} cannot be read: {source}")]
    File {
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A certificate authority that is none.
    #[error("the certificate authority cannot be used: {reason}")]
    Authority {
        /// What is wrong with it.
        reason: String,
    },
    /// Both a certificate authority and no verification were asked for.
    #[error("a certificate authority and insecure-skip-tls-verify exclude each other")]
    AuthorityAndInsecure,
    /// A client certificate or its key cannot be used.
    #[error("the client certificate cannot be used: {reason}")]
    Identity {
        /// What is wrong with it.
        reason: String,
    },
    /// A user whose fields contradict each other or are incomplete.
    #[error("the user {name:?} of the kubeconfig cannot be used: {reason}")]
    User {
        /// The user's name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A login that kubectl no longer has.
    #[error("the kubeconfig's auth-provider {name:?} is not supported (nor is it by kubectl)")]
    Provider {
        /// The name of the provider.
        name: String,
    },
    /// A name that no certificate can be for.
    #[error("{name:?} cannot be used as the TLS server name")]
    TlsServerName {
        /// The name.
        name: String,
    },
    /// A token with characters that no header can hold.
    #[error("the token cannot be used: it has a line feed or another character that no token has")]
    Token,
    /// A group, UID or extra field to act as, without a user.
    #[error("a group, a UID or an extra field is impersonated, but no user")]
    ImpersonatesNobody,
    /// The proxy settings cannot be used.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// The plugin must ask, and nobody is there.
    #[error(
        "the credential plugin {command:?} has to ask (interactiveMode: Always), but standard input is no terminal"
    )]
    PluginAsks {
        /// The plugin's command.
        command: String,
    },
    /// The plugin is not installed.
    #[error(
        "the credential plugin {command:?} that the kubeconfig names was not found{}",
        shown_hint(install_hint.as_deref())
    )]
    PluginMissing {
        /// The plugin's command.
        command: String,
        /// What the kubeconfig says about installing it.
        install_hint: Option<String>,
    },
    /// The plugin ran and gave no credentials.
    #[error("{}", .0.message)]
    Plugin(Explanation),
    /// The name that this program gives itself cannot be sent.
    #[error("{agent:?} cannot be sent as the user agent")]
    UserAgent {
        /// The text.
        agent: String,
    },
    /// The client library refuses the configuration.
    #[error("{}", .0.message)]
    Client(Explanation),
}

impl ConnectError {
    /// The next command, where there is one.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::NoCurrentContext { .. } => {
                "name one with --context, or choose one: kubectl config use-context NAME"
            }
            Self::Unknown { kind: "context", .. } => "kubectl config get-contexts",
            Self::Unknown { kind: "cluster", .. } => "kubectl config get-clusters",
            Self::Unknown { .. } => "kubectl config get-users",
            Self::NotConfigured { .. } | Self::KubeconfigMissing { .. } => {
                "name a kubeconfig by --kubeconfig or KUBECONFIG; for AKS: az aks get-credentials"
            }
            Self::NoServer { cluster } => {
                let words = ["config", "set-cluster", cluster, "--server=https://HOST:PORT"];
                return Some(Kubectl::default().command(words));
            }
            Self::ImpersonatesNobody => "name the user as well: --as USER",
            Self::PluginMissing {
                command,
                install_hint,
            } => match install_hint {
                Some(hint) if !is_kubelogin(command) => return Some(hint.clone()),
                _ if is_kubelogin(command) => {
                    "install it (az aks install-cli), then use the Azure CLI's login: \
                     kubelogin convert-kubeconfig -l azurecli"
                }
                _ => return None,
            },
            Self::PluginAsks { command } if is_kubelogin(command) => HINT_KUBELOGIN,
            Self::PluginAsks { .. } => "run it at a terminal, or use a login that asks nothing",
            Self::Kubeconfig { .. }
            | Self::File { .. }
            | Self::Authority { .. }
            | Self::User { .. }
            | Self::Token => "see what kubectl makes of it: kubectl config view",
            Self::Identity { .. } => "check the certificate entries of: kubectl config view --minify",
            Self::Provider { name } if name == "azure" => HINT_KUBELOGIN,
            Self::Provider { name } if name == "gcp" => {
                "install gke-gcloud-auth-plugin, then: gcloud container clusters get-credentials CLUSTER"
            }
            Self::Provider { .. } => "use a login with a credential plugin (exec)",
            Self::TlsServerName { .. } => "use a DNS name or an IP address",
            Self::Server { .. } => "an address looks like https://host:6443",
            Self::AuthorityAndInsecure => "leave one of the two out",
            Self::Plugin(explained) | Self::Client(explained) => return explained.hint.clone(),
            Self::Proxy(_) => {
                "compare the variables HTTPS_PROXY and NO_PROXY with proxy-url in: kubectl config view --minify"
            }
            Self::UserAgent { .. } => return None,
        };
        Some(text.to_owned())
    }
}

pub(super) const HINT_KUBELOGIN: &str =
    "use the Azure CLI's login: az login, then kubelogin convert-kubeconfig -l azurecli";

pub(super) fn is_kubelogin(command: &str) -> bool {
    let stem = Path::new(command).file_stem().and_then(OsStr::to_str);
    stem.is_some_and(|stem| stem.eq_ignore_ascii_case("kubelogin"))
}

fn shown_hint(hint: Option<&str>) -> String {
    hint.map_or(String::new(), |hint| format!("; its install hint: {hint}"))
}

/// The names there are, sorted; the first ten, so that a message stays one.
fn listed(known: &[String]) -> String {
    const SHOWN: usize = 10;
    if known.is_empty() {
        return " (it has none)".to_owned();
    }
    let mut names: Vec<String> = known.iter().map(|name| untrusted::name(name)).collect();
    names.sort();
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!(" (it has {}{more})", names.join(", "))
}

/// Decides where to connect and as whom: flags first, then the kubeconfig (`--kubeconfig`, else the list in
/// `KUBECONFIG`, else `~/.kube/config`), then the service account of the pod this runs in.
///
/// # Errors
///
/// Whatever of these cannot be read, found or used; nothing is guessed instead.
pub fn resolve(
    options: &ConnectOptions,
    environment: &Environment,
) -> Result<(kube::Config, Target), ConnectError> {
    if options.insecure_skip_tls_verify && options.certificate_authority.is_some() {
        return Err(ConnectError::AuthorityAndInsecure);
    }
    let (kubeconfig, mut looked) = load(options, environment)?;
    // Who names an entry, or a server, does not mean whatever cluster this happens to run in.
    let named = options.context.is_some() || options.cluster.is_some() || options.user.is_some();
    let mut chosen = match kubeconfig {
        Some(kubeconfig) => choose(options, kubeconfig)?,
        None if options.server.is_some() && !named => choose(options, Kubeconfig::default())?,
        None if named => return Err(ConnectError::NotConfigured { looked }),
        None => in_cluster(environment)?.ok_or_else(|| {
            looked.push("the service account of a pod (this is not one)".to_owned());
            ConnectError::NotConfigured { looked }
        })?,
    };
    overrule(options, &mut chosen)?;
    configure(options, environment, chosen)
}

/// The service account of the pod, if this runs in one.
fn in_cluster(environment: &Environment) -> Result<Option<Chosen>, ConnectError> {
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
    Ok(Some(Chosen {
        cluster: Cluster {
            server: Some(format!("https://{host}:{port}")),
            certificate_authority: Some(as_text("certificate authority", &authority)?),
            ..Cluster::default()
        },
        user: AuthInfo {
            token_file: Some(as_text("token", &token)?),
            ..AuthInfo::default()
        },
        in_cluster: true,
        ..Chosen::default()
    }))
}

fn as_text(what: &'static str, path: &Path) -> Result<String, ConnectError> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| ConnectError::File {
            what,
            path: path.to_owned(),
            source: io::Error::new(io::ErrorKind::InvalidInput, "its path is not UTF-8"),
        })
}

/// Puts the flags over what was found.
fn overrule(options: &ConnectOptions, chosen: &mut Chosen) -> Result<(), ConnectError> {
    let Chosen { cluster, user, .. } = chosen;
    if let Some(server) = &options.server {
        cluster.server = Some(server.clone());
        // As in kubectl: the name in the entry is that of the entry's own server.
        cluster.tls_server_name = None;
    }
    if let Some(name) = &options.tls_server_name {
        cluster.tls_server_name = Some(name.clone());
    }
    if let Some(path) = &options.certificate_authority {
        cluster.certificate_authority = None;
        cluster.certificate_authority_data = Some(encoded("certificate authority", path)?);
        cluster.insecure_skip_tls_verify = None;
    }
    if options.insecure_skip_tls_verify {
        cluster.insecure_skip_tls_verify = Some(true);
        cluster.certificate_authority = None;
        cluster.certificate_authority_data = None;
    }
    if let Some(token) = &options.token {
        *user = AuthInfo {
            token: Some(SecretString::from(token.expose_secret().trim().to_owned())),
            ..impersonation(user)
        };
    }
    if let Some(path) = &options.client_certificate {
        user.client_certificate = None;
        user.client_certificate_data = Some(encoded("client certificate", path)?);
    }
    if let Some(path) = &options.client_key {
        user.client_key = None;
        user.client_key_data = Some(SecretString::from(encoded("client key", path)?));
    }
    if let Some(name) = &options.impersonate {
        user.impersonate = Some(name.clone());
    }
    if let Some(uid) = &options.impersonate_uid {
        user.impersonate_uid = Some(uid.clone());
    }
    if !options.impersonate_groups.is_empty() {
        user.impersonate_groups = Some(options.impersonate_groups.clone());
    }
    if !options.impersonate_user_extra.is_empty() {
        let mut extra: HashMap<String, Vec<String>> = HashMap::new();
        for (key, value) in &options.impersonate_user_extra {
            extra.entry(key.clone()).or_default().push(value.clone());
        }
        user.impersonate_user_extra = Some(extra);
    }
    let details = user.impersonate_uid.is_some()
        || user
            .impersonate_groups
            .as_ref()
            .is_some_and(|groups| !groups.is_empty())
        || user
            .impersonate_user_extra
            .as_ref()
            .is_some_and(|extra| !extra.is_empty());
    if details && user.impersonate.is_none() {
        return Err(ConnectError::ImpersonatesNobody);
    }
    Ok(())
}

/// The content of a file in the form in which a kubeconfig holds it.
fn encoded(what: &'static str, path: &Path) -> Result<String, ConnectError> {
    file(what, path).map(|content| BASE64.encode(content))
}

fn file(what: &'static str, path: &Path) -> Result<Vec<u8>, ConnectError> {
    files::read(path).map_err(|source| ConnectError::File {
        what,
        path: path.to_owned(),
        source,
    })
}

/// Fills the library's configuration, field by field.
fn configure(
    options: &ConnectOptions,
    environment: &Environment,
    chosen: Chosen,
) -> Result<(kube::Config, Target), ConnectError> {
    let Chosen {
        context,
        cluster_name,
        user_name,
        cluster,
        mut user,
        in_cluster,
    } = chosen;
    let Some(server) = &cluster.server else {
        let cluster = cluster_name.unwrap_or_default();
        return Err(ConnectError::NoServer { cluster });
    };
    let url = address(server)?;
    let is_plain = url.scheme_str() == Some("http");
    let authority = authority(&cluster)?;
    if authority.is_some() && cluster.insecure_skip_tls_verify == Some(true) && !is_plain {
        return Err(ConnectError::AuthorityAndInsecure);
    }
    let reread = in_cluster && authority.is_some() && options.certificate_authority.is_none();
    let name = user_name.as_deref().unwrap_or_default();
    check_user(name, &user)?;
    if is_plain {
        // As kubectl does: without TLS no credentials are sent and no plugin runs.
        user = impersonation(&mut user);
    }
    check_login(name, &user)?;
    credentials(&mut user)?;
    if let Some(exec) = &mut user.exec {
        prepare_plugin(exec, &cluster, authority.as_deref(), environment)?;
    }
    let certificates = authority.as_deref().map(certificates).transpose()?;
    let mut config = kube::Config::new(url.clone());
    config.root_cert = certificates;
    if reread {
        config.root_cert_file = cluster.certificate_authority.as_ref().map(PathBuf::from);
    }
    config.accept_invalid_certs = cluster.insecure_skip_tls_verify.unwrap_or(false);
    config.tls_server_name.clone_from(&cluster.tls_server_name);
    config.proxy_url = proxy_for(&url, cluster.proxy_url.as_deref(), |name| environment.text(name))?;
    config.auth_info = user;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // It would cut logs and exec streams: each call has its own bound instead.
    config.read_timeout = None;
    // It would repeat writes as well.
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

/// The server's address; one without a scheme is meant to be safe. Reports print it, so it may hold no
/// credentials.
fn address(server: &str) -> Result<Uri, ConnectError> {
    let refuse = |reason: &str| {
        let shown = without_credentials(server);
        ConnectError::Server {
            server: shown.split(['?', '#']).next().unwrap_or_default().to_owned(),
            reason: reason.to_owned(),
        }
    };
    let given = server.trim();
    let full = if given.contains("://") {
        given.to_owned()
    } else {
        format!("https://{given}")
    };
    let url: Uri = full
        .parse()
        .map_err(|error: http::uri::InvalidUri| refuse(&error.to_string()))?;
    if !matches!(url.scheme_str(), Some("http" | "https")) {
        return Err(refuse("it starts neither with https:// nor with http://"));
    }
    let Some(authority) = url.authority().filter(|authority| !authority.host().is_empty()) else {
        return Err(refuse("it has no host"));
    };
    if authority.as_str().contains('@') {
        return Err(refuse(
            "a user name and a password belong in a user of the kubeconfig, not in the address",
        ));
    }
    // The library does not look, and what stands there may be a password with a slash in it.
    let port = authority.as_str()[authority.host().len()..].trim_start_matches(':');
    if !port.is_empty() && authority.port_u16().is_none() {
        return Err(refuse("its port is no number"));
    }
    if url.query().is_some() {
        return Err(refuse("it has a query"));
    }
    Ok(url)
}

/// The PEM text of the authority, or `None` for those that the system trusts.
fn authority(cluster: &Cluster) -> Result<Option<Vec<u8>>, ConnectError> {
    let refuse = |reason: String| ConnectError::Authority { reason };
    match (
        &cluster.certificate_authority_data,
        &cluster.certificate_authority,
    ) {
        (Some(_), Some(_)) => Err(refuse(
            "certificate-authority and certificate-authority-data exclude each other".to_owned(),
        )),
        (Some(data), None) => decoded("certificate-authority-data", data)
            .map(Some)
            .map_err(refuse),
        (None, Some(path)) => {
            let content = file("certificate authority", Path::new(path))?;
            if pem::certificates(&content).is_empty() {
                return Err(refuse(format!("{path} holds no certificate")));
            }
            Ok(Some(content))
        }
        (None, None) => Ok(None),
    }
}

/// The certificates in the PEM text of an authority.
fn certificates(authority: &[u8]) -> Result<Vec<Vec<u8>>, ConnectError> {
    let certificates: Vec<_> = pem::certificates(authority)
        .into_iter()
        .map(|certificate| certificate.to_vec())
        .collect();
    if certificates.is_empty() {
        let reason = "certificate-authority-data holds no certificate".to_owned();
        return Err(ConnectError::Authority { reason });
    }
    Ok(certificates)
}

/// Base64 as Go reads it: line breaks do not count.
fn decoded(field: &str, data: &str) -> Result<Vec<u8>, String> {
    let packed: String = data.split_ascii_whitespace().collect();
    BASE64
        .decode(packed)
        .map_err(|error| format!("{field} is not base64: {error}"))
}

/// Whom to act as, without the credentials.
fn impersonation(user: &mut AuthInfo) -> AuthInfo {
    AuthInfo {
        impersonate: user.impersonate.take(),
        impersonate_uid: user.impersonate_uid.take(),
        impersonate_groups: user.impersonate_groups.take(),
        impersonate_user_extra: user.impersonate_user_extra.take(),
        ..AuthInfo::default()
    }
}

/// Refuses a user as kubectl does, instead of guessing which of its credentials are meant.
fn check_user(name: &str, user: &AuthInfo) -> Result<(), ConnectError> {
    let refuse = |reason: &str| {
        Err(ConnectError::User {
            name: name.to_owned(),
            reason: reason.to_owned(),
        })
    };
    if user.token.is_some() && (user.username.is_some() || user.password.is_some()) {
        return Err(both_logins(name));
    }
    if user.client_certificate.is_some() && user.client_certificate_data.is_some() {
        return refuse("client-certificate and client-certificate-data exclude each other");
    }
    if user.client_key.is_some() && user.client_key_data.is_some() {
        return refuse("client-key and client-key-data exclude each other");
    }
    let has_certificate = user.client_certificate.is_some() || user.client_certificate_data.is_some();
    if has_certificate && user.client_key.is_none() && user.client_key_data.is_none() {
        return refuse("it has a client certificate without its key");
    }
    if let Some(exec) = &user.exec {
        if user.auth_provider.is_some() {
            return refuse("it has both exec and auth-provider");
        }
        if exec.command.is_none() {
            return refuse("its exec has no command");
        }
        if exec.api_version.is_none() {
            return refuse("its exec has no apiVersion");
        }
        if exec.interactive_mode.is_none() && exec.api_version.as_deref() == Some(plugin::VERSIONS[0]) {
            return refuse("its exec has no interactiveMode");
        }
        if exec.env.iter().flatten().any(|entry| !entry.contains_key("name")) {
            return refuse("its exec has a variable without a name");
        }
    }
    Ok(())
}

/// Refuses credentials that cannot be used, where they are.
fn check_login(name: &str, user: &AuthInfo) -> Result<(), ConnectError> {
    if user.token_file.is_some() && user.username.is_some() {
        return Err(both_logins(name));
    }
    let version = user.exec.as_ref().and_then(|exec| exec.api_version.as_deref());
    if let Some(version) = version.filter(|version| !plugin::VERSIONS.contains(version)) {
        let known = plugin::VERSIONS.join(" and ");
        return Err(ConnectError::User {
            name: name.to_owned(),
            reason: format!("its exec has the apiVersion {version:?} (supported are {known})"),
        });
    }
    match &user.auth_provider {
        Some(provider) if provider.name != "oidc" => Err(ConnectError::Provider {
            name: provider.name.clone(),
        }),
        _ => Ok(()),
    }
}

fn both_logins(name: &str) -> ConnectError {
    ConnectError::User {
        name: name.to_owned(),
        reason: "it has both a token and a user name or password".to_owned(),
    }
}

/// Leaves the credentials that are used: the token of a file before one beside it, and no plugin beside others.
fn credentials(user: &mut AuthInfo) -> Result<(), ConnectError> {
    if let Some(path) = &user.token_file {
        match file("token file", Path::new(path)) {
            Ok(content) => {
                let text = String::from_utf8(content).map_err(|_| ConnectError::Token)?;
                if !text.trim().is_empty() {
                    user.token = Some(SecretString::from(text.trim().to_owned()));
                } else if user.token.is_none() {
                    return Err(ConnectError::Token);
                }
            }
            Err(_) if user.token.is_some() => {}
            Err(error) => return Err(error),
        }
    }
    if let Some(token) = &user.token {
        let header = HeaderValue::from_str(token.expose_secret());
        header.map_err(|_| ConnectError::Token)?;
    }
    let has_key = user.client_key.is_some() || user.client_key_data.is_some();
    let has_certificate = user.client_certificate.is_some() || user.client_certificate_data.is_some();
    if user.token.is_some() || user.username.is_some() || (has_certificate && has_key) {
        user.exec = None;
    }
    Ok(())
}

/// Settles whether the plugin may ask, and makes sure that it is there.
fn prepare_plugin(
    exec: &mut ExecConfig,
    cluster: &Cluster,
    authority: Option<&[u8]>,
    environment: &Environment,
) -> Result<(), ConnectError> {
    let command = exec.command.clone().unwrap_or_default();
    let own_path = exec
        .env
        .iter()
        .flatten()
        .find(|entry| entry.get("name").is_some_and(|name| name == "PATH"));
    let path = match own_path.and_then(|entry| entry.get("value")) {
        Some(value) => Some(OsString::from(value)),
        None => environment.get("PATH").map(OsStr::to_owned),
    };
    if which::which_in(&command, path, Path::new(".")).is_err() {
        let install_hint = exec
            .install_hint
            .as_deref()
            .map(untrusted::lines)
            .filter(|hint| !hint.is_empty());
        return Err(ConnectError::PluginMissing {
            command,
            install_hint,
        });
    }
    match exec.interactive_mode {
        Some(ExecInteractiveMode::Always) if !environment.stdin_is_terminal => {
            return Err(ConnectError::PluginAsks { command });
        }
        Some(ExecInteractiveMode::IfAvailable) | None if !environment.stdin_is_terminal => {
            exec.interactive_mode = Some(ExecInteractiveMode::Never);
        }
        _ => {}
    }
    if exec.provide_cluster_info {
        let extensions = cluster.extensions.iter().flatten();
        exec.cluster = Some(ExecAuthCluster {
            server: cluster.server.clone(),
            insecure_skip_tls_verify: cluster.insecure_skip_tls_verify,
            certificate_authority_data: authority.map(<[u8]>::to_vec),
            proxy_url: cluster.proxy_url.clone(),
            tls_server_name: cluster.tls_server_name.clone(),
            config: extensions
                .into_iter()
                .find(|extension| extension.name == "client.authentication.k8s.io/exec")
                .map(|extension| extension.extension.clone()),
        });
    }
    Ok(())
}

/// The credentials to begin with, and where new ones come from. Runs the plugin, if there is one.
fn initial(user: &AuthInfo) -> Result<(Source, Credentials), ConnectError> {
    if let Some(exec) = &user.exec {
        let plugin = Plugin::new(exec);
        let credentials = plugin
            .run()
            .map_err(|error| ConnectError::Plugin(explain_plugin(&error)))?;
        return Ok((Source::Plugin(Box::new(plugin)), credentials));
    }
    let certificate = pem_of(
        "client certificate",
        user.client_certificate.as_deref(),
        user.client_certificate_data.as_deref(),
    )?;
    let key_data = user.client_key_data.as_ref().map(ExposeSecret::expose_secret);
    let key = pem_of("client key", user.client_key.as_deref(), key_data)?;
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(
            identity::certified_key(&certificate, &key)
                .map_err(|reason| ConnectError::Identity { reason })?,
        ),
        // As with kubectl, a key alone means nothing.
        _ => None,
    };
    let authorization = match (&user.token, &user.username) {
        (Some(token), _) => Some(bearer(token.expose_secret().trim()).ok_or(ConnectError::Token)?),
        (None, Some(name)) => {
            let password = user.password.as_ref().map_or("", ExposeSecret::expose_secret);
            let pair = BASE64.encode(format!("{name}:{password}"));
            let mut header =
                HeaderValue::from_str(&format!("Basic {pair}")).map_err(|_| ConnectError::Token)?;
            header.set_sensitive(true);
            Some(header)
        }
        (None, None) => None,
    };
    let (source, expires) = match &user.token_file {
        Some(path) => Source::file(path.into()),
        None => (Source::Fixed, None),
    };
    let credentials = Credentials {
        authorization,
        identity,
        expires,
    };
    Ok((source, credentials))
}

/// The content of a field such as `client-certificate` or `client-certificate-data`.
fn pem_of(
    what: &'static str,
    path: Option<&str>,
    data: Option<&str>,
) -> Result<Option<Vec<u8>>, ConnectError> {
    match (data, path) {
        (Some(data), _) => {
            let field = format!("{}-data", what.replace(' ', "-"));
            let content = decoded(&field, data).map_err(|reason| ConnectError::Identity { reason })?;
            Ok(Some(content))
        }
        (None, Some(path)) => file(what, Path::new(path)).map(Some),
        (None, None) => Ok(None),
    }
}

/// How to reach the server of `config`, which has no credentials left: to find its certificate, the library would run
/// the plugin.
fn connector(config: &mut kube::Config) -> Result<Connector, ConnectError> {
    if let Some(certificates) = &mut config.root_cert {
        // As Go does: one that cannot be read does not spoil the others.
        let found = certificates.len();
        certificates.retain(|der| {
            RootCertStore::empty()
                .add(CertificateDer::from(der.as_slice()))
                .is_ok()
        });
        if certificates.is_empty() {
            let reason = "none of its certificates can be read".to_owned();
            return Err(ConnectError::Authority { reason });
        }
        if certificates.len() < found {
            // The library would read the file again, and refuse it whole.
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

/// Makes the client. It names itself `user_agent` in every request, and passes what the server warns of to
/// `warnings`, each text once.
///
/// Must be called within a Tokio runtime. Runs the credential plugin, if there is one, and waits for it.
///
/// # Errors
///
/// A plugin or a certificate that gives no credentials, or a proxy that the library does not know.
pub fn client(
    mut config: kube::Config,
    user_agent: &str,
    warnings: impl Fn(&str) + Clone + Send + Sync + 'static,
) -> Result<kube::Client, ConnectError> {
    let agent = HeaderValue::from_str(user_agent).map_err(|_| ConnectError::UserAgent {
        agent: user_agent.to_owned(),
    })?;
    config.headers.push((USER_AGENT, agent));
    let mut user = std::mem::take(&mut config.auth_info);
    config.auth_info = impersonation(&mut user);
    let connector = connector(&mut config)?;
    let (source, credentials) = initial(&user)?;
    let refuse = |error: kube::Error| ConnectError::Client(explain(&error));
    let headers = config.extra_headers_layer().map_err(refuse)?;
    config.auth_info.auth_provider = user.auth_provider;
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(refuse)?)
        .layer(headers)
        .service(Authenticate::new(connector, source, credentials));
    let builder = ClientBuilder::new(service, config.default_namespace)
        .with_layer(&BoundsLayer::new(&config.cluster_url))
        .with_layer(&WarningsLayer::new(warnings));
    Ok(builder.build())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    const TWO: &str = "
apiVersion: v1
kind: Config
current-context: blue
clusters:
- {name: b, cluster: {server: 'https://b.example.test:6443', certificate-authority-data: ''}}
- {name: r, cluster: {server: r.example.test, insecure-skip-tls-verify: true, tls-server-name: inner}}
users:
- {name: bob, user: {token: bob-token, as: '', as-groups: []}}
- {name: ann, user: {tokenFile: token, client-certificate: sub/ann.crt, client-key: sub/ann.key}}
contexts:
- {name: blue, context: {cluster: b, user: bob, namespace: shop}}
- {name: red, context: {cluster: r, user: ann}}
- {name: torn, context: {cluster: gone, user: gone}}
- {name: anonymous, context: {cluster: b, user: gone}}
";

    /// A home directory whose `~/.kube/config` has `content`.
    fn home(content: &str) -> (TempDir, Environment) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join(".kube")).unwrap();
        write(&directory, ".kube/config", content);
        let environment = Environment {
            home: Some(directory.path().to_owned()),
            ..Environment::default()
        };
        (directory, environment)
    }

    fn write(directory: &TempDir, name: &str, content: &str) -> PathBuf {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn set(environment: &mut Environment, name: &str, value: impl Into<OsString>) {
        environment.variables.insert(name.into(), value.into());
    }

    fn refused(options: &ConnectOptions, environment: &Environment) -> ConnectError {
        match resolve(options, environment) {
            Err(error) => error,
            Ok((_, target)) => panic!("resolved to {target:?}"),
        }
    }

    fn options(change: impl FnOnce(&mut ConnectOptions)) -> ConnectOptions {
        let mut options = ConnectOptions::default();
        change(&mut options);
        options
    }

    #[expect(clippy::unnecessary_wraps, reason = "what the fields it fills take")]
    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn the_current_context_of_the_default_file_is_used() {
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
    fn flags_go_over_the_kubeconfig() {
        let (home, environment) = home(TWO);
        write(&home, ".kube/token", "from-file\n");
        let red = options(|o| o.context = some("red"));
        let (config, target) = resolve(&red, &environment).unwrap();
        assert_eq!(target.server, "https://r.example.test", "no scheme means https");
        assert!(config.accept_invalid_certs);
        assert_eq!(config.tls_server_name.as_deref(), Some("inner"));
        assert_eq!(
            config.auth_info.token.unwrap().expose_secret(),
            "from-file",
            "trimmed"
        );
        let certificate = home.path().join(".kube/sub/ann.crt");
        assert_eq!(
            config.auth_info.client_certificate.as_deref(),
            certificate.to_str()
        );

        let mixed = options(|o| {
            o.cluster = some("b");
            o.context = some("red");
            o.user = some("ann");
            o.token = Some(SecretString::from("mine".to_owned()));
            o.server = some("https://other.example.test:8080/k8s/c-1/");
        });
        let (config, target) = resolve(&mixed, &environment).unwrap();
        assert_eq!(target.server, "https://other.example.test:8080/k8s/c-1");
        assert_eq!(target.cluster.as_deref(), Some("b"));
        let user = config.auth_info;
        assert_eq!(user.token.unwrap().expose_secret(), "mine");
        assert!(user.password.is_none() && user.token_file.is_none() && user.client_certificate.is_none());
    }

    #[test]
    fn another_server_is_not_held_to_the_name_of_the_entrys_own() {
        let (home, environment) = home(TWO);
        write(&home, ".kube/token", "t");
        for (server, flag, expected) in [
            (None, None, Some("inner")),
            (some("https://other.example.test"), None, None),
            (some("https://other.example.test"), some("given"), Some("given")),
            (None, some("given"), Some("given")),
        ] {
            let options = options(|o| {
                o.context = some("red");
                o.server = server;
                o.tls_server_name = flag;
            });
            let (config, _) = resolve(&options, &environment).unwrap();
            assert_eq!(config.tls_server_name.as_deref(), expected, "{options:?}");
        }
    }

    #[test]
    fn the_list_of_files_is_merged_and_gaps_in_it_are_skipped() {
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
    fn a_file_that_cannot_be_used_is_named_and_not_quoted() {
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
    fn unknown_names_are_answered_with_the_known() {
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
            listed(&many),
            " (it has c10, c11, c12, c13, c14, c15, c16, c17, c18, c19 and 5 more)"
        );
        let anonymous = options(|o| o.context = some("anonymous"));
        assert!(resolve(&anonymous, &environment).is_ok(), "as kubectl does");
    }

    #[test]
    fn without_a_current_context_one_has_to_be_chosen() {
        let (_home, environment) = home(&TWO.replace("current-context: blue", "current-context: ''"));
        let error = refused(&ConnectOptions::default(), &environment);
        assert!(error.to_string().contains("(it has anonymous, blue, red, torn)"));
        let hint = error.hint().unwrap();
        assert!(hint.contains("kubectl config use-context NAME") && hint.contains("--context"));
        let by_server = options(|o| o.server = some("https://x"));
        assert_eq!(resolve(&by_server, &environment).unwrap().1.context, None);
    }

    #[test]
    fn a_server_needs_no_kubeconfig() {
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
    fn a_server_with_a_password_is_refused_and_the_password_not_shown() {
        for server in [
            "https://user:hunter2@host.example.test:6443",
            "user:hunter2@host.example.test",
            "https://user:hunter2@bad host",
            "https://hunter2@host.example.test/path",
            "https://user:hun/ter2@host.example.test",
            "https://user:hun?ter2@host.example.test",
            "https://user:hunter2@ter2@host.example.test",
            "ftp://user:hunter2@host.example.test",
            "https://host.example.test/?password=hunter2",
        ] {
            let by_flag = options(|o| o.server = some(server));
            let (_home, environment) = home(&TWO.replace("https://b.example.test:6443", server));
            for (options, environment) in [
                (&by_flag, &Environment::default()),
                (&ConnectOptions::default(), &environment),
            ] {
                let error = refused(options, environment);
                assert!(matches!(error, ConnectError::Server { .. }), "{error:?}");
                let told = format!("{error} {error:?} {:?}", error.hint());
                assert!(!told.contains("ter2") && !told.contains("hun"), "{told}");
                assert!(told.contains("host"), "{told}");
            }
        }
        for server in [
            "https://[::1]:6443",
            "https://host:",
            "https://[::1]",
            "https://h/a@b",
        ] {
            assert!(address(server).is_ok(), "{server}");
        }
    }

    #[test]
    fn a_pod_uses_its_service_account() {
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
    fn certificates_of_flags_are_read_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let path = write(&directory, "some.pem", pem);
        let with = |path: &Path| {
            options(|o| {
                o.server = some("https://x");
                o.certificate_authority = Some(path.to_owned());
                o.client_certificate = Some(path.to_owned());
                o.client_key = Some(path.to_owned());
            })
        };
        let (config, _) = resolve(&with(&path), &Environment::default()).unwrap();
        assert_eq!(config.root_cert, Some(vec![vec![0, 0, 0]]));
        assert_eq!(config.auth_info.client_certificate_data, Some(BASE64.encode(pem)));
        assert!(config.auth_info.client_key_data.is_some());

        let absent = directory.path().join("absent.pem");
        let error = refused(&with(&absent), &Environment::default()).to_string();
        assert!(
            error.contains("certificate authority") && error.contains("absent.pem"),
            "{error}"
        );
        let both = ConnectOptions {
            insecure_skip_tls_verify: true,
            ..with(&path)
        };
        let error = refused(&both, &Environment::default());
        assert!(matches!(error, ConnectError::AuthorityAndInsecure), "{error:?}");
    }

    #[test]
    fn what_cannot_be_sent_is_refused_before_it_is_tried() {
        let torn = options(|o| {
            o.server = some("https://x");
            o.token = Some(SecretString::from("a\nb".to_owned()));
        });
        let error = refused(&torn, &Environment::default());
        assert!(matches!(error, ConnectError::Token), "{error:?}");
        let nobody = options(|o| {
            o.server = some("https://x");
            o.impersonate_groups = vec!["g".to_owned()];
        });
        let error = refused(&nobody, &Environment::default());
        assert!(error.hint().unwrap().contains("--as"), "{error:?}");
        assert!(!format!("{torn:?}").contains("a\\nb"), "masked");
    }

    #[test]
    fn the_proxy_is_that_of_the_environment_given() {
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

    fn with_plugin(exec: &str) -> (TempDir, Environment) {
        let content = format!(
            "current-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{server: 'https://x'}}}}]\nusers: [{{name: u, user: {{exec: {{apiVersion: client.authentication.k8s.io/v1beta1, {exec}}}}}}}]\n"
        );
        home(&content)
    }

    #[test]
    fn a_plugin_that_is_not_there_is_named_with_its_install_hint() {
        let (_home, environment) =
            with_plugin("command: no-such-plugin, installHint: \"Get it:\\n  from here\"");
        let error = refused(&ConnectOptions::default(), &environment);
        assert!(error.to_string().contains("no-such-plugin"), "{error}");
        assert!(error.to_string().contains("Get it:\n  from here"), "{error}");

        let (_home, environment) = with_plugin("command: kubelogin");
        let error = refused(&ConnectOptions::default(), &environment);
        assert!(
            error
                .hint()
                .unwrap()
                .contains("kubelogin convert-kubeconfig -l azurecli"),
            "{error}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_plugin_asks_only_where_someone_can_answer() {
        for (mode, terminal, expected) in [
            ("", false, Some(Some(ExecInteractiveMode::Never))),
            (
                ", interactiveMode: IfAvailable",
                false,
                Some(Some(ExecInteractiveMode::Never)),
            ),
            (
                ", interactiveMode: Never",
                false,
                Some(Some(ExecInteractiveMode::Never)),
            ),
            (", interactiveMode: Always", false, None),
            ("", true, Some(None)),
            (
                ", interactiveMode: IfAvailable",
                true,
                Some(Some(ExecInteractiveMode::IfAvailable)),
            ),
            (
                ", interactiveMode: Always",
                true,
                Some(Some(ExecInteractiveMode::Always)),
            ),
        ] {
            let (_home, mut environment) = with_plugin(&format!("command: /bin/sh{mode}"));
            environment.stdin_is_terminal = terminal;
            match (resolve(&ConnectOptions::default(), &environment), expected) {
                (Ok((config, _)), Some(expected)) => {
                    assert_eq!(
                        config.auth_info.exec.unwrap().interactive_mode,
                        expected,
                        "{mode}"
                    );
                }
                (Err(error), None) => assert!(error.to_string().contains("no terminal"), "{error}"),
                (result, _) => panic!("{mode} {terminal}: {:?}", result.map(|(_, target)| target)),
            }
        }
    }

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

    /// What replaces pieces of a kubeconfig, to see that no content makes the program panic.
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
    async fn no_kubeconfig_makes_the_program_panic() {
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
