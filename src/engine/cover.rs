//! Chooses the groups of nodes that get a victim, and says why others get none.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1 as core;

use super::prepare::hint_grant;
use crate::cluster::{Cluster, Selectors};
use crate::error::Error;
use crate::kubectl::Kubectl;
use crate::manifest::rights::{self, NamespaceUse};
use crate::net::Cause;
use crate::node::{Node, RawNode, Refusal};
use crate::plan::{Cover, Group, POOL_LABELS, Plan, Uncovered};
use crate::untrusted;

/// Architecture that is preferred if another one covers as many groups.
const PREFERRED: &str = "amd64";

/// Reads the nodes of a cluster and gives each group of them a victim, if the plan asks for that and attacks pods.
///
/// # Errors
/// Fails if the nodes cannot be listed, or if no group can be covered.
pub async fn cover(cluster: &Cluster, plan: &mut Plan) -> Result<(), Error> {
    let Some(cover) = plan.options.cover.clone().filter(|_| !plan.victims.is_empty()) else {
        return Ok(());
    };
    let mut nodes = vec![];
    let options = &plan.options;
    let listed = cluster
        .for_each::<core::Node, RawNode>(None, Selectors::default(), |raw| {
            nodes.push(Node::new(raw, options, &[None, None]));
        })
        .await;
    if let Err(error) = listed {
        return Err(match error.explained.cause {
            Cause::Forbidden => forbidden(cluster, &plan.namespace.name).await,
            _ => error.into(),
        });
    }
    let chosen = choose(&nodes, &cover, cluster.kubectl());
    let Some(arch) = chosen.arch else {
        return Err(Error::NothingCovered {
            groups: chosen.uncovered.iter().map(describe_uncovered).collect(),
        });
    };
    plan.cover(chosen.groups, arch, chosen.uncovered);
    Ok(())
}

/// Returns the error that the nodes may not be listed.
async fn forbidden(cluster: &Cluster, namespace: &str) -> Error {
    let user = cluster.whoami().await.ok().flatten();
    let (right, create) = (rights::LIST_NODES, NamespaceUse::Create);
    Error::MissingRights {
        hint: hint_grant(&right, create, namespace, user.as_deref(), cluster.kubectl()),
        namespace: namespace.to_owned(),
        missing: vec![right],
    }
}

/// Formats a group without a victim, and the reason.
pub(crate) fn describe_uncovered(uncovered: &Uncovered) -> String {
    format!("{}: {}", uncovered.group, uncovered.reason)
}

/// The groups that get a victim, and the others.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Chosen {
    /// Those that get one.
    pub groups: Vec<Group>,
    /// The architecture of their nodes; `None` if no group gets a victim.
    pub arch: Option<String>,
    /// Those that get none.
    pub uncovered: Vec<Uncovered>,
}

/// The nodes of a group.
#[derive(Default)]
struct Nodes<'a> {
    number: usize,
    /// Architectures of those that take the pods of a run.
    architectures: BTreeSet<&'a str>,
    /// Why others do not, with the name of one of them and their number.
    refusals: BTreeMap<&'a Refusal, (&'a str, usize)>,
}

/// Chooses the groups of nodes that get a victim.
pub(crate) fn choose(nodes: &[Node], cover: &Cover, kubectl: &Kubectl) -> Chosen {
    let mut groups: BTreeMap<Option<&Group>, Nodes> = BTreeMap::new();
    for node in nodes {
        let group = groups.entry(node.group.as_ref()).or_default();
        group.number += 1;
        match &node.refusal {
            None => drop(group.architectures.insert(&node.arch)),
            Some(refusal) => group.refusals.entry(refusal).or_insert((&node.name, 0)).1 += 1,
        }
    }
    let mut architectures: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, group) in groups.iter().filter(|(group, _)| group.is_some()) {
        for arch in &group.architectures {
            *architectures.entry(arch).or_default() += 1;
        }
    }
    let by_use = |(arch, number): &(&str, usize)| (*number, *arch == PREFERRED);
    let arch = architectures.into_iter().max_by_key(by_use).map(|(arch, _)| arch);
    let mut chosen = Chosen {
        arch: arch.map(str::to_owned),
        ..Chosen::default()
    };
    for (group, nodes) in groups {
        let (group, reason) = match group {
            Some(group) if arch.is_some_and(|arch| nodes.architectures.contains(arch)) => {
                chosen.groups.push(group.clone());
                continue;
            }
            Some(group) => (untrusted::line(&group.to_string()), nodes.reason(kubectl)),
            None => ("without a group".to_owned(), without_label(cover)),
        };
        chosen.uncovered.push(Uncovered {
            group,
            nodes: nodes.number,
            reason,
        });
    }
    chosen
}

