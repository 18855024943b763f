//! Selects the proxy for the API server, Azure or a registry.
//!
//! A plugin has to reach the same address as kubectl, which follows the rules of Go's `net/http`. This module
//! implements these rules as a pure function of the server, the `proxy-url` of its kubeconfig entry and the
//! environment. The client library compares `NO_PROXY` with the host of the proxy, so it never reads the environment.

use core::net::IpAddr;

use http::Uri;
use ipnet::IpNet;

/// An invalid proxy setting, without credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin} has the invalid proxy {shown:?}: {reason}")]
pub struct ProxyError {
    /// The variable or kubeconfig field that holds the value.
    pub origin: &'static str,
    pub shown: String,
    pub reason: String,
}

const PROXY_URL: &str = "the cluster's proxy-url";

/// Returns the proxy for `server`, or `None` for a direct connection.
///
/// The cluster's `proxy_url` takes precedence and ignores `NO_PROXY`; then follow `HTTPS_PROXY` or `HTTP_PROXY` by the
/// server's scheme, except for loopback addresses and those in `NO_PROXY`. Of two spellings of a variable, the
/// upper-case one wins; an empty variable counts as unset.
///
/// # Errors
/// If the value is not a URL, has no host, an unsupported scheme, or credentials for a `socks5` proxy.
pub fn proxy_for(
    server: &Uri,
    proxy_url: Option<&str>,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Option<Uri>, ProxyError> {
    if let Some(value) = proxy_url.map(str::trim).filter(|value| !value.is_empty()) {
        return parse(PROXY_URL, value).map(Some);
    }
    let first_set = |names: [&'static str; 2]| {
        names.into_iter().find_map(|name| {
            let value = lookup(name)?;
            let value = value.trim();
            (!value.is_empty()).then(|| (name, value.to_owned()))
        })
    };
    let names = match server.scheme_str() {
        Some("http") => ["HTTP_PROXY", "http_proxy"],
        _ => ["HTTPS_PROXY", "https_proxy"],
    };
    let Some((origin, value)) = first_set(names) else {
        return Ok(None);
    };
    let exceptions = first_set(["NO_PROXY", "no_proxy"]).map_or(String::new(), |(_, value)| value);
    if is_exempt(server, &exceptions) {
        return Ok(None);
    }
    parse(origin, &value).map(Some)
}

fn parse(origin: &'static str, value: &str) -> Result<Uri, ProxyError> {
    let refuse = |reason: String| ProxyError {
        origin,
        shown: without_credentials(value),
        reason,
    };
    let (scheme, rest) = split_scheme(value).unwrap_or(("http", value));
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" => "http",
        "https" => "https",
        // As in Go, the proxy resolves the name in both cases.
        "socks5" | "socks5h" => "socks5",
        other => {
            return Err(refuse(format!(
                "the scheme {other:?} is not supported (use http, https or socks5)"
            )));
        }
    };
    let parsed = format!("{scheme}://{rest}")
        .parse::<Uri>()
        .map_err(|error| refuse(error.to_string()))?;
    let authority = parsed
        .authority()
        .filter(|authority| !authority.host().is_empty());
    let Some(authority) = authority else {
        return Err(refuse("the host is missing".to_owned()));
    };
    // The connector does not send them.
    if scheme == "socks5" && authority.as_str().contains('@') {
        return Err(refuse(
            "a user name and a password cannot be sent to a socks5 proxy (remove them, or use an http or https \
             proxy)"
                .to_owned(),
        ));
    }
    // The default of the connector is port 80.
    if scheme == "socks5" && authority.port().is_none() {
        return format!("socks5://{authority}:1080")
            .parse()
            .map_err(|error: http::uri::InvalidUri| refuse(error.to_string()));
    }
    Ok(parsed)
}

/// Splits off the scheme. Text before `://` that does not look like one may be a password.
fn split_scheme(value: &str) -> Option<(&str, &str)> {
    let is_scheme_char = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    value
        .split_once("://")
        .filter(|(scheme, _)| scheme.chars().all(is_scheme_char))
}

/// Removes user name and password from a URL, even a malformed one.
pub(crate) fn without_credentials(value: &str) -> String {
    let (scheme, rest) = match split_scheme(value) {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), value),
    };
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    format!("{scheme}{host}")
}

