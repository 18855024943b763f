//! Explains errors of the client library.
//!
//! The library reports a failure several layers deep, and its texts can quote the command line, environment and
//! output of a credential plugin. This module walks the chain of causes once and returns an [`Explanation`]. Texts
//! that are likely to hold a secret are not read.

mod status;
mod tls;

use std::error::Error as StdError;
use std::io;

use kube::client::AuthError;
use kube::runtime::watcher;

use super::bounds::{NotKubernetes, TooLarge};
use super::connect::{HINT_KUBELOGIN, is_kubelogin};
use super::plugin::{PluginError, PluginFailure};
use crate::net::{Cause, Explanation, causes};
use crate::untrusted;
use status::explain_status;
use tls::explain_tls;

fn explained(cause: Cause, message: impl AsRef<str>, hint: Option<&str>) -> Explanation {
    let explanation = Explanation::new(cause, message);
    match hint {
        Some(hint) => explanation.with_hint(hint),
        None => explanation,
    }
}

const HINT_ADDRESS: &str = "compare the address with the output of: kubectl config view --minify";
const HINT_PROXY: &str = "check HTTPS_PROXY and NO_PROXY, or proxy-url in: kubectl config view --minify";
const HINT_NETWORK: &str = "is a VPN or a private network needed? try the same way by: kubectl cluster-info";
const HINT_NOT_KUBERNETES: &str =
    "log in again, and compare the address with the output of: kubectl config view --minify";
const HINT_LOGIN: &str = "log in again, then check the identity: kubectl auth whoami";

/// Explains an error of a request.
#[must_use]
pub fn explain(error: &kube::Error) -> Explanation {
    match error {
        kube::Error::Api(status) => explain_status(status),
        kube::Error::ProxyProtocolUnsupported { .. } | kube::Error::ProxyProtocolDisabled { .. } => {
            let message = "the proxy's protocol is not supported";
            explained(Cause::Unreachable, message, Some(HINT_PROXY))
        }
        // The outer text ("Failed to infer provided configuration") adds nothing.
        kube::Error::RustlsTls(cause) => explain_certificates(cause),
        kube::Error::InferKubeconfig(cause) => explain_certificates(cause),
        kube::Error::SerdeError(source) => {
            let message = format!("the answer cannot be parsed as one of the Kubernetes API: {source}");
            explained(Cause::Other, message, Some(HINT_ADDRESS))
        }
        _ => explain_chain(error),
    }
}

/// Explains an error of a watch.
pub(super) fn explain_watch(error: &watcher::Error) -> Explanation {
    match error {
        watcher::Error::InitialListFailed(cause)
        | watcher::Error::WatchStartFailed(cause)
        | watcher::Error::WatchFailed(cause) => explain(cause),
        watcher::Error::WatchError(status) => explain_status(status),
        watcher::Error::NoResourceVersion => explained(Cause::Other, error.to_string(), None),
    }
}

