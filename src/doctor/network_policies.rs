//! Would network policies of the namespace cut the scenarios? Only those of Kubernetes itself are read, and
//! whether the network keeps to them is not seen from here.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::look::Look;
use super::{Checked, Finding, counted};
use crate::manifest::{self, ATTACKER, VICTIM};
use crate::plan::Plan;

/// API groups with network policies that are not read, and whose they are.
const NOT_READ: [(&str, &str); 4] = [
    ("cilium.io", "Cilium"),
    ("crd.projectcalico.org", "Calico"),
    ("projectcalico.org", "Calico"),
    ("policy.networking.k8s.io", "cluster network policies"),
];

type Labels = BTreeMap<String, String>;

pub(super) async fn check(look: &Look) -> Checked {
    let name = look.plan.namespace.name.as_str();
    let (groups, found) = futures::join!(look.cluster.api_groups(), look.namespace());
    if found?.is_none() {
        return Ok(Finding::not_applicable(format!(
            "namespace {name} does not exist yet"
        )));
    }
    let policies = look.cluster.all::<NetworkPolicy>(Some(name)).await?;
    Ok(judge(&look.plan, &policies, groups.ok().as_deref()))
}

fn judge(plan: &Plan, policies: &[NetworkPolicy], groups: Option<&[String]>) -> Finding {
    let mut unread: Vec<&str> = NOT_READ
        .iter()
        .filter(|(group, _)| groups.into_iter().flatten().any(|served| served == group))
        .map(|(_, whose)| *whose)
        .collect();
    unread.dedup();
    let unread = if groups.is_none() {
        "; whether there are policies of another kind could not be seen".to_owned()
    } else if unread.is_empty() {
        String::new()
    } else {
        format!("; those of {} are not read", unread.join(" and "))
    };
    let (cut, not_known) = cut(plan, policies);
    let not_known = if not_known.is_empty() {
        String::new()
    } else {
        format!(
            "; whether address blocks let the victim reach {} is not known",
            not_known.join(" and ")
        )
    };
    let name = &plan.namespace.name;
    if cut.is_empty() {
        let number = counted(policies.len(), "policy").replace("policys", "policies");
        return Finding::ok(format!(
            "{number} in namespace {name}, none in the way{not_known}{unread}"
        ));
    }
    Finding::warning(format!("where the network keeps to them, they cut {}{not_known}{unread}", cut.join(", "))).advise(format!(
        "allow it for pods with the label app.kubernetes.io/part-of=mdc-simulation; see: kubectl get networkpolicies -n {name} -o yaml"
    ))
}

/// What a connection of a run goes to.
enum Way<'a> {
    /// The other pod of the run, at port 80.
    Pod(&'a Labels),
    /// The cluster's DNS.
    Dns,
    /// Anything else, at this port; its address, where it is not a name.
    Outside(Option<Ipv4Addr>, i32),
    /// Every address there is, at this port.
    Anywhere(i32),
}

/// Connections of the run that policies do not let through, and addresses of which that is not known.
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
        let through = leaves(&specs, &victim, &Way::Pod(&attacker)) && enters(&specs, &attacker, &victim);
        ways.push(("the victim's way to the attacker".to_owned(), through));
    }
    let mut not_known = vec![];
    for address in addresses.iter().filter(|address| !of_attacker(address)) {
        let (literal, port) = (literal(address), port(address));
        let through = leaves(&specs, &victim, &Way::Outside(literal, port));
        if through && literal.is_none() && !leaves(&specs, &victim, &Way::Anywhere(port)) {
            not_known.push(address.clone());
        }
        ways.push((format!("the victim's way to {address}"), through));
    }
    let cut = ways
        .into_iter()
        .filter(|(_, through)| !through)
        .map(|(way, _)| way)
        .collect();
    (cut, not_known)
}

/// The address itself, where it is not a name or a range.
fn literal(address: &str) -> Option<Ipv4Addr> {
    let host = address.split_once(':').map_or(address, |(host, _)| host);
    host.parse().ok()
}

/// The number at the end of an address: scenarios write `host:80` and `range, port 443`.
fn port(address: &str) -> i32 {
    let number = address.rsplit(|c: char| !c.is_ascii_digit()).next();
    number.and_then(|number| number.parse().ok()).unwrap_or(80)
}

