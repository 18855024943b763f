//! Tracks the state of each step while the attacker's log arrives. Reading the same line twice changes nothing, so a
//! log whose stream broke can be read again from its beginning.
//!
//! A report counts once, for the step in progress, and with the proof of that step. No step begins before the gate has
//! refused the attacker's request without the key.

use jiff::Timestamp;

use crate::error::Error;
use crate::event::{Event, Events};
use crate::plan::Plan;
use crate::result::{ScenarioResult, StepResult, expectations};
use crate::scenario::proof::{Answer, Line, Report, curl_failure, http_failure, is_disconnect, parse};
use crate::scenario::{AttackId, Outcome, Step};

pub(super) struct Tracker {
    plan: Plan,
    steps: Vec<Tracked>,
    gate_before: Option<Answer>,
    gate_after: Option<Answer>,
    /// ID of the step whose request is in progress.
    current: Option<String>,
    /// HTTP status of the request in progress.
    http: Option<u16>,
    done: bool,
}

struct Tracked {
    id: String,
    started: Option<Timestamp>,
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
                started: None,
                result: None,
                disconnected: false,
            })
            .collect();
        Self {
            plan: plan.clone(),
            steps,
            gate_before: None,
            gate_after: None,
            current: None,
            http: None,
            done: false,
        }
    }

    /// Returns `true` if the attacker reported that it is done with all steps.
    pub(super) fn done(&self) -> bool {
        self.done
    }

    /// Returns `true` if the attacker has started its work.
    pub(super) fn has_started(&self) -> bool {
        self.gate_before.is_some()
    }

    /// Checks that the gate refused the requests without the key: one before the first step, and one after the last.
    pub(super) fn check_gate(&self) -> Result<(), Error> {
        let opened = |answer: Answer| answer.curl == 0 && (200..300).contains(&answer.code);
        let failure = |answer: Answer| match answer.curl {
            0 => http_failure(answer.code),
            curl => curl_failure(curl),
        };
        let unchecked = |before, failure| Error::GateUnchecked { before, failure };
        Err(match (self.gate_before, self.gate_after) {
            (Some(before), Some(after)) if refused(before) && refused(after) => return Ok(()),
            (Some(before), _) if opened(before) => Error::GateOpen {
                before: true,
                code: before.code,
            },
            (Some(before), _) if !refused(before) => unchecked(true, Some(failure(before))),
            (Some(_), Some(after)) if opened(after) => Error::GateOpen {
                before: false,
                code: after.code,
            },
            (Some(_), Some(after)) => unchecked(false, Some(failure(after))),
            (None, _) => unchecked(true, None),
            (_, None) => unchecked(false, None),
        })
    }

    /// Returns the step that was sent after an earlier one lost its connection. It did not run if the victim has
    /// stopped.
    fn sent_in_vain(&mut self) -> Option<&mut Tracked> {
        let running = self
            .steps
            .iter()
            .position(|t| t.started.is_some() && t.result.is_none())?;
        let before = running.checked_sub(1)?;
        self.steps[before].disconnected.then(|| &mut self.steps[running])
    }

    /// Returns `true` if the result depends on whether the victim has stopped.
    pub(super) fn depends_on_victim(&mut self) -> bool {
        self.sent_in_vain().is_some()
    }

    /// Records that the victim has stopped.
    pub(super) fn victim_stopped(&mut self) {
        if let Some(step) = self.sent_in_vain() {
            step.started = None;
        }
    }

    /// Processes one line of the attacker's log.
    pub(super) fn line(&mut self, line: &str, events: &Events) {
        match parse(line) {
            Some(Line::Gate { after: false, answer }) => {
                self.gate_before.get_or_insert(answer);
            }
            Some(Line::Gate { after: true, answer }) => {
                self.current = None;
                self.gate_after.get_or_insert(answer);
            }
            Some(Line::Begin { step }) if self.gate_before.is_some_and(refused) => {
                self.http = None;
                self.current = Some(step.clone());
                if let Some(tracked) = self
                    .steps
                    .iter_mut()
                    .find(|t| t.id == step && t.started.is_none())
                {
                    tracked.started = Some(Timestamp::now());
                    events.send(Event::StepStarted(step));
                }
            }
            Some(Line::Report(report))
                if self.in_progress(&report.step)
                    && report.proof == self.plan.proof(&report.step, &report.text) =>
            {
                let Some(step) = self.step(&report.step) else {
                    return;
                };
                let result = judged(&step, self.victim(), &report);
                self.end(&report.step, result, events);
            }
            Some(Line::Http { code }) => self.http = Some(code),
            Some(Line::End { step: id, curl }) if self.in_progress(&id) => {
                self.current = None;
                let Some(step) = self.step(&id) else { return };
                if let Some(tracked) = self.steps.iter_mut().find(|t| t.id == id) {
                    tracked.disconnected = is_disconnect(curl);
                }
                let reason = if curl == 0 {
                    http_failure(self.http.unwrap_or_default())
                } else {
                    curl_failure(curl)
                };
                let result = unproved(&step, self.victim(), Outcome::Failed, reason);
                self.end(&id, result, events);
            }
            Some(Line::Done) => self.done = true,
            _ => {}
        }
    }

    fn in_progress(&self, id: &str) -> bool {
        self.current.as_deref() == Some(id)
    }

    fn step(&self, id: &str) -> Option<Step> {
        self.plan
            .steps()
            .find(|(known, _)| known == id)
            .map(|(_, step)| step.clone())
    }

    /// Returns the pod in which the steps run.
    fn victim(&self) -> Option<&str> {
        self.plan.victims.first().map(|victim| victim.pod.as_str())
    }

    /// Records the result of a step unless it already has one: a report arrives before the end of its request.
    fn end(&mut self, id: &str, result: StepResult, events: &Events) {
        if let Some(tracked) = self.steps.iter_mut().find(|t| t.id == id && t.result.is_none()) {
            let result = StepResult {
                started: tracked.started,
                ..result
            };
            tracked.result = Some(result.clone());
            events.send(Event::StepEnded(id.to_owned(), result));
        }
    }

    /// Adds the results of steps that do not run in the victim.
    pub(super) fn record(&mut self, results: Vec<(String, StepResult)>) {
        for (id, result) in results {
            if let Some(tracked) = self.steps.iter_mut().find(|tracked| tracked.id == id) {
                tracked.started = result.started;
                tracked.result = Some(result);
            }
        }
    }

    /// Returns the results of all steps. `why` is the reason if the run ended early.
    pub(super) fn finish(self, why: Option<&str>) -> Vec<ScenarioResult> {
        let mut tracked = self.steps.into_iter();
        let victims = &self.plan.victims;
        let victim = |step: &Step| {
            let victim = victims.first().filter(|_| step.runs_in_victim());
            victim.map(|victim| victim.pod.as_str())
        };
        let scenario = |scenario: &crate::scenario::Scenario| ScenarioResult {
            id: scenario.id.clone(),
            title: scenario.title.clone(),
            tactics: newest(&scenario.tactics),
            steps: scenario
                .steps
                .iter()
                .zip(tracked.by_ref().take(scenario.steps.len()))
                .map(|(step, tracked)| {
                    let (outcome, reason) = match (tracked.started, why) {
                        (None, Some(why)) => (Outcome::Skipped, format!("not run: {why}")),
                        (Some(_), Some(why)) => (Outcome::Failed, format!("no proof came back: {why}")),
                        (_, None) => (Outcome::Failed, "no proof came back".into()),
                    };
                    tracked.result.unwrap_or_else(|| StepResult {
                        started: tracked.started,
                        ..unproved(step, victim(step), outcome, reason)
                    })
                })
                .collect(),
            alerts: expectations(&scenario.alerts),
        };
        self.plan.scenarios.iter().map(scenario).collect()
    }
}

