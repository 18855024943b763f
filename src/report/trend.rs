//! Formats detection over time.

use super::Width;
use super::style::{RED, paint};
use super::table::{seconds, table};
use crate::result::{AlertTrend, Trend};
use crate::words::counted;

/// Formats one table per cluster.
pub(super) fn trends(trends: &[Trend], width: Width) -> String {
    let parts = trends.iter().map(|trend| {
        let cluster = trend.cluster.context.as_ref().unwrap_or(&trend.cluster.server);
        let group = trend.group.as_ref().map(|group| format!(", nodes {group}"));
        let runs = counted(trend.runs, "verified run");
        let title = format!("{cluster}{}: {runs}\n", group.unwrap_or_default());
        let header = [
            "ALERT",
            "RAISED",
            "LAST RAISED",
            "BY RUN",
            "MEDIAN",
            "P90",
            "LAST VERDICT",
        ];
        title + &table(&header, trend.alerts.iter().map(row), width)
    });
    match parts.collect::<Vec<_>>() {
        parts if parts.is_empty() => "no verified run is recorded\n".to_owned(),
        parts => parts.join("\n"),
    }
}

fn row(alert: &AlertTrend) -> Vec<String> {
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let verdict = if alert.is_regression {
        paint("regressed", RED)
    } else {
        alert.last_verdict.as_str().to_owned()
    };
    vec![
        alert.alert.clone(),
        format!("{} of {}", alert.raised, alert.decided),
        or_none(
            alert
                .last_raised
                .map(|time| time.strftime("%Y-%m-%d").to_string()),
        ),
        or_none(alert.last_run.clone()),
        seconds(alert.median_seconds_to_detect),
        seconds(alert.p90_seconds_to_detect),
        verdict,
    ]
}
