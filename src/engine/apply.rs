//! Puts the objects of a run into the cluster: the namespace if it has to be made, the anchor, which is
//! lock, record and clock, and then what it owns.

use futures::future::try_join_all;
use serde_json::Value;

use super::prepare::{Prepared, active};
use super::{Event, Events, Halt, Stop};
use crate::cluster::Cluster;
use crate::cluster::explain::Cause;
use crate::exit::Exit;
use crate::manifest::{ANCHOR, Kind, Manifest, Manifests};
use crate::plan::Plan;
use crate::result::Problem;
use crate::untrusted;

/// Not interrupted in the middle of a call, so that what was made is known; every call is bounded.
pub(super) async fn apply(
    cluster: &Cluster,
    plan: &Plan,
    manifests: &Manifests,
    prepared: Prepared,
    stop: &Stop,
    events: &Events,
) -> Result<(), Halt> {
    let namespace = &plan.namespace.name;
    if prepared.make_namespace {
        cluster.create(&manifests.namespace, namespace).await?;
        events.send(Event::Created(manifests.namespace.reference()));
    }
    let (anchor, made) = match cluster.create(&manifests.anchor, namespace).await {
        Ok(anchor) => anchor,
        Err(error) if error.explained.cause == Cause::AlreadyExists => {
            // Somebody was faster since the look in `prepare`.
            let mut problem = Problem::from(error);
            if let Some(other) = cluster.get(Kind::Job, namespace, ANCHOR).await? {
                problem.message = active(&other, namespace);
            }
            return Err(Halt::Problem(problem));
        }
        Err(error) => return Err(error.into()),
    };
    events.send(Event::Created(manifests.anchor.reference()));
    clock(&manifests.anchor, &made)?;
    for batch in [&manifests.supporting, &manifests.pods] {
        if stop.requested() {
            return Err(Halt::Stopped);
        }
        let owned = batch
            .iter()
            .map(|manifest| manifest.clone().owned_by_anchor(&anchor.uid));
        try_join_all(owned.map(|manifest| one(cluster, manifest, namespace, events))).await?;
    }
    Ok(())
}

/// Whether the anchor is the clock that it is meant to be: a webhook may have changed it, and then nothing would
/// end a run whose client died.
fn clock(anchor: &Manifest, made: &Value) -> Result<(), Halt> {
    let (wanted, made) = (&anchor.object["spec"], &made["spec"]);
    let other = ["activeDeadlineSeconds", "ttlSecondsAfterFinished"]
        .into_iter()
        .find(|field| made[field] != wanted[field]);
    let suspended = made["suspend"] == true;
    let Some(field) = other.or(suspended.then_some("suspend")) else {
        return Ok(());
    };
    Err(Halt::Problem(Problem {
        message: format!(
            "something in the cluster changed {}: its {field} is {}, and it would not end the run by itself",
            anchor.reference(),
            untrusted::line(&made[field].to_string())
        ),
        hint: Some("see which webhooks change jobs: kubectl get mutatingwebhookconfigurations".into()),
        details: vec![],
        exit: Exit::NotStarted,
    }))
}

async fn one(cluster: &Cluster, manifest: Manifest, namespace: &str, events: &Events) -> Result<(), Halt> {
    cluster.apply(&manifest, namespace).await?;
    events.send(Event::Created(manifest.reference()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::manifest;
    use crate::plan::tests::plan;

    #[test]
    fn an_anchor_that_does_not_end_by_itself_is_none() {
        let anchor = manifest::render(&plan(None), "somebody").anchor;
        let made = anchor.object.clone();
        assert!(clock(&anchor, &made).is_ok());
        for (field, value) in [
            ("suspend", json!(true)),
            ("activeDeadlineSeconds", json!(null)),
            ("ttlSecondsAfterFinished", json!(999_999)),
        ] {
            let mut made = made.clone();
            made["spec"][field] = value;
            let Err(Halt::Problem(problem)) = clock(&anchor, &made) else {
                panic!("{field} may not change");
            };
            assert!(
                problem.message.contains(&format!("its {field} is ")),
                "{problem:?}"
            );
        }
        let mut made = made;
        made["spec"]["suspend"] = json!(false);
        assert!(clock(&anchor, &made).is_ok());
    }
}
