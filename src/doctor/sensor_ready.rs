//! Is the sensor ready where the pods of a run can go? A node without it raises no alert.

use super::look::{Look, Node, Pods};
use super::sensor_pods::SensorPods;
use super::{Checked, Finding};
use crate::cluster::ClusterError;
use crate::words::{counted, first_few};

pub(super) async fn check(look: &Look) -> Checked {
    let sensors = look.sensors().await?;
    if sensors.pods.is_empty() {
        return Ok(Finding::not_applicable("there is no sensor"));
    }
    // Both lists may be long.
    let (nodes, pods) = futures::join!(look.nodes(), look.sensor_pods(None));
    Ok(judge(&sensors.pods, nodes, pods))
}

/// The counts of the `DaemonSets` are known even if nodes or pods cannot be listed.
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
            "look for microsoft-defender in",
            ["get", "pods", "-A", "-o", "wide"],
        );
    }
    let (nodes, pods) = match nodes.and_then(|nodes| Ok((nodes, pods?))) {
        Ok(seen) => seen,
        Err(error) => {
            let finding = Finding::from(error);
            return Finding {
                seen: format!("{numbers}; on which nodes: {}", finding.seen),
                ..finding
            };
        }
    };
    let usable: Vec<&Node> = nodes.iter().filter(|node| node.refusal.is_none()).collect();
    let bare: Vec<String> = usable
        .iter()
        .filter(|node| !pods.iter().any(|pods| pods.ready_on.contains(&node.name)))
        .map(|node| node.name.clone())
        .collect();
    let of = counted(usable.len(), "node");
    match bare.len() {
        _ if usable.is_empty() => {
            Finding::not_applicable(format!("{numbers}; no node takes the pods of a run"))
        }
        0 => Finding::ok(format!(
            "{numbers}; on each node that takes the pods of a run ({})",
            usable.len()
        )),
        all if all == usable.len() => {
            Finding::failed(format!("{numbers}, on none of {of} that take the pods of a run"))
                .advise("choose nodes that have the sensor with --node-selector")
        }
        some_of => Finding::warning(format!(
            "{numbers}; none on {some_of} of {of} that take the pods of a run: {}",
            first_few(&bare)
        ))
        .advise(
            "keep the pods away from them with --node-selector, or see why the sensor's are not ready there",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::nodes::Refusal;
    use crate::net::{Cause, Explanation};
    use crate::result::CheckStatus::{CouldNotTell, Failed, NotApplicable, Ok as Fine, Warning};

    fn node(name: &str, refusal: Option<Refusal>) -> Node {
        Node {
            name: name.into(),
            arch: "amd64".into(),
            refusal,
            has: [false; 2],
        }
    }

    #[test]
    fn what_counts_is_where_the_pods_can_go() {
        let (a, b) = (node("a", None), node("b", None));
        let away = node("c", Some(Refusal::Cordoned));
        for (ready, nodes, watched, status, said) in [
            (
                2,
                vec![a.clone(), b.clone()],
                &["a", "b"][..],
                Fine,
                "2 of 2 pods ready; on each node",
            ),
            (1, vec![a.clone(), away.clone()], &["a"], Fine, "(1)"),
            (
                1,
                vec![a.clone(), b.clone()],
                &["a"],
                Warning,
                "none on 1 of 2 nodes that take the pods of a run: b",
            ),
            (
                1,
                vec![a.clone(), away.clone()],
                &["c"],
                Failed,
                "on none of 1 node",
            ),
            (0, vec![a.clone()], &[], Failed, "0 of 2 pods ready"),
            (1, vec![away], &["c"], NotApplicable, "no node takes"),
        ] {
            let pods = Pods {
                desired: 2,
                ready,
                selector: String::new(),
            };
            let found = SensorPods {
                ready_on: watched.iter().map(|&name| name.to_owned()).collect(),
                failing: vec![],
            };
            let finding = judge(&[pods], Ok(&nodes), Ok(vec![found]));
            assert_eq!(finding.status, status, "{finding:?}");
            assert!(finding.seen.contains(said), "{said:?} in {finding:?}");
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
        assert_eq!(finding.status, CouldNotTell);
        assert!(
            finding
                .seen
                .starts_with("2 of 2 pods ready; on which nodes: failed to list nodes"),
            "{finding:?}"
        );
        // Without a ready pod, neither nodes nor pods have to be seen.
        let none = Pods { ready: 0, ..pods };
        let finding = judge(&[none], Ok(&[]), Err(error));
        assert_eq!((finding.status, &*finding.seen), (Failed, "0 of 2 pods ready"));
    }
}
