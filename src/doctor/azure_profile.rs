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
    let flavours = match look.sensors().await {
        Ok(sensors) => sensors.facts.flavours(),
        Err(_) => vec![],
    };
    Ok(judge(facts.sensor, &flavours))
}

fn judge(profile: Option<bool>, there: &[Flavour]) -> Finding {
    let add_on = there.contains(&Flavour::AksAddOn);
    match profile {
        Some(true) if add_on => Finding::ok("has the sensor"),
        Some(true) => Finding::warning("has the sensor, and the cluster has no add-on")
            .advise("it takes some minutes to come; see: kubectl get pods -n kube-system"),
        _ if !there.is_empty() && !add_on => {
            Finding::ok("has no sensor; the one in the cluster was installed another way")
        }
        Some(false) | None => Finding::warning("has no sensor")
            .advise("az aks update --enable-defender, or install the sensor's Helm chart"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::CheckStatus::{self, Ok, Warning};

    #[test]
    fn a_sensor_by_another_way_needs_no_profile() {
        for (profile, there, status) in [
            (Some(true), &[Flavour::AksAddOn][..], Ok),
            (Some(true), &[], Warning),
            (Some(false), &[Flavour::Helm], Ok),
            (None, &[Flavour::Helm], Ok),
            (Some(false), &[Flavour::AksAddOn], Warning),
            (None, &[], Warning),
        ] {
            let came: CheckStatus = judge(profile, there).status;
            assert_eq!(came, status, "{profile:?} {there:?}");
        }
    }
}
