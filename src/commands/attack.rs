//! A run: checks files and guards, runs the attack, saves its record, and verifies alerts if requested.

use super::confirm::consent;
use super::publish::{self, Scheduled};
use super::session::{Connection, Session, user_agent};
use super::sources::Request;
use super::verify::{self, Known, unless_stopped};
use super::{Outcome, records};
use crate::cli::RunArgs;
use crate::doctor::SensorState;
use crate::engine;
use crate::error::Error;
use crate::event::{Event, Started};
use crate::exit::Exit;
use crate::note;
use crate::plan::Plan;
use crate::report::{Files, export};
use crate::result::{ClusterInfo, Detections, RunResult};
use crate::signal::Stop;
use crate::verify::{AlertSource, VerifyOptions, require_sensor, rule_out};

pub(super) async fn attack(request: Request, session: &Session) -> Outcome {
    let mut plan = request.plan(session.namespace.clone())?;
    let run = &request.args;
    let connection = session.connect(Some(&plan))?;
    let scheduled = match &run.cron_job {
        Some(name) => {
            let find = Scheduled::find(&connection.cluster, name, &session.events);
            Some(find.await.map_err(before_run)?)
        }
        None => None,
    };
    let files = session.report.open_files(&run.report, run.soc_note.as_deref())?;
    let earlier = scheduled.as_ref().map(|scheduled| scheduled.earlier.clone());
    let attacked = Box::pin(attack_and_verify(
        run, &mut plan, connection, &files, earlier, session,
    ))
    .await;
    let mut problems = vec![];
    if let Some(scheduled) = &scheduled {
        let published = match &attacked {
            Ok(result) => scheduled.publish(result).await,
            Err(error) => scheduled.publish_error(error).await,
        };
        problems.extend(published.err().map(|error| Error::Unpublished(Box::new(error))));
    }
    if let (Some(gateway), Ok(result)) = (&run.push_gateway, &attacked) {
        problems.extend(publish::push(gateway, result).await.err());
    }
    let result = match attacked {
        Ok(result) => result,
        Err(error) => {
            for problem in problems {
                session.events.send(Event::Notice(problem.to_string()));
            }
            return Err(error);
        }
    };
    Ok(Box::new(move |report| {
        report.finished_run(&result);
        let exit = result.exit.worse(report.write_reports(&files, &result));
        let failed = problems.iter().map(|problem| report.fail(problem));
        failed.fold(exit, Exit::worse)
    }))
}

/// Runs a plan in one cluster of a fleet, whose reports the fleet writes. Also returns what could not be published.
pub(super) async fn attack_cluster(
    request: &Request,
    plan: &mut Plan,
    session: &Session,
) -> Result<(RunResult, Vec<Error>), Error> {
    let (run, connection) = (&request.args, session.connect(Some(plan))?);
    let files = Files::default();
    let result = Box::pin(attack_and_verify(run, plan, connection, &files, None, session)).await?;
    let mut failures = vec![];
    if let Some(gateway) = &run.push_gateway {
        failures.extend(publish::push(gateway, &result).await.err());
    }
    Ok((result, failures))
}

/// Gives the plan its victims, runs it, and verifies its alerts, if requested. `earlier` is what earlier runs detected, if not the records of
/// this machine say that.
async fn attack_and_verify(
    run: &RunArgs,
    plan: &mut Plan,
    connection: Connection,
    files: &Files,
    earlier: Option<Detections>,
    session: &Session,
) -> Result<RunResult, Error> {
    let (id, namespace) = (plan.run.to_string(), &plan.namespace.name);
    let now = session.report.cleanup_of(&id, namespace, &connection.info);
    let stop = session.on_signals(format!(
        "quit without cleanup; the cluster removes the run at its deadline. To remove it now: {now}"
    ))?;
    let cover = engine::cover(&connection.cluster, plan);
    unless_stopped(&stop, cover).await.map_err(before_run)?;
    let options = run.verify.then(|| run.verify_options.options());
    let source = match &options {
        Some(options) => {
            let find = alert_source(options, &connection);
            Some(unless_stopped(&stop, find).await.map_err(before_run)?)
        }
        None => None,
    };
    let attack = Attack {
        run,
        verify: options.as_ref().zip(source.as_ref()),
        plan,
        session,
        connection,
        files,
        stop: &stop,
    };
    let mut result = Box::pin(attack.run()).await?;
    let has_run = result.cleanup.is_some() || result.kept_until.is_some();
    if has_run {
        records::keep(&result, &session.events);
    }
    if let Some((options, source)) = options.as_ref().zip(source).filter(|_| has_run) {
        // After an interruption, alerts are not read, although they were requested.
        let exit = if stop.requested() {
            stop.exit()
        } else {
            verify::watch(
                &mut result,
                &source,
                options,
                (Known::RunHere, earlier),
                &stop,
                session,
            )
            .await
        };
        result.exit = result.exit.worse(exit);
        result.exit_code = result.exit.code();
        records::keep(&result, &session.events);
    }
    Ok(result)
}

