//! Why a command fails: one error for everything above the clients of Kubernetes and Azure.
//!
//! A variant states what happened and keeps its cause. Its exit code, hint and details are decided here and nowhere
//! else. Results store an error as a [`Problem`].

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use crate::azure::{AzureError, HOW_TO_SAVE};
use crate::cluster::ClusterError;
use crate::cluster::connect::ConnectError;
use crate::exit::Exit;
use crate::files::shown;
use crate::kubectl::Kubectl;
use crate::manifest::{ANCHOR, Kind, Right, rights};
use crate::net::Explanation;
use crate::result::{Problem, RUN_SCHEMA};
use crate::words::{cause, counted, first_few};

/// The error of a command.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages describe the variants")]
pub enum Error {
    #[error("no folder for records of runs: no home directory")]
    NoHome,
    #[error("{id:?} is not a run ID")]
    NotARunId { id: String },
    #[error("no record of run {run} on this machine")]
    RecordNotFound { run: String },
    #[error("several runs begin with {prefix}: {}", first_few(ids))]
    RunAmbiguous { prefix: String, ids: Vec<String> },
    /// `place` is empty, or begins with a space.
    #[error("no record of a run{place} on this machine")]
    NoRecord { place: String },
    /// A record that cannot be read may be newer than the last one that can.
    #[error("cannot determine the last run")]
    LastRunUnknown {
        readable: Option<String>,
        unreadable: Vec<String>,
    },
    #[error("failed to read {}: {}", shown(path), cause(source))]
    FileUnreadable { path: PathBuf, source: io::Error },
    #[error("{} is not a plain file", path.display())]
    NotAPlainFile { path: PathBuf },
    #[error("{file} is not a record of a run: {reason}")]
    NotARecord { file: String, reason: String },
    #[error("{file} was written by a newer version of this tool: its schema is {schema:?}, not {RUN_SCHEMA}")]
    RecordTooNew { file: String, schema: String },
    /// The error of a record that the user named.
    #[error(transparent)]
    RecordFile(Box<Error>),

    #[error("no scenario {id:?}")]
    ScenarioUnknown { id: String },
    #[error("{} cannot be used", files.join(", "))]
    ScenariosInvalid {
        files: Vec<String>,
        mistakes: Vec<String>,
    },
    #[error("these scenarios cannot share a run")]
    ScenarioConflict { conflicts: Vec<String> },

