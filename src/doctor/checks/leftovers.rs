//! Checks that earlier runs left no objects in any namespace.

use std::collections::BTreeSet;

use crate::cluster::{Found, Selectors, selector};
use crate::doctor::finding::{Checked, Finding};
use crate::doctor::snapshot::Snapshot;
use crate::manifest::{ANCHOR, Kind};
use crate::words::{counted, first_few};

pub(super) async fn check(snapshot: &Snapshot) -> Checked {
    let labels = selector(None);
    let by_label = Selectors {
        labels: &labels,
        ..Selectors::default()
    };
    let (mut spaces, objects) = futures::try_join!(
        snapshot.cluster.list(Kind::Namespace, None, by_label),
        snapshot.cluster.list_ours(None, None)
    )?;
    spaces.retain(Found::is_ours);
    Ok(judge(&spaces, &objects))
}

/// Reports objects that belong to no run in progress, except namespaces that are being deleted.
fn judge(spaces: &[Found], objects: &[Found]) -> Finding {
    let anchors = objects
        .iter()
        .filter(|object| object.kind == Kind::Job && object.name == ANCHOR);
    let held: BTreeSet<_> = anchors
        .clone()
        .map(|anchor| (anchor.namespace.as_deref(), anchor.run()))
        .collect();
    let busy: BTreeSet<_> = held.iter().filter_map(|(space, _)| *space).collect();
    let objects = objects
        .iter()
        .filter(|object| !held.contains(&(object.namespace.as_deref(), object.run())))
        .map(|object| {
            format!(
                "{}: {}",
                object.namespace.as_deref().unwrap_or_default(),
                object.reference()
            )
        });
    let spaces = spaces
        .iter()
        .filter(|space| !busy.contains(space.name.as_str()) && !space.terminating)
        .map(Found::reference);
    let left: Vec<String> = spaces.chain(objects).collect();
    let runs = match busy.len() {
        0 => String::new(),
        runs => format!("; {} in progress", counted(runs, "run")),
    };
    if left.is_empty() {
        return Finding::ok(format!("none{runs}"));
    }
    Finding::warning(format!("{}{runs}", first_few(&left)))
        .suggest("-n limits cleanup to one namespace", ["defender-sim", "cleanup"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::RUN_LABEL;
    use crate::result::CheckStatus::{Ok, Warning};

    fn found(kind: Kind, namespace: Option<&str>, name: &str, run: &str, terminating: bool) -> Found {
        Found {
            kind,
            namespace: namespace.map(str::to_owned),
            name: name.into(),
            uid: String::new(),
            labels: [(RUN_LABEL.to_owned(), run.repeat(8))].into(),
            annotations: std::collections::BTreeMap::new(),
            owners: vec![],
            finalizers: vec![],
            created: None,
            terminating,
        }
    }

    #[test]
    fn objects_without_an_anchor_are_leftovers() {
        let space = |name, terminating| found(Kind::Namespace, None, name, "a", terminating);
        let pod = |space, run| found(Kind::Pod, Some(space), "p", run, false);
        let anchor = |space, run| found(Kind::Job, Some(space), ANCHOR, run, false);
        for (spaces, objects, status, message) in [
            (vec![], vec![], Ok, "none"),
            (vec![space("s", true)], vec![], Ok, "none"),
            (
                vec![space("s", false)],
                vec![anchor("s", "a"), pod("s", "a")],
                Ok,
                "none; 1 run in progress",
            ),
            (vec![space("s", false)], vec![], Warning, "namespace/s"),
            (vec![], vec![pod("s", "a")], Warning, "s: pod/p"),
            (
                vec![],
                vec![anchor("s", "a"), pod("s", "b")],
                Warning,
                "s: pod/p; 1 run in progress",
            ),
            (
                vec![],
                vec![anchor("t", "a"), pod("s", "a")],
                Warning,
                "s: pod/p; 1 run in progress",
            ),
        ] {
            let finding = judge(&spaces, &objects);
            assert_eq!((finding.status, finding.message.as_str()), (status, message));
        }
    }
}
