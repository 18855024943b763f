//! The kinds of objects in a run, with their names in the API.

use k8s_openapi::api::{
    admissionregistration::v1 as admission, apps::v1 as apps, batch::v1 as batch, core::v1 as core,
    networking::v1 as networking, rbac::v1 as rbac,
};
use k8s_openapi::{Metadata, Resource};

/// A kind of object that this tool creates and may delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `v1/Namespace`, which is cluster-scoped.
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
    /// `v1/Event`, which steps create.
    Event,
    /// `apps/v1/Deployment`, which steps create.
    Deployment,
    /// `rbac.authorization.k8s.io/v1/Role`, which steps create.
    Role,
    /// `rbac.authorization.k8s.io/v1/RoleBinding`, which steps create.
    RoleBinding,
    /// `rbac.authorization.k8s.io/v1/ClusterRole`, which steps create; cluster-scoped.
    ClusterRole,
    /// `rbac.authorization.k8s.io/v1/ClusterRoleBinding`, which steps create; cluster-scoped.
    ClusterRoleBinding,
    /// `admissionregistration.k8s.io/v1/ValidatingWebhookConfiguration`, which steps create; cluster-scoped.
    ValidatingWebhook,
    /// `admissionregistration.k8s.io/v1/MutatingWebhookConfiguration`, which steps create; cluster-scoped.
    MutatingWebhook,
}

impl Kind {
    /// The kinds of the objects that make up a run in its namespace.
    pub const OF_RUN: [Kind; 7] = [
        Kind::Pod,
        Kind::Job,
        Kind::Service,
        Kind::NetworkPolicy,
        Kind::ConfigMap,
        Kind::Secret,
        Kind::ServiceAccount,
    ];
    /// The kinds that steps may create through the Kubernetes API.
    pub const OF_REQUESTS: [Kind; 10] = [
        Kind::Pod,
        Kind::Service,
        Kind::Event,
        Kind::Deployment,
        Kind::Role,
        Kind::RoleBinding,
        Kind::ClusterRole,
        Kind::ClusterRoleBinding,
        Kind::ValidatingWebhook,
        Kind::MutatingWebhook,
    ];

    /// Returns the kind with this `apiVersion` and `kind` in manifests, if steps may use it.
    pub fn of_api(api_version: &str, kind: &str) -> Option<Self> {
        let mut known = Self::OF_REQUESTS.into_iter().chain([Kind::ConfigMap]);
        known.find(|known| known.kind() == kind && known.api_version() == api_version)
    }

    /// Returns `true` if objects of this kind are in a namespace.
    pub fn is_namespaced(self) -> bool {
        use Kind::{ClusterRole, ClusterRoleBinding, MutatingWebhook, Namespace, ValidatingWebhook};
        !matches!(
            self,
            Namespace | ClusterRole | ClusterRoleBinding | ValidatingWebhook | MutatingWebhook
        )
    }

    /// Returns kind and name of a reference such as `pod/mdc-simulation-victim`.
    /// Returns `None` if no run creates objects of that kind.
    pub fn of_reference(reference: &str) -> Option<(Self, &str)> {
        let (singular, name) = reference.split_once('/')?;
        let kind = Self::OF_RUN
            .into_iter()
            .chain(Self::OF_REQUESTS)
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
            Kind::Event => of::<core::Event>(),
            Kind::Deployment => of::<apps::Deployment>(),
            Kind::Role => of::<rbac::Role>(),
            Kind::RoleBinding => of::<rbac::RoleBinding>(),
            Kind::ClusterRole => of::<rbac::ClusterRole>(),
            Kind::ClusterRoleBinding => of::<rbac::ClusterRoleBinding>(),
            Kind::ValidatingWebhook => of::<admission::ValidatingWebhookConfiguration>(),
            Kind::MutatingWebhook => of::<admission::MutatingWebhookConfiguration>(),
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

    /// Returns the plural with the group, as `kubectl` accepts it: `deployments.apps`.
    pub fn resource(self) -> String {
        match self.group() {
            "" => self.plural().to_owned(),
            group => format!("{}.{group}", self.plural()),
        }
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
