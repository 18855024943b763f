//! The alerts that a run expects, and the verdict on one that was not raised.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::options::JudgeOptions;
use crate::defender::alerts::{self, Alert};
use crate::defender::facts::{Fact, Facts};
use crate::result::{RunResult, ScenarioResult, StepResult, Verdict};
use crate::scenario::Outcome;

/// The alert that every step raises, since every step is sent to the web shell.
const DELIVERY: &str = "web-shell";

/// An alert, and the scenarios of a run that expect it.
pub(super) struct ExpectedAlert<'a> {
    pub alert: &'static Alert,
    pub scenarios: Vec<&'a ScenarioResult>,
}

/// Returns each alert that a run expects once.
pub(super) fn expected_alerts(run: &RunResult) -> Vec<ExpectedAlert<'_>> {
    let mut expected: Vec<ExpectedAlert> = vec![];
    for scenario in &run.scenarios {
        for alert in scenario.alerts.iter().filter_map(|alert| alerts::find(&alert.id)) {
            match expected.iter_mut().find(|known| known.alert.id == alert.id) {
                Some(known) => known.scenarios.push(scenario),
                None => expected.push(ExpectedAlert {
                    alert,
                    scenarios: vec![scenario],
                }),
            }
        }
    }
    expected
}

impl ExpectedAlert<'_> {
    /// Whether the alert is optional in every scenario that names it.
    pub fn is_optional(&self) -> bool {
        self.scenarios.iter().all(|scenario| {
            let mut alerts = scenario.alerts.iter();
            alerts.any(|alert| alert.id == self.alert.id && alert.optional)
        })
    }

    /// Returns when the first step that raises the alert began.
    pub fn first_step(&self) -> Option<Timestamp> {
        let scenarios = self.scenarios.iter();
        let steps = scenarios.flat_map(|scenario| self.steps(scenario));
        steps.filter_map(|step| step.started).min()
    }

    /// Whether the alert, which was not raised so far, may still be raised.
    pub fn is_possible(&self, facts: &Facts, options: &JudgeOptions) -> bool {
        let coverage = Some(self.coverage()).filter(|_| !options.unobserved);
        self.ruled_out(coverage.as_ref(), facts).is_none()
    }

    /// Returns the verdict on the alert, if it was not raised, and the reason.
    pub fn verdict_if_not_raised(&self, facts: &Facts, options: &JudgeOptions) -> (Verdict, Option<String>) {
        let coverage = Some(self.coverage()).filter(|_| !options.unobserved);
        if let Some(reason) = self.ruled_out(coverage.as_ref(), facts) {
            return (Verdict::NotExpected, Some(reason));
        }
        if options.waiting {
            return (Verdict::Waiting, None);
        }
        if self.is_optional() {
            let reason = "optional: it need not be raised".to_owned();
            return (Verdict::NotExpected, Some(reason));
        }
        if options.gap.is_some() {
            return (Verdict::Unknown, options.gap.clone());
        }
        let unknown = Fact::Unknown("whether this cluster has it is unknown".to_owned());
        let condition = self
            .alert
            .condition
            .map(|condition| facts.conditions.get(&condition).unwrap_or(&unknown));
        if let Some(Fact::Unknown(reason)) = condition {
            let needs = self.alert.needs.as_deref().unwrap_or_default();
            return (Verdict::Unknown, Some(format!("it needs {needs}; {reason}")));
        }
        if let Some(coverage) = coverage.filter(|coverage| self.alert.id != DELIVERY && !coverage.is_complete)
        {
            let reason = format!(
                "the triggering steps are undocumented; not proved: {}",
                coverage.unproved
            );
            return (Verdict::Unknown, Some(reason));
        }
        let sensor = Some(("sensor", &facts.sensor)).filter(|_| self.alert.needs_sensor(facts.cloud));
        let unknown: Vec<String> = [Some(("plan", &facts.plan)), sensor]
            .into_iter()
            .flatten()
            .filter_map(|(name, fact)| match fact {
                Fact::Unknown(reason) => Some(format!("{name} ({reason})")),
                _ => None,
            })
            .collect();
        let reason = (!unknown.is_empty()).then(|| format!("unknown: {}", unknown.join(", ")));
        (Verdict::NotRaised, reason)
    }

    /// Whether the alert would have been raised in the place of one of these if a policy had blocked the behaviour.
    pub fn is_form_of(&self, ids: &BTreeSet<&str>) -> bool {
        let detected = self.alert.blocked_form_of.as_deref();
        detected.is_some_and(|id| ids.contains(id))
    }

    /// Returns the verdict on the alert, if another was raised because no policy blocked the behaviour.
    pub fn verdict_if_not_blocked(&self) -> (Verdict, Option<String>) {
        let verdict = if self.is_optional() {
            Verdict::NotExpected
        } else {
            Verdict::NotRaised
        };
        (
            verdict,
            Some("the behaviour was detected, but not blocked".to_owned()),
        )
    }

    /// Returns the steps of a scenario that raise the alert.
    fn steps<'s>(&self, scenario: &'s ScenarioResult) -> impl Iterator<Item = &'s StepResult> {
        let expectation = scenario.alerts.iter().find(|alert| alert.id == self.alert.id);
        let ids = expectation.map_or(&[][..], |alert| &alert.steps);
        scenario
            .steps
            .iter()
            .filter(move |step| ids.is_empty() || ids.contains(&step.id))
    }

    fn coverage(&self) -> Coverage {
        let is_blocked_form = self.alert.blocked_form_of.is_some();
        let (mut any, mut is_complete, mut unproved) = (false, false, vec![]);
        for scenario in &self.scenarios {
            let before = unproved.len();
            for step in self.steps(scenario) {
                if step.outcome == Outcome::Proved || (is_blocked_form && step.outcome == Outcome::Blocked) {
                    any = true;
                } else {
                    unproved.push(format!("{}.{}", scenario.id, step.id));
                }
            }
            is_complete |= unproved.len() == before;
        }
        Coverage {
            any,
            is_complete,
            unproved: unproved.join(", "),
        }
    }

    /// Returns why the alert cannot be raised, if that is known: no step was proved, or a prerequisite is absent.
    fn ruled_out(&self, coverage: Option<&Coverage>, facts: &Facts) -> Option<String> {
        if let Some(coverage) = coverage.filter(|coverage| !coverage.any) {
            return Some(format!("step not proved: {}", coverage.unproved));
        }
        if let Some(cloud) = facts.cloud.filter(|cloud| !self.alert.is_documented_for(*cloud)) {
            return Some(format!("Microsoft does not document it for {cloud}"));
        }
        let sensor = Some(&facts.sensor).filter(|_| self.alert.needs_sensor(facts.cloud));
        let condition = self
            .alert
            .condition
            .and_then(|condition| facts.conditions.get(&condition));
        let needed = [Some(&facts.plan), sensor, condition];
        needed.into_iter().flatten().find_map(|fact| match fact {
            Fact::No(reason) => Some(reason.clone()),
            _ => None,
        })
    }
}

