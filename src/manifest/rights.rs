//! Derives the rights that a run needs from the kinds that it creates and the calls for each. A run checks them before
//! it creates anything, `doctor` reports them, and `kubectl defender-sim rights` prints them as a role.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use k8s_openapi::Resource;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::rbac::v1 as rbac;

mod grant;

use super::Kind;
use crate::scenario::request::Verb;
use crate::scenario::{Request, Scenario, Step};
pub use grant::{Grant, rules};

/// Name of the printed role and of its binding.
pub const ROLE: &str = "kubectl-defender-sim-run";
/// Name of the subject in a printed binding if none was given.
pub const PLACEHOLDER: &str = "REPLACE-ME";

const NAMESPACES: &str = <core::Namespace as Resource>::URL_PATH_SEGMENT;
const QUOTAS: &str = <core::ResourceQuota as Resource>::URL_PATH_SEGMENT;
const EVENTS: &str = <core::Event as Resource>::URL_PATH_SEGMENT;
const NODES: &str = <core::Node as Resource>::URL_PATH_SEGMENT;

/// A verb on a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Right {
    /// Verb as in RBAC: `create`, `patch`, ...
    pub verb: &'static str,
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The plural as in URLs.
    pub resource: &'static str,
    /// `log`, or empty for the object itself.
    pub subresource: &'static str,
    /// The only object that the right is on, if it is not on all.
    pub name: Option<String>,
    /// Whether objects of the resource are in a namespace.
    pub is_namespaced: bool,
    /// The namespace, if it is not that of the run.
    pub namespace: Option<String>,
}

impl Right {
    const fn core(verb: &'static str, resource: &'static str) -> Self {
        Self {
            verb,
            group: "",
            resource,
            subresource: "",
            name: None,
            is_namespaced: true,
            namespace: None,
        }
    }

    const fn cluster(verb: &'static str, group: &'static str, resource: &'static str) -> Self {
        Self {
            verb,
            group,
            resource,
            subresource: "",
            name: None,
            is_namespaced: false,
            namespace: None,
        }
    }

    fn on(kind: Kind, verb: &'static str) -> Self {
        Self {
            group: kind.group(),
            is_namespaced: kind.is_namespaced(),
            ..Self::core(verb, kind.plural())
        }
    }

    /// Returns `true` if the right is on namespaces, which are cluster-scoped.
    pub fn is_on_namespaces(&self) -> bool {
        self.group.is_empty() && self.resource == NAMESPACES
    }

    /// Returns the resource as in RBAC rules: `pods`, `pods/log`.
    fn in_rule(&self) -> String {
        match self.subresource {
            "" => self.resource.to_owned(),
            subresource => format!("{}/{subresource}", self.resource),
        }
    }

    /// Returns the resource with its group, as `kubectl auth can-i` accepts it: `pods/log`, `jobs.batch`.
    pub fn qualified(&self) -> String {
        match self.group {
            "" => self.in_rule(),
            group => format!("{}.{group}", self.in_rule()),
        }
    }
}

/// How a run uses its namespace, which determines the rights that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamespaceUse {
    /// Creates it and deletes it.
    Create,
    /// Uses one that an earlier run left, and deletes it.
    Delete,
    /// Uses one that this tool did not create, and keeps it.
    Keep,
}

/// The right to read the namespace, without which nothing else can be decided.
pub const GET_NAMESPACE: Right = Right::cluster("get", "", NAMESPACES);

/// The right to list nodes, which a run needs if it covers groups of them.
pub const LIST_NODES: Right = Right::cluster("list", "", NODES);

/// Rights that a run does not require, each with a description of what is missing without it.
pub const OPTIONAL: [(Right, &str); 3] = [
    (Right::core("list", EVENTS), "why a pod does not become ready"),
    (LIST_NODES, "labels of nodes that look like production"),
    (Right::cluster("get", "", NODES), "why a pod's node went away"),
];

