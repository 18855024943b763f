//! Renders a plan as the Kubernetes objects of a run. Pure: typed objects in, manifests out.
//!
//! One object, the Job [`ANCHOR`], owns all others. It runs no pod (`parallelism: 0`): it is the lock that keeps a
//! second run out of the namespace, the record of the run, and the deadline that ends it. After its
//! `activeDeadlineSeconds` the Job controller fails it, `ttlSecondsAfterFinished` deletes it, and the garbage collector
//! deletes what it owns, whether or not the client still runs.
//!
//! Pods and services have the names that Microsoft's tool uses, since its alerts or its images may depend on them. The
//! names of the other objects that the anchor owns contain the run ID, so that no apply can change a foreign object.

mod kind;
mod ownership;
mod pods;
pub mod request;
pub mod rights;

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, Namespace, PodSpec, PodTemplateSpec, Secret, Service, ServiceAccount, ServicePort,
    ServiceSpec,
};
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use secrecy::ExposeSecret;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::plan::{self, Plan, Victim};
use crate::scenario::{Action, payload};

pub use crate::plan::{ATTACKER, VICTIM};
pub use kind::Kind;
pub use ownership::{is_ours, is_run_name, run_of};
pub use rights::Right;

/// Label that names this tool. Platform policies rewrite it, so nothing is selected by it: see [`is_ours`].
pub const OWNER_LABEL: &str = "app.kubernetes.io/managed-by";
/// Value of [`OWNER_LABEL`], and the field manager of every write.
pub const OWNER: &str = "kubectl-defender-sim";
/// Label with the run of an object. Objects are selected by it.
pub const RUN_LABEL: &str = "defender-sim/run";
/// Annotation of the anchor that holds the record of the run.
pub const RECORD: &str = "defender-sim/record";
/// Annotation that `cleanup` sets on the anchor of a run before it deletes the run's objects.
pub const REMOVED: &str = "defender-sim/removed";
/// Annotation of the attacker's pod that starts the attack.
pub const GO: &str = "defender-sim/go";
/// Name of the Job that owns a run. All runs use the same name, so that a namespace holds one run at a time.
pub const ANCHOR: &str = "mdc-simulation";
/// Name of the container in the pod of a victim.
pub const VICTIM_CONTAINER: &str = "victim";
/// Name of the container in the pod of an attacker.
pub const ATTACKER_CONTAINER: &str = "attacker";

const COMPONENT: &str = "app.kubernetes.io/component";

/// All objects of a run, in order of creation.
#[derive(Clone, Debug)]
pub struct Manifests {
    /// The namespace, for runs that create it.
    pub namespace: Manifest,
    /// The Job that owns the other objects.
    pub anchor: Manifest,
    /// The objects that the pods need.
    pub supporting: Vec<Manifest>,
    /// The pods of the victims and of the attackers.
    pub pods: Vec<Manifest>,
    /// The objects that steps create and delete.
    pub requested: Vec<Manifest>,
}

impl Manifests {
    /// Returns the objects that exist for the whole run, in order of creation; none for a run without pods.
    pub fn all(&self) -> impl Iterator<Item = &Manifest> {
        let first = [&self.namespace, &self.anchor].into_iter();
        let all = first.chain(&self.supporting).chain(&self.pods);
        all.filter(|_| !self.pods.is_empty())
    }
}

/// An object, ready to be sent to the API server.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Kind of the object.
    pub kind: Kind,
    /// Name of the object.
    pub name: String,
    /// The object in the form that the API accepts.
    pub object: Value,
}

impl Manifest {
    fn new<K: serde::Serialize>(kind: Kind, name: &str, object: &K) -> Self {
        let object = serde_json::to_value(object).expect("a typed Kubernetes object is always JSON");
        Self {
            kind,
            name: name.to_owned(),
            object,
        }
    }

    /// Sets the anchor with this UID as the owner of the object. `blockOwnerDeletion` stays unset: if the API server
    /// enforces it, setting it needs a right on the owner's finalizers.
    #[must_use]
    pub fn owned_by_anchor(mut self, uid: &str) -> Self {
        let owner = OwnerReference {
            api_version: Kind::Job.api_version(),
            kind: Kind::Job.kind().to_owned(),
            name: ANCHOR.to_owned(),
            uid: uid.to_owned(),
            ..OwnerReference::default()
        };
        self.object["metadata"]["ownerReferences"] = serde_json::json!([owner]);
        self
    }