/// Outcome of the steps that raise an alert. A blocked step counts as proved for the alert that is raised if a policy
/// blocks the behaviour.
struct Coverage {
    /// Whether a step was proved.
    any: bool,
    /// Whether all steps of a scenario were proved.
    is_complete: bool,
    /// The steps that were not.
    unproved: String,
}

/// Sets on each expected alert of a run why it cannot be raised, if that is known: for a run with several victims, if
/// none of them can raise it.
pub fn rule_out(run: &mut RunResult) {
    let mut reasons = excluded(run);
    if run.victims.len() > 1 {
        let parts = run.victims.iter().map(|victim| run.of_victim(victim));
        let parts: Vec<BTreeMap<String, Option<String>>> = parts.map(|part| excluded(&part)).collect();
        for (id, reason) in &mut reasons {
            // A step in a victim and a request may raise the same alert.
            let of_victims = parts.iter().filter_map(|part| part.get(id));
            let mut of_victims = of_victims.peekable();
            if of_victims.peek().is_some() && of_victims.any(Option::is_none) {
                *reason = None;
            }
        }
    }
    for alert in run.scenarios.iter_mut().flat_map(|scenario| &mut scenario.alerts) {
        alert.not_expected = reasons.get(&alert.id).cloned().flatten();
    }
}