/// Finds the source of alerts and checks that it can be read.
async fn alert_source(options: &VerifyOptions, connection: &Connection) -> Result<AlertSource, Error> {
    let marks = connection.cluster.marks(connection.marks()).await;
    let source = AlertSource::find(options, &connection.info, marks).await?;
    source.try_read().await?;
    Ok(source)
}

fn before_run(error: Error) -> Error {
    Error::BeforeRun(Box::new(error))
}

/// The inputs of a run.
struct Attack<'a> {
    run: &'a RunArgs,
    /// How and where alerts are read afterwards, if requested.
    verify: Option<(&'a VerifyOptions, &'a AlertSource)>,
    plan: &'a Plan,
    session: &'a Session,
    connection: Connection,
    files: &'a Files,
    stop: &'a Stop,
}

impl Attack<'_> {
    /// Runs the plan and checks in the meantime what the Defender sensor can detect.
    ///
    /// # Errors
    /// Fails if alerts were requested but cannot be raised. Nothing is created in this case.
    async fn run(&self) -> Result<RunResult, Error> {
        let Connection { cluster, info, .. } = &self.connection;
        let info = ClusterInfo {
            resource_id: self.verify.and_then(|(_, source)| source.resource_id()),
            ..info.clone()
        };
        let azure = self.verify.map(|(options, _)| options.azure.clone());
        let azure = (azure.unwrap_or_default(), self.connection.marks());
        let sense = Box::pin(SensorState::read(cluster, self.plan, azure));
        // With --verify, an absent sensor is an error before the run; otherwise the run does not wait for the check.
        let (sensing, sense) = match self.verify {
            Some((options, source)) => {
                let check = async {
                    let sensing = sense.await;
                    let facts = match &sensing {
                        Some(sensing) => sensing.facts().await,
                        None => None,
                    };
                    require_sensor(&self.plan.scenarios, facts.as_ref(), options, source)?;
                    Ok(sensing)
                };
                (unless_stopped(self.stop, check).await?, None)
            }
            None => (None, Some(sense)),
        };
        let consent = async |started: &Started| self.consent(started).await;
        let events = &self.session.events;
        let attack = Box::pin(engine::run(cluster, self.plan, info, consent, self.stop, events));
        let (mut result, sensing) = match sense {
            Some(mut sense) => meanwhile(attack, &mut sense).await,
            None => (attack.await, sensing),
        };
        if let Some(sensing) = sensing {
            tokio::select! {
                () = sensing.complete(&mut result) => {}
                () = self.stop.wait() => {}
            }
        }
        rule_out(&mut result);
        Ok(result)
    }

    /// Asks for consent, and writes the files that must exist before anything is created.
    async fn consent(&self, started: &Started) -> Result<(), Error> {
        let events = &self.session.events;
        consent(
            self.run,
            self.plan,
            &self.connection.target,
            started,
            self.session,
        )
        .await?;
        if let Some((path, file)) = self.run.soc_note.as_ref().zip(self.files.note.as_ref()) {
            let agent = user_agent(Some(self.plan));
            let note = note::soc_note(self.plan, started, &agent, jiff::Timestamp::now());
            let text = export::render_note(path, &note);
            file.write(&text, &self.session.report).map_err(before_run)?;
        }
        // Remains if this process ends before it writes the result.
        records::keep(&engine::unfinished(self.plan, started), events);
        Ok(())
    }
}

/// Runs both futures until `attack` completes; returns the result of `other` if it completed earlier.
async fn meanwhile<A, B>(
    attack: impl Future<Output = A>,
    other: &mut (impl Future<Output = Option<B>> + Unpin),
) -> (A, Option<B>) {
    tokio::pin!(attack);
    tokio::select! {
        result = &mut attack => (result, None),
        found = other => (attack.await, found),
    }
}
