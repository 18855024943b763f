//! Recognizes Defender's sensor among the workloads of a cluster, and determines what it can detect.
//!
//! Names, namespaces and images are those of Microsoft's public documentation, which contradicts itself in
//! places (`collector` and `collectors`): so every spelling is accepted. What no public page states is
//! reported as assumed or unknown, never as known.

use super::alerts::{Cloud, Condition};
use super::facts::Fact;
use std::collections::BTreeMap;
use std::fmt;

/// Names of the `DaemonSet` whose pods watch a node: that of the AKS add-on, and that of the Helm chart
/// (Microsoft's "Verify deployment" page for Defender for Containers).
const COLLECTORS: [&str; 2] = [
    "microsoft-defender-collector-ds",
    "microsoft-defender-collectors-ds",
];
/// Prefix of all images of the sensor (the image list of Microsoft's introduction to Defender for Containers).
const IMAGES: &str = "mcr.microsoft.com/azuredefender/";
/// Namespace of the AKS add-on, and of the Helm chart on AKS Automatic.
pub const SYSTEM: &str = "kube-system";
/// Namespace of the Helm chart and of the Arc extension.
pub const MDC: &str = "mdc";
/// Namespace of Azure Arc's agents, which exists if a cluster is connected by Arc.
pub const ARC: &str = "azure-arc";

/// First version with DNS detection (Microsoft's change log of the sensor).
const DNS_DETECTION: [u64; 3] = [0, 9, 17];
/// First version with anti-malware, for Helm and Arc (the same).
const ANTI_MALWARE: [u64; 3] = [0, 10, 0];

/// A `DaemonSet`, reduced to what identifies the sensor.
#[derive(Clone, Debug, Default)]
pub struct Workload {
    /// Namespace of the `DaemonSet`.
    pub namespace: String,
    /// Name of the `DaemonSet`.
    pub name: String,
    /// Labels of the `DaemonSet`.
    pub labels: BTreeMap<String, String>,
    /// Images of the containers.
    pub images: Vec<String>,
    /// Whether a pod is ready.
    pub ready: bool,
}

/// The way in which a sensor was installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InstallMethod {
    /// The security profile of an AKS cluster.
    AksAddOn,
    /// The Helm chart.
    Helm,
    /// The extension of an Arc-connected cluster.
    Arc,
    /// The Helm chart or the Arc extension: both look the same, and whether Arc connects the cluster is unknown.
    HelmOrArc,
    /// An undocumented way.
    Other,
}

/// Formats the method for people: `Helm chart`.
impl fmt::Display for InstallMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InstallMethod::AksAddOn => "AKS add-on",
            InstallMethod::Helm => "Helm chart",
            InstallMethod::Arc => "Arc extension",
            InstallMethod::HelmOrArc => "Helm chart or Arc extension",
            InstallMethod::Other => "undocumented install",
        })
    }
}

/// A sensor's version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The version as written: `0.9.17`.
    pub text: String,
    /// Whether it is the version of a container's image, which need not be the sensor's.
    pub assumed: bool,
}

/// Formats the version for people: `version 0.9.17`.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let assumed = if self.assumed {
            " (assumed from an image tag)"
        } else {
            ""
        };
        write!(f, "version {}{assumed}", self.text)
    }
}

/// A recognized sensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sensor {
    /// Namespace of its `DaemonSet`.
    pub namespace: String,
    /// Name of its `DaemonSet`.
    pub name: String,
    /// The way in which it was installed.
    pub install_method: InstallMethod,
    /// Whether the install method is uncertain: the name or the namespace is undocumented.
    pub assumed: bool,
    /// The version, if known.
    pub version: Option<Version>,
    /// Whether a pod is ready, anywhere or on the node in question.
    pub ready: bool,
}

