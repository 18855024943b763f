//! Before anything is made: is the cluster there, may we, is the place free? Reads only.

use std::time::Duration;

use super::{Event, Events, Halt, Stop};
use crate::cluster::{Cluster, ClusterError, Found};
use crate::exit::Exit;
use crate::guard::Label;
use crate::manifest::{ANCHOR, ATTACKER, Kind, RIGHTS, Record, Right, VICTIM, rights};
use crate::plan::Plan;
use crate::result::{ClusterInfo, Problem};
use crate::untrusted;

/// A namespace that is being removed is given this long to be gone.
const NAMESPACE_GOING: Duration = Duration::from_secs(60);

/// What the look before the run found.
pub(super) struct Prepared {
    /// Whether the namespace has to be made.
    pub make_namespace: bool,
    /// Labels that may say what the cluster is for.
    pub labels: Vec<Label>,
}

pub(super) async fn prepare(
    cluster: &Cluster,
    plan: &Plan,
    info: &mut ClusterInfo,
    stop: &Stop,
    events: &Events,
) -> Result<Prepared, Halt> {
    tokio::select! {
        prepared = look(cluster, plan, info, events) => prepared,
        () = stop.wait() => Err(Halt::Stopped),
    }
}

/// The same without an end by a signal, for who makes nothing.
pub(super) async fn look(
    cluster: &Cluster,
    plan: &Plan,
    info: &mut ClusterInfo,
    events: &Events,
) -> Result<Prepared, Halt> {
    events.send(Event::Waiting("the cluster to answer".into()));
    let name = &plan.namespace.name;
    info.version = Some(cluster.version().await?);
    let (user, missing, mut labels) =
        tokio::try_join!(cluster.whoami(), cluster.missing_rights(name, &RIGHTS), async {
            Ok(cluster.node_labels().await)
        })?;
    info.user = user;
    may(&missing, name)?;
    let mut namespace = cluster.get(Kind::Namespace, name, name).await?;
    if let Some(going) = namespace.take_if(|found| found.terminating && found.is_ours()) {
        events.send(Event::Waiting(format!(
            "namespace {name} of an earlier run to be gone"
        )));
        match tokio::time::timeout(NAMESPACE_GOING, cluster.gone(&going)).await {
            Ok(gone) => gone?,
            Err(_) => {
                return refuse(
                    format!("namespace {name} is still being deleted"),
                    format!("see what holds it: kubectl get namespace {name} -o yaml"),
                );
            }
        }
    }
    match namespace {
        None => {
            let missing = cluster.missing_rights(name, &rights::MAKE_NAMESPACE).await?;
            if let Some(first) = missing.first() {
                return refuse(
                    format!(
                        "namespace {name} does not exist and you may not {} it",
                        first.verb
                    ),
                    "name a namespace you may use with -n NAMESPACE".to_owned(),
                );
            }
            Ok(Prepared {
                make_namespace: true,
                labels,
            })
        }
        Some(found) if found.terminating => refuse(
            format!("namespace {name} is being removed"),
            format!("wait for it: kubectl wait --for=delete namespace/{name}"),
        ),
        Some(found) if !found.is_ours() && !plan.namespace.given => refuse(
            format!("namespace {name} exists and was not made by this tool; nothing in it was touched"),
            format!("to use it as it is: -n {name}; it will stay, with everything in it"),
        ),
        Some(found) => {
            free(cluster, name).await?;
            let object = found.reference();
            labels.extend(found.labels.into_iter().map(|(key, value)| Label {
                object: object.clone(),
                key,
                value,
            }));
            Ok(Prepared {
                make_namespace: false,
                labels,
            })
        }
    }
}

fn refuse<T>(message: String, hint: String) -> Result<T, Halt> {
    Err(Halt::Problem(Problem {
        message,
        hint: Some(hint),
        details: vec![],
        exit: Exit::NotStarted,
    }))
}

/// Says which rights are missing; a pipeline wants all of them at once.
fn may(missing: &[Right], namespace: &str) -> Result<(), Halt> {
    let Some(first) = missing.first() else {
        return Ok(());
    };
    refuse(
        format!(
            "missing rights in namespace {namespace}: {}",
            rights::told(missing)
        ),
        format!(
            "ask for them; check with: kubectl auth can-i {} {} -n {namespace}",
            first.verb,
            first.resource()
        ),
    )
}

/// Whether the names this run needs are free.
async fn free(cluster: &Cluster, namespace: &str) -> Result<(), Halt> {
    let anchor = cluster.get(Kind::Job, namespace, ANCHOR).await?;
    if let Some(anchor) = anchor {
        return refuse(
            active(&anchor, namespace),
            format!("wait for it, or remove it: kubectl defender-sim cleanup -n {namespace}"),
        );
    }
    match taken(cluster, namespace).await? {
        None => Ok(()),
        Some(found) => refuse(
            format!(
                "{} exists in namespace {namespace} and this run needs the name; it was not touched",
                found.reference()
            ),
            if found.is_ours() {
                format!("kubectl defender-sim cleanup -n {namespace}")
            } else {
                "use another namespace: -n NAMESPACE".into()
            },
        ),
    }
}

/// An object that has a name which a run needs.
pub(crate) async fn taken(cluster: &Cluster, namespace: &str) -> Result<Option<Found>, ClusterError> {
    let names = [Kind::Pod, Kind::Service]
        .into_iter()
        .flat_map(|kind| [(kind, VICTIM), (kind, ATTACKER)]);
    let looks = names.map(|(kind, name)| cluster.get(kind, namespace, name));
    let found = futures::future::try_join_all(looks).await?;
    Ok(found.into_iter().flatten().next())
}

/// Says whose run holds the namespace.
pub(crate) fn active(anchor: &Found, namespace: &str) -> String {
    // Whoever may make Jobs there may have written it.
    match Record::of_annotations(&anchor.annotations) {
        Some(record) => format!(
            "run {} of {} holds namespace {namespace} until {:.0} at the latest",
            untrusted::line(&record.run),
            untrusted::line(&record.user),
            record.deadline
        ),
        None => format!(
            "{} exists in namespace {namespace} and was not made by this tool",
            anchor.reference()
        ),
    }
}
