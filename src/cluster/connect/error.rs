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
#[expect(missing_docs, reason = "the messages describe the variants")]
pub enum ConnectError {
    #[error("the kubeconfig {path:?} does not exist")]
    KubeconfigMissing { path: PathBuf },
    #[error("the kubeconfig {path:?} cannot be used: {reason}")]
    Kubeconfig { path: PathBuf, reason: String },
    #[error("no cluster is configured: tried {}", tried.join(", "))]
    NotConfigured { tried: Vec<String> },
    #[error("the kubeconfig has no current context{}", format_names(known))]
    NoCurrentContext { known: Vec<String> },
    #[error("the kubeconfig has no {kind} {name:?}{}", format_names(known))]
    Unknown {
        kind: &'static str,
        name: String,
        known: Vec<String>,
    },
    #[error("the cluster {cluster:?} of the kubeconfig has no server")]
    NoServer { cluster: String },
    #[error("invalid API server address {server:?}: {reason}")]
    Server { server: String, reason: String },
    #[error("failed to read the {what} {path:?}: {source}")]
    File {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("invalid certificate authority: {reason}")]
    Authority { reason: String },
    #[error("a certificate authority and insecure-skip-tls-verify exclude each other")]
    AuthorityAndInsecure,
    #[error("invalid client certificate: {reason}")]
    Identity { reason: String },
    #[error("invalid user {name:?} in the kubeconfig: {reason}")]
    User { name: String, reason: String },
    #[error("the kubeconfig's auth-provider {name:?} is not supported (kubectl removed it)")]
    Provider { name: String },
    #[error("invalid TLS server name {name:?}")]
    TlsServerName { name: String },
    #[error("invalid token: it has a line feed or another character that a header cannot hold")]
    Token,
    #[error("a group, a UID or an extra field is impersonated without a user")]
    ImpersonatesNobody,
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    #[error(
        "the credential plugin {command:?} has to prompt (interactiveMode: Always), but stdin is not a terminal"
    )]
    PluginAsks { command: String },
    #[error(
        "the credential plugin {command:?} of the kubeconfig was not found{}",
        format_install_hint(install_hint.as_deref())
    )]
    PluginMissing {
        command: String,
        install_hint: Option<String>,
    },
    #[error("{}", .0.message)]
    Plugin(Explanation),
    #[error("invalid user agent {agent:?}")]
    UserAgent { agent: String },
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
