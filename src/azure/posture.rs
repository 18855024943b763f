//! How Defender is set up for a cluster: plain facts, for whoever judges them.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::resource::{AzureCluster, ClusterKind};
use super::source::{Scope, escaped};
use super::{Arm, Call, Cause, Explained, Result, Right};
use crate::untrusted;

/// Tags that keep Defender's sensor from a cluster when they are `true` (Microsoft's page on excluding
/// clusters, and that on the Helm chart).
pub const EXCLUSION_TAGS: [&str; 2] = [
    "ms_defender_container_exclude_sensors",
    "ms_defender_e2e_discovery_exclude",
];

/// The plan Defender for Containers of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// `Standard` where it is on, `Free` where it is not.
    pub tier: String,
    /// Its parts.
    pub extensions: Vec<Extension>,
}

impl Plan {
    /// Whether it is on.
    pub fn is_on(&self) -> bool {
        self.tier.eq_ignore_ascii_case("Standard")
    }
}

/// A part of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Such as `ContainerSensor`.
    pub name: String,
    /// Whether it is on.
    pub enabled: bool,
}

/// What Azure has on file about a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterFacts {
    /// Whether the security profile of AKS turns the sensor on; nothing where it does not say, as for other
    /// kinds of clusters. A sensor by Helm does not set it.
    pub sensor: Option<bool>,
    /// Those of [`EXCLUSION_TAGS`] that the resource carries as `true`.
    pub exclusions: Vec<String>,
}

/// A rule that dismisses alerts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuppressionRule {
    /// Its name.
    pub name: String,
    /// The type of alerts it dismisses, or `*`.
    pub alert_type: String,
    /// `Enabled`, `Disabled` or `Expired`.
    pub state: String,
    /// When it ends, where it does.
    pub expires: Option<Timestamp>,
}

/// The plan Defender for Containers (`Microsoft.Security/pricings/Containers`, 2024-01-01).
///
/// # Errors
///
/// Those of [`Arm::get`]; an answer without a tier.
pub async fn plan(arm: &Arm, subscription: &str) -> Result<Plan> {
    #[derive(Deserialize)]
    struct Answer {
        properties: Properties,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Properties {
        pricing_tier: String,
        #[serde(default)]
        extensions: Option<Vec<Part>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Part {
        name: String,
        /// A text in the API's description, `"True"`; a truth value elsewhere.
        #[serde(default)]
        is_enabled: Value,
    }
    let (call, scope) = of_subscription(
        "read the plan Defender for Containers",
        Right::PLANS,
        subscription,
    )?;
    let path = format!("{scope}/providers/Microsoft.Security/pricings/Containers?api-version=2024-01-01");
    let Answer { properties } = shaped(&call, arm.get(&call, &path).await?)?;
    let parts = properties.extensions.unwrap_or_default();
    Ok(Plan {
        tier: untrusted::name(&properties.pricing_tier),
        extensions: parts
            .into_iter()
            .map(|part| Extension {
                name: untrusted::name(&part.name),
                enabled: is_true(&part.is_enabled),
            })
            .collect(),
    })
}

/// The cluster's security profile and tags.
///
/// # Errors
///
/// Those of [`Arm::get`]. A cluster that is neither AKS nor connected by Arc has nothing on file here, which is
/// no error.
pub async fn cluster_facts(arm: &Arm, cluster: &AzureCluster) -> Result<ClusterFacts> {
    let (right, version) = match cluster.kind {
        ClusterKind::Aks => (Right::CLUSTERS, "2024-05-01"),
        ClusterKind::Arc => (Right::CONNECTED, "2024-01-01"),
        ClusterKind::Connector | ClusterKind::Other(_) => return Ok(ClusterFacts::default()),
    };
    let call = Call {
        doing: format!("read the cluster {} in Azure", cluster.name),
        right,
        scope: cluster.id.clone(),
    };
    let path = format!("{}?api-version={version}", escaped(&cluster.id));
    let answer = arm.get(&call, &path).await?;
    let sensor = answer
        .pointer("/properties/securityProfile/defender/securityMonitoring/enabled")
        .and_then(Value::as_bool);
    let tags = answer.get("tags").and_then(Value::as_object);
    let exclusions = tags
        .into_iter()
        .flatten()
        .filter(|(name, value)| {
            let known = EXCLUSION_TAGS.iter().any(|tag| tag.eq_ignore_ascii_case(name));
            known && is_true(value)
        })
        .map(|(name, _)| name.to_ascii_lowercase())
        .collect();
    Ok(ClusterFacts { sensor, exclusions })
}

/// Whether the login may read the alerts of the scope: whether the first page of them is answered.
///
/// # Errors
///
/// Those of [`Arm::get`], except for the refusal that is asked about.
pub async fn alerts_readable(arm: &Arm, scope: &Scope) -> Result<bool> {
    let (call, path) = scope.alerts();
    match arm.get(&call, &path).await {
        Ok(_) => Ok(true),
        Err(error) if error.explained.cause == Cause::Forbidden => Ok(false),
        Err(error) => Err(error),
    }
}

/// The rules of a subscription that dismiss alerts (`alertsSuppressionRules`, 2019-01-01-preview).
///
/// # Errors
///
/// Those of [`Arm::list`].
pub async fn suppression_rules(arm: &Arm, subscription: &str) -> Result<Vec<SuppressionRule>> {
    let (call, scope) = of_subscription("read the rules that suppress alerts", Right::RULES, subscription)?;
    let path =
        format!("{scope}/providers/Microsoft.Security/alertsSuppressionRules?api-version=2019-01-01-preview");
    let mut rules = vec![];
    arm.list(&call, &path, |rule| {
        let text = |path: &str| rule.pointer(path).and_then(Value::as_str).map(untrusted::name);
        rules.push(SuppressionRule {
            name: text("/name").unwrap_or_default(),
            alert_type: text("/properties/alertType").unwrap_or_default(),
            state: text("/properties/state").unwrap_or_default(),
            expires: text("/properties/expirationDateUtc").and_then(|time| time.parse().ok()),
        });
    })
    .await?;
    Ok(rules)
}

fn of_subscription(doing: &str, right: Right, subscription: &str) -> Result<(Call, String)> {
    let scope = Scope::new(subscription, None)?;
    let call = Call {
        doing: doing.to_owned(),
        right,
        scope: scope.id(),
    };
    Ok((call, scope.path()))
}

/// `true`, or `"True"` in any case.
fn is_true(value: &Value) -> bool {
    value.as_bool().unwrap_or(false)
        || value
            .as_str()
            .is_some_and(|text| text.eq_ignore_ascii_case("true"))
}

fn shaped<T: serde::de::DeserializeOwned>(call: &Call, answer: Value) -> Result<T> {
    serde_json::from_value(answer).map_err(|_| {
        let message = "the answer is not of the shape that its version has";
        Explained::new(Cause::Unreadable, message).doing(&call.doing)
    })
}
