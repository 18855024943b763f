//! Guards and options of runs on real pods.
//!
//! These are the confirmation, the refusal, the server-side dry run, the note for the SOC, the reports, and pods that
//! are kept.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::contract::{assert_keeps_to, documented_scenario};
use crate::range::{
    Identity, Space, assert_nothing_left, await_that, kubectl, left_in, range_command, shared, sim,
    sim_unasked, try_kubectl,
};

#[track_caller]
fn assert_absent(space: &Space) {
    let found = kubectl(&["get", "namespace", &space.0, "--ignore-not-found"]);
    assert_eq!(found, "", "it was made");
}

#[test]
#[ignore = "needs the range: make range"]
fn where_nobody_can_be_asked_a_run_takes_yes() {
    let _shared = shared();
    let space = Space::named("unasked");
    let ran = sim_unasked(&["webshell", "-n", &space.0]).assert(3);
    assert!(ran.stderr.contains("not a terminal"), "{}", ran.stderr);
    let hint = format!(
        "hint: to run webshell in namespace {} of context range, https://",
        space.0
    );
    assert!(
        ran.stderr.contains(&hint) && ran.stderr.contains(", add --yes"),
        "{}",
        ran.stderr
    );
    assert_absent(&space);
    let ran = sim_unasked(&["webshell", "-n", &space.0, "-o", "json"]).assert(3);
    assert_keeps_to("run", &ran.json());
    assert_eq!(ran.json()["scenarios"][0]["steps"][0]["outcome"], "skipped");
    assert_absent(&space);
}

/// Runs a command at a terminal and types `typed`; returns the entire screen output and the exit code.
pub fn at_a_terminal(arguments: &str, typed: &str) -> (String, Option<i32>) {
    let (program, variables) = range_command();
    let line = format!(
        "stty cols 80; {} env {} kubectl defender-sim {arguments}",
        program.display(),
        Identity::Operator.variable()
    );
    let mut command = Command::new("script");
    command
        .args(["-qec", &line, "/dev/null"])
        .env("TERM", "xterm")
        .envs(variables);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    // Prevents a hang: after this time the process is terminated and the test fails.
    let end = Duration::from_secs(90);
    let (done, over) = std::sync::mpsc::channel::<()>();
    let id = child.id().to_string();
    let guard = std::thread::spawn(move || {
        if over.recv_timeout(end) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let _ = Command::new("kill").arg(id).status();
        }
    });
    let (mut screen, mut chunk, mut typed) = (vec![], [0; 4096], Some(typed));
    while let Ok(read @ 1..) = stdout.read(&mut chunk) {
        screen.extend_from_slice(&chunk[..read]);
        // Typed earlier, Ctrl-C would terminate the program that runs before the question.
        let asked = String::from_utf8_lossy(&screen).contains("[y/N]");
        if asked && let Some(typed) = typed.take() {
            stdin.write_all(typed.as_bytes()).unwrap();
        }
    }
    let code = child.wait().unwrap().code();
    drop(done);
    guard.join().unwrap();
    (String::from_utf8_lossy(&screen).into_owned(), code)
}

#[test]
#[ignore = "needs the range: make range"]
fn at_a_terminal_it_asks_once() {
    let _shared = shared();
    let space = Space::named("asked");
    let command = format!("webshell -n {}", space.0);
    for (typed, printed) in [
        ("n\n", "aborted: not confirmed"),
        ("\n", "aborted: not confirmed"),
    ] {
        let (screen, code) = at_a_terminal(&command, typed);
        assert_eq!(code, Some(3), "{screen}");
        for part in [
            &format!("webshell in namespace {}", space.0),
            "Continue? [y/N]",
            printed,
        ] {
            assert!(screen.contains(part), "{part:?} in {screen}");
        }
        assert_absent(&space);
    }
    // Ctrl-C during the prompt.
    let (screen, code) = at_a_terminal(&command, "\u{3}");
    assert_eq!(code, Some(130), "{screen}");
    assert_absent(&space);
    let (screen, code) = at_a_terminal(&command, "y\n");
    assert_eq!(code, Some(0), "{screen}");
    assert_eq!(screen.matches("Continue?").count(), 1, "{screen}");
    assert!(screen.contains("webshell.whoami"), "{screen}");
    assert_nothing_left(&space.0);
    let (screen, code) = at_a_terminal(&format!("{command} --yes"), "");
    assert_eq!(code, Some(0), "{screen}");
    assert!(!screen.contains("Continue?"), "{screen}");
}

#[test]
#[ignore = "needs the range: make range"]
fn what_looks_like_production_has_to_be_allowed() {
    let _shared = shared();
    let space = Space::new("guard", &["example.com/environment=Production"]);
    let ran = sim(&["webshell", "-n", &space.0]).assert(3);
    let sign = format!(
        "namespace/{} has the label example.com/environment=Production",
        space.0
    );
    assert!(
        ran.stderr.contains("this looks like production") && ran.stderr.contains(&sign),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("--allow-production"), "{}", ran.stderr);
    assert_eq!(left_in(&space.0), Vec::<String>::new());
    sim(&["webshell", "-n", &space.0, "--allow-production"]).assert(0);
    sim(&["webshell", "-n", &space.0, "--production-words", "haupt,kunden"]).assert(0);
    // The range's context is called "range".
    let other = Space::named("words");
    let ran = sim(&["webshell", "-n", &other.0, "--production-words=range"]).assert(3);
    assert!(
        ran.stderr
            .contains("the context \"range\" has the word \"range\""),
        "{}",
        ran.stderr
    );
    assert_absent(&other);
}

