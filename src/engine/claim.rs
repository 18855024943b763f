//! Determines which objects in a namespace belong to a run.

use std::collections::{BTreeSet, HashSet};

use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::PARALLEL;
use crate::cluster::{Cluster, ClusterError, Found};
use crate::manifest::{ANCHOR, Kind, Manifests, Record, is_run_name};
use crate::net::Cause;

/// The objects that a run claims: by name from the start, by UID once they exist.
#[derive(Clone, Debug, Default)]
pub(super) struct Claim {
    /// ID of the run.
    pub run: String,
    /// Names that the run gives to its objects in the namespace.
    names: BTreeSet<(Kind, String)>,
    /// UIDs of the objects that the run created, including the namespace if the run created it.
    pub uids: HashSet<String>,
    /// UID of the anchor, which owns the other objects.
    pub anchor: Option<String>,
}

impl Claim {
    /// Creates the claim of a run from its anchor and the anchor's record, as far as these exist.
    pub(super) fn of_anchor(run: &str, anchor: Option<&Found>) -> Self {
        let mut claim = Self {
            run: run.to_owned(),
            ..Self::default()
        };
        let Some(anchor) = anchor else { return claim };
        claim.anchor = Some(anchor.uid.clone());
        claim.uids.insert(anchor.uid.clone());
        claim.names.insert((Kind::Job, ANCHOR.to_owned()));
        if let Some(record) = Record::of_annotations(&anchor.annotations) {
            claim.add_record(&record);
        }
        claim
    }

    /// Creates the claim of a run that rendered these manifests and created objects with these UIDs.
    pub(super) fn of_run(
        run: &str,
        manifests: &Manifests,
        uids: HashSet<String>,
        anchor: Option<String>,
    ) -> Self {
        let objects = manifests
            .all()
            .filter(|manifest| manifest.kind != Kind::Namespace);
        Self {
            run: run.to_owned(),
            names: objects
                .map(|manifest| (manifest.kind, manifest.name.clone()))
                .collect(),
            uids,
            anchor,
        }
    }

    /// Returns the number of objects that the run may have in the namespace.
    pub(super) fn size(&self) -> usize {
        self.names.len()
    }

    /// Adds the objects of a record that have names which this run gives. Others are skipped: any user who can create
    /// Jobs can write a record.
    fn add_record(&mut self, record: &Record) {
        for reference in &record.objects {
            let named = Kind::of_reference(reference);
            let Some((kind, name)) = named.filter(|(kind, name)| is_run_name(*kind, name, &self.run)) else {
                continue;
            };
            self.names.insert((kind, name.to_owned()));
            self.uids.extend(record.uids.get(reference).cloned());
        }
    }

    /// Returns `true` if an object belongs to this run: by its UID, by its labels, or by its name and owner.
    pub(super) fn covers(&self, object: &Found) -> bool {
        let has_name = object.kind == Kind::Namespace || is_run_name(object.kind, &object.name, &self.run);
        let by_label = object.is_ours() && object.run() == Some(&self.run);
        let by_owner = self
            .anchor
            .as_ref()
            .is_some_and(|anchor| object.owners.contains(anchor));
        by_label || (has_name && (by_owner || self.uids.contains(&object.uid)))
    }

    /// Returns every object of this run that exists in the namespace, even if its labels were changed.
    pub(super) async fn find(&self, cluster: &Cluster, namespace: &str) -> Result<Vec<Found>, ClusterError> {
        let mut found = match cluster.list_ours(Some(namespace), Some(&self.run)).await {
            Err(error) if error.is_not_found() => vec![],
            found => found?,
        };
        let listed: BTreeSet<(Kind, String)> = found
            .iter()
            .map(|object| (object.kind, object.name.clone()))
            .collect();
        let others = self.names.iter().filter(|name| !listed.contains(name));
        let others = others.map(
            async |(kind, name)| match cluster.get(*kind, namespace, name).await {
                // A step whose user lacks the rights for a kind has created nothing of it.
                Err(error) if error.explained.cause == Cause::Forbidden && !Kind::OF_RUN.contains(kind) => {
                    Ok(None)
                }
                found => found,
            },
        );
        let others: Vec<Option<Found>> = stream::iter(others)
            .buffer_unordered(PARALLEL)
            .try_collect()
            .await?;
        found.extend(others.into_iter().flatten().filter(|object| self.covers(object)));
        Ok(found)
    }
}

/// Returns the run for which an anchor holds a namespace: by its label, or by its record if the label is missing.
pub(super) fn holder(anchor: &Found) -> Option<String> {
    let recorded = || Record::of_annotations(&anchor.annotations).map(|record| record.run);
    anchor.run().map(str::to_owned).or_else(recorded)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::manifest::{RECORD, RUN_LABEL, render};
    use crate::plan::tests::plan;

    fn object(kind: Kind, name: &str, uid: &str) -> Found {
        Found {
            kind,
            namespace: Some("n".into()),
            name: name.into(),
            uid: uid.into(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            owners: vec![],
            finalizers: vec![],
            created: None,
            terminating: false,
        }
    }

    #[test]
    fn claim_covers_objects_by_label_uid_or_owner() {
        let run = plan(None).run.to_string();
        let manifests = render(&plan(None), "user");
        let claim = Claim::of_run(
            &run,
            &manifests,
            ["known".to_owned()].into(),
            Some("anchor".into()),
        );
        let pod = |uid| object(Kind::Pod, "mdc-simulation-victim", uid);
        assert!(claim.covers(&pod("known")));
        assert!(!claim.covers(&pod("another")), "a name alone is no claim");
        let owners = vec!["anchor".to_owned()];
        assert!(claim.covers(&Found {
            owners: owners.clone(),
            ..pod("another")
        }));
        let labels: BTreeMap<_, _> = [(RUN_LABEL.to_owned(), run)].into();
        assert!(claim.covers(&Found {
            labels: labels.clone(),
            ..pod("another")
        }));
        let foreign = Found {
            labels,
            owners,
            ..object(Kind::Pod, "web", "known")
        };
        assert!(!claim.covers(&foreign), "a run gives no such name");
    }

    #[test]
    fn record_claims_only_names_that_a_run_gives() {
        let record = Record {
            run: "abcdefgh".into(),
            user: "user".into(),
            created: jiff::Timestamp::UNIX_EPOCH,
            deadline: jiff::Timestamp::UNIX_EPOCH,
            version: "0".into(),
            scenarios: vec![],
            objects: vec![
                "secret/db-password".into(),
                "secret/mdc-simulation-key-abcdefgh".into(),
            ],
            uids: [
                ("secret/db-password".to_owned(), "precious".to_owned()),
                ("secret/mdc-simulation-key-abcdefgh".to_owned(), "key".to_owned()),
            ]
            .into(),
        };
        let anchor = Found {
            annotations: [(RECORD.to_owned(), record.to_annotation())].into(),
            ..object(Kind::Job, ANCHOR, "anchor")
        };
        let claim = Claim::of_anchor("abcdefgh", Some(&anchor));
        assert!(claim.covers(&object(Kind::Secret, "mdc-simulation-key-abcdefgh", "key")));
        assert!(!claim.covers(&object(Kind::Secret, "db-password", "precious")));
    }
}
