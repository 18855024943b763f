//! What the alerts that were raised say about a run: a verdict on each alert that was expected, and the
//! further alerts of the same pods. Which alerts are of the run is decided in [`super::attribution`].
//!
//! A raised alert is an expected one by its type, where that is public, or by its display name, in whatever spelling.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};

use super::attribution::{Relation, Subject};
use super::fired::{About, FiredAlert};
use crate::defender::alerts::{self, Alert, Condition};
use crate::defender::facts::{Fact, Facts};
use crate::result::{
    AlertVerdict, RaisedAlert, RunResult, ScenarioResult, StepResult, UnattributedAlert, Verdict,
    Verification,
};
use crate::scenario::Outcome;
use crate::words::counted;

/// The alert that any step raises, by the way in which it is sent.
const DELIVERY: &str = "web-shell";

/// Further names of alerts, by id in the catalogue.
pub type Names = BTreeMap<String, Vec<String>>;

/// How many of the expected alerts have to be raised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Required {
    /// At least one, and none may be known to be missing.
    #[default]
    NoneMissing,
    /// So many.
    AtLeast(usize),
    /// All but those that may stay away.
    All,
}

/// `all`, `none`, or a number.
impl FromStr for Required {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            "none" => Ok(Self::AtLeast(0)),
            _ => text
                .parse()
                .map(Self::AtLeast)
                .map_err(|_| "expected all, none or a number".to_owned()),
        }
    }
}

/// What is asked of the alerts of a run.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// What is known of the cluster.
    pub facts: Facts,
    /// Names that the catalogue does not have.
    pub names: Names,
    /// Whether alerts may still come.
    pub waiting: bool,
    /// Why what was read need not be all that came, where that is so.
    pub partial: Option<String>,
    /// Whether nothing is known of the steps; they are taken as done then.
    pub unobserved: bool,
    /// An alert that takes longer counts as one that did not come in time.
    pub slowest: Option<SignedDuration>,
    /// How many alerts have to be raised.
    pub required: Required,
}

/// The alerts of a source that are, or may be, of a run.
#[derive(Debug, Default)]
pub struct Found {
    /// Those of the run, and whether each names its pods.
    attributed: Vec<(FiredAlert, bool)>,
    /// Those that may be of the run, and why that is unknown.
    unknown: Vec<(FiredAlert, String)>,
}

impl Found {
    /// Keeps an alert if it is, or may be, of the run that `subject` describes.
    pub fn add(&mut self, mut alert: FiredAlert, subject: &Subject) {
        let Some(relation) = subject.relation(&alert) else {
            return;
        };
        // Most of an alert's size, and not needed any more.
        alert.about = About::default();
        match relation {
            Relation::Pods => self.attributed.push((alert, true)),
            Relation::Namespace => self.attributed.push((alert, false)),
            Relation::Unknown(reason) => self.unknown.push((alert, reason)),
        }
    }
}

/// Judges `run` by the alerts that were found in `source` at the time `looked`.
pub fn judge(
    run: &RunResult,
    found: Found,
    subject: &Subject,
    question: &Question,
    source: String,
    looked: Timestamp,
) -> Verification {
    let expected = expected(run);
    let mut used = BTreeSet::new();
    let mut first = |(alert, scenarios): &(&'static Alert, Vec<&ScenarioResult>)| {
        let matching = found.matching(alert, &question.names);
        used.extend(matching.iter().copied());
        let fired = matching.first().map(|index| found.attributed[*index].0.clone());
        fired.map(|fired| raised(fired, first_step(scenarios, &alert.id)))
    };
    let raised_ones: Vec<Option<RaisedAlert>> = expected.iter().map(&mut first).collect();
    let mut facts = question.facts.clone();
    let there = expected
        .iter()
        .zip(&raised_ones)
        .filter(|(_, raised)| raised.is_some());
    let contradictions = correct(&mut facts, there.map(|((alert, _), _)| *alert));
    let mut verdicts = vec![];
    for ((alert, scenarios), raised) in expected.iter().zip(raised_ones) {
        let (verdict, reason) = match &raised {
            Some(raised) => (Verdict::Raised, late(raised, question.slowest)),
            None => match missing(alert, scenarios, &facts, question) {
                (Verdict::Waiting, reason) => (Verdict::Waiting, reason),
                judged => found
                    .candidate(alert, &question.names)
                    .map_or(judged, |reason| (Verdict::CouldNotTell, Some(reason))),
            },
        };
        verdicts.push(AlertVerdict {
            id: alert.id.clone(),
            name: alert.name.clone(),
            scenarios: scenarios.iter().map(|scenario| scenario.id.clone()).collect(),
            late: raised.is_some() && reason.is_some(),
            verdict,
            reason,
            raised,
        });
    }
    let (additional, unattributed) = found.others(&used, verdicts.is_empty());
    let mut verification = Verification {
        source,
        looked,
        from: subject.from,
        until: subject.until,
        additional,
        alerts: verdicts,
        unattributed,
        contradictions,
        failure: None,
    };
    let optional = expected
        .iter()
        .filter(|(alert, scenarios)| is_optional(alert, scenarios));
    verification.failure = failure(&verification, optional.count(), &facts, question.required);
    verification
}

