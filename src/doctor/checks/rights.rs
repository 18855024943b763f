//! Checks that the caller has every permission that a run needs.

use crate::doctor::finding::{Checked, Finding};
use crate::doctor::snapshot::Snapshot;
use crate::engine;
use crate::kubectl::Kubectl;
use crate::manifest::rights::{self, NamespaceUse, Right};
use crate::words::counted;

pub(super) async fn check(snapshot: &Snapshot) -> Checked {
    let name = &snapshot.plan.namespace.name;
    if snapshot.plan.victims.is_empty() {
        return requests(snapshot).await;
    }
    let every = rights::of_run(NamespaceUse::Create);
    let missing = snapshot.cluster.missing_rights(name, &every).await?;
    // If the namespace cannot be read, `namespace` reports why.
    let namespace_use = engine::namespace_use(&snapshot.namespace().await, snapshot.plan.namespace.given);
    let missing = engine::needed(&missing, namespace_use);
    Ok(match missing.first() {
        None => {
            let finding = Finding::ok(format!(
                "all {} in namespace {name}",
                rights::of_run(namespace_use).len()
            ));
            match snapshot.plan.requests().next() {
                None => finding,
                Some(_) => requests(snapshot).await?,
            }
        }
        Some(first) => {
            let user = snapshot.user().await.ok().flatten();
            Finding::failed(format!(
                "{} missing in namespace {name}: {}",
                counted(missing.len(), "right"),
                rights::grouped(&missing)
            ))
            .advise(engine::hint_grant(
                first,
                namespace_use,
                name,
                user,
                snapshot.cluster.kubectl(),
            ))
        }
    })
}

/// Checks the rights of requests to the Kubernetes API. A step without them is skipped, so they are no prerequisite.
async fn requests(snapshot: &Snapshot) -> Checked {
    let plan = &snapshot.plan;
    let mut missing: Vec<Right> = vec![];
    let mut number = 0;
    for (_, _, request) in plan.requests() {
        let needed = rights::of_request(request);
        number += needed.len();
        let namespace = request.namespace().unwrap_or(&plan.namespace.name);
        let lacking = snapshot.cluster.missing_rights(namespace, &needed).await?;
        missing.extend(
            lacking
                .into_iter()
                .filter(|right| !missing.contains(right))
                .collect::<Vec<_>>(),
        );
    }
    if missing.is_empty() {
        return Ok(Finding::ok(format!("all {number} of the requests")));
    }
    let finding = Finding::warning(format!(
        "steps will be skipped for lack of {}",
        rights::grouped(&missing)
    ));
    let ids = plan.scenarios.iter().map(|scenario| scenario.id.as_str());
    let print = Kubectl::default().command(["defender-sim", "rights"].into_iter().chain(ids));
    Ok(finding.advise(format!("print the role: {print}")))
}
