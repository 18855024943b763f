//! The results of commands: the contract of the JSON output.
//!
//! The module that makes a result completes it; reports print it. Within a schema version, fields are only added.
//! Records of version 1 are converted by [`upgrade`].

mod cleanup;
mod detection;
mod doctor;
mod fleet;
mod handover;
mod note;
mod plan;
mod problem;
mod trend;
mod v1;
mod verification;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::defender::alerts;
use crate::defender::facts::{Fact, Facts};
use crate::exit::Exit;
use crate::scenario::{ExpectedAlert, Outcome, Scenario};

pub use cleanup::{Cleanup, CleanupResult, SkippedRun};
pub use detection::{Detection, Detections, Regression};
pub use doctor::{CheckResult, CheckStatus, DoctorResult};
pub use fleet::{ClusterOutcome, ClusterResult, FleetResult};
pub use handover::{
    AlertWithoutRule, Handover, HandoverAlert, HandoverVerification, OutstandingAlert, Queries, Rule,
    RuleCondition, RuleProperties, RuleProposal, RuleScope, RunMarks, Suppression,
};
pub use note::{Note, NoteStep};
pub use plan::{Admission, PlanResult, PlannedObject, PlannedRequest, PlannedStep, PlannedVictim};
pub use problem::Problem;
pub use trend::{AlertTrend, Trend, trends};
pub use v1::{RUN_SCHEMA_V1, upgrade};
pub use verification::{AlertVerdict, RaisedAlert, UnattributedAlert, Verdict, Verification, VictimVerdict};

/// Schema of [`RunResult`] in JSON.
pub const RUN_SCHEMA: &str = "defender-sim/run/v2";
/// Schema of [`CleanupResult`] in JSON.
pub const CLEANUP_SCHEMA: &str = "defender-sim/cleanup/v2";
/// Schema of [`PlanResult`] in JSON.
pub const PLAN_SCHEMA: &str = "defender-sim/plan/v2";
/// Schema of [`DoctorResult`] in JSON.
pub const DOCTOR_SCHEMA: &str = "defender-sim/doctor/v2";
/// Schema of [`FleetResult`] in JSON.
pub const FLEET_SCHEMA: &str = "defender-sim/fleet/v1";
/// Schema of [`Note`] in JSON.
pub const NOTE_SCHEMA: &str = "defender-sim/note/v2";
/// Schema of [`Handover`] in JSON.
pub const HANDOVER_SCHEMA: &str = "defender-sim/handover/v1";

/// The [`RunResult::run`] of alerts that are looked for by time and place alone.
pub const UNKNOWN_RUN: &str = "unknown";

/// The result of a run, from its start to its verified end.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunResult {
    /// Name and version of this schema.
    #[schemars(extend("const" = RUN_SCHEMA))]
    pub schema: Cow<'static, str>,
    /// Version of this tool.
    pub version: Cow<'static, str>,
    /// ID of the run; [`UNKNOWN_RUN`] if alerts are verified without the record of a run.
    pub run: String,
    /// The cluster.
    pub cluster: ClusterInfo,
    /// The namespace.
    pub namespace: String,
    /// The attacked pods; empty for a run without pods.
    #[serde(default)]
    pub victims: Vec<Victim>,
    /// The groups of nodes that had no victim, if the run was to cover groups of nodes.
    #[serde(default)]
    pub uncovered: Vec<Uncovered>,
    /// Time of the start.
    pub started: jiff::Timestamp,
    /// Time of the end, including cleanup.
    pub ended: jiff::Timestamp,
    /// Seconds by which the cluster's clock was ahead of the clock of the machine that started the run, if they
    /// differed. Every time in this document is the cluster's.
    #[serde(default)]
    pub clock_offset_seconds: Option<i64>,
    /// The scenarios, in order.
    pub scenarios: Vec<ScenarioResult>,
    /// Why the run could not continue.
    pub problem: Option<Problem>,
    /// The result of the cleanup; `null` if nothing was created, or if the pods are kept.
    pub cleanup: Option<Cleanup>,
    /// Time until which the cluster keeps the pods, if that was requested.
    pub kept_until: Option<jiff::Timestamp>,
    /// The state of Defender in the cluster, if it was read.
    pub facts: Option<Facts>,
    /// The alerts that Defender raised, if they were read.
    pub verification: Option<Verification>,
    /// Why alerts could not be read, or not all of them.
    pub verification_problem: Option<Problem>,
    /// Meaning of the exit code.
    pub exit: Exit,
    /// Exit code of the process.
    pub exit_code: u8,
}

impl RunResult {
    /// Creates a result with the place of the run and its steps; both of its times are `now`.
    pub fn new(
        run: String,
        cluster: ClusterInfo,
        namespace: String,
        scenarios: Vec<ScenarioResult>,
        now: jiff::Timestamp,
    ) -> Self {
        Self {
            schema: RUN_SCHEMA.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            run,
            cluster,
            namespace,
            victims: vec![],
            uncovered: vec![],
            started: now,
            ended: now,
            clock_offset_seconds: None,
            scenarios,
            problem: None,
            cleanup: None,
            kept_until: None,
            facts: None,
            verification: None,
            verification_problem: None,
            exit: Exit::Ok,
            exit_code: Exit::Ok.code(),
        }
    }