impl Found {
    /// Indices of the run's alerts that are the expected one, the first that was raised in front.
    fn matching(&self, expected: &Alert, names: &Names) -> Vec<usize> {
        let attributed = self.attributed.iter().enumerate();
        let mut matching: Vec<usize> = attributed
            .filter(|(_, (fired, _))| is_expected(fired, expected, names))
            .map(|(index, _)| index)
            .collect();
        matching.sort_by_key(|index| self.attributed[*index].0.generated);
        matching
    }

    /// Why an expected alert may be among those that may be of the run.
    fn candidate(&self, expected: &Alert, names: &Names) -> Option<String> {
        let may_be = |fired: &FiredAlert| fired.name.is_none() || is_expected(fired, expected, names);
        let nameless = self.attributed.iter().map(|(fired, _)| fired);
        let mut nameless = nameless.filter(|fired| fired.name.is_none());
        let candidate = self.unknown.iter().find(|(fired, _)| may_be(fired));
        candidate
            .map(|(fired, reason)| format!("{} may be it: {reason}", fired.label()))
            .or_else(|| {
                nameless
                    .next()
                    .map(|fired| format!("{} may be it", fired.label()))
            })
    }

    /// Alerts of the same pods that are not expected, and with `strict` also those that name the namespace only; then
    /// those that may be of the run.
    fn others(self, used: &BTreeSet<usize>, strict: bool) -> (Vec<RaisedAlert>, Vec<UnattributedAlert>) {
        // An export repeats an alert each time it changes.
        let mut ids: BTreeSet<String> = used
            .iter()
            .map(|index| self.attributed[*index].0.id.clone())
            .collect();
        let attributed = self.attributed.into_iter().enumerate();
        let additional = attributed
            .filter(|(index, (_, names_pods))| (*names_pods || strict) && !used.contains(index))
            .filter(|(_, (fired, _))| fired.id.is_empty() || ids.insert(fired.id.clone()))
            .map(|(_, (fired, _))| raised(fired, None));
        let unknown = self.unknown.into_iter();
        let unattributed = unknown.map(|(fired, reason)| UnattributedAlert {
            name: fired.label(),
            id: fired.id,
            reason,
        });
        (additional.collect(), unattributed.collect())
    }
}

/// Corrects facts that raised alerts contradict. Returns each contradiction as a sentence.
fn correct<'a>(facts: &mut Facts, raised: impl Iterator<Item = &'a Alert>) -> Vec<String> {
    let mut contradictions = vec![];
    for alert in raised {
        let mut correct_one = |fact: &mut Fact| {
            if let Fact::No(reason) = fact {
                contradictions.push(format!("{reason}, but {:?} was raised", alert.name));
                *fact = Fact::Yes;
            }
        };
        correct_one(&mut facts.plan);
        if alert.condition != Some(Condition::AuditLog) {
            correct_one(&mut facts.sensor);
        }
        if let Some(fact) = alert
            .condition
            .and_then(|condition| facts.conditions.get_mut(&condition))
        {
            correct_one(fact);
        }
    }
    contradictions
}

/// Why the alerts do not pass, if they do not.
fn failure(
    verification: &Verification,
    optional: usize,
    facts: &Facts,
    required: Required,
) -> Option<String> {
    let alerts = &verification.alerts;
    if alerts.is_empty() {
        return baseline_failure(verification, facts);
    }
    if verification.count(Verdict::Waiting) > 0 {
        return None;
    }
    let in_time = |alert: &&AlertVerdict| alert.verdict == Verdict::Raised && !alert.late;
    let raised = alerts.iter().filter(in_time).count();
    let is_missing = |alert: &AlertVerdict| alert.late || alert.verdict == Verdict::NotRaised;
    let fails = match required {
        Required::NoneMissing => alerts.iter().any(is_missing) || (raised == 0 && optional < alerts.len()),
        Required::AtLeast(number) => raised < number,
        Required::All => raised < alerts.len() - optional,
    };
    let mut reasons: Vec<Option<&str>> = alerts
        .iter()
        .filter(|alert| !in_time(alert))
        .map(|alert| alert.reason.as_deref())
        .collect();
    reasons.dedup();
    let reason = match reasons[..] {
        [Some(reason)] => format!(": {reason}"),
        _ => String::new(),
    };
    let expected = counted(alerts.len(), "expected alert");
    let verb = if alerts.len() == 1 { "was" } else { "were" };
    fails.then(|| format!("{raised} of {expected} {verb} raised{reason}"))
}

/// The same where no alert is expected.
fn baseline_failure(verification: &Verification, facts: &Facts) -> Option<String> {
    let names = |names: Vec<&str>| names.join(", ");
    if !verification.additional.is_empty() {
        let raised = verification.additional.iter().map(|alert| alert.name.as_str());
        return Some(format!(
            "no alert was expected, but raised: {}",
            names(raised.collect())
        ));
    }
    if let Some(alert) = verification.unattributed.first() {
        return Some(format!("{} may be of this run: {}", alert.name, alert.reason));
    }
    let absent = [&facts.plan, &facts.sensor]
        .into_iter()
        .find_map(|fact| match fact {
            Fact::No(reason) => Some(reason),
            _ => None,
        });
    absent.map(|reason| format!("no alert could be raised: {reason}"))
}

