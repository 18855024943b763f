//! Files from users: encodings, standard input, config files; and plans without a cluster.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::contract::assert_keeps_to;
use crate::hints::standing_in;
use crate::range::Ran;
use crate::results;

/// A scenario without mistakes.
pub const GOOD: &str = "\
apiVersion: defender-sim/v1
id: mine
title: t
description: d
steps:
- id: one
  title: t
  script: |
    echo hi >&2
    exit 0
  proof: p
alerts:
- id: web-shell
";

/// A folder for one test in which commands run without a kubeconfig.
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

/// Runs a command to completion with this standard input.
pub fn finish(mut command: Command, stdin: &[u8]) -> Ran {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that does not read its input has closed the pipe.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    let output = child.wait_with_output().unwrap();
    Ran {
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code(),
    }
}

/// Returns the text in each supported encoding, and truncated in the UTF-16 ones.
fn encoded(text: &str) -> ([Vec<u8>; 4], [Vec<u8>; 2]) {
    let utf16 = |bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
        let units = "\u{feff}".encode_utf16().chain(text.encode_utf16());
        units.flat_map(bytes).collect()
    };
    let (little, big) = (utf16(u16::to_le_bytes), utf16(u16::to_be_bytes));
    let torn = [&little, &big].map(|content| content[..content.len() - 1].to_vec());
    let marked = format!("\u{feff}{text}").into_bytes();
    ([text.as_bytes().to_vec(), marked, little, big], torn)
}

/// A list with an unrelated alert.
const UNRELATED: &str = r#"[{"alertType": "VM_Other", "startTimeUtc": "2020-01-01T00:00:00Z"}]"#;

#[test]
fn text_files_are_read_in_utf_8_and_utf_16() {
    let folder = Folder::new();
    let record = serde_json::to_string(&results::verified()).unwrap();
    folder.write("alerts.json", UNRELATED);
    let verify = [
        "verify",
        "--alerts",
        "alerts.json",
        "--wait",
        "0s",
        "--require-alerts",
        "none",
    ];
    for (text, arguments, good) in [
        (GOOD, vec!["lint", "file"], 0),
        (GOOD, vec!["run", "--dry-run", "-f", "file"], 0),
        ("deadline: 20m\n", vec!["config", "view", "--config", "file"], 0),
        (&record, [&verify[..], &["--record", "file"]].concat(), 0),
        (
            "web-shell: [é]\n",
            [
                &verify[..],
                &["--scenario", "webshell", "--since", "2026-01-01T00:00:00Z"],
                &["--until", "2026-01-01T00:00:01Z", "--alert-names", "file"],
            ]
            .concat(),
            0,
        ),
    ] {
        let (whole, torn) = encoded(&text.replace("title: t", "title: é 😀"));
        for content in whole {
            folder.write("file", content);
            folder.run(&arguments).assert(good);
        }
        for content in torn {
            folder.write("file", content);
            let ran = folder.run(&arguments).assert(2);
            let says = ran.stderr.contains("file") && ran.stderr.contains(", and its last character is torn");
            assert!(says, "{ran:#?}");
        }
    }
}

