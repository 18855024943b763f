//! Judges a run by the alerts attributed to it: a verdict on each expected alert, further alerts of the run, and
//! whether the verification fails.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::attribution::Subject;
use super::expected::{ExpectedAlert, expected_alerts};
use super::fired::FiredAlert;
use super::matching::AttributedAlerts;
use super::options::{JudgeOptions, Required};
use crate::defender::alerts::Alert;
use crate::defender::facts::{Fact, Facts};
use crate::result::{AlertVerdict, RaisedAlert, RunResult, Verdict, Verification};
use crate::words::counted;

/// Judges `run` by the alerts read from `source` at the time `now`.
pub fn judge(
    run: &RunResult,
    alerts: AttributedAlerts,
    subject: &Subject,
    options: &JudgeOptions,
    source: String,
    now: Timestamp,
) -> Verification {
    let expected = expected_alerts(run);
    let mut used = BTreeSet::new();
    let mut first_raised = |expected: &ExpectedAlert| {
        let matching = alerts.matching(expected.alert, &options.names);
        used.extend(matching.iter().copied());
        let first = matching.first().map(|index| alerts.get(*index).clone());
        first.map(|alert| raised(alert, expected.first_step()))
    };
    let all_raised: Vec<Option<RaisedAlert>> = expected.iter().map(&mut first_raised).collect();
    let mut facts = options.facts.clone();
    let pairs = expected.iter().zip(&all_raised);
    let contradictions = correct(
        &mut facts,
        pairs
            .filter(|(_, raised)| raised.is_some())
            .map(|(expected, _)| expected.alert),
    );
    let pairs = expected.iter().zip(&all_raised);
    let detected = pairs.filter(|(_, raised)| raised.is_some());
    let detected: BTreeSet<&str> = detected.map(|(expected, _)| expected.alert.id.as_str()).collect();
    let is_detected = |expected: &ExpectedAlert| detected.contains(expected.alert.id.as_str());
    let is_waiting = expected
        .iter()
        .filter(|alert| !is_detected(alert) && is_decisive(alert, &expected, options.required))
        .any(|alert| !alert.is_form_of(&detected) && alert.is_possible(&facts, options));
    let options = &JudgeOptions {
        waiting: options.waiting && is_waiting,
        ..options.clone()
    };
    let verdict = |(expected, raised): (&ExpectedAlert, Option<RaisedAlert>)| {
        let (verdict, reason) = match &raised {
            Some(raised) => (Verdict::Raised, late(raised, options.max_time_to_detect)),
            None if expected.is_form_of(&detected) => expected.verdict_if_not_blocked(),
            None => match expected.verdict_if_not_raised(&facts, options) {
                (Verdict::Waiting, reason) => (Verdict::Waiting, reason),
                other => alerts
                    .candidate(expected.alert, &options.names)
                    .map_or(other, |reason| (Verdict::Unknown, Some(reason))),
            },
        };
        let scenarios = expected.scenarios.iter();
        AlertVerdict {
            id: expected.alert.id.clone(),
            name: expected.alert.name.clone(),
            scenarios: scenarios.map(|scenario| scenario.id.clone()).collect(),
            optional: expected.is_optional(),
            late: raised.is_some() && reason.is_some(),
            verdict,
            reason,
            raised,
            victims: vec![],
        }
    };
    let verdicts: Vec<AlertVerdict> = expected.iter().zip(all_raised).map(verdict).collect();
    let (additional, unattributed) = alerts.into_others(&used, verdicts.is_empty());
    let mut verification = Verification {
        source,
        read: now,
        from: subject.from,
        until: subject.until,
        additional: additional.into_iter().map(|alert| raised(alert, None)).collect(),
        alerts: verdicts,
        unattributed,
        contradictions,
        regressions: vec![],
        failure: None,
    };
    conclude(&mut verification, &facts, options);
    verification
}

