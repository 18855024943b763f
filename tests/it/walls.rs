//! The walls of the house: what a layer may name. A scan of the text, which is enough to notice.

use std::path::{Path, PathBuf};

/// Every file below, without comments and without its tests.
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
            found.push((path.strip_prefix(&root).unwrap().to_owned(), code(&text)));
        }
    }
    assert!(!found.is_empty(), "nothing below {below}");
    found
}

fn code(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line == "#[cfg(test)]" {
            // The item below it: to the brace in the first column, or to the end of a line of its own.
            let one_line = |line: &str| line.ends_with(';') || line.ends_with('}');
            if lines.next().is_some_and(|item| !one_line(item)) {
                lines.find(|line| line.starts_with('}'));
            }
        } else if !line.trim_start().starts_with("//") {
            code.push_str(line);
            code.push('\n');
        }
    }
    // A group at the root of a crate would hide what it names: `use kube::{Client, ...}`.
    for krate in ["kube", "crate", "std", "tokio"] {
        code = spread(&code, krate);
    }
    code
}

/// `use a::{b, c::{d, e}};` as `use a::b;use a::c::{d, e}};`, which is enough for a search.
fn spread(code: &str, krate: &str) -> String {
    let group = format!("use {krate}::{{");
    let mut parts = code.split(&group);
    let mut spread = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (mut depth, mut name) = (0, String::new());
        let group = part.split_once("};").map_or(part, |(group, _)| group);
        for letter in group.chars().chain([',']) {
            match letter {
                ',' if depth == 0 => {
                    spread.extend(["use ", krate, "::", name.trim(), ";"]);
                    name.clear();
                    continue;
                }
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            name.push(letter);
        }
        spread.push_str(&part[group.len()..]);
    }
    spread
}

#[test]
fn the_scan_sees_through_groups_and_past_tests() {
    let text = "use kube::{Client, api::{Api, Patch}, core};\n// tokio::spawn\n#[cfg(test)]\nmod tests {\n    \
                use std::net;\n}\nfn after() { std::fs::read(); }\n";
    let code = code(text);
    for seen in ["kube::Client", "kube::api", "kube::core", "std::fs"] {
        assert!(code.contains(seen), "{seen} in {code}");
    }
    for not_seen in ["tokio", "std::net"] {
        assert!(!code.contains(not_seen), "{not_seen} in {code}");
    }
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
        "net/proxy.rs",
        "manifest",
        "defender",
        "result.rs",
        "guard.rs",
        "exit.rs",
        "kubectl.rs",
        "untrusted.rs",
        "words.rs",
        "yaml.rs",
    ] {
        forbid(
            layer,
            &[
                "kube::",
                "tokio",
                "crate::cluster",
                "crate::azure",
                "crate::engine",
                "crate::report",
                "std::net",
                "std::fs",
                "std::env::",
                "Timestamp::now",
            ],
        );
        // Its exit code, which is a number, is what the pure layers may know of a process.
        for (path, code) in sources(layer) {
            let process = code.matches("std::process").count();
            assert_eq!(
                process,
                code.matches("for std::process::ExitCode").count(),
                "{}",
                path.display()
            );
        }
    }
}

#[test]
fn only_cluster_talks_to_kubernetes() {
    for (path, code) in sources("") {
        if !path.starts_with("cluster") {
            // Reading an object's metadata is no talk.
            let code = code.replace("kube::ResourceExt", "");
            for name in ["kube::", "use kube"] {
                assert!(!code.contains(name), "{} names {name}", path.display());
            }
        }
    }
}

#[test]
fn only_azure_talks_to_azure() {
    for (path, code) in sources("") {
        if path.starts_with("azure") {
            for name in [
                "crate::cluster",
                "crate::engine",
                "crate::report",
                "crate::cli",
                "crate::commands",
                "kube::",
            ] {
                assert!(!code.contains(name), "{} names {name}", path.display());
            }
        } else {
            for name in ["azure_core", "azure_identity", "management.azure.com"] {
                assert!(!code.contains(name), "{} names {name}", path.display());
            }
        }
    }
}

