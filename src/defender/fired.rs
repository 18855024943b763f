//! An alert that Defender raised, read from any of the forms in which Azure hands alerts out: the alerts
//! API's list, rows of Resource Graph, continuous export. Names of properties differ in case between them,
//! every property may be missing, and values may be ones that nobody has seen yet.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::untrusted;

/// What is read of an alert.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FiredAlert {
    /// Its id at the source.
    pub id: String,
    /// Its display name, as given.
    pub name: String,
    /// Its `alertType`.
    pub alert_type: Option<String>,
    /// Its severity.
    pub severity: Option<String>,
    /// Its status: `Active`, `InProgress`, `Resolved`, `Dismissed`, or another.
    pub status: Option<String>,
    /// When what it is about began.
    pub start: Option<Timestamp>,
    /// When that ended.
    pub end: Option<Timestamp>,
    /// When it was raised.
    pub generated: Option<Timestamp>,
    /// Where it is shown in the portal.
    pub link: Option<String>,
    /// Whether it sums up other alerts.
    pub is_incident: bool,
    /// Whether it was made to show what alerts look like.
    pub is_sample: bool,
    /// Names of Kubernetes namespaces that it names as such, in lower case.
    pub namespaces: BTreeSet<String>,
    /// Names of pods that it names as such, in lower case.
    pub pods: BTreeSet<String>,
    /// Every text in its resources, its entities and its extended properties, in lower case.
    pub mentions: BTreeSet<String>,
}

/// A text longer than this is left out of [`FiredAlert::mentions`]: no name and no id is.
const LONGEST: usize = 8 * 1024;

/// Every alert in `value`: a list in `value` or `data`, an array, or a single alert. What is no alert is left
/// out.
pub fn read(value: &Value) -> Vec<FiredAlert> {
    let list = match value {
        Value::Array(items) => items.as_slice(),
        Value::Object(object) => match ["value", "data"]
            .iter()
            .find_map(|key| get(object, key)?.as_array())
        {
            Some(items) => items,
            None => std::slice::from_ref(value),
        },
        _ => &[],
    };
    list.iter().filter_map(one).collect()
}

fn one(item: &Value) -> Option<FiredAlert> {
    let outer = item.as_object()?;
    let inner = get(outer, "properties").map(unpacked);
    let properties = inner
        .as_ref()
        .and_then(|value| value.as_object())
        .unwrap_or(outer);
    // Several names for one thing: the alerts API's, continuous export's, and that of a workspace's table.
    let text = |names: &[&str]| names.iter().find_map(|name| text(get(properties, name)?));
    let time = |names: &[&str]| text(names)?.parse().ok();
    let alert_type = text(&["alertType"]);
    let name = text(&["alertDisplayName", "displayName", "alertName"]).or_else(|| alert_type.clone())?;
    let starts = |text: Option<&str>, with: &str| {
        text.and_then(|text| text.get(..with.len()))
            .is_some_and(|head| head.eq_ignore_ascii_case(with))
    };
    let is_sample = starts(Some(&name), "[SAMPLE ALERT]")
        || starts(alert_type.as_deref(), "SIMULATED_")
        || starts(text(&["description"]).as_deref(), "THIS IS A SAMPLE ALERT");
    let mut alert = FiredAlert {
        id: get(outer, "id")
            .and_then(self::text)
            .or_else(|| text(&["systemAlertId"]))
            .map(|id| untrusted::name(&id))
            .unwrap_or_default(),
        severity: text(&["severity", "alertSeverity"]).map(|text| untrusted::name(&text)),
        status: text(&["status"]).map(|text| untrusted::name(&text)),
        start: time(&["startTimeUtc", "startTime"]),
        end: time(&["endTimeUtc", "endTime"]),
        generated: time(&["timeGeneratedUtc", "timeGenerated"]),
        link: text(&["alertUri", "alertLink"]).map(|text| untrusted::name(&text)),
        is_incident: text(&["isIncident"]).is_some_and(|text| text.eq_ignore_ascii_case("true")),
        is_sample,
        name: untrusted::line(&name),
        alert_type,
        ..FiredAlert::default()
    };
    let about = [
        "resourceIdentifiers",
        "compromisedEntity",
        "entities",
        "extendedProperties",
        "azureResourceId",
        "resourceId",
    ];
    for value in about.iter().filter_map(|name| get(properties, name)) {
        collect(value, &mut alert);
    }
    // The id tells the resource group, and so which clusters it can be about.
    alert.mentions.insert(alert.id.to_lowercase());
    Some(alert)
}

/// A member of an object, whatever the case of its name.
fn get<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let found = object.get(name).or_else(|| {
        let same = |(key, _): &(&String, &Value)| key.eq_ignore_ascii_case(name);
        object.iter().find(same).map(|(_, value)| value)
    });
    found.filter(|value| !value.is_null())
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(text.clone()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(value) => Some(value.to_string()),
        _ => None,
    }
}

/// Some forms hold JSON as text.
fn unpacked(value: &Value) -> std::borrow::Cow<'_, Value> {
    use std::borrow::Cow;
    match value.as_str().map(str::trim_start) {
        Some(text) if text.starts_with(['{', '[']) => {
            serde_json::from_str(text).map_or(Cow::Borrowed(value), Cow::Owned)
        }
        _ => Cow::Borrowed(value),
    }
}

