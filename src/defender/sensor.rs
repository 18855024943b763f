//! Recognises Defender's sensor among the workloads of a cluster, and says what it can detect.
//!
//! Names, namespaces and images are those of Microsoft's public documentation, which contradicts itself in
//! places (`collector` and `collectors`): so every spelling is taken. What no public page says is told as
//! assumed, or as unknown; it is never told as known.

use super::alerts::Condition;
use super::facts::Fact;
use std::collections::BTreeMap;
use std::fmt;

/// Names of the `DaemonSet` whose pods watch a node: that of the AKS add-on, and that of the Helm chart
/// (Microsoft's "Verify deployment" page for Defender for Containers).
const COLLECTORS: [&str; 2] = [
    "microsoft-defender-collector-ds",
    "microsoft-defender-collectors-ds",
];
/// Where all images of the sensor are (the image list of Microsoft's introduction to Defender for Containers).
const IMAGES: &str = "mcr.microsoft.com/azuredefender/";
/// Namespace of the AKS add-on, and of the Helm chart on AKS Automatic.
pub const SYSTEM: &str = "kube-system";
/// Namespace of the Helm chart and of the Arc extension.
pub const MDC: &str = "mdc";
/// Namespace of Azure Arc's agents: it is there where a cluster is connected to Azure by Arc.
pub const ARC: &str = "azure-arc";

/// DNS detection came with this version (Microsoft's change log of the sensor).
const DNS_DETECTION: [u64; 3] = [0, 9, 17];
/// Anti-malware came with this version, to Helm and Arc (the same).
const ANTI_MALWARE: [u64; 3] = [0, 10, 0];

/// A `DaemonSet`, as far as it tells whether it is the sensor.
#[derive(Clone, Debug, Default)]
pub struct Workload {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its own labels.
    pub labels: BTreeMap<String, String>,
    /// The images of its containers.
    pub images: Vec<String>,
    /// Whether a pod of it is ready.
    pub ready: bool,
}

/// How a sensor was installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flavour {
    /// By the security profile of an AKS cluster.
    AksAddOn,
    /// By the Helm chart.
    Helm,
    /// By the extension of an Arc-connected cluster.
    Arc,
    /// By either of them: both look the same, and whether the cluster is connected by Arc is not known.
    HelmOrArc,
    /// In a way that is not documented.
    Other,
}

/// As it is told: `Helm chart`.
impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Flavour::AksAddOn => "AKS add-on",
            Flavour::Helm => "Helm chart",
            Flavour::Arc => "Arc extension",
            Flavour::HelmOrArc => "Helm chart or Arc extension",
            Flavour::Other => "installed in an undocumented way",
        })
    }
}

/// A sensor's version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// As it is written: `0.9.17`.
    pub text: String,
    /// Whether it is only that of a container's image, which need not be the sensor's.
    pub assumed: bool,
}

/// As it is told: `version 0.9.17`.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let assumed = if self.assumed {
            " (assumed: it is the tag of an image)"
        } else {
            ""
        };
        write!(f, "version {}{assumed}", self.text)
    }
}

/// A sensor that was recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sensor {
    /// Namespace of its `DaemonSet`.
    pub namespace: String,
    /// Name of its `DaemonSet`.
    pub name: String,
    /// How it was installed.
    pub flavour: Flavour,
    /// Whether that is not quite certain: the name is not one of the documented ones, or the place is not.
    pub assumed: bool,
    /// Its version, where something tells it.
    pub version: Option<Version>,
    /// Whether a pod of it is ready: anywhere, or on the node in question.
    pub ready: bool,
}

/// As it is told: `Helm chart, version 0.9.17 (mdc/microsoft-defender-collectors-ds)`.
impl fmt::Display for Sensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let assumed = if self.assumed { " (assumed)" } else { "" };
        write!(f, "{}{assumed}, ", self.flavour)?;
        match &self.version {
            Some(version) => write!(f, "{version}")?,
            None => f.write_str("version unknown")?,
        }
        write!(f, " ({}/{})", self.namespace, self.name)
    }
}

/// Whose Kubernetes it is, as labels of its nodes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cloud {
    /// Azure Kubernetes Service.
    Aks,
    /// Amazon's.
    Eks,
    /// Google's.
    Gke,
}

