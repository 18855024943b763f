//! The only place that talks to Kubernetes.
//!
//! Every call is bounded, names in its error what it was doing to which object, and changes or removes
//! only what its caller names with kind, name and UID.

pub mod connect;
pub mod explain;
pub mod kubeconfig;
mod others;
pub mod warnings;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{AsyncBufRead, Stream, StreamExt, TryStreamExt, future, stream};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Node, Pod};
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, LogParams, Patch, PatchParams, PostParams,
    Preconditions,
};
use kube::core::{GroupVersionKind, PartialObjectMeta};
use kube::discovery::{Discovery, Scope, verbs};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};

use crate::defender::marks::Marks;
use crate::defender::sensor::Cloud;
use crate::guard::Label;
use crate::manifest::{Kind, Manifest, OWNER, OWNER_LABEL, RUN_LABEL, Right};
use crate::untrusted;
use explain::{Cause, Explained, explain, explain_watch};
pub use others::Which;

/// Bound of one call unless the user gives another; watches and followed logs are bounded by their callers.
pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Calls under way at once where many are made.
const PARALLEL: usize = 16;
/// Objects asked for at once where there may be many.
const PAGE: u32 = 500;

/// How many nodes are looked at to see what a cluster is for: node pools are labelled alike.
const NODES: u32 = 100;

/// A call to the cluster that did not work.
#[derive(Clone, Debug, thiserror::Error)]
#[error("failed to {doing}: {}", explained.message)]
pub struct ClusterError {
    /// What was being done, completing "failed to ...".
    pub doing: String,
    /// Why it did not work.
    pub explained: Explained,
}

impl ClusterError {
    /// Whether asking again would be of no use: the answer is about the question, not about the moment.
    pub fn is_final(&self) -> bool {
        let passing = [Cause::Unreachable, Cause::TimedOut, Cause::Busy, Cause::Other];
        !passing.contains(&self.explained.cause)
    }

    /// Whether the object was not there.
    pub fn is_not_found(&self) -> bool {
        self.explained.cause == Cause::NotFound
    }
}

type Result<T> = std::result::Result<T, ClusterError>;

/// An object seen in the cluster: its metadata only, so that no secret is ever read back.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// What it is.
    pub kind: Kind,
    /// Where it is; `None` for a namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Which object of that name.
    pub uid: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Whether it is already being removed.
    pub terminating: bool,
}

impl Found {
    /// Whether this tool made it.
    pub fn is_ours(&self) -> bool {
        self.labels.get(OWNER_LABEL).is_some_and(|owner| owner == OWNER)
    }

    /// The run it belongs to.
    pub fn run(&self) -> Option<&str> {
        self.labels.get(RUN_LABEL).map(String::as_str)
    }

    /// Kind and name as kubectl prints them.
    pub fn reference(&self) -> String {
        format!("{}/{}", self.kind.singular(), self.name)
    }

    fn new(kind: Kind, object: &impl ResourceExt) -> Self {
        Self {
            kind,
            namespace: object.namespace(),
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            labels: object.labels().clone(),
            annotations: object.annotations().clone(),
            terminating: object.meta().deletion_timestamp.is_some(),
        }
    }
}

/// Labels of everything this tool made, or of one run.
pub fn selector(run: Option<&str>) -> String {
    match run {
        Some(run) => format!("{OWNER_LABEL}={OWNER},{RUN_LABEL}={run}"),
        None => format!("{OWNER_LABEL}={OWNER}"),
    }
}

/// A connection to one cluster.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    request_timeout: Duration,
}

impl Cluster {
    /// Wraps a client; `request_timeout` bounds each single call.
    pub fn new(client: Client, request_timeout: Duration) -> Self {
        Self {
            client,
            request_timeout,
        }
    }

    async fn call<T>(
        &self,
        doing: impl FnOnce() -> String,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T> {
        let explained = match tokio::time::timeout(self.request_timeout, call).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => explain(&error),
            Err(_) => Explained {
                cause: Cause::TimedOut,
                message: format!("no answer within {} s", self.request_timeout.as_secs()),
                hint: Some("give the cluster more time with --request-timeout".into()),
            },
        };
        Err(ClusterError {
            doing: doing(),
            explained,
        })
    }

