//! An alert that Defender raised, parsed from any of its published forms: the alerts API,
//! Resource Graph, continuous export, the `SecurityAlert` table of a workspace, and what the Azure CLI and
//! PowerShell print of them. Names of properties differ in case between them, every property may be missing, and
//! values may be new. An unreadable value never drops an alert.

use std::borrow::Cow;
use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::time::parse_time;
use crate::untrusted;

/// A raised alert, reduced to what verdicts need.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FiredAlert {
    /// ID at the source; empty if it has none.
    pub id: String,
    /// Display name as given, or the alert type; `None` if it has neither.
    pub name: Option<String>,
    /// The property `alertType`.
    pub alert_type: Option<String>,
    /// `Informational`, `Low`, `Medium`, `High`, or another.
    pub severity: Option<String>,
    /// `Active`, `InProgress`, `Resolved`, `Dismissed`, or another.
    pub status: Option<String>,
    /// Start of the activity.
    pub start: Option<Timestamp>,
    /// End of the activity.
    pub end: Option<Timestamp>,
    /// When it was raised.
    pub generated: Option<Timestamp>,
    /// Properties that hold a time in an unknown format, with their values.
    pub unreadable_times: Vec<String>,
    /// Link into the portal.
    pub link: Option<String>,
    /// Whether it is an incident, which groups other alerts.
    pub is_incident: bool,
    /// Whether it is one of Microsoft's sample alerts.
    pub is_sample: bool,
    /// The resources and objects it names.
    pub about: About,
}

/// The resources and Kubernetes objects that an alert names, in lower case.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct About {
    /// Kubernetes namespaces.
    pub namespaces: BTreeSet<String>,
    /// Pods.
    pub pods: BTreeSet<String>,
    /// Every text in its resources, its entities and its extended properties.
    pub mentions: BTreeSet<String>,
    /// Whether it names the resource it was raised for.
    pub has_resource: bool,
    /// Why its objects are unknown, if its entities are missing or were cut off.
    pub unreadable: Option<String>,
}

/// A text longer than this is left out of [`About::mentions`]: no name and no ID is.
const LONGEST: usize = 8 * 1024;
/// A value longer than this is not quoted.
const QUOTED: usize = 60;

/// Properties that only alerts have, in any of the forms.
const MARKS: [&str; 8] = [
    "alertDisplayName",
    "alertType",
    "alertName",
    "systemAlertId",
    "alertSeverity",
    "alertUri",
    "alertLink",
    "compromisedEntity",
];
/// Properties that name the resource an alert was raised for.
const RESOURCES: [&str; 4] = [
    "resourceIdentifiers",
    "compromisedEntity",
    "azureResourceId",
    "resourceId",
];

impl FiredAlert {
    /// Parses an item of a list. Returns `None` if it is not an alert of Defender: exports mix alerts with assessments and
    /// scores.
    pub fn parse(item: &Value) -> Option<Self> {
        let outer = item.as_object()?;
        let inner = property(outer, "properties").map(unpacked);
        let properties = inner.as_deref().and_then(Value::as_object).unwrap_or(outer);
        if !is_alert(outer, properties) {
            return None;
        }
        let text = |names: &[&str]| names.iter().find_map(|name| text(property(properties, name)?));
        let alert_type = text(&["alertType"]);
        let name = text(&["alertDisplayName", "displayName", "alertName"]).or_else(|| alert_type.clone());
        let starts = |text: Option<&str>, with: &str| {
            text.and_then(|text| text.get(..with.len()))
                .is_some_and(|head| head.eq_ignore_ascii_case(with))
        };
        let is_sample = starts(name.as_deref(), "[SAMPLE ALERT]")
            || starts(alert_type.as_deref(), "SIMULATED_")
            || starts(text(&["description"]).as_deref(), "THIS IS A SAMPLE ALERT");
        let mut unreadable_times = vec![];
        let mut time = |names: &[&str]| read_time(properties, names, &mut unreadable_times);
        let (start, end, generated) = (
            time(&["startTimeUtc", "startTime"]),
            time(&["endTimeUtc", "endTime"]),
            time(&["timeGeneratedUtc", "timeGenerated"]),
        );
        let id = property(outer, "id").and_then(self::text);
        let id = id.or_else(|| text(&["systemAlertId"])).unwrap_or_default();
        let cleaned = |names: &[&str]| text(names).map(|text| untrusted::name(&text));
        Some(Self {
            id: untrusted::name(&id),
            name: name.map(|name| untrusted::line(&name)),
            alert_type,
            severity: cleaned(&["severity", "alertSeverity"]),
            status: cleaned(&["status"]),
            start,
            end,
            generated,
            unreadable_times,
            link: cleaned(&["alertUri", "alertLink"]),
            is_incident: text(&["isIncident"]).is_some_and(|text| text.eq_ignore_ascii_case("true")),
            is_sample,
            about: About::of(properties, &id),
        })
    }

    /// The name of the alert, or its ID if it has none.
    pub fn label(&self) -> String {
        match &self.name {
            Some(name) => name.clone(),
            None if self.id.is_empty() => "an alert without name and ID".to_owned(),
            None => format!("an alert without name ({})", self.id),
        }
    }
}