/// Reports whether `NO_PROXY` or the loopback rule exempts a server from proxies.
fn is_exempt(server: &Uri, exceptions: &str) -> bool {
    let host = unbracketed(server.host().unwrap_or_default()).to_ascii_lowercase();
    let default_port = if server.scheme_str() == Some("http") {
        80
    } else {
        443
    };
    let port = server.port_u16().unwrap_or(default_port);
    let ip = host.parse::<IpAddr>().ok();

    if host == "localhost" || ip.is_some_and(|ip| ip.is_loopback()) {
        return true;
    }
    exceptions
        .split(',')
        .map(|entry| entry.trim().to_ascii_lowercase())
        .filter(|entry| !entry.is_empty())
        .any(|entry| matches_exception(&entry, &host, ip, port))
}

fn matches_exception(entry: &str, host: &str, ip: Option<IpAddr>, port: u16) -> bool {
    if entry == "*" {
        return true;
    }
    if let Ok(net) = entry.parse::<IpNet>() {
        return ip.is_some_and(|ip| net.contains(&ip));
    }
    let (name, wanted_port) = split_port(entry);
    if wanted_port.is_some_and(|wanted| wanted != port) {
        return false;
    }
    if let Ok(wanted) = name.parse::<IpAddr>() {
        return ip == Some(wanted);
    }
    // `*.example.com` and `.example.com` match names below it; `example.com` matches the name as well.
    let name = name
        .strip_prefix('*')
        .filter(|rest| rest.starts_with('.'))
        .unwrap_or(name);
    match name.strip_prefix('.') {
        Some("") => false,
        Some(_) => host.ends_with(name),
        None => {
            !name.is_empty()
                && (host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')))
        }
    }
}

/// Splits `host:port`, `[v6]:port`, `[v6]` or a bare host, which may be an IPv6 address.
fn split_port(entry: &str) -> (&str, Option<u16>) {
    if entry.parse::<IpAddr>().is_ok() {
        return (entry, None);
    }
    match entry.rsplit_once(':') {
        Some((name, port)) => match port.parse() {
            Ok(port) => (unbracketed(name), Some(port)),
            Err(_) => (unbracketed(entry), None),
        },
        None => (unbracketed(entry), None),
    }
}

fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: &str = "http://proxy.corp:3128";

    fn proxy(
        server: &str,
        proxy_url: Option<&str>,
        variables: &[(&str, &str)],
    ) -> Result<Option<String>, ProxyError> {
        let lookup = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let proxy = proxy_for(&server.parse().unwrap(), proxy_url, lookup)?;
        Ok(proxy.map(|uri| uri.to_string().trim_end_matches('/').to_owned()))
    }

    #[test]
    fn no_proxy_matches_as_in_go() {
        let v4 = "https://10.1.2.3:6443";
        let name = "https://api.example.com:6443";
        for (server, exceptions, direct) in [
            (name, "", false),
            (name, "*", true),
            (name, "api.example.com", true),
            (name, "API.Example.COM", true),
            (name, "example.com", true),
            (name, ".example.com", true),
            (name, "*.example.com", true),
            (name, "ample.com", false),
            (name, ".api.example.com", false),
            (name, "*.api.example.com", false),
            (name, "api.example.com:6443", true),
            (name, "api.example.com:443", false),
            (name, "example.com:6443", true),
            (name, "other.org, api.example.com ,", true),
            (name, ",, ,", false),
            (name, ".", false),
            (name, ":6443", false),
            (name, "10.0.0.0/8", false),
            (name, "proxy.corp", false),
            ("https://api.example.com", "api.example.com:443", true),
            ("http://api.example.com", "api.example.com:80", true),
            ("http://api.example.com", "api.example.com:443", false),
            (v4, "10.1.2.3", true),
            (v4, "10.1.2.3:6443", true),
            (v4, "10.1.2.3:443", false),
            (v4, "10.1.2.4", false),
            (v4, "10.0.0.0/8", true),
            (v4, "192.168.0.0/16", false),
            // As in Go, which compares the text.
            (v4, "2.3", true),
            ("https://[fd00::1]:6443", "fd00::1", true),
            ("https://[fd00::1]:6443", "[fd00::1]:6443", true),
            ("https://[fd00::1]:6443", "[fd00::1]:443", false),
            ("https://[fd00::1]:6443", "fd00::/8", true),
            ("https://127.0.0.1:6443", "", true),
            ("https://127.8.8.8:6443", "", true),
            ("https://[::1]:6443", "", true),
            ("https://localhost:6443", "", true),
            ("https://LOCALHOST:6443", "", true),
            ("https://localhost.example.com", "", false),
        ] {
            let variables = [
                ("HTTPS_PROXY", PROXY),
                ("HTTP_PROXY", PROXY),
                ("NO_PROXY", exceptions),
            ];
            let proxy = proxy(server, None, &variables).unwrap();
            assert_eq!(proxy.is_none(), direct, "{server} with NO_PROXY={exceptions:?}");
        }
    }

    #[test]
    fn variable_depends_on_scheme_and_spelling() {
        let secure = "https://api.example.com";
        let plain = "http://api.example.com";
        for (server, variables, expected) in [
            (secure, &[("HTTPS_PROXY", "http://a:1")][..], Some("http://a:1")),
            (secure, &[("https_proxy", "http://b:1")], Some("http://b:1")),
            (
                secure,
                &[("HTTPS_PROXY", "http://a:1"), ("https_proxy", "http://b:1")],
                Some("http://a:1"),
            ),
            (
                secure,
                &[("HTTPS_PROXY", " "), ("https_proxy", "http://b:1")],
                Some("http://b:1"),
            ),
            (secure, &[("HTTP_PROXY", "http://a:1")], None),
            (plain, &[("HTTP_PROXY", "http://a:1")], Some("http://a:1")),
            (plain, &[("HTTPS_PROXY", "http://a:1")], None),
            (
                secure,
                &[("HTTPS_PROXY", "http://a:1"), ("no_proxy", "example.com")],
                None,
            ),
            (secure, &[("ALL_PROXY", "http://a:1")], None),
        ] {
            assert_eq!(
                proxy(server, None, variables).unwrap().as_deref(),
                expected,
                "{variables:?}"
            );
        }
    }

    #[test]
    fn proxy_url_of_cluster_ignores_variables() {
        let variables = [("HTTPS_PROXY", PROXY), ("NO_PROXY", "*")];
        let found = proxy("https://127.0.0.1:6443", Some("http://mine:1"), &variables).unwrap();
        assert_eq!(found.as_deref(), Some("http://mine:1"));
        assert_eq!(
            proxy("https://api.example.com", Some(""), &variables).unwrap(),
            None
        );
    }

    #[test]
    fn proxy_values_without_scheme_are_accepted_and_invalid_ones_named() {
        for (value, expected) in [
            ("proxy.corp:3128", "http://proxy.corp:3128"),
            ("proxy.corp", "http://proxy.corp"),
            ("HTTPS://proxy.corp:3128", "https://proxy.corp:3128"),
            (
                "http://me:secret@proxy.corp:3128",
                "http://me:secret@proxy.corp:3128",
            ),
            ("socks5://proxy.corp", "socks5://proxy.corp:1080"),
            ("socks5h://proxy.corp:9", "socks5://proxy.corp:9"),
        ] {
            let proxy = proxy("https://api.example.com", None, &[("HTTPS_PROXY", value)]).unwrap();
            assert_eq!(proxy.as_deref(), Some(expected));
        }
        for (value, part) in [
            ("ftp://me:secret@proxy.corp", "\"ftp\" is not supported"),
            ("http://", "invalid proxy"),
            ("http://me:secret@bad host:1", "invalid proxy"),
            ("me:secret@proxy.corp bad://", "invalid proxy"),
            (
                "socks5://me:secret@proxy.corp:1080",
                "cannot be sent to a socks5 proxy",
            ),
            (
                "SOCKS5H://me:secret@proxy.corp",
                "cannot be sent to a socks5 proxy",
            ),
            ("socks5://secret@proxy.corp", "cannot be sent to a socks5 proxy"),
        ] {
            let error = proxy("https://api.example.com", None, &[("HTTPS_PROXY", value)])
                .unwrap_err()
                .to_string();
            assert!(error.starts_with("HTTPS_PROXY has the invalid proxy"), "{error}");
            assert!(error.contains(part), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
