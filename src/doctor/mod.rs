//! Checks whether a run can work in a cluster, and whether Defender can detect it, without changing anything.
//!
//! The checks run concurrently on a shared [`Snapshot`], which reads each part of the cluster once, when a check first
//! needs it. A check that fails to read what it needs reports an unknown result.

mod checks;
mod finding;
mod sensor_pods;
mod snapshot;

use std::collections::BTreeSet;

use futures::future::join_all;

use crate::azure::AzureOptions;
use crate::cluster::Cluster;
use crate::defender::facts::{Fact, Facts};
use crate::defender::identity::ClusterIdentity;
use crate::event::{Event, Events};
use crate::exit::Exit;
use crate::plan::Plan;
use crate::result::{CheckStatus, ClusterInfo, DOCTOR_SCHEMA, DoctorResult, RunResult};
use crate::untrusted;
use checks::{CHECKS, reachable};
use finding::Finding;
use sensor_pods::SensorPods;
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

    /// Returns the facts that decide which alerts can be raised, for no node in particular.
    pub async fn facts(&self) -> Option<Facts> {
        let sensors = self.0.sensors().await.ok()?;
        Some(Facts::of_sensors(&sensors.facts, None))
    }

    /// Adds to the result of a run the facts that decide which alerts can be raised, and for each victim whether a
    /// sensor was ready on its node.
    pub async fn complete(&self, run: &mut RunResult) {
        let Ok(sensors) = self.0.sensors().await else {
            return;
        };
        let nodes: BTreeSet<&str> = run
            .victims
            .iter()
            .filter_map(|victim| victim.node.as_deref())
            .collect();
        let is_any_ready = sensors.facts.sensors.iter().any(|sensor| sensor.ready);
        let ready = match nodes.first() {
            Some(first) if is_any_ready => {
                // One list for all nodes, which is short if there is one.
                let only = (nodes.len() == 1).then_some(*first);
                let pods = self.0.sensor_pods(only).await;
                Some(pods.map_err(|error| untrusted::line(&error.to_string())))
            }
            _ => None,
        };
        let facts = |node: Option<&str>| {
            let on_node = node.zip(ready.as_ref()).map(|(node, ready)| {
                let is_on = |pods: &SensorPods| pods.ready_on.contains(node);
                let ready = ready.as_ref().map(|pods| pods.iter().map(is_on).collect());
                (node, ready.map_err(Clone::clone))
            });
            Facts::of_sensors(&sensors.facts, on_node)
        };
        run.facts = Some(facts(nodes.first().copied()));
        let of_victims: Vec<Fact> = run
            .victims
            .iter()
            .map(|victim| facts(victim.node.as_deref()).sensor)
            .collect();
        for (victim, sensor) in run.victims.iter_mut().zip(of_victims) {
            victim.sensor = Some(sensor);
        }
    }
}
