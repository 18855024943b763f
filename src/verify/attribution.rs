//! Attributes alerts to a run by its ID, or else by time, cluster, namespace and pods.
//!
//! An alert that names the run's ID is the run's: the ID is random and part of the names of the objects that the run
//! creates in the control plane, and of its service account. Another alert is the run's if its time overlaps the run's,
//! if it names the run's namespace where it names any, if it names the cluster where the cluster is known, and if it
//! names the run's pods; an expected one needs to name no more than the namespace. If one of these cannot be read and no
//! other rules the alert out, the attribution is unknown. So it is if an alert names another namespace in which a step
//! acted: others act there as well.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp, ToSpan as _};

use super::fired::FiredAlert;
use crate::plan::{RunId, is_pod_name};
use crate::result::RunResult;

/// Tolerated difference between the clocks of this machine and of the nodes.
const MARGIN_SECONDS: i64 = 120;

/// An alert without start and end is ruled out if it was raised this long after the run.
const LATEST: SignedDuration = SignedDuration::from_hours(24);

/// Prefix of the name of a run's service account; the run's ID follows.
const ACCOUNT: &str = "mdc-simulation-pods-";

/// Prefix of the name of an object that a step creates; the run's ID and the step follow.
const OBJECT: &str = "defender-sim-";

/// Service accounts of the control plane that delete what a run leaves to them. An alert about one of them is about
/// the cleanup.
const CONTROLLERS: [&str; 3] = [
    "namespace-controller",
    "generic-garbage-collector",
    "job-controller",
];

/// A run, as alerts identify it.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    /// Names and IDs of the cluster in Azure; empty if unknown, which matches any cluster.
    pub cluster: Vec<String>,
    /// The run's namespace.
    pub namespace: String,
    /// The run's ID. `None` if no run was observed, which matches the objects of any run.
    pub run: Option<String>,
    /// Earliest time of its alerts.
    pub from: Timestamp,
    /// Latest time of its alerts.
    pub until: Timestamp,
    /// Other namespaces in which its steps acted.
    pub elsewhere: BTreeSet<String>,
    /// When the run started.
    started: Timestamp,
}

/// How an alert relates to a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relation {
    /// It names the run's ID or its pods.
    Named,
    /// It names the run's namespace only.
    Namespace,
    /// It may be of the run: why this cannot be decided.
    Unknown(String),
}

impl Subject {
    /// Describes a run; of an unobserved one only place and time are known.
    pub fn of(run: &RunResult, cluster: Vec<String>, unobserved: bool) -> Self {
        let requests = run.steps().filter_map(|step| step.request.as_ref());
        let namespaces = requests.filter_map(|request| request.namespace.clone());
        Self {
            elsewhere: namespaces.filter(|other| *other != run.namespace).collect(),
            cluster,
            namespace: run.namespace.to_lowercase(),
            run: (!unobserved).then(|| run.run.clone()),
            from: run.started - MARGIN_SECONDS.seconds(),
            until: run.ended + MARGIN_SECONDS.seconds(),
            started: run.started,
        }
    }

    /// Excludes the time of other runs in the same namespace: the pods of all runs have the same names.
    #[must_use]
    pub fn without(mut self, others: &[RunResult], run: &RunResult) -> Self {
        let neighbors = others.iter().filter(|other| {
            other.run != run.run
                && other.namespace == run.namespace
                && other.cluster.server == run.cluster.server
        });
        for other in neighbors {
            if other.ended <= run.started {
                self.from = self.from.max(other.ended);
            } else if other.started >= run.ended {
                self.until = self.until.min(other.started);
            }
        }
        self
    }

    /// Returns how an alert relates to this run; `None` if it does not.
    pub fn relation(&self, alert: &FiredAlert) -> Option<Relation> {
        if alert.is_incident || alert.is_sample || names_controller(alert) {
            return None;
        }
        if self.is_named_by(alert) {
            return Some(Relation::Named);
        }
        let mut unknown = vec![];
        for check in [self.time(alert), self.cluster(alert)] {
            match check {
                Check::Fits => {}
                Check::Differs => return None,
                Check::Unknown(reason) => unknown.push(reason),
            }
        }
        let relation = self.named_part(alert)?;
        if let Relation::Unknown(reason) = relation {
            unknown.push(reason);
        } else if unknown.is_empty() {
            return Some(relation);
        }
        Some(Relation::Unknown(unknown.join("; ")))
    }

