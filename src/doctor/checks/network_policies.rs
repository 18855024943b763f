//! Would network policies of the namespace cut the scenarios? Only those of Kubernetes itself are read, and
//! whether the network keeps to them is not seen from here.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::doctor::finding::{Checked, Finding};
use crate::doctor::snapshot::Snapshot;
use crate::manifest::{self, ATTACKER, VICTIM};
use crate::plan::Plan;
use crate::scenario::address;
use crate::words::counted;

/// API groups with network policies that are not read, and whose they are.
const NOT_READ: [(&str, &str); 4] = [
    ("cilium.io", "Cilium"),
    ("crd.projectcalico.org", "Calico"),
    ("projectcalico.org", "Calico"),
    ("policy.networking.k8s.io", "cluster network policies"),
];

type Labels = BTreeMap<String, String>;

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
    let mut unread: Vec<&str> = NOT_READ
        .iter()
        .filter(|(group, _)| groups.into_iter().flatten().any(|served| served == group))
        .map(|(_, whose)| *whose)
        .collect();
    unread.dedup();
    let mut unseen = String::new();
    let (cut, not_known) = cut(plan, policies);
    if !not_known.is_empty() {
        let ways = not_known.join(" and ");
        unseen = format!("; whether address blocks let through {ways} is not known");
    }
    if groups.is_none() {
        unseen.push_str("; whether there are policies of another kind could not be seen");
    } else if !unread.is_empty() {
        unseen = format!("{unseen}; those of {} are not read", unread.join(" and "));
    }
    let name = &plan.namespace.name;
    let number = counted(policies.len(), "policy").replace("policys", "policies");
    match (cut.is_empty(), unseen.is_empty()) {
        (true, true) => Finding::ok(format!("{number} in namespace {name}, none in the way")),
        (true, false) => Finding::unknown(format!(
            "{number} in namespace {name}, none known to be in the way{unseen}"
        )),
        (false, _) => Finding::warning(format!(
            "where the network keeps to them, they cut {}{unseen}",
            cut.join(", ")
        ))
        .suggest(
            "allow it for pods with the label app.kubernetes.io/part-of=mdc-simulation; see",
            ["get", "networkpolicies", "-n", name, "-o", "yaml"],
        ),
    }
}

/// What a connection of a run goes to.
enum Way<'a> {
    /// The other pod of the run, at port 80.
    Pod(&'a Labels),
    /// The cluster's DNS.
    Dns,
    /// Anything else, at this port; its address, where it is not a name.
    Outside(Option<Ipv4Addr>, i32),
}

/// Whether something lets a connection through, the best last: policies, their rules and their peers add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Through {
    No,
    NotKnown,
    Yes,
}

/// Connections of the run that policies do not let through, and those of which that is not known.
fn cut(plan: &Plan, policies: &[NetworkPolicy]) -> (Vec<String>, Vec<String>) {
    let manifests = manifest::render(plan, "");
    let labels = |name: &str| -> Labels {
        let pod = manifests.pods.iter().find(|pod| pod.name == name);
        let labels = pod.map(|pod| pod.object["metadata"]["labels"].clone());
        labels
            .and_then(|labels| serde_json::from_value(labels).ok())
            .unwrap_or_default()
    };
    let (attacker, victim) = (labels(ATTACKER), labels(VICTIM));
    let specs: Vec<&NetworkPolicySpec> = policies
        .iter()
        .filter_map(|policy| policy.spec.as_ref())
        .collect();
    let addresses = plan.addresses();
    let of_attacker = |address: &&String| address.starts_with(ATTACKER);
    let fetches = addresses.iter().any(|address| of_attacker(&address));
    let mut ways = vec![
        (
            "the attacker's way to the victim".to_owned(),
            leaves(&specs, &attacker, &Way::Pod(&victim)),
        ),
        (
            "the attacker's DNS".to_owned(),
            leaves(&specs, &attacker, &Way::Dns),
        ),
    ];
    // A run brings a policy of its own that lets the attacker in; policies add up.
    if !addresses.is_empty() {
        ways.push(("the victim's DNS".to_owned(), leaves(&specs, &victim, &Way::Dns)));
    }
    if fetches {
        let out = leaves(&specs, &victim, &Way::Pod(&attacker));
        let through = out.min(enters(&specs, &attacker, &victim));
        ways.push(("the victim's way to the attacker".to_owned(), through));
    }
    for text in addresses.iter().filter(|address| !of_attacker(address)) {
        let Some((host, port)) = address(text) else {
            continue;
        };
        // A name or a range is no literal.
        let way = Way::Outside(host.parse().ok(), port.into());
        let through = leaves(&specs, &victim, &way);
        ways.push((format!("the victim's way to {text}"), through));
    }
    let that_are = |wanted: Through| {
        let ways = ways.iter().filter(|(_, through)| *through == wanted);
        ways.map(|(way, _)| way.clone()).collect()
    };
    (that_are(Through::No), that_are(Through::NotKnown))
}

