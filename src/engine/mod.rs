//! Executes a plan: prepare, apply, wait, attack, remove. Sends events and returns the observations.
//!
//! ```text
//! prepare (reads only) -> consent -> apply (anchor first) -> ready (watch) -> attack (followed log) -> remove (verify)
//!          |                 |            |                    |                  |                      ^
//!          +-- problem: end -+            +--------------------+------------------+-- problem or stop ---+
//! ```

mod admit;
mod anchor;
mod apply;
mod attack;
mod claim;
mod cleanup;
mod cover;
mod entries;
mod ledger;
mod lost;
mod pods;
mod prepare;
mod ready;
mod remove;
mod request;
mod tracker;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};

use crate::cluster::Cluster;
use crate::error::{Error, Phase};
use crate::event::{Event, Events, Started};
use crate::exit::Exit;
use crate::kubectl::Kubectl;
use crate::manifest::{self, ANCHOR, Kind, Manifest};
use crate::plan::{self, Plan};
use crate::result::{Cleanup, ClusterInfo, RunResult, Uncovered, Victim};
use crate::signal::Stop;
use crate::untrusted;

use claim::Claim;
use ledger::Ledger;
use lost::Lost;
use request::Requests;

pub use admit::{admit, admit_all};
pub use cleanup::{LeftRun, Standing, find_runs, remove_run};
pub use cover::cover;
pub(crate) use cover::{Chosen, choose, describe_uncovered};
pub(crate) use prepare::{active, hint_grant, namespace_use, needed, taken};

/// Limit of concurrent calls for the objects of a run: the API server shares its capacity between clients.
const PARALLEL: usize = 16;

/// The reason why a phase ended early.
enum Halt {
    Failed(Error),
    Stopped,
}

impl<E: Into<Error>> From<E> for Halt {
    fn from(error: E) -> Self {
        Halt::Failed(error.into())
    }
}

/// Runs a plan and verifies its cleanup. It never returns early: created objects are deleted in every case unless the
/// plan keeps them. `consent` is called after all checks and before the first change.
pub async fn run(
    cluster: &Cluster,
    plan: &Plan,
    target: ClusterInfo,
    consent: impl AsyncFnOnce(&Started) -> Result<(), Error>,
    stop: &Stop,
    events: &Events,
) -> RunResult {
    let mut info = target;
    let mut observed = Observed::new(plan);
    let prepared = begin(cluster, plan, &mut info, consent, stop, events).await;
    // The confirmation prompt may have been open for long, so the record and the deadline count from the answer.
    let plan = &Plan {
        created: Timestamp::now(),
        ..plan.clone()
    };
    let halt = match prepared {
        Err(halt) => Some(halt),
        Ok(prepared) => {
            let user = info.user.as_deref().unwrap_or("unknown");
            Box::pin(change(
                cluster,
                plan,
                user,
                prepared,
                (stop, events),
                &mut observed,
            ))
            .await
        }
    };
    let (problem, halted, why) = match &halt {
        Some(Halt::Failed(error)) => (
            Some(error.to_problem(cluster.kubectl())),
            Some(error.exit()),
            Some(error.to_string()),
        ),
        Some(Halt::Stopped) => (None, Some(stop.exit()), Some("interrupted".to_owned())),
        None => (None, None, None),
    };
    let victims = observed.victims(plan, halt.as_ref());
    let lost = observed.lost.reasons();
    let tracker = observed.tracker.into_inner();
    let scenarios = tracker.finish(why.as_deref(), &lost);
    // The steps of a lost victim were not all run.
    let halted = halted.or((!lost.is_empty()).then_some(Exit::NotProved));
    let exit = verdict(&scenarios, halted, observed.cleanup.as_ref());
    let result = RunResult {
        victims,
        uncovered: uncovered(plan),
        started: plan.created,
        problem,
        cleanup: observed.cleanup,
        kept_until: observed.kept_until,
        exit,
        exit_code: exit.code(),
        ..RunResult::new(
            plan.run.to_string(),
            info,
            plan.namespace.name.clone(),
            scenarios,
            Timestamp::now(),
        )
    };
    match observed.clock_offset {
        None => result,
        Some(offset) => {
            events.send(Event::Notice(describe_offset(offset)));
            result.in_cluster_time(offset)
        }
    }
}

fn describe_offset(offset: SignedDuration) -> String {
    let direction = if offset.is_negative() {
        "ahead of"
    } else {
        "behind"
    };
    format!(
        "this machine's clock is {} s {direction} the cluster's; the result has the cluster's times",
        offset.as_secs().abs()
    )
}

