//! Pods that stop, nodes that fail and anchors that change during a run.
//!
//! The run detects this at once and reports the reason.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::nodes::{forget_pods, node, signal_kubelet};
use crate::range::{
    Finally, Identity, Ran, Running, Space, alone, assert_nothing_left, image, kubectl, shared, sim, state,
    text,
};

/// Proves one step, waits in the second until a file exists in the victim, and has a third.
const HOLD: &str = r"
apiVersion: defender-sim/v1
id: hold
title: Hold
description: Goes on until a file exists.
steps:
- id: first
  title: start
  script: 'true'
  proof: it started
- id: hold
  title: wait
  script: touch /tmp/holding; until [ -e /tmp/go ]; do sleep 0.1; done
  proof: the file exists
- id: after
  title: go on
  script: 'true'
  proof: it went on
alerts: []
";
const VICTIM: &str = "mdc-simulation-victim";
/// Time limit for a run to end after a pod stopped, on a slow machine and including cleanup.
const SOON: Duration = Duration::from_secs(40);

pub fn hold() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), HOLD).unwrap();
    file
}

/// Starts a run that waits in its second step.
fn holding(space: &Space, flags: &[&str]) -> (Running, String) {
    holding_as(None, space, flags)
}

/// Starts such a run as this identity, by default as the one with the permissions of a run.
fn holding_as(identity: Option<Identity>, space: &Space, flags: &[&str]) -> (Running, String) {
    let file = hold();
    let path = file.path().to_str().unwrap();
    let arguments = [&["run", "-f", path, "-n", &space.0, "-o", "json"], flags].concat();
    let mut running = match identity {
        Some(identity) => Running::start_as(identity, &arguments),
        None => Running::start(&arguments),
    };
    let run = running.run();
    running.await_line("hold.first: proved");
    (running, run)
}

fn in_victim(space: &Space, script: &str) {
    kubectl(&["exec", VICTIM, "-n", &space.0, "--", "sh", "-c", script]);
}

/// Asserts the end of a run whose second step was interrupted for `reason`, which the third step reports as well.
#[track_caller]
fn assert_interrupted(running: Running, reason: &str) -> Ran {
    let started = Instant::now();
    let ran = running.end().assert(4);
    assert!(started.elapsed() < SOON, "{:?}: {ran:#?}", started.elapsed());
    let outcomes: Vec<String> = ran.outcomes().into_iter().map(|(_, outcome)| outcome).collect();
    assert_eq!(outcomes, ["proved", "failed", "skipped"], "{ran:#?}");
    let result = ran.json();
    let problem = text(&result["problem"]["message"]);
    assert!(problem.contains(reason), "{problem}");
    let skipped = text(&result["scenarios"][0]["steps"][2]["reason"]);
    assert_eq!(skipped, format!("not run: {problem}"));
    assert_each_warning_once(&ran);
    ran
}

#[track_caller]
fn assert_each_warning_once(ran: &Ran) {
    let warnings = ran.stderr.lines().filter(|line| line.starts_with("warning:"));
    let mut warnings: Vec<&str> = warnings.filter(|line| !line.ends_with(" times)")).collect();
    let all = warnings.len();
    warnings.sort_unstable();
    warnings.dedup();
    assert_eq!(warnings.len(), all, "{}", ran.stderr);
}