/// Formats the sensor for people: `Helm chart, version 0.9.17 (mdc/microsoft-defender-collectors-ds)`.
impl fmt::Display for Sensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let assumed = if self.assumed { " (assumed)" } else { "" };
        write!(f, "{}{assumed}, ", self.install_method)?;
        match &self.version {
            Some(version) => write!(f, "{version}")?,
            None => f.write_str("version unknown")?,
        }
        write!(f, " ({}/{})", self.namespace, self.name)
    }
}

/// The sensors of a cluster, and what they can detect.
///
/// ```
/// use defender_sim::defender::{alerts::Condition, facts::Fact, sensor::{SensorFacts, Workload}};
/// let workload = Workload {
///     namespace: "mdc".into(),
///     name: "microsoft-defender-collectors-ds".into(),
///     labels: [("app.kubernetes.io/version".into(), "0.9.17".into())].into(),
///     images: vec![],
///     ready: true,
/// };
/// let facts = SensorFacts::new(&[workload], Some(false), None);
/// assert_eq!(facts.fact(Condition::DnsDetection), Fact::Yes);
/// assert!(matches!(facts.fact(Condition::AntiMalware), Fact::No(_)));
/// assert!(matches!(facts.fact(Condition::DriftPolicy), Fact::Unknown(_)));
/// ```
#[derive(Clone, Debug, Default)]
pub struct SensorFacts {
    /// The recognized sensors.
    pub sensors: Vec<Sensor>,
    /// The kind of the cluster, if known.
    pub cloud: Option<Cloud>,
    /// Whether it is known to be in Azure Government, which lacks some features.
    pub government: bool,
}

impl SensorFacts {
    /// Recognizes the sensors among `workloads`. `arc` is whether Azure Arc connects the cluster, if known;
    /// `provider` is what its nodes say about their cloud.
    pub fn new(workloads: &[Workload], arc: Option<bool>, provider: Option<Cloud>) -> Self {
        let has_name = |workload: &Workload| COLLECTORS.contains(&workload.name.as_str());
        let has_image = |workload: &Workload| {
            // The publisher has an image with the same prefix and detects nothing.
            let is_sensor = |image: &String| image.starts_with(IMAGES) && !image.contains("publisher");
            let is_beside = |other: &Workload| other.namespace == workload.namespace && has_name(other);
            workload.images.iter().any(is_sensor) && !workloads.iter().any(is_beside)
        };
        let sensors = workloads
            .iter()
            .filter(|&workload| has_name(workload) || has_image(workload));
        let sensors = sensors.map(|workload| {
            let (install_method, is_documented) = install_method(workload, arc);
            Sensor {
                namespace: workload.namespace.clone(),
                name: workload.name.clone(),
                install_method,
                assumed: !is_documented || !has_name(workload),
                version: version(workload),
                ready: workload.ready,
            }
        });
        Self {
            sensors: sensors.collect(),
            cloud: provider.or_else(|| (arc == Some(true)).then_some(Cloud::Arc)),
            government: false,
        }
    }

    /// Returns the install methods of the sensors, each once.
    pub fn install_methods(&self) -> Vec<InstallMethod> {
        let mut methods: Vec<InstallMethod> =
            self.sensors.iter().map(|sensor| sensor.install_method).collect();
        methods.sort_unstable();
        methods.dedup();
        methods
    }

