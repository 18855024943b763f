//! What a run was found to have done: the contract of the JSON output.
//!
//! The engine fills it in, reports print it. Fields are only ever added within one schema version.

use std::borrow::Cow;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::defender::alerts;
use crate::defender::facts::Facts;
use crate::exit::Exit;
use crate::scenario::{ExpectedAlert, Outcome, Scenario};

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
    pub fn said(&self) -> String {
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

/// Why a run did not go on.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The object and the cause.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// What the cluster said about it.
    pub details: Vec<String>,
    /// What it means for the process.
    #[serde(skip)]
    pub exit: Exit,
}

/// Which alerts Defender raised for a run: the last look.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// Where alerts were read, such as `Azure Resource Graph` or the name of a file.
    pub source: String,
    /// When they were read last.
    pub looked: jiff::Timestamp,
    /// Alerts that start before this time are none of the run's.
    pub from: jiff::Timestamp,
    /// Nor are those that start after this time.
    pub until: jiff::Timestamp,
    /// The verdict on each expected alert.
    pub alerts: Vec<AlertVerdict>,
    /// Further alerts of the same pods.
    pub additional: Vec<RaisedAlert>,
    /// Alerts that may be of the run: what decides that cannot be read.
    #[serde(default)]
    pub unattributed: Vec<UnattributedAlert>,
    /// What was known of the cluster and is contradicted by an alert that was raised.
    #[serde(default)]
    pub contradictions: Vec<String>,
    /// Why the alerts do not pass, if they do not.
    #[serde(default)]
    pub failure: Option<String>,
}

/// An alert that may be of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnattributedAlert {
    /// Its id at the source; empty if it has none.
    pub id: String,
    /// Its display name, as the source has it.
    pub name: String,
    /// What of it cannot be read.
    pub reason: String,
}

/// Whether an expected alert was raised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertVerdict {
    /// Its id in the alert catalogue.
    pub id: String,
    /// Its display name there.
    pub name: String,
    /// The scenarios of the run that it is expected of.
    pub scenarios: Vec<String>,
    /// What is known.
    pub verdict: Verdict,
    /// Why, where it is not raised or was raised too late.
    pub reason: Option<String>,
    /// Whether it was raised, but not in the time that was asked for.
    pub late: bool,
    /// The alert, where it is; the first, where there are several.
    pub raised: Option<RaisedAlert>,
}

/// What is known of an expected alert. Three things stay apart: that the behaviour was proved, that the alert
/// was raised, and why the one did not lead to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// Defender raised it.
    Raised,
    /// It was to come and did not.
    NotRaised,
    /// It may still come.
    Waiting,
    /// It cannot come here, or nothing was done that it is raised for.
    NotExpected,
    /// It did not come, and whether it could is not known; or alerts could not be read.
    CouldNotTell,
}

impl Verification {
    /// How many of the expected alerts have this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.alerts
            .iter()
            .filter(|alert| alert.verdict == verdict)
            .count()
    }
}

impl Verdict {
    /// The words shown to people.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Raised => "raised",
            Verdict::NotRaised => "not raised",
            Verdict::Waiting => "waiting",
            Verdict::NotExpected => "not applicable",
            Verdict::CouldNotTell => "unknown",
        }
    }
}

/// An alert that Defender raised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RaisedAlert {
    /// Its id at the source.
    pub id: String,
    /// Its display name, as the source has it.
    pub name: String,
    /// Its severity.
    pub severity: Option<String>,
    /// Its status, such as `Active` or `Dismissed`.
    pub status: Option<String>,
    /// When it was raised.
    pub generated: Option<jiff::Timestamp>,
    /// Seconds from the beginning of the first step that it is expected of until it was raised.
    pub seconds_to_detect: Option<f64>,
    /// Where it is shown in the portal.
    pub link: Option<String>,
}

impl Problem {
    /// A problem without a hint or details.
    pub fn new(exit: Exit, message: String) -> Self {
        Self {
            message,
            hint: None,
            details: vec![],
            exit,
        }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn with_hint(self, hint: String) -> Self {
        Self {
            hint: Some(hint),
            ..self
        }
    }

    /// Adds what the cluster or a file said.
    #[must_use]
    pub fn with_details(self, details: Vec<String>) -> Self {
        Self { details, ..self }
    }

    /// Something that the user asked for and that cannot be done so; `hint` is the next command.
    pub fn usage(message: String, hint: Option<&str>) -> Self {
        Self {
            hint: hint.map(str::to_owned),
            ..Self::new(Exit::Usage, message)
        }
    }
}

/// What a clean-up did, and what a look afterwards found.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cleanup {
    /// Objects that were removed, as `kind/name`, with the namespace where several are concerned.
    pub removed: Vec<String>,
    /// Objects that are still there, and why where that is known.
    pub left: Vec<String>,
    /// Whether the look that nothing is left could be made.
    pub verified: bool,
    /// What went wrong, where something did.
    pub problems: Vec<String>,
}

impl Cleanup {
    /// Whether the cluster was seen to hold nothing more of the run.
    pub fn is_clean(&self) -> bool {
        self.verified && self.left.is_empty()
    }

    /// Adds what another clean-up found.
    pub fn absorb(&mut self, other: Cleanup) {
        self.removed.extend(other.removed);
        self.left.extend(other.left);
        self.verified &= other.verified;
        self.problems.extend(other.problems);
    }
}

