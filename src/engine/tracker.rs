//! Tracks the state of each step on each victim while the attackers' logs arrive. Reading the same line twice changes
//! nothing, so a log whose stream broke can be read again from its beginning.
//!
//! A report counts once, for the step in progress on its victim, and with the proof of both. No step begins before the
//! victim's gate has refused the attacker's request without the key.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::error::Error;
use crate::event::{Event, Events};
use crate::plan::Plan;
use crate::result::{ScenarioResult, StepResult, expectations};
use crate::scenario::proof::{Answer, Line, Report, curl_failure, http_failure, parse};
use crate::scenario::{AttackId, Outcome, Scenario, Step};

/// The state of every step on every victim, and the results of requests.
pub(super) struct Tracker {
    plan: Plan,
    victims: Vec<Victim>,
    /// Results of the steps that do not run in a victim, by the ID of the step.
    requests: BTreeMap<String, StepResult>,
}

/// The steps on one victim.
struct Victim {
    pod: String,
    host: String,
    steps: Vec<Tracked>,
    gate_before: Option<Answer>,
    gate_after: Option<Answer>,
    /// Index of the step whose request is in progress.
    current: Option<usize>,
    /// HTTP status of the request in progress.
    http: Option<u16>,
    done: bool,
}

#[derive(Default)]
struct Tracked {
    id: String,
    started: Option<Timestamp>,
    result: Option<StepResult>,
}

impl Tracker {
    pub(super) fn new(plan: &Plan) -> Self {
        let steps = || {
            plan.victim_steps().map(|(id, _)| Tracked {
                id,
                ..Tracked::default()
            })
        };
        let victims = plan.victims.iter().map(|victim| Victim {
            pod: victim.pod.clone(),
            host: victim.host.clone(),
            steps: steps().collect(),
            gate_before: None,
            gate_after: None,
            current: None,
            http: None,
            done: false,
        });
        Self {
            victims: victims.collect(),
            plan: plan.clone(),
            requests: BTreeMap::new(),
        }
    }

    /// Returns `true` if the attackers reported that they are done with these victims.
    pub(super) fn is_done_with(&self, hosts: &[&str]) -> bool {
        let mut victims = self.victims.iter();
        victims.all(|victim| victim.done || !hosts.contains(&victim.host.as_str()))
    }

    /// Returns `true` if the attackers have started to attack one of these victims.
    pub(super) fn has_started(&self, hosts: &[&str]) -> bool {
        let mut victims = self.victims.iter();
        victims.any(|victim| victim.gate_before.is_some() && hosts.contains(&victim.host.as_str()))
    }

    /// Returns the victims whose gate did not refuse the requests without the key, one before the first step and one
    /// after the last.
    pub(super) fn check_gates(&self) -> impl Iterator<Item = (&str, Error)> {
        let checked = |victim: &Victim| victim.check_gate();
        self.victims
            .iter()
            .filter_map(move |victim| Some((victim.pod.as_str(), checked(victim).err()?)))
    }

    /// Processes one line of an attacker's log.
    pub(super) fn line(&mut self, line: &str, events: &Events) {
        let Some((host, line)) = parse(line) else { return };
        let Some(victim) = self.victims.iter_mut().find(|victim| victim.host == host) else {
            return;
        };
        victim.line(line, &self.plan, events);
    }

    /// Adds the results of steps that do not run in a victim.
    pub(super) fn record(&mut self, results: Vec<(String, StepResult)>) {
        self.requests.extend(results);
    }

    /// Returns the results of all steps. `why` is the reason if the run ended early, and `lost` has it for each victim
    /// that was lost.
    pub(super) fn finish(
        mut self,
        why: Option<&str>,
        lost: &BTreeMap<String, String>,
    ) -> Vec<ScenarioResult> {
        // The steps of each victim are in the order of the run.
        let mut next = 0;
        let mut results = |scenario: &Scenario| {
            let mut results = vec![];
            for step in &scenario.steps {
                if step.runs_in_victim() {
                    let of_victims = self.victims.iter_mut();
                    results.extend(of_victims.map(|victim| {
                        let why = lost.get(&victim.pod).map(String::as_str).or(why);
                        victim.result(next, step, why)
                    }));
                    next += 1;
                } else {
                    let recorded = self.requests.remove(&format!("{}.{}", scenario.id, step.id));
                    results.push(recorded.unwrap_or_else(|| never_ended(step, None, None, why)));
                }
            }
            results
        };
        let scenarios = self.plan.scenarios.iter().map(|scenario| ScenarioResult {
            id: scenario.id.clone(),
            title: scenario.title.clone(),
            tactics: newest(&scenario.tactics),
            steps: results(scenario),
            alerts: expectations(&scenario.alerts),
        });
        scenarios.collect()
    }
}

