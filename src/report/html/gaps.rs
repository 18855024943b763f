//! What to do: everything that did not pass, with its reason and the next command.

use super::super::meaning::cleanup_command;
use super::super::reasons::reason_of_halt;
use super::alerts::verdict;
use super::steps::title;
use super::{Mark, mark, outcome, utc};
use crate::defender::alerts::{self, Alert};
use crate::defender::facts::Fact;
use crate::kubectl::Kubectl;
use crate::result::{AlertVerdict, RunResult, StepResult, Verdict};
use crate::scenario::Outcome;
use crate::words::{counted, first_few};

/// Things that did not pass for the same reason, and what to do about them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub subjects: Vec<String>,
    pub mark: Mark,
    pub reason: String,
    pub advice: &'static str,
    pub command: Option<String>,
}

/// The gaps of a result, and the commands for its cluster.
struct Gaps<'a> {
    result: &'a RunResult,
    kubectl: Kubectl,
    found: Vec<Gap>,
}

/// Returns the gaps of a result, the most severe first.
pub(super) fn gaps(result: &RunResult) -> Vec<Gap> {
    let mut gaps = Gaps {
        result,
        kubectl: Kubectl::default().in_context(result.cluster.context.as_deref()),
        found: vec![],
    };
    gaps.cleanup();
    gaps.steps();
    gaps.uncovered();
    gaps.prerequisites();
    gaps.alerts();
    gaps.others();
    gaps.found
}

