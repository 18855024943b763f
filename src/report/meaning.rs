//! What several formats say about a result in the same words.

use url::Url;

use super::reasons::proved;
use super::table::raised;
use crate::exit::Exit;
use crate::guard;
use crate::kubectl::Kubectl;
use crate::result::{RaisedAlert, RunResult, Verdict, Verification};
use crate::words::counted;

/// How a result as a whole is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Everything passes.
    Passed,
    /// Alerts may still be raised.
    Waiting,
    /// The alerts pass, but the run does not.
    AlertsPassed,
    /// The alerts do not pass or could not be read; without verification, the run does not pass.
    Failed,
}

/// Returns the news: the number of alerts that were raised or, if unknown, of steps that were proved.
pub(super) fn news(result: &RunResult) -> (State, String) {
    let Some(verification) = &result.verification else {
        let steps = || format!("Attack simulation: {}", proved_steps(result));
        return match (&result.verification_problem, result.exit) {
            (Some(_), _) => (State::Failed, "Alerts could not be read".to_owned()),
            (None, Exit::Ok) => (State::Passed, steps()),
            (None, _) => (State::Failed, steps()),
        };
    };
    let state = if verification.failure.is_some() || result.verification_problem.is_some() {
        State::Failed
    } else if verification.count(Verdict::Waiting) > 0 {
        State::Waiting
    } else if result.exit == Exit::Ok {
        State::Passed
    } else {
        State::AlertsPassed
    };
    let late = verification.alerts.iter().filter(|alert| alert.late).count();
    let late = if late > 0 {
        format!(", {late} too late")
    } else {
        String::new()
    };
    let news = match (verification.alerts.len(), verification.additional.len()) {
        (0, 0) => "Defender raised no alert".to_owned(),
        (0, more) => format!("Defender raised {}", counted(more, "unexpected alert")),
        _ => format!(
            "Defender raised {}{}{late}",
            raised(verification),
            verification.everywhere()
        ),
    };
    (state, news)
}

/// Formats the number of proved steps: `2 of 3 steps proved`.
pub(crate) fn proved_steps(result: &RunResult) -> String {
    let (proved, all) = proved(result);
    format!("{proved} of {} proved", counted(all, "step"))
}

/// Returns the command that removes a run.
pub(super) fn cleanup_command(kubectl: &Kubectl, run: &str, namespace: &str) -> String {
    let allow = guard::is_system_namespace(namespace).then_some("--allow-system-namespace");
    let words = ["defender-sim", "cleanup", "--run", run, "-n", namespace];
    kubectl.command(words.into_iter().chain(allow))
}

/// Returns the meaning of a result's exit code, as documented.
///
/// If alerts were verified, success may be that of `verify`, which does not cover the run.
pub(crate) fn meaning(result: &RunResult) -> &'static str {
    let verified = |verification: &Verification| verification.failure.is_none();
    if result.exit == Exit::Ok && result.verification.as_ref().is_some_and(verified) {
        return "the alerts pass: none is known to be missing or unexpected";
    }
    let listed = Exit::ALL.into_iter().find(|(listed, _)| *listed == result.exit);
    listed.expect("every exit code is listed").1
}

/// Returns the portal URL of an alert, or `None` if it is not a plain HTTPS URL.
pub(super) fn portal(alert: &RaisedAlert) -> Option<Url> {
    alert.portal()
}