impl Victim {
    fn check_gate(&self) -> Result<(), Error> {
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

    fn line(&mut self, line: Line, plan: &Plan, events: &Events) {
        match line {
            Line::Gate { after: false, answer } => {
                self.gate_before.get_or_insert(answer);
            }
            Line::Gate { after: true, answer } => {
                self.current = None;
                self.gate_after.get_or_insert(answer);
            }
            Line::Begin { step } if self.gate_before.is_some_and(refused) => {
                self.http = None;
                self.current = self.steps.iter().position(|tracked| tracked.id == step);
                let tracked = self.current.map(|index| &mut self.steps[index]);
                if let Some(tracked) = tracked.filter(|tracked| tracked.started.is_none()) {
                    tracked.started = Some(Timestamp::now());
                    events.send(Event::StepStarted(step));
                }
            }
            Line::Report(report) => {
                if let Some((index, step)) = self.in_progress(plan, &report.step)
                    && report.proof == plan.proof(&self.host, &report.step, &report.text)
                {
                    let result = judged(step, Some(&self.pod), &report);
                    self.end(index, result, events);
                }
            }
            Line::Http { code } => self.http = Some(code),
            Line::End { step, curl } => {
                let Some((index, step)) = self.in_progress(plan, &step) else {
                    return;
                };
                self.current = None;
                let reason = if curl == 0 {
                    http_failure(self.http.unwrap_or_default())
                } else {
                    curl_failure(curl)
                };
                let result = unproved(step, Some(&self.pod), Outcome::Failed, reason);
                self.end(index, result, events);
            }
            Line::Done => self.done = true,
            Line::Begin { .. } => {}
        }
    }

    /// Returns the step in progress and its index, if it has this ID.
    fn in_progress<'p>(&self, plan: &'p Plan, id: &str) -> Option<(usize, &'p Step)> {
        let index = self.current.filter(|index| self.steps[*index].id == id)?;
        let (_, step) = plan.victim_steps().nth(index)?;
        Some((index, step))
    }

    /// Records the result of a step unless it already has one: a report arrives before the end of its request.
    fn end(&mut self, index: usize, result: StepResult, events: &Events) {
        let tracked = &mut self.steps[index];
        if tracked.result.is_none() {
            let result = StepResult {
                started: tracked.started,
                ..result
            };
            tracked.result = Some(result.clone());
            events.send(Event::StepEnded(tracked.id.clone(), result));
        }
    }

    /// Returns the result of a step; `why` is the reason if the run ended early for this victim.
    fn result(&mut self, index: usize, step: &Step, why: Option<&str>) -> StepResult {
        let tracked = std::mem::take(&mut self.steps[index]);
        let result = tracked.result;
        result.unwrap_or_else(|| never_ended(step, Some(&self.pod), tracked.started, why))
    }
}

