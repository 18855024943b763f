//! Says whether a run can work in a cluster, and whether Defender can see it: a fixed list of checks, a file
//! each. They only read, all at once; what several of them look at is read once.
//!
//! A check is a function from what is looked at to a finding. An error of the cluster on the way means
//! that the check could not tell.

mod active_run;
mod admission;
mod azure_alerts;
mod azure_cluster;
mod azure_exclusions;
mod azure_plan;
mod azure_profile;
mod azure_rules;
mod identity;
mod images;
mod leftovers;
mod look;
mod namespace;
mod network_policies;
mod nodes;
mod quota;
mod reachable;
mod rights;
mod sensor;
mod sensor_features;
mod sensor_pods;
mod sensor_ready;

use futures::FutureExt;
use futures::future::{LocalBoxFuture, join_all};

use crate::azure::{AzureError, AzureOptions};
use crate::cluster::{Cluster, ClusterError};
use crate::defender::facts::Facts;
use crate::defender::marks::Marks;
use crate::event::{Event, Events};
use crate::exit::Exit;
use crate::kubectl::Kubectl;
use crate::plan::Plan;
use crate::result::{CheckResult, CheckStatus, ClusterInfo, DOCTOR_SCHEMA, DoctorResult};
use crate::untrusted;
use look::Look;

type Check = for<'a> fn(&'a Look) -> LocalBoxFuture<'a, Checked>;
/// What a check came to; on its way, what it came to since it could not go on.
type Checked = Result<Finding, Finding>;

/// Every check that needs an answering cluster: its id, its title, itself. In this order they are told. An id
/// never changes.
const CHECKS: [(&str, &str, Check); 19] = [
    ("identity", "Whom the cluster takes you for", |look| {
        identity::check(look).boxed_local()
    }),
    ("rights", "Rights that a run needs", |look| {
        rights::check(look).boxed_local()
    }),
    ("namespace", "Namespace of the run", |look| {
        namespace::check(look).boxed_local()
    }),
    ("admission", "Policies on the objects of a run", |look| {
        admission::check(look).boxed_local()
    }),
    ("quota", "Quota and limits of the namespace", |look| {
        quota::check(look).boxed_local()
    }),
    ("nodes", "Nodes for the pods", |look| {
        nodes::check(look).boxed_local()
    }),
    ("images", "Images of the pods", |look| {
        images::check(look).boxed_local()
    }),
    ("network-policies", "Network policies of the namespace", |look| {
        network_policies::check(look).boxed_local()
    }),
    ("active-run", "Another run under way", |look| {
        active_run::check(look).boxed_local()
    }),
    ("leftovers", "What earlier runs left", |look| {
        leftovers::check(look).boxed_local()
    }),
    ("sensor", "Defender's sensor", |look| {
        sensor::check(look).boxed_local()
    }),
    ("sensor-ready", "Sensor on the nodes", |look| {
        sensor_ready::check(look).boxed_local()
    }),
    ("sensor-features", "What the alerts need of the sensor", |look| {
        sensor_features::check(look).boxed_local()
    }),
    ("azure-cluster", "Cluster in Azure", |look| {
        azure_cluster::check(look).boxed_local()
    }),
    ("azure-plan", "Plan Defender for Containers", |look| {
        azure_plan::check(look).boxed_local()
    }),
    ("azure-profile", "Security profile of AKS", |look| {
        azure_profile::check(look).boxed_local()
    }),
    ("azure-exclusions", "Tags that keep Defender away", |look| {
        azure_exclusions::check(look).boxed_local()
    }),
    ("azure-alerts", "Right to read alerts", |look| {
        azure_alerts::check(look).boxed_local()
    }),
    ("azure-rules", "Rules that dismiss alerts", |look| {
        azure_rules::check(look).boxed_local()
    }),
];

/// What a check came to.
#[derive(Clone, Debug, PartialEq)]
struct Finding {
    status: CheckStatus,
    seen: String,
    advice: Option<String>,
    /// Words of a kubectl command that follows the advice.
    command: Vec<String>,
}

impl Finding {
    fn new(status: CheckStatus, seen: impl Into<String>) -> Self {
        Self {
            status,
            seen: seen.into(),
            advice: None,
            command: vec![],
        }
    }

    fn ok(seen: impl Into<String>) -> Self {
        Self::new(CheckStatus::Ok, seen)
    }

    fn warning(seen: impl Into<String>) -> Self {
        Self::new(CheckStatus::Warning, seen)
    }

    fn failed(seen: impl Into<String>) -> Self {
        Self::new(CheckStatus::Failed, seen)
    }

    fn not_told(seen: impl Into<String>) -> Self {
        Self::new(CheckStatus::CouldNotTell, seen)
    }

    fn not_applicable(seen: impl Into<String>) -> Self {
        Self::new(CheckStatus::NotApplicable, seen)
    }

    fn advise(self, advice: impl Into<String>) -> Self {
        Self {
            advice: Some(advice.into()),
            ..self
        }
    }

    /// Advice that ends with a kubectl command, which is given without its first word and connection flags.
    fn suggest<'a>(self, advice: impl Into<String>, command: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            command: command.into_iter().map(str::to_owned).collect(),
            ..self.advise(advice)
        }
    }

    /// With this id and title; most of it is from the cluster.
    fn named(self, id: &'static str, title: &'static str, kubectl: &Kubectl) -> CheckResult {
        let advice = self.advice.as_deref().map(untrusted::line);
        let command =
            (!self.command.is_empty()).then(|| kubectl.command(self.command.iter().map(String::as_str)));
        let parts = [advice, command].into_iter().flatten();
        let parts: Vec<String> = parts.filter(|part| !part.is_empty()).collect();
        CheckResult {
            id,
            title,
            status: self.status,
            seen: untrusted::line(&self.seen),
            advice: (!parts.is_empty()).then(|| parts.join(": ")),
        }
    }
}

