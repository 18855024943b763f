//! Finds what runs left in a cluster, from any machine, and removes it.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::{OptionFuture, try_join_all};
use jiff::{SignedDuration, Timestamp};

use super::claim::{Claim, holder};
use super::remove;
use crate::cluster::{Cluster, ClusterError, Found, Selectors, selector};
use crate::event::Events;
use crate::manifest::{ANCHOR, Kind, Record, removed_patch};
use crate::net::Cause;
use crate::result::Cleanup;
use crate::untrusted;

/// A run without an anchor that created something this recently may be about to create its anchor.
const STARTING: SignedDuration = SignedDuration::from_secs(15);

/// A run of which objects exist.
#[derive(Clone, Debug)]
pub struct LeftRun {
    /// The run.
    pub run: String,
    /// The namespace of its objects.
    pub namespace: String,
    /// The user who started it, according to its record.
    pub user: Option<String>,
    /// When the cluster ends it, according to its record.
    pub deadline: Option<Timestamp>,
    /// Its objects as `kind/name`; the namespace is one of them if the run created it.
    pub objects: Vec<String>,
    /// When the last of them was created.
    created: Option<Timestamp>,
    claim: Claim,
}

/// How a run stands at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is over, or its client cannot end it any more.
    Ended,
    /// It may be in progress.
    InProgress,
}

impl LeftRun {
    /// How the run stands at a time.
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

/// Every run that left objects, in a namespace or in all, or only `run`.
///
/// # Errors
/// If the cluster cannot be searched.
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
            // By name, since labels may have been changed.
            None => cluster.list(Kind::Job, None, by_name).await,
        }
    };
    let (spaces, anchors, objects) = futures::try_join!(spaces, anchors, cluster.list_ours(namespace, run))?;

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
    for space in spaces.iter().filter(|space| space.is_ours()) {
        // A namespace goes with the run that holds it, which may be another one than the run that created it.
        if !anchors.contains_key(&space.name) {
            runs.extend(space.run().map(|run| (space.name.clone(), run.to_owned())));
        }
    }
    let runs = runs
        .into_iter()
        .filter(|(_, found)| run.is_none_or(|run| run == found));
    let (anchors, spaces) = (&anchors, &spaces);
    try_join_all(runs.map(|(namespace, run)| async move {
        let anchor = anchors.get(&namespace).filter(|(holder, _)| *holder == run);
        let anchor = anchor.map(|(_, anchor)| anchor);
        let claim = Claim::of_anchor(&run, anchor);
        let record = anchor.and_then(|anchor| Record::of_annotations(&anchor.annotations));
        let mut objects = claim.find(cluster, &namespace).await?;
        let known = spaces.iter().find(|space| space.name == namespace).cloned();
        let unknown = OptionFuture::from(known.is_none().then(|| read_namespace(cluster, &namespace)));
        let space = match unknown.await {
            Some(space) => space?,
            None => known,
        };
        objects.extend(space.filter(|space| space.is_ours() && (anchor.is_some() || claim.covers(space))));
        Ok(LeftRun {
            user: record.as_ref().map(|record| untrusted::line(&record.user)),
            deadline: record.map(|record| record.deadline),
            created: objects.iter().filter_map(|object| object.created).max(),
            objects: objects.iter().map(Found::reference).collect(),
            run,
            namespace,
            claim,
        })
    }))
    .await
}

/// A namespace; `None` also if it may not be read, since its objects can be removed all the same.
async fn read_namespace(cluster: &Cluster, name: &str) -> Result<Option<Found>, ClusterError> {
    match cluster.get(Kind::Namespace, name, name).await {
        Err(error) if error.explained.cause == Cause::Forbidden => Ok(None),
        space => space,
    }
}

/// Removes a run; objects are named with their namespace.
pub async fn remove_run(cluster: &Cluster, run: &LeftRun, events: &Events) -> Cleanup {
    if let Some(anchor) = &run.claim.anchor {
        // Tells the process that runs it why its pods go. The anchor itself goes last.
        let patch = removed_patch(anchor);
        let _ = cluster.patch(Kind::Job, &run.namespace, ANCHOR, &patch).await;
    }
    let mut cleanup = remove::remove(cluster, &run.namespace, &run.claim, events).await;
    for reference in cleanup.removed.iter_mut().chain(&mut cleanup.left) {
        *reference = format!("{}: {reference}", run.namespace);
    }
    cleanup
}
