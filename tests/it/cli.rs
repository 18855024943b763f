//! The command line without a cluster: usage, help, and every connection failure.

use std::cmp::Ordering;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use defender_sim::cli;
use defender_sim::exit::Exit;
use defender_sim::scenario::catalogue;

const BINARY: &str = env!("CARGO_BIN_EXE_kubectl-defender_sim");

fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(BINARY);
    command
        .args(arguments)
        .env_remove("KUBECONFIG")
        .env_remove("HTTPS_PROXY")
        .env_remove("https_proxy");
    command
        .env("HOME", "/nonexistent")
        .envs(variables.iter().copied())
        .stdin(Stdio::null());
    command.output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn misspelt_variables_are_named() {
    let output = run(
        &["list"],
        &[
            ("DEFENDER_SIM_DEADLNE", "5m"),
            ("DEFENDER_SIM_DEADLINE", "5m"),
            ("DEFENDER_SIMS", "1"),
        ],
    );
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        stderr(&output),
        "warning: the variable DEFENDER_SIM_DEADLNE is not a setting (config view --output wide lists them)\n"
    );
}

#[test]
fn errors_are_annotated_in_pipelines() {
    for (variable, annotation) in [
        (
            "GITHUB_ACTIONS",
            "::error title=defender-sim::no cluster is configured",
        ),
        (
            "TF_BUILD",
            "##vso[task.logissue type=error]defender-sim: no cluster is configured",
        ),
    ] {
        let output = run(&["recon"], &[(variable, "true")]);
        assert_eq!(output.status.code(), Some(3));
        let lines = stderr(&output);
        assert!(lines.lines().any(|line| line.starts_with(annotation)), "{lines}");
        let output = run(&["recon"], &[(variable, "false")]);
        assert!(!stderr(&output).contains(annotation));
    }
}

