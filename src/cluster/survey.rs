//! Searches a namespace for foreign objects, so that a namespace is deleted only if it has none.
//!
//! The survey covers every kind that the API server serves, to the last page, and reports the kinds that it cannot list.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIResourceList, ObjectMeta};
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::core::discovery::v2::APIGroupDiscoveryList;
use kube::{Resource as _, ResourceExt};
use tokio::time::Instant;

use super::{Cluster, Found, PARALLEL, Result};
use crate::manifest::{self, ATTACKER, Kind, RUN_LABEL, VICTIM};
use crate::net::Cause;
use crate::untrusted;

/// Prefix of the `ResourceQuota` that counts objects; the run id follows.
const COUNT: &str = "mdc-simulation-count-";
/// Time limit for counted objects to disappear: the garbage collector deletes what our objects own.
const COUNTING: Duration = Duration::from_secs(15);
/// Time limit of the quota controller to count them once.
const COUNTING_ONCE: Duration = Duration::from_secs(3);

/// The objects of a namespace except those of runs and those that Kubernetes creates in every namespace.
#[derive(Debug, Default)]
pub struct Survey {
    /// Foreign objects as `kind/name`, with whether they may disappear without a user: they have owners, or their
    /// deletion has started.
    pub foreign: Vec<(String, bool)>,
    /// Kinds that the caller must not list.
    pub forbidden: Vec<Unlisted>,
    /// API groups or kinds that are unavailable, with the reason.
    pub unavailable: Vec<String>,
}

/// A kind that the caller must not list, as `kubectl` names it: `certificates.cert-manager.io`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unlisted(String);

impl std::fmt::Display for Unlisted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The kinds of object that a namespace can hold, and those that discovery did not report.
#[derive(Default)]
struct Kinds {
    resources: Vec<ApiResource>,
    unavailable: Vec<String>,
}

impl Kinds {
    /// Adds a kind if its objects can be created, listed and deleted in a namespace.
    fn add(&mut self, resource: ApiResource, namespaced: bool, verbs: &[String]) {
        let has = |verb: &str| verbs.iter().any(|known| known == verb);
        // Events are of no value without their objects.
        let events = resource.plural == "events" && ["", "events.k8s.io"].contains(&resource.group.as_str());
        if namespaced && has("list") && has("delete") && !events && !self.resources.contains(&resource) {
            self.resources.push(resource);
        }
    }
}

impl Cluster {
    /// Lists every object of every kind in a namespace. `ours` are the UIDs of objects that a run created, even if they
    /// no longer exist: objects that they own are not foreign.
    pub async fn survey(&self, namespace: &str, ours: &HashSet<String>) -> Result<Survey> {
        let kinds = self.namespaced_kinds().await?;
        let mut survey = Survey {
            unavailable: kinds.unavailable,
            ..Survey::default()
        };
        let listed = stream::iter(kinds.resources).map(|resource| async move {
            let name = full_name(&resource);
            match self.unexpected(namespace, &resource).await {
                Ok(objects) => Ok((objects, None, None)),
                Err(error) if error.is_not_found() => Ok((vec![], None, None)),
                Err(error) => match error.explained.cause {
                    Cause::Forbidden => Ok((vec![], Some(Unlisted(name)), None)),
                    Cause::Unauthorized | Cause::Auth | Cause::Unreachable => Err(error),
                    _ => Ok((vec![], None, Some(error.to_string()))),
                },
            }
        });
        let mut objects = vec![];
        let mut listed = listed.buffer_unordered(PARALLEL);
        while let Some((found, forbidden, unavailable)) = listed.try_next().await? {
            objects.extend(found);
            survey.forbidden.extend(forbidden);
            survey.unavailable.extend(unavailable);
        }
        survey.forbidden.sort();
        survey.forbidden.dedup();
        survey.foreign = foreign(objects, ours);
        Ok(survey)
    }

