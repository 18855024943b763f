//! Proposed suppression rules: one for each alert type, limited to the cluster, the namespace and the pods of a run.
//!
//! Sources: the API specification and its example (Azure/azure-rest-api-specs, `Microsoft.Security`,
//! 2019-01-01-preview, `alertsSuppressionRules.json`) for the body; Microsoft's built-in policy definition
//! 80e94a21-c6cd-4c95-a2c7-beb5704e61c0 (Azure/azure-policy, `ASC_SuppressionRulesForAlerts_Deploy.json`) for the
//! fields of entities, the operators `in` and `contains`, the reasons, the form of names, and for alerts without
//! entities; Microsoft's page "Suppress alerts from Microsoft Defender for Cloud" for simulation and new alert types.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::azure::AzureCluster;
use crate::defender::alerts::{self, Plane};
use crate::result::{
    AlertWithoutRule, Rule, RuleCondition, RuleProperties, RuleProposal, RuleScope, RunMarks, RunResult,
    Suppression,
};

/// Lifetime of a rule. An alert without times is ruled out by a verification after the same period.
const LIFETIME: SignedDuration = SignedDuration::from_hours(24);
/// Maximum length of the name of a rule.
const MAX_NAME: usize = 50;

/// Field with the resource ID, as in the policy definition.
const RESOURCE: &str = "entities.azureresource.resourceid";
/// Fields of Kubernetes entities. Assumed: they are formed from the types `K8s-namespace` and `K8s-pod` of entities as
/// the field of `azure-resource` is; no public source has them.
const NAMESPACE: &str = "entities.k8snamespace.name";
const POD: &str = "entities.k8spod.name";

/// What holds for every rule.
const CAVEATS: [&str; 5] = [
    "A rule hides a real attack too that uses the same names on this cluster.",
    "The rules are disabled. Open each in the portal and select Simulate: enable it only if it matches alerts of this \
     run and no others.",
    "The names of the fields k8snamespace and k8spod are assumed: Microsoft does not publish those of Kubernetes \
     entities.",
    "By Microsoft's policy definition, a rule also dismisses every alert of its type that has no entities.",
    "By Microsoft's documentation, a rule does not dismiss alerts of a type that was never raised before.",
];

/// Proposes rules for the alerts that a run is expected to raise.
pub(super) fn suppression(
    run: &RunResult,
    marks: &RunMarks,
    cluster: Option<&AzureCluster>,
    now: Timestamp,
) -> Suppression {
    let mut seen = BTreeSet::new();
    let expected = run.scenarios.iter().flat_map(|scenario| &scenario.alerts);
    let expected = expected.filter(|alert| alert.not_expected.is_none() && seen.insert(&alert.id));
    let (mut rules, mut without) = (vec![], vec![]);
    // A record from elsewhere may contain any text as the ID of an alert.
    for alert in expected.filter_map(|alert| alerts::find(&alert.id)) {
        match alert_type(alert, marks, cluster) {
            Ok((alert_type, cluster)) => rules.push(rule(&alert.id, alert_type, marks, cluster, now)),
            Err(reason) => without.push(AlertWithoutRule {
                name: alert.name.clone(),
                reason: reason.to_owned(),
            }),
        }
    }
    let caveats = if rules.is_empty() { &[][..] } else { &CAVEATS };
    Suppression {
        rules,
        without,
        caveats: caveats.iter().map(|&text| text.to_owned()).collect(),
    }
}

/// Returns the type of an alert and the cluster if a rule can be limited to the run, or else the reason.
fn alert_type<'a>(
    alert: &'a alerts::Alert,
    marks: &RunMarks,
    cluster: Option<&'a AzureCluster>,
) -> Result<(&'a str, &'a AzureCluster), &'static str> {
    if marks.pods.is_empty() || alert.plane == Plane::ControlPlane {
        return Err("it does not name the pods, to which a rule could be limited");
    }
    let cluster = cluster.ok_or("the resource ID of the cluster is unknown")?;
    let alert_type = alert.alert_type.as_deref();
    let alert_type = alert_type.ok_or("its type is not public; the queries show it once it is raised")?;
    Ok((alert_type, cluster))
}

fn rule(
    alert: &str,
    alert_type: &str,
    marks: &RunMarks,
    cluster: &AzureCluster,
    now: Timestamp,
) -> RuleProposal {
    let expires = now.saturating_add(LIFETIME).unwrap_or(Timestamp::MAX);
    let name: String = format!("defender-sim-{}-{alert}", marks.id)
        .chars()
        .take(MAX_NAME)
        .collect();
    let condition = |field, values: &[String]| RuleCondition {
        field,
        values: values.to_vec(),
    };
    RuleProposal {
        alert: alert.to_owned(),
        method: "PUT",
        path: format!(
            "/subscriptions/{}/providers/Microsoft.Security/alertsSuppressionRules/{name}\
             ?api-version=2019-01-01-preview",
            cluster.subscription
        ),
        body: Rule {
            properties: RuleProperties {
                alert_type: alert_type.to_owned(),
                reason: "SpecificEntityFalsePositive",
                state: "Disabled",
                comment: format!("attack simulation, run {} of kubectl defender-sim", marks.id),
                expiration_date_utc: format!("{expires:.0}"),
                suppression_alerts_scope: RuleScope {
                    all_of: vec![
                        condition(RESOURCE, std::slice::from_ref(&cluster.id)),
                        condition(NAMESPACE, std::slice::from_ref(&marks.namespace)),
                        condition(POD, &marks.pods),
                    ],
                },
            },
        },
    }
}
