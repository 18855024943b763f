//! How a kubeconfig and flags become a client, as kubectl does it.
//!
//! The kubeconfig is read and merged by kube; choosing from it is done here, because kube's own loader
//! differs from kubectl where users would notice: it stops at a missing file of a list, and it compares
//! `NO_PROXY` with the proxy's address (see [`super::proxy`]).

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::header::{HeaderValue, USER_AGENT};
use kube::client::ClientBuilder;
use kube::config::{AuthInfo, Cluster, ExecAuthCluster, ExecConfig, ExecInteractiveMode, Kubeconfig};
use kube::{Client, Config};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::proxy::{self, ProxyError};
use super::warnings::WarningLayer;
use crate::secret::Secret;

/// Time to reach the API server; a request may take longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// kubectl's flags for choosing a cluster and an identity, under kubectl's names.
#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    /// `--kubeconfig`
    pub kubeconfig: Option<PathBuf>,
    /// `--context`
    pub context: Option<String>,
    /// `--cluster`
    pub cluster: Option<String>,
    /// `--user`
    pub user: Option<String>,
    /// `--server`
    pub server: Option<String>,
    /// `--token`
    pub token: Option<Secret>,
    /// `--as`
    pub impersonate: Option<String>,
    /// `--as-uid`
    pub impersonate_uid: Option<String>,
    /// `--as-group`, repeated
    pub impersonate_groups: Vec<String>,
    /// `--as-user-extra`, repeated
    pub impersonate_user_extra: Vec<(String, String)>,
    /// `--certificate-authority`
    pub certificate_authority: Option<PathBuf>,
    /// `--client-certificate`
    pub client_certificate: Option<PathBuf>,
    /// `--client-key`
    pub client_key: Option<PathBuf>,
    /// `--tls-server-name`
    pub tls_server_name: Option<String>,
    /// `--insecure-skip-tls-verify`
    pub insecure_skip_tls_verify: bool,
}

/// Where requests go: shown to the user before anything happens.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Context of the kubeconfig, where one was used.
    pub context: Option<String>,
    /// Address of the API server.
    pub server: String,
}

/// What the process is surrounded by, as an argument, so that tests need not change it.
#[derive(Clone)]
pub struct Environment<'a> {
    /// Looks a variable up.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// Whether somebody could be asked for a password.
    pub interactive: bool,
}

impl Environment<'_> {
    /// The real one.
    pub fn from_process() -> Self {
        Self {
            variable: &|name| std::env::var(name).ok(),
            interactive: std::io::stdin().is_terminal(),
        }
    }

    fn get(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }
}

/// Why no connection could be set up. Nothing was sent yet.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is no configuration at all.
    #[error("no kubeconfig found; looked at {}", .looked_at.join(", "))]
    NoKubeconfig {
        /// Files and the in-cluster environment.
        looked_at: Vec<String>,
    },
    /// A kubeconfig is there and cannot be used.
    #[error("failed to read kubeconfig {}: {cause}", .path.display())]
    Kubeconfig {
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// No context is chosen.
    #[error("the kubeconfig has no current context (it has {})", list(.known))]
    NoContext {
        /// Those it has.
        known: Vec<String>,
    },
    /// The kubeconfig lacks what was named.
    #[error("the kubeconfig has no {what} {name:?} (it has {})", list(.known))]
    Unknown {
        /// Context, cluster or user.
        what: &'static str,
        /// What was named.
        name: String,
        /// Those it has.
        known: Vec<String>,
    },
    /// The cluster entry has no usable address.
    #[error("the API server's address {address:?} cannot be used: {cause}")]
    Server {
        /// As given.
        address: String,
        /// Why.
        cause: String,
    },
    /// A certificate or key cannot be used.
    #[error("failed to use {what}: {cause}")]
    Certificate {
        /// Which.
        what: String,
        /// Why.
        cause: String,
    },
    /// The credential plugin cannot run here.
    #[error("the credential plugin {command:?} of user {user:?} {cause}")]
    Plugin {
        /// The program.
        command: String,
        /// The kubeconfig's user.
        user: String,
        /// Why.
        cause: String,
        /// What the kubeconfig says about getting it.
        hint: Option<String>,
    },
    /// The proxy cannot be used.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// In a pod, without what a pod should have.
    #[error("failed to use the pod's own service account: {0}")]
    InCluster(String),
    /// The client cannot be built.
    #[error("failed to set up the connection to {server}: {cause}")]
    Client {
        /// Address of the API server.
        server: String,
        /// Why.
        cause: String,
    },
}

