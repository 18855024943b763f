//! Selects the credentials of a user and loads them.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderValue;
use kube::config::{AuthInfo, Cluster, ExecAuthCluster, ExecConfig, ExecInteractiveMode};
use secrecy::{ExposeSecret, SecretString};

use super::{ConnectError, decoded, read_file};
use crate::cluster::authenticate::Source;
use crate::cluster::explain::explain_plugin;
use crate::cluster::identity;
use crate::cluster::plugin::{self, Credentials, Plugin};
use crate::net::Environment;
use crate::net::http::bearer;
use crate::untrusted;

/// Takes the impersonation out of a user, without the credentials.
pub(super) fn impersonation(user: &mut AuthInfo) -> AuthInfo {
    AuthInfo {
        impersonate: user.impersonate.take(),
        impersonate_uid: user.impersonate_uid.take(),
        impersonate_groups: user.impersonate_groups.take(),
        impersonate_user_extra: user.impersonate_user_extra.take(),
        ..AuthInfo::default()
    }
}

/// Refuses a user with contradictory or incomplete fields, as kubectl does.
pub(super) fn check_user(name: &str, user: &AuthInfo) -> Result<(), ConnectError> {
    let refuse = |reason: &str| {
        Err(ConnectError::User {
            name: name.to_owned(),
            reason: reason.to_owned(),
        })
    };
    if user.token.is_some() && (user.username.is_some() || user.password.is_some()) {
        return Err(both_logins(name));
    }
    if user.client_certificate.is_some() && user.client_certificate_data.is_some() {
        return refuse("client-certificate and client-certificate-data exclude each other");
    }
    if user.client_key.is_some() && user.client_key_data.is_some() {
        return refuse("client-key and client-key-data exclude each other");
    }
    let has_certificate = user.client_certificate.is_some() || user.client_certificate_data.is_some();
    if has_certificate && user.client_key.is_none() && user.client_key_data.is_none() {
        return refuse("it has a client certificate without its key");
    }
    if let Some(exec) = &user.exec {
        if user.auth_provider.is_some() {
            return refuse("it has both exec and auth-provider");
        }
        if exec.command.is_none() {
            return refuse("its exec has no command");
        }
        if exec.api_version.is_none() {
            return refuse("its exec has no apiVersion");
        }
        if exec.interactive_mode.is_none() && exec.api_version.as_deref() == Some(plugin::VERSIONS[0]) {
            return refuse("its exec has no interactiveMode");
        }
        if exec.env.iter().flatten().any(|entry| !entry.contains_key("name")) {
            return refuse("its exec has a variable without a name");
        }
    }
    Ok(())
}

/// Refuses unsupported credentials.
pub(super) fn check_login(name: &str, user: &AuthInfo) -> Result<(), ConnectError> {
    if user.token_file.is_some() && user.username.is_some() {
        return Err(both_logins(name));
    }
    let version = user.exec.as_ref().and_then(|exec| exec.api_version.as_deref());
    if let Some(version) = version.filter(|version| !plugin::VERSIONS.contains(version)) {
        let known = plugin::VERSIONS.join(" and ");
        return Err(ConnectError::User {
            name: name.to_owned(),
            reason: format!("its exec has the apiVersion {version:?} (supported are {known})"),
        });
    }
    match &user.auth_provider {
        Some(provider) if provider.name != "oidc" => Err(ConnectError::Provider {
            name: provider.name.clone(),
        }),
        _ => Ok(()),
    }
}

fn both_logins(name: &str) -> ConnectError {
    ConnectError::User {
        name: name.to_owned(),
        reason: "it has both a token and a user name or password".to_owned(),
    }
}

