//! Facts about the cluster and the caller.

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::ResourceExt;
use kube::api::{Api, ListParams, PostParams};
use kube::core::PartialObjectMeta;

use super::{Cluster, PARALLEL, Result};
use crate::defender::alerts::Cloud;
use crate::defender::identity::ClusterIdentity;
use crate::guard::Label;
use crate::manifest::Right;
use crate::net::Cause;

/// Limit of the nodes whose labels are read; the nodes of a pool have the same labels.
const MAX_NODES: u32 = 100;

impl Cluster {
    /// Returns the version of the API server, such as `v1.34.4`.
    pub async fn version(&self) -> Result<String> {
        let info = self
            .call(|| "reach the cluster".into(), self.client.apiserver_version())
            .await?;
        Ok(info.git_version)
    }

    /// Returns the name that the caller is authenticated as, or `None` before Kubernetes 1.28.
    pub async fn whoami(&self) -> Result<Option<String>> {
        let api = Api::<SelfSubjectReview>::all(self.client.clone());
        let parameters = PostParams::default();
        let review = SelfSubjectReview::default();
        match self
            .call(
                || "get the identity of the caller".into(),
                api.create(&parameters, &review),
            )
            .await
        {
            Ok(review) => Ok(review.status.and_then(|s| s.user_info).and_then(|u| u.username)),
            Err(error) if matches!(error.explained.cause, Cause::NotFound | Cause::Forbidden) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns those of `rights` that the caller does not have in `namespace`.
    pub async fn missing_rights(&self, namespace: &str, rights: &[Right]) -> Result<Vec<Right>> {
        let api = Api::<SelfSubjectAccessReview>::all(self.client.clone());
        let parameters = PostParams::default();
        let answers = stream::iter(rights.to_vec()).map(|right| {
            let (api, parameters) = (&api, &parameters);
            async move {
                let attributes = ResourceAttributes {
                    group: Some(right.group.to_owned()),
                    resource: Some(right.resource.to_owned()),
                    subresource: Some(right.subresource.to_owned()).filter(|s| !s.is_empty()),
                    verb: Some(right.verb.to_owned()),
                    namespace: Some(namespace.to_owned())
                        .filter(|_| right.is_namespaced || right.is_on_namespaces()),
                    name: right
                        .name
                        .clone()
                        .or_else(|| right.is_on_namespaces().then(|| namespace.to_owned())),
                    ..ResourceAttributes::default()
                };
                let review = SelfSubjectAccessReview {
                    spec: SelfSubjectAccessReviewSpec {
                        resource_attributes: Some(attributes),
                        ..SelfSubjectAccessReviewSpec::default()
                    },
                    ..SelfSubjectAccessReview::default()
                };
                let review = self
                    .call(|| "check permissions".into(), api.create(parameters, &review))
                    .await?;
                Ok((right, review.status.is_some_and(|status| status.allowed)))
            }
        });
        let answers: Vec<(Right, bool)> = answers.buffered(PARALLEL).try_collect().await?;
        Ok(answers
            .into_iter()
            .filter(|(_, allowed)| !allowed)
            .map(|(right, _)| right)
            .collect())
    }

    /// Returns labels of nodes, or none if the caller must not read them.
    pub async fn node_labels(&self) -> Vec<Label> {
        let api = Api::<Node>::all(self.client.clone());
        let parameters = ListParams::default().limit(MAX_NODES);
        let nodes = self
            .call(|| "list nodes".into(), api.list_metadata(&parameters))
            .await;
        let nodes = nodes.map(|list| list.items).unwrap_or_default();
        let labels = |node: &PartialObjectMeta<Node>| {
            let object = format!("node/{}", node.name_any());
            let labels = node.labels().clone().into_iter();
            labels.map(move |(key, value)| Label {
                object: object.clone(),
                key,
                value,
            })
        };
        nodes.iter().flat_map(labels).collect()
    }

    /// Adds what nodes and Azure Arc say about the cloud to `known`, as far as it can be read.
    pub async fn marks(&self, known: ClusterIdentity) -> ClusterIdentity {
        let nodes = Api::<Node>::all(self.client.clone());
        let maps = Api::<ConfigMap>::namespaced(self.client.clone(), "azure-arc");
        let parameters = ListParams::default().limit(5);
        let (nodes, map) = tokio::join!(
            self.call(|| "list nodes".into(), nodes.list(&parameters)),
            self.call(
                || "get configmap/azure-clusterconfig".into(),
                maps.get_opt("azure-clusterconfig")
            ),
        );
        let nodes = nodes.map(|list| list.items).unwrap_or_default();
        let group = nodes
            .iter()
            .find_map(|node| node.labels().get("kubernetes.azure.com/cluster"));
        let cloud = |node: &Node| Cloud::of_node(node.labels().keys().map(String::as_str));
        ClusterIdentity {
            cloud: nodes.iter().find_map(cloud),
            node_resource_group: group.cloned(),
            provider_ids: nodes
                .iter()
                .filter_map(|node| node.spec.as_ref()?.provider_id.clone())
                .collect(),
            arc: Some(match map {
                Ok(map) => Ok(map.and_then(|map| map.data).unwrap_or_default()),
                Err(error) => Err(error.to_string()),
            }),
            ..known
        }
    }

    /// Returns a node, or `None` if it does not exist. A run does not need this permission.
    pub async fn node(&self, name: &str) -> Result<Option<Node>> {
        let api = Api::<Node>::all(self.client.clone());
        self.call(|| format!("get node/{name}"), api.get_opt(name)).await
    }
}