#[test]
fn habits_get_a_tip() {
    for (arguments, tip) in [
        (
            &["recon", "secrets"][..],
            "tip: several scenarios are run with: kubectl defender-sim run A B",
        ),
        (
            &["recon", "-f", "x.yaml"],
            "tip: a scenario file is run with: kubectl defender-sim run -f FILE",
        ),
        (
            &["recon", "--dry-run", "server"],
            "tip: the value of --dry-run follows =, as in --dry-run=server",
        ),
        (&["list", "-v6"], "tip: -v takes no level"),
        (&["list", "-v=6"], "tip: -v takes no level"),
        (&["list", "--v=6"], "tip: -v takes no level"),
        (
            &["recon", "--all-namespaces"],
            "tip: without -n, cleanup and history look at every namespace",
        ),
        (
            &["scenarios"],
            "tip: scenarios are listed with: kubectl defender-sim list",
        ),
        (
            &["dr"],
            "tip: the cluster is checked with: kubectl defender-sim doctor",
        ),
    ] {
        let output = run(arguments, &[]);
        let printed = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(
            printed.contains(tip) && printed.matches("tip: ").count() == 1,
            "{arguments:?}: {printed}"
        );
    }
    let output = run(&["version", "--client"], &[]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
}

#[test]
fn bad_usage_is_2_and_names_what_is_wrong() {
    for (arguments, named) in [
        (&["recon", "--no-such-flag"][..], "--no-such-flag"),
        (&["no-such-scenario"], "no-such-scenario"),
        (&["run", "no-such-scenario"], "no-such-scenario"),
        (&["recon", "--deadline", "soon"], "soon"),
        (&["recon", "--as-user-extra", "novalue"], "novalue"),
        (&["recon", "-o", "xml"], "xml"),
        (&["describe", "no-such-scenario"], "no-such-scenario"),
        (&["lint", "/nonexistent/file"], "/nonexistent/file"),
        (&["run", "recon", "recon"], "recon is named twice"),
        (&["run"], "SCENARIO"),
    ] {
        let output = run(arguments, &[]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(
            stderr(&output).contains(named),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn what_keeps_it_from_a_cluster_is_3_and_named_with_the_next_command() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = file(
        "good",
        r#"{"apiVersion":"v1","kind":"Config","current-context":"c","contexts":[{"name":"c","context":{"cluster":"k","user":""}}],"clusters":[{"name":"k","cluster":{"server":"https://127.0.0.1:1"}}]}"#,
    );
    let bad = file("bad", "clusters: [");
    for (arguments, kubeconfig, named, hint) in [
        (&["recon"][..], None, "no cluster is configured", "--kubeconfig"),
        (&["recon"], Some(&bad), bad.as_str(), "kubectl config view"),
        (
            &["recon", "--context", "nowhere"],
            Some(&good),
            "\"nowhere\"",
            "kubectl config get-contexts",
        ),
        (
            &["recon"],
            Some(&good),
            "refuses the connection",
            "kubectl config view",
        ),
        (
            &["cleanup"],
            Some(&good),
            "refuses the connection",
            "kubectl config view",
        ),
        (
            &["recon", "--server", "ftp://x"],
            Some(&good),
            "ftp://x",
            "https://",
        ),
    ] {
        let begun = Instant::now();
        let variables: Vec<(&str, &str)> = kubeconfig
            .iter()
            .map(|path| ("KUBECONFIG", path.as_str()))
            .collect();
        let output = run(arguments, &variables);
        let printed = stderr(&output);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {printed}");
        assert!(printed.contains(named), "{arguments:?}: {printed}");
        assert!(
            printed.contains("hint: ") && printed.contains(hint),
            "{arguments:?}: {printed}"
        );
        assert_eq!(
            printed.lines().filter(|line| line.starts_with("error:")).count(),
            1,
            "{printed}"
        );
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}

/// Returns the words of every command, including the program itself.
pub fn every_command() -> Vec<Vec<String>> {
    fn collect(command: &clap::Command, path: &[String], all: &mut Vec<Vec<String>>) {
        all.push(path.to_vec());
        for sub in command.get_subcommands() {
            collect(sub, &[path, &[sub.get_name().to_owned()]].concat(), all);
        }
    }
    let mut all = vec![];
    collect(&cli::command(), &[], &mut all);
    all
}

#[test]
fn help_fits_80_columns() {
    for command in every_command() {
        for flag in ["-h", "--help"] {
            let command: Vec<&str> = command.iter().map(String::as_str).collect();
            let output = run(&[&command[..], &[flag]].concat(), &[("COLUMNS", "200")]);
            assert_eq!(output.status.code(), Some(0));
            for line in stdout(&output).lines() {
                assert!(line.chars().count() <= 80, "{command:?}: {line}");
            }
        }
    }
}

#[test]
fn help_on_exit_codes_names_each() {
    let help = stdout(&run(&["help", "exit-codes"], &[]));
    for (exit, meaning) in Exit::ALL {
        let line = help
            .lines()
            .find(|line| line.trim_start().starts_with(&format!("{} ", exit.code())));
        assert!(
            line.is_some_and(|line| line.ends_with(meaning)),
            "{} in {help}",
            exit.code()
        );
    }
}

#[test]
fn it_is_called_what_the_user_called_it() {
    let output = Command::new(BINARY)
        .arg0("/some/where/kubectl-defender_sim")
        .arg("--help")
        .output()
        .unwrap();
    assert!(
        stdout(&output).contains("Usage: kubectl defender-sim"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let script = format!("{BINARY} --help | head -1; echo ${{PIPESTATUS[0]}}");
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    assert!(stdout(&output).ends_with("\n0\n"), "{}", stdout(&output));
    assert_eq!(stderr(&output), "");
}

#[test]
fn the_version_is_that_of_the_package() {
    let output = run(&["--version"], &[]);
    assert_eq!(output.status.code(), Some(0));
    let version = concat!(" ", env!("CARGO_PKG_VERSION"), "\n");
    assert!(stdout(&output).ends_with(version), "{}", stdout(&output));
    assert_eq!(stderr(&output), "");
}

const ESCAPE: char = '\u{1b}';

#[test]
fn no_colour_but_at_a_terminal_or_on_demand() {
    let printed = |arguments: &[&str], variables: &[(&str, &str)]| {
        let output = run(arguments, variables);
        stdout(&output) + &stderr(&output)
    };
    for arguments in [
        &["recon"][..],
        &["version"],
        &["cleanup", "-o", "json"],
        &["--help"],
        &["recon", "-x"],
    ] {
        assert!(!printed(arguments, &[]).contains(ESCAPE), "{arguments:?}");
    }
    assert!(printed(&["recon", "--color", "always"], &[]).contains(ESCAPE));
    assert!(!printed(&["recon", "--color", "never"], &[("CLICOLOR_FORCE", "1")]).contains(ESCAPE));
}

/// Runs the program with both streams at a terminal.
fn at_a_terminal(arguments: &str, no_color: bool) -> String {
    let mut command = Command::new("script");
    command
        .args(["-qec", &format!("{BINARY} {arguments}"), "/dev/null"])
        .env_remove("KUBECONFIG")
        .env("HOME", "/nonexistent")
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .stdin(Stdio::null());
    if no_color {
        command.env("NO_COLOR", "1");
    }
    stdout(&command.output().unwrap())
}

#[test]
fn a_terminal_gets_colour_unless_it_is_refused() {
    assert!(
        at_a_terminal("recon", false).contains("\u{1b}[1m\u{1b}[31merror"),
        "{}",
        at_a_terminal("recon", false)
    );
    let painted = "\u{1b}[1m\u{1b}[31merror";
    assert!(at_a_terminal("list --nope", false).contains(painted));
    for (arguments, no_color) in [
        ("recon", true),
        ("--help", true),
        ("recon --color never", false),
        ("list --nope", true),
        ("list --nope --color never", false),
        ("list --color=never --nope", false),
        ("--help --color never", false),
    ] {
        let shown = at_a_terminal(arguments, no_color);
        assert!(shown.contains("error: ") || shown.contains("Usage: "), "{shown}");
        // The cursor may move, but nothing may be coloured.
        assert!(
            !shown.contains("\u{1b}[1m") && !shown.contains("\u{1b}[3") && !shown.contains("\u{1b}[4m"),
            "{shown:?}"
        );
    }
}

#[test]
fn quiet_leaves_out_what_is_only_reassuring() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.yaml");
    std::fs::write(
        &file,
        stdout(&run(&["describe", "lateral-mov", "-o", "yaml"], &[])),
    )
    .unwrap();
    let lint = ["lint", file.to_str().unwrap()];
    let printed = stderr(&run(&lint, &[]));
    assert!(printed.ends_with(": ok (lateral-mov, 1 step)\n"), "{printed}");
    assert_eq!(stderr(&run(&[&lint[..], &["-q"]].concat(), &[])), "");
    let install = ["completion", "--install", folder.path().to_str().unwrap()];
    assert!(stderr(&run(&install, &[])).contains("wrote "));
    let quiet = run(&[&install[..], &["-q"]].concat(), &[]);
    assert_eq!((stderr(&quiet).as_str(), quiet.status.code()), ("", Some(0)));
}

#[test]
fn the_readme_agrees_with_the_code() {
    let readme = include_str!("../../README.md");
    for scenario in catalogue::all() {
        let row = format!("| `{}` | {} |", scenario.id, scenario.title);
        assert!(readme.contains(&row), "README.md lacks: {row}");
    }
    for (exit, meaning) in Exit::ALL {
        let row = format!("| {} | {meaning} |", exit.code());
        assert!(readme.contains(&row), "README.md lacks: {row}");
    }
    let mut codes = Exit::ALL.map(|(exit, _)| exit);
    codes.sort_by(|a, b| {
        if a.worse(*b) == *a {
            Ordering::Less
        } else {
            Ordering::Greater
        }
    });
    let failures = codes.iter().filter(|exit| **exit != Exit::Ok);
    let order: Vec<String> = failures.map(|exit| exit.code().to_string()).collect();
    let sentence = format!("the first of {} is returned", order.join(", "));
    assert!(readme.contains(&sentence), "README.md lacks: {sentence}");
    assert!(readme.contains("Not affiliated with Microsoft"));
}

#[test]
fn what_there_is_can_be_seen_without_a_cluster() {
    let list = stdout(&run(&["list"], &[]));
    let alerts = stdout(&run(&["alerts", "-o", "json"], &[]));
    let known: serde_json::Value = serde_json::from_str(&alerts).unwrap();
    for scenario in catalogue::all() {
        assert!(
            list.lines()
                .any(|line| line.starts_with(&format!("{} ", scenario.id))),
            "{list}"
        );
        let described = stdout(&run(&["describe", &scenario.id], &[]));
        let described = described.split_whitespace().collect::<Vec<_>>().join(" ");
        for step in &scenario.steps {
            assert!(
                described.contains(&format!("Step {}: {}", step.id, step.title)),
                "{described}"
            );
        }
        for expected in &scenario.alerts {
            assert!(
                known
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|alert| alert["id"] == expected.id.as_str())
            );
        }
        let file = stdout(&run(&["describe", &scenario.id, "-o", "yaml"], &[]));
        assert_eq!(
            defender_sim::scenario::Scenario::from_yaml(&file).unwrap(),
            *scenario
        );
    }
    for line in list.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn what_is_described_fits_80_columns_but_for_scripts() {
    let image = "--image-registry=registry.example.com/a/path/that/is/as/long/as/a/path/may/be";
    let dry = ["--server", "https://127.0.0.1:1", "--dry-run", "-n", "sim", image];
    for scenario in catalogue::all() {
        let scripts: Vec<&str> = scenario
            .steps
            .iter()
            .flat_map(|step| step.text().lines())
            .collect();
        for arguments in [
            vec!["describe", &scenario.id],
            [&[scenario.id.as_str()][..], &dry].concat(),
        ] {
            let printed = stdout(&run(&arguments, &[]));
            for line in printed.lines() {
                // The image of an object, which is printed as it is sent.
                let image = line.trim().starts_with("image: ");
                let script = image || scripts.iter().any(|script| line.trim() == script.trim());
                assert!(script || line.chars().count() <= 80, "{arguments:?}: {line}");
            }
        }
    }
    // A paragraph is printed as one, regardless of its line breaks in the source.
    let help = stdout(&run(&["recon", "--help"], &[]));
    let description = help.split("\n\n").nth(1).unwrap();
    let lines: Vec<&str> = description.lines().collect();
    for pair in lines.windows(2) {
        let next = pair[1].split(' ').next().unwrap();
        assert!(pair[0].len() + 1 + next.len() > 80, "{description}");
    }
}

#[test]
fn a_dry_run_says_everything_and_reaches_nobody() {
    let server = ["--server", "https://127.0.0.1:1", "--dry-run"];
    let plan = stdout(&run(&[&["crypto"][..], &server].concat(), &[]));
    for part in [
        "https://127.0.0.1:1",
        "namespace mdc-simulation",
        "pod/mdc-simulation-victim",
        "./xmrig",
        "mdc-simulation-attacker:80",
        "after 15m.",
        "The namespace is created for the run, and deleted afterwards.",
        "Kubernetes CPU optimization",
    ] {
        assert!(plan.contains(part), "no {part:?} in {plan}");
    }
    let json: serde_json::Value = serde_json::from_str(&stdout(&run(
        &[&["crypto", "-o", "json"][..], &server].concat(),
        &[],
    )))
    .unwrap();
    assert_eq!(json["schema"], "defender-sim/plan/v2");
    assert_eq!(json["steps"].as_array().unwrap().len(), 4);
    let manifests = stdout(&run(
        &[&["crypto", "-n", "sim", "-o", "yaml"][..], &server].concat(),
        &[],
    ));
    let go = "kubectl annotate pod mdc-simulation-attacker defender-sim/go=yes -n sim --server https://127.0.0.1:1\n";
    assert!(manifests.contains(go), "{manifests}");
    let named = stdout(&run(&[&["crypto", "-n", "sim"][..], &server].concat(), &[]));
    let stays =
        "The namespace is used and kept if it exists; otherwise it is created, and\n   deleted afterwards.";
    assert!(named.contains(stays), "{named}");
}

#[test]
fn the_baseline_is_a_flag_of_every_run_and_no_command() {
    let server = ["--server", "https://127.0.0.1:1", "--dry-run", "--baseline"];
    for run in [&["crypto"][..], &["all"], &["run", "recon", "secrets"]] {
        let output = self::run(&[run, &server].concat(), &[]);
        let printed = stdout(&output);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        for part in [
            "baseline.visit: ask the web server for a page",
            "No alert is expected.",
        ] {
            assert!(printed.contains(part), "{part} in {printed}");
        }
        assert!(!printed.contains("crypto."), "{printed}");
    }
    assert_eq!(run(&["baseline"], &[]).status.code(), Some(2));
}