/// Removes credentials that are not used: a token beside a token file, and a plugin beside any other.
pub(super) fn select_credentials(user: &mut AuthInfo) -> Result<(), ConnectError> {
    if let Some(path) = &user.token_file {
        match read_file("token file", Path::new(path)) {
            Ok(content) => {
                let text = String::from_utf8(content).map_err(|_| ConnectError::Token)?;
                if !text.trim().is_empty() {
                    user.token = Some(SecretString::from(text.trim().to_owned()));
                } else if user.token.is_none() {
                    return Err(ConnectError::Token);
                }
            }
            Err(_) if user.token.is_some() => {}
            Err(error) => return Err(error),
        }
    }
    if let Some(token) = &user.token {
        let header = HeaderValue::from_str(token.expose_secret());
        header.map_err(|_| ConnectError::Token)?;
    }
    let has_key = user.client_key.is_some() || user.client_key_data.is_some();
    let has_certificate = user.client_certificate.is_some() || user.client_certificate_data.is_some();
    if user.token.is_some() || user.username.is_some() || (has_certificate && has_key) {
        user.exec = None;
    }
    Ok(())
}

/// Checks that the plugin is installed and decides whether it may prompt.
pub(super) fn prepare_plugin(
    exec: &mut ExecConfig,
    cluster: &Cluster,
    authority: Option<&[u8]>,
    environment: &Environment,
) -> Result<(), ConnectError> {
    let command = exec.command.clone().unwrap_or_default();
    let own_path = exec
        .env
        .iter()
        .flatten()
        .find(|entry| entry.get("name").is_some_and(|name| name == "PATH"));
    let path = match own_path.and_then(|entry| entry.get("value")) {
        Some(value) => Some(OsString::from(value)),
        None => environment.get("PATH").map(OsStr::to_owned),
    };
    if which::which_in(&command, path, Path::new(".")).is_err() {
        let install_hint = exec
            .install_hint
            .as_deref()
            .map(untrusted::lines)
            .filter(|hint| !hint.is_empty());
        return Err(ConnectError::PluginMissing {
            command,
            install_hint,
        });
    }
    match exec.interactive_mode {
        Some(ExecInteractiveMode::Always) if !environment.stdin_is_terminal => {
            return Err(ConnectError::PluginAsks { command });
        }
        Some(ExecInteractiveMode::IfAvailable) | None if !environment.stdin_is_terminal => {
            exec.interactive_mode = Some(ExecInteractiveMode::Never);
        }
        _ => {}
    }
    if exec.provide_cluster_info {
        let extensions = cluster.extensions.iter().flatten();
        exec.cluster = Some(ExecAuthCluster {
            server: cluster.server.clone(),
            insecure_skip_tls_verify: cluster.insecure_skip_tls_verify,
            certificate_authority_data: authority.map(<[u8]>::to_vec),
            proxy_url: cluster.proxy_url.clone(),
            tls_server_name: cluster.tls_server_name.clone(),
            config: extensions
                .into_iter()
                .find(|extension| extension.name == "client.authentication.k8s.io/exec")
                .map(|extension| extension.extension.clone()),
        });
    }
    Ok(())
}

/// Returns whether the credential plugin of a resolved configuration may prompt at the terminal.
pub fn may_prompt(config: &kube::Config) -> bool {
    let exec = config.auth_info.exec.as_ref();
    exec.is_some_and(|exec| Plugin::new(exec).is_interactive())
}

/// Loads the first credentials and returns their source. Runs the plugin, if the user has one.
pub(super) fn load_credentials(user: &AuthInfo) -> Result<(Source, Credentials), ConnectError> {
    if let Some(exec) = &user.exec {
        let plugin = Plugin::new(exec);
        let credentials = plugin
            .run()
            .map_err(|error| ConnectError::Plugin(explain_plugin(&error)))?;
        return Ok((Source::Plugin(Box::new(plugin)), credentials));
    }
    let certificate = read_field(
        "client certificate",
        user.client_certificate.as_deref(),
        user.client_certificate_data.as_deref(),
    )?;
    let key_data = user.client_key_data.as_ref().map(ExposeSecret::expose_secret);
    let key = read_field("client key", user.client_key.as_deref(), key_data)?;
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(
            identity::certified_key(&certificate, &key)
                .map_err(|reason| ConnectError::Identity { reason })?,
        ),
        // As in kubectl, a key alone is ignored.
        _ => None,
    };
    let authorization = match (&user.token, &user.username) {
        (Some(token), _) => Some(bearer(token.expose_secret().trim()).ok_or(ConnectError::Token)?),
        (None, Some(name)) => {
            let password = user.password.as_ref().map_or("", ExposeSecret::expose_secret);
            let pair = BASE64.encode(format!("{name}:{password}"));
            let mut header =
                HeaderValue::from_str(&format!("Basic {pair}")).map_err(|_| ConnectError::Token)?;
            header.set_sensitive(true);
            Some(header)
        }
        (None, None) => None,
    };
    let (source, expires) = match &user.token_file {
        Some(path) => Source::file(path.into()),
        None => (Source::Fixed, None),
    };
    let credentials = Credentials {
        authorization,
        identity,
        expires,
    };
    Ok((source, credentials))
}

