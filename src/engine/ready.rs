//! Waits, by watch, until all pods are ready. A victim that can no longer become ready is lost; an attacker ends the run.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::time::{Instant, sleep_until};

use super::lost::Lost;
use super::pods::{Ending, NodeState, Pods, Update, container, explain, warnings};
use super::{Halt, Run};
use crate::cluster::ClusterError;
use crate::error::{Error, Phase};
use crate::event::Event;
use crate::manifest::{Kind, go_patch};
use crate::signal::Stop;
use crate::untrusted;
use crate::words::counted;

/// Time to wait for an unschedulable pod. The scheduler may be behind, and the Cluster Autoscaler scans every 10 s and
/// may take 30 s to report that it adds a node (FAQ of the Cluster Autoscaler).
const UNSCHEDULABLE: Duration = Duration::from_secs(40);
/// Reasons of the events by which autoscalers announce a node: Cluster Autoscaler, Karpenter.
const NODE_COMES: [&str; 2] = ["TriggeredScaleUp", "Nominated"];
/// Reason of the event by which the Cluster Autoscaler reports that it adds no node.
const NO_NODE_COMES: &str = "NotTriggerScaleUp";

/// Interval at which the events of an unschedulable pod are read.
const LOOK: Duration = Duration::from_secs(10);
/// Interval at which the nodes of pods that do not start are read.
const READ_NODES: Duration = Duration::from_secs(5);
/// Number of pods whose nodes are read each time.
const NODES_AT_ONCE: usize = 8;

/// An unschedulable pod.
#[derive(Clone, Copy)]
struct Stuck {
    until: Instant,
    /// When to read its events again.
    look: Instant,
}

/// Waits until every victim is ready or lost, and every attacker is ready, then starts the attack.
pub(super) async fn ready(run: &Run<'_>, pods: &mut Pods, lost: &mut Lost, stop: &Stop) -> Result<(), Halt> {
    tokio::select! {
        ready = wait(run, pods, lost) => ready?,
        () = stop.wait() => return Err(Halt::Stopped),
    }
    for attacker in run.plan.attackers() {
        go(run, &attacker.pod, 1).await?;
    }
    run.events.send(Event::Ready);
    Ok(())
}

/// Makes an attacker start.
pub(super) async fn go(run: &Run<'_>, attacker: &str, attempt: u32) -> Result<(), ClusterError> {
    let uid = run.ledger.uid(Kind::Pod, attacker).unwrap_or_default();
    let patch = go_patch(run.plan, &uid, attempt);
    let namespace = &run.plan.namespace.name;
    run.cluster.patch(Kind::Pod, namespace, attacker, &patch).await
}

async fn wait(run: &Run<'_>, pods: &mut Pods, lost: &mut Lost) -> Result<(), Error> {
    let mut wait = Wait::new(run);
    loop {
        let update = tokio::select! {
            update = pods.next(run) => Some(update),
            () = sleep_until(wait.next_look()) => None,
        };
        match update {
            Some(Update::Changed(name)) => {
                if let Some(pod) = pods.get(&name) {
                    wait.states.insert(name, State::of(pod));
                }
            }
            Some(Update::Ended(name, ending)) => {
                let error = wait.cannot_become_ready(pods, &name, ending).await;
                lost.add(run, &name, error)?;
            }
            None => {}
        }
        let failed = wait.failed(pods).await;
        for (name, error) in failed {
            lost.add(run, &name, error)?;
        }
        wait.names.retain(|name| !lost.contains(name));
        if wait.pending().next().is_none() {
            return Ok(());
        }
        wait.report();
    }
}

/// The state of a wait for the pods.
struct Wait<'a> {
    run: &'a Run<'a>,
    give_up: Instant,
    /// The pods, victims first, without those that were lost.
    names: Vec<String>,
    states: BTreeMap<String, State>,
    unschedulable: BTreeMap<String, Stuck>,
    read_nodes: Instant,
    /// The state of a node that is not ready.
    silent: Option<String>,
    /// The text that was reported last.
    shown: String,
}