/// Each expected alert once, with the scenarios that expect it.
fn expected(run: &RunResult) -> Vec<(&'static Alert, Vec<&ScenarioResult>)> {
    let mut list: Vec<(&Alert, Vec<&ScenarioResult>)> = vec![];
    for scenario in &run.scenarios {
        for alert in scenario.alerts.iter().filter_map(|alert| alerts::find(&alert.id)) {
            match list.iter_mut().find(|(known, _)| known.id == alert.id) {
                Some((_, scenarios)) => scenarios.push(scenario),
                None => list.push((alert, vec![scenario])),
            }
        }
    }
    list
}

/// Whether a raised alert is the one that the catalogue calls `expected`.
fn is_expected(alert: &FiredAlert, expected: &Alert, names: &Names) -> bool {
    let same_type = alert
        .alert_type
        .as_ref()
        .zip(expected.alert_type.as_ref())
        .is_some_and(|(one, other)| one.eq_ignore_ascii_case(other));
    let further = names.get(&expected.id).into_iter().flatten();
    let mut known = std::iter::once(&expected.name)
        .chain(&expected.spellings)
        .chain(&expected.localized)
        .chain(further);
    let name = alert.name.as_deref().map(normalised);
    same_type || name.is_some_and(|name| known.any(|known| normalised(known) == name))
}

/// A display name without what differs between Microsoft's own pages: case, a full stop, quotation marks,
/// "(Preview)", articles, spaces.
fn normalised(name: &str) -> String {
    let name = name.to_lowercase().replace('\u{2019}', "'").replace('`', "");
    let name = name.replace("(preview)", " ");
    let words = name.trim().trim_end_matches('.').split_whitespace();
    words
        .filter(|word| !["a", "an", "the"].contains(word))
        .collect::<Vec<_>>()
        .join(" ")
}

/// The steps of a scenario that an alert is raised for.
fn steps<'a>(scenario: &'a ScenarioResult, id: &'a str) -> impl Iterator<Item = &'a StepResult> {
    let of = scenario
        .alerts
        .iter()
        .find(|alert| alert.id == id)
        .and_then(|alert| alert.step.as_deref());
    scenario
        .steps
        .iter()
        .filter(move |step| of.is_none_or(|of| step.id == of))
}

fn first_step(scenarios: &[&ScenarioResult], id: &str) -> Option<Timestamp> {
    scenarios
        .iter()
        .flat_map(|scenario| steps(scenario, id))
        .filter_map(|step| step.begun)
        .min()
}

fn raised(alert: FiredAlert, begun: Option<Timestamp>) -> RaisedAlert {
    let seconds = alert
        .generated
        .zip(begun)
        .map(|(generated, begun)| generated.duration_since(begun).as_secs_f64())
        .filter(|seconds| *seconds >= 0.0);
    RaisedAlert {
        name: alert.label(),
        id: alert.id,
        severity: alert.severity,
        status: alert.status,
        generated: alert.generated,
        seconds_to_detect: seconds,
        link: alert.link,
    }
}

/// Says so where an alert took longer than it may, or nobody knows how long.
fn late(raised: &RaisedAlert, slowest: Option<SignedDuration>) -> Option<String> {
    let slowest = slowest?;
    let Some(seconds) = raised.seconds_to_detect else {
        return Some(format!(
            "after how long is not known; it had to be within {slowest:#}"
        ));
    };
    (seconds > slowest.as_secs_f64())
        .then(|| format!("too late: after {seconds:.0} s, not within {slowest:#}"))
}

/// Whether an alert may stay away in every scenario that names it.
fn is_optional(expected: &Alert, scenarios: &[&ScenarioResult]) -> bool {
    scenarios.iter().all(|scenario| {
        scenario
            .alerts
            .iter()
            .any(|alert| alert.id == expected.id && alert.optional)
    })
}

/// What became of the steps that an alert is raised for.
struct Coverage {
    /// Whether one was proved.
    any: bool,
    /// Whether all of a scenario were.
    whole: bool,
    /// Those that were not.
    unproved: String,
}

impl Coverage {
    fn of(expected: &Alert, scenarios: &[&ScenarioResult]) -> Self {
        let (mut any, mut whole, mut unproved) = (false, false, vec![]);
        for scenario in scenarios {
            let before = unproved.len();
            for step in steps(scenario, &expected.id) {
                if step.outcome == Outcome::Proved {
                    any = true;
                } else {
                    unproved.push(format!("{}.{}", scenario.id, step.id));
                }
            }
            whole |= unproved.len() == before;
        }
        Self {
            any,
            whole,
            unproved: unproved.join(", "),
        }
    }
}

/// Why an alert cannot be raised, if that is known: no step was proved, or something it needs is absent.
fn impossible(expected: &Alert, coverage: Option<&Coverage>, facts: &Facts) -> Option<String> {
    if let Some(coverage) = coverage.filter(|coverage| !coverage.any) {
        return Some(format!("not proved: {}", coverage.unproved));
    }
    let audited = expected.condition == Some(Condition::AuditLog);
    let sensor = Some(&facts.sensor).filter(|_| !audited);
    let condition = expected
        .condition
        .and_then(|condition| facts.conditions.get(&condition));
    let needed = [Some(&facts.plan), sensor, condition];
    needed.into_iter().flatten().find_map(|fact| match fact {
        Fact::No(reason) => Some(reason.clone()),
        _ => None,
    })
}

