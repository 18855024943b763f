//! `verify`: checks the alerts of a finished run.

use jiff::Timestamp;

use super::records::Record;
use super::session::Session;
use super::{Outcome, records, sources};
use crate::cli::Verify;
use crate::cluster::connect::ConnectError;
use crate::defender::identity::ClusterIdentity;
use crate::error::Error;
use crate::event::Event;
use crate::exit::Exit;
use crate::history::History;
use crate::plan::DEFAULT_NAMESPACE;
use crate::result::{
    ClusterInfo, Detections, RunResult, ScenarioResult, UNKNOWN_RUN, Verdict, Verification, expectations,
};
use crate::scenario::Scenario;
use crate::signal::Stop;
use crate::verify::{self, AlertSource, Progress, VerifyOptions};

pub(super) async fn verify(request: Verify, session: &Session) -> Outcome {
    let judged = find(&request, session, None)?;
    let files = session.report.open_files(&request.report, None)?;
    let result = judge(&request, judged, session).await?;
    Ok(Box::new(move |report| {
        report.run(&result);
        result.exit.worse(report.write_reports(&files, &result))
    }))
}

/// Finds the run whose alerts are verified; if none is named, the last one in `context`, if given.
///
/// # Errors
/// Fails if there is no such run, or if an option does not fit it.
pub(super) fn find(
    request: &Verify,
    session: &Session,
    context: Option<&str>,
) -> Result<(RunResult, Known), Error> {
    let namespace = session.namespace.as_deref();
    let options = request.options.options();
    let (mut result, known) = if let Some(since) = request.since {
        let until = request.until.unwrap_or_else(Timestamp::now);
        if since > until {
            return Err(Error::WindowReversed { since, until });
        }
        let cluster = cluster_of_window(&options, session)?;
        let scenarios = sources::read(&sources::built_in(request.scenario.iter().cloned()))?;
        (
            unrecorded(scenarios, namespace, (since, until), cluster),
            Known::Window,
        )
    } else {
        let known = match request.record {
            Some(_) => Known::RunElsewhere,
            None => Known::RunHere,
        };
        let record = Record::new(request.run.clone(), request.record.clone());
        (records::read(&record, namespace, context)?, known)
    };
    let alerts = result
        .scenarios
        .iter_mut()
        .flat_map(|scenario| &mut scenario.alerts);
    let overrides = request.options.overrides();
    overrides.apply(alerts.map(|alert| (alert.id.as_str(), &mut alert.optional)))?;
    Ok((result, known))
}

/// Verifies the alerts of a run.
///
/// # Errors
/// Fails if alerts cannot be read at all, or if it is interrupted before that is known.
pub(super) async fn judge(
    request: &Verify,
    (mut result, known): (RunResult, Known),
    session: &Session,
) -> Result<RunResult, Error> {
    let options = request.options.options();
    let stop = session.on_signals("quit; nothing was changed".to_owned())?;
    let marks = identity(&result.cluster, &options, session).await;
    let find = AlertSource::find(&options, &result.cluster, marks);
    let source = unless_stopped(&stop, find).await?;
    result.cluster.resource_id = source.resource_id();
    // The exit code reports on the alerts, regardless of the exit code of the run itself.
    let exit = watch(&mut result, &source, &options, (known, None), &stop, session).await;
    (result.exit, result.exit_code) = (exit, exit.code());
    Ok(result)
}

/// Returns the cluster of a run without a record: the current one, or none if the options select the alerts.
fn cluster_of_window(options: &VerifyOptions, session: &Session) -> Result<ClusterInfo, Error> {
    let is_named = options.alerts.is_some()
        || options.azure.resource_id.is_some()
        || options.azure.subscription.is_some();
    match session.resolve() {
        Ok((_, info)) => Ok(info),
        Err(ConnectError::NotConfigured { .. }) if is_named => Ok(ClusterInfo {
            server: "an unknown cluster".to_owned(),
            ..ClusterInfo::default()
        }),
        Err(error) => Err(error.into()),
    }
}

