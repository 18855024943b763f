//! Puts the objects of a run into the cluster: the namespace if it has to be made, the anchor, which is
//! lock, record and clock, and then what it owns.

use futures::future::try_join_all;

use super::prepare::{Prepared, active};
use super::{Event, Events, Halt, Stop};
use crate::cluster::Cluster;
use crate::cluster::explain::Cause;
use crate::manifest::{ANCHOR, Kind, Manifest, Manifests};
use crate::plan::Plan;
use crate::result::Problem;

/// Not interrupted in the middle of a call, so that what was made is known; every call is bounded.
pub(super) async fn apply(
    cluster: &Cluster,
    plan: &Plan,
    manifests: &Manifests,
    prepared: Prepared,
    stop: &Stop,
    events: &Events,
) -> Result<(), Halt> {
    let namespace = &plan.namespace.name;
    if prepared.make_namespace {
        cluster.create(&manifests.namespace, namespace).await?;
        events.send(Event::Created(manifests.namespace.reference()));
    }
    let anchor = match cluster.create(&manifests.anchor, namespace).await {
        Ok(anchor) => anchor,
        Err(error) if error.explained.cause == Cause::AlreadyExists => {
            // Somebody was faster since the look in `prepare`.
            let mut problem = Problem::from(error);
            if let Some(other) = cluster.get(Kind::Job, namespace, ANCHOR).await? {
                problem.message = active(&other, namespace);
            }
            return Err(Halt::Problem(problem));
        }
        Err(error) => return Err(error.into()),
    };
    events.send(Event::Created(manifests.anchor.reference()));
    for batch in [&manifests.supporting, &manifests.pods] {
        if stop.requested() {
            return Err(Halt::Stopped);
        }
        let owned = batch
            .iter()
            .map(|manifest| manifest.clone().owned_by_anchor(&anchor.uid));
        try_join_all(owned.map(|manifest| one(cluster, manifest, namespace, events))).await?;
    }
    Ok(())
}

async fn one(cluster: &Cluster, manifest: Manifest, namespace: &str, events: &Events) -> Result<(), Halt> {
    cluster.apply(&manifest, namespace).await?;
    events.send(Event::Created(manifest.reference()));
    Ok(())
}
