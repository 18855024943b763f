//! Waits, by watch, until both pods are ready, and gives up as soon as waiting is hopeless.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::time::{Instant, sleep_until};

use super::pods::{Ending, NodeState, Pods, Update, container, explain, warnings};
use super::{Halt, Run};
use crate::event::Event;
use crate::exit::Exit;
use crate::manifest::{ATTACKER, Kind, VICTIM, go_patch};
use crate::plan::Plan;
use crate::result::Problem;
use crate::signal::Stop;
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
/// Pause between reads of the nodes of pods that do not start.
const READ_NODES: Duration = Duration::from_secs(5);

/// A pod that fits on no node.
#[derive(Clone, Copy)]
struct Stuck {
    pod: &'static str,
    until: Instant,
    /// When to look again at what is said of it.
    look: Instant,
}

/// Waits for the pods, then lets the attack begin.
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

async fn wait(run: &Run<'_>, pods: &mut Pods) -> Result<(), Halt> {
    let (cluster, plan, events) = (run.cluster, run.plan, run.events);
    let namespace = &plan.namespace.name;
    let uid = |name| run.ledger.uid(Kind::Pod, name).unwrap_or_default();
    let give_up = Instant::now() + plan.options.timeout;
    let mut states: BTreeMap<&str, State> = BTreeMap::new();
    let mut unschedulable: Option<Stuck> = None;
    let mut read_nodes = Instant::now() + READ_NODES;
    // What is known of a node that is not ready.
    let mut silent: Option<String> = None;
    let mut shown = String::new();
    loop {
        let wake = unschedulable.map_or(give_up, |stuck| stuck.look.min(give_up));
        let update = tokio::select! {
            update = pods.next(run) => Some(update),
            () = sleep_until(wake.min(read_nodes)) => None,
        };
        match update {
            Some(Update::Changed(name)) => {
                states.extend(pods.get(name).map(|pod| (name, State::of(pod))));
            }
            Some(Update::Ended(name, ending)) => {
                return Err(cannot_become_ready(run, pods, name, ending).await);
            }
            None => {}
        }
        if [VICTIM, ATTACKER]
            .iter()
            .all(|name| states.get(name) == Some(&State::Ready))
        {
            return Ok(());
        }
        if Instant::now() >= read_nodes {
            read_nodes = Instant::now() + READ_NODES;
            silent = None;
            for name in [VICTIM, ATTACKER] {
                let Some(node) = pods
                    .node(name)
                    .filter(|_| states.get(name) != Some(&State::Ready))
                else {
                    continue;
                };
                match NodeState::confirmed(cluster, node).await {
                    NodeState::Missing => {
                        let ending = Ending::NodeMissing(untrusted::line(node));
                        return Err(cannot_become_ready(run, pods, name, ending).await);
                    }
                    NodeState::NotReady(state) => silent = Some(state),
                    NodeState::Ready | NodeState::Unknown => {}
                }
            }
        }
        let waiting = [VICTIM, ATTACKER]
            .iter()
            .find_map(|name| match states.get(*name) {
                Some(State::Waiting(reason) | State::Unschedulable(reason)) => {
                    let silent = silent
                        .as_ref()
                        .map_or_else(String::new, |state| format!("; {state}"));
                    Some(format!("pod/{name}: {reason}{silent}"))
                }
                _ => None,
            });
        if let Some(waiting) = waiting.filter(|waiting| *waiting != shown) {
            events.send(Event::Waiting(waiting.clone()));
            shown = waiting;
        }
        for (name, state) in &states {
            if let State::Hopeless(reason) = state {
                let message = format!("pod/{name} cannot become ready: {reason}");
                let details = warnings(cluster, namespace, &uid(name)).await;
                return Err(problem(message, details, Exit::NotStarted).complete(cluster.kubectl()));
            }
        }
        // The attacker goes where the victim is, so only the victim's trouble tells anything at first.
        let stuck = [VICTIM, ATTACKER]
            .into_iter()
            .find_map(|name| match states.get(name) {
                Some(State::Unschedulable(reason)) => Some((name, reason.clone())),
                _ => None,
            });
        match stuck {
            Some((name, reason)) => {
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
                    let said = cluster.events(namespace, &uid(name)).await;
                    let says =
                        |reason: &str| said.iter().any(|event| event.reason.as_deref() == Some(reason));
                    if NODE_COMES.into_iter().any(says) {
                        stuck.until = now + UNSCHEDULABLE;
                    } else if now >= stuck.until || says(NO_NODE_COMES) {
                        let details = warnings(cluster, namespace, &uid(name)).await;
                        let message = format!("pod/{name} cannot be scheduled: {reason}");
                        return Err(problem(message, details, Exit::NotStarted).complete(cluster.kubectl()));
                    }
                }
            }
            None => unschedulable = None,
        }
        if Instant::now() >= give_up {
            let mut details = vec![];
            for name in states.keys().filter(|name| states[*name] != State::Ready) {
                details.extend(warnings(cluster, namespace, &uid(name)).await);
            }
            let what = if shown.is_empty() {
                "no pod was seen".to_owned()
            } else {
                shown
            };
            let problem = problem(timed_out(plan, &what), details, Exit::NotStarted);
            return Err(problem.complete(cluster.kubectl()));
        }
    }
}

