//! Carries out a parsed command line: connect, plan, act, report.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use futures::future::join_all;
use jiff::Timestamp;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinHandle;

use crate::cli::{
    self, Action, Answer, Cleanup, DryRun, Invocation, Of, Output, Recorded, Run, Source, Verify,
    VerifyOptions,
};
use crate::cluster::connect::{self, ConnectError, ConnectOptions, Target};
use crate::cluster::{Cluster, ClusterError, DEFAULT_REQUEST_TIMEOUT};
use crate::completion;
use crate::consent::{confirm, consent, system_namespace};
use crate::defender::alerts;
use crate::defender::marks::Marks;
use crate::defender::verdict;
use crate::doctor;
use crate::engine::{self, Event, Events, LeftRun, Standing, Started, Stop};
use crate::exit::Exit;
use crate::guard;
use crate::history::{self, History};
use crate::kubectl::Kubectl;
use crate::lint::{self, Linted};
use crate::manifest::{self, VICTIM};
use crate::net::{Cause, Environment};
use crate::note;
use crate::plan::{DEFAULT_NAMESPACE, Options, Plan};
use crate::report::{self, Report, export, show_events};
use crate::result::{
    self, Admission, CLEANUP_SCHEMA, CleanupResult, ClusterInfo, PLAN_SCHEMA, PlanResult, PlannedObject,
    PlannedStep, Problem, RUN_SCHEMA, RunResult, ScenarioResult, SkippedRun, UNKNOWN_RUN, Verification,
    expectations, merged_expectations,
};
use crate::scenario::{self, Scenario, catalogue};
use crate::schema;
use crate::verify::{self, Place};
use crate::words::counted;

const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Problem {
    fn of_connection(error: &ConnectError, options: &ConnectOptions) -> Self {
        Problem {
            message: error.to_string(),
            hint: error.hint().map(|hint| options.kubectl().complete(&hint)),
            details: vec![],
            exit: Exit::NotStarted,
        }
    }
}

/// Does what `invocation` says and prints the outcome.
pub async fn carry_out(invocation: Invocation) -> Exit {
    let report = Report::new(invocation.output.clone(), invocation.connect.kubectl());
    let exit = act(invocation, &report).await.unwrap_or_else(|problem| {
        report.problem(&problem);
        problem.exit
    });
    report.finish(exit)
}

/// Prints the answer to a command line that asks for nothing else, or that cannot be used.
pub fn answer(answer: &Answer) -> Exit {
    let output = Output {
        color: answer.color,
        ..Output::default()
    };
    let report = Report::new(output, Kubectl::default());
    report.answer(answer);
    report.finish(answer.exit)
}

