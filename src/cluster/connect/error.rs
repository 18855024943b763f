//! Errors of connecting, with hints.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use crate::kubectl::Kubectl;
use crate::net::Explanation;
use crate::net::proxy::ProxyError;
use crate::untrusted;

/// An error of connecting.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The file of `--kubeconfig` does not exist.
    #[error("the kubeconfig {path:?} does not exist")]
    KubeconfigMissing {
        /// The file.
        path: PathBuf,
    },
    /// A kubeconfig cannot be read or parsed.
    #[error("the kubeconfig {path:?} cannot be used: {reason}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// The reason of the system or parser.
        reason: String,
    },
    /// Neither a kubeconfig, a server nor a service account was found.
    #[error("no cluster is configured: tried {}", tried.join(", "))]
    NotConfigured {
        /// The sources tried, with the result of each.
        tried: Vec<String>,
    },
    /// The kubeconfig has no current context.
    #[error("the kubeconfig has no current context{}", format_names(known))]
    NoCurrentContext {
        /// The contexts of the kubeconfig.
        known: Vec<String>,
    },
    /// The kubeconfig does not have a context, cluster or user.
    #[error("the kubeconfig has no {kind} {name:?}{}", format_names(known))]
    Unknown {
        /// `context`, `cluster` or `user`.
        kind: &'static str,
        /// The requested name.
        name: String,
        /// The names in the kubeconfig.
        known: Vec<String>,
    },
    /// The cluster entry has no server.
    #[error("the cluster {cluster:?} of the kubeconfig has no server")]
    NoServer {
        /// The cluster's name.
        cluster: String,
    },
    /// The address is invalid or holds credentials.
    #[error("invalid API server address {server:?}: {reason}")]
    Server {
        /// The address, without user name, password and query.
        server: String,
        /// The reason why it is invalid.
        reason: String,
    },
    /// A file of a flag or of the service account cannot be read.
    #[error("failed to read the {what} {path:?}: {source}")]
    File {
        /// The content of the file.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The certificate authority is invalid.
    #[error("invalid certificate authority: {reason}")]
    Authority {
        /// The reason why it is invalid.
        reason: String,
    },
    /// Both a certificate authority and no verification are requested.
    #[error("a certificate authority and insecure-skip-tls-verify exclude each other")]
    AuthorityAndInsecure,
    /// The client certificate or its key is invalid.
    #[error("invalid client certificate: {reason}")]
    Identity {
        /// The reason why it is invalid.
        reason: String,
    },
    /// The fields of a user contradict each other or are incomplete.
    #[error("invalid user {name:?} in the kubeconfig: {reason}")]
    User {
        /// The user's name.
        name: String,
        /// The reason why it is invalid.
        reason: String,
    },
    /// The user has a login that kubectl removed.
    #[error("the kubeconfig's auth-provider {name:?} is not supported (kubectl removed it)")]
    Provider {
        /// The name of the provider.
        name: String,
    },
    /// The TLS server name is neither a DNS name nor an IP address.
    #[error("invalid TLS server name {name:?}")]
    TlsServerName {
        /// The name.
        name: String,
    },
    /// The token has characters that a header cannot hold.
    #[error("invalid token: it has a line feed or another character that a header cannot hold")]
    Token,
    /// A group, UID or extra field is impersonated without a user.
    #[error("a group, a UID or an extra field is impersonated without a user")]
    ImpersonatesNobody,
    /// The proxy setting is invalid.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// The plugin prompts, and stdin is not a terminal.
    #[error(
        "the credential plugin {command:?} has to prompt (interactiveMode: Always), but stdin is not a terminal"
    )]
    PluginAsks {
        /// The plugin's command.
        command: String,
    },
    /// The plugin is not installed.
    #[error(
        "the credential plugin {command:?} of the kubeconfig was not found{}",
        format_install_hint(install_hint.as_deref())
    )]
    PluginMissing {
        /// The plugin's command.
        command: String,
        /// The install hint of the kubeconfig.
        install_hint: Option<String>,
    },
    /// The plugin returned no credentials.
    #[error("{}", .0.message)]
    Plugin(Explanation),
    /// The user agent has characters that a header cannot hold.
    #[error("invalid user agent {agent:?}")]
    UserAgent {
        /// The text.
        agent: String,
    },
    /// The client library refuses the configuration.
    #[error("{}", .0.message)]
    Client(Explanation),
}

impl ConnectError {
    /// Returns the next command or setting to try.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::NoCurrentContext { .. } => {
                "choose a context with --context, or set it: kubectl config use-context NAME"
            }
            Self::Unknown { kind: "context", .. } => "kubectl config get-contexts",
            Self::Unknown { kind: "cluster", .. } => "kubectl config get-clusters",
            Self::Unknown { .. } => "kubectl config get-users",
            Self::NotConfigured { .. } | Self::KubeconfigMissing { .. } => {
                "set --kubeconfig or KUBECONFIG; for AKS: az aks get-credentials"
            }
            Self::NoServer { cluster } => {
                let words = ["config", "set-cluster", cluster, "--server=https://HOST:PORT"];
                return Some(Kubectl::default().command(words));
            }
            Self::ImpersonatesNobody => "set the user as well: --as USER",
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
            Self::PluginAsks { .. } => "run it at a terminal, or use a login that does not prompt",
            Self::Kubeconfig { .. }
            | Self::File { .. }
            | Self::Authority { .. }
            | Self::User { .. }
            | Self::Token => "check the kubeconfig: kubectl config view",
            Self::Identity { .. } => "check the certificate entries of: kubectl config view --minify",
            Self::Provider { name } if name == "azure" => HINT_KUBELOGIN,
            Self::Provider { name } if name == "gcp" => {
                "install gke-gcloud-auth-plugin, then: gcloud container clusters get-credentials CLUSTER"
            }
            Self::Provider { .. } => "use a login with a credential plugin (exec)",
            Self::TlsServerName { .. } => "use a DNS name or an IP address",
            Self::Server { .. } => "use an address such as https://host:6443",
            Self::AuthorityAndInsecure => "remove one of the two",
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

fn format_install_hint(hint: Option<&str>) -> String {
    hint.map_or(String::new(), |hint| format!("; its install hint: {hint}"))
}

/// Formats the first ten names in alphabetical order.
pub(super) fn format_names(known: &[String]) -> String {
    const MAX_NAMES: usize = 10;
    if known.is_empty() {
        return " (it has none)".to_owned();
    }
    let mut names: Vec<String> = known.iter().map(|name| untrusted::name(name)).collect();
    names.sort();
    let more = names.len().saturating_sub(MAX_NAMES);
    names.truncate(MAX_NAMES);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!(" (it has {}{more})", names.join(", "))
}
