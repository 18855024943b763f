//! The finding of a check: a status, what was found, and advice.

use crate::azure::AzureError;
use crate::cluster::ClusterError;
use crate::kubectl::Kubectl;
use crate::result::{CheckResult, CheckStatus};
use crate::untrusted;

/// Result of a check; the error is the finding of a check that could not be completed.
pub(super) type Checked = Result<Finding, Finding>;

/// Finding of a check.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Finding {
    pub status: CheckStatus,
    pub message: String,
    pub advice: Option<String>,
    /// Words of a kubectl command that follows the advice.
    command: Vec<String>,
}

impl Finding {
    pub fn new(status: CheckStatus, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            advice: None,
            command: vec![],
        }
    }

    pub fn ok(message: impl Into<String>) -> Self {
        Self::new(CheckStatus::Ok, message)
    }

    pub fn warning(message: impl Into<String>) -> Self {
        Self::new(CheckStatus::Warning, message)
    }

    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(CheckStatus::Failed, message)
    }

    pub fn unknown(message: impl Into<String>) -> Self {
        Self::new(CheckStatus::Unknown, message)
    }

    pub fn not_applicable(message: impl Into<String>) -> Self {
        Self::new(CheckStatus::NotApplicable, message)
    }

    /// Adds advice.
    pub fn advise(self, advice: impl Into<String>) -> Self {
        Self {
            advice: Some(advice.into()),
            ..self
        }
    }

    /// Adds advice that ends with a kubectl command, given without its first word and its connection flags.
    pub fn suggest<'a>(self, advice: impl Into<String>, command: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            command: command.into_iter().map(str::to_owned).collect(),
            ..self.advise(advice)
        }
    }

    /// Adds the hint of an error as advice, if it has one.
    pub fn hint(self, hint: Option<String>) -> Self {
        hint.into_iter().fold(self, Self::advise)
    }

    /// Converts the finding into the result of a check; removes control characters and secrets.
    pub fn into_result(self, id: &'static str, title: &'static str, kubectl: &Kubectl) -> CheckResult {
        let advice = self.advice.as_deref().map(untrusted::line);
        let command =
            (!self.command.is_empty()).then(|| kubectl.command(self.command.iter().map(String::as_str)));
        let parts = [advice, command].into_iter().flatten();
        let parts: Vec<String> = parts.filter(|part| !part.is_empty()).collect();
        CheckResult {
            id,
            title,
            status: self.status,
            seen: untrusted::line(&self.message),
            advice: (!parts.is_empty()).then(|| parts.join(": ")),
        }
    }

    /// The message and the advice, as reports print them.
    #[cfg(test)]
    pub fn text(&self) -> String {
        let result = self.clone().into_result("", "", &Kubectl::default());
        format!("{} {}", result.seen, result.advice.unwrap_or_default())
    }
}

impl From<ClusterError> for Finding {
    fn from(error: ClusterError) -> Self {
        Finding::unknown(error.to_string()).hint(error.explained.hint)
    }
}

impl From<AzureError> for Finding {
    fn from(error: AzureError) -> Self {
        Finding::unknown(error.to_string()).hint(error.explained.hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_ends_with_its_command() {
        let kubectl = Kubectl::new([("as", Some("b o b".to_owned()))]);
        let advice = |finding: Finding| finding.into_result("x", "y", &kubectl).advice;
        let finding = || Finding::failed("");
        let command = ["get", "pods", "-n", "a;b"];
        assert_eq!(
            advice(finding().suggest("see", command)).as_deref(),
            Some("see: kubectl get pods -n 'a;b' --as 'b o b'")
        );
        assert_eq!(
            advice(finding().suggest("", command)).as_deref(),
            Some("kubectl get pods -n 'a;b' --as 'b o b'")
        );
        assert_eq!(advice(finding().suggest("see", [])).as_deref(), Some("see"));
        assert_eq!(advice(finding()), None);
    }

    #[test]
    fn result_has_no_control_characters_and_secrets() {
        let finding = Finding::failed("a\u{1b}[2J\nb").advise("password=hunter2");
        let result = finding.into_result("x", "y", &Kubectl::default());
        assert_eq!(result.seen, "a[2J b");
        assert_eq!(result.advice.as_deref(), Some("password=<redacted>"));
    }
}
