//! Checks that the caller has every permission that a run needs.

use crate::doctor::finding::{Checked, Finding};
use crate::doctor::snapshot::Snapshot;
use crate::engine;
use crate::manifest::rights::{self, NamespaceUse};
use crate::words::counted;

pub(super) async fn check(snapshot: &Snapshot) -> Checked {
    let name = &snapshot.plan.namespace.name;
    let every = rights::of_run(NamespaceUse::Create);
    let missing = snapshot.cluster.missing_rights(name, &every).await?;
    // If the namespace cannot be read, `namespace` reports why.
    let namespace_use = engine::namespace_use(&snapshot.namespace().await, snapshot.plan.namespace.given);
    let missing = engine::needed(&missing, namespace_use);
    Ok(match missing.first() {
        None => Finding::ok(format!(
            "all {} in namespace {name}",
            rights::of_run(namespace_use).len()
        )),
        Some(first) => {
            let user = snapshot.user().await.ok().flatten();
            Finding::failed(format!(
                "{} missing in namespace {name}: {}",
                counted(missing.len(), "right"),
                rights::grouped(&missing)
            ))
            .advise(engine::hint_grant(
                first,
                namespace_use,
                name,
                user,
                snapshot.cluster.kubectl(),
            ))
        }
    })
}
