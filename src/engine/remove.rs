//! Deletes the objects of a run, then searches for them again and reports what the search finds.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use futures::{StreamExt as _, stream};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::PARALLEL;
use super::claim::{self, Claim};
use super::pods::NodeState;
use crate::cluster::{Cluster, ClusterError, Found};
use crate::event::{Event, Events};
use crate::manifest::{ANCHOR, Kind};
use crate::result::Cleanup;
use crate::untrusted;

/// Time within which everything must be gone: grace periods are one second, and the namespace controller takes five.
const GONE: Duration = Duration::from_secs(90);
/// Additional time for each object: the API server, the kubelets and the controllers work through them.
const EACH: Duration = Duration::from_millis(200);
/// Time to wait for foreign objects that are about to be deleted: reports on our pods, mirrors of our policies.
const SETTLING: Duration = Duration::from_secs(10);

/// Removes a run from a namespace, and the namespace too if this tool created it and no other run is in it. Transient
/// errors are retried: deleting an object that no longer exists has no effect.
pub(super) async fn remove(cluster: &Cluster, namespace: &str, claim: &Claim, events: &Events) -> Cleanup {
    let mut cleanup = Cleanup::default();
    let seen = Seen::default();
    let attempt = || try_remove(cluster, namespace, claim, &seen, events);
    let backoff = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(500))
        .with_max_delay(Duration::from_secs(5))
        .without_max_times();
    let removal = attempt
        .retry(backoff)
        .when(|error| !error.is_final())
        .notify(|error, _| events.send(Event::Notice(error.to_string())));
    let limit = GONE + EACH * u32::try_from(claim.size()).unwrap_or(u32::MAX);
    match tokio::time::timeout(limit, removal).await {
        Ok(Ok(kept)) => cleanup.problems.extend(kept),
        Ok(Err(error)) => cleanup.problems.push(error.to_string()),
        Err(_) => cleanup
            .problems
            .push(format!("not everything was gone within {} s", limit.as_secs())),
    }
    // A namespace that was left is only detected if an attempt determined whether to delete it.
    cleanup.verified = seen.any.get();
    match look(cluster, namespace, claim, seen.space.into_inner().as_ref()).await {
        Ok(left) => {
            cleanup.left.extend(left.iter().map(Found::reference));
            for object in &left {
                cleanup.problems.extend(holder(cluster, object).await);
            }
        }
        Err(error) => {
            cleanup.verified = false;
            cleanup.problems.push(error.to_string());
        }
    }
    cleanup.removed = seen.removed.into_inner();
    cleanup.removed.retain(|object| !cleanup.left.contains(object));
    cleanup
}

/// Returns why an object whose deletion has started still exists, if that is known.
async fn holder(cluster: &Cluster, object: &Found) -> Option<String> {
    if !object.terminating {
        return None;
    }
    if !object.finalizers.is_empty() && object.kind != Kind::Namespace {
        let finalizers = untrusted::line(&object.finalizers.join(", "));
        return Some(format!(
            "{} is held by the finalizer {finalizers}",
            object.reference()
        ));
    }
    if object.kind == Kind::Pod {
        let namespace = object.namespace.as_deref().unwrap_or_default();
        let pod = cluster.pod(namespace, &object.name).await.ok().flatten()?;
        let node = pod.spec?.node_name?;
        let state = match NodeState::of(cluster, &node).await {
            NodeState::NotReady(state) => format!("; {state}"),
            NodeState::Missing => "; the node does not exist any more".to_owned(),
            NodeState::Ready | NodeState::Unknown => String::new(),
        };
        return Some(format!(
            "{} is being deleted, and node {} has not confirmed that it stopped{state}",
            object.reference(),
            untrusted::line(&node)
        ));
    }
    None
}

/// The observations of the attempts to remove a run.
#[derive(Default)]
struct Seen {
    /// Whether an attempt determined what to delete.
    any: Cell<bool>,
    /// The namespace, if it is deleted too.
    space: RefCell<Option<Found>>,
    /// The deleted objects.
    removed: RefCell<Vec<String>>,
}

impl Seen {
    /// Deletes exactly these objects and waits until they are gone.
    async fn remove_all(
        &self,
        cluster: &Cluster,
        objects: &[Found],
        events: &Events,
    ) -> Result<(), ClusterError> {
        let deletions = objects.iter().map(async |object| {
            cluster.delete(object).await?;
            events.send(Event::Removed(object.reference()));
            Ok(object)
        });
        let deleted: Vec<Result<&Found, ClusterError>> = at_once(deletions).await;
        let (deleted, failed): (Vec<_>, Vec<_>) = deleted.into_iter().partition(Result::is_ok);
        let waits = deleted.into_iter().flatten().map(async |object| {
            cluster.wait_until_gone(object).await?;
            self.removed.borrow_mut().push(object.reference());
            Ok(object)
        });
        let mut results = at_once(waits).await.into_iter().chain(failed);
        results.try_for_each(|result| result.map(drop))
    }
}

/// Awaits calls for objects, a limited number at a time.
async fn at_once<T>(calls: impl Iterator<Item: Future<Output = T>>) -> Vec<T> {
    stream::iter(calls).buffer_unordered(PARALLEL).collect().await
}

