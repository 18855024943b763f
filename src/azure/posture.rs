//! Reads the configuration of Defender for a cluster.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::resource::{AzureCluster, ClusterKind};
use super::source::{Scope, escaped};
use super::{Arm, Call, Result, Right};
use crate::net::{Cause, Explanation};
use crate::untrusted;

/// Tags that exclude a cluster from Defender's sensor if they are `true` (Microsoft's pages on excluding clusters and on
/// the Helm chart).
pub const EXCLUSION_TAGS: [&str; 2] = [
    "ms_defender_container_exclude_sensors",
    "ms_defender_e2e_discovery_exclude",
];

/// The plan Defender for Containers of a subscription or connector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Whether the plan is on.
    pub on: bool,
    /// Whether no other plan applies to the cluster: an Arc-connected cluster may have that of a connector, and the
    /// cluster of a connector, if it is Arc-connected, that of the subscription.
    pub decides: bool,
    /// The owner of the plan: `subscription S` or `connector C`.
    pub of: String,
    /// The extensions; empty for connectors.
    pub extensions: Vec<Extension>,
}

/// An extension of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are named as in the API")]
pub struct Extension {
    pub name: String,
    pub enabled: bool,
}

/// The security settings of a cluster resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterFacts {
    /// Whether the security profile of AKS turns the sensor on; `None` if it is not set, as for other kinds of clusters
    /// and for a sensor installed by Helm.
    pub sensor: Option<bool>,
    /// Those of [`EXCLUSION_TAGS`] that are `true`.
    pub exclusions: Vec<String>,
}

/// A rule that dismisses alerts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuppressionRule {
    /// The name.
    pub name: String,
    /// The alert type, or `*`.
    pub alert_type: String,
    /// `Enabled`, `Disabled` or `Expired`.
    pub state: String,
    /// The expiration.
    pub expires: Option<Timestamp>,
    /// Whether it is limited to some entities.
    pub conditions: bool,
}

/// Reads the plan Defender for Containers of a cluster.
///
/// This is the plan of its connector, if it has one (`Microsoft.Security/securityConnectors`, 2023-10-01-preview), else
/// that of the subscription (`Microsoft.Security/pricings/Containers`, 2024-01-01). `certain` is the result of
/// [`AzureOptions::certain`](super::AzureOptions::certain).
///
/// # Errors
/// Those of [`Arm::get`], and if the answer has another schema.
pub async fn plan(
    arm: &Arm,
    subscription: &str,
    cluster: Option<&AzureCluster>,
    certain: bool,
) -> Result<Plan> {
    if let Some(connector) = cluster.and_then(AzureCluster::connector) {
        return plan_of_connector(arm, connector, certain).await;
    }
    let decides = cluster.is_some_and(|cluster| cluster.kind == ClusterKind::Aks);
    plan_of_subscription(arm, subscription, decides).await
}

async fn plan_of_subscription(arm: &Arm, subscription: &str, decides: bool) -> Result<Plan> {
    #[derive(Deserialize)]
    struct Answer {
        properties: Properties,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Properties {
        /// `Standard` or `Free`.
        pricing_tier: String,
        #[serde(default)]
        extensions: Option<Vec<Part>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Part {
        name: String,
        /// A string such as `"True"` in the API reference, a boolean in some answers.
        #[serde(default)]
        is_enabled: Value,
    }
    let (call, scope) = subscription_call(
        "read the plan Defender for Containers",
        Right::PLANS,
        subscription,
    )?;
    let path = format!("{scope}/providers/Microsoft.Security/pricings/Containers?api-version=2024-01-01");
    let Answer { properties } = parse_answer(&call, arm.get(&call, &path).await?)?;
    let parts = properties.extensions.unwrap_or_default();
    Ok(Plan {
        on: properties.pricing_tier.eq_ignore_ascii_case("Standard"),
        decides,
        of: format!("subscription {subscription}"),
        extensions: parts
            .into_iter()
            .map(|part| Extension {
                name: untrusted::name(&part.name),
                enabled: is_true(&part.is_enabled),
            })
            .collect(),
    })
}

async fn plan_of_connector(arm: &Arm, connector: &str, decides: bool) -> Result<Plan> {
    /// The plan's names among the offerings of a connector.
    const OFFERINGS: [&str; 2] = ["DefenderForContainersAws", "DefenderForContainersGcp"];
    #[derive(Deserialize)]
    struct Answer {
        properties: Properties,
    }
    #[derive(Deserialize)]
    struct Properties {
        offerings: Vec<Offering>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Offering {
        offering_type: String,
    }
    let call = Call {
        doing: "read the plan Defender for Containers of the connector".to_owned(),
        right: Right::CONNECTORS,
        scope: connector.to_owned(),
    };
    let path = format!("{}?api-version=2023-10-01-preview", escaped(connector));
    let Answer { properties } = parse_answer(&call, arm.get(&call, &path).await?)?;
    let offerings = properties.offerings.iter();
    let name = connector.rsplit('/').next().unwrap_or(connector);
    Ok(Plan {
        on: offerings
            .map(|offering| offering.offering_type.as_str())
            .any(|offering| OFFERINGS.contains(&offering)),
        decides,
        of: format!("connector {}", untrusted::name(name)),
        extensions: vec![],
    })
}

/// Reads the security profile and tags of an AKS or Arc-connected cluster; other clusters have the default.
///
/// # Errors
/// Those of [`Arm::get`].
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

/// Reports whether the login can read the alerts of the scope.
///
/// # Errors
/// Those of [`Arm::get`], except a refusal.
pub async fn can_read_alerts(arm: &Arm, scope: &Scope) -> Result<bool> {
    let (call, path) = scope.alerts();
    match arm.get(&call, &path).await {
        Ok(_) => Ok(true),
        Err(error) if error.explained.cause == Cause::Forbidden => Ok(false),
        Err(error) => Err(error),
    }
}

/// Lists the rules of a subscription that dismiss alerts (`alertsSuppressionRules`, 2019-01-01-preview).
///
/// # Errors
/// Those of [`Arm::list`].
pub async fn suppression_rules(arm: &Arm, subscription: &str) -> Result<Vec<SuppressionRule>> {
    let (call, scope) = subscription_call("read the rules that suppress alerts", Right::RULES, subscription)?;
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
            conditions: rule
                .pointer("/properties/suppressionAlertsScope/allOf")
                .and_then(Value::as_array)
                .is_some_and(|all| !all.is_empty()),
        });
    })
    .await?;
    Ok(rules)
}

fn subscription_call(doing: &str, right: Right, subscription: &str) -> Result<(Call, String)> {
    let scope = Scope::new(subscription, None)?;
    let call = Call {
        doing: doing.to_owned(),
        right,
        scope: scope.id(),
    };
    Ok((call, scope.path()))
}

/// Reports whether a value is `true`, or `"True"` in any case.
fn is_true(value: &Value) -> bool {
    value.as_bool().unwrap_or(false)
        || value
            .as_str()
            .is_some_and(|text| text.eq_ignore_ascii_case("true"))
}

fn parse_answer<T: serde::de::DeserializeOwned>(call: &Call, answer: Value) -> Result<T> {
    serde_json::from_value(answer).map_err(|_| {
        let message = "the answer does not match the schema of its API version";
        Explanation::new(Cause::Unreadable, message).failed_to(&call.doing)
    })
}
