//! Judges a run with several victims: each victim like a separate run, by the alerts that name its pod.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use jiff::Timestamp;

use super::attribution::Subject;
use super::matching::AttributedAlerts;
use super::options::JudgeOptions;
use super::verdict;
use crate::defender::facts::Fact;
use crate::result::{AlertVerdict, RunResult, Verdict, Verification, Victim, VictimVerdict};

/// Number of groups that a reason names.
const NAMED: usize = 3;

/// Judges `run` by the alerts read from `source` at the time `now`.
pub(super) fn judge(
    run: &RunResult,
    alerts: AttributedAlerts,
    subject: &Subject,
    options: &JudgeOptions,
    source: String,
    now: Timestamp,
) -> Verification {
    if run.victims.len() < 2 {
        return verdict::judge(run, alerts, subject, options, source, now);
    }
    let parts = run.victims.iter().map(|victim| {
        let mut options = options.clone();
        if let Some(sensor) = victim.sensor.as_ref().filter(|_| !options.sensor_is_assumed) {
            options.facts.sensor = sensor.clone();
        }
        let (part, alerts) = (run.of_victim(victim), alerts.of_victim(&victim.pod));
        let part = verdict::judge(&part, alerts, subject, &options, String::new(), now);
        (victim, part)
    });
    let parts: Vec<(&Victim, Verification)> = parts.collect();
    let mut whole = verdict::judge(run, alerts, subject, options, source, now);
    if whole.alerts.is_empty() {
        // Without an expected alert, each victim has to be able to raise one.
        let failed = parts
            .iter()
            .find_map(|(victim, part)| Some((victim, part.failure.as_ref()?)));
        let failure = failed.map(|(victim, failure)| format!("{}: {failure}", victim.label()));
        whole.failure = whole.failure.or(failure);
        return whole;
    }
    for alert in &mut whole.alerts {
        let of_victims = parts.iter().filter_map(|(victim, part)| {
            let verdict = part.alerts.iter().find(|other| other.id == alert.id)?;
            Some((*victim, verdict))
        });
        combine(alert, &of_victims.collect::<Vec<_>>());
    }
    for contradiction in parts.iter().flat_map(|(_, part)| &part.contradictions) {
        if !whole.contradictions.contains(contradiction) {
            whole.contradictions.push(contradiction.clone());
        }
    }
    verdict::conclude(&mut whole, &options.facts, options);
    if let Some(failure) = &mut whole.failure {
        for (victim, reason) in silent(&parts).take(NAMED) {
            let _ = write!(failure, "; none on {}{reason}", describe(victim));
        }
    }
    whole
}

/// Sets the verdict on an alert by those for each victim: it has to be raised for all of them.
fn combine(alert: &mut AlertVerdict, parts: &[(&Victim, &AlertVerdict)]) {
    if parts.is_empty() {
        return;
    }
    alert.victims = parts
        .iter()
        .map(|(victim, part)| VictimVerdict {
            pod: victim.pod.clone(),
            group: victim.group.clone(),
            verdict: part.verdict,
            reason: part.reason.clone(),
            raised: part.raised.clone(),
        })
        .collect();
    let with = |verdict| parts.iter().filter(move |(_, part)| part.verdict == verdict);
    let number = |verdict| with(verdict).count();
    let raised = number(Verdict::Raised);
    let missing = parts.iter().filter(|(_, part)| part.verdict != Verdict::Raised);
    alert.verdict = if raised == parts.len() {
        Verdict::Raised
    } else if number(Verdict::Waiting) > 0 {
        Verdict::Waiting
    } else if number(Verdict::Unknown) > 0 && number(Verdict::NotRaised) == 0 {
        Verdict::Unknown
    } else if number(Verdict::NotExpected) == parts.len() || alert.optional {
        Verdict::NotExpected
    } else {
        Verdict::NotRaised
    };
    alert.late = parts.iter().any(|(_, part)| part.late);
    let raised_first = with(Verdict::Raised).filter_map(|(_, part)| part.raised.as_ref());
    alert.raised = raised_first.min_by_key(|raised| raised.generated).cloned();
    if alert.verdict == Verdict::Raised {
        let late = parts.iter().find(|(_, part)| part.late);
        alert.reason =
            late.and_then(|(victim, part)| Some(format!("{}: {}", victim.label(), part.reason.as_deref()?)));
        return;
    }
    let reasons: BTreeSet<Option<&str>> = missing.clone().map(|(_, part)| part.reason.as_deref()).collect();
    let reason = match reasons.first() {
        Some(Some(reason)) if reasons.len() == 1 => format!(": {reason}"),
        _ => String::new(),
    };
    if raised == 0 && reasons.len() == 1 {
        alert.reason = missing.clone().next().and_then(|(_, part)| part.reason.clone());
        return;
    }
    if raised == 0 {
        alert.reason = Some(format!("on none of {}", parts.len()));
        return;
    }
    let groups: Vec<&str> = missing.map(|(victim, _)| victim.label()).collect();
    let others = match groups.len().saturating_sub(NAMED) {
        0 => String::new(),
        others => format!(" and {others} more"),
    };
    let named = groups.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
    alert.reason = Some(format!(
        "on {raised} of {}, not on {named}{others}{reason}",
        parts.len()
    ));
}

