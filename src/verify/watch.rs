//! Reads alerts and judges them until every verdict is final, or the time is over.

use std::pin::pin;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::attribution::Subject;
use super::coverage;
use super::matching::AttributedAlerts;
use super::options::JudgeOptions;
use super::{AlertSource, VerifyOptions};
use crate::azure::Answer;
use crate::defender::facts::Premise;
use crate::error::Error;
use crate::net::Cause;
use crate::result::{Detections, RunResult, Verdict, Verification};

/// Alerts are read from this long before the run: sources may return them late, and clocks differ.
const LOOKBACK: SignedDuration = SignedDuration::from_hours(1);

/// Time after a run in which alerts may still be raised, unless `--wait` is given.
pub const DEFAULT_WAIT: SignedDuration = SignedDuration::from_mins(90);

/// Progress of a watch.
#[derive(Debug)]
pub enum Progress<'a> {
    /// Alerts were read and judged.
    Judged {
        /// The verdicts so far.
        verification: &'a Verification,
        /// When the watch ends at the latest.
        until: Timestamp,
    },
    /// Alerts could not be read and are read again: the error.
    Retrying(String),
}

/// Outcome of a watch.
#[derive(Debug, Default)]
pub struct WatchOutcome {
    /// The last verdicts, if alerts were read.
    pub last: Option<Verification>,
    /// Why alerts could not be read.
    pub error: Option<Error>,
}

/// Reads the alerts of `run`, which are not those of `others`, until the verdicts are final, `options` end the wait, or
/// `stop` completes. Reports each read, so that verdicts survive this process. `earlier` is what earlier runs on this
/// cluster detected.
pub async fn watch(
    (run, others, earlier): (&RunResult, &[RunResult], Detections),
    source: &AlertSource,
    options: &VerifyOptions,
    unobserved: bool,
    stop: impl Future<Output = ()>,
    mut report: impl FnMut(Progress<'_>),
) -> WatchOutcome {
    let mut stop = pin!(stop);
    let mut watch = Watch::new(run, others, source, options, unobserved);
    watch.judging.earlier = earlier;
    loop {
        let round = tokio::select! {
            round = watch.read(&mut report) => round,
            () = &mut stop => Round::Done,
        };
        let Round::Again(pause) = round else {
            return watch.outcome;
        };
        let left = Duration::try_from(watch.end.duration_since(Timestamp::now())).unwrap_or_default();
        tokio::select! {
            () = tokio::time::sleep(pause.min(left)) => {}
            () = &mut stop => return watch.outcome,
        }
    }
}

/// State of a watch between reads.
struct Watch<'a> {
    run: &'a RunResult,
    source: &'a AlertSource,
    subject: Subject,
    judging: JudgeOptions,
    interval: Duration,
    can_change: bool,
    end: Timestamp,
    outcome: WatchOutcome,
}

/// Whether to read again after a read.
enum Round {
    Done,
    /// After this time.
    Again(Duration),
}

impl<'a> Watch<'a> {
    fn new(
        run: &'a RunResult,
        others: &[RunResult],
        source: &'a AlertSource,
        options: &VerifyOptions,
        unobserved: bool,
    ) -> Self {
        let wait = options.wait.map_or(DEFAULT_WAIT, |wait| {
            SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX)
        });
        // A record from the future was written by a machine with another clock: do not wait for that.
        let ended = run.ended.min(Timestamp::now());
        Self {
            run,
            source,
            subject: Subject::of(run, source.cluster.clone(), unobserved).without(others, run),
            judging: JudgeOptions {
                facts: options.known(run.facts.as_ref(), &source.plan),
                sensor_is_assumed: options
                    .assumptions
                    .iter()
                    .any(|(premise, _)| *premise == Premise::Sensor),
                names: source.names.clone(),
                max_time_to_detect: options.max_time_to_detect.and_then(|limit| limit.try_into().ok()),
                unobserved,
                required: options.required,
                ..JudgeOptions::default()
            },
            interval: options.interval,
            can_change: source.can_change(options),
            end: ended.saturating_add(wait).unwrap_or(Timestamp::MAX),
            outcome: WatchOutcome::default(),
        }
    }

    /// Reads the alerts once.
    async fn read(&mut self, report: &mut impl FnMut(Progress<'_>)) -> Round {
        let now = Timestamp::now();
        self.judging.waiting = self.can_change && now < self.end;
        let mut alerts = AttributedAlerts::default();
        let since = self.subject.from - LOOKBACK;
        let answer = self
            .source
            .read(since, |alert| alerts.add(alert, &self.subject))
            .await;
        match answer {
            Ok(answer) => self.judge(alerts, answer, now, report),
            Err(error)
                if self.judging.waiting
                    && is_transient(error.explained.cause, self.outcome.last.is_none()) =>
            {
                report(Progress::Retrying(error.to_string()));
                Round::Again(self.interval.max(error.explained.retry_after.unwrap_or_default()))
            }
            Err(error) => {
                self.outcome.error = Some(error.into());
                Round::Done
            }
        }
    }

    /// Judges the alerts of one read.
    fn judge(
        &mut self,
        alerts: AttributedAlerts,
        answer: Answer,
        now: Timestamp,
        report: &mut impl FnMut(Progress<'_>),
    ) -> Round {
        let is_last = !self.judging.waiting;
        self.judging.gap = self.source.gap(answer, self.end).filter(|_| is_last);
        if let Some(error) = self.source.refuse_empty(answer).filter(|_| is_last) {
            self.outcome.error = Some(error);
            return Round::Done;
        }
        let source = self.source.description();
        let verification = coverage::judge(self.run, alerts, &self.subject, &self.judging, source, now);
        report(Progress::Judged {
            verification: &verification,
            until: self.end,
        });
        let is_waiting = verification.count(Verdict::Waiting) > 0;
        // If no alert is expected, none may be raised until the end.
        let is_quiet = verification.alerts.is_empty() && verification.additional.is_empty();
        self.outcome.last = Some(verification);
        if is_waiting || (is_quiet && self.judging.waiting) {
            return Round::Again(self.interval);
        }
        // No verdict has the reason if no alert is expected.
        self.outcome.error = self
            .judging
            .gap
            .take()
            .filter(|_| is_quiet)
            .map(|reason| Error::AlertsIncomplete { reason });
        Round::Done
    }
}

/// Whether an error may go away by itself. A file that cannot be parsed at the `first` read has the wrong format; later,
/// it is being written.
fn is_transient(cause: Cause, first: bool) -> bool {
    match cause {
        Cause::Unreachable | Cause::Busy | Cause::TimedOut | Cause::Other => true,
        Cause::Unreadable => !first,
        _ => false,
    }
}
