//! Keeps what is known of each step while the attacker's log comes in. Reading the same line twice changes
//! nothing, so that a log that broke off can simply be read again from its beginning.

use jiff::Timestamp;

use super::{Event, Events};
use crate::plan::Plan;
use crate::result::{ScenarioResult, StepResult, expectations};
use crate::scenario::proof::{Line, Report, curl_failure, http_failure, is_disconnect, parse};
use crate::scenario::{AttackId, Outcome, Step};

pub(super) struct Tracker {
    nonce: String,
    plan: Plan,
    steps: Vec<Tracked>,
    /// Of the request under way.
    http: Option<u16>,
    done: bool,
}

struct Tracked {
    id: String,
    begun: Option<Timestamp>,
    result: Option<StepResult>,
    /// Whether its request lost the connection to the victim.
    disconnected: bool,
}

impl Tracker {
    pub(super) fn new(plan: &Plan) -> Self {
        let steps = plan
            .steps()
            .map(|(id, _)| Tracked {
                id,
                begun: None,
                result: None,
                disconnected: false,
            })
            .collect();
        Self {
            nonce: plan.nonce.clone(),
            plan: plan.clone(),
            steps,
            http: None,
            done: false,
        }
    }

    /// Whether the attacker said that it went through all steps.
    pub(super) fn done(&self) -> bool {
        self.done
    }

    /// Whether any step was sent.
    pub(super) fn begun(&self) -> bool {
        self.steps.iter().any(|step| step.begun.is_some())
    }

    /// The step that was sent after an earlier one lost its connection: it did not run if the victim has stopped.
    fn sent_in_vain(&mut self) -> Option<&mut Tracked> {
        let running = self
            .steps
            .iter()
            .position(|t| t.begun.is_some() && t.result.is_none())?;
        let before = running.checked_sub(1)?;
        self.steps[before].disconnected.then(|| &mut self.steps[running])
    }

    /// Whether it matters to the result that the victim has stopped.
    pub(super) fn depends_on_victim(&mut self) -> bool {
        self.sent_in_vain().is_some()
    }

    /// The victim has stopped.
    pub(super) fn victim_stopped(&mut self) {
        if let Some(step) = self.sent_in_vain() {
            step.begun = None;
        }
    }

    /// Takes one line of the attacker's log.
    pub(super) fn line(&mut self, line: &str, events: &Events) {
        match parse(line, &self.nonce) {
            Some(Line::Begin { step }) => {
                self.http = None;
                if let Some(tracked) = self.steps.iter_mut().find(|t| t.id == step && t.begun.is_none()) {
                    tracked.begun = Some(Timestamp::now());
                    events.send(Event::StepBegun(step));
                }
            }
            Some(Line::Report(report)) => {
                let Some(step) = self.step(&report.step) else {
                    return;
                };
                let result = judged(&step, &report);
                self.end(&report.step, result, events);
            }
            Some(Line::Http { code }) => self.http = Some(code),
            Some(Line::End { step: id, curl }) => {
                let Some(step) = self.step(&id) else { return };
                if let Some(tracked) = self.steps.iter_mut().find(|t| t.id == id) {
                    tracked.disconnected = is_disconnect(curl);
                }
                let reason = if curl == 0 {
                    http_failure(self.http.unwrap_or_default())
                } else {
                    curl_failure(curl)
                };
                self.end(&id, unproved(&step, Outcome::Failed, reason), events);
            }
            Some(Line::Done) => self.done = true,
            None => {}
        }
    }

    fn step(&self, id: &str) -> Option<Step> {
        self.plan
            .steps()
            .find(|(known, _)| known == id)
            .map(|(_, step)| step.clone())
    }

    /// The first thing known about a step stays: a report comes before the end of its request.
    fn end(&mut self, id: &str, result: StepResult, events: &Events) {
        if let Some(tracked) = self.steps.iter_mut().find(|t| t.id == id && t.result.is_none()) {
            let result = StepResult {
                begun: tracked.begun,
                ..result
            };
            tracked.result = Some(result.clone());
            events.send(Event::StepEnded(id.to_owned(), result));
        }
    }

    /// What became of every step; `why` is what ended the run early, if anything did.
    pub(super) fn finish(self, why: Option<&str>) -> Vec<ScenarioResult> {
        let mut tracked = self.steps.into_iter();
        let scenario = |scenario: &crate::scenario::Scenario| ScenarioResult {
            id: scenario.id.clone(),
            title: scenario.title.clone(),
            tactics: newest(&scenario.tactics),
            steps: scenario
                .steps
                .iter()
                .zip(tracked.by_ref().take(scenario.steps.len()))
                .map(|(step, tracked)| {
                    let (outcome, reason) = match (tracked.begun, why) {
                        (None, Some(why)) => (Outcome::Skipped, format!("not run: {why}")),
                        (Some(_), Some(why)) => (Outcome::Failed, format!("no proof came back: {why}")),
                        (_, None) => (Outcome::Failed, "no proof came back".into()),
                    };
                    tracked.result.unwrap_or_else(|| StepResult {
                        begun: tracked.begun,
                        ..unproved(step, outcome, reason)
                    })
                })
                .collect(),
            alerts: expectations(&scenario.alerts),
        };
        self.plan.scenarios.iter().map(scenario).collect()
    }
}