#[test]
#[ignore = "needs the range: make range"]
fn stopped_victim_ends_the_attack_with_its_log() {
    let _shared = shared();
    let space = Space::named("stopped");
    let (running, _) = holding(&space, &[]);
    in_victim(&space, "echo its last words >/proc/1/fd/2; kill -TERM 1");
    let reason =
        "stopped during the attack on node node1: its container victim ended with exit status 0 (Completed)";
    let ran = assert_interrupted(running, reason);
    let log = format!("log of pod/{VICTIM}: its last words");
    assert!(ran.stderr.contains(&log), "{}", ran.stderr);
    assert!(!ran.stderr.contains("ws.php"), "{}", ran.stderr);
    assert!(!ran.stderr.contains(" in -"), "{}", ran.stderr);
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn victim_without_memory_is_named() {
    let _shared = shared();
    let space = Space::named("memory");
    let nginx = "#!/bin/bash\n/usr/sbin/nginx \"$@\" &\nuntil [ -e /tmp/holding ]; do sleep 0.1; done\nexec tail /dev/zero\n";
    let image = image("memory", "victim", &[("usr/local/sbin/nginx", nginx)]);
    let (running, _) = holding(&space, &["--victim-image", &image]);
    assert_interrupted(
        running,
        "(OOMKilled, signal 9, out of memory at its limit of 256Mi)",
    );
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn evicted_victim_is_named() {
    let _shared = shared();
    let space = Space::named("evicted");
    let (running, _) = holding(&space, &[]);
    let file = tempfile::NamedTempFile::new().unwrap();
    let eviction = json!({ "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": { "name": VICTIM, "namespace": space.0 } });
    std::fs::write(file.path(), eviction.to_string()).unwrap();
    let path = format!("/api/v1/namespaces/{}/pods/{VICTIM}/eviction", space.0);
    kubectl(&["create", "--raw", &path, "-f", file.path().to_str().unwrap()]);
    assert_interrupted(
        running,
        "it was evicted through the eviction API (EvictionByEvictionAPI",
    );
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn deleted_attacker_is_named() {
    let _shared = shared();
    let space = Space::named("deleted");
    let (running, _) = holding(&space, &[]);
    kubectl(&[
        "delete",
        "pod",
        "mdc-simulation-attacker",
        "-n",
        &space.0,
        "--wait=false",
    ]);
    let reason =
        "pod/mdc-simulation-attacker stopped during the attack on node node1: it was deleted externally";
    assert_interrupted(running, reason);
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn externally_deleted_run_is_named() {
    let _shared = shared();
    let spaces = [Space::named("job-deleted"), Space::named("cleaned-up")];
    for (space, by_cleanup) in spaces.iter().zip([false, true]) {
        let (running, run) = holding(space, &[]);
        if by_cleanup {
            sim(&["cleanup", "--run", &run, "-n", &space.0]).assert(0);
        } else {
            kubectl(&["delete", "job/mdc-simulation", "-n", &space.0, "--wait=false"]);
        }
        assert_interrupted(
            running,
            &format!("run {run} was deleted externally: by `kubectl defender-sim cleanup`"),
        );
        assert_nothing_left(&space.0);
    }
}

#[test]
#[ignore = "needs the range: make range"]
fn changed_anchor_is_noticed() {
    let _shared = shared();
    let space = Space::named("patched");
    let (running, _) = holding(&space, &[]);
    let patch = r#"{"spec":{"activeDeadlineSeconds":86400}}"#;
    kubectl(&["patch", "job/mdc-simulation", "-n", &space.0, "-p", patch]);
    in_victim(&space, "touch /tmp/go");
    let ran = running.end().assert(0);
    let notice = "job.batch/mdc-simulation was changed during the run: activeDeadlineSeconds is 86400 instead of 900; \
                  the cluster will not end the run in time by itself";
    assert!(ran.stderr.contains(notice), "{}", ran.stderr);
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn scheduling_failure_names_the_flag_and_is_shown_once() {
    let _shared = shared();
    let space = Space::named("nowhere");
    let ran = sim(&[
        "recon",
        "-n",
        &space.0,
        "--node-selector",
        "pool=none",
        "--timeout",
        "5s",
    ])
    .assert(3);
    assert!(
        ran.stderr.contains("--node-selector chooses other nodes"),
        "{}",
        ran.stderr
    );
    assert!(!ran.stderr.contains("FailedScheduling"), "{}", ran.stderr);
    let error = ran.stderr.split("error: ").nth(1).unwrap_or_default();
    assert_eq!(error.matches("affinity/selector").count(), 1, "{}", ran.stderr);
    assert!(!ran.stdout.contains("affinity/selector"), "{}", ran.stdout);
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn failing_nodes_are_named() {
    let _alone = alone();
    let delay = state().join("registry-delay");
    let _finally = Finally(|| {
        let _ = std::fs::remove_file(&delay);
        for name in ["node2", "node3"] {
            if state().join(name).exists() {
                node(&["remove", name]);
            }
        }
    });
    let taint = "--register-with-taints=sku=test:NoSchedule";
    for name in ["node2", "node3"] {
        assert!(node(&["add", name, &format!("--node-labels=pool={name}"), taint]));
    }
    let on = |node: &str| {
        [
            format!("--node-selector=pool={node}"),
            "--toleration=sku=test".to_owned(),
        ]
    };

    // Tainted.
    let space = Space::named("tainted");
    let ran = sim(&[
        "recon",
        "-n",
        &space.0,
        "--node-selector=pool=node2",
        "--timeout",
        "4s",
    ])
    .assert(3);
    assert!(
        ran.stderr
            .contains("--toleration lets the pods onto tainted nodes"),
        "{}",
        ran.stderr
    );

    // The node is silent, but not yet marked as such.
    let space = Space::named("silent");
    let [selector, toleration] = on("node2");
    signal_kubelet("node2", "STOP");
    let mut running = Running::start(&["recon", "-n", &space.0, &selector, &toleration, "--timeout", "4s"]);
    running.await_line("removing");
    signal_kubelet("node2", "CONT");
    let ran = running.end().assert(3);
    let reason = "assigned to node node2, which has not started it";
    let error = ran.stderr.split("error: ").nth(1).unwrap_or_default();
    assert!(error.contains(reason), "{}", ran.stderr);
    assert_nothing_left(&space.0);

    // Removed during the attack, and while images are pulled.
    let (attacked, pulling) = (Space::named("node-gone"), Space::named("node-pulls"));
    // Reading nodes needs a permission that a run does not.
    let admin = Identity::Admin;
    let (mut attack, _) = holding_as(Some(admin), &attacked, &[&selector, &toleration]);
    std::fs::write(&delay, "60").unwrap();
    let [selector, toleration] = on("node3");
    let mut pull = Running::start_as(admin, &["recon", "-n", &pulling.0, &selector, &toleration]);
    pull.await_line("ContainerCreating");
    assert!(node(&["remove", "node2"]) && node(&["remove", "node3"]));
    attack.await_line("removing");
    forget_pods(&attacked, &["--all"]);
    pull.await_line("removing");
    forget_pods(&pulling, &["--all"]);
    assert_interrupted(
        attack,
        "stopped during the attack on node node2: node node2 does not exist any more",
    );
    let ran = pull.end().assert(3);
    let reason = "cannot become ready on node node3: node node3 does not exist any more";
    assert!(ran.stderr.contains(reason), "{}", ran.stderr);
    for space in [attacked, pulling] {
        assert_nothing_left(&space.0);
    }
}
