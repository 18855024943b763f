//! Which alerts are of a run: decided by time, cluster, namespace, pods and service account.
//!
//! An alert is the run's if its time overlaps the run's, if it names the run's namespace where it names any, if it
//! names the cluster where the cluster is known, and if it names the run's pods or service account; an expected one
//! needs to name no more than the namespace. Where one of these cannot be read and no other rules the alert out,
//! whether it is the run's is unknown.

use jiff::{SignedDuration, Timestamp, ToSpan as _};

use super::fired::FiredAlert;
use crate::manifest::{ATTACKER, VICTIM};
use crate::result::RunResult;

/// Clocks of this machine and of the nodes may differ by so much.
const MARGIN_SECONDS: i64 = 120;

/// An alert of which only the time it was raised is known is ruled out if that is so long after the run.
const LATEST: SignedDuration = SignedDuration::from_hours(24);

/// What the names of service accounts begin with; a run's id follows.
const ACCOUNT: &str = "mdc-simulation-pods-";

/// Service accounts of the control plane that delete what a run leaves to them. An alert about one of them is about
/// the cleanup.
const CONTROLLERS: [&str; 3] = [
    "namespace-controller",
    "generic-garbage-collector",
    "job-controller",
];

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

/// How an alert relates to a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relation {
    /// It names the run's pods or service account.
    Pods,
    /// It names the run's namespace only.
    Namespace,
    /// It may be of the run: why this cannot be decided.
    Unknown(String),
}

impl Subject {
    /// The subject that a run is; of one that was not observed, only place and time are known.
    pub fn of(run: &RunResult, cluster: Vec<String>, unobserved: bool) -> Self {
        Self {
            cluster,
            namespace: run.namespace.to_lowercase(),
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

    /// How an alert relates to this run. Returns `None` if it is of something else.
    pub fn relation(&self, alert: &FiredAlert) -> Option<Relation> {
        if alert.is_incident || alert.is_sample {
            return None;
        }
        let mut unknown = vec![];
        for check in [self.time(alert), self.cluster(alert)] {
            match check {
                Check::Fits => {}
                Check::Differs => return None,
                Check::Unknown(reason) => unknown.push(reason),
            }
        }
        let relation = self.naming(alert)?;
        if let Relation::Unknown(reason) = relation {
            unknown.push(reason);
        } else if unknown.is_empty() {
            return Some(relation);
        }
        Some(Relation::Unknown(unknown.join("; ")))
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
            // What ended and was raised before the run began is not about it, whatever the clocks of nodes say. One
            // that goes on may be, even if it was raised earlier: alerts that repeat may be told as one.
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

    /// Whether an alert names the cluster, where that is known.
    fn cluster(&self, alert: &FiredAlert) -> Check {
        if self.cluster.is_empty() || self.cluster.iter().any(|name| names_cluster(alert, name)) {
            Check::Fits
        } else if alert.about.has_resource {
            Check::Differs
        } else {
            Check::Unknown("it names no resource".to_owned())
        }
    }

    /// What of the run an alert names. Returns `None` if it names something else, or nothing.
    fn naming(&self, alert: &FiredAlert) -> Option<Relation> {
        let about = &alert.about;
        let is_own_pod = |pod: &String| pod == VICTIM || pod == ATTACKER;
        let elsewhere = !about.namespaces.is_empty() && !about.namespaces.contains(&self.namespace);
        if elsewhere || (!about.pods.is_empty() && !about.pods.iter().any(is_own_pod)) {
            return None;
        }
        let mut accounts = about
            .mentions
            .iter()
            .filter(|text| text.contains(ACCOUNT))
            .peekable();
        if accounts.peek().is_some() {
            let own = self.run.as_ref().map(|run| format!("{ACCOUNT}{run}"));
            let is_own = accounts.any(|text| own.as_ref().is_none_or(|own| mentions(text, own)));
            return is_own.then_some(Relation::Pods);
        }
        let is_controller = |text: &String| {
            let name = text.rsplit(':').next().unwrap_or(text);
            CONTROLLERS.contains(&name)
        };
        if about.mentions.iter().any(is_controller) {
            return None;
        }
        let names = |pod: &str| about.mentions.iter().any(|text| mentions(text, pod));
        if [VICTIM, ATTACKER].into_iter().any(names) {
            return Some(Relation::Pods);
        }
        if !about.namespaces.is_empty() {
            return Some(Relation::Namespace);
        }
        // Alerts of other plans have types with other prefixes.
        let is_of_containers = |kind: &String| kind.to_ascii_uppercase().starts_with("K8S");
        let may_be = alert.alert_type.as_ref().is_none_or(is_of_containers);
        let reason = about.unreadable.clone().filter(|_| may_be)?;
        Some(Relation::Unknown(reason))
    }
}

/// The answer to one of the conditions.
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

/// Whether `name` stands in `text` as a whole: not as a part of a longer name.
fn mentions(text: &str, name: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    text.match_indices(name).any(|(at, found)| {
        !text[..at].chars().next_back().is_some_and(inside)
            && !text[at + found.len()..].chars().next().is_some_and(inside)
    })
}
