//! What happens while a command works. Those who act send events; `report` alone shows them.

use jiff::Timestamp;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use crate::guard::Label;
use crate::result::{ClusterInfo, StepResult};

/// Something that happened. Steps are named `<scenario>.<step>`, objects `kind/name`.
#[derive(Debug)]
pub enum Event {
    /// The user has to decide whether to continue.
    Ask(Question),
    /// A run starts: nothing stands against it.
    Started(Started),
    /// An object was created.
    Created(String),
    /// A command without a run reads the cluster.
    Checking,
    /// The run waits for this.
    Waiting(String),
    /// Both pods are ready; the attack starts.
    Ready,
    /// A step was sent to the victim.
    StepStarted(String),
    /// A step ended with this result.
    StepEnded(String, StepResult),
    /// A signal asked the command to stop.
    Stopping,
    /// Cleanup of so many objects started.
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
    /// The command is done; no event follows.
    Finished,
}

/// A question that is answered yes or no.
#[derive(Debug)]
pub struct Question {
    /// The text, a paragraph a line; the answer is typed after it.
    pub text: String,
    /// Receives the answer.
    pub answer: oneshot::Sender<Answer>,
}

/// An answer to a [`Question`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Continue.
    Yes,
    /// Abort.
    No,
    /// There is no terminal to ask at.
    Nobody,
}

/// What is about to run, and where.
#[derive(Clone, Debug)]
pub struct Started {
    /// Run ID.
    pub run: String,
    /// Ids of the scenarios, in order.
    pub scenarios: Vec<String>,
    /// Names of the steps, in order.
    pub steps: Vec<String>,
    /// The cluster, with the user.
    pub cluster: ClusterInfo,
    /// The namespace.
    pub namespace: String,
    /// Labels that may say what the cluster is for: of the namespace and of nodes, as far as they can be read.
    pub labels: Vec<Label>,
}

/// The sending end. A receiver that is gone is no reason to stop a cleanup.
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
