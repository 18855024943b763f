//! The offline catalogue of all alerts of Defender for Containers that are publicly known.
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
    /// Display name, in its newest public spelling.
    pub name: String,
    /// Other spellings seen in public.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spellings: Vec<String>,
    /// Names in other languages, as in Microsoft's translated documentation; whether the API returns them is unverified.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub localized: Vec<String>,
    /// What detects it.
    pub plane: Plane,
    /// Where Microsoft documents it for; empty if that is not public.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clouds: Vec<Cloud>,
    /// Whether Microsoft documents it for Windows nodes too.
    #[serde(default)]
    pub windows: bool,
    /// Evidence of what raises it.
    pub certainty: Certainty,
    /// Why no scenario can raise it safely, if none can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excluded: Option<String>,
    /// ID of the alert in whose place it is raised if a policy blocks the behaviour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_form_of: Option<String>,
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
    /// Source of type, severity and tactics.
    pub source: String,
}

impl Alert {
    /// Whether only the sensor can detect it on `cloud`, if that is known. On Arc, the sensor reads the audit log too.
    pub fn needs_sensor(&self, cloud: Option<Cloud>) -> bool {
        self.plane == Plane::Runtime || cloud == Some(Cloud::Arc)
    }

    /// Whether Microsoft documents the alert for a cluster of this kind, or for none at all.
    pub fn is_documented_for(&self, cloud: Cloud) -> bool {
        self.clouds.is_empty() || self.clouds.contains(&cloud)
    }

    /// Returns this alert and those that are raised in its place if a policy blocks the behaviour.
    pub fn forms(&self) -> impl Iterator<Item = &Self> {
        let is_blocked_form = |alert: &&Self| alert.blocked_form_of.as_ref() == Some(&self.id);
        std::iter::once(self).chain(all().iter().filter(is_blocked_form))
    }
}

/// What detects an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Plane {
    /// Microsoft's services, mostly in the audit log of the API server.
    ControlPlane,
    /// The sensor on the node.
    Runtime,
}

/// A kind of cluster that Defender for Containers supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Cloud {
    /// Azure Kubernetes Service.
    #[serde(rename = "AKS")]
    Aks,
    /// Amazon EKS.
    #[serde(rename = "EKS")]
    Eks,
    /// Google GKE.
    #[serde(rename = "GKE")]
    Gke,
    /// Any other cluster, connected by Azure Arc.
    Arc,
}

impl Cloud {
    /// Returns the cloud of a managed Kubernetes by the prefixes that each reserves for labels of its nodes.
    pub fn of_node<'a>(labels: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        labels.into_iter().find_map(|key| match key.split('/').next() {
            Some("kubernetes.azure.com") => Some(Self::Aks),
            Some("eks.amazonaws.com") => Some(Self::Eks),
            _ => key.starts_with("cloud.google.com/gke-").then_some(Self::Gke),
        })
    }
}

impl fmt::Display for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Aks => "AKS",
            Self::Eks => "EKS",
            Self::Gke => "GKE",
            Self::Arc => "Arc",
        })
    }
}

/// Evidence of what raises an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Certainty {
    /// A public sample shows the alert and what raised it.
    Sampled,
    /// Microsoft documents what raises it, but no such sample is known.
    Documented,
    /// Only its name is public.
    Unverified,
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

/// Returns the alert with this ID, or what to print if there is none.
pub fn get(id: &str) -> Result<&'static Alert, String> {
    find(id).ok_or_else(|| format!("there is no alert {id:?}; see: kubectl defender-sim alerts -o name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn catalogue_has_every_known_alert() {
        let of = |plane| all().iter().filter(|alert| alert.plane == plane).count();
        assert_eq!((of(Plane::ControlPlane), of(Plane::Runtime)), (21, 80));
    }

    #[test]
    fn condition_has_a_description() {
        for alert in all() {
            assert_eq!(alert.needs.is_some(), alert.condition.is_some(), "{}", alert.id);
        }
    }

    #[test]
    fn ids_names_and_types_are_unique() {
        let unique = |mut texts: Vec<String>| {
            texts.sort();
            let doubled = texts.windows(2).find(|pair| pair[0] == pair[1]);
            assert_eq!(doubled, None);
        };
        unique(all().iter().map(|alert| alert.id.clone()).collect());
        unique(all().iter().map(|alert| alert.name.to_lowercase()).collect());
        unique(
            all()
                .iter()
                .filter_map(|alert| alert.alert_type.clone())
                .collect(),
        );
    }

    #[test]
    fn facts_of_an_alert_agree() {
        for alert in all() {
            let prefix = match alert.plane {
                Plane::ControlPlane => "K8S_",
                Plane::Runtime => "K8S.NODE_",
            };
            let id = &alert.id;
            assert!(
                alert.alert_type.iter().all(|kind| kind.starts_with(prefix)),
                "{id}"
            );
            assert!(!alert.windows || alert.plane == Plane::ControlPlane, "{id}");
            let is_stated = alert.severity.is_some() || !alert.tactics.is_empty();
            assert!(!is_stated || alert.source != "none", "{id}");
            let detected = alert.blocked_form_of.as_deref().map(find);
            assert!(detected.is_none_or(|alert| alert.is_some()), "{id}");
            let severities = ["Informational", "Low", "Medium", "High"];
            let severity = alert.severity.as_deref();
            assert!(severity.is_none_or(|known| severities.contains(&known)), "{id}");
        }
    }

    #[test]
    fn only_alerts_without_safe_design_are_excluded() {
        let excluded = all().iter().filter(|alert| alert.excluded.is_some());
        let excluded: Vec<&str> = excluded.map(|alert| alert.id.as_str()).collect();
        assert_eq!(
            excluded,
            [
                "ti-proxy",
                "abnormal-mi-activity",
                "exposed-postgres-trust-auth",
                "exposed-postgres-broad-ip-range",
                "command-line-ip",
            ]
        );
    }
}
