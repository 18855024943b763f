//! `doctor`: each check in each of its results, on a real cluster, and by a stand-in where a real one does
//! not answer as is wanted. What only depends on what was read is tried beside the check.

use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::Response;
use http_body_util::Full;
use serde_json::{Value, json as value};

use crate::apiserver::{Answer, ApiServer, Recorded, failure, json};
use crate::arm::{FakeArm, FakeCli, Fault, GROUP, SUBSCRIPTION};
use crate::contract::assert_keeps_to;
use crate::range::{
    Finally, Identity, Ran, Space, alone, await_that, kubectl, left_in, shared, sim, sim_as, text,
    try_kubectl,
};

/// The ids, in their order.
const IDS: [&str; 20] = [
    "reachable",
    "identity",
    "rights",
    "namespace",
    "admission",
    "quota",
    "nodes",
    "images",
    "network-policies",
    "active-run",
    "leftovers",
    "sensor",
    "sensor-ready",
    "sensor-features",
    "azure-cluster",
    "azure-plan",
    "azure-profile",
    "azure-exclusions",
    "azure-alerts",
    "azure-rules",
];

/// What `doctor` said, as JSON that keeps to its schema.
struct Said(Value);

impl Said {
    fn of(json: Value) -> Self {
        assert_keeps_to("doctor", &json);
        Self(json)
    }

    /// Asks for one scenario in a namespace, with further flags.
    fn ask(scenario: &str, namespace: &str, flags: &[&str]) -> Self {
        let arguments = [&["doctor", scenario, "-n", namespace, "-o", "json"], flags].concat();
        let ran = sim(&arguments);
        let said = Self::of(ran.json());
        assert_eq!(
            ran.code.map(Value::from).as_ref(),
            Some(&said.0["exitCode"]),
            "{ran:#?}"
        );
        said
    }

    fn check(&self, id: &str) -> &Value {
        let checks = self.0["checks"].as_array().unwrap();
        checks.iter().find(|check| check["id"] == id).unwrap()
    }

    /// Insists on what a check came to, and on a part of what it saw or advises.
    #[track_caller]
    fn assert(&self, id: &str, status: &str, part: &str) {
        let check = self.check(id);
        let said = format!("{} {}", text(&check["seen"]), text(&check["advice"]));
        assert_eq!(check["status"], status, "{check:#}");
        assert!(said.contains(part), "no {part:?} in {check:#}");
    }
}

fn apply(manifest: &Value) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), manifest.to_string()).unwrap();
    kubectl(&["apply", "-f", file.path().to_str().unwrap()]);
}

#[test]
#[ignore = "needs the range: make range"]
fn a_namespace_that_is_there_says_all() {
    let _shared = shared();
    let space = Space::new("doctor-there", &[]);
    await_that("the service account", Duration::from_secs(20), || {
        try_kubectl(&["get", "serviceaccount", "default", "-n", &space.0]).code == Some(0)
    });
    let said = Said::ask("recon", &space.0, &[]);
    said.assert("reachable", "ok", "Kubernetes v1.34.");
    said.assert("identity", "ok", "admin");
    said.assert("rights", "ok", "all 38 in namespace");
    said.assert("namespace", "ok", "not made by this tool");
    said.assert("admission", "ok", "all 10 objects admitted");
    said.assert("quota", "ok", "none in namespace");
    said.assert("nodes", "ok", "1 of 1 node can take the pods");
    // Nodes have them; and `latest` is asked for again, at a registry that is not to be reached from here.
    said.assert("images", "couldNotTell", "on 1 node, its tag can move");
    Said::ask("recon", &space.0, &["--image-pull-policy=IfNotPresent"]).assert(
        "images",
        "ok",
        "on 1 node, its tag can move",
    );
    said.assert("network-policies", "ok", "0 policies");
    said.assert("active-run", "ok", "none in namespace");
    assert_eq!(said.0["cluster"]["user"], "admin");
    assert_eq!(said.0["namespace"], space.0.as_str());
    assert_eq!(said.0["scenarios"], value!(["recon"]));
    let ids = said.0["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| text(&check["id"]));
    assert_eq!(ids.collect::<Vec<_>>(), IDS);
    assert_eq!(left_in(&space.0), Vec::<String>::new(), "it only reads");

    // What stands against a run there.
    kubectl(&[
        "label",
        "namespace",
        &space.0,
        "pod-security.kubernetes.io/enforce=restricted",
    ]);
    Said::ask("webshell", &space.0, &[]).assert("admission", "failed", "violates PodSecurity");
    kubectl(&[
        "create",
        "quota",
        "few",
        "--hard=pods=1,secrets=9",
        "-n",
        &space.0,
    ]);
    let metadata = |name: &str| value!({ "name": name, "namespace": space.0 });
    apply(&value!({
        "apiVersion": "v1", "kind": "LimitRange", "metadata": metadata("small"),
        "spec": { "limits": [{ "type": "Container", "max": { "memory": "100Mi" } }] },
    }));
    apply(&value!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata("deny"),
        "spec": { "podSelector": {}, "policyTypes": ["Egress"] },
    }));
    await_that("the quota is counted", Duration::from_secs(20), || {
        let used = [
            "get",
            "quota",
            "few",
            "-n",
            &space.0,
            "-o",
            "jsonpath={.status.used.pods}",
        ];
        try_kubectl(&used).stdout == "0"
    });
    let said = Said::ask("crypto", &space.0, &["--node-selector=no=where"]);
    said.assert("admission", "failed", "is forbidden");
    said.assert("quota", "failed", "quota few: 0 of 1 pods used, not enough left");
    said.assert(
        "quota",
        "failed",
        "limit range small: a pod may have at most 100Mi memory",
    );
    said.assert("network-policies", "warning", "the victim's way to the attacker");
    said.assert("nodes", "couldNotTell", "1 without the labels of --node-selector");
    assert_eq!(said.0["exit"], "notStarted");

    kubectl(&[
        "create",
        "service",
        "clusterip",
        "mdc-simulation-victim",
        "--tcp=80",
        "-n",
        &space.0,
    ]);
    let said = Said::ask("webshell", &space.0, &[]);
    said.assert(
        "namespace",
        "failed",
        "service/mdc-simulation-victim exists in namespace",
    );

    // Quotas with room, images that are no references or not to be had.
    kubectl(&[
        "patch",
        "quota",
        "few",
        "-n",
        &space.0,
        "-p",
        r#"{"spec":{"hard":{"pods":"9"}}}"#,
    ]);
    kubectl(&["delete", "limitrange", "small", "-n", &space.0]);
    let digest = format!("--attacker-image=x/y@sha256:{}", "0".repeat(64));
    let never = [digest.as_str(), "--image-pull-policy=Never"];
    await_that("the quota is counted", Duration::from_secs(20), || {
        let said = Said::ask("webshell", &space.0, &never);
        said.assert("images", "warning", "no node lists x/y@sha256:0000");
        said.check("quota")["status"] == "ok"
    });
    Said::ask("webshell", &space.0, &["--victim-image=A:b:c"]).assert("images", "failed", "no reference");
}

