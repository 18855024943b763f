//! Tests of the locks, on the requests of the built-in scenarios.

use super::locks::{KINDS, Lock};
use super::*;
use crate::scenario::catalogue;

/// Returns the requests of all scenarios that create something.
fn creations() -> impl Iterator<Item = &'static Request> {
    let steps = catalogue::all().iter().flat_map(|scenario| &scenario.steps);
    let requests = steps.filter_map(|step| step.request.as_ref());
    requests.filter(|request| request.verb == Verb::Create)
}

/// Returns a request with a field of its object set, or removed by null.
fn with(request: &Request, pointer: &str, value: Value) -> Request {
    let mut changed = request.clone();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    changed.object.pointer_mut(parent).unwrap()[field] = value;
    changed
}

#[test]
fn request_without_one_of_its_locks_is_refused() {
    let mut kinds = std::collections::BTreeSet::new();
    for request in creations() {
        assert_eq!(request.check(), vec![], "{request:#?}");
        kinds.insert(request.kind());
        let locks: &[&str] = match request.kind() {
            "Pod" => &[
                "/spec/schedulingGates",
                "/spec/nodeSelector",
                "/spec/automountServiceAccountToken",
            ],
            "Deployment" => &[
                "/spec/replicas",
                "/spec/template/spec/schedulingGates",
                "/spec/template/spec/nodeSelector",
                "/spec/template/spec/automountServiceAccountToken",
            ],
            "Service" => &[
                "/spec/type",
                "/spec/selector",
                "/spec/loadBalancerClass",
                "/spec/allocateLoadBalancerNodePorts",
            ],
            "RoleBinding" | "ClusterRoleBinding" => &["/subjects", "/subjects/0/name"],
            "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration" => &[
                "/webhooks/0/failurePolicy",
                "/webhooks/0/timeoutSeconds",
                "/webhooks/0/sideEffects",
                "/webhooks/0/namespaceSelector",
                "/webhooks/0/objectSelector",
                "/webhooks/0/matchConditions",
                "/webhooks/0/clientConfig/service",
            ],
            _ => &[],
        };
        for lock in locks {
            let mistakes = with(request, lock, Value::Null).check();
            let field = format!("object{}", lock.replace("/0", "[0]").replace('/', "."));
            let names_it = |(wrong, cause): &(String, String)| field.starts_with(wrong) && !cause.is_empty();
            assert!(
                mistakes.iter().any(names_it),
                "{} {lock}: {mistakes:?}",
                request.kind()
            );
        }
    }
    assert_eq!(kinds.len(), KINDS.len(), "{kinds:?}");
}

#[test]
fn dangerous_fields_are_refused() {
    let of = |kind: &str| creations().find(|request| request.kind() == kind).unwrap();
    for (kind, pointer, value) in [
        ("Pod", "/spec/nodeName", "node-1".into()),
        ("Deployment", "/spec/replicas", 1.into()),
        ("Service", "/spec/type", "NodePort".into()),
        ("Service", "/spec/externalIPs", serde_json::json!(["192.0.2.1"])),
        ("Service", "/spec/loadBalancerClass", "service.k8s.aws/nlb".into()),
        ("ClusterRole", "/aggregationRule", serde_json::json!({})),
        (
            "ClusterRoleBinding",
            "/roleRef/name",
            "defender-sim-$(run)-wildcard".into(),
        ),
        ("ClusterRoleBinding", "/subjects/0/kind", "User".into()),
        (
            "MutatingWebhookConfiguration",
            "/webhooks/0/failurePolicy",
            "Fail".into(),
        ),
        (
            "MutatingWebhookConfiguration",
            "/webhooks/0/clientConfig/url",
            "https://example.com".into(),
        ),
        ("Role", "/kind", "Secret".into()),
    ] {
        assert_ne!(with(of(kind), pointer, value).check(), vec![], "{kind} {pointer}");
    }
    let named = |name: &str| with(of("Role"), "/metadata", serde_json::json!({ "name": name }));
    assert_ne!(named("admin").check(), vec![]);
    assert_eq!(named("x-$(run)").check(), vec![]);
    for label in ["rbac.authorization.k8s.io/aggregate-to-admin", "example.com/any"] {
        let labelled = serde_json::json!({ "labels": { label: "true" } });
        assert_ne!(with(of("ClusterRole"), "/metadata", labelled).check(), vec![]);
    }
}

