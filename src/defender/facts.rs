//! Facts that decide whether an alert can be raised. An unknown fact decides nothing.

use std::collections::BTreeMap;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::alerts::{Cloud, Condition};

/// Whether a prerequisite is met, if known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", tag = "known", content = "reason")]
pub enum Fact {
    /// It is met.
    Yes,
    /// It is not met, for this reason.
    No(String),
    /// It is unknown, for this reason.
    Unknown(String),
}

/// The facts of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// The kind of the cluster, if known. Some alerts are not documented for all kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud: Option<Cloud>,
    /// Whether the plan is on, which every alert needs.
    pub plan: Fact,
    /// Whether a sensor is ready on the node of the pods, which every alert needs except those of the audit log
    /// (and these too, on Arc).
    pub sensor: Fact,
    /// Whether the cluster has what only some alerts need.
    pub conditions: BTreeMap<Condition, Fact>,
}

/// A prerequisite that a user can assert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Premise {
    /// The plan is on.
    Plan,
    /// A sensor is ready.
    Sensor,
    /// What only some alerts need.
    Condition(Condition),
}

/// `plan`, `sensor`, or the name of a condition.
impl FromStr for Premise {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "plan" => Ok(Premise::Plan),
            "sensor" => Ok(Premise::Sensor),
            _ => serde_json::from_value(text.into())
                .map(Premise::Condition)
                .map_err(|_| {
                    "expected plan, sensor, dns-detection, anti-malware, audit-log or drift-policy".to_owned()
                }),
        }
    }
}

impl Default for Facts {
    fn default() -> Self {
        let unknown = || Fact::Unknown("not checked".to_owned());
        Self {
            cloud: None,
            plan: unknown(),
            sensor: unknown(),
            conditions: BTreeMap::new(),
        }
    }
}

impl Facts {
    /// Sets a fact that the user asserts.
    pub fn assume(&mut self, premise: Premise, is_met: bool) {
        let fact = if is_met {
            Fact::Yes
        } else {
            Fact::No("--assume rules it out".to_owned())
        };
        match premise {
            Premise::Plan => self.plan = fact,
            Premise::Sensor => self.sensor = fact,
            Premise::Condition(condition) => {
                self.conditions.insert(condition, fact);
            }
        }
    }
}
