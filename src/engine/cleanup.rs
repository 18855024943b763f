//! Finds and removes, from any machine, the objects that runs left in a cluster.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::{OptionFuture, try_join_all};
use jiff::{SignedDuration, Timestamp};

use super::claim::{Claim, holder};
use super::entries::{self, Entry};
use super::{remove, request};
use crate::cluster::{Cluster, ClusterError, Found, Selectors, selector};
use crate::event::Events;
use crate::manifest::{ANCHOR, Kind, Record, removed_patch};
use crate::net::Cause;
use crate::result::Cleanup;
use crate::untrusted;

/// A run without an anchor that created an object this recently may be about to create its anchor.
const STARTING: SignedDuration = SignedDuration::from_secs(15);

/// A run that has objects in the cluster.
#[derive(Clone, Debug)]
pub struct LeftRun {
    /// ID of the run.
    pub run: String,
    /// Namespace of its objects.
    pub namespace: String,
    /// The user who started it, according to its record.
    pub user: Option<String>,
    /// Time at which the cluster ends it, according to its record.
    pub deadline: Option<Timestamp>,
    /// Its objects as `kind/name`, including the namespace if the run created it.
    pub objects: Vec<String>,
    /// Time at which the last of them was created.
    created: Option<Timestamp>,
    claim: Claim,
    /// The objects of steps outside the namespace, or of a run without pods.
    requested: Vec<Found>,
    entries: Vec<Entry>,
}

/// In place of the namespace of a run that has only cluster-scoped objects.
const NO_NAMESPACE: &str = "-";

/// Whether a run is in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has ended, or its client can no longer end it.
    Ended,
    /// It may be in progress.
    InProgress,
}

impl LeftRun {
    /// Returns whether the run is in progress at a time.
    pub fn standing(&self, now: Timestamp) -> Standing {
        let in_progress = match self.deadline {
            Some(deadline) => now < deadline,
            None => self
                .created
                .is_some_and(|created| now.duration_since(created) < STARTING),
        };
        if in_progress {
            Standing::InProgress
        } else {
            Standing::Ended
        }
    }
}

/// Returns every run that has objects, in one namespace or in all; only `run` if it is given.
///
/// # Errors
/// Fails if the cluster cannot be searched.
pub async fn find_runs(
    cluster: &Cluster,
    namespace: Option<&str>,
    run: Option<&str>,
) -> Result<Vec<LeftRun>, ClusterError> {
    let labels = selector(run);
    let by_label = Selectors {
        labels: &labels,
        ..Selectors::default()
    };
    let anchor_name = format!("metadata.name={ANCHOR}");
    let by_name = Selectors {
        fields: &anchor_name,
        ..Selectors::default()
    };
    let spaces = async {
        match namespace {
            Some(name) => Ok(Vec::from_iter(read_namespace(cluster, name).await?)),
            None => cluster.list(Kind::Namespace, None, by_label).await,
        }
    };
    let anchors = async {
        match namespace {
            Some(name) => Ok(Vec::from_iter(cluster.get(Kind::Job, name, ANCHOR).await?)),
            // Search by name, since labels may have been changed.
            None => cluster.list(Kind::Job, None, by_name).await,
        }
    };
    let (spaces, anchors, objects, requested, entries) = futures::try_join!(
        spaces,
        anchors,
        cluster.list_ours(namespace, run),
        find_requested(cluster, namespace, run),
        entries::find(cluster, namespace, run)
    )?;

    let anchors: BTreeMap<String, (String, Found)> = anchors
        .into_iter()
        .filter_map(|anchor| Some((anchor.namespace.clone()?, (holder(&anchor)?, anchor))))
        .collect();
    let mut runs: BTreeSet<(String, String)> = BTreeSet::new();
    runs.extend(
        anchors
            .iter()
            .map(|(space, (run, _))| (space.clone(), run.clone())),
    );
    let of_objects = objects
        .iter()
        .filter_map(|object| Some((object.namespace.clone()?, object.run()?.to_owned())));
    runs.extend(of_objects);
    runs.extend(
        requested
            .iter()
            .filter_map(|object| Some((place(object), object.run()?.to_owned()))),
    );
    let of_entries = entries.iter();
    runs.extend(of_entries.map(|entry| (entry.namespace.clone(), entry.run.clone())));
    for space in spaces.iter().filter(|space| space.is_ours()) {
        // A namespace is removed with the run that holds it, which may differ from the run that created it.
        if !anchors.contains_key(&space.name) {
            runs.extend(space.run().map(|run| (space.name.clone(), run.to_owned())));
        }
    }
    let runs = runs
        .into_iter()
        .filter(|(_, found)| run.is_none_or(|run| run == found));
    let found = Search {
        spaces,
        anchors,
        requested,
        entries,
    };
    try_join_all(runs.map(|(namespace, run)| found.run(cluster, namespace, run))).await
}