    /// Lists the objects of one kind that neither this tool nor Kubernetes created.
    async fn unexpected(&self, namespace: &str, resource: &ApiResource) -> Result<Vec<Object>> {
        let list = async |fields: &str| {
            let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), namespace, resource);
            let parameters = ListParams::default().fields(fields);
            let mut objects = vec![];
            let what = format!("{} in namespace {namespace}", full_name(resource));
            self.each_metadata(api, &parameters, what, |object| {
                if !is_expected(resource, &object) {
                    objects.push(Object::new(resource, &object));
                }
                // One object that stays is enough.
                !objects.last().is_some_and(Object::stays)
            })
            .await?;
            Ok(objects)
        };
        if resource.group.is_empty() && resource.plural == "secrets" {
            // Only a selector matches the type of the tokens and pull secrets of service accounts.
            let (others, tokens, pulls) = futures::try_join!(
                list("type!=kubernetes.io/service-account-token,type!=kubernetes.io/dockercfg"),
                list("type=kubernetes.io/service-account-token"),
                list("type=kubernetes.io/dockercfg"),
            )?;
            let of_accounts = tokens.into_iter().chain(pulls);
            let of_accounts = of_accounts.filter(|secret| !secret.of_standard_account);
            return Ok(others.into_iter().chain(of_accounts).collect());
        }
        list("").await
    }

    /// Discovers every kind that a namespace can hold, in every version: the preferred version may lack kinds.
    async fn namespaced_kinds(&self) -> Result<Kinds> {
        let doing = || "discover the kinds of objects that the cluster serves".to_owned();
        let (core, groups) = futures::try_join!(
            self.call(doing, self.client.list_core_api_versions_aggregated()),
            self.call(doing, self.client.list_api_groups_aggregated()),
        )?;
        // A server without aggregated discovery, before Kubernetes 1.26, answers with another document, which reads
        // as an empty list.
        if core.items.iter().all(|group| group.versions.is_empty()) || groups.items.is_empty() {
            return self.namespaced_kinds_one_by_one().await;
        }
        let mut kinds = Kinds::default();
        add_aggregated(&mut kinds, core);
        add_aggregated(&mut kinds, groups);
        Ok(kinds)
    }

    /// Discovers the kinds by the documents of each group.
    async fn namespaced_kinds_one_by_one(&self) -> Result<Kinds> {
        let doing = || "discover the kinds of objects that the cluster serves".to_owned();
        let (core, groups) = futures::try_join!(
            self.call(doing, self.client.list_core_api_resources("v1")),
            self.call(doing, self.client.list_api_groups()),
        )?;
        let mut kinds = Kinds::default();
        add_list(&mut kinds, &core);
        let versions = groups.groups.into_iter().flat_map(|group| group.versions);
        let lists = stream::iter(versions).map(|version| async move {
            let name = version.group_version;
            let list = self
                .call(
                    || format!("discover the kinds of {name}"),
                    self.client.list_api_group_resources(&name),
                )
                .await;
            (name, list)
        });
        let mut lists = lists.buffer_unordered(PARALLEL);
        while let Some((name, list)) = lists.next().await {
            match list {
                Ok(list) => add_list(&mut kinds, &list),
                Err(error) => kinds
                    .unavailable
                    .push(format!("{name} is not available: {error}")),
            }
        }
        Ok(kinds)
    }

    /// Counts the objects of kinds that the caller must not list, until there are none or the time limit is reached. The
    /// result lacks kinds that were not counted in time.
    pub async fn count(
        &self,
        namespace: &str,
        run: &str,
        kinds: &[Unlisted],
    ) -> Result<BTreeMap<String, u64>> {
        let end = Instant::now() + COUNTING;
        loop {
            let counts = self.count_once(namespace, run, kinds).await?;
            let settled = counts.len() == kinds.len() && counts.values().all(|count| *count == 0);
            if settled || Instant::now() >= end {
                return Ok(counts);
            }
        }
    }

    /// Counts by a temporary `ResourceQuota` without effect: the quota controller counts all objects when a quota is
    /// created, and notices deletions only later.
    async fn count_once(
        &self,
        namespace: &str,
        run: &str,
        kinds: &[Unlisted],
    ) -> Result<BTreeMap<String, u64>> {
        let api = Api::<ResourceQuota>::namespaced(self.client.clone(), namespace);
        let name = format!("{COUNT}{run}");
        let unlimited = |kind: &Unlisted| (format!("count/{kind}"), Quantity("1000000000".to_owned()));
        let quota = ResourceQuota {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some([(RUN_LABEL.to_owned(), run.to_owned())].into()),
                ..ObjectMeta::default()
            },
            spec: Some(ResourceQuotaSpec {
                hard: Some(kinds.iter().map(unlimited).collect()),
                ..ResourceQuotaSpec::default()
            }),
            ..ResourceQuota::default()
        };
        let parameters = PostParams::default();
        let created = self
            .call(
                || format!("create resourcequota/{name}"),
                api.create(&parameters, &quota),
            )
            .await;
        match created {
            // Left by an earlier attempt to remove this run.
            Err(error) if error.explained.cause == Cause::AlreadyExists => {}
            other => drop(other?),
        }
        let end = Instant::now() + COUNTING_ONCE;
        let counted = loop {
            let quota = self
                .call(|| format!("get resourcequota/{name}"), api.get(&name))
                .await?;
            let used = quota.status.and_then(|status| status.used).unwrap_or_default();
            let counts: BTreeMap<String, u64> = used
                .into_iter()
                .filter_map(|(key, count)| {
                    Some((key.strip_prefix("count/")?.to_owned(), count.0.parse().ok()?))
                })
                .collect();
            let settled = counts.len() == kinds.len() && counts.values().all(|count| *count == 0);
            if settled || Instant::now() >= end {
                break counts;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        let deletion = DeleteParams::default();
        let deleted = self.call(
            || format!("delete resourcequota/{name}"),
            api.delete(&name, &deletion),
        );
        match deleted.await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(counted),
        }
    }
}

