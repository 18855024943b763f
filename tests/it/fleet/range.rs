//! Several clusters on real pods.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::contract::assert_keeps_to;
use crate::guarding::at_a_terminal;
use crate::range::{Ran, Running, Space, assert_nothing_left, kubectl, run_inside, shared, sim, state, text};

/// The range under several names, and clusters beside it.
struct Fleet {
    folder: tempfile::TempDir,
    contexts: Vec<Value>,
}

impl Fleet {
    /// Starts with the context `down`, at whose address nothing listens.
    fn new() -> Self {
        let down = json!({ "server": "https://127.0.0.1:1" });
        let mut fleet = Self {
            folder: tempfile::tempdir().unwrap(),
            contexts: vec![],
        };
        fleet.add("down", &down, &json!({}));
        fleet
    }

    fn add(&mut self, name: &str, cluster: &Value, user: &Value) {
        self.contexts
            .push(json!({ "name": name, "cluster": cluster, "user": user }));
    }

    /// Adds a context for the range.
    fn add_range(&mut self, name: &str) {
        let config = admin(&state());
        self.add(
            name,
            &config["clusters"][0]["cluster"],
            &config["users"][0]["user"],
        );
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// Writes the kubeconfig and returns its path.
    fn kubeconfig(&self) -> String {
        let named = |kind: &str| -> Vec<Value> {
            let contexts = self.contexts.iter();
            contexts
                .map(|context| json!({ "name": context["name"], kind: context[kind] }))
                .collect()
        };
        let contexts = self.contexts.iter().map(|context| {
            let name = &context["name"];
            json!({ "name": name, "context": { "cluster": name, "user": name } })
        });
        let config = json!({
            "contexts": contexts.collect::<Vec<_>>(), "clusters": named("cluster"), "users": named("user"),
        });
        std::fs::write(self.path("kubeconfig"), config.to_string()).unwrap();
        self.path("kubeconfig")
    }

    /// Writes a fleet file with these contexts and namespaces, and returns its path.
    fn file(&self, clusters: &[(&str, &str)]) -> String {
        let clusters = clusters.iter();
        let clusters =
            clusters.map(|(context, namespace)| json!({ "context": context, "namespace": namespace }));
        let file = json!({ "clusters": clusters.collect::<Vec<_>>() });
        std::fs::write(self.path("fleet.yaml"), file.to_string()).unwrap();
        self.path("fleet.yaml")
    }
}

/// Returns the kubeconfig of the administrator of a range.
fn admin(state: &Path) -> Value {
    let file = std::fs::read_to_string(state.join("admin.kubeconfig")).unwrap();
    serde_saphyr::from_str(&file).unwrap()
}

fn cluster<'a>(fleet: &'a Value, context: &str) -> &'a Value {
    let clusters = fleet["clusters"].as_array().unwrap();
    clusters
        .iter()
        .find(|cluster| cluster["context"] == context)
        .unwrap()
}

#[track_caller]
fn assert_proved(cluster: &Value) {
    let scenarios = cluster["result"]["scenarios"].as_array().unwrap().iter();
    let mut steps = scenarios.flat_map(|scenario| scenario["steps"].as_array().unwrap());
    assert!(steps.all(|step| step["outcome"] == "proved"), "{cluster:#}");
    assert_eq!(cluster["result"]["cleanup"]["left"], json!([]));
}

#[test]
#[ignore = "needs the range: make range"]
fn fleet_runs_side_by_side_and_leaves_nothing() {
    let _shared = shared();
    let spaces = [
        Space::named("fleet-a"),
        Space::named("fleet-b"),
        Space::named("fleet-prod"),
    ];
    let mut fleet = Fleet::new();
    for name in ["eu-1", "eu-2", "prod-eu"] {
        fleet.add_range(name);
    }
    let kubeconfig = fleet.kubeconfig();
    let file = fleet.file(&[
        ("eu-1", &spaces[0].0),
        ("down", "any"),
        ("prod-eu", &spaces[2].0),
        ("eu-2", &spaces[1].0),
    ]);
    let report = |kind: &str| format!("--report={kind}={}", fleet.path(kind));
    let arguments = [
        "run",
        "webshell",
        "recon",
        "--kubeconfig",
        &kubeconfig,
        "--fleet",
        &file,
    ];
    let reports = [report("json"), report("junit"), report("markdown")];
    let reports: Vec<&str> = reports.iter().map(String::as_str).collect();
    let ran = sim(&[&arguments[..], &reports, &["-o", "json"]].concat()).assert(3);
    let json = ran.json();
    assert_keeps_to("fleet", &json);
    for context in ["eu-1", "eu-2"] {
        assert_proved(cluster(&json, context));
        assert_eq!(cluster(&json, context)["exitCode"], 0);
    }
    let problem = |context: &str| text(&cluster(&json, context)["problem"]["message"]);
    assert!(problem("down").contains("refuses the connection"), "{json:#}");
    // The production guard holds for each cluster.
    assert!(problem("prod-eu").contains("looks like production"), "{json:#}");
    for space in &spaces {
        assert_nothing_left(&space.0);
    }
    let written = |kind: &str| std::fs::read_to_string(fleet.path(kind)).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&written("json")).unwrap(), json);
    assert!(
        written("junit").contains("name=\"defender-sim.eu-2.recon\""),
        "{}",
        written("junit")
    );
    assert!(
        written("junit").contains("name=\"defender-sim.down.run\""),
        "{}",
        written("junit")
    );
    assert!(
        written("markdown").starts_with("## ❌ 2 of 4 clusters passed\n"),
        "{}",
        written("markdown")
    );

    // Each cluster's progress and its reason begin with its name; the table has a row for each.
    let ran = sim(&arguments).assert(3);
    let table = "CLUSTER  webshell  recon  EXIT\neu-1     1/1       3/3    0\ndown     -         -      3\n\
                 prod-eu  -         -      3\neu-2     1/1       3/3    0\n\n2 of 4 clusters passed.";
    assert!(ran.stdout.starts_with(table), "{}", ran.stdout);
    for part in [
        "eu-1: run ",
        "eu-2: done: 4 of 4 steps proved",
        "error: down: ",
        "error: prod-eu: this looks like production",
    ] {
        assert!(ran.stderr.contains(part), "{part:?} in {}", ran.stderr);
    }
    assert!(ran.stderr.contains("--contexts eu-1,eu-2"), "{}", ran.stderr);
}

