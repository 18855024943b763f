//! Renders the pods of a run: the victim with its web shell, and the attacker. Neither has rights on its node.

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
use crate::plan::{self, Plan};
use crate::scenario::payload;

pub(super) fn victim(plan: &Plan) -> Manifest {
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

/// Returns the attacker's start command, with the text that the scenarios run in the attacker.
fn attack_script(plan: &Plan) -> String {
    // Run each text in its own shell, so that none can change this script or the next text.
    let setup: Vec<String> = plan
        .scenarios
        .iter()
        .filter_map(|scenario| scenario.attacker.as_deref())
        .map(|text| format!("(eval {})", payload::quoted(text)))
        .collect();
    include_str!("attack.sh").replace("@SETUP@", &setup.join("\n"))
}

pub(super) fn attacker(plan: &Plan) -> Manifest {
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
    let curlrcs = (0..plan.victim_steps().count())
        .map(step_number)
        .map(|number| KeyToPath {
            path: format!("{number}/.curlrc"),
            key: number,
            mode: None,
        });
    let curlrcs = curlrcs.collect();
    // Schedule the attacker on a node of the same architecture as the victim's: the victim runs a program that it
    // fetches from the attacker.
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

/// Returns the specification that both pods share.
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