/// Returns the group of a victim, sanitized for output.
pub fn group_of(victim: &plan::Victim) -> Option<String> {
    let group = victim.group.as_ref();
    group.map(|group| untrusted::line(&group.to_string()))
}

/// Returns the groups of nodes that a plan does not cover, as in a result.
pub fn uncovered(plan: &Plan) -> Vec<Uncovered> {
    let uncovered = plan.uncovered.iter().map(|uncovered| Uncovered {
        group: uncovered.group.clone(),
        nodes: uncovered.nodes,
        reason: uncovered.reason.clone(),
    });
    uncovered.collect()
}

/// The observations of a run that changes the cluster.
struct Observed {
    tracker: RefCell<tracker::Tracker>,
    /// The node of each victim, by pod.
    nodes: BTreeMap<String, String>,
    /// The labels of each node.
    node_labels: BTreeMap<String, BTreeMap<String, String>>,
    lost: Lost,
    cleanup: Option<Cleanup>,
    kept_until: Option<Timestamp>,
    clock_offset: Option<SignedDuration>,
}

impl Observed {
    fn new(plan: &Plan) -> Self {
        Self {
            tracker: RefCell::new(tracker::Tracker::new(plan)),
            nodes: BTreeMap::new(),
            node_labels: BTreeMap::new(),
            lost: Lost::default(),
            cleanup: None,
            kept_until: None,
            clock_offset: None,
        }
    }

    /// Returns the victims of the run, with the ends of those that stopped early.
    fn victims(&self, plan: &Plan, halt: Option<&Halt>) -> Vec<Victim> {
        let victims = plan.victims.iter().map(|victim| {
            let last = match halt {
                Some(Halt::Failed(error @ Error::PodStopped { pod, .. })) if *pod == victim.pod => {
                    Some(lost::end_of(error))
                }
                _ => None,
            };
            let node = self.nodes.get(&victim.pod);
            Victim {
                pod: victim.pod.clone(),
                group: group_of(victim),
                node: node.map(|node| untrusted::line(node)),
                node_labels: node
                    .and_then(|node| self.node_labels.get(node))
                    .cloned()
                    .unwrap_or_default(),
                ended: self.lost.end(&victim.pod).or(last),
                sensor: None,
            }
        });
        victims.collect()
    }
}

/// Creates the objects, attacks, and deletes the objects. Returns the reason if a phase ended early.
async fn change(
    cluster: &Cluster,
    plan: &Plan,
    user: &str,
    prepared: prepare::Prepared,
    (stop, events): (&Stop, &Events),
    observed: &mut Observed,
) -> Option<Halt> {
    let requests = |anchor| Requests {
        cluster,
        plan,
        anchor,
        stop,
        events,
    };
    if plan.victims.is_empty() {
        let (results, cleanup) = requests(None).perform().await;
        observed.tracker.get_mut().record(results);
        observed.cleanup = Some(cleanup);
        return stop.requested().then_some(Halt::Stopped);
    }
    let ledger = Ledger::default();
    let manifests = manifest::render(plan, user);
    let applied = apply::apply(cluster, plan, &manifests, prepared, &ledger, stop, events).await;
    let is_complete = applied.is_ok();
    let mut requested = Cleanup {
        verified: true,
        ..Cleanup::default()
    };
    let halt = match applied {
        Ok(anchored) => {
            observed.clock_offset = anchored.clock_offset;
            let run = Run {
                cluster,
                plan,
                anchor: &manifests.anchor,
                ledger: &ledger,
                events,
            };
            let requests = requests(ledger.uid(Kind::Job, ANCHOR));
            let acted = act(&run, observed, stop);
            let (acted, (results, removed)) = futures::join!(acted, requests.perform());
            observed.tracker.get_mut().record(results);
            requested = removed;
            acted.err()
        }
        Err(halt) => Some(halt),
    };
    let is_stopped = matches!(halt, Some(Halt::Stopped));
    if is_stopped {
        events.send(Event::Stopping);
    }
    if plan.options.keep && is_complete && !is_stopped {
        observed.kept_until = Some(plan.ends());
        observed.cleanup = Some(requested).filter(|requested| !requested.is_clean());
    } else {
        let anchor = ledger.uid(Kind::Job, ANCHOR);
        let claim = Claim::of_run(&plan.run.to_string(), &manifests, ledger.uids(), anchor);
        let mut cleanup = remove::remove(cluster, &plan.namespace.name, &claim, events).await;
        cleanup.absorb(requested);
        observed.cleanup = Some(cleanup);
    }
    halt
}

