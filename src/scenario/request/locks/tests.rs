use super::*;
use crate::scenario::catalogue;
use crate::scenario::request::{Request, Verb};

/// Changes that take a lock off the built-in object of a kind: kind, JSON pointer, new value, part of the cause. `POD`
/// stands for the pod and for the template of the Deployment.
const REFUSED: &str = r#"
POD | schedulingGates | null | expected a scheduling gate
POD | schedulingGates | [] | expected a scheduling gate
POD | nodeSelector | null | so that no node matches
POD | nodeSelector | {"kubernetes.io/os": "linux"} | so that no node matches
POD | automountServiceAccountToken | null | expected false
POD | automountServiceAccountToken | true | expected false
POD | nodeName | "node1" | must not be set
POD | containers/0/command | null | expected [/bin/true]
POD | containers/0/command | ["/bin/sh"] | expected [/bin/true]
POD | containers/0/env | [{"name": "A", "value": "b"}] | must not be set
POD | containers/0/envFrom | [{"secretRef": {"name": "s"}}] | must not be set
POD | containers/0/lifecycle | {"postStart": {}} | must not be set
POD | initContainers | [{"name": "i", "image": "i"}] | expected [/bin/true]
POD | volumes | [{"name": "v", "secret": {"secretName": "s"}}] | expected a hostPath
POD | volumes | [{"name": "v", "projected": {}}] | expected a hostPath
Pod | /metadata/labels | {"app": "web"} | would adopt the pod
Pod | /spec/restartPolicy | "Always" | expected Never
Pod | /spec/activeDeadlineSeconds | null | expected 60 seconds
Pod | /spec/activeDeadlineSeconds | 3600 | expected 60 seconds
Deployment | /spec/replicas | null | expected 0 replicas
Deployment | /spec/replicas | 1 | expected 0 replicas
Deployment | /spec/selector | {"matchLabels": {"app": "web"}} | so that no other ReplicaSet
Deployment | /spec/template/spec/volumes | [{"name": "v", "hostPath": {"path": "/"}}] | expected only one
Deployment | /spec/template/spec/hostPID | true | expected only one
Deployment | /spec/template/spec/hostIPC | true | expected only one
Deployment | /spec/template/spec/hostNetwork | true | expected only one
Service | /spec/type | null | expected ClusterIP or LoadBalancer
Service | /spec/type | "NodePort" | expected ClusterIP or LoadBalancer
Service | /spec/type | "ExternalName" | expected ClusterIP or LoadBalancer
Service | /spec/loadBalancerClass | null | no controller serves
Service | /spec/loadBalancerClass | "example.com/x.invalid" | no controller serves
Service | /spec/allocateLoadBalancerNodePorts | null | expected false
Service | /spec/allocateLoadBalancerNodePorts | true | expected false
Service | /spec/selector | null | so that no pod matches
Service | /spec/selector | {"app": "web"} | so that no pod matches
Service | /spec/externalIPs | ["192.0.2.1"] | must not be set
Service | /spec/ports/0/nodePort | 30000 | must not be set
Event | /type | "Warning" | expected Normal
Event | /involvedObject/name | "web" | about another object
Role | /aggregationRule | {} | must not be set
Role | /metadata | {"labels": {"a": "b"}} | may add the rules
ClusterRole | /aggregationRule | {} | must not be set
ClusterRole | /metadata | {"labels": {"a": "b"}} | may add the rules
RoleBinding | /subjects | null | at least one subject
RoleBinding | /subjects/0/kind | "User" | which does not exist
RoleBinding | /subjects/0/name | "default" | which does not exist
RoleBinding | /roleRef/name | "x-$(run)" | must not be bound
ClusterRoleBinding | /subjects | null | at least one subject
ClusterRoleBinding | /subjects/0/kind | "Group" | which does not exist
ClusterRoleBinding | /subjects/0/name | "default" | which does not exist
ClusterRoleBinding | /subjects/1 | {"kind": "User", "name": "u"} | which does not exist
ClusterRoleBinding | /roleRef/name | "x-$(run)" | must not be bound
WEBHOOK | failurePolicy | null | expected Ignore
WEBHOOK | failurePolicy | "Fail" | expected Ignore
WEBHOOK | timeoutSeconds | null | expected 1
WEBHOOK | timeoutSeconds | 30 | expected 1
WEBHOOK | sideEffects | "Some" | expected None
WEBHOOK | namespaceSelector | null | so that nothing matches
WEBHOOK | namespaceSelector | {"matchLabels": {"a": "b"}} | so that nothing matches
WEBHOOK | objectSelector | null | so that nothing matches
WEBHOOK | objectSelector | {"matchLabels": {"a": "b"}} | so that nothing matches
WEBHOOK | matchConditions | null | expected a condition
WEBHOOK | matchConditions/0/expression | "true" | expected a condition
WEBHOOK | rules/0/scope | null | expected the scope Namespaced
WEBHOOK | rules/0/scope | "*" | expected the scope Namespaced
WEBHOOK | clientConfig | {"url": "https://example.com"} | which does not exist
WEBHOOK | clientConfig/service/name | "web" | which does not exist
"#;

