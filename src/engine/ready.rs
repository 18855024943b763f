//! Waits, by watch, until both pods are ready, and gives up as soon as waiting is hopeless.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{Event, Events, Halt, Stop, gone};
use crate::cluster::{Cluster, PodChange, selector};
use crate::exit::Exit;
use crate::manifest::{self, ATTACKER, Kind, VICTIM, go_patch};
use crate::plan::Plan;
use crate::result::Problem;
use crate::untrusted;

/// A pod that fits on no node is given this long: the scheduler may be behind, and an autoscaler looks every
/// 10 s and may take 30 to say that it adds a node (FAQ of the Cluster Autoscaler).
const UNSCHEDULABLE: Duration = Duration::from_secs(40);
/// By these events autoscalers say that a node comes: Cluster Autoscaler, Karpenter.
const NODE_COMES: [&str; 2] = ["TriggeredScaleUp", "Nominated"];
/// By this one the Cluster Autoscaler says that none comes.
const NO_NODE_COMES: &str = "NotTriggerScaleUp";

/// Pause between looks at what is said of a pod that fits on no node.
const LOOK: Duration = Duration::from_secs(10);

/// A pod that fits on no node.
#[derive(Clone, Copy)]
struct Stuck {
    pod: &'static str,
    until: Instant,
    /// When to look again at what is said of it.
    look: Instant,
}

/// The pods, once they are ready.
pub(super) struct Ready {
    /// The node that the victim is on.
    pub node: Option<String>,
    /// UID of the attacker.
    pub attacker: String,
}

/// Waits for the pods, then lets the attack begin.
pub(super) async fn ready(
    cluster: &Cluster,
    plan: &Plan,
    stop: &Stop,
    events: &Events,
) -> Result<Ready, Halt> {
    let ready = tokio::select! {
        ready = wait(cluster, plan, events) => ready?,
        () = stop.wait() => return Err(Halt::Stopped),
    };
    cluster
        .patch(
            Kind::Pod,
            &plan.namespace.name,
            ATTACKER,
            &go_patch(plan, &ready.attacker, 1),
        )
        .await?;
    events.send(Event::Ready);
    Ok(ready)
}

async fn wait(cluster: &Cluster, plan: &Plan, events: &Events) -> Result<Ready, Halt> {
    let namespace = &plan.namespace.name;
    let give_up = Instant::now() + plan.options.timeout;
    let mut changes = std::pin::pin!(cluster.watch_pods(namespace, &selector(Some(&plan.run.to_string()))));
    let mut states: BTreeMap<String, (State, String)> = BTreeMap::new();
    let mut unschedulable: Option<Stuck> = None;
    let mut said = String::new();
    let mut node = None;
    loop {
        let wake = unschedulable.map_or(give_up, |stuck| stuck.look.min(give_up));
        let change = tokio::select! {
            change = timeout_at(give_up, changes.next()) => change.ok().flatten(),
            () = sleep_until(wake), if wake < give_up => None,
        };
        match change {
            Some(PodChange::Seen(pod)) => {
                let state = State::of(&pod);
                if pod.name_any() == VICTIM {
                    node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
                }
                states.insert(pod.name_any(), (state, pod.uid().unwrap_or_default()));
            }
            Some(PodChange::Removed(name)) => {
                return Err(problem(gone(plan, &name), vec![], Exit::NotStarted));
            }
            Some(PodChange::Trouble(text)) => {
                events.send(Event::Notice(format!(
                    "the watch of the pods has trouble: {}",
                    untrusted::line(&text)
                )));
            }
            None => {}
        }
        if let [Some((State::Ready, _)), Some((State::Ready, attacker))] =
            [VICTIM, ATTACKER].map(|name| states.get(name))
        {
            let attacker = attacker.clone();
            return Ok(Ready { node, attacker });
        }
        let waiting = [VICTIM, ATTACKER]
            .iter()
            .find_map(|name| match states.get(*name) {
                Some((State::Waiting(reason) | State::Unschedulable(reason), _)) => {
                    Some(format!("pod/{name}: {reason}"))
                }
                _ => None,
            });
        if let Some(waiting) = waiting.filter(|waiting| *waiting != said) {
            events.send(Event::Waiting(waiting.clone()));
            said = waiting;
        }
        for (name, (state, uid)) in &states {
            let (reason, exit) = match state {
                State::Hopeless(reason) => (reason, Exit::NotStarted),
                State::Ended(reason) => (reason, Exit::NotProved),
                _ => continue,
            };
            let details = warnings(cluster, namespace, uid).await;
            return Err(problem(
                format!("pod/{name} cannot become ready: {reason}"),
                details,
                exit,
            ));
        }
        // The attacker goes where the victim is, so only the victim's trouble tells anything at first.
        let stuck = [VICTIM, ATTACKER]
            .into_iter()
            .find_map(|name| match states.get(name) {
                Some((State::Unschedulable(reason), uid)) => Some((name, reason.clone(), uid.clone())),
                _ => None,
            });
        match stuck {
            Some((name, reason, uid)) => {
                let now = Instant::now();
                if unschedulable.is_none_or(|stuck| stuck.pod != name) {
                    unschedulable = Some(Stuck {
                        pod: name,
                        until: now + UNSCHEDULABLE,
                        look: now + LOOK,
                    });
                }
                if let Some(stuck) = unschedulable.as_mut().filter(|stuck| now >= stuck.look) {
                    stuck.look = now + LOOK;
                    let said = cluster.events(namespace, &uid).await;
                    let says =
                        |reason: &str| said.iter().any(|event| event.reason.as_deref() == Some(reason));
                    if NODE_COMES.into_iter().any(says) {
                        stuck.until = now + UNSCHEDULABLE;
                    } else if now >= stuck.until || says(NO_NODE_COMES) {
                        let details = warnings(cluster, namespace, &uid).await;
                        let message = format!("pod/{name} cannot be scheduled: {reason}");
                        return Err(problem(message, details, Exit::NotStarted));
                    }
                }
            }
            None => unschedulable = None,
        }
        if Instant::now() >= give_up {
            let mut details = vec![];
            for (state, uid) in states.values() {
                if *state != State::Ready {
                    details.extend(warnings(cluster, namespace, uid).await);
                }
            }
            let what = if said.is_empty() {
                "no pod was seen".to_owned()
            } else {
                said
            };
            return Err(problem(
                format!(
                    "the pods were not ready within {} s; last seen: {what}",
                    plan.options.timeout.as_secs()
                ),
                details,
                Exit::NotStarted,
            ));
        }
    }
}

