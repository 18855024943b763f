//! Identifies a cluster to its cloud by its kubeconfig entry and its own objects, without asking the cloud.

use std::collections::BTreeMap;

use super::alerts::Cloud;

/// Suffixes of the names of AKS API servers.
const AKS: [(&str, Azure); 4] = [
    (".azmk8s.io", Azure::Public),
    (".azmk8s.us", Azure::UsGovernment),
    (".containerservice.azure.us", Azure::UsGovernment),
    (".azk8s.cn", Azure::China),
];

/// A cloud of Microsoft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Azure {
    /// The commercial cloud.
    Public,
    /// Azure Government, of the United States.
    UsGovernment,
    /// Azure China.
    China,
}

impl Azure {
    /// Returns the cloud of an AKS cluster by the name of its API server.
    pub fn of_server(host: &str) -> Option<Self> {
        let host = host.to_ascii_lowercase();
        let known = AKS.iter().find(|(suffix, _)| host.ends_with(suffix));
        known.map(|(_, cloud)| *cloud)
    }
}

/// What a kubeconfig entry and the cluster itself reveal about its identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterIdentity {
    /// Host name or address of the API server.
    pub server: Option<String>,
    /// The kubeconfig's name for the cluster.
    pub name: Option<String>,
    /// The provider, by the labels of the nodes.
    pub cloud: Option<Cloud>,
    /// The resource group of the nodes, by the label of AKS: `kubernetes.azure.com/cluster`.
    pub node_resource_group: Option<String>,
    /// `spec.providerID` of some nodes.
    pub provider_ids: Vec<String>,
    /// The `ConfigMap` `azure-clusterconfig` of Azure Arc, which names the resource; empty if there is none, or the error
    /// if it cannot be read. `None` if the cluster was not asked.
    pub arc: Option<Result<BTreeMap<String, String>, String>>,
}

/// A cluster in another cloud, which a connector makes known to Defender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForeignCluster<'a> {
    /// An Amazon EKS cluster.
    Eks {
        /// ID of the account.
        account: &'a str,
        /// Name of the cluster in the cloud.
        cluster: &'a str,
    },
    /// A Google GKE cluster.
    Gke {
        /// ID of the project.
        project: &'a str,
        /// Name of the cluster in the cloud.
        cluster: &'a str,
    },
}

impl ClusterIdentity {
    /// Takes the API server's URL and the name of the cluster from a kubeconfig entry.
    pub fn of_kubeconfig(server: &str, name: Option<&str>) -> Self {
        let uri = server.parse::<http::Uri>().ok();
        Self {
            server: uri.and_then(|uri| uri.host().map(str::to_owned)),
            name: name.map(str::to_owned),
            ..Self::default()
        }
    }

    /// Whether the cluster is known not to be connected by Azure Arc.
    pub fn without_arc(&self) -> bool {
        matches!(&self.arc, Some(Ok(config)) if config.is_empty())
    }

    /// Whether the cluster is known to be connected by Azure Arc.
    pub fn with_arc(&self) -> bool {
        matches!(&self.arc, Some(Ok(config)) if !config.is_empty())
    }

    /// Whether anything indicates that Azure knows the cluster.
    pub fn name_azure(&self) -> bool {
        self.with_arc()
            || self.node_resource_group.is_some()
            || self.provider_ids.iter().any(|id| id.starts_with("azure://"))
            || self.server.as_deref().and_then(Azure::of_server).is_some()
    }

    /// Returns the cluster in another cloud that the kubeconfig's name identifies, as `aws eks update-kubeconfig`
    /// (`arn:aws:eks:REGION:ACCOUNT:cluster/NAME`) and `gcloud container clusters get-credentials`
    /// (`gke_PROJECT_LOCATION_NAME`) write it.
    pub fn foreign(&self) -> Option<ForeignCluster<'_>> {
        let name = self.name.as_deref()?;
        let arn: Vec<&str> = name.split(':').collect();
        let gke: Vec<&str> = name.split('_').collect();
        match (&arn[..], &gke[..]) {
            (["arn", _, "eks", _, account, cluster], _) => {
                let cluster = cluster.strip_prefix("cluster/")?;
                Some(ForeignCluster::Eks { account, cluster })
            }
            (_, ["gke", project, _, cluster]) => Some(ForeignCluster::Gke { project, cluster }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_written_by_a_cloud_identifies_the_cluster() {
        let named = |name: &str| ClusterIdentity::of_kubeconfig("https://10.0.0.1:443", Some(name));
        let eks = named("arn:aws:eks:eu-west-1:111122223333:cluster/blue");
        let (account, cluster) = ("111122223333", "blue");
        assert_eq!(eks.foreign(), Some(ForeignCluster::Eks { account, cluster }));
        let gke = named("gke_shop-1_europe-west1-b_blue");
        let project = "shop-1";
        assert_eq!(gke.foreign(), Some(ForeignCluster::Gke { project, cluster }));
        for name in [
            "blue",
            "arn:aws:eks:r:a:nodegroup/blue",
            "gke_a_b",
            "arn:aws:s3:::x",
        ] {
            assert_eq!(named(name).foreign(), None, "{name}");
        }
    }

    #[test]
    fn any_sign_of_azure_is_enough() {
        assert!(!ClusterIdentity::of_kubeconfig("https://api.example.test", Some("blue")).name_azure());
        let named = ClusterIdentity::of_kubeconfig("https://x-1.HCP.westeurope.azmk8s.io:443", None);
        assert_eq!(named.server.as_deref(), Some("x-1.HCP.westeurope.azmk8s.io"));
        let node = |id: &str| ClusterIdentity {
            provider_ids: vec![id.to_owned()],
            ..ClusterIdentity::default()
        };
        assert!(named.name_azure() && node("azure:///subscriptions/s").name_azure());
        assert!(!node("aws:///eu-west-1a/i-1").name_azure());
    }
}