    /// Returns whether a condition is met by a ready sensor, or by the cluster.
    pub fn fact(&self, condition: Condition) -> Fact {
        let audit_log = |cloud| match cloud {
            Some(Cloud::Aks) => Fact::Yes,
            Some(Cloud::Eks) => unknown("on EKS, sending the audit log to CloudWatch must be enabled"),
            Some(Cloud::Gke) => unknown("GKE's audit log lacks data that alerts need"),
            Some(Cloud::Arc) | None => {
                unknown("whether Defender reads the audit log cannot be determined from inside the cluster")
            }
        };
        if condition == Condition::AuditLog {
            return audit_log(self.cloud);
        }
        // Microsoft's support matrix of Defender for Containers.
        if self.government && matches!(condition, Condition::DnsDetection | Condition::AntiMalware) {
            return Fact::No(
                "available in commercial clouds only, and the cluster is in Azure Government".into(),
            );
        }
        let facts = self.sensors.iter().map(|sensor| {
            let fact = match condition {
                Condition::DnsDetection => dns_detection(sensor),
                Condition::AntiMalware => anti_malware(sensor),
                Condition::DriftPolicy | Condition::AuditLog => drift(sensor),
            };
            (fact, sensor)
        });
        let most_permissive = facts.min_by_key(|(fact, sensor)| {
            let rank = match fact {
                Fact::Yes => 0,
                Fact::Unknown(_) => 1,
                Fact::No(_) => 2,
            };
            (rank, !sensor.ready)
        });
        match most_permissive {
            Some((Fact::Yes, sensor)) if !sensor.ready => Fact::Unknown(format!(
                "the sensor with this feature ({}) is not ready",
                sensor.install_method
            )),
            Some((fact, _)) => fact,
            None => unknown("there is no sensor"),
        }
    }
}

fn drift(sensor: &Sensor) -> Fact {
    unknown(match sensor.install_method {
        InstallMethod::Arc => "not available for clusters connected by Arc only",
        _ => "the drift policy is set in Azure, and ignores drift by default",
    })
}

fn unknown(reason: &str) -> Fact {
    Fact::Unknown(reason.to_owned())
}

/// Returns the install method, and whether it is documented for the name and the namespace.
fn install_method(workload: &Workload, arc: Option<bool>) -> (InstallMethod, bool) {
    let is_chart = workload.name == COLLECTORS[1];
    match (workload.namespace.as_str(), arc) {
        (SYSTEM, _) if is_chart => (InstallMethod::Helm, true),
        (SYSTEM, _) => (InstallMethod::AksAddOn, true),
        // Both look the same. That a sensor beside Arc's agents is Arc's is assumed.
        (MDC, Some(true)) => (InstallMethod::Arc, false),
        (MDC, Some(false)) => (InstallMethod::Helm, true),
        (MDC, None) => (InstallMethod::HelmOrArc, true),
        _ if is_chart => (InstallMethod::Helm, false),
        _ => (InstallMethod::Other, false),
    }
}

/// Returns the version by the version label, the chart label, or the tag of an image.
fn version(workload: &Workload) -> Option<Version> {
    let label = |key: &str| workload.labels.get(key).map(String::as_str);
    // A chart label is the name, a hyphen, and the version.
    let chart = |text: &str| {
        let parts: Vec<&str> = text.split('-').collect();
        let from = parts.iter().position(|part| numbers(part).is_some())?;
        Some(parts[from..].join("-"))
    };
    let labelled = label("app.kubernetes.io/version").map(str::to_owned).or_else(|| {
        ["chart", "helm.sh/chart"]
            .into_iter()
            .find_map(|key| chart(label(key)?))
    });
    if let Some(text) = labelled.filter(|text| numbers(text).is_some()) {
        return Some(Version { text, assumed: false });
    }
    let images = workload.images.iter();
    let mut tags = images.filter_map(|image| image.strip_prefix(IMAGES)?.split('@').next()?.rsplit_once(':'));
    let (_, tag) = tags.find(|(_, tag)| numbers(tag).is_some())?;
    Some(Version {
        text: tag.to_owned(),
        assumed: true,
    })
}

/// Parses the first three numbers of a version: `v0.9.17-preview` is `[0, 9, 17]`. A single number is not a version.
fn numbers(text: &str) -> Option<[u64; 3]> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let parts: Option<Vec<u64>> = text[..end.unwrap_or(text.len())]
        .split('.')
        .map(|part| part.parse().ok())
        .collect();
    match parts?[..] {
        [major, minor] => Some([major, minor, 0]),
        [major, minor, patch, ..] => Some([major, minor, patch]),
        _ => None,
    }
}

