//! Plans without a cluster.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::contract::assert_keeps_to;
use crate::hints::standing_in;
use crate::range::Ran;

/// A folder of the test's own, in which commands run without a kubeconfig.
pub struct Folder(pub tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-defender_sim"));
        command.args(arguments).current_dir(self.0.path()).env_clear();
        command
            .env("HOME", self.0.path())
            .env("PATH", std::env::var_os("PATH").unwrap());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, b"")
    }

    pub fn run_with(&self, arguments: &[&str], stdin: &[u8]) -> Ran {
        finish(self.command(arguments), stdin)
    }
}

/// Runs a command to its end with this standard input.
pub fn finish(mut command: Command, stdin: &[u8]) -> Ran {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that does not read has closed the pipe.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    let output = child.wait_with_output().unwrap();
    Ran {
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code(),
    }
}

#[test]
fn dry_run_needs_no_cluster_unless_one_is_named() {
    let folder = Folder::new();
    let dry = ["webshell", "--dry-run"];
    let ran = folder.run(&dry).assert(0);
    let head = "Nothing was done, and no cluster is configured. A run would, in namespace\nmdc-simulation:\n";
    assert!(ran.stdout.starts_with(head) && ran.stderr.is_empty(), "{ran:#?}");
    let json = folder.run(&[&dry[..], &["-o", "json"]].concat()).assert(0).json();
    assert_keeps_to("plan", &json);
    assert_eq!(json["cluster"]["server"], "no cluster");
    let yaml = folder
        .run(&[&dry[..], &["-o", "yaml", "-n", "sim"]].concat())
        .assert(0)
        .stdout;
    assert!(
        yaml.contains("kind: Pod") && yaml.contains("namespace: sim"),
        "{yaml}"
    );
    folder.run(&["webshell", "--dry-run=server"]).assert(3);
    folder.run(&["webshell", "--yes"]).assert(3);
    for flags in [
        &["--context", "c"][..],
        &["--cluster", "c"],
        &["--user", "u"],
        &["--token", "t"],
        &["--kubeconfig", "/nonexistent"],
        &["--as", "u"],
        &["--insecure-skip-tls-verify"],
    ] {
        let ran = folder.run(&[&dry[..], flags].concat()).assert(3);
        assert_eq!(ran.stdout, "", "{flags:?}");
    }
    folder.write("kubeconfig", "clusters: 1");
    let mut command = folder.command(&dry);
    command.env("KUBECONFIG", "kubeconfig");
    finish(command, b"").assert(3);
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_the_api_server_was_not_asked_about_are_named() {
    let server = standing_in(|_| None).await;
    let folder = Folder::new();
    let url = server.url();
    let dry = ["webshell", "-n", "sim", "--dry-run=server", "--server", &url];
    let run = |format: &str| folder.run(&[&dry[..], &["-o", format]].concat()).assert(0);
    let plan = run("json").json();
    let objects = plan["objects"].as_array().unwrap();
    let verdict = |object: &Value| object["admission"]["verdict"].as_str().unwrap().to_owned();
    let names: Vec<&str> = objects
        .iter()
        .filter(|object| verdict(object) == "notTold")
        .map(|object| object["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        (names.len(), verdict(&objects[0])),
        (10, "admitted".to_owned()),
        "{plan:#}"
    );
    let kinds: Vec<&str> = names.iter().map(|name| name.split_once('/').unwrap().0).collect();
    let reason = "10 not asked: the namespace does not exist yet, and the API server admits nothing to it; -n names \
                  one that does";
    for format in ["table", "yaml", "name"] {
        let ran = run(format);
        let said = if format == "table" {
            &ran.stdout
        } else {
            &ran.stderr
        };
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        let (_, listed) = said
            .split_once(reason)
            .unwrap_or_else(|| panic!("{format}: {ran:#?}"));
        let listed = listed.split_once('(').unwrap().1.split_once(')').unwrap().0;
        let listed: Vec<&str> = listed
            .split(", ")
            .map(|name| name.split_once('/').unwrap().0)
            .collect();
        assert_eq!(listed, kinds, "{format}");
    }
    let quiet = folder.run(&[&dry[..], &["-q", "-o", "yaml"]].concat()).assert(0);
    assert!(quiet.stderr.starts_with("warning: 10 not asked: "), "{quiet:#?}");
}