    /// Returns kind and name as kubectl prints them, such as `pod/mdc-simulation-victim`.
    pub fn reference(&self) -> String {
        format!("{}/{}", self.kind.singular(), self.name)
    }
}

/// Renders every object of a run. `user` is the name under which the API server authenticated the user.
pub fn render(plan: &Plan, user: &str) -> Manifests {
    let mut supporting = vec![
        service_account(plan),
        gate(plan),
        steps(plan),
        key(plan),
        network_policy(plan),
    ];
    if !plan.victims.is_empty() {
        supporting.extend([VICTIM, ATTACKER].map(|name| service(plan, name)));
    }
    let victims = plan.victims.iter().map(|victim| pods::victim(plan, victim));
    let attackers = plan.attackers().map(|attacker| pods::attacker(plan, &attacker));
    let pods: Vec<Manifest> = victims.chain(attackers).collect();
    let requested: Vec<Manifest> = request::created(plan).collect();
    let objects = supporting.iter().chain(&pods).chain(&requested);
    let objects = objects.map(Manifest::reference).collect();
    Manifests {
        namespace: namespace(plan),
        anchor: anchor(plan, user, objects),
        supporting,
        pods,
        requested,
    }
}

fn labels(plan: &Plan) -> BTreeMap<String, String> {
    let ours = [
        (OWNER_LABEL, OWNER.to_owned()),
        ("app.kubernetes.io/part-of", "mdc-simulation".to_owned()),
        (RUN_LABEL, plan.run.to_string()),
    ];
    let mut labels = plan.options.fit.labels.clone();
    labels.extend(ours.map(|(k, v)| (k.to_owned(), v)));
    labels
}

/// Returns `true` if this tool or its cleanup uses a label or an annotation, so that users must not set it.
pub fn is_reserved(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').unwrap_or(("", key));
    match prefix {
        "defender-sim" | "pod-security.kubernetes.io" => true,
        "app.kubernetes.io" => ["managed-by", "part-of", "component"].contains(&name),
        _ => false,
    }
}

/// Returns `true` if objects are selected by this label: by services, policies and affinities, and for deletion.
pub fn selects(key: &str) -> bool {
    key == RUN_LABEL || key == COMPONENT
}

/// Returns the labels that select the victims or the attackers of this run.
fn component(plan: &Plan, name: &str) -> BTreeMap<String, String> {
    [
        (COMPONENT.to_owned(), name.to_owned()),
        (RUN_LABEL.to_owned(), plan.run.to_string()),
    ]
    .into()
}

fn metadata(plan: &Plan, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(plan.namespace.name.clone()),
        labels: Some(labels(plan)),
        annotations: present(&plan.options.fit.annotations),
        ..ObjectMeta::default()
    }
}

fn present(map: &BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
    (!map.is_empty()).then(|| map.clone())
}

/// Returns the name of the service account of all pods.
pub fn service_account_name(plan: &Plan) -> String {
    suffixed(plan, "pods")
}

fn suffixed(plan: &Plan, what: &str) -> String {
    ownership::run_name(what, &plan.run.to_string())
}

fn namespace(plan: &Plan) -> Manifest {
    let mut labels = labels(plan);
    // The run needs no more privileges than these, so nothing else in the namespace may have more.
    labels.insert("pod-security.kubernetes.io/enforce".into(), "baseline".into());
    let metadata = ObjectMeta {
        labels: Some(labels),
        namespace: None,
        ..metadata(plan, &plan.namespace.name)
    };
    Manifest::new(
        Kind::Namespace,
        &plan.namespace.name,
        &Namespace {
            metadata,
            ..Namespace::default()
        },
    )
}

/// The record of a run, which is in the cluster before any other object of the run. It contains no secrets.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// ID of the run.
    pub run: String,
    /// User who started it, as authenticated by the API server.
    pub user: String,
    /// Time at which it was started.
    pub created: jiff::Timestamp,
    /// Time at which the cluster ends it at the latest.
    pub deadline: jiff::Timestamp,
    /// Version of this tool.
    pub version: String,
    /// IDs of the scenarios.
    pub scenarios: Vec<String>,
    /// Every object of the run, as `kind/name`.
    pub objects: Vec<String>,
    /// UIDs by `kind/name`, once the objects exist.
    #[serde(default)]
    pub uids: BTreeMap<String, String>,
}