/// What `cleanup` found and did.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CleanupResult {
    /// Names and versions this schema.
    #[schemars(extend("const" = CLEANUP_SCHEMA))]
    pub schema: &'static str,
    /// Which cluster.
    pub cluster: ClusterInfo,
    /// Namespaces that held objects of this tool.
    pub namespaces: Vec<String>,
    /// Objects that a dry run would remove.
    pub would_remove: Vec<String>,
    /// Runs that were left alone.
    pub skipped: Vec<SkippedRun>,
    /// What was done.
    #[serde(flatten)]
    pub cleanup: Cleanup,
    /// What the process says to its caller.
    pub exit: Exit,
    /// The number of that.
    pub exit_code: u8,
}

/// A run that `cleanup` found and left alone.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SkippedRun {
    /// The run.
    pub run: String,
    /// Its namespace.
    pub namespace: String,
    /// The user who started it, according to its record.
    pub user: Option<String>,
    /// When the cluster ends it, according to its record.
    pub deadline: Option<jiff::Timestamp>,
    /// Why it was left alone.
    pub reason: String,
}

/// What a run would do; what the API server says to that, where it was asked.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanResult {
    /// Names and versions this schema.
    #[schemars(extend("const" = PLAN_SCHEMA))]
    pub schema: &'static str,
    /// Version of this tool.
    pub version: &'static str,
    /// Which cluster it would run in, as whom; version and user only where the cluster was asked. If none is
    /// configured, `server` is `no cluster`.
    pub cluster: ClusterInfo,
    /// The namespace it would run in.
    pub namespace: String,
    /// Image of the attacker pod.
    pub attacker_image: String,
    /// Image of the victim pod.
    pub victim_image: String,
    /// Every object that would be made, in this order.
    pub objects: Vec<PlannedObject>,
    /// Every step, in order.
    pub steps: Vec<PlannedStep>,
    /// Every address that the victim would contact.
    pub addresses: Vec<String>,
    /// The alerts to expect.
    pub alerts: Vec<AlertExpectation>,
    /// Seconds after which the cluster would end the run by itself.
    pub deadline_seconds: u64,
    /// What the process says to its caller.
    pub exit: Exit,
    /// The number of that.
    pub exit_code: u8,
}

/// An object that a run would make.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedObject {
    /// Kind and name, as kubectl prints them.
    pub name: String,
    /// What the API server says to it; nothing where it was not asked.
    pub admission: Option<Admission>,
}

/// What the API server says to an object that it is shown and does not keep.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", tag = "verdict", content = "reason")]
pub enum Admission {
    /// It would take it.
    Admitted,
    /// It would not, for this reason.
    Refused(String),
    /// It cannot be asked, for this reason.
    NotTold(String),
}

/// A step that a run would take.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedStep {
    /// `<scenario>.<step>`.
    pub id: String,
    /// Its title.
    pub title: String,
    /// The pod it would run in.
    pub pod: String,
    /// What would run there.
    pub script: String,
    /// What would prove it.
    pub proof: String,
}

/// What a SOC has to know before a run: which alerts are a test, and how to recognize them.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    /// Names and versions this schema.
    #[schemars(extend("const" = NOTE_SCHEMA))]
    pub schema: &'static str,
    /// Version of this tool.
    pub version: &'static str,
    /// Names the run.
    pub run: String,
    /// Which cluster, as whom.
    pub cluster: ClusterInfo,
    /// The namespace it runs in.
    pub namespace: String,
    /// Pods it runs in.
    pub pods: Vec<String>,
    /// Service account of the pods.
    pub service_account: String,
    /// Images of the pods.
    pub images: Vec<String>,
    /// Label that every object of the run carries, as a selector.
    pub selector: String,
    /// How the run's client names itself in the audit log.
    pub user_agent: String,
    /// Not before this time.
    pub from: jiff::Timestamp,
    /// Nothing of the run acts after this time. Alerts may be raised later.
    pub until: jiff::Timestamp,
    /// Alerts about the run may be raised until this time.
    pub alerts_until: jiff::Timestamp,
    /// What it does, as `<scenario>.<step>: title`.
    pub steps: Vec<String>,
    /// The same steps with their techniques.
    pub step_details: Vec<NoteStep>,
    /// Every address that the victim contacts.
    pub addresses: Vec<String>,
    /// The alerts to expect.
    pub alerts: Vec<AlertExpectation>,
    /// Query of a Log Analytics workspace (KQL) for alerts that name the namespace and a pod or the service account of
    /// the run.
    pub query: String,
}

/// A step that a run is going to take.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NoteStep {
    /// `<scenario>.<step>`.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Ids of the MITRE ATT&CK techniques that it uses, as of ATT&CK v19.
    pub techniques: Vec<String>,
}

/// What `doctor` found out: whether a run can work here, and whether Defender can see it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DoctorResult {
    /// Names and versions this schema.
    #[schemars(extend("const" = DOCTOR_SCHEMA))]
    pub schema: &'static str,
    /// Version of this tool.
    pub version: &'static str,
    /// Which cluster, as whom.
    pub cluster: ClusterInfo,
    /// The namespace that a run would use.
    pub namespace: String,
    /// The scenarios that it was asked for.
    pub scenarios: Vec<String>,
    /// Every check, in a fixed order.
    pub checks: Vec<CheckResult>,
    /// What the process says to its caller.
    pub exit: Exit,
    /// The number of that.
    pub exit_code: u8,
}

/// What one check saw.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckResult {
    /// Names the check; stays the same from version to version.
    pub id: &'static str,
    /// What it is about.
    pub title: &'static str,
    /// What it came to.
    pub status: CheckStatus,
    /// What was seen.
    pub seen: String,
    /// What to do about it.
    pub advice: Option<String>,
}

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum CheckStatus {
    /// As it has to be.
    Ok,
    /// A run works, but perhaps not all of it, or not all alerts can come.
    Warning,
    /// A run cannot work, or no alert can come.
    Failed,
    /// It could not be seen.
    CouldNotTell,
    /// It does not matter here.
    NotApplicable,
}
