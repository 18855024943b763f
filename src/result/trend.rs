//! Detection over time: what the verified runs on a cluster say about each alert.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::{AlertVerdict, ClusterInfo, Detections, RunResult, Verdict, Verification};

/// The alerts of the verified runs on one cluster, or on a group of its nodes.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Trend {
    /// The cluster, as its last run names it.
    pub cluster: ClusterInfo,
    /// The group of nodes; `null` for runs that did not cover groups of nodes.
    pub group: Option<String>,
    /// How many runs were verified.
    pub runs: usize,
    /// The alerts that were expected, by their IDs.
    pub alerts: Vec<AlertTrend>,
}

/// What the verified runs say about an alert.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertTrend {
    /// ID in the alert catalogue.
    pub alert: String,
    /// Display name in the catalogue.
    pub name: String,
    /// For how many runs it was raised.
    pub raised: usize,
    /// For how many runs it was raised, or not raised although it was expected.
    pub decided: usize,
    /// When it was raised last.
    pub last_raised: Option<Timestamp>,
    /// ID of the last run for which it was raised.
    pub last_run: Option<String>,
    /// Median of the seconds from the start of its first step until it was raised.
    pub median_seconds_to_detect: Option<f64>,
    /// 90th percentile of these seconds.
    pub p90_seconds_to_detect: Option<f64>,
    /// The verdict of the last run that expected it.
    pub last_verdict: Verdict,
    /// Whether it was raised for an earlier run, and not for the last one that expected it.
    pub is_regression: bool,
}

/// Returns the trends of all clusters and groups of nodes of `runs`, which may have any order.
pub fn trends(runs: &[RunResult]) -> Vec<Trend> {
    let verified = runs.iter().filter(|run| run.verification.is_some());
    let mut parts: Vec<(Option<String>, RunResult)> = verified.flat_map(by_group).collect();
    parts.sort_by_key(|(_, run)| run.started);
    let mut places: Vec<(&Option<String>, Vec<&RunResult>)> = vec![];
    for (group, run) in &parts {
        let of_place = places
            .iter_mut()
            .find(|(known, runs)| *known == group && runs[0].cluster.is_same(&run.cluster));
        match of_place {
            Some((_, runs)) => runs.push(run),
            None => places.push((group, vec![run])),
        }
    }
    let trends = places.iter().map(|(group, runs)| Trend {
        group: (*group).clone(),
        ..trend(runs)
    });
    trends.collect()
}

/// Returns a run as one for each group of nodes that it covered.
fn by_group(run: &RunResult) -> Vec<(Option<String>, RunResult)> {
    if run.victims.len() < 2 {
        let group = run.victims.first().and_then(|victim| victim.group.clone());
        return vec![(group, run.clone())];
    }
    let parts = run.victims.iter().map(|victim| {
        let mut part = run.of_victim(victim);
        part.verification = run.verification.as_ref().map(|verification| Verification {
            // Alerts of requests have no node.
            alerts: verification
                .alerts
                .iter()
                .filter_map(|alert| of_victim(alert, &victim.pod))
                .collect(),
            source: verification.source.clone(),
            additional: vec![],
            unattributed: vec![],
            contradictions: vec![],
            regressions: vec![],
            failure: None,
            ..*verification
        });
        (victim.group.clone(), part)
    });
    parts.collect()
}

/// Returns the verdict on an alert for one victim.
fn of_victim(alert: &AlertVerdict, pod: &str) -> Option<AlertVerdict> {
    let of_victim = alert.victims.iter().find(|verdict| verdict.pod == pod)?;
    let is_missing = alert.verdict == Verdict::NotRaised && of_victim.is_missing();
    Some(AlertVerdict {
        id: alert.id.clone(),
        name: alert.name.clone(),
        scenarios: alert.scenarios.clone(),
        optional: alert.optional,
        verdict: if is_missing {
            Verdict::NotRaised
        } else {
            of_victim.verdict
        },
        reason: of_victim.reason.clone(),
        late: alert.late,
        raised: of_victim.raised.clone(),
        victims: vec![],
    })
}

