//! What the alerts that were raised say about a run: a verdict on each alert that was expected, and the
//! further alerts of the same pods.
//!
//! An alert is the run's if its time overlaps the run's, if it names the run's namespace where it names any,
//! if it names the cluster where the cluster is known, and if it names the run's pods or service account;
//! an expected one needs to name no more than the namespace. It is an expected one by its type, where that is
//! public, or by its display name, in whatever spelling.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp, ToSpan as _};

use super::alerts::{self, Alert, Condition};
use super::facts::{Fact, Facts};
use super::fired::FiredAlert;
use crate::manifest::{ATTACKER, VICTIM};
use crate::result::{
    AlertVerdict, RaisedAlert, RunResult, ScenarioResult, StepResult, Verdict, Verification,
};
use crate::scenario::Outcome;

/// The alert that any step raises, by the way in which it is sent.
const DELIVERY: &str = "web-shell";

/// Clocks of this machine and of the nodes may differ by so much.
const MARGIN_SECONDS: i64 = 120;

/// What an alert has to name to be of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    /// Names or ids of the cluster in the cloud; none where it is not known, and then any cluster will do.
    pub cluster: Vec<String>,
    /// The run's namespace.
    pub namespace: String,
    /// The run's id, which is part of the name of its service account; none where no run was observed, and then
    /// the account of any run will do.
    pub run: Option<String>,
    /// Not before.
    pub from: Timestamp,
    /// Not after.
    pub until: Timestamp,
    /// When the run itself began.
    started: Timestamp,
}

impl Subject {
    /// The subject that a run is; of one that was not observed, only place and time are known.
    pub fn of(run: &RunResult, cluster: Vec<String>, unobserved: bool) -> Self {
        Self {
            cluster,
            namespace: run.namespace.clone(),
            run: (!unobserved).then(|| run.run.clone()),
            from: run.started - MARGIN_SECONDS.seconds(),
            until: run.ended + MARGIN_SECONDS.seconds(),
            started: run.started,
        }
    }

    /// The same beside other runs, whose alerts are not this one's: pods are called alike in all of them.
    #[must_use]
    pub fn beside(mut self, others: &[RunResult], run: &RunResult) -> Self {
        let near = others.iter().filter(|other| {
            other.run != run.run
                && other.namespace == run.namespace
                && other.cluster.server == run.cluster.server
        });
        for other in near {
            if other.ended <= run.started {
                self.from = self.from.max(other.ended);
            } else if other.started >= run.ended {
                self.until = self.until.min(other.started);
            }
        }
        self
    }

    /// Whether an alert may be of this run, and whether it names its pods.
    fn concerns(&self, alert: &FiredAlert) -> Option<Naming> {
        if alert.is_incident || alert.is_sample {
            return None;
        }
        let begun = alert.start.or(alert.end).or(alert.generated)?;
        let ended = alert.end.or(alert.start).or(alert.generated)?.max(begun);
        if begun > self.until || ended < self.from {
            return None;
        }
        // What ended and was raised before the run began is not about it, whatever the clocks of nodes say. One that
        // goes on may be, even if it was raised earlier: alerts that repeat may be told as one.
        if ended < self.started && alert.generated.is_some_and(|generated| generated < self.started) {
            return None;
        }
        if !alert.namespaces.is_empty() && !alert.namespaces.contains(&self.namespace.to_lowercase()) {
            return None;
        }
        let named = |name: &str| {
            alert
                .mentions
                .iter()
                .any(|text| mentions(text, &name.to_lowercase()))
        };
        if !self.cluster.is_empty() && !self.cluster.iter().any(|name| names_cluster(alert, name)) {
            return None;
        }
        let ours = |pod: &String| pod == VICTIM || pod == ATTACKER;
        if !alert.pods.is_empty() && !alert.pods.iter().any(ours) {
            return None;
        }
        let accounts: Vec<&String> = alert
            .mentions
            .iter()
            .filter(|text| text.contains(ACCOUNT))
            .collect();
        let own = self.run.as_ref().map(|run| format!("{ACCOUNT}{run}"));
        let of_account = accounts
            .iter()
            .any(|text| own.as_ref().is_none_or(|own| mentions(text, own)));
        if !accounts.is_empty() && !of_account {
            return None;
        }
        if of_account || [VICTIM, ATTACKER].into_iter().any(named) {
            Some(Naming::Pods)
        } else if alert.namespaces.contains(&self.namespace.to_lowercase()) {
            Some(Naming::Namespace)
        } else {
            None
        }
    }

