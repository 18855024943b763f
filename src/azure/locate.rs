//! From what the user says to a cluster in Azure, and to somebody who may ask about it.

use std::path::PathBuf;

use super::{
    Arm, ArmOptions, Cloud, ClusterHints, Environment, LoginKind, LoginOptions, Result, Scope, Search,
    find_cluster,
};
use crate::defender::identity::ClusterIdentity;

/// What the user says of Azure. All of it may be left out.
#[derive(Clone, Debug, Default)]
pub struct AzureOptions {
    /// The cluster's id.
    pub resource_id: Option<String>,
    /// The subscription to look in.
    pub subscription: Option<String>,
    /// Which cloud; that of the API server's name, or the public one, unless it is said.
    pub cloud: Option<Cloud>,
    /// How to log in.
    pub login: Option<LoginKind>,
    /// The tenant to log in to.
    pub tenant: Option<String>,
    /// File with certificates to trust besides the system's.
    pub certificate_authority: Option<PathBuf>,
}

/// A cluster that was looked for in Azure.
#[derive(Clone)]
pub struct Located {
    /// Who asks.
    pub arm: Arm,
    /// The cluster, where it was found, and what was tried.
    pub search: Search,
    /// Where its alerts are: that of the cluster, or all of the subscription that was named.
    pub scope: Option<Scope>,
}

impl AzureOptions {
    /// Whether anything says that Azure knows the cluster.
    pub fn name_azure(&self, marks: &ClusterIdentity) -> bool {
        let said = self.resource_id.is_some() || self.subscription.is_some();
        said || marks.name_azure() || marks.foreign().is_some()
    }

    /// Whether a cluster that is found by a connector is no other resource as well: the user named it, or Azure Arc is
    /// known not to connect it.
    pub fn certain(&self, marks: &ClusterIdentity) -> bool {
        self.resource_id.is_some() || marks.without_arc()
    }
}

/// Looks for a cluster in Azure.
///
/// # Errors
///
/// A setting that cannot be used, no login, and those of [`find_cluster`].
pub async fn locate(options: &AzureOptions, marks: ClusterIdentity) -> Result<Located> {
    let server = marks.server.as_deref().unwrap_or_default();
    let cloud = match &options.cloud {
        Some(cloud) => cloud.clone(),
        None => Cloud::of_server(server)?,
    };
    let arm = Arm::new(ArmOptions {
        cloud,
        login: LoginOptions {
            only: options.login,
            tenant: options.tenant.clone(),
            managed_identity: None,
        },
        certificate_authority: options.certificate_authority.clone(),
        environment: Environment::from_process(),
        ..ArmOptions::default()
    })?;
    let hints = ClusterHints {
        resource_id: options.resource_id.clone(),
        subscription: options.subscription.clone(),
        marks,
    };
    let search = find_cluster(&arm, &hints).await?;
    let scope = match (&search.found, &options.subscription) {
        (Some(cluster), _) => Some(cluster.scope()?),
        (None, Some(subscription)) => Some(Scope::new(subscription, None)?),
        (None, None) => None,
    };
    Ok(Located { arm, search, scope })
}
