//! What earlier runs detected, and what is not detected any more.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{RunResult, Verdict, Verification};

/// Version of the format of [`Detections`].
const SCHEMA: &str = "defender-sim/detections/v1";

/// When each alert of the catalogue was raised last on one cluster.
///
/// A `CronJob` keeps it between its runs; on other machines it is derived from the records of the runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Detections {
    /// Version of the format.
    schema: String,
    /// The last detection of each alert, by its ID in the catalogue; on a group of nodes by `ID on GROUP`.
    alerts: BTreeMap<String, Detection>,
}

/// The last run for which an alert was raised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detection {
    /// When it was raised.
    pub raised: Timestamp,
    /// ID of the run.
    pub run: String,
}

/// An expected alert that was raised for an earlier run, and not for this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Regression {
    /// ID in the alert catalogue.
    pub alert: String,
    /// Display name in the catalogue.
    pub name: String,
    /// The group of nodes on which it was not raised, if the run covered groups of nodes.
    pub group: Option<String>,
    /// The scenarios of this run that are expected to raise it.
    pub scenarios: Vec<String>,
    /// When it was raised last.
    pub last_raised: Timestamp,
    /// ID of the last run for which it was raised.
    pub last_run: String,
}

/// `ALERT ("NAME") was raised for run ID on DATE, and not for this run`, after the group of nodes.
impl fmt::Display for Regression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (alert, name, run) = (&self.alert, &self.name, &self.last_run);
        let date = self.last_raised.strftime("%Y-%m-%d");
        if let Some(group) = &self.group {
            write!(f, "on {group}: ")?;
        }
        write!(
            f,
            "{alert} ({name:?}) was raised for run {run} on {date}, and not for this run"
        )
    }
}

impl Default for Detections {
    fn default() -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            alerts: BTreeMap::new(),
        }
    }
}

impl Detections {
    /// Derives the detections before `run` from records of runs on the same cluster.
    pub fn before<'a>(run: &RunResult, records: impl IntoIterator<Item = &'a RunResult>) -> Self {
        let mut detections = Self::default();
        for record in records {
            if record.started < run.started && record.cluster.is_same(&run.cluster) {
                detections.add(record);
            }
        }
        detections
    }

    /// Parses the text that [`Detections::to_json`] returned.
    ///
    /// # Errors
    /// If it is not JSON, or has another format.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let detections: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if detections.schema == SCHEMA {
            Ok(detections)
        } else {
            Err(format!("its format is {:?}, not {SCHEMA:?}", detections.schema))
        }
    }

    /// Formats the detections as one line of JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Returns the last detection of an alert.
    pub fn of(&self, alert: &str) -> Option<&Detection> {
        self.alerts.get(alert)
    }

    /// Adds the alerts that were raised for a run.
    pub fn add(&mut self, run: &RunResult) {
        for alert in run
            .verification
            .iter()
            .flat_map(|verification| &verification.alerts)
        {
            let whole = (alert.verdict == Verdict::Raised).then_some((None, alert.raised.as_ref()));
            let groups = alert.victims.iter().take(GROUPS);
            let groups = groups.map(|victim| (victim.group.as_deref(), victim.raised.as_ref()));
            for (group, raised) in whole
                .into_iter()
                .chain(groups.filter(|(group, _)| group.is_some()))
            {
                let Some(raised) = raised else { continue };
                let detection = Detection {
                    raised: raised.generated.unwrap_or(run.ended),
                    run: run.run.clone(),
                };
                let last = self.alerts.entry(key(&alert.id, group));
                let last = last.or_insert_with(|| detection.clone());
                if last.raised < detection.raised {
                    *last = detection;
                }
            }
        }
    }

    /// Returns the alerts that were raised earlier and not for this run. Alerts that are unknown, awaited, optional or
    /// not expected are not among them.
    pub fn regressions(&self, verification: &Verification) -> Vec<Regression> {
        let missing = verification.alerts.iter();
        let missing = missing.filter(|alert| alert.verdict == Verdict::NotRaised);
        let missing = missing.flat_map(|alert| {
            // Of several victims, those without the alert count, each for its own group.
            let victims = alert.victims.iter().filter(|victim| victim.is_missing());
            let groups = victims.filter_map(move |victim| Some((alert, Some(victim.group.as_deref()?))));
            let whole = alert.victims.is_empty().then_some((alert, None));
            whole.into_iter().chain(groups)
        });
        missing
            .filter_map(|(alert, group)| {
                let last = self.alerts.get(&key(&alert.id, group))?;
                Some(Regression {
                    alert: alert.id.clone(),
                    name: alert.name.clone(),
                    group: group.map(str::to_owned),
                    scenarios: alert.scenarios.clone(),
                    last_raised: last.raised,
                    last_run: last.run.clone(),
                })
            })
            .collect()
    }
}

/// Number of groups of nodes of a run that are remembered: the state of a `CronJob` has little room.
const GROUPS: usize = 50;

