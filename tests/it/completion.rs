//! Shell scripts, answers for kubectl and manual pages: without a cluster, with a fake one, and with the real kubectl.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use defender_sim::cli;
use defender_sim::scenario::catalogue;
use serde_json::json;
use tempfile::TempDir;

use crate::apiserver::{ApiServer, failure, json as answer};
use crate::range::{Ran, Running, Space, run_inside, shared, sim};
use crate::results;

const BINARY: &str = env!("CARGO_BIN_EXE_kubectl-defender_sim");
const SHIM: &str = "kubectl_complete-defender_sim";

const TWO: &str = "
current-context: blue
contexts:
- {name: blue, context: {cluster: b, user: ann}}
- {name: red, context: {cluster: r, user: bob, namespace: x}}
- {name: \"torn\\nname\", context: {cluster: r, user: bob}}
clusters:
- {name: b, cluster: {server: 'SERVER'}}
- {name: r, cluster: {server: 'https://127.0.0.1:1'}}
users:
- {name: ann, user: {token: t}}
- {name: bob, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: PLUGIN, interactiveMode: Never}}}
";

/// A folder for one test that contains the kubeconfig.
struct Home(TempDir);

impl Home {
    fn new(kubeconfig: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("config"), kubeconfig).unwrap();
        Self(home)
    }

    /// Writes an executable file to the folder.
    fn program(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let path = std::env::var("PATH").unwrap();
        let mut command = Command::new(BINARY);
        command.args(arguments).env_clear().env("HOME", "/nonexistent");
        command.env("PATH", format!("{}:{path}", self.0.path().display()));
        command.env("KUBECONFIG", self.0.path().join("config"));
        command.env("XDG_STATE_HOME", self.0.path());
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// Returns the lines of the answer for these words. Asserts that nothing else is printed.
    fn complete(&self, words: &[&str]) -> Vec<String> {
        let output = self.run(&[&["__complete"], words].concat());
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{words:?}");
        assert_eq!(output.status.code(), Some(0), "{words:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Returns the candidates without descriptions, and the directive.
    fn values(&self, words: &[&str]) -> Vec<String> {
        let lines = self.complete(words).into_iter();
        lines
            .map(|line| line.split('\t').next().unwrap().to_owned())
            .collect()
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn words_are_completed_as_kubectl_does_it() {
    let home = Home::new(TWO);
    let commands = home.complete(&[""]);
    for scenario in catalogue::all() {
        let line = format!("{}\t{}", scenario.id, scenario.title);
        assert!(commands.contains(&line), "no {line:?} in {commands:?}");
        assert!(home.complete(&["describe", ""]).contains(&line));
        assert!(home.complete(&["run", ""]).contains(&line));
    }
    assert_eq!(home.complete(&[]), commands);
    assert!(!commands.iter().any(|line| line.starts_with('-')), "{commands:?}");
    for (words, expected) in [
        (&["rec"][..], &["recon", ":4"][..]),
        (&["recon", ""], &[":4"]),
        (&["recon", "--contex"], &["--contexts", "--context", ":4"]),
        (
            &["verify", "--expect", "malware-"],
            &["malware-execution", "malware-blocked", ":4"],
        ),
        (&["recon", "--color="], &["auto", "always", "never", ":4"]),
        (&["recon", "--color", "a"], &["auto", "always", ":4"]),
        (&["recon", "-oj"], &["-ojson", "-ojsonl", ":4"]),
        (&["recon", "--dry-run", ""], &[":4"]),
        (&["recon", "--dry-run=c"], &["client", ":4"]),
        (&["run", "recon", "re"], &[":4"]),
        (&["images", ""], &["list", ":4"]),
        (&["completion", "z"], &["zsh", ":4"]),
        // The shell completes files.
        (&["lint", ""], &[":0"]),
        (&["recon", "--kubeconfig", "x"], &[":0"]),
        (&["recon", "--config=x"], &[":0"]),
        (&["run", "-f", ""], &[":0"]),
        (&["completion", "--install", ""], &[":0"]),
        (&["man", ""], &[":0"]),
        (&["recon", "--token", ""], &[":4"]),
        (&["no-such-command", "--colo"], &["--color", ":4"]),
    ] {
        assert_eq!(home.values(words), expected, "{words:?}");
    }
}

#[test]
fn every_long_flag_is_offered() {
    let home = Home::new(TWO);
    let mut command = cli::command();
    command.build();
    for sub in command.get_subcommands() {
        let offered = home.values(&[sub.get_name(), "--"]);
        for flag in sub.get_arguments().filter_map(|arg| arg.get_long()) {
            assert!(
                offered.contains(&format!("--{flag}")),
                "{} --{flag}",
                sub.get_name()
            );
        }
    }
}

#[test]
fn names_are_those_of_the_kubeconfig_that_is_meant() {
    let home = Home::new(TWO);
    for (words, expected) in [
        (&["recon", "--context", ""][..], &["blue", "red", ":4"][..]),
        (&["--context", "r"], &["red", ":4"]),
        (&["recon", "--context=b"], &["blue", ":4"]),
        (&["doctor", "--contexts", "blue,r"], &["blue,red", ":4"]),
        (&["recon", "--cluster", ""], &["b", "r", ":4"]),
        (&["--user="], &["ann", "bob", ":4"]),
        (&["run", "--user", ""], &["ann", "bob", ":4"]),
        // The target of an invalid command line is unknown.
        (&["recon", "--no-such-flag", "--user", ""], &[":4"]),
    ] {
        assert_eq!(home.values(words), expected, "{words:?}");
    }
    let other = home.0.path().join("other");
    std::fs::write(
        &other,
        "contexts: [{name: green, context: {cluster: g, user: g}}]",
    )
    .unwrap();
    let other = other.to_str().unwrap();
    for words in [
        ["recon", "--kubeconfig", other, "--context", ""],
        ["--kubeconfig", other, "recon", "--context", ""],
    ] {
        assert_eq!(home.values(&words), ["green", ":4"]);
    }
}

#[test]
fn what_fails_is_not_offered_and_not_spoken_of() {
    let plugin = |name: &str, text: &str, mode: &str| {
        let home = Home::new("");
        let path = home.program(name, text);
        std::fs::write(
            home.0.path().join("config"),
            TWO.replace("PLUGIN", &path)
                .replace("interactiveMode: Never", &format!("interactiveMode: {mode}"))
                .replace("SERVER", "https://127.0.0.1:1"),
        )
        .unwrap();
        home
    };
    let asks = "#!/bin/sh\necho your name >&2\nread name\ntouch \"$0.ran\"\nexit 1\n";
    let never = plugin("asks", asks, "IfAvailable");
    let always = plugin("asks", asks, "Always");
    let hangs = plugin("hangs", "#!/bin/sh\nexec sleep 10\n", "Never");
    let broken = Home::new("contexts: [");
    let none = Home::new("");
    for (home, context) in [
        (&never, "red"),
        (&always, "red"),
        (&hangs, "red"),
        (&never, "blue"),
        (&never, "nowhere"),
        (&broken, "red"),
        (&none, "red"),
    ] {
        for words in [
            ["recon", "--context", context, "-n", ""],
            ["cleanup", "--context", context, "--run", ""],
        ] {
            let begun = Instant::now();
            assert_eq!(home.values(&words), [":4"], "{words:?}");
            assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        }
    }
    assert!(
        never.0.path().join("asks.ran").exists(),
        "it got no answer, and ended"
    );
    assert!(!always.0.path().join("asks.ran").exists());
    assert_eq!(broken.values(&["recon", "--context", ""]), [":4"]);
}

#[test]
fn runs_with_a_record_are_those_of_this_machine() {
    let home = Home::new("");
    assert_eq!(home.values(&["report", ""]), [":4"]);
    let folder = home.0.path().join("defender-sim/runs");
    std::fs::create_dir_all(&folder).unwrap();
    let record = serde_json::to_string(&results::mixed()).unwrap();
    std::fs::write(folder.join("k7.json"), record).unwrap();
    for command in ["report", "verify"] {
        let expected = ["k7\tone two at 2026-01-02T03:04:05Z", ":4"];
        assert_eq!(home.complete(&[command, ""]), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_and_runs_are_asked_from_the_cluster() {
    let server = ApiServer::start(|request| {
        let object = |name: &str, namespace: &str, run: &str| {
            json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata":
                   {"name": name, "namespace": namespace, "labels": {"defender-sim/run": run}}})
        };
        let items = match request.path.split('?').next().unwrap() {
            "/api/v1/namespaces" => vec![object("default", "", ""), object("de\u{1b}[2J", "", "")],
            "/apis/batch/v1/jobs" => vec![object("mdc-simulation", "a", "abcdabcd"), object("mdc-simulation", "b", "bcdebcde")],
            "/apis/batch/v1/namespaces/b/jobs" => vec![object("mdc-simulation", "b", "bcdebcde")],
            _ => return failure(404, "NotFound", "no such path"),
        };
        answer(
            200,
            &json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {}, "items": items}),
        )
    })
    .await;
    let home = Home::new(&TWO.replace("SERVER", &server.url()));
    for (words, expected) in [
        (&["recon", "-n", ""][..], &["default", ":4"][..]),
        (&["-n", "x"], &[":4"]),
        (&["recon", "--context=blue", "--namespace=d"], &["default", ":4"]),
        (&["recon", "--context", "red", "-n", ""], &[":4"]),
        (
            &["cleanup", "--run", ""],
            &["abcdabcd\tin namespace a", "bcdebcde\tin namespace b", ":4"],
        ),
        (
            &["cleanup", "-n", "b", "--run", ""],
            &["bcdebcde\tin namespace b", ":4"],
        ),
        (&["cleanup", "--run=a"], &["abcdabcd\tin namespace a", ":4"]),
    ] {
        assert_eq!(home.complete(words), expected, "{words:?}");
    }
    let requests = server.requests();
    assert!(requests.iter().all(|request| request.method == "GET"));
    let jobs = requests
        .iter()
        .find(|request| request.path.contains("/jobs"))
        .unwrap();
    assert!(
        jobs.path.contains("labelSelector=defender-sim%2Frun"),
        "{}",
        jobs.path
    );
    assert!(jobs.header("user-agent").ends_with(" (completion)"));
}

#[test]
fn shells_accept_their_scripts() {
    let home = Home::new(TWO);
    for (shell, checks) in [
        ("bash", Some(["bash", "-n"])),
        ("zsh", Some(["zsh", "-n"])),
        ("fish", Some(["fish", "--no-execute"])),
        ("powershell", None),
        ("elvish", None),
    ] {
        let output = home.run(&["completion", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        assert_eq!(stderr(&output), "");
        let script = home.0.path().join(shell);
        std::fs::write(&script, &output.stdout).unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            text.contains("kubectl-defender_sim") && text.contains("lateral-mov"),
            "{shell}"
        );
        let Some([program, flag]) = checks else { continue };
        // Shells that are not installed are skipped; bash always is installed.
        match Command::new(program).arg(flag).arg(&script).output() {
            Ok(checked) => assert!(checked.status.success(), "{shell}: {}", stderr(&checked)),
            Err(error) => assert!(shell != "bash", "{error}"),
        }
    }
    let line = "COMP_WORDS=(kubectl-defender_sim rec); COMP_CWORD=1; \
                _kubectl__defender_sim kubectl-defender_sim rec kubectl-defender_sim; echo \"${COMPREPLY[@]}\"";
    let script = home.0.path().join("bash");
    let line = format!(". {}; {line}", script.display());
    let completed = Command::new("bash").args(["-c", &line]).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&completed.stdout),
        "recon\n",
        "{}",
        stderr(&completed)
    );
}

/// Creates a folder with the plugin's link and the completer, as installed by krew.
fn installed() -> Home {
    let home = Home::new(TWO);
    std::os::unix::fs::symlink(BINARY, home.0.path().join("kubectl-defender_sim")).unwrap();
    let output = home.run(&["completion", "--install"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let shim = home.0.path().join(SHIM);
    let printed = format!(
        "wrote {}\ncheck it: kubectl __complete defender-sim \"\"\n",
        shim.display()
    );
    assert_eq!(stderr(&output), printed);
    home
}

#[test]
fn the_shim_answers_and_can_be_written_again() {
    let home = installed();
    let shim = home.0.path().join(SHIM);
    let path = format!("{}:{}", home.0.path().display(), std::env::var("PATH").unwrap());
    let output = Command::new(&shim)
        .args(["rec"])
        .env("PATH", path)
        .output()
        .unwrap();
    assert!(
        String::from_utf8_lossy(&output.stdout).starts_with("recon\t"),
        "{output:?}"
    );

    let old = std::fs::read_to_string(&shim).unwrap() + "# an older one\n";
    std::fs::write(&shim, old).unwrap();
    assert_eq!(home.run(&["completion", "--install"]).status.code(), Some(0));
    assert!(!std::fs::read_to_string(&shim).unwrap().contains("older"));

    // A symbolic link with that name works as well.
    let link = home.0.path().join("kubectl_complete-defender_sim.link");
    std::os::unix::fs::symlink(BINARY, &link).unwrap();
    let output = Command::new(&link).args(["rec"]).output().unwrap();
    assert!(
        String::from_utf8_lossy(&output.stdout).starts_with("recon\t"),
        "{output:?}"
    );
}

#[test]
fn the_shim_goes_only_where_it_may() {
    let home = Home::new(TWO);
    let refused = |arguments: &[&str]| {
        let output = home.run(&[&["completion", "--install"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let printed = stderr(&output);
        assert!(
            printed.contains("kubectl defender-sim completion --install DIR"),
            "{printed}"
        );
        printed
    };
    assert!(refused(&[]).contains("kubectl-defender_sim is not on PATH"));
    for folder in ["/nonexistent/folder", "/proc"] {
        assert!(refused(&[folder]).contains(folder));
    }
    let folder = home.0.path().join("folder");
    std::fs::create_dir(&folder).unwrap();
    let shim = folder.join(SHIM);
    let folder = folder.to_str().unwrap();
    std::fs::write(&shim, "#!/bin/sh\necho mine\n").unwrap();
    assert!(refused(&[folder]).contains("was not written by this tool"));
    assert_eq!(std::fs::read_to_string(&shim).unwrap(), "#!/bin/sh\necho mine\n");
    std::fs::remove_file(&shim).unwrap();
    std::os::unix::fs::symlink("/nonexistent/target", &shim).unwrap();
    assert!(refused(&[folder]).contains("was not written by this tool"));
    std::fs::remove_file(&shim).unwrap();

    let output = home.run(&["completion", "--install", folder]);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        stderr(&output).contains("which does not have this folder"),
        "{}",
        stderr(&output)
    );
    let mode = shim.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111, "{mode:o}");
    let both = home.run(&["completion", "bash", "--install"]);
    assert_eq!(both.status.code(), Some(2));
}

#[test]
fn every_command_has_a_manual_page() {
    let home = Home::new(TWO);
    let page = String::from_utf8(home.run(&["man"]).stdout).unwrap();
    let folder = home.0.path().join("man/man1");
    let output = home.run(&["man", folder.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let read = |name: &str| std::fs::read_to_string(folder.join(format!("{name}.1"))).unwrap();
    assert_eq!(read("kubectl-defender_sim"), page);
    assert!(
        page.contains("\\fBkubectl defender\\-sim\\fR") && page.contains("Exit codes"),
        "{page}"
    );
    for sub in cli::command().get_subcommands() {
        let name = format!("kubectl-defender_sim-{}", sub.get_name());
        assert!(read(&name).contains(&format!(".TH {name} 1")), "{name}");
    }
    assert!(folder.join("kubectl-defender_sim-config-view.1").exists());
    let output = home.run(&["man", "/proc/no/folder"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("/proc/no/folder"), "{}", stderr(&output));
}

/// Runs `kubectl __complete defender-sim WORDS` with the folder of the shim in `PATH`.
fn kubectl_complete(folder: &Path, words: &[&str]) -> Ran {
    let script = "PATH=\"$0:$PATH\" exec kubectl __complete defender-sim \"$@\"";
    run_inside(&[&["sh", "-c", script, folder.to_str().unwrap()], words].concat()).assert(0)
}

/// Returns kubectl's candidates without descriptions.
fn kubectl_values(home: &Home, words: &[&str]) -> Vec<String> {
    let ran = kubectl_complete(home.0.path(), words);
    // kubectl logs what it does; the plugin prints nothing.
    let foreign = |line: &&str| !line.starts_with("[Debug] ") && !line.starts_with("Completion ended with");
    assert_eq!(ran.stderr.lines().find(foreign), None, "{words:?}");
    let lines = ran.stdout.lines();
    lines
        .map(|line| line.split('\t').next().unwrap().to_owned())
        .collect()
}

#[test]
#[ignore = "needs the range: make range"]
fn kubectl_completes_the_plugin() {
    let _shared = shared();
    let home = installed();
    assert!(
        kubectl_complete(home.0.path(), &["rec"])
            .stdout
            .starts_with("recon\tReconnaissance from a compromised web application\n:4")
    );
    for (words, expected) in [
        (&["describe", "web"][..], &["webshell", ":4"][..]),
        (&["recon", "--namesp"], &["--namespace", ":4"]),
        (&["recon", "--context", ""], &["range", ":4"]),
        (&["recon", "--context", "nowhere", "-n", ""], &[":4"]),
        (&["-n", "kube-s"], &["kube-system", ":4"]),
        (&["recon", "--namespace=kube-s"], &["kube-system", ":4"]),
        (&["recon", "--as", "nobody", "-n", ""], &[":4"]),
        (&["recon", "--server", "https://192.0.2.1", "-n", ""], &[":4"]),
        (&["lint", ""], &[":0"]),
    ] {
        assert_eq!(kubectl_values(&home, words), expected, "{words:?}");
    }
    // Without the shim, kubectl does not know the plugin's words.
    std::fs::remove_file(home.0.path().join(SHIM)).unwrap();
    let without = kubectl_values(&home, &["rec"]);
    assert!(!without.contains(&"recon".to_owned()), "{without:?}");
}

#[test]
#[ignore = "needs the range: make range"]
fn kubectl_completes_the_ids_of_runs() {
    let _shared = shared();
    let home = installed();
    let space = Space::named("completion");
    let mut running = Running::start(&["webshell", "-n", &space.0, "--keep"]);
    let run = running.run();
    running.end().assert(0);
    let offered = |words: &[&str]| kubectl_values(&home, &[&["cleanup"], words].concat());
    assert!(offered(&["--run", ""]).contains(&run));
    assert_eq!(offered(&["-n", &space.0, "--run", ""]), [run.as_str(), ":4"]);
    assert_eq!(offered(&["-n", "default", "--run", ""]), [":4"]);
    assert_eq!(offered(&["--as", "nobody", "--run", ""]), [":4"]);
    sim(&["cleanup", "--run", &run, "-n", &space.0]).assert(0);
    assert_eq!(offered(&["-n", &space.0, "--run", ""]), [":4"]);
}
