//! Checks that the sensor and the cluster have the features that the alerts of the scenarios need.

use std::collections::BTreeSet;

use crate::defender::alerts;
use crate::defender::alerts::Condition;
use crate::defender::facts::Fact;
use crate::defender::sensor::SensorFacts;
use crate::doctor::finding::{Checked, Finding};
use crate::doctor::snapshot::Snapshot;
use crate::scenario::Scenario;

pub(super) async fn check(snapshot: &Snapshot) -> Checked {
    Ok(judge(&snapshot.plan.scenarios, &snapshot.sensors().await?.facts))
}

fn judge(scenarios: &[Scenario], facts: &SensorFacts) -> Finding {
    if facts.sensors.is_empty() {
        return Finding::not_applicable("there is no sensor");
    }
    let ids: BTreeSet<&str> = scenarios
        .iter()
        .flat_map(|scenario| &scenario.alerts)
        .map(|alert| alert.id.as_str())
        .collect();
    let needed: BTreeSet<(Condition, &str)> = ids
        .into_iter()
        .filter_map(|id| Some((alerts::find(id)?.condition?, id)))
        .collect();
    let known: Vec<_> = needed
        .into_iter()
        .map(|(condition, id)| (condition, id, facts.fact(condition)))
        .collect();
    if known.is_empty() {
        return Finding::not_applicable("the alerts of these scenarios need only a ready sensor");
    }
    let describe = |reasons: fn(&Fact) -> Option<&String>| -> Vec<String> {
        known
            .iter()
            .filter_map(|(condition, id, known)| {
                let name = alerts::find(id).map_or(*id, |alert| alert.name.as_str());
                Some(format!("{condition}, for \"{name}\": {}", reasons(known)?))
            })
            .collect()
    };
    let missing = describe(|known| match known {
        Fact::No(reason) => Some(reason),
        Fact::Yes | Fact::Unknown(_) => None,
    });
    let unknown = describe(|known| match known {
        Fact::Unknown(reason) => Some(reason),
        Fact::Yes | Fact::No(_) => None,
    });
    let unknown_features = format!("unknown: {}", unknown.join("; "));
    match (missing.is_empty(), unknown.is_empty()) {
        (true, true) => {
            let mut conditions: Vec<String> = known
                .iter()
                .map(|(condition, ..)| condition.to_string())
                .collect();
            // They are sorted.
            conditions.dedup();
            Finding::ok(conditions.join(", "))
        }
        (true, false) => Finding::unknown(unknown_features),
        (false, all_known) => {
            let mut message = format!("missing: {}", missing.join("; "));
            if !all_known {
                message = format!("{message}; {unknown_features}");
            }
            Finding::warning(message).advise(
                "these alerts cannot be raised; the latest Helm chart of the sensor supports most of them",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::defender::sensor::{MDC, Provider, Workload};
    use crate::result::CheckStatus::{NotApplicable, Ok as Fine, Unknown, Warning};
    use crate::scenario::catalogue;

    #[test]
    fn what_the_alerts_need_is_compared_with_what_there_is() {
        for (version, scenarios, status, message) in [
            (
                "0.10.0",
                &["ti-domain", "anti-malware"][..],
                Fine,
                "DNS detection, anti-malware",
            ),
            ("0.10.0", &["recon"], Fine, "the audit log"),
            (
                "0.10.0",
                &["lateral-mov"],
                NotApplicable,
                "need only a ready sensor",
            ),
            (
                "0.10.0",
                &["crypto"],
                Unknown,
                "unknown: binary drift, for \"A drift binary detected",
            ),
            (
                "0.9.17",
                &["anti-malware", "ti-domain"],
                Warning,
                "missing: anti-malware, for \"Microsoft Defender",
            ),
            (
                "0.9.17",
                &["anti-malware", "crypto"],
                Warning,
                "unknown: binary drift",
            ),
            ("", &["ti-domain"], Unknown, "the sensor's is unknown"),
            ("none", &["ti-domain"], NotApplicable, "there is no sensor"),
        ] {
            let workload = Workload {
                namespace: MDC.into(),
                name: "microsoft-defender-collectors-ds".into(),
                labels: [("app.kubernetes.io/version".to_owned(), version.to_owned())].into(),
                images: vec![],
                ready: true,
            };
            let workloads: Vec<_> = [workload].into_iter().filter(|_| version != "none").collect();
            let facts = SensorFacts::new(&workloads, Some(false), Some(Provider::Aks));
            let scenarios: Vec<_> = scenarios
                .iter()
                .map(|id| catalogue::find(id).unwrap().clone())
                .collect();
            let finding = judge(&scenarios, &facts);
            assert_eq!(finding.status, status, "{finding:?}");
            assert!(finding.message.contains(message), "{message:?} in {finding:?}");
        }
    }
}
