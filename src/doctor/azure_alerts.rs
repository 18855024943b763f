//! May the login read the alerts?

use super::look::Look;
use super::{Checked, Finding};
use crate::azure::{Right, alerts_readable};

pub(super) async fn check(look: &Look) -> Checked {
    let (located, scope) = look.scope().await?;
    if alerts_readable(&located.arm, scope).await? {
        return Ok(Finding::ok(format!("those of {} can be read", scope.id())));
    }
    let Right { action, role } = Right::ALERTS;
    Ok(
        Finding::warning(format!("not allowed on {}: {action}", scope.id())).advise(format!(
            "a run needs no such right, --verify does: the role {role} has it"
        )),
    )
}
