//! Checks during a run that the anchor still exists and still ends the run in time.

use serde_json::Value;

use super::Run;
use crate::event::Event;
use crate::manifest::{ANCHOR, Kind, REMOVED};
use crate::untrusted;

/// The state of the anchor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Present,
    /// It was deleted or replaced, it or its namespace is being deleted, or `cleanup` removes the run.
    Gone,
    /// It could not be read.
    Unknown,
}

/// Reads the anchor and reports its changed fields as notices.
pub(super) async fn check(run: &Run<'_>) -> Anchor {
    let namespace = &run.plan.namespace.name;
    let (anchor, space) = tokio::join!(
        run.cluster.object(Kind::Job, namespace, ANCHOR),
        run.cluster.get(Kind::Namespace, namespace, namespace),
    );
    if let Ok(space) = space
        && space.is_none_or(|space| space.terminating)
    {
        return Anchor::Gone;
    }
    match anchor {
        Err(_) => Anchor::Unknown,
        Ok(None) => Anchor::Gone,
        Ok(Some((found, _)))
            if found.terminating
                || found.annotations.contains_key(REMOVED)
                || run.ledger.uid(Kind::Job, ANCHOR) != Some(found.uid.clone()) =>
        {
            Anchor::Gone
        }
        Ok(Some((_, object))) => {
            for change in changes(&run.anchor.object["spec"], &object["spec"]) {
                let text = format!("{} was changed during the run: {change}", run.anchor.reference());
                run.events.send(Event::Notice(text));
            }
            Anchor::Present
        }
    }
}

/// Describes the changed fields among those by which the anchor ends a run, each with the effect of the change.
fn changes(created: &Value, found: &Value) -> Vec<String> {
    let fields = [
        ("activeDeadlineSeconds", LATE),
        ("ttlSecondsAfterFinished", LATE),
        ("suspend", LATE),
        ("parallelism", "the cluster may end the run early"),
    ];
    let value = |spec: &Value, field: &str| match &spec[field] {
        // The API server sets this default.
        Value::Null if field == "suspend" => Value::Bool(false),
        value => value.clone(),
    };
    let changed = fields.into_iter().filter_map(|(field, effect)| {
        let (created, found) = (value(created, field), value(found, field));
        let earlier = found.as_u64().zip(created.as_u64()).is_some_and(|(f, c)| f < c);
        let effect = if earlier { EARLY } else { effect };
        (created != found).then(|| {
            let found = untrusted::line(&found.to_string());
            format!("{field} is {found} instead of {created}; {effect}")
        })
    });
    changed.collect()
}

const LATE: &str = "the cluster will not end the run in time by itself";
const EARLY: &str = "the cluster ends the run early";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::manifest;
    use crate::plan::tests::plan;

    #[test]
    fn changed_fields_are_named_with_their_values() {
        let created = manifest::render(&plan(None), "admin").anchor.object["spec"].clone();
        let seconds = created["activeDeadlineSeconds"].clone();
        let mut found = created.clone();
        found["suspend"] = json!(false);
        found["completions"] = json!(1);
        assert_eq!(changes(&created, &found), Vec::<String>::new());
        for (field, value, text) in [
            (
                "activeDeadlineSeconds",
                json!(86400),
                format!("activeDeadlineSeconds is 86400 instead of {seconds}; {LATE}"),
            ),
            (
                "activeDeadlineSeconds",
                json!(5),
                format!("activeDeadlineSeconds is 5 instead of {seconds}; {EARLY}"),
            ),
            (
                "activeDeadlineSeconds",
                json!(null),
                format!("activeDeadlineSeconds is null instead of {seconds}; {LATE}"),
            ),
            (
                "ttlSecondsAfterFinished",
                json!(600),
                format!("ttlSecondsAfterFinished is 600 instead of 0; {LATE}"),
            ),
            (
                "suspend",
                json!(true),
                format!("suspend is true instead of false; {LATE}"),
            ),
            (
                "parallelism",
                json!(1),
                "parallelism is 1 instead of 0; the cluster may end the run early".to_owned(),
            ),
        ] {
            let mut found = created.clone();
            found[field] = value;
            assert_eq!(changes(&created, &found), [text]);
        }
    }
}
