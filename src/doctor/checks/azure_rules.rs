//! Checks that no suppression rule dismisses alerts of the scenarios.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::azure::{SuppressionRule, suppression_rules};
use crate::defender::alerts::{self, Alert};
use crate::doctor::finding::{Checked, Finding};
use crate::doctor::snapshot::Snapshot;
use crate::scenario::Scenario;
use crate::words::{counted, first_few};

pub(super) async fn check(snapshot: &Snapshot) -> Checked {
    let (located, scope) = snapshot.scope().await?;
    let rules = suppression_rules(&located.arm, scope.subscription()).await?;
    Ok(judge(&snapshot.plan.scenarios, &rules, Timestamp::now()))
}

fn judge(scenarios: &[Scenario], rules: &[SuppressionRule], now: Timestamp) -> Finding {
    let expected: BTreeSet<&str> = scenarios
        .iter()
        .flat_map(|scenario| &scenario.alerts)
        .map(|alert| alert.id.as_str())
        .collect();
    let (expected, others): (Vec<&Alert>, Vec<&Alert>) = alerts::all()
        .iter()
        .partition(|alert| expected.contains(alert.id.as_str()));
    let untyped = expected.iter().filter(|alert| alert.alert_type.is_none()).count();
    let names_any = |alerts: &[&Alert], rule: &SuppressionRule| {
        let types = alerts.iter().filter_map(|alert| alert.alert_type.as_deref());
        types
            .into_iter()
            .any(|known| known.eq_ignore_ascii_case(&rule.alert_type))
    };
    let (mut dismissing, mut unclear, mut active) = (vec![], vec![], 0);
    for rule in rules.iter().filter(|rule| is_in_force(rule, now)) {
        active += 1;
        let label = format!("{} ({})", rule.name, rule.alert_type);
        if rule.alert_type == "*" || names_any(&expected, rule) {
            if rule.conditions {
                unclear.push(format!("{label} on conditions"));
            } else {
                dismissing.push(label);
            }
        } else if untyped > 0 && is_of_containers(&rule.alert_type) && !names_any(&others, rule) {
            unclear.push(label);
        }
    }
    let finding = match (dismissing.is_empty(), unclear.is_empty()) {
        (false, _) => Finding::warning(format!("dismiss expected alerts: {}", first_few(&dismissing))),
        (true, false) => Finding::unknown(format!("may dismiss expected alerts: {}", first_few(&unclear))),
        (true, true) if active == 0 => return Finding::ok("none in force"),
        (true, true) => return Finding::ok(format!("{}, for other alerts", counted(active, "rule"))),
    };
    finding.advise(
        "a dismissed alert counts as raised, but nobody is notified; see: az security alerts-suppression-rule list",
    )
}

fn is_in_force(rule: &SuppressionRule, now: Timestamp) -> bool {
    rule.state.eq_ignore_ascii_case("enabled") && rule.expires.is_none_or(|end| end > now)
}

/// Whether an alert type may be one of Defender for Containers, by its prefix.
fn is_of_containers(alert_type: &str) -> bool {
    alert_type.to_ascii_uppercase().starts_with("K8S")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::CheckStatus::{Ok, Unknown, Warning};
    use crate::scenario::catalogue;

    #[test]
    fn rule_in_force_for_an_expected_alert_warns() {
        let now: Timestamp = "2026-05-04T10:00:00Z".parse().unwrap();
        for (alert_type, state, expires, status, part) in [
            (
                "K8S.NODE_DriftDetection",
                "Enabled",
                None,
                Warning,
                "dismiss expected alerts: r (K8S",
            ),
            ("*", "enabled", Some("2026-05-05T10:00:00Z"), Warning, "r (*)"),
            ("*", "Enabled", Some("2026-05-03T10:00:00Z"), Ok, "none in force"),
            ("*", "Disabled", None, Ok, "none in force"),
            (
                "*",
                "Enabled",
                None,
                Unknown,
                "may dismiss expected alerts: r (*) on conditions",
            ),
            (
                "K8S.NODE_Invented",
                "Enabled",
                None,
                Unknown,
                "may dismiss expected alerts: r (K8S.NODE_Invented)",
            ),
            (
                "K8S.NODE_ImdsCall",
                "Enabled",
                None,
                Ok,
                "1 rule, for other alerts",
            ),
            ("VM_Something", "Enabled", None, Ok, "1 rule, for other alerts"),
        ] {
            let rule = SuppressionRule {
                name: "r".into(),
                alert_type: alert_type.into(),
                state: state.into(),
                expires: expires.map(|time| time.parse().unwrap()),
                conditions: part.ends_with("on conditions"),
            };
            let scenario = catalogue::find("crypto").unwrap().clone();
            let finding = judge(&[scenario], &[rule], now);
            assert_eq!(finding.status, status, "{finding:?}");
            assert!(finding.message.contains(part), "{finding:?}");
        }
    }
}