fn add_aggregated(kinds: &mut Kinds, list: APIGroupDiscoveryList) {
    for group in list.items {
        let name = group
            .metadata
            .and_then(|metadata| metadata.name)
            .unwrap_or_default();
        for version in group.versions {
            let number = version.version.unwrap_or_default();
            let api_version = match name.as_str() {
                "" => number.clone(),
                name => format!("{name}/{number}"),
            };
            if version.freshness.as_deref() == Some("Stale") {
                let reason = format!("{} is not available", untrusted::line(&api_version));
                kinds.unavailable.push(reason);
                continue;
            }
            for found in version.resources {
                let resource = ApiResource {
                    group: name.clone(),
                    version: number.clone(),
                    api_version: api_version.clone(),
                    kind: found.response_kind.and_then(|kind| kind.kind).unwrap_or_default(),
                    plural: found.resource.unwrap_or_default(),
                };
                kinds.add(
                    resource,
                    found.scope.as_deref() == Some("Namespaced"),
                    &found.verbs,
                );
            }
        }
    }
}

fn add_list(kinds: &mut Kinds, list: &APIResourceList) {
    let (group, version) = list
        .group_version
        .split_once('/')
        .unwrap_or(("", &list.group_version));
    for found in list.resources.iter().filter(|found| !found.name.contains('/')) {
        let resource = ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: list.group_version.clone(),
            kind: found.kind.clone(),
            plural: found.name.clone(),
        };
        kinds.add(resource, found.namespaced, &found.verbs);
    }
}

/// The plural with the group: `certificates.cert-manager.io`.
fn full_name(resource: &ApiResource) -> String {
    match resource.group.as_str() {
        "" => resource.plural.clone(),
        group => format!("{}.{group}", resource.plural),
    }
}

/// An object that is not known to be created by this tool or Kubernetes.
struct Object {
    reference: String,
    uid: String,
    owners: Vec<String>,
    terminating: bool,
    /// Whether its annotations name a service account of every namespace.
    of_standard_account: bool,
}

impl Object {
    fn new(resource: &ApiResource, object: &PartialObjectMeta<DynamicObject>) -> Self {
        let reference = format!("{}/{}", resource.kind.to_lowercase(), object.name_any());
        let account = ACCOUNT_ANNOTATIONS
            .iter()
            .find_map(|key| object.annotations().get(*key));
        Self {
            reference: untrusted::line(&reference),
            uid: object.uid().unwrap_or_default(),
            owners: object
                .owner_references()
                .iter()
                .map(|owner| owner.uid.clone())
                .collect(),
            terminating: object.meta().deletion_timestamp.is_some(),
            of_standard_account: account.is_some_and(|account| ACCOUNTS.contains(&account.as_str())),
        }
    }
}

