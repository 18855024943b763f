//! From a plan to the Kubernetes objects of a run. Pure: typed objects in, manifests out.
//!
//! One object, the Job [`ANCHOR`], owns all others. It runs no pod (`parallelism: 0`): it is the lock that
//! keeps a second run out of the namespace, the record of the run, and the clock that ends it. When its
//! `activeDeadlineSeconds` are over the Job controller fails it, `ttlSecondsAfterFinished` removes it, and
//! the garbage collector removes what it owns, whether or not a client is still there.
//!
//! Names are those of Microsoft's tool where its alerts or its images may depend on them (pods, services);
//! everything else carries the run id in its name, so that no apply can meet an object of somebody else.

mod kind;
mod ownership;
pub mod rights;

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, ConfigMap, ConfigMapVolumeSource, Container, ContainerPort,
    DownwardAPIVolumeFile, DownwardAPIVolumeSource, KeyToPath, LocalObjectReference, Namespace, NodeAffinity,
    NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, ObjectFieldSelector, Pod, PodAffinity,
    PodAffinityTerm, PodSpec, PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile, Secret,
    SecretVolumeSource, SecurityContext, Service, ServiceAccount, ServicePort, ServiceSpec, TCPSocketAction,
    Toleration, Volume, VolumeMount,
};
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use secrecy::ExposeSecret;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::plan::{self, Plan};
use crate::scenario::{self, payload};

pub use kind::Kind;
pub use ownership::{is_ours, is_run_name, run_of};
pub use rights::Right;

/// Label that names this tool. Platform policies rewrite it, so nothing is selected by it: see [`is_ours`].
pub const OWNER_LABEL: &str = "app.kubernetes.io/managed-by";
/// Its value, also the field manager of every write.
pub const OWNER: &str = "kubectl-defender-sim";
/// Label that names the run an object belongs to. Objects are selected by it.
pub const RUN_LABEL: &str = "defender-sim/run";
/// Annotation of the anchor that holds the record of the run.
pub const RECORD: &str = "defender-sim/record";
/// Annotation that `cleanup` gives to the anchor of a run before it deletes the run's objects.
pub const REMOVED: &str = "defender-sim/removed";
/// Annotation of the attacker that lets the attack begin.
pub const GO: &str = "defender-sim/go";
/// Name of the Job that owns a run. One name, so that a namespace holds one run at a time.
pub const ANCHOR: &str = "mdc-simulation";
/// Name of the attacker's pod and service.
pub const ATTACKER: &str = scenario::ATTACKER;
/// Name of the container in the pod [`VICTIM`].
pub const VICTIM_CONTAINER: &str = "victim";
/// Name of the container in the pod [`ATTACKER`].
pub const ATTACKER_CONTAINER: &str = "attacker";
/// Name of the victim's pod and service.
pub const VICTIM: &str = "mdc-simulation-victim";

const COMPONENT: &str = "app.kubernetes.io/component";

/// Everything a run puts into the cluster, in the order in which it goes there.
#[derive(Clone, Debug)]
pub struct Manifests {
    /// The namespace, for the case that it is to be made.
    pub namespace: Manifest,
    /// The Job that owns the rest.
    pub anchor: Manifest,
    /// What the pods need.
    pub supporting: Vec<Manifest>,
    /// Victim and attacker.
    pub pods: Vec<Manifest>,
}

impl Manifests {
    /// Every object, in that order.
    pub fn all(&self) -> impl Iterator<Item = &Manifest> {
        let first = [&self.namespace, &self.anchor].into_iter();
        first.chain(&self.supporting).chain(&self.pods)
    }
}

/// One object, ready to be sent.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The object as the API takes it.
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

    /// The same object, owned by the anchor with that UID. `blockOwnerDeletion` stays unset: setting it takes
    /// a right on the owner's finalizers where the API server enforces that.
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

    /// Kind and name as kubectl prints them, such as `pod/mdc-simulation-victim`.
    pub fn reference(&self) -> String {
        format!("{}/{}", self.kind.singular(), self.name)
    }
}

