//! Acts on a plan: prepare, apply, wait, attack, remove. Emits events and returns what was observed.
//!
//! ```text
//! prepare (reads only) -> consent -> apply (anchor first) -> ready (watch) -> attack (followed log) -> remove (and look)
//!          |                 |            |                    |                  |                      ^
//!          +-- problem: end -+            +--------------------+------------------+-- problem or stop ---+
//! ```

mod admit;
mod anchor;
mod apply;
mod attack;
mod claim;
mod cleanup;
mod ledger;
mod pods;
mod prepare;
mod ready;
mod remove;
mod tracker;

use jiff::Timestamp;

use crate::cluster::{Cluster, ClusterError};
use crate::event::{Event, Events, Started};
use crate::exit::Exit;
use crate::kubectl::Kubectl;
use crate::manifest::{self, ANCHOR, ATTACKER, Kind, Manifest, VICTIM};
use crate::plan::Plan;
use crate::result::{Cleanup, ClusterInfo, Problem, RUN_SCHEMA, RunResult};
use crate::signal::Stop;
use crate::untrusted;

use claim::Claim;
use ledger::Ledger;

pub use admit::{admit, admit_all};
pub use cleanup::{LeftRun, Standing, find_runs, remove_run};
pub(crate) use prepare::{active, hint_grant, namespace_use, needed, taken};

/// How a phase ends early.
enum Halt {
    Problem(Problem),
    Stopped,
}

