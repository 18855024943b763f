//! Watches the pods of a run by UID: their state, and why one of them stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use tokio::time::{Instant, sleep, timeout};

use super::anchor::{self, Anchor};
use super::{Run, is_past_deadline};
use crate::cluster::{Cluster, PodChange};
use crate::error::{Error, Phase};
use crate::event::Event;
use crate::manifest::{ATTACKER_CONTAINER, Kind, RUN_LABEL, VICTIM_CONTAINER};
use crate::scenario::payload::MARK;
use crate::untrusted;

/// Time within which a `cleanup` that deletes a pod reaches the anchor or the namespace.
const CLEANUP: Duration = Duration::from_secs(2);
/// Timeout of each read that only adds details to a problem.
const DETAIL: Duration = Duration::from_secs(3);
/// Maximum numbers of events and of log lines shown for a stopped pod.
const WARNINGS: usize = 3;
const LOG_LINES: usize = 5;
/// Number of log lines read to find these, and of bytes: a line of an access log contains a whole payload.
const READ_LINES: i64 = 60;
const READ_BYTES: u64 = 1 << 20;
/// Maximum number of characters shown of a log line.
const LINE: usize = 300;
/// Pause before a missing node is read again: a kubelet that restarts may register it anew.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// A change of a watched pod.
pub(super) enum Update {
    /// The pod changed, and is still waiting or running.
    Changed(String),
    /// The pod stopped.
    Ended(String, Ending),
}

/// A watch of all pods, from their creation to the end of the attack.
pub(super) struct Pods {
    changes: BoxStream<'static, PodChange>,
    latest: BTreeMap<String, Pod>,
    ended: BTreeSet<String>,
}

impl Pods {
    /// Watches the pods of the run, by the UIDs under which it created them.
    pub(super) fn watch(run: &Run<'_>) -> Self {
        let plan = run.plan;
        let selector = format!("{RUN_LABEL}={}", plan.run);
        let pods = run.ledger.objects().into_iter();
        let pods = pods.filter(|object| object.kind == Kind::Pod);
        let pods = pods.map(|pod| (pod.name, pod.uid)).collect();
        Self {
            changes: run
                .cluster
                .watch_pods(&plan.namespace.name, &selector, pods)
                .boxed(),
            latest: BTreeMap::new(),
            ended: BTreeSet::new(),
        }
    }

    /// Returns the last known state of a pod.
    pub(super) fn get(&self, name: &str) -> Option<&Pod> {
        self.latest.get(name)
    }

    /// Returns the node to which a pod is assigned.
    pub(super) fn node(&self, name: &str) -> Option<&str> {
        node_of(self.get(name)?)
    }

    /// Waits for the next change. A pod stops once.
    pub(super) async fn next(&mut self, run: &Run<'_>) -> Update {
        loop {
            let (name, ending) = match self.changes.next().await {
                Some(PodChange::Seen(name, pod)) => {
                    let ending = Ending::of(&pod);
                    self.latest.insert(name.clone(), *pod);
                    (name, ending)
                }
                Some(PodChange::Deleted(name)) if self.lost_its_label(run, &name).await => continue,
                Some(PodChange::Deleted(name)) => (name, Some(Ending::Deleted)),
                Some(PodChange::Replaced(name)) => (name, Some(Ending::Replaced)),
                Some(PodChange::Trouble(text)) => {
                    let text = untrusted::line(&text);
                    let notice = format!("failed to watch the pods: {text}");
                    run.events.send(Event::Notice(notice));
                    continue;
                }
                None => std::future::pending().await,
            };
            return match ending {
                Some(_) if !self.ended.insert(name.clone()) => continue,
                Some(ending) => Update::Ended(name, ending),
                None => Update::Changed(name),
            };
        }
    }

    /// Returns `true` if a pod that the watch reports as deleted still exists: it is selected by a label.
    async fn lost_its_label(&self, run: &Run<'_>, name: &str) -> bool {
        let found = run.cluster.pod(&run.plan.namespace.name, name).await;
        let is_same = |pod: &Pod| pod.metadata.uid == run.ledger.uid(Kind::Pod, name);
        let is_there = found
            .ok()
            .flatten()
            .is_some_and(|pod| is_same(&pod) && Ending::of(&pod).is_none());
        if is_there {
            let text = format!("pod/{name} lost its label {RUN_LABEL}: it is not watched any more");
            run.events.send(Event::Notice(text));
        }
        is_there
    }

