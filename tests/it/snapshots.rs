//! Snapshots of what the program prints without a cluster: help, tables, plans and manifests, at 80 columns.
//!
//! After a change that is meant: `INSTA_UPDATE=always cargo test --test it snapshots::`, and read the difference.

use std::process::{Command, Stdio};

use defender_sim::scenario::catalogue;
use regex::Regex;

use crate::cli::every_command;

/// Parts that differ from run to run, and what replaces them. They are applied in this order.
const REDACTIONS: [(&str, &str); 7] = [
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
    (r"defender-sim/run: (\S+)", "defender-sim/run: RUN"),
    (
        r"(mdc-simulation-(?:pods|gate|steps|key|victim|attacker))-[a-z0-9]{8}\b",
        "$1-RUN",
    ),
    (r#"\brun(\\?":\\?"|=| )[a-z0-9]{8}\b"#, "run${1}RUN"),
    (r"defender-sim-[a-z2-7]{8}\b", "defender-sim-RUN"),
    (r"\b[0-9a-f]{32,64}\b", "RANDOM"),
    (
        r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}",
        "UUID",
    ),
];

/// Both output streams of a command that does not need a cluster.
fn print(arguments: &[&str]) -> String {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-defender_sim"));
    command
        .args(arguments)
        .env_clear()
        .env("HOME", home.path())
        .stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr]
        .map(|bytes| String::from_utf8(bytes).unwrap())
        .concat();
    let text = text.replace(home.path().to_str().unwrap(), "HOME");
    let run = Regex::new("defender-sim/run: ([a-z2-7]{8})").unwrap();
    let run = run.captures(&text).map(|found| found[1].to_owned());
    let text = run.map_or_else(|| text.clone(), |run| text.replace(&run, "RUN"));
    REDACTIONS.iter().fold(text, |text, (pattern, replacement)| {
        Regex::new(pattern)
            .unwrap()
            .replace_all(&text, *replacement)
            .into_owned()
    })
}

fn assert_snapshot(name: &str, text: &str) {
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!(name, text);
    });
}

/// Asserts that a command prints what it printed before.
fn check(arguments: &[&str]) {
    let name = match arguments {
        [] => "bare".to_owned(),
        words => words.join("_").replace(':', "-"),
    };
    assert_snapshot(&name, &print(arguments));
}

#[test]
fn help_of_every_command_is_unchanged() {
    // The commands of scenarios differ in their description only.
    let is_other = |name: &String| name == "recon" || catalogue::find(name).is_none();
    for path in every_command()
        .iter()
        .filter(|path| path.first().is_none_or(is_other))
    {
        let words: Vec<&str> = std::iter::once("help")
            .chain(path.iter().map(String::as_str))
            .collect();
        check(&words);
    }
    check(&["help", "exit-codes"]);
    check(&["help", "options"]);
    check(&["recon", "-h"]);
    check(&[]);
}

#[test]
fn tables_are_unchanged() {
    for arguments in [
        &["list"][..],
        &["list", "-o", "wide"],
        &["alerts"],
        &["describe", "lateral-mov"],
        &["images", "list"],
        &["config", "view"],
        &["rights"],
        &[
            "rights",
            "-n",
            "work",
            "--namespace-scoped",
            "--subject",
            "group:ci",
        ],
        &["history"],
    ] {
        check(arguments);
    }
}

#[test]
fn plans_and_manifests_are_unchanged() {
    for scenario in catalogue::all() {
        check(&[&scenario.id, "--dry-run"]);
    }
    for scenario in ["recon", "crypto"] {
        check(&[scenario, "--dry-run", "-o", "yaml"]);
    }
}

#[test]
fn messages_are_unchanged() {
    for arguments in [
        &["recon"][..],
        &["recon", "secrets"],
        &["no-such-command"],
        &["run"],
        &["report"],
        &["recon", "--deadline", "soon"],
        &["verify", "--since", "30m"],
    ] {
        check(arguments);
    }
}
