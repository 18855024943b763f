//! What a run is going to do, decided before anything happens.
//!
//! A [`Plan`] is made once, from arguments and chance, and never changes: manifests are rendered from it,
//! the engine acts on it, the report refers to it.

use std::fmt::{self, Write as _};
use std::time::Duration;

use jiff::Timestamp;

use crate::scenario::{Scenario, Step};
use crate::secret::Secret;

/// Namespace used unless one is given: the one Microsoft's tool uses.
pub const DEFAULT_NAMESPACE: &str = "mdc-simulation";
/// Where the default images are.
pub const DEFAULT_REGISTRY: &str = "ghcr.io/microsoft/defender-for-cloud/attacksimulation";

/// Names one run: eight lower-case letters and digits, on every object of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunId(String);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The namespace a run works in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Whether the user named it. Only then may it be one that this tool did not make.
    pub given: bool,
}

/// What comes from the command line.
#[derive(Clone, Debug)]
pub struct Options {
    /// Namespace given by the user.
    pub namespace: Option<String>,
    /// Image of the attacker pod.
    pub attacker_image: String,
    /// Image of the victim pod.
    pub victim_image: String,
    /// After this time the cluster ends the run by itself.
    pub deadline: Duration,
    /// How long pods may take to become ready.
    pub timeout: Duration,
}

/// A run, decided.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Names the run.
    pub run: RunId,
    /// Proves that a report is from this run's victim.
    pub nonce: String,
    /// Opens the web shell. Only the attacker has it.
    pub key: Secret,
    /// When the plan was made.
    pub created: Timestamp,
    /// Where it runs.
    pub namespace: Namespace,
    /// What runs, in order.
    pub scenarios: Vec<Scenario>,
    /// See [`Options`].
    pub attacker_image: String,
    /// See [`Options`].
    pub victim_image: String,
    /// See [`Options`].
    pub deadline: Duration,
    /// See [`Options`].
    pub timeout: Duration,
}

impl Plan {
    /// Decides a run of `scenarios`. `random` is fresh randomness and `now` the time; both are arguments so
    /// that a plan can be made again in a test.
    pub fn new(options: Options, scenarios: Vec<Scenario>, random: [u8; 64], now: Timestamp) -> Self {
        const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let run = random[..8]
            .iter()
            .map(|b| char::from(ALPHABET[usize::from(b % 32)]))
            .collect();
        let namespace = Namespace {
            given: options.namespace.is_some(),
            name: options.namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
        };
        Self {
            run: RunId(run),
            nonce: hex(&random[8..24]),
            key: Secret::new(hex(&random[24..56])),
            created: now,
            namespace,
            scenarios,
            attacker_image: options.attacker_image,
            victim_image: options.victim_image,
            deadline: options.deadline,
            timeout: options.timeout,
        }
    }

    /// Every step in the order of the run, with its full id `<scenario>.<step>`.
    pub fn steps(&self) -> impl Iterator<Item = (String, &Step)> {
        self.scenarios.iter().flat_map(|scenario| {
            scenario
                .steps
                .iter()
                .map(move |step| (format!("{}.{}", scenario.id, step.id), step))
        })
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::scenario::catalogue;

    pub(crate) fn plan(namespace: Option<&str>) -> Plan {
        let options = Options {
            namespace: namespace.map(str::to_owned),
            attacker_image: format!("{DEFAULT_REGISTRY}/attacker:latest"),
            victim_image: format!("{DEFAULT_REGISTRY}/victim:latest"),
            deadline: Duration::from_secs(600),
            timeout: Duration::from_secs(300),
        };
        let mut random = [0; 64];
        random.iter_mut().zip(0..).for_each(|(byte, i)| *byte = i);
        Plan::new(
            options,
            vec![catalogue::find("recon").unwrap().clone()],
            random,
            Timestamp::UNIX_EPOCH,
        )
    }

    #[test]
    fn the_key_never_shows() {
        let plan = plan(None);
        assert!(!format!("{plan:?}").contains(plan.key.reveal()));
    }

    #[test]
    fn the_run_id_is_a_label_value_and_a_name_part() {
        let id = plan(None).run.to_string();
        assert_eq!(id.len(), 8);
        assert!(
            id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()),
            "{id}"
        );
    }

    #[test]
    fn a_namespace_is_given_only_when_named() {
        assert!(!plan(None).namespace.given);
        assert!(plan(Some("mdc-simulation")).namespace.given);
    }
}
