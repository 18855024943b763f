//! Is there a node that takes the pods of a run? Judged as the scheduler does, but for free room.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Taint;

use super::look::{Look, Node};
use super::{Checked, Finding};
use crate::plan::{Fit, Toleration};
use crate::words::{counted, first_few};

/// Architectures that the victim asks for.
const ARCHITECTURES: [&str; 2] = ["amd64", "arm64"];

const ON_DEMAND: &str = "where nodes come on demand, a run may bring one";

/// Why a node does not take the pods of a run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Refusal {
    /// Another operating system.
    NotLinux,
    /// Neither amd64 nor arm64.
    Architecture,
    /// A label that `--node-selector` asks for is missing.
    Selector,
    /// Nothing new is scheduled there.
    Cordoned,
    /// It is not ready.
    NotReady,
    /// It has this taint, which the pods do not tolerate.
    Taint(String),
}

/// As it is told, behind a number of nodes: `not ready`.
impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::NotLinux => f.write_str("not Linux"),
            Refusal::Architecture => f.write_str("neither amd64 nor arm64"),
            Refusal::Selector => f.write_str("without the labels of --node-selector"),
            Refusal::Cordoned => f.write_str("cordoned"),
            Refusal::NotReady => f.write_str("not ready"),
            Refusal::Taint(taint) => write!(f, "tainted {taint}"),
        }
    }
}

impl Refusal {
    /// The first reason that there is.
    pub fn of(
        labels: &BTreeMap<String, String>,
        taints: &[Taint],
        schedulable: bool,
        ready: bool,
        fit: &Fit,
    ) -> Option<Self> {
        let label = |key: &str| labels.get(key).map_or("", String::as_str);
        let selected = |(key, value): (&String, &String)| labels.get(key) == Some(value);
        let keeps_off = |taint: &&Taint| {
            taint.effect != "PreferNoSchedule" && !fit.tolerations.iter().any(|t| tolerates(t, taint))
        };
        if label("kubernetes.io/os") != "linux" {
            Some(Refusal::NotLinux)
        } else if !ARCHITECTURES.contains(&label("kubernetes.io/arch")) {
            Some(Refusal::Architecture)
        } else if !fit.node_selector.iter().all(selected) {
            Some(Refusal::Selector)
        } else if !schedulable {
            Some(Refusal::Cordoned)
        } else if !ready {
            Some(Refusal::NotReady)
        } else {
            taints.iter().find(keeps_off).map(|taint| {
                let value = taint.value.as_ref().map(|value| format!("={value}"));
                let Taint { key, effect, .. } = taint;
                Refusal::Taint(format!("{key}{}:{effect}", value.unwrap_or_default()))
            })
        }
    }

    /// Whether the node has what `--node-selector` and the images ask for.
    fn is_of_pool(&self) -> bool {
        matches!(self, Refusal::Cordoned | Refusal::NotReady | Refusal::Taint(_))
    }

    /// What to do about it on `node`, and the words of a kubectl command for that.
    fn advice<'a>(&self, node: &'a str) -> (String, Vec<&'a str>) {
        match self {
            Refusal::Taint(taint) => (format!("to let the pods there: --toleration={taint}"), vec![]),
            Refusal::Selector => ("compare with".to_owned(), vec!["get", "nodes", "--show-labels"]),
            Refusal::Cordoned => (String::new(), vec!["uncordon", node]),
            Refusal::NotReady => (String::new(), vec!["describe", "node", node]),
            Refusal::NotLinux | Refusal::Architecture => (
                "add a Linux node of one of these architectures".to_owned(),
                vec![],
            ),
        }
    }
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let value = toleration.value.as_deref();
    toleration.key == taint.key
        && value.is_none_or(|value| value == taint.value.as_deref().unwrap_or_default())
        && toleration
            .effect
            .as_ref()
            .is_none_or(|effect| *effect == taint.effect)
}

