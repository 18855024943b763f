//! The address of an API server and its certificate authority.

use std::path::Path;

use http::Uri;
use kube::config::Cluster;

use super::{ConnectError, decoded, read_file};
use crate::net::pem;
use crate::net::proxy::without_credentials;

/// Parses the address of a server; the default scheme is https. Reports print it, so it must not hold credentials.
pub(super) fn address(server: &str) -> Result<Uri, ConnectError> {
    let refuse = |reason: &str| {
        let shown = without_credentials(server);
        ConnectError::Server {
            server: shown.split(['?', '#']).next().unwrap_or_default().to_owned(),
            reason: reason.to_owned(),
        }
    };
    let address = server.trim();
    let full = if address.contains("://") {
        address.to_owned()
    } else {
        format!("https://{address}")
    };
    let url: Uri = full
        .parse()
        .map_err(|error: http::uri::InvalidUri| refuse(&error.to_string()))?;
    if !matches!(url.scheme_str(), Some("http" | "https")) {
        return Err(refuse("the scheme is neither https nor http"));
    }
    let Some(authority) = url.authority().filter(|authority| !authority.host().is_empty()) else {
        return Err(refuse("the host is missing"));
    };
    if authority.as_str().contains('@') {
        return Err(refuse(
            "a user name and a password belong in a user of the kubeconfig, not in the address",
        ));
    }
    // The library does not check the port, which may be a password with a slash in it.
    let port = authority.as_str()[authority.host().len()..].trim_start_matches(':');
    if !port.is_empty() && authority.port_u16().is_none() {
        return Err(refuse("the port is not a number"));
    }
    if url.query().is_some() {
        return Err(refuse("it has a query"));
    }
    Ok(url)
}

/// Returns the PEM text of the authority, or `None` to trust those of the system.
pub(super) fn authority(cluster: &Cluster) -> Result<Option<Vec<u8>>, ConnectError> {
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
            let content = read_file("certificate authority", Path::new(path))?;
            if pem::certificates(&content).is_empty() {
                return Err(refuse(format!("{path} holds no certificate")));
            }
            Ok(Some(content))
        }
        (None, None) => Ok(None),
    }
}

/// Parses the certificates in the PEM text of an authority.
pub(super) fn certificates(authority: &[u8]) -> Result<Vec<Vec<u8>>, ConnectError> {
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

#[cfg(test)]
mod tests {
    use super::super::ConnectOptions;
    use super::super::testing::{TWO, home, options, refused, some};
    use super::*;
    use crate::net::Environment;

    #[test]
    fn address_with_password_is_refused_without_showing_it() {
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
                let text = format!("{error} {error:?} {:?}", error.hint());
                assert!(!text.contains("ter2") && !text.contains("hun"), "{text}");
                assert!(text.contains("host"), "{text}");
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
}