#[cfg(test)]
impl Finding {
    /// What was found and what is advised, as reports print it.
    fn text(&self) -> String {
        let result = self.clone().named("", "", &Kubectl::default());
        format!("{} {}", result.seen, result.advice.unwrap_or_default())
    }
}

/// A check that did not work has nothing to say about what it is for.
impl From<ClusterError> for Finding {
    fn from(error: ClusterError) -> Self {
        Finding {
            advice: error.explained.hint.clone(),
            ..Finding::not_told(error.to_string())
        }
    }
}

/// So has one that asked Azure.
impl From<AzureError> for Finding {
    fn from(error: AzureError) -> Self {
        Finding {
            advice: error.explained.hint.clone(),
            ..Finding::not_told(error.to_string())
        }
    }
}

/// Checks whether `plan` could be run in `cluster`, and be seen. `azure` is what the user says of Azure, and
/// what is known of the cluster already. Changes nothing.
pub async fn doctor(
    cluster: Cluster,
    plan: Plan,
    info: ClusterInfo,
    azure: (AzureOptions, Marks),
    events: &Events,
) -> DoctorResult {
    events.send(Event::Checking);
    let mut info = info;
    let look = Look::new(cluster, plan, azure);
    let (reached, version) = reachable::check(&look).await;
    let answers = version.is_some();
    info.version = version;
    let kubectl = look.cluster.kubectl();
    let mut checks = vec![reached.named("reachable", "Cluster", kubectl)];
    if answers {
        let found = CHECKS.map(|(id, title, check)| {
            let look = &look;
            async move {
                let finding = check(look).await.unwrap_or_else(|unable| unable);
                finding.named(id, title, kubectl)
            }
        });
        checks.extend(join_all(found).await);
        info.user = look.user().await.ok().flatten().map(untrusted::line);
        info.resource_id = look
            .azure()
            .await
            .ok()
            .and_then(|found| Some(found?.0.search.found.as_ref()?.id.clone()));
    } else {
        let untold = || Finding::not_told("the cluster did not answer");
        checks.extend(CHECKS.map(|(id, title, _)| untold().named(id, title, kubectl)));
    }
    let exit = if checks.iter().any(|check| check.status == CheckStatus::Failed) {
        Exit::NotStarted
    } else {
        Exit::Ok
    };
    DoctorResult {
        schema: DOCTOR_SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        cluster: info,
        namespace: look.plan.namespace.name.clone(),
        scenarios: look
            .plan
            .scenarios
            .iter()
            .map(|scenario| scenario.id.clone())
            .collect(),
        checks,
        exit,
        exit_code: exit.code(),
    }
}

/// What was seen of Defender's sensor in a cluster.
pub struct Sensing(Look);

impl Sensing {
    /// Looks for the sensor; nothing where that cannot be read. `azure` as for [`doctor`].
    pub async fn of(cluster: &Cluster, plan: &Plan, azure: (AzureOptions, Marks)) -> Option<Self> {
        let look = Look::new(cluster.clone(), plan.clone(), azure);
        look.sensors().await.ok()?;
        Some(Self(look))
    }

    /// What that tells of the alerts of a run, and whether a sensor is ready on the `node` that its pods were on.
    pub async fn facts(&self, node: Option<&str>) -> Option<Facts> {
        let sensors = self.0.sensors().await.ok()?;
        let node = match node {
            Some(node) if sensors.facts.sensors.iter().any(|sensor| sensor.ready) => {
                let pods = self.0.sensor_pods(Some(node)).await;
                let ready =
                    pods.map(|of_each| of_each.iter().map(|pods| !pods.ready_on.is_empty()).collect());
                Some((node, ready.map_err(|error| untrusted::line(&error.to_string()))))
            }
            _ => None,
        };
        Some(Facts::of_sensors(&sensors.facts, node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_short() {
        let mut ids = CHECKS.map(|(id, ..)| id);
        ids.sort_unstable();
        assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "{ids:?}");
        assert!(
            ids.iter().all(|id| id.len() <= 16),
            "the table has room for 16: {ids:?}"
        );
    }

    #[test]
    fn advice_ends_with_its_command() {
        let kubectl = Kubectl::new([("as", Some("b o b".to_owned()))]);
        let advice = |finding: Finding| finding.named("x", "y", &kubectl).advice;
        let finding = || Finding::failed("");
        let command = ["get", "pods", "-n", "a;b"];
        assert_eq!(
            advice(finding().suggest("see", command)).as_deref(),
            Some("see: kubectl get pods -n 'a;b' --as 'b o b'")
        );
        assert_eq!(
            advice(finding().suggest("", command)).as_deref(),
            Some("kubectl get pods -n 'a;b' --as 'b o b'")
        );
        assert_eq!(advice(finding().suggest("see", [])).as_deref(), Some("see"));
        assert_eq!(advice(finding()), None);
    }

    #[test]
    fn what_the_cluster_says_is_cleaned() {
        let finding = Finding::failed("a\u{1b}[2J\nb").advise("password=hunter2");
        let result = finding.named("x", "y", &Kubectl::default());
        assert_eq!(result.seen, "a[2J b");
        assert_eq!(result.advice.as_deref(), Some("password=<redacted>"));
    }
}
