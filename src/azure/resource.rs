//! A cluster as a resource of Azure: which one the API server of a kubeconfig belongs to.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde_json::Value;

use super::source::Scope;
use super::{Arm, AzureError, Call, Cause, Explained, Result, Right};
use crate::defender::identity::{ClusterIdentity, ForeignCluster};
use crate::defender::sensor;
use crate::untrusted;

/// Kubernetes cuts labels off here.
const LABEL: usize = 63;
/// The type of a cluster below its connector.
const CONNECTED: &str = "securityentitydata";

/// What kind of resource a cluster is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterKind {
    /// `Microsoft.ContainerService/managedClusters`.
    Aks,
    /// `Microsoft.Kubernetes/connectedClusters`: connected by Azure Arc.
    Arc,
    /// `Microsoft.Security/securityConnectors/*/securityentitydata`: in another cloud, known by a connector.
    Connector,
    /// Another type, as given.
    Other(String),
}

/// A cluster as Azure knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AzureCluster {
    /// Its id, as given.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The id of its subscription.
    pub subscription: String,
    /// Its resource group.
    pub resource_group: String,
    /// What it is.
    pub kind: ClusterKind,
}

impl AzureCluster {
    /// Where its alerts are: those of an AKS cluster are listed in its resource group. Where those are that a
    /// connector brings is not public, so all of its subscription's are looked at.
    ///
    /// # Errors
    ///
    /// An id with a subscription or group that cannot be one.
    pub fn scope(&self) -> Result<Scope> {
        let group = Scope::new(&self.subscription, Some(&self.resource_group))?;
        match self.kind {
            ClusterKind::Connector => Scope::new(&self.subscription, None),
            _ => Ok(group),
        }
    }

    /// The id of the connector that brings the cluster, where one does.
    pub fn connector(&self) -> Option<&str> {
        let (rest, _name) = self.id.rsplit_once('/')?;
        let (connector, _type) = rest.rsplit_once('/')?;
        (self.kind == ClusterKind::Connector).then_some(connector)
    }
}

/// `AKS cluster blue in resource group rg`.
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

/// From an id such as `/subscriptions/S/resourceGroups/G/providers/Microsoft.ContainerService/managedClusters/N`.
impl FromStr for AzureCluster {
    type Err = AzureError;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim().trim_end_matches('/');
        let parts: Vec<&str> = text.split('/').collect();
        let is = |at: usize, word: &str| parts.get(at).is_some_and(|part| part.eq_ignore_ascii_case(word));
        let shaped = parts.len() >= 9
            && parts.len() % 2 == 1
            && is(0, "")
            && is(1, "subscriptions")
            && is(3, "resourceGroups")
            && is(5, "providers")
            && parts[1..]
                .iter()
                .all(|part| !part.is_empty() && *part != "." && *part != "..");
        if !shaped || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            let message = format!("{:?} is no id of a cluster", untrusted::name(text));
            return Err(Explained::new(Cause::Setting, message)
                .hint("see: az aks list --query [].id, az connectedk8s list --query [].id")
                .doing("choose the cluster"));
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

/// What is known of a cluster from elsewhere.
#[derive(Clone, Debug, Default)]
pub struct ClusterHints {
    /// An id that the user gives: nothing else is looked at.
    pub resource_id: Option<String>,
    /// The subscription to look in; all that the login can read, unless it is given.
    pub subscription: Option<String>,
    /// What a kubeconfig and the cluster say.
    pub marks: ClusterIdentity,
}

/// What a search came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// The cluster, where it is known which one it is.
    pub found: Option<AzureCluster>,
    /// What was tried, and what came of it, in order.
    pub tried: Vec<String>,
}