    /// Waits until one of the pods stops.
    pub(super) async fn ended(&mut self, run: &Run<'_>) -> (String, Ending) {
        loop {
            if let Update::Ended(name, ending) = self.next(run).await {
                return (name, ending);
            }
        }
    }
}

/// Returns the node to which a pod is assigned.
fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// The reason why a pod stopped.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ending {
    /// Its container exited.
    Exited(Exited),
    /// Kubernetes removed it: it has the condition `DisruptionTarget`.
    Disrupted {
        /// Reason of the condition, such as `EvictionByEvictionAPI`.
        reason: String,
        /// Message of the condition.
        message: String,
    },
    /// Its status has a reason, such as `Evicted`.
    Failed(String),
    /// Its `activeDeadlineSeconds` passed.
    Deadline,
    /// Its deletion was requested, or it no longer exists.
    Deleted,
    /// Another pod has its name.
    Replaced,
    /// Its node no longer exists.
    NodeMissing(String),
}

/// The exit of a container.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Exited {
    container: String,
    status: i32,
    signal: Option<i32>,
    reason: String,
    message: String,
    /// Its memory limit, if it ran out of memory.
    memory_limit: Option<String>,
}

impl Ending {
    /// Returns the reason in a pod's status and metadata, or `None` if the pod is waiting or running.
    pub(super) fn of(pod: &Pod) -> Option<Self> {
        let status = pod.status.clone().unwrap_or_default();
        let (reason, message) = (
            status.reason.clone().unwrap_or_default(),
            status.message.clone().unwrap_or_default(),
        );
        if reason == "DeadlineExceeded" {
            return Some(Ending::Deadline);
        }
        let over = matches!(status.phase.as_deref(), Some("Failed" | "Succeeded"));
        let failed = || {
            let text = [reason.as_str(), message.as_str()];
            let text: Vec<&str> = text.into_iter().filter(|text| !text.is_empty()).collect();
            Ending::Failed(untrusted::line(&text.join(": ")))
        };
        if over && !reason.is_empty() {
            return Some(failed());
        }
        let mut conditions = status.conditions.iter().flatten();
        if let Some(condition) = conditions.find(|c| c.type_ == "DisruptionTarget" && c.status == "True") {
            return Some(Ending::Disrupted {
                reason: untrusted::line(condition.reason.as_deref().unwrap_or_default()),
                message: untrusted::line(condition.message.as_deref().unwrap_or_default()),
            });
        }
        if pod.metadata.deletion_timestamp.is_some() {
            return Some(Ending::Deleted);
        }
        if let Some(exited) = container(pod).and_then(|status| Exited::of(status, pod)) {
            return Some(Ending::Exited(exited));
        }
        over.then(failed)
    }
}

/// Formats the reason as a clause for `pod/x stopped: ...`.
impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Exited(exited) => exited.fmt(f),
            Ending::Disrupted { reason, message } => {
                f.write_str(match reason.as_str() {
                    "EvictionByEvictionAPI" => "it was evicted through the eviction API",
                    "DeletionByPodGC" => "it was deleted by the pod garbage collector",
                    "DeletionByTaintManager" => "it was evicted because of a taint of its node",
                    "PreemptionByScheduler" => "it was preempted by a pod of higher priority",
                    "TerminationByKubelet" => "its node terminated it",
                    _ => "it was disrupted",
                })?;
                write!(f, " ({reason}")?;
                match message.as_str() {
                    "" => f.write_str(")"),
                    message => write!(f, ": {message})"),
                }
            }
            Ending::Failed(text) if text.is_empty() => f.write_str("it failed, and its status has no reason"),
            Ending::Failed(text) => f.write_str(text),
            Ending::Deadline => f.write_str("its deadline passed"),
            Ending::Deleted => f.write_str("it was deleted externally"),
            Ending::Replaced => {
                f.write_str("it was deleted externally and replaced by another pod of its name")
            }
            Ending::NodeMissing(node) => write!(f, "node {node} does not exist any more"),
        }
    }
}