/// One HTTP stack beside that of the Kubernetes client, for Azure and for registries.
#[test]
fn only_net_http_speaks_http() {
    // The Kubernetes client's, which goes through the same proxies.
    let kubernetes = ["cluster/authenticate.rs", "cluster/bounds.rs"].map(Path::new);
    for (path, code) in sources("") {
        let transport = path == Path::new("net/http.rs") || kubernetes.contains(&&*path);
        assert!(
            transport || !code.contains("hyper"),
            "{} names hyper",
            path.display()
        );
        let speaks = path.starts_with("azure") || path == Path::new("net/registry.rs");
        let uses = code
            .replace("crate::net::http::tunnel", "")
            .contains("crate::net::http");
        assert!(!uses || speaks, "{} uses the transport", path.display());
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
fn exports_are_pure() {
    for file in ["export.rs", "junit.rs", "markdown.rs", "navigator.rs", "note.rs"] {
        forbid(
            &format!("report/{file}"),
            &["std::fs", "std::io", "std::env::", "Timestamp::now", "Report"],
        );
    }
}

#[test]
fn engine_and_report_meet_at_types() {
    forbid("engine", &["crate::report", "crate::cli", "crate::commands"]);
    forbid("report", &["crate::cluster", "crate::commands", "crate::engine"]);
    forbid("doctor", &["crate::report", "crate::cli", "crate::commands"]);
    forbid(
        "cluster",
        &["crate::engine", "crate::report", "crate::cli", "crate::commands"],
    );
}

#[test]
fn every_check_of_doctor_is_one_file_and_listed() {
    let folder = "doctor/checks";
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let list = std::fs::read_to_string(root.join(folder).join("mod.rs")).unwrap();
    for (path, code) in sources(folder) {
        let id = path.file_stem().unwrap().to_string_lossy().replace('_', "-");
        if id != "mod" {
            assert!(code.contains("async fn check(snapshot: &Snapshot)"), "{id}");
            // `reachable` is no entry: its result decides whether the list is run.
            let is_listed = list.contains(&format!("\"{id}\", ")) || list.contains(&format!("\"{id}\",\n"));
            assert!(is_listed || id == "reachable", "{id} is not in the list");
        }
    }
}

#[test]
fn defender_knows_nothing_and_verify_neither_engine_nor_command_line() {
    for (path, code) in sources("defender") {
        let others = code.replace("crate::defender", "");
        assert!(!others.contains("crate::"), "{} names the crate", path.display());
    }
    forbid(
        "verify",
        &["crate::engine", "crate::cli", "crate::command", "crate::report"],
    );
}

/// Commands of hints are quoted and repeat the connection flags of the call, which `Kubectl` does. Hints of the files
/// that do not know the flags end with their command, which is completed where the error is returned. Help names
/// commands as they are typed.
#[test]
fn commands_of_hints_are_built_in_one_place() {
    let offline = ["list", "describe", "alerts", "history", "verify", "completion"];
    for (path, code) in sources("") {
        let completed = [
            "cluster/explain.rs",
            "cluster/connect.rs",
            "cli/mod.rs",
            "engine/apply.rs",
            "engine/ready.rs",
            "kubectl.rs",
        ];
        if completed.iter().any(|file| path == Path::new(file)) {
            continue;
        }
        for (start, _) in code.match_indices("kubectl ") {
            let rest = &code[start + "kubectl ".len()..];
            let plugin = rest.strip_prefix("defender-sim ");
            let word = plugin.unwrap_or(rest);
            let is_offline = plugin.is_some() && offline.iter().any(|command| word.starts_with(command));
            let commands = [
                "all",
                "annotate",
                "apply",
                "auth",
                "cleanup",
                "cluster-info",
                "config",
                "create",
                "delete",
                "describe",
                "doctor",
                "get",
                "rights",
                "uncordon",
                "wait",
            ];
            let is_command = commands.iter().any(|command| {
                word.strip_prefix(command)
                    .is_some_and(|rest| rest.starts_with(' '))
            });
            let line = rest.lines().next().unwrap_or_default();
            assert!(is_offline || !is_command, "{}: kubectl {line}", path.display());
        }
    }
}