    /// Whether an alert names the run's ID.
    fn is_named_by(&self, alert: &FiredAlert) -> bool {
        // A record from elsewhere may contain any text as its ID.
        let id = self.run.as_deref().filter(|id| RunId::matches(id));
        let is_inside = |c: char| c.is_ascii_alphanumeric();
        id.is_some_and(|id| {
            let mut mentions = alert.about.mentions.iter();
            mentions.any(|text| contains(text, id, is_inside))
        })
    }

    /// Whether an alert's time overlaps the run's.
    fn time(&self, alert: &FiredAlert) -> Check {
        let before = |time: Option<Timestamp>, limit| time.is_some_and(|time| time < limit);
        let after = |time: Option<Timestamp>, limit| time.is_some_and(|time| time > limit);
        let has_period = alert.start.or(alert.end).is_some();
        let is_old = !has_period && before(alert.generated, self.from);
        if after(alert.start, self.until) || before(alert.end, self.from) || is_old {
            return Check::Differs;
        }
        let has_begun = alert.start.or(alert.end);
        if let (Some(begun), []) = (has_begun, &alert.unreadable_times[..]) {
            let ended = alert.end.unwrap_or(begun).max(begun);
            // An alert that ended and was raised before the run began is not of the run, in spite of the margin. One
            // that continues may be: repeated alerts may be reported as one.
            let is_over = ended < self.started && before(alert.generated, self.started);
            return if begun > self.until || ended < self.from || is_over {
                Check::Differs
            } else {
                Check::Fits
            };
        }
        let latest = self.until.saturating_add(LATEST).unwrap_or(Timestamp::MAX);
        if after(alert.generated, latest) {
            return Check::Differs;
        }
        Check::Unknown(match &alert.unreadable_times[..] {
            [] => "it has no start time".to_owned(),
            times => format!("its {} cannot be read", times.join(" and ")),
        })
    }

    /// Whether an alert names the cluster, if that is known.
    fn cluster(&self, alert: &FiredAlert) -> Check {
        if self.cluster.is_empty() || self.cluster.iter().any(|name| names_cluster(alert, name)) {
            Check::Fits
        } else if alert.about.has_resource {
            Check::Differs
        } else {
            Check::Unknown("it names no resource".to_owned())
        }
    }

    /// Returns what an alert names of the run; `None` if it names something else, or nothing.
    fn named_part(&self, alert: &FiredAlert) -> Option<Relation> {
        let about = &alert.about;
        let is_unobserved = self.run.is_none();
        if is_unobserved && about.mentions.iter().any(|text| names_object(text)) {
            return Some(Relation::Named);
        }
        if let Some(other) = about
            .namespaces
            .iter()
            .find(|other| self.elsewhere.contains(*other))
        {
            let reason = format!("it names namespace {other}, where a step acted, and not the run");
            return Some(Relation::Unknown(reason));
        }
        let elsewhere = !about.namespaces.is_empty() && !about.namespaces.contains(&self.namespace);
        if elsewhere || (!about.pods.is_empty() && !about.pods.iter().any(|pod| is_pod_name(pod))) {
            return None;
        }
        if about.mentions.iter().any(|text| text.contains(ACCOUNT)) {
            // The account of another run, since this run's would name its ID.
            return is_unobserved.then_some(Relation::Named);
        }
        if about.mentions.iter().any(|text| pods_in(text).next().is_some()) {
            return Some(Relation::Named);
        }
        if !about.namespaces.is_empty() {
            return Some(Relation::Namespace);
        }
        // Alerts of other plans have types with other prefixes.
        let is_of_containers = |kind: &String| {
            let kind = kind.to_ascii_uppercase();
            kind.starts_with("K8S") || kind.starts_with("AKS_")
        };
        let may_be = alert.alert_type.as_ref().is_none_or(is_of_containers);
        let reason = about.unreadable.clone().filter(|_| may_be)?;
        Some(Relation::Unknown(reason))
    }
}

