//! What a run publishes besides its reports: events and the state of the `CronJob` that started it, and metrics.

use http::Uri;

use crate::cli::CronJobName;
use crate::cluster::{Cluster, Schedule};
use crate::error::Error;
use crate::event::{Event, Events};
use crate::exit::Exit;
use crate::net::pushgateway;
use crate::report::{meaning, openmetrics};
use crate::result::{Detections, RunResult};
use crate::untrusted;

/// The `CronJob` that started this run.
pub(super) struct Scheduled {
    cluster: Cluster,
    schedule: Schedule,
    /// What its earlier runs detected.
    pub earlier: Detections,
}

impl Scheduled {
    /// Reads the `CronJob` and what its earlier runs detected.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn find(cluster: &Cluster, name: &CronJobName, events: &Events) -> Result<Self, Error> {
        let schedule = cluster.schedule(&name.namespace, &name.name).await?;
        let earlier = schedule.state().map(Detections::from_json).transpose();
        let earlier = earlier.unwrap_or_else(|reason| {
            events.send(Event::Notice(format!(
                "configmap/{} cannot be read, and what earlier runs detected is unknown: {reason}",
                name.name
            )));
            None
        });
        Ok(Self {
            cluster: cluster.clone(),
            schedule,
            earlier: earlier.unwrap_or_default(),
        })
    }

    /// Creates an event for the run and for each regression, and keeps what was detected, even if no event can be created.
    ///
    /// # Errors
    /// If an event cannot be created, or the `ConfigMap` cannot be updated.
    pub async fn publish(&self, result: &RunResult) -> Result<(), Error> {
        let published = self.create_events(result).await;
        if result.verification.is_some() {
            let mut detections = self.earlier.clone();
            detections.add(result);
            let keep = self.cluster.keep_state(&self.schedule, detections.to_json());
            keep.await?;
        }
        published
    }

    /// Creates an event for the run and for each regression.
    async fn create_events(&self, result: &RunResult) -> Result<(), Error> {
        let (reason, is_failure) = match result.exit {
            Exit::Ok => ("RunSucceeded", false),
            _ => ("RunFailed", true),
        };
        self.tell(reason, is_failure, &summary(result)).await?;
        for regression in result
            .verification
            .iter()
            .flat_map(|verification| &verification.regressions)
        {
            let text = regression.to_string();
            self.tell("DetectionRegressed", true, &text).await?;
        }
        Ok(())
    }

    /// Creates an event for a run that failed without a result.
    ///
    /// # Errors
    /// If the event cannot be created.
    pub async fn publish_error(&self, error: &Error) -> Result<(), Error> {
        self.tell("RunFailed", true, &error.to_string()).await
    }

    async fn tell(&self, reason: &str, is_warning: bool, note: &str) -> Result<(), Error> {
        let note = untrusted::line(note);
        let event = self.cluster.tell(&self.schedule, reason, is_warning, &note);
        Ok(event.await?)
    }
}

/// Returns one line about a run: its exit, its steps, and why it failed.
fn summary(result: &RunResult) -> String {
    let mut parts = vec![format!(
        "run {}: {}; {}",
        result.run,
        meaning::meaning(result),
        meaning::proved_steps(result)
    )];
    let verification = result.verification.as_ref();
    parts.extend(verification.map(|verification| {
        let (raised, all) = verification.raised(false);
        format!("{raised} of {all} expected alerts raised")
    }));
    let problems = [&result.problem, &result.verification_problem];
    parts.extend(
        problems
            .into_iter()
            .flatten()
            .map(|problem| problem.message.clone()),
    );
    parts.join("; ")
}

/// Sends the metrics of a run to a Pushgateway.
///
/// # Errors
/// If it cannot be reached or refuses them.
pub(super) async fn push(gateway: &Uri, result: &RunResult) -> Result<(), Error> {
    let cluster = openmetrics::cluster_label(&result.cluster);
    pushgateway::push(gateway, cluster, openmetrics::render(result))
        .await
        .map_err(|explained| Error::Unpushed {
            gateway: gateway.to_string(),
            explained,
        })
}