impl<'a> Wait<'a> {
    fn new(run: &'a Run<'a>) -> Self {
        let victims = run.plan.victims.iter().map(|victim| victim.pod.clone());
        let attackers = run.plan.attackers().map(|attacker| attacker.pod);
        Self {
            run,
            give_up: Instant::now() + run.plan.options.timeout,
            names: victims.chain(attackers).collect(),
            states: BTreeMap::new(),
            unschedulable: BTreeMap::new(),
            read_nodes: Instant::now() + READ_NODES,
            silent: None,
            shown: String::new(),
        }
    }

    /// Returns when to read again even if no pod changes.
    fn next_look(&self) -> Instant {
        let looks = self.unschedulable.values().map(|stuck| stuck.look);
        looks.fold(self.give_up.min(self.read_nodes), Instant::min)
    }

    /// Returns the pods that are not ready.
    fn pending(&self) -> impl Iterator<Item = &String> {
        let is_ready = |name: &&String| self.states.get(*name) == Some(&State::Ready);
        self.names.iter().filter(move |name| !is_ready(name))
    }

    /// Returns the pods that cannot become ready, each with the reason.
    async fn failed(&mut self, pods: &Pods) -> Vec<(String, Error)> {
        let mut failed = self.missing_nodes(pods).await;
        let is_new =
            |failed: &[(String, Error)], name: &String| failed.iter().all(|(known, _)| known != name);
        let hopeless = self.pending().filter_map(|name| match self.states.get(name) {
            Some(State::Hopeless(reason)) => Some((name.clone(), reason.clone())),
            _ => None,
        });
        for (name, reason) in hopeless.collect::<Vec<_>>() {
            if is_new(&failed, &name) {
                let error = self.unready(&name, true, reason).await;
                failed.push((name, error));
            }
        }
        for (name, error) in self.unscheduled().await {
            if is_new(&failed, &name) {
                failed.push((name, error));
            }
        }
        if Instant::now() >= self.give_up {
            for name in self.pending() {
                if is_new(&failed, name) {
                    failed.push((name.clone(), self.timed_out(name).await));
                }
            }
        }
        failed
    }

    /// Returns the warnings in the events of a pod.
    async fn warnings(&self, name: &str) -> Vec<String> {
        let uid = self.run.ledger.uid(Kind::Pod, name).unwrap_or_default();
        warnings(self.run.cluster, &self.run.plan.namespace.name, &uid).await
    }

    /// Returns the error of a pod that cannot be scheduled or cannot become ready.
    async fn unready(&self, pod: &str, is_scheduled: bool, reason: String) -> Error {
        Error::PodUnready {
            pod: pod.to_owned(),
            is_scheduled,
            details: without_repetition(&reason, self.warnings(pod).await),
            reason,
        }
    }

    async fn cannot_become_ready(&self, pods: &Pods, name: &str, ending: Ending) -> Error {
        let pod = (name.to_owned(), pods.get(name).cloned());
        Box::pin(explain(self.run, pod, ending, Phase::Start)).await
    }

    /// Returns pods that are not ready and whose node no longer exists, and records if a node is not ready itself.
    async fn missing_nodes(&mut self, pods: &Pods) -> Vec<(String, Error)> {
        if Instant::now() < self.read_nodes {
            return vec![];
        }
        self.read_nodes = Instant::now() + READ_NODES;
        let (mut silent, mut missing) = (None, vec![]);
        let on_nodes = self.pending().filter_map(|name| Some((name, pods.node(name)?)));
        for (name, node) in on_nodes.take(NODES_AT_ONCE) {
            match NodeState::confirmed(self.run.cluster, node).await {
                NodeState::Missing => {
                    let ending = Ending::NodeMissing(untrusted::line(node));
                    missing.push((name.clone(), self.cannot_become_ready(pods, name, ending).await));
                }
                NodeState::NotReady(state) => silent = Some(state),
                NodeState::Ready | NodeState::Unknown => {}
            }
        }
        self.silent = silent;
        missing
    }

