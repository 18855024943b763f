//! Checks that a sensor is ready on the nodes that take the pods of a run: Defender detects nothing on the others.

use std::collections::BTreeSet;

use crate::cluster::ClusterError;
use crate::doctor::finding::{Checked, Finding};
use crate::doctor::sensor_pods::SensorPods;
use crate::doctor::snapshot::{Pods, Snapshot};
use crate::node::Node;
use crate::plan::Group;
use crate::words::{counted, first_few};

pub(super) async fn check(snapshot: &Snapshot) -> Checked {
    let sensors = snapshot.sensors().await?;
    if sensors.pods.is_empty() {
        return Ok(Finding::not_applicable("there is no sensor"));
    }
    let (nodes, pods) = futures::join!(snapshot.nodes(), snapshot.sensor_pods(None));
    Ok(judge(&sensors.pods, nodes, pods))
}

/// Judges the counts of the `DaemonSets`, which are known even if nodes or pods cannot be listed.
fn judge(
    counts: &[Pods],
    nodes: Result<&[Node], ClusterError>,
    pods: Result<Vec<SensorPods>, ClusterError>,
) -> Finding {
    let total = |count: fn(&Pods) -> i32| counts.iter().map(count).sum::<i32>();
    let (ready, desired) = (total(|pods| pods.ready), total(|pods| pods.desired));
    let mut numbers = format!("{ready} of {desired} pods ready");
    let failing = pods.iter().flatten().find_map(|pods| pods.failing.first());
    if let Some(failing) = failing {
        numbers = format!("{numbers} ({failing})");
    }
    if ready == 0 {
        return Finding::failed(numbers).suggest(
            "see the pods of microsoft-defender in",
            ["get", "pods", "-A", "-o", "wide"],
        );
    }
    let (nodes, pods) = match nodes.and_then(|nodes| Ok((nodes, pods?))) {
        Ok(lists) => lists,
        Err(error) => {
            return Finding::unknown(format!("{numbers}; on which nodes: {error}"))
                .hint(error.explained.hint);
        }
    };
    let usable: Vec<&Node> = nodes.iter().filter(|node| node.refusal.is_none()).collect();
    let is_ready = |node: &&&Node| pods.iter().any(|pods| pods.ready_on.contains(&node.name));
    let uncovered: Vec<String> = usable
        .iter()
        .filter(|node| !is_ready(node))
        .map(|node| node.name.clone())
        .collect();
    // A group whose nodes all lack the sensor is a gap that --node-selector does not close.
    let groups: BTreeSet<&Group> = usable.iter().filter_map(|node| node.group.as_ref()).collect();
    let of_ready = usable
        .iter()
        .filter(is_ready)
        .filter_map(|node| node.group.as_ref());
    let of_ready: BTreeSet<&Group> = of_ready.collect();
    let silent: Vec<String> = groups.difference(&of_ready).map(ToString::to_string).collect();
    if !silent.is_empty() && silent.len() < groups.len() {
        return Finding::warning(format!(
            "{numbers}; on no node of {} of {}: {}",
            silent.len(),
            counted(groups.len(), "group"),
            first_few(&silent)
        ))
        .advise("find out why the sensor is not ready there");
    }
    let total = counted(usable.len(), "node");
    match uncovered.len() {
        _ if usable.is_empty() => {
            Finding::not_applicable(format!("{numbers}; no node takes the pods of a run"))
        }
        0 => Finding::ok(format!(
            "{numbers}; on each node that takes the pods of a run ({})",
            usable.len()
        )),
        all if all == usable.len() => Finding::failed(format!(
            "{numbers}, on none of {total} that take the pods of a run"
        ))
        .advise("choose nodes that have the sensor with --node-selector"),
        some => Finding::warning(format!(
            "{numbers}; none on {some} of {total} that take the pods of a run: {}",
            first_few(&uncovered)
        ))
        .advise("avoid these nodes with --node-selector, or find out why the sensor is not ready there"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Cause, Explanation};
    use crate::node::Refusal;
    use crate::result::CheckStatus::{Failed, NotApplicable, Ok as Fine, Unknown, Warning};

    fn node(name: &str, refusal: Option<Refusal>) -> Node {
        Node {
            name: name.into(),
            arch: "amd64".into(),
            group: None,
            refusal,
            has: [false; 2],
        }
    }

    #[test]
    fn only_nodes_that_take_the_pods_count() {
        let (a, b) = (node("a", None), node("b", None));
        let cordoned = node("c", Some(Refusal::Cordoned));
        for (ready, nodes, ready_on, status, part) in [
            (
                2,
                vec![a.clone(), b.clone()],
                &["a", "b"][..],
                Fine,
                "2 of 2 pods ready; on each node",
            ),
            (1, vec![a.clone(), cordoned.clone()], &["a"], Fine, "(1)"),
            (
                1,
                vec![a.clone(), b.clone()],
                &["a"],
                Warning,
                "none on 1 of 2 nodes that take the pods of a run: b",
            ),
            (
                1,
                vec![a.clone(), cordoned.clone()],
                &["c"],
                Failed,
                "on none of 1 node",
            ),
            (0, vec![a.clone()], &[], Failed, "0 of 2 pods ready"),
            (1, vec![cordoned], &["c"], NotApplicable, "no node takes"),
        ] {
            let pods = Pods {
                desired: 2,
                ready,
                selector: String::new(),
            };
            let found = SensorPods {
                ready_on: ready_on.iter().map(|&name| name.to_owned()).collect(),
                failing: vec![],
            };
            let finding = judge(&[pods], Ok(&nodes), Ok(vec![found]));
            assert_eq!(finding.status, status, "{finding:?}");
            assert!(finding.message.contains(part), "{part:?} in {finding:?}");
        }
        let pods = Pods {
            desired: 2,
            ready: 2,
            selector: String::new(),
        };
        let error = ClusterError {
            doing: "list nodes".into(),
            explained: Explanation::new(Cause::Forbidden, "no"),
        };
        let finding = judge(std::slice::from_ref(&pods), Err(error.clone()), Ok(vec![]));
        assert_eq!(finding.status, Unknown);
        assert!(
            finding
                .message
                .starts_with("2 of 2 pods ready; on which nodes: failed to list nodes"),
            "{finding:?}"
        );
        // Without a ready pod, nodes and pods do not matter.
        let none = Pods { ready: 0, ..pods };
        let finding = judge(&[none], Ok(&[]), Err(error));
        assert_eq!((finding.status, &*finding.message), (Failed, "0 of 2 pods ready"));
    }
}
