//! The nodes of the range.

use std::path::Path;
use std::process::Command;

use crate::range::{Space, kubectl, state};

/// Adds or removes a node: see `tests/range/node`.
pub fn node(arguments: &[&str]) -> bool {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/range/node");
    Command::new(tool).args(arguments).status().unwrap().success()
}

/// Sends a signal to the kubelet of a node.
pub fn signal_kubelet(node: &str, signal: &str) {
    let pid = std::fs::read_to_string(state().join(format!("run/kubelet-{node}.pid"))).unwrap();
    assert!(
        Command::new("kill")
            .args(["-s", signal, pid.trim()])
            .status()
            .unwrap()
            .success()
    );
}

/// Skips waiting for the pods of a removed node, which the garbage collector would delay by a minute.
pub fn forget_pods(space: &Space, pods: &[&str]) {
    let delete = [
        "delete",
        "pods",
        "-n",
        &space.0,
        "--force",
        "--grace-period=0",
        "--wait=false",
    ];
    kubectl(&[&delete[..], pods].concat());
}
