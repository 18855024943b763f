//! Checks that no other run holds the namespace.

use crate::doctor::finding::{Checked, Finding};
use crate::doctor::snapshot::Snapshot;
use crate::engine;

pub(super) async fn check(snapshot: &Snapshot) -> Checked {
    let name = &snapshot.plan.namespace.name;
    Ok(match snapshot.anchor().await? {
        None => Finding::ok(format!("none in namespace {name}")),
        Some(anchor) => Finding::failed(engine::active(anchor, name)).suggest(
            "wait for it, or remove it",
            ["defender-sim", "cleanup", "-n", name],
        ),
    })
}
