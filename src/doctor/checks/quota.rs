//! Is there room for a run under the quotas of the namespace, and do its pods keep to the limit ranges?

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem, Pod, ResourceQuota, ResourceQuotaSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::doctor::finding::{Checked, Finding};
use crate::doctor::snapshot::Snapshot;
use crate::manifest::{self, Kind, Manifest};
use crate::plan::Plan;
use crate::words::{counted, first_few};

type Quantities = BTreeMap<String, Quantity>;

pub(super) async fn check(snapshot: &Snapshot) -> Checked {
    let name = snapshot.plan.namespace.name.as_str();
    if snapshot.namespace().await?.is_none() {
        return Ok(Finding::not_applicable(format!(
            "namespace {name} does not exist yet"
        )));
    }
    let (quotas, ranges) = futures::try_join!(
        snapshot.cluster.list_all::<ResourceQuota>(Some(name)),
        snapshot.cluster.list_all::<LimitRange>(Some(name))
    )?;
    Ok(judge(&snapshot.plan, &quotas, &ranges))
}

fn judge(plan: &Plan, quotas: &[ResourceQuota], ranges: &[LimitRange]) -> Finding {
    let manifests = manifest::render(plan, "");
    let pods: Vec<Pod> = manifests
        .pods
        .iter()
        .map(|pod| serde_json::from_value(pod.object.clone()).expect("a manifest is always an object"))
        .collect();
    let mut against: Vec<String> = quotas
        .iter()
        .flat_map(|quota| exceeded(quota, &manifests.all().collect::<Vec<_>>(), &pods))
        .collect();
    against.extend(ranges.iter().flat_map(|range| outside(range, &pods)));
    let name = &plan.namespace.name;
    match (against.is_empty(), quotas.len(), ranges.len()) {
        (false, ..) => Finding::failed(first_few(&against))
            .suggest("make room, or see", ["describe", "quota,limits", "-n", name]),
        (_, 0, 0) => Finding::ok(format!("none in namespace {name}")),
        (_, quotas, ranges) => Finding::ok(format!(
            "room for a run ({}, {})",
            counted(quotas, "quota"),
            counted(ranges, "limit range")
        )),
    }
}

/// A quantity in thousand-millionths, which is as fine as Kubernetes has them; `None` where it is none.
fn nano(quantity: &Quantity) -> Option<i128> {
    let text = quantity.0.as_str();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '-' && c != '+');
    let (number, suffix) = text.split_at(end.unwrap_or(text.len()));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let power = |base: i128, exponent: u32| base.checked_pow(exponent);
    let (factor, divisor) = match suffix {
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "" => (1, 1),
        "k" => (power(10, 3)?, 1),
        "M" => (power(10, 6)?, 1),
        "G" => (power(10, 9)?, 1),
        "T" => (power(10, 12)?, 1),
        "P" => (power(10, 15)?, 1),
        "E" => (power(10, 18)?, 1),
        "Ki" => (power(1024, 1)?, 1),
        "Mi" => (power(1024, 2)?, 1),
        "Gi" => (power(1024, 3)?, 1),
        "Ti" => (power(1024, 4)?, 1),
        "Pi" => (power(1024, 5)?, 1),
        "Ei" => (power(1024, 6)?, 1),
        exponent => (power(10, exponent.strip_prefix(['e', 'E'])?.parse().ok()?)?, 1),
    };
    let shift = power(10, fraction.len().try_into().ok()?)?;
    Some(digits.checked_mul(factor)?.checked_mul(1_000_000_000)? / divisor / shift)
}

/// What of a quota a run would exceed.
fn exceeded(quota: &ResourceQuota, objects: &[&Manifest], pods: &[Pod]) -> Vec<String> {
    let Some(spec) = quota.spec.as_ref().filter(|spec| applies(spec)) else {
        return vec![];
    };
    let status = quota.status.clone().unwrap_or_default();
    let hard = status.hard.as_ref().or(spec.hard.as_ref());
    let used = status.used.unwrap_or_default();
    let name = quota.metadata.name.as_deref().unwrap_or_default();
    let exceeded = hard.into_iter().flatten().filter_map(|(resource, hard)| {
        let needed = needed(resource, objects, pods)?;
        let in_use = used.get(resource);
        let over = in_use.and_then(nano).unwrap_or(0) + needed > nano(hard)?;
        let in_use = in_use.map_or("0", |quantity| quantity.0.as_str());
        (needed > 0 && over).then(|| {
            format!(
                "quota {name}: {in_use} of {} {resource} used, not enough left",
                hard.0
            )
        })
    });
    exceeded.collect()
}

/// Whether the quota counts the pods of a run: they have requests, a deadline, and no priority class.
fn applies(spec: &ResourceQuotaSpec) -> bool {
    let selectors = spec
        .scope_selector
        .iter()
        .flat_map(|selector| selector.match_expressions.iter().flatten());
    let by_selector = selectors.map(|selector| match selector.scope_name.as_str() {
        "PriorityClass" => ["NotIn", "DoesNotExist"].contains(&selector.operator.as_str()),
        scope => counts(scope),
    });
    let by_scope = spec.scopes.iter().flatten().map(|scope| counts(scope));
    by_selector.chain(by_scope).all(|counts| counts)
}

fn counts(scope: &str) -> bool {
    ["Terminating", "NotBestEffort"].contains(&scope)
}

