//! Carries out a parsed command line: connect, plan, act, report.

use jiff::Timestamp;
use tokio::sync::mpsc::unbounded_channel;

use crate::cli::{Action, Invocation, Source};
use crate::cluster::connect::{self, ConnectError, Environment};
use crate::cluster::{Cluster, DEFAULT_REQUEST_TIMEOUT};
use crate::defender::alerts;
use crate::engine::{self, Event, Events, Stop};
use crate::exit::Exit;
use crate::manifest;
use crate::plan::{Options, Plan};
use crate::report::{Report, show_events};
use crate::result::{CLEANUP_SCHEMA, CleanupResult, ClusterInfo, Problem};
use crate::scenario::{Scenario, catalogue};

const VERSION: &str = env!("CARGO_PKG_VERSION");

impl From<ConnectError> for Problem {
    fn from(error: ConnectError) -> Self {
        Problem {
            message: error.to_string(),
            hint: error.hint(),
            details: vec![],
            exit: Exit::NotStarted,
        }
    }
}

/// Does what `invocation` says and prints the outcome.
pub async fn carry_out(invocation: Invocation) -> Exit {
    let report = Report::new(invocation.output.clone());
    match act(invocation, &report).await {
        Ok(exit) => exit,
        Err(problem) => {
            report.problem(&problem);
            problem.exit
        }
    }
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
    } = invocation;
    match action {
        Action::Run(scenarios, options) => {
            let plan = plan(&scenarios, options)?;
            let agent = format!("kubectl-defender_sim/{VERSION} (run {})", plan.run);
            let (cluster, info) = open(&connect, request_timeout, &agent, &events)?;
            let stop = stop(report)?;
            let show = tokio::spawn(show_events(report.clone(), receiver));
            let result = engine::run(&cluster, &plan, info, &stop, &events).await;
            drop((events, cluster));
            let _ = show.await;
            report.run(&result);
            Ok(result.exit)
        }
        Action::Cleanup(run) => {
            let agent = format!("kubectl-defender_sim/{VERSION}");
            let (cluster, info) = open(&connect, request_timeout, &agent, &events)?;
            let show = tokio::spawn(show_events(report.clone(), receiver));
            let cleaned = engine::cleanup(&cluster, namespace.as_deref(), run.as_deref(), &events).await;
            drop((events, cluster));
            let _ = show.await;
            let (namespaces, cleanup) = cleaned?;
            let exit = if cleanup.is_clean() {
                Exit::Ok
            } else {
                Exit::LeftBehind
            };
            report.cleanup(&CleanupResult {
                schema: CLEANUP_SCHEMA,
                cluster: info,
                namespaces,
                cleanup,
                exit,
                exit_code: exit.code(),
            });
            Ok(exit)
        }
        Action::DryRun(scenarios, options) => {
            let plan = plan(&scenarios, options)?;
            let (_, target) = connect::resolve(&connect, &Environment::from_process())?;
            let info = ClusterInfo {
                context: target.context,
                server: target.server,
                ..ClusterInfo::default()
            };
            report.dry_run(&plan, &info, &manifest::render(&plan, "whoever runs it"));
            Ok(Exit::Ok)
        }
        Action::List => {
            report.list(catalogue::all());
            Ok(Exit::Ok)
        }
        Action::Describe(source) => {
            report.describe(&scenario(&source)?);
            Ok(Exit::Ok)
        }
        Action::Alerts => {
            report.alerts(alerts::all(), catalogue::all());
            Ok(Exit::Ok)
        }
        Action::Lint(file) => {
            let scenario = scenario(&Source::File(file.clone()))?;
            report.note(&format!(
                "{}: {} with {} steps is fine",
                file.display(),
                scenario.id,
                scenario.steps.len()
            ));
            Ok(Exit::Ok)
        }
        Action::Version => {
            let agent = format!("kubectl-defender_sim/{VERSION}");
            let server = match open(&connect, request_timeout, &agent, &events) {
                Ok((cluster, _)) => cluster.version().await.map_err(Problem::from),
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

fn plan(scenarios: &[Source], options: Options) -> Result<Plan, Problem> {
    let mut random = [0; 64];
    getrandom::fill(&mut random).map_err(|error| Problem {
        message: format!("failed to get randomness from the operating system: {error}"),
        hint: None,
        details: vec![],
        exit: Exit::NotStarted,
    })?;
    let scenarios: Vec<Scenario> = scenarios.iter().map(scenario).collect::<Result<_, _>>()?;
    for (i, scenario) in scenarios.iter().enumerate() {
        if scenarios[..i].iter().any(|earlier| earlier.id == scenario.id) {
            return Err(usage(format!("scenario {} is named twice", scenario.id), None));
        }
    }
    Ok(Plan::new(options, scenarios, random, Timestamp::now()))
}

fn usage(message: String, hint: Option<&str>) -> Problem {
    Problem {
        message,
        hint: hint.map(str::to_owned),
        details: vec![],
        exit: Exit::Usage,
    }
}

fn scenario(source: &Source) -> Result<Scenario, Problem> {
    let start = "kubectl defender-sim describe recon -o yaml shows what such a file looks like";
    match source {
        Source::BuiltIn(id) => {
            let known = catalogue::find(id).cloned();
            known.ok_or_else(|| usage(format!("no scenario {id:?}"), Some("kubectl defender-sim list")))
        }
        Source::File(path) => {
            let text = std::fs::read_to_string(path);
            let text =
                text.map_err(|error| usage(format!("failed to read {}: {error}", path.display()), None))?;
            let bad = |error| usage(format!("{} cannot be used: {error}", path.display()), Some(start));
            Scenario::from_yaml(&text).map_err(bad)
        }
    }
}

fn open(
    options: &connect::ConnectOptions,
    request_timeout: Option<std::time::Duration>,
    agent: &str,
    events: &Events,
) -> Result<(Cluster, ClusterInfo), Problem> {
    let (config, target) = connect::resolve(options, &Environment::from_process())?;
    let warnings = events.clone();
    let client = connect::client(config, agent, move |text| {
        warnings.send(Event::Notice(text.to_owned()));
    })?;
    let info = ClusterInfo {
        context: target.context,
        server: target.server,
        ..ClusterInfo::default()
    };
    Ok((
        Cluster::new(client, request_timeout.unwrap_or(DEFAULT_REQUEST_TIMEOUT)),
        info,
    ))
}

fn stop(report: &Report) -> Result<Stop, Problem> {
    let report = report.clone();
    let second = move || {
        report.note(
            "ended at once; the cluster ends the run by its deadline, or now: kubectl defender-sim cleanup",
        );
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