    #[error("a Role cannot allow to {verb} {resource}, which are cluster-scoped")]
    RoleTooNarrow { verb: &'static str, resource: String },
    #[error("failed to write {what}: {}", cause(source))]
    Unwritable { what: String, source: io::Error },
    #[error("failed to write {what}: {}", cause(source))]
    Unwritten { what: String, source: io::Error },
    #[error("{file} already carries the result in the format of -o")]
    StdoutTaken { file: String },
    #[error("two reports go to the same file: {first} and {second}")]
    ReportsShareFile { first: String, second: String },
    #[error("completion in kubectl is not supported on Windows")]
    CompletionUnsupported,
    #[error("{program} is not on PATH")]
    NotOnPath { program: &'static str },
    #[error("{} is there and was not written by this tool", path.display())]
    CompleterForeign { path: PathBuf },
    /// The error of writing the program that kubectl runs for completions.
    #[error(transparent)]
    CompleterUnwritten(Box<Error>),

    #[error("--since {since} is after --until {until}")]
    WindowReversed { since: Timestamp, until: Timestamp },
    #[error("no scenario of this run raises the alert {id:?}")]
    AlertNotRaised { id: String },
    #[error("{file} cannot be used: {reason}")]
    AlertNamesInvalid { file: String, reason: String },
    #[error("could not find this cluster's Azure resource")]
    AzureClusterNotFound { tried: Vec<String> },
    #[error(transparent)]
    Azure(#[from] AzureError),
    #[error("failed to read the alerts in {file}: it contains no alerts{}", but_others(*others))]
    NoAlertsSaved { file: String, others: usize },
    #[error("whether an alert was raised is unknown: {reason}")]
    AlertsIncomplete { reason: String },
    #[error("no alert can be raised: {reason}; nothing was created")]
    NoAlertPossible { premise: &'static str, reason: String },
    #[error("interrupted before alerts could be read")]
    Interrupted(Exit),

    #[error("failed to publish the result: {0}")]
    Unpublished(Box<Error>),
    #[error("failed to send metrics to {gateway}: {}", explained.message)]
    Unpushed { gateway: String, explained: Explanation },

    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("failed to {doing}: {source}")]
    OperatingSystem {
        doing: &'static str,
        source: Box<dyn StdError + Send + Sync>,
    },
    /// An error before anything was created, of an operation that is also used after a run.
    #[error(transparent)]
    BeforeRun(Box<Error>),
    #[error("{namespace} is a system namespace; nothing was changed")]
    SystemNamespace { namespace: String },
    #[error("this looks like production: {sign}; nothing was made")]
    Production { sign: String, run: String },
    /// Scenarios that need `--allow`.
    #[error("the contexts {first} and {second} are the same cluster and namespace")]
    ContextsSame { first: String, second: String },
    #[error("{} needs consent of its own; nothing was created", scenarios.join(", "))]
    ConsentMissing {
        scenarios: Vec<String>,
        reasons: Vec<String>,
    },
    #[error("aborted: not confirmed; nothing was changed")]
    NotConfirmed,
    #[error("cannot prompt for confirmation: not a terminal; nothing was changed")]
    NoTerminal { hint: String },
    #[error("run {run} has no objects in {} of {server}", describe_scope(namespace.as_deref()))]
    RunNotFound {
        run: String,
        namespace: Option<String>,
        server: String,
    },
    #[error(
        "missing rights for a run in namespace {namespace}: {}",
        rights::grouped(missing)
    )]
    MissingRights {
        namespace: String,
        missing: Vec<Right>,
        hint: String,
    },
    #[error("namespace {namespace} is {}being deleted", if *waited { "still " } else { "" })]
    NamespaceTerminating { namespace: String, waited: bool },
    #[error("namespace {namespace} does not exist")]
    NamespaceNotFound { namespace: String },
    #[error("namespace {namespace} exists and was not created by this tool; nothing in it was touched")]
    NamespaceForeign { namespace: String },
    /// A run, or an object with the name of its anchor, holds the namespace.
    #[error("{holder}")]
    NamespaceHeld { namespace: String, holder: String },
    #[error("{object} exists in namespace {namespace} and this run needs the name; it was not touched")]
    NameTaken {
        namespace: String,
        object: String,
        is_ours: bool,
    },
    #[error("something in the cluster changes the objects of a run: {change}")]
    ObjectChanged { change: String },
    #[error(
        "something in the cluster changed {anchor}: its {field} is {value}, and it would not end the run by itself"
    )]
    DeadlineChanged {
        anchor: String,
        field: &'static str,
        value: String,
    },

    #[error("pod/{pod} cannot {}: {reason}", if *is_scheduled { "become ready" } else { "be scheduled" })]
    PodUnready {
        pod: String,
        is_scheduled: bool,
        reason: String,
        details: Vec<String>,
    },
    #[error("the pods were not ready within {} s; last seen: {last}", timeout.as_secs())]
    PodsTimedOut {
        timeout: Duration,
        last: String,
        details: Vec<String>,
    },
    #[error("pod/{pod} {}{}: {reason}", phase.describe_stop(), on_node(node.as_deref()))]
    PodStopped {
        pod: String,
        phase: Phase,
        node: Option<String>,
        reason: String,
        /// Whether its own container exited.
        has_exited: bool,
        details: Vec<String>,
    },
    #[error(
        "the deadline of {} s passed, and the cluster ended the run; give it more with --deadline",
        deadline.as_secs()
    )]
    DeadlinePassed { deadline: Duration, phase: Phase },
    #[error(
        "run {run} was deleted externally: by `kubectl defender-sim cleanup`, or by deletion of {}/{ANCHOR} or of \
         namespace {namespace}",
        Kind::Job.singular()
    )]
    RunDeleted {
        run: String,
        namespace: String,
        phase: Phase,
    },
    #[error("the attack did not end within {} s", deadline.as_secs())]
    AttackTimedOut { deadline: Duration },
    /// The attacker's log cannot be read.
    #[error(transparent)]
    Log(ClusterError),
    #[error("{}", format_open_gate(*before, *code))]
    GateOpen { before: bool, code: u16 },
    #[error("{}", format_unchecked_gate(*before, failure.as_deref()))]
    GateUnchecked { before: bool, failure: Option<String> },
    #[error("--cover needs the nodes of the cluster, and this dry run does not contact it")]
    CoverWithoutCluster,
    #[error("no group of nodes can be covered: {}", listed_groups(groups))]
    NothingCovered { groups: Vec<String> },
    /// The process ended during the run.
    #[error("{reason}; what it created is removed by the cluster at its deadline")]
    Unfinished { reason: &'static str },
}

