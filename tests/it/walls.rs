//! Enforces the module boundaries by searching the source code.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Returns the files below a folder of `src`, without comments and unit tests.
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
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path.strip_prefix(&root).unwrap().to_owned(), code(&text)));
        }
    }
    assert!(!found.is_empty(), "no files below {below}");
    found
}

fn code(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line == "#[cfg(test)]" {
            // Skips the item: up to the brace in the first column, or a single line.
            let one_line = |line: &str| line.ends_with(';') || line.ends_with('}');
            if lines.next().is_some_and(|item| !one_line(item)) {
                lines.find(|line| line.starts_with('}'));
            }
        } else if !line.trim_start().starts_with("//") {
            code.push_str(line);
            code.push('\n');
        }
    }
    // Expands groups such as `use kube::{Client, ...}`.
    for krate in ["kube", "crate", "std", "tokio"] {
        code = spread(&code, krate);
    }
    code
}

/// Expands `use a::{b, c::{d, e}};` to `use a::b;use a::c::{d, e}};`, which suffices for a search.
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
fn scan_expands_groups_and_skips_tests() {
    let text = "use kube::{Client, api::{Api, Patch}, core};\n// tokio::spawn\n#[cfg(test)]\nmod tests {\n    \
                use std::net;\n}\nfn after() { std::fs::read(); }\n";
    let code = code(text);
    for found in ["kube::Client", "kube::api", "kube::core", "std::fs"] {
        assert!(code.contains(found), "{found} in {code}");
    }
    for skipped in ["tokio", "std::net"] {
        assert!(!code.contains(skipped), "{skipped} in {code}");
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

/// Asserts that only files below `owners` contain `names`.
#[track_caller]
fn reserve(owners: &[&str], names: &[&str]) {
    for (path, code) in sources("") {
        if !owners.iter().any(|owner| path.starts_with(owner)) {
            for name in names {
                assert!(!code.contains(name), "{} names {name}", path.display());
            }
        }
    }
}

/// Returns the modules of this crate that the code refers to.
fn imports(code: &str) -> BTreeSet<&str> {
    let names = code.split("crate::").skip(1);
    names
        .filter_map(|name| name.split(|c: char| !c.is_alphanumeric() && c != '_').next())
        .collect()
}

#[test]
fn modules_import_only_lower_modules() {
    for (module, lower) in [
        ("defender", &[][..]),
        (
            "error.rs",
            &[
                "azure", "cluster", "exit", "files", "kubectl", "manifest", "net", "result", "words",
            ],
        ),
        ("exit.rs", &[]),
        ("files.rs", &["untrusted"]),
        ("guard.rs", &[]),
        ("kql.rs", &[]),
        ("kubectl.rs", &["untrusted"]),
        ("net", &["files", "untrusted"]),
        ("plan.rs", &["scenario"]),
        ("manifest", &["plan", "scenario"]),
        ("result", &["defender", "exit", "scenario"]),
        ("scenario", &["defender", "untrusted", "yaml"]),
        ("untrusted.rs", &[]),
        ("words.rs", &[]),
        ("yaml.rs", &["untrusted"]),
        (
            "cluster",
            &[
                "defender",
                "files",
                "guard",
                "kubectl",
                "manifest",
                "net",
                "untrusted",
            ],
        ),
        ("azure", &["defender", "files", "net", "untrusted", "verify"]),
    ] {
        for (path, code) in sources(module) {
            let own = module.trim_end_matches(".rs");
            for name in imports(&code) {
                assert!(
                    name == own || lower.contains(&name),
                    "{} imports {name}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn only_commands_import_commands_and_the_command_line() {
    reserve(&["commands", "main.rs"], &["crate::commands"]);
    for module in ["azure", "cluster", "doctor", "engine", "verify"] {
        forbid(module, &["crate::cli", "crate::report"]);
    }
    forbid("engine", &["crate::azure", "crate::doctor", "crate::verify"]);
    forbid("report", &["crate::cli", "crate::cluster", "crate::engine"]);
    forbid("verify", &["crate::cluster", "crate::engine"]);
}

#[test]
fn pure_modules_use_no_client_no_runtime_and_no_process() {
    for module in [
        "scenario",
        "plan.rs",
        "net/proxy.rs",
        "manifest",
        "defender",
        "result",
        "error.rs",
        "guard.rs",
        "exit.rs",
        "handover",
        "kql.rs",
        "kubectl.rs",
        "untrusted.rs",
        "words.rs",
        "yaml.rs",
    ] {
        forbid(
            module,
            &[
                "kube::",
                "tokio",
                "std::net",
                "std::fs",
                "std::env::",
                "Timestamp::now",
            ],
        );
        // The exit code, a number, is the only allowed part of a process.
        for (path, code) in sources(module) {
            let code = code.replace("for std::process::ExitCode", "");
            assert!(!code.contains("std::process"), "{}", path.display());
        }
    }
}

#[test]
fn only_cluster_and_azure_open_connections_on_the_stack_of_net() {
    for (path, code) in sources("") {
        if !path.starts_with("cluster") {
            // Metadata of objects needs no client.
            let code = code.replace("kube::ResourceExt", "");
            for name in ["kube::", "use kube"] {
                assert!(!code.contains(name), "{} names {name}", path.display());
            }
        }
    }
    reserve(
        &["azure"],
        &["azure_core", "azure_identity", "management.azure.com"],
    );
    reserve(
        &["net", "azure", "cluster"],
        &["hyper", "net::http", "tokio::net", "TcpStream"],
    );
    forbid("azure", &["hyper"]);
}

#[test]
fn only_report_prints() {
    reserve(
        &["report"],
        &["println!", "print!", "eprint", "io::stdout", "io::stderr", "dbg!"],
    );
}

#[test]
fn exports_are_pure() {
    for file in [
        "export.rs",
        "handover.rs",
        "html",
        "html.rs",
        "junit.rs",
        "markdown.rs",
        "meaning.rs",
        "navigator.rs",
        "note.rs",
    ] {
        forbid(
            &format!("report/{file}"),
            &["std::fs", "std::io", "std::env::", "Timestamp::now", "Report"],
        );
    }
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
            // `reachable` is not an entry: its result decides whether the list is run.
            let is_listed = list.contains(&format!("\"{id}\", ")) || list.contains(&format!("\"{id}\",\n"));
            assert!(is_listed || id == "reachable", "{id} is not in the list");
        }
    }
}

/// Asserts that `Kubectl` builds the commands in hints.
///
/// The excepted files do not know the connection flags: their hints end with the command, and the caller completes
/// them. Help shows commands as users type them.
#[test]
fn kubectl_builds_the_commands_of_hints() {
    let offline = ["list", "describe", "alerts", "history", "verify", "completion"];
    for (path, code) in sources("") {
        let completed = [
            "cluster/explain",
            "cluster/connect",
            "cli/mod.rs",
            "cli/help.rs",
            "engine/apply.rs",
            "engine/ready.rs",
            "kubectl.rs",
        ];
        if completed.iter().any(|file| path.starts_with(file)) {
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

/// The limit for functions is one of clippy (`clippy.toml`).
#[test]
fn files_have_at_most_600_lines() {
    let mut folders = ["src", "tests", "examples"]
        .map(|folder| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder))
        .to_vec();
    while let Some(path) = folders.pop() {
        if path.is_dir() {
            folders.extend(path.read_dir().unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let lines = std::fs::read_to_string(&path).unwrap().lines().count();
            assert!(lines <= 600, "{}: {lines} lines", path.display());
        }
    }
}