    fn api(&self, kind: Kind, namespace: Option<&str>) -> Api<DynamicObject> {
        let gvk = GroupVersionKind::gvk(kind.group(), kind.version(), kind.kind());
        let resource = ApiResource::from_gvk_with_plural(&gvk, kind.plural());
        match namespace {
            Some(namespace) if kind != Kind::Namespace => {
                Api::namespaced_with(self.client.clone(), namespace, &resource)
            }
            _ => Api::all_with(self.client.clone(), &resource),
        }
    }

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
                    group: Some(right.kind.group().to_owned()),
                    resource: Some(right.kind.plural().to_owned()),
                    subresource: Some(right.subresource.to_owned()).filter(|s| !s.is_empty()),
                    verb: Some(right.verb.to_owned()),
                    namespace: Some(namespace.to_owned()),
                    name: (right.kind == Kind::Namespace).then(|| namespace.to_owned()),
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

    /// One object's metadata, or `None` where there is none.
    pub async fn get(&self, kind: Kind, namespace: &str, name: &str) -> Result<Option<Found>> {
        let api = self.api(kind, Some(namespace));
        let found = self
            .call(|| format!("get {}/{name}", kind.singular()), async {
                api.get_metadata_opt(name).await
            })
            .await?;
        Ok(found.map(|object| Found::new(kind, &object)))
    }

    /// The objects of one kind that this tool made, in one namespace or in all.
    pub async fn list(&self, kind: Kind, namespace: Option<&str>, selector: &str) -> Result<Vec<Found>> {
        let api = self.api(kind, namespace);
        let mut parameters = ListParams::default().labels(selector).limit(PAGE);
        let mut found = vec![];
        loop {
            let page = self
                .call(
                    || format!("list {} in {}", kind.plural(), place(namespace)),
                    api.list_metadata(&parameters),
                )
                .await?;
            found.extend(page.items.iter().map(|object| Found::new(kind, object)));
            match page.metadata.continue_.filter(|next| !next.is_empty()) {
                Some(next) => parameters.continue_token = Some(next),
                None => return Ok(found),
            }
        }
    }

    /// Everything this tool made in one namespace or in all, but for namespaces themselves.
    pub async fn list_all(&self, namespace: Option<&str>, selector: &str) -> Result<Vec<Found>> {
        let lists = Kind::NAMESPACED.map(|kind| self.list(kind, namespace, selector));
        Ok(future::try_join_all(lists).await?.concat())
    }

    /// Makes an object that must not be there yet; gives it also as the API server has it now.
    pub async fn create(&self, manifest: &Manifest, namespace: &str) -> Result<(Found, serde_json::Value)> {
        let api = self.api(manifest.kind, Some(namespace));
        let object: DynamicObject = typed(&manifest.object);
        let parameters = PostParams {
            field_manager: Some(OWNER.to_owned()),
            ..PostParams::default()
        };
        let made = self
            .call(
                || format!("create {}", manifest.reference()),
                api.create(&parameters, &object),
            )
            .await?;
        Ok((Found::new(manifest.kind, &made), made.data))
    }