/// Result of one condition.
enum Check {
    Fits,
    Differs,
    Unknown(String),
}

/// Whether an alert names a cluster: by its id, or by its name as a whole text or at the end of an id.
fn names_cluster(alert: &FiredAlert, cluster: &str) -> bool {
    let cluster = cluster.to_lowercase();
    alert.about.mentions.iter().any(|text| {
        let below = text
            .strip_prefix(&cluster)
            .is_some_and(|rest| rest.starts_with('/'));
        *text == cluster || text.rsplit('/').next() == Some(&cluster) || below
    })
}

/// Whether an alert is about a controller, and thus about the cleanup.
fn names_controller(alert: &FiredAlert) -> bool {
    let is_controller = |text: &String| {
        let name = text.rsplit(':').next().unwrap_or(text);
        CONTROLLERS.contains(&name)
    };
    alert.about.mentions.iter().any(is_controller)
}

/// Whether `text` contains the name of an object that a step of any run created.
fn names_object(text: &str) -> bool {
    let mut after = text.split(OBJECT).skip(1);
    after.any(|rest| rest.split_once('-').is_some_and(|(id, _)| RunId::matches(id)))
}

/// Returns the pods of runs that a text names.
pub(super) fn pods_in(text: &str) -> impl Iterator<Item = &str> {
    let is_inside = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    text.split(move |c| !is_inside(c))
        .filter(|word| is_pod_name(word))
}

