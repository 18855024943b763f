//! The locks of each kind: properties that keep an object of this kind inert.

#[cfg(test)]
mod tests;

use serde_json::Value;

use super::text;

/// How a property of an object must look in the API server's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lock {
    /// It has at least what was sent. Additions narrow selectors, so they are accepted.
    Contains,
    /// It is what was sent; defaults may be added to objects, but nothing to lists.
    Same,
    /// It is absent.
    Absent,
    /// It has no label by which a controller adds the rules of a role to other roles.
    NotAggregated,
}

/// The locks of a kind, as JSON pointers below the object or below each of its `webhooks`.
pub(super) type Locks = &'static [(&'static str, Lock)];

const POD: &[(&str, Lock)] = &[
    ("/spec/schedulingGates", Lock::Contains),
    ("/spec/nodeSelector", Lock::Contains),
    ("/spec/automountServiceAccountToken", Lock::Same),
    ("/spec/nodeName", Lock::Absent),
];
const DEPLOYMENT: &[(&str, Lock)] = &[
    ("/spec/replicas", Lock::Same),
    ("/spec/selector", Lock::Contains),
    ("/spec/template/spec/schedulingGates", Lock::Contains),
    ("/spec/template/spec/nodeSelector", Lock::Contains),
    ("/spec/template/spec/automountServiceAccountToken", Lock::Same),
    ("/spec/template/spec/nodeName", Lock::Absent),
];
const SERVICE: &[(&str, Lock)] = &[
    ("/spec/type", Lock::Same),
    ("/spec/loadBalancerClass", Lock::Same),
    ("/spec/allocateLoadBalancerNodePorts", Lock::Same),
    ("/spec/selector", Lock::Contains),
    ("/spec/externalIPs", Lock::Absent),
    ("/status/loadBalancer/ingress", Lock::Absent),
];
const ROLE: &[(&str, Lock)] = &[
    ("/aggregationRule", Lock::Absent),
    ("/metadata/labels", Lock::NotAggregated),
];
const BINDING: &[(&str, Lock)] = &[("/roleRef", Lock::Same), ("/subjects", Lock::Same)];
const WEBHOOK: &[(&str, Lock)] = &[
    ("/failurePolicy", Lock::Same),
    ("/timeoutSeconds", Lock::Same),
    ("/sideEffects", Lock::Same),
    ("/clientConfig", Lock::Same),
    ("/rules", Lock::Same),
    ("/namespaceSelector", Lock::Contains),
    ("/objectSelector", Lock::Contains),
    ("/matchConditions", Lock::Contains),
];

/// Kinds that a request may create, with their locks.
pub(super) const KINDS: [(&str, &str, Locks); 10] = [
    ("v1", "Pod", POD),
    ("v1", "Service", SERVICE),
    ("v1", "Event", &[]),
    ("apps/v1", "Deployment", DEPLOYMENT),
    ("rbac.authorization.k8s.io/v1", "Role", ROLE),
    ("rbac.authorization.k8s.io/v1", "ClusterRole", ROLE),
    ("rbac.authorization.k8s.io/v1", "RoleBinding", BINDING),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", BINDING),
    (
        "admissionregistration.k8s.io/v1",
        "ValidatingWebhookConfiguration",
        WEBHOOK,
    ),
    (
        "admissionregistration.k8s.io/v1",
        "MutatingWebhookConfiguration",
        WEBHOOK,
    ),
];

/// Returns the locks of a kind, or `None` if none are known.
pub(super) fn of(api_version: &str, kind: &str) -> Option<Locks> {
    let known = KINDS
        .iter()
        .find(|(version, name, _)| *version == api_version && *name == kind);
    known.map(|(.., locks)| *locks)
}

/// Returns the names of the kinds with known locks.
pub(super) fn kinds() -> String {
    let kinds: Vec<&str> = KINDS.iter().map(|(_, kind, _)| *kind).collect();
    kinds.join(", ")
}

