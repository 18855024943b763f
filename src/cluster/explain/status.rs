//! Refusals of the API server.

use kube::core::Status;

use super::{HINT_LOGIN, HINT_PROXY, explained};
use crate::net::{Cause, Explanation};
use crate::untrusted;

pub(super) fn explain_status(status: &Status) -> Explanation {
    let text = status.message.trim();
    let is_page = text.starts_with('<') || text.to_ascii_lowercase().contains("<html");
    let message = if is_page {
        format!(
            "got a web page (HTTP {}) instead of a Kubernetes API response",
            status.code
        )
    } else if text.is_empty() {
        format!("the API server answered {} {}", status.code, status.reason)
    } else {
        text.to_owned()
    };
    let busy = |what: &str| match status.details.as_ref().map(|details| details.retry_after_seconds) {
        Some(seconds @ 1..) => format!("{what} (retry after {seconds} s): {message}"),
        _ => format!("{what}: {message}"),
    };
    let (cause, message, hint) = match status.code {
        401 => {
            let message = format!("the API server does not accept the credentials: {message}");
            (Cause::Unauthorized, message, Some(HINT_LOGIN.to_owned()))
        }
        403 => (Cause::Forbidden, message, hint_forbidden(text)),
        404 => (Cause::NotFound, message, None),
        409 if status.reason == "AlreadyExists" => (Cause::AlreadyExists, message, None),
        409 => (Cause::Conflict, message, None),
        422 => (Cause::Invalid, message, None),
        400 if text.contains("HTTP request to an HTTPS server") => {
            let message = "the API server speaks TLS, but its address starts with http://".to_owned();
            (
                Cause::Unreachable,
                message,
                Some("use https:// in --server or in the kubeconfig".to_owned()),
            )
        }
        400 if text.contains("admission webhook") => (Cause::Invalid, message, None),
        429 => (Cause::Busy, busy("the API server has too many requests"), None),
        503 => (Cause::Busy, busy("the API server is not available"), None),
        504 => (
            Cause::TimedOut,
            busy("the API server did not answer in time"),
            None,
        ),
        _ if text.contains("failed calling webhook") => {
            let hint = "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations";
            (Cause::Other, message, Some(hint.to_owned()))
        }
        _ => (Cause::Other, message, None),
    };
    // A page with 401 is a login page.
    let hint = if is_page && status.code != 401 {
        Some(HINT_PROXY.to_owned())
    } else {
        hint
    };
    explained(cause, message, hint.as_deref())
}

fn hint_forbidden(message: &str) -> Option<String> {
    if message.contains("violates PodSecurity") {
        return Some(
            "show the enforced Pod Security levels: kubectl get namespaces -L pod-security.kubernetes.io/enforce"
                .to_owned(),
        );
    }
    // A name that looks like a secret is not repeated.
    let question = can_i(message).filter(|question| untrusted::line(question) == *question);
    question.map(|question| format!("ask for this right, then check it: kubectl auth can-i {question}"))
}

/// Returns the arguments of `kubectl auth can-i` for a refusal: `User "x" cannot list resource "pods" in API group ""
/// in the namespace "y"` becomes `list pods -n y`. Only plain names become part of a command.
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

    fn answered(code: u16, reason: &str, message: &str) -> Explanation {
        explain_status(&Status::failure(message, reason).with_code(code))
    }

    #[test]
    fn refusals_keep_the_message_of_the_server() {
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
    fn pod_security_refusal_is_not_shortened() {
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
    fn refusal_becomes_arguments_of_can_i() {
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

    #[test]
    fn control_characters_and_tokens_are_removed() {
        let token = "eyJhbGci\u{7}OiJSUzI1NiIs.x-y_z";
        let message = format!("pods \"{token}\" is \u{1b}[2Jforbidden\n- {token}");
        let explained = answered(403, "Forbidden", &message);
        assert_eq!(
            explained.message,
            "pods \"<redacted>\" is [2Jforbidden\n- <redacted>"
        );
        for secret in [
            "Bearer hunter2",
            "password=hunter2",
            "\"secret\": \"hunter2\"",
            "api_key: hunter2",
        ] {
            let message = answered(400, "BadRequest", &format!("cannot use {secret} here")).message;
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