fn list(names: &[String]) -> String {
    const SHOWN: usize = 10;
    let names: BTreeSet<&String> = names.iter().collect();
    match names.len() {
        0 => "none".to_owned(),
        n if n > SHOWN => {
            let shown: Vec<_> = names.into_iter().take(SHOWN).cloned().collect();
            format!("{} and {} more", shown.join(", "), n - SHOWN)
        }
        _ => names.into_iter().cloned().collect::<Vec<_>>().join(", "),
    }
}

impl ConnectError {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            ConnectError::NoKubeconfig { .. } => {
                "name one with --kubeconfig, or get one, for example: az aks get-credentials".into()
            }
            ConnectError::Kubeconfig { .. } => "see what kubectl makes of it: kubectl config view".into(),
            ConnectError::NoContext { .. } => {
                "choose one: kubectl config use-context NAME, or --context NAME".into()
            }
            ConnectError::Unknown { .. } => "see what there is: kubectl config get-contexts".into(),
            ConnectError::Server { .. } => "expected something like https://host:6443".into(),
            ConnectError::Certificate { .. } => "see which files are named: kubectl config view".into(),
            ConnectError::Plugin { hint, .. } => return hint.clone(),
            ConnectError::Proxy(_) => "proxies can be http, https or socks5 URLs".into(),
            ConnectError::InCluster(_) => "does the pod have automountServiceAccountToken: true?".into(),
            ConnectError::Client { .. } => return None,
        })
    }
}

/// Chooses cluster and identity. Reads files; sends nothing.
pub fn resolve(
    options: &ConnectOptions,
    environment: &Environment,
) -> Result<(Config, Target), ConnectError> {
    let (kubeconfig, looked_at) = read(options, environment)?;
    let (mut config, context) = match kubeconfig {
        Some(kubeconfig) => from_kubeconfig(&kubeconfig, options, environment)?,
        None if options.server.is_some() => (
            cluster_config(Cluster::default(), AuthInfo::default(), options, environment)?,
            None,
        ),
        None if environment.get("KUBERNETES_SERVICE_HOST").is_some() => (
            Config::incluster().map_err(|error| ConnectError::InCluster(error.to_string()))?,
            None,
        ),
        None => return Err(ConnectError::NoKubeconfig { looked_at }),
    };
    identity(&mut config.auth_info, options);
    // kube retries 429, 503 and 504, POST included (kube-rs issue 2082).
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    let target = Target {
        context,
        server: config.cluster_url.to_string(),
    };
    Ok((config, target))
}

/// Reads what kubectl would: one named file, which has to be there, or a list, of which some may be missing.
fn read(
    options: &ConnectOptions,
    environment: &Environment,
) -> Result<(Option<Kubeconfig>, Vec<String>), ConnectError> {
    // Only the first line: the parser goes on to quote the file, which may hold secrets.
    let failed = |path: &Path, cause: String| ConnectError::Kubeconfig {
        path: path.to_owned(),
        cause: cause.lines().next().unwrap_or_default().to_owned(),
    };
    let read_one = |path: &Path| Kubeconfig::read_from(path).map_err(|error| failed(path, chain(&error)));
    if let Some(path) = &options.kubeconfig {
        return Ok((Some(read_one(path)?), vec![]));
    }
    let (paths, mut looked_at): (Vec<PathBuf>, Vec<String>) = match environment.get("KUBECONFIG") {
        Some(list) => {
            let paths = std::env::split_paths(&list)
                .filter(|path| !path.as_os_str().is_empty())
                .collect();
            (paths, vec![format!("KUBECONFIG={list}")])
        }
        None => match environment.get("HOME").or_else(|| environment.get("USERPROFILE")) {
            Some(home) => {
                let path = Path::new(&home).join(".kube/config");
                let looked_at = vec!["KUBECONFIG (not set)".to_owned(), path.display().to_string()];
                (vec![path], looked_at)
            }
            None => (
                vec![],
                vec!["KUBECONFIG (not set)".to_owned(), "HOME (not set)".to_owned()],
            ),
        },
    };
    looked_at.push("the environment of a pod (KUBERNETES_SERVICE_HOST is not set)".to_owned());
    let mut merged: Option<Kubeconfig> = None;
    for path in paths {
        match std::fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(&path, error.to_string())),
            Ok(_) => {}
        }
        let next = read_one(&path)?;
        merged = Some(match merged {
            None => next,
            Some(first) => first.merge(next).map_err(|error| failed(&path, chain(&error)))?,
        });
    }
    Ok((merged, looked_at))
}