pub(super) async fn check(look: &Look) -> Checked {
    Ok(judge(look.nodes().await?))
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
    // The most frequent reason, of the nodes that have the right labels if there are any: others do not matter.
    let by_use = |(refusal, number): &(&&Refusal, &usize)| (refusal.is_of_pool(), **number);
    let Some((refusal, _)) = refusals.iter().max_by_key(by_use) else {
        return Finding::not_told("there is no node").advise(format!("add a Linux node; {ON_DEMAND}"));
    };
    let node = nodes.iter().find(|node| node.refusal.as_ref() == Some(*refusal));
    let seen = format!("none of {all} takes the pods: {refused}");
    let (advice, command) = refusal.advice(node.map_or("NODE", |node| &node.name));
    // Linux nodes that are only for others leave open whether an autoscaler has some that are not.
    let mut linux = refusals
        .keys()
        .filter(|refusal| !matches!(refusal, Refusal::NotLinux))
        .peekable();
    let for_others = |refusal: &&Refusal| matches!(refusal, Refusal::Taint(_) | Refusal::Selector);
    if linux.peek().is_some() && linux.all(for_others) {
        return Finding::not_told(seen).suggest(format!("{ON_DEMAND}; else: {advice}"), command);
    }
    Finding::failed(seen).suggest(advice, command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::look::RawNode;
    use crate::plan::tests::plan;
    use crate::result::CheckStatus::{CouldNotTell, Failed, Ok};

    /// A node as the API has it, with these labels instead of or besides the usual, and this `spec`.
    fn node(labels: &str, spec: &str, ready: &str, tolerations: &[&str]) -> Node {
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        let mut all = serde_json::json!({ "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64" });
        let labels = json(labels).as_object().cloned().unwrap();
        all.as_object_mut().unwrap().extend(labels);
        let raw = serde_json::json!({
            "metadata": { "name": "n", "labels": all },
            "spec": json(spec),
            "status": { "conditions": [{ "type": "MemoryPressure", "status": "False" }, { "type": "Ready", "status": ready }] },
        });
        let mut plan = plan(None);
        plan.options.fit.tolerations = tolerations.iter().map(|text| text.parse().unwrap()).collect();
        plan.options.fit.node_selector = [("pool".to_owned(), "a".to_owned())].into();
        Node::new(
            serde_json::from_value::<RawNode>(raw).unwrap(),
            &plan.options.fit,
            &[None, None],
        )
    }

    #[test]
    fn every_reason_against_a_node_is_found() {
        let pool = r#"{"pool": "a"}"#;
        let tainted = r#"{"taints": [{"key": "soft", "effect": "PreferNoSchedule"}, {"key": "k", "value": "v", "effect": "NoSchedule"}]}"#;
        let taint = || Some(Refusal::Taint("k=v:NoSchedule".into()));
        for (labels, spec, ready, tolerations, expected) in [
            (pool, "{}", "True", &[][..], None),
            (
                r#"{"kubernetes.io/os": "windows", "pool": "a"}"#,
                "{}",
                "True",
                &[],
                Some(Refusal::NotLinux),
            ),
            (
                r#"{"kubernetes.io/arch": "s390x", "pool": "a"}"#,
                "{}",
                "True",
                &[],
                Some(Refusal::Architecture),
            ),
            (
                r#"{"kubernetes.io/arch": "arm64", "pool": "a"}"#,
                "{}",
                "True",
                &[],
                None,
            ),
            (r#"{"pool": "b"}"#, "{}", "True", &[], Some(Refusal::Selector)),
            (
                pool,
                r#"{"unschedulable": true}"#,
                "True",
                &[],
                Some(Refusal::Cordoned),
            ),
            (pool, "{}", "Unknown", &[], Some(Refusal::NotReady)),
            (pool, tainted, "True", &[], taint()),
            (pool, tainted, "True", &["k"], None),
            (pool, tainted, "True", &["k=v:NoSchedule"], None),
            (pool, tainted, "True", &["k=w"], taint()),
            (pool, tainted, "True", &["k:NoExecute"], taint()),
            (pool, tainted, "True", &["j"], taint()),
        ] {
            let node = node(labels, spec, ready, tolerations);
            assert_eq!(node.refusal, expected, "{labels} {spec} {ready} {tolerations:?}");
        }
    }

    #[test]
    fn one_node_is_enough() {
        let of = |refusal: Option<Refusal>| Node {
            name: "n".into(),
            arch: "arm64".into(),
            refusal,
            has: [false; 2],
        };
        let taint = || Some(Refusal::Taint("a:NoSchedule".into()));
        for (refusals, status, said) in [
            (vec![None], Ok, "1 of 1 node can take the pods (1 arm64) "),
            (
                vec![None, taint(), Some(Refusal::NotReady)],
                Ok,
                "1 of 3 nodes can take the pods (1 arm64); the others: 1 not ready, 1 tainted a:NoSchedule ",
            ),
            (
                vec![taint(), taint(), Some(Refusal::Cordoned)],
                Failed,
                "none of 3 nodes takes the pods: 1 cordoned, 2 tainted a:NoSchedule to let the pods there: --toleration=a:NoSchedule",
            ),
            (
                vec![taint(), taint(), Some(Refusal::Selector), Some(Refusal::NotLinux)],
                CouldNotTell,
                "none of 4 nodes takes the pods: 1 not Linux, 1 without the labels of --node-selector, 2 tainted \
                 a:NoSchedule where nodes come on demand, a run may bring one; else: to let the pods there: \
                 --toleration=a:NoSchedule",
            ),
            (
                vec![Some(Refusal::Selector), Some(Refusal::Selector), taint()],
                CouldNotTell,
                "none of 3 nodes takes the pods: 2 without the labels of --node-selector, 1 tainted a:NoSchedule \
                 where nodes come on demand, a run may bring one; else: to let the pods there: \
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
                CouldNotTell,
                "there is no node add a Linux node; where nodes come",
            ),
        ] {
            let nodes: Vec<Node> = refusals.into_iter().map(of).collect();
            let finding = judge(&nodes);
            assert_eq!(finding.status, status, "{finding:?}");
            let text = finding.text();
            assert!(text.starts_with(said), "{text}");
        }
    }
}