#[test]
#[ignore = "needs the range: make range"]
fn a_namespace_that_is_not_there_is_no_fault() {
    let _shared = shared();
    let space = Space::named("doctor-absent");
    let said = Said::ask("webshell", &space.0, &[]);
    said.assert("namespace", "ok", "a run makes it");
    said.assert("rights", "ok", "all 44");
    said.assert("admission", "couldNotTell", "does not exist");
    said.assert("quota", "notApplicable", "does not exist");
    said.assert("network-policies", "notApplicable", "does not exist");
    said.assert("active-run", "ok", "none");

    // Without a right, each of them is named; where nodes cannot be listed, nothing is said of them.
    let said = Said::ask("webshell", &space.0, &["--as=nobody"]);
    said.assert("rights", "failed", "38 rights missing");
    said.assert("rights", "failed", "namespaces (get), ");
    said.assert("rights", "failed", "kubectl auth can-i get pods");
    said.assert("identity", "ok", "nobody");
    for id in [
        "namespace",
        "admission",
        "quota",
        "nodes",
        "network-policies",
        "active-run",
        "leftovers",
        "sensor",
    ] {
        said.assert(id, "couldNotTell", "failed to ");
    }
    for id in ["sensor-ready", "sensor-features"] {
        said.assert(id, "couldNotTell", "failed to list daemonsets");
    }
    said.assert("images", "couldNotTell", "not seen whether a node has it");

    let said = sim(&["doctor", "-o", "name"]).stdout;
    assert_eq!(said.lines().collect::<Vec<_>>(), IDS);
    let table = sim(&["doctor", "webshell", "-n", &space.0]);
    for line in table.stdout.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let lines: Vec<&str> = table.stdout.lines().collect();
    assert_eq!(lines[0], "CHECK             RESULT          SEEN");
    let with = |result: &str| {
        lines
            .iter()
            .position(|line| line.get(18..).is_some_and(|rest| rest.starts_with(result)))
    };
    let attention = with("unknown").or(with("failed")).unwrap();
    assert!(
        attention < with("ok").unwrap(),
        "what needs attention is first: {table:#?}"
    );
    let advice = format!("\n{}to know before a run, make one", " ".repeat(34));
    assert!(table.stdout.contains(&advice), "{table:#?}");
    assert_eq!(table.stderr, "checking\n");
    let wide = sim(&["doctor", "webshell", "-n", &space.0, "-o", "wide", "-q"]);
    assert!(
        wide.stdout.lines().next().unwrap().ends_with("ADVICE"),
        "{wide:#?}"
    );
    assert_eq!(wide.stderr, "");
    let yaml = sim(&["doctor", "webshell", "-n", &space.0, "-o", "yaml"]).stdout;
    Said::of(serde_saphyr::from_str(&yaml).unwrap()).assert("reachable", "ok", "");
}

#[test]
#[ignore = "needs the range: make range"]
fn another_run_and_what_one_left_are_found() {
    let _shared = shared();
    let space = Space::named("doctor-busy");
    sim(&["webshell", "-n", &space.0, "--keep"]).assert(0);
    let said = Said::ask("webshell", &space.0, &[]);
    said.assert("active-run", "failed", " of operator holds namespace ");
    said.assert("namespace", "ok", "made by this tool");
    said.assert("admission", "couldNotTell", "the objects of another run");
    // A warning, where other tests have something elsewhere.
    let status = text(&said.check("leftovers")["status"]);
    assert!(["ok", "warning"].contains(&status.as_str()), "{status}");
    said.assert("leftovers", &status, "under way");

    // The record of the run goes, and what it owned is kept from going with it.
    kubectl(&[
        "delete",
        "job",
        "mdc-simulation",
        "-n",
        &space.0,
        "--cascade=orphan",
    ]);
    let said = Said::ask("webshell", &space.0, &[]);
    said.assert("active-run", "ok", "none");
    said.assert("leftovers", "warning", "kubectl defender-sim cleanup");
    said.assert("namespace", "failed", "kubectl defender-sim cleanup");
    sim(&["cleanup", "--force", "-n", &space.0]).assert(0);

    // One that is on its way out.
    let space = Space::new("doctor-going", &[]);
    let hold = r#"{"metadata":{"finalizers":["test.example/hold"]}}"#;
    kubectl(&["create", "configmap", "hold", "-n", &space.0]);
    kubectl(&["patch", "configmap", "hold", "-n", &space.0, "-p", hold]);
    let release = r#"{"metadata":{"finalizers":null}}"#;
    let _release = Finally(|| {
        try_kubectl(&["patch", "configmap", "hold", "-n", &space.0, "-p", release]);
    });
    kubectl(&["delete", "namespace", &space.0, "--wait=false"]);
    let said = Said::ask("webshell", &space.0, &[]);
    said.assert("namespace", "failed", "is being removed");
    said.assert("admission", "couldNotTell", "takes nothing");
    let label = "defender-sim/run=abcdefgh";
    kubectl(&["label", "namespace", &space.0, label]);
    Said::ask("webshell", &space.0, &[]).assert("namespace", "warning", "a run waits a minute");
}

