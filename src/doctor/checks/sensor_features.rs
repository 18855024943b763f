//! Checks that the alerts of the scenarios exist for this kind of cluster, and that the sensor and the cluster have the
//! features they need.

use std::collections::BTreeSet;

use crate::defender::alerts::{self, Alert, Condition};
use crate::defender::facts::Fact;
use crate::defender::sensor::SensorFacts;
use crate::doctor::finding::{Checked, Finding};
use crate::doctor::snapshot::Snapshot;
use crate::scenario::Scenario;

pub(super) async fn check(snapshot: &Snapshot) -> Checked {
    Ok(judge(&snapshot.plan.scenarios, &snapshot.sensors().await?.facts))
}

fn judge(scenarios: &[Scenario], facts: &SensorFacts) -> Finding {
    let ids: BTreeSet<&str> = scenarios
        .iter()
        .flat_map(|scenario| &scenario.alerts)
        .map(|alert| alert.id.as_str())
        .collect();
    let is_documented = |alert: &&Alert| facts.cloud.is_none_or(|cloud| alert.is_documented_for(cloud));
    let (alerts, elsewhere): (Vec<&Alert>, Vec<&Alert>) =
        ids.into_iter().filter_map(alerts::find).partition(is_documented);
    if facts.sensors.is_empty() && elsewhere.is_empty() {
        return Finding::not_applicable("there is no sensor");
    }
    let needed: BTreeSet<(Condition, &str)> = alerts
        .into_iter()
        .filter_map(|alert| Some((alert.condition?, alert.id.as_str())))
        .filter(|_| !facts.sensors.is_empty())
        .collect();
    let known: Vec<_> = needed
        .into_iter()
        .map(|(condition, id)| (condition, id, facts.fact(condition)))
        .collect();
    if known.is_empty() && elsewhere.is_empty() {
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
    let mut missing = describe(|known| match known {
        Fact::No(reason) => Some(reason),
        Fact::Yes | Fact::Unknown(_) => None,
    });
    if let Some(cloud) = facts.cloud {
        let undocumented = |alert: &Alert| format!("\"{}\", which is not documented for {cloud}", alert.name);
        missing.extend(elsewhere.into_iter().map(undocumented));
    }
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
                "these alerts cannot be expected here; the latest Helm chart of the sensor supports most features",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::defender::alerts::Cloud;
    use crate::defender::sensor::{MDC, Workload};
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
            let facts = SensorFacts::new(&workloads, Some(false), Some(Cloud::Aks));
            let scenarios: Vec<_> = scenarios
                .iter()
                .map(|id| catalogue::find(id).unwrap().clone())
                .collect();
            let finding = judge(&scenarios, &facts);
            assert_eq!(finding.status, status, "{finding:?}");
            assert!(finding.message.contains(message), "{message:?} in {finding:?}");
        }
    }

    #[test]
    fn alerts_that_are_not_documented_for_the_cloud_are_named() {
        let events = [catalogue::find("events").unwrap().clone()];
        let on = |cloud| judge(&events, &SensorFacts::new(&[], Some(false), cloud));
        let on_gke = on(Some(Cloud::Gke));
        assert_eq!(on_gke.status, Warning);
        let undocumented = "\"Kubernetes events deleted\", which is not documented for GKE";
        assert!(on_gke.message.contains(undocumented), "{}", on_gke.message);
        for cloud in [None, Some(Cloud::Aks)] {
            assert_eq!(on(cloud).status, NotApplicable, "{cloud:?}");
        }
    }
}
