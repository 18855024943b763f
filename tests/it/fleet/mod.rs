//! Commands on several clusters: the command line, the fleet file, and outcomes without a real cluster.

mod file;
mod range;

use std::process::Command;

use serde_json::{Value, json};

use crate::contract::assert_keeps_to;
use crate::doctor::fake_cluster;
use crate::verify::{Machine, RECON, alert, recon};

/// Writes a kubeconfig with these contexts and the addresses of their API servers.
pub fn kubeconfig(machine: &Machine, contexts: &[(&str, &str)]) -> String {
    let named = |kind: &str, content: &dyn Fn(&str) -> Value| -> Vec<Value> {
        let entries = contexts.iter();
        entries
            .map(|(name, server)| json!({ "name": name, kind: content(if kind == "cluster" { server } else { name }) }))
            .collect()
    };
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "contexts": named("context", &|name| json!({ "cluster": name, "user": "" })),
        "clusters": named("cluster", &|server| json!({ "server": server })),
    });
    machine.file("kubeconfig", &config)
}

/// Addresses at which nothing listens.
const REFUSING: [(&str, &str); 3] = [
    ("eu-1", "https://127.0.0.1:1"),
    ("eu-2", "https://127.0.0.1:2"),
    ("alias", "https://127.0.0.1:1"),
];

/// Runs a command with the contexts of [`REFUSING`]; returns both streams.
#[track_caller]
fn printed(arguments: &[&str], code: i32) -> String {
    let machine = Machine::new();
    let kubeconfig = kubeconfig(&machine, &REFUSING);
    machine.printed(&[arguments, &["--kubeconfig", &kubeconfig]].concat(), code)
}

#[test]
fn flags_for_one_cluster_are_refused_with_several() {
    let expected = [
        (
            "recon --context x",
            "--context cannot be used with --contexts: it is for one cluster",
        ),
        (
            "recon --server https://x",
            "--server cannot be used with --contexts",
        ),
        ("recon --token x", "--token cannot be used with --contexts"),
        ("recon --user x", "--user cannot be used with --contexts"),
        (
            "recon --soc-note x",
            "--soc-note cannot be used with --contexts: a note is about one run",
        ),
        (
            "recon --cron-job a/b",
            "--cron-job cannot be used with --contexts: a cron job is in one cluster",
        ),
        (
            "all --report openmetrics=x",
            "--report openmetrics= cannot be used with --contexts: reports on several clusters are junit",
        ),
        (
            "verify --report navigator=x",
            "--report navigator= cannot be used with --contexts",
        ),
        (
            "verify abcdefgh",
            "a run ID cannot be used with --contexts: a run is in one cluster",
        ),
        (
            "cleanup --run abcdefgh",
            "a run ID cannot be used with --contexts: a run is in one cluster",
        ),
        (
            "verify --record x",
            "--record cannot be used with --contexts: a record is of one run",
        ),
        (
            "verify --alerts -",
            "standard input (-) cannot be used with --contexts: every cluster reads it",
        ),
        (
            "run -f -",
            "standard input (-) cannot be used with --contexts: every cluster reads it",
        ),
        (
            "doctor --resource-id x",
            "--resource-id cannot be used with --contexts: it names one cluster",
        ),
    ];
    for (arguments, message) in expected {
        let arguments: Vec<&str> = arguments.split(' ').chain(["--contexts", "eu-1,eu-2"]).collect();
        let text = printed(&arguments, 2);
        assert!(
            text.starts_with(&format!("error: {message}")),
            "{arguments:?}: {text}"
        );
    }
    let text = printed(&["recon", "--contexts", "eu-1", "--contexts", "eu-2,eu-1"], 2);
    assert!(text.contains("the context eu-1 is named twice"), "{text}");
    let text = printed(&["recon", "--contexts", "eu-1", "--all-contexts"], 2);
    assert!(text.contains("cannot be used with"), "{text}");
    for command in ["list", "history", "report", "version"] {
        let text = printed(&[command, "--contexts", "eu-1"], 2);
        assert!(text.contains("unexpected argument"), "{command}: {text}");
    }
}

#[test]
fn missing_confirmation_is_one_error_before_any_cluster_is_contacted() {
    for (arguments, what) in [
        (&["recon"][..], "to run recon in eu-1, eu-2, add --yes"),
        (
            &["cleanup"],
            "to remove what runs left behind in eu-1, eu-2, add --yes",
        ),
    ] {
        let text = printed(&[arguments, &["--contexts", "eu-1,eu-2"]].concat(), 3);
        assert_eq!(
            text,
            format!(
                "error: cannot prompt for confirmation: not a terminal; nothing was changed\nhint: {what}\n"
            )
        );
    }
}

