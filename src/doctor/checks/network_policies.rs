//! Checks whether network policies of the namespace block the connections of a run. Only Kubernetes' own policies are
//! read, and their rules are not evaluated: a policy denies everything, allows everything, or its effect is unknown.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};

use crate::cluster::selects;
use crate::doctor::finding::{Checked, Finding};
use crate::doctor::snapshot::Snapshot;
use crate::manifest::{self, ATTACKER, VICTIM};
use crate::plan::Plan;

/// API groups with network policies that are not read, and their products.
const UNREAD: [(&str, &str); 4] = [
    ("cilium.io", "Cilium"),
    ("crd.projectcalico.org", "Calico"),
    ("projectcalico.org", "Calico"),
    ("policy.networking.k8s.io", "cluster network policies"),
];

pub(super) async fn check(snapshot: &Snapshot) -> Checked {
    let name = snapshot.plan.namespace.name.as_str();
    let (groups, found) = futures::join!(snapshot.cluster.api_groups(), snapshot.namespace());
    if found?.is_none() {
        return Ok(Finding::not_applicable(format!(
            "namespace {name} does not exist yet"
        )));
    }
    let policies = snapshot.cluster.list_all::<NetworkPolicy>(Some(name)).await?;
    Ok(judge(&snapshot.plan, &policies, groups.ok().as_deref()))
}

