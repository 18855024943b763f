//! What a run has to be allowed to do in its namespace. Checked before anything is made, and the source of
//! the documented role.

use std::collections::BTreeMap;

use super::Kind;

/// One verb on one kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    /// As RBAC has it: `create`, `patch`, ...
    pub verb: &'static str,
    /// On what.
    pub kind: Kind,
    /// `log`, or empty for the object itself.
    pub subresource: &'static str,
}

impl Right {
    /// What it is about, as `kubectl auth can-i` takes it: `pods`, `pods/log`.
    pub fn resource(&self) -> String {
        match self.subresource {
            "" => self.kind.plural().to_owned(),
            subresource => format!("{}/{subresource}", self.kind.plural()),
        }
    }
}

/// Rights as a text, by resource: `configmaps (create, patch), pods/log (get)`.
pub fn told(rights: &[Right]) -> String {
    let mut verbs: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for right in rights {
        verbs.entry(right.resource()).or_default().push(right.verb);
    }
    let list: Vec<String> = verbs
        .iter()
        .map(|(resource, verbs)| format!("{resource} ({})", verbs.join(", ")))
        .collect();
    list.join(", ")
}

const fn right(verb: &'static str, kind: Kind, subresource: &'static str) -> Right {
    Right {
        verb,
        kind,
        subresource,
    }
}

/// What a run needs besides, where its namespace does not exist yet: it is made, and removed afterwards.
pub const MAKE_NAMESPACE: [Right; 2] = [
    right("create", Kind::Namespace, ""),
    right("delete", Kind::Namespace, ""),
];

/// Everything a run needs in its namespace. Server-side apply that makes an object takes both `patch` and
/// `create`; the Job is made by `create` alone, since its name is the lock.
pub const RIGHTS: [Right; 33] = [
    right("create", Kind::Job, ""),
    right("list", Kind::Job, ""),
    right("delete", Kind::Job, ""),
    right("get", Kind::Job, ""),
    right("create", Kind::ServiceAccount, ""),
    right("patch", Kind::ServiceAccount, ""),
    right("list", Kind::ServiceAccount, ""),
    right("delete", Kind::ServiceAccount, ""),
    right("create", Kind::ConfigMap, ""),
    right("patch", Kind::ConfigMap, ""),
    right("list", Kind::ConfigMap, ""),
    right("delete", Kind::ConfigMap, ""),
    right("create", Kind::Secret, ""),
    right("patch", Kind::Secret, ""),
    right("list", Kind::Secret, ""),
    right("delete", Kind::Secret, ""),
    right("create", Kind::NetworkPolicy, ""),
    right("patch", Kind::NetworkPolicy, ""),
    right("list", Kind::NetworkPolicy, ""),
    right("delete", Kind::NetworkPolicy, ""),
    right("create", Kind::Service, ""),
    right("patch", Kind::Service, ""),
    right("list", Kind::Service, ""),
    right("get", Kind::Service, ""),
    right("delete", Kind::Service, ""),
    right("create", Kind::Pod, ""),
    right("patch", Kind::Pod, ""),
    right("list", Kind::Pod, ""),
    right("get", Kind::Pod, ""),
    right("watch", Kind::Pod, ""),
    right("delete", Kind::Pod, ""),
    right("get", Kind::Pod, "log"),
    right("get", Kind::Namespace, ""),
];