/// Makes the `DaemonSet` of a sensor.
fn sensor(namespace: &str, name: &str, version: &str, image: &str) {
    apply(&daemon_set(namespace, name, version, image));
}

fn daemon_set(namespace: &str, name: &str, version: &str, image: &str) -> Value {
    // As Microsoft's pages on verifying a deployment have them.
    let app = if name.contains("collectors") {
        "defender-k8s-sensor"
    } else {
        "defender"
    };
    value!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {
            "name": name, "namespace": namespace,
            "labels": { "app.kubernetes.io/version": version, "test": "defender-sim" },
        },
        "spec": {
            "selector": { "matchLabels": { "app": app } },
            "template": {
                "metadata": { "labels": { "app": app } },
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "containers": [{ "name": "collector", "image": image, "command": ["sleep", "600"] }],
                },
            },
        },
    })
}

/// Waits until the pods of a sensor are ready.
fn rolled_out(namespace: &str, name: &str) {
    let name = format!("daemonset/{name}");
    kubectl(&["rollout", "status", &name, "-n", namespace, "--timeout=60s"]);
}

#[test]
#[ignore = "needs the range: make range"]
fn every_sensor_is_found_where_it_is_ready_and_what_it_can() {
    const ADD_ON: &str = "microsoft-defender-collector-ds";
    const HELM: &str = "microsoft-defender-collectors-ds";
    let _alone = alone();
    let space = Space::named("doctor-sensor");
    let _clean = Finally(|| {
        let labelled = ["-l", "test=defender-sim", "--ignore-not-found"];
        try_kubectl(&[&["delete", "daemonsets", "-A"][..], &labelled].concat());
        try_kubectl(&["delete", "namespace", "mdc", "azure-arc", "--ignore-not-found"]);
        try_kubectl(&["label", "nodes", "--all", "kubernetes.azure.com/cluster-"]);
    });
    let image = format!("{}/attacker:latest", crate::range::IMAGES);
    let ask = |scenario: &str| Said::ask(scenario, &space.0, &[]);

    let said = ask("webshell");
    said.assert("sensor", "failed", "none: no DaemonSet");
    said.assert("sensor-ready", "notApplicable", "there is no sensor");
    said.assert("sensor-features", "notApplicable", "there is no sensor");
    assert_eq!(said.0["exitCode"], 3);

    sensor("kube-system", ADD_ON, "0.8.36", &image);
    rolled_out("kube-system", ADD_ON);
    let said = ask("webshell");
    said.assert(
        "sensor",
        "ok",
        "AKS add-on, version 0.8.36 (kube-system/microsoft-defender-collector-ds)",
    );
    said.assert("sensor-ready", "ok", "1 of 1 pods ready; on each node");
    said.assert("sensor-features", "notApplicable", "no more than a ready sensor");
    assert_eq!(said.0["exitCode"], 0, "{:#}", said.0);
    ask("ti-domain").assert("sensor-features", "warning", "not here: DNS detection");
    ask("recon").assert("sensor-features", "couldNotTell", "not known: the audit log");
    kubectl(&["label", "nodes", "--all", "kubernetes.azure.com/cluster=test"]);
    ask("recon").assert("sensor-features", "ok", "the audit log");
    // No node takes the pods: where the sensor is does not matter.
    let nowhere = Said::ask("webshell", &space.0, &["--node-selector=no=where"]);
    nowhere.assert("sensor-ready", "notApplicable", "no node takes the pods");

    // A second one, of another flavour; and one that cannot start.
    kubectl(&["create", "namespace", "mdc"]);
    kubectl(&["label", "namespace", "mdc", "test=defender-sim"]);
    sensor("mdc", HELM, "0.10.2", &image);
    rolled_out("mdc", HELM);
    let said = ask("ti-domain");
    said.assert("sensor", "warning", "several: AKS add-on, version 0.8.36");
    said.assert("sensor-features", "ok", "DNS detection");
    kubectl(&["delete", "daemonset", ADD_ON, "-n", "kube-system"]);
    kubectl(&[
        "patch",
        "daemonset",
        HELM,
        "-n",
        "mdc",
        "-p",
        r#"{"spec":{"template":{"spec":{"nodeSelector":{"no":"where"}}}}}"#,
    ]);
    await_that("no pod of it is ready", Duration::from_secs(30), || {
        let ready = [
            "get",
            "daemonset",
            HELM,
            "-n",
            "mdc",
            "-o",
            "jsonpath={.status.numberReady}",
        ];
        kubectl(&ready) == "0"
    });
    let said = ask("ti-domain");
    said.assert(
        "sensor",
        "ok",
        "Helm chart, version 0.10.2 (mdc/microsoft-defender-collectors-ds)",
    );
    said.assert("sensor-ready", "failed", "0 of 0 pods ready");

    // The same beside Arc's agents, with the other spelling, and only known by its image.
    kubectl(&["create", "namespace", "azure-arc"]);
    let said = ask("anti-malware");
    said.assert("sensor", "ok", "Arc extension (assumed), version 0.10.2");
    said.assert("sensor-features", "couldNotTell", "is not ready");
    kubectl(&["delete", "daemonset", HELM, "-n", "mdc"]);
    sensor("mdc", ADD_ON, "0.9.1", &image);
    let said = ask("anti-malware");
    said.assert(
        "sensor",
        "ok",
        "Arc extension (assumed), version 0.9.1 (mdc/microsoft-defender-collector-ds)",
    );
    kubectl(&["delete", "daemonset", ADD_ON, "-n", "mdc"]);
    kubectl(&["delete", "namespace", "azure-arc"]);
    let azure = "mcr.microsoft.com/azuredefender/stable/low-level-collector:2.0.205";
    sensor("mdc", "renamed", "stable", azure);
    let said = ask("anti-malware");
    said.assert(
        "sensor",
        "ok",
        "Helm chart (assumed), version 2.0.205 (assumed: it is the tag of an image) (mdc/renamed)",
    );
    said.assert("sensor-features", "couldNotTell", "only assumed");
    kubectl(&["delete", "daemonset", "renamed", "-n", "mdc"]);
    let elsewhere = Space::new("doctor-elsewhere", &[]);
    sensor(&elsewhere.0, "renamed", "stable", azure);
    ask("webshell").assert("sensor", "warning", "installed in an undocumented way (assumed)");
}