    /// Returns `true` if this is a run with an ID, rather than a search for alerts by time and place.
    pub fn is_identified(&self) -> bool {
        self.run != UNKNOWN_RUN
    }

    /// Returns the node of the first victim.
    pub fn node(&self) -> Option<&str> {
        self.victims.iter().find_map(|victim| victim.node.as_deref())
    }

    /// Returns the result as if this had been its only victim: the steps on it, and the alerts that these raise.
    #[must_use]
    pub fn of_victim(&self, victim: &Victim) -> Self {
        let scenarios = self.scenarios.iter().map(|scenario| {
            let steps = scenario.steps.iter();
            let steps = steps.filter(|step| step.victim.as_ref() == Some(&victim.pod));
            let steps: Vec<StepResult> = steps.cloned().collect();
            let is_raised = |alert: &&AlertExpectation| {
                !steps.is_empty()
                    && (alert.steps.is_empty() || steps.iter().any(|step| alert.steps.contains(&step.id)))
            };
            ScenarioResult {
                id: scenario.id.clone(),
                title: scenario.title.clone(),
                tactics: scenario.tactics.clone(),
                alerts: scenario.alerts.iter().filter(is_raised).cloned().collect(),
                steps,
            }
        });
        Self {
            victims: vec![victim.clone()],
            ended: self.ended,
            facts: self.facts.clone(),
            ..Self::new(
                self.run.clone(),
                self.cluster.clone(),
                self.namespace.clone(),
                scenarios.collect(),
                self.started,
            )
        }
    }

    /// Returns every step of every scenario, in order.
    pub fn steps(&self) -> impl Iterator<Item = &StepResult> {
        self.scenarios.iter().flat_map(|scenario| &scenario.steps)
    }

    /// Returns the result with every time moved by `offset`, from this machine's clock to the cluster's: alerts have the
    /// times of nodes and of Azure.
    #[must_use]
    pub fn in_cluster_time(mut self, offset: jiff::SignedDuration) -> Self {
        let shift = |time: &mut jiff::Timestamp| *time = time.saturating_add(offset).unwrap_or(*time);
        shift(&mut self.started);
        shift(&mut self.ended);
        self.kept_until.iter_mut().for_each(shift);
        let steps = self.scenarios.iter_mut().flat_map(|scenario| &mut scenario.steps);
        steps.filter_map(|step| step.started.as_mut()).for_each(shift);
        self.clock_offset_seconds = Some(offset.as_secs());
        self
    }
}

/// Which cluster, as whom.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterInfo {
    /// Context of the kubeconfig, where one was used.
    pub context: Option<String>,
    /// Address of the API server.
    pub server: String,
    /// Its version.
    pub version: Option<String>,
    /// Who the API server takes the caller for.
    pub user: Option<String>,
    /// The kubeconfig's name for the credentials that are used.
    pub kubeconfig_user: Option<String>,
    /// Whom the caller asks to be taken for.
    pub impersonated: Option<String>,
    /// Its id in Azure, where it was looked for and found.
    pub resource_id: Option<String>,
}

impl ClusterInfo {
    /// Whether both are the same cluster: the same resource in Azure, or else the same address of the API server.
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.resource_id, &other.resource_id) {
            (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
            _ => self.server == other.server,
        }
    }

    /// What is in the place of the address if no cluster is configured.
    pub const NO_CLUSTER: &str = "no cluster";

    /// The cluster of a plan for which none is configured.
    pub fn none() -> Self {
        Self {
            server: Self::NO_CLUSTER.to_owned(),
            ..Self::default()
        }
    }
}

/// `context c, https://server (v1.33.0) as admin`, as far as it is known.
impl fmt::Display for ClusterInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(context) = &self.context {
            write!(f, "context {context}, ")?;
        }
        f.write_str(&self.server)?;
        if let Some(version) = &self.version {
            write!(f, " ({version})")?;
        }
        match (&self.user, &self.impersonated, &self.kubeconfig_user) {
            (Some(user), ..) => write!(f, " as {user}"),
            (None, Some(user), _) => write!(f, " as {user}, impersonated"),
            (None, None, Some(user)) => write!(f, " as user {user} of the kubeconfig"),
            (None, None, None) => Ok(()),
        }
    }
}

/// A pod that was attacked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Victim {
    /// Name of the pod.
    pub pod: String,
    /// The group of nodes for which it stands, if the run covered groups of nodes: the value of a label, or a node.
    #[serde(default)]
    pub group: Option<String>,
    /// Node of the pod, once it was scheduled.
    pub node: Option<String>,
    /// Labels of the node, if they could be read.
    pub node_labels: BTreeMap<String, String>,
    /// How it ended, if it ended before the run did.
    pub ended: Option<VictimEnd>,
    /// Whether a sensor was ready on its node, if that was read.
    #[serde(default)]
    pub sensor: Option<Fact>,
}