impl Record {
    /// Returns the record in the annotations of an anchor, or `None` if the annotation is missing or not a record.
    pub fn of_annotations(annotations: &BTreeMap<String, String>) -> Option<Self> {
        let record: Self = serde_json::from_str(annotations.get(RECORD)?).ok()?;
        plan::RunId::matches(&record.run).then_some(record)
    }

    /// Returns the record as the value of the annotation.
    pub fn to_annotation(&self) -> String {
        serde_json::to_string(self).expect("a record is always JSON")
    }
}

fn anchor(plan: &Plan, user: &str, objects: Vec<String>) -> Manifest {
    let record = Record {
        run: plan.run.to_string(),
        user: user.to_owned(),
        created: plan.created,
        deadline: plan.ends(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        scenarios: plan.scenarios.iter().map(|s| s.id.clone()).collect(),
        objects,
        uids: BTreeMap::new(),
    };
    let mut metadata = metadata(plan, ANCHOR);
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(RECORD.to_owned(), record.to_annotation());
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels(plan)),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            containers: vec![Container {
                command: Some(vec!["true".into()]),
                ..pods::container("never-started", &plan.options.attacker_image)
            }],
            automount_service_account_token: Some(false),
            restart_policy: Some("Never".into()),
            ..PodSpec::default()
        }),
    };
    let spec = JobSpec {
        parallelism: Some(0),
        backoff_limit: Some(0),
        active_deadline_seconds: Some(seconds(plan)),
        ttl_seconds_after_finished: Some(0),
        template,
        ..JobSpec::default()
    };
    Manifest::new(
        Kind::Job,
        ANCHOR,
        &Job {
            metadata,
            spec: Some(spec),
            ..Job::default()
        },
    )
}

fn seconds(plan: &Plan) -> i64 {
    plan.options.deadline.as_secs().try_into().unwrap_or(i64::MAX)
}

/// Returns the service account of all pods, so that no pod waits for the namespace's `default` account. No role is
/// bound to it: the victim's token has the rights of every authenticated user.
fn service_account(plan: &Plan) -> Manifest {
    let name = service_account_name(plan);
    let mut metadata = metadata(plan, &name);
    let annotations = &plan.options.fit.service_account_annotations;
    if !annotations.is_empty() {
        metadata
            .annotations
            .get_or_insert_default()
            .extend(annotations.clone());
    }
    let account = ServiceAccount {
        metadata,
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    };
    Manifest::new(Kind::ServiceAccount, &name, &account)
}

/// Returns the secret for the victims, which the attackers cannot read. It has the gate, the hash of the key, the
/// requests that the gate answers, and the secret that proves reports.
fn gate(plan: &Plan) -> Manifest {
    let steps: serde_json::Map<String, Value> = plan
        .steps()
        .filter_map(|(id, step)| {
            let settings = serde_json::json!({
                "requestSha256": plan::hex(&Sha256::digest(payload::query(&id, step)?)),
                "expect": step.command.as_ref().map(|command| &command.expect),
            });
            Some((id, settings))
        })
        .collect();
    let environment: BTreeMap<_, _> = plan
        .scenarios
        .iter()
        .flat_map(|scenario| &scenario.environment)
        .collect();
    let run = serde_json::json!({
        "keySha256": plan::hex(&Sha256::digest(plan.key.expose_secret())),
        "secret": plan.victim_secret().expose_secret(),
        "steps": steps,
        "environment": environment,
    });
    let data = [
        ("gate.php".to_owned(), include_str!("gate.php").to_owned()),
        ("run.json".to_owned(), run.to_string()),
    ];
    secret(plan, &suffixed(plan, "gate"), data.into())
}

/// Returns what runs in the victim, readable for everyone: one key per step, in the order of the run.
fn steps(plan: &Plan) -> Manifest {
    let data = plan
        .victim_steps()
        .enumerate()
        .map(|(i, (id, step))| match step.action() {
            Action::Visit => (format!("{}-{id}.visit", step_number(i)), String::new()),
            Action::Command(command) => (format!("{}-{id}", step_number(i)), command.run.trim().to_owned()),
            _ => (
                format!("{}-{id}.sh", step_number(i)),
                payload::victim_script(step.text()),
            ),
        })
        .collect();
    let name = suffixed(plan, "steps");
    let map = ConfigMap {
        metadata: metadata(plan, &name),
        data: Some(data),
        immutable: Some(true),
        ..ConfigMap::default()
    };
    Manifest::new(Kind::ConfigMap, &name, &map)
}

