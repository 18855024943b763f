//! The fleet file.

use serde_json::{Value, json};

use super::{REFUSING, kubeconfig};
use crate::verify::Machine;

/// A machine with the contexts of [`REFUSING`] and a fleet file.
struct Desk {
    machine: Machine,
    kubeconfig: String,
    file: String,
}

impl Desk {
    fn new(content: &str) -> Self {
        let machine = Machine::new();
        let path = machine.0.path().join("fleet.yaml");
        std::fs::write(&path, content).unwrap();
        Self {
            kubeconfig: kubeconfig(&machine, &REFUSING),
            file: path.to_str().unwrap().to_owned(),
            machine,
        }
    }

    fn arguments<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        [
            arguments,
            &["--fleet", &self.file, "--kubeconfig", &self.kubeconfig],
        ]
        .concat()
    }

    /// Returns the plan of `recon` in each cluster.
    #[track_caller]
    fn plans(&self, flags: &[&str]) -> Vec<Value> {
        let arguments = [&["recon", "--dry-run", "-o", "json"], flags].concat();
        let fleet = self.machine.json(&self.arguments(&arguments), 0);
        let clusters = fleet["clusters"].as_array().unwrap().iter();
        clusters.map(|cluster| cluster["result"].clone()).collect()
    }
}

const FILE: &str = "\
clusters:
- context: eu-1
  namespace: one
  deadline: 20m
  allow-production: true
  expect: [web-shell]
- context: alias
  namespace: two
  image-registry: registry.example/sim
  label: [team=sec, site=eu]
";

#[test]
fn fleet_file_gives_flags_to_each_cluster() {
    let desk = Desk::new(FILE);
    let plans = desk.plans(&[]);
    assert_eq!(plans.len(), 2);
    let [one, two] = [&plans[0], &plans[1]];
    assert_eq!(
        (&one["namespace"], &two["namespace"]),
        (&json!("one"), &json!("two"))
    );
    assert_eq!(
        (&one["deadlineSeconds"], &two["deadlineSeconds"]),
        (&json!(1200), &json!(900))
    );
    assert_eq!(two["attackerImage"], "registry.example/sim/attacker:latest");
    let is_optional = |plan: &Value| {
        let alerts = plan["alerts"].as_array().unwrap();
        alerts.iter().find(|alert| alert["id"] == "web-shell").unwrap()["optional"].clone()
    };
    assert_eq!(is_optional(one), false);
    // A command that does not have a flag ignores it.
    let text = desk
        .machine
        .printed(&desk.arguments(&["cleanup", "--dry-run"]), 3);
    assert!(text.contains("0 of 2 clusters passed."), "{text}");
}

#[test]
fn command_line_takes_precedence_over_the_fleet_file() {
    let desk = Desk::new(FILE);
    let plans = desk.plans(&["--deadline", "30m", "-n", "mine"]);
    for plan in plans {
        assert_eq!(
            (&plan["namespace"], &plan["deadlineSeconds"]),
            (&json!("mine"), &json!(1800))
        );
    }
    let mut command = desk
        .machine
        .command(&desk.arguments(&["recon", "--dry-run", "-o", "json"]));
    let output = command.env("DEFENDER_SIM_DEADLINE", "40m").output().unwrap();
    let fleet: Value = serde_json::from_slice(&output.stdout).unwrap();
    let deadlines = fleet["clusters"].as_array().unwrap().iter();
    let deadlines: Vec<&Value> = deadlines
        .map(|cluster| &cluster["result"]["deadlineSeconds"])
        .collect();
    assert_eq!(deadlines, [&json!(1200), &json!(2400)]);
}

#[test]
fn contexts_select_clusters_of_the_fleet_file() {
    let desk = Desk::new(FILE);
    let plans = desk.plans(&["--contexts", "alias"]);
    assert_eq!(plans.len(), 1);
    assert_eq!(plans[0]["namespace"], "two");
    let text = desk
        .machine
        .printed(&desk.arguments(&["recon", "--contexts", "eu-2"]), 2);
    assert!(
        text.contains("has no context \"eu-2\" (it has alias, eu-1)"),
        "{text}"
    );
}

#[test]
fn mistakes_in_a_fleet_file_name_their_place() {
    for (content, message) in [
        (
            "",
            "clusters: expected a list of clusters, found none at line 1, column 1",
        ),
        (
            "clusters: []",
            "clusters: expected a list of clusters, found none at line 1, column 1",
        ),
        (
            "clusters: {a: b}",
            "clusters: expected a list of clusters at line 1, column 11",
        ),
        (
            "clusters:\n- a",
            "clusters[0]: expected a mapping, such as \"context: NAME\" at line 2, column 3",
        ),
        (
            "clusters: []\ncluster: 1",
            "cluster: unknown field `cluster`, expected one of clusters at line 2, column 1",
        ),
        (
            "clusters:\n- namespace: a",
            "clusters[0].context: expected the name of a context at line 2, column 3",
        ),
        (
            "clusters:\n- context: a\n- context: a",
            "clusters[1].context: given twice at line 3, column 12",
        ),
        (
            "clusters:\n- context: a\n  yes: true",
            "clusters[0].yes: no such flag for a cluster; expected one of alert-names, alerts, ",
        ),
        (
            "clusters:\n- context: a\n  server: https://x",
            "clusters[0].server: no such flag for a cluster; expected one of ",
        ),
        (
            "clusters:\n- context: a\n  deadline: soon",
            "clusters[0].deadline: invalid value 'soon' for '--deadline <DURATION>': expected a duration",
        ),
        (
            "clusters:\n- context: a\n  deadline: [1m, 2m]",
            "clusters[0].deadline: expected one value, found 2 at line 3, column 13",
        ),
        (
            "clusters:\n- context: a\n  allow-production: maybe",
            "clusters[0].allow-production: expected true or false at line 3, column 21",
        ),
        (
            "clusters:\n- context: a\n  namespace: {b: c}",
            "clusters[0].namespace: expected a text, a number or a list of these",
        ),
    ] {
        let desk = Desk::new(content);
        let text = desk.machine.printed(&desk.arguments(&["recon"]), 2);
        let expected = format!("error: the fleet file {} cannot be used: {message}", desk.file);
        assert!(text.starts_with(&expected), "{text}\n{expected}");
    }
    let machine = Machine::new();
    let text = machine.printed(&["recon", "--fleet", "/nonexistent/fleet.yaml"], 2);
    assert!(
        text.starts_with("error: the fleet file /nonexistent/fleet.yaml cannot be read: "),
        "{text}"
    );
}

#[test]
fn documented_fleet_file_is_one() {
    let page = include_str!("../../../docs/fleet.md");
    let (_, file) = page.split_once("```yaml\n").unwrap();
    let (file, _) = file.split_once("```").unwrap();
    let desk = Desk::new(file);
    let plans = desk.plans(&[]);
    assert_eq!(plans.len(), 2);
}
