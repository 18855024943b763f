//! Hints: their commands target the same cluster as the same identity.
//!
//! A shell reads every name in them as one word.

use std::collections::BTreeSet;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json as value};

use crate::apiserver::{Answer, ApiServer, Recorded, failure, json};
use crate::contract::assert_keeps_to;
use crate::range::text;
use crate::verify::{Machine, recon};

/// Runs a command without a cluster.
pub fn offline(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-defender_sim"));
    command.args(arguments).env_clear().env("HOME", "/nonexistent");
    command.stdin(Stdio::null()).output().unwrap()
}

/// A name that a shell would not read as one word unless quoted.
const HOSTILE: &str = "x'y\"; touch $(pwd)/pwn & `id` | #";
/// A secret that no hint may repeat.
const TOKEN: &str = "not-to-be-repeated";

/// Starts an API server whose responses `change` may override; by default everything is allowed and nothing exists.
pub async fn standing_in(change: impl Fn(&Recorded) -> Option<Answer> + Send + Sync + 'static) -> ApiServer {
    ApiServer::start(move |request| change(request).unwrap_or_else(|| usual(request))).await
}

fn path(request: &Recorded) -> &str {
    request.path.split('?').next().unwrap()
}

fn usual(request: &Recorded) -> Answer {
    match path(request) {
        "/version" => json(
            200,
            &value!({
                "major": "1", "minor": "33", "gitVersion": "v1.33.1", "gitCommit": "", "gitTreeState": "",
                "buildDate": "", "goVersion": "", "compiler": "", "platform": "",
            }),
        ),
        path if path.starts_with("/apis/authorization") => review(request, true),
        path if path.starts_with("/apis/authentication") => failure(404, "NotFound", "no such kind"),
        _ if request.method == "POST" => json(201, &serde_json::from_slice(&request.body).unwrap()),
        _ => failure(404, "NotFound", "not found"),
    }
}

fn review(request: &Recorded, allowed: bool) -> Answer {
    let mut review: Value = serde_json::from_slice(&request.body).unwrap();
    review["status"] = value!({ "allowed": allowed });
    json(201, &review)
}

fn object(name: &str, more: &Value) -> Answer {
    let mut metadata = value!({ "name": name, "uid": "1" });
    let more = more.as_object().unwrap().clone();
    metadata.as_object_mut().unwrap().extend(more);
    json(
        200,
        &value!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata }),
    )
}

/// Returns the words of each `kubectl` command in the hints of a text, split like a shell.
fn commands(text: &str) -> Vec<Vec<String>> {
    // A command may have a line of its own.
    let text = text.replace(":\n  kubectl ", ": kubectl ");
    let hints = text.lines().filter_map(|line| line.strip_prefix("hint: "));
    let mut commands = vec![];
    for hint in hints {
        let Some(start) = hint.find("kubectl ") else {
            continue;
        };
        let script = format!(
            "kubectl() {{ printf '%s\\0' \"$@\" END >&3; }}; exec 3>&1; {}",
            // The only text between two commands in a hint.
            hint[start..].replace("; check: kubectl", "; kubectl")
        );
        let folder = tempfile::tempdir().unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).current_dir(folder.path());
        let output = shell.stdin(Stdio::null()).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(stderr, "", "{hint}");
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            0,
            "{hint} ran something"
        );
        let words = String::from_utf8(output.stdout).unwrap();
        let mut command = vec![];
        for word in words.split_terminator('\0') {
            if word == "END" {
                commands.push(std::mem::take(&mut command));
            } else {
                command.push(word.to_owned());
            }
        }
    }
    commands
}

/// Runs against a fake API server with hostile flags; returns standard error and the kubeconfig.
fn run_against(server: &ApiServer, namespace: &str) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join(HOSTILE.replace('/', "_"));
    let config = value!({
        "apiVersion": "v1", "kind": "Config",
        "contexts": [{ "name": HOSTILE, "context": { "cluster": "c", "user": "u" } }],
        "clusters": [{ "name": "c", "cluster": { "server": server.url() } }],
        "users": [{ "name": "u", "user": {} }],
    });
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    let kubeconfig = kubeconfig.to_str().unwrap();
    let output = offline(&[
        "webshell",
        "--yes",
        "--kubeconfig",
        kubeconfig,
        "--context",
        HOSTILE,
        "--token",
        TOKEN,
        "--as",
        HOSTILE,
        "--as-group",
        "a b",
        "--as-group",
        "$HOME",
        "-n",
        namespace,
    ]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    (stderr, kubeconfig.to_owned())
}

