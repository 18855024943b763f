//! What several checks look at, read from the cluster once, at the first question.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::core::v1 as core;
use serde::Deserialize;
use tokio::sync::OnceCell;

use super::Finding;
use super::images;
use super::nodes::Refusal;
use super::sensor_pods::{RawPod, SensorPods};
use crate::azure::{
    AzureCluster, AzureError, AzureOptions, Cloud, ClusterFacts, Located, LoginKind, Scope, cluster_facts,
    locate,
};
use crate::cluster::{Cluster, ClusterError, Found, Which};
use crate::defender::marks::{Azure, Marks};
use crate::defender::sensor::{ARC, MDC, SYSTEM, SensorFacts, Workload};
use crate::manifest::{ANCHOR, Kind};
use crate::net::Cause;
use crate::plan::{Fit, Plan};

/// What a check says that needs Azure and has none.
const SEE: &str = "see azure-cluster";

type Once<T> = OnceCell<Result<T, ClusterError>>;

/// The cluster, what would be run in it, and what was seen of it so far.
pub(super) struct Look {
    pub cluster: Cluster,
    pub plan: Plan,
    user: Once<Option<String>>,
    namespace: Once<Option<Found>>,
    anchor: Once<Option<Found>>,
    nodes: Once<Vec<Node>>,
    sensors: Once<Sensors>,
    /// What the user says of Azure, and what is known of the cluster without asking it.
    asked: (AzureOptions, Marks),
    marks: OnceCell<Marks>,
    azure: OnceCell<Result<Option<(Located, LoginKind)>, AzureError>>,
    azure_facts: OnceCell<Result<ClusterFacts, AzureError>>,
}

/// A node, reduced to what is asked of it: there may be thousands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub name: String,
    /// Its architecture, as its label has it.
    pub arch: String,
    /// Why it does not take the pods of a run, if it does not.
    pub refusal: Option<Refusal>,
    /// Whether it says that it has the image of the attacker, and that of the victim.
    pub has: [bool; 2],
}

/// What was seen of Defender's sensor.
pub(super) struct Sensors {
    pub facts: SensorFacts,
    /// Pods of each sensor of the facts, in their order: how many there ought to be, and are ready.
    pub pods: Vec<Pods>,
}