/// Whether a pod with these labels may send there.
fn leaves(specs: &[&NetworkPolicySpec], pod: &Labels, way: &Way) -> Through {
    best(specs, "Egress", pod, |spec| {
        let rules = spec.egress.iter().flatten();
        rules
            .map(|rule| lets(rule.to.as_deref(), rule.ports.as_deref(), way))
            .max()
    })
}

/// Whether a pod may receive from another one at port 80.
fn enters(specs: &[&NetworkPolicySpec], pod: &Labels, from: &Labels) -> Through {
    best(specs, "Ingress", pod, |spec| {
        let rules = spec.ingress.iter().flatten();
        rules
            .map(|rule| lets(rule.from.as_deref(), rule.ports.as_deref(), &Way::Pod(from)))
            .max()
    })
}

/// The best of the policies that select a pod; a pod that none selects may do all.
fn best(
    specs: &[&NetworkPolicySpec],
    direction: &str,
    pod: &Labels,
    rules: impl Fn(&NetworkPolicySpec) -> Option<Through>,
) -> Through {
    let of_pod = specs
        .iter()
        .filter(|spec| restricts(spec, direction) && selects_pod(spec, pod));
    let each = of_pod.map(|spec| rules(spec).unwrap_or(Through::No));
    each.max().unwrap_or(Through::Yes)
}

/// Whether a rule lets a connection through. No peers are all peers.
fn lets(peers: Option<&[NetworkPolicyPeer]>, ports: Option<&[NetworkPolicyPort]>, way: &Way) -> Through {
    let port = match way {
        Way::Pod(_) => 80,
        Way::Dns => 53,
        Way::Outside(_, port) => *port,
    };
    let peers = peers.unwrap_or_default();
    if !lets_port(ports, port) {
        Through::No
    } else if peers.is_empty() {
        Through::Yes
    } else {
        let each = peers.iter().map(|peer| admits(peer, way));
        each.max().unwrap_or(Through::No)
    }
}

fn admits(peer: &NetworkPolicyPeer, way: &Way) -> Through {
    let is = |admitted| if admitted { Through::Yes } else { Through::No };
    match (way, &peer.ip_block) {
        // Where the DNS is, differs: whatever is let through at its port is taken to be it.
        (Way::Dns, _) => Through::Yes,
        // What a selector of namespaces means is not looked up: it is taken to fit.
        (Way::Pod(labels), None) => {
            let selector = peer.pod_selector.as_ref();
            is(selector.is_none_or(|selector| selects(selector, labels)))
        }
        // Only blocks of addresses are outside.
        (Way::Outside(..), None) => Through::No,
        (Way::Outside(Some(address), _), Some(block)) => is(lets_address(block, *address)),
        (Way::Outside(None, _), Some(block)) if lets_all(block) => Through::Yes,
        // Where a name leads is not looked up. Nor are the addresses of the pods known before they run; and a block is
        // for pods too in the tests that Kubernetes has for networks, but not with Cilium (its page on policies).
        (Way::Outside(None, _) | Way::Pod(_), Some(_)) => Through::NotKnown,
    }
}

/// A policy that does not say what it is about is about what comes in, and about what goes out if it has rules
/// for that.
fn restricts(spec: &NetworkPolicySpec, direction: &str) -> bool {
    match &spec.policy_types {
        Some(types) => types.iter().any(|kind| kind == direction),
        None => direction == "Ingress" || spec.egress.is_some(),
    }
}