/// Asserts that each command in the hints targets the same cluster as the same identity.
///
/// Commands of an administrator may use another identity.
#[track_caller]
fn assert_repeated(stderr: &str, kubeconfig: &str, expected: usize) {
    let commands = commands(stderr);
    assert_eq!(commands.len(), expected, "{stderr}");
    assert!(!stderr.contains(TOKEN), "{stderr}");
    let cluster = ["--kubeconfig", kubeconfig, "--context", HOSTILE];
    let identity = ["--as", HOSTILE, "--as-group", "a b", "--as-group", "$HOME"];
    let has = |command: &[String], words: &[&str]| command.windows(words.len()).any(|window| window == words);
    for command in &commands {
        if command.starts_with(&["defender-sim".to_owned(), "rights".to_owned()]) {
            continue;
        }
        assert!(has(command, &cluster), "{command:?}");
        let administrator = command[0] == "apply";
        assert_eq!(has(command, &identity), !administrator, "{command:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_repeat_connection_flags_quoted() {
    type Change = fn(&Recorded) -> Option<Answer>;
    let cases: [(&str, &str, Change, usize); 5] = [
        // Missing permissions: two commands that grant them, and one that checks them.
        (
            "missing rights",
            "--subject user:NAME",
            |request| {
                path(request)
                    .starts_with("/apis/authorization")
                    .then(|| review(request, false))
            },
            3,
        ),
        (
            "namespace work is being deleted",
            "kubectl wait --for=delete namespace/work",
            |request| {
                let going = value!({ "deletionTimestamp": "2026-01-01T00:00:00Z" });
                (path(request) == "/api/v1/namespaces/work").then(|| object("work", &going))
            },
            1,
        ),
        (
            "job.batch/mdc-simulation exists",
            "kubectl defender-sim cleanup -n work",
            |request| match path(request) {
                "/api/v1/namespaces/work" => Some(object("work", &value!({}))),
                "/apis/batch/v1/namespaces/work/jobs/mdc-simulation" => {
                    Some(object("mdc-simulation", &value!({})))
                }
                _ => None,
            },
            1,
        ),
        // A missing permission that the access review did not report.
        (
            "jobs.batch is forbidden",
            "kubectl auth can-i create jobs.batch -n work",
            |request| {
                let printed = "jobs.batch is forbidden: User \"x\" cannot create resource \"jobs\" in API group \
                            \"batch\" in the namespace \"work\"";
                (request.method == "POST" && path(request).ends_with("/jobs"))
                    .then(|| failure(403, "Forbidden", printed))
            },
            1,
        ),
        (
            "does not accept the credentials",
            "kubectl auth whoami",
            |request| {
                path(request)
                    .starts_with("/apis/authorization")
                    .then(|| failure(401, "Unauthorized", "Unauthorized"))
            },
            1,
        ),
    ];
    for (message, hint, change, expected) in cases {
        let server = standing_in(change).await;
        let (stderr, kubeconfig) = tokio::task::block_in_place(|| run_against(&server, "work"));
        assert!(stderr.contains(message) && stderr.contains(hint), "{stderr}");
        assert_repeated(&stderr, &kubeconfig, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn right_that_only_the_call_shows_missing_is_named() {
    let printed = "User \"x\" cannot create resource \"namespaces\" in API group \"\" at the cluster scope";
    let server = standing_in(move |request| {
        (request.method == "POST" && path(request) == "/api/v1/namespaces")
            .then(|| failure(403, "Forbidden", printed))
    })
    .await;
    let url = server.url();
    let run = || offline(&["webshell", "--yes", "-o", "json", "--server", &url, "--as", "x"]);
    let output = tokio::task::block_in_place(run);
    assert_eq!(output.status.code(), Some(3));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_keeps_to("run", &result);
    assert!(
        text(&result["problem"]["message"]).contains(printed),
        "{result:#}"
    );
    assert!(
        text(&result["problem"]["hint"]).ends_with(&format!(
            "kubectl auth can-i create namespaces --server {url} --as x"
        )),
        "{result:#}"
    );
}

#[test]
fn hints_of_connection_errors_repeat_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a b");
    let config = value!({ "apiVersion": "v1", "kind": "Config", "contexts": [{ "name": "c", "context": { "cluster": "k", "user": "" } }], "clusters": [{ "name": "k", "cluster": { "server": "https://127.0.0.1:1" } }] });
    std::fs::write(&file, config.to_string()).unwrap();
    let file = file.to_str().unwrap();
    for (flags, expected) in [
        (&["--context", "none"][..], "kubectl config get-contexts"),
        (
            &["--context", "c", "--cluster", "none"],
            "kubectl config get-clusters",
        ),
        (&[], "kubectl config use-context NAME"),
    ] {
        let output = offline(&[&["version", "--kubeconfig", file], flags].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        let hint = format!("{expected} --kubeconfig '{file}'\n");
        assert!(stderr.ends_with(&hint), "{flags:?}: {stderr}");
    }
    let output = offline(&["version", "--kubeconfig", file, "--context", "c", "--as", "b o b"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let flags = format!("--minify --kubeconfig '{file}' --context c --as 'b o b'\n");
    assert!(stderr.ends_with(&flags), "{stderr}");
}

#[test]
fn namespace_and_context_of_a_record_are_quoted() {
    let machine = Machine::new();
    let mut run = recon();
    run.namespace = HOSTILE.to_owned();
    run.cluster.context = Some(HOSTILE.to_owned());
    run.kept_until = Some(run.ended);
    machine.record(&run);
    let stderr = machine.printed(&["report", &run.run, "--as", "b o b"], 0);
    let commands = commands(&stderr);
    let cleanup = [
        "defender-sim",
        "cleanup",
        "--run",
        &run.run,
        "-n",
        HOSTILE,
        "--context",
        HOSTILE,
        "--as",
        "b o b",
    ];
    let flags = ["--context", HOSTILE, "--as", "b o b"];
    let look = ["exec", "-it", "-n", HOSTILE, "mdc-simulation-victim"];
    let look = [&look[..], &flags, &["--", "bash"]].concat();
    let verify = [&["defender-sim", "verify", &run.run], &flags[..]].concat();
    assert_eq!(commands, [cleanup.to_vec(), look, verify], "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn advice_of_doctor_repeats_connection_flags() {
    let server = standing_in(|request| match path(request) {
        path if path.starts_with("/apis/authorization") => Some(review(request, false)),
        "/api/v1/namespaces/work" => Some(object(
            "work",
            &value!({ "deletionTimestamp": "2026-01-01T00:00:00Z" }),
        )),
        "/apis/batch/v1/namespaces/work/jobs/mdc-simulation" => Some(object("mdc-simulation", &value!({}))),
        path if path.ends_with("/nodes") => Some(json(200, &value!({ "metadata": {}, "items": [{
            "metadata": { "name": "one", "labels": { "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64" } },
            "spec": { "unschedulable": true }, "status": {},
        }] }))),
        _ if request.method == "GET" && !request.path.contains("mdc-simulation") => {
            Some(json(200, &value!({ "metadata": {}, "items": [] })))
        }
        _ => None,
    })
    .await;
    let url = server.url();
    let flags = ["--server", &url, "--as", "b o b"];
    let arguments = [&["doctor", "webshell", "-n", "work", "-o", "json"], &flags[..]].concat();
    let output = tokio::task::block_in_place(|| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-defender_sim"));
        // All other hosts are behind a proxy that does not exist.
        let variables = [("HOME", "/nonexistent"), ("HTTPS_PROXY", "http://127.0.0.1:9")];
        command
            .args(arguments)
            .env_clear()
            .envs(variables)
            .output()
            .unwrap()
    });
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut with_command = BTreeSet::new();
    for check in result["checks"].as_array().unwrap() {
        let advice = text(&check["advice"]);
        if advice.contains("kubectl ") {
            with_command.insert(text(&check["id"]));
            assert!(
                advice.ends_with(&format!(" --server {url} --as 'b o b'")),
                "{check:#}"
            );
        }
    }
    for id in ["rights", "namespace", "active-run", "nodes"] {
        assert!(with_command.contains(id), "{id} has no command: {result:#}");
    }
}