/// Returns the key of an alert, on a group of nodes.
fn key(alert: &str, group: Option<&str>) -> String {
    group.map_or_else(|| alert.to_owned(), |group| format!("{alert} on {group}"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::result::{AlertVerdict, ClusterInfo, RaisedAlert, Victim, VictimVerdict};

    fn at(hour: i8) -> Timestamp {
        format!("2026-05-04T{hour:02}:00:00Z").parse().unwrap()
    }

    /// A run on the groups of nodes `one` and `two`, with a verdict for each.
    pub fn on_groups(id: &str, hour: i8, verdicts: [Verdict; 2]) -> RunResult {
        let whole = if verdicts == [Verdict::Raised; 2] {
            Verdict::Raised
        } else {
            Verdict::NotRaised
        };
        let mut run = run(id, hour, "https://one", whole);
        let victims = ["one", "two"].map(|group| Victim {
            pod: format!("pod-{group}"),
            group: Some(group.to_owned()),
            ..Victim::default()
        });
        let alert = &mut run.verification.as_mut().unwrap().alerts[0];
        let raised = super::tests::run(id, hour, "https://one", Verdict::Raised);
        let raised = raised.verification.unwrap().alerts.remove(0).raised;
        alert.victims = victims
            .iter()
            .zip(verdicts)
            .map(|(victim, verdict)| VictimVerdict {
                pod: victim.pod.clone(),
                group: victim.group.clone(),
                verdict,
                reason: None,
                raised: raised.clone().filter(|_| verdict == Verdict::Raised),
            })
            .collect();
        alert.raised = raised.filter(|_| verdicts.contains(&Verdict::Raised));
        run.victims = victims.into();
        run
    }

    #[test]
    fn alert_regresses_on_the_group_that_had_it() {
        let first = on_groups("a", 1, [Verdict::Raised, Verdict::NotRaised]);
        let mut earlier = Detections::default();
        earlier.add(&first);
        let regressions = |verdicts| {
            let run = on_groups("b", 2, verdicts);
            let found = earlier.regressions(run.verification.as_ref().unwrap());
            found
                .into_iter()
                .map(|one| one.group.unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            regressions([Verdict::Raised, Verdict::NotRaised]),
            Vec::<String>::new()
        );
        assert_eq!(regressions([Verdict::NotExpected, Verdict::Raised]), ["one"]);
        // It never was raised everywhere, so a run without groups does not regress.
        let single = run("c", 3, "https://one", Verdict::NotRaised);
        assert!(
            earlier
                .regressions(single.verification.as_ref().unwrap())
                .is_empty()
        );
    }

    /// A run at an hour with a verdict on one alert.
    pub fn run(id: &str, hour: i8, server: &str, verdict: Verdict) -> RunResult {
        let cluster = ClusterInfo {
            server: server.to_owned(),
            ..ClusterInfo::default()
        };
        let raised = (verdict == Verdict::Raised).then(|| RaisedAlert {
            id: "1".to_owned(),
            name: "n".to_owned(),
            severity: None,
            status: None,
            generated: Some(at(hour)),
            seconds_to_detect: None,
            link: None,
        });
        let verification = Verification {
            source: "a file".to_owned(),
            read: at(hour),
            from: at(hour),
            until: at(hour),
            alerts: vec![AlertVerdict {
                victims: vec![],
                id: "web-shell".to_owned(),
                name: "n".to_owned(),
                scenarios: vec!["recon".to_owned()],
                optional: false,
                verdict,
                reason: None,
                late: false,
                raised,
            }],
            additional: vec![],
            unattributed: vec![],
            contradictions: vec![],
            regressions: vec![],
            failure: None,
        };
        RunResult {
            verification: Some(verification),
            ..RunResult::new(id.to_owned(), cluster, "n".to_owned(), vec![], at(hour))
        }
    }

    #[test]
    fn only_an_alert_that_was_raised_earlier_on_the_same_cluster_regresses() {
        let earlier = [
            run("a", 1, "https://one", Verdict::Raised),
            run("c", 3, "https://one", Verdict::NotRaised),
            run("b", 2, "https://one", Verdict::Raised),
            run("e", 9, "https://one", Verdict::Raised),
        ];
        let last_runs = |now: &RunResult| {
            let detections = Detections::before(now, &earlier);
            let text = detections.to_json();
            assert_eq!(Detections::from_json(&text).unwrap(), detections, "{text}");
            let regressions = detections.regressions(now.verification.as_ref().unwrap());
            let runs = regressions.into_iter().map(|one| (one.last_run, one.last_raised));
            runs.collect::<Vec<_>>()
        };
        let missing = run("d", 4, "https://one", Verdict::NotRaised);
        assert_eq!(last_runs(&missing), [("b".to_owned(), at(2))]);
        assert_eq!(last_runs(&run("d", 4, "https://two", Verdict::NotRaised)), []);
        assert_eq!(last_runs(&run("d", 1, "https://one", Verdict::NotRaised)), []);
        for verdict in [
            Verdict::Raised,
            Verdict::Unknown,
            Verdict::Waiting,
            Verdict::NotExpected,
        ] {
            assert_eq!(last_runs(&run("d", 4, "https://one", verdict)), [], "{verdict:?}");
        }
    }

    #[test]
    fn detections_of_another_format_are_refused() {
        for text in ["", "{}", r#"{"schema":"defender-sim/detections/v2","alerts":{}}"#] {
            assert!(Detections::from_json(text).is_err(), "{text}");
        }
    }
}