/// Finds a cluster: by the id given (which asks nobody), by a query of Resource Graph for the connector of the
/// account or project that the kubeconfig's name has, by what Azure Arc left in the cluster, or by a query for an
/// AKS cluster with the API server's name, or with the nodes' resource group. A cluster of EKS or GKE whose name
/// there is not known is not found: since 2025-10-21 its alerts name it below its connector, not as Azure Arc does
/// (Microsoft's release notes of recommendations and alerts).
///
/// # Errors
///
/// An id that is none; those of [`Arm::graph`].
pub async fn find_cluster(arm: &Arm, hints: &ClusterHints) -> Result<Search> {
    let mut search = Search::default();
    if let Some(id) = &hints.resource_id {
        search.found = Some(id.parse()?);
        search.tried.push("the resource id given".to_owned());
        return Ok(search);
    }
    // Alerts of a cluster that a connector brings do not name it as Azure Arc does, even where that is there too.
    if let Some(elsewhere) = hints.marks.foreign() {
        match by_connector(arm, hints, elsewhere, &mut search).await {
            Ok(()) if search.found.is_some() => return Ok(search),
            Err(error) if !hints.marks.with_arc() => return Err(error),
            Err(error) => search.tried.push(error.to_string()),
            Ok(()) => {}
        }
    }
    let unnamed = hints.marks.foreign().is_none()
        && matches!(
            hints.marks.cloud,
            Some(sensor::Provider::Eks | sensor::Provider::Gke)
        );
    let came = match &hints.marks.arc {
        None => "the cluster was not asked".to_owned(),
        Some(Err(reason)) => reason.clone(),
        Some(Ok(noted)) => match by_arc(noted) {
            None => "nothing there".to_owned(),
            Some(Err(error)) => error.explained.message,
            Some(Ok(cluster)) if unnamed => format!(
                "{cluster}, not taken: alerts of an EKS or GKE cluster name its connector, where one brings it"
            ),
            Some(Ok(cluster)) => {
                search.found = Some(cluster);
                "found".to_owned()
            }
        },
    };
    search
        .tried
        .push(format!("what Azure Arc left in the cluster: {came}"));
    if search.found.is_some() {
        return Ok(search);
    }
    if unnamed {
        search.tried.push(
            "a connector: not looked for, since the kubeconfig does not name the cluster as its cloud does"
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
        let cut = group.chars().count() >= LABEL;
        let operator = if cut { "startswith" } else { "=~" };
        wanted.push(format!(
            "properties.nodeResourceGroup {operator} {}",
            quoted(group)
        ));
    }
    if wanted.is_empty() {
        search.tried.push(
            "Resource Graph: not asked, since neither a name of the API server nor a label of AKS is known"
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
    look_in(arm, Right::CLUSTERS, subscription, &query, |row| {
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
        ("the API server's name", server, by_server),
        ("the nodes' resource group", group, by_group),
    ];
    for (way, hint, mut clusters) in ways {
        let Some(hint) = hint else {
            continue;
        };
        let came = match clusters.len() {
            0 => "no AKS cluster that the login can read",
            1 => "found",
            _ => "several AKS clusters, so none is taken",
        };
        let hint = untrusted::name(hint);
        search
            .tried
            .push(format!("Resource Graph by {way} {hint}: {came}"));
        if clusters.len() == 1 {
            search.found = clusters.pop();
            return Ok(());
        }
    }
    Ok(())
}

/// Finds the connector of the account or project that the cluster is in. Defender calls a cluster by its name
/// below its connector (Microsoft's release notes of recommendations and alerts, 2025-10-21).
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
    look_in(
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
    let came = match found.len() {
        0 => "none that the login can read",
        1 => "found; that it has the cluster is assumed",
        _ => "several, so none is taken",
    };
    let of = untrusted::name(of);
    search.tried.push(format!("connector of {kind} {of}: {came}"));
    if found.len() == 1 {
        search.found = found.pop();
    }
    Ok(())
}

/// Asks Resource Graph for resources, in one subscription or in all that the login can read.
async fn look_in(
    arm: &Arm,
    right: Right,
    subscription: Option<String>,
    query: &str,
    row: impl FnMut(Value),
) -> Result<()> {
    let scope = match &subscription {
        // An id that is none would be told by Azure less clearly.
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

/// The subscription in `azure:///subscriptions/S/...`.
fn subscription_of(provider_id: &str) -> Option<String> {
    let rest = provider_id.strip_prefix("azure://")?.trim_start_matches('/');
    let (word, rest) = rest.split_once('/')?;
    let (subscription, _) = rest.split_once('/')?;
    (word.eq_ignore_ascii_case("subscriptions") && Scope::new(subscription, None).is_ok())
        .then(|| subscription.to_owned())
}

/// A text in a query of Resource Graph.
fn quoted(text: &str) -> String {
    let text = untrusted::name(text);
    format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBSCRIPTION: &str = "00000000-0000-4000-8000-000000000001";

    #[test]
    fn ids_are_read_whatever_their_case() {
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
    fn nothing_leaves_its_quotes() {
        assert_eq!(quoted(r"a' or \'b"), r"'a\' or \\\'b'");
        assert_eq!(quoted("a\nb"), "'a b'");
        let id = format!("azure:///subscriptions/{SUBSCRIPTION}/resourceGroups/g/providers/x");
        assert_eq!(subscription_of(&id).as_deref(), Some(SUBSCRIPTION));
        assert_eq!(subscription_of("aws:///eu-west-1a/i-1"), None);
        assert_eq!(subscription_of("azure:///subscriptions/' or 1/x"), None);
    }
}