impl Nodes<'_> {
    /// Returns why none of the nodes gets a victim: the most frequent reason, preferably of nodes that `--node-selector`
    /// does not exclude, with advice.
    fn reason(&self, kubectl: &Kubectl) -> String {
        if let Some(arch) = self.architectures.first() {
            return format!(
                "{arch}, unlike the nodes of most groups; cover it in another run: \
                 --node-selector=kubernetes.io/arch={arch}"
            );
        }
        let by_use = |(refusal, (_, number)): &(&&Refusal, &(&str, usize))| (refusal.is_of_pool(), *number);
        let Some((refusal, (node, _))) = self.refusals.iter().max_by_key(by_use) else {
            return "it has no nodes".to_owned();
        };
        let reason = untrusted::line(&refusal.to_string());
        if !refusal.is_of_pool() {
            return reason;
        }
        let (advice, words) = refusal.advice(node);
        let command = (!words.is_empty()).then(|| kubectl.command(words));
        let advice = [Some(advice).filter(|advice| !advice.is_empty()), command];
        let advice: Vec<String> = advice.into_iter().flatten().collect();
        format!("{reason}; {}", untrusted::line(&advice.join(" ")))
    }
}

/// Returns why a node is in no group.
fn without_label(cover: &Cover) -> String {
    match cover {
        Cover::Node => "it has no name".to_owned(),
        Cover::NodePool => format!(
            "no label of a node pool ({}); name a label of your own: --cover=KEY",
            POOL_LABELS.join(", ")
        ),
        Cover::Label(key) => format!("no label {key}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, pool: Option<&str>, arch: &str, refusal: Option<Refusal>) -> Node {
        Node {
            name: name.to_owned(),
            arch: arch.to_owned(),
            group: pool.map(|value| Group::Label {
                key: "pool".to_owned(),
                value: value.to_owned(),
            }),
            refusal,
            has: [false; 2],
        }
    }

    fn chosen(nodes: &[Node]) -> (Vec<String>, Option<String>, Vec<String>) {
        let chosen = choose(nodes, &Cover::NodePool, &Kubectl::default());
        (
            chosen.groups.iter().map(Group::to_string).collect(),
            chosen.arch,
            chosen
                .uncovered
                .iter()
                .map(|uncovered| format!("{} {}", uncovered.nodes, describe_uncovered(uncovered)))
                .collect(),
        )
    }

    #[test]
    fn group_with_one_usable_node_is_covered() {
        let (groups, arch, uncovered) = chosen(&[
            node("a1", Some("a"), "amd64", Some(Refusal::NotReady)),
            node("a2", Some("a"), "amd64", None),
            node("b1", Some("b"), "arm64", None),
            node("b2", Some("b"), "amd64", None),
        ]);
        assert_eq!(groups, ["a", "b"]);
        assert_eq!(arch.as_deref(), Some("amd64"));
        assert!(uncovered.is_empty(), "{uncovered:?}");
    }

    #[test]
    fn group_without_victim_has_its_reason() {
        let (groups, _, uncovered) = chosen(&[
            node("a", Some("a"), "amd64", None),
            node("b", Some("b"), "arm64", None),
            node(
                "g1",
                Some("gpu"),
                "amd64",
                Some(Refusal::Taint("sku=gpu:NoSchedule".into())),
            ),
            node(
                "g2",
                Some("gpu"),
                "amd64",
                Some(Refusal::Taint("sku=gpu:NoSchedule".into())),
            ),
            node("g3", Some("gpu"), "amd64", Some(Refusal::NotReady)),
            node("s", Some("silent"), "amd64", Some(Refusal::NotReady)),
            node("v", Some("virtual"), "amd64", Some(Refusal::Virtual)),
            node("w", Some("windows"), "amd64", Some(Refusal::NotLinux)),
            node("x", None, "amd64", None),
        ]);
        assert_eq!(groups, ["a"]);
        let expected = [
            format!("1 without a group: {}", without_label(&Cover::NodePool)),
            "1 b: arm64, unlike the nodes of most groups; cover it in another run: \
             --node-selector=kubernetes.io/arch=arm64"
                .to_owned(),
            "3 gpu: tainted sku=gpu:NoSchedule; to tolerate the taint: --toleration=sku=gpu:NoSchedule"
                .to_owned(),
            "1 silent: not ready; kubectl describe node s".to_owned(),
            "1 virtual: a virtual node".to_owned(),
            "1 windows: not Linux".to_owned(),
        ];
        assert_eq!(uncovered, expected);
    }

    #[test]
    fn nothing_is_covered_without_a_usable_node() {
        let (groups, arch, uncovered) = chosen(&[node("x", None, "amd64", None)]);
        assert_eq!((groups.len(), arch, uncovered.len()), (0, None, 1));
        let (groups, arch, _) = chosen(&[]);
        assert_eq!((groups.len(), arch), (0, None));
    }
}