/// The phase of a run after its objects were created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The pods become ready.
    Start,
    /// The attacker sends the steps.
    Attack,
}

impl Phase {
    fn describe_stop(self) -> &'static str {
        match self {
            Self::Start => "cannot become ready",
            Self::Attack => "stopped during the attack",
        }
    }

    /// Returns the exit code of a run that ends in this phase.
    fn exit(self) -> Exit {
        match self {
            Self::Start => Exit::NotStarted,
            Self::Attack => Exit::NotProved,
        }
    }
}

impl Error {
    /// Returns the exit code of a command that ends with this error.
    pub fn exit(&self) -> Exit {
        match self {
            Self::NoHome
            | Self::NotARunId { .. }
            | Self::RecordNotFound { .. }
            | Self::RunAmbiguous { .. }
            | Self::NoRecord { .. }
            | Self::LastRunUnknown { .. }
            | Self::FileUnreadable { .. }
            | Self::NotAPlainFile { .. }
            | Self::NotARecord { .. }
            | Self::RecordTooNew { .. }
            | Self::ScenarioUnknown { .. }
            | Self::ScenariosInvalid { .. }
            | Self::ScenarioConflict { .. }
            | Self::CoverWithoutCluster
            | Self::RoleTooNarrow { .. }
            | Self::Unwritable { .. }
            | Self::StdoutTaken { .. }
            | Self::ReportsShareFile { .. }
            | Self::CompletionUnsupported
            | Self::NotOnPath { .. }
            | Self::CompleterForeign { .. }
            | Self::WindowReversed { .. }
            | Self::ContextsSame { .. }
            | Self::AlertNotRaised { .. }
            | Self::AlertNamesInvalid { .. }
            | Self::AzureClusterNotFound { .. } => Exit::Usage,
            Self::NoAlertPossible { .. }
            | Self::Connect(_)
            | Self::Cluster(_)
            | Self::OperatingSystem { .. }
            | Self::SystemNamespace { .. }
            | Self::Production { .. }
            | Self::ConsentMissing { .. }
            | Self::NotConfirmed
            | Self::NoTerminal { .. }
            | Self::NamespaceNotFound { .. }
            | Self::RunNotFound { .. }
            | Self::MissingRights { .. }
            | Self::NamespaceTerminating { .. }
            | Self::NamespaceForeign { .. }
            | Self::NamespaceHeld { .. }
            | Self::NameTaken { .. }
            | Self::ObjectChanged { .. }
            | Self::DeadlineChanged { .. }
            | Self::NothingCovered { .. }
            | Self::PodUnready { .. }
            | Self::PodsTimedOut { .. }
            | Self::GateOpen { before: true, .. } => Exit::NotStarted,
            // A pod whose container exits may have run a part of the attack.
            Self::PodStopped { has_exited: true, .. }
            | Self::AttackTimedOut { .. }
            | Self::Log(_)
            | Self::GateOpen { before: false, .. }
            | Self::GateUnchecked { .. } => Exit::NotProved,
            Self::PodStopped { phase, .. }
            | Self::DeadlinePassed { phase, .. }
            | Self::RunDeleted { phase, .. } => phase.exit(),
            Self::Azure(_) | Self::NoAlertsSaved { .. } | Self::AlertsIncomplete { .. } => Exit::AlertMissing,
            Self::Unwritten { .. } | Self::Unpublished(_) | Self::Unpushed { .. } => Exit::Unwritten,
            Self::Unfinished { .. } => Exit::Interrupted,
            Self::Interrupted(exit) => *exit,
            Self::RecordFile(error) | Self::CompleterUnwritten(error) => error.exit(),
            Self::BeforeRun(error) => error.exit().worse(Exit::NotStarted),
        }
    }

