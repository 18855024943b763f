//! Describes a run, decided before anything happens.
//!
//! A [`Plan`] is created once, from arguments and randomness, and never changes: manifests are rendered from it, the
//! engine executes it, and the report refers to it.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use ring::hmac;
use secrecy::{ExposeSecret, SecretString};

use crate::scenario::{Request, Scenario, Step};

/// Default namespace, which Microsoft's tool uses too.
pub const DEFAULT_NAMESPACE: &str = "mdc-simulation";
/// Default namespace of a run without pods, which exists in every cluster.
pub const REQUEST_NAMESPACE: &str = "default";
/// Name of the pod that is attacked, and of its service.
pub const VICTIM: &str = "mdc-simulation-victim";
/// Registry and path of the default images.
pub const DEFAULT_REGISTRY: &str = "ghcr.io/microsoft/defender-for-cloud/attacksimulation";

/// The ID of a run: eight lower-case letters and digits. Every object of the run has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunId(String);

impl RunId {
    /// Number of characters of an id.
    const LENGTH: usize = 8;
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

    /// Returns `true` if `text` has the form of a run ID.
    ///
    /// ```
    /// use defender_sim::plan::RunId;
    /// assert!(RunId::matches("q33wg4p3"));
    /// assert!(!RunId::matches("Q33WG4P3") && !RunId::matches("q33wg4p") && !RunId::matches("q33wg4p1"));
    /// ```
    pub fn matches(text: &str) -> bool {
        text.len() == Self::LENGTH && text.bytes().all(|byte| Self::ALPHABET.contains(&byte))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The namespace of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Name of the namespace.
    pub name: String,
    /// Whether the user named it. Only then may it be a namespace that this tool did not create.
    pub given: bool,
}

/// Settings from the command line, the environment and the config file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Image of the attacker pod.
    pub attacker_image: String,
    /// Image of the victim pod.
    pub victim_image: String,
    /// Time after which the cluster ends the run by itself.
    pub deadline: Duration,
    /// Timeout for the pods to become ready.
    pub timeout: Duration,
    /// Whether to keep the pods for inspection until the deadline.
    pub keep: bool,
    /// Settings that adapt the pods to the cluster.
    pub fit: Fit,
}

/// Settings that adapt the objects of a run to the rules of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fit {
    /// `Always`, `IfNotPresent` or `Never`; `None` for the cluster's default.
    pub image_pull_policy: Option<String>,
    /// Names of the secrets in the namespace with which images are pulled.
    pub image_pull_secrets: Vec<String>,
    /// Labels that a node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pods tolerate.
    pub tolerations: Vec<Toleration>,
    /// Additional labels of every object.
    pub labels: BTreeMap<String, String>,
    /// Additional annotations of every object.
    pub annotations: BTreeMap<String, String>,
    /// Annotations of the pods' service account.
    pub service_account_annotations: BTreeMap<String, String>,
}

/// A toleration of a taint, in the form of `kubectl taint`: `KEY[=VALUE][:EFFECT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toleration {
    /// Key of the taint.
    pub key: String,
    /// Value of the taint; `None` matches every value.
    pub value: Option<String>,
    /// Effect of the taint; `None` matches every effect.
    pub effect: Option<String>,
}

impl FromStr for Toleration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (taint, effect) = match text.split_once(':') {
            Some((taint, effect)) => (taint, Some(effect)),
            None => (text, None),
        };
        if effect.is_some_and(|effect| !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect)) {
            return Err("expected the effect NoSchedule, PreferNoSchedule or NoExecute".to_owned());
        }
        let (key, value) = match taint.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (taint, None),
        };
        if key.is_empty() {
            return Err("expected KEY[=VALUE][:EFFECT]".to_owned());
        }
        Ok(Self {
            key: key.to_owned(),
            value: value.map(str::to_owned),
            effect: effect.map(str::to_owned),
        })
    }
}

/// A pod that is attacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Victim {
    /// Name of the pod and of its service.
    pub pod: String,
}

/// The plan of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// ID of the run.
    pub run: RunId,
    /// Seed of the secrets that prove reports. It never leaves this process.
    pub seed: SecretString,
    /// Key of the web shell. Only the attacker has it.
    pub key: SecretString,
    /// Time at which the plan was created.
    pub created: Timestamp,
    /// Namespace of the run.
    pub namespace: Namespace,
    /// Scenarios, in the order in which they run.
    pub scenarios: Vec<Scenario>,
    /// The pods that are attacked; empty if all steps are requests to the Kubernetes API. Such a run creates neither a
    /// namespace nor pods.
    pub victims: Vec<Victim>,
    /// Settings of the run.
    pub options: Options,
}

impl Plan {
    /// Creates the plan of a run of `scenarios`, in `namespace` or in the default one. `random` is fresh randomness and
    /// `now` is the time; both are arguments so that a test can create the same plan again.
    pub fn new(
        options: Options,
        namespace: Option<String>,
        scenarios: Vec<Scenario>,
        random: [u8; 64],
        now: Timestamp,
    ) -> Self {
        let run = random[..RunId::LENGTH]
            .iter()
            .map(|b| char::from(RunId::ALPHABET[usize::from(b % 32)]))
            .collect();
        let has_victim = scenarios
            .iter()
            .flat_map(|scenario| &scenario.steps)
            .any(Step::runs_in_victim);
        let victims = has_victim.then(|| Victim {
            pod: VICTIM.to_owned(),
        });
        let default = if has_victim {
            DEFAULT_NAMESPACE
        } else {
            REQUEST_NAMESPACE
        };
        let namespace = Namespace {
            given: namespace.is_some(),
            name: namespace.unwrap_or_else(|| default.to_owned()),
        };
        Self {
            run: RunId(run),
            seed: SecretString::from(hex(&random[8..24])),
            key: SecretString::from(hex(&random[24..56])),
            created: now,
            namespace,
            scenarios,
            victims: Vec::from_iter(victims),
            options,
        }
    }