#[test]
#[ignore = "needs the range: make range"]
fn the_api_server_admits_every_object_and_nothing_is_made() {
    let _shared = shared();
    let space = Space::new("admit", &[]);
    let dry = ["all", "-n", &space.0, "--dry-run=server", "-o", "json"];
    let ran = sim(&dry).assert(0);
    let plan = ran.json();
    assert_keeps_to("plan", &plan);
    assert_eq!(plan["cluster"]["user"], "tenant");
    let verdicts = |plan: &serde_json::Value| -> Vec<(String, String)> {
        let objects = plan["objects"].as_array().unwrap().iter();
        let text = crate::range::text;
        objects
            .map(|object| (text(&object["name"]), text(&object["admission"]["verdict"])))
            .collect()
    };
    let all = verdicts(&plan);
    assert_eq!(all.len(), 11);
    for (name, verdict) in &all[1..] {
        assert_eq!(verdict, "admitted", "{name}");
    }
    assert_eq!(left_in(&space.0), Vec::<String>::new());
    let names = sim(&["all", "-n", &space.0, "--dry-run=server", "-o", "name"])
        .assert(0)
        .stdout;
    assert!(
        names.contains("pod/mdc-simulation-victim\n") && names.lines().count() == 11,
        "{names}"
    );

    // Pod Security and the quota reject objects.
    let label = "pod-security.kubernetes.io/enforce=restricted";
    kubectl(&["label", "namespace", &space.0, label]);
    kubectl(&["create", "quota", "none", "--hard=secrets=0", "-n", &space.0]);
    let ran = sim(&dry).assert(3);
    let refused: Vec<String> = verdicts(&ran.json())
        .into_iter()
        .filter(|(_, v)| v == "refused")
        .map(|(name, _)| name)
        .collect();
    assert_eq!(refused.len(), 4, "both pods and both secrets: {refused:?}");
    assert!(
        ran.stdout.contains("violates PodSecurity") && ran.stdout.contains("exceeded quota"),
        "{}",
        ran.stdout
    );
    let text = sim(&["webshell", "-n", &space.0, "--dry-run=server"])
        .assert(3)
        .stdout;
    assert!(text.contains("pod/mdc-simulation-victim: REFUSED: "), "{text}");
    assert_eq!(left_in(&space.0), Vec::<String>::new());

    // If the namespace does not exist, only the namespace itself can be evaluated.
    let absent = Space::named("admit-absent");
    let plan = sim(&["webshell", "-n", &absent.0, "--dry-run=server", "-o", "json"])
        .assert(0)
        .json();
    let reported: Vec<String> = verdicts(&plan).into_iter().map(|(_, verdict)| verdict).collect();
    assert_eq!(
        (reported[0].as_str(), &reported[1..]),
        ("admitted", &vec!["notAsked".to_owned(); 10][..])
    );
    assert_absent(&absent);
}

