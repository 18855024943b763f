//! What is known of the things that decide whether an alert can come. What is not known decides nothing.

use std::collections::BTreeMap;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::alerts::Condition;
use super::sensor::SensorFacts;

/// Whether something is so, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", tag = "known", content = "reason")]
pub enum Fact {
    /// It is.
    Yes,
    /// It is not, for this reason.
    No(String),
    /// It is not known, for this reason.
    Unknown(String),
}

/// What is known of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// Whether the plan is on, which every alert needs.
    pub plan: Fact,
    /// Whether a sensor is ready, which every alert needs but those of the audit log.
    pub sensor: Fact,
    /// Whether it has what only some alerts need.
    pub conditions: BTreeMap<Condition, Fact>,
}

/// Something that is known or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Premise {
    /// That the plan is on.
    Plan,
    /// That a sensor is ready.
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
        let unknown = || Fact::Unknown("it was not looked for".to_owned());
        Self {
            plan: unknown(),
            sensor: unknown(),
            conditions: BTreeMap::new(),
        }
    }
}

impl Facts {
    /// The user says so.
    pub fn assume(&mut self, premise: Premise, is: bool) {
        let fact = if is {
            Fact::Yes
        } else {
            Fact::No("--assume says that it is not so here".to_owned())
        };
        match premise {
            Premise::Plan => self.plan = fact,
            Premise::Sensor => self.sensor = fact,
            Premise::Condition(condition) => {
                self.conditions.insert(condition, fact);
            }
        }
    }

    /// What the sensors of a cluster tell; `ready` is how many of their pods are.
    pub fn of_sensors(sensors: &SensorFacts, ready: i32) -> Self {
        let sensor = match (sensors.sensors.is_empty(), ready) {
            (true, _) => Fact::No("there is no Defender sensor in the cluster".to_owned()),
            (false, 0) => Fact::No("no Defender sensor is ready on any node".to_owned()),
            _ => Fact::Yes,
        };
        Self {
            sensor,
            conditions: Condition::ALL
                .map(|condition| (condition, sensors.known(condition)))
                .into(),
            ..Self::default()
        }
    }
}
