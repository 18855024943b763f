//! Submits every object of a run to the API server as a dry run: all policies apply, and nothing is persisted.

use futures::{StreamExt, stream};

use super::prepare;
use crate::cluster::{Cluster, ClusterError};
use crate::error::Error;
use crate::event::Events;
use crate::manifest::{self, Kind, Manifest};
use crate::net::Cause;
use crate::plan::Plan;
use crate::result::{Admission, ClusterInfo, PlannedObject};

/// Maximum number of concurrent requests.
const PARALLEL: usize = 8;

/// Returns each object of `plan` with the API server's verdict, in the order of [`manifest::Manifests::all`].
///
/// # Errors
/// Fails if something prevents the run from starting, such as missing rights, or if the cluster does not respond.
pub async fn admit(
    cluster: &Cluster,
    plan: &Plan,
    info: &mut ClusterInfo,
    events: &Events,
) -> Result<Vec<PlannedObject>, Error> {
    let prepared = prepare::look(cluster, plan, info, events).await?;
    Ok(admit_all(cluster, plan, info.user.as_deref(), prepared.make_namespace).await?)
}

/// Like [`admit`], but without the checks before it: the caller knows whether the namespace must be created.
///
/// # Errors
/// Fails if the cluster does not respond.
pub async fn admit_all(
    cluster: &Cluster,
    plan: &Plan,
    user: Option<&str>,
    make_namespace: bool,
) -> Result<Vec<PlannedObject>, ClusterError> {
    let manifests = manifest::render(plan, user.unwrap_or("unknown"));
    let verdicts = stream::iter(manifests.all().cloned().collect::<Vec<_>>()).map(|manifest| {
        let absent = make_namespace && manifest.kind != Kind::Namespace;
        let name = manifest.reference();
        async move {
            let admission = if absent {
                let reason = "the namespace does not exist yet, and the API server admits nothing to it; \
                              -n names one that does";
                Admission::NotAsked(reason.to_owned())
            } else if manifest.kind == Kind::Namespace && !make_namespace {
                Admission::NotAsked("it exists, and is used as it is".to_owned())
            } else {
                shown(cluster, stand_in(manifest), &plan.namespace.name).await?
            };
            Ok(PlannedObject {
                name,
                admission: Some(admission),
            })
        }
    });
    let verdicts: Vec<Result<PlannedObject, ClusterError>> = verdicts.buffered(PARALLEL).collect().await;
    verdicts.into_iter().collect()
}

/// Replaces the service account of a pod with `default`, which every namespace has. The API server admits a pod only if
/// its service account exists, and in a dry run it does not. Nothing else about the pod changes.
fn stand_in(mut manifest: Manifest) -> Manifest {
    if manifest.kind == Kind::Pod {
        manifest.object["spec"]["serviceAccountName"] = "default".into();
    }
    manifest
}

async fn shown(cluster: &Cluster, manifest: Manifest, namespace: &str) -> Result<Admission, ClusterError> {
    let Err(error) = cluster.admit(&manifest, namespace).await else {
        return Ok(Admission::Admitted);
    };
    let message = error.explained.message.clone();
    match error.explained.cause {
        // A webhook with side effects cannot be called in a dry run.
        _ if message.contains("does not support dry run") => Ok(Admission::NotAsked(message)),
        Cause::Unreachable | Cause::Unauthorized | Cause::TimedOut | Cause::Busy | Cause::Auth => Err(error),
        _ => Ok(Admission::Refused(message)),
    }
}