/// Returns the first lock that `answer` lacks, or `None` if all are in place.
pub(super) fn missing(locks: Locks, sent: &Value, answer: &Value) -> Option<String> {
    let Some(webhooks) = sent.get("webhooks").and_then(Value::as_array) else {
        return first_missing(locks, sent, answer).map(str::to_owned);
    };
    let answered = list(answer, "webhooks");
    if answered.len() != webhooks.len() {
        return Some("/webhooks".to_owned());
    }
    let each = webhooks.iter().zip(answered).enumerate();
    each.into_iter().find_map(|(i, (sent, answer))| {
        first_missing(locks, sent, answer).map(|pointer| format!("/webhooks/{i}{pointer}"))
    })
}

fn first_missing(locks: Locks, sent: &Value, answer: &Value) -> Option<&'static str> {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    };
    let holds = |(pointer, lock): &(&str, Lock)| {
        let sent = sent.pointer(pointer);
        let answer = answer.pointer(pointer).unwrap_or(&Value::Null);
        match (lock, sent) {
            (Lock::Absent, _) => is_empty(answer),
            (Lock::NotAggregated, _) => !is_aggregated(answer),
            // A field that was not sent is no lock of this object.
            (_, None) => true,
            (Lock::Contains, Some(sent)) => contains(answer, sent),
            (Lock::Same, Some(sent)) => same(answer, sent),
        }
    };
    let lost = locks.iter().find(|lock| !holds(lock));
    lost.map(|(pointer, _)| *pointer)
}

/// Returns `true` if `answer` has everything that is in `sent`.
fn contains(answer: &Value, sent: &Value) -> bool {
    match (answer, sent) {
        (Value::Object(answer), Value::Object(sent)) => sent
            .iter()
            .all(|(key, sent)| answer.get(key).is_some_and(|answer| contains(answer, sent))),
        (Value::Array(answer), Value::Array(sent)) => sent
            .iter()
            .all(|sent| answer.iter().any(|answer| contains(answer, sent))),
        _ => answer == sent,
    }
}

/// Returns `true` if `answer` is `sent` with nothing but more fields in objects.
fn same(answer: &Value, sent: &Value) -> bool {
    match (answer, sent) {
        (Value::Object(answer), Value::Object(sent)) => sent
            .iter()
            .all(|(key, sent)| answer.get(key).is_some_and(|answer| same(answer, sent))),
        (Value::Array(answer), Value::Array(sent)) => {
            answer.len() == sent.len() && answer.iter().zip(sent).all(|(answer, sent)| same(answer, sent))
        }
        _ => answer == sent,
    }
}

/// Returns `true` if a label may select the role for an aggregated role, such as
/// `rbac.authorization.k8s.io/aggregate-to-admin`.
fn is_aggregated(labels: &Value) -> bool {
    let mut labels = labels.as_object().into_iter().flatten();
    labels.any(|(key, _)| key.contains("aggregate-to"))
}

/// What a lock expects: whether it holds, the path of the field, and what is expected there.
type Expect<'a> = dyn FnMut(bool, &str, &str) + 'a;