fn from_kubeconfig(
    kubeconfig: &Kubeconfig,
    options: &ConnectOptions,
    environment: &Environment,
) -> Result<(Config, Option<String>), ConnectError> {
    let unknown = |what, name: &str, known: Vec<String>| ConnectError::Unknown {
        what,
        name: name.to_owned(),
        known,
    };
    let contexts = || {
        kubeconfig
            .contexts
            .iter()
            .map(|named| named.name.clone())
            .collect::<Vec<_>>()
    };
    let current = kubeconfig.current_context.clone().filter(|name| !name.is_empty());
    let (context_name, context) = match options.context.clone().or(current) {
        Some(name) => {
            let found = kubeconfig.contexts.iter().find(|named| named.name == name);
            let context = found.and_then(|named| named.context.clone());
            let context = context.ok_or_else(|| unknown("context", &name, contexts()))?;
            (Some(name), context)
        }
        // As with kubectl, the flags alone may say everything.
        None if options.server.is_some() || options.cluster.is_some() => {
            (None, kube::config::Context::default())
        }
        None => return Err(ConnectError::NoContext { known: contexts() }),
    };
    let cluster = match options
        .cluster
        .clone()
        .or_else(|| Some(context.cluster.clone()).filter(|n| !n.is_empty()))
    {
        None => Cluster::default(),
        Some(name) => {
            let found = kubeconfig.clusters.iter().find(|named| named.name == name);
            let known = || {
                kubeconfig
                    .clusters
                    .iter()
                    .map(|named| named.name.clone())
                    .collect()
            };
            found
                .and_then(|named| named.cluster.clone())
                .ok_or_else(|| unknown("cluster", &name, known()))?
        }
    };
    let user_name = options.user.clone().or_else(|| context.user.clone());
    let found = kubeconfig
        .auth_infos
        .iter()
        .find(|named| Some(&named.name) == user_name.as_ref());
    let mut user = match found.and_then(|named| named.auth_info.clone()) {
        Some(user) => user,
        // A user that only the context names may be missing (as client-go has it); one asked for may not.
        None if options.user.is_none() => AuthInfo::default(),
        None => {
            let known = kubeconfig
                .auth_infos
                .iter()
                .map(|named| named.name.clone())
                .collect();
            return Err(unknown("user", user_name.as_deref().unwrap_or_default(), known));
        }
    };
    if options.token.is_none()
        && let Some(exec) = &mut user.exec
    {
        plugin(
            exec,
            &cluster,
            user_name.as_deref().unwrap_or_default(),
            environment,
        )?;
    }
    Ok((cluster_config(cluster, user, options, environment)?, context_name))
}

fn cluster_config(
    mut cluster: Cluster,
    user: AuthInfo,
    options: &ConnectOptions,
    environment: &Environment,
) -> Result<Config, ConnectError> {
    if let Some(server) = &options.server {
        cluster.server = Some(server.clone());
    }
    let address = cluster.server.clone().unwrap_or_default();
    let bad = |cause: String| ConnectError::Server {
        address: address.clone(),
        cause,
    };
    let with_scheme = if address.contains("://") {
        address.clone()
    } else {
        format!("https://{address}")
    };
    let url: http::Uri = with_scheme
        .parse()
        .map_err(|error: http::uri::InvalidUri| bad(error.to_string()))?;
    if !matches!(url.scheme_str(), Some("https" | "http")) || url.host().is_none_or(str::is_empty) {
        return Err(bad("it is no https or http URL".into()));
    }
    let mut config = Config::new(url);
    config.proxy_url = proxy::choose(
        &config.cluster_url,
        cluster.proxy_url.as_deref(),
        environment.variable,
    )?;
    config.tls_server_name = options
        .tls_server_name
        .clone()
        .or_else(|| cluster.tls_server_name.clone());
    config.accept_invalid_certs =
        options.insecure_skip_tls_verify || cluster.insecure_skip_tls_verify.unwrap_or_default();
    config.disable_compression = cluster.disable_compression.unwrap_or_default();
    if let Some(file) = &options.certificate_authority {
        cluster.certificate_authority = Some(file.to_string_lossy().into_owned());
        cluster.certificate_authority_data = None;
    }
    config.root_cert = root_certificates(&cluster)?;
    config.auth_info = user;
    Ok(config)
}

