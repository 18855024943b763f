//! Does another run hold the namespace?

use super::look::Look;
use super::{Checked, Finding};
use crate::engine;

pub(super) async fn check(look: &Look) -> Checked {
    let name = &look.plan.namespace.name;
    Ok(match look.anchor().await? {
        None => Finding::ok(format!("none in namespace {name}")),
        Some(anchor) => Finding::failed(engine::active(anchor, name)).suggest(
            "wait for it, or remove it",
            ["defender-sim", "cleanup", "-n", name],
        ),
    })
}
