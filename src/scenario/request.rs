//! Steps that call the Kubernetes API, and the locks that keep what they create inert.
//!
//! A request may create only kinds for which this module knows locks: properties that make the object harmless. They
//! are required in the scenario file, and checked again in the API server's answer, since an admission webhook may have
//! changed the object.

mod locks;
#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use locks::Locks;

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
        locks::of(self.api_version(), self.kind())
    }

    /// Returns the first lock that an object lacks compared with what was sent, or `None` if all are in place. `sent` is
    /// the object with its placeholders replaced, `answer` the object in the API server's answer.
    pub fn missing_lock(&self, sent: &Value, answer: &Value) -> Option<String> {
        locks::missing(self.locks()?, sent, answer)
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
                    let kinds = locks::kinds();
                    let cause = format!("no locks are known for this kind; expected one of {kinds}");
                    refuse("object.kind", &cause);
                }
                for (field, cause) in locks::unlocked(self.kind(), &self.object) {
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
