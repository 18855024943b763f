//! Which resource is the cluster in Azure, and who is logged in there?

use super::look::Look;
use super::{Checked, Finding};
use crate::net::Cause;

pub(super) async fn check(look: &Look) -> Checked {
    let (located, login) = match look.azure().await {
        Ok(Some(found)) => found,
        Ok(None) => {
            let seen = "nothing says that Azure knows this cluster";
            return Ok(Finding::not_applicable(seen).advise("if it does, name it: --resource-id ID"));
        }
        // What the user said himself, and is no use.
        Err(error) if error.explained.cause == Cause::Setting => {
            let unable = Finding::from(error.clone());
            return Ok(Finding {
                advice: unable.advice,
                ..Finding::failed(unable.seen)
            });
        }
        Err(error) => return Err(error.clone().into()),
    };
    let Some(cluster) = &located.search.found else {
        let tried = located.search.tried.join("; ");
        return Ok(Finding::not_told(format!("not found: {tried}"))
            .advise("name it: --resource-id ID, or --subscription ID to look at all of its alerts"));
    };
    let way = located.search.tried.last().map_or("", String::as_str);
    let subscription = &cluster.subscription;
    Ok(Finding::ok(format!(
        "{cluster} of subscription {subscription} ({way}); login: {login}"
    )))
}
