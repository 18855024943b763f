//! Reads the alerts that Defender raised and judges a run by them: reads them from a source, attributes them to the
//! run, matches them to the expected ones, and repeats this until the verdicts are final.
//!
//! Neither the engine nor the command line is known here: [`watch`] reports through a callback.

mod attribution;
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
use crate::defender::facts::{Fact, Facts, Premise};
use crate::error::Error;
pub use expected::rule_out;
pub use fired::FiredAlert;
pub use item::Item;
pub use options::Required;
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

/// Fails if the facts of the cluster rule out every alert of a run.
///
/// # Errors
/// If there is no sensor, or the plan is off, and no `--assume` overrides that.
pub fn require_sensor(
    facts: Option<&Facts>,
    options: &VerifyOptions,
    source: &AlertSource,
) -> Result<(), Error> {
    let facts = options.known(facts, &source.plan);
    for (premise, fact) in [("plan", &facts.plan), ("sensor", &facts.sensor)] {
        if let Fact::No(reason) = fact {
            let reason = reason.clone();
            return Err(Error::NoAlertPossible { premise, reason });
        }
    }
    Ok(())
}