impl Object {
    /// Reports whether it stays until a user deletes it.
    fn stays(&self) -> bool {
        self.owners.is_empty() && !self.terminating && !self.of_standard_account
    }
}

/// Returns the objects that no object of ours owns, directly or indirectly; first those that stay.
fn foreign(mut objects: Vec<Object>, ours: &HashSet<String>) -> Vec<(String, bool)> {
    let mut owned = ours.clone();
    loop {
        let before = objects.len();
        objects.retain(|object| {
            let is_owned = object.owners.iter().any(|owner| owned.contains(owner));
            if is_owned {
                owned.insert(object.uid.clone());
            }
            !is_owned
        });
        if objects.len() == before {
            break;
        }
    }
    let mut foreign: Vec<(String, bool)> = objects
        .into_iter()
        .map(|object| (object.reference.clone(), !object.stays()))
        .collect();
    foreign.sort_by(|one, other| (one.1, &one.0).cmp(&(other.1, &other.0)));
    foreign.dedup();
    foreign
}

/// Service accounts of every namespace: Kubernetes' own, and those that `OpenShift` adds.
const ACCOUNTS: [&str; 3] = ["default", "builder", "deployer"];
/// Annotations by which a Secret names its service account: Kubernetes', `OpenShift`'s.
const ACCOUNT_ANNOTATIONS: [&str; 2] = [
    "kubernetes.io/service-account.name",
    "openshift.io/internal-registry-auth-token.service-account",
];

/// Reports whether an object is ours, or one that Kubernetes, `OpenShift`, Istio or Calico creates in every namespace.
fn is_expected(resource: &ApiResource, object: &PartialObjectMeta<DynamicObject>) -> bool {
    let name = object.name_any();
    let named = |names: &[&str]| names.contains(&name.as_str());
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "configmaps")
            if named(&[
                "kube-root-ca.crt",
                "openshift-service-ca.crt",
                "istio-ca-root-cert",
            ]) =>
        {
            return true;
        }
        ("", "serviceaccounts") if named(&ACCOUNTS) => return true,
        // Endpoints of our services have no owner; they are deleted with the services.
        ("", "endpoints") if named(&[VICTIM, ATTACKER]) => return true,
        ("", "resourcequotas") => {
            let run = manifest::run_of(object.labels());
            return run.is_some_and(|run| name == format!("{COUNT}{run}"));
        }
        ("rbac.authorization.k8s.io" | "authorization.openshift.io", "rolebindings")
            if named(&[
                "system:deployers",
                "system:image-builders",
                "system:image-pullers",
            ]) =>
        {
            return true;
        }
        // Calico's API server duplicates each NetworkPolicy of Kubernetes under this name.
        ("projectcalico.org", "networkpolicies") if name.starts_with("knp.default.") => return true,
        _ => {}
    }
    let kind = Kind::OF_RUN
        .into_iter()
        .find(|kind| kind.group() == resource.group && kind.plural() == resource.plural);
    kind.is_some_and(|kind| Found::new(kind, object).is_ours())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, uid: &str, owners: &[&str], terminating: bool) -> Object {
        Object {
            reference: name.to_owned(),
            uid: uid.to_owned(),
            owners: owners.iter().map(|&owner| owner.to_owned()).collect(),
            terminating,
            of_standard_account: false,
        }
    }

    #[test]
    fn foreign_skips_objects_that_ours_own_indirectly() {
        let ours = HashSet::from(["pod".to_owned()]);
        let objects = vec![
            object("scan/b", "b", &["a"], false),
            object("report/a", "a", &["pod"], false),
            object("configmap/going", "g", &[], true),
            object("report/orphan", "o", &["elsewhere"], false),
            object("secret/precious", "s", &[], false),
        ];
        let expected = [
            ("secret/precious".to_owned(), false),
            ("configmap/going".to_owned(), true),
            ("report/orphan".to_owned(), true),
        ];
        assert_eq!(foreign(objects, &ours), expected);
    }
}
