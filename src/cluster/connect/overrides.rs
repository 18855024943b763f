//! Applies flags to the entries of a kubeconfig.

use std::collections::HashMap;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use kube::config::AuthInfo;
use secrecy::{ExposeSecret, SecretString};

use super::credentials::impersonation;
use super::{ConnectError, ConnectOptions, read_file};
use crate::cluster::kubeconfig::Selection;

/// Replaces fields of the entries by flags.
pub(super) fn apply_overrides(
    options: &ConnectOptions,
    selection: &mut Selection,
) -> Result<(), ConnectError> {
    let Selection { cluster, user, .. } = selection;
    if let Some(server) = &options.server {
        cluster.server = Some(server.clone());
        // As in kubectl, the name in the entry belongs to the entry's server.
        cluster.tls_server_name = None;
    }
    if let Some(name) = &options.tls_server_name {
        cluster.tls_server_name = Some(name.clone());
    }
    if let Some(path) = &options.certificate_authority {
        cluster.certificate_authority = None;
        cluster.certificate_authority_data = Some(encoded("certificate authority", path)?);
        cluster.insecure_skip_tls_verify = None;
    }
    if options.insecure_skip_tls_verify {
        cluster.insecure_skip_tls_verify = Some(true);
        cluster.certificate_authority = None;
        cluster.certificate_authority_data = None;
    }
    if let Some(token) = &options.token {
        *user = AuthInfo {
            token: Some(SecretString::from(token.expose_secret().trim().to_owned())),
            ..impersonation(user)
        };
    }
    if let Some(path) = &options.client_certificate {
        user.client_certificate = None;
        user.client_certificate_data = Some(encoded("client certificate", path)?);
    }
    if let Some(path) = &options.client_key {
        user.client_key = None;
        user.client_key_data = Some(SecretString::from(encoded("client key", path)?));
    }
    if let Some(name) = &options.impersonate {
        user.impersonate = Some(name.clone());
    }
    if let Some(uid) = &options.impersonate_uid {
        user.impersonate_uid = Some(uid.clone());
    }
    if !options.impersonate_groups.is_empty() {
        user.impersonate_groups = Some(options.impersonate_groups.clone());
    }
    if !options.impersonate_user_extra.is_empty() {
        let mut extra: HashMap<String, Vec<String>> = HashMap::new();
        for (key, value) in &options.impersonate_user_extra {
            extra.entry(key.clone()).or_default().push(value.clone());
        }
        user.impersonate_user_extra = Some(extra);
    }
    let has_details = user.impersonate_uid.is_some()
        || user
            .impersonate_groups
            .as_ref()
            .is_some_and(|groups| !groups.is_empty())
        || user
            .impersonate_user_extra
            .as_ref()
            .is_some_and(|extra| !extra.is_empty());
    if has_details && user.impersonate.is_none() {
        return Err(ConnectError::ImpersonatesNobody);
    }
    Ok(())
}

/// Reads a file and encodes it as in a kubeconfig.
fn encoded(what: &'static str, path: &Path) -> Result<String, ConnectError> {
    read_file(what, path).map(|content| BASE64.encode(content))
}

#[cfg(test)]
mod tests {
    use super::super::resolve;
    use super::super::testing::{TWO, home, options, refused, some, write};
    use super::*;
    use crate::net::Environment;

    #[test]
    fn flags_replace_fields_of_the_kubeconfig() {
        let (home, environment) = home(TWO);
        write(&home, ".kube/token", "from-file\n");
        let red = options(|o| o.context = some("red"));
        let (config, target) = resolve(&red, &environment).unwrap();
        assert_eq!(target.server, "https://r.example.test", "no scheme means https");
        assert!(config.accept_invalid_certs);
        assert_eq!(config.tls_server_name.as_deref(), Some("inner"));
        assert_eq!(
            config.auth_info.token.unwrap().expose_secret(),
            "from-file",
            "trimmed"
        );
        let certificate = home.path().join(".kube/sub/ann.crt");
        assert_eq!(
            config.auth_info.client_certificate.as_deref(),
            certificate.to_str()
        );

        let mixed = options(|o| {
            o.cluster = some("b");
            o.context = some("red");
            o.user = some("ann");
            o.token = Some(SecretString::from("mine".to_owned()));
            o.server = some("https://other.example.test:8080/k8s/c-1/");
        });
        let (config, target) = resolve(&mixed, &environment).unwrap();
        assert_eq!(target.server, "https://other.example.test:8080/k8s/c-1");
        assert_eq!(target.cluster.as_deref(), Some("b"));
        let user = config.auth_info;
        assert_eq!(user.token.unwrap().expose_secret(), "mine");
        assert!(user.password.is_none() && user.token_file.is_none() && user.client_certificate.is_none());
    }

    #[test]
    fn server_flag_drops_the_tls_server_name_of_the_entry() {
        let (home, environment) = home(TWO);
        write(&home, ".kube/token", "t");
        for (server, flag, expected) in [
            (None, None, Some("inner")),
            (some("https://other.example.test"), None, None),
            (some("https://other.example.test"), some("given"), Some("given")),
            (None, some("given"), Some("given")),
        ] {
            let options = options(|o| {
                o.context = some("red");
                o.server = server;
                o.tls_server_name = flag;
            });
            let (config, _) = resolve(&options, &environment).unwrap();
            assert_eq!(config.tls_server_name.as_deref(), expected, "{options:?}");
        }
    }

    #[test]
    fn certificates_of_flags_are_read_by_resolve() {
        let directory = tempfile::tempdir().unwrap();
        let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let path = write(&directory, "some.pem", pem);
        let with = |path: &Path| {
            options(|o| {
                o.server = some("https://x");
                o.certificate_authority = Some(path.to_owned());
                o.client_certificate = Some(path.to_owned());
                o.client_key = Some(path.to_owned());
            })
        };
        let (config, _) = resolve(&with(&path), &Environment::default()).unwrap();
        assert_eq!(config.root_cert, Some(vec![vec![0, 0, 0]]));
        assert_eq!(config.auth_info.client_certificate_data, Some(BASE64.encode(pem)));
        assert!(config.auth_info.client_key_data.is_some());

        let absent = directory.path().join("absent.pem");
        let error = refused(&with(&absent), &Environment::default()).to_string();
        assert!(
            error.contains("certificate authority") && error.contains("absent.pem"),
            "{error}"
        );
        let both = ConnectOptions {
            insecure_skip_tls_verify: true,
            ..with(&path)
        };
        let error = refused(&both, &Environment::default());
        assert!(matches!(error, ConnectError::AuthorityAndInsecure), "{error:?}");
    }

    #[test]
    fn invalid_headers_are_refused_by_resolve() {
        let torn = options(|o| {
            o.server = some("https://x");
            o.token = Some(SecretString::from("a\nb".to_owned()));
        });
        let error = refused(&torn, &Environment::default());
        assert!(matches!(error, ConnectError::Token), "{error:?}");
        let nobody = options(|o| {
            o.server = some("https://x");
            o.impersonate_groups = vec!["g".to_owned()];
        });
        let error = refused(&nobody, &Environment::default());
        assert!(error.hint().unwrap().contains("--as"), "{error:?}");
        assert!(!format!("{torn:?}").contains("a\\nb"), "masked");
    }
}
