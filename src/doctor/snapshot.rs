//! The state that checks share: each part of the cluster is read once, when a check first needs it.

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::core::v1 as core;
use tokio::sync::OnceCell;

use super::finding::Finding;
use super::sensor_pods::{RawPod, SensorPods};
use crate::azure::{
    AzureCluster, AzureError, AzureOptions, Cloud, ClusterFacts, Located, LoginKind, Scope, cluster_facts,
    locate,
};
use crate::cluster::{Cluster, ClusterError, Found, Selectors};
use crate::defender::identity::{Azure, ClusterIdentity};
use crate::defender::sensor::{ARC, MDC, SYSTEM, SensorFacts, Workload};
use crate::manifest::{ANCHOR, Kind};
use crate::net::Cause;
use crate::node::{Node, RawNode, image_names};
use crate::plan::Plan;

/// Message of a check that needs Azure and has no access: the check `azure-cluster` has the reason.
const SEE_AZURE_CLUSTER: &str = "see azure-cluster";

type Once<T> = OnceCell<Result<T, ClusterError>>;

/// The cluster, the plan to run in it, and what has been read of the cluster.
pub(super) struct Snapshot {
    pub cluster: Cluster,
    pub plan: Plan,
    user: Once<Option<String>>,
    namespace: Once<Option<Found>>,
    anchor: Once<Option<Found>>,
    nodes: Once<Vec<Node>>,
    sensors: Once<Sensors>,
    /// Options for Azure.
    options: AzureOptions,
    /// What identifies the cluster without asking it.
    known: ClusterIdentity,
    marks: OnceCell<ClusterIdentity>,
    azure: OnceCell<Result<Option<(Located, LoginKind)>, AzureError>>,
    azure_facts: OnceCell<Result<ClusterFacts, AzureError>>,
}

/// The sensors of a cluster.
pub(super) struct Sensors {
    pub facts: SensorFacts,
    /// Pods of each sensor, in the order of the facts.
    pub pods: Vec<Pods>,
}

/// Pods of a `DaemonSet`, as its status counts them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pods {
    pub desired: i32,
    pub ready: i32,
    /// Label selector, which may select other pods too.
    pub selector: String,
}

impl Snapshot {
    pub fn new(cluster: Cluster, plan: Plan, (options, known): (AzureOptions, ClusterIdentity)) -> Self {
        Self {
            cluster,
            plan,
            options,
            known,
            marks: OnceCell::new(),
            azure: OnceCell::new(),
            azure_facts: OnceCell::new(),
            user: OnceCell::new(),
            namespace: OnceCell::new(),
            anchor: OnceCell::new(),
            nodes: OnceCell::new(),
            sensors: OnceCell::new(),
        }
    }

    /// The authenticated user, if the API server reports one.
    pub async fn user(&self) -> Result<Option<&str>, ClusterError> {
        let user = self.user.get_or_init(|| self.cluster.whoami()).await;
        user.as_ref().map(Option::as_deref).map_err(Clone::clone)
    }

    /// The namespace of the run, if it exists.
    pub async fn namespace(&self) -> Result<Option<&Found>, ClusterError> {
        let name = &self.plan.namespace.name;
        let get = || self.cluster.get(Kind::Namespace, name, name);
        let found = self.namespace.get_or_init(get).await;
        found.as_ref().map(Option::as_ref).map_err(Clone::clone)
    }

    /// The Job that holds the namespace for a run, if there is one.
    pub async fn anchor(&self) -> Result<Option<&Found>, ClusterError> {
        let get = || self.cluster.get(Kind::Job, &self.plan.namespace.name, ANCHOR);
        let found = self.anchor.get_or_init(get).await;
        found.as_ref().map(Option::as_ref).map_err(Clone::clone)
    }

    /// All nodes.
    pub async fn nodes(&self) -> Result<&[Node], ClusterError> {
        let list = || async {
            let mut nodes = vec![];
            let (options, images) = (&self.plan.options, image_names(&self.plan.options));
            let each = |raw: RawNode| nodes.push(Node::new(raw, options, &images));
            self.cluster
                .for_each::<core::Node, _>(None, Selectors::default(), each)
                .await?;
            Ok(nodes)
        };
        let nodes = self.nodes.get_or_init(list).await;
        nodes.as_ref().map(Vec::as_slice).map_err(Clone::clone)
    }

    /// The sensors of the cluster.
    pub async fn sensors(&self) -> Result<&Sensors, ClusterError> {
        let sensors = self.sensors.get_or_init(|| Box::pin(self.find_sensors())).await;
        sensors.as_ref().map_err(Clone::clone)
    }

    /// What identifies the cluster to its cloud.
    async fn marks(&self) -> &ClusterIdentity {
        let read = || self.cluster.marks(self.known.clone());
        self.marks.get_or_init(read).await
    }

    /// Whether the resource found is the only one of the cluster: [`AzureOptions::certain`].
    pub async fn certain(&self) -> bool {
        self.options.certain(self.marks().await)
    }

    /// The cluster in Azure, and the login. Returns `None` if nothing indicates that Azure knows the cluster.
    pub async fn azure(&self) -> Result<Option<&(Located, LoginKind)>, &AzureError> {
        let find = || async {
            let (options, marks) = (&self.options, self.marks().await);
            if !options.name_azure(marks) {
                return Ok(None);
            }
            let located = locate(options, marks.clone()).await?;
            let login = located.arm.log_in().await?;
            Ok(Some((located, login)))
        };
        self.azure.get_or_init(find).await.as_ref().map(Option::as_ref)
    }