/// Says of each alert that the run expects whether what is known rules it out, and why.
pub fn rule_out(run: &mut RunResult) {
    let facts = run.facts.clone().unwrap_or_default();
    let reasons: BTreeMap<String, String> = expected(run)
        .into_iter()
        .filter_map(|(alert, scenarios)| {
            let coverage = Coverage::of(alert, &scenarios);
            Some((alert.id.clone(), impossible(alert, Some(&coverage), &facts)?))
        })
        .collect();
    for alert in run.scenarios.iter_mut().flat_map(|scenario| &mut scenario.alerts) {
        alert.not_expected = reasons.get(&alert.id).cloned();
    }
}

/// The verdict on an alert that was not raised.
fn missing(
    expected: &Alert,
    scenarios: &[&ScenarioResult],
    facts: &Facts,
    question: &Question,
) -> (Verdict, Option<String>) {
    let coverage = Some(Coverage::of(expected, scenarios)).filter(|_| !question.unobserved);
    if let Some(reason) = impossible(expected, coverage.as_ref(), facts) {
        return (Verdict::NotExpected, Some(reason));
    }
    if question.waiting {
        return (Verdict::Waiting, None);
    }
    if is_optional(expected, scenarios) {
        return (
            Verdict::NotExpected,
            Some("it may stay away: its absence says nothing".to_owned()),
        );
    }
    if question.partial.is_some() {
        return (Verdict::CouldNotTell, question.partial.clone());
    }
    let unknown = Fact::Unknown("it is not known whether this cluster has it".to_owned());
    let condition = expected
        .condition
        .map(|condition| facts.conditions.get(&condition).unwrap_or(&unknown));
    if let Some(Fact::Unknown(reason)) = condition {
        let needs = expected.needs.as_deref().unwrap_or_default();
        return (Verdict::CouldNotTell, Some(format!("it needs {needs}; {reason}")));
    }
    if let Some(coverage) = coverage.filter(|coverage| expected.id != DELIVERY && !coverage.whole) {
        let reason = format!(
            "which steps it takes is not public, and not proved were: {}",
            coverage.unproved
        );
        return (Verdict::CouldNotTell, Some(reason));
    }
    let audited = expected.condition == Some(Condition::AuditLog);
    let unknown = [("plan", &facts.plan), ("sensor", &facts.sensor)];
    let unknown = unknown.into_iter().filter_map(|(what, fact)| match fact {
        Fact::Unknown(reason) if !(audited && what == "sensor") => Some(format!("{what} ({reason})")),
        _ => None,
    });
    let unknown: Vec<String> = unknown.collect();
    let reason = (!unknown.is_empty()).then(|| format!("not known: {}", unknown.join(", ")));
    (Verdict::NotRaised, reason)
}

#[cfg(test)]
mod tests {
    use super::super::fired::tests::{parse, raised as fired};
    use super::*;
    use crate::result::{AlertExpectation, expectations};
    use crate::scenario::catalogue;
    use serde_json::{Value, json};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// A run of that scenario with every step proved, from 10:00:00 to 10:01:00.
    fn run(id: &str) -> RunResult {
        let scenario = catalogue::find(id).unwrap();
        let alerts: Vec<AlertExpectation> = expectations(&scenario.alerts);
        let steps = scenario.steps.iter().map(|step| {
            json!({"id": step.id, "title": "", "techniques": [], "begun": "2026-05-04T10:00:10Z", "outcome": "proved"})
        });
        serde_json::from_value(json!({
            "schema": "", "version": "", "run": "abcdefgh", "cluster": {"server": "https://s"},
            "namespace": "mdc-simulation", "started": "2026-05-04T10:00:00Z", "ended": "2026-05-04T10:01:00Z",
            "scenarios": [{"id": id, "title": "", "tactics": [], "steps": steps.collect::<Vec<_>>(), "alerts": alerts}],
            "exit": "ok", "exitCode": 0
        }))
        .unwrap()
    }

    fn found(fired: &[Value], subject: &Subject) -> Found {
        let mut found = Found::default();
        for value in fired {
            found.add(parse(value), subject);
        }
        found
    }

    fn judge_all(run: &RunResult, fired: &[Value], subject: &Subject, question: &Question) -> Verification {
        let looked = at("2026-05-04T11:00:00Z");
        judge(
            run,
            found(fired, subject),
            subject,
            question,
            "test".into(),
            looked,
        )
    }

    fn verdicts(
        run: &RunResult,
        fired: &[Value],
        question: &Question,
    ) -> BTreeMap<String, (Verdict, Option<String>)> {
        let subject = Subject::of(run, vec!["aks-test".to_owned()], question.unobserved);
        let verification = judge_all(run, fired, &subject, question);
        verification
            .alerts
            .into_iter()
            .map(|alert| (alert.id, (alert.verdict, alert.reason)))
            .collect()
    }

    fn web_shell(change: impl Fn(&mut Value)) -> Verdict {
        let mut alert = fired("Possible Web Shell Activity Detected.", "2026-05-04T10:00:30Z");
        change(&mut alert["properties"]);
        verdicts(&run("recon"), &[alert], &Question::default())["web-shell"].0
    }

