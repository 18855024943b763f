//! Removes what carries our label and then looks: what the look finds is what is reported.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use futures::future::join_all;

use super::{Event, Events};
use crate::cluster::{Cluster, ClusterError, Found, selector};
use crate::manifest::{ANCHOR, Kind};
use crate::result::Cleanup;

/// Everything has to be gone within this time: grace periods are one second, and the namespace controller
/// takes five.
const GONE: Duration = Duration::from_secs(90);

/// Removes a run, or every run, from one namespace, and the namespace if this tool made it and no other run
/// is in it. What passes by itself is waited for: removing again what is gone does nothing.
pub(super) async fn remove(
    cluster: &Cluster,
    namespace: &str,
    run: Option<&str>,
    events: &Events,
) -> Cleanup {
    let mut cleanup = Cleanup::default();
    let seen = Seen::default();
    let attempt = || try_remove(cluster, namespace, run, &seen, events);
    let backoff = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(500))
        .with_max_delay(Duration::from_secs(5))
        .without_max_times();
    let removal = attempt
        .retry(backoff)
        .when(|error| !error.is_final())
        .notify(|error, _| events.send(Event::Notice(error.to_string())));
    match tokio::time::timeout(GONE, removal).await {
        Ok(Ok(kept)) => cleanup.problems.extend(kept),
        Ok(Err(error)) => cleanup.problems.push(error.to_string()),
        Err(_) => cleanup
            .problems
            .push(format!("not everything was gone within {} s", GONE.as_secs())),
    }
    // Whether the namespace was to go has to be known to miss it.
    cleanup.verified = seen.any.get();
    match look(cluster, namespace, run, seen.space.into_inner().as_ref()).await {
        Ok(left) => cleanup.left.extend(left.iter().map(Found::reference)),
        Err(error) => {
            cleanup.verified = false;
            cleanup.problems.push(error.to_string());
        }
    }
    cleanup.removed = seen.removed.into_inner();
    cleanup.removed.retain(|object| !cleanup.left.contains(object));
    cleanup
}

/// What the attempts to remove something saw.
#[derive(Default)]
struct Seen {
    /// Whether one of them got so far as to know what has to go.
    any: Cell<bool>,
    /// The namespace, where it goes too.
    space: RefCell<Option<Found>>,
    /// What went.
    removed: RefCell<Vec<String>>,
}

impl Seen {
    /// Removes exactly this object, and waits until it is gone.
    async fn remove(&self, cluster: &Cluster, object: &Found, events: &Events) -> Result<(), ClusterError> {
        cluster.delete(object).await?;
        events.send(Event::Removed(object.reference()));
        cluster.gone(object).await;
        self.removed.borrow_mut().push(object.reference());
        Ok(())
    }

    async fn remove_all(
        &self,
        cluster: &Cluster,
        objects: &[Found],
        events: &Events,
    ) -> Result<(), ClusterError> {
        let removals = objects.iter().map(|object| self.remove(cluster, object, events));
        join_all(removals).await.into_iter().collect()
    }
}

/// The namespace, if it goes with the run: this tool made it, and either for this run, or this run holds it.
/// One that another run holds stays, and is none of this run's business.
async fn removable(
    cluster: &Cluster,
    namespace: &str,
    run: Option<&str>,
) -> Result<Option<Found>, ClusterError> {
    let (space, anchor) = futures::try_join!(
        cluster.get(Kind::Namespace, namespace, namespace),
        cluster.get(Kind::Job, namespace, ANCHOR)
    )?;
    let holder = anchor.as_ref().and_then(Found::run);
    Ok(space.filter(|space| space.is_ours() && (run.is_none() || holder.or(space.run()) == run)))
}

/// What is there of a run, and the namespace if it should not be.
async fn look(
    cluster: &Cluster,
    namespace: &str,
    run: Option<&str>,
    space: Option<&Found>,
) -> Result<Vec<Found>, ClusterError> {
    let Some(now) = cluster.get(Kind::Namespace, namespace, namespace).await? else {
        return Ok(vec![]);
    };
    let mut found = cluster.list_all(Some(namespace), &selector(run)).await?;
    found.extend(Some(now).filter(|now| space.is_some_and(|space| space.uid == now.uid)));
    Ok(found)
}

/// Gives the reason why the namespace was kept, where it was.
async fn try_remove(
    cluster: &Cluster,
    namespace: &str,
    run: Option<&str>,
    seen: &Seen,
    events: &Events,
) -> Result<Option<String>, ClusterError> {
    let space = removable(cluster, namespace, run).await?;
    seen.space.replace(space.clone());
    seen.any.set(true);
    let objects = match cluster.list_all(Some(namespace), &selector(run)).await {
        Err(error) if error.is_not_found() => vec![],
        objects => objects?,
    };
    events.send(Event::Removing(objects.len() + usize::from(space.is_some())));
    let (anchor, rest): (Vec<Found>, Vec<Found>) = objects.into_iter().partition(|o| o.kind == Kind::Job);
    // The anchor is the lock of the namespace: it is held until nobody can begin in it any more. Where the
    // namespace stays, the anchor goes first: what a call still under way makes then has no owner, and the
    // garbage collector removes it.
    let in_order = async {
        let kept = match &space {
            Some(space) => remove_namespace(cluster, space, seen, events).await,
            None => Ok(None),
        };
        (kept, seen.remove_all(cluster, &anchor, events).await)
    };
    let ((kept, anchor_gone), rest_gone) = futures::join!(in_order, seen.remove_all(cluster, &rest, events));
    anchor_gone.and(rest_gone)?;
    kept
}

/// Removes a namespace of ours, unless it holds something that is not; then says what.
async fn remove_namespace(
    cluster: &Cluster,
    space: &Found,
    seen: &Seen,
    events: &Events,
) -> Result<Option<String>, ClusterError> {
    let why = match cluster.foreign_object(&space.name).await {
        Ok(None) => {
            seen.remove(cluster, space, events).await?;
            return Ok(None);
        }
        Ok(Some(foreign)) => format!("it holds {foreign}, which this tool did not make"),
        Err(error) if !error.is_final() => return Err(error),
        Err(error) => format!("it could not be seen whether it holds anything else ({error})"),
    };
    Ok(Some(format!("{} was kept: {why}", space.reference())))
}

/// Removes everything this tool ever made: in the namespaces it is found in, or in the one given.
///
/// # Errors
/// When the cluster cannot be asked where that is.
pub async fn cleanup(
    cluster: &Cluster,
    namespace: Option<&str>,
    run: Option<&str>,
    events: &Events,
) -> Result<(Vec<String>, Cleanup), ClusterError> {
    let spaces: BTreeSet<String> = if let Some(namespace) = namespace {
        [namespace.to_owned()].into()
    } else {
        let selector = selector(run);
        let (own, objects) = futures::try_join!(
            cluster.list(Kind::Namespace, None, &selector),
            cluster.list_all(None, &selector)
        )?;
        own.into_iter()
            .map(|space| space.name)
            .chain(objects.into_iter().filter_map(|o| o.namespace))
            .collect()
    };
    let parts = join_all(spaces.iter().map(|space| async move {
        let mut part = remove(cluster, space, run, events).await;
        for reference in part.removed.iter_mut().chain(&mut part.left) {
            *reference = format!("{space}: {reference}");
        }
        part
    }))
    .await;
    let mut all = Cleanup {
        verified: true,
        ..Cleanup::default()
    };
    for part in parts {
        all.absorb(part);
    }
    Ok((spaces.into_iter().collect(), all))
}
