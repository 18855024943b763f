//! Steps that call the Kubernetes API, and the locks that keep what they create inert.
//!
//! A request may create only kinds for which this module knows locks: properties that make the object harmless. They
//! are required in the scenario file, and checked again in the API server's answer, since an admission webhook may have
//! changed the object.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One call to the Kubernetes API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Request {
    /// The verb.
    pub verb: Verb,
    /// The object: `apiVersion`, `kind`, `metadata` and content. Its name is `defender-sim-$(run)-<step>` unless it has
    /// another one with `$(run)`; its namespace is that of the run unless it has another one. In all strings, `$(run)`
    /// is the ID of the run, `$(nonce)` random text, `$(uuid)` a random UUID, `$(namespace)` the namespace of the run,
    /// and `$(victimImage)` the image of the victim.
    pub object: Value,
    /// Number of objects to create, one by one. The default is 1.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub count: u8,
    /// Seconds between creation and deletion. The default is 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hold_seconds: u16,
    /// User agent instead of the tool's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Verb {
    /// Creates the object, and deletes it afterwards.
    Create,
    /// Lists the objects of its kind in its namespace.
    List,
    /// Adds the entries in `data` to an existing `ConfigMap`, and removes them afterwards.
    Patch,
}

impl Verb {
    /// Returns the verb as in RBAC rules.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Create => "create",
            Verb::List => "list",
            Verb::Patch => "patch",
        }
    }
}

const fn one() -> u8 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_one(count: &u8) -> bool {
    *count == 1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(seconds: &u16) -> bool {
    *seconds == 0
}

/// How a property of an object must look in the API server's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lock {
    /// It has at least what was sent. Additions narrow selectors, so they are accepted.
    Contains,
    /// It has what was sent, and nothing is added to the list.
    Same,
    /// It is absent.
    Absent,
}

/// The locks of a kind, as JSON pointers below the object or below each of its `webhooks`.
type Locks = &'static [(&'static str, Lock)];

const POD: Locks = &[
    ("/spec/schedulingGates", Lock::Contains),
    ("/spec/nodeSelector", Lock::Contains),
    ("/spec/automountServiceAccountToken", Lock::Same),
    ("/spec/nodeName", Lock::Absent),
];
const DEPLOYMENT: Locks = &[
    ("/spec/replicas", Lock::Same),
    ("/spec/template/spec/schedulingGates", Lock::Contains),
    ("/spec/template/spec/nodeSelector", Lock::Contains),
    ("/spec/template/spec/automountServiceAccountToken", Lock::Same),
    ("/spec/template/spec/nodeName", Lock::Absent),
];
const SERVICE: Locks = &[
    ("/spec/type", Lock::Same),
    ("/spec/loadBalancerClass", Lock::Same),
    ("/spec/allocateLoadBalancerNodePorts", Lock::Same),
    ("/spec/selector", Lock::Contains),
    ("/spec/externalIPs", Lock::Absent),
    ("/status/loadBalancer/ingress", Lock::Absent),
];
const ROLE: Locks = &[
    ("/aggregationRule", Lock::Absent),
    (
        "/metadata/labels/rbac.authorization.k8s.io~1aggregate-to-admin",
        Lock::Absent,
    ),
    (
        "/metadata/labels/rbac.authorization.k8s.io~1aggregate-to-edit",
        Lock::Absent,
    ),
    (
        "/metadata/labels/rbac.authorization.k8s.io~1aggregate-to-view",
        Lock::Absent,
    ),
];
const BINDING: Locks = &[("/roleRef", Lock::Same), ("/subjects", Lock::Same)];
const WEBHOOK: Locks = &[
    ("/failurePolicy", Lock::Same),
    ("/timeoutSeconds", Lock::Same),
    ("/sideEffects", Lock::Same),
    ("/clientConfig", Lock::Same),
    ("/namespaceSelector", Lock::Contains),
    ("/objectSelector", Lock::Contains),
    ("/matchConditions", Lock::Contains),
];

