//! Objects found in the cluster.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::ResourceExt;

use crate::manifest::{self, Kind, RUN_LABEL};

/// An object seen in the cluster: its metadata only, so that no secret is ever read back.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// What it is.
    pub kind: Kind,
    /// Where it is; `None` for a namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Which object of that name.
    pub uid: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// UIDs of its owners.
    pub owners: Vec<String>,
    /// What has to happen before it can be deleted.
    pub finalizers: Vec<String>,
    /// When the API server created it, to the second; `None` if it does not exist yet.
    pub created: Option<Timestamp>,
    /// Whether its deletion has started.
    pub terminating: bool,
}

impl Found {
    /// Whether a run created it; see [`manifest::is_ours`].
    pub fn is_ours(&self) -> bool {
        manifest::is_ours(self.kind, &self.name, &self.labels)
    }

    /// The run it belongs to, as its labels name it.
    pub fn run(&self) -> Option<&str> {
        manifest::run_of(&self.labels)
    }

    /// Kind and name as kubectl prints them.
    pub fn reference(&self) -> String {
        format!("{}/{}", self.kind.singular(), self.name)
    }

    pub(super) fn new(kind: Kind, object: &impl ResourceExt) -> Self {
        Self {
            kind,
            namespace: object.namespace(),
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            labels: object.labels().clone(),
            annotations: object.annotations().clone(),
            owners: object
                .owner_references()
                .iter()
                .map(|owner| owner.uid.clone())
                .collect(),
            finalizers: object.finalizers().to_vec(),
            created: object.creation_timestamp().map(|time| time.0),
            terminating: object.meta().deletion_timestamp.is_some(),
        }
    }
}

/// Label selector of one run, or of every run. What it selects is ours only if [`Found::is_ours`] agrees.
pub fn selector(run: Option<&str>) -> String {
    match run {
        Some(run) => format!("{RUN_LABEL}={run}"),
        None => RUN_LABEL.to_owned(),
    }
}
