//! Runs that attack a victim in each group of nodes, on three nodes.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::arm::{GROUP, SUBSCRIPTION};
use crate::contract::assert_keeps_to;
use crate::doctor::sensors;
use crate::nodes::{forget_pods, node, signal_kubelet};
use crate::range::{
    Finally, Identity, Ran, Running, Space, alone, assert_nothing_left, await_that, kubectl, sim_as, state,
    text, try_kubectl,
};
use crate::verify::azure::FakeAzure;
use crate::verify::{RECON, alert};

const POOL: &str = "kubernetes.azure.com/agentpool";
const VICTIM: &str = "mdc-simulation-victim";
/// Tolerates the taint of the pool `gpu`.
const TOLERATE: &str = "--toleration=sku=gpu";

/// Adds the nodes of the pools `user` and `gpu`, the last with a taint, to that of the pool `system`.
fn three_nodes() -> Finally<impl FnMut()> {
    let finally = Finally(|| {
        for name in ["node2", "node3"] {
            if state().join(name).exists() {
                node(&["remove", name]);
            }
        }
        try_kubectl(&["label", "node", "node1", &format!("{POOL}-")]);
        try_kubectl(&[
            "delete",
            "daemonsets",
            "-A",
            "-l",
            "test=defender-sim",
            "--ignore-not-found",
        ]);
    });
    kubectl(&["label", "node", "node1", "--overwrite", &format!("{POOL}=system")]);
    assert!(node(&["add", "node2", &format!("--node-labels={POOL}=user")]));
    let taint = "--register-with-taints=sku=gpu:NoSchedule";
    assert!(node(&[
        "add",
        "node3",
        &format!("--node-labels={POOL}=gpu"),
        taint
    ]));
    // The taints of a node that is about to be ready outlast its condition.
    await_that("no node is tainted as not ready", Duration::from_secs(30), || {
        let taints = ["get", "nodes", "-o", "jsonpath={.items[*].spec.taints[*].key}"];
        !kubectl(&taints).contains("not-ready")
    });
    finally
}

/// Installs a sensor on the nodes without a taint.
fn sensor() {
    const NAME: &str = "microsoft-defender-collector-ds";
    let image = format!("{}/attacker:latest", crate::range::IMAGES);
    let set = sensors::daemon_set("kube-system", NAME, "0.8.36", &image);
    crate::range::apply(&set.to_string());
    sensors::rolled_out("kube-system", NAME);
}

/// Returns each victim of a result: its group, node, and the outcomes of its steps.
fn victims(result: &Value) -> Vec<(String, String, Vec<String>)> {
    let victims = result["victims"].as_array().unwrap().iter();
    let outcomes = |pod: &Value| {
        let scenarios = result["scenarios"].as_array().unwrap().iter();
        let steps = scenarios.flat_map(|scenario| scenario["steps"].as_array().unwrap());
        let steps = steps.filter(|step| step["victim"] == *pod);
        steps.map(|step| text(&step["outcome"])).collect()
    };
    victims
        .map(|victim| {
            (
                text(&victim["group"]),
                text(&victim["node"]),
                outcomes(&victim["pod"]),
            )
        })
        .collect()
}

fn proved(group: &str, node: &str) -> (String, String, Vec<String>) {
    let outcomes = vec!["proved".to_owned(); 3];
    (group.to_owned(), node.to_owned(), outcomes)
}

fn run(space: &Space, flags: &[&str]) -> Ran {
    // The sensor is looked for with rights that a run does not need.
    let arguments = [&["recon", "-n", &space.0, "-o", "json"], flags].concat();
    sim_as(Identity::Admin, &arguments)
}

/// A sensor is missing in one pool, and alerts are raised for the other two.
#[test]
#[ignore = "needs the range: make range"]
fn verdict_names_the_pool_without_alerts_and_why() {
    let _alone = alone();
    let _nodes = three_nodes();
    sensor();
    let space = Space::named("cover-pools");
    let ran = run(&space, &["--cover=node-pool", TOLERATE]).assert(0);
    let result = ran.json();
    assert_keeps_to("run", &result);
    let expected = [
        proved("gpu", "node3"),
        proved("system", "node1"),
        proved("user", "node2"),
    ];
    assert_eq!(victims(&result), expected, "{ran:#?}");
    let sensors: Vec<&Value> = (0..3)
        .map(|index| &result["victims"][index]["sensor"]["known"])
        .collect();
    assert_eq!(sensors, ["no", "yes", "yes"]);
    assert!(
        ran.stderr
            .contains("recon.scan-services: proved on 3 of 3 victims"),
        "{}",
        ran.stderr
    );
    assert_nothing_left(&space.0);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(verdicts(&space, &result));
}

