//! The walls of the house: what a layer may name. A scan of the text, which is enough to notice.

use std::path::{Path, PathBuf};

fn sources(below: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = vec![];
    let mut folders = vec![root.join(below)];
    while let Some(path) = folders.pop() {
        if path.is_dir() {
            folders.extend(
                std::fs::read_dir(path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap().lines();
            let code: Vec<&str> = code.filter(|line| !line.trim_start().starts_with("//")).collect();
            found.push((path.strip_prefix(&root).unwrap().to_owned(), code.join("\n")));
        }
    }
    assert!(!found.is_empty(), "nothing below {below}");
    found
}

#[track_caller]
fn forbid(below: &str, names: &[&str]) {
    for (path, code) in sources(below) {
        for name in names {
            assert!(!code.contains(name), "{} names {name}", path.display());
        }
    }
}

#[test]
fn pure_layers_know_no_client_no_runtime_and_no_world() {
    for layer in [
        "scenario",
        "plan.rs",
        "manifest",
        "defender",
        "result.rs",
        "exit.rs",
        "secret.rs",
    ] {
        forbid(
            layer,
            &[
                "kube::",
                "tokio",
                "crate::cluster",
                "crate::engine",
                "crate::report",
                "std::net",
                "std::fs",
                "std::env::",
                "Timestamp::now",
            ],
        );
    }
}

#[test]
fn only_cluster_talks_to_kubernetes() {
    for (path, code) in sources("") {
        if !path.starts_with("cluster") {
            for name in [
                "kube::Client",
                "kube::api",
                "kube::Api",
                "kube::runtime",
                "kube::config",
            ] {
                assert!(!code.contains(name), "{} names {name}", path.display());
            }
        }
    }
}

#[test]
fn only_report_prints() {
    for (path, code) in sources("") {
        if !path.starts_with("report") {
            for name in ["println!", "print!", "eprint", "io::stdout", "io::stderr", "dbg!"] {
                assert!(!code.contains(name), "{} names {name}", path.display());
            }
        }
    }
}

#[test]
fn engine_and_report_meet_at_types() {
    forbid("engine", &["crate::report", "crate::cli", "crate::command"]);
    forbid("report", &["crate::cluster", "crate::command"]);
    forbid(
        "cluster",
        &["crate::engine", "crate::report", "crate::cli", "crate::command"],
    );
}