impl Exited {
    fn of(status: &ContainerStatus, pod: &Pod) -> Option<Self> {
        let ended = status.state.as_ref()?.terminated.as_ref()?;
        let reason = ended.reason.clone().unwrap_or_else(|| "Error".to_owned());
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let limit = containers
            .filter(|container| container.name == status.name)
            .find_map(|container| container.resources.as_ref()?.limits.as_ref()?.get("memory"));
        Some(Self {
            container: untrusted::line(&status.name),
            status: ended.exit_code,
            // By convention, this is the exit status of a process that a signal terminated.
            signal: ended
                .signal
                .or_else(|| Some(ended.exit_code - 128).filter(|signal| (1..32).contains(signal))),
            memory_limit: limit
                .filter(|_| reason == "OOMKilled")
                .map(|limit| untrusted::line(&limit.0)),
            reason: untrusted::line(&reason),
            message: untrusted::line(ended.message.as_deref().unwrap_or_default()),
        })
    }
}

impl fmt::Display for Exited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "its container {} ended with exit status {} ({}",
            self.container, self.status, self.reason
        )?;
        if let Some(signal) = self.signal {
            write!(f, ", signal {signal}")?;
        }
        if let Some(limit) = &self.memory_limit {
            write!(f, ", out of memory at its limit of {limit}")?;
        }
        f.write_str(")")?;
        match self.message.as_str() {
            "" => Ok(()),
            message => write!(f, ": {message}"),
        }
    }
}

/// Returns the status of the run's own container: others may have been injected into the pod.
pub(super) fn container(pod: &Pod) -> Option<&ContainerStatus> {
    let mut containers = pod.status.as_ref()?.container_statuses.iter().flatten();
    containers.find(|status| [VICTIM_CONTAINER, ATTACKER_CONTAINER].contains(&status.name.as_str()))
}

/// The state of a node.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum NodeState {
    Ready,
    /// It is not ready, with a description.
    NotReady(String),
    /// No such node exists.
    Missing,
    /// It could not be read: that takes a right which a run does not need.
    Unknown,
}

impl NodeState {
    /// Reads the state of a node.
    pub(super) async fn of(cluster: &Cluster, name: &str) -> Self {
        let node = match timeout(DETAIL, cluster.node(name)).await {
            Ok(Ok(Some(node))) => node,
            Ok(Ok(None)) => return NodeState::Missing,
            Ok(Err(_)) | Err(_) => return NodeState::Unknown,
        };
        let conditions = node.status.and_then(|status| status.conditions);
        let mut conditions = conditions.into_iter().flatten();
        match conditions.find(|condition| condition.type_ == "Ready") {
            Some(ready) if ready.status == "True" => NodeState::Ready,
            Some(ready) => {
                let since = ready.last_transition_time;
                let since = since.map_or_else(String::new, |time| format!(" since {:.0}", time.0));
                let why = untrusted::line(ready.message.as_deref().unwrap_or_default());
                let why = if why.is_empty() { why } else { format!(": {why}") };
                NodeState::NotReady(format!("node {} is not Ready{since}{why}", untrusted::line(name)))
            }
            None => NodeState::NotReady(format!("node {} is not Ready", untrusted::line(name))),
        }
    }

    /// Reads the state of a node, and reads it once more before the node counts as missing.
    pub(super) async fn confirmed(cluster: &Cluster, name: &str) -> Self {
        match Self::of(cluster, name).await {
            NodeState::Missing => {
                sleep(SECOND_LOOK).await;
                Self::of(cluster, name).await
            }
            state => state,
        }
    }
}

/// Returns the error of a stopped pod, with its events and the end of its log. `pod` is its last known state.
pub(super) async fn explain(
    run: &Run<'_>,
    (name, pod): (String, Option<Pod>),
    ending: Ending,
    phase: Phase,
) -> Error {
    if ending == Ending::Deadline {
        return run.deadline_passed(phase);
    }
    let node = pod.as_ref().and_then(node_of).map(str::to_owned);
    let state = async {
        match &node {
            Some(node) if !matches!(ending, Ending::Exited(_)) => {
                NodeState::confirmed(run.cluster, node).await
            }
            _ => NodeState::Unknown,
        }
    };
    let uid = run.ledger.uid(Kind::Pod, &name).unwrap_or_default();
    let (anchor, state, mut details, log) = tokio::join!(
        find_anchor(run, &ending),
        state,
        warnings(run.cluster, &run.plan.namespace.name, &uid),
        log_end(run, pod.as_ref(), &name, &ending),
    );
    if anchor == Anchor::Gone {
        return run.ended_externally(phase);
    }
    details.extend(log);
    let ending = match (&node, &state) {
        (Some(node), NodeState::Missing) => Ending::NodeMissing(untrusted::line(node)),
        _ => ending,
    };
    let reason = match (&ending, state) {
        (Ending::Deleted, _) if is_past_deadline(run.plan) => return run.deadline_passed(phase),
        (_, NodeState::NotReady(state)) => format!("{ending}; {state}"),
        _ => ending.to_string(),
    };
    Error::PodStopped {
        pod: name,
        phase,
        node: node.as_deref().map(untrusted::line),
        reason,
        has_exited: matches!(ending, Ending::Exited(_)),
        details,
    }
}

