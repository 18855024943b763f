//! Requests to a fake of Azure, including its failures.

mod clusters;
mod login;
mod posture;
mod requests;
mod saved;
mod volume;

use defender_sim::azure::{Arm, AzureError, Scope, Source};
use jiff::Timestamp;

use crate::arm::{FakeArm, FakeCli, Fault, GROUP, SUBSCRIPTION, alert};

/// A token in the usual format, which no message may contain.
const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJwbGFudGVkIjoxfQ.planted";

/// Starts a fake of Azure and returns it with a logged-in CLI and a connection.
async fn ready() -> (FakeArm, FakeCli, Arm) {
    let azure = FakeArm::start().await;
    let cli = FakeCli::new("az", TOKEN);
    azure.accept(TOKEN);
    let arm = Arm::new(azure.options(&cli.environment())).unwrap();
    (azure, cli, arm)
}

fn scope() -> Scope {
    Scope::new(SUBSCRIPTION, None).unwrap()
}

fn since() -> Timestamp {
    "2026-11-20T09:55:00Z".parse().unwrap()
}

/// Returns the names of the alerts of a source.
async fn names(source: &Source) -> Result<Vec<String>, AzureError> {
    let mut names = vec![];
    source
        .alerts(since(), |alert| {
            names.push(alert.id.rsplit('/').next().unwrap().to_owned());
        })
        .await?;
    Ok(names)
}

fn expected(count: usize) -> Vec<String> {
    let all = (0..count).map(|number| alert(number)["name"].as_str().unwrap().to_owned());
    all.collect()
}

async fn refused(arm: &Arm) -> AzureError {
    names(&Source::Alerts(arm.clone(), scope())).await.unwrap_err()
}

fn throttled(headers: &[(&'static str, &str)]) -> Fault {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned()));
    Fault::Status(429, headers.collect())
}

fn id_of(name: &str) -> String {
    format!(
        "/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.ContainerService/managedClusters/{name}"
    )
}
