//! Waits, by watch, until both pods are ready, and fails as soon as one can no longer become ready.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::time::{Instant, sleep_until};

use super::pods::{Ending, NodeState, Pods, Update, container, explain, warnings};
use super::{Halt, Run};
use crate::error::{Error, Phase};
use crate::event::Event;
use crate::manifest::{ATTACKER, Kind, VICTIM, go_patch};
use crate::signal::Stop;
use crate::untrusted;

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

/// An unschedulable pod.
#[derive(Clone, Copy)]
struct Stuck {
    pod: &'static str,
    until: Instant,
    /// When to read its events again.
    look: Instant,
}

/// Waits for the pods, then starts the attack.
pub(super) async fn ready(run: &Run<'_>, pods: &mut Pods, stop: &Stop) -> Result<(), Halt> {
    tokio::select! {
        ready = wait(run, pods) => ready?,
        () = stop.wait() => return Err(Halt::Stopped),
    }
    let uid = run.ledger.uid(Kind::Pod, ATTACKER).unwrap_or_default();
    run.cluster
        .patch(
            Kind::Pod,
            &run.plan.namespace.name,
            ATTACKER,
            &go_patch(run.plan, &uid, 1),
        )
        .await?;
    run.events.send(Event::Ready);
    Ok(())
}

const BOTH: [&str; 2] = [VICTIM, ATTACKER];

async fn wait(run: &Run<'_>, pods: &mut Pods) -> Result<(), Error> {
    let mut wait = Wait::new(run);
    loop {
        let update = tokio::select! {
            update = pods.next(run) => Some(update),
            () = sleep_until(wait.next_look()) => None,
        };
        match update {
            Some(Update::Changed(name)) => {
                let state = pods.get(name).map(|pod| (name, State::of(pod)));
                wait.states.extend(state);
            }
            Some(Update::Ended(name, ending)) => {
                return Err(cannot_become_ready(run, pods, name, ending).await);
            }
            None => {}
        }
        if BOTH.iter().all(|name| wait.is_ready(name)) {
            return Ok(());
        }
        wait.read_nodes(pods).await?;
        wait.report();
        wait.check_hopeless().await?;
        wait.check_scheduling().await?;
        wait.check_timeout().await?;
    }
}

/// The state of a wait for the pods.
struct Wait<'a> {
    run: &'a Run<'a>,
    give_up: Instant,
    states: BTreeMap<&'static str, State>,
    unschedulable: Option<Stuck>,
    read_nodes: Instant,
    /// The state of a node that is not ready.
    silent: Option<String>,
    /// The text that was reported last.
    shown: String,
}

impl<'a> Wait<'a> {
    fn new(run: &'a Run<'a>) -> Self {
        Self {
            run,
            give_up: Instant::now() + run.plan.options.timeout,
            states: BTreeMap::new(),
            unschedulable: None,
            read_nodes: Instant::now() + READ_NODES,
            silent: None,
            shown: String::new(),
        }
    }

    /// Returns when to read again even if no pod changes.
    fn next_look(&self) -> Instant {
        let look = self
            .unschedulable
            .as_ref()
            .map_or(self.give_up, |stuck| stuck.look);
        look.min(self.give_up).min(self.read_nodes)
    }

    fn is_ready(&self, name: &str) -> bool {
        self.states.get(name) == Some(&State::Ready)
    }

    /// Returns the warnings in the events of a pod.
    async fn warnings(&self, name: &str) -> Vec<String> {
        let uid = self.run.ledger.uid(Kind::Pod, name).unwrap_or_default();
        warnings(self.run.cluster, &self.run.plan.namespace.name, &uid).await
    }

    /// Returns the error of a pod that cannot be scheduled or cannot become ready.
    async fn unready(&self, pod: &'static str, is_scheduled: bool, reason: String) -> Error {
        Error::PodUnready {
            pod,
            is_scheduled,
            details: without_repetition(&reason, self.warnings(pod).await),
            reason,
        }
    }

