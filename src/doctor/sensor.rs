//! Is Defender's sensor installed, how, and in which version?

use super::look::Look;
use super::{Checked, Finding};
use crate::defender::sensor::{Flavour, SensorFacts};

pub(super) async fn check(look: &Look) -> Checked {
    Ok(judge(&look.sensors().await?.facts))
}

fn judge(facts: &SensorFacts) -> Finding {
    let seen: Vec<String> = facts.sensors.iter().map(ToString::to_string).collect();
    let seen = seen.join("; ");
    match facts.flavours()[..] {
        [] => Finding::failed("none: no DaemonSet has its name or one of its images")
            .advise("turn it on in Defender for Containers, or install its Helm chart; only alerts from the audit log come without it"),
        [Flavour::Other] => Finding::warning(seen)
            .suggest("what it can detect is not known; see", ["get", "daemonsets", "-A", "-o", "wide"]),
        [_] => Finding::ok(seen),
        [..] => Finding::warning(format!("several: {seen}"))
            .advise("both watch the same nodes; remove the one that is not wanted"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::defender::sensor::{MDC, SYSTEM, Workload};
    use crate::result::CheckStatus::{Failed, Ok, Warning};

    #[test]
    fn none_one_two_and_unknown() {
        let add_on = (SYSTEM, "microsoft-defender-collector-ds");
        let helm = (MDC, "microsoft-defender-collectors-ds");
        for (sets, status, said) in [
            (&[][..], Failed, "none"),
            (&[add_on], Ok, "AKS add-on, version unknown"),
            (&[add_on, helm], Warning, "several: AKS add-on"),
            (
                &[("x", "microsoft-defender-collector-ds")],
                Warning,
                "installed in an undocumented way",
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
            assert!(finding.seen.starts_with(said), "{finding:?}");
        }
    }
}
