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
    /// Whether a sensor is ready where the pods were, which every alert needs but those of the audit log.
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

    /// What the sensors of a cluster tell; `ready` is how many of their pods are. `node` is the one that a run was
    /// on, and whether one of them is ready there, or why that was not seen.
    pub fn of_sensors(sensors: &SensorFacts, ready: i32, node: Option<(&str, Result<bool, String>)>) -> Self {
        let sensor = match (sensors.sensors.is_empty(), ready, node) {
            (true, ..) => Fact::No("there is no Defender sensor in the cluster".to_owned()),
            (_, 0, _) => Fact::No("no Defender sensor is ready on any node".to_owned()),
            (.., Some((node, Ok(false)))) => Fact::No(format!(
                "no Defender sensor is ready on node {node}, where the pods were"
            )),
            (.., Some((node, Err(reason)))) => Fact::Unknown(format!(
                "whether one is ready on node {node} was not seen: {reason}"
            )),
            (.., Some((_, Ok(true))) | None) => Fact::Yes,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::defender::sensor::Workload;

    #[test]
    fn a_sensor_is_looked_for_where_the_pods_were() {
        let none = SensorFacts::new(&[], None, None);
        let workload = Workload {
            namespace: "kube-system".to_owned(),
            name: "microsoft-defender-collector-ds".to_owned(),
            labels: BTreeMap::new(),
            images: vec![],
        };
        let one = SensorFacts::new(&[workload], None, None);
        let no = |reason: &str| Fact::No(reason.to_owned());
        for (sensors, ready, node, fact) in [
            (&none, 0, None, no("there is no Defender sensor in the cluster")),
            (&one, 0, None, no("no Defender sensor is ready on any node")),
            (&one, 1, None, Fact::Yes),
            (&one, 1, Some(("a", Ok(true))), Fact::Yes),
            (
                &one,
                1,
                Some(("a", Ok(false))),
                no("no Defender sensor is ready on node a, where the pods were"),
            ),
            (
                &one,
                1,
                Some(("a", Err("no rights".to_owned()))),
                Fact::Unknown("whether one is ready on node a was not seen: no rights".to_owned()),
            ),
        ] {
            assert_eq!(Facts::of_sensors(sensors, ready, node).sensor, fact);
        }
    }
}
