//! What tells, without asking any cloud, which cluster of which cloud this is.

use std::collections::BTreeMap;

use super::sensor::Cloud;

/// How the names end that AKS gives to API servers.
const AKS: [(&str, Azure); 4] = [
    (".azmk8s.io", Azure::Public),
    (".azmk8s.us", Azure::UsGovernment),
    (".containerservice.azure.us", Azure::UsGovernment),
    (".azk8s.cn", Azure::China),
];

/// One of Microsoft's clouds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Azure {
    /// That of most people.
    Public,
    /// That of the government of the United States.
    UsGovernment,
    /// That in China.
    China,
}

impl Azure {
    /// The cloud of the AKS cluster whose API server has this name; nothing for any other.
    pub fn of_server(host: &str) -> Option<Self> {
        let host = host.to_ascii_lowercase();
        let known = AKS.iter().find(|(end, _)| host.ends_with(end));
        known.map(|(_, cloud)| *cloud)
    }
}

/// What a kubeconfig and the cluster itself say of where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Host name or address of the API server.
    pub server: Option<String>,
    /// The kubeconfig's name for the cluster.
    pub name: Option<String>,
    /// Whose its nodes are, by their labels.
    pub cloud: Option<Cloud>,
    /// The resource group of its nodes, by the label that AKS gives them: `kubernetes.azure.com/cluster`.
    pub node_resource_group: Option<String>,
    /// `spec.providerID` of some nodes.
    pub provider_ids: Vec<String>,
    /// What Azure Arc notes in the cluster about its resource: the `ConfigMap` `azure-clusterconfig`, empty where
    /// there is none; or why that could not be read. Nothing where the cluster was not asked.
    pub arc: Option<Result<BTreeMap<String, String>, String>>,
}

/// A cluster of another cloud, which Defender knows by a connector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elsewhere<'a> {
    /// In Amazon EKS.
    Eks {
        /// The id of its account.
        account: &'a str,
        /// Its name there.
        cluster: &'a str,
    },
    /// In Google GKE.
    Gke {
        /// The id of its project.
        project: &'a str,
        /// Its name there.
        cluster: &'a str,
    },
}

impl Marks {
    /// What a kubeconfig says: the API server's URL, and the name of the cluster.
    pub fn of_kubeconfig(server: &str, name: Option<&str>) -> Self {
        let uri = server.parse::<http::Uri>().ok();
        Self {
            server: uri.and_then(|uri| uri.host().map(str::to_owned)),
            name: name.map(str::to_owned),
            ..Self::default()
        }
    }

    /// Whether Azure Arc is known not to connect the cluster.
    pub fn without_arc(&self) -> bool {
        matches!(&self.arc, Some(Ok(noted)) if noted.is_empty())
    }

    /// Whether Azure Arc is known to connect the cluster.
    pub fn with_arc(&self) -> bool {
        matches!(&self.arc, Some(Ok(noted)) if !noted.is_empty())
    }

    /// Whether anything says that Azure knows the cluster.
    pub fn name_azure(&self) -> bool {
        self.with_arc()
            || self.node_resource_group.is_some()
            || self.provider_ids.iter().any(|id| id.starts_with("azure://"))
            || self.server.as_deref().and_then(Azure::of_server).is_some()
    }

    /// The cluster of another cloud that the kubeconfig's name says it is, as `aws eks update-kubeconfig`
    /// (`arn:aws:eks:REGION:ACCOUNT:cluster/NAME`) and `gcloud container clusters get-credentials`
    /// (`gke_PROJECT_LOCATION_NAME`) write it.
    pub fn elsewhere(&self) -> Option<Elsewhere<'_>> {
        let name = self.name.as_deref()?;
        let arn: Vec<&str> = name.split(':').collect();
        let gke: Vec<&str> = name.split('_').collect();
        match (&arn[..], &gke[..]) {
            (["arn", _, "eks", _, account, cluster], _) => {
                let cluster = cluster.strip_prefix("cluster/")?;
                Some(Elsewhere::Eks { account, cluster })
            }
            (_, ["gke", project, _, cluster]) => Some(Elsewhere::Gke { project, cluster }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_a_cloud_gave_says_where_the_cluster_is() {
        let named = |name: &str| Marks::of_kubeconfig("https://10.0.0.1:443", Some(name));
        let eks = named("arn:aws:eks:eu-west-1:111122223333:cluster/blue");
        let (account, cluster) = ("111122223333", "blue");
        assert_eq!(eks.elsewhere(), Some(Elsewhere::Eks { account, cluster }));
        let gke = named("gke_shop-1_europe-west1-b_blue");
        let project = "shop-1";
        assert_eq!(gke.elsewhere(), Some(Elsewhere::Gke { project, cluster }));
        for name in [
            "blue",
            "arn:aws:eks:r:a:nodegroup/blue",
            "gke_a_b",
            "arn:aws:s3:::x",
        ] {
            assert_eq!(named(name).elsewhere(), None, "{name}");
        }
    }

    #[test]
    fn any_mark_of_azure_is_one() {
        assert!(!Marks::of_kubeconfig("https://api.example.test", Some("blue")).name_azure());
        let named = Marks::of_kubeconfig("https://x-1.HCP.westeurope.azmk8s.io:443", None);
        assert_eq!(named.server.as_deref(), Some("x-1.HCP.westeurope.azmk8s.io"));
        let node = |id: &str| Marks {
            provider_ids: vec![id.to_owned()],
            ..Marks::default()
        };
        assert!(named.name_azure() && node("azure:///subscriptions/s").name_azure());
        assert!(!node("aws:///eu-west-1a/i-1").name_azure());
    }
}
