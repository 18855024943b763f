//! Finds the Azure resource of a cluster.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde_json::Value;

use super::source::Scope;
use super::{Arm, AzureError, Call, Result, Right};
use crate::defender::alerts::Cloud;
use crate::defender::identity::{ClusterIdentity, ForeignCluster};
use crate::net::{Cause, Explanation};
use crate::untrusted;

/// The limit of a label in Kubernetes, at which values are truncated.
const MAX_LABEL: usize = 63;
/// The resource type of a cluster below its connector.
const CONNECTED: &str = "securityentitydata";

/// The kind of resource of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterKind {
    /// `Microsoft.ContainerService/managedClusters`.
    Aks,
    /// `Microsoft.Kubernetes/connectedClusters` of Azure Arc.
    Arc,
    /// `Microsoft.Security/securityConnectors/*/securityentitydata` of a connector to another cloud.
    Connector,
    /// Another resource type.
    Other(String),
}

/// The Azure resource of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the parts of the resource ID")]
pub struct AzureCluster {
    pub id: String,
    pub name: String,
    pub subscription: String,
    pub resource_group: String,
    pub kind: ClusterKind,
}

impl AzureCluster {
    /// Returns the scope of its alerts: the resource group, or for a cluster of a connector the whole subscription,
    /// since the place of its alerts is undocumented.
    ///
    /// # Errors
    /// If the subscription or group of the ID is invalid.
    pub fn scope(&self) -> Result<Scope> {
        let group = Scope::new(&self.subscription, Some(&self.resource_group))?;
        match self.kind {
            ClusterKind::Connector => Scope::new(&self.subscription, None),
            _ => Ok(group),
        }
    }

    /// Returns the ID of its connector.
    pub fn connector(&self) -> Option<&str> {
        let (rest, _name) = self.id.rsplit_once('/')?;
        let (connector, _type) = rest.rsplit_once('/')?;
        (self.kind == ClusterKind::Connector).then_some(connector)
    }
}

/// Formats a cluster as `AKS cluster blue in resource group rg`.
impl fmt::Display for AzureCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ClusterKind::Aks => write!(f, "AKS cluster {}", self.name)?,
            ClusterKind::Arc => write!(f, "Arc-connected cluster {}", self.name)?,
            ClusterKind::Connector => write!(f, "cluster {} of a connector", self.name)?,
            ClusterKind::Other(kind) => write!(f, "{kind} {}", self.name)?,
        }
        write!(f, " in resource group {}", self.resource_group)
    }
}

/// Parses an ID such as `/subscriptions/S/resourceGroups/G/providers/Microsoft.ContainerService/managedClusters/N`.
impl FromStr for AzureCluster {
    type Err = AzureError;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim().trim_end_matches('/');
        let parts: Vec<&str> = text.split('/').collect();
        let has = |at: usize, word: &str| parts.get(at).is_some_and(|part| part.eq_ignore_ascii_case(word));
        let is_id = parts.len() >= 9
            && parts.len() % 2 == 1
            && has(0, "")
            && has(1, "subscriptions")
            && has(3, "resourceGroups")
            && has(5, "providers")
            && parts[1..]
                .iter()
                .all(|part| !part.is_empty() && *part != "." && *part != "..");
        if !is_id || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            let message = format!("{:?} is not the resource ID of a cluster", untrusted::name(text));
            return Err(Explanation::new(Cause::Setting, message)
                .with_hint("see: az aks list --query [].id, az connectedk8s list --query [].id")
                .failed_to("select the cluster"));
        }
        let types: Vec<&str> = parts[7..].iter().step_by(2).copied().collect();
        let of = format!("{}/{}", parts[6], types.join("/"));
        let kind = match of.to_ascii_lowercase().as_str() {
            "microsoft.containerservice/managedclusters" => ClusterKind::Aks,
            "microsoft.kubernetes/connectedclusters" => ClusterKind::Arc,
            "microsoft.security/securityconnectors/securityentitydata" => ClusterKind::Connector,
            _ => ClusterKind::Other(of),
        };
        let cluster = Self {
            id: text.to_owned(),
            name: parts[parts.len() - 1].to_owned(),
            subscription: parts[2].to_owned(),
            resource_group: parts[4].to_owned(),
            kind,
        };
        cluster.scope().map(|_| cluster)
    }
}