/// Returns the secret with the key and the tokens of each step and victim, which only the attackers can read. They are
/// in curl's own configuration, one file per step and one per victim, so that they are on no command line.
fn key(plan: &Plan) -> Manifest {
    let of_step = |(i, (id, _)): (usize, (String, _))| {
        let curlrc = format!(
            "header = \"X-Simulation-Key: {}\"\nheader = \"X-Simulation-Step: {id} {}\"\nmax-time = 90\n",
            plan.key.expose_secret(),
            plan.token(&id).expose_secret(),
        );
        (step_number(i), curlrc)
    };
    let of_victim = |victim: &Victim| {
        let host = &victim.host;
        let curlrc = format!(
            "header = \"X-Simulation-Victim: {host} {}\"\nwrite-out = \"\\n{} {host} http %{{http_code}}\\n\"\n",
            plan.victim_token(host).expose_secret(),
            payload::MARK,
        );
        (host.clone(), curlrc)
    };
    let steps = plan.victim_steps().enumerate().map(of_step);
    let data = steps.chain(plan.victims.iter().map(of_victim)).collect();
    secret(plan, &suffixed(plan, "key"), data)
}

fn secret(plan: &Plan, name: &str, data: BTreeMap<String, String>) -> Manifest {
    let secret = Secret {
        metadata: metadata(plan, name),
        string_data: Some(data),
        immutable: Some(true),
        ..Secret::default()
    };
    Manifest::new(Kind::Secret, name, &secret)
}

/// Returns the number with which the names of the attacker's files for a step begin. `index` counts from 0.
fn step_number(index: usize) -> String {
    format!("{:03}", index + 1)
}

/// Returns a policy by which only the attackers can connect to the victims. If the cluster enforces it, it is a second
/// barrier beside the gate.
fn network_policy(plan: &Plan) -> Manifest {
    let name = suffixed(plan, "victim");
    let select = |name| LabelSelector {
        match_labels: Some(component(plan, name)),
        ..LabelSelector::default()
    };
    let from = NetworkPolicyPeer {
        pod_selector: Some(select(ATTACKER)),
        ..NetworkPolicyPeer::default()
    };
    let spec = NetworkPolicySpec {
        pod_selector: Some(select(VICTIM)),
        policy_types: Some(vec!["Ingress".into()]),
        ingress: Some(vec![NetworkPolicyIngressRule {
            from: Some(vec![from]),
            ports: None,
        }]),
        egress: None,
    };
    Manifest::new(
        Kind::NetworkPolicy,
        &name,
        &NetworkPolicy {
            metadata: metadata(plan, &name),
            spec: Some(spec),
        },
    )
}

fn service(plan: &Plan, name: &str) -> Manifest {
    let spec = ServiceSpec {
        cluster_ip: Some("None".into()),
        selector: Some(component(plan, name)),
        ports: Some(vec![ServicePort {
            name: Some("http".into()),
            port: 80,
            ..ServicePort::default()
        }]),
        // The name must resolve as soon as the pod is ready; a resolver that queried it too early would cache for up to
        // half a minute that it does not exist.
        publish_not_ready_addresses: Some(true),
        ..ServiceSpec::default()
    };
    let service = Service {
        metadata: metadata(plan, name),
        spec: Some(spec),
        ..Service::default()
    };
    Manifest::new(Kind::Service, name, &service)
}

/// Returns the patch that starts the attack. Every value but the empty one would do, but a node notices an annotation
/// only when it changes, so each `attempt` has its own value. `uid` is that of the attacker's pod.
pub fn go_patch(plan: &Plan, uid: &str, attempt: u32) -> Value {
    let annotations = serde_json::json!({ GO: format!("{}-{attempt}", plan.run) });
    serde_json::json!({ "metadata": { "uid": uid, "annotations": annotations } })
}

/// Returns the patch that records in an anchor with this UID that `cleanup` removes the run.
pub fn removed_patch(uid: &str) -> Value {
    let annotations = serde_json::json!({ REMOVED: "true" });
    serde_json::json!({ "metadata": { "uid": uid, "annotations": annotations } })
}

/// Returns the patch that writes the UIDs of a run's objects to the record of its anchor. `uid` is that of the anchor.
pub fn record_patch(record: &Record, uid: &str) -> Value {
    let annotations = serde_json::json!({ RECORD: record.to_annotation() });
    serde_json::json!({ "metadata": { "uid": uid, "annotations": annotations } })
}

#[cfg(test)]
mod tests;
