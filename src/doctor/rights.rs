//! Has the caller every right that a run needs?

use super::look::Look;
use super::{Checked, Finding};
use crate::manifest::{RIGHTS, rights};
use crate::words::counted;

pub(super) async fn check(look: &Look) -> Checked {
    let name = &look.plan.namespace.name;
    let (mut missing, may_make) = futures::try_join!(
        look.cluster.missing_rights(name, &RIGHTS),
        look.cluster.missing_rights(name, &rights::MAKE_NAMESPACE)
    )?;
    // Where it cannot be seen whether the namespace is there, it is taken to be: its check says so.
    if look.namespace().await.is_ok_and(|found| found.is_none()) {
        missing.extend(may_make);
    }
    Ok(match missing.first() {
        None => Finding::ok(format!("all {} in namespace {name}", RIGHTS.len())),
        Some(first) => Finding::failed(format!(
            "{} missing in namespace {name}: {}",
            counted(missing.len(), "right"),
            rights::told(&missing)
        ))
        .advise(format!(
            "ask for them, or name a namespace where you have them with -n; check with: kubectl auth can-i {} {} -n {name}",
            first.verb,
            first.resource()
        )),
    })
}
