//! Checks a run before anything is created: whether the cluster responds, the user has the rights and the names are
//! free. It only reads.

use std::time::Duration;

use super::Halt;
use crate::cluster::{Cluster, ClusterError, Found};
use crate::event::{Event, Events};
use crate::exit::Exit;
use crate::guard::Label;
use crate::kubectl::Kubectl;
use crate::manifest::rights::{self, NamespaceUse, Subject};
use crate::manifest::{ANCHOR, ATTACKER, Kind, Record, Right, VICTIM};
use crate::net::Cause;
use crate::plan::Plan;
use crate::result::{ClusterInfo, Problem};
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
        prepared = look(cluster, plan, info, events) => prepared,
        () = stop.wait() => Err(Halt::Stopped),
    }
}

/// Like `prepare`, but signals do not stop it; for callers that create nothing.
pub(super) async fn look(
    cluster: &Cluster,
    plan: &Plan,
    info: &mut ClusterInfo,
    events: &Events,
) -> Result<Prepared, Halt> {
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
                return refuse(
                    format!("namespace {name} is still being deleted"),
                    format!(
                        "see what holds it: {}",
                        kubectl.command(["get", "namespace", name, "-o", "yaml"])
                    ),
                );
            }
        }
    }
    match namespace {
        None => Ok(Prepared {
            make_namespace: true,
            labels,
        }),
        Some(found) if found.terminating => refuse(
            format!("namespace {name} is being deleted"),
            format!(
                "wait for it: {}",
                kubectl.command(["wait", "--for=delete", &format!("namespace/{name}")])
            ),
        ),
        Some(found) if !found.is_ours() && !plan.namespace.given => refuse(
            format!("namespace {name} exists and was not created by this tool; nothing in it was touched"),
            format!("to use it unchanged: -n {name}; a run keeps it, with everything in it"),
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

/// Checks a run that only sends requests: each of them reports its own missing rights.
async fn look_without_pods(cluster: &Cluster, name: &str, info: &mut ClusterInfo) -> Result<Prepared, Halt> {
    let namespace = async {
        match cluster.get(Kind::Namespace, name, name).await {
            // The requests tell whether it exists.
            Err(error) if error.explained.cause == Cause::Forbidden => Ok(vec![]),
            Ok(None) => Ok(vec![format!("namespace {name} does not exist")]),
            found => found.map(|_| vec![]),
        }
    };
    let nodes = async { Ok(cluster.node_labels().await) };
    let (user, problems, labels) = tokio::try_join!(cluster.whoami(), namespace, nodes)?;
    info.user = user;
    match problems.into_iter().next() {
        None => Ok(Prepared {
            make_namespace: false,
            labels,
        }),
        Some(problem) => refuse(problem, "use a namespace that exists: -n NAMESPACE".to_owned()),
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
) -> Result<(), Halt> {
    let missing = needed(missing, namespace_use);
    let Some(first) = missing.first() else {
        return Ok(());
    };
    refuse(
        format!(
            "missing rights for a run in namespace {namespace}: {}",
            rights::grouped(&missing)
        ),
        hint_grant(first, namespace_use, namespace, user, kubectl),
    )
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
    let mut rights = vec!["defender-sim", "rights", "-n", namespace];
    if namespace_use == NamespaceUse::Keep {
        rights.push("--namespace-scoped");
    }
    rights.extend(["--subject", subject.as_deref().unwrap_or("user:NAME")]);
    format!(
        "an administrator grants them: {} | {}; check: {}",
        Kubectl::default().command(rights),
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
async fn free(cluster: &Cluster, namespace: &str) -> Result<(), Halt> {
    let cleanup = || {
        let words = ["defender-sim", "cleanup", "-n", namespace];
        cluster.kubectl().command(words)
    };
    let anchor = cluster.get(Kind::Job, namespace, ANCHOR).await?;
    if let Some(anchor) = anchor {
        return refuse(
            active(&anchor, namespace),
            format!("wait for it, or remove it: {}", cleanup()),
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
                cleanup()
            } else {
                "use another namespace: -n NAMESPACE".into()
            },
        ),
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