/// Returns the result of a step whose end was not observed.
fn never_ended(
    step: &Step,
    victim: Option<&str>,
    started: Option<Timestamp>,
    why: Option<&str>,
) -> StepResult {
    let (outcome, reason) = match (started, why) {
        (None, Some(why)) => (Outcome::Skipped, format!("not run: {why}")),
        (Some(_), Some(why)) => (Outcome::Failed, format!("no proof came back: {why}")),
        (_, None) => (Outcome::Failed, "no proof came back".into()),
    };
    StepResult {
        started,
        ..unproved(step, victim, outcome, reason)
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

    const GATE: &str = "defender-sim/2 victim gate before 403 0";
    const BEGIN: &str = "defender-sim/2 victim begin recon.read-token";
    const REPORT: &str = "SIGNED recon.read-token 0 1500 a token of 900 bytes";
    const END: &str = "defender-sim/2 victim end recon.read-token 0";
    const NEXT: &str = "defender-sim/2 victim begin recon.access-review";

    /// Tracks lines of a log. `SIGNED STEP TEXT` in a line is replaced by a report of the victim.
    fn track(lines: &[&str], why: Option<&str>) -> (Vec<StepResult>, Vec<Event>) {
        let plan = crate::plan::tests::plan(None);
        let (events, mut receiver) = Events::channel();
        let mut tracker = Tracker::new(&plan);
        for line in lines {
            let signed = line.strip_prefix("SIGNED ").map(|report| {
                let (step, text) = report.split_once(' ').unwrap();
                format!(
                    "defender-sim/2 victim report {} {report}",
                    plan.proof("victim", step, text)
                )
            });
            tracker.line(signed.as_deref().unwrap_or(line), &events);
        }
        let steps = tracker.finish(why, &BTreeMap::new()).remove(0).steps;
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
        let failed = tracker.check_gates().next();
        failed.map_or(Ok(()), |(_, error)| Err((error.to_string(), error.exit())))
    }

    #[test]
    fn report_without_its_proof_proves_nothing() {
        let (steps, _) = track(
            &[
                GATE,
                BEGIN,
                "defender-sim/2 victim 0123456789abcdef recon.read-token 0 10 fine",
                "defender-sim/2 victim report 0123456789abcdef0123456789abcdef recon.read-token 0 10 fine",
                "defender-sim/2 victim http 200",
                END,
                "defender-sim/2 victim done",
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
        let report = |proof: &str, rest: &str| format!("defender-sim/2 victim report {proof} recon.{rest}");
        let of_read = plan.proof("victim", "recon.read-token", "0 1500 a token of 900 bytes");
        let of_other_text = report(&of_read, "read-token 0 1500 another text");
        let of_other_step = report(&of_read, "access-review 0 1500 a token of 900 bytes");
        let failed = plan.proof("victim", "recon.read-token", "1 1500 x");
        let of_other_status = report(&failed, "read-token 0 1500 x");
        let cases: [(&str, &[&str], bool); _] = [
            ("in its time", &[GATE, BEGIN, REPORT, END], true),
            ("without its end", &[GATE, BEGIN, REPORT], true),
            ("without a checked gate", &[BEGIN, REPORT, END], false),
            (
                "with an open gate",
                &["defender-sim/2 victim gate before 200 0", BEGIN, REPORT, END],
                false,
            ),
            ("before its begin", &[GATE, REPORT, BEGIN, END], false),
            ("after its end", &[GATE, BEGIN, END, REPORT], false),
            ("after the next begin", &[GATE, BEGIN, NEXT, REPORT], false),
            (
                "after the gate's second check",
                &[GATE, BEGIN, "defender-sim/2 victim gate after 403 0", REPORT],
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
        let after = "defender-sim/2 victim gate after 403 0";
        assert_eq!(gate(&[GATE, after]), Ok(()));
        assert_eq!(gate(&[GATE, after, GATE, after]), Ok(()));
        let cases: [(&[&str], &str, Exit); _] = [
            (
                &["defender-sim/2 victim gate before 200 0"],
                "the web shell answered a request without this run's key (HTTP 200); no step was sent",
                Exit::NotStarted,
            ),
            (
                &["defender-sim/2 victim gate before 200 0", GATE, after],
                "the web shell answered a request without this run's key (HTTP 200); no step was sent",
                Exit::NotStarted,
            ),
            (
                &["defender-sim/2 victim gate before 502 0"],
                "the victim's web server has no PHP behind it (HTTP 502); no step was sent",
                Exit::NotProved,
            ),
            (
                &["defender-sim/2 victim gate before 000 7"],
                "the victim's web server refused the connection; no step was sent",
                Exit::NotProved,
            ),
            (
                &["defender-sim/2 victim gate before 0 127"],
                "curl is not in the attacker's image; no step was sent",
                Exit::NotProved,
            ),
            (
                &[GATE, "defender-sim/2 victim gate after 200 0"],
                "the gate did not hold: after the last step the web shell answered a request without this run's key \
                 (HTTP 200)",
                Exit::NotProved,
            ),
            (
                &[GATE, "defender-sim/2 victim gate after 000 52"],
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
        let lines = [GATE, BEGIN, REPORT, "defender-sim/2 victim http 200", END];
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
    fn a_broken_web_server_is_named() {
        let (steps, _) = track(
            &[
                GATE,
                BEGIN,
                "defender-sim/2 victim http 502",
                END,
                NEXT,
                "defender-sim/2 victim end recon.access-review 7",
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
