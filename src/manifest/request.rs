//! Renders the objects that steps create through the Kubernetes API.
//!
//! Each has the ID of the run in its name and labels. Its owner is a `ClusterRole` that does not exist, so the garbage
//! collector deletes it within a second even if nobody else does; in the namespace of a run with an anchor, the engine
//! replaces that owner by the anchor. The garbage collector ignores Events, which the API server deletes after its
//! `--event-ttl`, an hour by default.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::Value;

use super::{Kind, Manifest, labels};
use crate::plan::Plan;
use crate::scenario::Request;
use crate::scenario::request::Verb;

/// Returns the objects of a request, with placeholders replaced. `id` is the full ID of its step. A request that lists
/// has none.
pub fn requested(plan: &Plan, id: &str, request: &Request) -> Vec<Manifest> {
    let kind = Kind::of_api(request.api_version(), request.kind());
    let Some(kind) = kind.filter(|_| request.verb != Verb::List) else {
        return vec![];
    };
    let numbers = 1..=request.count;
    numbers
        .map(|number| one(plan, (id, number), kind, request))
        .collect()
}

/// Returns the objects that all requests of a plan create.
pub fn created(plan: &Plan) -> impl Iterator<Item = Manifest> {
    let creations = plan
        .requests()
        .filter(|(_, _, request)| request.verb == Verb::Create);
    creations.flat_map(|(id, _, request)| requested(plan, &id, request))
}

/// Returns the namespace of the objects of a request, or `None` for a cluster-scoped kind.
pub fn namespace_of<'a>(plan: &'a Plan, kind: Kind, request: &'a Request) -> Option<&'a str> {
    let namespace = request.namespace().unwrap_or(&plan.namespace.name);
    kind.is_namespaced().then_some(namespace)
}

fn one(plan: &Plan, (id, number): (&str, u8), kind: Kind, request: &Request) -> Manifest {
    let mut object = request.object.clone();
    let uuid = uuid(&plan.nonce(id, "uuid"));
    let texts = [
        ("$(run)", plan.run.to_string()),
        ("$(nonce)", plan.nonce(id, "name")),
        ("$(uuid)", uuid),
        ("$(namespace)", plan.namespace.name.clone()),
        ("$(victimImage)", plan.options.victim_image.clone()),
    ];
    replace(&mut object, &texts);
    let metadata = &mut object["metadata"];
    let step = id.split_once('.').map_or(id, |(_, step)| step);
    let name = metadata["name"]
        .as_str()
        .map_or_else(|| format!("defender-sim-{}-{step}", plan.run), str::to_owned);
    let name = if request.count > 1 {
        format!("{name}-{number}")
    } else {
        name
    };
    metadata["name"] = name.clone().into();
    if let Some(namespace) = namespace_of(plan, kind, request) {
        metadata["namespace"] = namespace.into();
    }
    if request.verb == Verb::Create {
        for (key, value) in labels(plan) {
            metadata["labels"][key] = value.into();
        }
        metadata["ownerReferences"] = serde_json::json!([absent_owner(plan, id)]);
    }
    Manifest { kind, name, object }
}

/// Returns an owner that does not exist.
fn absent_owner(plan: &Plan, id: &str) -> OwnerReference {
    OwnerReference {
        api_version: Kind::ClusterRole.api_version(),
        kind: Kind::ClusterRole.kind().to_owned(),
        name: format!("defender-sim-{}-owner", plan.run),
        uid: uuid(&plan.nonce(id, "owner")),
        ..OwnerReference::default()
    }
}

/// Formats 32 hexadecimal digits as a UUID of version 4.
fn uuid(digits: &str) -> String {
    let part = |range: std::ops::Range<usize>| &digits[range];
    format!(
        "{}-{}-4{}-8{}-{}",
        part(0..8),
        part(8..12),
        part(13..16),
        part(17..20),
        part(20..32)
    )
}

/// Replaces placeholders in every string, and in every key.
fn replace(value: &mut Value, texts: &[(&str, String)]) {
    let replaced = |text: &str| {
        texts
            .iter()
            .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    };
    match value {
        Value::String(text) => *text = replaced(text),
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, texts)),
        Value::Object(fields) => {
            let entries: BTreeMap<String, Value> = std::mem::take(fields).into_iter().collect();
            for (key, mut field) in entries {
                replace(&mut field, texts);
                fields.insert(replaced(&key), field);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