/// How a `DaemonSet` counts its pods, and what they are found by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pods {
    pub desired: i32,
    pub ready: i32,
    /// Labels as a selector. They may be those of other pods too.
    pub selector: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawNode {
    metadata: RawMetadata,
    #[serde(default)]
    spec: RawNodeSpec,
    #[serde(default)]
    status: RawNodeStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawMetadata {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    pub owner_references: Vec<RawOwner>,
}

#[derive(Deserialize)]
pub(super) struct RawOwner {
    pub kind: String,
    pub name: String,
}

#[derive(Default, Deserialize)]
struct RawNodeSpec {
    #[serde(default)]
    unschedulable: bool,
    #[serde(default)]
    taints: Vec<core::Taint>,
}

#[derive(Default, Deserialize)]
struct RawNodeStatus {
    #[serde(default)]
    conditions: Vec<RawCondition>,
    #[serde(default)]
    images: Vec<RawImage>,
}

#[derive(Deserialize)]
pub(super) struct RawCondition {
    #[serde(rename = "type")]
    kind: String,
    pub status: String,
    #[serde(default)]
    pub message: String,
}

#[derive(Deserialize)]
struct RawImage {
    names: Option<Vec<String>>,
}

pub(super) fn is_ready(conditions: &[RawCondition]) -> bool {
    conditions
        .iter()
        .any(|condition| condition.kind == "Ready" && condition.status == "True")
}

impl Node {
    /// Of `raw`, what matters to a run with `fit` and these `images`.
    pub(super) fn new(raw: RawNode, fit: &Fit, images: &[Option<String>; 2]) -> Self {
        let RawNode {
            metadata,
            spec,
            status,
        } = raw;
        let mut has = [false; 2];
        for name in status
            .images
            .iter()
            .flat_map(|image| image.names.iter().flatten())
        {
            for (has, image) in has.iter_mut().zip(images) {
                *has |= image.as_ref() == Some(name);
            }
        }
        let label = |key: &str| metadata.labels.get(key).cloned().unwrap_or_default();
        Self {
            arch: label("kubernetes.io/arch"),
            refusal: Refusal::of(
                &metadata.labels,
                &spec.taints,
                !spec.unschedulable,
                is_ready(&status.conditions),
                fit,
            ),
            has,
            name: metadata.name,
        }
    }
}

impl Look {
    pub fn new(cluster: Cluster, plan: Plan, asked: (AzureOptions, Marks)) -> Self {
        Self {
            cluster,
            plan,
            asked,
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

    /// Whom the API server takes the caller for, where it says.
    pub async fn user(&self) -> Result<Option<&str>, ClusterError> {
        let user = self.user.get_or_init(|| self.cluster.whoami()).await;
        user.as_ref().map(Option::as_deref).map_err(Clone::clone)
    }

    /// The run's namespace, where it is there.
    pub async fn namespace(&self) -> Result<Option<&Found>, ClusterError> {
        let name = &self.plan.namespace.name;
        let get = || self.cluster.get(Kind::Namespace, name, name);
        let found = self.namespace.get_or_init(get).await;
        found.as_ref().map(Option::as_ref).map_err(Clone::clone)
    }

    /// The Job that holds the run's namespace, where one does.
    pub async fn anchor(&self) -> Result<Option<&Found>, ClusterError> {
        let get = || self.cluster.get(Kind::Job, &self.plan.namespace.name, ANCHOR);
        let found = self.anchor.get_or_init(get).await;
        found.as_ref().map(Option::as_ref).map_err(Clone::clone)
    }

    /// Every node.
    pub async fn nodes(&self) -> Result<&[Node], ClusterError> {
        let list = || async {
            let mut nodes = vec![];
            let (options, images) = (&self.plan.options, images::names(&self.plan.options));
            let each = |raw: RawNode| nodes.push(Node::new(raw, &options.fit, &images));
            self.cluster
                .each::<core::Node, _>(None, Which::default(), each)
                .await?;
            Ok(nodes)
        };
        let nodes = self.nodes.get_or_init(list).await;
        nodes.as_ref().map(Vec::as_slice).map_err(Clone::clone)
    }

    /// What there is of Defender's sensor.
    pub async fn sensors(&self) -> Result<&Sensors, ClusterError> {
        let sensors = self.sensors.get_or_init(|| Box::pin(self.find_sensors())).await;
        sensors.as_ref().map_err(Clone::clone)
    }

    /// What tells which cluster of which cloud it is.
    async fn marks(&self) -> &Marks {
        let read = || self.cluster.marks(self.asked.1.clone());
        self.marks.get_or_init(read).await
    }

    /// Whether no other resource than the one that was found can be the cluster's: [`AzureOptions::certain`].
    pub async fn certain(&self) -> bool {
        self.asked.0.certain(self.marks().await)
    }

    /// The cluster in Azure, and as whom it is looked at; nothing where nothing says that Azure knows it.
    pub async fn azure(&self) -> Result<Option<&(Located, LoginKind)>, &AzureError> {
        let find = || async {
            let (options, marks) = (&self.asked.0, self.marks().await);
            if !options.name_azure(marks) {
                return Ok(None);
            }
            let located = locate(options, marks.clone()).await?;
            let login = located.arm.log_in().await?;
            Ok(Some((located, login)))
        };
        self.azure.get_or_init(find).await.as_ref().map(Option::as_ref)
    }

    /// Where Defender's settings and alerts are: who asks there, and of what.
    ///
    /// # Errors
    ///
    /// What a check says that has nothing to look at; why is told by that of the cluster in Azure.
    pub async fn scope(&self) -> Result<(&Located, &Scope), Finding> {
        let untold = || Finding::not_told(SEE);
        let located = self.azure().await.map_err(|_| untold())?;
        let (located, _) = located.ok_or_else(|| Finding::not_applicable(SEE))?;
        let scope = located.scope.as_ref().ok_or_else(untold)?;
        Ok((located, scope))
    }

    /// The cluster as Azure knows it, and what Azure has on file about it.
    ///
    /// # Errors
    ///
    /// As [`Look::scope`]; what was in the way of reading it.
    pub async fn azure_facts(&self) -> Result<(&AzureCluster, &ClusterFacts), Finding> {
        let (located, _) = self.scope().await?;
        let found = located.search.found.as_ref();
        let cluster = found.ok_or_else(|| Finding::not_told(SEE))?;
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
        let government = match (&self.asked.0.cloud, marks.server.as_deref()) {
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

    /// Of all namespaces; of those where the sensor is documented to be, where not all may be read.
    async fn daemon_sets(&self) -> Result<Vec<apps::DaemonSet>, ClusterError> {
        match self.cluster.all(None).await {
            Err(error) if error.explained.cause == Cause::Forbidden => {
                let (system, mdc) =
                    futures::join!(self.cluster.all(Some(SYSTEM)), self.cluster.all(Some(MDC)));
                let sets = match (system, mdc) {
                    (Ok(system), Ok(mdc)) => [system, mdc].concat(),
                    _ => return Err(error),
                };
                // Where it is not there, it may be elsewhere.
                let workloads: Vec<Workload> = sets.iter().map(workload).collect();
                if SensorFacts::new(&workloads, None, None).sensors.is_empty() {
                    return Err(error);
                }
                Ok(sets)
            }
            sets => sets,
        }
    }

    /// Reads the pods of each sensor; `only` those on that node, if it is given.
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
                .each::<core::Pod, _>(namespace, Which { labels, fields }, each)
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
