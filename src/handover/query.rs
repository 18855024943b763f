//! The queries that find the alerts of a run.
//!
//! They attribute alerts as a verification does: by the ID of the run, or else by time, cluster, namespace and pods.

use crate::azure::AzureCluster;
use crate::kql::{datetime, quoted};
use crate::plan::{ATTACKER, RunId, VICTIM};
use crate::result::{Queries, RunMarks};

/// Returns the queries.
pub(super) fn queries(run: &RunMarks, cluster: Option<&AzureCluster>) -> Queries {
    Queries {
        resource_graph: resource_graph(run, cluster),
        log_analytics: log_analytics(run, cluster),
    }
}

/// Returns the query for Resource Graph, where the names of properties start with a capital letter. Published queries
/// have both spellings, so this one accepts both.
fn resource_graph(run: &RunMarks, cluster: Option<&AzureCluster>) -> String {
    let either = |name: &str| {
        let small = format!("{}{}", name[..1].to_ascii_lowercase(), &name[1..]);
        format!("coalesce(tostring(properties.{name}),\n    tostring(properties.{small}))")
    };
    let time = |name: &str| format!("todatetime({})", either(name));
    format!(
        "securityresources\n\
         | where type =~ \"microsoft.security/locations/alerts\"\n\
         | extend text = tostring(properties)\n\
         | extend started = {}\n\
         | extend ended = {}\n\
         | extend entity = {}\n\
         | where {}\n\
         | extend alert = {}\n\
         | extend alertType = {}\n\
         | extend severity = {}\n\
         | extend status = {}\n\
         | extend link = {}\n\
         | project started, severity, status, alert, alertType, link, id\n\
         | order by started asc",
        time("StartTimeUtc"),
        time("EndTimeUtc"),
        either("CompromisedEntity"),
        condition(run, cluster, ["started", "ended", "entity"]),
        either("AlertDisplayName"),
        either("AlertType"),
        either("Severity"),
        either("Status"),
        either("AlertUri"),
    )
}

/// Returns the query for Log Analytics, where an alert has a row for each of its updates.
fn log_analytics(run: &RunMarks, cluster: Option<&AzureCluster>) -> String {
    format!(
        "SecurityAlert\n\
         | where TimeGenerated >= {}\n\
         | extend text = strcat_delim(\" \", Entities, ExtendedProperties,\n    ResourceId, CompromisedEntity)\n\
         | where {}\n\
         | summarize arg_max(TimeGenerated, *) by SystemAlertId\n\
         | project StartTime, AlertSeverity, Status, DisplayName, AlertType,\n    AlertLink, SystemAlertId\n\
         | order by StartTime asc",
        datetime(run.from),
        condition(run, cluster, ["StartTime", "EndTime", "CompromisedEntity"]),
    )
}

/// Returns the condition that an alert is of the run, by the columns for its start, its end and its main resource.
fn condition(run: &RunMarks, cluster: Option<&AzureCluster>, [start, end, entity]: [&str; 3]) -> String {
    let mut parts = vec![
        format!("(isnull({start}) or {start} <= {})", datetime(run.until)),
        format!("(isnull({end}) or {end} >= {})", datetime(run.from)),
        format!("text has {}", quoted(&run.namespace)),
    ];
    if !run.pods.is_empty() {
        // The names of several pods begin with these: `has` finds a text between any characters but letters and digits.
        let (attacker, victim) = (quoted(ATTACKER), quoted(VICTIM));
        parts.push(format!("(text has {attacker}\n            or text has {victim})"));
    }
    if let Some(cluster) = cluster {
        let (id, name) = (quoted(&cluster.id), quoted(&cluster.name));
        parts.push(format!("(text has {id}\n            or {entity} =~ {name})"));
    }
    if RunId::matches(&run.id) {
        let place = parts.join("\n        and ");
        format!("text has {}\n    or ({place})", quoted(&run.id))
    } else {
        parts.join("\n    and ")
    }
}