/// Returns the IDs of a run's expected alerts, each with the reason why it cannot be raised, if that is known.
fn excluded(run: &RunResult) -> BTreeMap<String, Option<String>> {
    let mut facts = run.facts.clone().unwrap_or_default();
    if let [victim] = &run.victims[..]
        && let Some(sensor) = &victim.sensor
    {
        facts.sensor = sensor.clone();
    }
    let expected = expected_alerts(run);
    let excluded = expected.iter().map(|expected| {
        let reason = expected.ruled_out(Some(&expected.coverage()), &facts);
        (expected.alert.id.clone(), reason)
    });
    excluded.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::fixture::{run, verdicts};
    use super::*;
    use crate::defender::alerts::{Cloud, Condition};

    #[test]
    fn verdict_has_its_reason() {
        let waiting = JudgeOptions {
            waiting: true,
            ..JudgeOptions::default()
        };
        assert_eq!(
            verdicts(&run("recon"), &[], &waiting)["web-shell"],
            (Verdict::Waiting, None)
        );
        let none = verdicts(&run("crypto"), &[], &JudgeOptions::default());
        let (verdict, reason) = &none["web-shell"];
        assert_eq!(*verdict, Verdict::NotRaised);
        assert_eq!(
            reason.as_deref(),
            Some("unknown: plan (not checked), sensor (not checked)")
        );
        let partial = JudgeOptions {
            gap: Some("there is more".to_owned()),
            ..JudgeOptions::default()
        };
        assert_eq!(
            verdicts(&run("recon"), &[], &partial)["web-shell"],
            (Verdict::Unknown, Some("there is more".to_owned()))
        );
        let (verdict, reason) = &none["binary-drift"];
        assert_eq!(*verdict, Verdict::Unknown);
        assert!(reason.as_deref().unwrap().contains("drift policy"), "{reason:?}");
    }

    #[test]
    fn optional_or_conditional_alert_need_not_be_raised() {
        let (verdict, reason) = &verdicts(&run("secrets"), &[], &JudgeOptions::default())["token-access"];
        assert_eq!(
            (*verdict, reason.as_deref()),
            (Verdict::NotExpected, Some("optional: it need not be raised"))
        );
        // A known condition.
        let no = Facts {
            conditions: [(Condition::DriftPolicy, Fact::No("no drift policy".into()))].into(),
            ..Facts::default()
        };
        let known = JudgeOptions {
            facts: no,
            ..JudgeOptions::default()
        };
        assert_eq!(
            verdicts(&run("crypto"), &[], &known)["binary-drift"],
            (Verdict::NotExpected, Some("no drift policy".into()))
        );
        let yes = Facts {
            conditions: [(Condition::DriftPolicy, Fact::Yes)].into(),
            ..Facts::default()
        };
        let known = JudgeOptions {
            facts: yes,
            ..JudgeOptions::default()
        };
        assert_eq!(
            verdicts(&run("crypto"), &[], &known)["binary-drift"].0,
            Verdict::NotRaised
        );
    }

    #[test]
    fn alert_that_is_not_documented_for_the_cloud_is_not_expected() {
        let on = |cloud| JudgeOptions {
            facts: Facts {
                cloud,
                sensor: Fact::No("no sensor".to_owned()),
                ..Facts::default()
            },
            ..JudgeOptions::default()
        };
        let mut events = run("events");
        for alert in &mut events.scenarios[0].alerts {
            alert.optional = false;
        }
        let of = |cloud| {
            verdicts(&events, &[], &on(cloud))
                .remove("delete-events")
                .unwrap()
        };
        let reason = "Microsoft does not document it for GKE".to_owned();
        assert_eq!(of(Some(Cloud::Gke)), (Verdict::NotExpected, Some(reason)));
        assert_eq!(
            of(Some(Cloud::Arc)),
            (Verdict::NotExpected, Some("no sensor".to_owned()))
        );
        for cloud in [None, Some(Cloud::Aks), Some(Cloud::Eks)] {
            assert_ne!(of(cloud).0, Verdict::NotExpected, "{cloud:?}");
        }
    }

    #[test]
    fn absent_plan_or_sensor_rules_alerts_out() {
        let off = Facts {
            plan: Fact::No("the plan is off".into()),
            ..Facts::default()
        };
        let off = JudgeOptions {
            facts: off,
            ..JudgeOptions::default()
        };
        assert!(
            verdicts(&run("crypto"), &[], &off)
                .values()
                .all(|(v, _)| *v == Verdict::NotExpected)
        );
        let blind = Facts {
            sensor: Fact::No("there is no sensor".into()),
            ..Facts::default()
        };
        let blind = JudgeOptions {
            facts: blind,
            ..JudgeOptions::default()
        };
        let found = verdicts(&run("recon"), &[], &blind);
        assert_eq!(
            found["web-shell"],
            (Verdict::NotExpected, Some("there is no sensor".into()))
        );
        assert_eq!(
            found["service-account-operation"].0,
            Verdict::Unknown,
            "the audit log needs none"
        );
    }

    #[test]
    fn unproved_step_rules_its_alert_out() {
        let mut blocked = run("recon");
        blocked.scenarios[0].steps[2].outcome = Outcome::Blocked;
        let found = verdicts(&blocked, &[], &JudgeOptions::default());
        assert_eq!(
            found["network-scan"],
            (
                Verdict::NotExpected,
                Some("step not proved: recon.scan-services".into())
            )
        );
        assert_eq!(found["web-shell"].0, Verdict::NotRaised);
        // Every step uses the web shell; which steps raise another alert may be undocumented.
        let mut bare = run("secrets");
        assert_eq!(
            verdicts(&bare, &[], &JudgeOptions::default())["sensitive-files"].0,
            Verdict::NotRaised
        );
        for step in &mut bare.scenarios[0].steps[..2] {
            step.outcome = Outcome::Skipped;
        }
        let found = verdicts(&bare, &[], &JudgeOptions::default());
        assert_eq!(found["web-shell"].0, Verdict::NotRaised);
        let (verdict, reason) = &found["sensitive-files"];
        assert_eq!(*verdict, Verdict::Unknown);
        let unproved = "not proved: secrets.find-git-credentials, secrets.read-git-credentials";
        assert!(reason.as_deref().unwrap().ends_with(unproved), "{reason:?}");
    }

    #[test]
    fn blocked_step_triggers_the_blocked_form_of_its_alert() {
        let yes = JudgeOptions {
            facts: Facts {
                conditions: [(Condition::DriftPolicy, Fact::Yes)].into(),
                ..Facts::default()
            },
            ..JudgeOptions::default()
        };
        let mut crypto = run("crypto");
        let mut alerts = crypto.scenarios[0].alerts.iter_mut();
        alerts.find(|alert| alert.id == "drift-blocked").unwrap().optional = false;
        for (outcome, verdict) in [
            (Outcome::Proved, Verdict::NotRaised),
            (Outcome::Blocked, Verdict::NotRaised),
            (Outcome::Skipped, Verdict::NotExpected),
        ] {
            let steps = &mut crypto.scenarios[0].steps;
            steps
                .iter_mut()
                .find(|step| step.id == "run-miner")
                .unwrap()
                .outcome = outcome;
            assert_eq!(
                verdicts(&crypto, &[], &yes)["drift-blocked"].0,
                verdict,
                "{outcome:?}"
            );
        }
    }

    #[test]
    fn alerts_that_cannot_be_raised_are_ruled_out() {
        let mut recon = run("recon");
        recon.scenarios[0].steps[2].outcome = Outcome::Failed;
        recon.facts = Some(Facts {
            sensor: Fact::No("there is no sensor".into()),
            ..Facts::default()
        });
        rule_out(&mut recon);
        let reasons: BTreeMap<&str, Option<&str>> = recon.scenarios[0]
            .alerts
            .iter()
            .map(|alert| (alert.id.as_str(), alert.not_expected.as_deref()))
            .collect();
        assert_eq!(reasons["web-shell"], Some("there is no sensor"));
        assert_eq!(
            reasons["network-scan"],
            Some("step not proved: recon.scan-services")
        );
        assert_eq!(
            reasons["service-account-operation"], None,
            "the audit log needs none"
        );
    }
}