fn refused(answer: Answer) -> bool {
    answer == Answer { code: 403, curl: 0 }
}

fn newest(ids: &[AttackId]) -> Vec<String> {
    ids.iter().map(|id| id.v19().to_owned()).collect()
}

/// Returns the result of a step that has not started.
pub(super) fn not_run(step: &Step, victim: Option<&str>) -> StepResult {
    StepResult {
        id: step.id.clone(),
        title: step.title.clone(),
        techniques: newest(&step.techniques),
        victim: victim.map(str::to_owned),
        started: None,
        outcome: Outcome::Skipped,
        reason: None,
        exit_status: None,
        duration_ms: None,
        evidence: None,
        request: None,
    }
}

fn judged(step: &Step, victim: Option<&str>, report: &Report) -> StepResult {
    let (outcome, reason) = step.judge(report.status);
    #[expect(
        clippy::cast_precision_loss,
        reason = "a step takes far less than the 285 years where this matters"
    )]
    let duration_ms = report.micros as f64 / 1000.0;
    StepResult {
        outcome,
        reason,
        exit_status: Some(report.status),
        duration_ms: Some(duration_ms),
        evidence: Some(report.evidence.clone()).filter(|text| !text.is_empty()),
        ..not_run(step, victim)
    }
}

fn unproved(step: &Step, victim: Option<&str>, outcome: Outcome, reason: String) -> StepResult {
    StepResult {
        outcome,
        reason: Some(reason),
        ..not_run(step, victim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    const GATE: &str = "defender-sim/1 gate before 403 0";
    const BEGIN: &str = "defender-sim/1 begin recon.read-token";
    const REPORT: &str = "SIGNED recon.read-token 0 1500 a token of 900 bytes";
    const END: &str = "defender-sim/1 end recon.read-token 0";
    const NEXT: &str = "defender-sim/1 begin recon.access-review";

    /// Tracks lines of a log. `SIGNED STEP TEXT` in a line is replaced by a report of the victim.
    fn track(lines: &[&str], why: Option<&str>) -> (Vec<StepResult>, Vec<Event>) {
        let plan = crate::plan::tests::plan(None);
        let (events, mut receiver) = Events::channel();
        let mut tracker = Tracker::new(&plan);
        for line in lines {
            let signed = line.strip_prefix("SIGNED ").map(|report| {
                let (step, text) = report.split_once(' ').unwrap();
                format!("defender-sim/1 report {} {report}", plan.proof(step, text))
            });
            tracker.line(signed.as_deref().unwrap_or(line), &events);
        }
        let steps = tracker.finish(why).remove(0).steps;
        let mut seen = vec![];
        while let Ok(event) = receiver.try_recv() {
            seen.push(event);
        }
        (steps, seen)
    }

    fn gate(lines: &[&str]) -> Result<(), (String, Exit)> {
        let plan = crate::plan::tests::plan(None);
        let (events, _receiver) = Events::channel();
        let mut tracker = Tracker::new(&plan);
        for line in lines {
            tracker.line(line, &events);
        }
        tracker
            .check_gate()
            .map_err(|error| (error.to_string(), error.exit()))
    }

    #[test]
    fn report_without_its_proof_proves_nothing() {
        let (steps, _) = track(
            &[
                GATE,
                BEGIN,
                "defender-sim/1 0123456789abcdef recon.read-token 0 10 fine",
                "defender-sim/1 report 0123456789abcdef0123456789abcdef recon.read-token 0 10 fine",
                "defender-sim/1 http 200",
                END,
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
    fn report_counts_only_for_its_step_within_its_time() {
        let plan = crate::plan::tests::plan(None);
        let report = |proof: &str, rest: &str| format!("defender-sim/1 report {proof} recon.{rest}");
        let of_read = plan.proof("recon.read-token", "0 1500 a token of 900 bytes");
        let of_other_text = report(&of_read, "read-token 0 1500 another text");
        let of_other_step = report(&of_read, "access-review 0 1500 a token of 900 bytes");
        let failed = plan.proof("recon.read-token", "1 1500 x");
        let of_other_status = report(&failed, "read-token 0 1500 x");
        let cases: [(&str, &[&str], bool); _] = [
            ("in its time", &[GATE, BEGIN, REPORT, END], true),
            ("without its end", &[GATE, BEGIN, REPORT], true),
            ("without a checked gate", &[BEGIN, REPORT, END], false),
            (
                "with an open gate",
                &["defender-sim/1 gate before 200 0", BEGIN, REPORT, END],
                false,
            ),
            ("before its begin", &[GATE, REPORT, BEGIN, END], false),
            ("after its end", &[GATE, BEGIN, END, REPORT], false),
            ("after the next begin", &[GATE, BEGIN, NEXT, REPORT], false),
            (
                "after the gate's second check",
                &[GATE, BEGIN, "defender-sim/1 gate after 403 0", REPORT],
                false,
            ),
            (
                "after its end, started again",
                &[GATE, BEGIN, END, BEGIN, REPORT],
                false,
            ),
            ("with another text", &[GATE, BEGIN, &of_other_text, END], false),
            (
                "with another status",
                &[GATE, BEGIN, &of_other_status, END],
                false,
            ),
            ("for another step", &[GATE, NEXT, &of_other_step], false),
            (
                "after another report",
                &[GATE, BEGIN, "SIGNED recon.read-token 1 9 no", REPORT, END],
                false,
            ),
        ];
        for (case, lines, proved) in cases {
            let (steps, _) = track(lines, None);
            let any = steps.iter().any(|step| step.outcome == Outcome::Proved);
            assert_eq!(any, proved, "{case}");
        }
    }

    #[test]
    fn gate_is_checked_before_and_after_the_steps() {
        let after = "defender-sim/1 gate after 403 0";
        assert_eq!(gate(&[GATE, after]), Ok(()));
        assert_eq!(gate(&[GATE, after, GATE, after]), Ok(()));
        let cases: [(&[&str], &str, Exit); _] = [
            (
                &["defender-sim/1 gate before 200 0"],
                "the web shell answered a request without this run's key (HTTP 200); no step was sent",
                Exit::NotStarted,
            ),
            (
                &["defender-sim/1 gate before 200 0", GATE, after],
                "the web shell answered a request without this run's key (HTTP 200); no step was sent",
                Exit::NotStarted,
            ),
            (
                &["defender-sim/1 gate before 502 0"],
                "the victim's web server has no PHP behind it (HTTP 502); no step was sent",
                Exit::NotProved,
            ),
            (
                &["defender-sim/1 gate before 000 7"],
                "the victim's web server refused the connection; no step was sent",
                Exit::NotProved,
            ),
            (
                &["defender-sim/1 gate before 0 127"],
                "curl is not in the attacker's image; no step was sent",
                Exit::NotProved,
            ),
            (
                &[GATE, "defender-sim/1 gate after 200 0"],
                "the gate did not hold: after the last step the web shell answered a request without this run's key \
                 (HTTP 200)",
                Exit::NotProved,
            ),
            (
                &[GATE, "defender-sim/1 gate after 000 52"],
                "the gate could not be checked after the last step: the victim's web server closed the connection \
                 without an answer",
                Exit::NotProved,
            ),
            (
                &[GATE],
                "the attacker did not check the gate after the last step",
                Exit::NotProved,
            ),
            (
                &[after],
                "the attacker did not check the gate before the first step",
                Exit::NotProved,
            ),
        ];
        for (lines, message, exit) in cases {
            assert_eq!(gate(lines), Err((message.to_owned(), exit)), "{lines:?}");
        }
    }

    #[test]
    fn a_log_read_twice_says_everything_once() {
        let lines = [GATE, BEGIN, REPORT, "defender-sim/1 http 200", END];
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
        let (events, _receiver) = Events::channel();
        for (curl, outcome, reason) in [
            ("52", Outcome::Skipped, "not run: it stopped"),
            ("28", Outcome::Failed, "no proof came back: it stopped"),
        ] {
            let mut tracker = Tracker::new(&plan);
            tracker.line("defender-sim/1 gate before 403 0", &events);
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
                GATE,
                BEGIN,
                "defender-sim/1 http 502",
                END,
                NEXT,
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
