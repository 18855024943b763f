//! stub: replaced by the connect branch
use crate::secret::Secret;
use std::path::PathBuf;

#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    pub kubeconfig: Option<PathBuf>,
    pub context: Option<String>,
    pub cluster: Option<String>,
    pub user: Option<String>,
    pub server: Option<String>,
    pub token: Option<Secret>,
    pub impersonate: Option<String>,
    pub impersonate_uid: Option<String>,
    pub impersonate_groups: Vec<String>,
    pub impersonate_user_extra: Vec<(String, String)>,
    pub certificate_authority: Option<PathBuf>,
    pub client_certificate: Option<PathBuf>,
    pub client_key: Option<PathBuf>,
    pub tls_server_name: Option<String>,
    pub insecure_skip_tls_verify: bool,
}
#[derive(Clone, Debug)]
pub struct Target {
    pub context: Option<String>,
    pub cluster: Option<String>,
    pub user: Option<String>,
    pub server: String,
    pub namespace: Option<String>,
    pub in_cluster: bool,
}
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConnectError(String);
impl ConnectError {
    pub fn hint(&self) -> Option<String> {
        None
    }
}
pub struct Environment;
impl Environment {
    pub fn from_process() -> Self {
        Self
    }
}
pub fn resolve(options: &ConnectOptions, _: &Environment) -> Result<(kube::Config, Target), ConnectError> {
    let kc = kube::config::Kubeconfig::read().map_err(|e| ConnectError(e.to_string()))?;
    let ctx = options.context.clone().or(kc.current_context.clone());
    let mut config = futures::executor::block_on(kube::Config::from_custom_kubeconfig(
        kc,
        &kube::config::KubeConfigOptions {
            context: options.context.clone(),
            ..Default::default()
        },
    ))
    .map_err(|e| ConnectError(e.to_string()))?;
    config.default_retry = false;
    let server = config.cluster_url.to_string();
    Ok((
        config,
        Target {
            context: ctx,
            cluster: None,
            user: None,
            server,
            namespace: None,
            in_cluster: false,
        },
    ))
}
pub fn client(
    config: kube::Config,
    _user_agent: &str,
    _w: impl Fn(&str) + Clone + Send + Sync + 'static,
) -> Result<kube::Client, ConnectError> {
    kube::Client::try_from(config).map_err(|e| ConnectError(e.to_string()))
}