/// Returns the identity of a run's cluster in Azure. The cluster itself is the best source, if it still exists.
async fn identity(cluster: &ClusterInfo, options: &VerifyOptions, session: &Session) -> ClusterIdentity {
    let is_present = options.alerts.is_none()
        && session
            .resolve()
            .is_ok_and(|(target, _)| target.server == cluster.server);
    match is_present.then(|| session.connect(None)) {
        Some(Ok(connection)) => connection.cluster.marks(connection.marks()).await,
        _ => ClusterIdentity::of_kubeconfig(&cluster.server, cluster.context.as_deref()),
    }
}

/// Awaits `work`, unless a signal arrives first.
pub(super) async fn unless_stopped<T>(
    stop: &Stop,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::select! {
        done = work => done,
        () = stop.wait() => Err(Error::Interrupted(stop.exit())),
    }
}

/// What is known about a run whose alerts are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// The complete result, recorded on this machine.
    RunHere,
    /// The complete result, from a record of another machine.
    RunElsewhere,
    /// Only its time and its location.
    Window,
}

/// Reads alerts and adds the verdicts, or why alerts could not be read, to the result. Returns the exit code that
/// follows from them. What earlier runs detected is `earlier`, or else what their records say.
///
/// Updates the record if it is on this machine.
pub(super) async fn watch(
    result: &mut RunResult,
    source: &AlertSource,
    options: &VerifyOptions,
    (known, earlier): (Known, Option<Detections>),
    stop: &Stop,
    session: &Session,
) -> Exit {
    let events = &session.events;
    (result.verification, result.verification_problem) = (None, None);
    let mut recorded = result.clone();
    let others = History::of_user()
        .and_then(|history| history.all())
        .unwrap_or_default()
        .runs;
    let show = |progress: Progress| match progress {
        Progress::Judged { verification, until } => {
            if known == Known::RunHere {
                recorded.verification = Some(verification.clone());
                records::keep(&recorded, events);
            }
            events.send(Event::Alerts {
                raised: verification.count(Verdict::Raised),
                waiting: verification.count(Verdict::Waiting),
                until,
            });
        }
        Progress::Retrying(error) => events.send(Event::Notice(error)),
    };
    let earlier = earlier.unwrap_or_else(|| Detections::before(result, &others));
    let runs = (&*result, &others[..], earlier);
    let unobserved = known == Known::Window;
    let watched = verify::watch(runs, source, options, unobserved, stop.wait(), show).await;
    let has_failed = |verification: &Verification| verification.failure.is_some();
    let exit = match &watched.error {
        Some(error) => error.exit(),
        None if watched.last.as_ref().is_some_and(has_failed) => Exit::AlertMissing,
        None => Exit::Ok,
    };
    result.verification_problem = watched.error.map(|error| error.to_problem(&session.kubectl()));
    result.verification = watched.last;
    if stop.requested() {
        exit.worse(stop.exit())
    } else {
        exit
    }
}

/// Creates the result of a run without a record: what ran, where and when.
fn unrecorded(
    scenarios: Vec<Scenario>,
    namespace: Option<&str>,
    (started, ended): (Timestamp, Timestamp),
    cluster: ClusterInfo,
) -> RunResult {
    let scenarios = scenarios.into_iter().map(|scenario| ScenarioResult {
        alerts: expectations(&scenario.alerts),
        id: scenario.id,
        title: scenario.title,
        tactics: vec![],
        steps: vec![],
    });
    let namespace = namespace.unwrap_or(DEFAULT_NAMESPACE).to_owned();
    RunResult {
        ended,
        ..RunResult::new(
            UNKNOWN_RUN.to_owned(),
            cluster,
            namespace,
            scenarios.collect(),
            started,
        )
    }
}