/// Kinds that a request may create, with their locks.
const KINDS: [(&str, &str, Locks); 10] = [
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

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

impl Request {
    /// Returns the `apiVersion` of the object.
    pub fn api_version(&self) -> &str {
        text(&self.object, "/apiVersion")
    }

    /// Returns the kind of the object.
    pub fn kind(&self) -> &str {
        text(&self.object, "/kind")
    }

    /// Returns the namespace of the object, or `None` for that of the run or a cluster-scoped kind.
    pub fn namespace(&self) -> Option<&str> {
        Some(text(&self.object, "/metadata/namespace")).filter(|namespace| !namespace.is_empty())
    }

    /// Returns `true` if the request changes something outside the namespace of the run that can affect others: an
    /// admission webhook, or an object in another namespace.
    pub fn needs_consent(&self) -> bool {
        self.verb != Verb::List
            && (self.kind().ends_with("WebhookConfiguration") || self.namespace().is_some())
    }

    fn locks(&self) -> Option<Locks> {
        let known = KINDS
            .iter()
            .find(|(version, kind, _)| *version == self.api_version() && *kind == self.kind());
        known.map(|(.., locks)| *locks)
    }

    /// Returns the first lock that an object lacks compared with what was sent, or `None` if all are in place. `sent` is
    /// the object with its placeholders replaced, `answer` the object in the API server's answer.
    pub fn missing_lock(&self, sent: &Value, answer: &Value) -> Option<String> {
        let locks = self.locks()?;
        let Some(webhooks) = sent.get("webhooks").and_then(Value::as_array) else {
            return missing(locks, sent, answer).map(str::to_owned);
        };
        let answered = answer
            .get("webhooks")
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice);
        if answered.len() != webhooks.len() {
            return Some("/webhooks".to_owned());
        }
        let each = webhooks.iter().zip(answered).enumerate();
        each.into_iter().find_map(|(i, (sent, answer))| {
            missing(locks, sent, answer).map(|pointer| format!("/webhooks/{i}{pointer}"))
        })
    }

    /// Returns every mistake: the path of the field within the request, and the cause.
    pub(super) fn check(&self) -> Vec<(String, String)> {
        let mut wrong = vec![];
        let mut refuse = |field: &str, cause: &str| wrong.push((field.to_owned(), cause.to_owned()));
        let metadata = &self.object["metadata"];
        for field in ["ownerReferences", "finalizers", "generateName", "annotations"] {
            if !metadata[field].is_null() {
                refuse("object.metadata", &format!("{field} must not be set"));
            }
        }
        if self.count == 0 || (self.count > 1 && self.verb != Verb::Create) {
            refuse("count", "expected 1 to 255 objects to create");
        }
        let name = metadata["name"].as_str();
        match self.verb {
            Verb::Create => {
                if name.is_some_and(|name| !name.contains("$(run)")) {
                    refuse("object.metadata.name", "the name must contain $(run)");
                }
                if self.locks().is_none() {
                    let kinds: Vec<&str> = KINDS.iter().map(|(_, kind, _)| *kind).collect();
                    let cause = format!(
                        "no locks are known for this kind; expected one of {}",
                        kinds.join(", ")
                    );
                    refuse("object.kind", &cause);
                }
                for (field, cause) in unlocked(self.kind(), &self.object) {
                    refuse(&format!("object.{field}"), &cause);
                }
            }
            Verb::List => {
                if self.locks().is_none() {
                    refuse("object.kind", "expected a kind that a request may create");
                }
            }
            Verb::Patch => self.check_patch(&mut refuse),
        }
        wrong
    }

    fn check_patch(&self, refuse: &mut impl FnMut(&str, &str)) {
        if (self.api_version(), self.kind()) != ("v1", "ConfigMap") {
            refuse("object.kind", "only a ConfigMap can be patched");
        }
        if text(&self.object, "/metadata/name").is_empty() || self.namespace().is_none() {
            refuse(
                "object.metadata",
                "expected the name and the namespace of the ConfigMap",
            );
        }
        let data = self.object["data"].as_object();
        let keys: Vec<&String> = data.into_iter().flatten().map(|(key, _)| key).collect();
        if keys.is_empty() {
            refuse("object.data", "expected the entries to add");
        }
        for key in keys {
            // CoreDNS imports files with these extensions.
            if !key.contains("$(run)") || key.ends_with(".override") || key.ends_with(".server") {
                refuse(
                    "object.data",
                    "a key must contain $(run), and must not end in .override or .server",
                );
            }
        }
    }
}

/// Returns the first lock of `locks` that `answer` lacks.
fn missing(locks: Locks, sent: &Value, answer: &Value) -> Option<&'static str> {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    };
    let holds = |(pointer, lock): &(&str, Lock)| {
        let (sent, answer) = (
            sent.pointer(pointer),
            answer.pointer(pointer).unwrap_or(&Value::Null),
        );
        match (lock, sent) {
            (Lock::Absent, _) => is_empty(answer),
            // A field that was not sent is no lock of this object.
            (_, None) => true,
            (Lock::Contains, Some(sent)) => contains(answer, sent),
            (Lock::Same, Some(sent)) => {
                let length = |value: &Value| value.as_array().map(Vec::len);
                length(answer) == length(sent) && contains(answer, sent)
            }
        }
    };
    locks
        .iter()
        .find(|lock| !holds(lock))
        .map(|(pointer, _)| *pointer)
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

