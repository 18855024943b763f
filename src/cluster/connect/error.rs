//! Why there is no client, and what to do about it.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use crate::kubectl::Kubectl;
use crate::net::Explanation;
use crate::net::proxy::ProxyError;
use crate::untrusted;

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

pub(in crate::cluster) const HINT_KUBELOGIN: &str =
    "use the Azure CLI's login: az login, then kubelogin convert-kubeconfig -l azurecli";

pub(in crate::cluster) fn is_kubelogin(command: &str) -> bool {
    let stem = Path::new(command).file_stem().and_then(OsStr::to_str);
    stem.is_some_and(|stem| stem.eq_ignore_ascii_case("kubelogin"))
}

fn shown_hint(hint: Option<&str>) -> String {
    hint.map_or(String::new(), |hint| format!("; its install hint: {hint}"))
}

/// The names there are, sorted; the first ten, so that a message stays one.
pub(super) fn listed(known: &[String]) -> String {
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