/// Differences between the built-in object of a kind and the API server's answer: kind, JSON pointer, value in the
/// answer, lost lock. No lock is lost by a `-`.
const ANSWERS: &str = r#"
POD | schedulingGates | null | schedulingGates
POD | schedulingGates | [{"name": "another"}] | schedulingGates
POD | schedulingGates/0 | {"name": "another"} | -
POD | nodeSelector | {"a": "b"} | nodeSelector
POD | nodeSelector/a | "b" | -
POD | automountServiceAccountToken | null | automountServiceAccountToken
POD | automountServiceAccountToken | true | automountServiceAccountToken
POD | nodeName | "node1" | nodeName
POD | nodeName | "" | -
POD | containers/1 | {"name": "injected"} | -
POD | containers/0/image | "mirror.example/image" | -
POD | tolerations | [{"operator": "Exists"}] | -
Deployment | /spec/replicas | null | /spec/replicas
Deployment | /spec/replicas | 1 | /spec/replicas
Deployment | /spec/selector | {"matchLabels": {"a": "b"}} | /spec/selector
Deployment | /spec/selector/matchLabels/a | "b" | -
Service | /spec/type | "NodePort" | /spec/type
Service | /spec/loadBalancerClass | null | /spec/loadBalancerClass
Service | /spec/loadBalancerClass | "example.com/real" | /spec/loadBalancerClass
Service | /spec/allocateLoadBalancerNodePorts | null | /spec/allocateLoadBalancerNodePorts
Service | /spec/selector | null | /spec/selector
Service | /spec/selector | {"a": "b"} | /spec/selector
Service | /spec/selector/a | "b" | -
Service | /spec/externalIPs | ["192.0.2.1"] | /spec/externalIPs
Service | /spec/externalIPs | [] | -
Service | /status | {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}} | /status/loadBalancer/ingress
Service | /status | {"loadBalancer": {}} | -
Service | /spec/clusterIP | "10.0.0.9" | -
Event | /message | "another" | -
Role | /aggregationRule | {"clusterRoleSelectors": []} | /aggregationRule
Role | /metadata | {"labels": {"rbac.authorization.k8s.io/aggregate-to-admin": "true"}} | /metadata/labels
Role | /metadata | {"labels": {"team": "a"}} | -
ClusterRole | /aggregationRule | {} | /aggregationRule
ClusterRole | /metadata | {"labels": {"example.com/aggregate-to-monitoring": "true"}} | /metadata/labels
ClusterRole | /metadata | {"annotations": {"a": "b"}} | -
RoleBinding | /roleRef/name | "view" | /roleRef
RoleBinding | /subjects | null | /subjects
RoleBinding | /subjects/0/name | "default" | /subjects
RoleBinding | /subjects/1 | {"kind": "User", "name": "u"} | /subjects
RoleBinding | /subjects/0/apiGroup | "" | -
ClusterRoleBinding | /roleRef/name | "view" | /roleRef
ClusterRoleBinding | /subjects/0 | {"kind": "User", "name": "u"} | /subjects
ClusterRoleBinding | /metadata | {"labels": {"team": "a"}} | -
WEBHOOK | failurePolicy | "Fail" | failurePolicy
WEBHOOK | timeoutSeconds | 10 | timeoutSeconds
WEBHOOK | sideEffects | "NoneOnDryRun" | sideEffects
WEBHOOK | clientConfig/service/name | "web" | clientConfig
WEBHOOK | clientConfig/caBundle | "Y2E=" | -
WEBHOOK | rules/0/resources/0 | "secrets" | rules
WEBHOOK | rules/1 | {"resources": ["*"]} | rules
WEBHOOK | rules/0/scope | "*" | rules
WEBHOOK | namespaceSelector | {} | namespaceSelector
WEBHOOK | namespaceSelector | {"matchLabels": {"a": "b"}} | namespaceSelector
WEBHOOK | namespaceSelector/matchExpressions | [{"key": "control-plane", "operator": "DoesNotExist"}] | -
WEBHOOK | objectSelector | null | objectSelector
WEBHOOK | matchConditions | null | matchConditions
WEBHOOK | matchConditions/0/expression | "true" | matchConditions
WEBHOOK | matchConditions/1 | {"name": "m", "expression": "true"} | -
WEBHOOK | reinvocationPolicy | "IfNeeded" | -
ValidatingWebhookConfiguration | /webhooks | [] | /webhooks
MutatingWebhookConfiguration | /webhooks/1 | {"failurePolicy": "Fail"} | /webhooks
"#;

