//! Does a tag keep Defender's sensor away from the cluster?

use super::look::Look;
use super::{Checked, Finding};
use crate::azure::ClusterKind;

pub(super) async fn check(look: &Look) -> Checked {
    let (cluster, facts) = look.azure_facts().await?;
    if !matches!(cluster.kind, ClusterKind::Aks | ClusterKind::Arc) {
        return Ok(Finding::not_told(
            "tags of a cluster in another cloud are not in Azure",
        ));
    }
    let tags = &facts.exclusions;
    if tags.is_empty() {
        return Ok(Finding::ok("none"));
    }
    Ok(Finding::warning(format!("tagged {}", tags.join(", ")))
        .advise("remove the tag, or choose a cluster that Defender is to watch"))
}
