//! The kubectl flags that choose a cluster and an identity.

use std::path::PathBuf;

use secrecy::SecretString;

use crate::kubectl::Kubectl;

/// The connection flags of kubectl.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the fields are named as the flags")]
pub struct ConnectOptions {
    /// `--kubeconfig`, which replaces `KUBECONFIG`.
    pub kubeconfig: Option<PathBuf>,
    pub context: Option<String>,
    pub cluster: Option<String>,
    pub user: Option<String>,
    pub server: Option<String>,
    /// `--token`, which replaces all other credentials.
    pub token: Option<SecretString>,
    /// `--as`.
    pub impersonate: Option<String>,
    /// `--as-uid`.
    pub impersonate_uid: Option<String>,
    /// `--as-group`, repeatable.
    pub impersonate_groups: Vec<String>,
    /// `--as-user-extra key=value`, repeatable.
    pub impersonate_user_extra: Vec<(String, String)>,
    pub certificate_authority: Option<PathBuf>,
    pub client_certificate: Option<PathBuf>,
    pub client_key: Option<PathBuf>,
    pub tls_server_name: Option<String>,
    pub insecure_skip_tls_verify: bool,
}

impl ConnectOptions {
    /// Reports whether no flag is set.
    pub fn is_default(&self) -> bool {
        self.token.is_none() && self.kubectl() == Kubectl::default()
    }

    /// Returns a builder of commands with these flags, except `--token`.
    #[must_use]
    pub fn kubectl(&self) -> Kubectl {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.to_string_lossy().into_owned());
        let single = [
            ("kubeconfig", path(&self.kubeconfig)),
            ("context", self.context.clone()),
            ("cluster", self.cluster.clone()),
            ("user", self.user.clone()),
            ("server", self.server.clone()),
            ("tls-server-name", self.tls_server_name.clone()),
            ("certificate-authority", path(&self.certificate_authority)),
            ("client-certificate", path(&self.client_certificate)),
            ("client-key", path(&self.client_key)),
            ("as", self.impersonate.clone()),
            ("as-uid", self.impersonate_uid.clone()),
        ];
        let single = single.into_iter().filter(|(_, value)| value.is_some());
        let groups = self.impersonate_groups.iter();
        let groups = groups.map(|group| ("as-group", Some(group.clone())));
        let extra = self.impersonate_user_extra.iter();
        let extra = extra.map(|(key, value)| ("as-user-extra", Some(format!("{key}={value}"))));
        let insecure = self
            .insecure_skip_tls_verify
            .then_some(("insecure-skip-tls-verify", None));
        Kubectl::new(single.chain(groups).chain(extra).chain(insecure))
    }
}
