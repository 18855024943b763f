//! From the sensors of a cluster to the facts that decide about alerts.

use super::alerts::Condition;
use super::facts::{Fact, Facts};
use super::sensor::SensorFacts;

impl Facts {
    /// Derives the facts from the sensors of a cluster. `node` is the node of a run's pods, with whether each sensor is
    /// ready there, or why that is unknown.
    pub fn of_sensors(sensors: &SensorFacts, node: Option<(&str, Result<Vec<bool>, String>)>) -> Self {
        let mut sensors = sensors.clone();
        let any_ready = |sensors: &SensorFacts| sensors.sensors.iter().any(|sensor| sensor.ready);
        let anywhere = any_ready(&sensors);
        if let Some((_, Ok(ready))) = &node {
            for (sensor, ready) in sensors.sensors.iter_mut().zip(ready) {
                sensor.ready = *ready;
            }
        }
        let sensor = match (sensors.sensors.is_empty(), anywhere, node) {
            (true, ..) => Fact::No("there is no Defender sensor in the cluster".to_owned()),
            (_, false, _) => Fact::No("no Defender sensor is ready on any node".to_owned()),
            (.., Some((node, Ok(_)))) if !any_ready(&sensors) => Fact::No(format!(
                "no Defender sensor is ready on node {node}, where the pods ran"
            )),
            (.., Some((node, Err(reason)))) => Fact::Unknown(format!(
                "whether a Defender sensor is ready on node {node} is unknown: {reason}"
            )),
            (.., Some((_, Ok(_))) | None) => Fact::Yes,
        };
        Self {
            cloud: sensors.cloud,
            sensor,
            conditions: Condition::ALL
                .map(|condition| (condition, sensors.fact(condition)))
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
    fn sensor_has_to_be_ready_on_the_node_of_the_pods() {
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
                no("no Defender sensor is ready on node a, where the pods ran"),
            ),
            (
                &one,
                Some(("a", Err("no rights".to_owned()))),
                Fact::Unknown(
                    "whether a Defender sensor is ready on node a is unknown: no rights".to_owned(),
                ),
            ),
        ] {
            assert_eq!(Facts::of_sensors(sensors, node).sensor, fact);
        }
        // Of two, the one ready on the node counts.
        let better = workload("microsoft-defender-collectors-ds", "0.10.0", true);
        let two = SensorFacts::new(&[named(true), better], Some(false), None);
        for (ready, yes) in [(vec![true, true], true), (vec![true, false], false)] {
            let facts = Facts::of_sensors(&two, Some(("a", Ok(ready))));
            assert_eq!(facts.sensor, Fact::Yes);
            assert_eq!(facts.conditions[&Condition::DnsDetection] == Fact::Yes, yes);
        }
    }
}
