//! Checks that Defender's sensor is installed; reports how, and in which version.

use crate::defender::sensor::{InstallMethod, SensorFacts};
use crate::doctor::finding::{Checked, Finding};
use crate::doctor::snapshot::Snapshot;

pub(super) async fn check(snapshot: &Snapshot) -> Checked {
    Ok(judge(&snapshot.sensors().await?.facts))
}

fn judge(facts: &SensorFacts) -> Finding {
    let sensors: Vec<String> = facts.sensors.iter().map(ToString::to_string).collect();
    let sensors = sensors.join("; ");
    match facts.install_methods()[..] {
        [] => Finding::failed("not installed: no DaemonSet has its name or one of its images")
            .advise("enable it in Defender for Containers, or install its Helm chart; without it, only alerts from the audit log are raised"),
        [InstallMethod::Other] => Finding::warning(sensors)
            .suggest("its features are unknown; see", ["get", "daemonsets", "-A", "-o", "wide"]),
        [_] => Finding::ok(sensors),
        [..] => Finding::warning(format!("several: {sensors}"))
            .advise("they monitor the same nodes; remove all but one"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::defender::sensor::{MDC, SYSTEM, Workload};
    use crate::result::CheckStatus::{Failed, Ok, Warning};

    #[test]
    fn sensors_are_counted_and_named() {
        let add_on = (SYSTEM, "microsoft-defender-collector-ds");
        let helm = (MDC, "microsoft-defender-collectors-ds");
        for (sets, status, start) in [
            (&[][..], Failed, "not installed"),
            (&[add_on], Ok, "AKS add-on, version unknown"),
            (&[add_on, helm], Warning, "several: AKS add-on"),
            (
                &[("x", "microsoft-defender-collector-ds")],
                Warning,
                "undocumented install",
            ),
        ] {
            let workload = |&(namespace, name): &(&str, &str)| Workload {
                namespace: namespace.into(),
                name: name.into(),
                ..Workload::default()
            };
            let workloads: Vec<_> = sets.iter().map(workload).collect();
            let finding = judge(&SensorFacts::new(&workloads, Some(false), None));
            assert_eq!(finding.status, status, "{finding:?}");
            assert!(finding.message.starts_with(start), "{finding:?}");
        }
    }
}