/// What a search of the cluster found.
struct Search {
    /// Namespaces with the label of a run.
    spaces: Vec<Found>,
    /// Anchors with their runs, by namespace.
    anchors: BTreeMap<String, (String, Found)>,
    /// Objects that steps left.
    requested: Vec<Found>,
    /// Entries that steps left in other objects.
    entries: Vec<Entry>,
}

impl Search {
    async fn run(&self, cluster: &Cluster, namespace: String, run: String) -> Result<LeftRun, ClusterError> {
        let anchor = self.anchors.get(&namespace).filter(|(holder, _)| *holder == run);
        let anchor = anchor.map(|(_, anchor)| anchor);
        let claim = Claim::of_anchor(&run, anchor);
        let record = anchor.and_then(|anchor| Record::of_annotations(&anchor.annotations));
        let of_run = |object: &&Found| object.run() == Some(&run) && place(object) == namespace;
        let requested: Vec<Found> = self.requested.iter().filter(of_run).cloned().collect();
        let of_run = |entry: &&Entry| entry.run == run && entry.namespace == namespace;
        let entries: Vec<Entry> = self.entries.iter().filter(of_run).cloned().collect();
        let mut objects = requested.clone();
        if namespace != NO_NAMESPACE {
            objects.extend(claim.find(cluster, &namespace).await?);
            let known = self.spaces.iter().find(|space| space.name == namespace).cloned();
            let unknown = OptionFuture::from(known.is_none().then(|| read_namespace(cluster, &namespace)));
            let space = match unknown.await {
                Some(space) => space?,
                None => known,
            };
            objects
                .extend(space.filter(|space| space.is_ours() && (anchor.is_some() || claim.covers(space))));
        }
        Ok(LeftRun {
            user: record.as_ref().map(|record| untrusted::line(&record.user)),
            deadline: record.map(|record| record.deadline),
            created: objects.iter().filter_map(|object| object.created).max(),
            objects: objects
                .iter()
                .map(Found::reference)
                .chain(entries.iter().map(Entry::reference))
                .collect(),
            run,
            namespace,
            claim,
            requested,
            entries,
        })
    }
}

/// Returns the namespace of an object of a step, or [`NO_NAMESPACE`].
fn place(object: &Found) -> String {
    object
        .namespace
        .clone()
        .unwrap_or_else(|| NO_NAMESPACE.to_owned())
}

/// Returns the objects that steps left, of the kinds that only steps create. Kinds that the user may not list are left
/// out: such objects end by themselves.
async fn find_requested(
    cluster: &Cluster,
    namespace: Option<&str>,
    run: Option<&str>,
) -> Result<Vec<Found>, ClusterError> {
    let labels = selector(run);
    let by_label = Selectors {
        labels: &labels,
        ..Selectors::default()
    };
    let kinds = Kind::OF_REQUESTS
        .into_iter()
        .filter(|kind| !Kind::OF_RUN.contains(kind));
    let kinds = kinds.filter(|kind| namespace.is_none() || kind.is_namespaced());
    let lists = kinds.map(async |kind| match cluster.list(kind, namespace, by_label).await {
        Err(error) if error.explained.cause == Cause::Forbidden => Ok(vec![]),
        found => found,
    });
    let found = try_join_all(lists).await?.into_iter().flatten();
    Ok(found.filter(Found::is_ours).collect())
}

/// Returns a namespace, or `None` if it does not exist or cannot be read for lack of rights. In the latter case its
/// objects can still be removed.
async fn read_namespace(cluster: &Cluster, name: &str) -> Result<Option<Found>, ClusterError> {
    match cluster.get(Kind::Namespace, name, name).await {
        Err(error) if error.explained.cause == Cause::Forbidden => Ok(None),
        space => space,
    }
}

/// Removes a run. The result names objects with their namespace.
pub async fn remove_run(cluster: &Cluster, run: &LeftRun, events: &Events) -> Cleanup {
    if let Some(anchor) = &run.claim.anchor {
        // Inform the process of the run why its pods are deleted. The anchor itself is deleted last.
        let patch = removed_patch(anchor);
        let _ = cluster.patch(Kind::Job, &run.namespace, ANCHOR, &patch).await;
    }
    let mut cleanup = request::remove(cluster, &run.requested).await;
    cleanup.absorb(entries::remove(cluster, &run.entries).await);
    if run.namespace != NO_NAMESPACE {
        cleanup.absorb(remove::remove(cluster, &run.namespace, &run.claim, events).await);
    }
    for reference in cleanup.removed.iter_mut().chain(&mut cleanup.left) {
        *reference = format!("{}: {reference}", run.namespace);
    }
    cleanup
}