#[test]
fn dash_is_standard_input_once_per_command_line() {
    let folder = Folder::new();
    let record = serde_json::to_string(&results::verified()).unwrap();
    folder.write("alerts.json", UNRELATED);
    folder.write("good.yaml", GOOD);
    folder.write("-", GOOD.replace("mine", "file-of-that-name"));
    let verify = [
        "verify",
        "--alerts",
        "alerts.json",
        "--wait",
        "0s",
        "--record",
        "-",
    ];
    for (arguments, stdin, code, printed) in [
        (&["lint", "-"][..], GOOD, 0, "<stdin>: ok (mine, 1 step)\n"),
        (
            &["lint", "good.yaml", "-"],
            GOOD,
            0,
            "<stdin>: ok (mine, 1 step)\n",
        ),
        (&["lint", "./-"], "", 0, "./-: ok (file-of-that-name, 1 step)\n"),
        (
            &["lint", "-"],
            "",
            2,
            "<stdin>:1:1: error: expected a scenario, found an empty file\n",
        ),
        (&["run", "-f", "-", "--dry-run"], GOOD, 0, "mine.one: t\n"),
        (&["run", "recon", "-f-", "--dry-run"], GOOD, 0, "mine.one: t\n"),
        (
            &["run", "-f", "-", "--dry-run"],
            "id: x",
            2,
            "<stdin> cannot be used",
        ),
        (&["config", "view", "--config", "-"], "deadline: 21m", 0, "21m"),
        (
            &["config", "view", "--config=-"],
            "{",
            2,
            "the config file <stdin> cannot be used",
        ),
        (&verify, &record, 0, &results::verified().run),
        (&verify, "{}", 2, "<stdin> is not a record of a run"),
    ] {
        let ran = folder.run_with(arguments, stdin.as_bytes()).assert(code);
        assert!(
            (ran.stdout.clone() + &ran.stderr).contains(printed),
            "{arguments:?}: {ran:#?}"
        );
    }
    for arguments in [
        &["lint", "-", "-"][..],
        &["run", "-f", "-", "-f", "-", "--dry-run"],
        &["run", "-f", "-", "--config", "-", "--dry-run"],
        &["--config", "-", "verify", "--record", "-"],
        &["verify", "--record", "-", "--alert-names", "-"],
    ] {
        let ran = folder.run_with(arguments, GOOD.as_bytes()).assert(2);
        assert_eq!(
            ran.stderr, "error: standard input (-) can be read only once\n",
            "{arguments:?}"
        );
    }
    let huge = vec![b'#'; (16 << 20) + 1];
    let ran = folder.run_with(&["lint", "-"], &huge).assert(2);
    assert_eq!(
        ran.stderr,
        "<stdin>: error: failed to read it: it is larger than 16 MiB\n"
    );
}

#[test]
fn config_file_has_one_document_and_each_key_once() {
    let folder = Folder::new();
    for (text, printed) in [
        ("deadline: 21m\n---\n", Ok("21m")),
        ("---\ndeadline: 21m\n...\n---\n# c\n", Ok("21m")),
        (
            "deadline: 1m\ndeadline: 2m\n",
            Err("deadline: given twice at line 2, column 1\n"),
        ),
        (
            "deadline: 1m\n---\nwait: 2m\n",
            Err("expected one document at line 3, column 1\n"),
        ),
        ("\"a\\e[2J\": 1m\n", Err("a<U+001B>[2J: no such setting; ")),
        (
            "deadline: \"\\u202e5\"\n",
            Err("invalid value '<U+202E>5' for '--deadline"),
        ),
    ] {
        folder.write("config.yaml", text);
        let ran = folder.run(&["config", "view", "--config", "config.yaml"]);
        let (code, printed) = match printed {
            Ok(printed) => (0, printed.to_owned()),
            Err(printed) => (
                2,
                format!("error: the config file config.yaml cannot be used: {printed}"),
            ),
        };
        let text = ran.stdout.clone() + &ran.stderr;
        assert!(text.contains(&printed) && !text.contains('\u{1b}'), "{ran:#?}");
        ran.assert(code);
    }
}

#[test]
fn dry_run_needs_no_cluster_unless_one_is_named() {
    let folder = Folder::new();
    let dry = ["webshell", "--dry-run"];
    let ran = folder.run(&dry).assert(0);
    let head = "Dry run: nothing was created, and no cluster is configured. A run would, in\nnamespace mdc-simulation:\n";
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
        .filter(|object| verdict(object) == "notAsked")
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
        let printed = if format == "table" {
            &ran.stdout
        } else {
            &ran.stderr
        };
        let printed = printed.split_whitespace().collect::<Vec<_>>().join(" ");
        let (_, listed) = printed
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
