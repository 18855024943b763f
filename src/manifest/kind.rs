//! The kinds of objects in a run, with their names in the API.

use k8s_openapi::api::{batch::v1 as batch, core::v1 as core, networking::v1 as networking};
use k8s_openapi::{Metadata, Resource};

/// A kind of object that this tool creates and may delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `v1/Namespace`, the only cluster-scoped kind.
    Namespace,
    /// `batch/v1/Job`
    Job,
    /// `v1/ServiceAccount`
    ServiceAccount,
    /// `v1/ConfigMap`
    ConfigMap,
    /// `v1/Secret`
    Secret,
    /// `networking.k8s.io/v1/NetworkPolicy`
    NetworkPolicy,
    /// `v1/Service`
    Service,
    /// `v1/Pod`
    Pod,
}

impl Kind {
    /// Every namespaced kind.
    pub const NAMESPACED: [Kind; 7] = [
        Kind::Pod,
        Kind::Job,
        Kind::Service,
        Kind::NetworkPolicy,
        Kind::ConfigMap,
        Kind::Secret,
        Kind::ServiceAccount,
    ];

    /// Returns kind and name of a reference such as `pod/mdc-simulation-victim`.
    /// Returns `None` if no run creates objects of that kind.
    pub fn of_reference(reference: &str) -> Option<(Self, &str)> {
        let (singular, name) = reference.split_once('/')?;
        let kind = Self::NAMESPACED
            .into_iter()
            .find(|kind| kind.singular() == singular)?;
        Some((kind, name))
    }

    /// Returns group, version, kind and plural from the generated types.
    fn names(self) -> (&'static str, &'static str, &'static str, &'static str) {
        fn of<K: Resource + Metadata>() -> (&'static str, &'static str, &'static str, &'static str) {
            (K::GROUP, K::VERSION, K::KIND, K::URL_PATH_SEGMENT)
        }
        match self {
            Kind::Namespace => of::<core::Namespace>(),
            Kind::Job => of::<batch::Job>(),
            Kind::ServiceAccount => of::<core::ServiceAccount>(),
            Kind::ConfigMap => of::<core::ConfigMap>(),
            Kind::Secret => of::<core::Secret>(),
            Kind::NetworkPolicy => of::<networking::NetworkPolicy>(),
            Kind::Service => of::<core::Service>(),
            Kind::Pod => of::<core::Pod>(),
        }
    }

    /// Returns the API group, which is empty for the core group.
    pub fn group(self) -> &'static str {
        self.names().0
    }

    /// Returns the API version within the group.
    pub fn version(self) -> &'static str {
        self.names().1
    }

    /// Returns group and version as in manifests.
    pub fn api_version(self) -> String {
        match self.names() {
            ("", version, ..) => version.to_owned(),
            (group, version, ..) => format!("{group}/{version}"),
        }
    }

    /// Returns the kind as in manifests.
    pub fn kind(self) -> &'static str {
        self.names().2
    }

    /// Returns the plural as in URLs.
    pub fn plural(self) -> &'static str {
        self.names().3
    }

    /// Returns the lower-case singular with the group, as kubectl prints it: `networkpolicy.networking.k8s.io`.
    pub fn singular(self) -> String {
        let kind = self.kind().to_lowercase();
        match self.group() {
            "" => kind,
            group => format!("{kind}.{group}"),
        }
    }
}