#[test]
#[ignore = "needs the range: make range"]
fn one_question_shows_every_cluster() {
    let _shared = shared();
    let mut fleet = Fleet::new();
    // More than work at the same time: those that have asked make room for the others.
    let names: Vec<String> = (1..=10).map(|number| format!("eu-{number}")).collect();
    let spaces: Vec<Space> = names
        .iter()
        .map(|name| Space::named(&format!("asked-{name}")))
        .collect();
    for name in &names {
        fleet.add_range(name);
    }
    let clusters = names
        .iter()
        .zip(&spaces)
        .map(|(name, space)| (name.as_str(), space.0.as_str()));
    let clusters: Vec<(&str, &str)> = clusters.chain([("down", "any")]).collect();
    let (kubeconfig, file) = (fleet.kubeconfig(), fleet.file(&clusters));
    let command = format!("webshell --kubeconfig {kubeconfig} --fleet {file}");
    let (screen, code) = at_a_terminal(&command, "n\n");
    assert_eq!(code, Some(3), "{screen}");
    assert_eq!(screen.matches("Continue?").count(), 1, "{screen}");
    assert!(screen.contains("10 of 11 clusters:"), "{screen}");
    for (name, space) in names.iter().zip(&spaces) {
        let part = format!("- webshell in namespace {} of context {name}", space.0);
        let unwrapped = screen.replace("\r\n  ", " ");
        assert!(unwrapped.contains(&part), "{part:?} in {screen}");
        assert!(
            screen.contains(&format!("{name}: aborted: not confirmed")),
            "{screen}"
        );
        assert_eq!(kubectl(&["get", "namespace", &space.0, "--ignore-not-found"]), "");
    }
    // Ctrl-C during the question.
    let (screen, code) = at_a_terminal(&command, "\u{3}");
    assert_eq!(code, Some(130), "{screen}");
    let command = format!("{command} --contexts eu-1,eu-2,down");
    let (screen, code) = at_a_terminal(&command, "y\n");
    assert_eq!(code, Some(3), "{screen}");
    assert!(screen.contains("2 of 3 clusters passed."), "{screen}");
    for space in &spaces {
        assert_nothing_left(&space.0);
    }
}

/// Starts a run in two namespaces, and waits until both are attacked.
fn attacking(fleet: &mut Fleet, spaces: &[Space; 2]) -> Running {
    fleet.add_range("eu-1");
    fleet.add_range("eu-2");
    let kubeconfig = fleet.kubeconfig();
    let file = fleet.file(&[("eu-1", &spaces[0].0), ("eu-2", &spaces[1].0)]);
    let mut running = Running::start(&["recon", "--kubeconfig", &kubeconfig, "--fleet", &file]);
    for _ in spaces {
        running.await_line("attacking");
    }
    running
}

#[test]
#[ignore = "needs the range: make range"]
fn interrupt_cleans_up_every_cluster() {
    let _shared = shared();
    let spaces = [Space::named("int-a"), Space::named("int-b")];
    let mut fleet = Fleet::new();
    let running = attacking(&mut fleet, &spaces);
    running.signal("INT");
    let ran = running.end().assert(130);
    for context in ["eu-1", "eu-2"] {
        assert!(
            ran.stderr.contains(&format!("error: {context}: interrupted")),
            "{ran:#?}"
        );
    }
    for space in &spaces {
        assert_nothing_left(&space.0);
    }
}

