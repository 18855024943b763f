//! Creates the objects of a run: the namespace if it does not exist, the anchor, and the objects that the anchor owns.
//! The anchor is the lock, the record and the deadline of the run. Each object is checked as the API server returned
//! it.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use futures::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::ledger::Ledger;
use super::prepare::{Prepared, held};
use super::{Halt, PARALLEL};
use crate::cluster::{Cluster, Found};
use crate::error::Error;
use crate::event::{Event, Events};
use crate::manifest::{self, ANCHOR, Kind, Manifest, Manifests, Record, record_patch};
use crate::net::Cause;
use crate::plan::Plan;
use crate::signal::Stop;
use crate::untrusted;

/// Creates all objects of a run. A call is never interrupted, so that every created object is in the ledger; every call
/// has a time limit.
pub(super) async fn apply(
    cluster: &Cluster,
    plan: &Plan,
    manifests: &Manifests,
    prepared: Prepared,
    ledger: &Ledger,
    stop: &Stop,
    events: &Events,
) -> Result<Anchored, Halt> {
    let namespace = &plan.namespace.name;
    if prepared.make_namespace {
        let (space, _) = cluster.create(&manifests.namespace, namespace).await?;
        created(&manifests.namespace, &space, None, ledger, events)?;
    }
    let sent = Timestamp::now();
    let (anchor, answer) = match cluster.create(&manifests.anchor, namespace).await {
        Ok(created) => created,
        Err(error) if error.explained.cause == Cause::AlreadyExists => {
            // Another run created its anchor first.
            return Err(match cluster.get(Kind::Job, namespace, ANCHOR).await? {
                Some(other) => held(&other, namespace).into(),
                None => error.into(),
            });
        }
        Err(error) => return Err(error.into()),
    };
    let clock_offset = clock_offset(sent, Timestamp::now(), anchor.created);
    created(&manifests.anchor, &anchor, None, ledger, events)?;
    clock(&manifests.anchor, &answer)?;
    for batch in [&manifests.supporting, &manifests.pods] {
        if stop.requested() {
            return Err(Halt::Stopped);
        }
        let applied = batch.iter().map(async |manifest| {
            let manifest = manifest.clone().owned_by_anchor(&anchor.uid);
            // To apply an object again changes nothing.
            let apply = || cluster.apply(&manifest, namespace);
            let object = apply
                .retry(pauses())
                .when(|error| error.explained.cause == Cause::Busy)
                .await?;
            created(&manifest, &object, Some(&anchor.uid), ledger, events)
        });
        // Wait for all calls even after an error: an object whose creation is not awaited could not be deleted.
        let results: Vec<Result<(), Error>> =
            stream::iter(applied).buffer_unordered(PARALLEL).collect().await;
        results.into_iter().collect::<Result<Vec<()>, Error>>()?;
    }
    complete_record(cluster, namespace, &anchor, ledger, events).await;
    Ok(Anchored { clock_offset })
}

/// Pauses before an object is applied again to an API server that is busy.
fn pauses() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(500))
        .with_max_times(5)
        .with_jitter()
}

/// The result of creating the objects of a run.
pub(super) struct Anchored {
    /// How far the cluster's clock is ahead of this machine's; `None` if they agree.
    pub clock_offset: Option<SignedDuration>,
}

/// Records a created object and checks that its labels and its owner are intact. The cluster relies on them to end the
/// run, and the run relies on them to find its objects.
fn created(
    manifest: &Manifest,
    object: &Found,
    owner: Option<&str>,
    ledger: &Ledger,
    events: &Events,
) -> Result<(), Error> {
    ledger.record(object.clone());
    events.send(Event::Created(manifest.reference()));
    let labels = manifest.object["metadata"]["labels"]
        .as_object()
        .into_iter()
        .flatten();
    for (key, wanted) in labels {
        let found = object.labels.get(key).map(String::as_str);
        if found == wanted.as_str() {
            continue;
        }
        let found = found.map_or_else(|| "gone".to_owned(), untrusted::line);
        let change = format!("the label {key} of {} is {found}", manifest.reference());
        if manifest::selects(key) {
            return Err(Error::ObjectChanged { change });
        }
        events.send(Event::Notice(format!(
            "something in the cluster changed an object of the run: {change}"
        )));
    }
    match owner {
        Some(owner) if !object.owners.iter().any(|known| known == owner) => Err(Error::ObjectChanged {
            change: format!("{} has lost its owner, {ANCHOR}", manifest.reference()),
        }),
        _ => Ok(()),
    }
}