/// Returns the state of the anchor after a pod stopped. If the pod was deleted, waits for a short time, since a
/// `cleanup` may delete the pods a moment before the rest.
async fn find_anchor(run: &Run<'_>, ending: &Ending) -> Anchor {
    let give_up = Instant::now() + CLEANUP;
    loop {
        let anchor = anchor::check(run).await;
        let deleted = matches!(ending, Ending::Deleted | Ending::Replaced);
        if anchor == Anchor::Gone || !deleted || Instant::now() >= give_up {
            return anchor;
        }
        sleep(Duration::from_millis(250)).await;
    }
}

/// Returns the last warnings about a pod, without duplicates and sanitized for output.
pub(super) async fn warnings(cluster: &Cluster, namespace: &str, uid: &str) -> Vec<String> {
    let events = timeout(DETAIL, cluster.events(namespace, uid))
        .await
        .unwrap_or_default();
    let mut warnings: Vec<String> = vec![];
    for event in events {
        if event.type_.as_deref() == Some("Warning") {
            let (reason, message) = (
                event.reason.unwrap_or_default(),
                event.message.unwrap_or_default(),
            );
            let text = untrusted::line(&format!("{reason}: {message}"));
            warnings.retain(|known| *known != text);
            warnings.push(text);
        }
    }
    warnings.split_off(warnings.len().saturating_sub(WARNINGS))
}

/// Returns the last lines of the log of a pod's own container, if the pod stopped by itself.
async fn log_end(run: &Run<'_>, pod: Option<&Pod>, name: &str, ending: &Ending) -> Vec<String> {
    if matches!(
        ending,
        Ending::Deleted | Ending::Replaced | Ending::NodeMissing(_)
    ) {
        return vec![];
    }
    let Some(container) = pod.and_then(container) else {
        return vec![];
    };
    let namespace = &run.plan.namespace.name;
    let log = run
        .cluster
        .log_tail(namespace, name, &container.name, READ_LINES, READ_BYTES);
    match timeout(DETAIL, log).await {
        Ok(Ok(text)) => lines_of_interest(&text)
            .map(|line| format!("log of pod/{name}: {line}"))
            .collect(),
        Ok(Err(_)) | Err(_) => vec![],
    }
}

