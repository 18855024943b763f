//! Locates the cluster in Azure by the options of the user.

use std::path::PathBuf;

use super::{
    Arm, ArmOptions, Cloud, ClusterHints, LoginKind, LoginOptions, Result, Scope, Search, find_cluster,
};
use crate::defender::identity::ClusterIdentity;
use crate::net::Environment;

/// The options for Azure.
#[derive(Clone, Debug, Default)]
pub struct AzureOptions {
    /// The resource ID of the cluster.
    pub resource_id: Option<String>,
    /// The subscription to search.
    pub subscription: Option<String>,
    /// The cloud; the default follows the host of the API server.
    pub cloud: Option<Cloud>,
    /// The kind of login.
    pub login: Option<LoginKind>,
    /// The tenant of the login.
    pub tenant: Option<String>,
    /// A PEM file with certificates to trust besides those of the system.
    pub certificate_authority: Option<PathBuf>,
}

/// The result of a search for a cluster in Azure.
#[derive(Clone)]
pub struct Located {
    /// The connection.
    pub arm: Arm,
    /// The cluster, if it was found, and the searches.
    pub search: Search,
    /// The scope of the alerts: that of the cluster, or the subscription of the options.
    pub scope: Option<Scope>,
}

impl AzureOptions {
    /// Reports whether options or the cluster itself refer to Azure.
    pub fn name_azure(&self, marks: &ClusterIdentity) -> bool {
        let is_named = self.resource_id.is_some() || self.subscription.is_some();
        is_named || marks.name_azure() || marks.foreign().is_some()
    }

    /// Reports whether a cluster of a connector is no other resource as well: the user named it, or it is known not to
    /// be Arc-connected.
    pub fn certain(&self, marks: &ClusterIdentity) -> bool {
        self.resource_id.is_some() || marks.without_arc()
    }
}

/// Locates a cluster in Azure.
///
/// # Errors
/// If a setting is invalid, no login is available, or [`find_cluster`] fails.
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