    #[test]
    fn an_alert_is_the_runs_by_cluster_time_namespace_and_pod() {
        assert_eq!(web_shell(|_| {}), Verdict::Raised);
        for (what, value) in [
            ("startTimeUtc", json!("2026-05-04T12:00:00Z")),
            (
                "entities",
                json!([{"type": "K8s-namespace", "name": "other"}, {"type": "K8s-pod", "name": "mdc-simulation-victim"}]),
            ),
            ("entities", json!([{"type": "azure-resource"}])),
            ("isIncident", json!(true)),
            (
                "alertDisplayName",
                json!("[SAMPLE ALERT] Possible Web Shell activity detected"),
            ),
            ("alertDisplayName", json!("Possible malicious web shell detected")),
        ] {
            let change = |properties: &mut Value| {
                properties[what] = value.clone();
                if what == "startTimeUtc" {
                    properties["endTimeUtc"] = value.clone();
                }
            };
            assert_eq!(web_shell(change), Verdict::NotRaised, "{what}: {value}");
        }
        let elsewhere = |properties: &mut Value| {
            properties["compromisedEntity"] = "aks-test-2".into();
            properties["resourceIdentifiers"] = json!([]);
        };
        assert_eq!(web_shell(elsewhere), Verdict::NotRaised);
        // A resource group of that name is no cluster.
        let group = |properties: &mut Value| {
            properties["compromisedEntity"] = "/subscriptions/s/resourceGroups/aks-test/x/aks-2".into();
            properties["resourceIdentifiers"] = json!([]);
        };
        assert_eq!(web_shell(group), Verdict::NotRaised);
        // Of somebody else's pod, or of another run's account, in the same namespace.
        let other_pod = |properties: &mut Value| properties["entities"][2]["name"] = "shop-1".into();
        assert_eq!(web_shell(other_pod), Verdict::NotRaised);
        for (account, verdict) in [("zzzzzzzz", Verdict::NotRaised), ("abcdefgh", Verdict::Raised)] {
            let name = format!("mdc-simulation-pods-{account}");
            let of_account =
                |properties: &mut Value| properties["extendedProperties"] = json!({"userName": name});
            assert_eq!(web_shell(of_account), verdict, "{account}");
        }
        // Where no run was observed, nobody knows which account is its own.
        let name = "system:serviceaccount:mdc-simulation:mdc-simulation-pods-zzzzzzzz";
        let mut audited = fired(
            "Suspicious Kubernetes service account operation detected",
            "2026-05-04T10:00:30Z",
        );
        audited["properties"]["entities"] = json!([{"type": "K8s-serviceaccount", "name": name}]);
        for (unobserved, verdict) in [(false, Verdict::CouldNotTell), (true, Verdict::Raised)] {
            let question = Question {
                unobserved,
                ..Question::default()
            };
            let found = verdicts(&run("recon"), std::slice::from_ref(&audited), &question);
            assert_eq!(found["service-account-operation"].0, verdict, "{unobserved}");
        }
        // Over and raised before the run began; or raised then, and going on.
        for (ended, verdict) in [
            ("2026-05-04T09:59:30Z", Verdict::NotRaised),
            ("2026-05-04T10:00:30Z", Verdict::Raised),
        ] {
            let before = |properties: &mut Value| {
                properties["startTimeUtc"] = "2026-05-04T09:59:20Z".into();
                properties["endTimeUtc"] = ended.into();
                properties["timeGeneratedUtc"] = "2026-05-04T09:59:40Z".into();
            };
            assert_eq!(web_shell(before), verdict, "{ended}");
        }
        // It began before the run and goes on: the run may be what it is about.
        let overlapping = |properties: &mut Value| {
            properties["startTimeUtc"] = "2026-05-04T09:00:00Z".into();
        };
        assert_eq!(web_shell(overlapping), Verdict::Raised);
        // Dismissed and suppressed ones count.
        assert_eq!(
            web_shell(|properties| properties["status"] = "Dismissed".into()),
            Verdict::Raised
        );
    }

    #[test]
    fn names_are_compared_without_what_differs_between_pages() {
        for (one, other) in [
            (
                "Command within a container accessed `ld.so.preload`",
                "command within container accessed ld.so.preload.",
            ),
            (
                "Network Scanning Tool Detected (Preview)",
                "Network scanning tool  detected",
            ),
            ("Outil d’analyse réseau détecté", "outil d'analyse réseau détecté"),
        ] {
            assert_eq!(normalised(one), normalised(other));
        }
        let names: Names = [("web-shell".to_owned(), vec!["Mögliche Webshell".to_owned()])].into();
        let alert = fired("mögliche webshell", "2026-05-04T10:00:30Z");
        let question = Question {
            names,
            ..Question::default()
        };
        assert_eq!(
            verdicts(&run("recon"), &[alert], &question)["web-shell"].0,
            Verdict::Raised
        );
        let mut by_type = fired("Renamed", "2026-05-04T10:00:30Z");
        by_type["properties"]["alertType"] = "K8S.NODE_ImdsCall".into();
        let found = verdicts(&run("lateral-mov"), &[by_type], &Question::default());
        assert_eq!(found["metadata-access"].0, Verdict::Raised);
    }