/// Returns the last lines of a log without requests, which contain payloads, and without this tool's own protocol.
fn lines_of_interest(log: &str) -> impl Iterator<Item = String> + use<> {
    // A line of nginx's error log ends with the request; a line of its access log is a request.
    let before_request = |line: &str| line.split(", request: ").next().unwrap_or_default().to_owned();
    let lines = log.lines().map(before_request);
    let lines =
        lines.filter(|line| !line.contains(" HTTP/") && !line.contains("ws.php") && !line.starts_with(MARK));
    let lines = lines
        .map(|line| untrusted::line(&line.chars().take(LINE).collect::<String>()))
        .filter(|line| !line.is_empty());
    let mut lines: Vec<String> = lines.collect();
    lines.split_off(lines.len().saturating_sub(LOG_LINES)).into_iter()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ending(pod: serde_json::Value) -> Option<String> {
        let pod: Pod = serde_json::from_value(pod).unwrap();
        Ending::of(&pod).map(|ending| ending.to_string())
    }

    fn stopped(terminated: &serde_json::Value) -> Option<String> {
        let status = |name: &str, state| json!({ "name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state });
        let running = json!({ "running": {} });
        ending(json!({
            "metadata": {},
            "spec": { "containers": [{ "name": "victim", "resources": { "limits": { "memory": "256Mi" } } }] },
            "status": { "phase": "Running", "containerStatuses": [
                status("a-sidecar", &json!({ "terminated": { "exitCode": 3 } })),
                status("victim", if terminated.is_null() { &running } else { terminated }),
            ] },
        }))
    }

    #[test]
    fn container_exit_is_described() {
        let exit = |terminated| stopped(&json!({ "terminated": terminated })).unwrap();
        assert_eq!(stopped(&json!(null)), None);
        for (terminated, expected) in [
            (
                json!({ "exitCode": 137, "reason": "OOMKilled" }),
                "exit status 137 (OOMKilled, signal 9, out of memory at its limit of 256Mi)",
            ),
            (
                json!({ "exitCode": 0, "reason": "Completed" }),
                "exit status 0 (Completed)",
            ),
            (json!({ "exitCode": 143 }), "exit status 143 (Error, signal 15)"),
            (
                json!({ "exitCode": 128, "reason": "StartError", "message": "no such\nfile" }),
                "exit status 128 (StartError): no such file",
            ),
            (json!({ "exitCode": 255 }), "exit status 255 (Error)"),
        ] {
            let text = exit(terminated);
            assert_eq!(text, format!("its container victim ended with {expected}"));
        }
    }

    #[test]
    fn disruption_is_described() {
        let target = |reason: &str, phase: &str| {
            ending(
                json!({ "metadata": {}, "status": { "phase": phase, "conditions": [
                { "type": "Ready", "status": "True" },
                { "type": "DisruptionTarget", "status": "True", "reason": reason, "message": "m" }] } }),
            )
            .unwrap()
        };
        for (reason, expected) in [
            (
                "EvictionByEvictionAPI",
                "it was evicted through the eviction API (EvictionByEvictionAPI: m)",
            ),
            (
                "DeletionByPodGC",
                "it was deleted by the pod garbage collector (DeletionByPodGC: m)",
            ),
            (
                "DeletionByTaintManager",
                "it was evicted because of a taint of its node (DeletionByTaintManager: m)",
            ),
            (
                "PreemptionByScheduler",
                "it was preempted by a pod of higher priority (PreemptionByScheduler: m)",
            ),
            (
                "TerminationByKubelet",
                "its node terminated it (TerminationByKubelet: m)",
            ),
            ("New", "it was disrupted (New: m)"),
        ] {
            assert_eq!(target(reason, "Running"), expected);
            assert_eq!(target(reason, "Failed"), expected);
        }
    }

    #[test]
    fn failed_and_deleted_pods_are_described() {
        let status = |status| ending(json!({ "metadata": {}, "status": status }));
        for (seen, expected) in [
            (json!({ "phase": "Pending" }), None),
            (json!({ "phase": "Running" }), None),
            (
                json!({ "phase": "Failed", "reason": "Evicted", "message": "low on memory" }),
                Some("Evicted: low on memory"),
            ),
            (
                json!({ "phase": "Failed", "reason": "DeadlineExceeded", "message": "too long" }),
                Some("its deadline passed"),
            ),
            (
                json!({ "phase": "Failed" }),
                Some("it failed, and its status has no reason"),
            ),
        ] {
            assert_eq!(status(seen).as_deref(), expected);
        }
        let deleted = json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } });
        assert_eq!(ending(deleted).as_deref(), Some("it was deleted externally"));
    }

    #[test]
    fn log_lines_hold_no_payload() {
        let log = [
            "one",
            r#"10.0.0.1 - - [25/Nov/2026:16:44:32 +0000] "GET /ws.php?cmd=echo%20aWQ= HTTP/1.1" 200 5 "-" "curl/7""#,
            r#"127.0.0.1 -  25/Nov/2026:16:44:32 +0000 "GET /ws.php" 200"#,
            "defender-sim/1 0123456789abcdef recon.x 0 1 fine",
            r#"2026/11/25 16:44:32 [error] 12#12: *1 upstream closed, client: 10.0.0.1, server: , request: "GET /ws.php?cmd=aWQ= HTTP/1.1", host: "v""#,
            "\u{1b}[31mred eyJhbGciOiJSUzI1NiJ9.e30.x",
            &"long ".repeat(1000),
            "",
            "worker process 13 exited on signal 9",
            "last",
        ]
        .join("\n");
        let lines: Vec<String> = lines_of_interest(&log).collect();
        assert_eq!(lines.len(), LOG_LINES);
        let start = "2026/11/25 16:44:32 [error] 12#12: *1 upstream closed";
        assert_eq!(lines[0], format!("{start}, client: 10.0.0.1, server:"));
        assert_eq!(lines[1], "[31mred <redacted>");
        assert!(lines[2].len() <= LINE, "{}", lines[2]);
        assert_eq!(lines[3..], ["worker process 13 exited on signal 9", "last"]);
        for line in lines {
            assert!(!line.contains("aWQ"), "{line}");
        }
    }
}
