//! Records every object that a run creates, with its UID. At the end these objects are deleted and searched for, even
//! if their labels were changed.

use std::cell::RefCell;
use std::collections::HashSet;

use crate::cluster::Found;
use crate::manifest::Kind;

/// The objects that a run has created so far.
#[derive(Debug, Default)]
pub(super) struct Ledger(RefCell<Vec<Found>>);

impl Ledger {
    /// Adds an object as the API server returned it.
    pub(super) fn record(&self, object: Found) {
        self.0.borrow_mut().push(object);
    }

    /// Returns all objects in order of creation.
    pub(super) fn objects(&self) -> Vec<Found> {
        self.0.borrow().clone()
    }

    /// Returns the UID of an object, or `None` if the run did not create it.
    pub(super) fn uid(&self, kind: Kind, name: &str) -> Option<String> {
        let objects = self.0.borrow();
        let object = objects
            .iter()
            .find(|object| object.kind == kind && object.name == name);
        object.map(|object| object.uid.clone())
    }

    /// Returns the UIDs of all objects.
    pub(super) fn uids(&self) -> HashSet<String> {
        self.0.borrow().iter().map(|object| object.uid.clone()).collect()
    }
}
