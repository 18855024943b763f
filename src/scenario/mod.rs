//! Defines attacks as data.
//!
//! A scenario has steps, the proof that each step must provide, and the alerts that Defender is expected to raise. The
//! built-in ones are YAML files beside this module ([`catalogue`]); users write theirs in the same schema. [`payload`]
//! turns a step into the text that runs in the victim, and [`proof`] parses the reports. Nothing here uses a
//! cluster, a clock or a terminal.

pub mod catalogue;
mod check;
mod file;
pub mod payload;
pub mod proof;
pub mod request;

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use check::conflicts;
pub use request::Request;

/// Schema version in the `apiVersion` of scenario files.
pub const API_VERSION: &str = "defender-sim/v1";
/// Host name under which the victim reaches the attacker.
pub const ATTACKER: &str = "mdc-simulation-attacker";

/// One attack: an ordered list of steps that run in the victim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scenario {
    /// Schema version of this file: `defender-sim/v1`.
    pub api_version: String,
    /// Short name in lower-case kebab form; the subcommand of a built-in scenario.
    pub id: String,
    /// One line for lists.
    pub title: String,
    /// What an attacker would do it for, and what really happens here.
    pub description: String,
    /// The steps. Those in the victim run one after the other, each through a web-shell request of its own.
    pub steps: Vec<Step>,
    /// The alerts to expect, by id in the alert catalogue.
    pub alerts: Vec<ExpectedAlert>,
    /// MITRE ATT&CK tactics that it serves, such as `TA0007`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tactics: Vec<AttackId>,
    /// What has to be there for it to work.
    #[serde(default, skip_serializing_if = "Needs::is_empty")]
    pub needs: Needs,
    /// Variables set for what runs in the victim, such as decoys to be found. Not for real secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Text for bash in the attacker, run once before the first step; for example a server to fetch from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attacker: Option<String>,
    /// What it leaves in the victim's file system, which goes with the pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaves: Vec<String>,
    /// Why a run of it needs `--allow ID` and consent of its own: what it does outside the namespace of the run, or whom
    /// it may alarm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent: Option<String>,
}

/// What a scenario needs to be there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Needs {
    /// Programs in the victim's image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<String>,
    /// Addresses that the victim contacts, each with its port: `example.com:443`, or `kubernetes.default/24, port 443`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<String>,
}

impl Needs {
    fn is_empty(&self) -> bool {
        self.tools.is_empty() && self.egress.is_empty()
    }
}

/// Splits an entry of [`Needs::egress`] into host and port. Returns `None` if one of them is missing or invalid.
///
/// ```
/// use defender_sim::scenario::address;
/// assert_eq!(address("example.com:443"), Some(("example.com", 443)));
/// assert_eq!(address("10.0.0.0/24, port 443"), Some(("10.0.0.0/24", 443)));
/// assert_eq!(address("10.0.0.1"), None);
/// ```
pub fn address(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(", port ").or_else(|| text.rsplit_once(':'))?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (name, bits) = host.split_once('/').unwrap_or((host, "0"));
    let is_ipv6 = name.starts_with('[') && name.ends_with(']');
    let is_name = !name.is_empty() && !name.contains(char::is_whitespace) && (is_ipv6 || !name.contains(':'));
    let port: u16 = Some(port).filter(|port| is_number(port))?.parse().ok()?;
    (is_name && is_number(bits) && port > 0).then_some((host, port))
}

/// One action and its proof. It has exactly one of `script`, `command`, `visit` and `request`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Step {
    /// Short name in lower-case kebab form, unique within the scenario.
    pub id: String,
    /// One line that completes "the step that ...".
    pub title: String,
    /// Text for bash in the victim. Its standard output never leaves the pod; the last line that it writes to standard
    /// error is reported as evidence, so it must contain no secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// A command for the web shell itself, judged by its output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Command>,
    /// `true` if the step only requests a page, for which the victim runs no program.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub visit: bool,
    /// A call to the Kubernetes API by the user who runs the tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Request>,
    /// What the proof of the step shows: exit status 0 of a script, the expected output of a command, the API server's
    /// answer to a request.
    pub proof: String,
    /// Exit statuses that mean something stopped the step, and what.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub blocked: BTreeMap<u8, String>,
    /// Exit statuses that mean the step does not apply here, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub skipped: BTreeMap<u8, String>,
    /// MITRE ATT&CK techniques that it uses, such as `T1046`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub techniques: Vec<AttackId>,
    /// Techniques of Microsoft's threat matrix for Kubernetes that it uses, such as `MS-TA9029`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub threat_matrix: Vec<String>,
}

/// A command that the web shell runs as it is, without bash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Command {
    /// The command.
    pub run: String,
    /// Perl-compatible regular expression that the last line of the output must match. That line is reported as
    /// evidence, so it must contain no secret.
    pub expect: String,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action<'a> {
    /// bash in the victim runs this text.
    Script(&'a str),
    /// The web shell in the victim runs this command.
    Command(&'a Command),
    /// The attacker requests a page of the victim.
    Visit,
    /// The user calls the Kubernetes API.
    Request(&'a Request),
}

/// An alert that a scenario ought to raise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExpectedAlert {
    /// Id in the alert catalogue.
    pub id: String,
    /// IDs of the steps that raise it, each on its own; empty for every step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<String>,
    /// True where the alert may come but its absence says nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// A tactic or technique of MITRE ATT&CK: one id, or two where versions 18 and 19 name it differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected an id, or {v18: ID, v19: ID}")]
pub enum AttackId {
    /// The same in both.
    Same(String),
    /// Not the same.
    Differs {
        /// As of ATT&CK v18.
        v18: String,
        /// As of ATT&CK v19.
        v19: String,
    },
}

impl AttackId {
    /// Returns the ID as of ATT&CK v19.
    pub fn v19(&self) -> &str {
        match self {
            AttackId::Same(id) | AttackId::Differs { v19: id, .. } => id,
        }
    }
}

impl fmt::Display for AttackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttackId::Same(id) => f.write_str(id),
            AttackId::Differs { v18, v19 } => write!(f, "{v19} (v18: {v18})"),
        }
    }
}

