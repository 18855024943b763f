//! Acts on a plan: prepare, apply, wait, attack, remove. Emits events and returns what was observed.
//!
//! ```text
//! prepare (reads only) -> apply (anchor first) -> ready (watch) -> attack (followed log) -> remove (and look)
//!          |                    |                    |                  |                      ^
//!          +-- problem: end     +--------------------+------------------+-- problem or stop ---+
//! ```

mod apply;
mod attack;
mod prepare;
mod ready;
mod remove;
mod stop;
mod tracker;

use jiff::Timestamp;
use tokio::sync::mpsc::UnboundedSender;

use crate::cluster::{Cluster, ClusterError};
use crate::exit::Exit;
use crate::manifest;
use crate::plan::Plan;
use crate::result::{Cleanup, ClusterInfo, Problem, RUN_SCHEMA, RunResult, StepResult};

pub use remove::cleanup;
pub use stop::Stop;

/// What happens during a run, for whoever shows it. Steps are named `<scenario>.<step>`, objects
/// `kind/name`.
#[derive(Clone, Debug)]
pub enum Event {
    /// Nothing stands against the run; it begins.
    Started(Started),
    /// This object was made.
    Created(String),
    /// The run waits for this.
    Waiting(String),
    /// Both pods are ready; the attack begins.
    Ready,
    /// This step was sent to the victim.
    StepBegun(String),
    /// What became of a step.
    StepEnded(String, StepResult),
    /// The user (or the system) asked to stop.
    Stopping,
    /// Clean-up of so many objects began.
    Removing(usize),
    /// This object was asked to go.
    Removed(String),
    /// Something worth saying that changes nothing, such as a warning of the API server.
    Notice(String),
}

/// What is about to run, and where.
#[derive(Clone, Debug)]
pub struct Started {
    /// Names the run.
    pub run: String,
    /// Which cluster, as whom.
    pub cluster: ClusterInfo,
    /// In which namespace.
    pub namespace: String,
}

/// Where events go. A receiver that went away is no reason to stop a clean-up.
#[derive(Clone, Debug)]
pub struct Events(UnboundedSender<Event>);

impl Events {
    /// Events go to the other end of `sender`.
    pub fn new(sender: UnboundedSender<Event>) -> Self {
        Self(sender)
    }

    /// Emits one event.
    pub fn send(&self, event: Event) {
        let _ = self.0.send(event);
    }
}

/// How a phase ends early.
enum Halt {
    Problem(Problem),
    Stopped,
}

impl From<ClusterError> for Halt {
    fn from(error: ClusterError) -> Self {
        Halt::Problem(error.into())
    }
}

impl From<ClusterError> for Problem {
    fn from(error: ClusterError) -> Self {
        let hint = error.explained.hint.clone();
        Problem {
            message: error.to_string(),
            hint,
            details: vec![],
            exit: Exit::NotStarted,
        }
    }
}

/// Runs a plan to its verified end. Never returns early: whatever happens, what was made is removed.
pub async fn run(
    cluster: &Cluster,
    plan: &Plan,
    target: ClusterInfo,
    stop: &Stop,
    events: &Events,
) -> RunResult {
    let mut tracker = tracker::Tracker::new(plan);
    let mut info = target;
    let mut cleanup = None;
    let halt = match prepare::prepare(cluster, plan, &mut info, stop, events).await {
        Err(halt) => Some(halt),
        Ok(prepared) => {
            events.send(Event::Started(Started {
                run: plan.run.to_string(),
                cluster: info.clone(),
                namespace: plan.namespace.name.clone(),
            }));
            let manifests = manifest::render(plan, info.user.as_deref().unwrap_or("unknown"));
            let halt = act(cluster, plan, &manifests, prepared, &mut tracker, stop, events)
                .await
                .err();
            if matches!(halt, Some(Halt::Stopped)) {
                events.send(Event::Stopping);
            }
            cleanup = Some(
                remove::remove(cluster, &plan.namespace.name, Some(&plan.run.to_string()), events).await,
            );
            halt
        }
    };
    let (problem, stopped) = match halt {
        Some(Halt::Problem(problem)) => (Some(problem), false),
        Some(Halt::Stopped) => (None, true),
        None => (None, false),
    };
    let why = problem
        .as_ref()
        .map(|p| p.message.clone())
        .or(stopped.then(|| "interrupted".to_owned()));
    let scenarios = tracker.finish(why.as_deref());
    let exit = verdict(&scenarios, problem.as_ref(), stopped, cleanup.as_ref());
    RunResult {
        schema: RUN_SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        run: plan.run.to_string(),
        cluster: info,
        namespace: plan.namespace.name.clone(),
        started: plan.created,
        ended: Timestamp::now(),
        scenarios,
        problem,
        cleanup,
        exit,
        exit_code: exit.code(),
    }
}

async fn act(
    cluster: &Cluster,
    plan: &Plan,
    manifests: &manifest::Manifests,
    prepared: prepare::Prepared,
    tracker: &mut tracker::Tracker,
    stop: &Stop,
    events: &Events,
) -> Result<(), Halt> {
    apply::apply(cluster, plan, manifests, prepared, stop, events).await?;
    ready::ready(cluster, plan, stop, events).await?;
    attack::attack(cluster, plan, tracker, stop, events).await
}

fn verdict(
    scenarios: &[crate::result::ScenarioResult],
    problem: Option<&Problem>,
    stopped: bool,
    cleanup: Option<&Cleanup>,
) -> Exit {
    use crate::scenario::Outcome::{Proved, Skipped};
    let mut exit = match problem {
        Some(problem) => problem.exit,
        None if stopped => Exit::Interrupted,
        None if scenarios
            .iter()
            .flat_map(|s| &s.steps)
            .all(|s| matches!(s.outcome, Proved | Skipped)) =>
        {
            Exit::Ok
        }
        None => Exit::NotProved,
    };
    if cleanup.is_some_and(|cleanup| !cleanup.is_clean()) {
        exit = exit.worse(Exit::LeftBehind);
    }
    exit
}
