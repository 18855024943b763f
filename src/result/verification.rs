//! Verdicts on the alerts of a run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which alerts Defender raised for a run: the last look.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// Where alerts were read, such as `Azure Resource Graph` or the name of a file.
    pub source: String,
    /// When they were read last.
    pub looked: jiff::Timestamp,
    /// Alerts that start before this time are none of the run's.
    pub from: jiff::Timestamp,
    /// Nor are those that start after this time.
    pub until: jiff::Timestamp,
    /// The verdict on each expected alert.
    pub alerts: Vec<AlertVerdict>,
    /// Further alerts of the same pods.
    pub additional: Vec<RaisedAlert>,
    /// Alerts that may be of the run: what decides that cannot be read.
    #[serde(default)]
    pub unattributed: Vec<UnattributedAlert>,
    /// What was known of the cluster and is contradicted by an alert that was raised.
    #[serde(default)]
    pub contradictions: Vec<String>,
    /// Why the alerts do not pass, if they do not.
    #[serde(default)]
    pub failure: Option<String>,
}

/// An alert that may be of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnattributedAlert {
    /// Its id at the source; empty if it has none.
    pub id: String,
    /// Its display name, as the source has it.
    pub name: String,
    /// What of it cannot be read.
    pub reason: String,
}

/// Whether an expected alert was raised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertVerdict {
    /// Its id in the alert catalogue.
    pub id: String,
    /// Its display name there.
    pub name: String,
    /// The scenarios of the run that it is expected of.
    pub scenarios: Vec<String>,
    /// Whether its absence is no failure.
    #[serde(default)]
    pub optional: bool,
    /// What is known.
    pub verdict: Verdict,
    /// Why, where it is not raised or was raised too late.
    pub reason: Option<String>,
    /// Whether it was raised, but not in the time that was asked for.
    pub late: bool,
    /// The alert, where it is; the first, where there are several.
    pub raised: Option<RaisedAlert>,
}

/// What is known of an expected alert. Three things stay apart: that the behaviour was proved, that the alert
/// was raised, and why the one did not lead to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// Defender raised it.
    Raised,
    /// It was to come and did not.
    NotRaised,
    /// It may still come.
    Waiting,
    /// It cannot come here, or nothing was done that it is raised for.
    NotExpected,
    /// It did not come, and whether it could is not known; or alerts could not be read.
    CouldNotTell,
}

impl Verification {
    /// How many of the required alerts, or of the optional ones, were raised, and how many there are.
    pub fn raised(&self, optional: bool) -> (usize, usize) {
        let alerts = self.alerts.iter().filter(|alert| alert.optional == optional);
        let raised = alerts.clone().filter(|alert| alert.verdict == Verdict::Raised);
        (raised.count(), alerts.count())
    }

    /// How many of the expected alerts have this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.alerts
            .iter()
            .filter(|alert| alert.verdict == verdict)
            .count()
    }
}

impl Verdict {
    /// The words shown to people.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Raised => "raised",
            Verdict::NotRaised => "not raised",
            Verdict::Waiting => "waiting",
            Verdict::NotExpected => "not applicable",
            Verdict::CouldNotTell => "unknown",
        }
    }
}

/// An alert that Defender raised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RaisedAlert {
    /// Its id at the source.
    pub id: String,
    /// Its display name, as the source has it.
    pub name: String,
    /// Its severity.
    pub severity: Option<String>,
    /// Its status, such as `Active` or `Dismissed`.
    pub status: Option<String>,
    /// When it was raised.
    pub generated: Option<jiff::Timestamp>,
    /// Seconds from the beginning of the first step that it is expected of until it was raised.
    pub seconds_to_detect: Option<f64>,
    /// Where it is shown in the portal.
    pub link: Option<String>,
}
