//! Verdicts on the alerts of a run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::Regression;

/// The alerts that Defender raised for a run, as read last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// Source of the alerts, such as `Azure Resource Graph` or the name of a file.
    pub source: String,
    /// Time at which they were read last.
    pub read: jiff::Timestamp,
    /// Alerts that start earlier do not belong to the run.
    pub from: jiff::Timestamp,
    /// Alerts that start later do not belong to the run.
    pub until: jiff::Timestamp,
    /// The verdict on each expected alert.
    pub alerts: Vec<AlertVerdict>,
    /// Further alerts of the same pods.
    pub additional: Vec<RaisedAlert>,
    /// Alerts that may belong to the run: what decides that cannot be read.
    #[serde(default)]
    pub unattributed: Vec<UnattributedAlert>,
    /// Facts about the cluster that a raised alert contradicts.
    #[serde(default)]
    pub contradictions: Vec<String>,
    /// Alerts that were raised for earlier runs on this cluster, and not for this one.
    #[serde(default)]
    pub regressions: Vec<Regression>,
    /// Why the verification fails, if it does.
    #[serde(default)]
    pub failure: Option<String>,
}

/// An alert that may belong to a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnattributedAlert {
    /// ID at the source; empty if it has none.
    pub id: String,
    /// Display name at the source.
    pub name: String,
    /// The part that cannot be read.
    pub reason: String,
}

/// The verdict on an expected alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertVerdict {
    /// ID in the alert catalogue.
    pub id: String,
    /// Display name in the catalogue.
    pub name: String,
    /// The scenarios of the run that are expected to raise it.
    pub scenarios: Vec<String>,
    /// Whether a missing alert is no failure.
    #[serde(default)]
    pub optional: bool,
    /// The verdict.
    pub verdict: Verdict,
    /// The reason, unless it was raised in time.
    pub reason: Option<String>,
    /// Whether it was raised later than requested.
    pub late: bool,
    /// The first alert that was raised.
    pub raised: Option<RaisedAlert>,
    /// The verdict for each victim, if the run had several and a step in a victim raises the alert.
    #[serde(default)]
    pub victims: Vec<VictimVerdict>,
}

/// The verdict on an expected alert for one victim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VictimVerdict {
    /// Name of the pod.
    pub pod: String,
    /// The group of nodes for which it stands.
    pub group: Option<String>,
    /// The verdict.
    pub verdict: Verdict,
    /// The reason, unless it was raised in time.
    pub reason: Option<String>,
    /// The first alert that was raised and names the pod.
    pub raised: Option<RaisedAlert>,
}

impl VictimVerdict {
    /// Whether the alert was not raised for this victim, whatever the reason, if it is missing for the run.
    pub fn is_missing(&self) -> bool {
        matches!(self.verdict, Verdict::NotRaised | Verdict::NotExpected)
    }
}

/// What is known of an expected alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// Defender raised it.
    Raised,
    /// Defender did not raise it.
    NotRaised,
    /// Defender may still raise it.
    Waiting,
    /// It cannot be raised here, or nothing was done that raises it.
    NotExpected,
    /// It was not raised, and whether it could be is not known; or alerts could not be read.
    Unknown,
}

impl Verification {
    /// Returns how many of the required or of the optional alerts were raised, and how many there are.
    pub fn raised(&self, optional: bool) -> (usize, usize) {
        let alerts = self.alerts.iter().filter(|alert| alert.optional == optional);
        let raised = alerts.clone().filter(|alert| alert.verdict == Verdict::Raised);
        (raised.count(), alerts.count())
    }

    /// Returns where alerts have to be raised, as words that follow "raised": nothing unless the run had several victims.
    pub fn everywhere(&self) -> &'static str {
        let mut alerts = self.alerts.iter();
        if alerts.any(|alert| !alert.victims.is_empty()) {
            " for every victim"
        } else {
            ""
        }
    }

    /// Returns what is remarkable about the alerts, beyond the verdicts: contradictions and regressions, as sentences.
    pub fn warnings(&self) -> Vec<String> {
        let regressions = self.regressions.iter().map(Regression::to_string);
        self.contradictions.iter().cloned().chain(regressions).collect()
    }

    /// Returns the number of expected alerts with this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.alerts
            .iter()
            .filter(|alert| alert.verdict == verdict)
            .count()
    }
}

impl Verdict {
    /// Returns the words for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Raised => "raised",
            Verdict::NotRaised => "not raised",
            Verdict::Waiting => "waiting",
            Verdict::NotExpected => "not applicable",
            Verdict::Unknown => "unknown",
        }
    }
}

/// An alert that Defender raised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RaisedAlert {
    /// ID at the source.
    pub id: String,
    /// Display name at the source.
    pub name: String,
    /// Severity.
    pub severity: Option<String>,
    /// Status, such as `Active` or `Dismissed`.
    pub status: Option<String>,
    /// Time at which it was raised.
    pub generated: Option<jiff::Timestamp>,
    /// Seconds from the start of the first step that raises it until it was raised.
    pub seconds_to_detect: Option<f64>,
    /// Link to the Azure portal.
    pub link: Option<String>,
}

impl RaisedAlert {
    /// Returns the link to the portal, or `None` if it is not a plain HTTPS URL.
    pub fn portal(&self) -> Option<Url> {
        let url = Url::parse(self.link.as_deref()?).ok()?;
        let is_plain = url.username().is_empty() && url.password().is_none();
        (url.scheme() == "https" && is_plain).then_some(url)
    }
}
