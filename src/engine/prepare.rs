//! Checks a run before anything is created: whether the cluster responds, the user has the rights and the names are
//! free. It only reads.

use std::time::Duration;

use super::Halt;
use crate::cluster::{Cluster, ClusterError, Found};
use crate::error::Error;
use crate::event::{Event, Events};
use crate::guard::Label;
use crate::kubectl::Kubectl;
use crate::manifest::rights::{self, NamespaceUse, Subject};
use crate::manifest::{ANCHOR, ATTACKER, Kind, Record, Right, VICTIM};
use crate::net::Cause;
use crate::plan::Plan;
use crate::result::ClusterInfo;
use crate::signal::Stop;
use crate::untrusted;

/// Time to wait until a namespace that is being deleted is gone.
const NAMESPACE_GOING: Duration = Duration::from_secs(60);

/// The result of the checks before a run.
pub(super) struct Prepared {
    /// Whether the namespace must be created.
    pub make_namespace: bool,
    /// Labels that may indicate the purpose of the cluster.
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
        prepared = look(cluster, plan, info, events) => Ok(prepared?),
        () = stop.wait() => Err(Halt::Stopped),
    }
}

/// Like `prepare`, but signals do not stop it; for callers that create nothing.
pub(super) async fn look(
    cluster: &Cluster,
    plan: &Plan,
    info: &mut ClusterInfo,
    events: &Events,
) -> Result<Prepared, Error> {
    events.send(Event::Waiting("the cluster to answer".into()));
    let name = &plan.namespace.name;
    info.version = Some(cluster.version().await?);
    if plan.victims.is_empty() {
        return look_without_pods(cluster, name, info).await;
    }
    let every = rights::of_run(NamespaceUse::Create);
    let (user, missing, mut labels) =
        tokio::try_join!(cluster.whoami(), cluster.missing_rights(name, &every), async {
            Ok(cluster.node_labels().await)
        })?;
    info.user = user;
    let kubectl = cluster.kubectl();
    let readable = !missing.contains(&rights::GET_NAMESPACE);
    let mut namespace = if readable {
        cluster.get(Kind::Namespace, name, name).await?
    } else {
        None
    };
    let found = if readable { Ok(namespace.as_ref()) } else { Err(()) };
    let namespace_use = namespace_use(&found, plan.namespace.given);
    check_rights(&missing, namespace_use, name, info.user.as_deref(), kubectl)?;
    if let Some(going) = namespace.take_if(|found| found.terminating && found.is_ours()) {
        events.send(Event::Waiting(format!(
            "namespace {name} of an earlier run to be gone"
        )));
        match tokio::time::timeout(NAMESPACE_GOING, cluster.wait_until_gone(&going)).await {
            Ok(gone) => gone?,
            Err(_) => {
                return Err(terminating(name, true));
            }
        }
    }
    match namespace {
        None => Ok(Prepared {
            make_namespace: true,
            labels,
        }),
        Some(found) if found.terminating => Err(terminating(name, false)),
        Some(found) if !found.is_ours() && !plan.namespace.given => Err(Error::NamespaceForeign {
            namespace: name.clone(),
        }),
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

/// Checks a run that only sends requests: each of them reports its own missing rights.
async fn look_without_pods(cluster: &Cluster, name: &str, info: &mut ClusterInfo) -> Result<Prepared, Error> {
    let namespace = async {
        match cluster.get(Kind::Namespace, name, name).await {
            // The requests tell whether it exists.
            Err(error) if error.explained.cause == Cause::Forbidden => Ok(()),
            Ok(None) => Err(Error::NamespaceNotFound {
                namespace: name.to_owned(),
            }),
            found => Ok(found.map(|_| ())?),
        }
    };
    let (user, found, labels) = tokio::join!(cluster.whoami(), namespace, cluster.node_labels());
    found?;
    info.user = user?;
    Ok(Prepared {
        make_namespace: false,
        labels,
    })
}

fn terminating(namespace: &str, waited: bool) -> Error {
    Error::NamespaceTerminating {
        namespace: namespace.to_owned(),
        waited,
    }
}

/// Returns how a run uses its namespace. A namespace that cannot be read counts as existing if the user named it.
pub(crate) fn namespace_use<E>(found: &Result<Option<&Found>, E>, given: bool) -> NamespaceUse {
    match found {
        Err(_) if given => NamespaceUse::Keep,
        Err(_) | Ok(None) => NamespaceUse::Create,
        // It no longer exists when the run starts.
        Ok(Some(found)) if found.is_ours() && found.terminating => NamespaceUse::Create,
        Ok(Some(found)) if found.is_ours() => NamespaceUse::Delete,
        Ok(Some(_)) => NamespaceUse::Keep,
    }
}

/// Fails with every missing right: a pipeline needs all of them at once.
fn check_rights(
    missing: &[Right],
    namespace_use: NamespaceUse,
    namespace: &str,
    user: Option<&str>,
    kubectl: &Kubectl,
) -> Result<(), Error> {
    let missing = needed(missing, namespace_use);
    let Some(first) = missing.first() else {
        return Ok(());
    };
    Err(Error::MissingRights {
        namespace: namespace.to_owned(),
        hint: hint_grant(first, namespace_use, namespace, user, kubectl),
        missing,
    })
}

/// Returns the rights in `missing` that a run needs.
pub(crate) fn needed(missing: &[Right], namespace_use: NamespaceUse) -> Vec<Right> {
    let rights = rights::of_run(namespace_use).into_iter();
    rights.filter(|right| missing.contains(right)).collect()
}

/// Returns a hint with the commands that grant the rights of a run and check one of them.
pub(crate) fn hint_grant(
    missing: &Right,
    namespace_use: NamespaceUse,
    namespace: &str,
    user: Option<&str>,
    kubectl: &Kubectl,
) -> String {
    let subject = user.map(|user| Subject::User(user.to_owned()).to_string());
    let mut words = vec!["defender-sim", "rights", "-n", namespace];
    if namespace_use == NamespaceUse::Keep {
        words.push("--namespace-scoped");
    }
    if *missing == rights::LIST_NODES {
        words.push("--cover");
    }
    words.extend(["--subject", subject.as_deref().unwrap_or("user:NAME")]);
    format!(
        "an administrator grants them: {} | {}; check: {}",
        Kubectl::default().command(words),
        kubectl.without_identity().command(["apply", "-f", "-"]),
        kubectl.command([
            "auth",
            "can-i",
            missing.verb,
            &missing.qualified(),
            "-n",
            namespace
        ])
    )
}

/// Fails if a name that this run needs is not free.
async fn free(cluster: &Cluster, namespace: &str) -> Result<(), Error> {
    if let Some(anchor) = cluster.get(Kind::Job, namespace, ANCHOR).await? {
        return Err(held(&anchor, namespace));
    }
    match taken(cluster, namespace).await? {
        None => Ok(()),
        Some(found) => Err(Error::NameTaken {
            namespace: namespace.to_owned(),
            object: found.reference(),
            is_ours: found.is_ours(),
        }),
    }
}

/// Returns the error that `anchor` holds the namespace.
pub(super) fn held(anchor: &Found, namespace: &str) -> Error {
    Error::NamespaceHeld {
        namespace: namespace.to_owned(),
        holder: active(anchor, namespace),
    }
}

/// Returns an object that has a name which a run needs, if one exists.
pub(crate) async fn taken(cluster: &Cluster, namespace: &str) -> Result<Option<Found>, ClusterError> {
    let names = [Kind::Pod, Kind::Service]
        .into_iter()
        .flat_map(|kind| [(kind, VICTIM), (kind, ATTACKER)]);
    let looks = names.map(|(kind, name)| cluster.get(kind, namespace, name));
    let found = futures::future::try_join_all(looks).await?;
    Ok(found.into_iter().flatten().next())
}

/// Returns a message that names the run which holds the namespace, and its user.
pub(crate) fn active(anchor: &Found, namespace: &str) -> String {
    // Any user who can create Jobs in the namespace may have written the record.
    match Record::of_annotations(&anchor.annotations) {
        Some(record) => format!(
            "run {} of {} holds namespace {namespace} until {:.0} at the latest",
            untrusted::line(&record.run),
            untrusted::line(&record.user),
            record.deadline
        ),
        None => format!(
            "{} exists in namespace {namespace} and was not created by this tool",
            anchor.reference()
        ),
    }
}