/// Returns the verbs that are used on objects of a kind which a run creates in its namespace.
fn verbs(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Pod => &["get", "list", "watch", "create", "patch", "delete"],
        // Server-side apply needs both `patch` and `create` to create an object. The anchor is created without apply,
        // since its name is the lock, and patched with the record of what was created.
        _ => &["get", "list", "create", "patch", "delete"],
    }
}

/// Returns every right that a run needs.
pub fn of_run(namespace: NamespaceUse) -> Vec<Right> {
    let mut rights: Vec<Right> = Kind::OF_RUN
        .into_iter()
        .flat_map(|kind| verbs(kind).iter().map(move |verb| Right::on(kind, verb)))
        .collect();
    rights.push(Right {
        subresource: "log",
        ..Right::on(Kind::Pod, "get")
    });
    rights.push(GET_NAMESPACE);
    if namespace == NamespaceUse::Create {
        rights.push(Right::cluster("create", "", NAMESPACES));
    }
    if namespace != NamespaceUse::Keep {
        rights.push(Right::cluster("delete", "", NAMESPACES));
        // Before the namespace is deleted, a quota counts objects of kinds that the user may not list. Quotas
        // themselves are listed, since the quota would count itself.
        rights.extend(["get", "list", "create", "delete"].map(|verb| Right::core(verb, QUOTAS)));
    }
    rights
}

/// Returns the rights that a request needs before it is sent, so that what it creates can be deleted again.
pub fn of_request(request: &Request) -> Vec<Right> {
    let Some(kind) = Kind::of_api(request.api_version(), request.kind()) else {
        return vec![];
    };
    let verbs: &[&str] = match request.verb {
        Verb::Create => &["create", "get", "delete"],
        Verb::List => &["list"],
        Verb::Patch => &["get", "patch"],
    };
    // The names of objects that a run creates are not known before.
    let name = request.object["metadata"]["name"].as_str();
    let name = name.filter(|_| request.verb == Verb::Patch).map(str::to_owned);
    let right = |verb: &&'static str| Right {
        name: name.clone(),
        namespace: request.namespace().map(str::to_owned),
        ..Right::on(kind, verb)
    };
    verbs.iter().map(right).collect()
}

/// Returns the right to grant more than one has, which the API server requires for a role or a binding unless the caller
/// has everything that it grants.
fn escalating(request: &Request) -> Option<Right> {
    let kind = Kind::of_api(request.api_version(), request.kind())?;
    match kind {
        Kind::Role | Kind::ClusterRole => Some(Right::on(kind, "escalate")),
        Kind::RoleBinding | Kind::ClusterRoleBinding => Some(Right {
            name: request.object["roleRef"]["name"].as_str().map(str::to_owned),
            ..Right::on(Kind::ClusterRole, "bind")
        }),
        _ => None,
    }
}

/// Returns every right that a run of these scenarios needs, those of their requests included.
pub fn of_scenarios(scenarios: &[Scenario], namespace: NamespaceUse) -> Vec<Right> {
    let steps = || scenarios.iter().flat_map(|scenario| &scenario.steps);
    let mut rights = vec![];
    if steps().any(Step::runs_in_victim) {
        rights.extend(of_run(namespace));
    }
    let requests = steps().filter_map(|step| step.request.as_ref());
    for right in requests.flat_map(|request| of_request(request).into_iter().chain(escalating(request))) {
        if !rights.contains(&right) {
            rights.push(right);
        }
    }
    rights
}

/// Formats rights by resource: `configmaps (get, list), pods/log (get)`.
pub fn grouped(rights: &[Right]) -> String {
    let list: Vec<String> = by_resource(rights)
        .iter()
        .map(|(resource, verbs)| format!("{resource} ({})", verbs.join(", ")))
        .collect();
    list.join(", ")
}

/// Returns the verbs on each resource, by its qualified name.
pub fn by_resource(rights: &[Right]) -> BTreeMap<String, Vec<&'static str>> {
    let mut verbs: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for right in rights {
        verbs.entry(right.qualified()).or_default().push(right.verb);
    }
    verbs
}

