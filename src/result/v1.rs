//! Reads records that version 0.1 wrote: `defender-sim/run/v1`.

use serde_json::{Map, Value, json};

use super::RUN_SCHEMA;

/// The only victim of runs of version 0.1.
const VICTIM: &str = "mdc-simulation-victim";

/// Schema of the records that [`upgrade`] accepts.
pub const RUN_SCHEMA_V1: &str = "defender-sim/run/v1";

/// Converts a record of version 1 to the present version.
pub fn upgrade(record: &mut Value) {
    let Some(run) = record.as_object_mut() else {
        return;
    };
    run.insert("schema".to_owned(), RUN_SCHEMA.into());
    rename(run, "unread", "verificationProblem");
    let node = run.remove("node").unwrap_or_default();
    run.insert(
        "victims".to_owned(),
        json!([{ "pod": VICTIM, "node": node, "nodeLabels": {}, "ended": null }]),
    );
    for scenario in objects(run.get_mut("scenarios")) {
        for step in objects(scenario.get_mut("steps")) {
            rename(step, "begun", "started");
            step.insert("victim".to_owned(), VICTIM.into());
        }
        for alert in objects(scenario.get_mut("alerts")) {
            let steps = Vec::from_iter(alert.remove("step").filter(Value::is_string));
            alert.insert("steps".to_owned(), steps.into());
        }
    }
    let Some(verification) = run.get_mut("verification").and_then(Value::as_object_mut) else {
        return;
    };
    rename(verification, "looked", "read");
    for alert in objects(verification.get_mut("alerts")) {
        if alert
            .get("verdict")
            .is_some_and(|verdict| verdict == "couldNotTell")
        {
            alert.insert("verdict".to_owned(), "unknown".into());
        }
    }
}

fn rename(object: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = object.remove(from) {
        object.insert(to.to_owned(), value);
    }
}

/// Returns the objects in an array.
fn objects(array: Option<&mut Value>) -> impl Iterator<Item = &mut Map<String, Value>> {
    let items = array.and_then(Value::as_array_mut).into_iter().flatten();
    items.filter_map(Value::as_object_mut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::RunResult;

    #[test]
    fn record_of_version_1_is_read() {
        let mut record = json!({
            "schema": RUN_SCHEMA_V1, "version": "0.1.0", "run": "abcdefgh", "cluster": { "server": "https://x" },
            "namespace": "n", "node": "node-1", "started": "2026-05-04T10:00:00Z", "ended": "2026-05-04T10:00:10Z",
            "scenarios": [{
                "id": "a", "title": "t", "tactics": [],
                "steps": [{
                    "id": "s", "title": "t", "techniques": [], "begun": "2026-05-04T10:00:01Z", "outcome": "proved",
                }],
                "alerts": [
                    { "id": "web-shell", "name": "n", "optional": false, "step": null },
                    { "id": "network-scan", "name": "n", "optional": false, "step": "s" },
                ],
            }],
            "verification": {
                "source": "s", "looked": "2026-05-04T11:00:00Z", "from": "2026-05-04T10:00:00Z",
                "until": "2026-05-04T10:00:00Z", "additional": [],
                "alerts": [{ "id": "web-shell", "name": "n", "scenarios": [], "verdict": "couldNotTell", "late": false }],
            },
            "unread": { "message": "m", "hint": null, "details": [] }, "exit": "ok", "exitCode": 0,
        });
        upgrade(&mut record);
        let run: RunResult = serde_json::from_value(record).unwrap();
        let scenario = &run.scenarios[0];
        assert_eq!(run.node(), Some("node-1"));
        assert!(scenario.steps[0].started.is_some() && scenario.steps[0].victim.as_deref() == Some(VICTIM));
        assert_eq!(
            [&scenario.alerts[0].steps[..], &scenario.alerts[1].steps[..]],
            [&[][..], &["s".to_owned()]]
        );
        assert_eq!(run.verification.unwrap().alerts[0].verdict.as_str(), "unknown");
        assert!(run.verification_problem.is_some());
    }
}