/// Renders every object of a run. `user` is who starts it, as the API server sees them.
pub fn render(plan: &Plan, user: &str) -> Manifests {
    let supporting = vec![
        service_account(plan),
        gate(plan),
        steps(plan),
        key(plan),
        network_policy(plan),
        service(plan, VICTIM),
        service(plan, ATTACKER),
    ];
    let pods = vec![victim(plan), attacker(plan)];
    let objects = supporting.iter().chain(&pods).map(Manifest::reference).collect();
    Manifests {
        namespace: namespace(plan),
        anchor: anchor(plan, user, objects),
        supporting,
        pods,
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

/// Whether a label or an annotation means something to this tool or to its clean-up, and so is not the
/// user's to set.
pub fn is_reserved(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').unwrap_or(("", key));
    match prefix {
        "defender-sim" | "pod-security.kubernetes.io" => true,
        "app.kubernetes.io" => ["managed-by", "part-of", "component"].contains(&name),
        _ => false,
    }
}

/// Whether objects are selected by this label: by services, policies, affinities, and to delete them.
pub fn selects(key: &str) -> bool {
    key == RUN_LABEL || key == COMPONENT
}

/// Labels that single out one pod of this run.
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

/// The name of the service account of both pods.
pub fn service_account_name(plan: &Plan) -> String {
    suffixed(plan, "pods")
}

fn suffixed(plan: &Plan, what: &str) -> String {
    ownership::run_name(what, &plan.run.to_string())
}

fn namespace(plan: &Plan) -> Manifest {
    let mut labels = labels(plan);
    // The run needs no more than this, so nothing else in the namespace may have more.
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

/// The record that is in the cluster before anything else of a run; no secrets.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Names the run.
    pub run: String,
    /// Who started it, as the API server sees them.
    pub user: String,
    /// When it was started.
    pub created: jiff::Timestamp,
    /// When the cluster ends it at the latest.
    pub deadline: jiff::Timestamp,
    /// Version of this tool.
    pub version: String,
    /// Ids of the scenarios.
    pub scenarios: Vec<String>,
    /// Every object of the run, as `kind/name`.
    pub objects: Vec<String>,
    /// UIDs by `kind/name`, once the objects exist.
    #[serde(default)]
    pub uids: BTreeMap<String, String>,
}

impl Record {
    /// Reads the record of an anchor; `None` if the annotation is absent or not a record.
    pub fn of_annotations(annotations: &BTreeMap<String, String>) -> Option<Self> {
        let record: Self = serde_json::from_str(annotations.get(RECORD)?).ok()?;
        plan::RunId::matches(&record.run).then_some(record)
    }

    /// The record as the value of the annotation.
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
                ..container("never-started", &plan.options.attacker_image)
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

/// Both pods run under it, so that no pod has to wait for the namespace's `default` account. Nothing is bound
/// to it: the victim's token can do what every authenticated caller can.
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

/// What the victim has and the attacker has not: the gate, the hash of the key, the requests that it answers, and the
/// secret that its reports are proved with.
fn gate(plan: &Plan) -> Manifest {
    let steps: serde_json::Map<String, Value> = plan
        .steps()
        .map(|(id, step)| {
            let settings = serde_json::json!({
                "requestSha256": plan::hex(&Sha256::digest(payload::request(&id, step))),
                "expect": step.direct.as_ref().map(|direct| &direct.expect),
            });
            (id, settings)
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

/// What runs in the victim, readable by whoever wants to know, one key a step in the order of the run.
fn steps(plan: &Plan) -> Manifest {
    let data = plan
        .steps()
        .enumerate()
        .map(|(i, (id, step))| match step.direct {
            _ if step.visit => (format!("{}-{id}.visit", step_number(i)), String::new()),
            Some(_) => (format!("{}-{id}", step_number(i)), step.script.trim().to_owned()),
            None => (
                format!("{}-{id}.sh", step_number(i)),
                payload::victim_script(step),
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

/// The key and the token of each step, where only the attacker reads them: as curl's own configuration, one for each
/// step, so that they are on no command line.
fn key(plan: &Plan) -> Manifest {
    let curlrc = |(i, (id, _)): (usize, (String, _))| {
        let curlrc = format!(
            "header = \"X-Simulation-Key: {}\"\nheader = \"X-Simulation-Step: {id} {}\"\nmax-time = 90\n\
             write-out = \"\\n{} http %{{http_code}}\\n\"\n",
            plan.key.expose_secret(),
            plan.token(&id).expose_secret(),
            payload::MARK,
        );
        (step_number(i), curlrc)
    };
    let data = plan.steps().enumerate().map(curlrc).collect();
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

/// Begins the name of what the attacker has for a step; `index` counts from 0.
fn step_number(index: usize) -> String {
    format!("{:03}", index + 1)
}

/// A second wall beside the gate, where the cluster enforces it: only the attacker reaches the victim.
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
        // The name must resolve as soon as the pod is ready; a resolver that looked too early would remember
        // for up to half a minute that it does not exist.
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

fn victim(plan: &Plan) -> Manifest {
    let container = Container {
        command: Some(vec!["sh".into(), "-c".into()]),
        args: Some(vec![
            // Without the second setting, a `.user.ini` in the web root could take the gate away.
            "php-fpm -d auto_prepend_file=/gate/gate.php -d user_ini.filename= && exec nginx -g 'daemon off;'"
                .into(),
        ]),
        ports: Some(vec![ContainerPort {
            container_port: 80,
            ..ContainerPort::default()
        }]),
        readiness_probe: Some(Probe {
            tcp_socket: Some(TCPSocketAction {
                port: IntOrString::Int(80),
                ..TCPSocketAction::default()
            }),
            period_seconds: Some(1),
            ..Probe::default()
        }),
        volume_mounts: Some(vec![mount("gate", "/gate")]),
        ..container(VICTIM_CONTAINER, &plan.options.victim_image)
    };
    let requirement = NodeSelectorRequirement {
        key: "kubernetes.io/arch".into(),
        operator: "In".into(),
        values: Some(vec!["amd64".into(), "arm64".into()]),
    };
    let term = NodeSelectorTerm {
        match_expressions: Some(vec![requirement]),
        match_fields: None,
    };
    let spec = PodSpec {
        automount_service_account_token: Some(true),
        affinity: Some(Affinity {
            node_affinity: Some(NodeAffinity {
                required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                    node_selector_terms: vec![term],
                }),
                ..NodeAffinity::default()
            }),
            ..Affinity::default()
        }),
        volumes: Some(vec![secret_volume("gate", suffixed(plan, "gate"), None)]),
        ..pod_spec(plan, VICTIM, "victim", container)
    };
    pod(plan, VICTIM, spec)
}

/// The attacker's start command, with what the scenarios need there.
fn attack_script(plan: &Plan) -> String {
    // Each in a shell of its own, so that none can change this script or the next one.
    let setup: Vec<String> = plan
        .scenarios
        .iter()
        .filter_map(|scenario| scenario.attacker.as_deref())
        .map(|text| format!("(eval {})", payload::quoted(text)))
        .collect();
    include_str!("attack.sh").replace("@SETUP@", &setup.join("\n"))
}

fn attacker(plan: &Plan) -> Manifest {
    let container = Container {
        command: Some(vec!["bash".into(), "-c".into()]),
        args: Some(vec![attack_script(plan)]),
        volume_mounts: Some(vec![
            mount("steps", "/simulation/steps"),
            mount("key", "/simulation/key"),
            mount("go", "/simulation/go"),
        ]),
        ..container(ATTACKER_CONTAINER, &plan.options.attacker_image)
    };
    let go = DownwardAPIVolumeFile {
        path: "run".into(),
        field_ref: Some(ObjectFieldSelector {
            field_path: format!("metadata.annotations['{GO}']"),
            ..ObjectFieldSelector::default()
        }),
        ..DownwardAPIVolumeFile::default()
    };
    let curlrcs = (0..plan.steps().count())
        .map(step_number)
        .map(|number| KeyToPath {
            path: format!("{number}/.curlrc"),
            key: number,
            mode: None,
        });
    let curlrcs = curlrcs.collect();
    // Wherever the victim went, the attacker goes to a node of the same architecture: the victim runs a
    // program that it fetches from the attacker.
    let near = PodAffinityTerm {
        label_selector: Some(LabelSelector {
            match_labels: Some(component(plan, VICTIM)),
            ..LabelSelector::default()
        }),
        topology_key: "kubernetes.io/arch".into(),
        ..PodAffinityTerm::default()
    };
    let spec = PodSpec {
        automount_service_account_token: Some(false),
        affinity: Some(Affinity {
            pod_affinity: Some(PodAffinity {
                required_during_scheduling_ignored_during_execution: Some(vec![near]),
                ..PodAffinity::default()
            }),
            ..Affinity::default()
        }),
        volumes: Some(vec![
            config_volume("steps", suffixed(plan, "steps")),
            secret_volume("key", suffixed(plan, "key"), Some(curlrcs)),
            Volume {
                name: "go".into(),
                downward_api: Some(DownwardAPIVolumeSource {
                    items: Some(vec![go]),
                    ..Default::default()
                }),
                ..Volume::default()
            },
        ]),
        ..pod_spec(plan, ATTACKER, "attacker", container)
    };
    pod(plan, ATTACKER, spec)
}

fn pod(plan: &Plan, name: &str, spec: PodSpec) -> Manifest {
    let mut metadata = metadata(plan, name);
    metadata
        .labels
        .get_or_insert_default()
        .extend(component(plan, name));
    Manifest::new(
        Kind::Pod,
        name,
        &Pod {
            metadata,
            spec: Some(spec),
            ..Pod::default()
        },
    )
}

/// What both pods share.
fn pod_spec(plan: &Plan, name: &str, hostname: &str, container: Container) -> PodSpec {
    let fit = &plan.options.fit;
    let mut node_selector = fit.node_selector.clone();
    node_selector.insert("kubernetes.io/os".to_owned(), "linux".to_owned());
    let secrets = fit.image_pull_secrets.iter();
    let secrets: Vec<_> = secrets
        .map(|name| LocalObjectReference { name: name.clone() })
        .collect();
    let tolerations: Vec<_> = fit.tolerations.iter().map(toleration).collect();
    PodSpec {
        containers: vec![Container {
            image_pull_policy: fit.image_pull_policy.clone(),
            ..container
        }],
        image_pull_secrets: Some(secrets).filter(|secrets| !secrets.is_empty()),
        tolerations: Some(tolerations).filter(|tolerations| !tolerations.is_empty()),
        service_account_name: Some(service_account_name(plan)),
        hostname: Some(hostname.to_owned()),
        subdomain: Some(name.to_owned()),
        restart_policy: Some("Never".into()),
        active_deadline_seconds: Some(seconds(plan)),
        termination_grace_period_seconds: Some(1),
        node_selector: Some(node_selector),
        enable_service_links: Some(false),
        ..PodSpec::default()
    }
}

fn toleration(toleration: &plan::Toleration) -> Toleration {
    Toleration {
        key: Some(toleration.key.clone()),
        operator: Some(
            if toleration.value.is_some() {
                "Equal"
            } else {
                "Exists"
            }
            .to_owned(),
        ),
        value: toleration.value.clone(),
        effect: toleration.effect.clone(),
        ..Toleration::default()
    }
}

/// What all containers share.
fn container(name: &str, image: &str) -> Container {
    let quantities =
        |pairs: [(&str, &str); 2]| Some(pairs.map(|(k, v)| (k.to_owned(), Quantity(v.to_owned()))).into());
    Container {
        name: name.to_owned(),
        image: Some(image.to_owned()),
        resources: Some(ResourceRequirements {
            requests: quantities([("cpu", "50m"), ("memory", "64Mi")]),
            limits: quantities([("cpu", "1"), ("memory", "256Mi")]),
            ..ResourceRequirements::default()
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities {
                drop: Some(vec!["NET_RAW".into()]),
                add: None,
            }),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".into(),
                ..SeccompProfile::default()
            }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    }
}

fn config_volume(name: &str, map: String) -> Volume {
    Volume {
        name: name.to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: map,
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// The files of a secret: all, or `items`.
fn secret_volume(name: &str, secret: String, items: Option<Vec<KeyToPath>>) -> Volume {
    Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret),
            items,
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// Lets the attack begin, and says so again: anything but empty would do as a value, but a node takes notice
/// of an annotation only when it changes. `uid` is that of the attacker's pod.
pub fn go_patch(plan: &Plan, uid: &str, attempt: u32) -> Value {
    let annotations = serde_json::json!({ GO: format!("{}-{attempt}", plan.run) });
    serde_json::json!({ "metadata": { "uid": uid, "annotations": annotations } })
}

/// Notes in an anchor with this UID that `cleanup` removes the run.
pub fn removed_patch(uid: &str) -> Value {
    let annotations = serde_json::json!({ REMOVED: "true" });
    serde_json::json!({ "metadata": { "uid": uid, "annotations": annotations } })
}

/// Writes the UIDs of the objects of a run into the record of its anchor. `uid` is that of the anchor.
pub fn record_patch(record: &Record, uid: &str) -> Value {
    let annotations = serde_json::json!({ RECORD: record.to_annotation() });
    serde_json::json!({ "metadata": { "uid": uid, "annotations": annotations } })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::process::Command;

    use super::*;
    use crate::scenario::{Scenario, catalogue};

    /// A step of each sort, an attacker of each sort, and steps with the same request.
    fn mixed() -> Plan {
        let mut scenarios = ["recon", "webshell", "baseline", "crypto", "webshell"]
            .map(|id| catalogue::find(id).unwrap().clone())
            .to_vec();
        scenarios[4].id = "again".to_owned();
        for (number, text) in [
            "cat <<E\n",
            "exit 1",
            "echo '",
            "say() { true; }; gate() { true; }",
        ]
        .into_iter()
        .enumerate()
        {
            scenarios.push(Scenario {
                id: format!("mine-{number}"),
                attacker: Some(text.to_owned()),
                ..scenarios[0].clone()
            });
        }
        scenarios[3].attacker = None;
        Plan {
            scenarios,
            ..crate::plan::tests::plan(None)
        }
    }

    fn find<'a>(manifests: &'a Manifests, kind: Kind, part: &str) -> &'a Value {
        let found = manifests.all().find(|m| m.kind == kind && m.name.contains(part));
        &found.unwrap().object
    }

    /// Runs the attacker's start command with a curl that answers requests without the key with `code`. Returns the
    /// log, and what was sent: the query and curl's configuration.
    fn attack(manifests: &Manifests, code: u16) -> (String, Vec<(String, String)>) {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        let write = |path: &str, text: &str| {
            fs::create_dir_all(at(path).parent().unwrap()).unwrap();
            fs::write(at(path), text).unwrap();
        };
        let pod = find(manifests, Kind::Pod, ATTACKER);
        for (name, text) in find(manifests, Kind::ConfigMap, "steps")["data"]
            .as_object()
            .unwrap()
        {
            write(&format!("steps/{name}"), text.as_str().unwrap());
        }
        let key = &find(manifests, Kind::Secret, "key")["stringData"];
        for volume in pod["spec"]["volumes"].as_array().unwrap() {
            for item in volume["secret"]["items"].as_array().into_iter().flatten() {
                let path = item["path"].as_str().unwrap();
                let text = &key[item["key"].as_str().unwrap()];
                write(&format!("key/{path}"), text.as_str().unwrap());
            }
        }
        write("go/run", "now");
        let curl = format!(
            "#!/bin/bash\n[ \"$1\" = -qso ] && {{ printf {code}; exit; }}\n\
             printf '%s\\0%s\\0' \"$3\" \"$(<\"$CURL_HOME/.curlrc\")\" >>{}\n",
            at("sent").display()
        );
        write("bin/curl", &curl);
        fs::set_permissions(at("bin/curl"), fs::Permissions::from_mode(0o755)).unwrap();
        let script = pod["spec"]["containers"][0]["args"][0].as_str().unwrap();
        let output = Command::new("bash")
            .arg("-c")
            .arg(script.replace("/simulation", folder.path().to_str().unwrap()))
            .env(
                "PATH",
                format!("{}:/usr/local/bin:/usr/bin:/bin", at("bin").display()),
            )
            .output()
            .unwrap();
        let sent = fs::read_to_string(Path::new(&at("sent"))).unwrap_or_default();
        let sent: Vec<&str> = sent.split_terminator('\0').collect();
        let sent = sent
            .chunks(2)
            .map(|pair| (pair[0].to_owned(), pair[1].to_owned()));
        (String::from_utf8(output.stdout).unwrap(), sent.collect())
    }

    #[test]
    fn gate_knows_each_request_that_the_attacker_sends() {
        let plan = mixed();
        let manifests = render(&plan, "user");
        let (log, sent) = attack(&manifests, 403);
        let run = find(&manifests, Kind::Secret, "gate")["stringData"]["run.json"].as_str();
        let run: Value = serde_json::from_str(run.unwrap()).unwrap();
        let ids: Vec<String> = plan.steps().map(|(id, _)| id).collect();
        assert_eq!(sent.len(), ids.len(), "{log}");
        assert_eq!(run["steps"].as_object().unwrap().len(), ids.len());
        for (id, (query, curlrc)) in ids.iter().zip(&sent) {
            assert_eq!(
                run["steps"][id]["requestSha256"],
                plan::hex(&Sha256::digest(query)),
                "{id}: {query}"
            );
            let header = format!(
                "header = \"X-Simulation-Step: {id} {}\"\n",
                plan.token(id).expose_secret()
            );
            assert!(curlrc.contains(&header), "{id}: {curlrc}");
        }
        let mut expected = vec!["defender-sim/1 gate before 403 0".to_owned()];
        for id in &ids {
            expected.extend([
                format!("defender-sim/1 begin {id}"),
                format!("defender-sim/1 end {id} 0"),
            ]);
        }
        expected.extend(["gate after 403 0", "done"].map(|line| format!("defender-sim/1 {line}")));
        assert_eq!(log.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn attacker_sends_no_step_while_the_gate_is_open() {
        for code in [200, 404, 502] {
            let (log, sent) = attack(&render(&mixed(), "user"), code);
            assert_eq!(sent, []);
            assert_eq!(
                log,
                format!("defender-sim/1 gate before {code} 0\ndefender-sim/1 done\n")
            );
        }
    }

    #[test]
    fn secrets_of_proofs_are_apart_and_in_secrets_only() {
        let plan = mixed();
        let manifests = render(&plan, "user");
        let tokens = plan.steps().map(|(id, _)| plan.token(&id));
        let attackers = tokens.chain([plan.key.clone()]).map(|secret| (secret, "key"));
        let places = attackers.chain([(plan.victim_secret(), "gate")]);
        for (secret, place) in places {
            let holders = manifests
                .all()
                .filter(|m| m.object.to_string().contains(secret.expose_secret()));
            let holders: Vec<String> = holders.map(Manifest::reference).collect();
            assert_eq!(holders, [format!("secret/{}", suffixed(&plan, place))]);
        }
        let seed = plan.seed.expose_secret();
        assert!(!manifests.all().any(|m| m.object.to_string().contains(seed)));
    }
}
