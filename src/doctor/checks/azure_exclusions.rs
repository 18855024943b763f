//! Checks that no tag of the cluster excludes Defender's sensor.

use crate::azure::ClusterKind;
use crate::doctor::finding::{Checked, Finding};
use crate::doctor::snapshot::Snapshot;

pub(super) async fn check(snapshot: &Snapshot) -> Checked {
    let (cluster, facts) = snapshot.azure_facts().await?;
    if !matches!(cluster.kind, ClusterKind::Aks | ClusterKind::Arc) {
        return Ok(Finding::unknown(
            "the tags of a cluster in another cloud are not in Azure",
        ));
    }
    let tags = &facts.exclusions;
    if tags.is_empty() {
        return Ok(Finding::ok("none"));
    }
    Ok(Finding::warning(format!("tagged {}", tags.join(", ")))
        .advise("remove the tag, or choose a cluster that Defender monitors"))
}
