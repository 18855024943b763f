//! What a run has to be allowed to do in its namespace. Checked before anything is made, and the source of
//! the documented role.

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

const fn right(verb: &'static str, kind: Kind, subresource: &'static str) -> Right {
    Right {
        verb,
        kind,
        subresource,
    }
}

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
