//! Checks that the quotas of the namespace leave room for all objects of a run together. Whether they admit each object
//! alone, and whether limit ranges do, is known from `admission`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, ResourceQuota, ResourceQuotaSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::doctor::finding::{Checked, Finding};
use crate::doctor::snapshot::Snapshot;
use crate::manifest::{self, Kind, Manifest};
use crate::plan::Plan;
use crate::words::{counted, first_few};

pub(super) async fn check(snapshot: &Snapshot) -> Checked {
    let name = snapshot.plan.namespace.name.as_str();
    if snapshot.namespace().await?.is_none() {
        return Ok(Finding::not_applicable(format!(
            "namespace {name} does not exist yet"
        )));
    }
    let quotas = snapshot.cluster.list_all::<ResourceQuota>(Some(name)).await?;
    Ok(judge(&snapshot.plan, &quotas))
}

fn judge(plan: &Plan, quotas: &[ResourceQuota]) -> Finding {
    let manifests = manifest::render(plan, "");
    let objects: Vec<&Manifest> = manifests.all().collect();
    let pods = manifests
        .pods
        .iter()
        .map(|pod| serde_json::from_value(pod.object.clone()).expect("a manifest is always an object"));
    let pods: Vec<Pod> = pods.collect();
    let exceeded: Vec<String> = quotas
        .iter()
        .flat_map(|quota| exceeded(quota, &objects, &pods))
        .collect();
    let name = &plan.namespace.name;
    match (exceeded.is_empty(), quotas.len()) {
        (false, _) => Finding::failed(first_few(&exceeded))
            .suggest("make room, or see", ["describe", "quota", "-n", name]),
        (_, 0) => Finding::ok(format!("none in namespace {name}")),
        (_, quotas) => Finding::ok(format!("room for a run ({})", counted(quotas, "quota"))),
    }
}

/// Converts a quantity to billionths, the smallest unit of Kubernetes. Returns `None` if it cannot be parsed.
fn to_nano(quantity: &Quantity) -> Option<i128> {
    let text = quantity.0.as_str();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '-' && c != '+');
    let (number, suffix) = text.split_at(end.unwrap_or(text.len()));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let exponent = |prefixes: &str| Some(u32::try_from(prefixes.find(suffix.chars().next()?)?).ok()? + 1);
    let factor = match suffix {
        "" => 10_i128.pow(9),
        "n" => 1,
        "u" => 10_i128.pow(3),
        "m" => 10_i128.pow(6),
        "k" | "M" | "G" | "T" | "P" | "E" => 10_i128.pow(9 + 3 * exponent("kMGTPE")?),
        "Ki" | "Mi" | "Gi" | "Ti" | "Pi" | "Ei" => 10_i128.pow(9) << (10 * exponent("KMGTPE")?),
        _ => {
            let power: u32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            10_i128.checked_pow(power.checked_add(9)?)?
        }
    };
    let divisor = 10_i128.checked_pow(fraction.len().try_into().ok()?)?;
    Some(digits.checked_mul(factor)? / divisor)
}

/// Lists the resources of a quota that a run exceeds.
fn exceeded(quota: &ResourceQuota, objects: &[&Manifest], pods: &[Pod]) -> Vec<String> {
    let Some(spec) = quota.spec.as_ref().filter(|spec| applies(spec)) else {
        return vec![];
    };
    let status = quota.status.clone().unwrap_or_default();
    let hard = status.hard.as_ref().or(spec.hard.as_ref());
    let used = status.used.unwrap_or_default();
    let name = quota.metadata.name.as_deref().unwrap_or_default();
    let exceeded = hard.into_iter().flatten().filter_map(|(resource, hard)| {
        let required = required(resource, objects, pods);
        let used = used.get(resource);
        let is_exceeded = used.and_then(to_nano).unwrap_or(0) + required > to_nano(hard)?;
        let used = used.map_or("0", |quantity| quantity.0.as_str());
        (required > 0 && is_exceeded).then(|| {
            format!(
                "quota {name}: {used} of {} {resource} used, not enough left",
                hard.0
            )
        })
    });
    exceeded.collect()
}

/// Whether a quota counts the pods of a run: they have requests, a deadline, and no priority class.
fn applies(spec: &ResourceQuotaSpec) -> bool {
    let selectors = spec
        .scope_selector
        .iter()
        .flat_map(|selector| selector.match_expressions.iter().flatten());
    let by_selector = selectors.map(|selector| match selector.scope_name.as_str() {
        "PriorityClass" => ["NotIn", "DoesNotExist"].contains(&selector.operator.as_str()),
        scope => includes_pods(scope),
    });
    let by_scope = spec.scopes.iter().flatten().map(|scope| includes_pods(scope));
    by_selector.chain(by_scope).all(|includes| includes)
}

fn includes_pods(scope: &str) -> bool {
    ["Terminating", "NotBestEffort"].contains(&scope)
}

