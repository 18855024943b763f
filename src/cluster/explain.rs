//! Turns a client's error into what a person needs: what it means, in whose words, and what to do next.

use std::error::Error;

use kube::client::AuthError;
use kube::core::Status;

use super::connect::chain;
use crate::scenario::proof::presentable;

/// What kind of failure it is, for code that decides by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No connection to the API server.
    Unreachable,
    /// The API server does not know the caller (401).
    Unauthorized,
    /// The caller may not do it, or admission refused it (403).
    Forbidden,
    /// There is no such object (404).
    NotFound,
    /// Somebody else's change or ownership stands against it (409).
    Conflict,
    /// An object of that name is there already (409).
    AlreadyExists,
    /// The API server refused the object (422).
    Invalid,
    /// No answer in time.
    TimedOut,
    /// Credentials could not be had.
    Auth,
    /// Anything else.
    Other,
}

/// An error, explained.
#[derive(Clone, Debug, PartialEq)]
pub struct Explained {
    /// What kind of failure it is.
    pub cause: Cause,
    /// What happened, fit to be shown.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl Explained {
    fn new(cause: Cause, message: impl AsRef<str>, hint: Option<&str>) -> Self {
        Self {
            cause,
            message: presentable(message.as_ref()),
            hint: hint.map(str::to_owned),
        }
    }
}

/// Explains an error of the client.
pub fn explain(error: &kube::Error) -> Explained {
    match error {
        kube::Error::Api(status) => api(status),
        kube::Error::Auth(error) => auth(error),
        kube::Error::Service(error) => service(error.as_ref()),
        other => service(other),
    }
}

fn api(status: &Status) -> Explained {
    let message = if status.message.is_empty() {
        &status.reason
    } else {
        &status.message
    };
    let (cause, hint) = match status.code {
        401 => (
            Cause::Unauthorized,
            Some("log in again; who you are: kubectl auth whoami; new credentials, for example: az aks get-credentials".to_owned()),
        ),
        403 => (Cause::Forbidden, can_i(message)),
        404 => (Cause::NotFound, None),
        409 if status.is_already_exists() => (Cause::AlreadyExists, None),
        409 => (Cause::Conflict, None),
        422 => (Cause::Invalid, None),
        429 => (Cause::Other, Some("the API server is busy; try again later".to_owned())),
        503 | 504 => (Cause::TimedOut, Some("the API server is not ready; try again later".to_owned())),
        _ => (Cause::Other, None),
    };
    Explained {
        cause,
        message: presentable(message),
        hint,
    }
}

/// From `User "x" cannot create resource "pods" in API group "" in the namespace "n"`, as RBAC says it.
fn can_i(message: &str) -> Option<String> {
    let (_, rest) = message.split_once(" cannot ")?;
    let (verb, rest) = rest.split_once(' ')?;
    let mut quoted = rest.split('"').skip(1).step_by(2);
    let resource = quoted.next()?;
    let group = quoted
        .next()
        .filter(|group| !group.is_empty())
        .map(|group| format!(".{group}"))
        .unwrap_or_default();
    let namespace = match (rest.contains("in the namespace"), quoted.next()) {
        (true, Some(namespace)) => format!(" -n {namespace}"),
        _ => String::new(),
    };
    Some(format!("kubectl auth can-i {verb} {resource}{group}{namespace}"))
}

fn auth(error: &AuthError) -> Explained {
    let again = "see what the plugin says under kubectl: kubectl auth whoami";
    match error {
        AuthError::AuthExecRun { cmd, out } => {
            let said = String::from_utf8_lossy(&out.stderr);
            let last = said
                .lines()
                .rfind(|line| !line.trim().is_empty())
                .unwrap_or_default();
            let message = format!("the credential plugin {cmd:?} failed ({}): {last}", out.status);
            Explained::new(Cause::Auth, message.trim_end_matches(": "), Some(again))
        }
        other => Explained::new(
            Cause::Auth,
            format!("no credentials: {}", chain(other)),
            Some(again),
        ),
    }
}