/// Returns whether the sensor has at least this version.
fn at_least(sensor: &Sensor, needed: [u64; 3]) -> Fact {
    let needs = format!("needs version {}.{}.{}", needed[0], needed[1], needed[2]);
    match &sensor.version {
        None => Fact::Unknown(format!("{needs}, the sensor's is unknown")),
        Some(version) if version.assumed => Fact::Unknown(format!(
            "{needs}, the sensor's is only assumed to be {}",
            version.text
        )),
        Some(version) => match numbers(&version.text) {
            Some(numbers) if numbers >= needed => Fact::Yes,
            _ => Fact::No(format!("{needs}, the sensor's is {}", version.text)),
        },
    }
}

/// Returns whether the sensor has DNS detection, which is documented for the Helm chart only. No page states that other
/// install methods lack it.
fn dns_detection(sensor: &Sensor) -> Fact {
    match (at_least(sensor, DNS_DETECTION), sensor.install_method) {
        (Fact::Yes, InstallMethod::Helm) => Fact::Yes,
        (Fact::Yes, method) => Fact::Unknown(format!(
            "documented for the Helm chart only, not for this sensor ({method})"
        )),
        (other, _) => other,
    }
}

/// Returns whether the sensor has anti-malware, which is documented for the Helm chart and the Arc extension.
fn anti_malware(sensor: &Sensor) -> Fact {
    match (at_least(sensor, ANTI_MALWARE), sensor.install_method) {
        (Fact::Yes, InstallMethod::Helm | InstallMethod::Arc | InstallMethod::HelmOrArc) => Fact::Yes,
        (Fact::No(reason), _) => Fact::No(reason),
        (_, InstallMethod::AksAddOn) => {
            Fact::Unknown("documented for the Helm chart and the Arc extension only".into())
        }
        (Fact::Yes, method) => Fact::Unknown(format!("not documented for this sensor ({method})")),
        (other, _) => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(namespace: &str, name: &str, labels: &[(&str, &str)], images: &[&str]) -> Workload {
        Workload {
            namespace: namespace.into(),
            name: name.into(),
            labels: labels
                .iter()
                .map(|&(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            images: images.iter().map(|&image| image.to_owned()).collect(),
            ready: true,
        }
    }

    fn facts(namespace: &str, name: &str, version: &str, arc: Option<bool>) -> SensorFacts {
        let labels = [("app.kubernetes.io/version", version)];
        SensorFacts::new(&[workload(namespace, name, &labels, &[])], arc, None)
    }

    const LOW: &str = "mcr.microsoft.com/azuredefender/stable/low-level-collector:2.0.205";

    #[test]
    fn every_documented_install_method_is_recognized() {
        let [one, many] = COLLECTORS;
        for (namespace, name, arc, install_method, assumed) in [
            ("kube-system", one, None, InstallMethod::AksAddOn, false),
            ("kube-system", many, Some(false), InstallMethod::Helm, false),
            ("mdc", many, Some(false), InstallMethod::Helm, false),
            ("mdc", one, Some(false), InstallMethod::Helm, false),
            ("mdc", many, Some(true), InstallMethod::Arc, true),
            ("mdc", one, Some(true), InstallMethod::Arc, true),
            ("mdc", many, None, InstallMethod::HelmOrArc, false),
            ("security", many, None, InstallMethod::Helm, true),
            ("security", one, None, InstallMethod::Other, true),
        ] {
            let facts = facts(namespace, name, "0.9.1", arc);
            let sensor = &facts.sensors[0];
            assert_eq!(
                (sensor.install_method, sensor.assumed),
                (install_method, assumed),
                "{namespace}/{name} {arc:?}"
            );
        }
    }

    #[test]
    fn sensor_is_recognized_by_its_image() {
        let publisher = "mcr.microsoft.com/azuredefender/stable/security-publisher:1.0.0";
        let found = |workloads: &[Workload]| {
            let facts = SensorFacts::new(workloads, Some(false), None);
            let names = facts.sensors.iter();
            names
                .map(|sensor| (sensor.name.clone(), sensor.assumed))
                .collect::<Vec<_>>()
        };
        let other = workload("mdc", "renamed", &[], &["x/y:1", LOW]);
        assert_eq!(
            found(std::slice::from_ref(&other)),
            [("renamed".to_owned(), true)]
        );
        let named = workload("mdc", COLLECTORS[1], &[], &[]);
        assert_eq!(
            found(&[other.clone(), named.clone()]),
            [(COLLECTORS[1].to_owned(), false)]
        );
        let elsewhere = workload("kube-system", COLLECTORS[0], &[], &[]);
        assert_eq!(found(&[other, elsewhere]).len(), 2);
        for none in [
            workload("mdc", "microsoft-defender-publisher-ds", &[], &[publisher]),
            workload(
                "mdc",
                "a",
                &[],
                &["mirror.example/mcr.microsoft.com/azuredefender/x:1"],
            ),
            workload("mdc", "microsoft-defender-collector", &[], &[]),
        ] {
            assert_eq!(found(std::slice::from_ref(&none)), [], "{none:?}");
        }
    }

    #[test]
    fn version_is_read_from_labels_or_an_image() {
        for (labels, images, expected) in [
            (
                &[("app.kubernetes.io/version", "0.9.17")][..],
                &[LOW][..],
                Some(("0.9.17", false)),
            ),
            (
                &[("chart", "microsoft-defender-for-containers-0.10.3")],
                &[],
                Some(("0.10.3", false)),
            ),
            (
                &[("helm.sh/chart", "defender-k8s-0.11.0-preview.1")],
                &[],
                Some(("0.11.0-preview.1", false)),
            ),
            (
                &[("app.kubernetes.io/version", "stable")],
                &[LOW],
                Some(("2.0.205", true)),
            ),
            (&[("chart", "defender-k8s")], &["x/y:1.2"], None),
            (
                &[],
                &["mcr.microsoft.com/azuredefender/a:latest", LOW],
                Some(("2.0.205", true)),
            ),
            (&[], &["mcr.microsoft.com/azuredefender/a@sha256:00"], None),
        ] {
            let version = version(&workload("mdc", "x", labels, images));
            let version = version
                .as_ref()
                .map(|version| (version.text.as_str(), version.assumed));
            assert_eq!(version, expected, "{labels:?} {images:?}");
        }
        assert_eq!(numbers("v1.2"), Some([1, 2, 0]));
        assert_eq!(numbers("8"), None);
        assert_eq!(numbers("k8s"), None);
    }

    #[test]
    fn features_depend_on_version_and_install_method() {
        use Condition::{AntiMalware, AuditLog, DnsDetection, DriftPolicy};
        let [one, many] = COLLECTORS;
        for (namespace, name, version, arc, condition, expected) in [
            ("mdc", many, "0.9.17", Some(false), DnsDetection, "yes"),
            ("mdc", many, "0.9.16", Some(false), DnsDetection, "no"),
            ("mdc", many, "0.10.0", None, DnsDetection, "unknown"),
            ("mdc", many, "0.10.0", Some(true), DnsDetection, "unknown"),
            ("kube-system", one, "0.8.30", None, DnsDetection, "no"),
            ("kube-system", one, "0.9.20", None, DnsDetection, "unknown"),
            ("mdc", many, "0.10.0", Some(false), AntiMalware, "yes"),
            ("mdc", many, "0.10.0", None, AntiMalware, "yes"),
            ("mdc", many, "0.10.0", Some(true), AntiMalware, "yes"),
            ("mdc", many, "0.9.99", Some(true), AntiMalware, "no"),
            ("kube-system", one, "0.9.99", None, AntiMalware, "no"),
            ("kube-system", one, "0.10.0", None, AntiMalware, "unknown"),
            ("kube-system", one, "?", None, AntiMalware, "unknown"),
            ("security", one, "0.10.0", None, AntiMalware, "unknown"),
            ("mdc", many, "?", None, AntiMalware, "unknown"),
            ("mdc", many, "0.10.0", Some(false), DriftPolicy, "unknown"),
            ("mdc", many, "0.10.0", Some(true), DriftPolicy, "unknown"),
            ("mdc", many, "0.10.0", Some(true), AuditLog, "unknown"),
        ] {
            let known = facts(namespace, name, version, arc).fact(condition);
            let found = match &known {
                Fact::Yes => "yes",
                Fact::No(_) => "no",
                Fact::Unknown(_) => "unknown",
            };
            assert_eq!(found, expected, "{namespace}/{name} {version} {arc:?}: {known:?}");
        }
        let mut arc = facts("mdc", many, "0.10.0", Some(true));
        for (provider, audit) in [
            (Cloud::Aks, Some(Fact::Yes)),
            (Cloud::Eks, None),
            (Cloud::Gke, None),
        ] {
            arc.cloud = Some(provider);
            assert!(matches!(arc.fact(DriftPolicy), Fact::Unknown(_)), "{provider:?}");
            let known = arc.fact(AuditLog);
            assert!(
                audit.map_or(matches!(known, Fact::Unknown(_)), |audit| known == audit),
                "{known:?}"
            );
        }
        let none = SensorFacts::default();
        assert!(matches!(none.fact(DnsDetection), Fact::Unknown(_)), "no sensor");
    }

    #[test]
    fn assumed_version_decides_nothing() {
        let facts = SensorFacts::new(&[workload("mdc", COLLECTORS[1], &[], &[LOW])], Some(false), None);
        let known = facts.fact(Condition::AntiMalware);
        assert!(
            matches!(&known, Fact::Unknown(reason) if reason.contains("only assumed")),
            "{known:?}"
        );
        assert_eq!(
            facts.sensors[0].to_string(),
            "Helm chart, version 2.0.205 (assumed from an image tag) \
             (mdc/microsoft-defender-collectors-ds)"
        );
    }

    #[test]
    fn most_capable_of_two_sensors_counts() {
        let version = |text| [("app.kubernetes.io/version", text)];
        let workloads = [
            workload("kube-system", COLLECTORS[0], &version("0.8.1"), &[]),
            workload("mdc", COLLECTORS[1], &version("0.10.0"), &[]),
        ];
        let mut facts = SensorFacts::new(&workloads, Some(false), None);
        assert_eq!(
            facts.install_methods(),
            [InstallMethod::AksAddOn, InstallMethod::Helm]
        );
        assert_eq!(facts.fact(Condition::DnsDetection), Fact::Yes);
        facts.government = true;
        for (condition, lacks) in Condition::ALL.map(|condition| (condition, facts.fact(condition))) {
            let commercial = [Condition::DnsDetection, Condition::AntiMalware].contains(&condition);
            assert_eq!(matches!(lacks, Fact::No(_)), commercial, "{condition}");
        }
        facts.government = false;
        // A sensor that is not ready detects nothing.
        facts.sensors[1].ready = false;
        let reason = "the sensor with this feature (Helm chart) is not ready";
        assert_eq!(facts.fact(Condition::DnsDetection), unknown(reason));
        facts.sensors.pop();
        assert!(matches!(facts.fact(Condition::DnsDetection), Fact::No(_)));
    }

    #[test]
    fn provider_is_recognized_by_node_labels() {
        for (key, provider) in [
            ("kubernetes.azure.com/cluster", Some(Cloud::Aks)),
            ("eks.amazonaws.com/nodegroup", Some(Cloud::Eks)),
            ("cloud.google.com/gke-nodepool", Some(Cloud::Gke)),
            ("cloud.google.com/other", None),
            ("kubernetes.io/os", None),
        ] {
            assert_eq!(Cloud::of_node(["kubernetes.io/arch", key]), provider, "{key}");
        }
    }
}