#[test]
#[ignore = "needs the range: make range"]
fn sensor_in_a_crash_loop_is_explained() {
    const SENSOR: &str = "microsoft-defender-collector-ds";
    let _alone = alone();
    let space = Space::named("doctor-crash");
    let _clean = Finally(|| {
        try_kubectl(&[
            "delete",
            "daemonset",
            SENSOR,
            "-n",
            "kube-system",
            "--ignore-not-found",
        ]);
    });
    let image = format!("{}/attacker:latest", crate::range::IMAGES);
    let mut set = daemon_set("kube-system", SENSOR, "0.8.36", &image);
    let container = &mut set["spec"]["template"]["spec"]["containers"][0];
    container["command"] = value!(["bash", "-c", "echo no licence >/dev/termination-log; exit 3"]);
    apply(&set);
    await_that("the sensor was restarted", Duration::from_secs(60), || {
        let restarts = "jsonpath={.items[*].status.containerStatuses[0].restartCount}";
        let selector = ["-l", "app=defender", "-o", restarts];
        let restarts = kubectl(&[&["get", "pods", "-n", "kube-system"][..], &selector].concat());
        restarts.parse::<u32>().is_ok_and(|restarts| restarts > 0)
    });
    let said = Said::ask("recon", &space.0, &[]);
    said.assert(
        "sensor-ready",
        "failed",
        "0 of 1 pods ready (pod/microsoft-defender-collector-ds-",
    );
    said.assert("sensor-ready", "failed", " restart");
    said.assert("sensor-ready", "failed", "last exit status 3 (Error): no licence");
}

/// A node of which there is nothing but the object, ready, and with room for who puts up with its taint.
fn pretended_node(name: &str) {
    apply(&value!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name, "test": "defender-sim" } },
        "spec": { "taints": [{ "key": "test", "value": "defender-sim", "effect": "NoSchedule" }] },
    }));
    status(
        "node",
        name,
        &[],
        &value!({
            "allocatable": { "pods": "9", "cpu": "1", "memory": "1Gi" },
            "conditions": [{ "type": "Ready", "status": "True", "reason": "Test", "message": "" }],
        }),
    );
}

/// Says of an object what its kubelet would, if the object is there.
fn status(kind: &str, name: &str, place: &[&str], status: &Value) {
    let patch = value!({ "status": status }).to_string();
    let patch = ["patch", kind, name, "--subresource=status", "-p", &patch];
    try_kubectl(&[&patch[..], place].concat());
}

/// A sensor that is ready raises nothing where the pods of a run are not.
#[test]
#[ignore = "needs the range: make range"]
fn a_sensor_counts_where_the_pods_of_a_run_are() {
    const SENSOR: &str = "microsoft-defender-collector-ds";
    const SYSTEM: [&str; 2] = ["-n", "kube-system"];
    let _alone = alone();
    let space = Space::named("sensor-elsewhere");
    let _clean = Finally(|| {
        let labelled = ["-l", "test=defender-sim", "--ignore-not-found"];
        try_kubectl(&[&["delete", "daemonsets", "-A"][..], &labelled].concat());
        try_kubectl(&[&["delete", "nodes"][..], &labelled].concat());
    });
    let image = format!("{}/attacker:latest", crate::range::IMAGES);
    let known = || {
        // Sensors are read with rights that a run can do without.
        let arguments = ["webshell", "-n", &space.0, "-o", "json"];
        let result = sim_as(Identity::Admin, &arguments).assert(0).json();
        assert_eq!(result["node"], "node1");
        result["facts"]["sensor"].clone()
    };
    sensor("kube-system", SENSOR, "0.8.36", &image);
    rolled_out("kube-system", SENSOR);
    assert_eq!(known(), value!({ "known": "yes" }));

    // Anew on the other node, and not by an update: that waits for pods that are ready.
    kubectl(&[&["delete", "daemonset", SENSOR][..], &SYSTEM].concat());
    pretended_node("node2");
    let mut elsewhere = daemon_set("kube-system", SENSOR, "0.8.36", &image);
    let pod = &mut elsewhere["spec"]["template"]["spec"];
    pod["nodeSelector"] = value!({ "kubernetes.io/hostname": "node2" });
    pod["tolerations"] = value!([{ "key": "test", "operator": "Exists" }]);
    apply(&elsewhere);
    let pods = [
        "get",
        "pods",
        "-l",
        "app=defender",
        "--field-selector=spec.nodeName=node2",
        "-o",
        "name",
    ];
    // The controller may put another one in its place.
    await_that("a ready pod on the other node", Duration::from_secs(60), || {
        for pod in kubectl(&[&pods[..], &SYSTEM].concat()).lines() {
            let ready = value!([{ "type": "Ready", "status": "True" }]);
            let running = value!({ "phase": "Running", "conditions": ready });
            status("pod", &pod.replace("pod/", ""), &SYSTEM, &running);
        }
        let ready = ["get", "daemonset", SENSOR, "-o", "jsonpath={.status.numberReady}"];
        kubectl(&[&ready[..], &SYSTEM].concat()) == "1"
    });
    let reason = "no Defender sensor is ready on node node1, where the pods were";
    assert_eq!(known(), value!({ "known": "no", "reason": reason }));
}

// --- what no real cluster does on demand