async fn verdicts(space: &Space, result: &Value) {
    let watched = FakeAzure::new(text(&result["run"]), Path::new(env!("CARGO_TARGET_TMPDIR"))).await;
    let raised = |name: &str, pod: usize| {
        let mut alert = alert(name);
        let folder = "providers/Microsoft.Security/locations/centralus/alerts";
        let id = format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/{folder}/{pod}-{name}");
        alert["id"] = id.into();
        let properties = &mut alert["properties"];
        for key in ["startTimeUtc", "endTimeUtc"] {
            properties[key] = result["ended"].clone();
        }
        properties["timeGeneratedUtc"] = jiff::Timestamp::now().to_string().into();
        properties["entities"][0]["name"] = space.0.as_str().into();
        properties["entities"][1]["name"] = format!("{VICTIM}-{pod}").into();
        properties["resourceIdentifiers"] =
            json!([{"type": "AzureResource", "azureResourceId": watched.cluster}]);
        (0, alert)
    };
    let alerts = |pods: &[usize]| {
        let alerts = pods.iter().flat_map(|&pod| RECON.map(|name| raised(name, pod)));
        alerts.collect()
    };
    let flags = ["--wait=1s", "--assume=audit-log=yes"];
    watched.azure.with(|state| state.alerts = alerts(&[2, 3]));
    let found = watched.result(&flags, 5).await;
    let verification = &found["verification"];
    let web_shell = verification["alerts"].as_array().unwrap();
    let web_shell = web_shell.iter().find(|alert| alert["id"] == "web-shell").unwrap();
    assert_eq!(web_shell["verdict"], "notRaised");
    let reason = text(&web_shell["reason"]);
    assert!(reason.starts_with("on 2 of 3, not on gpu: "), "{reason}");
    let of_victims: Vec<&Value> = web_shell["victims"]
        .as_array()
        .unwrap()
        .iter()
        .map(|victim| &victim["verdict"])
        .collect();
    assert_eq!(of_victims, ["notExpected", "raised", "raised"]);
    let failure = text(&verification["failure"]);
    assert!(failure.contains("none on gpu (node node3)"), "{failure}");
    // All of them, and then the sensor is no gap either.
    watched.azure.with(|state| state.alerts = alerts(&[1, 2, 3]));
    let found = watched.result(&flags, 0).await;
    let verdicts = found["verification"]["alerts"].as_array().unwrap().iter();
    let verdicts: Vec<&Value> = verdicts.map(|alert| &alert["verdict"]).collect();
    assert_eq!(verdicts, ["raised"; 4]);
    assert!(
        !found["verification"]["contradictions"]
            .as_array()
            .unwrap()
            .is_empty()
    );
}