impl Gaps<'_> {
    /// Adds a gap, or its subject to the one with the same reason.
    fn add(&mut self, subject: String, gap: Gap) {
        let same = |known: &&mut Gap| {
            known.mark == gap.mark && known.reason == gap.reason && known.advice == gap.advice
        };
        if let Some(known) = self.found.iter_mut().find(same) {
            if !known.subjects.contains(&subject) {
                known.subjects.push(subject);
            }
        } else {
            let subjects = vec![subject];
            self.found.push(Gap { subjects, ..gap });
        }
    }

    fn command(&self, words: &[&str]) -> String {
        let words = ["defender-sim"].iter().chain(words).copied();
        self.kubectl.command(words)
    }

    /// Returns the command that verifies the alerts of this run, if it has an ID.
    fn verify(&self) -> Option<String> {
        let run = Some(&*self.result.run).filter(|_| self.result.is_identified())?;
        Some(self.command(&["verify", run]))
    }

    fn cleanup(&mut self) {
        let result = self.result;
        let command = cleanup_command(&self.kubectl, &result.run, &result.namespace);
        if let Some(cleanup) = result.cleanup.as_ref().filter(|cleanup| !cleanup.is_clean()) {
            let gap = Gap {
                subjects: vec![],
                mark: mark(
                    "bad",
                    "✗",
                    if cleanup.verified {
                        "left behind"
                    } else {
                        "not verified"
                    },
                ),
                reason: cleanup.problems.join("; "),
                advice: "Delete what the run left in the cluster.",
                command: Some(command),
            };
            if cleanup.left.is_empty() {
                self.add("objects of the run".to_owned(), gap);
            } else {
                self.found.push(Gap {
                    subjects: cleanup.left.clone(),
                    ..gap
                });
            }
        } else if let Some(until) = result.kept_until {
            let gap = Gap {
                subjects: vec![],
                mark: mark("warn", "!", "kept"),
                reason: format!("kept for inspection until about {}", utc(until)),
                advice: "Delete the pods when you no longer need them.",
                command: Some(command),
            };
            self.add("pods of the run".to_owned(), gap);
        }
    }

    fn uncovered(&mut self) {
        for group in &self.result.uncovered {
            let gap = Gap {
                subjects: vec![],
                mark: mark("warn", "!", "not covered"),
                reason: group.reason.clone(),
                advice: "Nothing ran on these nodes, so nothing is known of detection there.",
                command: None,
            };
            self.add(format!("{} ({})", group.group, counted(group.nodes, "node")), gap);
        }
    }

    fn steps(&mut self) {
        // A step that failed on several victims for one reason is one subject.
        let mut failed: Vec<(String, &StepResult, Vec<&str>)> = vec![];
        for scenario in &self.result.scenarios {
            for step in scenario
                .steps
                .iter()
                .filter(|step| reason_of_halt(step).is_none())
            {
                if !matches!(step.outcome, Outcome::Failed | Outcome::Blocked) {
                    continue;
                }
                let name = format!("{}.{}", scenario.id, step.id);
                let place = place(self.result, step);
                let same = |(known, other, _): &&mut (String, &StepResult, _)| {
                    *known == name && other.outcome == step.outcome && other.reason == step.reason
                };
                match failed.iter_mut().find(same) {
                    Some((_, _, places)) => places.extend(place),
                    None => failed.push((name, step, Vec::from_iter(place))),
                }
            }
        }
        for (name, step, places) in failed {
            let gap = Gap {
                subjects: vec![],
                mark: outcome(step.outcome),
                reason: step.reason.clone().unwrap_or_default(),
                advice: if step.outcome == Outcome::Blocked {
                    "Something prevented the step, so its alerts prove nothing. If that is intended, the cluster is \
                     protected here; otherwise permit it, and run the scenario again."
                } else {
                    "Compare the reason with the evidence. To inspect the pods, run the scenario again with --keep."
                },
                command: None,
            };
            let on = if places.is_empty() { "" } else { " on " };
            self.add(format!("{name}{on}{}", first_few(&places)), gap);
        }
    }

    /// Adds the prerequisites of required alerts that are known to be absent: these alerts are not applicable.
    fn prerequisites(&mut self) {
        let Some(facts) = &self.result.facts else {
            return;
        };
        let expected = self.result.scenarios.iter().flat_map(|scenario| &scenario.alerts);
        let required = expected.filter(|alert| !alert.optional);
        let required: Vec<&Alert> = required.filter_map(|alert| alerts::find(&alert.id)).collect();
        let mut needed = vec![];
        if !required.is_empty() {
            needed.push(("plan".to_owned(), &facts.plan));
        }
        if required.iter().any(|alert| alert.needs_sensor(facts.cloud)) {
            needed.push(("sensor".to_owned(), &facts.sensor));
        }
        for (condition, fact) in &facts.conditions {
            if required.iter().any(|alert| alert.condition == Some(*condition)) {
                needed.push((condition.to_string(), fact));
            }
        }
        for (name, known) in needed {
            if let Fact::No(reason) = known {
                let gap = Gap {
                    subjects: vec![],
                    mark: mark("bad", "✗", "absent"),
                    reason: reason.clone(),
                    advice: "Alerts that need it cannot be raised. Check what is missing, and run the scenarios again.",
                    command: Some(self.command(&["doctor"])),
                };
                self.add(name, gap);
            }
        }
    }

    fn alerts(&mut self) {
        let verification = self.result.verification.iter();
        for alert in verification.flat_map(|verification| &verification.alerts) {
            let (advice, command) = match alert.verdict {
                Verdict::Raised if alert.late => (
                    "Defender raised it later than --max-time-to-detect permits. Compare it with other runs.",
                    Some(self.command(&["history", "-o", "wide"])),
                ),
                Verdict::NotRaised => (
                    "Check what alerts need. Defender may also not raise an alert again for a repeated run: run the \
                     scenario in another namespace.",
                    Some(self.command(&["doctor"])),
                ),
                Verdict::Waiting => (
                    "Alerts are usually raised within 5 to 90 minutes. Continue the verification.",
                    self.verify(),
                ),
                Verdict::Unknown => (
                    "Check what alerts need. A prerequisite that cannot be read can be stated with --assume.",
                    self.verify(),
                ),
                Verdict::Raised | Verdict::NotExpected => continue,
            };
            let gap = Gap {
                subjects: vec![],
                mark: verdict(alert),
                reason: reason(self.result, alert),
                advice,
                command,
            };
            self.add(alert.name.clone(), gap);
        }
    }

    /// Adds the alerts that no scenario expects, if that fails the verification.
    fn others(&mut self) {
        let Some(verification) = self.result.verification.as_ref() else {
            return;
        };
        if !verification.alerts.is_empty() || verification.failure.is_none() {
            return;
        }
        for alert in &verification.additional {
            let gap = Gap {
                subjects: vec![],
                mark: mark("bad", "!", "unexpected"),
                reason: "no alert was expected".to_owned(),
                advice: "Open the alert: something else in these pods or in the namespace is suspicious.",
                command: None,
            };
            self.add(alert.name.clone(), gap);
        }
    }
}

/// Returns the group, the node or the pod on which a step ran, if there are several victims.
fn place<'a>(result: &'a RunResult, step: &'a StepResult) -> Option<&'a str> {
    let pod = step.victim.as_deref().filter(|_| result.victims.len() > 1)?;
    let victim = result.victims.iter().find(|victim| victim.pod == pod);
    Some(victim.map_or(pod, title))
}

/// Returns the reason of a verdict or, without one, what the alert needs.
fn reason(result: &RunResult, alert: &AlertVerdict) -> String {
    if let Some(reason) = &alert.reason {
        return reason.clone();
    }
    let mut expected = result.scenarios.iter().flat_map(|scenario| &scenario.alerts);
    let needs = expected.find(|expected| expected.id == alert.id);
    let needs = needs.and_then(|expected| expected.needs.as_ref());
    needs.map_or_else(String::new, |needs| format!("it needs {needs}"))
}
