//! What an error of the client library means to the person at the keyboard.
//!
//! The library reports what broke, several layers deep; its texts can quote a credential plugin's whole
//! command line, its environment and its output. Here the chain of causes is walked once and becomes a cause
//! that code can branch on, a sentence, and where there is one the next command to try. Every message goes
//! through [`untrusted::lines`], and what is likely to hold a secret is not even looked at.

use std::error::Error as StdError;
use std::io;

use kube::client::AuthError;
use kube::core::Status;
use kube::runtime::watcher;
use rustls::{AlertDescription, CertificateError};

use super::bounds::{NotKubernetes, TooLarge};
use super::connect::{HINT_KUBELOGIN, is_kubelogin};
use super::plugin::{PluginError, PluginFailure};
use crate::net::{Cause, Explanation, causes};
use crate::untrusted;

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
const HINT_LOGIN: &str = "log in again, then see who the cluster takes you for: kubectl auth whoami";

/// Says what `error` means. Never fails, never shows a secret.
#[must_use]
pub fn explain(error: &kube::Error) -> Explanation {
    match error {
        kube::Error::Api(status) => of_status(status),
        kube::Error::ProxyProtocolUnsupported { .. } | kube::Error::ProxyProtocolDisabled { .. } => {
            let message = "the proxy's protocol is not supported";
            explained(Cause::Unreachable, message, Some(HINT_PROXY))
        }
        // From the cause on: the outer text ("Failed to infer provided configuration") helps nobody.
        kube::Error::RustlsTls(cause) => of_certificates(cause),
        kube::Error::InferKubeconfig(cause) => of_certificates(cause),
        kube::Error::SerdeError(source) => {
            let message = format!("the answer cannot be read as one of the Kubernetes API: {source}");
            explained(Cause::Other, message, Some(HINT_ADDRESS))
        }
        _ => of_chain(error),
    }
}

/// Says what the error of a watch means, by the same rules.
#[must_use]
pub fn explain_watch(error: &watcher::Error) -> Explanation {
    match error {
        watcher::Error::InitialListFailed(cause)
        | watcher::Error::WatchStartFailed(cause)
        | watcher::Error::WatchFailed(cause) => explain(cause),
        watcher::Error::WatchError(status) => of_status(status),
        watcher::Error::NoResourceVersion => explained(Cause::Other, error.to_string(), None),
    }
}

