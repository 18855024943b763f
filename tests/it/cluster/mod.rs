//! Runs on real pods: that they prove what they report, end in every way a run can end, and leave nothing.

mod endings;
mod namespaces;
mod start;
mod steps;

use serde_json::Value;

use crate::range::{
    Identity, Ran, Running, Space, assert_nothing_left, default_namespace, kubectl, shared, sim, text,
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
    assert_eq!(json["schema"], "defender-sim/run/v2");
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
        log.contains("defender-sim/2 victim end recon.scan-services 0"),
        "not the whole log: {log}"
    );
    assert_eq!(token.matches('.').count(), 2, "not a token");
    for (place, printed) in [("log", &log), ("stdout", &ran.stdout), ("stderr", &ran.stderr)] {
        assert!(!printed.contains("eyJ"), "a token in the {place}: {printed}");
        for piece in token.as_bytes().windows(12) {
            let piece = std::str::from_utf8(piece).unwrap();
            assert!(
                !printed.contains(piece),
                "a piece of the token in the {place}: {printed}"
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

/// A scenario that waits until a file is created in the victim, with a step after that.
const HOLD: &str = r"
apiVersion: defender-sim/v1
id: hold
title: Hold
description: Goes on until it is reported to end.
steps:
- id: hold
  title: wait
  script: until [ -e /tmp/go ]; do sleep 0.1; done
  proof: it was reported to end
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

fn apply(namespace: &str, object: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), object).unwrap();
    kubectl(&["apply", "-n", namespace, "-f", file.path().to_str().unwrap()]);
}