#[test]
fn contexts_of_one_cluster_and_namespace_do_not_disturb_each_other() {
    let text = printed(&["recon", "--yes", "--contexts", "eu-1,alias"], 2);
    assert!(
        text.contains("error: the contexts eu-1 and alias are the same cluster and namespace"),
        "{text}"
    );
    let text = printed(&["recon", "--yes", "--all-contexts"], 3);
    assert!(
        text.contains("warning: the contexts eu-1 and alias are the same cluster and namespace; the second one is skipped"),
        "{text}"
    );
    assert!(text.contains("0 of 2 clusters passed."), "{text}");
    // Reading has no side effects.
    let text = printed(&["doctor", "--all-contexts"], 3);
    assert!(text.contains("0 of 3 clusters passed."), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_cluster_does_not_stop_the_others() {
    let server = fake_cluster(|_| None).await;
    let machine = Machine::new();
    let contexts = [("here", &*server.url()), ("gone", "https://127.0.0.1:1")];
    let kubeconfig = kubeconfig(&machine, &contexts);
    let doctor = |flags: &[&str]| {
        let arguments = [
            "doctor",
            "recon",
            "--kubeconfig",
            &kubeconfig,
            "--contexts",
            "gone,here,none",
        ];
        machine.run(&[&arguments[..], flags].concat())
    };
    let output = doctor(&["-o", "json"]);
    let fleet: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_keeps_to("fleet", &fleet);
    let clusters = fleet["clusters"].as_array().unwrap();
    let contexts: Vec<&str> = clusters
        .iter()
        .map(|cluster| cluster["context"].as_str().unwrap())
        .collect();
    assert_eq!(contexts, ["gone", "here", "none"]);
    let check = |cluster: &Value, id: &str| {
        let checks = cluster["result"]["checks"].as_array().unwrap().iter();
        let found = checks.clone().find(|check| check["id"] == id).unwrap();
        found["status"].as_str().unwrap().to_owned()
    };
    assert_eq!(check(&clusters[0], "reachable"), "failed");
    assert_eq!(check(&clusters[1], "reachable"), "ok");
    assert_keeps_to("doctor", &clusters[1]["result"]);
    assert!(clusters[2]["result"].is_null(), "{fleet:#}");
    assert!(
        clusters[2]["problem"]["message"]
            .as_str()
            .unwrap()
            .contains("has no context \"none\""),
        "{fleet:#}"
    );
    assert_eq!((&fleet["exitCode"], output.status.code()), (&json!(3), Some(3)));
    let stderr = String::from_utf8(output.stderr).unwrap();
    for line in [
        "gone: checking",
        "here: checking",
        "error: none: the kubeconfig has no context",
    ] {
        assert!(
            stderr.lines().any(|found| found.starts_with(line)),
            "{line:?} in {stderr}"
        );
    }

    let output = doctor(&["-o", "jsonl", "--quiet"]);
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    for (line, cluster) in lines.iter().zip(clusters) {
        assert_eq!(line["context"], cluster["context"]);
    }

    let output = doctor(&[]);
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.starts_with("CLUSTER  OK"), "{table}");
    assert!(
        table.lines().all(|line| line.len() <= 80) && !table.contains('\u{1b}'),
        "{table}"
    );
    assert!(table.ends_with("\n0 of 3 clusters passed.\n"), "{table}");
    let output = doctor(&["-o", "name", "--quiet"]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "gone\nhere\nnone\n");
}

#[test]
fn verify_uses_the_latest_run_of_each_context() {
    let machine = Machine::new();
    let kubeconfig = kubeconfig(&machine, &REFUSING);
    let record = |id: &str, context: &str, hours: i64| {
        let mut run = recon();
        run.run = id.into();
        run.cluster.context = Some(context.into());
        let shift = jiff::SignedDuration::from_hours(hours);
        run.started += shift;
        run.ended += shift;
        for step in &mut run.scenarios[0].steps {
            step.started = step.started.map(|started| started + shift);
        }
        machine.record(&run);
    };
    record("older", "eu-1", -2);
    record("newer", "eu-1", -1);
    record("other", "eu-2", 0);
    let alerts = json!(RECON.map(alert));
    let alerts = machine.file("alerts.json", &alerts);
    let report = machine.0.path().join("report.json");
    let page = machine.0.path().join("report.html");
    let arguments = [
        "verify",
        "--contexts",
        "eu-1,eu-2,alias",
        "--kubeconfig",
        &kubeconfig,
        "--alerts",
        &alerts,
        "--report",
        &format!("json={}", report.display()),
        "--report",
        &format!("html={}", page.display()),
        "-o",
        "json",
    ];
    let output = machine.run(&arguments);
    let fleet: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_keeps_to("fleet", &fleet);
    let written: Value = serde_json::from_str(&std::fs::read_to_string(report).unwrap()).unwrap();
    assert_eq!(written, fleet);
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("1 of 3 clusters passed") && page.contains("no record of a run in context alias"));
    let runs: Vec<&Value> = fleet["clusters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cluster| &cluster["result"]["run"])
        .collect();
    assert_eq!(runs, [&json!("newer"), &json!("other"), &Value::Null]);
    let problem = &fleet["clusters"][2]["problem"]["message"];
    assert_eq!(problem, "no record of a run in context alias on this machine");
    // The alerts are of the time of the other run: one exit code, the worst.
    assert_eq!(fleet["clusters"][0]["exitCode"], 5, "{fleet:#}");
    assert_eq!(fleet["clusters"][1]["exitCode"], 0, "{fleet:#}");
    assert_eq!((&fleet["exitCode"], output.status.code()), (&json!(2), Some(2)));

    let table = machine.run(&arguments[..7]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.starts_with("CLUSTER  recon    ALERTS  EXIT\n"), "{table}");
}

#[test]
fn dry_run_plans_each_cluster() {
    let text = printed(
        &[
            "run",
            "recon",
            "secrets",
            "--dry-run",
            "--contexts",
            "eu-1,alias",
            "--quiet",
        ],
        0,
    );
    assert_eq!(
        text,
        "CLUSTER  NAMESPACE       OBJECTS  REFUSED  EXIT\n\
         eu-1     mdc-simulation  11       0        0\n\
         alias    mdc-simulation  11       0        0\n\n\
         2 of 2 clusters passed.\n"
    );
}

/// Credentials are asked for one after the other: plugins that prompt do not overlap.
#[cfg(target_os = "linux")]
#[test]
fn plugins_that_prompt_run_one_after_the_other() {
    use std::os::unix::fs::PermissionsExt as _;

    let machine = Machine::new();
    let path = |name: &str| machine.0.path().join(name);
    let (log, plugin) = (path("log"), path("plugin"));
    let script = format!(
        "#!/bin/sh\necho begin >>{0}\nsleep 0.3\necho end >>{0}\n\
         echo '{{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\"status\":{{\"token\":\"t\"}}}}'\n",
        log.display()
    );
    std::fs::write(&plugin, script).unwrap();
    std::fs::set_permissions(&plugin, std::fs::Permissions::from_mode(0o755)).unwrap();
    let exec = |mode: &str| json!({ "exec": { "apiVersion": "client.authentication.k8s.io/v1", "command": plugin, "interactiveMode": mode } });
    let contexts =
        ["a", "b", "c"].map(|name| json!({ "name": name, "context": { "cluster": "gone", "user": name } }));
    let config = json!({
        "contexts": contexts,
        "clusters": [{ "name": "gone", "cluster": { "server": "https://127.0.0.1:1" } }],
        "users": [
            { "name": "a", "user": exec("Always") },
            { "name": "b", "user": exec("IfAvailable") },
            { "name": "c", "user": exec("Always") },
        ],
    });
    let kubeconfig = machine.file("kubeconfig", &config);
    let line = format!(
        "{} doctor recon --contexts a,b,c --kubeconfig {kubeconfig}",
        env!("CARGO_BIN_EXE_kubectl-defender_sim")
    );
    let mut command = Command::new("script");
    command
        .args(["-qec", &line, "/dev/null"])
        .env("HOME", "/nonexistent")
        .env("TERM", "xterm");
    let output = command.output().unwrap();
    let screen = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{screen}");
    for context in ["a", "b", "c"] {
        assert!(
            screen.contains(&format!("credentials for context {context}")),
            "{screen}"
        );
    }
    assert_eq!(std::fs::read_to_string(log).unwrap(), "begin\nend\n".repeat(3));
    // Without a terminal, plugins that need one fail.
    let output = machine.run(&[
        "doctor",
        "recon",
        "--contexts",
        "a,b",
        "--kubeconfig",
        &kubeconfig,
        "-o",
        "json",
    ]);
    let fleet: Value = serde_json::from_slice(&output.stdout).unwrap();
    let problem = fleet["clusters"][0]["problem"]["message"].as_str().unwrap();
    assert!(problem.contains("not a terminal"), "{fleet:#}");
    assert!(fleet["clusters"][1]["result"].is_object(), "{fleet:#}");
}