    /// Returns what a pod waits for.
    fn waiting(&self, name: &str) -> Option<String> {
        match self.states.get(name) {
            Some(State::Waiting(reason) | State::Unschedulable(reason)) => {
                let silent = self.silent.as_ref();
                let silent = silent.map_or_else(String::new, |state| format!("; {state}"));
                Some(format!("pod/{name}: {reason}{silent}"))
            }
            _ => None,
        }
    }

    /// Reports the reason for waiting, if it changed.
    fn report(&mut self) {
        // The first is a victim as long as one is not ready: what the others wait for may depend on it.
        let first = self.pending().next().and_then(|name| self.waiting(name));
        let others = self.pending().count().saturating_sub(1);
        let others = match others {
            0 => String::new(),
            _ if self.names.len() == 2 => String::new(),
            others => format!(" (and {})", counted(others, "more pod")),
        };
        let waiting = first.map(|first| format!("{first}{others}"));
        if let Some(waiting) = waiting.filter(|waiting| *waiting != self.shown) {
            self.run.events.send(Event::Waiting(waiting.clone()));
            self.shown = waiting;
        }
    }

    /// Returns the pods that were unschedulable for so long that no node can be expected.
    async fn unscheduled(&mut self) -> Vec<(String, Error)> {
        let now = Instant::now();
        let reason = |name: &String| match self.states.get(name) {
            Some(State::Unschedulable(reason)) => Some(reason.clone()),
            _ => None,
        };
        let mut stuck: Vec<(String, String)> = vec![];
        for name in &self.names {
            // An attacker is scheduled near a victim, so its state means nothing before one is scheduled.
            let is_victim = self.run.plan.victims.iter().any(|victim| victim.pod == *name);
            let victims = self.run.plan.victims.len();
            if let Some(reason) = reason(name).filter(|_| is_victim || stuck.len() < victims) {
                stuck.push((name.clone(), reason));
            }
        }
        self.unschedulable
            .retain(|name, _| stuck.iter().any(|(known, _)| known == name));
        let mut failed = vec![];
        for (name, reason) in stuck {
            let mut times = *self.unschedulable.entry(name.clone()).or_insert(Stuck {
                until: now + UNSCHEDULABLE,
                look: now + LOOK,
            });
            if now >= times.look {
                times.look = now + LOOK;
                let uid = self.run.ledger.uid(Kind::Pod, &name).unwrap_or_default();
                let namespace = &self.run.plan.namespace.name;
                let events = self.run.cluster.events(namespace, &uid).await;
                let has = |reason: &str| events.iter().any(|event| event.reason.as_deref() == Some(reason));
                if NODE_COMES.into_iter().any(has) {
                    times.until = now + UNSCHEDULABLE;
                } else if now >= times.until || has(NO_NODE_COMES) {
                    failed.push((name.clone(), self.unready(&name, false, reason).await));
                }
            }
            self.unschedulable.insert(name, times);
        }
        failed
    }

    /// Returns the error of a pod that is not ready in time.
    async fn timed_out(&self, name: &str) -> Error {
        let last = self.waiting(name).unwrap_or_else(|| "no pod was seen".to_owned());
        Error::PodsTimedOut {
            timeout: self.run.plan.options.timeout,
            details: without_repetition(&last, self.warnings(name).await),
            last,
        }
    }
}

/// Removes the scheduler's event that repeats the condition of the pod, which `reason` contains.
fn without_repetition(reason: &str, mut details: Vec<String>) -> Vec<String> {
    details.retain(|detail| !repeats(reason, detail));
    details
}