impl Halt {
    /// With the connection flags added to the command that ends the hint.
    fn complete(self, kubectl: &Kubectl) -> Self {
        match self {
            Halt::Problem(problem) => Halt::Problem(Problem {
                hint: problem.hint.map(|hint| kubectl.complete(&hint)),
                ..problem
            }),
            Halt::Stopped => Halt::Stopped,
        }
    }
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

/// Runs a plan to its verified end. Never returns early: whatever happens, what was made is removed, unless
/// the plan says to keep it. `consent` is asked after all looks and before the first change.
pub async fn run(
    cluster: &Cluster,
    plan: &Plan,
    target: ClusterInfo,
    consent: impl AsyncFnOnce(&Started) -> Result<(), Problem>,
    stop: &Stop,
    events: &Events,
) -> RunResult {
    let mut tracker = tracker::Tracker::new(plan);
    let mut info = target;
    let ledger = Ledger::default();
    let (mut node, mut cleanup, mut kept_until, mut clock_offset) = (None, None, None, None);
    let begun = begin(cluster, plan, &mut info, consent, stop, events).await;
    // The question may have been open for long; the record and the deadline count from the answer.
    let plan = &Plan {
        created: Timestamp::now(),
        ..plan.clone()
    };
    let halt = match begun {
        Err(halt) => Some(halt),
        Ok(prepared) => {
            let manifests = manifest::render(plan, info.user.as_deref().unwrap_or("unknown"));
            let applied = apply::apply(cluster, plan, &manifests, prepared, &ledger, stop, events).await;
            let run = Run {
                cluster,
                plan,
                anchor: &manifests.anchor,
                ledger: &ledger,
                events,
            };
            let complete = applied.is_ok();
            let halt = match applied {
                Ok(anchored) => {
                    clock_offset = anchored.clock_offset;
                    act(&run, &mut node, &mut tracker, stop).await.err()
                }
                Err(halt) => Some(halt),
            };
            let stopped = matches!(halt, Some(Halt::Stopped));
            if stopped {
                events.send(Event::Stopping);
            }
            if plan.options.keep && complete && !stopped {
                kept_until = Some(plan.ends());
            } else {
                let anchor = ledger.uid(Kind::Job, ANCHOR);
                let claim = Claim::of_run(&plan.run.to_string(), &manifests, ledger.uids(), anchor);
                cleanup = Some(remove::remove(cluster, &plan.namespace.name, &claim, events).await);
            }
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
    let stopped = stopped.then(|| stop.exit());
    let exit = verdict(&scenarios, problem.as_ref(), stopped, cleanup.as_ref());
    let result = RunResult {
        schema: RUN_SCHEMA.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        run: plan.run.to_string(),
        cluster: info,
        namespace: plan.namespace.name.clone(),
        node: node.as_deref().map(untrusted::line),
        started: plan.created,
        ended: Timestamp::now(),
        clock_offset_seconds: None,
        scenarios,
        problem,
        cleanup,
        kept_until,
        facts: None,
        verification: None,
        unread: None,
        exit,
        exit_code: exit.code(),
    };
    let Some(offset) = clock_offset else {
        return result;
    };
    let direction = if offset.is_negative() {
        "ahead of"
    } else {
        "behind"
    };
    events.send(Event::Notice(format!(
        "this machine's clock is {} s {direction} the cluster's; the result has the cluster's times",
        offset.as_secs().abs()
    )));
    result.in_cluster_time(offset)
}

/// The result of a run that is about to create objects and whose end is never seen.
pub fn unfinished(plan: &Plan, started: &Started) -> RunResult {
    let why = "the process that ran it ended before the run did";
    let now = Timestamp::now();
    RunResult {
        schema: RUN_SCHEMA.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        run: plan.run.to_string(),
        cluster: started.cluster.clone(),
        namespace: plan.namespace.name.clone(),
        node: None,
        started: now,
        // The cluster ends it then at the latest.
        ended: Plan {
            created: now,
            ..plan.clone()
        }
        .ends(),
        clock_offset_seconds: None,
        scenarios: tracker::Tracker::new(plan).finish(Some(why)),
        problem: Some(Problem {
            message: format!("{why}; what it created is removed by the cluster at its deadline"),
            hint: None,
            details: vec![],
            exit: Exit::Interrupted,
        }),
        cleanup: None,
        kept_until: None,
        facts: None,
        verification: None,
        unread: None,
        exit: Exit::Interrupted,
        exit_code: Exit::Interrupted.code(),
    }
}

/// Looks, and asks whether to go on.
async fn begin(
    cluster: &Cluster,
    plan: &Plan,
    info: &mut ClusterInfo,
    consent: impl AsyncFnOnce(&Started) -> Result<(), Problem>,
    stop: &Stop,
    events: &Events,
) -> Result<prepare::Prepared, Halt> {
    let prepared = prepare::prepare(cluster, plan, info, stop, events).await?;
    let started = Started {
        run: plan.run.to_string(),
        scenarios: plan
            .scenarios
            .iter()
            .map(|scenario| scenario.id.clone())
            .collect(),
        steps: plan.steps().map(|(id, _)| id).collect(),
        cluster: info.clone(),
        namespace: plan.namespace.name.clone(),
        labels: prepared.labels.clone(),
    };
    tokio::select! {
        answer = consent(&started) => answer.map_err(Halt::Problem)?,
        () = stop.wait() => return Err(Halt::Stopped),
    }
    events.send(Event::Started(started));
    Ok(prepared)
}

/// A run whose objects exist.
#[derive(Clone, Copy)]
struct Run<'a> {
    cluster: &'a Cluster,
    plan: &'a Plan,
    /// The anchor as it was created.
    anchor: &'a Manifest,
    ledger: &'a ledger::Ledger,
    events: &'a Events,
}

impl Run<'_> {
    fn deadline_passed(&self) -> String {
        format!(
            "the deadline of {} s passed, and the cluster ended the run; give it more with --deadline",
            self.plan.options.deadline.as_secs()
        )
    }

    /// Why its anchor or its namespace no longer exists.
    fn ended_externally(&self) -> String {
        if is_past_deadline(self.plan) {
            return self.deadline_passed();
        }
        format!(
            "run {} was deleted externally: by `kubectl defender-sim cleanup`, or by deletion of {}/{ANCHOR} or of \
             namespace {}",
            self.plan.run,
            Kind::Job.singular(),
            self.plan.namespace.name
        )
    }
}

async fn act(
    run: &Run<'_>,
    node: &mut Option<String>,
    tracker: &mut tracker::Tracker,
    stop: &Stop,
) -> Result<(), Halt> {
    let mut pods = pods::Pods::watch(run, [VICTIM, ATTACKER]);
    ready::ready(run, &mut pods, stop).await?;
    *node = pods.node(VICTIM).map(str::to_owned);
    attack::attack(run, &mut pods, tracker, stop).await?;
    anchor::check(run).await;
    tracker.check_gate().map_err(Halt::Problem)
}

/// Whether a run whose objects no longer exist was ended by its deadline.
fn is_past_deadline(plan: &Plan) -> bool {
    // The cluster's clock may be ahead of this one.
    Timestamp::now() + jiff::SignedDuration::from_secs(5) >= plan.ends()
}

fn verdict(
    scenarios: &[crate::result::ScenarioResult],
    problem: Option<&Problem>,
    stopped: Option<Exit>,
    cleanup: Option<&Cleanup>,
) -> Exit {
    use crate::scenario::Outcome::{Proved, Skipped};
    let mut exit = match (problem, stopped) {
        (Some(problem), _) => problem.exit,
        (None, Some(stopped)) => stopped,
        (None, None)
            if scenarios
                .iter()
                .flat_map(|s| &s.steps)
                .all(|s| matches!(s.outcome, Proved | Skipped)) =>
        {
            Exit::Ok
        }
        (None, None) => Exit::NotProved,
    };
    if cleanup.is_some_and(|cleanup| !cleanup.is_clean()) {
        exit = exit.worse(Exit::LeftBehind);
    }
    exit
}