/// What is known about a step after the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// The victim itself reported, with a proof for this step, that the step did what it must.
    Proved,
    /// It ran and did not do what it must, or no proof of it came back.
    Failed,
    /// Something stopped it: a policy, the network, a kill.
    Blocked,
    /// It does not apply here, or did not start.
    Skipped,
}

impl Outcome {
    /// Returns the word shown to users, which is the same in machine-readable output.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Proved => "proved",
            Outcome::Failed => "failed",
            Outcome::Blocked => "blocked",
            Outcome::Skipped => "skipped",
        }
    }
}

/// Exit statuses that the shell itself returns, regardless of the script (POSIX, 2.8.2).
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;
const SIGNALLED: u8 = 128;

impl Step {
    /// Returns what the step does. A step without an action, which no check lets through, is an empty script.
    pub fn action(&self) -> Action<'_> {
        match (&self.command, &self.request, self.visit) {
            (Some(command), ..) => Action::Command(command),
            (_, Some(request), _) => Action::Request(request),
            (.., true) => Action::Visit,
            _ => Action::Script(self.script.as_deref().unwrap_or_default()),
        }
    }

    /// Returns what runs in the victim as text for readers: the script or the command.
    pub fn text(&self) -> &str {
        match self.action() {
            Action::Script(script) => script,
            Action::Command(command) => &command.run,
            Action::Visit | Action::Request(_) => "",
        }
    }

    /// Returns `true` if the step needs the pods of a run.
    pub fn runs_in_victim(&self) -> bool {
        self.request.is_none()
    }

    /// Returns the outcome for a reported exit status, with a reason if the step is not proved.
    pub fn judge(&self, status: u8) -> (Outcome, Option<String>) {
        if let Some(why) = self.blocked.get(&status) {
            return (Outcome::Blocked, Some(why.clone()));
        }
        if let Some(why) = self.skipped.get(&status) {
            return (Outcome::Skipped, Some(why.clone()));
        }
        match status {
            0 => (Outcome::Proved, None),
            NOT_FOUND => (
                Outcome::Failed,
                Some("a program it needs is not in the victim's image".into()),
            ),
            NOT_EXECUTABLE => (
                Outcome::Blocked,
                Some("the victim may not execute a program it needs".into()),
            ),
            s if s > SIGNALLED => (
                Outcome::Blocked,
                Some(format!("killed by signal {}", s - SIGNALLED)),
            ),
            s => (Outcome::Failed, Some(format!("exit status {s}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step() -> Step {
        Step {
            id: "s".into(),
            title: "t".into(),
            script: Some("true".into()),
            proof: "p".into(),
            blocked: [
                (28, "timed out".to_owned()),
                (127, "no such tool here".to_owned()),
            ]
            .into(),
            skipped: [(10, "no such service".to_owned())].into(),
            ..Step::default()
        }
    }

    #[test]
    fn address_is_a_host_with_a_port() {
        for (text, expected) in [
            (
                "mdc-simulation-attacker:80",
                Some(("mdc-simulation-attacker", 80)),
            ),
            (
                "kubernetes.default/24, port 443",
                Some(("kubernetes.default/24", 443)),
            ),
            ("10.0.0.0/8:65535", Some(("10.0.0.0/8", 65535))),
            ("[fd00::1]:53", Some(("[fd00::1]", 53))),
            ("10.0.0.1", None),
            ("10.0.0.0/24", None),
            ("example.com", None),
            ("example.com:", None),
            ("example.com:https", None),
            ("example.com:0", None),
            ("example.com:65536", None),
            ("example.com:+80", None),
            ("example.com/24, port", None),
            (":443", None),
            (", port 443", None),
            ("fd00::1:53", None),
            ("https://example.com:443", None),
            ("https://example.com/v1", None),
            ("example.com/v1:443", None),
            ("the pods of everyone:443", None),
            ("", None),
        ] {
            assert_eq!(address(text), expected, "{text:?}");
        }
    }

    #[test]
    fn only_status_zero_is_proof() {
        for status in 0..=255u8 {
            assert_eq!(step().judge(status).0 == Outcome::Proved, status == 0, "{status}");
        }
    }

    #[test]
    fn the_steps_own_table_wins_over_the_shells() {
        assert_eq!(
            step().judge(127),
            (Outcome::Blocked, Some("no such tool here".into()))
        );
        assert_eq!(step().judge(28), (Outcome::Blocked, Some("timed out".into())));
        assert_eq!(
            step().judge(10),
            (Outcome::Skipped, Some("no such service".into()))
        );
        assert_eq!(
            step().judge(137),
            (Outcome::Blocked, Some("killed by signal 9".into()))
        );
        assert_eq!(step().judge(1), (Outcome::Failed, Some("exit status 1".into())));
    }
}
