//! The offline catalogue of the alerts that scenarios raise.
//!
//! Display names, severities and conditions come from public pages; `alerts.yaml` names the source of
//! each. Without a public source the field is absent: nothing is guessed.

use std::fmt;
use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One alert of Defender for Containers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Alert {
    /// ID of this tool.
    pub id: String,
    /// Display name, as the public list of the simulation tool spells it.
    pub name: String,
    /// Other spellings seen in public.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spellings: Vec<String>,
    /// Names in other languages, as in Microsoft's translated documentation; whether the API returns them is unverified.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub localized: Vec<String>,
    /// The `alertType` of the alerts API, if public.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub alert_type: Option<String>,
    /// Informational, Low, Medium or High, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// MITRE ATT&CK tactics in the spelling of the alerts API, if known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tactics: Vec<String>,
    /// Prerequisites beyond the plan and a ready sensor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<String>,
    /// The prerequisite as a value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
    /// Source of severity and tactics.
    pub source: String,
}

/// A prerequisite of an alert beyond the plan and a ready sensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// The sensor inspects DNS queries.
    DnsDetection,
    /// The sensor detects malicious files.
    AntiMalware,
    /// Defender reads the API server's audit log.
    AuditLog,
    /// A containers drift policy, set in Azure, has the action "alert" for the namespace.
    DriftPolicy,
}

impl Condition {
    /// All conditions.
    pub const ALL: [Self; 4] = [
        Self::DnsDetection,
        Self::AntiMalware,
        Self::AuditLog,
        Self::DriftPolicy,
    ];
}

/// Formats the name for people: `DNS detection`.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Condition::DnsDetection => "DNS detection",
            Condition::AntiMalware => "anti-malware",
            Condition::AuditLog => "the audit log",
            Condition::DriftPolicy => "binary drift",
        })
    }
}

static ALERTS: LazyLock<Vec<Alert>> = LazyLock::new(|| {
    serde_saphyr::from_str(include_str!("alerts.yaml"))
        .expect("the alert catalogue is checked by a unit test")
});

/// Returns every alert.
pub fn all() -> &'static [Alert] {
    &ALERTS
}

/// Returns the alert with this ID.
pub fn find(id: &str) -> Option<&'static Alert> {
    all().iter().find(|alert| alert.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn condition_has_a_description() {
        for alert in all() {
            assert_eq!(alert.needs.is_some(), alert.condition.is_some(), "{}", alert.id);
        }
    }

    #[test]
    fn ids_and_names_are_unique() {
        let mut ids: Vec<_> = all().iter().map(|a| &a.id).collect();
        let mut names: Vec<_> = all().iter().map(|a| a.name.to_lowercase()).collect();
        ids.sort();
        ids.dedup();
        names.sort();
        names.dedup();
        assert_eq!((ids.len(), names.len()), (all().len(), all().len()));
    }
}