/// Hints for the search for a cluster.
#[derive(Clone, Debug, Default)]
pub struct ClusterHints {
    /// The resource ID that the user set, which skips the search.
    pub resource_id: Option<String>,
    /// The subscription to search; by default all that the login can read.
    pub subscription: Option<String>,
    /// Facts from the kubeconfig and the cluster.
    pub marks: ClusterIdentity,
}

/// The result of a search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// The cluster, if it was identified.
    pub found: Option<AzureCluster>,
    /// The searches in order, with the outcome of each.
    pub tried: Vec<String>,
}

/// Finds the Azure resource of a cluster.
///
/// The search uses the resource ID of the user, else Resource Graph for the connector of the account or project in the
/// name of the kubeconfig, the data of Azure Arc in the cluster, and Resource Graph for an AKS cluster with the host of
/// the API server or the resource group of the nodes. An EKS or GKE cluster is not found if the kubeconfig does not have
/// its name: since 2025-10-21 its alerts name it below its connector, not as Azure Arc does (Microsoft's release notes of
/// recommendations and alerts).
///
/// # Errors
/// If the resource ID is invalid, and those of [`Arm::graph`].
pub async fn find_cluster(arm: &Arm, hints: &ClusterHints) -> Result<Search> {
    let mut search = Search::default();
    if let Some(id) = &hints.resource_id {
        search.found = Some(id.parse()?);
        search.tried.push("the given resource ID".to_owned());
        return Ok(search);
    }
    // Alerts name a cluster of a connector below it, even if the cluster is Arc-connected as well.
    if let Some(elsewhere) = hints.marks.foreign() {
        match by_connector(arm, hints, elsewhere, &mut search).await {
            Ok(()) if search.found.is_some() => return Ok(search),
            Err(error) if !hints.marks.with_arc() => return Err(error),
            Err(error) => search.tried.push(error.to_string()),
            Ok(()) => {}
        }
    }
    let unnamed =
        hints.marks.foreign().is_none() && matches!(hints.marks.cloud, Some(Cloud::Eks | Cloud::Gke));
    let outcome = match &hints.marks.arc {
        None => "not read from the cluster".to_owned(),
        Some(Err(reason)) => reason.clone(),
        Some(Ok(noted)) => match by_arc(noted) {
            None => "none".to_owned(),
            Some(Err(error)) => error.explained.message,
            Some(Ok(cluster)) if unnamed => {
                format!("{cluster}, ignored: alerts of an EKS or GKE cluster refer to its connector")
            }
            Some(Ok(cluster)) => {
                search.found = Some(cluster);
                "found".to_owned()
            }
        },
    };
    search
        .tried
        .push(format!("the data of Azure Arc in the cluster: {outcome}"));
    if search.found.is_some() {
        return Ok(search);
    }
    if unnamed {
        search.tried.push(
            "a connector: not searched, since the kubeconfig does not have the name of the cluster in its cloud"
                .to_owned(),
        );
        return Ok(search);
    }
    if hints.marks.foreign().is_none() {
        by_graph(arm, hints, &mut search).await?;
    }
    Ok(search)
}

fn by_arc(data: &BTreeMap<String, String>) -> Option<Result<AzureCluster>> {
    let subscription = data.get("AZURE_SUBSCRIPTION_ID")?;
    let group = data.get("AZURE_RESOURCE_GROUP")?;
    let name = data.get("AZURE_RESOURCE_NAME")?;
    let id = format!(
        "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Kubernetes/connectedClusters/{name}"
    );
    Some(id.parse())
}