/// Returns the locks that an object in a scenario file lacks: the path of the field and what is expected there.
pub(super) fn unlocked(kind: &str, object: &Value) -> Vec<(String, String)> {
    let mut wrong: Vec<(String, String)> = vec![];
    let mut expect = |holds: bool, field: &str, cause: &str| {
        if !holds {
            wrong.push((field.to_owned(), cause.to_owned()));
        }
    };
    match kind {
        "Pod" => {
            let spec = &object["spec"];
            pod(spec, "spec", &mut expect);
            let cause = "must not be set: a label may be that of a workload, which would adopt the pod";
            expect(object["metadata"]["labels"].is_null(), "metadata.labels", cause);
            expect(
                spec["restartPolicy"] == "Never",
                "spec.restartPolicy",
                "expected Never",
            );
            let is_short = spec["activeDeadlineSeconds"]
                .as_u64()
                .is_some_and(|seconds| (1..=60).contains(&seconds));
            expect(
                is_short,
                "spec.activeDeadlineSeconds",
                "expected 60 seconds at most",
            );
        }
        "Deployment" => {
            let spec = &object["spec"];
            expect(spec["replicas"] == 0, "spec.replicas", "expected 0 replicas");
            expect(
                is_random(spec["selector"].get("matchLabels")),
                "spec.selector",
                "expected a label with $(nonce), so that no other ReplicaSet is adopted and scaled to 0",
            );
            pod(&spec["template"]["spec"], "spec.template.spec", &mut expect);
        }
        "Service" => service(&object["spec"], &mut expect),
        "Event" => event(object, &mut expect),
        "Role" | "ClusterRole" => {
            // Aggregation rules can select any label.
            let no_rule = object["aggregationRule"].is_null();
            expect(no_rule, "aggregationRule", "must not be set");
            let cause = "must not be set: a label may add the rules to roles that are bound";
            expect(object["metadata"]["labels"].is_null(), "metadata.labels", cause);
        }
        "RoleBinding" | "ClusterRoleBinding" => binding(object, &mut expect),
        "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration" => {
            let webhooks = list(object, "webhooks");
            expect(!webhooks.is_empty(), "webhooks", "expected at least one webhook");
            for (i, one) in webhooks.iter().enumerate() {
                webhook(one, &format!("webhooks[{i}]"), &mut expect);
            }
        }
        _ => {}
    }
    wrong
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value
        .get(field)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// Returns `true` if a value of the map is random, so that nothing else has it.
fn is_random(map: Option<&Value>) -> bool {
    let random = |value: &Value| {
        value
            .as_str()
            .is_some_and(|text| text.contains("$(nonce)") || text.contains("$(uuid)"))
    };
    map.and_then(Value::as_object)
        .is_some_and(|map| map.values().any(random))
}

fn pod(spec: &Value, path: &str, expect: &mut Expect<'_>) {
    let at = |field: &str| format!("{path}.{field}");
    expect(
        !list(spec, "schedulingGates").is_empty(),
        &at("schedulingGates"),
        "expected a scheduling gate, so that the pod never runs",
    );
    expect(
        is_random(spec.get("nodeSelector")),
        &at("nodeSelector"),
        "expected a label with $(nonce), so that no node matches",
    );
    let token = spec["automountServiceAccountToken"] == false;
    expect(token, &at("automountServiceAccountToken"), "expected false");
    expect(spec["nodeName"].is_null(), &at("nodeName"), "must not be set");
    containers(spec, path, expect);
    volumes(spec, path, expect);
}

/// Expects containers that do nothing even if they ran.
fn containers(spec: &Value, path: &str, expect: &mut Expect<'_>) {
    for field in ["initContainers", "containers"] {
        for (i, container) in list(spec, field).iter().enumerate() {
            let at = |name: &str| format!("{path}.{field}[{i}].{name}");
            let command = &container["command"];
            let does_nothing = ["/bin/true", "/nonexistent"]
                .iter()
                .any(|program| *command == serde_json::json!([program]));
            expect(
                does_nothing,
                &at("command"),
                "expected [/bin/true] or [/nonexistent]",
            );
            for name in ["lifecycle", "env", "envFrom"] {
                expect(container[name].is_null(), &at(name), "must not be set");
            }
        }
    }
}

/// Expects no volume with secrets, and at most one property that would give access to the node.
fn volumes(spec: &Value, path: &str, expect: &mut Expect<'_>) {
    let containers = || {
        list(spec, "initContainers")
            .iter()
            .chain(list(spec, "containers"))
    };
    let mut has_host_path = false;
    for (i, volume) in list(spec, "volumes").iter().enumerate() {
        let is_host_path = volume["hostPath"].is_object();
        has_host_path |= is_host_path;
        let at = format!("{path}.volumes[{i}]");
        let is_known = is_host_path || volume["emptyDir"].is_object();
        expect(is_known, &at, "expected a hostPath or an emptyDir");
        let mut mounts = containers().flat_map(|container| list(container, "volumeMounts"));
        let is_writable = mounts.any(|mount| mount["name"] == volume["name"] && mount["readOnly"] != true);
        expect(
            !(is_host_path && is_writable),
            &at,
            "expected readOnly: true in each mount of a hostPath",
        );
    }
    let mut all = containers();
    let is_privileged = all.any(|container| container["securityContext"]["privileged"] == true);
    let namespaces = ["hostPID", "hostIPC", "hostNetwork"];
    let in_host_namespace = namespaces.iter().any(|field| spec[field] == true);
    let ways = [has_host_path, is_privileged, in_host_namespace];
    expect(
        ways.into_iter().filter(|way| *way).count() <= 1,
        path,
        "expected only one of hostPath, privileged and a namespace of the host",
    );
}

fn service(spec: &Value, expect: &mut Expect<'_>) {
    expect(
        is_random(spec.get("selector")),
        "spec.selector",
        "expected a label with $(nonce), so that no pod matches",
    );
    let no_addresses = spec["externalIPs"].is_null();
    expect(no_addresses, "spec.externalIPs", "must not be set");
    for (i, port) in list(spec, "ports").iter().enumerate() {
        let field = format!("spec.ports[{i}].nodePort");
        expect(port["nodePort"].is_null(), &field, "must not be set");
    }
    // Required, so that it is compared with the answer.
    match spec["type"].as_str().unwrap_or_default() {
        "ClusterIP" => {}
        "LoadBalancer" => {
            let class = spec["loadBalancerClass"].as_str();
            let is_unknown =
                class.is_some_and(|class| class.split('/').next().unwrap_or_default().ends_with(".invalid"));
            expect(
                is_unknown,
                "spec.loadBalancerClass",
                "expected a class below .invalid, which no controller serves",
            );
            let no_ports = spec["allocateLoadBalancerNodePorts"] == false;
            expect(no_ports, "spec.allocateLoadBalancerNodePorts", "expected false");
        }
        _ => expect(false, "spec.type", "expected ClusterIP or LoadBalancer"),
    }
}

fn event(object: &Value, expect: &mut Expect<'_>) {
    expect(object["type"] == "Normal", "type", "expected Normal");
    let involved = text(object, "/involvedObject/name");
    expect(
        involved == "mdc-simulation" || involved.contains("$(run)"),
        "involvedObject.name",
        "expected mdc-simulation or a name with $(run): the event must not be about another object",
    );
}

fn binding(object: &Value, expect: &mut Expect<'_>) {
    let subjects = list(object, "subjects");
    expect(!subjects.is_empty(), "subjects", "expected at least one subject");
    for (i, subject) in subjects.iter().enumerate() {
        let is_absent = subject["kind"] == "ServiceAccount" && text(subject, "/name").contains("$(nonce)");
        let cause = "expected a ServiceAccount with $(nonce) in its name, which does not exist";
        expect(is_absent, &format!("subjects[{i}]"), cause);
    }
    let own = text(object, "/roleRef/name").contains("$(run)");
    expect(
        !own,
        "roleRef.name",
        "a role that a run creates must not be bound",
    );
}

fn webhook(webhook: &Value, path: &str, expect: &mut Expect<'_>) {
    let at = |field: &str| format!("{path}.{field}");
    for (field, value, cause) in [
        ("failurePolicy", Value::from("Ignore"), "expected Ignore"),
        ("timeoutSeconds", Value::from(1), "expected 1"),
        ("sideEffects", Value::from("None"), "expected None"),
    ] {
        expect(webhook[field] == value, &at(field), cause);
    }
    for field in ["namespaceSelector", "objectSelector"] {
        expect(
            is_random(webhook[field].get("matchLabels")),
            &at(field),
            "expected a label with $(nonce) or $(uuid), so that nothing matches",
        );
    }
    let never = list(webhook, "matchConditions")
        .iter()
        .any(|condition| condition["expression"] == "false");
    expect(
        never,
        &at("matchConditions"),
        "expected a condition with the expression \"false\"",
    );
    // A namespace selector does not apply to cluster-scoped objects.
    let is_namespaced = list(webhook, "rules")
        .iter()
        .all(|rule| rule["scope"] == "Namespaced");
    expect(is_namespaced, &at("rules"), "expected the scope Namespaced");
    let client = &webhook["clientConfig"];
    let is_absent = text(client, "/service/name").contains("$(nonce)") && client["url"].is_null();
    expect(
        is_absent,
        &at("clientConfig"),
        "expected a service with $(nonce) in its name, which does not exist, and no url",
    );
}