    /// Fails if the node of a pod that is not ready no longer exists, and records if it is not ready itself.
    async fn read_nodes(&mut self, pods: &Pods) -> Result<(), Error> {
        if Instant::now() < self.read_nodes {
            return Ok(());
        }
        self.read_nodes = Instant::now() + READ_NODES;
        self.silent = None;
        for name in BOTH {
            let Some(node) = pods.node(name).filter(|_| !self.is_ready(name)) else {
                continue;
            };
            match NodeState::confirmed(self.run.cluster, node).await {
                NodeState::Missing => {
                    let ending = Ending::NodeMissing(untrusted::line(node));
                    return Err(cannot_become_ready(self.run, pods, name, ending).await);
                }
                NodeState::NotReady(state) => self.silent = Some(state),
                NodeState::Ready | NodeState::Unknown => {}
            }
        }
        Ok(())
    }

    /// Reports the reason for waiting, if it changed.
    fn report(&mut self) {
        let waiting = BOTH.iter().find_map(|name| match self.states.get(name) {
            Some(State::Waiting(reason) | State::Unschedulable(reason)) => {
                let silent = self.silent.as_ref();
                let silent = silent.map_or_else(String::new, |state| format!("; {state}"));
                Some(format!("pod/{name}: {reason}{silent}"))
            }
            _ => None,
        });
        if let Some(waiting) = waiting.filter(|waiting| *waiting != self.shown) {
            self.run.events.send(Event::Waiting(waiting.clone()));
            self.shown = waiting;
        }
    }

    /// Fails if a pod can never become ready.
    async fn check_hopeless(&self) -> Result<(), Error> {
        for (name, state) in &self.states {
            if let State::Hopeless(reason) = state {
                return Err(self.unready(name, true, reason.clone()).await);
            }
        }
        Ok(())
    }

    /// Fails if a pod is unschedulable for so long that no node can be expected.
    async fn check_scheduling(&mut self) -> Result<(), Error> {
        // The attacker's scheduling depends on the victim's, so at first only the victim's state is meaningful.
        let stuck = BOTH.into_iter().find_map(|name| match self.states.get(name) {
            Some(State::Unschedulable(reason)) => Some((name, reason.clone())),
            _ => None,
        });
        let Some((name, reason)) = stuck else {
            self.unschedulable = None;
            return Ok(());
        };
        let now = Instant::now();
        let mut stuck = match self.unschedulable {
            Some(stuck) if stuck.pod == name => stuck,
            _ => Stuck {
                pod: name,
                until: now + UNSCHEDULABLE,
                look: now + LOOK,
            },
        };
        if now >= stuck.look {
            stuck.look = now + LOOK;
            let uid = self.run.ledger.uid(Kind::Pod, name).unwrap_or_default();
            let namespace = &self.run.plan.namespace.name;
            let events = self.run.cluster.events(namespace, &uid).await;
            let has = |reason: &str| events.iter().any(|event| event.reason.as_deref() == Some(reason));
            if NODE_COMES.into_iter().any(has) {
                stuck.until = now + UNSCHEDULABLE;
            } else if now >= stuck.until || has(NO_NODE_COMES) {
                return Err(self.unready(name, false, reason).await);
            }
        }
        self.unschedulable = Some(stuck);
        Ok(())
    }

    /// Fails if the timeout for the pods has passed.
    async fn check_timeout(&self) -> Result<(), Error> {
        if Instant::now() < self.give_up {
            return Ok(());
        }
        let mut details = vec![];
        for name in self.states.keys().filter(|name| !self.is_ready(name)) {
            details.extend(self.warnings(name).await);
        }
        let last = match self.shown.as_str() {
            "" => "no pod was seen".to_owned(),
            shown => shown.to_owned(),
        };
        Err(Error::PodsTimedOut {
            timeout: self.run.plan.options.timeout,
            details: without_repetition(&last, details),
            last,
        })
    }
}

async fn cannot_become_ready(run: &Run<'_>, pods: &Pods, name: &'static str, ending: Ending) -> Error {
    Box::pin(explain(run, pods, name, ending, Phase::Start)).await
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
