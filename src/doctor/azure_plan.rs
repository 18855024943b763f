//! Is the plan Defender for Containers on? Without it there is no alert.

use super::look::Look;
use super::{Checked, Finding};
use crate::azure::{Plan, plan};

/// The part of the plan that puts the sensor on nodes.
const SENSOR: &str = "ContainerSensor";

pub(super) async fn check(look: &Look) -> Checked {
    let (located, scope) = look.scope().await?;
    let (cluster, certain) = (located.search.found.as_ref(), look.certain().await);
    let plan = plan(&located.arm, scope.subscription(), cluster, certain).await?;
    let bare = look
        .sensors()
        .await
        .is_ok_and(|sensors| sensors.facts.sensors.is_empty());
    Ok(judge(&plan, bare))
}

/// `bare` is whether it is known that there is no sensor in the cluster.
fn judge(plan: &Plan, bare: bool) -> Finding {
    let Plan {
        on, of, extensions, ..
    } = plan;
    if !on && !plan.decides {
        return Finding::not_told(format!(
            "off in {of}; its plan may be elsewhere: at a connector, or in the subscription where Azure Arc connects it"
        ))
        .advise("name the cluster as Defender knows it: --resource-id ID");
    }
    if !on {
        return Finding::failed(format!("off in {of}: no alert can be raised")).advise(
            "turn it on and wait: only what happens afterwards is seen; see: az security pricing show -n Containers",
        );
    }
    let which = |enabled: bool| -> String {
        let parts = extensions.iter().filter(|part| part.enabled == enabled);
        let names: Vec<&str> = parts.map(|part| part.name.as_str()).collect();
        names.join(", ")
    };
    let told = [("with", which(true)), ("without", which(false))];
    let told = told.iter().filter(|(_, names)| !names.is_empty());
    let told: Vec<String> = told.map(|(word, names)| format!("{word} {names}")).collect();
    let seen = [vec![format!("on in {of}")], told].concat().join("; ");
    let sensor_off = extensions.iter().any(|part| part.name == SENSOR && !part.enabled);
    if sensor_off && bare {
        return Finding::warning(seen).advise(
            "nothing puts the sensor on the nodes: turn its part of the plan on, or install its Helm chart",
        );
    }
    Finding::ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::azure::Extension;
    use crate::result::CheckStatus::{Failed, Ok, Warning};

    #[test]
    fn off_is_a_fault_and_so_is_a_sensor_that_nobody_brings() {
        for (on, enabled, bare, status, said) in [
            (false, true, false, Failed, "off in subscription s: no alert"),
            (true, true, true, Ok, "on in subscription s; with ContainerSensor"),
            (
                true,
                false,
                false,
                Ok,
                "on in subscription s; without ContainerSensor",
            ),
            (true, false, true, Warning, "without ContainerSensor"),
        ] {
            let extensions = vec![Extension {
                name: SENSOR.into(),
                enabled,
            }];
            let of = "subscription s".into();
            let finding = {
                let plan = Plan {
                    on,
                    of,
                    extensions,
                    decides: true,
                };
                judge(&plan, bare)
            };
            assert_eq!(finding.status, status, "{finding:?}");
            assert!(finding.seen.contains(said), "{finding:?}");
        }
    }
}
