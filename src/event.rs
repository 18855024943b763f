//! Events that occur while a command runs. Other modules send them; only `report` shows them.

use jiff::Timestamp;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use crate::guard::Label;
use crate::result::{ClusterInfo, StepResult};

/// An event of a running command. Steps are named `<scenario>.<step>`, objects `kind/name`.
#[derive(Debug)]
pub enum Event {
    /// The user has to decide whether to continue.
    Ask(Question),
    /// A run starts: all checks passed and consent was given.
    Started(Started),
    /// An object was created.
    Created(String),
    /// A command without a run reads the cluster.
    Checking,
    /// The run is waiting for this.
    Waiting(String),
    /// The pods are ready; the attack starts.
    Ready,
    /// A step was sent to the victim.
    StepStarted(String),
    /// A step ended with this result.
    StepEnded(String, StepResult),
    /// A signal asked the command to stop.
    Stopping,
    /// Cleanup of this number of objects started.
    Removing(usize),
    /// Deletion of an object was requested.
    Removed(String),
    /// Defender's alerts were read.
    Alerts {
        /// Expected alerts that were raised.
        raised: usize,
        /// Expected alerts that may still be raised.
        waiting: usize,
        /// When the wait for them ends.
        until: Timestamp,
    },
    /// A remark that changes nothing, such as a warning of the API server.
    Notice(String),
    /// The command is done for one cluster of a fleet, with this summary.
    Ended(String),
    /// The command is done; no event follows.
    Finished,
}

/// A question that is answered yes or no.
#[derive(Debug)]
pub struct Question {
    /// The cluster and what is done there, one paragraph per line.
    pub subject: String,
    /// What that means, one paragraph per line; the same for every cluster with the same request.
    pub consequences: String,
    /// The last line, after which the answer is typed.
    pub prompt: &'static str,
    /// Receives the answer.
    pub answer: oneshot::Sender<Answer>,
}

impl Question {
    /// Returns the text, with one paragraph per line.
    pub fn text(&self) -> String {
        let parts = [&self.subject, &self.consequences, self.prompt];
        let parts = parts.into_iter().map(str::trim_end);
        parts
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// An answer to a [`Question`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Continue.
    Yes,
    /// Abort.
    No,
    /// There is no terminal for a prompt.
    Nobody,
}

/// A run that is about to start, and its target.
#[derive(Clone, Debug)]
pub struct Started {
    /// Run ID.
    pub run: String,
    /// IDs of the scenarios, in order.
    pub scenarios: Vec<String>,
    /// Names of the steps, in order.
    pub steps: Vec<String>,
    /// The victims: the name of each pod, and of the group of nodes for which it stands.
    pub victims: Vec<(String, Option<String>)>,
    /// The cluster and the user.
    pub cluster: ClusterInfo,
    /// The namespace.
    pub namespace: String,
    /// Labels of the namespace and of nodes that may indicate the purpose of the cluster, as far as they can be read.
    pub labels: Vec<Label>,
}

/// The sending end of the events. Errors are ignored: a missing receiver is no reason to stop a cleanup.
#[derive(Clone, Debug)]
pub struct Events(UnboundedSender<Event>);

impl Events {
    /// Returns both ends of a new channel.
    pub fn channel() -> (Self, UnboundedReceiver<Event>) {
        let (sender, receiver) = unbounded_channel();
        (Self(sender), receiver)
    }

    /// Sends one event.
    pub fn send(&self, event: Event) {
        let _ = self.0.send(event);
    }
}