/// Returns the namespace if it is deleted with the run. That is the case if this tool created it, and either for this
/// run, or this run holds it. A namespace that another run holds is kept.
async fn removable(cluster: &Cluster, namespace: &str, claim: &Claim) -> Result<Option<Found>, ClusterError> {
    let (space, anchor) = futures::try_join!(
        cluster.get(Kind::Namespace, namespace, namespace),
        cluster.get(Kind::Job, namespace, ANCHOR)
    )?;
    let holder = anchor.as_ref().and_then(claim::holder);
    let goes = |space: &Found| match &holder {
        Some(holder) => *holder == claim.run && (space.is_ours() || claim.uids.contains(&space.uid)),
        None => claim.covers(space),
    };
    Ok(space.filter(goes))
}

/// Returns the objects of a run that still exist, and the namespace if it should not exist.
async fn look(
    cluster: &Cluster,
    namespace: &str,
    claim: &Claim,
    space: Option<&Found>,
) -> Result<Vec<Found>, ClusterError> {
    let Some(now) = cluster.get(Kind::Namespace, namespace, namespace).await? else {
        return Ok(vec![]);
    };
    let mut found = claim.find(cluster, namespace).await?;
    found.extend(Some(now).filter(|now| space.is_some_and(|space| space.uid == now.uid)));
    Ok(found)
}

/// Tries once to remove a run. Returns the reason why the namespace was kept, if it was.
async fn try_remove(
    cluster: &Cluster,
    namespace: &str,
    claim: &Claim,
    seen: &Seen,
    events: &Events,
) -> Result<Option<String>, ClusterError> {
    let space = removable(cluster, namespace, claim).await?;
    seen.space.replace(space.clone());
    seen.any.set(true);
    let objects = claim.find(cluster, namespace).await?;
    events.send(Event::Removing(objects.len() + usize::from(space.is_some())));
    let Some(space) = space else {
        // Delete all at once: an object that a pending call creates afterwards has no owner, and the garbage collector
        // deletes it.
        seen.remove_all(cluster, &objects, events).await?;
        return Ok(None);
    };
    // The anchor is the lock of the namespace: keep it until no other run can start there.
    let (anchor, rest): (Vec<Found>, Vec<Found>) = objects.into_iter().partition(|o| o.kind == Kind::Job);
    let mut ours = claim.uids.clone();
    ours.extend(anchor.iter().chain(&rest).map(|object| object.uid.clone()));
    let (removing, rest_is_gone) = oneshot::channel::<()>();
    let in_order = async {
        let why = match what_else(cluster, &space.name, claim, &ours, rest_is_gone).await? {
            // Another client is deleting it, so it cannot be kept.
            Some(_) if is_going(cluster, &space).await? => None,
            why => why,
        };
        if why.is_none() {
            seen.remove_all(cluster, std::slice::from_ref(&space), events)
                .await?;
        }
        seen.remove_all(cluster, &anchor, events).await?;
        Ok(why)
    };
    let remove_rest = async {
        let removed = seen.remove_all(cluster, &rest, events).await;
        drop(removing);
        removed
    };
    let (why, removed) = futures::join!(in_order, remove_rest);
    removed?;
    let why = why?;
    Ok(why.map(|why| format!("{} was kept: {why}", space.reference())))
}

/// Returns `true` if the deletion of a namespace has started.
async fn is_going(cluster: &Cluster, space: &Found) -> Result<bool, ClusterError> {
    let now = cluster.get(Kind::Namespace, &space.name, &space.name).await?;
    Ok(now.is_none_or(|now| now.terminating || now.uid != space.uid))
}

/// Returns why a namespace of ours must not be deleted: it holds other objects, or this could not be determined.
/// `rest_is_gone` resolves when the objects of the run are gone.
async fn what_else(
    cluster: &Cluster,
    namespace: &str,
    claim: &Claim,
    ours: &HashSet<String>,
    rest_is_gone: oneshot::Receiver<()>,
) -> Result<Option<String>, ClusterError> {
    let end = Instant::now() + SETTLING;
    let survey = loop {
        let survey = match cluster.survey(namespace, ours).await {
            Err(error) if error.is_final() => {
                return Ok(Some(format!("could not determine what else it holds ({error})")));
            }
            survey => survey?,
        };
        let stays = survey.foreign.iter().any(|(_, goes)| !goes);
        let settled = survey.foreign.is_empty() && survey.unavailable.is_empty();
        if stays || settled || Instant::now() >= end {
            break survey;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    if let Some((foreign, _)) = survey.foreign.first() {
        return Ok(Some(format!(
            "it holds {foreign}, which this tool did not create"
        )));
    }
    if let Some(reason) = survey.unavailable.first() {
        return Ok(Some(format!("could not determine what else it holds: {reason}")));
    }
    if survey.forbidden.is_empty() {
        return Ok(None);
    }
    // Objects of kinds that the user may not list are counted, once those that our own objects own can be gone too.
    let _ = rest_is_gone.await;
    let counts = match cluster.count(namespace, &claim.run, &survey.forbidden).await {
        Ok(counts) => counts,
        Err(error) if !error.is_final() => return Err(error),
        Err(error) => {
            let first = &survey.forbidden[0];
            return Ok(Some(format!(
                "could not determine whether it holds any {first} ({error})"
            )));
        }
    };
    for kind in &survey.forbidden {
        match counts.get(&kind.to_string()) {
            Some(0) => {}
            Some(count) => return Ok(Some(format!("it holds {count} {kind}, which you may not list"))),
            None => return Ok(Some(format!("could not determine whether it holds any {kind}"))),
        }
    }
    Ok(None)
}