fn newest(ids: &[AttackId]) -> Vec<String> {
    ids.iter().map(|id| id.v19().to_owned()).collect()
}

fn judged(step: &Step, report: &Report) -> StepResult {
    let (outcome, reason) = step.judge(report.status);
    #[expect(
        clippy::cast_precision_loss,
        reason = "a step takes far less than the 285 years where this matters"
    )]
    let duration_ms = report.micros as f64 / 1000.0;
    StepResult {
        id: step.id.clone(),
        title: step.title.clone(),
        techniques: newest(&step.techniques),
        begun: None,
        outcome,
        reason,
        exit_status: Some(report.status),
        duration_ms: Some(duration_ms),
        evidence: Some(report.evidence.clone()).filter(|text| !text.is_empty()),
    }
}

fn unproved(step: &Step, outcome: Outcome, reason: String) -> StepResult {
    StepResult {
        id: step.id.clone(),
        title: step.title.clone(),
        techniques: newest(&step.techniques),
        begun: None,
        outcome,
        reason: Some(reason),
        exit_status: None,
        duration_ms: None,
        evidence: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(lines: &[&str], why: Option<&str>) -> (Vec<StepResult>, Vec<Event>) {
        let plan = crate::plan::tests::plan(None);
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        let events = Events::new(sender);
        let mut tracker = Tracker::new(&plan);
        for line in lines {
            tracker.line(&line.replace("NONCE", &plan.nonce), &events);
        }
        let steps = tracker.finish(why).remove(0).steps;
        let mut seen = vec![];
        while let Ok(event) = receiver.try_recv() {
            seen.push(event);
        }
        (steps, seen)
    }

    #[test]
    fn a_report_without_the_nonce_proves_nothing() {
        let (steps, _) = track(
            &[
                "defender-sim/1 begin recon.read-token",
                "defender-sim/1 0123456789abcdef 0 recon.read-token 0 10 fine",
                "defender-sim/1 http 200",
                "defender-sim/1 end recon.read-token 0",
                "defender-sim/1 done",
            ],
            None,
        );
        assert_eq!(steps[0].outcome, Outcome::Failed);
        assert_eq!(
            steps[0].reason.as_deref(),
            Some("the web shell answered, but the step's script reported nothing")
        );
        assert_eq!(steps[1].reason.as_deref(), Some("no proof came back"));
    }

    #[test]
    fn a_log_read_twice_says_everything_once() {
        let lines = [
            "defender-sim/1 begin recon.read-token",
            "defender-sim/1 NONCE recon.read-token 0 1500 a token of 900 bytes",
            "defender-sim/1 http 200",
            "defender-sim/1 end recon.read-token 0",
        ];
        let (steps, events) = track(&[lines, lines].concat(), Some("interrupted"));
        assert_eq!(
            (steps[0].outcome, steps[0].duration_ms),
            (Outcome::Proved, Some(1.5))
        );
        assert_eq!(
            (steps[1].outcome, steps[1].reason.as_deref()),
            (Outcome::Skipped, Some("not run: interrupted"))
        );
        assert_eq!(events.len(), 2);
    }

    #[test]
    fn step_sent_to_stopped_victim_is_not_run() {
        let plan = crate::plan::tests::plan(None);
        let (sender, _receiver) = tokio::sync::mpsc::unbounded_channel();
        let events = Events::new(sender);
        for (curl, outcome, reason) in [
            ("52", Outcome::Skipped, "not run: it stopped"),
            ("28", Outcome::Failed, "no proof came back: it stopped"),
        ] {
            let mut tracker = Tracker::new(&plan);
            tracker.line("defender-sim/1 begin recon.read-token", &events);
            assert!(!tracker.depends_on_victim());
            tracker.line(&format!("defender-sim/1 end recon.read-token {curl}"), &events);
            tracker.line("defender-sim/1 begin recon.access-review", &events);
            assert_eq!(tracker.depends_on_victim(), curl == "52");
            tracker.victim_stopped();
            let steps = tracker.finish(Some("it stopped")).remove(0).steps;
            assert_eq!(steps[0].outcome, Outcome::Failed);
            assert_eq!(steps[1].outcome, outcome);
            assert_eq!(steps[1].reason.as_deref(), Some(reason));
        }
    }

    #[test]
    fn a_broken_web_server_is_named() {
        let (steps, _) = track(
            &[
                "defender-sim/1 begin recon.read-token",
                "defender-sim/1 http 502",
                "defender-sim/1 end recon.read-token 0",
                "defender-sim/1 begin recon.access-review",
                "defender-sim/1 end recon.access-review 7",
            ],
            None,
        );
        assert_eq!(
            steps[0].reason.as_deref(),
            Some("the victim's web server has no PHP behind it (HTTP 502)")
        );
        assert_eq!(
            steps[1].reason.as_deref(),
            Some("the victim's web server refused the connection")
        );
    }
}
