//! Pods: watches, events and logs.

use std::collections::{BTreeMap, BTreeSet};

use futures::{AsyncBufRead, AsyncReadExt, Stream, StreamExt, stream};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt;
use kube::api::{Api, ListParams, LogParams};
use kube::runtime::{WatchStreamExt, watcher};

use super::explain::explain_watch;
use super::{Cluster, Result};

/// A change of a watched pod.
#[derive(Debug)]
pub enum PodChange {
    /// The pod of this name changed.
    Seen(String, Box<Pod>),
    /// No pod with the labels has this name any more.
    Deleted(String),
    /// Another pod has this name.
    Replaced(String),
    /// The watch failed; it is retried.
    Trouble(String),
}

/// The pods to watch, and which of them the list in progress contains.
struct Watched {
    /// UIDs by name.
    pods: BTreeMap<String, String>,
    listed: BTreeSet<String>,
}

impl Watched {
    fn changes(&mut self, event: watcher::Result<watcher::Event<Pod>>) -> Vec<PodChange> {
        match event {
            Ok(watcher::Event::Init) => {
                self.listed.clear();
                vec![]
            }
            Ok(watcher::Event::InitApply(pod) | watcher::Event::Apply(pod)) => Vec::from_iter(self.seen(pod)),
            Ok(watcher::Event::InitDone) => {
                let names = self.pods.keys();
                let missing = names.filter(|name| !self.listed.contains(*name));
                missing.cloned().map(PodChange::Deleted).collect()
            }
            Ok(watcher::Event::Delete(pod)) => {
                let is_watched = pod.uid().as_ref() == self.pods.get(&pod.name_any());
                Vec::from_iter(is_watched.then(|| PodChange::Deleted(pod.name_any())))
            }
            Err(error) => vec![PodChange::Trouble(explain_watch(&error).message)],
        }
    }

    fn seen(&mut self, mut pod: Pod) -> Option<PodChange> {
        let name = pod.name_any();
        let uid = self.pods.get(&name)?;
        self.listed.insert(name.clone());
        if pod.uid().as_ref() != Some(uid) {
            return Some(PodChange::Replaced(name));
        }
        pod.metadata.managed_fields = None;
        Some(PodChange::Seen(name, Box::new(pod)))
    }
}

impl Cluster {
    /// Watches these pods, which have the labels of `selector`, by name and UID.
    pub fn watch_pods(
        &self,
        namespace: &str,
        selector: &str,
        pods: BTreeMap<String, String>,
    ) -> impl Stream<Item = PodChange> + Send + use<> {
        let api = Api::<Pod>::namespaced(self.client.clone(), namespace);
        let events = watcher(api, watcher::Config::default().labels(selector)).default_backoff();
        let mut watched = Watched {
            pods,
            listed: BTreeSet::new(),
        };
        events.flat_map(move |event| stream::iter(watched.changes(event)))
    }

    /// Returns a pod, or `None` if it does not exist.
    pub async fn pod(&self, namespace: &str, name: &str) -> Result<Option<Pod>> {
        let api = Api::<Pod>::namespaced(self.client.clone(), namespace);
        self.call(|| format!("get pod/{name}"), api.get_opt(name)).await
    }

    /// Lists the events of an object, oldest first, or none if the caller must not read them.
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

    /// Follows the log of a container from its beginning. The timeout applies to the response, not to the stream.
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

    /// Reads the log of a container.
    pub async fn read_log(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Result<impl AsyncBufRead + use<>> {
        self.log("read", namespace, pod, container, LogParams::default())
            .await
    }

    /// Reads the last lines of the log of a container, at most `bytes`.
    pub async fn log_tail(
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
        // If the connection breaks, the part that was read is returned.
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
            // The pod may have injected sidecars.
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