/// A cluster with two nodes, and a sensor on one; `change` may answer instead.
async fn standing_in(change: impl Fn(&Recorded) -> Option<Answer> + Send + Sync + 'static) -> ApiServer {
    ApiServer::start(move |request| change(request).unwrap_or_else(|| usual(request))).await
}

fn usual(request: &Recorded) -> Answer {
    let path = request.path.split('?').next().unwrap_or_default();
    let node = |name: &str| {
        value!({
            "metadata": { "name": name, "labels": { "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64" } },
            "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
        })
    };
    let list = |items: &[Value]| json(200, &value!({ "metadata": {}, "items": items }));
    match path {
        "/version" => json(
            200,
            &value!({
                "major": "1", "minor": "33", "gitVersion": "v1.33.1", "gitCommit": "", "gitTreeState": "",
                "buildDate": "", "goVersion": "", "compiler": "", "platform": "",
            }),
        ),
        "/apis" => json(
            200,
            &value!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": [{
                "name": "cilium.io", "versions": [{ "groupVersion": "cilium.io/v2", "version": "v2" }],
            }] }),
        ),
        // In two pages.
        "/api/v1/nodes" if request.path.contains("continue=next") => list(&[node("two")]),
        "/api/v1/nodes" => json(
            200,
            &value!({ "metadata": { "continue": "next" }, "items": [node("one")] }),
        ),
        "/apis/apps/v1/daemonsets" => list(&[value!({
            "metadata": { "name": "microsoft-defender-collectors-ds", "namespace": "mdc" },
            "spec": {
                "selector": { "matchLabels": { "a": "b" } },
                "template": { "spec": { "containers": [{ "name": "c" }] } },
            },
            "status": { "currentNumberScheduled": 1, "desiredNumberScheduled": 2, "numberMisscheduled": 0, "numberReady": 1 },
        })]),
        "/api/v1/namespaces/mdc/pods" => list(&[value!({
            "metadata": { "name": "p", "ownerReferences": [{ "kind": "DaemonSet", "name": "microsoft-defender-collectors-ds" }] },
            "spec": { "nodeName": "one" },
            "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
        })]),
        path if path.starts_with("/apis/authorization") => {
            let mut review: Value = serde_json::from_slice(&request.body).unwrap();
            review["status"] = value!({ "allowed": true });
            json(201, &review)
        }
        path if path.starts_with("/apis/authentication") => failure(404, "NotFound", "no such kind"),
        "/api/v1/namespaces/mdc-simulation" => json(
            200,
            &value!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                "metadata": { "name": "mdc-simulation", "uid": "1" },
            }),
        ),
        // Objects of a run: admitted.
        _ if request.method == "POST" => json(201, &serde_json::from_slice(&request.body).unwrap()),
        // What is asked for by its name.
        path if path.contains("/mdc-simulation") && !path.ends_with('s') || path.ends_with("azure-arc") => {
            failure(404, "NotFound", "not found")
        }
        _ => list(&[]),
    }
}

/// `doctor` to be started against a stand-in. What is not on this machine is behind a proxy that is not there.
fn command(server: &ApiServer) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-defender_sim"));
    command.args(["doctor", "webshell", "-o", "json", "--server", &server.url()]);
    command
        .env_clear()
        .envs([("HOME", "/nonexistent"), ("HTTPS_PROXY", "http://127.0.0.1:9")]);
    command
}

/// `doctor` against a stand-in.
fn doctor(server: &ApiServer, arguments: &[&str]) -> Said {
    said(command(server).args(arguments))
}

