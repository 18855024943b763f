//! Checks that a run can use the namespace.

use crate::cluster::Found;
use crate::doctor::finding::{Checked, Finding};
use crate::doctor::snapshot::Snapshot;
use crate::engine;

pub(super) async fn check(snapshot: &Snapshot) -> Checked {
    let name = &snapshot.plan.namespace.name;
    let found = snapshot.namespace().await?;
    let taken = match found {
        // A run in progress uses these names; `active-run` reports it.
        Some(_) if snapshot.anchor().await?.is_none() => engine::taken(&snapshot.cluster, name).await?,
        _ => None,
    };
    Ok(judge(name, found, snapshot.plan.namespace.given, taken.as_ref()))
}

fn judge(name: &str, found: Option<&Found>, given: bool, taken: Option<&Found>) -> Finding {
    let Some(found) = found else {
        return Finding::ok(format!("{name} does not exist; a run creates and deletes it"));
    };
    match (found.terminating, found.is_ours(), taken) {
        (true, true, _) => Finding::warning(format!(
            "{name}, of an earlier run, is being deleted; a run waits up to a minute for that"
        ))
        .suggest(
            "see what blocks the deletion",
            ["get", "namespace", name, "-o", "yaml"],
        ),
        (true, false, _) => Finding::failed(format!("{name} is being deleted")).suggest(
            "wait for it",
            ["wait", "--for=delete", &format!("namespace/{name}")],
        ),
        (false, false, _) if !given => {
            Finding::failed(format!("{name} exists and was not created by this tool")).advise(format!(
                "to use it unchanged: -n {name}; a run keeps it, with everything in it"
            ))
        }
        (_, ours, Some(taken)) => {
            let finding = Finding::failed(format!(
                "{} exists in namespace {name} and a run needs the name",
                taken.reference()
            ));
            if ours || taken.is_ours() {
                finding.suggest("", ["defender-sim", "cleanup", "-n", name])
            } else {
                finding.advise("use another namespace: -n NAMESPACE")
            }
        }
        (_, true, None) => Finding::ok(format!("{name} exists, created by this tool")),
        (_, false, None) => Finding::ok(format!(
            "{name} exists, not created by this tool; a run uses and keeps it"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Kind, RUN_LABEL, VICTIM};
    use crate::result::CheckStatus::{Failed, Ok, Warning};

    fn found(kind: Kind, ours: bool, terminating: bool) -> Found {
        let labels = [(RUN_LABEL.to_owned(), "abcdefgh".to_owned())];
        Found {
            kind,
            namespace: None,
            name: VICTIM.into(),
            uid: String::new(),
            labels: labels.into_iter().filter(|_| ours).collect(),
            annotations: std::collections::BTreeMap::new(),
            owners: vec![],
            finalizers: vec![],
            created: None,
            terminating,
        }
    }

    #[test]
    fn every_state_of_a_namespace_is_judged() {
        let pod = |ours| found(Kind::Pod, ours, false);
        for (space, given, taken, status, part) in [
            (None, false, None, Ok, "a run creates and deletes it"),
            (Some((true, false)), false, None, Ok, "created by this tool"),
            (Some((false, false)), true, None, Ok, "uses and keeps it"),
            (
                Some((false, false)),
                false,
                None,
                Failed,
                "not created by this tool",
            ),
            (Some((true, true)), false, None, Warning, "waits up to a minute"),
            (Some((false, true)), true, None, Failed, "is being deleted"),
            (Some((false, false)), true, Some(false), Failed, "-n NAMESPACE"),
            (Some((false, false)), true, Some(true), Failed, "cleanup"),
            (
                Some((true, false)),
                false,
                Some(false),
                Failed,
                "pod/mdc-simulation-victim exists",
            ),
        ] {
            let space = space.map(|(ours, terminating)| found(Kind::Namespace, ours, terminating));
            let taken = taken.map(pod);
            let finding = judge("n", space.as_ref(), given, taken.as_ref());
            let text = finding.text();
            assert_eq!(finding.status, status, "{finding:?}");
            assert!(text.contains(part), "{part:?} in {finding:?}");
        }
    }
}
