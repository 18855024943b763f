//! What a run publishes besides its reports: events and the state of the `CronJob` that started it, and metrics.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE;
use http::{Request, Uri};

use crate::cli::CronJobName;
use crate::cluster::{Cluster, Schedule};
use crate::error::Error;
use crate::event::{Event, Events};
use crate::exit::Exit;
use crate::net::http::{Bytes, Transport};
use crate::net::{Cause, Environment, Explanation};
use crate::report::{meaning, openmetrics};
use crate::result::{Detections, RunResult};
use crate::scenario::Outcome;
use crate::untrusted;

/// Timeout of a Pushgateway.
const TIMEOUT: Duration = Duration::from_secs(30);

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

    /// Creates an event for the run and for each regression, and keeps what was detected.
    ///
    /// # Errors
    /// If an event cannot be created, or the `ConfigMap` cannot be updated.
    pub async fn publish(&self, result: &RunResult) -> Result<(), Error> {
        let (reason, is_failure) = match result.exit {
            Exit::Ok => ("RunSucceeded", false),
            _ => ("RunFailed", true),
        };
        self.tell(reason, is_failure, &summary(result)).await?;
        let Some(verification) = &result.verification else {
            return Ok(());
        };
        for regression in &verification.regressions {
            self.tell(
                "DetectionRegressed",
                true,
                &untrusted::line(&regression.to_string()),
            )
            .await?;
        }
        let mut detections = self.earlier.clone();
        detections.add(result);
        let keep = self.cluster.keep_state(&self.schedule, detections.to_json());
        Ok(keep.await?)
    }

    /// Creates an event for a run that failed without a result.
    ///
    /// # Errors
    /// If the event cannot be created.
    pub async fn publish_error(&self, error: &Error) -> Result<(), Error> {
        self.tell("RunFailed", true, &untrusted::line(&error.to_string()))
            .await
    }

    async fn tell(&self, reason: &str, is_warning: bool, note: &str) -> Result<(), Error> {
        let event = self.cluster.tell(&self.schedule, reason, is_warning, note);
        Ok(event.await?)
    }
}

/// Returns one line about a run: its exit, its steps, and why it failed.
fn summary(result: &RunResult) -> String {
    let proved = result
        .steps()
        .filter(|step| step.outcome == Outcome::Proved)
        .count();
    let mut parts = vec![format!(
        "run {}: {}; {proved} of {} steps proved",
        result.run,
        meaning::meaning(result),
        result.steps().count()
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
    untrusted::line(&parts.join("; "))
}

/// Replaces the metrics of the cluster at a Pushgateway.
///
/// # Errors
/// If it cannot be reached or refuses them.
pub(super) async fn push(gateway: &Uri, result: &RunResult) -> Result<(), Error> {
    let unpushed = |explained: Explanation| Error::Unpushed {
        gateway: gateway.to_string(),
        explained,
    };
    let cluster = BASE64_URL_SAFE.encode(openmetrics::cluster_label(&result.cluster));
    let base = gateway.to_string();
    let path = format!(
        "{}/metrics/job/defender-sim/cluster@base64/{cluster}",
        base.trim_end_matches('/')
    );
    let request = Request::put(path)
        .header("Content-Type", "text/plain; version=0.0.4")
        .body(Bytes::from(openmetrics::render(result)))
        .map_err(|error| unpushed(Explanation::new(Cause::Setting, error.to_string())))?;
    let transport = Transport::new(None, Environment::from_process()).map_err(unpushed)?;
    let answer = transport.send(request, TIMEOUT).await.map_err(unpushed)?;
    if answer.status.is_success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&answer.body);
    let message = format!("it answered {}: {}", answer.status, untrusted::line(text.trim()));
    Err(unpushed(Explanation::new(Cause::Other, message)))
}