    /// Whether an alert is worth keeping while many are read.
    pub fn may_concern(&self, alert: &FiredAlert) -> bool {
        self.concerns(alert).is_some()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Naming {
    Pods,
    Namespace,
}

/// What the names of service accounts begin with; a run's id follows.
const ACCOUNT: &str = "mdc-simulation-pods-";

/// Whether an alert names a cluster: by its id, or by its name as a whole text or at the end of an id.
fn names_cluster(alert: &FiredAlert, cluster: &str) -> bool {
    let cluster = cluster.to_lowercase();
    alert.mentions.iter().any(|text| {
        let below = text
            .strip_prefix(&cluster)
            .is_some_and(|rest| rest.starts_with('/'));
        *text == cluster || text.rsplit('/').next() == Some(&cluster) || below
    })
}

/// Whether `name` stands in `text` as a whole: not as a part of a longer name.
fn mentions(text: &str, name: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    text.match_indices(name).any(|(at, found)| {
        !text[..at].chars().next_back().is_some_and(inside)
            && !text[at + found.len()..].chars().next().is_some_and(inside)
    })
}

/// Further names of alerts, by id in the catalogue.
pub type Names = BTreeMap<String, Vec<String>>;

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
}

/// Judges `run` by the alerts that were read from `source` at the time `looked`.
pub fn judge(
    run: &RunResult,
    fired: &[FiredAlert],
    subject: &Subject,
    question: &Question,
    source: String,
    looked: Timestamp,
) -> Verification {
    let ours: Vec<(&FiredAlert, Naming)> = fired
        .iter()
        .filter_map(|alert| Some((alert, subject.concerns(alert)?)))
        .collect();
    let mut used = BTreeSet::new();
    let mut verdicts = vec![];
    for (expected, scenarios) in expected(run) {
        let mut matching: Vec<&FiredAlert> = ours
            .iter()
            .map(|(alert, _)| *alert)
            .filter(|alert| is(alert, expected, &question.names))
            .collect();
        matching.sort_by_key(|alert| alert.generated);
        used.extend(matching.iter().map(|alert| alert.id.clone()));
        let raised = matching
            .first()
            .map(|alert| raised(alert, first_step(&scenarios, &expected.id)));
        let (verdict, reason) = match &raised {
            Some(raised) => (Verdict::Raised, late(raised, question.slowest)),
            None => missing(expected, &scenarios, question),
        };
        verdicts.push(AlertVerdict {
            id: expected.id.clone(),
            name: expected.name.clone(),
            scenarios: scenarios.iter().map(|scenario| scenario.id.clone()).collect(),
            late: raised.is_some() && reason.is_some(),
            verdict,
            reason,
            raised,
        });
    }
    // Where nothing is expected, whatever names the namespace is one too many.
    let counts = |naming: Naming| naming == Naming::Pods || verdicts.is_empty();
    let additional = ours
        .iter()
        .filter(|(alert, naming)| counts(*naming) && !used.contains(&alert.id))
        .map(|(alert, _)| raised(alert, None))
        .collect();
    Verification {
        source,
        looked,
        from: subject.from,
        until: subject.until,
        alerts: verdicts,
        additional,
    }
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
fn is(alert: &FiredAlert, expected: &Alert, names: &Names) -> bool {
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
    let name = normalised(&alert.name);
    same_type || known.any(|known| normalised(known) == name)
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

fn raised(alert: &FiredAlert, begun: Option<Timestamp>) -> RaisedAlert {
    let seconds = alert
        .generated
        .zip(begun)
        .map(|(generated, begun)| generated.duration_since(begun).as_secs_f64())
        .filter(|seconds| *seconds >= 0.0);
    RaisedAlert {
        id: alert.id.clone(),
        name: alert.name.clone(),
        severity: alert.severity.clone(),
        status: alert.status.clone(),
        generated: alert.generated,
        seconds_to_detect: seconds,
        link: alert.link.clone(),
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

/// The verdict on an alert that was not raised.
fn missing(
    expected: &Alert,
    scenarios: &[&ScenarioResult],
    question: &Question,
) -> (Verdict, Option<String>) {
    // Whether a step was proved that it is raised for, whether all of a scenario's were, and which were not.
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
    let unproved = unproved.join(", ");
    if !question.unobserved && !any {
        return (Verdict::NotExpected, Some(format!("not proved: {unproved}")));
    }
    let audited = expected.condition == Some(Condition::AuditLog);
    let needed = [&question.facts.plan]
        .into_iter()
        .chain(Some(&question.facts.sensor).filter(|_| !audited));
    for fact in needed {
        if let Fact::No(reason) = fact {
            return (Verdict::NotExpected, Some(reason.clone()));
        }
    }
    let unknown = Fact::Unknown("it is not known whether this cluster has it".to_owned());
    let condition = expected
        .condition
        .map(|condition| question.facts.conditions.get(&condition).unwrap_or(&unknown));
    if let Some(Fact::No(reason)) = condition {
        return (Verdict::NotExpected, Some(reason.clone()));
    }
    if question.waiting {
        return (Verdict::Waiting, None);
    }
    let optional = |scenario: &&ScenarioResult| {
        scenario
            .alerts
            .iter()
            .any(|alert| alert.id == expected.id && alert.optional)
    };
    if scenarios.iter().all(optional) {
        return (
            Verdict::NotExpected,
            Some("it may stay away: its absence says nothing".to_owned()),
        );
    }
    if question.partial.is_some() {
        return (Verdict::CouldNotTell, question.partial.clone());
    }
    if let Some(Fact::Unknown(reason)) = condition {
        let needs = expected.needs.as_deref().unwrap_or_default();
        return (Verdict::CouldNotTell, Some(format!("it needs {needs}; {reason}")));
    }
    if !question.unobserved && expected.id != DELIVERY && !whole {
        let reason = format!("which steps it takes is not public, and not proved were: {unproved}");
        return (Verdict::CouldNotTell, Some(reason));
    }
    let unknown = [("plan", &question.facts.plan), ("sensor", &question.facts.sensor)];
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
    use super::super::fired::{read, tests::raised as fired};
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

    fn verdicts(
        run: &RunResult,
        fired: &[Value],
        question: &Question,
    ) -> BTreeMap<String, (Verdict, Option<String>)> {
        let fired: Vec<FiredAlert> = fired.iter().flat_map(read).collect();
        let subject = Subject::of(run, vec!["aks-test".to_owned()], question.unobserved);
        let verification = judge(
            run,
            &fired,
            &subject,
            question,
            "test".into(),
            at("2026-05-04T11:00:00Z"),
        );
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
            ("entities", json!([])),
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
        let alerts = read(&alert);
        let run = run("recon");
        let subject = Subject::of(&run, vec![], false);
        let judged = |slowest: i64| {
            let question = Question {
                slowest: Some(SignedDuration::from_mins(slowest)),
                ..Question::default()
            };
            let mut verification = judge(
                &run,
                &alerts,
                &subject,
                &question,
                String::new(),
                at("2026-05-04T11:00:00Z"),
            );
            verification
                .alerts
                .retain(|alert| alert.verdict == Verdict::Raised);
            verification
        };
        let in_time = judged(31);
        assert_eq!(
            in_time.alerts[0].raised.as_ref().unwrap().seconds_to_detect,
            Some(1850.5)
        );
        assert!(!in_time.is_wrong());
        let late = judged(30);
        assert_eq!(
            late.alerts[0].reason.as_deref(),
            Some("too late: after 1850 s, not within 30m")
        );
        assert!(late.is_wrong());
    }

    #[test]
    fn runs_that_follow_each_other_do_not_share_alerts() {
        let alert = read(&fired(
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
                .may_concern(&alert[0])
        };
        assert!(may(&first, &both) && !may(&second, &both));
        assert!(may(&second, &[]), "clocks differ: by itself it may be its own");
        let mut elsewhere = first;
        elsewhere.namespace = "other".into();
        assert!(may(&second, &[elsewhere]));
    }

    #[test]
    fn further_alerts_of_the_same_pods_are_additional() {
        let run = run("recon");
        let other = read(&fired(
            "Suspicious PHP execution detected",
            "2026-05-04T10:00:30Z",
        ));
        let mut namespace_only = fired("Something else", "2026-05-04T10:00:30Z");
        namespace_only["properties"]["entities"] =
            json!([{"type": "K8s-namespace", "name": "mdc-simulation"}]);
        let fired: Vec<FiredAlert> = other.into_iter().chain(read(&namespace_only)).collect();
        let subject = Subject::of(&run, vec![], false);
        let found = judge(
            &run,
            &fired,
            &subject,
            &Question::default(),
            String::new(),
            at("2026-05-04T11:00:00Z"),
        );
        let names: Vec<&str> = found.additional.iter().map(|alert| alert.name.as_str()).collect();
        assert_eq!(names, ["Suspicious PHP execution detected"]);
        let mut baseline = run;
        baseline.scenarios[0].alerts.clear();
        let found = judge(
            &baseline,
            &fired,
            &subject,
            &Question::default(),
            String::new(),
            at("2026-05-04T11:00:00Z"),
        );
        assert_eq!(
            found.additional.len(),
            2,
            "where nothing may come, both are too many"
        );
    }
}