/// How much of a resource a run takes; `None` of one that it does not.
fn needed(resource: &str, objects: &[&Manifest], pods: &[Pod]) -> Option<i128> {
    let (of_limits, name) = match resource.split_once('.') {
        Some(("limits", name)) => (true, name),
        Some(("requests", name)) => (false, name),
        _ => (false, resource),
    };
    if ["cpu", "memory"].contains(&name) {
        let amounts = pods
            .iter()
            .filter_map(|pod| nano(amounts(pod, of_limits).get(name)?));
        return Some(amounts.sum());
    }
    let name = name.strip_prefix("count/").unwrap_or(name);
    let counted = objects.iter().filter(|object| {
        let Kind::Namespace = object.kind else {
            let group = object.kind.group();
            let plural = object.kind.plural();
            return name
                == if group.is_empty() {
                    plural.to_owned()
                } else {
                    format!("{plural}.{group}")
                };
        };
        false
    });
    Some(i128::try_from(counted.count()).ok()? * 1_000_000_000).filter(|number| *number > 0)
}

/// Requests or limits of a pod of ours, which has one container.
fn amounts(pod: &Pod, of_limits: bool) -> Quantities {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut resources = containers.filter_map(|container| container.resources.clone());
    let resources = resources.next().unwrap_or_default();
    let amounts = if of_limits {
        resources.limits
    } else {
        resources.requests
    };
    amounts.unwrap_or_default()
}

/// Where the pods of a run are outside a limit range. A pod has one container, so both are the same.
fn outside(range: &LimitRange, pods: &[Pod]) -> Vec<String> {
    let name = range.metadata.name.as_deref().unwrap_or_default();
    let items = range.spec.iter().flat_map(|spec| &spec.limits);
    let items = items.filter(|item| ["Container", "Pod"].contains(&item.type_.as_str()));
    let Some(pod) = pods.first() else {
        return vec![];
    };
    let (requests, limits) = (amounts(pod, false), amounts(pod, true));
    let outside = items.flat_map(|item| {
        let LimitRangeItem {
            max,
            min,
            max_limit_request_ratio: ratio,
            ..
        } = item;
        let each = |bounds: &Option<Quantities>, broken: &dyn Fn(&str, i128) -> Option<bool>, what: &str| {
            let bounds = bounds.iter().flatten();
            let broken = bounds.filter(|(resource, bound)| {
                nano(bound)
                    .and_then(|bound| broken(resource, bound))
                    .unwrap_or(false)
            });
            let told =
                broken.map(|(resource, bound)| format!("limit range {name}: {what} {} {resource}", bound.0));
            told.collect::<Vec<_>>()
        };
        let above = |resource: &str, bound| Some(nano(limits.get(resource)?)? > bound);
        let below = |resource: &str, bound| Some(nano(requests.get(resource)?)? < bound);
        let apart = |resource: &str, bound: i128| {
            let limit = nano(limits.get(resource)?)?.checked_mul(1_000_000_000)?;
            Some(limit > bound.checked_mul(nano(requests.get(resource)?)?)?)
        };
        [
            each(max, &above, "a pod may have at most"),
            each(min, &below, "a pod has to ask for at least"),
            each(ratio, &apart, "limit by request may be at most"),
        ]
        .concat()
    });
    outside.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::plan;
    use crate::result::CheckStatus::{Failed, Ok};

    #[test]
    fn quantities_are_compared_exactly() {
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
            assert_eq!(nano(&Quantity(text.into())), expected, "{text}");
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
    fn a_quota_has_to_have_room_for_the_whole_run() {
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
            let finding = judge(&plan(None), &[quota(&spec, &json(used))], &[]);
            assert_eq!(finding.status, status, "{hard} {used} {more}: {finding:?}");
        }
        assert_eq!(judge(&plan(None), &[], &[]).status, Ok);
    }

    #[test]
    fn a_limit_range_is_kept_to_or_named() {
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        for (item, said) in [
            (
                r#"{"type": "Container", "max": {"cpu": "1", "memory": "256Mi"}}"#,
                None,
            ),
            (
                r#"{"type": "Container", "max": {"cpu": "500m"}}"#,
                Some("limit range r: a pod may have at most 500m cpu"),
            ),
            (
                r#"{"type": "Pod", "min": {"memory": "65Mi"}}"#,
                Some("limit range r: a pod has to ask for at least 65Mi memory"),
            ),
            (r#"{"type": "Pod", "min": {"memory": "64Mi"}}"#, None),
            (
                r#"{"type": "Container", "maxLimitRequestRatio": {"cpu": "20"}}"#,
                None,
            ),
            (
                r#"{"type": "Container", "maxLimitRequestRatio": {"cpu": "19"}}"#,
                Some("limit range r: limit by request may be at most 19 cpu"),
            ),
            (
                r#"{"type": "PersistentVolumeClaim", "max": {"storage": "1"}}"#,
                None,
            ),
        ] {
            let range =
                serde_json::json!({ "metadata": { "name": "r" }, "spec": { "limits": [json(item)] } });
            let finding = judge(&plan(None), &[], &[serde_json::from_value(range).unwrap()]);
            match said {
                Some(said) => assert_eq!((finding.status, finding.message.as_str()), (Failed, said)),
                None => assert_eq!(finding.status, Ok, "{item}: {finding:?}"),
            }
        }
    }
}