fn selects_pod(spec: &NetworkPolicySpec, pod: &Labels) -> bool {
    spec.pod_selector
        .as_ref()
        .is_none_or(|selector| selects(selector, pod))
}

fn lets_address(block: &IPBlock, address: Ipv4Addr) -> bool {
    let mut except = block.except.iter().flatten();
    contains(&block.cidr, address) && !except.any(|cidr| contains(cidr, address))
}

/// Only the block of all has both the first address and the last one.
fn lets_all(block: &IPBlock) -> bool {
    let ends = [Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST];
    ends.iter().all(|end| contains(&block.cidr, *end)) && block.except.iter().flatten().next().is_none()
}

/// Whether a range has the address; one of IPv6, or one that cannot be read, has not.
fn contains(cidr: &str, address: Ipv4Addr) -> bool {
    let range = || {
        let (first, length) = cidr.split_once('/')?;
        let free = 32_u32.checked_sub(length.parse().ok()?)?;
        Some((first.parse::<Ipv4Addr>().ok()?, free))
    };
    range().is_some_and(|(first, free)| {
        let differ = first.to_bits() ^ address.to_bits();
        // All 32 bits are free in the range of all.
        differ.checked_shr(free).unwrap_or(0) == 0
    })
}

/// No ports are all ports; a port by name may be any.
fn lets_port(ports: Option<&[NetworkPolicyPort]>, wanted: i32) -> bool {
    ports.is_none_or(|ports| {
        ports.is_empty()
            || ports.iter().any(|port| match (&port.port, port.end_port) {
                (Some(IntOrString::Int(first)), last) => (*first..=last.unwrap_or(*first)).contains(&wanted),
                (Some(IntOrString::String(_)) | None, _) => true,
            })
    })
}

