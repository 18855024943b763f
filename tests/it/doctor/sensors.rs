//! Sensors on a real cluster.

use std::time::Duration;

use serde_json::{Value, json as value};

use super::{Doctor, apply};
use crate::range::{Finally, Identity, Space, alone, await_that, kubectl, sim_as, try_kubectl};

/// Creates the `DaemonSet` of a sensor.
fn sensor(namespace: &str, name: &str, version: &str, image: &str) {
    apply(&daemon_set(namespace, name, version, image));
}

/// Returns the `DaemonSet` of a sensor.
pub fn daemon_set(namespace: &str, name: &str, version: &str, image: &str) -> Value {
    // As in Microsoft's documentation on verifying a deployment.
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
pub fn rolled_out(namespace: &str, name: &str) {
    let name = format!("daemonset/{name}");
    kubectl(&["rollout", "status", &name, "-n", namespace, "--timeout=60s"]);
}

#[test]
#[ignore = "needs the range: make range"]
#[expect(clippy::too_many_lines, reason = "one cluster whose sensor changes")]
fn every_install_method_is_recognized() {
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
    let ask = |scenario: &str| Doctor::run(scenario, &space.0, &[]);

    let result = ask("webshell");
    result.assert("sensor", "failed", "not installed: no DaemonSet");
    result.assert("sensor-ready", "notApplicable", "there is no sensor");
    result.assert("sensor-features", "notApplicable", "there is no sensor");
    assert_eq!(result.0["exitCode"], 3);

    sensor("kube-system", ADD_ON, "0.8.36", &image);
    rolled_out("kube-system", ADD_ON);
    let result = ask("webshell");
    result.assert(
        "sensor",
        "ok",
        "AKS add-on, version 0.8.36 (kube-system/microsoft-defender-collector-ds)",
    );
    result.assert("sensor-ready", "ok", "1 of 1 pods ready; on each node");
    result.assert("sensor-features", "notApplicable", "need only a ready sensor");
    assert_eq!(result.0["exitCode"], 0, "{:#}", result.0);
    ask("ti-domain").assert("sensor-features", "warning", "missing: DNS detection");
    ask("recon").assert("sensor-features", "unknown", "unknown: the audit log");
    kubectl(&["label", "nodes", "--all", "kubernetes.azure.com/cluster=test"]);
    ask("recon").assert("sensor-features", "ok", "the audit log");
    // No node accepts the pods.
    let nowhere = Doctor::run("webshell", &space.0, &["--node-selector=no=where"]);
    nowhere.assert("sensor-ready", "notApplicable", "no node takes the pods");

    // A second sensor, installed in another way; then one that cannot start.
    kubectl(&["create", "namespace", "mdc"]);
    kubectl(&["label", "namespace", "mdc", "test=defender-sim"]);
    sensor("mdc", HELM, "0.10.2", &image);
    rolled_out("mdc", HELM);
    let result = ask("ti-domain");
    result.assert("sensor", "warning", "several: AKS add-on, version 0.8.36");
    result.assert("sensor-features", "ok", "DNS detection");
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
    let result = ask("ti-domain");
    result.assert(
        "sensor",
        "ok",
        "Helm chart, version 0.10.2 (mdc/microsoft-defender-collectors-ds)",
    );
    result.assert("sensor-ready", "failed", "0 of 0 pods ready");

    // Next to Arc's agents, with the other spelling, and detected by its image only.
    kubectl(&["create", "namespace", "azure-arc"]);
    let result = ask("anti-malware");
    result.assert("sensor", "ok", "Arc extension (assumed), version 0.10.2");
    result.assert("sensor-features", "unknown", "is not ready");
    kubectl(&["delete", "daemonset", HELM, "-n", "mdc"]);
    sensor("mdc", ADD_ON, "0.9.1", &image);
    let result = ask("anti-malware");
    result.assert(
        "sensor",
        "ok",
        "Arc extension (assumed), version 0.9.1 (mdc/microsoft-defender-collector-ds)",
    );
    kubectl(&["delete", "daemonset", ADD_ON, "-n", "mdc"]);
    kubectl(&["delete", "namespace", "azure-arc"]);
    let azure = "mcr.microsoft.com/azuredefender/stable/low-level-collector:2.0.205";
    sensor("mdc", "renamed", "stable", azure);
    let result = ask("anti-malware");
    result.assert(
        "sensor",
        "ok",
        "Helm chart (assumed), version 2.0.205 (assumed from an image tag) (mdc/renamed)",
    );
    result.assert("sensor-features", "unknown", "only assumed");
    kubectl(&["delete", "daemonset", "renamed", "-n", "mdc"]);
    let elsewhere = Space::new("doctor-elsewhere", &[]);
    sensor(&elsewhere.0, "renamed", "stable", azure);
    ask("webshell").assert("sensor", "warning", "undocumented install (assumed)");
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
    let result = Doctor::run("recon", &space.0, &[]);
    result.assert(
        "sensor-ready",
        "failed",
        "0 of 1 pods ready (pod/microsoft-defender-collector-ds-",
    );
    result.assert("sensor-ready", "failed", " restart");
    result.assert("sensor-ready", "failed", "last exit status 3 (Error): no licence");
}

/// Creates the object of a ready node without a kubelet, with a taint.
fn fake_node(name: &str) {
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

/// Sets the status of an object, if it exists, as its kubelet would.
fn status(kind: &str, name: &str, place: &[&str], status: &Value) {
    let patch = value!({ "status": status }).to_string();
    let patch = ["patch", kind, name, "--subresource=status", "-p", &patch];
    try_kubectl(&[&patch[..], place].concat());
}

#[test]
#[ignore = "needs the range: make range"]
fn sensor_counts_only_on_the_node_of_the_pods() {
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
    let sensor_fact = || {
        // Reading sensors needs permissions that a run does not.
        let arguments = ["webshell", "-n", &space.0, "-o", "json"];
        let result = sim_as(Identity::Admin, &arguments).assert(0).json();
        assert_eq!(result["victims"][0]["node"], "node1");
        result["facts"]["sensor"].clone()
    };
    sensor("kube-system", SENSOR, "0.8.36", &image);
    rolled_out("kube-system", SENSOR);
    assert_eq!(sensor_fact(), value!({ "known": "yes" }));

    // Create it again on the other node; an update would wait for ready pods.
    kubectl(&[&["delete", "daemonset", SENSOR][..], &SYSTEM].concat());
    fake_node("node2");
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
    // The controller may replace the pod.
    await_that("a ready pod on the other node", Duration::from_secs(60), || {
        for pod in kubectl(&[&pods[..], &SYSTEM].concat()).lines() {
            let ready = value!([{ "type": "Ready", "status": "True" }]);
            let running = value!({ "phase": "Running", "conditions": ready });
            status("pod", &pod.replace("pod/", ""), &SYSTEM, &running);
        }
        let ready = ["get", "daemonset", SENSOR, "-o", "jsonpath={.status.numberReady}"];
        kubectl(&[&ready[..], &SYSTEM].concat()) == "1"
    });
    let reason = "no Defender sensor is ready on node node1, where the pods ran";
    assert_eq!(sensor_fact(), value!({ "known": "no", "reason": reason }));
}
