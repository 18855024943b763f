//! A node, reduced to whether it takes the pods of a run, and why not.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Taint;
use serde::Deserialize;

use crate::net::registry::Reference;
use crate::plan::{Cover, Fit, Group, Options, POOL_LABELS, Toleration};

/// Architectures that the victim supports.
const ARCHITECTURES: [&str; 2] = ["amd64", "arm64"];

/// Labels of nodes that stand for a service without machines: virtual nodes of AKS, and Fargate.
const VIRTUAL: [(&str, &str); 2] = [
    ("type", "virtual-kubelet"),
    ("eks.amazonaws.com/compute-type", "fargate"),
];

/// A node, reduced to what checks need: there may be thousands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub name: String,
    /// The label `kubernetes.io/arch`.
    pub arch: String,
    /// Its group, if nodes are grouped and it has one.
    pub group: Option<Group>,
    /// Why it does not take the pods of a run, if it does not.
    pub refusal: Option<Refusal>,
    /// Whether it lists the attacker's image, and the victim's.
    pub has: [bool; 2],
}

/// The names by which a node lists the attacker's image and the victim's; `None` for an invalid reference.
pub(crate) fn image_names(options: &Options) -> [Option<String>; 2] {
    [&options.attacker_image, &options.victim_image].map(|image| Some(listed_name(&image.parse().ok()?)))
}

fn listed_name(image: &Reference) -> String {
    let (registry, repository) = (image.registry(), image.repository());
    match image.digest() {
        Some(digest) => format!("{registry}/{repository}@{digest}"),
        None => image.whole(),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RawNode {
    metadata: RawMetadata,
    #[serde(default)]
    spec: RawNodeSpec,
    #[serde(default)]
    status: RawNodeStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RawMetadata {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    pub owner_references: Vec<RawOwner>,
}

#[derive(Deserialize)]
pub(crate) struct RawOwner {
    pub kind: String,
    pub name: String,
}

#[derive(Default, Deserialize)]
struct RawNodeSpec {
    #[serde(default)]
    unschedulable: bool,
    #[serde(default)]
    taints: Vec<Taint>,
}

#[derive(Default, Deserialize)]
struct RawNodeStatus {
    #[serde(default)]
    conditions: Vec<RawCondition>,
    #[serde(default)]
    images: Vec<RawImage>,
}

#[derive(Deserialize)]
pub(crate) struct RawCondition {
    #[serde(rename = "type")]
    kind: String,
    pub status: String,
    #[serde(default)]
    pub message: String,
}

#[derive(Deserialize)]
struct RawImage {
    names: Option<Vec<String>>,
}

pub(crate) fn is_ready(conditions: &[RawCondition]) -> bool {
    conditions
        .iter()
        .any(|condition| condition.kind == "Ready" && condition.status == "True")
}

impl Node {
    /// Reduces a node to what matters to a run with these options and `images`.
    pub(crate) fn new(raw: RawNode, options: &Options, images: &[Option<String>; 2]) -> Self {
        let RawNode {
            metadata,
            spec,
            status,
        } = raw;
        let mut has = [false; 2];
        for name in status
            .images
            .iter()
            .flat_map(|image| image.names.iter().flatten())
        {
            for (has, image) in has.iter_mut().zip(images) {
                *has |= image.as_ref() == Some(name);
            }
        }
        let label = |key: &str| metadata.labels.get(key).cloned().unwrap_or_default();
        let group = options.cover.as_ref();
        Self {
            arch: label("kubernetes.io/arch"),
            group: group.and_then(|cover| group_of(&metadata, cover)),
            refusal: Refusal::of(
                &metadata.labels,
                &spec.taints,
                !spec.unschedulable,
                is_ready(&status.conditions),
                &options.fit,
            ),
            has,
            name: metadata.name,
        }
    }
}

/// Returns the group of a node, or `None` if it lacks the labels.
fn group_of(node: &RawMetadata, cover: &Cover) -> Option<Group> {
    let by = |key: &str| {
        let value = node.labels.get(key)?.clone();
        let key = key.to_owned();
        Some(Group::Label { key, value })
    };
    match cover {
        Cover::Node => Some(Group::Node(node.name.clone())),
        Cover::NodePool => POOL_LABELS.into_iter().find_map(by),
        Cover::Label(key) => by(key),
    }
}

/// Why a node does not take the pods of a run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refusal {
    /// Another operating system.
    NotLinux,
    /// It stands for a service without a machine, so no sensor can run on it.
    Virtual,
    /// Neither amd64 nor arm64.
    Architecture,
    /// A label of `--node-selector` is missing.
    Selector,
    Cordoned,
    NotReady,
    /// A taint that the pods do not tolerate.
    Taint(String),
}

/// Formats the reason as it follows a number of nodes: `not ready`.
impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::NotLinux => f.write_str("not Linux"),
            Refusal::Virtual => f.write_str("a virtual node"),
            Refusal::Architecture => f.write_str("neither amd64 nor arm64"),
            Refusal::Selector => f.write_str("without the labels of --node-selector"),
            Refusal::Cordoned => f.write_str("cordoned"),
            Refusal::NotReady => f.write_str("not ready"),
            Refusal::Taint(taint) => write!(f, "tainted {taint}"),
        }
    }
}

