//! Removes what carries our label and then looks: what the look finds is what is reported.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;

use super::{Event, Events};
use crate::cluster::{Cluster, ClusterError, Found, selector};
use crate::manifest::{ANCHOR, Kind};
use crate::result::Cleanup;

/// Everything has to be gone within this time: grace periods are one second, and the namespace controller
/// takes five.
const GONE: Duration = Duration::from_secs(90);

/// Removes a run, or every run, from one namespace, and the namespace if this tool made it and no other run
/// is in it.
pub(super) async fn remove(
    cluster: &Cluster,
    namespace: &str,
    run: Option<&str>,
    events: &Events,
) -> Cleanup {
    let mut cleanup = Cleanup {
        verified: true,
        ..Cleanup::default()
    };
    let mut space = None;
    let removal = async {
        space = removable(cluster, namespace, run).await?;
        try_remove(cluster, namespace, run, space.as_ref(), &mut cleanup, events).await
    };
    match tokio::time::timeout(GONE, removal).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => cleanup.problems.push(error.to_string()),
        Err(_) => cleanup
            .problems
            .push(format!("not everything was gone within {} s", GONE.as_secs())),
    }
    match look(cluster, namespace, run, space.as_ref()).await {
        Ok(left) => cleanup.left.extend(left.iter().map(Found::reference)),
        Err(error) => {
            cleanup.verified = false;
            cleanup.problems.push(error.to_string());
        }
    }
    cleanup.removed.retain(|object| !cleanup.left.contains(object));
    cleanup
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

async fn try_remove(
    cluster: &Cluster,
    namespace: &str,
    run: Option<&str>,
    space: Option<&Found>,
    cleanup: &mut Cleanup,
    events: &Events,
) -> Result<(), ClusterError> {
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
        let space_gone = match space {
            Some(space) => Some(remove_namespace(cluster, space, events).await),
            None => None,
        };
        (space_gone, remove_objects(cluster, &anchor, events).await)
    };
    let ((space_gone, anchor_gone), rest_gone) =
        futures::join!(in_order, remove_objects(cluster, &rest, events));
    cleanup
        .removed
        .extend(anchor.iter().chain(&rest).map(Found::reference));
    match space_gone.transpose()? {
        Some(Ok(space)) => cleanup.removed.push(space),
        Some(Err(kept)) => cleanup.problems.push(kept),
        None => {}
    }
    anchor_gone.and(rest_gone)
}

async fn remove_objects(cluster: &Cluster, objects: &[Found], events: &Events) -> Result<(), ClusterError> {
    let removals = objects.iter().map(|object| async move {
        cluster.delete(object).await?;
        events.send(Event::Removed(object.reference()));
        cluster.gone(object).await;
        Ok(())
    });
    join_all(removals).await.into_iter().collect()
}

/// Removes a namespace of ours, unless it holds something that is not; then says what.
async fn remove_namespace(
    cluster: &Cluster,
    space: &Found,
    events: &Events,
) -> Result<Result<String, String>, ClusterError> {
    let why = match cluster.foreign_object(&space.name).await {
        Ok(None) => {
            cluster.delete(space).await?;
            events.send(Event::Removed(space.reference()));
            cluster.gone(space).await;
            return Ok(Ok(space.reference()));
        }
        Ok(Some(foreign)) => format!("it holds {foreign}, which this tool did not make"),
        Err(error) => format!("it could not be seen whether it holds anything else ({error})"),
    };
    Ok(Err(format!("{} was kept: {why}", space.reference())))
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
