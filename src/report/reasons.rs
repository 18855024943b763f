//! Reasons that several steps share. Each is printed once, below the steps.

use std::collections::BTreeMap;

use crate::result::{RunResult, StepResult};
use crate::scenario::Outcome;

/// The reasons that are printed below the steps, in order.
pub(super) struct Reasons<'a> {
    shared: Vec<&'a str>,
    problem: Option<String>,
}

impl<'a> Reasons<'a> {
    pub(super) fn of(result: &'a RunResult) -> Self {
        let reasons: Vec<&str> = result.steps().filter_map(|step| step.reason.as_deref()).collect();
        // The reason why the run could not continue is printed once for the entire run.
        let problem = result.problem.as_ref();
        let problem = problem.map(|problem| format!("not run: {}", problem.message));
        let (mut shared, mut counts) = (vec![], BTreeMap::new());
        for reason in reasons {
            let count = counts.entry(reason).or_insert(0);
            *count += 1;
            if *count == 2 && Some(reason) != problem.as_deref() {
                shared.push(reason);
            }
        }
        Self { shared, problem }
    }

    /// Returns the reason of a step, or a reference to where it is printed.
    pub(super) fn of_step(&self, step: &StepResult) -> Option<String> {
        let reason = step.reason.as_deref()?;
        let word = if step.has_run() { "" } else { "not run " };
        if Some(reason) == self.problem.as_deref() {
            return Some("not run".to_owned());
        }
        let number = self.shared.iter().position(|shared| *shared == reason);
        Some(number.map_or_else(|| reason.to_owned(), |number| format!("{word}({})", number + 1)))
    }

    /// Returns the shared reasons, each with its number.
    pub(super) fn notes(&self) -> impl Iterator<Item = String> {
        let numbered = self.shared.iter().enumerate();
        numbered.map(|(number, reason)| format!("({}) {reason}", number + 1))
    }
}

/// Returns why the run ended before this step, or `None` if it did not.
pub(super) fn reason_of_halt(step: &StepResult) -> Option<&str> {
    let reason = step.reason.as_deref().filter(|_| !step.has_run())?;
    reason.strip_prefix("not run: ")
}

/// Returns whether any step has run.
pub(super) fn any_ran(result: &RunResult) -> bool {
    result.steps().any(StepResult::has_run)
}

/// Returns the number of proved steps and of all steps.
pub(super) fn proved(result: &RunResult) -> (usize, usize) {
    let is_proved = |step: &&StepResult| step.outcome == Outcome::Proved;
    (result.steps().filter(is_proved).count(), result.steps().count())
}
