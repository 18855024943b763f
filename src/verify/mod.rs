//! Reads the alerts that Defender raised and judges a run by them: reads them from a source, attributes them to the
//! run, matches them to the expected ones, and repeats this until the verdicts are final.
//!
//! Neither the engine nor the command line is known here: [`watch`] reports through a callback.

mod attribution;
mod coverage;
mod expected;
mod fired;
#[cfg(test)]
mod fixture;
mod item;
mod matching;
mod options;
mod source;
mod time;
mod verdict;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use crate::azure::AzureOptions;
use crate::defender::alerts;
use crate::defender::facts::{Fact, Facts, Premise};
use crate::error::Error;
use crate::scenario::Scenario;
pub use expected::rule_out;
pub use fired::FiredAlert;
pub use item::Item;
pub use options::{Overrides, Required};
pub use source::AlertSource;
pub use watch::{DEFAULT_WAIT, Progress, WatchOutcome, watch};

/// Options of a verification.
#[derive(Clone, Debug, Default)]
pub struct VerifyOptions {
    /// Time after a run in which alerts may still be raised; a file is read again only if this is given.
    pub wait: Option<Duration>,
    /// Time between two reads.
    pub interval: Duration,
    /// How many of the expected alerts have to be raised.
    pub required: Required,
    /// Time after which a raised alert fails as late.
    pub max_time_to_detect: Option<Duration>,
    /// Facts that the user asserts.
    pub assumptions: Vec<(Premise, bool)>,
    /// File with further names of alerts.
    pub alert_names: Option<PathBuf>,
    /// File with saved alerts, read instead of Azure.
    pub alerts: Option<PathBuf>,
    /// Whether alerts are read from Azure Resource Graph instead of the alerts API.
    pub use_graph: bool,
    /// The cluster in Azure, and the login.
    pub azure: AzureOptions,
}

impl VerifyOptions {
    /// Adds to the facts of the cluster what Azure knows now, and what the user asserts, which takes precedence.
    fn known(&self, facts: Option<&Facts>, plan: &Fact) -> Facts {
        let mut facts = facts.cloned().unwrap_or_default();
        facts.plan = plan.clone();
        for &(premise, is_met) in &self.assumptions {
            facts.assume(premise, is_met);
        }
        facts
    }
}

/// Fails if the facts of the cluster rule out every alert of a run of `scenarios`.
///
/// # Errors
/// If there is no sensor although an alert needs one, or the plan is off, and no `--assume` overrides that.
pub fn require_sensor(
    scenarios: &[Scenario],
    facts: Option<&Facts>,
    options: &VerifyOptions,
    source: &AlertSource,
) -> Result<(), Error> {
    let facts = options.known(facts, &source.plan);
    let Some((name, reason)) = absent_premise(scenarios, &facts) else {
        return Ok(());
    };
    Err(Error::NoAlertPossible {
        premise: name,
        reason: reason.to_owned(),
    })
}

/// Returns the plan or the sensor if it is absent and the alerts need it, and the reason.
fn absent_premise<'f>(scenarios: &[Scenario], facts: &'f Facts) -> Option<(&'static str, &'f str)> {
    let mut alerts = scenarios
        .iter()
        .flat_map(|scenario| &scenario.alerts)
        .filter_map(|alert| alerts::find(&alert.id))
        .peekable();
    // Without a sensor, a baseline raises no alert either way.
    let needs_sensor = alerts.peek().is_none() || alerts.any(|alert| alert.needs_sensor(facts.cloud));
    let sensor = Some(("sensor", &facts.sensor)).filter(|_| needs_sensor);
    let mut needed = [Some(("plan", &facts.plan)), sensor].into_iter().flatten();
    needed.find_map(|(name, fact)| match fact {
        Fact::No(reason) => Some((name, reason.as_str())),
        Fact::Yes | Fact::Unknown(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::catalogue;

    #[test]
    fn sensor_is_required_unless_no_alert_needs_it() {
        let scenario = |id: &str| catalogue::find(id).unwrap().clone();
        let mut audited = scenario("recon");
        audited
            .alerts
            .retain(|alert| alert.id == "service-account-operation");
        let blind = Facts {
            sensor: Fact::No("there is no sensor".into()),
            ..Facts::default()
        };
        let absent = Some(("sensor", "there is no sensor"));
        for (scenarios, expected) in [
            (&[scenario("recon")][..], absent),
            (&[scenario("baseline")], absent),
            (std::slice::from_ref(&audited), None),
            (&[audited.clone(), scenario("secrets")], absent),
        ] {
            assert_eq!(absent_premise(scenarios, &blind), expected);
        }
        let off = Facts {
            plan: Fact::No("the plan is off".into()),
            ..Facts::default()
        };
        assert_eq!(
            absent_premise(&[audited], &off),
            Some(("plan", "the plan is off"))
        );
    }
}