    #[test]
    fn every_verdict_has_its_reason() {
        let waiting = Question {
            waiting: true,
            ..Question::default()
        };
        assert_eq!(
            verdicts(&run("recon"), &[], &waiting)["web-shell"],
            (Verdict::Waiting, None)
        );
        let none = verdicts(&run("crypto"), &[], &Question::default());
        let (verdict, reason) = &none["web-shell"];
        assert_eq!(*verdict, Verdict::NotRaised);
        assert_eq!(
            reason.as_deref(),
            Some("not known: plan (it was not looked for), sensor (it was not looked for)")
        );
        let partial = Question {
            partial: Some("there is more".to_owned()),
            ..Question::default()
        };
        assert_eq!(
            verdicts(&run("recon"), &[], &partial)["web-shell"],
            (Verdict::CouldNotTell, Some("there is more".to_owned()))
        );
        let (verdict, reason) = &none["binary-drift"];
        assert_eq!(*verdict, Verdict::CouldNotTell);
        assert!(reason.as_deref().unwrap().contains("drift policy"), "{reason:?}");
        // An optional one.
        let (verdict, reason) = &verdicts(&run("secrets"), &[], &Question::default())["token-access"];
        assert_eq!(
            (*verdict, reason.as_deref()),
            (
                Verdict::NotExpected,
                Some("it may stay away: its absence says nothing")
            )
        );
        // A condition that is known.
        let no = Facts {
            conditions: [(Condition::DriftPolicy, Fact::No("no drift policy".into()))].into(),
            ..Facts::default()
        };
        let known = Question {
            facts: no,
            ..Question::default()
        };
        assert_eq!(
            verdicts(&run("crypto"), &[], &known)["binary-drift"],
            (Verdict::NotExpected, Some("no drift policy".into()))
        );
        let yes = Facts {
            conditions: [(Condition::DriftPolicy, Fact::Yes)].into(),
            ..Facts::default()
        };
        let known = Question {
            facts: yes,
            ..Question::default()
        };
        assert_eq!(
            verdicts(&run("crypto"), &[], &known)["binary-drift"].0,
            Verdict::NotRaised
        );
        // Nothing can come.
        let off = Facts {
            plan: Fact::No("the plan is off".into()),
            ..Facts::default()
        };
        let off = Question {
            facts: off,
            ..Question::default()
        };
        assert!(
            verdicts(&run("crypto"), &[], &off)
                .values()
                .all(|(v, _)| *v == Verdict::NotExpected)
        );
        let blind = Facts {
            sensor: Fact::No("there is no sensor".into()),
            ..Facts::default()
        };
        let blind = Question {
            facts: blind,
            ..Question::default()
        };
        let found = verdicts(&run("recon"), &[], &blind);
        assert_eq!(
            found["web-shell"],
            (Verdict::NotExpected, Some("there is no sensor".into()))
        );
        assert_eq!(
            found["service-account-operation"].0,
            Verdict::CouldNotTell,
            "the audit log needs none"
        );
        // The step was not proved, the others were.
        let mut blocked = run("recon");
        blocked.scenarios[0].steps[2].outcome = Outcome::Blocked;
        let found = verdicts(&blocked, &[], &Question::default());
        assert_eq!(
            found["network-scan"],
            (
                Verdict::NotExpected,
                Some("not proved: recon.scan-services".into())
            )
        );
        assert_eq!(found["web-shell"].0, Verdict::NotRaised);
        // Any step sends a web shell its command; which ones another alert is raised for need not be known.
        let mut bare = run("secrets");
        assert_eq!(
            verdicts(&bare, &[], &Question::default())["sensitive-files"].0,
            Verdict::NotRaised
        );
        for step in &mut bare.scenarios[0].steps[..2] {
            step.outcome = Outcome::Skipped;
        }
        let found = verdicts(&bare, &[], &Question::default());
        assert_eq!(found["web-shell"].0, Verdict::NotRaised);
        let (verdict, reason) = &found["sensitive-files"];
        assert_eq!(*verdict, Verdict::CouldNotTell);
        let unproved = "not proved were: secrets.find-git-credentials, secrets.read-git-credentials";
        assert!(reason.as_deref().unwrap().ends_with(unproved), "{reason:?}");
    }

    #[test]
    fn time_to_detect_and_the_gate_on_it() {
        let alert = fired("Possible Web Shell activity detected", "2026-05-04T10:00:30Z");
        let run = run("recon");
        let subject = Subject::of(&run, vec![], false);
        let judged = |slowest: i64| {
            let question = Question {
                slowest: Some(SignedDuration::from_mins(slowest)),
                required: Required::AtLeast(1),
                ..Question::default()
            };
            judge_all(&run, std::slice::from_ref(&alert), &subject, &question)
        };
        let web_shell = |verification: &Verification| verification.alerts[0].clone();
        let in_time = judged(31);
        assert_eq!(
            web_shell(&in_time).raised.unwrap().seconds_to_detect,
            Some(1850.5)
        );
        assert_eq!(in_time.failure, None);
        let late = judged(30);
        assert_eq!(
            web_shell(&late).reason.as_deref(),
            Some("too late: after 1850 s, not within 30m")
        );
        assert_eq!(
            late.failure.as_deref(),
            Some("0 of 4 expected alerts were raised")
        );
    }