fn selects(selector: &LabelSelector, labels: &Labels) -> bool {
    let equal = selector
        .match_labels
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    let expressions = selector.match_expressions.iter().flatten();
    equal
        && expressions.into_iter().all(|expression| {
            let value = labels.get(&expression.key);
            let listed =
                value.is_some_and(|value| expression.values.iter().flatten().any(|one| one == value));
            match expression.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => value.is_some(),
                _ => value.is_none(),
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::plan;
    use crate::result::CheckStatus::{CouldNotTell, Warning};
    use crate::scenario::catalogue;

    fn plan_of(scenario: &str) -> Plan {
        let mut plan = plan(None);
        plan.scenarios = vec![catalogue::find(scenario).unwrap().clone()];
        plan
    }

    fn policy(spec: &str) -> NetworkPolicy {
        let spec: serde_json::Value = serde_json::from_str(spec).unwrap();
        serde_json::from_value(serde_json::json!({ "spec": spec })).unwrap()
    }

    /// Lets pods reach each other, and these blocks.
    fn blocks(blocks: &[&str]) -> NetworkPolicy {
        let peers: Vec<String> = blocks
            .iter()
            .map(|block| format!(r#", {{"ipBlock": {block}}}"#))
            .collect();
        policy(&format!(
            r#"{{"podSelector": {{}}, "policyTypes": ["Egress"], "egress": [{{"to": [{{"podSelector": {{}}}}{}]}}]}}"#,
            peers.concat()
        ))
    }

    fn cut_by(scenario: &str, specs: &[&str]) -> Vec<String> {
        let policies: Vec<NetworkPolicy> = specs.iter().map(|spec| policy(spec)).collect();
        cut(&plan_of(scenario), &policies).0
    }

    const DENY_EGRESS: &str = r#"{"podSelector": {}, "policyTypes": ["Egress"]}"#;
    const DENY_INGRESS: &str = r#"{"podSelector": {}, "policyTypes": ["Ingress"]}"#;
    const DNS: &str = r#"{"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": [{"port": 53, "protocol": "UDP"}]}]}"#;

    #[test]
    fn what_policies_cut_is_named() {
        let to_victim = "the attacker's way to the victim";
        let to_attacker = "the victim's way to the attacker";
        let (dns, victim_dns) = ("the attacker's DNS", "the victim's DNS");
        for (scenario, specs, expected) in [
            ("webshell", &[][..], &[][..]),
            ("webshell", &[DENY_INGRESS], &[]),
            ("webshell", &[DENY_EGRESS], &[to_victim, dns]),
            ("webshell", &[DNS], &[to_victim]),
            ("crypto", &[DENY_INGRESS], &[to_attacker]),
            (
                "crypto",
                &[DENY_EGRESS],
                &[to_victim, dns, victim_dns, to_attacker],
            ),
            (
                "ti-domain",
                &[DNS],
                &[
                    to_victim,
                    "the victim's way to mdc-eicar.alerts.security.azure.com:80",
                ],
            ),
            // Policies add up.
            (
                "ti-domain",
                &[DENY_EGRESS, r#"{"podSelector": {}, "egress": [{}]}"#],
                &[],
            ),
            (
                "lateral-mov",
                &[
                    r#"{"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]}"#,
                ],
                &[],
            ),
            // Between the pods of the namespace.
            (
                "crypto",
                &[
                    DNS,
                    r#"{"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"podSelector": {}}]}]}"#,
                ],
                &[],
            ),
            // One that does not say what it is about is about what comes in, too.
            (
                "crypto",
                &[r#"{"podSelector": {}, "egress": [{}]}"#],
                &[to_attacker],
            ),
            (
                "crypto",
                &[
                    DENY_INGRESS,
                    r#"{"podSelector": {}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"app.kubernetes.io/component": "mdc-simulation-victim"}}}]}]}"#,
                ],
                &[],
            ),
            (
                "crypto",
                &[
                    DENY_INGRESS,
                    r#"{"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 443}]}]}"#,
                ],
                &[to_attacker],
            ),
            (
                "webshell",
                &[
                    r#"{"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"podSelector": {}}], "ports": [{"port": 1, "endPort": 90}]}]}"#,
                ],
                &[],
            ),
            // Pods of others.
            (
                "webshell",
                &[r#"{"podSelector": {"matchLabels": {"app": "x"}}, "policyTypes": ["Egress"]}"#],
                &[],
            ),
            (
                "webshell",
                &[
                    r#"{"podSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}, "policyTypes": ["Egress"]}"#,
                ],
                &[],
            ),
            (
                "webshell",
                &[
                    r#"{"podSelector": {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}, {"key": "a", "operator": "NotIn", "values": ["b"]}, {"key": "app.kubernetes.io/part-of", "operator": "In", "values": ["mdc-simulation"]}]}, "policyTypes": ["Egress"]}"#,
                ],
                &[to_victim, dns],
            ),
        ] {
            assert_eq!(cut_by(scenario, specs), expected, "{scenario} {specs:?}");
        }
    }

    /// A scenario, blocks, what they cut, and what is not known.
    type Case<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a [&'a str]);

    #[test]
    fn blocks_let_through_what_they_contain() {
        const ALL: &str = r#"{"cidr": "0.0.0.0/0"}"#;
        const BUT_METADATA: &str = r#"{"cidr": "0.0.0.0/0", "except": ["169.254.169.254/32"]}"#;
        const PRIVATE: &str = r#"{"cidr": "10.0.0.0/8"}"#;
        const ALL_OF_IPV6: &str = r#"{"cidr": "::/0"}"#;
        let metadata: &[&str] = &["the victim's way to 169.254.169.254:80"];
        let domain: &[&str] = &["the victim's way to mdc-eicar.alerts.security.azure.com:80"];
        let kubernetes: &[&str] = &[
            "the victim's way to kubernetes.default:443",
            "the victim's way to kubernetes.default/24, port 443",
        ];
        let cases: [Case; 17] = [
            ("lateral-mov", &[], metadata, &[]),
            ("lateral-mov", &[ALL], &[], &[]),
            ("lateral-mov", &[BUT_METADATA], metadata, &[]),
            ("lateral-mov", &[PRIVATE], metadata, &[]),
            ("lateral-mov", &[ALL_OF_IPV6], metadata, &[]),
            // Peers add up.
            (
                "lateral-mov",
                &[BUT_METADATA, r#"{"cidr": "169.254.0.0/16"}"#],
                &[],
                &[],
            ),
            ("lateral-mov", &[r#"{"cidr": "169.254.169.254/32"}"#], &[], &[]),
            (
                "lateral-mov",
                &[r#"{"cidr": "169.254.169.255/32"}"#],
                metadata,
                &[],
            ),
            (
                "lateral-mov",
                &[r#"{"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "169.254.0.0/16"]}"#],
                metadata,
                &[],
            ),
            (
                "lateral-mov",
                &[r#"{"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}"#],
                &[],
                &[],
            ),
            (
                "lateral-mov",
                &[
                    r#"{"cidr": "169.254.169.254/33"}"#,
                    r#"{"cidr": "169.254.169.254"}"#,
                ],
                metadata,
                &[],
            ),
            // Where a name leads is known only to be in the block of all.
            ("ti-domain", &[ALL], &[], &[]),
            ("ti-domain", &[ALL, ALL_OF_IPV6, PRIVATE], &[], &[]),
            ("ti-domain", &[BUT_METADATA], &[], domain),
            ("ti-domain", &[ALL_OF_IPV6], &[], domain),
            ("recon", &[PRIVATE], &[], kubernetes),
            ("recon", &[], kubernetes, &[]),
        ];
        for (scenario, peers, expected, expected_not_known) in cases {
            let (cut, not_known) = cut(&plan_of(scenario), &[blocks(peers)]);
            assert_eq!(cut, expected, "{scenario} {peers:?}");
            assert_eq!(not_known, expected_not_known, "{scenario} {peers:?}");
        }
    }

    #[test]
    fn a_block_may_be_for_pods_too() {
        let to = r#"{"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 80}, {"port": 53}]}]}"#;
        let from = r#"{"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]}"#;
        let (to_victim, to_attacker) = (
            "the attacker's way to the victim",
            "the victim's way to the attacker",
        );
        for (specs, expected) in [
            (&[to][..], &[to_victim, to_attacker][..]),
            (&[from], &[to_attacker]),
            (&[from, DENY_INGRESS], &[to_attacker]),
            // One of another port is for nobody.
            (
                &[
                    r#"{"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 81}]}]}"#,
                ],
                &[],
            ),
        ] {
            let policies: Vec<NetworkPolicy> = specs.iter().map(|spec| policy(spec)).collect();
            let (_, not_known) = cut(&plan_of("crypto"), &policies);
            assert_eq!(not_known, expected, "{specs:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_said() {
        let unseen = "; whether there are policies of another kind could not be seen";
        let domain = "; whether address blocks let through the victim's way to mdc-eicar.alerts.security.azure.com:80 is not known";
        let private = blocks(&[r#"{"cidr": "10.0.0.0/8"}"#]);
        let none = "1 policy in namespace mdc-simulation, none known to be in the way";
        let finding = judge(&plan_of("ti-domain"), std::slice::from_ref(&private), Some(&[]));
        assert_eq!(finding, Finding::unknown(format!("{none}{domain}")));
        let finding = judge(&plan_of("ti-domain"), std::slice::from_ref(&private), None);
        assert_eq!(finding, Finding::unknown(format!("{none}{domain}{unseen}")));
        // What is cut does not hide it.
        let mut plan = plan_of("ti-domain");
        plan.scenarios.extend(plan_of("lateral-mov").scenarios);
        let finding = judge(&plan, &[private], None);
        assert_eq!(finding.status, Warning);
        assert_eq!(
            finding.message,
            format!(
                "where the network keeps to them, they cut the victim's way to 169.254.169.254:80{domain}{unseen}"
            )
        );
    }

    #[test]
    fn policies_of_others_are_said_to_be_unread() {
        let deny = policy(DENY_EGRESS);
        let groups: Vec<String> = ["apps", "cilium.io", "crd.projectcalico.org", "projectcalico.org"]
            .map(str::to_owned)
            .into();
        let finding = judge(&plan(None), &[], Some(&groups));
        assert_eq!(finding.status, CouldNotTell);
        assert_eq!(
            finding.message,
            "0 policies in namespace mdc-simulation, none known to be in the way; those of Cilium and Calico are not read"
        );
        let finding = judge(&plan(None), &[], Some(&groups[..1]));
        assert_eq!(
            finding,
            Finding::ok("0 policies in namespace mdc-simulation, none in the way")
        );
        let finding = judge(&plan(None), &[deny], Some(&[]));
        assert_eq!(finding.status, Warning);
        assert!(
            finding
                .message
                .contains("they cut the attacker's way to the victim, "),
            "{finding:?}"
        );
    }
}
