//! Checks that the login may read alerts.

use crate::azure::{Right, can_read_alerts};
use crate::doctor::finding::{Checked, Finding};
use crate::doctor::snapshot::Snapshot;

pub(super) async fn check(snapshot: &Snapshot) -> Checked {
    let (located, scope) = snapshot.scope().await?;
    if can_read_alerts(&located.arm, scope).await? {
        return Ok(Finding::ok(format!("the alerts of {} can be read", scope.id())));
    }
    let Right { action, role } = Right::ALERTS;
    Ok(
        Finding::warning(format!("not allowed on {}: {action}", scope.id())).advise(format!(
            "--verify needs this permission, a run does not; the role {role} has it"
        )),
    )
}
