//! Has the API server admit every object of a run, with all its policies, and keep none.

use futures::{StreamExt, stream};

use super::{Halt, prepare};
use crate::cluster::Cluster;
use crate::event::Events;
use crate::manifest::{self, Kind, Manifest};
use crate::net::Cause;
use crate::plan::Plan;
use crate::result::{Admission, ClusterInfo, PlannedObject, Problem};

/// Objects shown at once.
const PARALLEL: usize = 8;

/// Each object of `plan` with what the API server says to it, in the order of [`manifest::Manifests::all`].
///
/// # Errors
/// What keeps a run from starting, such as missing rights, or a cluster that does not answer.
pub async fn admit(
    cluster: &Cluster,
    plan: &Plan,
    info: &mut ClusterInfo,
    events: &Events,
) -> Result<Vec<PlannedObject>, Problem> {
    let prepared = match prepare::look(cluster, plan, info, events).await {
        Ok(prepared) => prepared,
        Err(Halt::Problem(problem)) => return Err(problem),
        Err(Halt::Stopped) => unreachable!("a look without a signal is not stopped"),
    };
    admit_all(cluster, plan, info.user.as_deref(), prepared.make_namespace).await
}

/// The same without a look before, for who knows whether the namespace has to be made.
///
/// # Errors
/// A cluster that does not answer.
pub async fn admit_all(
    cluster: &Cluster,
    plan: &Plan,
    user: Option<&str>,
    make_namespace: bool,
) -> Result<Vec<PlannedObject>, Problem> {
    let manifests = manifest::render(plan, user.unwrap_or("unknown"));
    let verdicts = stream::iter(manifests.all().cloned().collect::<Vec<_>>()).map(|manifest| {
        let absent = make_namespace && manifest.kind != Kind::Namespace;
        let name = manifest.reference();
        async move {
            let admission = if absent {
                let reason = "the namespace does not exist yet, and the API server admits nothing to it; \
                              -n names one that does";
                Admission::NotTold(reason.to_owned())
            } else if manifest.kind == Kind::Namespace && !make_namespace {
                Admission::NotTold("it exists, and is used as it is".to_owned())
            } else {
                shown(cluster, stand_in(manifest), &plan.namespace.name).await?
            };
            Ok(PlannedObject {
                name,
                admission: Some(admission),
            })
        }
    });
    let verdicts: Vec<Result<PlannedObject, Problem>> = verdicts.buffered(PARALLEL).collect().await;
    verdicts.into_iter().collect()
}

/// Pods name a service account that must exist when they come, and in a dry run it does not: they are shown
/// with the one that every namespace has, which changes nothing else about them.
fn stand_in(mut manifest: Manifest) -> Manifest {
    if manifest.kind == Kind::Pod {
        manifest.object["spec"]["serviceAccountName"] = "default".into();
    }
    manifest
}

async fn shown(cluster: &Cluster, manifest: Manifest, namespace: &str) -> Result<Admission, Problem> {
    let Err(error) = cluster.admit(&manifest, namespace).await else {
        return Ok(Admission::Admitted);
    };
    let message = error.explained.message.clone();
    match error.explained.cause {
        // A webhook with side effects cannot be asked without them.
        _ if message.contains("does not support dry run") => Ok(Admission::NotTold(message)),
        Cause::Unreachable | Cause::Unauthorized | Cause::TimedOut | Cause::Busy | Cause::Auth => {
            Err(error.into())
        }
        _ => Ok(Admission::Refused(message)),
    }
}
