//! How Defender is set up for a cluster: plain facts, for whoever judges them.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::resource::{AzureCluster, ClusterKind};
use super::source::{Scope, escaped};
use super::{Arm, Call, Result, Right};
use crate::net::{Cause, Explanation};
use crate::untrusted;

/// Tags that keep Defender's sensor from a cluster when they are `true` (Microsoft's page on excluding
/// clusters, and that on the Helm chart).
pub const EXCLUSION_TAGS: [&str; 2] = [
    "ms_defender_container_exclude_sensors",
    "ms_defender_e2e_discovery_exclude",
];

/// The plan Defender for Containers, of a subscription or of a connector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Whether it is on.
    pub on: bool,
    /// Whether no other plan counts for the cluster: one that Azure Arc connects may have it at a connector, and one
    /// of a connector in the subscription, where Azure Arc connects it too.
    pub decides: bool,
    /// Where it is, or is not: `subscription S`, `connector C`.
    pub of: String,
    /// Its parts; none are told of a connector's.
    pub extensions: Vec<Extension>,
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
    /// Whether it is for alerts about some things only: for which is not read.
    pub conditions: bool,
}

/// The plan Defender for Containers that is for this cluster: that of its connector where it has one
/// (`Microsoft.Security/securityConnectors`, 2023-10-01-preview), else that of the subscription
/// (`Microsoft.Security/pricings/Containers`, 2024-01-01). `certain` is whether the cluster cannot be another
/// resource as well: [`AzureOptions::certain`](super::AzureOptions::certain).
///
/// # Errors
///
/// Those of [`Arm::get`]; an answer of another shape.
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
    let Answer { properties } = shaped(&call, arm.get(&call, &path).await?)?;
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
            conditions: rule
                .pointer("/properties/suppressionAlertsScope/allOf")
                .and_then(Value::as_array)
                .is_some_and(|all| !all.is_empty()),
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
        Explanation::new(Cause::Unreadable, message).failed_to(&call.doing)
    })
}