    #[test]
    fn runs_that_follow_each_other_do_not_share_alerts() {
        let alert = parse(&fired(
            "Possible Web Shell activity detected",
            "2026-05-04T10:00:30Z",
        ));
        let first = run("recon");
        let mut second = run("crypto");
        second.run = "second".into();
        second.started = at("2026-05-04T10:01:30Z");
        second.ended = at("2026-05-04T10:02:30Z");
        let both = [first.clone(), second.clone()];
        let may = |run: &RunResult, others: &[RunResult]| {
            Subject::of(run, vec![], false)
                .beside(others, run)
                .relation(&alert)
                .is_some()
        };
        assert!(may(&first, &both) && !may(&second, &both));
        assert!(may(&second, &[]), "clocks differ: by itself it may be its own");
        let mut elsewhere = first;
        elsewhere.namespace = "other".into();
        assert!(may(&second, &[elsewhere]));
    }

    #[test]
    fn further_alerts_of_the_same_pods_are_additional() {
        let mut run = run("recon");
        let other = fired("Suspicious PHP execution detected", "2026-05-04T10:00:30Z");
        let mut namespace_only = fired("Something else", "2026-05-04T10:00:30Z");
        namespace_only["id"] = "/other".into();
        namespace_only["properties"]["entities"] =
            json!([{"type": "K8s-namespace", "name": "mdc-simulation"}]);
        let fired = [other.clone(), other, namespace_only];
        let subject = Subject::of(&run, vec![], false);
        let found = judge_all(&run, &fired, &subject, &Question::default());
        let names: Vec<&str> = found.additional.iter().map(|alert| alert.name.as_str()).collect();
        assert_eq!(names, ["Suspicious PHP execution detected"]);
        run.scenarios[0].alerts.clear();
        let found = judge_all(&run, &fired, &subject, &Question::default());
        assert_eq!(
            found.additional.len(),
            2,
            "where nothing may come, both are too many"
        );
        let failure = "no alert was expected, but raised: Suspicious PHP execution detected, Something else";
        assert_eq!(found.failure.as_deref(), Some(failure));
    }

    /// Changes of an alert of the run after which nobody can say whether it is the run's.
    fn unknowns() -> Vec<(&'static str, Value, &'static str)> {
        vec![
            (
                "startTimeUtc",
                json!("soon"),
                "its startTimeUtc \"soon\" cannot be read",
            ),
            (
                "endTimeUtc",
                json!("/Date(x)/"),
                "its endTimeUtc \"/Date(x)/\" cannot be read",
            ),
            (
                "timeGeneratedUtc",
                json!("4/5/2026"),
                "its timeGeneratedUtc \"4/5/2026\" cannot be read",
            ),
            (
                "entities",
                json!(["@{type=K8s-namespace}"]),
                "its entities cannot be read",
            ),
            (
                "entities",
                json!("System.Object[]"),
                "its entities cannot be read",
            ),
            ("entities", json!(null), "it has no entities"),
            ("resources", json!(null), "it names no resource"),
        ]
    }

    fn changed(property: &str, value: &Value) -> Value {
        let mut alert = fired("Possible Web Shell activity detected", "2026-05-04T10:00:30Z");
        if property == "resources" {
            alert["properties"]["resourceIdentifiers"] = json!(null);
            alert["properties"]["compromisedEntity"] = json!(null);
        } else {
            alert["properties"][property] = value.clone();
        }
        alert
    }

    #[test]
    fn alert_that_cannot_be_attributed_makes_the_verdict_unknown() {
        for (property, value, reason) in unknowns() {
            let alert = changed(property, &value);
            let (verdict, said) =
                verdicts(&run("recon"), &[alert], &Question::default())["web-shell"].clone();
            let said = said.unwrap_or_default();
            assert_eq!(verdict, Verdict::CouldNotTell, "{property}: {said}");
            assert!(said.contains(reason), "{reason} in {said}");
        }
        // Without a start and an end, only the time it was raised is left.
        let mut bare = changed("startTimeUtc", &json!(null));
        bare["properties"]["endTimeUtc"] = json!(null);
        for (generated, verdict) in [
            ("2026-05-04T10:31:00Z", Verdict::CouldNotTell),
            ("2026-05-04T09:31:00Z", Verdict::NotRaised),
            ("2026-05-06T10:31:00Z", Verdict::NotRaised),
        ] {
            bare["properties"]["timeGeneratedUtc"] = generated.into();
            let found = verdicts(&run("recon"), std::slice::from_ref(&bare), &Question::default());
            assert_eq!(found["web-shell"].0, verdict, "{generated}");
        }
        // No name: it may be any of them.
        let nameless = changed("alertDisplayName", &json!(null));
        let found = verdicts(&run("recon"), &[nameless], &Question::default());
        assert_eq!(found["web-shell"].0, Verdict::CouldNotTell);
        assert_eq!(found["network-scan"].0, Verdict::CouldNotTell);
    }

    #[test]
    fn alert_is_ruled_out_by_what_can_be_read_of_it() {
        for (property, value) in [
            ("compromisedEntity", json!("elsewhere")),
            ("endTimeUtc", json!("2026-05-04T08:00:00Z")),
            ("entities", json!([{"type": "K8s-namespace", "name": "shop"}])),
            ("alertType", json!("VM_WebShell")),
        ] {
            let mut alert = changed("startTimeUtc", &json!("soon"));
            if property == "alertType" {
                alert["properties"]["entities"] = json!(null);
                alert["properties"]["extendedProperties"] = json!(null);
            }
            if property == "compromisedEntity" {
                alert["properties"]["resourceIdentifiers"] = json!([]);
            }
            alert["properties"][property] = value;
            let found = verdicts(&run("recon"), &[alert], &Question::default());
            assert_eq!(found["web-shell"].0, Verdict::NotRaised, "{property}");
        }
    }

