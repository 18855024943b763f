//! Checks that a node takes the pods of a run, as the scheduler does, except for free capacity.

use std::collections::BTreeMap;

use crate::doctor::finding::{Checked, Finding};
use crate::doctor::snapshot::Snapshot;
use crate::engine::{Chosen, choose, describe_uncovered};
use crate::node::{Node, Refusal};
use crate::plan::Group;
use crate::result::CheckStatus;
use crate::words::{counted, first_few};

const ON_DEMAND: &str = "if the cluster autoscales, a run may add one";

pub(super) async fn check(snapshot: &Snapshot) -> Checked {
    let nodes = snapshot.nodes().await?;
    let finding = judge(nodes);
    match &snapshot.plan.options.cover {
        Some(cover) if finding.status == CheckStatus::Ok => {
            Ok(judge_groups(&choose(nodes, cover, snapshot.cluster.kubectl())))
        }
        _ => Ok(finding),
    }
}

/// Judges which groups of nodes a run covers.
fn judge_groups(chosen: &Chosen) -> Finding {
    let names: Vec<String> = chosen.groups.iter().map(Group::to_string).collect();
    let all = counted(names.len() + chosen.uncovered.len(), "group");
    let uncovered: Vec<String> = chosen.uncovered.iter().map(describe_uncovered).collect();
    match (names.len(), uncovered.len()) {
        (0, _) => Finding::failed(format!("none of {all} can be covered: {}", uncovered.join("; "))),
        (_, 0) => Finding::ok(format!(
            "a run covers each of {all} of nodes: {}",
            first_few(&names)
        )),
        (covered, _) => Finding::warning(format!(
            "a run covers {covered} of {all} of nodes, not {}",
            uncovered.join("; nor ")
        )),
    }
}

fn judge(nodes: &[Node]) -> Finding {
    let mut architectures: BTreeMap<&str, usize> = BTreeMap::new();
    let mut refusals: BTreeMap<&Refusal, usize> = BTreeMap::new();
    for node in nodes {
        match &node.refusal {
            Some(refusal) => *refusals.entry(refusal).or_default() += 1,
            None => *architectures.entry(&node.arch).or_default() += 1,
        }
    }
    let usable: usize = architectures.values().sum();
    let refused: Vec<String> = refusals
        .iter()
        .map(|(refusal, number)| format!("{number} {refusal}"))
        .collect();
    let refused = first_few(&refused);
    let all = counted(nodes.len(), "node");
    if usable > 0 {
        let architectures: Vec<String> = architectures
            .iter()
            .map(|(arch, number)| format!("{number} {arch}"))
            .collect();
        let rest = if refused.is_empty() {
            String::new()
        } else {
            format!("; the others: {refused}")
        };
        return Finding::ok(format!(
            "{usable} of {all} can take the pods ({}){rest}",
            architectures.join(", ")
        ));
    }
    // The most frequent reason, preferably of nodes that have the right labels and architecture.
    let by_use = |(refusal, number): &(&&Refusal, &usize)| (refusal.is_of_pool(), **number);
    let Some((refusal, _)) = refusals.iter().max_by_key(by_use) else {
        return Finding::unknown("there are no nodes").advise(format!("add a Linux node; {ON_DEMAND}"));
    };
    let node = nodes.iter().find(|node| node.refusal.as_ref() == Some(*refusal));
    let message = format!("none of {all} takes the pods: {refused}");
    let (advice, command) = refusal.advice(node.map_or("NODE", |node| &node.name));
    // If every Linux node is reserved for other pods, an autoscaler may still add one that is not.
    let mut linux = refusals
        .keys()
        .filter(|refusal| !matches!(refusal, Refusal::NotLinux))
        .peekable();
    let is_reserved = |refusal: &&Refusal| matches!(refusal, Refusal::Taint(_) | Refusal::Selector);
    if linux.peek().is_some() && linux.all(is_reserved) {
        return Finding::unknown(message).suggest(format!("{ON_DEMAND}; otherwise: {advice}"), command);
    }
    Finding::failed(message).suggest(advice, command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::CheckStatus::{Failed, Ok, Unknown};

    #[test]
    fn one_usable_node_is_enough() {
        let of = |refusal: Option<Refusal>| Node {
            name: "n".into(),
            arch: "arm64".into(),
            group: None,
            refusal,
            has: [false; 2],
        };
        let taint = || Some(Refusal::Taint("a:NoSchedule".into()));
        for (refusals, status, start) in [
            (vec![None], Ok, "1 of 1 node can take the pods (1 arm64) "),
            (
                vec![None, taint(), Some(Refusal::NotReady)],
                Ok,
                "1 of 3 nodes can take the pods (1 arm64); the others: 1 not ready, 1 tainted a:NoSchedule ",
            ),
            (
                vec![taint(), taint(), Some(Refusal::Cordoned)],
                Failed,
                "none of 3 nodes takes the pods: 1 cordoned, 2 tainted a:NoSchedule to tolerate the taint: --toleration=a:NoSchedule",
            ),
            (
                vec![taint(), taint(), Some(Refusal::Selector), Some(Refusal::NotLinux)],
                Unknown,
                "none of 4 nodes takes the pods: 1 not Linux, 1 without the labels of --node-selector, 2 tainted \
                 a:NoSchedule if the cluster autoscales, a run may add one; otherwise: to tolerate the taint: \
                 --toleration=a:NoSchedule",
            ),
            (
                vec![Some(Refusal::Selector), Some(Refusal::Selector), taint()],
                Unknown,
                "none of 3 nodes takes the pods: 2 without the labels of --node-selector, 1 tainted a:NoSchedule \
                 if the cluster autoscales, a run may add one; otherwise: to tolerate the taint: \
                 --toleration=a:NoSchedule",
            ),
            (
                vec![
                    Some(Refusal::Selector),
                    Some(Refusal::Selector),
                    Some(Refusal::NotReady),
                ],
                Failed,
                "none of 3 nodes takes the pods: 2 without the labels of --node-selector, 1 not ready kubectl describe \
                 node n",
            ),
            (
                vec![Some(Refusal::NotReady), Some(Refusal::NotReady), taint()],
                Failed,
                "none of 3 nodes takes the pods: 2 not ready, 1 tainted a:NoSchedule kubectl describe node n",
            ),
            (
                vec![Some(Refusal::NotLinux)],
                Failed,
                "none of 1 node takes the pods: 1 not Linux add a Linux node",
            ),
            (
                vec![],
                Unknown,
                "there are no nodes add a Linux node; if the cluster autoscales",
            ),
        ] {
            let nodes: Vec<Node> = refusals.into_iter().map(of).collect();
            let finding = judge(&nodes);
            assert_eq!(finding.status, status, "{finding:?}");
            let text = finding.text();
            assert!(text.starts_with(start), "{text}");
        }
    }
}