    /// Returns the key of the proofs, which only the victim has.
    pub fn victim_secret(&self) -> SecretString {
        SecretString::from(hmac_sha256(&self.seed, "victim"))
    }

    /// Returns the token of a step. Only the attacker has it, and sends it with the request for that step.
    pub fn token(&self, step: &str) -> SecretString {
        SecretString::from(hmac_sha256(&self.seed, &format!("step {step}")))
    }

    /// Returns the proof of the victim's report on a step. It takes both the victim's secret and the step's token, and
    /// covers the report itself.
    pub fn proof(&self, step: &str, report: &str) -> String {
        let text = format!("{step} {} {report}", self.token(step).expose_secret());
        let mut proof = hmac_sha256(&self.victim_secret(), &text);
        proof.truncate(32);
        proof
    }

    /// Returns every address that the victim contacts, without duplicates.
    pub fn addresses(&self) -> Vec<String> {
        let mut addresses = vec![];
        for address in self.scenarios.iter().flat_map(|scenario| &scenario.needs.egress) {
            if !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        addresses
    }

    /// Returns when the cluster ends the run by itself, counted from the creation of the plan.
    pub fn ends(&self) -> Timestamp {
        self.created
            + jiff::SignedDuration::try_from(self.options.deadline).unwrap_or(jiff::SignedDuration::MAX)
    }

    /// Returns the steps that run in a victim, in order, with their full IDs.
    pub fn victim_steps(&self) -> impl Iterator<Item = (String, &Step)> {
        self.steps().filter(|(_, step)| step.runs_in_victim())
    }

    /// Returns the steps that call the Kubernetes API, with their full IDs.
    pub fn requests(&self) -> impl Iterator<Item = (String, &Step, &Request)> {
        self.steps()
            .filter_map(|(id, step)| Some((id, step, step.request.as_ref()?)))
    }

    /// Returns random text of 32 hexadecimal digits that differs for each step and `purpose`.
    pub fn nonce(&self, step: &str, purpose: &str) -> String {
        let mut nonce = hmac_sha256(&self.seed, &format!("nonce {purpose} {step}"));
        nonce.truncate(32);
        nonce
    }

    /// Returns every step in the order of the run, with its full ID `<scenario>.<step>`.
    pub fn steps(&self) -> impl Iterator<Item = (String, &Step)> {
        self.scenarios.iter().flat_map(|scenario| {
            scenario
                .steps
                .iter()
                .map(move |step| (format!("{}.{}", scenario.id, step.id), step))
        })
    }
}

fn hmac_sha256(key: &SecretString, text: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose_secret().as_bytes());
    hex(hmac::sign(&key, text.as_bytes()).as_ref())
}

/// Formats bytes as lower-case hexadecimal.
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
            attacker_image: format!("{DEFAULT_REGISTRY}/attacker:latest"),
            victim_image: format!("{DEFAULT_REGISTRY}/victim:latest"),
            deadline: Duration::from_secs(600),
            timeout: Duration::from_secs(300),
            keep: false,
            fit: Fit::default(),
        };
        let mut random = [0; 64];
        random.iter_mut().zip(0..).for_each(|(byte, i)| *byte = i);
        Plan::new(
            options,
            namespace.map(str::to_owned),
            vec![catalogue::find("recon").unwrap().clone()],
            random,
            Timestamp::UNIX_EPOCH,
        )
    }

    #[test]
    fn the_key_never_shows() {
        let plan = plan(None);
        for secret in [&plan.key, &plan.seed] {
            assert!(!format!("{plan:?}").contains(secret.expose_secret()));
        }
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

    /// Values of `printf %s TEXT | openssl dgst -sha256 -hmac KEY`.
    #[test]
    fn proof_is_an_hmac_of_step_token_and_report() {
        let plan = plan(None);
        assert_eq!(plan.seed.expose_secret(), "08090a0b0c0d0e0f1011121314151617");
        assert_eq!(
            plan.victim_secret().expose_secret(),
            "91d21cf8396a6fe7f1027f9d37fae0772e0585ee9f9f39267e755f369adcc370"
        );
        assert_eq!(
            plan.token("a.b").expose_secret(),
            "148e4c61707ed4b6a36fc5eacd6f58b5f9f3d18b427a5b8d050f0a8784fbbe22"
        );
        assert_eq!(plan.proof("a.b", "0 12 x"), "d0248dae03afc0c710beab1f9fa1b3ee");
    }

    #[test]
    fn a_namespace_is_given_only_when_named() {
        assert!(!plan(None).namespace.given);
        assert!(plan(Some("mdc-simulation")).namespace.given);
    }

    #[test]
    fn tolerations_are_written_as_taints() {
        let toleration = |key: &str, value: Option<&str>, effect: Option<&str>| Toleration {
            key: key.to_owned(),
            value: value.map(str::to_owned),
            effect: effect.map(str::to_owned),
        };
        assert_eq!(
            "a/b=c:NoSchedule".parse(),
            Ok(toleration("a/b", Some("c"), Some("NoSchedule")))
        );
        assert_eq!(
            "a:NoExecute".parse(),
            Ok(toleration("a", None, Some("NoExecute")))
        );
        assert_eq!("a".parse(), Ok(toleration("a", None, None)));
        for wrong in ["", "=b", ":NoSchedule", "a:Never"] {
            assert!(wrong.parse::<Toleration>().is_err(), "{wrong}");
        }
    }
}
