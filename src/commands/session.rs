//! What every command works with: the report, the events that it shows, and the way to the cluster.

use std::path::PathBuf;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::cli::{Action, Invocation};
use crate::cluster::connect::{self, ConnectError, ConnectOptions, Target};
use crate::cluster::{Cluster, DEFAULT_REQUEST_TIMEOUT};
use crate::defender::identity::ClusterIdentity;
use crate::event::{Event, Events};
use crate::exit::Exit;
use crate::kubectl::Kubectl;
use crate::net::Environment;
use crate::plan::Plan;
use crate::report::{Report, Setting, show_events};
use crate::result::{ClusterInfo, Problem};
use crate::signal::Stop;

/// Version of this program.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// One command, from its start to its end.
pub(super) struct Session {
    /// Prints.
    pub report: Report,
    /// Receives what happens; shown at once.
    pub events: Events,
    /// Namespace given with `-n`.
    pub namespace: Option<String>,
    /// Every setting of the command.
    pub settings: Vec<Setting>,
    /// The config file, whether it exists or not.
    pub config_path: Option<PathBuf>,
    options: ConnectOptions,
    request_timeout: Option<Duration>,
    progress: JoinHandle<()>,
}

/// A connection to a cluster.
pub(super) struct Connection {
    pub cluster: Cluster,
    /// How the kubeconfig names it.
    pub target: Target,
    /// What results say about it.
    pub info: ClusterInfo,
}

impl Session {
    /// Starts a command. Must be called within a tokio runtime.
    pub fn start(invocation: Invocation) -> (Action, Self) {
        let Invocation {
            action,
            connect,
            request_timeout,
            namespace,
            output,
            unknown_variables,
            settings,
            config_path,
        } = invocation;
        let report = Report::new(output, connect.kubectl());
        let (events, receiver) = Events::channel();
        for name in unknown_variables {
            events.send(Event::Notice(format!(
                "the variable {name} is not a setting (config view --output wide lists them)"
            )));
        }
        let session = Self {
            progress: tokio::spawn(show_events(report.clone(), receiver)),
            report,
            events,
            namespace,
            settings,
            config_path,
            options: connect,
            request_timeout,
        };
        (action, session)
    }

    /// Ends the progress display after everything sent so far was shown.
    pub async fn close(self) -> Report {
        self.events.send(Event::Finished);
        let _ = self.progress.await;
        self.report
    }

    /// The connection flags of the call, for commands that are named to the user.
    pub fn kubectl(&self) -> Kubectl {
        self.options.kubectl()
    }

    /// Name of the context given with `--context`.
    pub fn context(&self) -> Option<&String> {
        self.options.context.as_ref()
    }

    /// Whether no flag says which cluster is meant.
    pub fn is_default(&self) -> bool {
        self.options.is_default()
    }

    /// Finds out which cluster is meant. Nothing is contacted and no credential plugin runs.
    ///
    /// # Errors
    /// If the kubeconfig or the flags cannot be used.
    pub fn resolve(&self) -> Result<(Target, ClusterInfo), ConnectError> {
        let (_, target) = connect::resolve(&self.options, &Environment::from_process())?;
        let info = self.info(&target);
        Ok((target, info))
    }

    /// Prepares a connection to the cluster. `plan` is the run that requests are made for.
    ///
    /// # Errors
    /// If the kubeconfig, the flags or the credentials cannot be used.
    pub fn connect(&self, plan: Option<&Plan>) -> Result<Connection, Problem> {
        let problem = |error| self.problem(&error);
        let (config, target) =
            connect::resolve(&self.options, &Environment::from_process()).map_err(problem)?;
        let events = self.events.clone();
        let client = connect::client(config, &user_agent(plan), move |text| {
            events.send(Event::Notice(text.to_owned()));
        });
        let timeout = self.request_timeout.unwrap_or(DEFAULT_REQUEST_TIMEOUT);
        let cluster = Cluster::new(client.map_err(problem)?, timeout).with_hints(self.kubectl());
        let info = self.info(&target);
        Ok(Connection {
            cluster,
            target,
            info,
        })
    }

    fn info(&self, target: &Target) -> ClusterInfo {
        ClusterInfo {
            context: target.context.clone(),
            server: target.server.clone(),
            kubeconfig_user: target.user.clone(),
            impersonated: self.options.impersonate.clone(),
            ..ClusterInfo::default()
        }
    }

    /// Describes why a connection cannot be prepared.
    pub fn problem(&self, error: &ConnectError) -> Problem {
        Problem {
            hint: error.hint().map(|hint| self.kubectl().complete(&hint)),
            ..Problem::new(Exit::NotStarted, error.to_string())
        }
    }

    /// Listens for signals. The second SIGINT prints `last` and ends the process.
    ///
    /// # Errors
    /// If the operating system refuses a signal handler.
    pub fn on_signals(&self, last: String) -> Result<Stop, Problem> {
        let report = self.report.clone();
        let second = move || {
            report.note(&last);
            // The user does not wait for the cleanup any longer.
            std::process::exit(Exit::Interrupted.code().into());
        };
        Stop::on_signals(second).map_err(|error| {
            let message = format!("failed to listen for signals: {error}");
            Problem::new(Exit::NotStarted, message)
        })
    }
}

impl Connection {
    /// What the kubeconfig tells about the cluster's identity in Azure.
    pub fn marks(&self) -> ClusterIdentity {
        ClusterIdentity::of_kubeconfig(&self.target.server, self.target.cluster.as_deref())
    }
}

/// The User-Agent of requests: names the run, so that an audit log does.
pub(super) fn user_agent(plan: Option<&Plan>) -> String {
    match plan {
        Some(plan) => format!("kubectl-defender_sim/{VERSION} (run {})", plan.run),
        None => format!("kubectl-defender_sim/{VERSION}"),
    }
}
