//! What a run was found to have done: the contract of the JSON output.
//!
//! The engine fills it in, reports print it. Fields are only ever added within one schema version.

mod cleanup;
mod doctor;
mod note;
mod plan;
mod problem;
mod verification;

use std::borrow::Cow;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::defender::alerts;
use crate::defender::facts::Facts;
use crate::exit::Exit;
use crate::scenario::{ExpectedAlert, Outcome, Scenario};

pub use cleanup::{Cleanup, CleanupResult, SkippedRun};
pub use doctor::{CheckResult, CheckStatus, DoctorResult};
pub use note::{Note, NoteStep};
pub use plan::{Admission, PlanResult, PlannedObject, PlannedStep};
pub use problem::Problem;
pub use verification::{AlertVerdict, RaisedAlert, UnattributedAlert, Verdict, Verification};

/// Schema of [`RunResult`] in JSON.
pub const RUN_SCHEMA: &str = "defender-sim/run/v1";
/// Schema of [`CleanupResult`] in JSON.
pub const CLEANUP_SCHEMA: &str = "defender-sim/cleanup/v1";
/// Schema of [`PlanResult`] in JSON.
pub const PLAN_SCHEMA: &str = "defender-sim/plan/v1";
/// Schema of [`DoctorResult`] in JSON.
pub const DOCTOR_SCHEMA: &str = "defender-sim/doctor/v1";
/// Schema of [`Note`] in JSON.
pub const NOTE_SCHEMA: &str = "defender-sim/note/v1";

/// The [`RunResult::run`] of alerts that are looked for by time and place alone.
pub const UNKNOWN_RUN: &str = "unknown";

/// One run from start to verified end.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunResult {
    /// Names and versions this schema.
    #[schemars(extend("const" = RUN_SCHEMA))]
    pub schema: Cow<'static, str>,
    /// Version of this tool.
    pub version: Cow<'static, str>,
    /// Names the run; [`UNKNOWN_RUN`] if alerts are looked for without the record of one.
    pub run: String,
    /// Which cluster it ran in.
    pub cluster: ClusterInfo,
    /// The namespace it ran in.
    pub namespace: String,
    /// The node that its pods ran on, where they did.
    pub node: Option<String>,
    /// When it started.
    pub started: jiff::Timestamp,
    /// When it ended, clean-up included.
    pub ended: jiff::Timestamp,
    /// Seconds by which the cluster's clock was ahead of the clock of the machine that started the run, if they
    /// differed. Every time in this document is the cluster's.
    #[serde(default)]
    pub clock_offset_seconds: Option<i64>,
    /// What became of each scenario.
    pub scenarios: Vec<ScenarioResult>,
    /// What kept the run from going on, where something did.
    pub problem: Option<Problem>,
    /// What the clean-up found; nothing where nothing had been made, or where it was kept.
    pub cleanup: Option<Cleanup>,
    /// Until when the cluster keeps what was made, where that was asked for.
    pub kept_until: Option<jiff::Timestamp>,
    /// What was known of Defender in the cluster, where that was looked for.
    pub facts: Option<Facts>,
    /// Which alerts Defender raised, where that was looked for.
    pub verification: Option<Verification>,
    /// Why alerts could not be read, or not to the end, where that was tried.
    pub unread: Option<Problem>,
    /// What the process says to its caller.
    pub exit: Exit,
    /// The number of that.
    pub exit_code: u8,
}

impl RunResult {
    /// A run of which nothing more is known than where it is and what became of its steps; both of its times are now.
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
            node: None,
            started: now,
            ended: now,
            clock_offset_seconds: None,
            scenarios,
            problem: None,
            cleanup: None,
            kept_until: None,
            facts: None,
            verification: None,
            unread: None,
            exit: Exit::Ok,
            exit_code: Exit::Ok.code(),
        }
    }

    /// Whether this is a run with an ID, and not a look for alerts by time and place alone.
    pub fn is_identified(&self) -> bool {
        self.run != UNKNOWN_RUN
    }

    /// Every step of every scenario, in order.
    pub fn steps(&self) -> impl Iterator<Item = &StepResult> {
        self.scenarios.iter().flat_map(|scenario| &scenario.steps)
    }

    /// The same result with every time moved by `offset`, from this machine's clock to the cluster's: alerts carry
    /// the times of nodes and of Azure, and neither follows a wrong clock of a laptop.
    #[must_use]
    pub fn in_cluster_time(mut self, offset: jiff::SignedDuration) -> Self {
        let shift = |time: &mut jiff::Timestamp| *time = time.saturating_add(offset).unwrap_or(*time);
        shift(&mut self.started);
        shift(&mut self.ended);
        self.kept_until.iter_mut().for_each(shift);
        let steps = self.scenarios.iter_mut().flat_map(|scenario| &mut scenario.steps);
        steps.filter_map(|step| step.begun.as_mut()).for_each(shift);
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

/// What became of one scenario.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScenarioResult {
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Ids of the MITRE ATT&CK tactics that it serves, as of ATT&CK v19.
    pub tactics: Vec<String>,
    /// Its steps, in order.
    pub steps: Vec<StepResult>,
    /// The alerts to expect of it.
    pub alerts: Vec<AlertExpectation>,
}

/// What became of one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepResult {
    /// Its id within the scenario.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Ids of the MITRE ATT&CK techniques that it uses, as of ATT&CK v19.
    pub techniques: Vec<String>,
    /// When it began, by this program's clock.
    pub begun: Option<jiff::Timestamp>,
    /// What is known about it.
    pub outcome: Outcome,
    /// Why, where it is not proved.
    pub reason: Option<String>,
    /// Exit status that the victim reported.
    pub exit_status: Option<u8>,
    /// How long it took in the victim, in milliseconds.
    pub duration_ms: Option<f64>,
    /// A short observation from inside the victim; never a secret.
    pub evidence: Option<String>,
}

impl StepResult {
    /// Whether it was sent to the victim, whatever became of it.
    pub fn has_run(&self) -> bool {
        self.begun.is_some() || self.outcome == Outcome::Proved
    }

    /// Reason and evidence as one text, as far as there are any.
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

/// An alert that Defender ought to raise.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertExpectation {
    /// Its id in the alert catalogue.
    pub id: String,
    /// Its display name.
    pub name: String,
    /// Its severity, where known.
    pub severity: Option<String>,
    /// What has to be in place for it, beyond plan and sensor.
    pub needs: Option<String>,
    /// The step that it is raised for, where it is one of several; `<scenario>.<step>` outside the result of a
    /// scenario.
    pub step: Option<String>,
    /// True where it may come but its absence says nothing.
    pub optional: bool,
    /// Why it cannot be raised for this run, if that is known.
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
            step: expected.step.clone(),
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
            alert.step = alert.step.map(|step| format!("{}.{step}", scenario.id));
            match merged.iter_mut().find(|known| known.id == alert.id) {
                Some(known) => known.optional &= alert.optional,
                None => merged.push(alert),
            }
        }
    }
    merged
}
