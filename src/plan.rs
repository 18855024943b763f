//! Describes a run, decided before anything happens.
//!
//! A [`Plan`] is created once, from arguments and randomness, and never changes: manifests are rendered from it, the
//! engine executes it, and the report refers to it.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use ring::hmac;
use secrecy::{ExposeSecret, SecretString};

use crate::scenario::{self, Request, Scenario, Step};

/// Default namespace, which Microsoft's tool uses too.
pub const DEFAULT_NAMESPACE: &str = "mdc-simulation";
/// Default namespace of a run without pods, which exists in every cluster.
pub const REQUEST_NAMESPACE: &str = "default";
/// Name of the pod that is attacked, and of the service of all such pods. If there are several, they are numbered.
pub const VICTIM: &str = "mdc-simulation-victim";
/// Name of the attacker's pod, and of the service of all such pods. If there are several, all but the first are numbered.
pub const ATTACKER: &str = scenario::ATTACKER;
/// Number of victims that one attacker attacks at most: its log has to stay below the 10 MiB at which a node rotates it.
pub const VICTIMS_OF_ATTACKER: usize = 100;
/// Default number of victims that are attacked at the same time.
pub const DEFAULT_PARALLEL: NonZeroUsize = NonZeroUsize::new(32).unwrap();
/// Labels of nodes with the name of their pool: AKS, EKS, GKE, Karpenter.
pub const POOL_LABELS: [&str; 4] = [
    "kubernetes.azure.com/agentpool",
    "eks.amazonaws.com/nodegroup",
    "cloud.google.com/gke-nodepool",
    "karpenter.sh/nodepool",
];
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
    /// The groups of nodes that each get a victim; `None` for one victim on any node.
    pub cover: Option<Cover>,
    /// Number of victims that are attacked at the same time.
    pub parallel: NonZeroUsize,
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

/// How nodes are grouped. Each group gets a victim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cover {
    /// By the label of their node pool: the first of [`POOL_LABELS`] that a node has.
    NodePool,
    /// Each node is a group.
    Node,
    /// By the value of this label.
    Label(String),
}

/// A group of nodes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// The node of this name.
    Node(String),
    /// The nodes with this label.
    Label {
        /// Key of the label.
        key: String,
        /// Value of the label.
        value: String,
    },
}

/// The name of the node, or the value of the label.
impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Group::Node(name) => name,
            Group::Label { value, .. } => value,
        })
    }
}

/// A group of nodes without a victim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uncovered {
    /// The group.
    pub group: String,
    /// Number of its nodes.
    pub nodes: usize,
    /// Why it has no victim, with advice.
    pub reason: String,
}

/// A pod that is attacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Victim {
    /// Name of the pod.
    pub pod: String,
    /// Host name of the pod.
    pub host: String,
    /// The nodes on which it may be.
    pub group: Option<Group>,
}

impl Victim {
    /// Returns the victim with this number, counted from 1, or the only one.
    fn new(number: Option<usize>, group: Option<Group>) -> Self {
        let suffix = number.map_or_else(String::new, |number| format!("-{number}"));
        Self {
            pod: format!("{VICTIM}{suffix}"),
            host: format!("victim{suffix}"),
            group,
        }
    }
}

/// A pod that attacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attacker<'a> {
    /// Name of the pod.
    pub pod: String,
    /// The victims that it attacks.
    pub victims: &'a [Victim],
}

/// Returns `true` if this is the name of a victim, or of an attacker, in any run.
pub fn is_pod_name(name: &str) -> bool {
    let is_number = |rest: &str| {
        let digits = rest.strip_prefix('-').unwrap_or_default();
        rest.is_empty() || (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let rest = name.strip_prefix(VICTIM).or_else(|| name.strip_prefix(ATTACKER));
    rest.is_some_and(is_number)
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
    /// The groups of nodes that no victim covers.
    pub uncovered: Vec<Uncovered>,
    /// The architecture of the nodes of all victims, if it matters: one program is fetched by all of them.
    pub arch: Option<String>,
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
        let victims = has_victim.then(|| Victim::new(None, None));
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
            uncovered: vec![],
            arch: None,
            options,
        }
    }

    /// Gives each group of nodes a victim. All of them are on nodes of the architecture `arch`.
    pub fn cover(&mut self, groups: Vec<Group>, arch: String, uncovered: Vec<Uncovered>) {
        let are_numbered = groups.len() > 1;
        let victims = groups.into_iter().zip(1..);
        self.victims = victims
            .map(|(group, number)| Victim::new(are_numbered.then_some(number), Some(group)))
            .collect();
        self.arch = Some(arch);
        self.uncovered = uncovered;
    }

    /// Returns the attackers, each with its victims.
    pub fn attackers(&self) -> impl Iterator<Item = Attacker<'_>> {
        self.victims
            .chunks(VICTIMS_OF_ATTACKER)
            .zip(1..)
            .map(|(victims, number)| Attacker {
                pod: match number {
                    1 => ATTACKER.to_owned(),
                    _ => format!("{ATTACKER}-{number}"),
                },
                victims,
            })
    }

    /// Returns the key of the proofs, which only the victims have.
    pub fn victim_secret(&self) -> SecretString {
        SecretString::from(hmac_sha256(&self.seed, "victim"))
    }

    /// Returns the token of a step. Only the attacker has it, and sends it with the request for that step.
    pub fn token(&self, step: &str) -> SecretString {
        SecretString::from(hmac_sha256(&self.seed, &format!("step {step}")))
    }

    /// Returns the token of the victim with this host name. Only the attacker has it, and sends it to that victim.
    pub fn victim_token(&self, host: &str) -> SecretString {
        SecretString::from(hmac_sha256(&self.seed, &format!("victim {host}")))
    }

    /// Returns the proof of a victim's report on a step. It takes the victims' secret, the victim's token and the step's
    /// token, and covers the report itself.
    pub fn proof(&self, host: &str, step: &str, report: &str) -> String {
        let (of_step, of_victim) = (self.token(step), self.victim_token(host));
        let text = format!(
            "{step} {} {} {report}",
            of_step.expose_secret(),
            of_victim.expose_secret()
        );
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
            cover: None,
            parallel: DEFAULT_PARALLEL,
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
    fn proof_is_an_hmac_of_step_tokens_and_report() {
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
        assert_eq!(
            plan.victim_token("victim").expose_secret(),
            "77b8f6ebb3486a7b9038624abea016da87425e5211d23261ad978fbf3841c118"
        );
        assert_eq!(
            plan.proof("victim", "a.b", "0 12 x"),
            "0043c87d324bd877fde44eb23b0b371f"
        );
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