fn root_certificates(cluster: &Cluster) -> Result<Option<Vec<Vec<u8>>>, ConnectError> {
    let what = match (
        &cluster.certificate_authority_data,
        &cluster.certificate_authority,
    ) {
        (Some(_), _) => "certificate-authority-data".to_owned(),
        (None, Some(file)) => format!("certificate-authority {file}"),
        (None, None) => return Ok(None),
    };
    let bad = |cause: String| ConnectError::Certificate {
        what: what.clone(),
        cause,
    };
    // kube reads file or data for the plugins' sake; the same bytes are what is needed here.
    let pem = ExecAuthCluster::try_from(cluster)
        .map_err(|error| bad(chain(&error)))?
        .certificate_authority_data;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem.unwrap_or_default()).collect();
    let certificates = certificates.map_err(|error| bad(error.to_string()))?;
    if certificates.is_empty() {
        return Err(bad("there is no PEM certificate in it".into()));
    }
    Ok(Some(
        certificates
            .into_iter()
            .map(|certificate| certificate.to_vec())
            .collect(),
    ))
}

/// Flags that say who is calling. A token replaces whatever else the user would have been known by.
fn identity(user: &mut AuthInfo, options: &ConnectOptions) {
    if let Some(token) = &options.token {
        *user = AuthInfo {
            token: Some(token.reveal().to_owned().into()),
            client_certificate: user.client_certificate.take(),
            client_certificate_data: user.client_certificate_data.take(),
            client_key: user.client_key.take(),
            client_key_data: user.client_key_data.take(),
            ..AuthInfo::default()
        };
    }
    let path = |path: &PathBuf| Some(path.to_string_lossy().into_owned());
    if let Some(certificate) = &options.client_certificate {
        user.client_certificate = path(certificate);
        user.client_certificate_data = None;
    }
    if let Some(key) = &options.client_key {
        user.client_key = path(key);
        user.client_key_data = None;
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
    for (key, value) in &options.impersonate_user_extra {
        let extra = user.impersonate_user_extra.get_or_insert_default();
        extra.entry(key.clone()).or_default().push(value.clone());
    }
}

/// Makes a credential plugin behave as under kubectl, or says why it cannot run.
fn plugin(
    exec: &mut ExecConfig,
    cluster: &Cluster,
    user: &str,
    environment: &Environment,
) -> Result<(), ConnectError> {
    let command = exec.command.clone().unwrap_or_default();
    let failed = |cause: &str, hint: Option<String>| ConnectError::Plugin {
        command: command.clone(),
        user: user.to_owned(),
        cause: cause.to_owned(),
        hint,
    };
    if exec.provide_cluster_info {
        let cluster = ExecAuthCluster::try_from(cluster);
        exec.cluster =
            Some(cluster.map_err(|error| {
                failed(&format!("cannot be told of the cluster: {}", chain(&error)), None)
            })?);
    }
    if !environment.interactive {
        if exec.interactive_mode == Some(ExecInteractiveMode::Always) {
            let hint = "run it at a terminal, or use a login that needs none".to_owned();
            return Err(failed(
                "wants to ask somebody, and standard input is no terminal",
                Some(hint),
            ));
        }
        // kube lets a plugin ask even when nobody is there to answer.
        exec.interactive_mode = Some(ExecInteractiveMode::Never);
    }
    if !on_path(&command, environment) {
        let kubelogin = (command == "kubelogin")
            .then_some("with it, a login through the Azure CLI: kubelogin convert-kubeconfig -l azurecli");
        let hints = [exec.install_hint.as_deref().map(str::trim), kubelogin];
        let hint = hints.into_iter().flatten().collect::<Vec<_>>().join("\n");
        return Err(failed(
            "is not installed",
            Some(hint).filter(|hint| !hint.is_empty()),
        ));
    }
    Ok(())
}

fn on_path(command: &str, environment: &Environment) -> bool {
    let names = |folder: &Path| {
        let plain = folder.join(command);
        plain.is_file() || (cfg!(windows) && plain.with_extension("exe").is_file())
    };
    if Path::new(command).components().count() > 1 {
        return names(Path::new(""));
    }
    environment
        .get("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| names(&folder)))
}

/// Builds a client that says who it is, and passes on what the API server warns of.
pub fn client(
    mut config: Config,
    user_agent: &str,
    warnings: impl Fn(&str) + Clone + Send + Sync + 'static,
) -> Result<Client, ConnectError> {
    let server = config.cluster_url.to_string();
    let failed = |cause: String| ConnectError::Client { server, cause };
    match HeaderValue::from_str(user_agent) {
        Ok(agent) => config.headers.push((USER_AGENT, agent)),
        Err(error) => return Err(failed(error.to_string())),
    }
    let builder =
        ClientBuilder::try_from(config).map_err(|error| failed(super::explain::explain(&error).message))?;
    Ok(builder.with_layer(&WarningLayer::new(warnings)).build())
}

/// An error with what is behind it, each part once.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let part = source.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const KUBECONFIG: &str = r#"
apiVersion: v1
kind: Config
current-context: one
clusters:
- {name: c1, cluster: {server: "https://one.example:6443"}}
- {name: c2, cluster: {server: "https://two.example:6443", tls-server-name: api}}
users:
- {name: u1, user: {token: t1}}
- name: u2
  user:
    exec: {apiVersion: client.authentication.k8s.io/v1, command: no-such-plugin, installHint: "get it at example.org", interactiveMode: IfAvailable}
- name: u3
  user:
    exec: {apiVersion: client.authentication.k8s.io/v1, command: sh, interactiveMode: Always}
contexts:
- {name: one, context: {cluster: c1, user: u1}}
- {name: two, context: {cluster: c2, user: u2}}
- {name: three, context: {cluster: c2, user: u3}}
"#;

    struct Files(tempfile::TempDir);

    impl Files {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn write(&self, name: &str, text: &str) -> String {
            let path = self.0.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        }
    }

    fn with(variables: &[(&str, &str)], options: &ConnectOptions) -> Result<(Config, Target), ConnectError> {
        let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
        let lookup = |name: &str| variables.get(name).map(|value| (*value).to_owned());
        resolve(
            options,
            &Environment {
                variable: &lookup,
                interactive: false,
            },
        )
    }

    #[test]
    fn missing_files_of_a_list_are_skipped_and_the_first_wins() {
        let files = Files::new();
        let first = files.write("a", KUBECONFIG);
        let second = files.write("b", &KUBECONFIG.replace("one.example", "other.example"));
        let list = format!("/nonexistent/file::{first}:{second}");
        let (config, target) = with(&[("KUBECONFIG", &list)], &ConnectOptions::default()).unwrap();
        assert_eq!(
            target,
            Target {
                context: Some("one".into()),
                server: "https://one.example:6443/".into()
            }
        );
        assert!(!config.default_retry);
    }

    #[test]
    fn without_any_the_places_are_named() {
        let error = with(&[("HOME", "/nonexistent")], &ConnectOptions::default())
            .unwrap_err()
            .to_string();
        for place in [
            "KUBECONFIG (not set)",
            "/nonexistent/.kube/config",
            "KUBERNETES_SERVICE_HOST",
        ] {
            assert!(error.contains(place), "{error}");
        }
    }

    #[test]
    fn a_named_file_has_to_be_there_and_be_one() {
        let files = Files::new();
        for path in [
            "/nonexistent/config".to_owned(),
            files.write("bad", "clusters: ["),
        ] {
            let options = ConnectOptions {
                kubeconfig: Some(path.clone().into()),
                ..ConnectOptions::default()
            };
            let error = with(&[], &options).unwrap_err().to_string();
            assert!(error.contains(&path), "{error}");
        }
    }

    #[test]
    fn unknown_names_list_the_known_ones() {
        let files = Files::new();
        let path = files.write("a", KUBECONFIG);
        let named = |context: Option<&str>, cluster: Option<&str>, user: Option<&str>| ConnectOptions {
            kubeconfig: Some(path.clone().into()),
            context: context.map(str::to_owned),
            cluster: cluster.map(str::to_owned),
            user: user.map(str::to_owned),
            ..ConnectOptions::default()
        };
        for (options, said) in [
            (
                named(Some("x"), None, None),
                r#"no context "x" (it has one, three, two)"#,
            ),
            (named(None, Some("x"), None), r#"no cluster "x" (it has c1, c2)"#),
            (named(None, None, Some("x")), r#"no user "x" (it has u1, u2, u3)"#),
        ] {
            let error = with(&[], &options).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn no_current_context_is_an_error_unless_flags_say_everything() {
        let files = Files::new();
        let path = files.write("a", &KUBECONFIG.replace("current-context: one", ""));
        let options = ConnectOptions {
            kubeconfig: Some(path.into()),
            ..ConnectOptions::default()
        };
        assert!(matches!(with(&[], &options), Err(ConnectError::NoContext { .. })));
        let options = ConnectOptions {
            server: Some("host:6443".into()),
            ..options
        };
        assert_eq!(with(&[], &options).unwrap().1.server, "https://host:6443/");
        let options = ConnectOptions {
            server: Some("https://host".into()),
            ..ConnectOptions::default()
        };
        assert_eq!(with(&[], &options).unwrap().1.server, "https://host/");
    }

    #[test]
    fn a_missing_plugin_shows_the_install_hint() {
        let files = Files::new();
        let path = files.write("a", KUBECONFIG);
        let options = ConnectOptions {
            kubeconfig: Some(path.into()),
            context: Some("two".into()),
            ..ConnectOptions::default()
        };
        let error = with(&[("PATH", "/nonexistent")], &options).unwrap_err();
        assert!(error.to_string().contains("no-such-plugin"), "{error}");
        assert_eq!(error.hint().as_deref(), Some("get it at example.org"));
        // A token needs no plugin.
        let options = ConnectOptions {
            token: Some(Secret::new("t".into())),
            ..options
        };
        assert!(with(&[], &options).unwrap().0.auth_info.exec.is_none());
    }

    #[test]
    fn a_plugin_that_has_to_ask_needs_a_terminal() {
        let files = Files::new();
        let path = files.write("a", KUBECONFIG);
        let options = ConnectOptions {
            kubeconfig: Some(path.into()),
            context: Some("three".into()),
            ..ConnectOptions::default()
        };
        let error = with(&[("PATH", "/bin:/usr/bin")], &options)
            .unwrap_err()
            .to_string();
        assert!(error.contains("standard input is no terminal"), "{error}");
    }

    #[test]
    fn flags_override_the_kubeconfig() {
        let files = Files::new();
        let options = ConnectOptions {
            kubeconfig: Some(files.write("a", KUBECONFIG).into()),
            cluster: Some("c2".into()),
            tls_server_name: Some("other".into()),
            insecure_skip_tls_verify: true,
            impersonate: Some("jane".into()),
            impersonate_uid: Some("7".into()),
            impersonate_groups: vec!["g".into()],
            impersonate_user_extra: vec![("k".into(), "v1".into()), ("k".into(), "v2".into())],
            ..ConnectOptions::default()
        };
        let (config, target) = with(&[], &options).unwrap();
        assert_eq!(target.server, "https://two.example:6443/");
        assert_eq!(config.tls_server_name.as_deref(), Some("other"));
        assert!(config.accept_invalid_certs);
        let user = config.auth_info;
        assert_eq!(user.impersonate.as_deref(), Some("jane"));
        assert_eq!(user.impersonate_uid.as_deref(), Some("7"));
        assert_eq!(user.impersonate_user_extra.unwrap()["k"], ["v1", "v2"]);
    }

    #[test]
    fn a_certificate_file_without_a_certificate_is_named() {
        let files = Files::new();
        let file = files.write("ca", "nothing");
        let options = ConnectOptions {
            server: Some("https://host".into()),
            certificate_authority: Some(file.clone().into()),
            ..ConnectOptions::default()
        };
        let error = with(&[], &options).unwrap_err().to_string();
        assert!(
            error.contains(&file) && error.contains("no PEM certificate"),
            "{error}"
        );
    }
}
