//! The only place that talks to Kubernetes.
//!
//! Every call is bounded, names in its error what it was doing to which object, and changes or removes
//! only what its caller names with kind, name and UID.

mod authenticate;
pub mod bounds;
pub mod connect;
pub mod explain;
mod identity;
pub mod kubeconfig;
mod others;
pub mod plugin;
mod survey;
pub mod warnings;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{AsyncBufRead, AsyncReadExt, Stream, StreamExt, TryStreamExt, future, stream};
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, LogParams, Patch, PatchParams, PostParams,
    Preconditions,
};
use kube::core::{GroupVersionKind, PartialObjectMeta, Selector, SelectorExt as _};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};

use crate::defender::identity::ClusterIdentity;
use crate::defender::sensor::Provider;
use crate::guard::Label;
use crate::kubectl::Kubectl;
use crate::manifest::{self, Kind, Manifest, OWNER, RUN_LABEL, Right};
use explain::{Cause, Explained, explain, explain_watch};
pub use others::Which;
pub use survey::Survey;

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
    /// UIDs of its owners.
    pub owners: Vec<String>,
    /// What has to happen before it can be deleted.
    pub finalizers: Vec<String>,
    /// When the API server created it, to the second; `None` if it does not exist yet.
    pub created: Option<Timestamp>,
    /// Whether its deletion has started.
    pub terminating: bool,
}

impl Found {
    /// Whether a run created it; see [`manifest::is_ours`].
    pub fn is_ours(&self) -> bool {
        manifest::is_ours(self.kind, &self.name, &self.labels)
    }

    /// The run it belongs to, as its labels name it.
    pub fn run(&self) -> Option<&str> {
        manifest::run_of(&self.labels)
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
            owners: object
                .owner_references()
                .iter()
                .map(|owner| owner.uid.clone())
                .collect(),
            finalizers: object.finalizers().to_vec(),
            created: object.creation_timestamp().map(|time| time.0),
            terminating: object.meta().deletion_timestamp.is_some(),
        }
    }
}

/// Label selector of one run, or of every run. What it selects is ours only if [`Found::is_ours`] agrees.
pub fn selector(run: Option<&str>) -> String {
    match run {
        Some(run) => format!("{RUN_LABEL}={run}"),
        None => RUN_LABEL.to_owned(),
    }
}

/// Whether a label selector matches these labels; an invalid selector matches none.
pub fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(labels))
}

/// A connection to one cluster.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    request_timeout: Duration,
    kubectl: Kubectl,
}

impl Cluster {
    /// Wraps a client; `request_timeout` bounds each single call.
    pub fn new(client: Client, request_timeout: Duration) -> Self {
        Self {
            client,
            request_timeout,
            kubectl: Kubectl::default(),
        }
    }

    /// Makes hints repeat the connection flags of `kubectl`.
    #[must_use]
    pub fn with_hints(self, kubectl: Kubectl) -> Self {
        Self { kubectl, ..self }
    }

