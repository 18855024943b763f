//! Is the namespace free for a run, and whose is it?

use super::look::Look;
use super::{Checked, Finding};
use crate::cluster::Found;
use crate::engine;

pub(super) async fn check(look: &Look) -> Checked {
    let name = &look.plan.namespace.name;
    let found = look.namespace().await?;
    let taken = match found {
        // A run under way has these names itself, and has a check of its own.
        Some(_) if look.anchor().await?.is_none() => engine::taken(&look.cluster, name).await?,
        _ => None,
    };
    Ok(judge(name, found, look.plan.namespace.given, taken.as_ref()))
}

fn judge(name: &str, found: Option<&Found>, given: bool, taken: Option<&Found>) -> Finding {
    let Some(found) = found else {
        return Finding::ok(format!("{name} does not exist; a run makes it, and removes it"));
    };
    match (found.terminating, found.is_ours(), taken) {
        (true, true, _) => Finding::warning(format!(
            "{name}, of an earlier run, is being removed; a run waits a minute for it"
        ))
        .suggest("see what holds it", ["get", "namespace", name, "-o", "yaml"]),
        (true, false, _) => Finding::failed(format!("{name} is being removed")).suggest(
            "wait for it",
            ["wait", "--for=delete", &format!("namespace/{name}")],
        ),
        (false, false, _) if !given => {
            Finding::failed(format!("{name} exists and was not made by this tool")).advise(format!(
                "to use it as it is: -n {name}; it will stay, with everything in it"
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
        (_, true, None) => Finding::ok(format!("{name} exists, made by this tool")),
        (_, false, None) => Finding::ok(format!(
            "{name} exists, not made by this tool; a run uses it and leaves it"
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
    fn every_state_of_a_namespace_has_a_verdict() {
        let pod = |ours| found(Kind::Pod, ours, false);
        for (space, given, taken, status, said) in [
            (None, false, None, Ok, "a run makes it"),
            (Some((true, false)), false, None, Ok, "made by this tool"),
            (Some((false, false)), true, None, Ok, "leaves it"),
            (Some((false, false)), false, None, Failed, "not made by this tool"),
            (Some((true, true)), false, None, Warning, "waits a minute"),
            (Some((false, true)), true, None, Failed, "is being removed"),
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
            assert!(text.contains(said), "{said:?} in {finding:?}");
        }
    }
}