/// Errors of the connection come as a chain of types that are not ours to name; what is at its end tells.
fn service(error: &(dyn Error + 'static)) -> Explained {
    let mut last: &dyn Error = error;
    let mut io = None;
    while let Some(source) = last.source() {
        if let Some(auth_error) = source.downcast_ref::<AuthError>() {
            return auth(auth_error);
        }
        io = source
            .downcast_ref::<std::io::Error>()
            .map(std::io::Error::kind)
            .or(io);
        last = source;
    }
    if let Some(auth_error) = error.downcast_ref::<AuthError>() {
        return auth(auth_error);
    }
    let text = chain(error);
    let has = |part: &str| text.contains(part);
    let reach = "is the server's address right, and the network (VPN, proxy) up? kubectl cluster-info";
    let found = |message: &str, hint| Explained::new(Cause::Unreachable, message, Some(hint));
    if has("UnknownIssuer") {
        let hint = "the kubeconfig's certificate authority has to be the one that signed it; a server's own certificate does not do";
        return found("the API server's certificate is from an unknown issuer", hint);
    }
    if has("NotValidForName") || has("not valid for name") {
        return found(
            "the API server's certificate is for another name",
            "name the one it is for with --tls-server-name",
        );
    }
    if has("InvalidContentType") || has("corrupt message") {
        return found("the API server does not speak TLS", "is it an http:// address?");
    }
    if has("dns error") || has("failed to lookup address") {
        return found("the API server's name does not resolve", reach);
    }
    if has("refused") {
        return found("the API server's port refuses the connection", reach);
    }
    if has("deadline has elapsed") || has("timed out") || io == Some(std::io::ErrorKind::TimedOut) {
        return found("the API server does not answer", reach);
    }
    if let Some(kind) = io {
        return found(&format!("the connection to the API server failed: {kind}"), reach);
    }
    Explained::new(Cause::Other, text, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, reason: &str, message: &str) -> Explained {
        let status: Status = serde_json::from_value(serde_json::json!({
            "status": "Failure", "code": code, "reason": reason, "message": message }))
        .unwrap();
        explain(&kube::Error::Api(Box::new(status)))
    }

    #[test]
    fn a_refusal_names_the_command_that_checks_it() {
        let text = r#"pods is forbidden: User "jane" cannot create resource "pods" in API group "" in the namespace "n""#;
        let explained = status(403, "Forbidden", text);
        assert_eq!(
            (explained.cause, explained.message.as_str()),
            (Cause::Forbidden, text)
        );
        assert_eq!(
            explained.hint.as_deref(),
            Some("kubectl auth can-i create pods -n n")
        );
        let text = r#"networkpolicies is forbidden: User "j" cannot list resource "networkpolicies" in API group "networking.k8s.io" at the cluster scope"#;
        let hint = status(403, "Forbidden", text).hint;
        assert_eq!(
            hint.as_deref(),
            Some("kubectl auth can-i list networkpolicies.networking.k8s.io")
        );
    }

    #[test]
    fn admission_speaks_in_its_own_words() {
        let text = r#"pods "x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true"#;
        let explained = status(403, "Forbidden", text);
        assert_eq!((explained.message.as_str(), explained.hint), (text, None));
    }

    #[test]
    fn kinds_of_answer() {
        assert_eq!(
            status(401, "Unauthorized", "Unauthorized").cause,
            Cause::Unauthorized
        );
        assert_eq!(status(404, "NotFound", "").cause, Cause::NotFound);
        assert_eq!(status(409, "AlreadyExists", "").cause, Cause::AlreadyExists);
        assert_eq!(status(409, "Conflict", "").cause, Cause::Conflict);
        assert_eq!(status(422, "Invalid", "no").cause, Cause::Invalid);
        assert_eq!(status(503, "ServiceUnavailable", "no").cause, Cause::TimedOut);
    }

    #[test]
    fn text_from_outside_is_made_fit_to_be_shown() {
        assert_eq!(status(403, "Forbidden", "a\u{1b}[31mb\nc").message, "a [31mb c");
    }

    #[test]
    fn connection_failures() {
        let io = |kind, text: &str| service(&std::io::Error::new(kind, text.to_owned()));
        let refused = io(
            std::io::ErrorKind::ConnectionRefused,
            "tcp connect error: Connection refused",
        );
        assert_eq!(
            (refused.cause, refused.message.as_str()),
            (Cause::Unreachable, "the API server's port refuses the connection")
        );
        let unknown = io(
            std::io::ErrorKind::InvalidData,
            "invalid peer certificate: UnknownIssuer",
        );
        assert!(unknown.message.contains("unknown issuer"));
        assert!(
            io(std::io::ErrorKind::Other, "dns error: no such host")
                .message
                .contains("does not resolve")
        );
    }
}