    /// The scope in Azure that has Defender's settings and alerts.
    ///
    /// # Errors
    ///
    /// The finding of a check that needs the scope; the check `azure-cluster` has the reason.
    pub async fn scope(&self) -> Result<(&Located, &Scope), Finding> {
        let unknown = || Finding::unknown(SEE_AZURE_CLUSTER);
        let located = self.azure().await.map_err(|_| unknown())?;
        let (located, _) = located.ok_or_else(|| Finding::not_applicable(SEE_AZURE_CLUSTER))?;
        let scope = located.scope.as_ref().ok_or_else(unknown)?;
        Ok((located, scope))
    }

    /// The cluster's resource in Azure, and its settings.
    ///
    /// # Errors
    ///
    /// As [`Snapshot::scope`], or if it cannot be read.
    pub async fn azure_facts(&self) -> Result<(&AzureCluster, &ClusterFacts), Finding> {
        let (located, _) = self.scope().await?;
        let found = located.search.found.as_ref();
        let cluster = found.ok_or_else(|| Finding::unknown(SEE_AZURE_CLUSTER))?;
        let read = || cluster_facts(&located.arm, cluster);
        let facts = self.azure_facts.get_or_init(read).await.as_ref();
        Ok((cluster, facts.map_err(Clone::clone)?))
    }

    async fn find_sensors(&self) -> Result<Sensors, ClusterError> {
        let (sets, arc, marks) = futures::join!(
            self.daemon_sets(),
            self.cluster.get(Kind::Namespace, ARC, ARC),
            self.marks(),
        );
        let sets = sets?;
        let workloads: Vec<Workload> = sets.iter().map(workload).collect();
        let arc = arc.ok().map(|found| found.is_some());
        let government = match (&self.options.cloud, marks.server.as_deref()) {
            (Some(cloud), _) => *cloud == Cloud::UsGovernment,
            (None, server) => server.and_then(Azure::of_server) == Some(Azure::UsGovernment),
        };
        let facts = SensorFacts {
            government,
            ..SensorFacts::new(&workloads, arc, marks.cloud)
        };
        let pods = facts.sensors.iter().map(|sensor| {
            let same =
                |workload: &&Workload| workload.name == sensor.name && workload.namespace == sensor.namespace;
            let set = workloads.iter().zip(&sets).find(|(workload, _)| same(workload));
            set.map(|(_, set)| pods(set)).unwrap_or_default()
        });
        Ok(Sensors {
            pods: pods.collect(),
            facts,
        })
    }

    /// Lists the `DaemonSets` of all namespaces, or if that is forbidden, of the documented namespaces of the sensor.
    async fn daemon_sets(&self) -> Result<Vec<apps::DaemonSet>, ClusterError> {
        match self.cluster.list_all(None).await {
            Err(error) if error.explained.cause == Cause::Forbidden => {
                let (system, mdc) = futures::join!(
                    self.cluster.list_all(Some(SYSTEM)),
                    self.cluster.list_all(Some(MDC))
                );
                let sets = match (system, mdc) {
                    (Ok(system), Ok(mdc)) => [system, mdc].concat(),
                    _ => return Err(error),
                };
                // A sensor may be in a namespace that cannot be read.
                let workloads: Vec<Workload> = sets.iter().map(workload).collect();
                if SensorFacts::new(&workloads, None, None).sensors.is_empty() {
                    return Err(error);
                }
                Ok(sets)
            }
            sets => sets,
        }
    }

    /// Lists the pods of each sensor, on one node if `only` is given.
    pub async fn sensor_pods(&self, only: Option<&str>) -> Result<Vec<SensorPods>, ClusterError> {
        let fields = only.map_or(String::new(), |node| format!("spec.nodeName={node}"));
        let Sensors { facts, pods } = self.sensors().await?;
        let mut all = vec![];
        for (sensor, pods) in facts.sensors.iter().zip(pods) {
            let mut found = SensorPods::default();
            let each = |pod: RawPod| {
                if pod.is_of(&sensor.name) {
                    found.add(pod);
                }
            };
            let namespace = Some(sensor.namespace.as_str());
            let (labels, fields) = (&pods.selector, &fields);
            self.cluster
                .for_each::<core::Pod, _>(namespace, Selectors { labels, fields }, each)
                .await?;
            all.push(found);
        }
        Ok(all)
    }
}

fn pods(set: &apps::DaemonSet) -> Pods {
    let labels = set
        .spec
        .as_ref()
        .and_then(|spec| spec.selector.match_labels.as_ref());
    let labels: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let status = set.status.as_ref();
    Pods {
        desired: status.map_or(0, |status| status.desired_number_scheduled),
        ready: status.map_or(0, |status| status.number_ready),
        selector: labels.join(","),
    }
}

fn workload(set: &apps::DaemonSet) -> Workload {
    let template = set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let containers = template.iter().flat_map(|pod| &pod.containers);
    Workload {
        namespace: set.metadata.namespace.clone().unwrap_or_default(),
        name: set.metadata.name.clone().unwrap_or_default(),
        labels: set.metadata.labels.clone().unwrap_or_default(),
        images: containers
            .filter_map(|container| container.image.clone())
            .collect(),
        ready: pods(set).ready > 0,
    }
}