impl Refusal {
    /// Returns the first reason against the node.
    fn of(
        labels: &BTreeMap<String, String>,
        taints: &[Taint],
        schedulable: bool,
        ready: bool,
        fit: &Fit,
    ) -> Option<Self> {
        let label = |key: &str| labels.get(key).map_or("", String::as_str);
        let selected = |(key, value): (&String, &String)| labels.get(key) == Some(value);
        let is_repelling = |taint: &&Taint| {
            taint.effect != "PreferNoSchedule" && !fit.tolerations.iter().any(|t| tolerates(t, taint))
        };
        if label("kubernetes.io/os") != "linux" {
            Some(Refusal::NotLinux)
        } else if VIRTUAL.iter().any(|(key, value)| label(key) == *value) {
            Some(Refusal::Virtual)
        } else if !ARCHITECTURES.contains(&label("kubernetes.io/arch")) {
            Some(Refusal::Architecture)
        } else if !fit.node_selector.iter().all(selected) {
            Some(Refusal::Selector)
        } else if !schedulable {
            Some(Refusal::Cordoned)
        } else if !ready {
            Some(Refusal::NotReady)
        } else {
            taints.iter().find(is_repelling).map(Refusal::of_taint)
        }
    }

    fn of_taint(taint: &Taint) -> Self {
        let Taint { key, effect, .. } = taint;
        // Controllers set these for the state of the node.
        match key.as_str() {
            "node.kubernetes.io/not-ready" | "node.kubernetes.io/unreachable" => Refusal::NotReady,
            "node.kubernetes.io/unschedulable" => Refusal::Cordoned,
            _ => {
                let value = taint.value.as_ref().map(|value| format!("={value}"));
                Refusal::Taint(format!("{key}{}:{effect}", value.unwrap_or_default()))
            }
        }
    }

    /// Whether the node matches `--node-selector` and the architectures of the images.
    pub fn is_of_pool(&self) -> bool {
        matches!(self, Refusal::Cordoned | Refusal::NotReady | Refusal::Taint(_))
    }

    /// Returns advice for `node`, and the words of a kubectl command that follows.
    pub fn advice<'a>(&self, node: &'a str) -> (String, Vec<&'a str>) {
        match self {
            Refusal::Taint(taint) => (format!("to tolerate the taint: --toleration={taint}"), vec![]),
            Refusal::Selector => ("compare with".to_owned(), vec!["get", "nodes", "--show-labels"]),
            Refusal::Cordoned => (String::new(), vec!["uncordon", node]),
            Refusal::NotReady => (String::new(), vec!["describe", "node", node]),
            Refusal::NotLinux | Refusal::Virtual | Refusal::Architecture => (
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::plan;

    /// A node from the API with these further labels and this `spec`.
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
            &plan.options,
            &[None, None],
        )
    }

    #[test]
    fn node_is_refused_for_every_reason() {
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
            (
                pool,
                r#"{"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]}"#,
                "True",
                &[],
                Some(Refusal::NotReady),
            ),
            (
                r#"{"type": "virtual-kubelet", "pool": "a"}"#,
                "{}",
                "True",
                &[],
                Some(Refusal::Virtual),
            ),
        ] {
            let node = node(labels, spec, ready, tolerations);
            assert_eq!(node.refusal, expected, "{labels} {spec} {ready} {tolerations:?}");
        }
    }

    #[test]
    fn image_names_are_fully_qualified() {
        let at = format!("sha256:{}", "0".repeat(64));
        for (image, named) in [
            (
                "nginx".to_owned(),
                Some("docker.io/library/nginx:latest".to_owned()),
            ),
            ("a/b:2".to_owned(), Some("docker.io/a/b:2".to_owned())),
            (format!("x/y:1@{at}"), Some(format!("docker.io/x/y@{at}"))),
            (
                "r.example:5000/a/b:V1".to_owned(),
                Some("r.example:5000/a/b:V1".to_owned()),
            ),
            ("a/B".to_owned(), None),
        ] {
            let mut options = plan(None).options;
            options.victim_image = image;
            assert_eq!(image_names(&options)[1], named);
        }
    }
}
