//! The pods of a sensor: on which nodes they are ready, and why not on others.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Deserialize;

use crate::node::{RawCondition, RawMetadata, is_ready};
use crate::words::counted;

/// Pods of a sensor whose failure is described: the first explains the others.
const FAILING: usize = 3;

/// A pod, reduced to whether it is ready and why not: there may be thousands.
#[derive(Deserialize)]
pub(super) struct RawPod {
    metadata: RawMetadata,
    #[serde(default)]
    spec: RawPodSpec,
    #[serde(default)]
    status: RawPodStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawPodStatus {
    #[serde(default)]
    conditions: Vec<RawCondition>,
    #[serde(default)]
    container_statuses: Vec<RawContainer>,
    #[serde(default)]
    init_container_statuses: Vec<RawContainer>,
}

/// The state of a container, reduced to why it does not run.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawContainer {
    name: String,
    ready: bool,
    restart_count: i32,
    state: RawState,
    last_state: RawState,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawState {
    waiting: Option<RawReason>,
    terminated: Option<RawReason>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawReason {
    reason: String,
    message: String,
    exit_code: i32,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawPodSpec {
    node_name: Option<String>,
}

/// The pods of one sensor.
#[derive(Debug, Default)]
pub(super) struct SensorPods {
    /// Names of the nodes with a ready pod.
    pub ready_on: BTreeSet<String>,
    /// Pods that are not ready, each with the reason; at most [`FAILING`].
    pub failing: Vec<String>,
}

impl RawPod {
    /// Whether it belongs to the `DaemonSet` of that name.
    pub(super) fn is_of(&self, set: &str) -> bool {
        let owners = &self.metadata.owner_references;
        owners
            .iter()
            .any(|owner| owner.kind == "DaemonSet" && owner.name == set)
    }
}

impl SensorPods {
    /// Adds a pod of the sensor.
    pub(super) fn add(&mut self, pod: RawPod) {
        if is_ready(&pod.status.conditions) {
            self.ready_on.extend(pod.spec.node_name);
        } else if self.failing.len() < FAILING {
            self.failing.push(describe_failure(&pod));
        }
    }
}

/// Why a pod is not ready: its first container that is not, or else its first condition that is not met.
fn describe_failure(pod: &RawPod) -> String {
    let mut text = format!("pod/{}", pod.metadata.name);
    if let Some(node) = &pod.spec.node_name {
        let _ = write!(text, " on {node}");
    }
    let RawPodStatus {
        conditions,
        container_statuses,
        init_container_statuses,
    } = &pod.status;
    let is_failing = |container: &&RawContainer| {
        let RawState { waiting, terminated } = &container.state;
        let done = terminated.as_ref().is_some_and(|ended| ended.exit_code == 0);
        !container.ready
            && !done
            && (waiting.is_some() || terminated.is_some() || container.restart_count > 0)
    };
    let containers = || init_container_statuses.iter().chain(container_statuses);
    // A container that waits for another ("PodInitializing") explains nothing.
    let failing = containers()
        .filter(is_failing)
        .max_by_key(|container| (container.restart_count, container.last_state.terminated.is_some()));
    if let Some(container) = failing {
        let _ = write!(text, ": container {}", container.name);
        if let Some(RawReason { reason, message, .. }) = &container.state.waiting {
            let _ = write!(text, " is waiting ({reason})");
            if container.restart_count == 0 && !message.is_empty() {
                let _ = write!(text, ": {message}");
            }
        }
        if container.restart_count > 0 {
            let _ = write!(
                text,
                ", {}",
                counted(container.restart_count.unsigned_abs() as usize, "restart")
            );
        }
        let ended = [&container.state, &container.last_state]
            .into_iter()
            .find_map(|state| state.terminated.as_ref());
        if let Some(RawReason {
            reason,
            message,
            exit_code,
        }) = ended
        {
            let _ = write!(text, ", last exit status {exit_code} ({reason})");
            if !message.is_empty() {
                let _ = write!(text, ": {}", message.trim_end());
            }
        }
        return text;
    }
    let unmet = conditions
        .iter()
        .find(|condition| condition.status != "True" && !condition.message.is_empty());
    if let Some(unmet) = unmet {
        let _ = write!(text, ": {}", unmet.message);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failing_pods_are_explained() {
        let state = |state: &str, last: &str, restarts: u32| {
            let pod = format!(
                r#"{{"metadata": {{"name": "s-1"}}, "spec": {{"nodeName": "n"}}, "status": {{
                    "conditions": [{{"type": "Ready", "status": "False", "message": "containers with unready status"}}],
                    "containerStatuses": [{{"name": "collector", "ready": false, "restartCount": {restarts},
                        "state": {{{state}}}, "lastState": {{{last}}}}}, {{"name": "fine", "ready": true}}]}}}}"#
            );
            let mut pods = SensorPods::default();
            pods.add(serde_json::from_str(&pod).unwrap());
            pods.failing.remove(0)
        };
        let waiting = |reason: &str, message: &str| {
            format!(r#""waiting": {{"reason": "{reason}", "message": "{message}"}}"#)
        };
        let ended = r#""terminated": {"exitCode": 137, "reason": "OOMKilled", "message": "killed\n"}"#;
        let crash = "pod/s-1 on n: container collector is waiting (CrashLoopBackOff), 7 restarts, \
                     last exit status 137 (OOMKilled): killed";
        assert_eq!(
            state(&waiting("CrashLoopBackOff", "back-off 5m0s"), ended, 7),
            crash
        );
        // Between two restarts, and right after an exit.
        let again = "pod/s-1 on n: container collector, 1 restart, last exit status 137 (OOMKilled): killed";
        assert_eq!(state(r#""running": {}"#, ended, 1), again);
        assert_eq!(
            state(ended, "", 0),
            "pod/s-1 on n: container collector, last exit status 137 (OOMKilled): killed"
        );
        assert_eq!(
            state(&waiting("ErrImagePull", "not found"), "", 0),
            "pod/s-1 on n: container collector is waiting (ErrImagePull): not found"
        );
        assert_eq!(
            state(r#""running": {}"#, "", 0),
            "pod/s-1 on n: containers with unready status"
        );
    }
}