    /// Returns the next command or setting to try. Its commands have the connection flags of `kubectl`.
    pub fn hint(&self, kubectl: &Kubectl) -> Option<String> {
        let cleanup = |namespace: &str| kubectl.command(["defender-sim", "cleanup", "-n", namespace]);
        let webhooks = || kubectl.command(["get", "mutatingwebhookconfigurations"]);
        Some(match self {
            Self::Connect(error) => kubectl.complete(&error.hint()?),
            Self::Cluster(error) => error.explained.hint.clone()?,
            Self::Unpushed { explained, .. } => explained.hint.clone()?,
            Self::Azure(error) => error.explained.hint.clone()?,
            Self::BeforeRun(error) | Self::Unpublished(error) => error.hint(kubectl)?,
            Self::LastRunUnknown { readable, .. } => format!(
                "name a run, as in: kubectl defender-sim report {}; kubectl defender-sim history lists them",
                readable.as_deref().unwrap_or("RUN")
            ),
            Self::CompleterForeign { .. } => format!("remove it, or {INSTALL_ELSEWHERE}"),
            Self::NoAlertPossible { premise, .. } => format!(
                "see what is missing: kubectl defender-sim doctor; to run all the same: --assume {premise}=yes"
            ),
            Self::Production { run, .. } => format!("to run {run} all the same: --allow-production"),
            Self::ConsentMissing { scenarios, .. } => {
                let flags: Vec<String> = scenarios.iter().map(|id| format!("--allow {id}")).collect();
                format!("to run it all the same: {}", flags.join(" "))
            }
            Self::NoTerminal { hint } | Self::MissingRights { hint, .. } => hint.clone(),
            Self::RunNotFound { .. } => {
                let list = kubectl.command(["defender-sim", "cleanup", "--dry-run"]);
                format!("list the runs that have: {list}")
            }
            Self::NamespaceTerminating {
                namespace,
                waited: true,
            } => {
                let get = kubectl.command(["get", "namespace", namespace, "-o", "yaml"]);
                format!("see what holds it: {get}")
            }
            Self::NamespaceTerminating { namespace, .. } => {
                let wait = kubectl.command(["wait", "--for=delete", &format!("namespace/{namespace}")]);
                format!("wait for it: {wait}")
            }
            Self::NamespaceForeign { namespace } => {
                format!("to use it unchanged: -n {namespace}; a run keeps it, with everything in it")
            }
            Self::NamespaceHeld { namespace, .. } => {
                format!("wait for it, or remove it: {}", cleanup(namespace))
            }
            Self::NameTaken {
                namespace,
                is_ours: true,
                ..
            } => cleanup(namespace),
            Self::ObjectChanged { .. } => format!("list the webhooks that may do that: {}", webhooks()),
            Self::DeadlineChanged { .. } => format!("see which webhooks change jobs: {}", webhooks()),
            Self::NothingCovered { .. } => kubectl.command(["get", "nodes", "--show-labels"]),
            Self::PodUnready { .. } | Self::PodsTimedOut { .. } => hint_unready(&self.to_string(), kubectl),
            _ => self.fixed_hint()?.to_owned(),
        })
    }

