//! The configuration of Defender for a cluster.

use defender_sim::azure::{ClusterFacts, SuppressionRule, cluster_facts, plan, suppression_rules};
use defender_sim::net::Cause;
use serde_json::json;

use super::{id_of, ready};
use crate::arm::SUBSCRIPTION;

#[tokio::test]
async fn plan_rules_and_exclusions_are_read() {
    let (azure, _cli, arm) = ready().await;
    let security = format!("/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Security");
    azure.with(|state| {
        state.objects.insert(
            format!("{security}/pricings/Containers"),
            json!({"name": "Containers", "properties": {"pricingTier": "Standard", "extensions": [
                {"name": "ContainerSensor", "isEnabled": "True"},
                {"name": "ContainerRegistriesVulnerabilityAssessments", "isEnabled": "False"},
            ]}}),
        );
        state.objects.insert(
            format!("{security}/alertsSuppressionRules"),
            json!({"value": [
                {"name": "quiet", "properties": {"alertType": "K8S.NODE_Invented", "state": "Enabled",
                    "expirationDateUtc": "2026-12-24T00:00:00Z", "reason": "Other",
                    "suppressionAlertsScope": {"allOf": [{"field": "entities.host.name", "in": ["x"]}]}}},
                {"name": "old", "properties": {"alertType": "*", "state": "Expired"}},
            ]}),
        );
        state.objects.insert(
            id_of("blue"),
            json!({"tags": {"MS_Defender_Container_Exclude_Sensors": "True", "ms_defender_e2e_discovery_exclude": "false",
                "team": "true"}, "properties": {"securityProfile": {"defender": {"securityMonitoring": {"enabled": true}}}}}),
        );
        state.objects.insert(id_of("bare"), json!({"properties": {}}));
    });
    let seen = plan(&arm, SUBSCRIPTION, None, true).await.unwrap();
    assert!(seen.on);
    let parts: Vec<bool> = seen.extensions.iter().map(|part| part.enabled).collect();
    assert_eq!(
        (seen.extensions[0].name.as_str(), parts),
        ("ContainerSensor", vec![true, false])
    );

    let facts = async |name: &str| cluster_facts(&arm, &id_of(name).parse().unwrap()).await;
    let exclusions = vec!["ms_defender_container_exclude_sensors".to_owned()];
    assert_eq!(
        facts("blue").await.unwrap(),
        ClusterFacts {
            sensor: Some(true),
            exclusions
        }
    );
    assert_eq!(facts("bare").await.unwrap(), ClusterFacts::default());
    assert_eq!(facts("gone").await.unwrap_err().explained.cause, Cause::NotFound);

    let rules = suppression_rules(&arm, SUBSCRIPTION).await.unwrap();
    let rule = |name: &str, alert_type: &str, state: &str, expires: Option<&str>| SuppressionRule {
        name: name.to_owned(),
        alert_type: alert_type.to_owned(),
        state: state.to_owned(),
        expires: expires.map(|time| time.parse().unwrap()),
        conditions: name == "quiet",
    };
    assert_eq!(
        rules,
        [
            rule(
                "quiet",
                "K8S.NODE_Invented",
                "Enabled",
                Some("2026-12-24T00:00:00Z")
            ),
            rule("old", "*", "Expired", None),
        ]
    );
    assert!(plan(&arm, "no subscription", None, true).await.is_err());
}