fn problem(message: impl Into<String>, details: Vec<String>, exit: Exit) -> Halt {
    let hint = match exit {
        Exit::NotProved => "look at the image; --victim-image and --attacker-image name others".to_owned(),
        _ => "see the reason above; --victim-image, --attacker-image and --timeout change what is waited for"
            .to_owned(),
    };
    Halt::Problem(Problem {
        message: message.into(),
        hint: Some(hint),
        details,
        exit,
    })
}

/// The last warnings about a pod, fit to be shown.
async fn warnings(cluster: &Cluster, namespace: &str, uid: &str) -> Vec<String> {
    let events = cluster.events(namespace, uid).await;
    let warnings: Vec<String> = events
        .into_iter()
        .filter(|event| event.type_.as_deref() == Some("Warning"))
        .map(|event| {
            format!(
                "{}: {}",
                event.reason.unwrap_or_default(),
                event.message.unwrap_or_default()
            )
        })
        .map(|text| untrusted::line(&text))
        .collect();
    warnings[warnings.len().saturating_sub(3)..].to_vec()
}

/// What a pod's status says about waiting for it.
#[derive(Clone, Debug, PartialEq)]
enum State {
    Ready,
    Waiting(String),
    Unschedulable(String),
    /// It will never start.
    Hopeless(String),
    /// It started, and its process ended.
    Ended(String),
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
        // Others may have been put beside it.
        let ours = [manifest::VICTIM_CONTAINER, manifest::ATTACKER_CONTAINER];
        let mut containers = status.container_statuses.iter().flatten();
        let container = containers
            .find(|c| ours.contains(&c.name.as_str()))
            .and_then(|c| c.state.as_ref());
        if let Some(ended) = container.and_then(|state| state.terminated.as_ref()) {
            let reason = ended.reason.clone().unwrap_or_else(|| "Error".into());
            return State::Ended(format!(
                "its container ended with exit status {} ({reason})",
                ended.exit_code
            ));
        }
        if matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) {
            let text = [status.reason.clone(), status.message.clone()];
            let text = text.into_iter().flatten().collect::<Vec<_>>().join(": ");
            return State::Hopeless(untrusted::line(if text.is_empty() { "it failed" } else { &text }));
        }
        if let Some(waiting) = container.and_then(|state| state.waiting.as_ref()) {
            let reason = waiting.reason.as_deref().unwrap_or("waiting");
            let text = match waiting.message.as_deref() {
                Some(message) => format!("{reason}: {}", untrusted::line(message)),
                None => reason.to_owned(),
            };
            // ErrImagePull is left out: it is one attempt. When it fails again it becomes ImagePullBackOff.
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
            _ => State::Waiting("waiting for a node".into()),
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
            state(&json!({"phase": "Failed", "reason": "Evicted"})),
            State::Hopeless("Evicted".into())
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
        assert_eq!(
            state(&json!({"phase": "Failed", "containerStatuses": [
                {"name": "attacker", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                 "state": {"terminated": {"exitCode": 127, "reason": "Error"}}}]})),
            State::Ended("its container ended with exit status 127 (Error)".into())
        );
    }
}