/// Sets what follows from the verdicts: which alerts are missing that earlier runs had, and whether the verification
/// fails.
pub(super) fn conclude(verification: &mut Verification, facts: &Facts, options: &JudgeOptions) {
    verification.regressions = options.earlier.regressions(verification);
    verification.failure = failure(verification, facts, options.required);
}

/// Whether the alert can decide whether the verification fails. Optional alerts can if any alert counts, and are awaited
/// if there are no others.
fn is_decisive(alert: &ExpectedAlert, all: &[ExpectedAlert], required: Required) -> bool {
    !alert.is_optional()
        || matches!(required, Required::AtLeast(_))
        || all.iter().all(ExpectedAlert::is_optional)
}

/// Corrects facts that raised alerts contradict. Returns each contradiction as a sentence.
fn correct<'a>(facts: &mut Facts, raised: impl Iterator<Item = &'a Alert>) -> Vec<String> {
    let mut contradictions = vec![];
    for alert in raised {
        let mut correct_fact = |fact: &mut Fact| {
            if let Fact::No(reason) = fact {
                contradictions.push(format!("{reason}, but {:?} was raised", alert.name));
                *fact = Fact::Yes;
            }
        };
        correct_fact(&mut facts.plan);
        if alert.needs_sensor(facts.cloud) {
            correct_fact(&mut facts.sensor);
        }
        if let Some(fact) = alert
            .condition
            .and_then(|condition| facts.conditions.get_mut(&condition))
        {
            correct_fact(fact);
        }
    }
    contradictions
}

/// Returns why the alerts fail the verification, if they do.
fn failure(verification: &Verification, facts: &Facts, required: Required) -> Option<String> {
    if verification.alerts.is_empty() {
        return baseline_failure(verification, facts);
    }
    if verification.count(Verdict::Waiting) > 0 {
        return None;
    }
    // Any alert adds to a required number; otherwise the optional ones do not matter.
    let is_number = matches!(required, Required::AtLeast(_));
    let alerts = verification.alerts.iter();
    let alerts: Vec<&AlertVerdict> = alerts.filter(|alert| is_number || !alert.optional).collect();
    let in_time = |alert: &AlertVerdict| alert.verdict == Verdict::Raised && !alert.late;
    let raised = alerts.iter().filter(|alert| in_time(alert)).count();
    let is_missing = |alert: &&AlertVerdict| alert.late || alert.verdict == Verdict::NotRaised;
    let fails = match required {
        Required::NoneMissing => alerts.iter().any(is_missing) || (raised == 0 && !alerts.is_empty()),
        Required::AtLeast(number) => raised < number,
        Required::All => raised < alerts.len(),
    };
    let mut reasons: Vec<Option<&str>> = alerts
        .iter()
        .filter(|alert| !in_time(alert))
        .map(|alert| alert.reason.as_deref())
        .collect();
    reasons.dedup();
    let reason = match reasons[..] {
        [Some(reason)] => format!(": {reason}"),
        _ => String::new(),
    };
    let expected = counted(alerts.len(), "expected alert");
    let verb = if alerts.len() == 1 { "was" } else { "were" };
    let everywhere = verification.everywhere();
    fails.then(|| format!("{raised} of {expected} {verb} raised{everywhere}{reason}"))
}

/// Returns why the verification fails if no alert is expected.
fn baseline_failure(verification: &Verification, facts: &Facts) -> Option<String> {
    if !verification.additional.is_empty() {
        let names = verification.additional.iter().map(|alert| alert.name.as_str());
        let names = names.collect::<Vec<_>>().join(", ");
        return Some(format!("no alert was expected, but these were raised: {names}"));
    }
    if let Some(alert) = verification.unattributed.first() {
        return Some(format!("{} may be of this run: {}", alert.name, alert.reason));
    }
    let absent = [&facts.plan, &facts.sensor]
        .into_iter()
        .find_map(|fact| match fact {
            Fact::No(reason) => Some(reason),
            _ => None,
        });
    absent.map(|reason| format!("no alert could be raised: {reason}"))
}

