//! Fixtures of the tests of this module.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::attribution::Subject;
use super::coverage::judge;
use super::fired::FiredAlert;
use super::matching::AttributedAlerts;
use super::options::JudgeOptions;
use crate::result::{AlertExpectation, RunResult, Verdict, Verification, expectations};
use crate::scenario::catalogue;

pub(super) fn parse(value: &Value) -> FiredAlert {
    FiredAlert::parse(value).unwrap_or_else(|| panic!("no alert: {value:#}"))
}

/// An alert as the alerts API returns it, by public descriptions.
pub(super) fn raised(name: &str, start: &str) -> Value {
    json!({
        "id": "/subscriptions/s/resourceGroups/RG/providers/Microsoft.Security/locations/centralus/alerts/25_1",
        "name": "25_1",
        "type": "Microsoft.Security/Locations/alerts",
        "properties": {
            "version": "2022-01-01.0",
            "alertDisplayName": name,
            "severity": "Medium",
            "intent": "Persistence, CredentialAccess",
            "status": "Active",
            "startTimeUtc": start,
            "endTimeUtc": start,
            "timeGeneratedUtc": "2026-05-04T10:31:00.5Z",
            "isIncident": false,
            "alertUri": "https://portal.azure.com/#blade/x",
            "compromisedEntity": "aks-test",
            "resourceIdentifiers": [
                {"type": "AzureResource", "azureResourceId": "/subscriptions/s/resourceGroups/RG/providers/Microsoft.ContainerService/managedClusters/aks-test"},
                {"type": "AAD", "aadTenantId": "t"}
            ],
            "entities": [
                {"$id": "centralus_1", "type": "K8s-cluster", "cloudResource": {"$ref": "centralus_9"}},
                {"$id": "centralus_2", "type": "K8s-namespace", "name": "mdc-simulation", "cluster": {"$ref": "centralus_1"}},
                {"$id": "centralus_3", "type": "K8s-pod", "name": "mdc-simulation-victim", "namespace": {"$ref": "centralus_2"}},
                {"$id": "centralus_4", "type": "something-new", "deep": [{"er": "Mdc-Simulation-Victim"}]},
                {"$ref": "5"}
            ],
            "extendedProperties": {"container name": "victim", "resourceType": "Kubernetes Service"}
        }
    })
}

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A run of that scenario with every step proved, from 10:00:00 to 10:01:00.
pub(super) fn run(id: &str) -> RunResult {
    let scenario = catalogue::find(id).unwrap();
    let alerts: Vec<AlertExpectation> = expectations(&scenario.alerts);
    let steps = scenario.steps.iter().map(|step| {
        json!({"id": step.id, "title": "", "techniques": [], "started": "2026-05-04T10:00:10Z", "outcome": "proved"})
    });
    serde_json::from_value(json!({
        "schema": "", "version": "", "run": "abcdefgh", "cluster": {"server": "https://s"},
        "namespace": "mdc-simulation", "started": "2026-05-04T10:00:00Z", "ended": "2026-05-04T10:01:00Z",
        "scenarios": [{"id": id, "title": "", "tactics": [], "steps": steps.collect::<Vec<_>>(), "alerts": alerts}],
        "exit": "ok", "exitCode": 0
    }))
    .unwrap()
}

fn attribute(fired: &[Value], subject: &Subject) -> AttributedAlerts {
    let mut alerts = AttributedAlerts::default();
    for value in fired {
        alerts.add(parse(value), subject);
    }
    alerts
}

pub(super) fn judge_all(
    run: &RunResult,
    fired: &[Value],
    subject: &Subject,
    options: &JudgeOptions,
) -> Verification {
    let now = at("2026-05-04T11:00:00Z");
    judge(
        run,
        attribute(fired, subject),
        subject,
        options,
        "test".into(),
        now,
    )
}

pub(super) fn verdicts(
    run: &RunResult,
    fired: &[Value],
    options: &JudgeOptions,
) -> BTreeMap<String, (Verdict, Option<String>)> {
    let subject = Subject::of(run, vec!["aks-test".to_owned()], options.unobserved);
    let verification = judge_all(run, fired, &subject, options);
    verification
        .alerts
        .into_iter()
        .map(|alert| (alert.id, (alert.verdict, alert.reason)))
        .collect()
}

/// Changes of an alert of the run that leave unknown whether it is the run's, with the reason.
pub(super) fn unknowns() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        (
            "startTimeUtc",
            json!("soon"),
            "its startTimeUtc \"soon\" cannot be read",
        ),
        (
            "endTimeUtc",
            json!("/Date(x)/"),
            "its endTimeUtc \"/Date(x)/\" cannot be read",
        ),
        (
            "timeGeneratedUtc",
            json!("4/5/2026"),
            "its timeGeneratedUtc \"4/5/2026\" cannot be read",
        ),
        (
            "entities",
            json!(["@{type=K8s-namespace}"]),
            "its entities cannot be read",
        ),
        (
            "entities",
            json!("System.Object[]"),
            "its entities cannot be read",
        ),
        ("entities", json!(null), "it has no entities"),
        ("resources", json!(null), "it names no resource"),
    ]
}

pub(super) fn changed(property: &str, value: &Value) -> Value {
    let mut alert = raised("Possible Web Shell activity detected", "2026-05-04T10:00:30Z");
    if property == "resources" {
        alert["properties"]["resourceIdentifiers"] = json!(null);
        alert["properties"]["compromisedEntity"] = json!(null);
    } else {
        alert["properties"][property] = value.clone();
    }
    alert
}
