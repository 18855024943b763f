//! Renders the pods of a run: the victims with their web shells, and the attackers. None has rights on its node.

use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, ConfigMapVolumeSource, Container, ContainerPort, DownwardAPIVolumeFile,
    DownwardAPIVolumeSource, KeyToPath, LocalObjectReference, NodeAffinity, NodeSelector,
    NodeSelectorRequirement, NodeSelectorTerm, ObjectFieldSelector, Pod, PodAffinity, PodAffinityTerm,
    PodSpec, Probe, ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext,
    TCPSocketAction, Toleration, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{
    ATTACKER, ATTACKER_CONTAINER, GO, Kind, Manifest, VICTIM, VICTIM_CONTAINER, component, metadata, seconds,
    service_account_name, step_number, suffixed,
};
use crate::plan::{self, Attacker, Group, Plan, Victim};
use crate::scenario::payload;

/// Architectures that the victim's image supports.
const ARCHITECTURES: [&str; 2] = ["amd64", "arm64"];

pub(super) fn victim(plan: &Plan, victim: &Victim) -> Manifest {
    let container = Container {
        command: Some(vec!["sh".into(), "-c".into()]),
        args: Some(vec![
            // Without the second setting, a `.user.ini` in the web root could disable the gate.
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
    let spec = PodSpec {
        automount_service_account_token: Some(true),
        affinity: Some(Affinity {
            node_affinity: Some(NodeAffinity {
                required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                    node_selector_terms: vec![place(plan, victim.group.as_ref())],
                }),
                ..NodeAffinity::default()
            }),
            ..Affinity::default()
        }),
        volumes: Some(vec![secret_volume("gate", suffixed(plan, "gate"), None)]),
        ..pod_spec(plan, VICTIM, &victim.host, container)
    };
    pod(plan, &victim.pod, VICTIM, spec)
}

/// Returns the nodes on which a victim may be.
fn place(plan: &Plan, group: Option<&Group>) -> NodeSelectorTerm {
    let is_in = |key: &str, values: Vec<String>| NodeSelectorRequirement {
        key: key.to_owned(),
        operator: "In".to_owned(),
        values: Some(values),
    };
    let architectures = match &plan.arch {
        Some(arch) => vec![arch.clone()],
        None => ARCHITECTURES.map(str::to_owned).into(),
    };
    let mut labels = vec![is_in("kubernetes.io/arch", architectures)];
    let mut fields = None;
    match group {
        Some(Group::Node(name)) => fields = Some(vec![is_in("metadata.name", vec![name.clone()])]),
        Some(Group::Label { key, value }) => labels.push(is_in(key, vec![value.clone()])),
        None => {}
    }
    NodeSelectorTerm {
        match_expressions: Some(labels),
        match_fields: fields,
    }
}

/// Returns the attacker's start command, with the text that the scenarios run in the attacker.
fn attack_script(plan: &Plan, attacker: &Attacker) -> String {
    let victims: Vec<&str> = attacker
        .victims
        .iter()
        .map(|victim| victim.host.as_str())
        .collect();
    // A victim that has its own name is found by it below the service of all victims.
    let is_only = plan.victims.len() == 1;
    let host = if is_only {
        VICTIM.to_owned()
    } else {
        format!("$victim.{VICTIM}")
    };
    let parallel = plan.options.parallel.get().div_ceil(plan.attackers().count());
    // Run each text in its own shell, so that none can change this script or the next text.
    let setup: Vec<String> = plan
        .scenarios
        .iter()
        .filter_map(|scenario| scenario.attacker.as_deref())
        .map(|text| format!("(eval {})", payload::quoted(text)))
        .collect();
    include_str!("attack.sh")
        .replace("@HOST@", &host)
        .replace("@PARALLEL@", &parallel.to_string())
        .replace("@VICTIMS@", &victims.join(" "))
        .replace("@SETUP@", &setup.join("\n"))
}

pub(super) fn attacker(plan: &Plan, attacker: &Attacker) -> Manifest {
    let container = Container {
        command: Some(vec!["bash".into(), "-c".into()]),
        args: Some(vec![attack_script(plan, attacker)]),
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
    let file = |key: String, path: String| KeyToPath {
        key,
        path,
        mode: None,
    };
    let of_steps = (0..plan.victim_steps().count()).map(step_number);
    let of_steps = of_steps.map(|number| file(number.clone(), format!("{number}/.curlrc")));
    let of_victims = attacker.victims.iter();
    let of_victims = of_victims.map(|victim| file(victim.host.clone(), victim.host.clone()));
    let curlrcs = of_steps.chain(of_victims).collect();
    // Schedule the attacker on a node of the same architecture as the victims': they run a program that they fetch from
    // the attacker.
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
        ..pod_spec(
            plan,
            ATTACKER,
            attacker.pod.trim_start_matches("mdc-simulation-"),
            container,
        )
    };
    pod(plan, &attacker.pod, ATTACKER, spec)
}

/// Returns a pod that the service of this name selects.
fn pod(plan: &Plan, name: &str, service: &str, spec: PodSpec) -> Manifest {
    let mut metadata = metadata(plan, name);
    metadata
        .labels
        .get_or_insert_default()
        .extend(component(plan, service));
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

/// Returns the specification that all pods share.
fn pod_spec(plan: &Plan, service: &str, hostname: &str, container: Container) -> PodSpec {
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
        subdomain: Some(service.to_owned()),
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

/// Returns the specification that all containers share.
pub(super) fn container(name: &str, image: &str) -> Container {
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

/// Returns a volume with the files of a secret: all of them, or `items`.
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
