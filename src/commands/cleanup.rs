//! `cleanup`: finds the remains of runs, asks for confirmation, and removes what was confirmed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use futures::future::join_all;
use jiff::Timestamp;

use super::Outcome;
use super::confirm::{Subject, confirm};
use super::session::Session;
use crate::cli::Cleanup;
use crate::cluster::{Cluster, ClusterError};
use crate::engine::{self, LeftRun, Standing};
use crate::error::Error;
use crate::event::Events;
use crate::exit::Exit;
use crate::guard;
use crate::net::Cause;
use crate::result::{self, CLEANUP_SCHEMA, CleanupResult, ClusterInfo, SkippedRun};
use crate::words::counted;

pub(super) async fn cleanup(request: &Cleanup, session: &Session) -> Outcome {
    let result = clean(request, session).await?;
    Ok(Box::new(move |report| {
        report.cleanup(&result);
        result.exit
    }))
}

/// Removes the remains of runs in one cluster.
///
/// # Errors
/// Fails if the cluster cannot be read or the removal is not confirmed.
pub(super) async fn clean(request: &Cleanup, session: &Session) -> Result<CleanupResult, Error> {
    let namespace = session.namespace.as_deref();
    if let Some(name) = namespace
        && guard::is_system_namespace(name)
        && !request.allow_system_namespace
    {
        return Err(Error::SystemNamespace {
            namespace: name.to_owned(),
        });
    }
    let connection = session.connect(None)?;
    let (cluster, mut info) = (connection.cluster, connection.info);
    let (user, runs) = find(&cluster, namespace, request.run.as_deref()).await?;
    info.user = user;
    if let (Some(run), []) = (&request.run, &runs[..]) {
        return Err(Error::RunNotFound {
            run: run.clone(),
            namespace: session.namespace.clone(),
            server: info.server,
        });
    }
    let now = Timestamp::now();
    let (mut selected, mut skipped) = (vec![], vec![]);
    for run in runs {
        match reason_to_skip(&run, request, info.user.as_deref(), now) {
            None => selected.push(run),
            Some(reason) => skipped.push(SkippedRun {
                run: run.run,
                namespace: run.namespace,
                user: run.user,
                deadline: run.deadline,
                reason,
            }),
        }
    }
    let mut would_remove = vec![];
    let mut cleanup = result::Cleanup {
        verified: true,
        ..result::Cleanup::default()
    };
    if request.dry_run {
        let objects = selected.iter().flat_map(|run| {
            let objects = run.objects.iter();
            objects.map(|object| format!("{}: {object}", run.namespace))
        });
        would_remove.extend(objects);
    } else if !selected.is_empty() {
        if !request.yes {
            let hint = "to remove them, add --yes; to list them, --dry-run".to_owned();
            confirm(question(&selected, &info, now), hint, session).await?;
        }
        for part in remove(&selected, &cluster, &session.events).await {
            cleanup.absorb(part);
        }
    }
    let exit = if cleanup.is_clean() {
        Exit::Ok
    } else {
        Exit::LeftBehind
    };
    let namespaces: BTreeSet<String> = selected.into_iter().map(|run| run.namespace).collect();
    Ok(CleanupResult {
        schema: CLEANUP_SCHEMA,
        cluster: info,
        namespaces: namespaces.into_iter().collect(),
        would_remove,
        skipped,
        cleanup,
        exit,
        exit_code: exit.code(),
    })
}

/// Finds the user and the runs. Retries while the API server is busy or restarts.
async fn find(
    cluster: &Cluster,
    namespace: Option<&str>,
    run: Option<&str>,
) -> Result<(Option<String>, Vec<LeftRun>), ClusterError> {
    let search = async || futures::try_join!(cluster.whoami(), engine::find_runs(cluster, namespace, run));
    let retries = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(500))
        .with_max_delay(Duration::from_secs(2))
        .with_max_times(6);
    let is_busy = |error: &ClusterError| matches!(error.explained.cause, Cause::Busy | Cause::TimedOut);
    search.retry(retries).when(is_busy).await
}

/// Removes runs; those in the same namespace sequentially, because they may share it.
async fn remove(runs: &[LeftRun], cluster: &Cluster, events: &Events) -> Vec<result::Cleanup> {
    let mut namespaces: BTreeMap<&str, Vec<&LeftRun>> = BTreeMap::new();
    for run in runs {
        namespaces.entry(&run.namespace).or_default().push(run);
    }
    let parts = namespaces.into_values().map(async |runs| {
        let mut parts = vec![];
        for run in runs {
            parts.push(engine::remove_run(cluster, run, events).await);
        }
        parts
    });
    join_all(parts).await.into_iter().flatten().collect()
}

/// Returns why a run is skipped, or `None` if it is to be removed.
fn reason_to_skip(run: &LeftRun, request: &Cleanup, user: Option<&str>, now: Timestamp) -> Option<String> {
    if guard::is_system_namespace(&run.namespace) && !request.allow_system_namespace {
        return Some("in a system namespace (--allow-system-namespace)".to_owned());
    }
    if request.run.is_some() || request.force {
        return None;
    }
    if run.standing(now) == Standing::InProgress {
        return Some(match run.deadline {
            Some(deadline) => format!("may be in progress until {deadline:.0}"),
            None => "may be starting".to_owned(),
        });
    }
    let is_of_other = run
        .user
        .as_deref()
        .zip(user)
        .is_some_and(|(owner, user)| owner != user);
    is_of_other.then(|| "started by another user".to_owned())
}

/// Returns the question before a cleanup: every run with its owner and state.
fn question(runs: &[LeftRun], info: &ClusterInfo, now: Timestamp) -> Subject {
    let mut subject = format!("cleanup in {info}\n");
    for run in runs {
        let owner = run
            .user
            .as_ref()
            .map_or_else(String::new, |user| format!(" of {user}"));
        let state = match (run.standing(now), run.deadline) {
            (Standing::InProgress, Some(deadline)) => format!("may be IN PROGRESS until {deadline:.0}"),
            (Standing::InProgress, None) => "may be STARTING".to_owned(),
            (Standing::Ended, Some(deadline)) => format!("ended at {deadline:.0} at the latest"),
            (Standing::Ended, None) => "ended".to_owned(),
        };
        let objects = counted(run.objects.len(), "object");
        let (id, namespace) = (&run.run, &run.namespace);
        let _ = writeln!(
            subject,
            "run {id}{owner} in namespace {namespace}: {objects}, {state}"
        );
    }
    Subject {
        place: subject,
        consequences: String::new(),
        prompt: "Remove them? [y/N]",
    }
}