async fn cannot_become_ready(run: &Run<'_>, pods: &Pods, name: &'static str, ending: Ending) -> Halt {
    let exit = match ending {
        Ending::Exited(_) => Exit::NotProved,
        _ => Exit::NotStarted,
    };
    let hint = matches!(ending, Ending::Exited(_)).then(|| LOOK_AT_IMAGE.to_owned());
    let problem = Box::pin(explain(run, pods, name, ending, "cannot become ready", exit)).await;
    Halt::Problem(Problem { hint, ..problem })
}

fn timed_out(plan: &Plan, what: &str) -> String {
    format!(
        "the pods were not ready within {} s; last seen: {what}",
        plan.options.timeout.as_secs()
    )
}

const LOOK_AT_IMAGE: &str = "look at the image; --victim-image and --attacker-image name others";

fn problem(message: String, mut details: Vec<String>, exit: Exit) -> Halt {
    // The scheduler's event repeats the condition of the pod.
    details.retain(|detail| !repeats(&message, detail));
    Halt::Problem(Problem {
        hint: Some(hint(&message)),
        message,
        details,
        exit,
    })
}

/// Whether an event of the scheduler adds nothing to `message`.
fn repeats(message: &str, detail: &str) -> bool {
    let nodes = |text: &str| {
        text.split(" preemption: ")
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let event = detail.strip_prefix("FailedScheduling: ");
    event.is_some_and(|event| message.contains(&nodes(event)))
}

/// The next command, by the words of the scheduler or of [`State::of`].
fn hint(message: &str) -> String {
    let taint = message.contains("taint");
    let selector = message.contains("affinity/selector");
    if taint || selector {
        let flags = match (taint, selector) {
            (true, true) => "--toleration lets the pods onto tainted nodes, --node-selector chooses others",
            (true, false) => "--toleration lets the pods onto tainted nodes",
            _ => "--node-selector chooses other nodes",
        };
        return format!(
            "{flags}; the reason for each node, with the same flags: kubectl defender-sim doctor"
        );
    }
    if message.contains("which has not started it") || message.contains(" is not Ready") {
        return "--node-selector chooses other nodes, --timeout allows more time; see: kubectl get nodes"
            .to_owned();
    }
    "see the reason above; --victim-image, --attacker-image and --timeout change what is waited for"
        .to_owned()
}

/// What a pod's status says about waiting for it.
#[derive(Clone, Debug, PartialEq)]
enum State {
    Ready,
    Waiting(String),
    Unschedulable(String),
    /// It will never start.
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
            let hint = hint(&message);
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
    fn scheduling_failure_is_shown_once() {
        let nodes = "0/2 nodes are available: 2 node(s) had untolerated taint(s).";
        let Halt::Problem(problem) = problem(
            format!(
                "pod/x cannot be scheduled: {nodes} no new claims to deallocate, preemption: 0/2 nodes: none"
            ),
            vec![
                format!("FailedScheduling: {nodes} preemption: 0/2 nodes are available: 2 of another kind."),
                "FailedScheduling: 0/3 nodes are available: another reason.".to_owned(),
                "FailedMount: no such secret".to_owned(),
            ],
            Exit::NotStarted,
        ) else {
            panic!("a problem is a problem");
        };
        let expected = [
            "FailedScheduling: 0/3 nodes are available: another reason.",
            "FailedMount: no such secret",
        ];
        assert_eq!(problem.details, expected);
    }
}
