//! Checks whether a run can work in a cluster, and whether Defender can detect it, without changing anything.
//!
//! The checks run concurrently on a shared [`Snapshot`], which reads each part of the cluster once, when a check first
//! needs it. A check that fails to read what it needs reports an unknown result.

mod checks;
mod finding;
mod node;
mod sensor_pods;
mod snapshot;

use futures::future::join_all;

use crate::azure::AzureOptions;
use crate::cluster::Cluster;
use crate::defender::facts::Facts;
use crate::defender::identity::ClusterIdentity;
use crate::event::{Event, Events};
use crate::exit::Exit;
use crate::plan::Plan;
use crate::result::{CheckStatus, ClusterInfo, DOCTOR_SCHEMA, DoctorResult};
use crate::untrusted;
use checks::{CHECKS, reachable};
use finding::Finding;
use snapshot::Snapshot;

/// Checks whether `plan` can be run in `cluster`, and be detected. `azure` has the options for Azure, and what
/// identifies the cluster.
pub async fn doctor(
    cluster: Cluster,
    plan: Plan,
    mut info: ClusterInfo,
    azure: (AzureOptions, ClusterIdentity),
    events: &Events,
) -> DoctorResult {
    events.send(Event::Checking);
    let snapshot = &Snapshot::new(cluster, plan, azure);
    let kubectl = snapshot.cluster.kubectl();
    let (reached, version) = reachable::check(snapshot).await;
    let is_reachable = version.is_some();
    info.version = version;
    let mut checks = vec![reached.into_result("reachable", "Cluster", kubectl)];
    if is_reachable {
        let results = CHECKS.map(async |(id, title, check)| {
            let finding = check(snapshot).await.unwrap_or_else(|incomplete| incomplete);
            finding.into_result(id, title, kubectl)
        });
        checks.extend(join_all(results).await);
        info.user = snapshot.user().await.ok().flatten().map(untrusted::line);
        info.resource_id = snapshot
            .azure()
            .await
            .ok()
            .and_then(|azure| Some(azure?.0.search.found.as_ref()?.id.clone()));
    } else {
        let unreachable = || Finding::unknown("the cluster did not answer");
        checks.extend(CHECKS.map(|(id, title, _)| unreachable().into_result(id, title, kubectl)));
    }
    let exit = if checks.iter().any(|check| check.status == CheckStatus::Failed) {
        Exit::NotStarted
    } else {
        Exit::Ok
    };
    let plan = &snapshot.plan;
    DoctorResult {
        schema: DOCTOR_SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        cluster: info,
        namespace: plan.namespace.name.clone(),
        scenarios: plan
            .scenarios
            .iter()
            .map(|scenario| scenario.id.clone())
            .collect(),
        checks,
        exit,
        exit_code: exit.code(),
    }
}

/// The state of Defender's sensor in a cluster.
pub struct SensorState(Snapshot);

impl SensorState {
    /// Reads which sensors there are. Returns `None` if they cannot be read. `azure` as for [`doctor`].
    pub async fn read(
        cluster: &Cluster,
        plan: &Plan,
        azure: (AzureOptions, ClusterIdentity),
    ) -> Option<Self> {
        let snapshot = Snapshot::new(cluster.clone(), plan.clone(), azure);
        snapshot.sensors().await.ok()?;
        Some(Self(snapshot))
    }

    /// Returns the facts that decide which alerts can be raised, also whether a sensor is ready on the `node` that the
    /// pods of a run were on.
    pub async fn facts(&self, node: Option<&str>) -> Option<Facts> {
        let sensors = self.0.sensors().await.ok()?;
        let node = match node {
            Some(node) if sensors.facts.sensors.iter().any(|sensor| sensor.ready) => {
                let pods = self.0.sensor_pods(Some(node)).await;
                let ready = pods.map(|pods| pods.iter().map(|pods| !pods.ready_on.is_empty()).collect());
                Some((node, ready.map_err(|error| untrusted::line(&error.to_string()))))
            }
            _ => None,
        };
        Some(Facts::of_sensors(&sensors.facts, node))
    }
}