impl Cloud {
    /// By the prefixes that each service reserves for labels of its nodes.
    pub fn of_node<'a>(labels: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        labels.into_iter().find_map(|key| match key.split('/').next() {
            Some("kubernetes.azure.com") => Some(Cloud::Aks),
            Some("eks.amazonaws.com") => Some(Cloud::Eks),
            _ => key.starts_with("cloud.google.com/gke-").then_some(Cloud::Gke),
        })
    }
}

/// What a cluster tells of Defender's sensor: what `doctor` reports of it, and what tells an alert that cannot
/// come from one that is late.
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
/// assert_eq!(facts.known(Condition::DnsDetection), Fact::Yes);
/// assert!(matches!(facts.known(Condition::AntiMalware), Fact::No(_)));
/// assert!(matches!(facts.known(Condition::DriftPolicy), Fact::Unknown(_)));
/// ```
#[derive(Clone, Debug, Default)]
pub struct SensorFacts {
    /// Every sensor that was recognised.
    pub sensors: Vec<Sensor>,
    /// Whose Kubernetes it is, where that is known.
    pub cloud: Option<Cloud>,
    /// Whether it is known to be in Azure Government, which lacks some features.
    pub government: bool,
}

impl SensorFacts {
    /// Recognises the sensors among `workloads`. `arc` is whether the cluster is connected to Azure by Arc,
    /// where that is known.
    pub fn new(workloads: &[Workload], arc: Option<bool>, cloud: Option<Cloud>) -> Self {
        let named = |workload: &Workload| COLLECTORS.contains(&workload.name.as_str());
        let by_image = |workload: &Workload| {
            // What sends the findings to Azure has an image of the same folder and watches nothing.
            let image = |image: &String| image.starts_with(IMAGES) && !image.contains("publisher");
            let named_beside = |other: &Workload| other.namespace == workload.namespace && named(other);
            workload.images.iter().any(image) && !workloads.iter().any(named_beside)
        };
        let sensors = workloads
            .iter()
            .filter(|&workload| named(workload) || by_image(workload));
        let sensors = sensors.map(|workload| {
            let (flavour, documented) = flavour(workload, arc);
            Sensor {
                namespace: workload.namespace.clone(),
                name: workload.name.clone(),
                flavour,
                assumed: !documented || !named(workload),
                version: version(workload),
                ready: workload.ready,
            }
        });
        Self {
            sensors: sensors.collect(),
            cloud,
            government: false,
        }
    }

    /// The ways in which sensors are installed, each once.
    pub fn flavours(&self) -> Vec<Flavour> {
        let mut flavours: Vec<Flavour> = self.sensors.iter().map(|sensor| sensor.flavour).collect();
        flavours.sort_unstable();
        flavours.dedup();
        flavours
    }

    /// Whether a condition is met: by one of the sensors that are ready, or by the cluster.
    pub fn known(&self, condition: Condition) -> Fact {
        let audited = |cloud| match cloud {
            Some(Cloud::Aks) => Fact::Yes,
            Some(Cloud::Eks) => unknown("on EKS the audit log has to be sent to CloudWatch and read there"),
            Some(Cloud::Gke) => unknown("GKE's audit log does not hold all that alerts need"),
            None => unknown("whether Defender reads this cluster's audit log is not seen from inside"),
        };
        if condition == Condition::AuditLog {
            return audited(self.cloud);
        }
        // Microsoft's support matrix of Defender for Containers.
        if self.government && matches!(condition, Condition::DnsDetection | Condition::AntiMalware) {
            return Fact::No("commercial clouds only have it, and the cluster is in Azure Government".into());
        }
        let all = self.sensors.iter().map(|sensor| {
            let known = match condition {
                Condition::DnsDetection => dns_detection(sensor),
                Condition::AntiMalware => anti_malware(sensor),
                Condition::DriftPolicy | Condition::AuditLog => drift(sensor),
            };
            (known, sensor)
        });
        let best = all.min_by_key(|(known, sensor)| {
            let rank = match known {
                Fact::Yes => 0,
                Fact::Unknown(_) => 1,
                Fact::No(_) => 2,
            };
            (rank, !sensor.ready)
        });
        match best {
            Some((Fact::Yes, sensor)) if !sensor.ready => Fact::Unknown(format!(
                "the sensor that has it ({}) is not ready",
                sensor.flavour
            )),
            Some((known, _)) => known,
            // That there is none is told by itself.
            None => unknown("there is no sensor to ask"),
        }
    }
}

