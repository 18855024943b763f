//! Finds and removes the entries of `ConfigMap`s that remain if a client is killed while a step has them patched.

use futures::future::try_join_all;
use serde_json::{Value, json};

use crate::cluster::{Cluster, ClusterError};
use crate::manifest::Kind;
use crate::net::Cause;
use crate::plan::RunId;
use crate::result::Cleanup;
use crate::scenario::Request;
use crate::scenario::catalogue;
use crate::scenario::request::Verb;

/// An entry that a step added to a `ConfigMap` which exists without the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub run: String,
    pub namespace: String,
    map: String,
    key: String,
}

impl Entry {
    /// Describes the entry in results, like the step that added it.
    pub(super) fn reference(&self) -> String {
        format!("an entry of {}/{}", Kind::ConfigMap.singular(), self.map)
    }
}

/// Returns the entries that built-in scenarios added and did not remove, in one namespace or in all; only of `run` if it
/// is given. `ConfigMap`s that do not exist or that the user may not read are skipped.
pub(super) async fn find(
    cluster: &Cluster,
    namespace: Option<&str>,
    run: Option<&str>,
) -> Result<Vec<Entry>, ClusterError> {
    let steps = catalogue::all().iter().flat_map(|scenario| &scenario.steps);
    let patches = steps
        .filter_map(|step| step.request.as_ref())
        .filter(|request| request.verb == Verb::Patch)
        .filter(|request| namespace.is_none() || request.namespace() == namespace);
    let maps = patches.map(async |request| {
        let place = request.namespace().unwrap_or_default();
        let name = request.object["metadata"]["name"].as_str().unwrap_or_default();
        match cluster.object(Kind::ConfigMap, place, name).await {
            Ok(Some((_, map))) => Ok(added(request, &map)),
            Ok(None) => Ok(vec![]),
            Err(error) if matches!(error.explained.cause, Cause::Forbidden | Cause::NotFound) => Ok(vec![]),
            Err(error) => Err(error),
        }
    });
    let entries = try_join_all(maps).await?.into_iter().flatten();
    let of_run = |entry: &Entry| run.is_none_or(|run| run == entry.run);
    Ok(entries.filter(of_run).collect())
}

/// Returns the entries of a `ConfigMap` whose keys are those of a request, for any run.
fn added(request: &Request, map: &Value) -> Vec<Entry> {
    let metadata = &request.object["metadata"];
    let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
    let templates = request.object["data"].as_object().into_iter().flatten();
    let templates: Vec<(&str, &str)> = templates
        .filter_map(|(template, _)| template.split_once("$(run)"))
        .collect();
    let keys = map["data"].as_object().into_iter().flatten().map(|(key, _)| key);
    let runs = keys.filter_map(|key| {
        let run = templates
            .iter()
            .find_map(|(before, after)| key.strip_prefix(before)?.strip_suffix(after));
        Some((key, run.filter(|run| RunId::matches(run))?))
    });
    runs.map(|(key, run)| Entry {
        run: run.to_owned(),
        namespace: text("namespace"),
        map: text("name"),
        key: key.clone(),
    })
    .collect()
}

/// Removes entries.
pub(super) async fn remove(cluster: &Cluster, entries: &[Entry]) -> Cleanup {
    let mut cleanup = Cleanup {
        verified: true,
        ..Cleanup::default()
    };
    for entry in entries {
        let patch = json!({ "data": { &entry.key: null } });
        let removed = cluster
            .patch(Kind::ConfigMap, &entry.namespace, &entry.map, &patch)
            .await;
        match removed {
            // Without the ConfigMap, its entry is gone as well.
            Err(error) if !error.is_not_found() => {
                cleanup.left.push(entry.reference());
                cleanup.problems.push(error.to_string());
            }
            _ => cleanup.removed.push(entry.reference()),
        }
    }
    cleanup
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_with_a_run_id_are_entries_of_a_step() {
        let scenario = catalogue::find("coredns").unwrap();
        let request = scenario.steps[0].request.as_ref().unwrap();
        let map = json!({ "data": {
            "defender-sim-q33wg4p3.txt": "", "defender-sim-q33wg4p3.server": "", "defender-sim-.txt": "",
            "defender-sim-notes.txt": "", "my.override": "", "q33wg4p3": "",
        } });
        let entry = Entry {
            run: "q33wg4p3".to_owned(),
            namespace: "kube-system".to_owned(),
            map: "coredns-custom".to_owned(),
            key: "defender-sim-q33wg4p3.txt".to_owned(),
        };
        assert_eq!(added(request, &map), [entry]);
        assert_eq!(added(request, &json!({})), []);
    }
}