fn said(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    let ran = Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    };
    Said::of(ran.json())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_the_sensor_is_named() {
    let server = standing_in(|_| None).await;
    let said = doctor(&server, &[]);
    said.assert("nodes", "ok", "2 of 2 nodes can take the pods");
    said.assert(
        "sensor-ready",
        "warning",
        "1 of 2 pods ready; none on 1 of 2 nodes that take the pods of a run: two",
    );
    let government = doctor(&server, &["ti-domain", "--azure-cloud=AzureUSGovernment"]);
    government.assert("sensor-features", "warning", "the cluster is in Azure Government");
    said.assert("identity", "couldNotTell", "does not say");
    said.assert("namespace", "failed", "to use it as it is: -n mdc-simulation");
    said.assert("admission", "ok", "all 10 objects admitted");
    said.assert("network-policies", "couldNotTell", "those of Cilium are not read");
    said.assert("leftovers", "ok", "nothing");
    let asked = server.requests();
    let limited = |path: &str| {
        asked
            .iter()
            .any(|request| request.path.starts_with(path) && request.path.contains("limit="))
    };
    for path in [
        "/api/v1/nodes?",
        "/api/v1/namespaces/mdc/pods?",
        "/api/v1/pods?",
        "/api/v1/secrets?",
    ] {
        assert!(limited(path), "{path} is not asked for in pages");
    }
    let pods = asked
        .iter()
        .find(|request| request.path.starts_with("/api/v1/namespaces/mdc/pods?"))
        .unwrap();
    assert!(pods.path.contains("labelSelector=a%3Db"), "{}", pods.path);
    let changes = asked
        .iter()
        .filter(|request| request.method != "GET" && !request.path.starts_with("/apis/auth"));
    for change in changes {
        assert!(
            change.path.contains("dryRun=All"),
            "{} {}",
            change.method,
            change.path
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_and_sensors_that_cannot_be_listed_are_not_guessed() {
    let forbidden = |request: &Recorded, path: &str| {
        request
            .path
            .starts_with(path)
            .then(|| failure(403, "Forbidden", "you may not"))
    };
    let server = standing_in(move |request| forbidden(request, "/api/v1/nodes")).await;
    let said = doctor(&server, &[]);
    said.assert("nodes", "couldNotTell", "failed to list nodes in all namespaces");
    said.assert("sensor", "ok", "Helm chart, version unknown");
    said.assert(
        "sensor-ready",
        "couldNotTell",
        "1 of 2 pods ready; on which nodes: failed to list nodes",
    );

    // Not in all namespaces, but where the sensor is documented to be.
    let server = standing_in(move |request| {
        if request
            .path
            .starts_with("/apis/apps/v1/namespaces/mdc/daemonsets")
        {
            let mut all = request.clone();
            all.path = "/apis/apps/v1/daemonsets".into();
            return Some(usual(&all));
        }
        forbidden(request, "/apis/apps/v1/daemonsets")
    })
    .await;
    doctor(&server, &[]).assert("sensor", "ok", "Helm chart");
    // Where it is not there either, it may be elsewhere.
    let server = standing_in(move |request| forbidden(request, "/apis/apps/v1/daemonsets")).await;
    doctor(&server, &[]).assert(
        "sensor",
        "couldNotTell",
        "failed to list daemonsets in all namespaces",
    );

    // A namespace that is not there and may not be made.
    let server = standing_in(|request| {
        let body = String::from_utf8_lossy(&request.body);
        let make = body.contains("\"namespaces\"") && body.contains("\"create\"");
        if request.path.starts_with("/apis/authorization") && make {
            let mut review: Value = serde_json::from_slice(&request.body).unwrap();
            review["status"] = value!({ "allowed": false });
            return Some(json(201, &review));
        }
        let absent = request.path == "/api/v1/namespaces/mdc-simulation";
        absent.then(|| failure(404, "NotFound", "not found"))
    })
    .await;
    let said = doctor(&server, &[]);
    said.assert(
        "rights",
        "failed",
        "1 right missing in namespace mdc-simulation: namespaces (create)",
    );
    said.assert("namespace", "ok", "a run makes it");

    // A webhook that cannot be asked.
    let server = standing_in(|request| {
        let pod = request.method == "POST" && request.path.contains("/pods?");
        pod.then(|| {
            failure(
                400,
                "BadRequest",
                "admission webhook \"w\" does not support dry run",
            )
        })
    })
    .await;
    doctor(&server, &[]).assert(
        "admission",
        "couldNotTell",
        "pod/mdc-simulation-victim: admission webhook",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_cluster_that_answers_nothing_else_is_asked() {
    let server = standing_in(|request| {
        (request.path == "/version").then(|| failure(503, "ServiceUnavailable", "not now"))
    })
    .await;
    let said = doctor(&server, &[]);
    said.assert("reachable", "failed", "not now");
    for id in &IDS[1..] {
        said.assert(id, "couldNotTell", "the cluster did not answer");
    }
    assert_eq!(said.0["exitCode"], 3);
    assert!(server.requests().iter().all(|request| request.path == "/version"));

    let server = standing_in(|request| {
        (request.path != "/version").then(|| failure(401, "Unauthorized", "Unauthorized"))
    })
    .await;
    let said = doctor(&server, &[]);
    said.assert("reachable", "ok", "v1.33.1");
    said.assert("identity", "failed", "kubectl auth whoami");
    said.assert("rights", "couldNotTell", "failed to check permissions");
    said.assert("admission", "couldNotTell", "failed to ");
}

/// A registry, where the first part of a repository's name says what it does.
async fn registry() -> ApiServer {
    let own = Arc::new(OnceLock::new());
    let here = own.clone();
    let registry = ApiServer::start_tls(&["localhost"], move |request| {
        let port = here.get().unwrap();
        let said = |code: u16, name: &'static str, value: String| {
            let answer = Response::builder().status(code).header(name, value);
            answer.body(Full::default()).unwrap()
        };
        let token = |of: &str| {
            let realm = format!("https://localhost:{port}/token/{of}");
            let scope = format!("repository:{of}/a:pull");
            let challenge = format!(r#"Bearer realm="{realm}",service="fake",scope="{scope}""#);
            said(401, "www-authenticate", challenge)
        };
        let has_token = request.header("authorization") == format!("Bearer {TOKEN}");
        match request.path.split('/').nth(2).unwrap_or_default() {
            "open" => said(200, "content-length", "7".into()),
            "public" if has_token => said(200, "content-length", "7".into()),
            of @ ("public" | "denied" | "refused" | "broken") => token(of),
            "moved" if has_token => said(307, "location", "/v2/open/a/manifests/1".into()),
            "moved" => token("moved"),
            "round" => said(307, "location", request.path.clone()),
            "plain" => said(301, "location", "http://localhost/".into()),
            "basic" => said(401, "www-authenticate", r#"Basic realm="x""#.into()),
            "busy" => said(429, "retry-after", "60".into()),
            "public?service=fake&scope=repository%3Apublic%2Fa%3Apull"
            | "denied?service=fake&scope=repository%3Adenied%2Fa%3Apull" => {
                json(200, &value!({ "token": TOKEN }))
            }
            "moved?service=fake&scope=repository%3Amoved%2Fa%3Apull" => {
                json(200, &value!({ "access_token": TOKEN }))
            }
            "broken?service=fake&scope=repository%3Abroken%2Fa%3Apull" => json(200, &value!({})),
            token if token.contains('?') => json(403, &value!({})),
            _ => json(404, &value!({})),
        }
    })
    .await;
    own.set(registry.address().port()).unwrap();
    registry
}

#[tokio::test(flavor = "multi_thread")]
async fn registries_are_asked_for_the_images() {
    let (cluster, registry) = (standing_in(|_| None).await, registry().await);
    let port = registry.address().port();
    let authority = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(authority.path(), registry.certificate()).unwrap();
    let attacker = format!("--attacker-image=localhost:{port}/open/a:1");
    let ask = |repository: &str| {
        let mut command = command(&cluster);
        command.env("SSL_CERT_FILE", authority.path()).args([
            &attacker,
            &format!("--victim-image=localhost:{port}/{repository}:1"),
        ]);
        let said = said(&mut command);
        assert!(!said.0.to_string().contains(TOKEN));
        said
    };
    for (repository, status, part) in [
        ("open/a", "ok", "the registry has it, on no node yet"),
        ("public/a", "ok", "has it"),
        ("moved/a", "ok", "has it"),
        ("absent/a", "failed", "has no such image"),
        ("basic/a", "couldNotTell", "the registry asks for a login"),
        ("denied/a", "couldNotTell", "the registry asks for a login"),
        ("refused/a", "couldNotTell", "the registry asks for a login"),
        ("broken/a", "couldNotTell", "its token cannot be parsed"),
        ("busy/a", "couldNotTell", "it answered 429"),
        ("round/a", "couldNotTell", "too many redirects"),
        ("plain/a", "couldNotTell", "not https"),
    ] {
        ask(repository).assert("images", status, part);
    }
    let asked = registry.requests();
    assert!(
        asked
            .iter()
            .all(|request| request.path.starts_with("/token") || request.method == "HEAD")
    );
    // A token does not go to the place that it was not for.
    let open = asked
        .iter()
        .filter(|request| request.path.starts_with("/v2/open"));
    assert!(
        open.clone().count() > 2
            && open
                .clone()
                .all(|request| request.header("authorization").is_empty())
    );

    // One whose certificate nobody knows; one that is not there, and one that does not answer.
    let unknown = doctor(&cluster, &[&attacker]);
    unknown.assert(
        "images",
        "couldNotTell",
        "the certificate of localhost is not accepted",
    );
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!(
        "--victim-image=localhost:{}/a:1",
        listener.local_addr().unwrap().port()
    );
    let said = doctor(&cluster, &["--attacker-image=localhost:9/a:1", &silent]);
    said.assert("images", "couldNotTell", "no answer from localhost");
    said.assert("images", "couldNotTell", "did not answer within 2 s");

    // What is never pulled is not asked for.
    let before = registry.requests().len();
    doctor(&cluster, &[&attacker, "--image-pull-policy=Never"]).assert("images", "warning", "no node lists");
    assert_eq!(registry.requests().len(), before);
}

/// Azure, and somebody who is logged in there.
struct InAzure {
    cluster: ApiServer,
    azure: FakeArm,
    cli: FakeCli,
}

const TOKEN: &str = "a-token-that-nobody-may-see";

impl InAzure {
    /// With a plan, and an AKS cluster called blue.
    async fn start() -> Self {
        let (azure, cli) = (FakeArm::start().await, FakeCli::new("az", TOKEN));
        azure.accept(TOKEN);
        let here = Self {
            cluster: standing_in(|_| None).await,
            azure,
            cli,
        };
        here.plan("Standard", "True");
        here.put(&aks("blue"), value!({ "properties": {} }));
        here.rules(&[]);
        here
    }

    fn put(&self, path: &str, object: Value) {
        self.azure.with(|state| state.objects.insert(path.into(), object));
    }

    fn plan(&self, tier: &str, sensor: &str) {
        let extensions = value!([{ "name": "ContainerSensor", "isEnabled": sensor }]);
        let plan = value!({ "properties": { "pricingTier": tier, "extensions": extensions } });
        self.put(&format!("{}/pricings/Containers", security()), plan);
    }

    fn rules(&self, types: &[&str]) {
        let rule = |kind: &&str| value!({ "name": "quiet", "properties": { "alertType": kind, "state": "Enabled" } });
        let rules: Vec<Value> = types.iter().map(rule).collect();
        self.put(
            &format!("{}/alertsSuppressionRules", security()),
            value!({ "value": rules }),
        );
    }

    fn ask(&self, arguments: &[&str]) -> Said {
        let mut command = command(&self.cluster);
        command
            .args(["--azure-cloud", &self.azure.server.url(), "--azure-ca"])
            .arg(self.azure.authority());
        command.args(arguments).envs(self.cli.variables(&[]));
        let output = command.output().unwrap();
        let (stdout, stderr) = (output.stdout, output.stderr);
        for text in [&stdout, &stderr] {
            assert!(!String::from_utf8_lossy(text).contains(TOKEN));
        }
        Said::of(serde_json::from_slice(&stdout).unwrap())
    }
}

fn security() -> String {
    format!("/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Security")
}

fn in_group(rest: &str) -> String {
    format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/{rest}")
}

fn aks(name: &str) -> String {
    in_group(&format!("Microsoft.ContainerService/managedClusters/{name}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn how_defender_is_set_up_in_azure_is_told() {
    let here = InAzure::start().await;
    // Nothing that the cluster says leads to Azure.
    let said = here.ask(&[]);
    said.assert(
        "azure-cluster",
        "notApplicable",
        "nothing says that Azure knows this cluster",
    );
    for id in &IDS[15..] {
        said.assert(id, "notApplicable", "see azure-cluster");
    }
    assert!(here.azure.server.requests().is_empty() && here.cli.calls().is_empty());

    let blue = aks("blue");
    let named = ["--resource-id", blue.as_str()];
    let said = here.ask(&named);
    let found = format!(
        "AKS cluster blue in resource group {GROUP} of subscription {SUBSCRIPTION} (the given resource ID); login: the Azure CLI"
    );
    said.assert("azure-cluster", "ok", &found);
    said.assert(
        "azure-plan",
        "ok",
        &format!("on in subscription {SUBSCRIPTION}; with ContainerSensor"),
    );
    said.assert(
        "azure-profile",
        "ok",
        "the one in the cluster was installed another way",
    );
    said.assert("azure-exclusions", "ok", "none");
    said.assert(
        "azure-alerts",
        "ok",
        &format!("/resourceGroups/{GROUP} can be read"),
    );
    said.assert("azure-rules", "ok", "none in force");
    assert_eq!(said.0["cluster"]["resourceId"], blue.as_str());
    let reads = here.azure.server.requests();
    let of_blue = reads
        .iter()
        .filter(|request| request.path.starts_with(&blue))
        .count();
    assert_eq!(
        (of_blue, here.cli.calls().len()),
        (1, 1),
        "what several look at is read once"
    );

    // What stands against alerts.
    here.plan("Free", "False");
    here.rules(&["*"]);
    here.put(
        &blue,
        value!({
            "tags": { "ms_defender_container_exclude_sensors": "true" },
            "properties": { "securityProfile": { "defender": { "securityMonitoring": { "enabled": true } } } },
        }),
    );
    let said = here.ask(&named);
    said.assert(
        "azure-plan",
        "failed",
        &format!("off in subscription {SUBSCRIPTION}: no alert can be raised"),
    );
    said.assert(
        "azure-profile",
        "warning",
        "has the sensor, and the cluster has no add-on",
    );
    said.assert(
        "azure-exclusions",
        "warning",
        "tagged ms_defender_container_exclude_sensors",
    );
    said.assert("azure-rules", "warning", "dismiss expected alerts: quiet (*)");
    assert_eq!(said.0["exitCode"], 3);
    here.rules(&["K8S.NODE_Invented"]);
    here.ask(&named)
        .assert("azure-rules", "couldNotTell", "quiet (K8S.NODE_Invented)");

    // Rights that are missing are named.
    here.azure.with(|state| state.forbidden = true);
    let said = here.ask(&named);
    said.assert("azure-cluster", "ok", "blue");
    said.assert("azure-alerts", "warning", "Microsoft.Security/alerts/read");
    said.assert("azure-plan", "couldNotTell", "Microsoft.Security/pricings/read");
    said.assert(
        "azure-rules",
        "couldNotTell",
        "Microsoft.Security/alertsSuppressionRules/read",
    );
    for id in ["azure-profile", "azure-exclusions"] {
        said.assert(
            id,
            "couldNotTell",
            "Microsoft.ContainerService/managedClusters/read",
        );
    }
    here.azure.with(|state| state.forbidden = false);

    // A login that is missing is told once.
    here.cli
        .answers("", "ERROR: Please run 'az login' to setup account.", 1);
    let said = here.ask(&named);
    said.assert("azure-cluster", "couldNotTell", "Please run 'az login'");
    for id in &IDS[15..] {
        said.assert(id, "couldNotTell", "see azure-cluster");
    }
    here.ask(&["--resource-id", "blue"]).assert(
        "azure-cluster",
        "failed",
        "\"blue\" is not the resource ID of a cluster",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_that_are_not_aks_or_not_found_are_told_apart() {
    let here = InAzure::start().await;
    let said = here.ask(&["--subscription", SUBSCRIPTION]);
    said.assert(
        "azure-cluster",
        "couldNotTell",
        "not found: the data of Azure Arc",
    );
    said.assert("azure-plan", "ok", "on in subscription");
    said.assert(
        "azure-alerts",
        "ok",
        &format!("those of /subscriptions/{SUBSCRIPTION} can be read"),
    );
    for id in ["azure-profile", "azure-exclusions"] {
        said.assert(id, "couldNotTell", "see azure-cluster");
    }

    let arc = in_group("Microsoft.Kubernetes/connectedClusters/green");
    here.put(&arc, value!({ "tags": { "team": "true" } }));
    let said = here.ask(&["--resource-id", &arc]);
    said.assert("azure-cluster", "ok", "Arc-connected cluster green");
    said.assert("azure-profile", "notApplicable", "it is no AKS cluster");
    said.assert("azure-exclusions", "ok", "none");
    here.plan("Free", "False");
    let said = here.ask(&["--resource-id", &arc]);
    said.assert(
        "azure-plan",
        "couldNotTell",
        "its plan may be elsewhere: at a connector",
    );

    let connector = in_group("Microsoft.Security/securityConnectors/aws");
    let offering =
        value!({ "properties": { "offerings": [{ "offeringType": "DefenderForContainersAws" }] } });
    here.put(&connector, offering);
    let said = here.ask(&["--resource-id", &format!("{connector}/securityentitydata/red")]);
    said.assert("azure-cluster", "ok", "cluster red of a connector");
    said.assert("azure-plan", "ok", "on in connector aws");
    said.assert("azure-profile", "notApplicable", "it is no AKS cluster");
    said.assert("azure-exclusions", "couldNotTell", "in another cloud");
    said.assert(
        "azure-alerts",
        "ok",
        &format!("those of /subscriptions/{SUBSCRIPTION} can"),
    );

    // What the nodes say leads to Azure, which finds it.
    let label = value!({ "kubernetes.azure.com/cluster": "MC_x" });
    let cluster = standing_in(move |request| {
        request.path.starts_with("/api/v1/nodes").then(|| {
            let node = value!({ "metadata": { "name": "one", "labels": label } });
            json(200, &value!({ "metadata": {}, "items": [node] }))
        })
    })
    .await;
    let here = InAzure { cluster, ..here };
    here.azure
        .with(|state| state.resources = vec![value!({ "id": aks("blue") })]);
    here.ask(&[]).assert(
        "azure-cluster",
        "ok",
        "(Resource Graph by the resource group of the nodes MC_x: found)",
    );
    here.azure.with(|state| state.resources.clear());
    here.ask(&[]).assert(
        "azure-cluster",
        "couldNotTell",
        "no AKS cluster that the login can read",
    );
    here.azure.fault(Fault::Broken);
    let said = here.ask(&[]);
    said.assert(
        "azure-cluster",
        "couldNotTell",
        "failed to find the cluster in Azure",
    );
    said.assert("azure-plan", "couldNotTell", "see azure-cluster");
}

#[test]
fn doctor_takes_scenarios_that_there_are() {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-defender_sim"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", "/nonexistent")
            .output()
            .unwrap()
    };
    let output = run(&["doctor", "no-such-scenario"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("possible values: recon"));
    let output = run(&["doctor", "recon", "recon"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("recon is named twice"));
    assert_eq!(
        run(&["doctor"]).status.code(),
        Some(3),
        "no cluster is configured"
    );
    let help = String::from_utf8(run(&["doctor", "--help"]).stdout).unwrap();
    for line in help.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}