fn raised(alert: FiredAlert, begun: Option<Timestamp>) -> RaisedAlert {
    let seconds = alert
        .generated
        .zip(begun)
        .map(|(generated, begun)| generated.duration_since(begun).as_secs_f64())
        .filter(|seconds| *seconds >= 0.0);
    RaisedAlert {
        name: alert.label(),
        id: alert.id,
        severity: alert.severity,
        status: alert.status,
        generated: alert.generated,
        seconds_to_detect: seconds,
        link: alert.link,
    }
}

/// Returns the reason if an alert was raised too late, or its time to detect is unknown.
fn late(raised: &RaisedAlert, limit: Option<SignedDuration>) -> Option<String> {
    let limit = limit?;
    match raised.seconds_to_detect {
        None => Some(format!("time to detect is unknown, the limit is {limit:#}")),
        Some(seconds) if seconds > limit.as_secs_f64() => {
            Some(format!("too late: after {seconds:.0} s, the limit is {limit:#}"))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::fixture::{changed, judge_all, raised, run, unknowns};
    use super::*;

    #[test]
    fn alert_after_the_time_limit_fails() {
        let alert = raised("Possible Web Shell activity detected", "2026-05-04T10:00:30Z");
        let run = run("recon");
        let subject = Subject::of(&run, vec![], false);
        let judged = |minutes: i64| {
            let options = JudgeOptions {
                max_time_to_detect: Some(SignedDuration::from_mins(minutes)),
                required: Required::AtLeast(1),
                ..JudgeOptions::default()
            };
            judge_all(&run, std::slice::from_ref(&alert), &subject, &options)
        };
        let web_shell = |verification: &Verification| verification.alerts[0].clone();
        let in_time = judged(31);
        assert_eq!(
            web_shell(&in_time).raised.unwrap().seconds_to_detect,
            Some(1850.5)
        );
        assert_eq!(in_time.failure, None);
        let late = judged(30);
        assert_eq!(
            web_shell(&late).reason.as_deref(),
            Some("too late: after 1850 s, the limit is 30m")
        );
        assert_eq!(
            late.failure.as_deref(),
            Some("0 of 4 expected alerts were raised")
        );
    }

    #[test]
    fn baseline_passes_only_with_evidence() {
        let mut run = run("recon");
        run.scenarios[0].alerts.clear();
        let subject = Subject::of(&run, vec!["aks-test".to_owned()], false);
        let judged = |fired: &[Value], facts: Facts| {
            let options = JudgeOptions {
                facts,
                ..JudgeOptions::default()
            };
            judge_all(&run, fired, &subject, &options).failure
        };
        assert_eq!(judged(&[], Facts::default()), None);
        for (property, value, reason) in unknowns() {
            let failure = judged(&[changed(property, &value)], Facts::default()).unwrap_or_default();
            assert!(failure.contains(reason), "{reason} in {failure:?}");
        }
        let blind = Facts {
            sensor: Fact::No("there is no sensor".into()),
            ..Facts::default()
        };
        let failure = judged(&[], blind);
        assert_eq!(
            failure.as_deref(),
            Some("no alert could be raised: there is no sensor")
        );
    }

    #[test]
    fn no_raised_alert_fails_for_any_reason() {
        let blind = Facts {
            sensor: Fact::No("there is no sensor".into()),
            ..Facts::default()
        };
        let failure = |fired: &[Value], facts: &Facts, required: Required| {
            let run = run("lateral-mov");
            let subject = Subject::of(&run, vec![], false);
            let options = JudgeOptions {
                facts: facts.clone(),
                required,
                ..JudgeOptions::default()
            };
            judge_all(&run, fired, &subject, &options).failure
        };
        let total = expected_alerts(&run("lateral-mov")).len();
        let nothing = |reason: &str| Some(format!("0 of {total} expected alerts were raised{reason}"));
        let default = Required::NoneMissing;
        assert_eq!(failure(&[], &blind, default), nothing(": there is no sensor"));
        assert!(failure(&[], &Facts::default(), default).is_some());
        let one = [raised(
            "Possible Web Shell activity detected",
            "2026-05-04T10:00:30Z",
        )];
        for (required, fails) in [("none", false), ("1", false), ("2", true), ("all", true)] {
            let found = failure(&one, &Facts::default(), required.parse().unwrap());
            assert_eq!(found.is_some(), fails, "{required}: {found:?}");
        }
        assert!("few".parse::<Required>().is_err());
        assert_eq!(failure(&[], &blind, Required::AtLeast(0)), None);
    }

    #[test]
    fn optional_alert_neither_fails_nor_replaces_a_required_one() {
        let mut run = run("recon");
        let subject = Subject::of(&run, vec![], false);
        let one = [raised("Network scanning tool detected", "2026-05-04T10:00:30Z")];
        let mut judged = |optional: &[&str], required: Required, minutes: Option<i64>| {
            for alert in &mut run.scenarios[0].alerts {
                alert.optional = optional.contains(&alert.id.as_str());
            }
            let options = JudgeOptions {
                required,
                max_time_to_detect: minutes.map(SignedDuration::from_mins),
                ..JudgeOptions::default()
            };
            judge_all(&run, &one, &subject, &options).failure
        };
        let others = ["web-shell", "service-account-operation", "token-access"];
        assert_eq!(judged(&others, Required::All, None), None);
        assert_eq!(judged(&others, Required::NoneMissing, None), None);
        let none = |of: &str| Some(format!("0 of {of} raised"));
        let scan = ["network-scan"];
        for required in [Required::All, Required::NoneMissing] {
            assert_eq!(judged(&scan, required, None), none("3 expected alerts were"));
        }
        assert_eq!(judged(&scan, Required::AtLeast(1), None), None);
        let all = [&others[..], &scan].concat();
        assert_eq!(judged(&all, Required::NoneMissing, Some(1)), None, "late");
    }

    #[test]
    fn optional_alerts_are_awaited_only_while_they_can_decide() {
        let mut run = run("recon");
        let subject = Subject::of(&run, vec![], false);
        let one = [raised("Network scanning tool detected", "2026-05-04T10:00:30Z")];
        let mut waiting = |optional: &[&str], required: Required| {
            for alert in &mut run.scenarios[0].alerts {
                alert.optional = optional.contains(&alert.id.as_str());
            }
            let options = JudgeOptions {
                required,
                waiting: true,
                ..JudgeOptions::default()
            };
            judge_all(&run, &one, &subject, &options).count(Verdict::Waiting)
        };
        let others = ["web-shell", "service-account-operation", "token-access"];
        assert_eq!(waiting(&[], Required::All), 3);
        assert_eq!(waiting(&others[1..], Required::All), 3, "one is required");
        assert_eq!(waiting(&others, Required::All), 0);
        assert_eq!(waiting(&others, Required::AtLeast(2)), 3, "any alert counts");
        let all = [&others[..], &["network-scan"]].concat();
        assert_eq!(waiting(&all, Required::All), 3, "no alert is required");
    }

    #[test]
    fn raised_alert_contradicts_an_absent_sensor() {
        let blind = Facts {
            plan: Fact::No("the plan is off".into()),
            sensor: Fact::No("there is no sensor".into()),
            ..Facts::default()
        };
        let run = run("recon");
        let subject = Subject::of(&run, vec![], false);
        let options = JudgeOptions {
            facts: blind,
            ..JudgeOptions::default()
        };
        let one = [raised(
            "Possible Web Shell activity detected",
            "2026-05-04T10:00:30Z",
        )];
        let found = judge_all(&run, &one, &subject, &options);
        assert_eq!(
            found.contradictions,
            [
                "the plan is off, but \"Possible Web Shell activity detected\" was raised",
                "there is no sensor, but \"Possible Web Shell activity detected\" was raised",
            ]
        );
        let scan = found
            .alerts
            .iter()
            .find(|alert| alert.id == "network-scan")
            .unwrap();
        assert_eq!(scan.verdict, Verdict::NotRaised);
    }
}
