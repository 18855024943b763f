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
        let unknown = || Fact::Unknown("not checked".to_owned());
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

    /// What the sensors of a cluster tell. `node` is the one that a run was on, and of each sensor whether it is
    /// ready there, or why that was not seen.
    pub fn of_sensors(sensors: &SensorFacts, node: Option<(&str, Result<Vec<bool>, String>)>) -> Self {
        let mut sensors = sensors.clone();
        let any = |sensors: &SensorFacts| sensors.sensors.iter().any(|sensor| sensor.ready);
        let anywhere = any(&sensors);
        if let Some((_, Ok(ready))) = &node {
            for (sensor, ready) in sensors.sensors.iter_mut().zip(ready) {
                sensor.ready = *ready;
            }
        }
        let sensor = match (sensors.sensors.is_empty(), anywhere, node) {
            (true, ..) => Fact::No("there is no Defender sensor in the cluster".to_owned()),
            (_, false, _) => Fact::No("no Defender sensor is ready on any node".to_owned()),
            (.., Some((node, Ok(_)))) if !any(&sensors) => Fact::No(format!(
                "no Defender sensor is ready on node {node}, where the pods were"
            )),
            (.., Some((node, Err(reason)))) => Fact::Unknown(format!(
                "whether one is ready on node {node} was not seen: {reason}"
            )),
            (.., Some((_, Ok(_))) | None) => Fact::Yes,
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
        let workload = |name: &str, version: &str, ready: bool| Workload {
            namespace: "mdc".to_owned(),
            name: name.to_owned(),
            labels: [("app.kubernetes.io/version".to_owned(), version.to_owned())].into(),
            images: vec![],
            ready,
        };
        let named = |ready| workload("microsoft-defender-collector-ds", "0.8.1", ready);
        let down = SensorFacts::new(&[named(false)], Some(false), None);
        let one = SensorFacts::new(&[named(true)], Some(false), None);
        let no = |reason: &str| Fact::No(reason.to_owned());
        for (sensors, node, fact) in [
            (&none, None, no("there is no Defender sensor in the cluster")),
            (&down, None, no("no Defender sensor is ready on any node")),
            (&one, None, Fact::Yes),
            (&one, Some(("a", Ok(vec![true]))), Fact::Yes),
            (
                &one,
                Some(("a", Ok(vec![false]))),
                no("no Defender sensor is ready on node a, where the pods were"),
            ),
            (
                &one,
                Some(("a", Err("no rights".to_owned()))),
                Fact::Unknown("whether one is ready on node a was not seen: no rights".to_owned()),
            ),
        ] {
            assert_eq!(Facts::of_sensors(sensors, node).sensor, fact);
        }
        // Of two, the one that is there counts.
        let better = workload("microsoft-defender-collectors-ds", "0.10.0", true);
        let two = SensorFacts::new(&[named(true), better], Some(false), None);
        for (ready, yes) in [(vec![true, true], true), (vec![true, false], false)] {
            let facts = Facts::of_sensors(&two, Some(("a", Ok(ready))));
            assert_eq!(facts.sensor, Fact::Yes);
            assert_eq!(facts.conditions[&Condition::DnsDetection] == Fact::Yes, yes);
        }
    }
}
