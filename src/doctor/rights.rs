//! Has the caller every right that a run needs?

use super::look::Look;
use super::{Checked, Finding};
use crate::engine;
use crate::manifest::rights::{self, NamespaceUse};
use crate::words::counted;

pub(super) async fn check(look: &Look) -> Checked {
    let name = &look.plan.namespace.name;
    let every = rights::of_run(NamespaceUse::Create);
    let missing = look.cluster.missing_rights(name, &every).await?;
    // Where it cannot be seen whether the namespace exists, its own check reports why.
    let namespace_use = engine::namespace_use(&look.namespace().await, look.plan.namespace.given);
    let missing = engine::needed(&missing, namespace_use);
    Ok(match missing.first() {
        None => Finding::ok(format!(
            "all {} in namespace {name}",
            rights::of_run(namespace_use).len()
        )),
        Some(first) => {
            let user = look.user().await.ok().flatten();
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
                look.cluster.kubectl(),
            ))
        }
    })
}
