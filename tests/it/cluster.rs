//! Runs on real pods: what they prove, every way in which they end, and that they leave nothing behind.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json as value};

use crate::range::{
    Finally, IMAGES, Identity, Ran, Running, Space, alone, assert_nothing_left, await_that,
    default_namespace, idle_pod, image, kubectl, left_in, run_inside, shared, sim, sim_as, state, text,
    try_kubectl,
};

#[test]
#[ignore = "needs the range: make range"]
fn recon_from_end_to_end() {
    let (_shared, _default) = (shared(), default_namespace());
    let mut running = Running::start(&["recon", "-o", "json"]);
    running.await_line("attacking");
    // What another user can read meanwhile: the token itself, and the complete log.
    let n = "mdc-simulation";
    let token = "/var/run/secrets/kubernetes.io/serviceaccount/token";
    let token = kubectl(&["exec", "mdc-simulation-victim", "-n", n, "--", "cat", token]);
    let log = kubectl(&["logs", "--follow", "mdc-simulation-attacker", "-n", n]);
    let ran = running.end().assert(0);

    let json = ran.json();
    assert_eq!(json["schema"], "defender-sim/run/v1");
    for (step, outcome) in ran.outcomes() {
        assert_eq!(outcome, "proved", "{step}: {ran:#?}");
    }
    assert_eq!(ran.outcomes().len(), 3);
    assert_eq!(json["cleanup"]["verified"], true);
    assert_eq!(json["cleanup"]["left"], Value::Array(vec![]));
    assert_eq!(json["exitCode"], 0);
    assert!(
        ran.stderr.contains("recon.scan-services: proved"),
        "{}",
        ran.stderr
    );
    assert_eq!(kubectl(&["get", "namespace", n, "--ignore-not-found"]), "");

    assert!(
        log.contains("defender-sim/1 end recon.scan-services 0"),
        "not the whole log: {log}"
    );
    assert_eq!(token.matches('.').count(), 2, "not a token");
    for (place, said) in [("log", &log), ("stdout", &ran.stdout), ("stderr", &ran.stderr)] {
        assert!(!said.contains("eyJ"), "a token in the {place}: {said}");
        for piece in token.as_bytes().windows(12) {
            let piece = std::str::from_utf8(piece).unwrap();
            assert!(
                !said.contains(piece),
                "a piece of the token in the {place}: {said}"
            );
        }
    }
}

