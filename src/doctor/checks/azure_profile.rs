//! Checks that the security profile of an AKS cluster enables the sensor: the add-on only.

use crate::azure::ClusterKind;
use crate::defender::sensor::InstallMethod;
use crate::doctor::finding::{Checked, Finding};
use crate::doctor::snapshot::Snapshot;

pub(super) async fn check(snapshot: &Snapshot) -> Checked {
    let (cluster, facts) = snapshot.azure_facts().await?;
    if cluster.kind != ClusterKind::Aks {
        return Ok(Finding::not_applicable("not an AKS cluster"));
    }
    let sensors = snapshot.sensors().await;
    let installed = sensors.map(|sensors| sensors.facts.install_methods());
    Ok(judge(facts.sensor, installed.ok().as_deref()))
}

/// Judges the profile by the sensors installed in the cluster, if they are known.
fn judge(profile: Option<bool>, installed: Option<&[InstallMethod]>) -> Finding {
    let add_on = installed.is_some_and(|installed| installed.contains(&InstallMethod::AksAddOn));
    match (profile == Some(true), installed) {
        (true, None) => Finding::ok("enables the sensor; whether it is installed is unknown"),
        (true, Some(_)) if add_on => Finding::ok("enables the sensor"),
        (true, Some(_)) => Finding::warning("enables the sensor, but the add-on is not installed").suggest(
            "installing it takes some minutes; see",
            ["get", "pods", "-n", "kube-system"],
        ),
        (false, None) => {
            Finding::unknown("does not enable the sensor; whether another is installed is unknown")
        }
        (false, Some(_)) if add_on => {
            Finding::warning("does not enable the sensor, but the add-on is installed")
                .advise("see: az aks show --query securityProfile.defender")
        }
        (false, Some([])) => Finding::warning("does not enable the sensor")
            .advise("az aks update --enable-defender, or install the sensor's Helm chart"),
        (false, Some(_)) => Finding::ok("does not enable the sensor, which is installed in another way"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::CheckStatus::{self, Ok, Unknown, Warning};

    #[test]
    fn sensor_of_the_helm_chart_needs_no_profile() {
        for (profile, installed, status) in [
            (Some(true), Some(&[InstallMethod::AksAddOn][..]), Ok),
            (Some(true), Some(&[]), Warning),
            (Some(true), None, Ok),
            (Some(false), Some(&[InstallMethod::Helm]), Ok),
            (None, Some(&[InstallMethod::Helm]), Ok),
            (Some(false), Some(&[InstallMethod::AksAddOn]), Warning),
            (None, Some(&[]), Warning),
            (None, None, Unknown),
        ] {
            let found: CheckStatus = judge(profile, installed).status;
            assert_eq!(found, status, "{profile:?} {installed:?}");
        }
    }
}
