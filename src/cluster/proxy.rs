//! Which proxy a request to the API server takes, decided as kubectl's (Go's) HTTP client decides it:
//! `proxy-url` of the kubeconfig, else `HTTPS_PROXY` or `HTTP_PROXY`, unless `NO_PROXY` names the server.
//! Source of the rules: the documentation of Go's `golang.org/x/net/http/httpproxy`, `Config`.

use std::net::IpAddr;

use http::Uri;
use ipnet::IpNet;

/// A proxy that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the proxy {value:?} from {origin} cannot be used: {cause}")]
pub struct ProxyError {
    value: String,
    origin: String,
    cause: String,
}

/// The proxy for `server`, if any. `cluster` is the kubeconfig's `proxy-url`.
pub fn choose(
    server: &Uri,
    cluster: Option<&str>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Uri>, ProxyError> {
    let first = |names: [&'static str; 2]| {
        names
            .into_iter()
            .find_map(|name| Some((variable(name).filter(|value| !value.is_empty())?, name)))
    };
    if let Some(value) = cluster.filter(|value| !value.is_empty()) {
        return parse(value, "the kubeconfig's proxy-url").map(Some);
    }
    let named = match server.scheme_str() {
        Some("http") => first(["HTTP_PROXY", "http_proxy"]),
        _ => first(["HTTPS_PROXY", "https_proxy"]),
    };
    let Some((value, origin)) = named else {
        return Ok(None);
    };
    let exceptions = first(["NO_PROXY", "no_proxy"])
        .map(|(list, _)| list)
        .unwrap_or_default();
    if is_exempt(server, &exceptions) {
        Ok(None)
    } else {
        parse(&value, origin).map(Some)
    }
}

fn parse(value: &str, origin: &str) -> Result<Uri, ProxyError> {
    let failed = |cause: String| ProxyError {
        value: without_password(value),
        origin: origin.to_owned(),
        cause,
    };
    let with_scheme = if value.contains("://") {
        value.to_owned()
    } else {
        format!("http://{value}")
    };
    let uri: Uri = with_scheme
        .parse()
        .map_err(|error: http::uri::InvalidUri| failed(error.to_string()))?;
    match uri.scheme_str() {
        Some("http" | "https" | "socks5") => Ok(uri),
        scheme => Err(failed(format!(
            "{} proxies are not supported",
            scheme.unwrap_or("such")
        ))),
    }
}

/// A proxy's address may hold a password.
fn without_password(value: &str) -> String {
    match (value.find("://").map_or(0, |at| at + 3), value.rfind('@')) {
        (start, Some(at)) if at > start => format!("{}...{}", &value[..start], &value[at..]),
        _ => value.to_owned(),
    }
}

/// Whether `NO_PROXY` (or being on this machine) keeps the server from the proxy.
fn is_exempt(server: &Uri, exceptions: &str) -> bool {
    let host = server
        .host()
        .unwrap_or_default()
        .trim_matches(['[', ']'])
        .to_lowercase();
    let port = server
        .port_u16()
        .unwrap_or(if server.scheme_str() == Some("http") {
            80
        } else {
            443
        });
    let address: Option<IpAddr> = host.parse().ok();
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }
    exceptions
        .split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .any(|entry| {
            let entry = entry.to_lowercase();
            if entry == "*" {
                return true;
            }
            if let Ok(network) = entry.parse::<IpNet>() {
                return address.is_some_and(|address| network.contains(&address));
            }
            let (name, wanted) = split_port(&entry);
            if wanted.is_some_and(|wanted| wanted != port) {
                return false;
            }
            if let Ok(excepted) = name.parse::<IpAddr>() {
                return address == Some(excepted);
            }
            // "example.com" is the name and what is below it; ".example.com" only what is below it.
            let name = name.strip_prefix('*').unwrap_or(name);
            match name.strip_prefix('.') {
                Some(_) => host.ends_with(name),
                None => host == name || host.ends_with(&format!(".{name}")),
            }
        })
}

fn split_port(entry: &str) -> (&str, Option<u16>) {
    if entry.parse::<IpAddr>().is_ok() {
        return (entry, None);
    }
    match entry
        .rsplit_once(':')
        .and_then(|(name, port)| Some((name, port.parse().ok()?)))
    {
        Some((name, port)) => (name.trim_matches(['[', ']']), Some(port)),
        None => (entry, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_as_go_reads_it() {
        for (server, exceptions, exempt) in [
            ("https://api.example.com", "", false),
            ("https://api.example.com", "*", true),
            ("https://api.example.com", "api.example.com", true),
            ("https://api.example.com", "example.com", true),
            ("https://api.example.com", ".example.com", true),
            ("https://api.example.com", "*.example.com", true),
            ("https://example.com", ".example.com", false),
            ("https://badexample.com", "example.com", false),
            ("https://api.example.com", "API.EXAMPLE.COM", true),
            ("https://api.example.com", " other , api.example.com ,", true),
            ("https://api.example.com", "api.example.com:443", true),
            ("https://api.example.com:6443", "api.example.com:443", false),
            ("https://api.example.com:6443", "api.example.com:6443", true),
            ("https://192.0.2.7:6443", "192.0.2.0/24", true),
            ("https://192.0.3.7:6443", "192.0.2.0/24", false),
            ("https://192.0.2.7:6443", "192.0.2.7", true),
            ("https://192.0.2.7:6443", "192.0.2.7:6443", true),
            ("https://[2001:db8::1]:6443", "2001:db8::/32", true),
            ("https://[2001:db8::1]:6443", "[2001:db8::1]:6443", true),
            ("https://localhost:6443", "", true),
            ("https://127.0.0.1:6443", "", true),
            ("https://[::1]:6443", "", true),
        ] {
            assert_eq!(
                is_exempt(&server.parse().unwrap(), exceptions),
                exempt,
                "{server} {exceptions:?}"
            );
        }
    }

    fn chosen(
        server: &str,
        cluster: Option<&str>,
        variables: &[(&str, &str)],
    ) -> Result<Option<String>, ProxyError> {
        let lookup = |name: &str| {
            variables
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, value)| (*value).to_owned())
        };
        Ok(choose(&server.parse().unwrap(), cluster, &lookup)?.map(|uri| uri.to_string()))
    }

    #[test]
    fn where_a_proxy_comes_from() {
        let both = [
            ("HTTPS_PROXY", "p:3128"),
            ("http_proxy", "http://q"),
            ("NO_PROXY", "x.example"),
        ];
        assert_eq!(
            chosen("https://a.example", None, &both).unwrap().as_deref(),
            Some("http://p:3128/")
        );
        assert_eq!(
            chosen("http://a.example", None, &both).unwrap().as_deref(),
            Some("http://q/")
        );
        assert_eq!(chosen("https://x.example", None, &both).unwrap(), None);
        assert_eq!(
            chosen("https://x.example", Some("socks5://s"), &both)
                .unwrap()
                .as_deref(),
            Some("socks5://s/")
        );
    }

    #[test]
    fn an_unusable_proxy_is_named_without_its_password() {
        let error = chosen("https://a", None, &[("HTTPS_PROXY", "ftp://me:hunter2@p")])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("HTTPS_PROXY") && error.contains("ftp") && !error.contains("hunter2"),
            "{error}"
        );
    }
}