/// Returns the victims for which none of the required alerts was raised, each with the reason: the sensor, or what is the
/// same for all alerts.
fn silent<'a>(parts: &'a [(&'a Victim, Verification)]) -> impl Iterator<Item = (&'a Victim, String)> {
    parts.iter().filter_map(|(victim, part)| {
        let required = || part.alerts.iter().filter(|alert| !alert.optional);
        if required().next().is_none() || required().any(|alert| alert.verdict == Verdict::Raised) {
            return None;
        }
        let reasons: BTreeSet<Option<&str>> = required().map(|alert| alert.reason.as_deref()).collect();
        let reason = match (&victim.sensor, reasons.first()) {
            (Some(Fact::No(reason)), _) => format!(": {reason}"),
            (_, Some(Some(reason))) if reasons.len() == 1 => format!(": {reason}"),
            _ => String::new(),
        };
        Some((*victim, reason))
    })
}

/// Formats the group of a victim and its node.
fn describe(victim: &Victim) -> String {
    match &victim.node {
        Some(node) if node != victim.label() => format!("{} (node {node})", victim.label()),
        _ => victim.label().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::fixture::{judge_all, raised, run};
    use super::*;

    const NAMES: [&str; 4] = [
        "Possible Web Shell activity detected",
        "Suspicious Kubernetes service account operation detected",
        "Network scanning tool detected",
        "Suspicious access to workload identity token or service account token detected",
    ];

    /// Returns a run of recon on these groups, each with the state of its sensor.
    fn covering(groups: &[(&str, Fact)]) -> RunResult {
        let mut run = run("recon");
        let victims = groups.iter().zip(1..).map(|((group, sensor), number)| Victim {
            pod: format!("mdc-simulation-victim-{number}"),
            group: Some((*group).to_owned()),
            node: Some(format!("node{number}")),
            sensor: Some(sensor.clone()),
            ..Victim::default()
        });
        run.victims = victims.collect();
        let steps = std::mem::take(&mut run.scenarios[0].steps);
        for step in steps {
            run.scenarios[0].steps.extend(run.victims.iter().map(|victim| {
                let mut step = step.clone();
                step.victim = Some(victim.pod.clone());
                step
            }));
        }
        run
    }

    fn alert(name: &str, pods: &[&str]) -> Value {
        let mut alert = raised(name, "2026-05-04T10:00:30Z");
        let entities = pods.iter().map(|pod| json!({"type": "K8s-pod", "name": pod}));
        let namespace = json!({"type": "K8s-namespace", "name": "mdc-simulation"});
        let entities: Vec<Value> = [namespace].into_iter().chain(entities).collect();
        alert["properties"]["entities"] = json!(entities);
        alert["properties"]["extendedProperties"] = json!({});
        alert["id"] = format!("{name} {pods:?}").into();
        alert
    }

    /// Returns the verdict on the web shell and its reason, those of the victims, and the failure.
    fn judged(run: &RunResult, alerts: &[Value]) -> (Verdict, String, Vec<Verdict>, String) {
        let subject = Subject::of(run, vec!["aks-test".to_owned()], false);
        let verification = judge_all(run, alerts, &subject, &JudgeOptions::default());
        let web_shell = verification.alerts[0].clone();
        (
            web_shell.verdict,
            web_shell.reason.unwrap_or_default(),
            web_shell.victims.iter().map(|victim| victim.verdict).collect(),
            verification.failure.unwrap_or_default(),
        )
    }

    fn all(numbers: &[usize]) -> Vec<Value> {
        let pods = numbers
            .iter()
            .map(|number| format!("mdc-simulation-victim-{number}"));
        pods.flat_map(|pod| NAMES.map(|name| alert(name, &[&pod])))
            .collect()
    }

    #[test]
    fn alert_has_to_be_raised_for_every_victim() {
        let run = covering(&[("a", Fact::Yes), ("b", Fact::Yes)]);
        let (verdict, reason, victims, failure) = judged(&run, &all(&[1, 2]));
        assert_eq!(
            (verdict, reason.as_str(), failure.as_str()),
            (Verdict::Raised, "", "")
        );
        assert_eq!(victims, [Verdict::Raised; 2]);
        let (verdict, reason, victims, failure) = judged(&run, &all(&[1]));
        assert_eq!(verdict, Verdict::NotRaised);
        assert!(reason.starts_with("on 1 of 2, not on b"), "{reason}");
        assert_eq!(victims, [Verdict::Raised, Verdict::NotRaised]);
        assert!(failure.contains("; none on b (node node2)"), "{failure}");
    }

    #[test]
    fn victim_without_sensor_is_named_with_the_reason() {
        let absent = Fact::No("no sensor is ready on node2".to_owned());
        let run = covering(&[("a", Fact::Yes), ("b", absent)]);
        let (verdict, reason, victims, failure) = judged(&run, &all(&[1]));
        assert_eq!(verdict, Verdict::NotRaised);
        assert_eq!(reason, "on 1 of 2, not on b: no sensor is ready on node2");
        assert!(
            failure.ends_with("; none on b (node node2): no sensor is ready on node2"),
            "{failure}"
        );
        assert_eq!(victims, [Verdict::Raised, Verdict::NotExpected]);
    }

    #[test]
    fn alert_without_or_with_two_victims_decides_nothing() {
        let run = covering(&[("a", Fact::Yes), ("b", Fact::Yes)]);
        let both = ["mdc-simulation-victim-1", "mdc-simulation-victim-2"];
        for pods in [&[][..], &both, &["mdc-simulation-attacker"]] {
            let (verdict, reason, victims, _) = judged(&run, &[alert(NAMES[0], pods)]);
            assert_eq!(verdict, Verdict::Unknown, "{pods:?}");
            assert!(reason.contains("it names no single victim"), "{reason}");
            assert_eq!(victims, [Verdict::Unknown; 2], "{pods:?}");
        }
        // The pod of another run of its kind, with a longer number.
        let (verdict, ..) = judged(&run, &[alert(NAMES[0], &["mdc-simulation-victim-12"])]);
        assert_eq!(verdict, Verdict::NotRaised);
    }

    #[test]
    fn baseline_needs_a_sensor_on_every_node() {
        let mut run = covering(&[("a", Fact::Yes), ("b", Fact::No("no sensor on node2".to_owned()))]);
        run.scenarios[0].alerts.clear();
        let subject = Subject::of(&run, vec![], false);
        let failure = judge_all(&run, &[], &subject, &JudgeOptions::default()).failure;
        assert_eq!(
            failure.as_deref(),
            Some("b: no alert could be raised: no sensor on node2")
        );
    }
}