async fn by_graph(arm: &Arm, hints: &ClusterHints, search: &mut Search) -> Result<()> {
    let is_name = |text: &&String| !text.is_empty() && text.parse::<IpAddr>().is_err();
    let server = hints.marks.server.as_ref().filter(is_name);
    let group = hints
        .marks
        .node_resource_group
        .as_ref()
        .filter(|group| !group.is_empty());
    let mut wanted = vec![];
    if let Some(server) = server {
        let server = quoted(server);
        wanted.extend(
            ["fqdn", "privateFQDN", "azurePortalFQDN"].map(|name| format!("properties.{name} =~ {server}")),
        );
    }
    if let Some(group) = group {
        let is_truncated = group.chars().count() >= MAX_LABEL;
        let operator = if is_truncated { "startswith" } else { "=~" };
        wanted.push(format!(
            "properties.nodeResourceGroup {operator} {}",
            quoted(group)
        ));
    }
    if wanted.is_empty() {
        search.tried.push(
            "Resource Graph: not searched, since neither the host of the API server nor a label of AKS is known"
                .to_owned(),
        );
        return Ok(());
    }
    let query = format!(
        "resources\n| where type =~ 'microsoft.containerservice/managedclusters'\n| where {}\n\
         | project id, fqdn = tostring(properties.fqdn), private = tostring(properties.privateFQDN), \
         portal = tostring(properties.azurePortalFQDN)\n| order by id asc",
        wanted.join(" or ")
    );
    let from_nodes = hints.marks.provider_ids.iter().find_map(|id| subscription_of(id));
    let (mut by_server, mut by_group) = (vec![], vec![]);
    let subscription = hints.subscription.clone().or(from_nodes);
    query_resources(arm, Right::CLUSTERS, subscription, &query, |row| {
        let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
        let Ok(cluster) = text("id").parse::<AzureCluster>() else {
            return;
        };
        let names = ["fqdn", "private", "portal"].map(text);
        if server.is_some_and(|server| names.iter().any(|name| name.eq_ignore_ascii_case(server))) {
            by_server.push(cluster);
        } else {
            by_group.push(cluster);
        }
    })
    .await?;
    let ways = [
        ("the host of the API server", server, by_server),
        ("the resource group of the nodes", group, by_group),
    ];
    for (way, hint, mut clusters) in ways {
        let Some(hint) = hint else {
            continue;
        };
        let outcome = match clusters.len() {
            0 => "no AKS cluster that the login can read",
            1 => "found",
            _ => "several AKS clusters, none selected",
        };
        let hint = untrusted::name(hint);
        search
            .tried
            .push(format!("Resource Graph by {way} {hint}: {outcome}"));
        if clusters.len() == 1 {
            search.found = clusters.pop();
            return Ok(());
        }
    }
    Ok(())
}

/// Finds the connector of the account or project of the cluster. Alerts name the cluster below its connector
/// (Microsoft's release notes of recommendations and alerts, 2025-10-21).
async fn by_connector(
    arm: &Arm,
    hints: &ClusterHints,
    elsewhere: ForeignCluster<'_>,
    search: &mut Search,
) -> Result<()> {
    let (property, of, kind, cluster) = match elsewhere {
        ForeignCluster::Eks { account, cluster } => ("hierarchyIdentifier", account, "AWS account", cluster),
        ForeignCluster::Gke { project, cluster } => (
            "environmentData.projectDetails.projectId",
            project,
            "Google project",
            cluster,
        ),
    };
    let query = format!(
        "resources\n| where type =~ 'microsoft.security/securityconnectors'\n\
         | where tostring(properties.{property}) =~ {}\n| project id\n| order by id asc",
        quoted(of)
    );
    let mut found = vec![];
    query_resources(
        arm,
        Right::CONNECTORS,
        hints.subscription.clone(),
        &query,
        |row| {
            let connector = row.get("id").and_then(Value::as_str).unwrap_or_default();
            found.extend(format!("{connector}/{CONNECTED}/{cluster}").parse::<AzureCluster>());
        },
    )
    .await?;
    let outcome = match found.len() {
        0 => "none that the login can read",
        1 => "found, assumed to have the cluster",
        _ => "several, none selected",
    };
    let of = untrusted::name(of);
    search.tried.push(format!("connector of {kind} {of}: {outcome}"));
    if found.len() == 1 {
        search.found = found.pop();
    }
    Ok(())
}

