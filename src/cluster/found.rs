//! Objects in the cluster and their ownership.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;
use kube::core::{DynamicObject, PartialObjectMeta, Selector, SelectorExt as _};
use serde::Deserialize as _;

use crate::manifest::{self, Kind, RUN_LABEL};

/// The metadata of an object in the cluster. The content is not read, since it may be a secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The kind.
    pub kind: Kind,
    /// The namespace; `None` for a namespace.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
    /// The UID.
    pub uid: String,
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// The annotations.
    pub annotations: BTreeMap<String, String>,
    /// The UIDs of the owners.
    pub owners: Vec<String>,
    /// The finalizers.
    pub finalizers: Vec<String>,
    /// The creation time in seconds; `None` if the object does not exist yet.
    pub created: Option<Timestamp>,
    /// Whether the deletion has started.
    pub terminating: bool,
}

impl Found {
    /// Reports whether a run created the object; see [`manifest::is_ours`].
    pub fn is_ours(&self) -> bool {
        manifest::is_ours(self.kind, &self.name, &self.labels)
    }

    /// Returns the run in the labels.
    pub fn run(&self) -> Option<&str> {
        manifest::run_of(&self.labels)
    }

    /// Formats kind and name as kubectl does.
    pub fn reference(&self) -> String {
        format!("{}/{}", self.kind.singular(), self.name)
    }

    /// Returns the metadata of an object in an answer of the API server, or `None` if it is not an object.
    pub fn parse(kind: Kind, object: &serde_json::Value) -> Option<Self> {
        let object = PartialObjectMeta::<DynamicObject>::deserialize(object).ok()?;
        object.metadata.uid.as_ref()?;
        Some(Self::new(kind, &object))
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

/// Returns the label selector of one run or all runs. It may match foreign objects; see [`Found::is_ours`].
pub fn selector(run: Option<&str>) -> String {
    match run {
        Some(run) => format!("{RUN_LABEL}={run}"),
        None => RUN_LABEL.to_owned(),
    }
}
/// Whether a label selector matches these labels; an invalid selector matches none.
pub fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(labels))
}
