//! Removes what carries our label and then looks: what the look finds is what is reported.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;

use super::{Event, Events};
use crate::cluster::{Cluster, ClusterError, Found, selector};
use crate::manifest::Kind;
use crate::result::Cleanup;

/// Everything has to be gone within this time: grace periods are one second, and the namespace controller
/// takes five.
const GONE: Duration = Duration::from_secs(90);

/// Removes a run, or every run, from one namespace, and the namespace if this tool made it.
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
    match tokio::time::timeout(GONE, try_remove(cluster, namespace, run, &mut cleanup, events)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => cleanup.problems.push(error.to_string()),
        Err(_) => cleanup
            .problems
            .push(format!("not everything was gone within {} s", GONE.as_secs())),
    }
    match look(cluster, namespace, run).await {
        Ok(left) => cleanup.left.extend(left.iter().map(Found::reference)),
        Err(error) => {
            cleanup.verified = false;
            cleanup.problems.push(error.to_string());
        }
    }
    cleanup.removed.retain(|object| !cleanup.left.contains(object));
    cleanup
}

/// What is there of a run, the namespace included if it is ours.
async fn look(cluster: &Cluster, namespace: &str, run: Option<&str>) -> Result<Vec<Found>, ClusterError> {
    let space = cluster.get(Kind::Namespace, namespace, namespace).await?;
    let Some(space) = space else { return Ok(vec![]) };
    let mut found = cluster.list_all(Some(namespace), &selector(run)).await?;
    found.extend(Some(space).filter(Found::is_ours));
    Ok(found)
}

async fn try_remove(
    cluster: &Cluster,
    namespace: &str,
    run: Option<&str>,
    cleanup: &mut Cleanup,
    events: &Events,
) -> Result<(), ClusterError> {
    let mut found = look(cluster, namespace, run).await?;
    events.send(Event::Removing(found.len()));
    // The anchor goes first: whatever a call that is still under way makes from now on has no owner, and the
    // garbage collector removes it.
    found.sort_by_key(|object| object.kind != Kind::Job);
    let (spaces, objects): (Vec<Found>, Vec<Found>) =
        found.into_iter().partition(|f| f.kind == Kind::Namespace);
    let (gone, space_gone) = futures::join!(
        remove_objects(cluster, &objects, events),
        join_all(
            spaces
                .iter()
                .map(|space| remove_namespace(cluster, space, events))
        )
    );
    cleanup.removed.extend(objects.iter().map(Found::reference));
    for outcome in space_gone {
        match outcome? {
            Ok(space) => cleanup.removed.push(space),
            Err(kept) => cleanup.problems.push(kept),
        }
    }
    gone
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