    /// The commands of hints about this cluster.
    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    async fn call<T>(
        &self,
        doing: impl FnOnce() -> String,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T> {
        let explained = match tokio::time::timeout(self.request_timeout, call).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => {
                let explained = explain(&error);
                let hint = explained.hint.as_deref();
                Explained {
                    hint: hint.map(|hint| self.kubectl.complete(hint)),
                    ..explained
                }
            }
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

    /// The objects of one kind that a selector matches, in one namespace or in all.
    pub async fn list(&self, kind: Kind, namespace: Option<&str>, which: Which<'_>) -> Result<Vec<Found>> {
        let parameters = ListParams::default().labels(which.labels).fields(which.fields);
        let mut found = vec![];
        let what = format!("{} in {}", kind.plural(), place(namespace));
        self.each_metadata(self.api(kind, namespace), &parameters, what, |object| {
            found.push(Found::new(kind, &object));
            true
        })
        .await?;
        Ok(found)
    }

    /// Objects of every run or of `run`, in one namespace or in all, without namespaces themselves. Objects that
    /// carry the run label and are not ours are left out.
    pub async fn list_ours(&self, namespace: Option<&str>, run: Option<&str>) -> Result<Vec<Found>> {
        let labels = selector(run);
        let which = Which {
            labels: &labels,
            ..Which::default()
        };
        let lists = Kind::NAMESPACED.map(|kind| self.list(kind, namespace, which));
        let found = future::try_join_all(lists).await?.into_iter().flatten();
        Ok(found.filter(Found::is_ours).collect())
    }

    /// Hands the metadata of each object to `each`, page by page, until there are no more or it returns `false`.
    async fn each_metadata(
        &self,
        api: Api<DynamicObject>,
        parameters: &ListParams,
        what: String,
        mut each: impl FnMut(PartialObjectMeta<DynamicObject>) -> bool,
    ) -> Result<()> {
        let mut parameters = parameters.clone().limit(PAGE);
        loop {
            let page = self
                .call(|| format!("list {what}"), api.list_metadata(&parameters))
                .await?;
            if !page.items.into_iter().all(&mut each) {
                return Ok(());
            }
            match page.metadata.continue_.filter(|next| !next.is_empty()) {
                Some(next) => parameters.continue_token = Some(next),
                None => return Ok(()),
            }
        }
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
    pub async fn marks(&self, known: ClusterIdentity) -> ClusterIdentity {
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
        let cloud = |node: &Node| Provider::of_node(node.labels().keys().map(String::as_str));
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

    /// Merges `patch`, which names the object's UID, into an object of ours: another one of that name is not changed.
    pub async fn patch(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        patch: &serde_json::Value,
    ) -> Result<()> {
        let api = self.api(kind, Some(namespace));
        let parameters = PatchParams {
            field_manager: Some(OWNER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(patch);
        self.call(
            || format!("patch {}/{name}", kind.singular()),
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

    /// Ends when the object no longer exists, or another one has its name; reads it again and again, since a
    /// watch takes more rights than `get`. The caller bounds it.
    ///
    /// # Errors
    /// If the object may not be read.
    pub async fn gone(&self, object: &Found) -> Result<()> {
        let mut pause = Duration::from_millis(50);
        loop {
            let namespace = object.namespace.as_deref().unwrap_or(&object.name);
            match self.get(object.kind, namespace, &object.name).await {
                Ok(Some(found)) if found.uid == object.uid => {}
                Ok(_) => return Ok(()),
                Err(error) if error.is_final() => return Err(error),
                Err(_) => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(Duration::from_millis(500));
        }
    }

    /// Changes of these pods, each followed by its name and UID.
    pub fn watch_pods(
        &self,
        namespace: &str,
        pods: [(&'static str, String); 2],
    ) -> impl Stream<Item = PodChange> + Send + use<> {
        let watch = |(name, uid): (&'static str, String)| {
            let api = Api::<Pod>::namespaced(self.client.clone(), namespace);
            let changes = watcher::watch_object(api, name).default_backoff();
            let change = move |event| match event {
                Ok(Some(pod)) if Pod::uid(&pod).is_some_and(|seen| seen == uid) => {
                    PodChange::Seen(name, Box::new(pod))
                }
                Ok(Some(_)) => PodChange::Replaced(name),
                Ok(None) => PodChange::Deleted(name),
                Err(error) => PodChange::Trouble(explain_watch(&error).message),
            };
            changes.map(change).boxed()
        };
        stream::select_all(pods.map(watch))
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

    /// A node, or `None` if no node has this name. Takes a right that a run does not need.
    pub async fn node(&self, name: &str) -> Result<Option<Node>> {
        let api = Api::<Node>::all(self.client.clone());
        self.call(|| format!("get node/{name}"), api.get_opt(name)).await
    }

    /// One object with its content, or `None` if it does not exist.
    pub async fn object(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<(Found, serde_json::Value)>> {
        let api = self.api(kind, Some(namespace));
        let doing = || format!("get {}/{name}", kind.singular());
        let object = self.call(doing, api.get_opt(name)).await?;
        Ok(object.map(|object| (Found::new(kind, &object), object.data)))
    }

    /// The log of a pod's container from its beginning, followed. The first answer is bounded, the stream is not.
    pub async fn follow_log(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Result<impl AsyncBufRead + use<>> {
        let parameters = LogParams {
            follow: true,
            ..LogParams::default()
        };
        self.log("follow", namespace, pod, container, parameters).await
    }

    /// The log of a pod's container so far.
    pub async fn read_log(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Result<impl AsyncBufRead + use<>> {
        self.log("read", namespace, pod, container, LogParams::default())
            .await
    }

    /// The last lines of the log of a pod's container, at most `bytes`.
    pub async fn log_end(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        lines: i64,
        bytes: u64,
    ) -> Result<String> {
        let parameters = LogParams {
            tail_lines: Some(lines),
            ..LogParams::default()
        };
        let log = self.log("read", namespace, pod, container, parameters).await?;
        let mut text = vec![];
        // What was read of a log that breaks off is better than nothing.
        let _ = log.take(bytes).read_to_end(&mut text).await;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    async fn log(
        &self,
        verb: &str,
        namespace: &str,
        pod: &str,
        container: &str,
        parameters: LogParams,
    ) -> Result<impl AsyncBufRead + use<>> {
        let api = Api::<Pod>::namespaced(self.client.clone(), namespace);
        let parameters = LogParams {
            // Others may have been put beside it.
            container: Some(container.to_owned()),
            ..parameters
        };
        self.call(
            || format!("{verb} the log of pod/{pod}"),
            api.log_stream(pod, &parameters),
        )
        .await
    }
}

/// A change of a watched pod.
#[derive(Debug)]
pub enum PodChange {
    /// The pod of this name changed.
    Seen(&'static str, Box<Pod>),
    /// No pod has this name any more.
    Deleted(&'static str),
    /// Another pod has this name.
    Replaced(&'static str),
    /// The watch failed; it is retried.
    Trouble(String),
}

fn place(namespace: Option<&str>) -> String {
    namespace.map_or_else(|| "all namespaces".to_owned(), |name| format!("namespace {name}"))
}

fn typed<T: serde::de::DeserializeOwned>(object: &serde_json::Value) -> T {
    serde_json::from_value(object.clone()).expect("a manifest is always a Kubernetes object")
}
