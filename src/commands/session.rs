//! The context of a command: report, events, and the connection to the cluster.

use std::path::PathBuf;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::cli::{Action, Invocation};
use crate::cluster::connect::{self, ConnectError, ConnectOptions, Target};
use crate::cluster::{Cluster, DEFAULT_REQUEST_TIMEOUT};
use crate::defender::identity::ClusterIdentity;
use crate::error::Error;
use crate::event::{Event, Events};
use crate::exit::Exit;
use crate::kubectl::Kubectl;
use crate::net::Environment;
use crate::note;
use crate::plan::Plan;
use crate::report::{Report, Setting, show_events};
use crate::result::ClusterInfo;
use crate::signal::Stop;

/// Version of this program.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// One command, from start to end.
pub(super) struct Session {
    /// Prints the results.
    pub report: Report,
    /// Receives events, which are shown immediately.
    pub events: Events,
    /// Namespace given with `-n`.
    pub namespace: Option<String>,
    /// Every setting of the command, for `config view`; otherwise none.
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
    /// The target according to the kubeconfig.
    pub target: Target,
    /// The cluster as results describe it.
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

    /// Stops the progress display after it has shown all events.
    pub async fn close(self) -> Report {
        self.events.send(Event::Finished);
        let _ = self.progress.await;
        self.report
    }

    /// Returns the connection flags of the command line, for commands in hints.
    pub fn kubectl(&self) -> Kubectl {
        self.options.kubectl()
    }

    /// Returns the context given with `--context`.
    pub fn context(&self) -> Option<&String> {
        self.options.context.as_ref()
    }

    /// Returns whether no flag selects a cluster.
    pub fn is_default(&self) -> bool {
        self.options.is_default()
    }

    /// Resolves the cluster without contacting it or running a credential plugin.
    ///
    /// # Errors
    /// Fails if the kubeconfig or the flags are invalid.
    pub fn resolve(&self) -> Result<(Target, ClusterInfo), ConnectError> {
        let (_, target) = connect::resolve(&self.options, &Environment::from_process())?;
        let info = self.info(&target);
        Ok((target, info))
    }

    /// Prepares a connection to the cluster. `plan` is the run for which requests are sent.
    ///
    /// # Errors
    /// Fails if the kubeconfig, the flags or the credentials cannot be used.
    pub fn connect(&self, plan: Option<&Plan>) -> Result<Connection, Error> {
        let (config, target) = connect::resolve(&self.options, &Environment::from_process())?;
        let events = self.events.clone();
        let client = connect::client(config, &user_agent(plan), move |text| {
            events.send(Event::Notice(text.to_owned()));
        });
        let timeout = self.request_timeout.unwrap_or(DEFAULT_REQUEST_TIMEOUT);
        let cluster = Cluster::new(client?, timeout).with_hints(self.kubectl());
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

    /// Handles signals. The second SIGINT prints `last` and exits the process.
    ///
    /// # Errors
    /// Fails if the operating system rejects a signal handler.
    pub fn on_signals(&self, last: String) -> Result<Stop, Error> {
        let report = self.report.clone();
        let second = move || {
            report.note(&last);
            // The user does not want to wait for the cleanup.
            std::process::exit(Exit::Interrupted.code().into());
        };
        Stop::on_signals(second).map_err(|error| Error::OperatingSystem {
            doing: "listen for signals",
            source: error.into(),
        })
    }
}

impl Connection {
    /// Returns the identity of the cluster in Azure, as far as the kubeconfig contains it.
    pub fn marks(&self) -> ClusterIdentity {
        ClusterIdentity::of_kubeconfig(&self.target.server, self.target.cluster.as_deref())
    }
}

/// Returns the User-Agent of requests. It names the run, so that the audit log does as well.
pub(super) fn user_agent(plan: Option<&Plan>) -> String {
    match plan {
        Some(plan) => note::user_agent(VERSION, &plan.run.to_string()),
        None => format!("kubectl-defender_sim/{VERSION}"),
    }
}
