//! What a cluster says about itself and about its caller.

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
use crate::defender::marks::Marks;
use crate::defender::sensor::Cloud;
use crate::guard::Label;
use crate::manifest::Right;
use crate::net::Cause;

/// How many nodes are looked at to see what a cluster is for: node pools are labelled alike.
const NODES: u32 = 100;

impl Cluster {
    /// The API server's version, such as `v1.34.4`.
    pub async fn version(&self) -> Result<String> {
        let info = self
            .call(|| "reach the cluster".into(), self.client.apiserver_version())
            .await?;
        Ok(info.git_version)
    }

    /// Who the API server takes the caller for; `None` where it does not say (before Kubernetes 1.28).
    pub async fn whoami(&self) -> Result<Option<String>> {
        let api = Api::<SelfSubjectReview>::all(self.client.clone());
        let parameters = PostParams::default();
        let review = SelfSubjectReview::default();
        match self
            .call(
                || "ask the cluster who is calling".into(),
                api.create(&parameters, &review),
            )
            .await
        {
            Ok(review) => Ok(review.status.and_then(|s| s.user_info).and_then(|u| u.username)),
            Err(error) if matches!(error.explained.cause, Cause::NotFound | Cause::Forbidden) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Of `rights`, those that the caller does not have in `namespace`.
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
                    namespace: Some(namespace.to_owned()),
                    name: right.is_on_namespaces().then(|| namespace.to_owned()),
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
                    .call(
                        || "ask the cluster for rights".into(),
                        api.create(parameters, &review),
                    )
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

    /// Labels of some nodes; none where they cannot be read, which takes a right that a run does not need.
    pub async fn node_labels(&self) -> Vec<Label> {
        let api = Api::<Node>::all(self.client.clone());
        let parameters = ListParams::default().limit(NODES);
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

    /// `known`, and what the cluster itself says about the cloud it is in; nothing of what cannot be read.
    pub async fn marks(&self, known: Marks) -> Marks {
        let nodes = Api::<Node>::all(self.client.clone());
        let maps = Api::<ConfigMap>::namespaced(self.client.clone(), "azure-arc");
        let some = ListParams::default().limit(5);
        let (nodes, map) = tokio::join!(
            self.call(|| "list nodes".into(), nodes.list(&some)),
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
        Marks {
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

    /// A node, or `None` if no node has this name. Takes a right that a run does not need.
    pub async fn node(&self, name: &str) -> Result<Option<Node>> {
        let api = Api::<Node>::all(self.client.clone());
        self.call(|| format!("get node/{name}"), api.get_opt(name)).await
    }
}