/// An identity that a role is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A user, by the name that the API server authenticates.
    User(String),
    /// Every user in this group.
    Group(String),
    /// A service account, by namespace and name.
    ServiceAccount(String, String),
}

impl FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = text.split_once(':').unwrap_or_default();
        let name = Some(name).filter(|name| !name.is_empty());
        match (kind, name) {
            ("user", Some(name)) => Ok(Self::User(name.to_owned())),
            ("group", Some(name)) => Ok(Self::Group(name.to_owned())),
            ("serviceaccount", Some(name)) => match name.split_once(':') {
                Some((namespace, name))
                    if !namespace.is_empty() && !name.is_empty() && !name.contains(':') =>
                {
                    Ok(Self::ServiceAccount(namespace.to_owned(), name.to_owned()))
                }
                _ => Err("expected serviceaccount:NAMESPACE:NAME".to_owned()),
            },
            _ => Err("expected user:NAME, group:NAME or serviceaccount:NAMESPACE:NAME".to_owned()),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => write!(f, "user:{name}"),
            Self::Group(name) => write!(f, "group:{name}"),
            Self::ServiceAccount(namespace, name) => write!(f, "serviceaccount:{namespace}:{name}"),
        }
    }
}

impl Subject {
    fn in_binding(&self) -> rbac::Subject {
        let group = || Some(<rbac::Role as Resource>::GROUP.to_owned());
        let subject = |kind: &str, name: &str| rbac::Subject {
            api_group: group(),
            kind: kind.to_owned(),
            name: name.to_owned(),
            namespace: None,
        };
        match self {
            Self::User(name) => subject("User", name),
            Self::Group(name) => subject("Group", name),
            Self::ServiceAccount(namespace, name) => rbac::Subject {
                api_group: None,
                namespace: Some(namespace.clone()),
                ..subject("ServiceAccount", name)
            },
        }
    }
}

/// Where a role applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In all namespaces, for runs that create this namespace.
    Cluster(String),
    /// In this namespace, which exists and is kept.
    Namespace(String),
}

impl Scope {
    /// Returns how a run uses the namespace.
    pub fn namespace_use(&self) -> NamespaceUse {
        match self {
            Self::Cluster(_) => NamespaceUse::Create,
            Self::Namespace(_) => NamespaceUse::Keep,
        }
    }

    /// Returns the namespace of the run.
    pub fn namespace(&self) -> &str {
        match self {
            Self::Cluster(namespace) | Self::Namespace(namespace) => namespace,
        }
    }