/// Returns how much of a resource a run takes, in billionths.
fn required(resource: &str, objects: &[&Manifest], pods: &[Pod]) -> i128 {
    let (is_limit, name) = match resource.split_once('.') {
        Some(("limits", name)) => (true, name),
        Some(("requests", name)) => (false, name),
        _ => (false, resource),
    };
    if ["cpu", "memory"].contains(&name) {
        return pods.iter().filter_map(|pod| amount(pod, name, is_limit)).sum();
    }
    let name = name.strip_prefix("count/").unwrap_or(name);
    let counted = objects.iter().filter(|object| {
        let (plural, group) = (object.kind.plural(), object.kind.group());
        let qualified = if group.is_empty() {
            plural.to_owned()
        } else {
            format!("{plural}.{group}")
        };
        object.kind != Kind::Namespace && name == qualified
    });
    counted.map(|_| 10_i128.pow(9)).sum()
}

/// Returns what a pod requests of a resource, or its limit. Pods of a run have one container.
fn amount(pod: &Pod, name: &str, is_limit: bool) -> Option<i128> {
    let resources = pod.spec.as_ref()?.containers.first()?.resources.as_ref()?;
    let amounts: &BTreeMap<String, Quantity> = if is_limit {
        resources.limits.as_ref()?
    } else {
        resources.requests.as_ref()?
    };
    to_nano(amounts.get(name)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::plan;
    use crate::result::CheckStatus::{Failed, Ok};

    #[test]
    fn quantity_is_converted_exactly() {
        for (text, expected) in [
            ("1", Some(1_000_000_000)),
            ("50m", Some(50_000_000)),
            ("0.05", Some(50_000_000)),
            ("1.5Gi", Some(1_610_612_736_000_000_000)),
            ("64Mi", Some(67_108_864_000_000_000)),
            ("1e3", Some(1_000_000_000_000)),
            ("2k", Some(2_000_000_000_000)),
            ("1E", Some(1_000_000_000_000_000_000_000_000_000)),
            ("5u", Some(5_000)),
            ("7n", Some(7)),
            ("x", None),
            ("", None),
            ("1q", None),
        ] {
            assert_eq!(to_nano(&Quantity(text.into())), expected, "{text}");
        }
    }

    fn quota(spec: &serde_json::Value, used: &serde_json::Value) -> ResourceQuota {
        let hard = spec["hard"].clone();
        serde_json::from_value(serde_json::json!({
            "metadata": { "name": "q" }, "spec": spec, "status": { "hard": hard, "used": used },
        }))
        .unwrap()
    }

    #[test]
    fn quota_without_room_for_the_whole_run_fails() {
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        for (hard, used, more, status) in [
            (r#"{"pods": "2"}"#, r#"{"pods": "0"}"#, "{}", Ok),
            (r#"{"pods": "2"}"#, r#"{"pods": "1"}"#, "{}", Failed),
            (r#"{"count/pods": "1"}"#, "{}", "{}", Failed),
            (r#"{"cpu": "100m"}"#, "{}", "{}", Ok),
            (r#"{"requests.cpu": "99m"}"#, "{}", "{}", Failed),
            (
                r#"{"requests.memory": "128Mi"}"#,
                r#"{"requests.memory": "1"}"#,
                "{}",
                Failed,
            ),
            (r#"{"limits.cpu": "2"}"#, r#"{"limits.cpu": "0"}"#, "{}", Ok),
            (r#"{"limits.memory": "511Mi"}"#, "{}", "{}", Failed),
            (r#"{"secrets": "0"}"#, "{}", "{}", Failed),
            (r#"{"count/jobs.batch": "0"}"#, "{}", "{}", Failed),
            (
                r#"{"count/networkpolicies.networking.k8s.io": "1"}"#,
                "{}",
                "{}",
                Ok,
            ),
            (
                r#"{"count/deployments.apps": "0", "requests.storage": "0"}"#,
                "{}",
                "{}",
                Ok,
            ),
            (r#"{"pods": "0"}"#, "{}", r#"{"scopes": ["BestEffort"]}"#, Ok),
            (r#"{"pods": "0"}"#, "{}", r#"{"scopes": ["NotTerminating"]}"#, Ok),
            (
                r#"{"pods": "0"}"#,
                "{}",
                r#"{"scopes": ["Terminating", "NotBestEffort"]}"#,
                Failed,
            ),
            (
                r#"{"pods": "0"}"#,
                "{}",
                r#"{"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}}"#,
                Ok,
            ),
            (
                r#"{"pods": "0"}"#,
                "{}",
                r#"{"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "DoesNotExist"}]}}"#,
                Failed,
            ),
        ] {
            let mut spec = json(more);
            spec["hard"] = json(hard);
            let finding = judge(&plan(None), &[quota(&spec, &json(used))]);
            assert_eq!(finding.status, status, "{hard} {used} {more}: {finding:?}");
        }
        assert_eq!(judge(&plan(None), &[]).status, Ok);
    }
}
