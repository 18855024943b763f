//! Roles that grant rights, and their bindings.

use std::collections::BTreeMap;

use k8s_openapi::Resource;
use k8s_openapi::api::rbac::v1 as rbac;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::Value;

use super::{PLACEHOLDER, ROLE, Right, Scope, Subject};
use crate::manifest::OWNER;
use crate::plan::DEFAULT_NAMESPACE;

/// A role that allows a run and nothing else, with its binding.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    api_version: &'static str,
    kind: &'static str,
    /// The role, then its binding; or those of each namespace.
    pub items: Vec<Value>,
}

impl Grant {
    /// Grants `subjects` these rights in `scope`; a placeholder stands for missing subjects.
    pub fn new(rights: &[Right], scope: &Scope, subjects: &[Subject]) -> Self {
        let placeholder = [Subject::User(PLACEHOLDER.to_owned())];
        let subjects = if subjects.is_empty() {
            &placeholder
        } else {
            subjects
        };
        let subjects: Vec<rbac::Subject> = subjects.iter().map(Subject::in_binding).collect();
        let items = match scope {
            Scope::Cluster(_) => cluster_wide(rights, scope, subjects),
            Scope::Namespace(of_run) => {
                // That of the run comes first.
                let mut namespaces: BTreeMap<Option<String>, Vec<Right>> = BTreeMap::new();
                for right in rights {
                    let other = right.namespace.clone().filter(|other| other != of_run);
                    namespaces.entry(other).or_default().push(right.clone());
                }
                let roles = namespaces.into_iter().flat_map(|(other, rights)| {
                    let namespace = other.unwrap_or_else(|| of_run.clone());
                    in_namespace(&rights, (namespace, scope), &subjects)
                });
                roles.collect()
            }
        };
        Self {
            api_version: "v1",
            kind: "List",
            items,
        }
    }
}

fn metadata(name: &str, namespace: Option<String>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace,
        // This is not the label by which objects of runs are found.
        labels: Some([("app.kubernetes.io/part-of".to_owned(), OWNER.to_owned())].into()),
        ..ObjectMeta::default()
    }
}

fn role_ref(kind: &str, name: &str) -> rbac::RoleRef {
    rbac::RoleRef {
        api_group: <rbac::Role as Resource>::GROUP.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
    }
}

fn cluster_wide(rights: &[Right], scope: &Scope, subjects: Vec<rbac::Subject>) -> Vec<Value> {
    // Roles for several namespaces that runs create must not replace each other.
    let name = match scope.namespace() {
        DEFAULT_NAMESPACE => ROLE.to_owned(),
        namespace => format!("{ROLE}-{namespace}"),
    };
    vec![
        value(&rbac::ClusterRole {
            metadata: metadata(&name, None),
            rules: Some(rules(rights, scope)),
            aggregation_rule: None,
        }),
        value(&rbac::ClusterRoleBinding {
            role_ref: role_ref("ClusterRole", &name),
            metadata: metadata(&name, None),
            subjects: Some(subjects),
        }),
    ]
}

fn in_namespace(
    rights: &[Right],
    (namespace, scope): (String, &Scope),
    subjects: &[rbac::Subject],
) -> [Value; 2] {
    [
        value(&rbac::Role {
            metadata: metadata(ROLE, Some(namespace.clone())),
            rules: Some(rules(rights, scope)),
        }),
        value(&rbac::RoleBinding {
            role_ref: role_ref("Role", ROLE),
            metadata: metadata(ROLE, Some(namespace)),
            subjects: Some(subjects.to_vec()),
        }),
    ]
}

fn value(object: &impl Serialize) -> Value {
    serde_json::to_value(object).expect("a role is always JSON")
}

/// Returns the rules that grant exactly `rights`. Resources of one group with the same verbs share a rule.
pub fn rules(rights: &[Right], scope: &Scope) -> Vec<rbac::PolicyRule> {
    // A rule can name an existing namespace; RBAC does not know the name of a namespace that is being created.
    let name = |right: &Right| {
        let is_known =
            right.is_on_namespaces() && right.verb != "create" && matches!(scope, Scope::Cluster(_));
        right
            .name
            .clone()
            .or_else(|| is_known.then(|| scope.namespace().to_owned()))
    };
    let mut verbs: BTreeMap<(Option<String>, &str, String), Vec<String>> = BTreeMap::new();
    for right in rights {
        let key = (name(right), right.group, right.in_rule());
        verbs.entry(key).or_default().push(right.verb.to_owned());
    }
    let mut rules: Vec<rbac::PolicyRule> = vec![];
    for ((name, group, resource), verbs) in verbs {
        let names = name.map(|name| vec![name]);
        let alike = rules.iter_mut().find(|rule| {
            rule.verbs == verbs
                && rule.api_groups == Some(vec![group.to_owned()])
                && rule.resource_names == names
        });
        match alike {
            Some(rule) => rule.resources.get_or_insert_default().push(resource),
            None => rules.push(rbac::PolicyRule {
                api_groups: Some(vec![group.to_owned()]),
                resources: Some(vec![resource]),
                resource_names: names,
                verbs,
                ..rbac::PolicyRule::default()
            }),
        }
    }
    rules
}