async fn act(invocation: Invocation, report: &Report) -> Result<Exit, Problem> {
    let (sender, receiver) = unbounded_channel();
    let events = Events::new(sender);
    let Invocation {
        action,
        connect,
        request_timeout,
        namespace,
        output: _,
        unknown_variables,
    } = invocation;
    for name in unknown_variables {
        report.note(&format!(
            "warning: the variable {name} is not a setting (config view --output wide lists them)"
        ));
    }
    match action {
        Action::Run(run) => {
            let plan = plan(&run.scenarios, run.options.clone(), namespace)?;
            let agent = agent(Some(&plan));
            match run.dry_run {
                DryRun::None => {
                    let show = tokio::spawn(show_events(report.clone(), receiver));
                    let connection = open(&connect, request_timeout, &agent, &events)?;
                    Box::pin(attack(&run, &plan, connection, &agent, report, (events, show))).await
                }
                DryRun::Client => {
                    let info = match connect::resolve(&connect, &Environment::from_process()) {
                        Ok((_, target)) => info(&target, &connect),
                        Err(ConnectError::NotConfigured { .. }) if connect.is_default() => {
                            ClusterInfo::none()
                        }
                        Err(error) => return Err(Problem::of_connection(&error, &connect)),
                    };
                    let manifests = manifest::render(&plan, "whoever runs it");
                    let objects = manifests.all().map(|manifest| PlannedObject {
                        name: manifest.reference(),
                        admission: None,
                    });
                    report.plan(&planned(&plan, info, objects.collect()), &plan);
                    Ok(Exit::Ok)
                }
                DryRun::Server => {
                    let show = tokio::spawn(show_events(report.clone(), receiver));
                    let (cluster, _, mut info) = open(&connect, request_timeout, &agent, &events)?;
                    let admitted = engine::admit(&cluster, &plan, &mut info, &events).await;
                    drop((events, cluster));
                    let _ = show.await;
                    let planned = planned(&plan, info, admitted?);
                    report.plan(&planned, &plan);
                    Ok(planned.exit)
                }
            }
        }
        Action::Doctor(asked) => {
            let plan = plan(&asked.scenarios, asked.options, namespace)?;
            let (cluster, target, info) = open(&connect, request_timeout, &agent(None), &events)?;
            let show = tokio::spawn(show_events(report.clone(), receiver));
            let azure = (asked.azure, marks(&target));
            let result = doctor::doctor(cluster, plan, info, azure, &events).await;
            drop(events);
            let _ = show.await;
            report.doctor(&result);
            Ok(result.exit)
        }
        Action::Cleanup(asked) => {
            let connection = open(&connect, request_timeout, &agent(None), &events)?;
            let show = tokio::spawn(show_events(report.clone(), receiver));
            let result = Box::pin(cleanup(&asked, namespace.as_deref(), connection, &events)).await;
            drop(events);
            let _ = show.await;
            let result = result?;
            report.cleanup(&result);
            Ok(result.exit)
        }
        Action::List => {
            report.list(catalogue::all());
            Ok(Exit::Ok)
        }
        Action::Describe(source) => {
            report.describe(&scenarios(&[source])?[0]);
            Ok(Exit::Ok)
        }
        Action::Alerts => {
            report.alerts(alerts::all(), catalogue::all());
            Ok(Exit::Ok)
        }
        Action::Lint(files) => {
            let linted = lint::lint(&files);
            report.lint(&linted);
            let is_fine = linted.iter().all(|file| file.errors.is_empty());
            Ok(if is_fine { Exit::Ok } else { Exit::Usage })
        }
        Action::Verify(asked) => {
            let show = tokio::spawn(show_events(report.clone(), receiver));
            verify_run(
                &asked,
                namespace.as_deref(),
                (&connect, request_timeout),
                report,
                (events, show),
            )
            .await
        }
        Action::Report(of, reports) => {
            let result = record(&of, namespace.as_deref())?;
            let files = report.open_files(&reports, None)?;
            report.run(&result);
            Ok(report.write_reports(&files, &result))
        }
        Action::History => {
            let is_asked_for = |run: &RunResult| {
                let matches = |given: Option<&String>, of: Option<&String>| given.is_none() || given == of;
                matches(namespace.as_ref(), Some(&run.namespace))
                    && matches(connect.context.as_ref(), run.cluster.context.as_ref())
            };
            let mut records = History::of_user()?.all()?;
            records.runs.retain(is_asked_for);
            report.history(&records);
            Ok(Exit::Ok)
        }
        Action::Images(options) => {
            report.images(&options.attacker_image, &options.victim_image);
            Ok(Exit::Ok)
        }
        Action::Rights(scope, subjects) => {
            report.rights(&scope, &subjects);
            Ok(Exit::Ok)
        }
        Action::Settings(settings, file) => {
            report.notice(&match file {
                Some(path) if path.exists() => format!("file: {}", path.display()),
                Some(path) => format!("file: {} (does not exist)", path.display()),
                None => "file: none, for lack of a home directory".to_owned(),
            });
            report.settings(&settings);
            Ok(Exit::Ok)
        }
        Action::Schema(name) => {
            report.schema(&schema::schema(name));
            Ok(Exit::Ok)
        }
        Action::Completion(shell) => {
            report.text(&completion::script(shell));
            Ok(Exit::Ok)
        }
        Action::InstallCompletion(folder) => {
            let path = completion::install(folder, report)?;
            report.notice(&format!("wrote {}", path.display()));
            report.notice(if completion::is_found() {
                "check it: kubectl __complete defender-sim \"\""
            } else {
                "kubectl looks for it on PATH, which does not have this folder: add it, or name one that is there"
            });
            Ok(Exit::Ok)
        }
        Action::Man(folder) => {
            man(folder.as_deref(), report)?;
            Ok(Exit::Ok)
        }
        Action::Version { client: true } => {
            report.version(VERSION, None);
            Ok(Exit::Ok)
        }
        Action::Version { client: false } => {
            let server = match open(&connect, request_timeout, &agent(None), &events) {
                Ok((cluster, ..)) => cluster.version().await.map_err(Problem::from),
                Err(problem) => Err(problem),
            };
            report.version(VERSION, server.as_deref().ok());
            match server {
                Ok(_) => Ok(Exit::Ok),
                Err(problem) => Err(problem),
            }
        }
    }
}

