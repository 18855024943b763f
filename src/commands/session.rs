//! The context of a command: report, events, and the connection to the cluster.

use std::cell::Cell;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;

use super::interrupts::Interrupts;
use super::slot::Slot;

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
    /// The place of this session among those of a fleet.
    pub slot: Slot,
    options: ConnectOptions,
    request_timeout: Option<Duration>,
    interrupts: Interrupts,
    /// The number of the session in its fleet.
    number: usize,
    /// A connection that was made before the command needs it, or why it could not be made.
    early: Cell<Option<Result<Connection, Error>>>,
}

/// The progress display of a session.
pub(super) struct Display(JoinHandle<()>);

/// A connection to a cluster.
pub(super) struct Connection {
    pub cluster: Cluster,
    /// The target according to the kubeconfig.
    pub target: Target,
    /// The cluster as results describe it.
    pub info: ClusterInfo,
}

impl Session {
    /// Starts a command and its progress display. Must be called within a tokio runtime.
    pub fn start(invocation: Invocation) -> (Action, Self, Display) {
        let report = Report::new(invocation.output.clone(), invocation.connect.kubectl());
        let (action, session, receiver) = Self::of(
            invocation,
            report.clone(),
            0,
            Interrupts::default(),
            Slot::default(),
        );
        let display = Display(tokio::spawn(show_events(report, receiver)));
        (action, session, display)
    }

    /// Creates a session whose events are shown by the caller.
    pub fn of(
        invocation: Invocation,
        report: Report,
        number: usize,
        interrupts: Interrupts,
        slot: Slot,
    ) -> (Action, Self, UnboundedReceiver<Event>) {
        let Invocation {
            action,
            fleet: _,
            connect,
            request_timeout,
            namespace,
            output: _,
            unknown_variables,
            settings,
            config_path,
        } = invocation;
        let (events, receiver) = Events::channel();
        for name in unknown_variables {
            events.send(Event::Notice(unknown_variable(&name)));
        }
        let session = Self {
            report,
            events,
            namespace,
            settings,
            config_path,
            slot,
            options: connect,
            request_timeout,
            interrupts,
            number,
            early: Cell::new(None),
        };
        (action, session, receiver)
    }

    /// Stops the progress display after it has shown all events.
    pub async fn close(self, display: Display) -> Report {
        self.events.send(Event::Finished);
        let _ = display.0.await;
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
        if let Some(early) = self.early.take() {
            return early;
        }
        let (open, target) = self.opening(plan)?;
        Ok(self.connection(open()?, target))
    }

    /// Returns whether the credential plugin may prompt at the terminal.
    pub fn may_prompt(&self) -> bool {
        let resolved = connect::resolve(&self.options, &Environment::from_process());
        resolved.is_ok_and(|(config, _)| connect::may_prompt(&config))
    }

    /// Prepares the connection that [`Session::connect`] returns later, or its error. Other sessions can proceed while
    /// a credential plugin runs.
    pub async fn connect_early(&self, plan: Option<&Plan>) {
        let connected = match self.opening(plan) {
            Err(error) => Err(error.into()),
            Ok((open, target)) => match tokio::task::spawn_blocking(open).await {
                Ok(Ok(cluster)) => Ok(self.connection(cluster, target)),
                Ok(Err(error)) => Err(error.into()),
                Err(error) => Err(Error::OperatingSystem {
                    doing: "get credentials",
                    source: error.into(),
                }),
            },
        };
        self.early.set(Some(connected));
    }

    /// Returns the function that gets credentials and prepares a connection, and its target.
    fn opening(
        &self,
        plan: Option<&Plan>,
    ) -> Result<
        (
            impl FnOnce() -> Result<Cluster, ConnectError> + Send + 'static,
            Target,
        ),
        ConnectError,
    > {
        let (config, target) = connect::resolve(&self.options, &Environment::from_process())?;
        let events = self.events.clone();
        let (agent, kubectl) = (user_agent(plan), self.kubectl());
        let timeout = self.request_timeout.unwrap_or(DEFAULT_REQUEST_TIMEOUT);
        let open = move || {
            let client = connect::client(config, &agent, move |text| {
                events.send(Event::Notice(text.to_owned()));
            })?;
            Ok(Cluster::new(client, timeout).with_hints(kubectl))
        };
        Ok((open, target))
    }

    fn connection(&self, cluster: Cluster, target: Target) -> Connection {
        let info = self.info(&target);
        Connection {
            cluster,
            target,
            info,
        }
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
        let listen = self.interrupts.listen(self.number, last, &self.report);
        listen.map_err(|error| Error::OperatingSystem {
            doing: "listen for signals",
            source: error.into(),
        })
    }

    /// Returns the exit code of a stop that was requested before this session began its work.
    pub fn stopped(&self) -> Option<Exit> {
        self.interrupts.stopped()
    }

    /// Reports the end of the command in one cluster of a fleet.
    pub fn end(&self, summary: String) {
        self.interrupts.end(self.number);
        self.slot.release();
        self.events.send(Event::Ended(summary));
    }
}

impl Connection {
    /// Returns the identity of the cluster in Azure, as far as the kubeconfig contains it.
    pub fn marks(&self) -> ClusterIdentity {
        ClusterIdentity::of_kubeconfig(&self.target.server, self.target.cluster.as_deref())
    }
}

/// Warns of a variable that is named like a setting.
pub(super) fn unknown_variable(name: &str) -> String {
    format!("the variable {name} is not a setting (config view --output wide lists them)")
}

/// Returns the User-Agent of requests. It names the run, so that the audit log does as well.
pub(super) fn user_agent(plan: Option<&Plan>) -> String {
    match plan {
        Some(plan) => note::user_agent(VERSION, &plan.run.to_string()),
        None => format!("kubectl-defender_sim/{VERSION}"),
    }
}