/// Whether an item is an alert: by its resource type, or by properties that nothing else has.
fn is_alert(outer: &Map<String, Value>, properties: &Map<String, Value>) -> bool {
    let resource_type = property(outer, "type").and_then(text);
    if let Some(resource_type) = resource_type.filter(|text| text.contains('/')) {
        let resource_type = resource_type.to_ascii_lowercase();
        return resource_type.starts_with("microsoft.security/") && resource_type.ends_with("/alerts");
    }
    MARKS.iter().any(|name| property(properties, name).is_some())
}

impl About {
    fn of(properties: &Map<String, Value>, id: &str) -> Self {
        let mut about = Self {
            has_resource: RESOURCES.iter().any(|name| property(properties, name).is_some()),
            ..Self::default()
        };
        let entities = property_named(properties, "entities");
        let others = RESOURCES.into_iter().chain(["extendedProperties"]);
        for value in others.filter_map(|name| property(properties, name)) {
            about.collect(value);
        }
        if let Some((_, value)) = entities {
            about.collect(value);
        }
        // Its resource group limits which clusters it can be about.
        about.mentions.insert(id.to_lowercase());
        if about.namespaces.is_empty() && about.pods.is_empty() {
            about.unreadable = match entities {
                None => Some("it has no entities".to_owned()),
                Some((name, value)) if !has_objects(value) => Some(format!("its {name} cannot be read")),
                Some(_) => None,
            };
        }
        about
    }

    fn collect(&mut self, value: &Value) {
        match &*unpacked(value) {
            Value::String(text) if text.len() <= LONGEST => {
                self.mentions.insert(text.trim().to_lowercase());
            }
            Value::Array(items) => items.iter().for_each(|item| self.collect(item)),
            Value::Object(object) => {
                let kind = property(object, "type")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                let is_kind = |wanted: &str| kind.eq_ignore_ascii_case(wanted);
                for (key, value) in object {
                    let is_name = key.eq_ignore_ascii_case("name");
                    if let Some(name) = value.as_str() {
                        if key.eq_ignore_ascii_case("namespace") || (is_name && is_kind("k8s-namespace")) {
                            self.namespaces.insert(name.to_lowercase());
                        } else if is_name && is_kind("k8s-pod") {
                            self.pods.insert(name.to_lowercase());
                        }
                    }
                    // References between entities are numbers that mean nothing outside.
                    if key != "$id" && key != "$ref" {
                        self.collect(value);
                    }
                }
            }
            _ => {}
        }
    }
}

/// Whether a list of entities holds any as an object. PowerShell cuts off what is deeper than two levels, unless asked
/// otherwise, and leaves texts such as `@{type=K8s-pod}` and `System.Object[]`.
fn has_objects(entities: &Value) -> bool {
    match &*unpacked(entities) {
        Value::Array(items) => items.iter().any(Value::is_object),
        Value::Object(object) => !object.is_empty(),
        _ => false,
    }
}

/// Returns a property by its name in any case, unless it is null or an empty text.
fn property<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    property_named(object, name).map(|(_, value)| value)
}

/// Returns a property with its name as written. The portal adds the time zone to the names of columns.
fn property_named<'a>(object: &'a Map<String, Value>, name: &str) -> Option<(&'a str, &'a Value)> {
    let written = |(key, value): (&'a String, &'a Value)| (key.as_str(), value);
    let found = object.get_key_value(name).map(written).or_else(|| {
        let same = |(key, _): &(&String, &Value)| {
            key.strip_suffix(UTC_COLUMN)
                .unwrap_or(key)
                .eq_ignore_ascii_case(name)
        };
        object.iter().find(same).map(written)
    });
    found.filter(|(_, value)| !value.is_null() && value.as_str() != Some(""))
}

/// Suffix of the portal's name of a column with times in UTC.
const UTC_COLUMN: &str = " [UTC]";

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(value) => Some(value.to_string()),
        _ => None,
    }
}

/// Parses a value that some forms encode as JSON in a text.
fn unpacked(value: &Value) -> Cow<'_, Value> {
    match value.as_str().map(str::trim_start) {
        Some(text) if text.starts_with(['{', '[']) => {
            serde_json::from_str(text).map_or(Cow::Borrowed(value), Cow::Owned)
        }
        _ => Cow::Borrowed(value),
    }
}