/// Returns the content of a field such as `client-certificate` or `client-certificate-data`.
fn read_field(
    what: &'static str,
    path: Option<&str>,
    data: Option<&str>,
) -> Result<Option<Vec<u8>>, ConnectError> {
    match (data, path) {
        (Some(data), _) => {
            let field = format!("{}-data", what.replace(' ', "-"));
            let content = decoded(&field, data).map_err(|reason| ConnectError::Identity { reason })?;
            Ok(Some(content))
        }
        (None, Some(path)) => read_file(what, Path::new(path)).map(Some),
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{home, refused};
    use super::super::{ConnectOptions, resolve};
    use super::*;
    use tempfile::TempDir;

    fn with_plugin(exec: &str) -> (TempDir, Environment) {
        let content = format!(
            "current-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{server: 'https://x'}}}}]\nusers: [{{name: u, user: {{exec: {{apiVersion: client.authentication.k8s.io/v1beta1, {exec}}}}}}}]\n"
        );
        home(&content)
    }

    #[test]
    fn missing_plugin_is_named_with_its_install_hint() {
        let (_home, environment) =
            with_plugin("command: no-such-plugin, installHint: \"Get it:\\n  from here\"");
        let error = refused(&ConnectOptions::default(), &environment);
        assert!(error.to_string().contains("no-such-plugin"), "{error}");
        assert!(error.to_string().contains("Get it:\n  from here"), "{error}");

        let (_home, environment) = with_plugin("command: kubelogin");
        let error = refused(&ConnectOptions::default(), &environment);
        assert!(
            error
                .hint()
                .unwrap()
                .contains("kubelogin convert-kubeconfig -l azurecli"),
            "{error}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn plugin_prompts_only_at_a_terminal() {
        for (mode, terminal, expected) in [
            ("", false, Some(Some(ExecInteractiveMode::Never))),
            (
                ", interactiveMode: IfAvailable",
                false,
                Some(Some(ExecInteractiveMode::Never)),
            ),
            (
                ", interactiveMode: Never",
                false,
                Some(Some(ExecInteractiveMode::Never)),
            ),
            (", interactiveMode: Always", false, None),
            ("", true, Some(None)),
            (
                ", interactiveMode: IfAvailable",
                true,
                Some(Some(ExecInteractiveMode::IfAvailable)),
            ),
            (
                ", interactiveMode: Always",
                true,
                Some(Some(ExecInteractiveMode::Always)),
            ),
        ] {
            let (_home, mut environment) = with_plugin(&format!("command: /bin/sh{mode}"));
            environment.stdin_is_terminal = terminal;
            match (resolve(&ConnectOptions::default(), &environment), expected) {
                (Ok((config, _)), Some(expected)) => {
                    assert_eq!(
                        config.auth_info.exec.unwrap().interactive_mode,
                        expected,
                        "{mode}"
                    );
                }
                (Err(error), None) => assert!(error.to_string().contains("not a terminal"), "{error}"),
                (result, _) => panic!("{mode} {terminal}: {:?}", result.map(|(_, target)| target)),
            }
        }
    }
}