/// Returns the first built-in request that changes an object of this kind.
fn built_in(kind: &str) -> Request {
    let steps = catalogue::all().iter().flat_map(|scenario| &scenario.steps);
    let mut requests = steps.filter_map(|step| step.request.as_ref());
    let found = requests.find(|request| request.verb != Verb::List && request.kind() == kind);
    found.unwrap_or_else(|| panic!("no {kind}")).clone()
}

/// Returns the cases of a table: request, pointer, value and expectation, with the parent of a shared pointer.
fn cases(table: &str) -> Vec<(Request, String, Value, String)> {
    let mut cases = vec![];
    for line in table.trim().lines() {
        let [kind, pointer, value, expected] = line.split(" | ").collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        let places = match kind {
            "POD" => vec![("Pod", "/spec/"), ("Deployment", "/spec/template/spec/")],
            "WEBHOOK" => vec![
                ("ValidatingWebhookConfiguration", "/webhooks/0/"),
                ("MutatingWebhookConfiguration", "/webhooks/0/"),
            ],
            kind => vec![(kind, "")],
        };
        for (kind, parent) in places {
            let shared = !parent.is_empty() && expected != "-" && table == ANSWERS;
            let expected = if shared {
                format!("{parent}{expected}")
            } else {
                expected.to_owned()
            };
            let value = serde_json::from_str(value).unwrap();
            cases.push((built_in(kind), format!("{parent}{pointer}"), value, expected));
        }
    }
    cases
}

/// Sets or inserts a property of an object, or removes it if the value is null.
fn change(object: &mut Value, pointer: &str, value: &Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = object.pointer_mut(parent);
    match (parent.unwrap_or_else(|| panic!("no parent of {pointer}")), value) {
        (Value::Array(items), value) => items.insert(key.parse().unwrap(), value.clone()),
        (parent, Value::Null) => {
            let removed = parent.as_object_mut().unwrap().remove(key);
            assert!(removed.is_some(), "no {pointer}");
        }
        (parent, value) => parent[key] = value.clone(),
    }
}

#[test]
fn object_without_one_of_its_locks_is_refused_with_the_cause() {
    for (mut request, pointer, value, expected) in cases(REFUSED) {
        assert_eq!(request.check(), []);
        change(&mut request.object, &pointer, &value);
        let wrong = request.check();
        assert_eq!(wrong.len(), 1, "{pointer} {value}: {wrong:?}");
        assert!(wrong[0].1.contains(&expected), "{pointer} {value}: {wrong:?}");
    }
}

#[test]
fn answer_without_one_of_the_locks_is_noticed_and_additions_are_not() {
    for (request, pointer, value, expected) in cases(ANSWERS) {
        let sent = &request.object;
        assert_eq!(request.missing_lock(sent, sent), None);
        let mut answer = sent.clone();
        change(&mut answer, &pointer, &value);
        let lost = request.missing_lock(sent, &answer);
        let kind = request.kind();
        assert_eq!(
            lost.as_deref().unwrap_or("-"),
            expected,
            "{kind}: {pointer} {value}"
        );
    }
}