    #[test]
    fn baseline_passes_only_with_evidence() {
        let mut run = run("recon");
        run.scenarios[0].alerts.clear();
        let subject = Subject::of(&run, vec!["aks-test".to_owned()], false);
        let judged = |fired: &[Value], facts: Facts| {
            let question = Question {
                facts,
                ..Question::default()
            };
            judge_all(&run, fired, &subject, &question).failure
        };
        assert_eq!(judged(&[], Facts::default()), None);
        for (property, value, reason) in unknowns() {
            let failure = judged(&[changed(property, &value)], Facts::default()).unwrap_or_default();
            assert!(failure.contains(reason), "{reason} in {failure:?}");
        }
        let blind = Facts {
            sensor: Fact::No("there is no sensor".into()),
            ..Facts::default()
        };
        let failure = judged(&[], blind);
        assert_eq!(
            failure.as_deref(),
            Some("no alert could be raised: there is no sensor")
        );
    }

    #[test]
    fn alerts_about_the_cleanup_are_not_of_the_run() {
        let mut run = run("recon");
        run.scenarios[0].alerts.clear();
        let subject = Subject::of(&run, vec![], false);
        for account in [
            "namespace-controller",
            "system:serviceaccount:kube-system:namespace-controller",
        ] {
            let mut alert = fired("Kubernetes events deleted", "2026-05-04T10:00:50Z");
            let entities = alert["properties"]["entities"].as_array_mut().unwrap();
            entities.push(json!({"type": "K8s-serviceaccount", "name": account}));
            let found = judge_all(&run, &[alert], &subject, &Question::default());
            assert_eq!((found.additional.len(), found.failure), (0, None), "{account}");
        }
    }

    #[test]
    fn nothing_raised_is_a_failure_whatever_the_reason() {
        let blind = Facts {
            sensor: Fact::No("there is no sensor".into()),
            ..Facts::default()
        };
        let failure = |fired: &[Value], facts: &Facts, required: Required| {
            let run = run("lateral-mov");
            let subject = Subject::of(&run, vec![], false);
            let question = Question {
                facts: facts.clone(),
                required,
                ..Question::default()
            };
            judge_all(&run, fired, &subject, &question).failure
        };
        let total = expected(&run("lateral-mov")).len();
        let nothing = |reason: &str| Some(format!("0 of {total} expected alerts were raised{reason}"));
        let default = Required::NoneMissing;
        assert_eq!(failure(&[], &blind, default), nothing(": there is no sensor"));
        assert!(failure(&[], &Facts::default(), default).is_some());
        let one = [fired(
            "Possible Web Shell activity detected",
            "2026-05-04T10:00:30Z",
        )];
        for (required, fails) in [("none", false), ("1", false), ("2", true), ("all", true)] {
            let found = failure(&one, &Facts::default(), required.parse().unwrap());
            assert_eq!(found.is_some(), fails, "{required}: {found:?}");
        }
        assert!("few".parse::<Required>().is_err());
        assert_eq!(failure(&[], &blind, Required::AtLeast(0)), None);
    }

    #[test]
    fn raised_alert_contradicts_an_absent_sensor() {
        let blind = Facts {
            plan: Fact::No("the plan is off".into()),
            sensor: Fact::No("there is no sensor".into()),
            ..Facts::default()
        };
        let run = run("recon");
        let subject = Subject::of(&run, vec![], false);
        let question = Question {
            facts: blind,
            ..Question::default()
        };
        let one = [fired(
            "Possible Web Shell activity detected",
            "2026-05-04T10:00:30Z",
        )];
        let found = judge_all(&run, &one, &subject, &question);
        assert_eq!(
            found.contradictions,
            [
                "the plan is off, but \"Possible Web Shell activity detected\" was raised",
                "there is no sensor, but \"Possible Web Shell activity detected\" was raised",
            ]
        );
        let scan = found
            .alerts
            .iter()
            .find(|alert| alert.id == "network-scan")
            .unwrap();
        assert_eq!(scan.verdict, Verdict::NotRaised);
    }

    #[test]
    fn alerts_that_cannot_be_raised_are_named_before_anyone_looks() {
        let mut recon = run("recon");
        recon.scenarios[0].steps[2].outcome = Outcome::Failed;
        recon.facts = Some(Facts {
            sensor: Fact::No("there is no sensor".into()),
            ..Facts::default()
        });
        rule_out(&mut recon);
        let reasons: BTreeMap<&str, Option<&str>> = recon.scenarios[0]
            .alerts
            .iter()
            .map(|alert| (alert.id.as_str(), alert.not_expected.as_deref()))
            .collect();
        assert_eq!(reasons["web-shell"], Some("there is no sensor"));
        assert_eq!(reasons["network-scan"], Some("not proved: recon.scan-services"));
        assert_eq!(
            reasons["service-account-operation"], None,
            "the audit log needs none"
        );
    }
}
