//! Detection of the Azure resource of a cluster.

use std::collections::BTreeMap;

use defender_sim::azure::{AzureCluster, AzureOptions, ClusterHints, ClusterKind, find_cluster, plan};
use defender_sim::defender::alerts::Cloud;
use defender_sim::defender::identity::ClusterIdentity;
use serde_json::{Value, json};

use super::{id_of, ready};
use crate::arm::{GROUP, SUBSCRIPTION};

fn row(name: &str, fqdn: &str, private: &str) -> Value {
    let id = id_of(name);
    json!({"id": id, "fqdn": fqdn, "private": private, "portal": ""})
}

fn of(marks: ClusterIdentity) -> ClusterHints {
    ClusterHints {
        marks,
        ..ClusterHints::default()
    }
}

#[tokio::test]
async fn cluster_of_another_cloud_is_found_by_its_connector() {
    let (azure, _cli, arm) = ready().await;
    let connector = |name: &str| {
        format!(
            "/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.Security/securityConnectors/{name}"
        )
    };
    let rows = ["aws", "other"].map(|name| json!({"id": connector(name)}));
    for (name, rows, part, last, found) in [
        (
            "arn:aws:eks:eu-west-1:111122223333:cluster/blue",
            &rows[..1],
            "tostring(properties.hierarchyIdentifier) =~ '111122223333'",
            "connector of AWS account 111122223333: found, assumed to have the cluster",
            true,
        ),
        (
            "gke_shop-1_europe-west1_blue",
            &rows[..2],
            "tostring(properties.environmentData.projectDetails.projectId) =~ 'shop-1'",
            "connector of Google project shop-1: several, none selected",
            false,
        ),
        (
            "gke_shop-1_europe-west1_blue",
            &[],
            "securityconnectors",
            "none that the login can read",
            false,
        ),
    ] {
        azure.with(|state| state.resources = rows.to_vec());
        let marks = ClusterIdentity::of_kubeconfig("https://x.example.test", Some(name));
        let search = find_cluster(&arm, &of(marks)).await.unwrap();
        let asked = String::from_utf8(azure.server.requests().last().unwrap().body.to_vec()).unwrap();
        assert!(asked.contains(part), "{asked}");
        assert!(search.tried[0].ends_with(last), "{:?}", search.tried);
        let id = search.found.map(|cluster| cluster.id);
        assert_eq!(
            id,
            found.then(|| format!("{}/securityentitydata/blue", connector("aws")))
        );
    }

    // The plan of the connector applies, not that of the subscription.
    let cluster: AzureCluster = format!("{}/securityentitydata/blue", connector("aws"))
        .parse()
        .unwrap();
    for (offering, on) in [("DefenderForContainersAws", true), ("CspmMonitorAws", false)] {
        let body = json!({"properties": {"offerings": [{"offeringType": offering}]}});
        azure.with(|state| state.objects.insert(connector("aws"), body));
        for certain in [true, false] {
            let plan = plan(&arm, SUBSCRIPTION, Some(&cluster), certain).await.unwrap();
            assert_eq!((plan.on, plan.of.as_str()), (on, "connector aws"));
            assert_eq!(plan.decides, certain);
        }
    }
    // The plan is decisive if the user named the cluster, or if Azure Arc is known to be absent.
    let named = AzureOptions {
        resource_id: Some(cluster.id),
        ..AzureOptions::default()
    };
    let noted = |noted| ClusterIdentity {
        arc: noted,
        ..ClusterIdentity::default()
    };
    let there: BTreeMap<String, String> = [("a".to_owned(), "b".to_owned())].into();
    for (options, arc, certain) in [
        (&named, None, true),
        (&AzureOptions::default(), None, false),
        (&AzureOptions::default(), Some(Err("no".to_owned())), false),
        (&AzureOptions::default(), Some(Ok(there)), false),
        (&AzureOptions::default(), Some(Ok(BTreeMap::new())), true),
    ] {
        assert_eq!(options.certain(&noted(arc.clone())), certain, "{arc:?}");
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the type of the fields")]
fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// The data that Azure Arc stores in a cluster.
fn arc_data() -> BTreeMap<String, String> {
    [
        ("AZURE_SUBSCRIPTION_ID", SUBSCRIPTION),
        ("AZURE_RESOURCE_GROUP", "rg-arc"),
        ("AZURE_RESOURCE_NAME", "green"),
        ("AZURE_REGION", "westeurope"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

#[tokio::test]
async fn resource_id_and_arc_data_identify_a_cluster_without_a_query() {
    let (azure, _cli, arm) = ready().await;
    let connected = of(ClusterIdentity {
        arc: Some(Ok(arc_data())),
        server: text("api.example.test"),
        ..ClusterIdentity::default()
    });
    let given = ClusterHints {
        resource_id: Some(id_of("blue")),
        ..connected.clone()
    };
    let found = find_cluster(&arm, &given).await.unwrap().found.unwrap();
    assert_eq!((found.name.as_str(), found.kind), ("blue", ClusterKind::Aks));
    let found = find_cluster(&arm, &connected).await.unwrap().found.unwrap();
    assert_eq!(
        (found.resource_group.as_str(), found.kind),
        ("rg-arc", ClusterKind::Arc)
    );
    // Alerts do not name an EKS or GKE cluster the way Azure Arc does.
    for (cloud, has_arc, found) in [
        (Cloud::Eks, true, false),
        (Cloud::Gke, true, false),
        (Cloud::Gke, false, false),
        (Cloud::Aks, true, true),
    ] {
        let hints = of(ClusterIdentity {
            cloud: Some(cloud),
            arc: connected.marks.arc.clone().filter(|_| has_arc),
            ..connected.marks.clone()
        });
        let search = find_cluster(&arm, &hints).await.unwrap();
        assert_eq!(search.found.is_some(), found, "{cloud:?} {:?}", search.tried);
        let last = search.tried.last().unwrap();
        assert!(found || last.starts_with("a connector: not searched"), "{last}");
    }
    assert!(azure.server.requests().is_empty());
}

#[tokio::test]
async fn search_without_hints_reports_what_it_tried() {
    let (azure, _cli, arm) = ready().await;
    let nothing = of(ClusterIdentity {
        server: text("10.0.0.1"),
        ..ClusterIdentity::default()
    });
    let search = find_cluster(&arm, &nothing).await.unwrap();
    assert_eq!((search.found, search.tried.len()), (None, 2));
    for (arc, outcome) in [
        (None, "not read from the cluster"),
        (Some(Err("forbidden".to_owned())), "forbidden"),
        (Some(Ok(BTreeMap::new())), "none"),
    ] {
        let hints = of(ClusterIdentity {
            arc,
            ..ClusterIdentity::default()
        });
        let tried = find_cluster(&arm, &hints).await.unwrap().tried;
        assert_eq!(
            tried[0],
            format!("the data of Azure Arc in the cluster: {outcome}")
        );
    }
    assert!(azure.server.requests().is_empty());
}

/// Returns the hints of an AKS cluster from its API server and its nodes.
fn aks(server: Option<String>, group: Option<String>) -> ClusterHints {
    let node =
        format!("azure:///subscriptions/{SUBSCRIPTION}/resourceGroups/mc/providers/Microsoft.Compute/x");
    of(ClusterIdentity {
        server,
        node_resource_group: group,
        provider_ids: vec!["aws:///x/y".to_owned(), node],
        ..ClusterIdentity::default()
    })
}

#[tokio::test]
async fn aks_cluster_is_found_by_host_or_resource_group() {
    const HOST: &str = "blue-1.hcp.westeurope.azmk8s.io";
    const PRIVATE: &str = "blue-1.privatelink.westeurope.azmk8s.io";
    let (azure, _cli, arm) = ready().await;
    let rows = [
        row("red", "red-1.hcp.westeurope.azmk8s.io", ""),
        row("blue", HOST, PRIVATE),
    ];
    let upper = text("BLUE-1.hcp.westeurope.azmk8s.io");
    let (group, by_group) = (text("MC_x"), "the resource group of the nodes MC_x: found");
    for (rows, server, group, expected, last) in [
        (&rows[..], upper, None, Some("blue"), ": found"),
        (&rows[..], text(PRIVATE), group.clone(), Some("blue"), ": found"),
        (&rows[..1], text(HOST), group.clone(), Some("red"), by_group),
        (
            &rows[..],
            text("10.0.0.1"),
            group,
            None,
            "several AKS clusters, none selected",
        ),
        (
            &rows[..0],
            text(HOST),
            None,
            None,
            "no AKS cluster that the login can read",
        ),
    ] {
        azure.with(|state| state.resources = rows.to_vec());
        let search = find_cluster(&arm, &aks(server, group)).await.unwrap();
        assert_eq!(search.found.map(|cluster| cluster.name).as_deref(), expected);
        assert!(search.tried.last().unwrap().ends_with(last), "{:?}", search.tried);
    }
}

#[tokio::test]
async fn query_quotes_hints_and_is_limited_to_the_subscription_of_nodes() {
    let (azure, _cli, arm) = ready().await;
    let hostile = aks(text("x' or '1' =~ '1"), Some("g".repeat(63)));
    find_cluster(&arm, &hostile).await.unwrap();
    let body: Value = serde_json::from_slice(&azure.server.requests().last().unwrap().body).unwrap();
    let query = body["query"].as_str().unwrap();
    assert!(
        query.contains(r"properties.fqdn =~ 'x\' or \'1\' =~ \'1'"),
        "{query}"
    );
    assert!(
        query.contains("nodeResourceGroup startswith 'ggg"),
        "a label is truncated: {query}"
    );
    assert_eq!(body["subscriptions"], json!([SUBSCRIPTION]));
}