/// Returns the result of a run that is about to create objects, for the case that its end is never observed.
pub fn unfinished(plan: &Plan, started: &Started) -> RunResult {
    let reason = "the process that ran it ended before the run did";
    let error = Error::Unfinished { reason };
    let plan = Plan {
        created: Timestamp::now(),
        ..plan.clone()
    };
    let scenarios = tracker::Tracker::new(&plan).finish(Some(reason), &BTreeMap::new());
    let (run, namespace) = (plan.run.to_string(), plan.namespace.name.clone());
    RunResult {
        started: plan.created,
        // The cluster ends the run at this time at the latest.
        ended: plan.ends(),
        problem: Some(error.to_problem(&Kubectl::default())),
        exit: error.exit(),
        exit_code: error.exit().code(),
        ..RunResult::new(run, started.cluster.clone(), namespace, scenarios, plan.created)
    }
}

/// Checks whether the run can start, and asks for confirmation.
async fn begin(
    cluster: &Cluster,
    plan: &Plan,
    info: &mut ClusterInfo,
    consent: impl AsyncFnOnce(&Started) -> Result<(), Error>,
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
        victims: plan
            .victims
            .iter()
            .map(|victim| (victim.pod.clone(), group_of(victim)))
            .collect(),
        cluster: info.clone(),
        namespace: plan.namespace.name.clone(),
        labels: prepared.labels.clone(),
    };
    tokio::select! {
        answer = consent(&started) => answer?,
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
    fn deadline_passed(&self, phase: Phase) -> Error {
        Error::DeadlinePassed {
            deadline: self.plan.options.deadline,
            phase,
        }
    }

    /// Returns why the anchor or the namespace of the run no longer exists.
    fn ended_externally(&self, phase: Phase) -> Error {
        if is_past_deadline(self.plan) {
            return self.deadline_passed(phase);
        }
        Error::RunDeleted {
            run: self.plan.run.to_string(),
            namespace: self.plan.namespace.name.clone(),
            phase,
        }
    }
}

async fn act(run: &Run<'_>, observed: &mut Observed, stop: &Stop) -> Result<(), Halt> {
    let mut pods = pods::Pods::watch(run);
    let ready = ready::ready(run, &mut pods, &mut observed.lost, stop).await;
    let node = |victim: &plan::Victim| Some((victim.pod.clone(), pods.node(&victim.pod)?.to_owned()));
    observed.nodes = run.plan.victims.iter().filter_map(node).collect();
    ready?;
    let (attacked, labels) = futures::join!(
        attack::attack(run, &mut pods, &observed.tracker, &mut observed.lost, stop),
        node_labels(run.cluster, observed.nodes.values().cloned().collect())
    );
    observed.node_labels = labels;
    attacked?;
    anchor::check(run).await;
    let tracker = observed.tracker.borrow();
    for (pod, error) in tracker.check_gates() {
        if !observed.lost.contains(pod) {
            observed.lost.add(run, pod, error)?;
        }
    }
    Ok(())
}

/// Returns the labels of nodes, without those that cannot be read soon.
async fn node_labels(
    cluster: &Cluster,
    nodes: BTreeSet<String>,
) -> BTreeMap<String, BTreeMap<String, String>> {
    const SOON: Duration = Duration::from_secs(2);
    let clean = |(key, value): (String, String)| (untrusted::line(&key), untrusted::line(&value));
    let read = async |name: String| {
        let found = tokio::time::timeout(SOON, cluster.node(&name)).await;
        let labels = found.ok()?.ok()??.metadata.labels?;
        Some((name, labels.into_iter().map(clean).collect()))
    };
    let reads = stream::iter(nodes).map(read).buffer_unordered(PARALLEL);
    reads.filter_map(std::future::ready).collect().await
}

/// Returns `true` if the deadline has passed, and so ended a run whose objects no longer exist.
fn is_past_deadline(plan: &Plan) -> bool {
    // The cluster's clock may be ahead of this machine's.
    Timestamp::now() + jiff::SignedDuration::from_secs(5) >= plan.ends()
}

fn verdict(
    scenarios: &[crate::result::ScenarioResult],
    halted: Option<Exit>,
    cleanup: Option<&Cleanup>,
) -> Exit {
    use crate::scenario::Outcome::{Proved, Skipped};
    let mut exit = match halted {
        Some(exit) => exit,
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