/// Returns `true` if an event of the scheduler adds nothing to `reason`.
fn repeats(reason: &str, detail: &str) -> bool {
    let nodes = |text: &str| {
        text.split(" preemption: ")
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let event = detail.strip_prefix("FailedScheduling: ");
    event.is_some_and(|event| reason.contains(&nodes(event)))
}

/// The readiness of a pod according to its status.
#[derive(Clone, Debug, PartialEq)]
enum State {
    Ready,
    Waiting(String),
    Unschedulable(String),
    /// It can never start.
    Hopeless(String),
}

impl State {
    fn of(pod: &Pod) -> State {
        let Some(status) = &pod.status else {
            return State::Waiting("not seen by a node yet".into());
        };
        let condition = |name: &str| status.conditions.iter().flatten().find(|c| c.type_ == name);
        if condition("Ready").is_some_and(|c| c.status == "True") {
            return State::Ready;
        }
        let container = container(pod).and_then(|status| status.state.as_ref());
        if let Some(waiting) = container.and_then(|state| state.waiting.as_ref()) {
            let reason = waiting.reason.as_deref().unwrap_or("waiting");
            let text = match waiting.message.as_deref() {
                Some(message) => format!("{reason}: {}", untrusted::line(message)),
                None => reason.to_owned(),
            };
            // ErrImagePull is not in this list: it is one attempt. If it fails again, the reason becomes
            // ImagePullBackOff.
            return match reason {
                "ImagePullBackOff"
                | "InvalidImageName"
                | "ErrImageNeverPull"
                | "CreateContainerConfigError"
                | "CreateContainerError"
                | "RunContainerError"
                | "CrashLoopBackOff" => State::Hopeless(text),
                _ => State::Waiting(text),
            };
        }
        match condition("PodScheduled") {
            Some(scheduled) if scheduled.status == "False" => State::Unschedulable(untrusted::line(
                scheduled.message.as_deref().unwrap_or("no node fits"),
            )),
            _ if status.phase.as_deref() == Some("Running") => {
                State::Waiting("started, not ready yet".into())
            }
            _ => State::Waiting(
                match pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) {
                    Some(node) => format!(
                        "assigned to node {}, which has not started it",
                        untrusted::line(node)
                    ),
                    None => "waiting for a node".into(),
                },
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn state(status: &serde_json::Value) -> State {
        State::of(&serde_json::from_value(json!({ "metadata": {}, "status": status })).unwrap())
    }

    #[test]
    fn what_a_status_says() {
        let waiting = |reason: &str| {
            state(&json!({"phase": "Pending", "containerStatuses": [
                {"name": "a-sidecar", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                 "state": {"running": {}}},
                {"name": "victim", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                 "state": {"waiting": {"reason": reason, "message": "why"}}}]}))
        };
        assert_eq!(
            waiting("ContainerCreating"),
            State::Waiting("ContainerCreating: why".into())
        );
        assert_eq!(
            waiting("ErrImagePull"),
            State::Waiting("ErrImagePull: why".into())
        );
        assert_eq!(
            waiting("ImagePullBackOff"),
            State::Hopeless("ImagePullBackOff: why".into())
        );
        assert_eq!(
            state(
                &json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]})
            ),
            State::Unschedulable("0/1 nodes".into())
        );
        assert_eq!(
            state(&json!({"conditions": [{"type": "Ready", "status": "True"}]})),
            State::Ready
        );
        let assigned = json!({ "metadata": {}, "spec": { "nodeName": "node3", "containers": [] },
            "status": { "phase": "Pending", "conditions": [{ "type": "PodScheduled", "status": "True" }] } });
        assert_eq!(
            State::of(&serde_json::from_value(assigned).unwrap()),
            State::Waiting("assigned to node node3, which has not started it".into())
        );
        assert_eq!(
            state(&json!({"phase": "Pending"})),
            State::Waiting("waiting for a node".into())
        );
    }

    #[test]
    fn scheduling_failure_is_shown_once() {
        let nodes = "0/2 nodes are available: 2 node(s) had untolerated taint(s).";
        let details = without_repetition(
            &format!("{nodes} no new claims to deallocate, preemption: 0/2 nodes: none"),
            vec![
                format!("FailedScheduling: {nodes} preemption: 0/2 nodes are available: 2 of another kind."),
                "FailedScheduling: 0/3 nodes are available: another reason.".to_owned(),
                "FailedMount: no such secret".to_owned(),
            ],
        );
        let expected = [
            "FailedScheduling: 0/3 nodes are available: another reason.",
            "FailedMount: no such secret",
        ];
        assert_eq!(details, expected);
    }
}
