//! Annotations: what failed, as commands in the log of a pipeline, which shows them beside the job.
//!
//! The formats are GitHub's workflow commands and the logging commands of Azure Pipelines.

use crate::result::{RunResult, StepResult, Verdict};
use crate::scenario::Outcome;

/// A pipeline that shows annotations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pipeline {
    GitHub,
    Azure,
}

impl Pipeline {
    /// Detects the pipeline by the variable that it sets in every job.
    pub(super) fn detect(is_true: impl Fn(&str) -> bool) -> Option<Self> {
        if is_true("GITHUB_ACTIONS") {
            Some(Self::GitHub)
        } else if is_true("TF_BUILD") {
            Some(Self::Azure)
        } else {
            None
        }
    }

    /// Formats an error; its text cannot end the command.
    pub(super) fn error(self, title: &str, message: &str) -> String {
        let escaped = |text: &str, percent: &str| {
            let text = text.replace('%', percent);
            text.replace('\r', "%0D").replace('\n', "%0A")
        };
        match self {
            Self::GitHub => {
                let title = escaped(title, "%25").replace(':', "%3A").replace(',', "%2C");
                format!("::error title={title}::{}", escaped(message, "%25"))
            }
            Self::Azure => {
                let text = escaped(&format!("{title}: {message}"), "%AZP25");
                format!("##vso[task.logissue type=error]{text}")
            }
        }
    }
}

/// Returns a line for each thing that failed; steps with the same reason share one.
pub(super) fn annotations(pipeline: Pipeline, result: &RunResult) -> Vec<String> {
    let mut lines = vec![];
    if let Some(problem) = &result.problem {
        lines.push(pipeline.error("run", &problem.message));
    }
    let mut reasons: Vec<(String, Vec<String>)> = vec![];
    for (id, step) in failed_steps(result) {
        let reason = step.explanation();
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, ids)) => ids.push(id),
            None => reasons.push((reason, vec![id])),
        }
    }
    lines.extend(
        reasons
            .iter()
            .map(|(reason, ids)| pipeline.error(&ids.join(" "), reason)),
    );
    if let Some(problem) = &result.verification_problem {
        lines.push(pipeline.error("alerts", &problem.message));
    }
    if let Some(verification) = &result.verification {
        let missing = verification
            .alerts
            .iter()
            .filter(|alert| alert.late || alert.verdict == Verdict::NotRaised);
        lines.extend(missing.map(|alert| {
            let reason = alert.reason.as_deref().unwrap_or(alert.verdict.as_str());
            pipeline.error(&alert.name, reason)
        }));
        if let Some(failure) = &verification.failure {
            lines.push(pipeline.error("alerts", failure));
        }
    }
    let cleanup = result.cleanup.iter();
    let left = cleanup.flat_map(|cleanup| cleanup.left.iter().chain(&cleanup.problems));
    lines.extend(left.map(|left| pipeline.error("cleanup", left)));
    lines
}

fn failed_steps(result: &RunResult) -> impl Iterator<Item = (String, &StepResult)> {
    let steps = result.scenarios.iter().flat_map(|scenario| {
        let steps = scenario.steps.iter();
        steps.map(|step| (format!("{}.{}", scenario.id, step.id), step))
    });
    steps.filter(|(_, step)| matches!(step.outcome, Outcome::Failed | Outcome::Blocked) && step.has_run())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;
    use crate::result::Problem;

    #[test]
    fn pipelines_are_detected_by_their_variables() {
        let detect = |set: &str| Pipeline::detect(|name| name == set);
        assert_eq!(detect("GITHUB_ACTIONS"), Some(Pipeline::GitHub));
        assert_eq!(detect("TF_BUILD"), Some(Pipeline::Azure));
        assert_eq!(detect("CI"), None);
    }

    #[test]
    fn failed_steps_have_one_line_for_each_reason() {
        let mut result = fixture::mixed();
        let lines = annotations(Pipeline::GitHub, &result);
        assert_eq!(
            lines,
            [
                "::error title=one.fetch::exit status 1; no route",
                "::error title=two.send::timed out",
            ]
        );
        for scenario in &mut result.scenarios {
            for step in &mut scenario.steps {
                (step.outcome, step.evidence) = (Outcome::Failed, None);
                step.reason = Some("it stopped".to_owned());
            }
        }
        let lines = annotations(Pipeline::Azure, &result);
        assert_eq!(
            lines,
            ["##vso[task.logissue type=error]one.look one.fetch two.send: it stopped"]
        );
    }

    #[test]
    fn text_from_outside_stays_within_its_command() {
        let result = RunResult {
            problem: Some(Problem {
                message: "50%, a\r\n::stop-commands::x".to_owned(),
                hint: None,
                details: vec![],
            }),
            ..fixture::mixed()
        };
        let first = |pipeline| annotations(pipeline, &result).remove(0);
        assert_eq!(
            first(Pipeline::GitHub),
            "::error title=run::50%25, a%0D%0A::stop-commands::x"
        );
        assert_eq!(
            first(Pipeline::Azure),
            "##vso[task.logissue type=error]run: 50%AZP25, a%0D%0A::stop-commands::x"
        );
        assert_eq!(Pipeline::GitHub.error("a:b,c", "d"), "::error title=a%3Ab%2Cc::d");
    }
}