/// Reads the time of the first property that exists; adds an unreadable one to `unreadable`.
fn read_time(
    properties: &Map<String, Value>,
    names: &[&str],
    unreadable: &mut Vec<String>,
) -> Option<Timestamp> {
    let (name, value) = names.iter().find_map(|name| property_named(properties, name))?;
    let given = text(value).unwrap_or_default();
    let is_utc = name.ends_with(UTC_COLUMN) || name.to_ascii_lowercase().ends_with("utc");
    let time = parse_time(given.trim(), is_utc);
    if time.is_none() {
        let quoted = untrusted::name(&given);
        unreadable.push(if quoted.is_empty() || quoted.len() > QUOTED {
            name.to_owned()
        } else {
            format!("{name} {quoted:?}")
        });
    }
    time
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{parse, raised};
    use super::*;
    use serde_json::json;

    #[test]
    fn alert_of_the_alerts_api_is_parsed() {
        let alert = parse(&raised(
            "Possible Web Shell activity detected",
            "2026-05-04T10:00:00Z",
        ));
        assert_eq!(
            alert.name.as_deref(),
            Some("Possible Web Shell activity detected")
        );
        assert_eq!(alert.severity.as_deref(), Some("Medium"));
        assert_eq!(alert.generated, Some("2026-05-04T10:31:00.5Z".parse().unwrap()));
        assert_eq!(alert.about.namespaces, ["mdc-simulation".to_owned()].into());
        for mention in [
            "aks-test",
            "mdc-simulation-victim",
            "victim",
            "kubernetes service",
        ] {
            assert!(
                alert.about.mentions.contains(mention),
                "{mention}: {:?}",
                alert.about.mentions
            );
        }
        assert!(
            !alert
                .about
                .mentions
                .iter()
                .any(|text| text.starts_with("centralus_")),
            "{:?}",
            alert.about.mentions
        );
        assert!(!alert.is_incident && !alert.is_sample);
    }

    /// Converts names to the case of Resource Graph and continuous export.
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
    fn alert_of_resource_graph_and_continuous_export_is_parsed() {
        let rest = raised("Sensitive files access detected", "2026-05-04T10:00:00Z");
        let expected = parse(&rest);
        let graph = json!({ "id": rest["id"], "properties": pascal(&rest["properties"]) });
        assert_eq!(parse(&graph), expected);

        let mut export = pascal(&rest["properties"]);
        export["SystemAlertId"] = rest["id"].clone();
        export["Entities"] = Value::String(export["Entities"].to_string());
        export["ExtendedProperties"] = Value::String(export["ExtendedProperties"].to_string());
        export["IsIncident"] = "False".into();
        assert_eq!(parse(&export), expected);
    }

    #[test]
    fn other_items_are_not_alerts() {
        let typed = |kind: &str| json!({"type": kind, "properties": {"displayName": "x", "alertType": "y"}});
        for item in [
            json!(null),
            json!("x"),
            json!({}),
            json!({"properties": 3}),
            json!({"properties": {"displayName": "Clusters should not run privileged containers"}}),
            json!({"displayName": "ASC Default", "type": "Microsoft.Authorization/policyAssignments"}),
            typed("Microsoft.Security/assessments"),
            typed("Microsoft.Security/alertsSuppressionRules"),
            typed("Microsoft.AlertsManagement/alerts"),
        ] {
            assert_eq!(FiredAlert::parse(&item), None, "{item}");
        }
        for item in [
            typed("Microsoft.Security/Locations/alerts"),
            typed("microsoft.security/locations/ALERTS"),
            json!({"Type": "SecurityAlert", "AlertName": "x"}),
            json!({"AlertLink": "https://portal.example/1"}),
        ] {
            assert!(FiredAlert::parse(&item).is_some(), "{item}");
        }
    }

    #[test]
    fn unreadable_values_are_kept() {
        let strange = json!({"properties": {"alertType": "New", "severity": "Apocalyptic", "status": 7,
            "startTimeUtc": "yesterday", "entities": {"a": [[["deep"]]]}, "isIncident": "maybe"}});
        let alert = parse(&strange);
        assert_eq!(alert.severity.as_deref(), Some("Apocalyptic"));
        assert_eq!((alert.start, alert.is_incident), (None, false));
        assert_eq!(alert.unreadable_times, ["startTimeUtc \"yesterday\""]);
        assert!(alert.about.mentions.contains("deep"));
        for (entities, unreadable) in [
            (json!(null), Some("it has no entities")),
            (json!([]), Some("its entities cannot be read")),
            (json!("System.Object[]"), Some("its entities cannot be read")),
            (
                json!(["@{type=K8s-pod; name=x}"]),
                Some("its entities cannot be read"),
            ),
            (json!("[{\"type\": "), Some("its entities cannot be read")),
            (json!([{"type": "azure-resource"}]), None),
            (json!("[{\"type\": \"azure-resource\"}]"), None),
            (json!([{"type": "K8s-pod", "name": "x"}]), None),
        ] {
            let alert = parse(&json!({"alertType": "x", "entities": entities}));
            assert_eq!(alert.about.unreadable.as_deref(), unreadable, "{entities}");
        }
        // A namespace in the extended properties is enough.
        let named = json!({"alertType": "x", "extendedProperties": {"namespace": "shop"}});
        assert_eq!(parse(&named).about.unreadable, None);
    }

    #[test]
    fn samples_and_incidents_are_detected() {
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
            assert!(parse(&sample).is_sample, "{key}");
        }
        let mut incident = raised("x", "2026-05-04T10:00:00Z");
        incident["properties"]["isIncident"] = true.into();
        assert!(parse(&incident).is_incident);
    }
}