/// Removes what runs left: looks for it, asks, and removes what was confirmed.
async fn cleanup(
    asked: &Cleanup,
    namespace: Option<&str>,
    (cluster, _, mut info): Connection,
    events: &Events,
) -> Result<CleanupResult, Problem> {
    if let Some(name) = namespace
        && guard::is_system_namespace(name)
        && !asked.allow_system_namespace
    {
        return Err(system_namespace(name));
    }
    let search = async || {
        futures::try_join!(
            cluster.whoami(),
            engine::find_runs(&cluster, namespace, asked.run.as_deref())
        )
    };
    let retries = ExponentialBuilder::default().with_min_delay(Duration::from_millis(500));
    let busy = |error: &ClusterError| matches!(error.explained.cause, Cause::Busy | Cause::TimedOut);
    let (user, found) = search.retry(retries).when(busy).await?;
    info.user = user;
    if let (Some(run), []) = (&asked.run, &found[..]) {
        let place = namespace.map_or_else(|| "any namespace".to_owned(), |name| format!("namespace {name}"));
        return Err(Problem {
            message: format!("run {run} has no objects in {place} of {}", info.server),
            hint: Some(format!(
                "list the runs that have: {}",
                cluster
                    .kubectl()
                    .command(["defender-sim", "cleanup", "--dry-run"])
            )),
            details: vec![],
            exit: Exit::NotStarted,
        });
    }
    let now = Timestamp::now();
    let (mut selected, mut skipped) = (vec![], vec![]);
    for run in found {
        match reason_to_skip(&run, asked, info.user.as_deref(), now) {
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
    let mut cleanup = result::Cleanup {
        verified: true,
        ..result::Cleanup::default()
    };
    let mut would_remove = vec![];
    if asked.dry_run {
        let named = selected.iter().flat_map(|run| {
            run.objects
                .iter()
                .map(|object| format!("{}: {object}", run.namespace))
        });
        would_remove.extend(named);
    } else if !selected.is_empty() {
        if !asked.yes {
            let text = cleanup_question(&selected, &info, now);
            confirm(
                text,
                "to remove them, add --yes; to list them, --dry-run".to_owned(),
                events,
            )
            .await?;
        }
        // One after the other in a namespace, since they may share it.
        let mut spaces: BTreeMap<&str, Vec<&LeftRun>> = BTreeMap::new();
        for run in &selected {
            spaces.entry(&run.namespace).or_default().push(run);
        }
        let parts = spaces.into_values().map(async |runs| {
            let mut parts = vec![];
            for run in runs {
                parts.push(engine::remove_run(&cluster, run, events).await);
            }
            parts
        });
        for part in join_all(parts).await.into_iter().flatten() {
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

/// Why `cleanup` leaves a run alone; `None` if it removes it.
fn reason_to_skip(run: &LeftRun, asked: &Cleanup, user: Option<&str>, now: Timestamp) -> Option<String> {
    if guard::is_system_namespace(&run.namespace) && !asked.allow_system_namespace {
        return Some("in a system namespace (--allow-system-namespace)".to_owned());
    }
    if asked.run.is_some() || asked.force {
        return None;
    }
    if run.standing(now) == Standing::InProgress {
        return Some(match run.deadline {
            Some(deadline) => format!("may be in progress until {deadline:.0}"),
            None => "may be starting".to_owned(),
        });
    }
    let other = run
        .user
        .as_deref()
        .zip(user)
        .is_some_and(|(owner, user)| owner != user);
    other.then(|| "started by another user".to_owned())
}

/// The question before a cleanup, a paragraph a line: every run with its owner and its state.
fn cleanup_question(runs: &[LeftRun], info: &ClusterInfo, now: Timestamp) -> String {
    let mut text = format!("cleanup in {info}\n");
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
        let _ = writeln!(
            text,
            "run {}{owner} in namespace {}: {objects}, {state}",
            run.run, run.namespace
        );
    }
    text + "Remove them? [y/N]"
}

/// Runs `plan`: files first, then the cluster, then the answer.
async fn attack(
    run: &Run,
    plan: &Plan,
    (cluster, target, info): Connection,
    agent: &str,
    report: &Report,
    (events, show): (Events, JoinHandle<()>),
) -> Result<Exit, Problem> {
    let files = report.open_files(&run.reports, run.soc_note.as_deref())?;
    let now = report.cleanup_of(&plan.run.to_string(), &plan.namespace.name, &info);
    let stop = stop(
        report,
        format!("ended at once; the cluster ends the run by its deadline, or now: {now}"),
    )?;
    let place = match &run.verify {
        Some(options) => {
            let find = async {
                let place = verify::find(options, &info, cluster.marks(marks(&target)).await).await?;
                place.try_out().await?;
                Ok((options, place))
            };
            Some(unless_stopped(&stop, find).await.map_err(not_started)?)
        }
        None => None,
    };
    let info = ClusterInfo {
        resource_id: place.as_ref().and_then(|(_, place)| place.resource_id()),
        ..info
    };
    let consent = async |started: &Started| {
        consent(run, plan, &target, started, &events).await?;
        if let Some((path, file)) = run.soc_note.as_ref().zip(files.note.as_ref()) {
            let note = note::soc_note(plan, started, agent, Timestamp::now());
            let text = export::render_note(path, &note);
            file.write(&text, report).map_err(not_started)?;
        }
        // Kept if this process does not live to write the result.
        keep_record(&engine::unfinished(plan, started), &events);
        Ok(())
    };
    let azure = run.verify.as_ref().map(|options| options.azure.options());
    let sense = doctor::Sensing::of(&cluster, plan, (azure.unwrap_or_default(), marks(&target)));
    let mut sensing = None;
    let mut sense = Some(Box::pin(sense));
    if let Some((options, place)) = &place
        && let Some(sense) = sense.take()
    {
        let look = async {
            let sensing = sense.await;
            let facts = match &sensing {
                Some(sensing) => sensing.facts(None).await,
                None => None,
            };
            verify::require_sensor(facts, options, place)?;
            Ok(sensing)
        };
        sensing = unless_stopped(&stop, look).await?;
    }
    let attack = Box::pin(engine::run(&cluster, plan, info, consent, &stop, &events));
    // What is seen of the sensor meanwhile; a run that does not verify does not wait for it.
    let gather = async {
        if let Some(sense) = sense {
            sensing = sense.await;
        }
        std::future::pending().await
    };
    let mut result = tokio::select! {
        result = attack => result,
        never = gather => never,
    };
    if let Some(sensing) = sensing {
        result.facts = tokio::select! {
            facts = sensing.facts(result.node.as_deref()) => facts,
            () = stop.wait() => None,
        };
    }
    verdict::rule_out(&mut result);
    let attacked = result.cleanup.is_some() || result.kept_until.is_some();
    if attacked {
        keep_record(&result, &events);
    }
    if let Some((options, place)) = place.filter(|_| attacked) {
        // Where it was stopped, nobody looks, and that is not what was asked for.
        if !stop.requested() {
            look(&mut result, &place, options, Known::RunHere, &stop, &events).await;
        }
        result.exit = result.exit.worse(judged(&result, &stop));
        result.exit_code = result.exit.code();
        keep_record(&result, &events);
    }
    drop((events, cluster));
    let _ = show.await;
    report.run(&result);
    Ok(result.exit.worse(report.write_reports(&files, &result)))
}

/// Looks for the alerts of a run that has ended.
async fn verify_run(
    asked: &Verify,
    namespace: Option<&str>,
    (connect, request_timeout): (&ConnectOptions, Option<Duration>),
    report: &Report,
    (events, show): (Events, JoinHandle<()>),
) -> Result<Exit, Problem> {
    let (mut result, known) = match &asked.of {
        Of::Run(recorded @ Recorded::File(_)) => (record(recorded, namespace)?, Known::RunElsewhere),
        Of::Run(recorded) => (record(recorded, namespace)?, Known::RunHere),
        Of::Window {
            scenarios,
            since,
            until,
        } => {
            if since > until {
                let message = format!("--since {since} is after --until {until}");
                return Err(Problem::usage(message, None));
            }
            let cluster = match connect::resolve(connect, &Environment::from_process()) {
                Ok((_, target)) => info(&target, connect),
                // What is read says whose alerts they are.
                Err(ConnectError::NotConfigured { .. }) if says_where(&asked.options) => ClusterInfo {
                    server: "an unknown cluster".to_owned(),
                    ..ClusterInfo::default()
                },
                Err(error) => return Err(Problem::of_connection(&error, connect)),
            };
            let result = unrecorded(self::scenarios(scenarios)?, namespace, (*since, *until), cluster);
            (result, Known::Window)
        }
    };
    let files = report.open_files(&asked.reports, None)?;
    let stop = stop(report, "ended at once".to_owned())?;
    // The cluster may be gone by now; where it is not, it knows best what it is.
    let is_known = asked.options.alerts.is_none()
        && connect::resolve(connect, &Environment::from_process())
            .is_ok_and(|(_, target)| target.server == result.cluster.server);
    let marks = match is_known.then(|| open(connect, request_timeout, &agent(None), &events)) {
        Some(Ok((cluster, target, _))) => cluster.marks(marks(&target)).await,
        _ => Marks::of_kubeconfig(&result.cluster.server, result.cluster.context.as_deref()),
    };
    let find = verify::find(&asked.options, &result.cluster, marks);
    let place = unless_stopped(&stop, find).await?;
    result.cluster.resource_id = place.resource_id();
    look(&mut result, &place, &asked.options, known, &stop, &events).await;
    // The answer is to the question about alerts, whatever became of the run.
    let exit = judged(&result, &stop);
    (result.exit, result.exit_code) = (exit, exit.code());
    drop(events);
    let _ = show.await;
    report.run(&result);
    Ok(exit.worse(report.write_reports(&files, &result)))
}

/// Does it, unless it is stopped before it is done.
async fn unless_stopped<T>(
    stop: &Stop,
    doing: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    tokio::select! {
        done = doing => done,
        () = stop.wait() => Err(Problem {
            message: "interrupted before alerts could be read".to_owned(),
            hint: None,
            details: vec![],
            exit: stop.exit(),
        }),
    }
}

/// What was in the way before anything was made.
fn not_started(problem: Problem) -> Problem {
    let exit = match problem.exit {
        Exit::AlertMissing | Exit::Unwritten => Exit::NotStarted,
        other => other,
    };
    Problem { exit, ..problem }
}

/// Whether the options say whose alerts are read, so that no cluster is needed for that.
fn says_where(options: &VerifyOptions) -> bool {
    options.alerts.is_some() || options.azure.resource_id.is_some() || options.azure.subscription.is_some()
}

/// What is known of a run whose alerts are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// All, and this machine has its record.
    RunHere,
    /// All, by a record from elsewhere.
    RunElsewhere,
    /// When and where it was.
    Window,
}

/// Reads alerts and puts the verdicts, and what was in the way of reading on, into the result, and into its record
/// where this machine has one.
async fn look(
    result: &mut RunResult,
    place: &Place,
    options: &VerifyOptions,
    known: Known,
    stop: &Stop,
    events: &Events,
) {
    (result.verification, result.unread) = (None, None);
    let mut recorded = result.clone();
    let others = History::of_user()
        .and_then(|history| history.all())
        .unwrap_or_default()
        .runs;
    let seen = |verification: &Verification| {
        if known == Known::RunHere {
            recorded.verification = Some(verification.clone());
            keep_record(&recorded, events);
        }
    };
    let runs = (&*result, &others[..]);
    let unobserved = known == Known::Window;
    let watched = verify::watch(runs, place, options, unobserved, stop, events, seen).await;
    (result.verification, result.unread) = (watched.last, watched.unread);
}

/// What a look for alerts means for the process.
fn judged(result: &RunResult, stop: &Stop) -> Exit {
    let failure = |verification: &Verification| verification.failure.is_some();
    let missing = result.verification.as_ref().is_some_and(failure);
    let base = if stop.requested() { stop.exit() } else { Exit::Ok };
    match &result.unread {
        Some(problem) => base.worse(problem.exit),
        None if missing => base.worse(Exit::AlertMissing),
        None => base,
    }
}

/// A run that nothing is known of but what ran where and when.
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
    RunResult {
        schema: RUN_SCHEMA.into(),
        version: VERSION.into(),
        run: UNKNOWN_RUN.to_owned(),
        cluster,
        namespace: namespace.unwrap_or(DEFAULT_NAMESPACE).to_owned(),
        node: None,
        started,
        ended,
        clock_offset_seconds: None,
        scenarios: scenarios.collect(),
        problem: None,
        cleanup: None,
        kept_until: None,
        facts: None,
        verification: None,
        unread: None,
        exit: Exit::Ok,
        exit_code: 0,
    }
}

/// The record asked for; the last one is that of `namespace`, where it is given.
fn record(of: &Recorded, namespace: Option<&str>) -> Result<RunResult, Problem> {
    match of {
        Recorded::File(path) => history::read(path),
        Recorded::Run(run) => History::of_user()?.load(run),
        Recorded::Last => History::of_user()?.last(namespace),
    }
}

/// A record that cannot be written is no reason to call a run failed.
fn keep_record(result: &RunResult, events: &Events) {
    if let Err(problem) = History::of_user().and_then(|history| history.save(result)) {
        events.send(Event::Notice(problem.message));
    }
}

/// Prints what can come next on a command line.
pub fn complete(words: Vec<OsString>) -> Exit {
    let report = Report::new(Output::default(), Kubectl::default());
    report.text(&completion::answer(words));
    report.finish(Exit::Ok)
}

fn man(folder: Option<&Path>, report: &Report) -> Result<(), Problem> {
    // Files are called as the program, the text calls it as users do.
    let command = cli::command().bin_name("kubectl defender-sim");
    let Some(folder) = folder else {
        let mut page = vec![];
        let rendered = clap_mangen::Man::new(command).render(&mut page);
        rendered.expect("writing to memory works");
        report.text(&String::from_utf8_lossy(&page));
        return Ok(());
    };
    let what = format!("manual pages into {}", folder.display());
    std::fs::create_dir_all(folder).map_err(|error| report::unwritable(&what, &error))?;
    clap_mangen::generate_to(command, folder).map_err(|error| report::unwritten(&what, &error))
}

fn agent(plan: Option<&Plan>) -> String {
    match plan {
        Some(plan) => format!("kubectl-defender_sim/{VERSION} (run {})", plan.run),
        None => format!("kubectl-defender_sim/{VERSION}"),
    }
}

fn plan(sources: &[Source], options: Options, namespace: Option<String>) -> Result<Plan, Problem> {
    let mut random = [0; 64];
    getrandom::fill(&mut random).map_err(|error| Problem {
        message: format!("failed to get randomness from the operating system: {error}"),
        hint: None,
        details: vec![],
        exit: Exit::NotStarted,
    })?;
    let scenarios = scenarios(sources)?;
    let conflicts = scenario::conflicts(&scenarios);
    if !conflicts.is_empty() {
        let message = "these scenarios cannot share a run".to_owned();
        let mut problem = Problem::usage(message, Some("run them one after the other"));
        problem.details = conflicts;
        return Err(problem);
    }
    Ok(Plan::new(options, namespace, scenarios, random, Timestamp::now()))
}

/// Reads the scenarios, in order, and reports every mistake in every file.
fn scenarios(sources: &[Source]) -> Result<Vec<Scenario>, Problem> {
    let paths = sources.iter().filter_map(|source| match source {
        Source::File(path) => Some(path.clone()),
        Source::BuiltIn(_) => None,
    });
    let linted = lint::lint(&paths.collect::<Vec<_>>());
    let bad: Vec<&Linted> = linted.iter().filter(|file| !file.errors.is_empty()).collect();
    if !bad.is_empty() {
        let names: Vec<&str> = bad.iter().map(|file| file.file.as_str()).collect();
        let start = "kubectl defender-sim describe recon -o yaml shows what such a file looks like";
        let mut problem = Problem::usage(format!("{} cannot be used", names.join(", ")), Some(start));
        problem.details = bad.into_iter().flat_map(Linted::sentences).collect();
        return Err(problem);
    }
    let mut files = linted.into_iter().filter_map(|file| file.content);
    let scenario = |source: &Source| match source {
        Source::BuiltIn(id) => catalogue::find(id)
            .cloned()
            .ok_or_else(|| Problem::usage(format!("no scenario {id:?}"), Some("kubectl defender-sim list"))),
        Source::File(_) => Ok(files.next().expect("a file without errors has a scenario")),
    };
    sources.iter().map(scenario).collect()
}

/// A cluster, where it was found, and what is known of it.
type Connection = (Cluster, Target, ClusterInfo);

fn open(
    options: &ConnectOptions,
    request_timeout: Option<Duration>,
    agent: &str,
    events: &Events,
) -> Result<Connection, Problem> {
    let problem = |error| Problem::of_connection(&error, options);
    let (config, target) = connect::resolve(options, &Environment::from_process()).map_err(problem)?;
    let warnings = events.clone();
    let client = connect::client(config, agent, move |text| {
        warnings.send(Event::Notice(text.to_owned()));
    });
    let info = info(&target, options);
    let cluster = Cluster::new(
        client.map_err(problem)?,
        request_timeout.unwrap_or(DEFAULT_REQUEST_TIMEOUT),
    );
    let cluster = cluster.with_hints(options.kubectl());
    Ok((cluster, target, info))
}

fn marks(target: &Target) -> Marks {
    Marks::of_kubeconfig(&target.server, target.cluster.as_deref())
}

fn info(target: &Target, options: &ConnectOptions) -> ClusterInfo {
    ClusterInfo {
        context: target.context.clone(),
        server: target.server.clone(),
        kubeconfig_user: target.user.clone(),
        impersonated: options.impersonate.clone(),
        ..ClusterInfo::default()
    }
}

/// The plan as it is told.
fn planned(plan: &Plan, cluster: ClusterInfo, objects: Vec<PlannedObject>) -> PlanResult {
    let refused = |object: &PlannedObject| matches!(object.admission, Some(Admission::Refused(_)));
    let exit = if objects.iter().any(refused) {
        Exit::NotStarted
    } else {
        Exit::Ok
    };
    let steps = plan.steps().map(|(id, step)| PlannedStep {
        id,
        title: step.title.clone(),
        pod: VICTIM.to_owned(),
        script: step.script.clone(),
        proof: step.proof.clone(),
    });
    PlanResult {
        schema: PLAN_SCHEMA,
        version: VERSION,
        cluster,
        namespace: plan.namespace.name.clone(),
        attacker_image: plan.options.attacker_image.clone(),
        victim_image: plan.options.victim_image.clone(),
        objects,
        steps: steps.collect(),
        addresses: plan.addresses(),
        alerts: merged_expectations(&plan.scenarios),
        deadline_seconds: plan.options.deadline.as_secs(),
        exit,
        exit_code: exit.code(),
    }
}

/// Listens for signals; at the second one says `last` and ends.
fn stop(report: &Report, last: String) -> Result<Stop, Problem> {
    let report = report.clone();
    let second = move || {
        report.note(&last);
        #[expect(
            clippy::exit,
            reason = "the second signal: clean-up is not waited for any more"
        )]
        std::process::exit(Exit::Interrupted.code().into());
    };
    Stop::on_signals(second).map_err(|error| Problem {
        message: format!("failed to listen for signals: {error}"),
        hint: None,
        details: vec![],
        exit: Exit::NotStarted,
    })
}