    /// Returns the hint of a variant whose hint does not depend on its fields.
    fn fixed_hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::NoHome => {
                "set XDG_STATE_HOME, or name a run's file: kubectl defender-sim verify --record FILE"
            }
            Self::NotARunId { .. } | Self::RunAmbiguous { .. } => "kubectl defender-sim history",
            Self::RecordNotFound { .. } => {
                "kubectl defender-sim history lists them; verify --record names a file of another machine"
            }
            Self::NoRecord { .. } => {
                "kubectl defender-sim verify takes a file with --record, or --since, --until, -n and --scenario"
            }
            Self::RecordFile(_) => "a record is written by -o json or --report json=FILE of a run",
            Self::ScenarioUnknown { .. } => "kubectl defender-sim list",
            Self::ScenariosInvalid { .. } => {
                "print an example of such a file: kubectl defender-sim describe recon -o yaml"
            }
            Self::ContextsSame { .. } => "name one of them, or give each a namespace in a file: --fleet FILE",
            Self::ScenarioConflict { .. } => "run them one after the other",
            Self::StdoutTaken { .. } => "write the report to a file",
            Self::CompletionUnsupported => {
                "for kubectl-defender_sim itself: kubectl defender-sim completion powershell"
            }
            Self::NotOnPath { .. } | Self::CompleterUnwritten(_) => INSTALL_ELSEWHERE,
            Self::AzureClusterNotFound { .. } => {
                "name it: --resource-id ID, or --subscription ID to read all of its alerts"
            }
            Self::AlertNotRaised { .. } => "see what raises it: kubectl defender-sim alerts -o wide",
            Self::NoAlertsSaved { .. } => HOW_TO_SAVE,
            Self::NamespaceNotFound { .. } => "use a namespace that exists: -n NAMESPACE",
            Self::RoleTooNarrow { .. } => "leave out --namespace-scoped",
            Self::SystemNamespace { .. } => "use another one with -n, or add --allow-system-namespace",
            Self::NameTaken { .. } => "use another namespace: -n NAMESPACE",
            Self::PodStopped {
                phase: Phase::Start,
                has_exited: true,
                ..
            } => "look at the image; --victim-image and --attacker-image name others",
            Self::CoverWithoutCluster => "ask the cluster: --dry-run=server",
            Self::GateOpen { .. } => {
                "check what changes PHP's auto_prepend_file in the victim: its image or an admission webhook"
            }
            _ => return None,
        })
    }

    /// Returns the single findings behind the error.
    pub fn details(&self) -> &[String] {
        match self {
            Self::LastRunUnknown {
                unreadable: details, ..
            }
            | Self::ScenariosInvalid {
                mistakes: details, ..
            }
            | Self::ScenarioConflict { conflicts: details }
            | Self::AzureClusterNotFound { tried: details }
            | Self::ConsentMissing { reasons: details, .. }
            | Self::PodUnready { details, .. }
            | Self::PodsTimedOut { details, .. }
            | Self::PodStopped { details, .. } => details,
            Self::BeforeRun(error) => error.details(),
            _ => &[],
        }
    }

    /// Returns the serialized form. Commands in its hint have the connection flags of `kubectl`.
    pub fn to_problem(&self, kubectl: &Kubectl) -> Problem {
        Problem {
            message: self.to_string(),
            hint: self.hint(kubectl),
            details: self.details().to_vec(),
        }
    }
}

const INSTALL_ELSEWHERE: &str =
    "name a folder of PATH that is yours: kubectl defender-sim completion --install DIR";