fn drift(sensor: &Sensor) -> Fact {
    unknown(match sensor.flavour {
        Flavour::Arc => "it is not there for clusters that only Arc connects",
        _ => "the drift policy is set in Azure, and ignores drift unless it was changed",
    })
}

fn unknown(reason: &str) -> Fact {
    Fact::Unknown(reason.to_owned())
}

/// How it was installed, and whether that is documented of its name and its place.
fn flavour(workload: &Workload, arc: Option<bool>) -> (Flavour, bool) {
    let chart = workload.name == COLLECTORS[1];
    match (workload.namespace.as_str(), arc) {
        (SYSTEM, _) if chart => (Flavour::Helm, true),
        (SYSTEM, _) => (Flavour::AksAddOn, true),
        // The two look alike. That a sensor beside Arc's agents is Arc's is a guess.
        (MDC, Some(true)) => (Flavour::Arc, false),
        (MDC, Some(false)) => (Flavour::Helm, true),
        (MDC, None) => (Flavour::HelmOrArc, true),
        _ if chart => (Flavour::Helm, false),
        _ => (Flavour::Other, false),
    }
}

/// From the label of the version, from that of the chart, or from the tag of an image.
fn version(workload: &Workload) -> Option<Version> {
    let label = |key: &str| workload.labels.get(key).map(String::as_str);
    // A chart's label is its name, a hyphen, its version.
    let chart = |text: &str| {
        let parts: Vec<&str> = text.split('-').collect();
        let from = parts.iter().position(|part| numbers(part).is_some())?;
        Some(parts[from..].join("-"))
    };
    let told = label("app.kubernetes.io/version").map(str::to_owned).or_else(|| {
        ["chart", "helm.sh/chart"]
            .into_iter()
            .find_map(|key| chart(label(key)?))
    });
    if let Some(text) = told.filter(|text| numbers(text).is_some()) {
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

/// The first three numbers of a version: `v0.9.17-preview` is `[0, 9, 17]`. One number alone is none.
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

/// Whether the sensor is at least of this version.
fn at_least(sensor: &Sensor, needed: [u64; 3]) -> Fact {
    let needs = format!("it needs version {}.{}.{}", needed[0], needed[1], needed[2]);
    match &sensor.version {
        None => Fact::Unknown(format!("{needs}, and the sensor's is unknown")),
        Some(version) if version.assumed => Fact::Unknown(format!(
            "{needs}, and the sensor's is only assumed to be {}",
            version.text
        )),
        Some(version) => match numbers(&version.text) {
            Some(numbers) if numbers >= needed => Fact::Yes,
            _ => Fact::No(format!("{needs}, and the sensor's is {}", version.text)),
        },
    }
}

/// Documented for the Helm chart only. Of the others no page says that they lack it.
fn dns_detection(sensor: &Sensor) -> Fact {
    match (at_least(sensor, DNS_DETECTION), sensor.flavour) {
        (Fact::Yes, Flavour::Helm) => Fact::Yes,
        (Fact::Yes, flavour) => Fact::Unknown(format!(
            "it is documented for the Helm chart only, and this is the {flavour}: assumed to be missing"
        )),
        (other, _) => other,
    }
}

/// Documented for the Helm chart and the Arc extension.
fn anti_malware(sensor: &Sensor) -> Fact {
    match (at_least(sensor, ANTI_MALWARE), sensor.flavour) {
        (Fact::Yes, Flavour::Helm | Flavour::Arc | Flavour::HelmOrArc) => Fact::Yes,
        (Fact::No(reason), _) => Fact::No(reason),
        (_, Flavour::AksAddOn) => Fact::Unknown(
            "it is documented for the Helm chart and the Arc extension only: assumed to be missing".into(),
        ),
        (Fact::Yes, flavour) => Fact::Unknown(format!("it is not documented for a sensor {flavour}")),
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
    fn every_documented_flavour_is_recognised() {
        let [one, many] = COLLECTORS;
        for (namespace, name, arc, flavour, assumed) in [
            ("kube-system", one, None, Flavour::AksAddOn, false),
            ("kube-system", many, Some(false), Flavour::Helm, false),
            ("mdc", many, Some(false), Flavour::Helm, false),
            ("mdc", one, Some(false), Flavour::Helm, false),
            ("mdc", many, Some(true), Flavour::Arc, true),
            ("mdc", one, Some(true), Flavour::Arc, true),
            ("mdc", many, None, Flavour::HelmOrArc, false),
            ("security", many, None, Flavour::Helm, true),
            ("security", one, None, Flavour::Other, true),
        ] {
            let facts = facts(namespace, name, "0.9.1", arc);
            let sensor = &facts.sensors[0];
            assert_eq!(
                (sensor.flavour, sensor.assumed),
                (flavour, assumed),
                "{namespace}/{name} {arc:?}"
            );
        }
    }

    #[test]
    fn an_image_tells_where_a_name_does_not() {
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
    fn versions_come_from_labels_and_at_worst_from_an_image() {
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
    fn what_a_sensor_can_detect() {
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
            let known = facts(namespace, name, version, arc).known(condition);
            let told = match &known {
                Fact::Yes => "yes",
                Fact::No(_) => "no",
                Fact::Unknown(_) => "unknown",
            };
            assert_eq!(told, expected, "{namespace}/{name} {version} {arc:?}: {known:?}");
        }
        let mut arc = facts("mdc", many, "0.10.0", Some(true));
        for (cloud, audit) in [
            (Cloud::Aks, Some(Fact::Yes)),
            (Cloud::Eks, None),
            (Cloud::Gke, None),
        ] {
            arc.cloud = Some(cloud);
            assert!(matches!(arc.known(DriftPolicy), Fact::Unknown(_)), "{cloud:?}");
            let known = arc.known(AuditLog);
            assert!(
                audit.map_or(matches!(known, Fact::Unknown(_)), |audit| known == audit),
                "{known:?}"
            );
        }
        let none = SensorFacts::default();
        assert!(
            matches!(none.known(DnsDetection), Fact::Unknown(_)),
            "that there is none is a fact by itself"
        );
    }

    #[test]
    fn an_assumed_version_decides_nothing() {
        let facts = SensorFacts::new(&[workload("mdc", COLLECTORS[1], &[], &[LOW])], Some(false), None);
        let known = facts.known(Condition::AntiMalware);
        assert!(
            matches!(&known, Fact::Unknown(reason) if reason.contains("only assumed")),
            "{known:?}"
        );
        assert_eq!(
            facts.sensors[0].to_string(),
            "Helm chart, version 2.0.205 (assumed: it is the tag of an image) \
             (mdc/microsoft-defender-collectors-ds)"
        );
    }

    #[test]
    fn of_two_sensors_the_better_counts() {
        let version = |text| [("app.kubernetes.io/version", text)];
        let workloads = [
            workload("kube-system", COLLECTORS[0], &version("0.8.1"), &[]),
            workload("mdc", COLLECTORS[1], &version("0.10.0"), &[]),
        ];
        let mut facts = SensorFacts::new(&workloads, Some(false), None);
        assert_eq!(facts.flavours(), [Flavour::AksAddOn, Flavour::Helm]);
        assert_eq!(facts.known(Condition::DnsDetection), Fact::Yes);
        facts.government = true;
        for (condition, lacks) in Condition::ALL.map(|condition| (condition, facts.known(condition))) {
            let commercial = [Condition::DnsDetection, Condition::AntiMalware].contains(&condition);
            assert_eq!(matches!(lacks, Fact::No(_)), commercial, "{condition}");
        }
        facts.government = false;
        // One that is not ready detects nothing.
        facts.sensors[1].ready = false;
        let reason = "the sensor that has it (Helm chart) is not ready";
        assert_eq!(facts.known(Condition::DnsDetection), unknown(reason));
        facts.sensors.pop();
        assert!(matches!(facts.known(Condition::DnsDetection), Fact::No(_)));
    }

    #[test]
    fn clouds_are_told_by_their_labels() {
        for (key, cloud) in [
            ("kubernetes.azure.com/cluster", Some(Cloud::Aks)),
            ("eks.amazonaws.com/nodegroup", Some(Cloud::Eks)),
            ("cloud.google.com/gke-nodepool", Some(Cloud::Gke)),
            ("cloud.google.com/other", None),
            ("kubernetes.io/os", None),
        ] {
            assert_eq!(Cloud::of_node(["kubernetes.io/arch", key]), cloud, "{key}");
        }
    }
}