#[test]
#[ignore = "needs the range: make range"]
fn groups_without_victim_are_named_and_rights_are_enough() {
    let _alone = alone();
    let _nodes = three_nodes();
    let space = Space::named("cover-rights");
    let operator = |cover: &str| {
        sim_as(
            Identity::Operator,
            &["recon", "-n", &space.0, "--cover", cover, "-o", "json"],
        )
    };
    let refused = operator("node-pool").assert(3);
    for part in ["nodes (list)", "rights -n", "--cover"] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
    assert_nothing_left(&space.0);
    let rights = ["rights", "-n", &space.0, "--cover", "--subject=user:operator"];
    crate::range::apply(&sim_as(Identity::Admin, &rights).assert(0).stdout);
    await_that("the right counts", Duration::from_secs(20), || {
        try_kubectl(&["auth", "can-i", "list", "nodes", "--as=operator"]).stdout == "yes\n"
    });
    let ran = operator("node-pool").assert(0);
    let result = ran.json();
    assert_eq!(
        victims(&result),
        [proved("system", "node1"), proved("user", "node2")]
    );
    let uncovered = &result["uncovered"];
    assert_eq!(
        (&uncovered[0]["group"], &uncovered[0]["nodes"]),
        (&json!("gpu"), &json!(1))
    );
    let reason = text(&uncovered[0]["reason"]);
    let expected = "tainted sku=gpu:NoSchedule; to tolerate the taint: --toleration=sku=gpu:NoSchedule";
    assert_eq!(reason, expected);
    assert_nothing_left(&space.0);

    // Without a group, nothing is created; and a dry run names what would be.
    let none = operator("no-such-label").assert(3);
    assert!(
        none.stderr
            .contains("no group of nodes can be covered: without a group: no label no-such-label"),
        "{none:#?}"
    );
    assert_nothing_left(&space.0);
    let planned = run(&space, &["--cover=node", "--dry-run=server"])
        .assert(0)
        .json();
    let pods: Vec<&Value> = planned["victims"]
        .as_array()
        .unwrap()
        .iter()
        .map(|victim| &victim["group"])
        .collect();
    assert_eq!(pods, ["node1", "node2"]);
    let doctor = sim_as(
        Identity::Admin,
        &["doctor", "recon", "--cover=node-pool", "-o", "json"],
    );
    let checks = doctor.json();
    let nodes = checks["checks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["id"] == "nodes")
        .unwrap();
    assert_eq!(nodes["status"], "warning", "{nodes}");
    let seen = text(&nodes["seen"]);
    assert!(
        seen.starts_with("a run covers 2 of 3 groups of nodes, not gpu: tainted"),
        "{seen}"
    );
}

/// The node of one victim leaves in the middle; the others go on.
#[test]
#[ignore = "needs the range: make range"]
fn node_that_leaves_fails_its_own_group_only() {
    let _alone = alone();
    let _nodes = three_nodes();
    let space = Space::named("cover-leaves");
    let file = crate::pods::hold();
    let path = file.path().to_str().unwrap();
    let flags = ["--cover=node-pool", TOLERATE];
    let arguments = [&["run", "-f", path, "-n", &space.0, "-o", "json"], &flags[..]].concat();
    let mut running = Running::start_as(Identity::Admin, &arguments);
    running.await_line("hold.first: proved on 3 of 3 victims");
    // The attacker may be on any node.
    let attacker = [
        "get",
        "pod",
        "mdc-simulation-attacker",
        "-n",
        &space.0,
        "-o",
        "jsonpath={.spec.nodeName}",
    ];
    let (leaves, number) = match kubectl(&attacker).as_str() {
        "node3" => ("node2", 3),
        _ => ("node3", 1),
    };
    assert!(node(&["remove", leaves]));
    running.await_line("the run continues with the other victims");
    forget_pods(&space, &[&format!("{VICTIM}-{number}")]);
    for other in (1..=3).filter(|other| *other != number) {
        let pod = format!("{VICTIM}-{other}");
        kubectl(&["exec", &pod, "-n", &space.0, "--", "touch", "/tmp/go"]);
    }
    let ran = running.end().assert(4);
    let result = ran.json();
    let victims = victims(&result);
    for (index, (group, _, outcomes)) in victims.iter().enumerate() {
        let expected = if index + 1 == number {
            ["proved", "failed", "skipped"]
        } else {
            ["proved"; 3]
        };
        assert_eq!(outcomes[..], expected, "{group}: {ran:#?}");
    }
    let ended = &result["victims"][number - 1]["ended"];
    assert_eq!(ended["reason"], format!("node {leaves} does not exist any more"));
    assert_eq!(result["problem"], Value::Null);
    assert_nothing_left(&space.0);
}

/// A victim that never becomes ready fails its own group only.
#[test]
#[ignore = "needs the range: make range"]
fn victim_that_cannot_start_fails_its_own_group_only() {
    let _alone = alone();
    let _nodes = three_nodes();
    let space = Space::named("cover-start");
    signal_kubelet("node2", "STOP");
    let _continue = Finally(|| signal_kubelet("node2", "CONT"));
    let mut running = Running::start_as(
        Identity::Admin,
        &[
            "recon",
            "-n",
            &space.0,
            "-o",
            "json",
            "--cover=node-pool",
            TOLERATE,
            "--timeout=15s",
        ],
    );
    running.await_line("removing");
    signal_kubelet("node2", "CONT");
    let ran = running.end().assert(4);
    let found = victims(&ran.json());
    let skipped = vec!["skipped".to_owned(); 3];
    assert_eq!(
        found,
        [
            proved("gpu", "node3"),
            proved("system", "node1"),
            ("user".to_owned(), "node2".to_owned(), skipped)
        ],
        "{ran:#?}"
    );
    let ended = text(&ran.json()["victims"][2]["ended"]["reason"]);
    assert!(
        ended.contains("assigned to node node2, which has not started it"),
        "{ended}"
    );
    assert_nothing_left(&space.0);
}