fn collect(value: &Value, alert: &mut FiredAlert) {
    match &*unpacked(value) {
        Value::String(text) if text.len() <= LONGEST => {
            alert.mentions.insert(text.trim().to_lowercase());
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, alert)),
        Value::Object(object) => {
            let kind = get(object, "type").and_then(Value::as_str).unwrap_or_default();
            let is = |wanted: &str| kind.eq_ignore_ascii_case(wanted);
            for (key, value) in object {
                let names_it = key.eq_ignore_ascii_case("name");
                if let Some(name) = value.as_str() {
                    if key.eq_ignore_ascii_case("namespace") || (names_it && is("k8s-namespace")) {
                        alert.namespaces.insert(name.to_lowercase());
                    } else if names_it && is("k8s-pod") {
                        alert.pods.insert(name.to_lowercase());
                    }
                }
                // References between entities are numbers that mean nothing outside.
                if key != "$id" && key != "$ref" {
                    collect(value, alert);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    /// An alert as the alerts API hands it out, in the shape that public field notes describe.
    pub(in crate::defender) fn raised(name: &str, start: &str) -> Value {
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

    #[test]
    fn the_alerts_api() {
        let list = json!({ "value": [raised("Possible Web Shell activity detected", "2026-05-04T10:00:00Z")], "nextLink": null });
        let alerts = read(&list);
        let [alert] = &alerts[..] else {
            panic!("{alerts:?}")
        };
        assert_eq!(alert.name, "Possible Web Shell activity detected");
        assert_eq!(alert.severity.as_deref(), Some("Medium"));
        assert_eq!(alert.generated, Some("2026-05-04T10:31:00.5Z".parse().unwrap()));
        assert_eq!(alert.namespaces, ["mdc-simulation".to_owned()].into());
        for mention in [
            "aks-test",
            "mdc-simulation-victim",
            "victim",
            "kubernetes service",
        ] {
            assert!(
                alert.mentions.contains(mention),
                "{mention}: {:?}",
                alert.mentions
            );
        }
        assert!(
            !alert.mentions.iter().any(|text| text.starts_with("centralus_")),
            "{:?}",
            alert.mentions
        );
        assert!(!alert.is_incident && !alert.is_sample);
    }

    /// The same with names as Resource Graph and continuous export have them.
    fn pascal(value: &Value) -> Value {
        match value {
            Value::Object(object) => object
                .iter()
                .map(|(key, value)| (key[..1].to_uppercase() + &key[1..], pascal(value)))
                .collect::<Map<_, _>>()
                .into(),
            Value::Array(items) => items.iter().map(pascal).collect(),
            other => other.clone(),
        }
    }

    #[test]
    fn resource_graph_and_continuous_export_spell_it_otherwise() {
        let rest = raised("Sensitive files access detected", "2026-05-04T10:00:00Z");
        let expected = read(&rest).remove(0);
        let graph =
            json!({ "data": [{ "id": rest["id"], "properties": pascal(&rest["properties"]) }], "count": 1 });
        assert_eq!(read(&graph), std::slice::from_ref(&expected));

        let mut export = pascal(&rest["properties"]);
        export["SystemAlertId"] = rest["id"].clone();
        export["Entities"] = Value::String(export["Entities"].to_string());
        export["ExtendedProperties"] = Value::String(export["ExtendedProperties"].to_string());
        export["IsIncident"] = "False".into();
        assert_eq!(read(&json!([export])), [expected]);
    }

    #[test]
    fn what_is_no_alert_or_a_strange_one_breaks_nothing() {
        for value in [
            json!(null),
            json!(7),
            json!("x"),
            json!([]),
            json!([1, null, {}]),
            json!({"value": [{"properties": 3}]}),
        ] {
            assert_eq!(read(&value), [], "{value}");
        }
        let strange = json!({"properties": {"alertDisplayName": "New one", "severity": "Apocalyptic", "status": 7,
            "startTimeUtc": "yesterday", "entities": {"a": [[["deep"]]]}, "isIncident": "maybe"}});
        let alert = read(&strange).remove(0);
        assert_eq!(alert.severity.as_deref(), Some("Apocalyptic"));
        assert_eq!((alert.start, alert.is_incident), (None, false));
        assert!(alert.mentions.contains("deep"));
    }

    #[test]
    fn samples_and_incidents_are_told_apart() {
        for (key, value) in [
            (
                "alertDisplayName",
                json!("[SAMPLE ALERT] Possible Web Shell activity detected"),
            ),
            ("alertType", json!("SIMULATED_K8S")),
            ("description", json!("THIS IS A SAMPLE ALERT: x")),
        ] {
            let mut sample = raised("x", "2026-05-04T10:00:00Z");
            sample["properties"][key] = value;
            assert!(read(&sample)[0].is_sample, "{key}");
        }
        let mut incident = raised("x", "2026-05-04T10:00:00Z");
        incident["properties"]["isIncident"] = true.into();
        assert!(read(&incident)[0].is_incident);
    }
}
