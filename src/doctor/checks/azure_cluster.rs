//! Checks which Azure resource the cluster is, and which login reads it.

use crate::doctor::finding::{Checked, Finding};
use crate::doctor::snapshot::Snapshot;
use crate::net::Cause;

pub(super) async fn check(snapshot: &Snapshot) -> Checked {
    let (located, login) = match snapshot.azure().await {
        Ok(Some(found)) => found,
        Ok(None) => {
            let message = "no sign that this cluster is connected to Azure";
            return Ok(Finding::not_applicable(message).advise("if it is, name it: --resource-id ID"));
        }
        Err(error) if error.explained.cause == Cause::Setting => {
            return Ok(Finding::failed(error.to_string()).hint(error.explained.hint.clone()));
        }
        Err(error) => return Err(error.clone().into()),
    };
    let Some(cluster) = &located.search.found else {
        let tried = located.search.tried.join("; ");
        return Ok(Finding::unknown(format!("not found: {tried}"))
            .advise("name it: --resource-id ID, or --subscription ID to read all of its alerts"));
    };
    let method = located.search.tried.last().map_or("", String::as_str);
    let subscription = &cluster.subscription;
    Ok(Finding::ok(format!(
        "{cluster} of subscription {subscription} ({method}); login: {login}"
    )))
}