    /// Shows an object to the API server, which admits or refuses it and keeps nothing.
    pub async fn admit(&self, manifest: &Manifest, namespace: &str) -> Result<()> {
        let api = self.api(manifest.kind, Some(namespace));
        let object: DynamicObject = typed(&manifest.object);
        let parameters = PostParams {
            dry_run: true,
            field_manager: Some(OWNER.to_owned()),
        };
        self.call(
            || format!("create {} in a dry run", manifest.reference()),
            api.create(&parameters, &object),
        )
        .await?;
        Ok(())
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

    /// Server-side apply, without force: a field that somebody else owns is a conflict, never a change.
    pub async fn apply(&self, manifest: &Manifest, namespace: &str) -> Result<Found> {
        let api = self.api(manifest.kind, Some(namespace));
        let parameters = PatchParams::apply(OWNER).validation_strict();
        let patch = Patch::Apply(&manifest.object);
        let made = self
            .call(|| format!("apply {}", manifest.reference()), async {
                api.patch(&manifest.name, &parameters, &patch).await
            })
            .await?;
        Ok(Found::new(manifest.kind, &made))
    }

    /// Merges `patch`, which names the pod's UID, into a pod of ours: another one of that name is not changed.
    pub async fn patch_pod(&self, namespace: &str, name: &str, patch: &serde_json::Value) -> Result<()> {
        let api = self.api(Kind::Pod, Some(namespace));
        let parameters = PatchParams {
            field_manager: Some(OWNER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(patch);
        self.call(
            || format!("patch pod/{name}"),
            api.patch_metadata(name, &parameters, &patch),
        )
        .await?;
        Ok(())
    }

    /// Removes exactly the object that was found; one that is gone already is as good.
    pub async fn delete(&self, object: &Found) -> Result<()> {
        let api = self.api(object.kind, object.namespace.as_deref());
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(object.uid.clone()),
                resource_version: None,
            }),
            ..DeleteParams::background()
        };
        let deleted = self
            .call(
                || format!("delete {}", object.reference()),
                api.delete(&object.name, &parameters),
            )
            .await;
        match deleted {
            Err(error) if error.is_not_found() => Ok(()),
            // Another object of that name took its place: the one that was found is gone.
            Err(error) if error.explained.cause == Cause::Conflict => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Ends when the object is gone, or another one has its name. The caller bounds it.
    pub async fn gone(&self, object: &Found) {
        let api = self.api(object.kind, object.namespace.as_deref());
        let deleted = || kube::runtime::conditions::is_deleted(&object.uid);
        while kube::runtime::wait::await_condition(api.clone(), &object.name, deleted())
            .await
            .is_err()
        {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// The pods of a run, each time one of them changes; `None` for one that was removed.
    pub fn watch_pods(&self, namespace: &str, selector: &str) -> impl Stream<Item = PodChange> + use<> {
        let api = Api::<Pod>::namespaced(self.client.clone(), namespace);
        let config = watcher::Config::default().labels(selector);
        watcher(api, config).default_backoff().filter_map(|event| {
            future::ready(match event {
                Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => {
                    Some(PodChange::Seen(Box::new(pod)))
                }
                Ok(watcher::Event::Delete(pod)) => Some(PodChange::Removed(pod.name_any())),
                Ok(watcher::Event::Init | watcher::Event::InitDone) => None,
                Err(error) => Some(PodChange::Trouble(explain_watch(&error).message)),
            })
        })
    }

    /// One pod, whole.
    pub async fn pod(&self, namespace: &str, name: &str) -> Result<Option<Pod>> {
        let api = Api::<Pod>::namespaced(self.client.clone(), namespace);
        self.call(|| format!("get pod/{name}"), api.get_opt(name)).await
    }

    /// What the cluster has to say about an object, oldest first; empty where events cannot be read.
    pub async fn events(&self, namespace: &str, uid: &str) -> Vec<Event> {
        let api = Api::<Event>::namespaced(self.client.clone(), namespace);
        let parameters = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
        let list = self.call(|| "list events".into(), api.list(&parameters)).await;
        let mut events = list.map(|list| list.items).unwrap_or_default();
        events.sort_by_key(|event| {
            event
                .resource_version()
                .and_then(|version| version.parse::<u64>().ok())
        });
        events
    }

    /// The log of a pod's container from its beginning, followed. The first answer is bounded, the stream is not.
    pub async fn follow_log(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Result<impl AsyncBufRead + use<>> {
        let api = Api::<Pod>::namespaced(self.client.clone(), namespace);
        let parameters = LogParams {
            follow: true,
            // Others may have been put beside it.
            container: Some(container.to_owned()),
            ..LogParams::default()
        };
        self.call(
            || format!("follow the log of pod/{pod}"),
            api.log_stream(pod, &parameters),
        )
        .await
    }

    /// One object in the namespace that is neither ours nor put there by Kubernetes itself, or the reason why
    /// that cannot be told. A namespace with such an object is not removed.
    pub async fn foreign_object(&self, namespace: &str) -> Result<Option<String>> {
        let discovery = self
            .call(|| "discover what kinds of object there are".into(), async {
                Discovery::new(self.client.clone()).run_aggregated().await
            })
            .await?;
        let kinds: Vec<ApiResource> = discovery
            .groups()
            // Every kind of every version: some are not served in the version that a group prefers.
            .flat_map(kube::discovery::ApiGroup::resources_by_stability)
            .filter(|(resource, capabilities)| {
                // Endpoints follow services; asking for them only earns a warning of deprecation.
                resource.plural != "endpoints"
                    && capabilities.scope == Scope::Namespaced
                    && capabilities.supports_operation(verbs::LIST)
                    && capabilities.supports_operation(verbs::DELETE)
            })
            .map(|(resource, _)| resource)
            .collect();
        let looks = stream::iter(kinds).map(|resource| async move {
            let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), namespace, &resource);
            let doing = || format!("list {} in namespace {namespace}", resource.plural);
            match self
                .call(doing, api.list_metadata(&ListParams::default().limit(50)))
                .await
            {
                Ok(list) => Ok(list
                    .items
                    .iter()
                    .find(|object| !expected_in_our_namespace(&resource.plural, object))
                    .map(|object| {
                        untrusted::line(&format!("{}/{}", resource.kind.to_lowercase(), object.name_any()))
                    })),
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(error),
            }
        });
        let found: Vec<Option<String>> = looks.buffer_unordered(PARALLEL).try_collect().await?;
        Ok(found.into_iter().flatten().next())
    }
}

/// A change among the pods of a run.
#[derive(Debug)]
pub enum PodChange {
    /// It is there and looks like this.
    Seen(Box<Pod>),
    /// It is gone.
    Removed(String),
    /// The watch has trouble and goes on.
    Trouble(String),
}

/// Service accounts of every namespace: Kubernetes' own, and those that `OpenShift` adds.
const ACCOUNTS: [&str; 3] = ["default", "builder", "deployer"];

/// What Kubernetes, `OpenShift` and Istio put into every namespace, and what hangs by objects of ours.
fn expected_in_our_namespace(plural: &str, object: &PartialObjectMeta<DynamicObject>) -> bool {
    let ours = object
        .labels()
        .get(OWNER_LABEL)
        .is_some_and(|owner| owner == OWNER);
    let by_kubernetes = match plural {
        "events" => true,
        "configmaps" => matches!(
            object.name_any().as_str(),
            "kube-root-ca.crt" | "openshift-service-ca.crt" | "istio-ca-root-cert"
        ),
        "serviceaccounts" => ACCOUNTS.contains(&object.name_any().as_str()),
        // OpenShift: how each service account pulls images, and who may use the namespace's own.
        "secrets" => ACCOUNTS.iter().any(|account| {
            let name = object.name_any();
            let rest = name.strip_prefix(account);
            rest.is_some_and(|rest| rest.starts_with("-dockercfg-") || rest.starts_with("-token-"))
        }),
        "rolebindings" => matches!(
            object.name_any().as_str(),
            "system:deployers" | "system:image-builders" | "system:image-pullers"
        ),
        // Made for our services and pods; removed with them.
        "endpointslices" | "podmetrics" => object.name_any().starts_with("mdc-simulation-"),
        _ => false,
    };
    ours || by_kubernetes
}

fn place(namespace: Option<&str>) -> String {
    namespace.map_or_else(|| "all namespaces".to_owned(), |name| format!("namespace {name}"))
}

fn typed<T: serde::de::DeserializeOwned>(object: &serde_json::Value) -> T {
    serde_json::from_value(object.clone()).expect("a manifest is always a Kubernetes object")
}
