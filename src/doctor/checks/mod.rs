//! The checks, one file each. A check is a function from the snapshot to a finding.

mod active_run;
mod admission;
mod azure_alerts;
mod azure_cluster;
mod azure_exclusions;
mod azure_plan;
mod azure_profile;
mod azure_rules;
mod identity;
mod images;
mod leftovers;
mod namespace;
mod network_policies;
mod nodes;
mod quota;
pub(super) mod reachable;
mod rights;
mod sensor;
mod sensor_features;
mod sensor_ready;

use futures::FutureExt;
use futures::future::LocalBoxFuture;

use super::finding::Checked;
use super::snapshot::Snapshot;

type Check = for<'a> fn(&'a Snapshot) -> LocalBoxFuture<'a, Checked>;

/// The checks that need a reachable cluster, in the order of the report: ID, title, function. IDs never change.
pub(super) const CHECKS: [(&str, &str, Check); 19] = [
    ("identity", "Authenticated user", |snapshot| {
        identity::check(snapshot).boxed_local()
    }),
    ("rights", "Permissions for a run", |snapshot| {
        rights::check(snapshot).boxed_local()
    }),
    ("namespace", "Namespace of the run", |snapshot| {
        namespace::check(snapshot).boxed_local()
    }),
    ("admission", "Admission of the objects of a run", |snapshot| {
        admission::check(snapshot).boxed_local()
    }),
    ("quota", "Resource quotas of the namespace", |snapshot| {
        quota::check(snapshot).boxed_local()
    }),
    ("nodes", "Nodes for the pods", |snapshot| {
        nodes::check(snapshot).boxed_local()
    }),
    ("images", "Images of the pods", |snapshot| {
        images::check(snapshot).boxed_local()
    }),
    (
        "network-policies",
        "Network policies of the namespace",
        |snapshot| network_policies::check(snapshot).boxed_local(),
    ),
    ("active-run", "Other runs in progress", |snapshot| {
        active_run::check(snapshot).boxed_local()
    }),
    ("leftovers", "Leftovers of earlier runs", |snapshot| {
        leftovers::check(snapshot).boxed_local()
    }),
    ("sensor", "Defender sensor", |snapshot| {
        sensor::check(snapshot).boxed_local()
    }),
    ("sensor-ready", "Sensor on the nodes", |snapshot| {
        sensor_ready::check(snapshot).boxed_local()
    }),
    ("sensor-features", "Sensor features for the alerts", |snapshot| {
        sensor_features::check(snapshot).boxed_local()
    }),
    ("azure-cluster", "Cluster in Azure", |snapshot| {
        azure_cluster::check(snapshot).boxed_local()
    }),
    ("azure-plan", "Defender for Containers plan", |snapshot| {
        azure_plan::check(snapshot).boxed_local()
    }),
    ("azure-profile", "AKS security profile", |snapshot| {
        azure_profile::check(snapshot).boxed_local()
    }),
    ("azure-exclusions", "Tags that exclude the sensor", |snapshot| {
        azure_exclusions::check(snapshot).boxed_local()
    }),
    ("azure-alerts", "Permission to read alerts", |snapshot| {
        azure_alerts::check(snapshot).boxed_local()
    }),
    ("azure-rules", "Alert suppression rules", |snapshot| {
        azure_rules::check(snapshot).boxed_local()
    }),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_fit_their_column() {
        let mut ids = CHECKS.map(|(id, ..)| id);
        ids.sort_unstable();
        assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "{ids:?}");
        assert!(
            ids.iter().all(|id| id.len() <= 16),
            "the table has room for 16: {ids:?}"
        );
    }
}
