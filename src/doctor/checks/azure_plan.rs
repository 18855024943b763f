//! Checks that the plan Defender for Containers is on: without it, no alert is raised.

use std::fmt::Write as _;

use crate::azure::{Plan, plan};
use crate::doctor::finding::{Checked, Finding};
use crate::doctor::snapshot::Snapshot;

/// The extension of the plan that installs the sensor.
const SENSOR: &str = "ContainerSensor";

pub(super) async fn check(snapshot: &Snapshot) -> Checked {
    let (located, scope) = snapshot.scope().await?;
    let (cluster, certain) = (located.search.found.as_ref(), snapshot.certain().await);
    let plan = plan(&located.arm, scope.subscription(), cluster, certain).await?;
    let has_no_sensor = snapshot
        .sensors()
        .await
        .is_ok_and(|sensors| sensors.facts.sensors.is_empty());
    Ok(judge(&plan, has_no_sensor))
}

/// Judges the plan. `has_no_sensor` is whether the cluster is known to have no sensor.
fn judge(plan: &Plan, has_no_sensor: bool) -> Finding {
    let Plan {
        on, of, extensions, ..
    } = plan;
    if !on && !plan.decides {
        return Finding::unknown(format!(
            "off in {of}; the plan of this cluster may be that of a connector, or of the subscription of its Azure Arc resource"
        ))
        .advise("name the cluster as Defender knows it: --resource-id ID");
    }
    if !on {
        return Finding::failed(format!("off in {of}: no alert can be raised")).advise(
            "turn it on before the run: earlier activity is not analyzed; see: az security pricing show -n Containers",
        );
    }
    let names = |enabled: bool| -> String {
        let parts = extensions.iter().filter(|part| part.enabled == enabled);
        let names: Vec<&str> = parts.map(|part| part.name.as_str()).collect();
        names.join(", ")
    };
    let mut message = format!("on in {of}");
    for (word, names) in [("with", names(true)), ("without", names(false))] {
        if !names.is_empty() {
            let _ = write!(message, "; {word} {names}");
        }
    }
    let sensor_off = extensions.iter().any(|part| part.name == SENSOR && !part.enabled);
    if sensor_off && has_no_sensor {
        return Finding::warning(message).advise(
            "nothing installs the sensor: turn its extension of the plan on, or install its Helm chart",
        );
    }
    Finding::ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::azure::Extension;
    use crate::result::CheckStatus::{Failed, Ok, Warning};

    #[test]
    fn plan_that_is_off_fails_and_missing_sensor_warns() {
        for (on, enabled, has_no_sensor, status, part) in [
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
            let plan = Plan {
                on,
                of,
                extensions,
                decides: true,
            };
            let finding = judge(&plan, has_no_sensor);
            assert_eq!(finding.status, status, "{finding:?}");
            assert!(finding.message.contains(part), "{finding:?}");
        }
    }
}