#[test]
#[ignore = "needs the range: make range"]
fn second_interrupt_names_the_cleanup_of_every_cluster() {
    let _shared = shared();
    let spaces = [Space::named("int2-a"), Space::named("int2-b")];
    let mut fleet = Fleet::new();
    let mut running = attacking(&mut fleet, &spaces);
    running.signal("INT");
    running.await_line("stopping");
    std::thread::sleep(Duration::from_millis(300));
    running.signal("INT");
    let ran: Ran = running.end().assert(130);
    for (context, space) in [("eu-1", &spaces[0]), ("eu-2", &spaces[1])] {
        let hint = ran
            .stderr
            .lines()
            .find(|line| line.contains(&format!("-n {} ", space.0)));
        let hint = hint.unwrap_or_else(|| panic!("{ran:#?}"));
        assert!(
            hint.starts_with("quit without cleanup") && hint.contains(&format!("--context {context}")),
            "{hint}"
        );
    }
    let (kubeconfig, file) = (fleet.path("kubeconfig"), fleet.path("fleet.yaml"));
    let ran = sim(&[
        "cleanup",
        "--force",
        "--kubeconfig",
        &kubeconfig,
        "--fleet",
        &file,
        "-o",
        "json",
    ])
    .assert(0);
    assert_keeps_to("fleet", &ran.json());
    for space in &spaces {
        assert_nothing_left(&space.0);
    }
}

/// Another range, whose API server can be reached from the first one, until it is dropped.
struct OtherRange {
    name: String,
    forward: Child,
    port: String,
}

impl OtherRange {
    fn start() -> Self {
        let name = format!("other-{}", std::process::id());
        tool("up", &name);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/range/forward");
        let mut forward = Command::new(path);
        let mut forward = forward
            .arg(&name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(forward.stdout.take().unwrap())
            .read_line(&mut port)
            .unwrap();
        Self {
            name,
            forward,
            port: port.trim().to_owned(),
        }
    }

    fn state(&self) -> std::path::PathBuf {
        state().with_file_name(&self.name)
    }
}

impl Drop for OtherRange {
    fn drop(&mut self) {
        drop(self.forward.stdin.take());
        let _ = self.forward.wait();
        tool("down", &self.name);
    }
}

fn tool(name: &str, range: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/range")
        .join(name);
    let output = Command::new(path).env("RANGE_NETNS", range).output().unwrap();
    assert!(output.status.success() || name == "down", "{output:?}");
}

#[test]
#[ignore = "needs the range: make range"]
fn fleet_of_two_ranges_and_an_unreachable_cluster() {
    let _shared = shared();
    let other = OtherRange::start();
    let mut fleet = Fleet::new();
    fleet.add_range("eu-1");
    let config = admin(&other.state());
    let mut there = config["clusters"][0]["cluster"].clone();
    there["server"] = format!("https://127.0.0.1:{}", other.port).into();
    there["tls-server-name"] = "localhost".into();
    fleet.add("eu-2", &there, &config["users"][0]["user"]);
    let kubeconfig = fleet.kubeconfig();
    let space = Space::named("ranges");
    let left = || {
        let label = "app.kubernetes.io/managed-by=kubectl-defender-sim";
        let list = [
            "kubectl",
            "--kubeconfig",
            &kubeconfig,
            "--context",
            "eu-2",
            "get",
            "all,namespaces",
            "-A",
            "-l",
            label,
        ];
        run_inside(&[&list[..], &["-o", "name"]].concat()).stdout
    };
    let arguments = [
        "recon",
        "-n",
        &space.0,
        "--kubeconfig",
        &kubeconfig,
        "--all-contexts",
    ];
    let ran = sim(&[&arguments[..], &["-o", "json"]].concat()).assert(3);
    let json = ran.json();
    for context in ["eu-1", "eu-2"] {
        assert_proved(cluster(&json, context));
    }
    let servers =
        ["eu-1", "eu-2"].map(|context| text(&cluster(&json, context)["result"]["cluster"]["server"]));
    assert_ne!(servers[0], servers[1]);
    assert_nothing_left(&space.0);
    assert_eq!(left(), "");

    // What is kept is removed from both by one command.
    let ran = sim(&[&arguments[..], &["--keep", "--quiet"]].concat()).assert(3);
    let hint =
        "hint: to remove the pods that are kept: kubectl defender-sim cleanup --force --contexts eu-1,eu-2";
    assert!(ran.stderr.contains(hint), "{ran:#?}");
    assert!(left().contains("pod/mdc-simulation-victim"));
    let cleanup = [
        "cleanup",
        "--force",
        "-n",
        &space.0,
        "--kubeconfig",
        &kubeconfig,
        "--contexts",
        "eu-1,eu-2",
    ];
    let ran = sim(&cleanup).assert(0);
    assert!(ran.stdout.contains("2 of 2 clusters passed."), "{ran:#?}");
    assert_nothing_left(&space.0);
    assert_eq!(left(), "");
}
