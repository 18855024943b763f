//! Determines which objects in a cluster belong to this tool and so may be deleted.
//!
//! An object is ours if it is of a kind that a run creates, has a name that a run gives it, and has the run label with
//! a value in the form of a run ID. A label alone is no proof: others copy labels.

use std::collections::BTreeMap;

use super::{ANCHOR, ATTACKER, Kind, RUN_LABEL, VICTIM};
use crate::plan::{RunId, is_pod_name};

/// Returns the run in an object's labels, or `None` if the label is missing or not in the form of a run ID.
pub fn run_of(labels: &BTreeMap<String, String>) -> Option<&str> {
    let run = labels.get(RUN_LABEL)?;
    RunId::matches(run).then_some(run)
}

/// Returns `true` if a run created an object with this kind, name and labels.
pub fn is_ours(kind: Kind, name: &str, labels: &BTreeMap<String, String>) -> bool {
    run_of(labels).is_some_and(|run| is_run_name(kind, name, run))
}

/// Returns `true` if `run` gives this name to objects of this kind. A namespace may have any name.
pub fn is_run_name(kind: Kind, name: &str, run: &str) -> bool {
    let purposes: &[&str] = match kind {
        Kind::Namespace => return true,
        Kind::Job => return name == ANCHOR,
        Kind::Service if name == VICTIM || name == ATTACKER => return true,
        Kind::Pod if is_pod_name(name) => return true,
        Kind::Pod
        | Kind::Service
        | Kind::Event
        | Kind::Deployment
        | Kind::Role
        | Kind::RoleBinding
        | Kind::ClusterRole
        | Kind::ClusterRoleBinding
        | Kind::ValidatingWebhook
        | Kind::MutatingWebhook => return name.split(['-', '.']).any(|word| word == run),
        Kind::ServiceAccount => &["pods"],
        // Version 0.1 kept the gate in a ConfigMap.
        Kind::ConfigMap => &["gate", "steps"],
        Kind::Secret => &["gate", "key"],
        Kind::NetworkPolicy => &["victim"],
    };
    purposes.iter().any(|purpose| name == run_name(purpose, run))
}

/// Returns the name of an object that contains the run ID.
pub(super) fn run_name(purpose: &str, run: &str) -> String {
    format!("mdc-simulation-{purpose}-{run}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{OWNER, OWNER_LABEL, render};
    use crate::plan::Group;
    use crate::plan::tests::plan;

    #[test]
    fn every_rendered_object_is_ours() {
        let mut covering = plan(None);
        let groups = ["a", "b"].map(|name| Group::Node(name.to_owned()));
        covering.cover(groups.into(), "amd64".to_owned(), vec![]);
        for manifest in [plan(None), covering].iter().flat_map(|plan| {
            let manifests = render(plan, "user");
            manifests.all().cloned().collect::<Vec<_>>()
        }) {
            let labels = manifest.object["metadata"]["labels"].clone();
            let labels = serde_json::from_value(labels).unwrap();
            assert!(
                is_ours(manifest.kind, &manifest.name, &labels),
                "{}",
                manifest.reference()
            );
        }
    }

    #[test]
    fn objects_of_others_are_not_ours() {
        let labels = |pairs: &[(&str, &str)]| {
            let pairs = pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            pairs.collect::<BTreeMap<_, _>>()
        };
        let run = labels(&[(RUN_LABEL, "abcdefgh")]);
        let name = "mdc-simulation-key-abcdefgh";
        assert!(is_ours(Kind::Secret, name, &run));
        for (kind, name, labels) in [
            (Kind::Secret, name, labels(&[(OWNER_LABEL, OWNER)])),
            (Kind::Namespace, "empty-team", labels(&[(OWNER_LABEL, OWNER)])),
            (Kind::Secret, name, labels(&[(RUN_LABEL, "")])),
            (Kind::Secret, name, labels(&[(RUN_LABEL, "ABCDEFGH")])),
            (Kind::Secret, name, labels(&[(RUN_LABEL, "hgfedcba")])),
            (Kind::Secret, "db-password", run.clone()),
            (Kind::Secret, "mdc-simulation-precious-abcdefgh", run.clone()),
            (Kind::Secret, "mdc-simulation-abcdefgh", run.clone()),
            (Kind::Secret, "abcdefgh", run.clone()),
            (Kind::Pod, "mdc-simulation-third", run.clone()),
            (Kind::Pod, "mdc-simulation-victim-", run.clone()),
            (Kind::Pod, "mdc-simulation-victim-x", run.clone()),
            (Kind::Pod, "mdc-simulation-victim2", run.clone()),
            (Kind::Job, "nightly", run.clone()),
        ] {
            assert!(!is_ours(kind, name, &labels), "{kind:?} {name} {labels:?}");
        }
    }
}