/// Returns the hint that matches the wording of the scheduler or of the state of a pod.
fn hint_unready(message: &str, kubectl: &Kubectl) -> String {
    let taint = message.contains("taint");
    let selector = message.contains("affinity/selector");
    if taint || selector {
        let flags = match (taint, selector) {
            (true, true) => "--toleration lets the pods onto tainted nodes, --node-selector chooses others",
            (true, false) => "--toleration lets the pods onto tainted nodes",
            _ => "--node-selector chooses other nodes",
        };
        let doctor = kubectl.command(["defender-sim", "doctor"]);
        return format!("{flags}; the reason for each node, with the same flags: {doctor}");
    }
    if message.contains("which has not started it") || message.contains(" is not Ready") {
        let nodes = kubectl.command(["get", "nodes"]);
        return format!("--node-selector chooses other nodes, --timeout allows more time; see: {nodes}");
    }
    "see the reason above; --victim-image, --attacker-image and --timeout change what is waited for"
        .to_owned()
}

fn describe_scope(namespace: Option<&str>) -> String {
    namespace.map_or_else(|| "any namespace".to_owned(), |name| format!("namespace {name}"))
}

fn on_node(node: Option<&str>) -> String {
    node.map_or_else(String::new, |node| format!(" on node {node}"))
}

fn listed_groups(groups: &[String]) -> String {
    match groups {
        [] => "there are no nodes".to_owned(),
        groups => groups.join("; "),
    }
}

fn but_others(others: usize) -> String {
    match others {
        0 => String::new(),
        others => format!(", but {}", counted(others, "other item")),
    }
}

fn format_open_gate(before: bool, code: u16) -> String {
    let open = format!("the web shell answered a request without this run's key (HTTP {code})");
    if before {
        format!("{open}; no step was sent")
    } else {
        format!("the gate did not hold: after the last step {open}")
    }
}

fn format_unchecked_gate(before: bool, failure: Option<&str>) -> String {
    match (before, failure) {
        (true, Some(failure)) => format!("{failure}; no step was sent"),
        (true, None) => "the attacker did not check the gate before the first step".to_owned(),
        (false, Some(failure)) => format!("the gate could not be checked after the last step: {failure}"),
        (false, None) => "the attacker did not check the gate after the last step".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hint_names_the_flag_for_the_cause() {
        let taint = "0/1 nodes are available: 1 node(s) had untolerated taint(s).";
        let selector = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.";
        for (message, flags) in [
            (taint.to_owned(), &["--toleration"][..]),
            (selector.to_owned(), &["--node-selector"]),
            (
                format!("{taint} {selector}"),
                &["--toleration", "--node-selector"],
            ),
            (
                "pod/x: assigned to node node3, which has not started it".to_owned(),
                &["--node-selector", "--timeout"],
            ),
            (
                "pod/x: ContainerCreating; node node3 is not Ready since then".to_owned(),
                &["--node-selector", "--timeout"],
            ),
            (
                "pod/x: ImagePullBackOff: no such image".to_owned(),
                &["--victim-image", "--attacker-image", "--timeout"],
            ),
        ] {
            let hint = hint_unready(&message, &Kubectl::default());
            for flag in [
                "--toleration",
                "--node-selector",
                "--timeout",
                "--victim-image",
                "--attacker-image",
            ] {
                assert_eq!(hint.contains(flag), flags.contains(&flag), "{message}: {hint}");
            }
        }
    }

    #[test]
    fn error_before_a_run_keeps_only_exits_that_outweigh_not_started() {
        let unwritten = || Error::Unwritten {
            what: "note".to_owned(),
            source: io::ErrorKind::StorageFull.into(),
        };
        let empty = Error::NoAlertsSaved {
            file: "x".to_owned(),
            others: 0,
        };
        assert_eq!(
            (unwritten().exit(), empty.exit()),
            (Exit::Unwritten, Exit::AlertMissing)
        );
        for (error, exit) in [
            (unwritten(), Exit::NotStarted),
            (empty, Exit::NotStarted),
            (Error::ScenarioConflict { conflicts: vec![] }, Exit::Usage),
            (Error::Interrupted(Exit::Terminated), Exit::Terminated),
        ] {
            assert_eq!(Error::BeforeRun(Box::new(error)).exit(), exit);
        }
    }
}