/// Whether `text` contains `name` between characters that are not inside of a name.
fn contains(text: &str, name: &str, is_inside: impl Fn(char) -> bool) -> bool {
    text.match_indices(name).any(|(at, found)| {
        !text[..at].chars().next_back().is_some_and(&is_inside)
            && !text[at + found.len()..].chars().next().is_some_and(&is_inside)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::fixture::{at, changed, judge_all, parse, raised, run, unknowns, verdicts};
    use super::super::options::JudgeOptions;
    use super::*;
    use crate::result::{RequestResult, Verdict};

    fn web_shell(change: impl Fn(&mut Value)) -> Verdict {
        let mut alert = raised("Possible Web Shell Activity Detected.", "2026-05-04T10:00:30Z");
        change(&mut alert["properties"]);
        verdicts(&run("recon"), &[alert], &JudgeOptions::default())["web-shell"].0
    }

    #[test]
    fn alert_about_another_namespace_where_a_step_acted_is_unknown() {
        let mut run = run("coredns");
        let parsed = parse(&raised(
            "CoreDNS modification in Kubernetes detected",
            "2026-05-04T10:00:30Z",
        ));
        let with_namespace = |namespace: &str| {
            let mut alert = parsed.clone();
            alert.about.namespaces = vec![namespace.to_owned()].into_iter().collect();
            alert.about.pods.clear();
            alert.about.mentions.clear();
            alert
        };
        let relation = |run: &RunResult, namespace: &str| {
            Subject::of(run, vec![], false).relation(&with_namespace(namespace))
        };
        assert_eq!(relation(&run, "kube-system"), None);
        run.scenarios[0].steps[0].request = Some(RequestResult {
            namespace: Some("kube-system".to_owned()),
            ..RequestResult::default()
        });
        assert!(matches!(
            relation(&run, "kube-system"),
            Some(Relation::Unknown(_))
        ));
        assert_eq!(relation(&run, "shop"), None);
    }

    #[test]
    fn alert_of_another_time_namespace_or_kind_is_not_of_the_run() {
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
    }

    #[test]
    fn alert_of_another_cluster_pod_or_account_is_not_of_the_run() {
        let elsewhere = |properties: &mut Value| {
            properties["compromisedEntity"] = "aks-test-2".into();
            properties["resourceIdentifiers"] = json!([]);
        };
        assert_eq!(web_shell(elsewhere), Verdict::NotRaised);
        // A resource group of that name is not the cluster.
        let group = |properties: &mut Value| {
            properties["compromisedEntity"] = "/subscriptions/s/resourceGroups/aks-test/x/aks-2".into();
            properties["resourceIdentifiers"] = json!([]);
        };
        assert_eq!(web_shell(group), Verdict::NotRaised);
        // Another pod, or the account of another run, in the same namespace.
        let other_pod = |properties: &mut Value| properties["entities"][2]["name"] = "shop-1".into();
        assert_eq!(web_shell(other_pod), Verdict::NotRaised);
        for (account, verdict) in [("zzzzzzzz", Verdict::NotRaised), ("abcdefgh", Verdict::Raised)] {
            let name = format!("mdc-simulation-pods-{account}");
            let of_account =
                |properties: &mut Value| properties["extendedProperties"] = json!({"userName": name});
            assert_eq!(web_shell(of_account), verdict, "{account}");
        }
        // If no run was observed, its account is unknown.
        let name = "system:serviceaccount:mdc-simulation:mdc-simulation-pods-zzzzzzzz";
        let mut audited = raised(
            "Suspicious Kubernetes service account operation detected",
            "2026-05-04T10:00:30Z",
        );
        audited["properties"]["entities"] = json!([{"type": "K8s-serviceaccount", "name": name}]);
        for (unobserved, verdict) in [(false, Verdict::Unknown), (true, Verdict::Raised)] {
            let options = JudgeOptions {
                unobserved,
                ..JudgeOptions::default()
            };
            let found = verdicts(&run("recon"), std::slice::from_ref(&audited), &options);
            assert_eq!(found["service-account-operation"].0, verdict, "{unobserved}");
        }
    }

    /// A control-plane alert as a public sample has it, about an object of that name.
    fn of_object(name: &str) -> FiredAlert {
        let mut alert = raised("New high privileges role detected", "2026-05-04T10:00:30Z");
        let properties = &mut alert["properties"];
        properties["entities"] = json!([{"type": "K8s-cluster"}, {"type": "azure-resource"}]);
        properties["extendedProperties"] = json!({"Resource name": name, "namespace": "kube-system"});
        parse(&alert)
    }

    #[test]
    fn alert_that_names_the_run_id_is_of_the_run() {
        let run = run("recon");
        let subject = Subject::of(&run, vec!["aks-elsewhere".to_owned()], false);
        for (name, is_own) in [
            ("defender-sim-abcdefgh-wildcard", true),
            ("Defender-Sim-ABCDEFGH", true),
            ("argo-server-abcdefgh", true),
            ("kubectl-defender-sim/0.1.0 run/abcdefgh", true),
            ("defender-sim-abcdefghi-wildcard", false),
            ("defender-sim-xabcdefgh-wildcard", false),
            ("defender-sim-zzzzzzzz-wildcard", false),
        ] {
            // Not even the time, the cluster or the namespace counts then.
            let mut alert = of_object(name);
            (alert.start, alert.end) = (None, None);
            alert.unreadable_times = vec!["startTimeUtc".to_owned()];
            let expected = is_own.then_some(Relation::Named);
            assert_eq!(subject.relation(&alert), expected, "{name}");
            alert.is_sample = true;
            assert_eq!(subject.relation(&alert), None, "{name}");
        }
        // A record from elsewhere without a usable ID.
        for id in ["", "kube"] {
            let subject = Subject {
                run: Some(id.to_owned()),
                ..subject.clone()
            };
            assert_eq!(subject.relation(&of_object("kube-system")), None, "{id:?}");
        }
    }

    #[test]
    fn alert_that_names_an_object_of_any_run_is_of_an_unobserved_run() {
        let subject = Subject::of(&run("recon"), vec!["aks-test".to_owned()], true);
        for (name, is_own) in [
            ("defender-sim-zzzzzzzz-wildcard", true),
            ("defender-sim-team-wildcard", false),
            ("wildcard", false),
        ] {
            let expected = is_own.then_some(Relation::Named);
            assert_eq!(subject.relation(&of_object(name)), expected, "{name}");
        }
        let mut later = of_object("defender-sim-zzzzzzzz-wildcard");
        later.start = Some(at("2026-05-04T12:00:00Z"));
        assert_eq!(subject.relation(&later), None, "only the time tells runs apart");
    }

    #[test]
    fn alert_that_overlaps_the_run_in_time_is_of_the_run() {
        // Ended before the run began, or continues.
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
        // It began before the run and continues.
        let overlapping = |properties: &mut Value| {
            properties["startTimeUtc"] = "2026-05-04T09:00:00Z".into();
        };
        assert_eq!(web_shell(overlapping), Verdict::Raised);
        // Dismissed alerts count.
        assert_eq!(
            web_shell(|properties| properties["status"] = "Dismissed".into()),
            Verdict::Raised
        );
    }

    #[test]
    fn consecutive_runs_do_not_share_alerts() {
        let alert = parse(&raised(
            "Possible Web Shell activity detected",
            "2026-05-04T10:00:30Z",
        ));
        let first = run("recon");
        let mut second = run("crypto");
        second.run = "second".into();
        second.started = at("2026-05-04T10:01:30Z");
        second.ended = at("2026-05-04T10:02:30Z");
        let both = [first.clone(), second.clone()];
        let is_of = |run: &RunResult, others: &[RunResult]| {
            Subject::of(run, vec![], false)
                .without(others, run)
                .relation(&alert)
                .is_some()
        };
        assert!(is_of(&first, &both) && !is_of(&second, &both));
        assert!(is_of(&second, &[]), "clocks differ");
        let mut elsewhere = first;
        elsewhere.namespace = "other".into();
        assert!(is_of(&second, &[elsewhere]));
    }

    #[test]
    fn alert_that_cannot_be_attributed_makes_the_verdict_unknown() {
        for (property, value, reason) in unknowns() {
            let alert = changed(property, &value);
            let (verdict, found) =
                verdicts(&run("recon"), &[alert], &JudgeOptions::default())["web-shell"].clone();
            let found = found.unwrap_or_default();
            assert_eq!(verdict, Verdict::Unknown, "{property}: {found}");
            assert!(found.contains(reason), "{reason} in {found}");
        }
        // Without start and end, only the time it was raised is known.
        let mut bare = changed("startTimeUtc", &json!(null));
        bare["properties"]["endTimeUtc"] = json!(null);
        for (generated, verdict) in [
            ("2026-05-04T10:31:00Z", Verdict::Unknown),
            ("2026-05-04T09:31:00Z", Verdict::NotRaised),
            ("2026-05-06T10:31:00Z", Verdict::NotRaised),
        ] {
            bare["properties"]["timeGeneratedUtc"] = generated.into();
            let found = verdicts(
                &run("recon"),
                std::slice::from_ref(&bare),
                &JudgeOptions::default(),
            );
            assert_eq!(found["web-shell"].0, verdict, "{generated}");
        }
        // An alert without a name may be any.
        let nameless = changed("alertDisplayName", &json!(null));
        let found = verdicts(&run("recon"), &[nameless], &JudgeOptions::default());
        assert_eq!(found["web-shell"].0, Verdict::Unknown);
        assert_eq!(found["network-scan"].0, Verdict::Unknown);
    }

    #[test]
    fn readable_property_rules_an_alert_out() {
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
            let found = verdicts(&run("recon"), &[alert], &JudgeOptions::default());
            assert_eq!(found["web-shell"].0, Verdict::NotRaised, "{property}");
        }
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
            let mut alert = raised("Kubernetes events deleted", "2026-05-04T10:00:50Z");
            let entities = alert["properties"]["entities"].as_array_mut().unwrap();
            entities.push(json!({"type": "K8s-serviceaccount", "name": account}));
            entities.push(json!({"type": "K8s-role", "name": "defender-sim-abcdefgh-role"}));
            let found = judge_all(&run, &[alert], &subject, &JudgeOptions::default());
            assert_eq!((found.additional.len(), found.failure), (0, None), "{account}");
        }
    }
}