#[test]
fn every_lock_is_missed_when_the_cluster_takes_it_away() {
    let mut checked = std::collections::BTreeSet::new();
    for request in creations() {
        let of_webhook = request.object["webhooks"].is_array();
        assert_eq!(request.missing_lock(&request.object, &request.object), None);
        for (lock, _) in request.locks().unwrap() {
            let pointer = if of_webhook {
                format!("/webhooks/0{lock}")
            } else {
                (*lock).to_owned()
            };
            if request.object.pointer(&pointer).is_none() {
                continue;
            }
            checked.insert((request.kind(), *lock));
            let answer = with(request, &pointer, Value::Null).object;
            let found = request.missing_lock(&request.object, &answer);
            assert_eq!(found, Some(pointer), "{}", request.kind());
        }
    }
    // A scenario has every lock except those that are about absent fields.
    let all = KINDS.iter().flat_map(|(_, kind, locks)| {
        let present = locks
            .iter()
            .filter(|(_, lock)| matches!(lock, Lock::Contains | Lock::Same));
        present.map(move |(lock, _)| (*kind, *lock))
    });
    assert_eq!(checked, all.collect());
}

#[test]
fn lock_that_an_answer_lacks_is_named_and_additions_are_accepted() {
    let of = |kind: &str| creations().find(|request| request.kind() == kind).unwrap();
    for (kind, pointer, value, missing) in [
        (
            "Pod",
            "/spec/schedulingGates",
            serde_json::json!([]),
            Some("/spec/schedulingGates"),
        ),
        ("Pod", "/spec/nodeName", "node-1".into(), Some("/spec/nodeName")),
        ("Pod", "/spec/priority", 7.into(), None),
        ("Deployment", "/spec/replicas", 1.into(), Some("/spec/replicas")),
        (
            "Service",
            "/spec/loadBalancerClass",
            Value::Null,
            Some("/spec/loadBalancerClass"),
        ),
        (
            "Service",
            "/status",
            serde_json::json!({ "loadBalancer": {} }),
            None,
        ),
        (
            "Service",
            "/status",
            serde_json::json!({ "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }] } }),
            Some("/status/loadBalancer/ingress"),
        ),
        (
            "ClusterRole",
            "/metadata",
            serde_json::json!({ "labels": { "example.com/aggregate-to-monitoring": "true" } }),
            Some("/metadata/labels"),
        ),
        (
            "ClusterRole",
            "/metadata",
            serde_json::json!({ "labels": { "example.com/team": "x" } }),
            None,
        ),
        (
            "RoleBinding",
            "/subjects",
            serde_json::json!([]),
            Some("/subjects"),
        ),
        (
            "MutatingWebhookConfiguration",
            "/webhooks/0/namespaceSelector/matchExpressions",
            serde_json::json!([{ "key": "control-plane", "operator": "DoesNotExist" }]),
            None,
        ),
        (
            "MutatingWebhookConfiguration",
            "/webhooks/0/matchConditions",
            Value::Null,
            Some("/webhooks/0/matchConditions"),
        ),
        (
            "MutatingWebhookConfiguration",
            "/webhooks",
            serde_json::json!([]),
            Some("/webhooks"),
        ),
    ] {
        let request = of(kind);
        let answer = with(request, pointer, value).object;
        let found = request.missing_lock(&request.object, &answer);
        assert_eq!(found.as_deref(), missing, "{kind} {pointer}");
    }
}
