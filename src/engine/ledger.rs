//! Every object that a run created, with its UID: what is deleted and looked for at the end, whatever became of
//! its labels.

use std::cell::RefCell;
use std::collections::HashSet;

use crate::cluster::Found;
use crate::manifest::Kind;

/// The objects that a run created so far.
#[derive(Debug, Default)]
pub(super) struct Ledger(RefCell<Vec<Found>>);

impl Ledger {
    /// Adds an object as the API server returned it.
    pub(super) fn record(&self, object: Found) {
        self.0.borrow_mut().push(object);
    }

    /// All of them, in the order in which they were created.
    pub(super) fn objects(&self) -> Vec<Found> {
        self.0.borrow().clone()
    }

    /// The UID of one of them.
    pub(super) fn uid(&self, kind: Kind, name: &str) -> Option<String> {
        let objects = self.0.borrow();
        let object = objects
            .iter()
            .find(|object| object.kind == kind && object.name == name);
        object.map(|object| object.uid.clone())
    }

    /// The UIDs of all.
    pub(super) fn uids(&self) -> HashSet<String> {
        self.0.borrow().iter().map(|object| object.uid.clone()).collect()
    }
}
