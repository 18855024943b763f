//! Does the security profile of an AKS cluster have the sensor? Only that of the add-on is in there.

use super::look::Look;
use super::{Checked, Finding};
use crate::azure::ClusterKind;
use crate::defender::sensor::Flavour;

pub(super) async fn check(look: &Look) -> Checked {
    let (cluster, facts) = look.azure_facts().await?;
    if cluster.kind != ClusterKind::Aks {
        return Ok(Finding::not_applicable("it is no AKS cluster"));
    }
    let sensors = look.sensors().await;
    let flavours = sensors.map(|sensors| sensors.facts.flavours());
    Ok(judge(facts.sensor, flavours.ok().as_deref()))
}

/// `there` are the sensors in the cluster, where they could be seen.
fn judge(profile: Option<bool>, there: Option<&[Flavour]>) -> Finding {
    let add_on = there.is_some_and(|there| there.contains(&Flavour::AksAddOn));
    match (profile == Some(true), there) {
        (true, None) => Finding::ok("has the sensor; whether it is in the cluster could not be seen"),
        (true, Some(_)) if add_on => Finding::ok("has the sensor"),
        (true, Some(_)) => Finding::warning("has the sensor, and the cluster has no add-on").suggest(
            "it takes some minutes to come; see",
            ["get", "pods", "-n", "kube-system"],
        ),
        (false, None) => {
            Finding::not_told("has no sensor; whether the cluster has another could not be seen")
        }
        (false, Some(_)) if add_on => Finding::warning("has no sensor, and the cluster still has the add-on")
            .advise("see: az aks show --query securityProfile.defender"),
        (false, Some([])) => Finding::warning("has no sensor")
            .advise("az aks update --enable-defender, or install the sensor's Helm chart"),
        (false, Some(_)) => Finding::ok("has no sensor; the one in the cluster was installed another way"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::CheckStatus::{self, CouldNotTell, Ok, Warning};

    #[test]
    fn a_sensor_by_another_way_needs_no_profile() {
        for (profile, there, status) in [
            (Some(true), Some(&[Flavour::AksAddOn][..]), Ok),
            (Some(true), Some(&[]), Warning),
            (Some(true), None, Ok),
            (Some(false), Some(&[Flavour::Helm]), Ok),
            (None, Some(&[Flavour::Helm]), Ok),
            (Some(false), Some(&[Flavour::AksAddOn]), Warning),
            (None, Some(&[]), Warning),
            (None, None, CouldNotTell),
        ] {
            let came: CheckStatus = judge(profile, there).status;
            assert_eq!(came, status, "{profile:?} {there:?}");
        }
    }
}