    /// Returns the rights of [`OPTIONAL`] that a role of this scope can grant: nodes are cluster-scoped.
    pub fn optional(&self) -> impl Iterator<Item = (Right, &'static str)> {
        let everywhere = matches!(self, Self::Cluster(_));
        OPTIONAL
            .into_iter()
            .filter(move |(right, _)| everywhere || right.resource != NODES)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::manifest;
    use crate::plan::DEFAULT_NAMESPACE;
    use crate::plan::tests::plan;

    #[test]
    fn kinds_that_a_run_creates_are_those_with_rights() {
        let manifests = manifest::render(&plan(None), "someone");
        let created: BTreeSet<String> = manifests
            .all()
            .map(|manifest| Right::on(manifest.kind, "create").qualified())
            .collect();
        let rights = of_run(NamespaceUse::Create);
        let allowed = rights.iter().filter(|right| right.verb == "create");
        // The quota is temporary and not an object of the run.
        let allowed: BTreeSet<String> = allowed
            .map(Right::qualified)
            .filter(|resource| resource != QUOTAS)
            .collect();
        assert_eq!(created, allowed);
    }

    #[test]
    fn rights_are_listed_once() {
        let rights = of_run(NamespaceUse::Create);
        for (i, right) in rights.iter().enumerate() {
            assert!(!rights[..i].contains(right), "{right:?}");
            assert!(
                !OPTIONAL.iter().any(|(optional, _)| optional == right),
                "{right:?}"
            );
        }
    }

    #[test]
    fn kept_namespace_needs_no_right_to_change_it() {
        let count = |namespace| {
            let rights = of_run(namespace);
            let changes = rights
                .iter()
                .filter(|right| right.is_on_namespaces() && right.verb != "get");
            changes.map(|right| right.verb).collect::<Vec<_>>()
        };
        assert_eq!(count(NamespaceUse::Create), ["create", "delete"]);
        assert_eq!(count(NamespaceUse::Delete), ["delete"]);
        assert_eq!(count(NamespaceUse::Keep), [""; 0]);
    }

    /// Returns the rights that rules grant, as (group, resource, verb), one entry each.
    fn granted(rules: &[rbac::PolicyRule]) -> Vec<(String, String, String)> {
        let mut granted = vec![];
        for rule in rules {
            for group in rule.api_groups.iter().flatten() {
                for resource in rule.resources.iter().flatten() {
                    granted.extend(
                        rule.verbs
                            .iter()
                            .map(|verb| (group.clone(), resource.clone(), verb.clone())),
                    );
                }
            }
        }
        granted.sort();
        granted
    }

    #[test]
    fn rules_grant_exactly_the_rights() {
        for scope in [Scope::Cluster("n".into()), Scope::Namespace("n".into())] {
            let rights = of_run(scope.namespace_use());
            let mut expected: Vec<_> = rights
                .iter()
                .map(|right| (right.group.to_owned(), right.in_rule(), right.verb.to_owned()))
                .collect();
            expected.sort();
            let rules = rules(&rights, &scope);
            assert_eq!(granted(&rules), expected);
            for rule in &rules {
                let on_namespaces = rule.resources == Some(vec![NAMESPACES.to_owned()]);
                let named = on_namespaces && rule.verbs != ["create"] && matches!(scope, Scope::Cluster(_));
                assert_eq!(
                    rule.resource_names,
                    named.then(|| vec!["n".to_owned()]),
                    "{rule:?}"
                );
            }
        }
    }

    #[test]
    fn subjects_are_read_as_they_are_printed() {
        for text in ["user:bob", "user:a:b", "group:dev", "serviceaccount:ns:name"] {
            assert_eq!(text.parse::<Subject>().unwrap().to_string(), text);
        }
        for wrong in [
            "",
            "bob",
            "user:",
            "serviceaccount:x",
            "serviceaccount::x",
            "serviceaccount:a:b:c",
            "node:x",
        ] {
            assert!(wrong.parse::<Subject>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn binding_names_role_and_subjects() {
        let account = Subject::ServiceAccount("ci".into(), "bot".into());
        let grant = Grant::new(
            &of_run(NamespaceUse::Keep),
            &Scope::Namespace("n".into()),
            &[account],
        );
        let [role, binding] = &grant.items[..] else {
            panic!("{grant:?}");
        };
        assert_eq!(
            (&role["kind"], &binding["kind"]),
            (&"Role".into(), &"RoleBinding".into())
        );
        assert_eq!(role["metadata"]["namespace"], "n");
        assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
        let subject = serde_json::json!({ "kind": "ServiceAccount", "name": "bot", "namespace": "ci" });
        assert_eq!(binding["subjects"], serde_json::json!([subject]));
        assert!(
            role["metadata"]["labels"]
                .get(super::super::OWNER_LABEL)
                .is_none()
        );

        let name = |namespace: &str| {
            Grant::new(&[], &Scope::Cluster(namespace.into()), &[]).items[0]["metadata"]["name"].clone()
        };
        assert_eq!(name(DEFAULT_NAMESPACE), ROLE);
        assert_eq!(name("other"), "kubectl-defender-sim-run-other");
        let grant = Grant::new(&[], &Scope::Cluster("n".into()), &[]);
        assert_eq!(grant.items[1]["subjects"][0]["name"], PLACEHOLDER);
    }
}