/// Formats the chain of causes in one line, without repetitions.
fn describe_chain(error: &(dyn StdError + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    for link in causes(error) {
        let text = link.to_string();
        // An outer text that ends in its cause adds only its own words.
        if let Some(last) = parts.last_mut()
            && let Some(own) = last.strip_suffix(&text)
        {
            *last = own.trim_end_matches([':', ' ']).to_owned();
        }
        parts.push(text);
    }
    parts.retain(|part| !part.is_empty() && part != "ServiceError" && part != "HyperError");
    parts.join(": ")
}

fn explain_certificates(cause: &(dyn StdError + 'static)) -> Explanation {
    let message = format!(
        "the certificates or the key cannot be used: {}",
        describe_chain(cause)
    );
    let hint = "check the certificate entries of: kubectl config view --minify";
    explained(Cause::Auth, message, Some(hint))
}

fn explain_chain(error: &kube::Error) -> Explanation {
    let links = causes(error);
    let has = |text: &str| links.iter().any(|link| link.to_string().starts_with(text));

    for link in &links {
        if let Some(error) = link.downcast_ref::<PluginError>() {
            return explain_plugin(error);
        }
        if let Some(error) = link.downcast_ref::<AuthError>() {
            return explained(Cause::Auth, error.to_string(), Some(HINT_LOGIN));
        }
        if let Some(error) = link.downcast_ref::<rustls::Error>() {
            return explain_tls(error);
        }
        if let Some(error) = link.downcast_ref::<TooLarge>() {
            return explained(Cause::TooLarge, error.to_string(), None);
        }
        if let Some(error) = link.downcast_ref::<NotKubernetes>() {
            return explained(Cause::Other, error.to_string(), Some(HINT_NOT_KUBERNETES));
        }
    }
    let proxied = has("tunnel error") || has("SOCKS error");
    let (whom, hint) = if proxied {
        ("the proxy", HINT_PROXY)
    } else {
        ("the API server", HINT_ADDRESS)
    };
    if has("dns error") {
        let message = format!("the name of {whom} cannot be resolved: {}", innermost(&links));
        let hint = if proxied { HINT_PROXY } else { HINT_NETWORK };
        return explained(Cause::Unreachable, message, Some(hint));
    }
    if has("tunnel error: proxy authorization required") {
        let message = "the proxy wants a user name and a password";
        return explained(Cause::Unreachable, message, Some(HINT_PROXY));
    }
    if has("tunnel error: unsuccessful") {
        let message = "the proxy does not connect to the API server";
        return explained(Cause::Unreachable, message, Some(HINT_PROXY));
    }
    let io = links
        .iter()
        .rev()
        .find_map(|link| link.downcast_ref::<io::Error>());
    match io.map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => {
            let message = format!("{whom} refuses the connection: nothing listens at its address");
            explained(Cause::Unreachable, message, Some(hint))
        }
        Some(io::ErrorKind::TimedOut) if has("client error (Connect)") => {
            let message = format!("{whom} cannot be reached: no connection in time");
            let hint = if proxied { HINT_PROXY } else { HINT_NETWORK };
            explained(Cause::Unreachable, message, Some(hint))
        }
        Some(io::ErrorKind::TimedOut) => {
            explained(Cause::TimedOut, format!("{whom} did not answer in time"), None)
        }
        Some(io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable) => {
            let message = format!("there is no route to {whom}: {}", innermost(&links));
            explained(Cause::Unreachable, message, Some(HINT_NETWORK))
        }
        Some(_) => {
            let message = format!("the connection to {whom} broke: {}", innermost(&links));
            explained(Cause::Unreachable, message, Some(hint))
        }
        None if has("client error (Connect)") => {
            explained(Cause::Unreachable, describe_chain(error), Some(hint))
        }
        None => explained(Cause::Other, describe_chain(error), None),
    }
}

fn innermost(links: &[&(dyn StdError + 'static)]) -> String {
    links.last().map_or(String::new(), ToString::to_string)
}

/// Describes why a credential plugin gave no credentials, with the end of what it printed on standard error.
pub(super) fn explain_plugin(error: &PluginError) -> Explanation {
    let mut message = error.to_string();
    if let PluginFailure::Failed { stderr, .. } = &error.failure {
        let output = last_lines(stderr);
        if !output.is_empty() {
            message = format!("{message}: {output}");
        }
    }
    let hint = if is_kubelogin(&error.command) {
        HINT_KUBELOGIN
    } else {
        HINT_LOGIN
    };
    explained(Cause::Auth, message, Some(hint))
}

/// Returns the last lines of a program's output, which usually hold the reason.
fn last_lines(text: &str) -> String {
    const LINES: usize = 6;
    let text = untrusted::lines(text);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::testing::{connecting, layer};
    use super::*;
    use kube::config::{KubeconfigError, LoadDataError};

    #[test]
    fn unreachable_server_is_explained_by_its_cause() {
        let refused = layer(
            "tcp connect error",
            io::Error::from(io::ErrorKind::ConnectionRefused),
        );
        let lookup = io::Error::other("failed to lookup address information: Name or service not known");
        for (explained, part) in [
            (connecting(refused), "refuses the connection"),
            (
                connecting(layer("dns error", lookup)),
                "cannot be resolved: failed to lookup",
            ),
            (
                connecting(io::Error::new(io::ErrorKind::TimedOut, "deadline has elapsed")),
                "no connection in time",
            ),
            (
                connecting(io::Error::from(io::ErrorKind::HostUnreachable)),
                "no route",
            ),
            (
                connecting(io::Error::from(io::ErrorKind::ConnectionReset)),
                "broke",
            ),
        ] {
            assert_eq!(explained.cause, Cause::Unreachable, "{explained:?}");
            assert!(explained.message.contains(part), "{explained:?}");
            assert!(explained.message.contains("API server"), "{explained:?}");
            assert!(explained.hint.is_some(), "{explained:?}");
        }
    }

    #[test]
    fn unreachable_proxy_is_not_called_the_server() {
        let refused = layer(
            "tunnel error: failed to create underlying connection",
            io::Error::from(io::ErrorKind::ConnectionRefused),
        );
        let explained = connecting(refused);
        assert!(
            explained.message.starts_with("the proxy refuses"),
            "{explained:?}"
        );
        assert!(explained.hint.unwrap().contains("HTTPS_PROXY"));
    }

    #[test]
    fn late_answer_is_a_timeout() {
        let late = io::Error::new(io::ErrorKind::TimedOut, "deadline has elapsed");
        let explained = explain(&kube::Error::Service(Box::new(layer(
            "client error (SendRequest)",
            late,
        ))));
        assert_eq!(explained.cause, Cause::TimedOut);
    }

    #[test]
    fn unusable_certificate_is_explained_without_outer_text() {
        let load = |entry: fn(LoadDataError) -> KubeconfigError| {
            let absent = io::Error::from(io::ErrorKind::NotFound);
            let error = entry(LoadDataError::ReadFile(absent, "ann.pem".into()));
            explain(&kube::Error::InferKubeconfig(error))
        };
        for (explained, entry) in [
            (load(KubeconfigError::LoadClientKey), "client key"),
            (load(KubeconfigError::LoadClientCertificate), "client certificate"),
            (
                load(KubeconfigError::LoadCertificateAuthority),
                "certificate authority",
            ),
        ] {
            assert_eq!(explained.cause, Cause::Auth);
            assert_eq!(
                explained.message,
                format!(
                    "the certificates or the key cannot be used: failed to load {entry}: failed to read file \
                     '\"ann.pem\"': entity not found"
                )
            );
        }
        let broken = kube::Error::RustlsTls(kube::client::RustlsTlsError::InvalidPrivateKey(
            rustls::Error::DecryptError,
        ));
        let message = explain(&broken).message;
        assert!(!message.contains("rustls tls error"), "{message}");
    }

    #[cfg(unix)]
    #[test]
    fn failed_plugin_shows_its_reason_and_no_secret() {
        use std::os::unix::process::ExitStatusExt;

        let failed = |failure| PluginError {
            command: "kubelogin".to_owned(),
            failure,
        };
        let error = failed(PluginFailure::Failed {
            status: std::process::ExitStatus::from_raw(256),
            stderr:
                "\x1b[31mERROR\x1b[0m: please run az login\nBearer eyJhbGciOiJSUzI1NiIsInR5cCI6.abc.def\n"
                    .to_owned(),
        });
        assert!(explain_plugin(&error).message.contains("please run az login"));
        for error in [
            explain(&kube::Error::Service(Box::new(error))),
            explain_plugin(&failed(PluginFailure::Nothing)),
        ] {
            assert_eq!(error.cause, Cause::Auth);
            assert!(error.message.starts_with("the credential plugin"), "{error:?}");
            assert!(!error.message.contains("eyJ"), "{error:?}");
            assert!(!error.message.contains('\u{1b}'), "{error:?}");
        }
    }
}

#[cfg(test)]
mod testing {
    use super::*;

    /// An error of a service, with its cause.
    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    pub(super) struct Layer {
        text: &'static str,
        source: Box<dyn StdError + Send + Sync>,
    }

    pub(super) fn layer(text: &'static str, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Layer {
        let source = source.into();
        Layer { text, source }
    }

    pub(super) fn connecting(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Explanation {
        explain(&kube::Error::Service(Box::new(layer(
            "client error (Connect)",
            source,
        ))))
    }
}