/// The chain in one line, without what is said twice.
fn told(error: &(dyn StdError + 'static)) -> String {
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

fn of_certificates(cause: &(dyn StdError + 'static)) -> Explanation {
    let message = format!("the certificates or the key cannot be used: {}", told(cause));
    let hint = "check the certificate entries of: kubectl config view --minify";
    explained(Cause::Auth, message, Some(hint))
}

fn of_chain(error: &kube::Error) -> Explanation {
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
            return of_tls(error);
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
        None if has("client error (Connect)") => explained(Cause::Unreachable, told(error), Some(hint)),
        None => explained(Cause::Other, told(error), None),
    }
}

fn innermost(links: &[&(dyn StdError + 'static)]) -> String {
    links.last().map_or(String::new(), ToString::to_string)
}

fn of_tls(error: &rustls::Error) -> Explanation {
    let unreachable = |message: String, hint: &str| explained(Cause::Unreachable, message, Some(hint));
    match error {
        rustls::Error::InvalidCertificate(reason) => match reason {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                unreachable(
                    format!("the API server's certificate is for another name: {reason}"),
                    "name the one it is for: --tls-server-name NAME",
                )
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => unreachable(
                format!("the API server's certificate is out of date: {reason}"),
                "compare this machine's clock with the certificate's dates",
            ),
            CertificateError::UnsupportedSignatureAlgorithmContext {
                signature_algorithm_id,
                ..
            } => unreachable(
                format!(
                    "the API server's certificate is signed with {}, which is not supported",
                    algorithm(signature_algorithm_id)
                ),
                HINT_ALGORITHM,
            ),
            CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
                signature_algorithm_id,
                public_key_algorithm_id,
            } => unreachable(
                format!(
                    "the API server's certificate is signed with {} by a key for {}, which is not supported",
                    algorithm(signature_algorithm_id),
                    algorithm(public_key_algorithm_id)
                ),
                HINT_ALGORITHM,
            ),
            CertificateError::UnknownIssuer => unreachable(
                "the API server's certificate is signed by an authority that is not trusted".to_owned(),
                HINT_ISSUER,
            ),
            _ => unreachable(
                format!("the API server's certificate is not accepted: {reason}"),
                HINT_ISSUER,
            ),
        },
        rustls::Error::InvalidMessage(_) => unreachable(
            "the server does not speak TLS: an HTTP answer came on an HTTPS connection".to_owned(),
            "is the address meant to start with http://, or the port another one? see: kubectl config view --minify",
        ),
        rustls::Error::AlertReceived(AlertDescription::HandshakeFailure) => explained(
            Cause::Auth,
            "the API server found no common TLS version, algorithm or certificate (HandshakeFailure); a server \
             certificate with a P-521 key, for instance, is not supported",
            Some("see what the server has: openssl s_client -connect HOST:PORT"),
        ),
        rustls::Error::AlertReceived(alert) => explained(
            Cause::Auth,
            format!("the API server broke off the TLS handshake: {alert:?}"),
            Some("check the client certificate of: kubectl config view --minify"),
        ),
        other => unreachable(
            format!("no TLS connection to the API server: {other}"),
            HINT_ADDRESS,
        ),
    }
}

const HINT_ALGORITHM: &str = "supported are RSA, Ed25519, and ECDSA on P-256 and P-384 with SHA-256 or SHA-384; \
                              reach the server by another address or authority, if it has one";

/// The name of the algorithm with this identifier (in DER), or the identifier.
fn algorithm(id: &[u8]) -> String {
    const NAMES: [(&str, &[u8]); 13] = [
        ("ECDSA with SHA-1", &[42, 134, 72, 206, 61, 4, 1]),
        ("ECDSA with SHA-256", &[42, 134, 72, 206, 61, 4, 3, 2]),
        ("ECDSA with SHA-384", &[42, 134, 72, 206, 61, 4, 3, 3]),
        ("ECDSA with SHA-512", &[42, 134, 72, 206, 61, 4, 3, 4]),
        ("RSA with MD5", &[42, 134, 72, 134, 247, 13, 1, 1, 4]),
        ("RSA with SHA-1", &[42, 134, 72, 134, 247, 13, 1, 1, 5]),
        ("RSASSA-PSS", &[42, 134, 72, 134, 247, 13, 1, 1, 10]),
        ("RSA", &[42, 134, 72, 134, 247, 13, 1, 1, 1]),
        ("Ed448", &[43, 101, 113]),
        // Behind the identifier of elliptic curves.
        (
            "the curve P-224",
            &[42, 134, 72, 206, 61, 2, 1, 6, 5, 43, 129, 4, 0, 33],
        ),
        (
            "the curve P-256",
            &[42, 134, 72, 206, 61, 2, 1, 6, 8, 42, 134, 72, 206, 61, 3, 1, 7],
        ),
        (
            "the curve P-384",
            &[42, 134, 72, 206, 61, 2, 1, 6, 5, 43, 129, 4, 0, 34],
        ),
        (
            "the curve P-521",
            &[42, 134, 72, 206, 61, 2, 1, 6, 5, 43, 129, 4, 0, 35],
        ),
    ];
    // The tag and the length of the first identifier.
    let content = id.get(2..).unwrap_or_default();
    let name = NAMES
        .iter()
        .filter(|(_, known)| content.starts_with(known))
        .max_by_key(|(_, known)| known.len());
    name.map_or_else(
        || format!("the algorithm {id:02x?}"),
        |(name, _)| (*name).to_owned(),
    )
}

const HINT_ISSUER: &str = "name the authority's own certificate (a server's certificate does not do): \
                           --certificate-authority FILE";

/// Describes why a credential plugin gave no credentials, with the end of what it printed on standard error.
#[must_use]
pub fn explain_plugin(error: &PluginError) -> Explanation {
    let mut message = error.to_string();
    if let PluginFailure::Failed { stderr, .. } = &error.failure {
        let said = last_lines(stderr);
        if !said.is_empty() {
            message = format!("{message}: {said}");
        }
    }
    let hint = if is_kubelogin(&error.command) {
        HINT_KUBELOGIN
    } else {
        HINT_LOGIN
    };
    explained(Cause::Auth, message, Some(hint))
}

/// The end of what a program said, where the reason usually is.
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

fn of_status(status: &Status) -> Explanation {
    let said = status.message.trim();
    let page = said.starts_with('<') || said.to_ascii_lowercase().contains("<html");
    let message = if page {
        format!(
            "got a web page (HTTP {}) instead of an answer of the Kubernetes API",
            status.code
        )
    } else if said.is_empty() {
        format!("the API server answered {} {}", status.code, status.reason)
    } else {
        said.to_owned()
    };
    let busy = |what: &str| match status.details.as_ref().map(|details| details.retry_after_seconds) {
        Some(seconds @ 1..) => format!("{what} (it asks to come back in {seconds} s): {message}"),
        _ => format!("{what}: {message}"),
    };
    let (cause, message, hint) = match status.code {
        401 => {
            let message = format!("the API server does not accept the credentials: {message}");
            (Cause::Unauthorized, message, Some(HINT_LOGIN.to_owned()))
        }
        403 => (Cause::Forbidden, message, hint_forbidden(said)),
        404 => (Cause::NotFound, message, None),
        409 if status.reason == "AlreadyExists" => (Cause::AlreadyExists, message, None),
        409 => (Cause::Conflict, message, None),
        422 => (Cause::Invalid, message, None),
        400 if said.contains("HTTP request to an HTTPS server") => {
            let message = "the API server speaks TLS, but its address starts with http://".to_owned();
            (
                Cause::Unreachable,
                message,
                Some("use https:// in --server or in the kubeconfig".to_owned()),
            )
        }
        400 if said.contains("admission webhook") => (Cause::Invalid, message, None),
        429 => (Cause::Busy, busy("the API server has too many requests"), None),
        503 => (Cause::Busy, busy("the API server is not available"), None),
        504 => (
            Cause::TimedOut,
            busy("the API server did not answer in time"),
            None,
        ),
        _ if said.contains("failed calling webhook") => {
            let hint = "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations";
            (Cause::Other, message, Some(hint.to_owned()))
        }
        _ => (Cause::Other, message, None),
    };
    // A page with 401 is that of a login.
    let hint = if page && status.code != 401 {
        Some(HINT_PROXY.to_owned())
    } else {
        hint
    };
    explained(cause, message, hint.as_deref())
}

fn hint_forbidden(message: &str) -> Option<String> {
    if message.contains("violates PodSecurity") {
        return Some(
            "see what each namespace admits: kubectl get namespaces -L pod-security.kubernetes.io/enforce"
                .to_owned(),
        );
    }
    // What may be a secret is no name of anything.
    let question = can_i(message).filter(|question| untrusted::line(question) == *question);
    question.map(|question| format!("ask for this right, then check it: kubectl auth can-i {question}"))
}

/// The question that repeats a refusal: `User "x" cannot list resource "pods" in API group "" in the
/// namespace "y"` becomes `list pods -n y`. Nothing is put into a command that is not plainly a name.
fn can_i(message: &str) -> Option<String> {
    fn name(text: &str) -> Option<&str> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-./*:_".contains(c);
        (!text.is_empty() && !text.starts_with('-') && text.chars().all(plain)).then_some(text)
    }
    let after = |text: &'_ str, label: &str| -> Option<String> {
        let (_, rest) = text.split_once(label)?;
        rest.split_once('"').map(|(value, _)| value.to_owned())
    };
    let (_, refusal) = message.split_once("\" cannot ")?;
    let verb = name(refusal.split(' ').next()?)?;
    if let Some(path) = after(refusal, " path \"") {
        return Some(format!("{verb} {}", name(&path)?));
    }
    let resource = after(refusal, " resource \"")?;
    let group = after(refusal, " in API group \"").unwrap_or_default();
    let (resource, subresource) = match resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(name(subresource)?)),
        None => (resource.as_str(), None),
    };
    let mut question = format!("{verb} {}", name(resource)?);
    if !group.is_empty() {
        question.push('.');
        question.push_str(name(&group)?);
    }
    if let Some(subresource) = subresource {
        question.push_str(" --subresource=");
        question.push_str(subresource);
    }
    if let Some(namespace) = after(refusal, " in the namespace \"") {
        question.push_str(" -n ");
        question.push_str(name(&namespace)?);
    }
    Some(question)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::config::{KubeconfigError, LoadDataError};
    use rustls::InvalidMessage;

    /// What a service returns when the layer below `error` is a connection that could not be made.
    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Box<dyn StdError + Send + Sync>,
    }

    fn layer(text: &'static str, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Layer {
        let source = source.into();
        Layer { text, source }
    }

    fn connecting(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Explanation {
        explain(&kube::Error::Service(Box::new(layer(
            "client error (Connect)",
            source,
        ))))
    }

    fn tls(error: rustls::Error) -> Explanation {
        connecting(io::Error::new(io::ErrorKind::InvalidData, error))
    }

    fn answered(code: u16, reason: &str, message: &str) -> Explanation {
        explain(&kube::Error::Api(
            Status::failure(message, reason).with_code(code).boxed(),
        ))
    }

    #[test]
    fn a_server_out_of_reach_is_told_by_its_cause() {
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
    fn a_proxy_out_of_reach_is_not_called_the_server() {
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
    fn an_answer_that_stays_out_is_not_an_unreachable_server() {
        let late = io::Error::new(io::ErrorKind::TimedOut, "deadline has elapsed");
        let explained = explain(&kube::Error::Service(Box::new(layer(
            "client error (SendRequest)",
            late,
        ))));
        assert_eq!(explained.cause, Cause::TimedOut);
    }

    #[test]
    fn tls_failures_name_the_way_out() {
        for (error, cause, message, hint) in [
            (
                rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer),
                Cause::Unreachable,
                "not trusted",
                "--certificate-authority",
            ),
            (
                rustls::Error::InvalidCertificate(CertificateError::NotValidForName),
                Cause::Unreachable,
                "another name",
                "--tls-server-name",
            ),
            (
                rustls::Error::InvalidCertificate(CertificateError::Expired),
                Cause::Unreachable,
                "out of date",
                "clock",
            ),
            (
                rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType),
                Cause::Unreachable,
                "does not speak TLS",
                "http://",
            ),
            (
                rustls::Error::AlertReceived(AlertDescription::CertificateRequired),
                Cause::Auth,
                "CertificateRequired",
                "client certificate",
            ),
        ] {
            let explained = tls(error);
            assert_eq!(explained.cause, cause, "{explained:?}");
            assert!(explained.message.contains(message), "{explained:?}");
            assert!(explained.hint.as_ref().unwrap().contains(hint), "{explained:?}");
        }
    }

    #[test]
    fn a_certificate_that_cannot_be_used_is_told_by_its_cause_alone() {
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

    #[test]
    fn answers_of_the_server_keep_their_message() {
        for (code, reason, message, cause) in [
            (401, "Unauthorized", "Unauthorized", Cause::Unauthorized),
            (403, "Forbidden", "pods \"x\" is forbidden", Cause::Forbidden),
            (404, "NotFound", "namespaces \"x\" not found", Cause::NotFound),
            (
                409,
                "AlreadyExists",
                "jobs.batch \"x\" already exists",
                Cause::AlreadyExists,
            ),
            (409, "Conflict", "the object has been modified", Cause::Conflict),
            (
                422,
                "Invalid",
                "Job.batch \"x\" is invalid: spec: Required value",
                Cause::Invalid,
            ),
            (
                400,
                "BadRequest",
                "admission webhook \"a.b\" denied the request: no\n- one\n- two",
                Cause::Invalid,
            ),
            (429, "TooManyRequests", "too many requests", Cause::Busy),
            (503, "ServiceUnavailable", "no endpoints", Cause::Busy),
            (504, "Timeout", "context deadline exceeded", Cause::TimedOut),
            (
                500,
                "InternalError",
                "failed calling webhook \"a.b\": refused",
                Cause::Other,
            ),
            (410, "Expired", "too old resource version", Cause::Other),
        ] {
            let explained = answered(code, reason, message);
            assert_eq!(explained.cause, cause, "{explained:?}");
            assert!(explained.message.contains(message), "{explained:?}");
        }
        assert!(answered(401, "Unauthorized", "x").hint.is_some());
        assert_eq!(
            answered(418, "Teapot", "").message,
            "the API server answered 418 Teapot"
        );
        let page = answered(502, "", "<html><body>Bad gateway</body></html>");
        assert!(
            page.message.contains("HTTP 502") && !page.message.contains('<'),
            "{page:?}"
        );
        let plain = answered(400, "", "Client sent an HTTP request to an HTTPS server.");
        assert_eq!(plain.cause, Cause::Unreachable);
    }

    #[test]
    fn a_pod_security_refusal_is_whole() {
        let message = "pods \"p\" is forbidden: violates PodSecurity \"restricted:latest\": privileged \
                       (container \"c\" must not set securityContext.privileged=true), runAsNonRoot != true";
        let explained = answered(403, "Forbidden", message);
        assert_eq!(explained.message, message);
        assert!(
            explained
                .hint
                .unwrap()
                .contains("pod-security.kubernetes.io/enforce")
        );
    }

    #[test]
    fn a_refusal_becomes_a_question_for_can_i() {
        for (refusal, question) in [
            (
                r#"pods is forbidden: User "u" cannot list resource "pods" in API group "" in the namespace "ns-1""#,
                Some("list pods -n ns-1"),
            ),
            (
                r#"jobs.batch is forbidden: User "u" cannot create resource "jobs" in API group "batch" in the namespace "d""#,
                Some("create jobs.batch -n d"),
            ),
            (
                r#"nodes is forbidden: User "u" cannot list resource "nodes" in API group "" at the cluster scope"#,
                Some("list nodes"),
            ),
            (
                r#"pods "p" is forbidden: User "u" cannot create resource "pods/exec" in API group "" in the namespace "d""#,
                Some("create pods --subresource=exec -n d"),
            ),
            (
                r#"forbidden: User "u" cannot get path "/metrics""#,
                Some("get /metrics"),
            ),
            (
                r#"x: User "u" cannot list resource "pods; rm" in API group """#,
                None,
            ),
            ("exceeded quota", None),
        ] {
            assert_eq!(can_i(refusal).as_deref(), question);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_failed_plugin_shows_its_reason_and_no_secret() {
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

    #[test]
    fn unsupported_algorithm_is_named() {
        let p521 = vec![6, 7, 42, 134, 72, 206, 61, 2, 1, 6, 5, 43, 129, 4, 0, 35];
        let ecdsa = |hash| vec![6, 8, 42, 134, 72, 206, 61, 4, 3, hash];
        let by_key = CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id: ecdsa(2),
            public_key_algorithm_id: p521,
        };
        let by_hash = CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id: ecdsa(4),
            supported_algorithms: vec![],
        };
        for (reason, part) in [
            (
                by_key,
                "signed with ECDSA with SHA-256 by a key for the curve P-521, which",
            ),
            (by_hash, "signed with ECDSA with SHA-512, which is not supported"),
        ] {
            let explained = tls(rustls::Error::InvalidCertificate(reason));
            assert_eq!(explained.cause, Cause::Unreachable);
            assert!(explained.message.contains(part), "{explained:?}");
        }
        let alert = tls(rustls::Error::AlertReceived(AlertDescription::HandshakeFailure));
        assert!(alert.message.contains("P-521"), "{alert:?}");
        for odd in [&[][..], &[6], &[6, 1, 1]] {
            assert!(algorithm(odd).starts_with("the algorithm ["));
        }
    }

    #[test]
    fn control_characters_and_tokens_do_not_pass() {
        let token = "eyJhbGci\u{7}OiJSUzI1NiIs.x-y_z";
        let message = format!("pods \"{token}\" is \u{1b}[2Jforbidden\n- {token}");
        let explained = answered(403, "Forbidden", &message);
        assert_eq!(
            explained.message,
            "pods \"<redacted>\" is [2Jforbidden\n- <redacted>"
        );
        for said in [
            "Bearer hunter2",
            "password=hunter2",
            "\"secret\": \"hunter2\"",
            "api_key: hunter2",
        ] {
            let message = answered(400, "BadRequest", &format!("cannot use {said} here")).message;
            assert!(
                !message.contains("hunter2") && message.ends_with(" here"),
                "{message}"
            );
        }
        let refusal = |namespace: &str| {
            format!(r#"User "u" cannot list resource "pods" in API group "" in the namespace "{namespace}""#)
        };
        assert!(answered(403, "Forbidden", &refusal("shop")).hint.is_some());
        let token = token.replace('\u{7}', "");
        assert_eq!(answered(403, "Forbidden", &refusal(&token)).hint, None);
    }
}