impl Victim {
    /// Returns its name for people: its group, or else its pod.
    pub fn label(&self) -> &str {
        self.group.as_deref().unwrap_or(&self.pod)
    }
}

/// A group of nodes without a victim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Uncovered {
    /// The group.
    pub group: String,
    /// Number of its nodes.
    pub nodes: usize,
    /// Why it has no victim, with advice.
    pub reason: String,
}

/// How a victim ended before its run did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VictimEnd {
    /// The state of the pod and of its container, such as an exit code or an eviction.
    pub reason: String,
    /// Events of the pod, and the last lines of its log.
    pub details: Vec<String>,
}

/// The result of a scenario.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScenarioResult {
    /// ID of the scenario.
    pub id: String,
    /// Title of the scenario.
    pub title: String,
    /// IDs of the MITRE ATT&CK tactics, as of ATT&CK v19.
    pub tactics: Vec<String>,
    /// The steps, in order; one entry per step and victim.
    pub steps: Vec<StepResult>,
    /// The alerts that the scenario is expected to raise.
    pub alerts: Vec<AlertExpectation>,
}

/// The result of a step on a victim, or of a request to the Kubernetes API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepResult {
    /// ID of the step within the scenario.
    pub id: String,
    /// Title of the step.
    pub title: String,
    /// IDs of the MITRE ATT&CK techniques, as of ATT&CK v19.
    pub techniques: Vec<String>,
    /// The pod in which the step ran; `null` for a request to the Kubernetes API.
    #[serde(default)]
    pub victim: Option<String>,
    /// Time of the start; `null` for a step that did not run.
    pub started: Option<jiff::Timestamp>,
    /// The outcome.
    pub outcome: Outcome,
    /// The reason, unless the step is proved.
    pub reason: Option<String>,
    /// Exit status that the victim reported.
    pub exit_status: Option<u8>,
    /// Duration in milliseconds.
    pub duration_ms: Option<f64>,
    /// A short observation; never a secret.
    pub evidence: Option<String>,
    /// What the API server answered to a request.
    #[serde(default)]
    pub request: Option<RequestResult>,
}

/// The API server's answer to a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestResult {
    /// Verb of the request.
    pub verb: String,
    /// The objects as `kind/name`, or the kind that was listed.
    pub objects: Vec<String>,
    /// Namespace of the objects; `null` for cluster-scoped ones.
    pub namespace: Option<String>,
    /// HTTP status of the last answer.
    pub status: Option<u16>,
    /// UID of the last object, as the API server assigned it.
    pub uid: Option<String>,
    /// Resource version of the last object.
    pub resource_version: Option<String>,
    /// ID of the request in the audit log of the cluster.
    pub audit_id: Option<String>,
    /// Warnings of the API server, such as those of policies that only warn.
    pub warnings: Vec<String>,
}

impl StepResult {
    /// Returns `true` if the step was started, whatever its outcome.
    pub fn has_run(&self) -> bool {
        self.started.is_some() || self.outcome == Outcome::Proved
    }

    /// Returns reason and evidence as one text.
    pub fn explanation(&self) -> String {
        let parts: Vec<&str> = self
            .reason
            .iter()
            .chain(&self.evidence)
            .map(String::as_str)
            .collect();
        parts.join("; ")
    }
}

/// An alert that Defender is expected to raise.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertExpectation {
    /// ID in the alert catalogue.
    pub id: String,
    /// Display name.
    pub name: String,
    /// Severity, if known.
    pub severity: Option<String>,
    /// Prerequisites beyond the plan and a ready sensor.
    pub needs: Option<String>,
    /// IDs of the steps that raise it, each on its own: `<scenario>.<step>` outside the result of a scenario. Empty for
    /// every step.
    #[serde(default)]
    pub steps: Vec<String>,
    /// Whether a missing alert does not fail the verification.
    pub optional: bool,
    /// Why this run cannot raise it, if that is known.
    #[serde(default)]
    pub not_expected: Option<String>,
}

/// What is known of the alerts that a scenario ought to raise.
pub fn expectations(expected: &[ExpectedAlert]) -> Vec<AlertExpectation> {
    let known = expected
        .iter()
        .filter_map(|expected| Some((expected, alerts::find(&expected.id)?)));
    known
        .map(|(expected, alert)| AlertExpectation {
            id: alert.id.clone(),
            name: alert.name.clone(),
            severity: alert.severity.clone(),
            needs: alert.needs.clone(),
            steps: expected.steps.clone(),
            optional: expected.optional,
            not_expected: None,
        })
        .collect()
}

/// The alerts that several scenarios ought to raise, each once, with the full id of its step.
pub fn merged_expectations(scenarios: &[Scenario]) -> Vec<AlertExpectation> {
    let mut merged: Vec<AlertExpectation> = vec![];
    for scenario in scenarios {
        for mut alert in expectations(&scenario.alerts) {
            for step in &mut alert.steps {
                *step = format!("{}.{step}", scenario.id);
            }
            match merged.iter_mut().find(|known| known.id == alert.id) {
                Some(known) => known.optional &= alert.optional,
                None => merged.push(alert),
            }
        }
    }
    merged
}