/// Returns the trend of the runs of one cluster, from the first to the last.
fn trend(runs: &[&RunResult]) -> Trend {
    let verdicts = || {
        let verified = runs
            .iter()
            .filter_map(|run| Some((*run, run.verification.as_ref()?)));
        verified.flat_map(|(run, verification)| {
            let alerts = verification.alerts.iter();
            alerts.map(move |alert| (run, verification, alert))
        })
    };
    let mut ids: Vec<&str> = verdicts().map(|(.., alert)| alert.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    let alerts = ids.into_iter().filter_map(|id| {
        let of_alert: Vec<_> = verdicts().filter(|(.., alert)| alert.id == id).collect();
        alert_trend(&of_alert)
    });
    Trend {
        cluster: runs.last().map(|run| run.cluster.clone()).unwrap_or_default(),
        group: None,
        runs: runs.len(),
        alerts: alerts.collect(),
    }
}

/// Returns the trend of one alert, by its verdicts from the first to the last.
fn alert_trend(verdicts: &[(&RunResult, &Verification, &AlertVerdict)]) -> Option<AlertTrend> {
    let (last, verification, alert) = verdicts.last()?;
    let mut detections = Detections::default();
    for (run, ..) in verdicts {
        detections.add(run);
    }
    let detection = detections.of(&alert.id);
    let count = |verdict| {
        verdicts
            .iter()
            .filter(|(.., alert)| alert.verdict == verdict)
            .count()
    };
    let raised = count(Verdict::Raised);
    let seconds = verdicts
        .iter()
        .filter_map(|(.., alert)| alert.raised.as_ref()?.seconds_to_detect);
    let mut seconds: Vec<f64> = seconds.collect();
    seconds.sort_unstable_by(f64::total_cmp);
    let earlier = Detections::before(last, verdicts.iter().map(|(run, ..)| *run));
    let is_regression = earlier
        .regressions(verification)
        .iter()
        .any(|one| one.alert == alert.id);
    Some(AlertTrend {
        alert: alert.id.clone(),
        name: alert.name.clone(),
        raised,
        decided: raised + count(Verdict::NotRaised),
        last_raised: detection.map(|detection| detection.raised),
        last_run: detection.map(|detection| detection.run.clone()),
        median_seconds_to_detect: percentile(&seconds, 50),
        p90_seconds_to_detect: percentile(&seconds, 90),
        last_verdict: alert.verdict,
        is_regression,
    })
}

/// Returns the smallest value that at least `percent` of the sorted values do not exceed (the nearest rank).
fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::super::detection::tests::{on_groups, run};
    use super::*;

    #[test]
    fn alerts_are_counted_per_cluster() {
        let runs = [
            run("b", 2, "https://one", Verdict::NotRaised),
            run("a", 1, "https://one", Verdict::Raised),
            run("x", 3, "https://two", Verdict::NotRaised),
            run("c", 3, "https://one", Verdict::Unknown),
        ];
        let found: Vec<_> = trends(&runs)
            .into_iter()
            .map(|trend| {
                let alert = &trend.alerts[0];
                let last_run = alert.last_run.clone();
                (
                    trend.cluster.server,
                    trend.runs,
                    alert.raised,
                    alert.decided,
                    last_run,
                    alert.is_regression,
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                ("https://one".to_owned(), 3, 1, 2, Some("a".to_owned()), false),
                ("https://two".to_owned(), 1, 0, 1, None, false),
            ]
        );
        let regressed = trends(&runs[..2]);
        assert!(regressed[0].alerts[0].is_regression, "{regressed:?}");
        assert!(trends(&[]).is_empty());
    }

    #[test]
    fn alerts_are_counted_per_group_of_nodes() {
        let runs = [
            on_groups("a", 1, [Verdict::Raised, Verdict::Raised]),
            on_groups("b", 2, [Verdict::Raised, Verdict::NotExpected]),
            run("c", 3, "https://one", Verdict::Raised),
        ];
        let trends = trends(&runs);
        let found = trends.iter().map(|trend| {
            let alert = &trend.alerts[0];
            (
                trend.group.as_deref(),
                alert.raised,
                alert.decided,
                alert.is_regression,
            )
        });
        let expected = [
            (Some("one"), 2, 2, false),
            (Some("two"), 1, 2, true),
            (None, 1, 1, false),
        ];
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let ten: Vec<f64> = (1..=10).map(f64::from).collect();
        assert_eq!(
            (percentile(&ten, 50), percentile(&ten, 90)),
            (Some(5.0), Some(9.0))
        );
        assert_eq!(
            (percentile(&ten[..1], 50), percentile(&ten[..1], 90)),
            (Some(1.0), Some(1.0))
        );
        assert_eq!(percentile(&[], 50), None);
    }
}