/// Every lock of every kind is covered by the table.
#[test]
fn each_lock_is_lost_in_some_answer() {
    let lost: Vec<(String, String)> = cases(ANSWERS)
        .into_iter()
        .map(|(request, _, _, lost)| (request.kind().to_owned(), lost))
        .collect();
    for (_, kind, locks) in KINDS {
        for (pointer, _) in locks {
            let parent = if kind.ends_with("Configuration") {
                "/webhooks/0"
            } else {
                ""
            };
            let pointer = format!("{parent}{pointer}");
            assert!(
                lost.contains(&(kind.to_owned(), pointer.clone())),
                "{kind}: {pointer}"
            );
        }
    }
}

#[test]
fn node_folder_is_mounted_read_only_or_refused() {
    let steps = &catalogue::find("inert-workloads").unwrap().steps;
    let step = steps.iter().find(|step| step.id == "mount-root").unwrap();
    let mut request = step.request.clone().unwrap();
    assert_eq!(request.check(), []);
    let spec = "/spec/template/spec/containers/0";
    change(
        &mut request.object,
        &format!("{spec}/volumeMounts/0/readOnly"),
        &Value::Null,
    );
    let (field, cause) = request.check().remove(0);
    assert_eq!(field, "object.spec.template.spec.volumes[0]");
    assert!(cause.contains("expected readOnly: true"), "{cause}");
}

#[test]
fn names_owners_and_counts_of_requests_are_checked() {
    for (kind, pointer, value, field) in [
        ("Pod", "/metadata/name", "\"web\"", "object.metadata.name"),
        ("Pod", "/metadata/ownerReferences", "[]", "object.metadata"),
        ("Pod", "/metadata/finalizers", "[\"a/b\"]", "object.metadata"),
        ("Pod", "/metadata/generateName", "\"web-\"", "object.metadata"),
        (
            "Service",
            "/metadata/annotations",
            "{\"a\": \"b\"}",
            "object.metadata",
        ),
        ("Pod", "/kind", "\"DaemonSet\"", "object.kind"),
        ("Pod", "/apiVersion", "\"v2\"", "object.kind"),
        ("ConfigMap", "/metadata/name", "\"\"", "object.metadata"),
        ("ConfigMap", "/metadata/namespace", "null", "object.metadata"),
        ("ConfigMap", "/kind", "\"Secret\"", "object.kind"),
        ("ConfigMap", "/data", "{}", "object.data"),
        ("ConfigMap", "/data", "{\"a.txt\": \"b\"}", "object.data"),
        (
            "ConfigMap",
            "/data",
            "{\"$(run).override\": \"b\"}",
            "object.data",
        ),
        ("ConfigMap", "/data", "{\"$(run).server\": \"b\"}", "object.data"),
    ] {
        let mut request = built_in(kind);
        change(
            &mut request.object,
            pointer,
            &serde_json::from_str(value).unwrap(),
        );
        let wrong = request.check();
        assert!(
            wrong.iter().any(|(at, _)| at == field),
            "{pointer} {value}: {wrong:?}"
        );
    }
    for (kind, count, is_accepted) in [("Event", 0, false), ("Event", 255, true), ("ConfigMap", 2, false)] {
        let request = Request {
            count,
            ..built_in(kind)
        };
        assert_eq!(request.check().is_empty(), is_accepted, "{kind}: {count}");
    }
}

#[test]
fn only_changes_outside_the_namespace_of_the_run_need_consent() {
    let elsewhere: Value = serde_json::json!({ "namespace": "other" });
    for (kind, expected) in [
        ("Deployment", false),
        ("ClusterRole", false),
        ("ClusterRoleBinding", false),
        ("ValidatingWebhookConfiguration", true),
        ("MutatingWebhookConfiguration", true),
        ("ConfigMap", true),
    ] {
        let mut request = built_in(kind);
        assert_eq!(request.needs_consent(), expected, "{kind}");
        request.object["metadata"] = elsewhere.clone();
        assert!(request.needs_consent(), "{kind} in another namespace");
        request.verb = Verb::List;
        assert!(!request.needs_consent(), "list of {kind} in another namespace");
    }
}
