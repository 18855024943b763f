//! A result as metrics in the `OpenMetrics` text format, for the textfile collector of node-exporter or a Pushgateway.
//!
//! All are gauges: each run replaces them. Both formats of Prometheus, `OpenMetrics` and the older one, read them alike.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::exit::Exit;
use crate::result::{ClusterInfo, RunResult, Verdict};

type Labels = Vec<(&'static str, String)>;
type Gauges = Family<Labels, Gauge<f64, AtomicU64>>;

/// Returns the name of a cluster in metrics: that of its resource in Azure, of its context, or its address.
pub fn cluster_label(cluster: &ClusterInfo) -> &str {
    let resource = cluster.resource_id.as_deref();
    let resource = resource.and_then(|id| id.rsplit('/').next());
    resource.or(cluster.context.as_deref()).unwrap_or(&cluster.server)
}

/// Renders the metrics of a run.
pub fn render(run: &RunResult) -> String {
    let mut metrics = Metrics {
        registry: Registry::with_prefix("defender_sim"),
        cluster: cluster_label(&run.cluster).to_owned(),
    };
    metrics.add_run(run);
    metrics.add_steps(run);
    metrics.add_alerts(run);
    let mut text = String::new();
    match encode(&mut text, &metrics.registry) {
        Ok(()) => text,
        // Writing to a string fails only if a value cannot be formatted.
        Err(error) => unreachable!("metrics can be formatted: {error}"),
    }
}

struct Metrics {
    registry: Registry,
    cluster: String,
}

impl Metrics {
    /// Registers a metric; its unit becomes the end of its name.
    fn family(&mut self, name: &str, help: &str, unit: Option<Unit>) -> Gauges {
        let family = Gauges::default();
        match unit {
            Some(unit) => self.registry.register_with_unit(name, help, unit, family.clone()),
            None => self.registry.register(name, help, family.clone()),
        }
        family
    }

    fn set(&self, family: &Gauges, labels: &[(&'static str, &str)], value: f64) {
        let cluster = std::iter::once(("cluster", self.cluster.as_str()));
        let labels = cluster.chain(labels.iter().copied());
        let labels: Labels = labels.map(|(name, value)| (name, value.to_owned())).collect();
        family.get_or_create(&labels).set(value);
    }

    fn add_run(&mut self, run: &RunResult) {
        let end = self.family("run_timestamp", "End of the last run", Some(Unit::Seconds));
        self.set(&end, &[], run.ended.as_duration().as_secs_f64());
        let duration = self.family("run_duration", "Duration of the last run", Some(Unit::Seconds));
        self.set(
            &duration,
            &[],
            run.ended.duration_since(run.started).as_secs_f64(),
        );
        let success = self.family("run_success", "Whether the last run ended with exit code 0", None);
        self.set(&success, &[], truth(run.exit == Exit::Ok));
        let exit = self.family("run_exit_code", "Exit code of the last run", None);
        self.set(&exit, &[], run.exit_code.into());
    }

    fn add_steps(&mut self, run: &RunResult) {
        let steps = self.family("steps", "Steps of the last run, by outcome", None);
        for scenario in &run.scenarios {
            for step in &scenario.steps {
                let labels = [
                    ("scenario", scenario.id.as_str()),
                    ("outcome", step.outcome.as_str()),
                ];
                let same = scenario
                    .steps
                    .iter()
                    .filter(|other| other.outcome == step.outcome);
                self.set(&steps, &labels, count(same.count()));
            }
        }
    }

    /// Adds the alerts about which something is known: those that were raised, or were not although they were expected.
    fn add_alerts(&mut self, run: &RunResult) {
        let raised = self.family(
            "alert_raised",
            "Whether an expected alert was raised for the last run",
            None,
        );
        let help = "Time from the start of the first step that raises an alert until it was raised";
        let time_to_detect = self.family("alert_time_to_detect", help, Some(Unit::Seconds));
        let help = "Whether an alert was raised for an earlier run and not for the last one";
        let regressed = self.family("alert_regressed", help, None);
        let Some(verification) = &run.verification else {
            return;
        };
        for alert in &verification.alerts {
            let is_raised = match alert.verdict {
                Verdict::Raised => true,
                Verdict::NotRaised => false,
                Verdict::Waiting | Verdict::NotExpected | Verdict::Unknown => continue,
            };
            let is_regression = verification.regressions.iter().any(|one| one.alert == alert.id);
            let seconds = alert.raised.as_ref().and_then(|raised| raised.seconds_to_detect);
            for scenario in &alert.scenarios {
                let labels = [("scenario", scenario.as_str()), ("alert", alert.id.as_str())];
                self.set(&raised, &labels, truth(is_raised));
                self.set(&regressed, &labels, truth(is_regression));
                if let Some(seconds) = seconds {
                    self.set(&time_to_detect, &labels, seconds);
                }
            }
        }
    }
}

fn truth(is_true: bool) -> f64 {
    f64::from(u8::from(is_true))
}

fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::MAX, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn metrics_are_of_the_run_its_steps_and_decided_alerts() {
        let mut run = fixture::verified();
        run.cluster.context = Some("a \"b\"".to_owned());
        let text = render(&run);
        let has = |line: &str| text.lines().any(|found| found == line);
        for line in [
            "# TYPE defender_sim_run_success gauge",
            r#"defender_sim_run_success{cluster="a \"b\""} 0.0"#,
            r#"defender_sim_run_exit_code{cluster="a \"b\""} 5.0"#,
            r#"defender_sim_alert_raised{cluster="a \"b\"",scenario="one",alert="missing"} 0.0"#,
            r#"defender_sim_alert_regressed{cluster="a \"b\"",scenario="one",alert="missing"} 0.0"#,
        ] {
            assert!(has(line), "{line}\n{text}");
        }
        for undecided in ["open", "absent", "drift"] {
            assert!(!text.contains(&format!("alert=\"{undecided}\"")), "{text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn cluster_is_named_by_its_resource_then_its_context_then_its_address() {
        let mut cluster = ClusterInfo {
            server: "https://s".to_owned(),
            ..ClusterInfo::default()
        };
        assert_eq!(cluster_label(&cluster), "https://s");
        cluster.context = Some("c".to_owned());
        assert_eq!(cluster_label(&cluster), "c");
        cluster.resource_id = Some("/subscriptions/1/managedClusters/blue".to_owned());
        assert_eq!(cluster_label(&cluster), "blue");
    }
}