#[test]
#[ignore = "needs the range: make range"]
fn all_scenarios_are_proved() {
    let _shared = shared();
    let space = Space::named("all");
    let ran = sim(&["all", "-n", &space.0, "-o", "json"]).assert(0);
    ran.assert_proved();
    let json = ran.json();
    let scenarios = json["scenarios"].as_array().unwrap().iter();
    let order: Vec<String> = scenarios.map(|scenario| text(&scenario["id"])).collect();
    let expected = [
        "recon",
        "lateral-mov",
        "secrets",
        "crypto",
        "ti-domain",
        "anti-malware",
    ];
    assert_eq!(order, expected);
    let ran = sim(&["webshell", "-n", &space.0, "-o", "json"]).assert(0);
    assert_eq!(ran.outcomes(), [("whoami".to_owned(), "proved".to_owned())]);
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn a_victim_without_a_web_server_is_named() {
    let _shared = shared();
    let space = Space::named("no-server");
    let image = format!("{IMAGES}/attacker:latest");
    let ran = sim(&["recon", "-n", &space.0, "--victim-image", &image]).assert(4);
    assert!(
        ran.stderr
            .contains("pod/mdc-simulation-victim cannot become ready"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("exit status 127"), "{}", ran.stderr);
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn a_web_server_without_php_is_named() {
    let _shared = shared();
    let space = Space::named("no-php");
    let image = image("no-php", "victim", &[("usr/local/sbin/php-fpm", "#!/bin/sh\n")]);
    let ran = sim(&["recon", "-n", &space.0, "--victim-image", &image]).assert(4);
    assert!(
        ran.stderr
            .contains("the victim's web server has no PHP behind it (HTTP 502)"),
        "{}",
        ran.stderr
    );
    assert!(ran.stdout.contains("0 of 3 steps proved"), "{}", ran.stdout);
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn a_tool_that_is_missing_fails_its_step_only() {
    let _shared = shared();
    let space = Space::named("no-nmap");
    let image = image("no-nmap", "victim", &[("usr/bin/.wh.nmap", "")]);
    let ran = sim(&["recon", "-n", &space.0, "--victim-image", &image, "-o", "json"]).assert(4);
    let outcomes: Vec<String> = ran.outcomes().into_iter().map(|(_, outcome)| outcome).collect();
    assert_eq!(outcomes, ["proved", "proved", "failed"], "{ran:#?}");
    let json = ran.json();
    let step = &json["scenarios"][0]["steps"][2];
    assert_eq!(step["reason"], "a program it needs is not in the victim's image");
    assert!(
        text(&step["evidence"]).ends_with("nmap: command not found"),
        "{step}"
    );
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn a_decoy_that_is_missing_skips_its_steps_and_is_no_failure() {
    let _shared = shared();
    let space = Space::named("no-decoy");
    let image = image("no-decoy", "victim", &[("home/user/.wh..git-credentials", "")]);
    let ran = sim(&["secrets", "-n", &space.0, "--victim-image", &image, "-o", "json"]).assert(0);
    let json = ran.json();
    let steps = json["scenarios"][0]["steps"].as_array().unwrap();
    let seen: Vec<[String; 2]> = steps
        .iter()
        .map(|step| [text(&step["outcome"]), text(&step["reason"])])
        .collect();
    let expected = [
        ["skipped", "the victim's image has no .git-credentials"],
        [
            "skipped",
            "the victim's image has no decoy /home/user/.git-credentials",
        ],
        ["proved", ""],
        ["proved", ""],
    ];
    assert_eq!(seen, expected, "{ran:#?}");
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn an_image_that_cannot_be_pulled_ends_the_wait() {
    let _shared = shared();
    let space = Space::named("no-image");
    let begun = Instant::now();
    let image = ["--victim-image", "ghcr.io/tests/none:latest"];
    // Reading events needs a permission that a run does not.
    let arguments = [&["recon", "-n", &space.0], &image[..]].concat();
    let ran = sim_as(Identity::Admin, &arguments).assert(3);
    assert!(ran.stderr.contains("ImagePullBackOff"), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("Failed: "),
        "the pod's events are missing: {}",
        ran.stderr
    );
    assert!(begun.elapsed() < Duration::from_secs(60), "--timeout is 300 s");
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn a_pod_that_fits_nowhere_ends_the_wait() {
    let _shared = shared();
    let space = Space::new("no-room", &[]);
    let range = r#"{"apiVersion":"v1","kind":"LimitRange","metadata":{"name":"odd"},"spec":{"limits":[{"type":"Container","defaultRequest":{"example.org/none":"1"},"default":{"example.org/none":"1"}}]}}"#;
    apply(&space.0, range);
    let ran = sim(&["recon", "-n", &space.0]).assert(3);
    assert!(ran.stderr.contains("cannot be scheduled"), "{}", ran.stderr);
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn what_admission_refuses_is_said_in_its_words() {
    let _shared = shared();
    let space = Space::new("restricted", &["pod-security.kubernetes.io/enforce=restricted"]);
    let ran = sim(&["recon", "-n", &space.0]).assert(3);
    assert!(
        ran.stderr.contains("violates PodSecurity \"restricted:latest\""),
        "{}",
        ran.stderr
    );
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn a_quota_that_is_used_up_is_said_at_once() {
    let _shared = shared();
    let space = Space::new("quota", &[]);
    let quota = r#"{"apiVersion":"v1","kind":"ResourceQuota","metadata":{"name":"full"},"spec":{"hard":{"pods":"1"}}}"#;
    apply(&space.0, quota);
    await_that("the quota counts", Duration::from_secs(30), || {
        let form = "jsonpath={.status.hard.pods}";
        kubectl(&["get", "resourcequota", "full", "-n", &space.0, "-o", form]) == "1"
    });
    let begun = Instant::now();
    let ran = sim(&["recon", "-n", &space.0]).assert(3);
    assert!(
        ran.stderr.contains("exceeded quota: full, requested: pods=1"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("pod/mdc-simulation-"), "{}", ran.stderr);
    assert!(begun.elapsed() < Duration::from_secs(30), "--timeout is 300 s");
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn a_given_namespace_is_used_and_stays_with_everything_in_it() {
    let _shared = shared();
    let space = Space::new("given", &["pod-security.kubernetes.io/enforce=baseline"]);
    kubectl(&[
        "create",
        "configmap",
        "mine",
        "-n",
        &space.0,
        "--from-literal=a=b",
    ]);
    let before = identities(&space.0);
    sim(&["recon", "-n", &space.0]).assert(0);
    assert_eq!(identities(&space.0), before);
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn a_default_namespace_of_somebody_else_is_not_touched() {
    let (_shared, _default) = (shared(), default_namespace());
    kubectl(&["create", "namespace", "mdc-simulation"]);
    kubectl(&["create", "configmap", "mine", "-n", "mdc-simulation"]);
    let before = identities("mdc-simulation");
    let ran = sim(&["recon"]).assert(3);
    assert!(
        ran.stderr
            .contains("namespace mdc-simulation exists and was not made by this tool"),
        "{}",
        ran.stderr
    );
    assert_eq!(identities("mdc-simulation"), before);
    sim(&["cleanup", "-n", "mdc-simulation"]).assert(0);
    assert_eq!(identities("mdc-simulation"), before);
}

#[test]
#[ignore = "needs the range: make range"]
fn a_namespace_of_ours_that_holds_something_else_is_kept() {
    let _shared = shared();
    let space = Space::named("mixed");
    let ran = while_attacking(Identity::Operator, &space.0, || {
        kubectl(&["create", "configmap", "mine", "-n", &space.0]);
    })
    .assert(6);
    assert!(ran.stderr.contains("it holds configmap/mine"), "{}", ran.stderr);
    kubectl(&["get", "configmap", "mine", "-n", &space.0]);
    assert_eq!(left_in(&space.0), [format!("namespace/{}", space.0)]);
}

/// One kind in a group is only served in a version that the group does not prefer.
#[test]
#[ignore = "needs the range: make range"]
fn what_is_served_in_an_old_version_only_is_seen_too() {
    let _shared = shared();
    let space = Space::named("old-version");
    let kind = |plural: &str, kind: &str, version: &str| {
        value!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": { "name": format!("{plural}.sim.example.org"), "labels": { "test": "defender-sim" } },
            "spec": {
                "group": "sim.example.org", "scope": "Namespaced", "names": { "plural": plural, "kind": kind },
                "versions": [{ "name": version, "served": true, "storage": true, "schema": { "openAPIV3Schema":
                    { "type": "object", "x-kubernetes-preserve-unknown-fields": true } } }],
            },
        })
    };
    let kinds = ["crds", "-l", "test=defender-sim"];
    let _clean = Finally(|| {
        try_kubectl(&[&["delete"][..], &kinds, &["--ignore-not-found"]].concat());
    });
    for definition in [kind("news", "New", "v1"), kind("olds", "Old", "v1alpha1")] {
        apply("default", &definition.to_string());
    }
    kubectl(
        &[
            &["wait", "--for=condition=Established", "--timeout=30s"][..],
            &kinds,
        ]
        .concat(),
    );
    let object =
        value!({ "apiVersion": "sim.example.org/v1alpha1", "kind": "Old", "metadata": { "name": "mine" } });
    // Without permission to list the kind, the object cannot be named.
    let ran = while_attacking(Identity::Admin, &space.0, || apply(&space.0, &object.to_string())).assert(6);
    assert!(ran.stderr.contains("it holds old/mine"), "{}", ran.stderr);
    kubectl(&["get", "olds.sim.example.org", "mine", "-n", &space.0]);
}

/// Evidence is truncated by bytes, and a script may print anything.
#[test]
#[ignore = "needs the range: make range"]
fn a_log_that_is_no_text_is_read_to_its_end() {
    let _shared = shared();
    let space = Space::named("bytes");
    let file = tempfile::NamedTempFile::new().unwrap();
    let scenario = value!({
        "apiVersion": "defender-sim/v1", "id": "bytes", "title": "Bytes", "description": "Prints what is no text.",
        "steps": [
            { "id": "print", "title": "print", "script": "printf 'a\\xff%0.s' {1..400} >&2\n", "proof": "printed" },
            { "id": "after", "title": "go on", "script": "true\n", "proof": "gone on" },
        ],
        "alerts": [],
    });
    std::fs::write(file.path(), scenario.to_string()).unwrap();
    let path = file.path().to_str().unwrap();
    let ran = sim(&["run", "-f", path, "-n", &space.0, "-o", "json"]).assert(0);
    assert_eq!(ran.outcomes().len(), 2);
    ran.assert_proved();
    assert_nothing_left(&space.0);
}

/// The alerts that were requested are not read.
#[test]
#[ignore = "needs the range: make range"]
fn a_signal_while_a_run_is_removed_leaves_its_alerts_unread() {
    let _shared = shared();
    let space = Space::named("unread");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[]").unwrap();
    let path = file.path().to_str().unwrap();
    let mut running = Running::start(&["webshell", "-n", &space.0, "--verify", "--alerts", path]);
    running.await_line("removing");
    running.signal("INT");
    let ran = running.end().assert(130);
    assert!(ran.stdout.contains("nothing left"), "{ran:#?}");
    assert_nothing_left(&space.0);
}

/// The two points at which runs are terminated: while pods start, and during the attack.
const POINTS: [(&str, &str); 2] = [("starting", "waiting for pod/"), ("attacking", "attacking")];

#[test]
#[ignore = "needs the range: make range"]
fn a_signal_cleans_up() {
    let _shared = shared();
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        for (name, line) in POINTS {
            let space = Space::named(&format!("{}-{name}", signal.to_lowercase()));
            let mut running = Running::start(&["recon", "-n", &space.0]);
            running.await_line(line);
            running.signal(signal);
            let ran = running.end().assert(code);
            assert!(ran.stdout.contains("nothing left"), "{ran:#?}");
            assert_nothing_left(&space.0);
        }
    }
}

#[test]
#[ignore = "needs the range: make range"]
fn cleanup_removes_what_a_killed_run_left() {
    let _shared = shared();
    for (name, line) in POINTS {
        let space = Space::named(&format!("kill-{name}"));
        let mut running = Running::start(&["recon", "-n", &space.0]);
        let run = running.run();
        running.await_line(line);
        running.signal("KILL");
        assert_eq!(running.end().code, None);
        assert_ne!(left_in(&space.0), Vec::<String>::new());
        // In all namespaces, but only this run: other tests run at the same time.
        let ran = sim(&["cleanup", "--run", &run]).assert(0);
        assert!(ran.stdout.contains("nothing left"), "{ran:#?}");
        assert_nothing_left(&space.0);
    }
}

#[test]
#[ignore = "needs the range: make range"]
fn a_run_without_its_client_ends_by_itself() {
    let _shared = shared();
    let space = Space::named("deadline");
    let mut running = Running::start(&["recon", "-n", &space.0, "--deadline", "30s"]);
    running.await_line("attacking");
    running.signal("KILL");
    running.end();
    await_that("only the namespace is left", Duration::from_secs(45), || {
        left_in(&space.0) == [format!("namespace/{}", space.0)]
    });
    assert_eq!(kubectl(&["get", "pods", "-n", &space.0, "-o", "name"]), "");
    // The next run uses and removes the namespace.
    sim(&["webshell", "-n", &space.0]).assert(0);
    assert_nothing_left(&space.0);
}

/// A scenario that waits until a file is created in the victim, with a step after that.
const HOLD: &str = r"
apiVersion: defender-sim/v1
id: hold
title: Hold
description: Goes on until it is told to end.
steps:
- id: hold
  title: wait
  script: until [ -e /tmp/go ]; do sleep 0.1; done
  proof: it was told to end
- id: after
  title: go on
  script: 'true'
  proof: it went on
alerts: []
";

/// Calls `act` during the attack of a run by `identity`, then lets the run finish.
pub fn while_attacking(identity: Identity, namespace: &str, act: impl FnOnce()) -> Ran {
    let file = hold();
    let arguments = ["run", "-f", file.path().to_str().unwrap(), "-n", namespace];
    let mut running = Running::start_as(identity, &arguments);
    running.await_line("attacking");
    act();
    kubectl(&[
        "exec",
        "mdc-simulation-victim",
        "-n",
        namespace,
        "--",
        "touch",
        "/tmp/go",
    ]);
    running.end()
}

/// A scenario whose first step lasts until `/tmp/go` exists in the victim.
pub fn hold() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), HOLD).unwrap();
    file
}

#[test]
#[ignore = "needs the range: make range"]
fn a_second_run_is_refused_in_the_same_namespace_and_works_in_another() {
    let _shared = shared();
    let (space, other) = (Space::named("first"), Space::named("second"));
    let (n, file) = (space.0.as_str(), hold());
    let operator = ["--as", "second-operator", "--as-group", "system:masters"];
    let mut first = Running::start(&["run", "-f", file.path().to_str().unwrap(), "-n", n, "-o", "json"]);
    let run = first.run();
    let objects = || {
        let form = r#"jsonpath={range .items[*]}{.kind} {.metadata.name} {.metadata.uid} {.metadata.deletionTimestamp}{"\n"}{end}"#;
        kubectl(&[
            "get",
            "pods,jobs,services,configmaps,secrets",
            "-n",
            n,
            "-o",
            form,
        ])
    };
    // Once while pods start, once during the attack.
    for line in POINTS.map(|(_, line)| line) {
        first.await_line(line);
        let before = objects();
        let ran = sim(&[&["recon", "-n", n][..], &operator].concat()).assert(3);
        assert!(
            ran.stderr
                .contains(&format!("run {run} of operator holds namespace {n} until ")),
            "{}",
            ran.stderr
        );
        assert_eq!(ran.stdout, "");
        assert_eq!(objects(), before);
    }
    let elsewhere = sim(&[&["webshell", "-n", &other.0, "-o", "json"][..], &operator].concat()).assert(0);
    assert_eq!(elsewhere.outcomes(), [("whoami".to_owned(), "proved".to_owned())]);
    assert_eq!(elsewhere.json()["cluster"]["user"], "second-operator");
    // The first run ends only now, when the file that it waits for is created in its own pod.
    kubectl(&["exec", "mdc-simulation-victim", "-n", n, "--", "touch", "/tmp/go"]);
    let first = first.end().assert(0);
    let proved = ["hold", "after"].map(|step| (step.to_owned(), "proved".to_owned()));
    assert_eq!(first.outcomes(), proved, "{first:#?}");
    assert_nothing_left(n);
    assert_nothing_left(&other.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn steps_that_an_interrupted_run_did_not_begin_are_skipped() {
    let _shared = shared();
    let (space, file) = (Space::named("not-begun"), hold());
    let path = file.path().to_str().unwrap();
    let mut running = Running::start(&["run", "webshell", "-f", path, "-n", &space.0, "-o", "json"]);
    running.await_line("webshell.whoami: proved");
    running.signal("INT");
    let ran = running.end().assert(130);
    let outcomes: Vec<String> = ran.outcomes().into_iter().map(|(_, outcome)| outcome).collect();
    assert_eq!(outcomes[0], "proved", "{ran:#?}");
    assert_eq!(outcomes[2], "skipped", "{ran:#?}");
    let reason = text(&ran.json()["scenarios"][1]["steps"][1]["reason"]);
    assert_eq!(reason, "not run: interrupted", "{ran:#?}");
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn of_runs_that_start_at_once_one_goes_through() {
    // A run that fails to create the namespace must not remove it from the run that created it.
    let _shared = shared();
    let space = Space::named("at-once");
    let start = |_| Running::start_bare(&["webshell", "-n", &space.0]);
    let runs: Vec<Running> = (0..8).map(start).collect();
    let ran: Vec<_> = runs.into_iter().map(Running::end).collect();
    // A run that starts late may start after the first one ended.
    let of = |code| ran.iter().filter(|ran| ran.code == Some(code)).count();
    assert!(of(0) >= 1 && of(0) + of(3) == 8, "{ran:#?}");
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn cleanup_of_one_run_leaves_another_alone() {
    // By then, the namespace that the first run created belongs to the second one.
    let _shared = shared();
    let space = Space::named("two-runs");
    let n = &space.0;
    let killed = || {
        let mut running = Running::start(&["webshell", "-n", n]);
        let run = running.run();
        running.await_line("attacking");
        running.signal("KILL");
        running.end();
        run
    };
    // The namespace belongs to the first run; as at the deadline, its objects are removed with their owner.
    let first = killed();
    kubectl(&["delete", "job", "mdc-simulation", "-n", n]);
    await_that("only the namespace is left", Duration::from_secs(45), || {
        left_in(n) == [format!("namespace/{n}")]
    });
    let second = killed();
    let objects = || {
        let of_second = format!("defender-sim/run={second}");
        kubectl(&[
            "get",
            "pods,jobs,services,secrets",
            "-n",
            n,
            "-l",
            &of_second,
            "-o",
            "name",
            "--ignore-not-found",
        ])
    };
    let before = objects();
    assert_ne!(before, "");
    sim(&["cleanup", "--run", &first]).assert(3);
    assert_eq!(objects(), before);
    sim(&["cleanup", "--run", &second]).assert(0);
    assert_eq!(objects(), "");
}

#[test]
#[ignore = "needs the range: make range"]
fn the_web_shell_answers_nobody_but_its_attacker() {
    let _shared = shared();
    let space = Space::named("third");
    let mut running = Running::start(&["webshell", "-n", &space.0]);
    running.await_line("attacking");
    running.signal("KILL");
    running.end();
    let n = &space.0;
    let get = |what: &str| -> Vec<Value> {
        let objects = kubectl(&["get", what, "-n", n, "-l", "defender-sim/run", "-o", "json"]);
        let objects: Value = serde_json::from_str(&objects).unwrap();
        objects["items"].as_array().unwrap().clone()
    };
    // Everything that a third pod could know except the key; ConfigMaps, which more users may read, contain none of it.
    let maps = get("configmaps");
    let in_maps: Vec<&String> = maps
        .iter()
        .flat_map(|map| map["data"].as_object().unwrap().keys())
        .collect();
    assert_eq!(in_maps, ["001-webshell.whoami"]);
    let secrets = get("secrets");
    let secret = |name: &str| {
        let data = secrets.iter().find_map(|secret| secret["data"][name].as_str());
        String::from_utf8(STANDARD.decode(data.unwrap()).unwrap()).unwrap()
    };
    let settings: Value = serde_json::from_str(&secret("run.json")).unwrap();
    let known = [
        String::new(),
        text(&maps[0]["metadata"]["labels"]["defender-sim/run"]),
        text(&settings["secret"]),
        text(&settings["keySha256"]),
        text(&maps[0]["metadata"]["uid"]),
    ];

    let attacker = format!("{IMAGES}/attacker:latest");
    idle_pod(n, "third", &attacker);
    let ask = |key: &str, step: &str, command: &str| {
        let key = format!("X-Simulation-Key: {key}");
        let step = format!("X-Simulation-Step: {step}");
        let url = format!("http://mdc-simulation-victim/ws.php?cmd={command}");
        let status = ["-s", "-w", "%{http_code}", "-H", &key, "-H", &step, &url];
        kubectl(&[&["exec", "third", "-n", n, "--", "curl"][..], &status].concat())
    };
    let (step, other) = ("webshell.whoami x", "webshell.other x");
    let touch = "touch%20/tmp/proof";
    for key in known {
        for command in ["whoami", touch] {
            let answer = ask(&key, step, command);
            assert!(answer.ends_with("its attacker.\n403"), "with {key:?}: {answer}");
        }
    }
    // Even with the key, only this run's own steps run, each under its own name.
    let curlrc = secret("001");
    let key = curlrc.split("X-Simulation-Key: ").nth(1).unwrap();
    let key = key.split('"').next().unwrap();
    let refused = [
        (step, touch),
        (step, "cat%20/gate/run.json"),
        (step, "whoami&visit=webshell.whoami"),
        (step, "whoami%20"),
        (other, "whoami"),
        ("", "whoami"),
    ];
    for (step, command) in refused {
        let answer = ask(key, step, command);
        assert!(
            answer.ends_with("its attacker.\n403"),
            "{step} {command}: {answer}"
        );
    }
    let ran =
        try_kubectl(&["exec", "mdc-simulation-victim", "-n", n, "--", "ls", "/tmp/proof"]).code == Some(0);
    assert!(!ran, "something ran that is no step");
    // Proves that the rejected requests above were otherwise valid.
    let answer = ask(key, step, "whoami");
    assert!(
        answer.contains(" webshell.whoami 0 ") && answer.ends_with(" www-data\n200"),
        "{answer}"
    );
    kubectl(&["delete", "pod", "third", "-n", n, "--grace-period=1"]);
    sim(&["cleanup", "--force", "-n", n]).assert(0);
    assert_nothing_left(n);
}

#[test]
#[ignore = "needs the range: make range"]
fn without_rights_nothing_is_made() {
    let _shared = shared();
    let space = Space::new("no-rights", &[]);
    let ran = sim(&["recon", "-n", &space.0, "--as", "nobody-here"]).assert(3);
    assert!(
        ran.stderr
            .contains("pods (get, list, watch, create, patch, delete)"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("kubectl auth can-i"), "{}", ran.stderr);
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn a_cut_network_blocks_a_step() {
    let _alone = alone();
    let space = Space::named("cut");
    let rule = [
        "INPUT",
        "-s",
        "10.244.0.0/24",
        "-p",
        "tcp",
        "--dport",
        "6443",
        "-j",
        "REJECT",
    ];
    let _healed = Finally(|| {
        run_inside(&[&["iptables", "-D"][..], &rule].concat());
    });
    run_inside(&[&["iptables", "-I"][..], &rule].concat()).assert(0);
    let ran = sim(&["recon", "-n", &space.0, "-o", "json"]).assert(4);
    let json = ran.json();
    let outcomes: Vec<String> = ran.outcomes().into_iter().map(|(_, outcome)| outcome).collect();
    assert_eq!(outcomes, ["proved", "blocked", "proved"], "{ran:#?}");
    let step = &json["scenarios"][0]["steps"][1];
    assert_eq!(step["reason"], "the connection to the API server was refused");
}

#[test]
#[ignore = "needs the range: make range"]
fn metadata_service_that_is_cut_off_blocks_the_step_within_seconds() {
    let _alone = alone();
    let space = Space::named("metadata-cut");
    for (target, evidence) in [
        (
            "REJECT",
            "169.254.169.254 refused the connection, or no route leads there",
        ),
        ("DROP", "169.254.169.254 did not answer in time"),
    ] {
        let rule = [
            "INPUT",
            "-s",
            "10.244.0.0/24",
            "-d",
            "169.254.169.254",
            "-j",
            target,
        ];
        let _healed = Finally(|| {
            run_inside(&[&["iptables", "-D"][..], &rule].concat());
        });
        run_inside(&[&["iptables", "-I"][..], &rule].concat()).assert(0);
        let ran = sim(&["lateral-mov", "-n", &space.0, "-o", "json"]).assert(4);
        let step = &ran.json()["scenarios"][0]["steps"][0];
        assert_eq!(step["outcome"], "blocked", "{ran:#?}");
        assert_eq!(step["evidence"], evidence);
        assert_eq!(
            step["reason"],
            "the metadata service cannot be reached from the pod"
        );
        let took = step["durationMs"].as_f64().unwrap();
        assert!(took < 5000.0, "{took} ms");
    }
}

#[test]
#[ignore = "needs the range: make range"]
fn the_cloud_that_is_there_is_found_and_none_is_no_failure() {
    let _alone = alone();
    let space = Space::named("clouds");
    let flavour = state().join("flavour");
    let _removed = Finally(|| {
        let _ = std::fs::remove_file(&flavour);
    });
    let mut seen = vec![];
    for cloud in ["aws", "gcp", "azure", "none"] {
        std::fs::write(&flavour, cloud).unwrap();
        let ran = sim(&["lateral-mov", "-n", &space.0, "-o", "json"]);
        let step = ran.json()["scenarios"][0]["steps"][0].clone();
        let said = ["outcome", "evidence", "reason"].map(|key| text(&step[key]));
        seen.push((cloud, ran.code, said));
    }
    let expected = [
        ("aws", ["proved", "AWS: credentials of the node's role", ""]),
        (
            "gcp",
            ["proved", "GCP: a token of the default service account", ""],
        ),
        (
            "azure",
            [
                "proved",
                "Azure in westeurope: a token of the node's identity",
                "",
            ],
        ),
        (
            "none",
            [
                "skipped",
                "no cloud answered at 169.254.169.254",
                "no metadata service of a known cloud here",
            ],
        ),
    ];
    let expected: Vec<_> = expected
        .map(|(cloud, said)| (cloud, Some(0), said.map(str::to_owned)))
        .into();
    assert_eq!(seen, expected);
}

#[test]
#[ignore = "needs the range: make range"]
fn a_scenario_file_runs_as_the_built_in_ones_do() {
    let _shared = shared();
    let space = Space::named("file");
    let file = tempfile::NamedTempFile::new().unwrap();
    let start = sim(&["describe", "secrets", "-o", "yaml"]).assert(0).stdout;
    std::fs::write(file.path(), start.replace("id: secrets", "id: my-secrets")).unwrap();
    let path = file.path().to_str().unwrap();
    sim(&["lint", path]).assert(0);
    let ran = sim(&["run", "webshell", "-f", path, "-n", &space.0, "-o", "json"]).assert(0);
    assert!(
        ran.outcomes().iter().all(|(_, outcome)| outcome == "proved"),
        "{ran:#?}"
    );
    assert_eq!(ran.json()["scenarios"][1]["id"], "my-secrets");
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn the_manifests_of_a_dry_run_are_what_a_run_applies() {
    let _shared = shared();
    let space = Space::named("dry-run");
    let dry = sim(&["webshell", "-n", &space.0, "--dry-run=client", "-o", "yaml"]).assert(0);
    assert_eq!(
        try_kubectl(&["get", "namespace", &space.0]).code,
        Some(1),
        "a dry run made something"
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), dry.stdout).unwrap();
    kubectl(&["apply", "-f", file.path().to_str().unwrap()]);
    let n = &space.0;
    kubectl(&[
        "wait",
        "--for=condition=Ready",
        "pod",
        "--all",
        "-n",
        n,
        "--timeout=60s",
    ]);
    kubectl(&[
        "annotate",
        "pod",
        "mdc-simulation-attacker",
        "defender-sim/go=yes",
        "-n",
        n,
    ]);
    kubectl(&[
        "wait",
        "--for=jsonpath={.status.phase}=Succeeded",
        "pod/mdc-simulation-attacker",
        "-n",
        n,
        "--timeout=60s",
    ]);
    let log = kubectl(&["logs", "mdc-simulation-attacker", "-n", n]);
    assert!(
        log.contains(" webshell.whoami 0 ") && log.contains("www-data"),
        "{log}"
    );
    sim(&["cleanup", "--force", "-n", n]).assert(0);
    assert_nothing_left(n);
}

fn apply(namespace: &str, object: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), object).unwrap();
    kubectl(&["apply", "-n", namespace, "-f", file.path().to_str().unwrap()]);
}

/// Returns the UID and resource version of the namespace and of all of the user's objects in it.
fn identities(namespace: &str) -> String {
    let form = r#"jsonpath={range .items[*]}{.metadata.name} {.metadata.uid} {.metadata.resourceVersion}{"\n"}{end}"#;
    let space = format!("metadata.name={namespace}");
    kubectl(&[
        "get",
        "configmaps,secrets,serviceaccounts",
        "-n",
        namespace,
        "-o",
        form,
    ]) + &kubectl(&["get", "namespaces", "--field-selector", &space, "-o", form])
}