#[test]
#[ignore = "needs the range: make range"]
fn a_run_is_announced_and_reported_in_every_form_at_once() {
    let _shared = shared();
    let space = Space::named("reports");
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let reports: Vec<String> = ["junit", "json", "markdown", "html", "navigator"]
        .map(|kind| format!("--report={kind}={}", path(kind)))
        .into();
    let mut arguments = vec!["run", "recon", "webshell", "-n", &space.0, "-o", "json"];
    arguments.extend(reports.iter().map(String::as_str));
    let note = path("note");
    arguments.extend(["--soc-note", &note]);
    let ran = sim(&arguments).assert(0);
    let json = ran.json();
    assert_keeps_to("run", &json);
    let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
    assert_eq!(read("json"), ran.stdout);
    assert!(read("junit").contains("<testsuites"));
    assert!(read("markdown").contains("recon.read-token") || read("markdown").contains("read-token"));
    assert!(read("html").contains("recon") && !read("html").contains("<script"));
    let layer: serde_json::Value = serde_json::from_str(&read("navigator")).unwrap();
    assert!(
        layer["techniques"]
            .as_array()
            .unwrap()
            .iter()
            .any(|entry| entry["techniqueID"] == "T1046")
    );

    let note: serde_json::Value = serde_json::from_str(&read("note")).unwrap();
    assert_keeps_to("note", &note);
    assert_eq!(note["run"], json["run"]);
    let within = |key: &str| note[key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let ended = json["ended"]
        .as_str()
        .unwrap()
        .parse::<jiff::Timestamp>()
        .unwrap();
    assert!(within("from") < ended && ended < within("until"), "{note:#}");
    assert!(within("until") < within("alertsUntil"), "{note:#}");
    assert_nothing_left(&space.0);

    // A report that cannot be written is detected before anything is created.
    let bad = format!("--report=junit={}", path("no/such/folder"));
    let ran = sim(&["webshell", "-n", &space.0, &bad]).assert(2);
    assert!(ran.stderr.contains("no/such/folder"), "{}", ran.stderr);
    assert_absent(&space);
}

#[test]
#[ignore = "needs the range: make range"]
fn pods_that_are_kept_go_by_the_deadline_or_by_cleanup() {
    let _shared = shared();
    let space = Space::named("keep");
    let ran = sim(&["webshell", "-n", &space.0, "--keep", "-o", "json"]).assert(0);
    let json = ran.json();
    assert_keeps_to("run", &json);
    assert!(
        json["keptUntil"].is_string() && json["cleanup"].is_null(),
        "{json:#}"
    );
    let run = crate::range::text(&json["run"]);
    let command = format!("kubectl defender-sim cleanup --run {run} -n {}", space.0);
    assert!(ran.stderr.contains(&command), "{}", ran.stderr);
    assert!(left_in(&space.0).contains(&"pod/mdc-simulation-victim".to_owned()));
    // Runs the command from the hint.
    let words: Vec<&str> = command.split_whitespace().skip(2).collect();
    let ran = sim(&[&words[..], &["-o", "json"]].concat()).assert(0);
    assert_keeps_to("cleanup", &ran.json());
    assert_nothing_left(&space.0);

    let ran = sim(&["webshell", "-n", &space.0, "--keep", "--deadline=20s"]).assert(0);
    assert!(
        ran.stdout.contains("Kept for inspection until about 2"),
        "{}",
        ran.stdout
    );
    await_that(
        "the deadline removes what was kept",
        Duration::from_secs(60),
        || {
            try_kubectl(&["get", "pods", "-n", &space.0, "-o", "name"])
                .stdout
                .is_empty()
        },
    );
    sim(&["cleanup", "-n", &space.0]).assert(0);
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn a_run_keeps_to_what_the_cluster_asks_of_pods() {
    let _shared = shared();
    let space = Space::new("fit", &[]);
    let node = kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]);
    let selector = format!("--node-selector=kubernetes.io/hostname={node}");
    let ran = sim(&[
        "webshell",
        "-n",
        &space.0,
        "--keep",
        "--deadline=60s",
        "--timeout=50s",
        &selector,
        "--toleration=test:NoSchedule",
        "--label=team=sec",
        "--annotation=example.com/why=a test",
        "--service-account-annotation=example.com/role=none",
        "--image-pull-policy=IfNotPresent",
        "-o",
        "name",
    ])
    .assert(0);
    assert!(
        ran.stdout.starts_with("run/") && ran.stdout.lines().count() == 1,
        "{}",
        ran.stdout
    );
    let ours = kubectl(&[
        "get",
        "pods,services,secrets,configmaps,jobs,serviceaccounts,networkpolicies",
        "-n",
        &space.0,
        "-l",
        "team=sec",
        "-o",
        "name",
    ]);
    assert_eq!(ours.lines().count(), 10, "{ours}");
    let pod = kubectl(&[
        "get",
        "pod",
        "mdc-simulation-victim",
        "-n",
        &space.0,
        "-o",
        "json",
    ]);
    let pod: serde_json::Value = serde_json::from_str(&pod).unwrap();
    assert_eq!(pod["metadata"]["annotations"]["example.com/why"], "a test");
    assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], "IfNotPresent");
    assert_eq!(pod["spec"]["nodeName"], node.as_str());
    sim(&["cleanup", "--force", "-n", &space.0]).assert(0);
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn progress_says_little_or_all() {
    let _shared = shared();
    let space = Space::named("detail");
    let ran = sim(&["webshell", "-n", &space.0, "--quiet", "-o", "wide"]).assert(0);
    assert_eq!(ran.stderr, "");
    assert!(
        ran.stdout.contains("TECHNIQUES") && ran.stdout.contains("T1505.003"),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stdout.contains("of context range,\nhttps://"),
        "the target is always shown: {}",
        ran.stdout
    );
    let ran = sim(&["webshell", "-n", &space.0, "--verbose"]).assert(0);
    for part in [
        " s  pod/mdc-simulation-victim created",
        " s  webshell.whoami started",
        " s  pod/mdc-simulation-victim deleted",
    ] {
        assert!(ran.stderr.contains(part), "{part:?} in {}", ran.stderr);
    }
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn the_documented_scenario_runs_as_it_is_written() {
    let _shared = shared();
    let space = Space::named("documented");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), documented_scenario()).unwrap();
    let file = file.path().to_str().unwrap();
    let ran = sim(&["run", "--file", file, "-n", &space.0, "-o", "json"]).assert(0);
    for (step, outcome) in ran.outcomes() {
        assert_eq!(outcome, "proved", "{step}: {ran:#?}");
    }
    assert_nothing_left(&space.0);
}