/// Queries resources in one subscription, or in all that the login can read.
async fn query_resources(
    arm: &Arm,
    right: Right,
    subscription: Option<String>,
    query: &str,
    row: impl FnMut(Value),
) -> Result<()> {
    let scope = match &subscription {
        // The error of Azure for an invalid ID is less clear.
        Some(subscription) => Scope::new(subscription, None)?.id(),
        None => String::new(),
    };
    let call = Call {
        doing: "find the cluster in Azure".to_owned(),
        right,
        scope,
    };
    let subscriptions: Vec<String> = subscription.into_iter().collect();
    arm.graph(&call, query, &subscriptions, row).await
}

/// Returns the subscription in `azure:///subscriptions/S/...`.
fn subscription_of(provider_id: &str) -> Option<String> {
    let rest = provider_id.strip_prefix("azure://")?.trim_start_matches('/');
    let (word, rest) = rest.split_once('/')?;
    let (subscription, _) = rest.split_once('/')?;
    (word.eq_ignore_ascii_case("subscriptions") && Scope::new(subscription, None).is_ok())
        .then(|| subscription.to_owned())
}

/// Quotes a text for a query of Resource Graph.
fn quoted(text: &str) -> String {
    let text = untrusted::name(text);
    format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBSCRIPTION: &str = "00000000-0000-4000-8000-000000000001";

    #[test]
    fn ids_are_parsed_in_any_case() {
        for (rest, name, kind) in [
            (
                "Microsoft.ContainerService/managedClusters/blue",
                "blue",
                ClusterKind::Aks,
            ),
            (
                "microsoft.containerservice/managedclusters/blue/",
                "blue",
                ClusterKind::Aks,
            ),
            (
                "Microsoft.Kubernetes/connectedClusters/green",
                "green",
                ClusterKind::Arc,
            ),
            (
                "Microsoft.Security/securityConnectors/aws/securityentitydata/red",
                "red",
                ClusterKind::Connector,
            ),
            (
                "Microsoft.Other/things/x",
                "x",
                ClusterKind::Other("Microsoft.Other/things".to_owned()),
            ),
        ] {
            let id = format!("/SUBSCRIPTIONS/{SUBSCRIPTION}/resourcegroups/rg-1/providers/{rest}");
            let cluster: AzureCluster = id.parse().unwrap();
            assert_eq!((cluster.name.as_str(), &cluster.kind), (name, &kind));
            assert_eq!(cluster.subscription, SUBSCRIPTION);
            let group = match kind {
                ClusterKind::Connector => "",
                _ => "/resourceGroups/rg-1",
            };
            assert_eq!(
                cluster.scope().unwrap().id(),
                format!("/subscriptions/{SUBSCRIPTION}{group}")
            );
            let connector = matches!(kind, ClusterKind::Connector).then_some("/aws");
            assert_eq!(cluster.connector().map(|id| &id[id.len() - 4..]), connector);
        }
        for id in [
            "",
            "blue",
            "/subscriptions/x/resourceGroups/g/providers/a/b/c",
            "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/g/providers/a/b",
            "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/../providers/a/b/c",
            "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/g/providers/a/b/c d",
            "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/g'g/providers/a/b/c",
        ] {
            let error = id.parse::<AzureCluster>().unwrap_err();
            assert_eq!(error.explained.cause, Cause::Setting, "{id}");
        }
    }

    #[test]
    fn quoted_text_stays_in_its_quotes() {
        assert_eq!(quoted(r"a' or \'b"), r"'a\' or \\\'b'");
        assert_eq!(quoted("a\nb"), "'a b'");
        let id = format!("azure:///subscriptions/{SUBSCRIPTION}/resourceGroups/g/providers/x");
        assert_eq!(subscription_of(&id).as_deref(), Some(SUBSCRIPTION));
        assert_eq!(subscription_of("aws:///eu-west-1a/i-1"), None);
        assert_eq!(subscription_of("azure:///subscriptions/' or 1/x"), None);
    }
}