/// Writes the UIDs of all objects to the record of the anchor, so that `cleanup` finds the objects by UID. Without them
/// it finds objects by name and label, so a failure does not end the run.
async fn complete_record(
    cluster: &Cluster,
    namespace: &str,
    anchor: &Found,
    ledger: &Ledger,
    events: &Events,
) {
    let Some(mut record) = Record::of_annotations(&anchor.annotations) else {
        return;
    };
    let objects = ledger.objects();
    record.uids = objects
        .iter()
        .map(|object| (object.reference(), object.uid.clone()))
        .collect();
    let patch = record_patch(&record, &anchor.uid);
    if let Err(error) = cluster.patch(Kind::Job, namespace, ANCHOR, &patch).await {
        events.send(Event::Notice(error.to_string()));
    }
}

/// Clocks that differ by less count as equal: the API server's timestamps have no fractions of a second.
const SAME_TIME: SignedDuration = SignedDuration::from_secs(5);

/// Returns how far the cluster's clock is ahead of this machine's, or `None` if they agree. It compares the time at
/// which the API server created an object with the times of the request (`sent`) and of the response (`received`).
fn clock_offset(sent: Timestamp, received: Timestamp, created: Option<Timestamp>) -> Option<SignedDuration> {
    let created = created?;
    let offset = if created < sent {
        created.duration_since(sent)
    } else if created > received {
        created.duration_since(received)
    } else {
        SignedDuration::ZERO
    };
    (offset.abs() > SAME_TIME).then_some(offset)
}

/// Fails if a field by which the anchor ends the run differs from the manifest. A webhook may have changed it, and then
/// nothing would end a run whose client died.
fn clock(anchor: &Manifest, made: &Value) -> Result<(), Error> {
    let (wanted, made) = (&anchor.object["spec"], &made["spec"]);
    let other = ["activeDeadlineSeconds", "ttlSecondsAfterFinished", "parallelism"]
        .into_iter()
        .find(|field| made[field] != wanted[field]);
    let suspended = made["suspend"] == true;
    let Some(field) = other.or(suspended.then_some("suspend")) else {
        return Ok(());
    };
    Err(Error::DeadlineChanged {
        anchor: anchor.reference(),
        field,
        value: untrusted::line(&made[field].to_string()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::manifest;
    use crate::plan::tests::plan;

    #[test]
    fn clock_offset_is_the_distance_to_the_request() {
        let at = Timestamp::from_second;
        let (sent, received) = (at(1000).unwrap(), at(1003).unwrap());
        for (created, offset) in [
            (None, None),
            (Some(1001), None),
            (Some(996), None),
            (Some(1008), None),
            (Some(1000 - 1200), Some(-1200)),
            (Some(1003 + 1200), Some(1200)),
        ] {
            let created = created.map(|second| at(second).unwrap());
            let found = clock_offset(sent, received, created);
            assert_eq!(found, offset.map(SignedDuration::from_secs), "{created:?}");
        }
    }

    #[test]
    fn an_anchor_that_does_not_end_by_itself_is_none() {
        let anchor = manifest::render(&plan(None), "somebody").anchor;
        let made = anchor.object.clone();
        assert!(clock(&anchor, &made).is_ok());
        for (field, value) in [
            ("suspend", json!(true)),
            ("activeDeadlineSeconds", json!(null)),
            ("ttlSecondsAfterFinished", json!(999_999)),
            ("parallelism", json!(1)),
        ] {
            let mut made = made.clone();
            made["spec"][field] = value;
            let message = clock(&anchor, &made).unwrap_err().to_string();
            assert!(message.contains(&format!("its {field} is ")), "{message}");
        }
        let mut made = made;
        made["spec"]["suspend"] = json!(false);
        assert!(clock(&anchor, &made).is_ok());
    }
}