/// Returns the locks that an object in a scenario file lacks: the path of the field and what is expected there.
fn unlocked(kind: &str, object: &Value) -> Vec<(String, String)> {
    let mut wrong: Vec<(String, String)> = vec![];
    let mut expect = |holds: bool, field: &str, cause: &str| {
        if !holds {
            wrong.push((field.to_owned(), cause.to_owned()));
        }
    };
    match kind {
        "Pod" => pod(&object["spec"], "spec", &mut expect),
        "Deployment" => {
            expect(
                object["spec"]["replicas"] == 0,
                "spec.replicas",
                "expected 0 replicas",
            );
            pod(
                &object["spec"]["template"]["spec"],
                "spec.template.spec",
                &mut expect,
            );
        }
        "Service" => service(&object["spec"], &mut expect),
        "Role" | "ClusterRole" => {
            expect(
                object["aggregationRule"].is_null(),
                "aggregationRule",
                "must not be set",
            );
            let mut labels = object["metadata"]["labels"].as_object().into_iter().flatten();
            let aggregated = labels.any(|(key, _)| key.starts_with("rbac.authorization.k8s.io/"));
            expect(
                !aggregated,
                "metadata.labels",
                "a label may add the role to roles that are bound",
            );
        }
        "RoleBinding" | "ClusterRoleBinding" => binding(object, &mut expect),
        "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration" => {
            let webhooks = object["webhooks"].as_array().map_or(&[][..], Vec::as_slice);
            expect(!webhooks.is_empty(), "webhooks", "expected at least one webhook");
            for (i, one) in webhooks.iter().enumerate() {
                webhook(one, &format!("webhooks[{i}]"), &mut expect);
            }
        }
        _ => {}
    }
    wrong
}

fn is_random(value: Option<&Value>) -> bool {
    let random = |value: &Value| {
        value
            .as_str()
            .is_some_and(|text| text.contains("$(nonce)") || text.contains("$(uuid)"))
    };
    value
        .and_then(Value::as_object)
        .is_some_and(|map| map.values().any(random))
}

fn pod(spec: &Value, path: &str, expect: &mut impl FnMut(bool, &str, &str)) {
    let gates = spec["schedulingGates"]
        .as_array()
        .is_some_and(|gates| !gates.is_empty());
    let at = |field: &str| format!("{path}.{field}");
    expect(
        gates,
        &at("schedulingGates"),
        "expected a scheduling gate, so that the pod never runs",
    );
    let selector = is_random(spec.get("nodeSelector"));
    expect(
        selector,
        &at("nodeSelector"),
        "expected a label with $(nonce), so that no node matches",
    );
    let token = spec["automountServiceAccountToken"] == false;
    expect(token, &at("automountServiceAccountToken"), "expected false");
    expect(spec["nodeName"].is_null(), &at("nodeName"), "must not be set");
}

fn service(spec: &Value, expect: &mut impl FnMut(bool, &str, &str)) {
    expect(
        is_random(spec.get("selector")),
        "spec.selector",
        "expected a label with $(nonce), so that no pod matches",
    );
    expect(
        spec["externalIPs"].is_null(),
        "spec.externalIPs",
        "must not be set",
    );
    match spec["type"].as_str().unwrap_or("ClusterIP") {
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

fn binding(object: &Value, expect: &mut impl FnMut(bool, &str, &str)) {
    let subjects = object["subjects"].as_array().map_or(&[][..], Vec::as_slice);
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

fn webhook(webhook: &Value, path: &str, expect: &mut impl FnMut(bool, &str, &str)) {
    let at = |field: &str| format!("{path}.{field}");
    let equal = |field: &str, value: Value| webhook[field] == value;
    expect(
        equal("failurePolicy", "Ignore".into()),
        &at("failurePolicy"),
        "expected Ignore",
    );
    expect(
        equal("timeoutSeconds", 1.into()),
        &at("timeoutSeconds"),
        "expected 1",
    );
    expect(
        equal("sideEffects", "None".into()),
        &at("sideEffects"),
        "expected None",
    );
    for field in ["namespaceSelector", "objectSelector"] {
        let matches_nothing = is_random(webhook[field].get("matchLabels"));
        expect(
            matches_nothing,
            &at(field),
            "expected a label with $(nonce) or $(uuid), so that nothing matches",
        );
    }
    let conditions = webhook["matchConditions"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let never = conditions
        .iter()
        .any(|condition| condition["expression"] == "false");
    expect(
        never,
        &at("matchConditions"),
        "expected a condition with the expression \"false\"",
    );
    let service = webhook["clientConfig"]["url"].is_null() && webhook["clientConfig"]["service"].is_object();
    expect(service, &at("clientConfig"), "expected a service, and no url");
}

#[cfg(test)]
mod tests;