fn judge(plan: &Plan, policies: &[NetworkPolicy], groups: Option<&[String]>) -> Finding {
    let connections = connections(plan, policies);
    let with = |wanted: Access| {
        let connections = connections.iter().filter(|(_, access)| *access == wanted);
        connections
            .map(|(name, _)| name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let (denied, restricted) = (with(Access::Denied), with(Access::Restricted));
    let mut unknown = vec![];
    if !restricted.is_empty() {
        unknown.push(format!("whether the rules allow {restricted} is unknown"));
    }
    match groups {
        None => unknown.push("whether there are policies of other kinds is unknown".to_owned()),
        Some(groups) => {
            let is_served = |group: &str| groups.iter().any(|served| served == group);
            let mut products: Vec<&str> = UNREAD
                .iter()
                .filter(|(group, _)| is_served(group))
                .map(|(_, product)| *product)
                .collect();
            products.dedup();
            if !products.is_empty() {
                unknown.push(format!("those of {} are not read", products.join(" and ")));
            }
        }
    }
    let name = &plan.namespace.name;
    let suffix = [&[String::new()], &unknown[..]].concat().join("; ");
    let number = match policies.len() {
        1 => "1 policy".to_owned(),
        number => format!("{number} policies"),
    };
    match (denied.is_empty(), unknown.is_empty()) {
        (true, true) => Finding::ok(format!("{number} in namespace {name}, none blocks a run")),
        (true, false) => Finding::unknown(format!(
            "{number} in namespace {name}, none known to block a run{suffix}"
        )),
        (false, _) => Finding::warning(format!(
            "if the network enforces them, they block {denied}{suffix}"
        ))
        .suggest(
            "allow it for pods with the label app.kubernetes.io/part-of=mdc-simulation; see",
            ["get", "networkpolicies", "-n", name, "-o", "yaml"],
        ),
    }
}

/// What policies allow a pod in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Access {
    Denied,
    /// Some connections: the rules are not evaluated.
    Restricted,
    Allowed,
}

/// Returns the connections of a run and whether the policies allow them.
fn connections(plan: &Plan, policies: &[NetworkPolicy]) -> Vec<(String, Access)> {
    let manifests = manifest::render(plan, "");
    let access = |pod: &str, direction| {
        let pod = manifests.pods.iter().find(|manifest| manifest.name == pod);
        let labels = pod.map(|pod| pod.object["metadata"]["labels"].clone());
        let labels = labels.and_then(|labels| serde_json::from_value(labels).ok());
        access(policies, &labels.unwrap_or_default(), direction)
    };
    let (attacker, victim) = (access(ATTACKER, "Egress"), access(VICTIM, "Egress"));
    let mut connections = vec![
        ("the attacker's DNS".to_owned(), attacker),
        ("the attacker's connection to the victim".to_owned(), attacker),
    ];
    let addresses = plan.addresses();
    if !addresses.is_empty() {
        connections.push(("the victim's DNS".to_owned(), victim));
    }
    let (to_attacker, outside): (Vec<&String>, _) = addresses
        .iter()
        .partition(|address| address.starts_with(ATTACKER));
    if !to_attacker.is_empty() {
        // A run has a policy of its own only for ingress of the victim.
        let access = victim.min(access(ATTACKER, "Ingress"));
        connections.push(("the victim's connection to the attacker".to_owned(), access));
    }
    connections.extend(
        outside
            .iter()
            .map(|address| (format!("the victim's connection to {address}"), victim)),
    );
    connections
}

/// Returns what policies allow a pod in a direction. Their rules add up; a pod that none selects is not restricted.
fn access(policies: &[NetworkPolicy], pod: &BTreeMap<String, String>, direction: &str) -> Access {
    let specs = policies.iter().filter_map(|policy| policy.spec.as_ref());
    let mut specs = specs
        .filter(|spec| restricts(spec, direction))
        .filter(|spec| {
            spec.pod_selector
                .as_ref()
                .is_none_or(|selector| selects(selector, pod))
        })
        .peekable();
    if specs.peek().is_none() {
        return Access::Allowed;
    }
    // Of each rule, whether it allows everything.
    let rules: Vec<bool> = specs
        .flat_map(|spec| match direction {
            "Egress" => rules(spec.egress.as_deref(), |rule| {
                is_empty(rule.to.as_ref()) && is_empty(rule.ports.as_ref())
            }),
            _ => rules(spec.ingress.as_deref(), |rule| {
                is_empty(rule.from.as_ref()) && is_empty(rule.ports.as_ref())
            }),
        })
        .collect();
    match rules[..] {
        [] => Access::Denied,
        _ if rules.contains(&true) => Access::Allowed,
        _ => Access::Restricted,
    }
}

fn rules<T>(rules: Option<&[T]>, allows_all: impl Fn(&T) -> bool) -> Vec<bool> {
    rules.into_iter().flatten().map(allows_all).collect()
}

fn is_empty<T>(list: Option<&Vec<T>>) -> bool {
    list.is_none_or(Vec::is_empty)
}

/// Whether a policy restricts a direction. Without `policyTypes` it restricts ingress, and egress if it has rules for
/// that.
fn restricts(spec: &NetworkPolicySpec, direction: &str) -> bool {
    match &spec.policy_types {
        Some(types) => types.iter().any(|kind| kind == direction),
        None => direction == "Ingress" || spec.egress.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::plan;
    use crate::result::CheckStatus::{self, Ok as Fine, Unknown, Warning};
    use crate::scenario::catalogue;

    fn policy(spec: &str) -> NetworkPolicy {
        let spec: serde_json::Value = serde_json::from_str(spec).unwrap();
        serde_json::from_value(serde_json::json!({ "spec": spec })).unwrap()
    }

    fn judge_all(scenario: &str, specs: &[&str], groups: Option<&[String]>) -> (CheckStatus, String) {
        let mut plan = plan(None);
        plan.scenarios = vec![catalogue::find(scenario).unwrap().clone()];
        let policies: Vec<NetworkPolicy> = specs.iter().map(|spec| policy(spec)).collect();
        let finding = judge(&plan, &policies, groups);
        (finding.status, finding.message)
    }

    const DENY_EGRESS: &str = r#"{"podSelector": {}, "policyTypes": ["Egress"]}"#;
    const DENY_INGRESS: &str = r#"{"podSelector": {}, "policyTypes": ["Ingress"]}"#;
    const ALLOW_EGRESS: &str = r#"{"podSelector": {}, "egress": [{}]}"#;
    const DNS: &str =
        r#"{"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": [{"port": 53}]}]}"#;
    const FROM_PODS: &str = r#"{"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]}"#;
    const OF_OTHERS: &str = r#"{"podSelector": {"matchLabels": {"app": "x"}}, "policyTypes": ["Egress"]}"#;
    const OF_OURS: &str = r#"{"podSelector": {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"},
        {"key": "a", "operator": "NotIn", "values": ["b"]},
        {"key": "app.kubernetes.io/part-of", "operator": "In", "values": ["mdc-simulation"]}]},
        "policyTypes": ["Egress"]}"#;

    #[test]
    fn policies_that_select_the_pods_are_judged() {
        let denied = "they block the attacker's DNS, the attacker's connection to the victim";
        let fetch = "the victim's connection to the attacker";
        for (scenario, specs, status, part) in [
            (
                "webshell",
                &[][..],
                Fine,
                "0 policies in namespace mdc-simulation, none blocks a run",
            ),
            ("webshell", &[DENY_INGRESS], Fine, "1 policy"),
            ("webshell", &[OF_OTHERS], Fine, "1 policy"),
            ("webshell", &[OF_OURS], Warning, denied),
            ("webshell", &[DENY_EGRESS], Warning, denied),
            ("crypto", &[DENY_EGRESS], Warning, fetch),
            (
                "lateral-mov",
                &[DENY_EGRESS],
                Warning,
                "the victim's connection to 169.254.169.254:80",
            ),
            // Policies add up.
            (
                "crypto",
                &[DENY_EGRESS, ALLOW_EGRESS],
                Warning,
                "they block the victim's connection to the attacker",
            ),
            (
                "ti-domain",
                &[
                    DENY_EGRESS,
                    r#"{"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}"#,
                ],
                Fine,
                "2 policies",
            ),
            (
                "webshell",
                &[DENY_EGRESS, DNS],
                Unknown,
                "whether the rules allow the attacker's DNS, ",
            ),
            (
                "crypto",
                &[DENY_INGRESS],
                Warning,
                "they block the victim's connection to the attacker",
            ),
            (
                "crypto",
                &[DENY_INGRESS, FROM_PODS],
                Unknown,
                "whether the rules allow the victim's connection to the attacker is unknown",
            ),
            (
                "crypto",
                &[DENY_EGRESS, FROM_PODS],
                Warning,
                "the victim's DNS, the victim's connection to the attacker",
            ),
        ] {
            let (found, message) = judge_all(scenario, specs, Some(&[]));
            assert_eq!(found, status, "{scenario} {specs:?}: {message}");
            assert!(message.contains(part), "{part:?} in {message:?}");
        }
    }

    #[test]
    fn policies_of_other_products_are_reported_as_unread() {
        let groups = ["apps", "cilium.io", "crd.projectcalico.org", "projectcalico.org"].map(str::to_owned);
        let none = "0 policies in namespace mdc-simulation, none known to block a run";
        for (groups, status, message) in [
            (
                Some(&groups[..]),
                Unknown,
                format!("{none}; those of Cilium and Calico are not read"),
            ),
            (
                None,
                Unknown,
                format!("{none}; whether there are policies of other kinds is unknown"),
            ),
            (
                Some(&groups[..1]),
                Fine,
                "0 policies in namespace mdc-simulation, none blocks a run".to_owned(),
            ),
        ] {
            assert_eq!(judge_all("webshell", &[], groups), (status, message));
        }
        let (status, message) = judge_all("webshell", &[DENY_EGRESS], Some(&groups));
        assert_eq!(status, Warning);
        assert!(
            message.ends_with("; those of Cilium and Calico are not read"),
            "{message}"
        );
    }
}