/// Whether a pod with these labels may send there. A pod that no policy selects may.
fn leaves(specs: &[&NetworkPolicySpec], pod: &Labels, way: &Way) -> bool {
    let mut of_pod = specs
        .iter()
        .filter(|spec| restricts(spec, "Egress") && selects_pod(spec, pod))
        .peekable();
    of_pod.peek().is_none()
        || of_pod.flat_map(|spec| spec.egress.iter().flatten()).any(|rule| {
            let (peers, ports) = (rule.to.as_deref(), rule.ports.as_deref());
            match way {
                Way::Pod(labels) => lets_pod(peers, labels) && lets_port(ports, 80),
                // Where the DNS is, differs: whatever is let through at its port is taken to be it.
                Way::Dns => lets_port(ports, 53),
                // Where a name leads is not looked up: any block is taken to let it through.
                Way::Outside(to, port) => {
                    let lets = |block: &IPBlock| to.is_none_or(|to| lets_address(block, to));
                    lets_out(peers, lets) && lets_port(ports, *port)
                }
                Way::Anywhere(port) => lets_out(peers, lets_all) && lets_port(ports, *port),
            }
        })
}

/// Whether a pod may receive from another one at port 80.
fn enters(specs: &[&NetworkPolicySpec], pod: &Labels, from: &Labels) -> bool {
    let mut of_pod = specs
        .iter()
        .filter(|spec| restricts(spec, "Ingress") && selects_pod(spec, pod))
        .peekable();
    of_pod.peek().is_none()
        || of_pod
            .flat_map(|spec| spec.ingress.iter().flatten())
            .any(|rule| lets_pod(rule.from.as_deref(), from) && lets_port(rule.ports.as_deref(), 80))
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

/// No peers are all peers. What a selector of namespaces means is not looked up: it is taken to fit.
fn lets_pod(peers: Option<&[NetworkPolicyPeer]>, labels: &Labels) -> bool {
    peers.is_none_or(|peers| {
        peers.is_empty()
            || peers.iter().any(|peer| {
                peer.ip_block.is_none()
                    && peer
                        .pod_selector
                        .as_ref()
                        .is_none_or(|selector| selects(selector, labels))
            })
    })
}

/// No peers are all peers; of the others, only blocks of addresses are outside.
fn lets_out(peers: Option<&[NetworkPolicyPeer]>, lets: impl Fn(&IPBlock) -> bool) -> bool {
    peers.is_none_or(|peers| {
        peers.is_empty() || peers.iter().any(|peer| peer.ip_block.as_ref().is_some_and(&lets))
    })
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
    use crate::result::CheckStatus::{Ok, Warning};
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
                &[to_victim],
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
        let domain: &[&str] = &["mdc-eicar.alerts.security.azure.com:80"];
        let kubernetes: &[&str] = &["kubernetes.default:443", "kubernetes.default/24, port 443"];
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
            (
                "recon",
                &[],
                &[
                    "the victim's way to kubernetes.default:443",
                    "the victim's way to kubernetes.default/24, port 443",
                ],
                &[],
            ),
        ];
        for (scenario, peers, expected, expected_not_known) in cases {
            let (cut, not_known) = cut(&plan_of(scenario), &[blocks(peers)]);
            assert_eq!(cut, expected, "{scenario} {peers:?}");
            assert_eq!(not_known, expected_not_known, "{scenario} {peers:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_said() {
        let unseen = "; whether there are policies of another kind could not be seen";
        let domain = "; whether address blocks let the victim reach mdc-eicar.alerts.security.azure.com:80 is not known";
        let private = blocks(&[r#"{"cidr": "10.0.0.0/8"}"#]);
        let none = "1 policy in namespace mdc-simulation, none in the way";
        let finding = judge(&plan_of("ti-domain"), std::slice::from_ref(&private), Some(&[]));
        assert_eq!(finding, Finding::ok(format!("{none}{domain}")));
        let finding = judge(&plan_of("ti-domain"), std::slice::from_ref(&private), None);
        assert_eq!(finding, Finding::ok(format!("{none}{domain}{unseen}")));
        // What is cut does not hide it.
        let mut plan = plan_of("ti-domain");
        plan.scenarios.extend(plan_of("lateral-mov").scenarios);
        let finding = judge(&plan, &[private], None);
        assert_eq!(finding.status, Warning);
        assert_eq!(
            finding.seen,
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
        assert_eq!(finding.status, Ok);
        assert_eq!(
            finding.seen,
            "0 policies in namespace mdc-simulation, none in the way; those of Cilium and Calico are not read"
        );
        let finding = judge(&plan(None), &[deny], Some(&[]));
        assert_eq!(finding.status, Warning);
        assert!(
            finding
                .seen
                .contains("they cut the attacker's way to the victim, "),
            "{finding:?}"
        );
    }
}
