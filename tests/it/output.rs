//! Output: standard output that cannot be written, and report files.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::apiserver::failure;
use crate::contract::assert_keeps_to;
use crate::hints::standing_in;
use crate::verify::{Machine, RECON, alert, recon};

/// Every command that prints, in every distinct format, with its exit code. ALL and NONE are files with alerts.
const PRINTING: [(&str, i32); 28] = [
    ("list", 0),
    ("list -o wide", 0),
    ("list -o json", 0),
    ("list -o yaml", 0),
    ("list -o name", 0),
    ("describe recon", 0),
    ("alerts", 0),
    ("history", 0),
    ("report", 0),
    ("report -o json", 0),
    ("rights", 0),
    ("images list", 0),
    ("config view", 0),
    ("schema run", 0),
    ("completion bash", 0),
    ("__complete ", 0),
    ("man", 0),
    ("-h", 0),
    ("--help", 0),
    ("recon --help", 0),
    ("--version", 0),
    ("recon --server https://127.0.0.1:1 --dry-run", 0),
    ("recon --server https://127.0.0.1:1 --dry-run -o yaml", 0),
    ("version --server https://127.0.0.1:1", 3),
    ("verify --alerts ALL", 0),
    ("verify --alerts ALL -o yaml", 0),
    ("verify --alerts NONE --wait 0s --assume plan=yes,sensor=yes", 5),
    (
        "verify --alerts NONE --wait 0s --assume plan=yes,sensor=yes -o json",
        5,
    ),
];

/// Runs each of [`PRINTING`] with `stdout` and passes the output to `check`.
fn each_printing_into<T: Into<Stdio>>(stdout: impl Fn() -> T, check: impl Fn(&str, i32, &Output, &str)) {
    let machine = Machine::new();
    machine.record(&recon());
    let all = machine.file("all.json", &json!(RECON.map(alert)));
    let none = machine.file("none.json", &json!([]));
    for (line, code) in PRINTING {
        let arguments: Vec<&str> = line
            .split(' ')
            .map(|word| match word {
                "ALL" => &all,
                "NONE" => &none,
                word => word,
            })
            .collect();
        let output = machine.command(&arguments).stdout(stdout()).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        check(line, code, &output, &printed);
    }
}

#[test]
fn full_disk_is_7_unless_another_code_applies() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    each_printing_into(full, |line, code, output, printed| {
        let expected = if code == 0 { 7 } else { code };
        assert_eq!(output.status.code(), Some(expected), "{line}: {printed}");
        let message = "error: failed to write standard output: no space left on device\n";
        assert!(printed.ends_with(message), "{line}: {printed}");
        assert_eq!(printed.matches("failed to write").count(), 1, "{line}: {printed}");
    });
}

#[test]
fn reader_that_has_enough_is_no_error() {
    let closed = || std::io::pipe().unwrap().1;
    each_printing_into(closed, |line, code, output, printed| {
        assert_eq!(output.status.code(), Some(code), "{line}: {printed}");
        assert!(!printed.contains("failed to write"), "{line}: {printed}");
    });
}

/// A machine with one record and a folder for reports.
struct Desk(Machine);

impl Desk {
    fn new() -> Self {
        let machine = Machine::new();
        machine.record(&recon());
        Self(machine)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.0.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Runs a shell command in the folder, in which `$P` is the program; returns both output streams.
    #[track_caller]
    fn shell(&self, line: &str, code: i32) -> (String, String) {
        let program = self.0.command(&[]);
        let variables = program
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?)));
        let mut shell = Command::new("bash");
        shell
            .args(["-c", line])
            .current_dir(self.0.0.path())
            .stdin(Stdio::null());
        shell.env_clear().envs(variables).env("P", program.get_program());
        shell.env("PATH", std::env::var_os("PATH").unwrap());
        let output = shell.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{line}: {stdout}{stderr}");
        (stdout, stderr)
    }
}

/// Each kind of report and the beginning of its content.
const KINDS: [(&str, &str); 6] = [
    ("junit", "<?xml"),
    ("json", "{\n"),
    ("markdown", "## "),
    ("md", "## "),
    ("html", "<!DOCTYPE html>\n"),
    ("navigator", "{\n"),
];

#[test]
fn report_on_standard_output_takes_the_place_of_the_table_under_every_name() {
    let desk = Desk::new();
    std::os::unix::fs::symlink("/proc/self/fd/1", desk.path("link")).unwrap();
    let (table, hint) = desk.shell("$P report", 0);
    for (kind, begin) in KINDS {
        let (report, _) = desk.shell(&format!("$P report -q --report {kind}=file && cat file"), 0);
        let report = report.strip_prefix(&table).unwrap();
        assert!(report.starts_with(begin), "{report}");
        for name in ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"] {
            let line = format!("$P report --report {kind}={name}");
            assert_eq!(desk.shell(&line, 0), (report.to_owned(), hint.clone()), "{line}");
            desk.shell(&format!("{line} >out"), 0);
            assert_eq!(desk.read("out"), report, "{line}");
            desk.shell(&format!("(echo first; {line}; echo last) >out"), 0);
            assert_eq!(desk.read("out"), format!("first\n{report}last\n"), "{line}");
        }
        // A file to which standard output is already redirected.
        desk.shell(&format!("$P report --report {kind}=out >out"), 0);
        assert_eq!(desk.read("out"), report);
        let line = format!("$P report --report {kind}=/dev/stderr");
        let (stdout, stderr) = desk.shell(&line, 0);
        assert_eq!(
            (stdout, stderr.contains(report)),
            (table.clone(), true),
            "{stderr}"
        );
        desk.shell(&format!("$P report --report {kind}=/dev/fd/3 3>out"), 0);
        assert_eq!(desk.read("out"), report);
        desk.shell(
            &format!("$P report --report {kind}=/dev/fd/3 3> >(cat >out); wait $!"),
            0,
        );
        assert_eq!(desk.read("out"), report);
    }
}

#[test]
fn files_that_do_not_fit_together_are_2_and_change_nothing() {
    let desk = Desk::new();
    desk.shell("echo old >old; ln -s old link; ln old further; mkfifo fifo", 0);
    let taken = "standard output already carries the result";
    let same = "two reports go to the same file";
    for (arguments, part) in [
        ("-o json --report junit=-", taken),
        ("-o yaml --report junit=-", taken),
        ("-o name --report junit=-", taken),
        (
            "-o json --report junit=/dev/stdout",
            "/dev/stdout already carries the result",
        ),
        (
            "-o json --report junit=/dev/stdout >/dev/null",
            "/dev/stdout already carries the result",
        ),
        ("--report junit=- --report json=-", same),
        ("--report junit=- --report json=/dev/stdout", same),
        ("--report junit=/dev/stderr --report json=/dev/stderr", same),
        ("--report junit=new --report json=new", "same file: new and new"),
        ("--report md=new --report json=./new", same),
        ("--report junit=new --report json=$PWD/new", same),
        ("--report junit=old --report json=link", same),
        ("--report junit=old --report json=further", same),
        ("--report json=old --report json=old", same),
        ("--report junit=fifo --report json=fifo", same),
        (
            "--report json=new --report junit=no/such",
            "failed to write no/such: no such file",
        ),
    ] {
        let (stdout, stderr) = desk.shell(&format!("$P report {arguments}"), 2);
        assert!(stderr.contains(part), "{arguments}: {stderr}");
        assert_eq!(stdout, "", "{arguments}");
    }
    for note in [
        "--soc-note new --report json=new",
        "--soc-note - -o json",
        "--soc-note - --report md=-",
    ] {
        desk.shell(&format!("$P recon --server https://127.0.0.1:1 --yes {note}"), 2);
    }
    assert_eq!(desk.read("old"), "old\n");
    assert!(!desk.path("new").exists());
    desk.shell("$P report --report junit=/dev/null --report json=/dev/null", 0);
}

#[test]
fn report_that_cannot_be_written_at_the_end_is_7_and_keeps_the_old_one() {
    let desk = Desk::new();
    desk.0.file("none.json", &json!([]));
    desk.shell("echo old >old", 0);
    // Files cannot grow, which is reported as an error, not as a signal.
    let limited = "trap '' XFSZ; ulimit -f 0; exec $P";
    let missing = "verify --alerts none.json --wait 0s --assume plan=yes,sensor=yes";
    for (arguments, code) in [("report", 7), (missing, 5)] {
        for name in ["old", "new"] {
            let line = format!("{limited} {arguments} --report json={name} --report md=/dev/stderr");
            let (stdout, stderr) = desk.shell(&line, code);
            assert!(stdout.contains("Run abcdefgh"), "{stdout}");
            let message = format!("error: failed to write {name}: file too large\n");
            assert!(stderr.contains(&message), "{stderr}");
            assert!(stderr.contains("## ❌ "), "the other report: {stderr}");
        }
    }
    assert_eq!(desk.read("old"), "old\n");
    let folder = desk.0.0.path();
    let names = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = names
        .filter(|name| name.to_string_lossy().starts_with(".tmp"))
        .collect();
    assert!(left.is_empty() && !desk.path("new").exists(), "{left:?}");
}

/// The API server rejects the namespace, which is requested after the note is written.
#[tokio::test(flavor = "multi_thread")]
async fn note_for_the_soc_is_written_before_anything_is_created_or_nothing_is() {
    let server = standing_in(|request| {
        let is_create = request.method == "POST" && request.path.starts_with("/api/v1/namespaces");
        is_create.then(|| failure(403, "Forbidden", "not allowed"))
    })
    .await;
    let created = || {
        let requests = server.requests();
        let creates = requests
            .iter()
            .filter(|request| request.path.starts_with("/api/v1/namespaces"));
        creates.filter(|request| request.method == "POST").count()
    };
    let desk = Desk::new();
    let run = format!("$P webshell --yes --server {} --soc-note", server.url());
    for (line, expected) in [
        (format!("{run} note; code=$?; cat note; exit $code"), ""),
        (format!("{run} -"), ""),
        (
            format!("mkfifo fifo; cat fifo & {run} fifo; code=$?; wait; exit $code"),
            "",
        ),
        (
            format!("trap '' XFSZ; ulimit -f 0; {run} full"),
            "failed to write full: file too large",
        ),
        (
            format!("{run} - >/dev/full"),
            "failed to write standard output: no space left on device",
        ),
    ] {
        let before = created();
        let (stdout, stderr) = tokio::task::block_in_place(|| desk.shell(&line, 3));
        if expected.is_empty() {
            // Printed next to the table.
            let (begin, end) = (stdout.find("{\n").unwrap(), stdout.rfind("\n}").unwrap() + 2);
            let note: Value = serde_json::from_str(&stdout[begin..end]).unwrap();
            assert_keeps_to("note", &note);
            assert!(created() > before, "{line}: {stderr}");
        } else {
            assert_eq!(stderr.matches(expected).count(), 1, "{line}: {stderr}");
            assert_eq!(created(), before, "{line}");
        }
    }
}

#[test]
fn markdown_is_appended_to_the_job_summary() {
    let desk = Desk::new();
    let (report, _) = desk.shell("$P report -q --report md=plain >/dev/null && cat plain", 0);
    desk.shell("ln -s summary link", 0);
    for name in ["summary", "./summary", "$PWD/summary", "link"] {
        for named in ["summary", "$PWD/summary", "link"] {
            let line = format!("GITHUB_STEP_SUMMARY={named} $P report --report md={name}");
            desk.shell("echo earlier >summary", 0);
            let (_, stderr) = desk.shell(&line, 0);
            assert!(stderr.contains("appended to the job summary "), "{stderr}");
            assert_eq!(desk.read("summary"), format!("earlier\n\n{report}"), "{line}");
        }
    }
    desk.shell(
        "rm summary; GITHUB_STEP_SUMMARY=summary $P report --report md=link",
        0,
    );
    assert_eq!(desk.read("summary"), report);
    for (line, expected) in [
        (
            "GITHUB_STEP_SUMMARY=other $P report --report md=summary",
            report.as_str(),
        ),
        ("GITHUB_STEP_SUMMARY= $P report --report md=summary", &report),
        ("$P report --report md=summary", &report),
    ] {
        desk.shell("echo earlier >summary", 0);
        assert!(!desk.shell(line, 0).1.contains("appended"), "{line}");
        assert_eq!(desk.read("summary"), expected, "{line}");
    }
    desk.shell(
        "echo earlier >summary; GITHUB_STEP_SUMMARY=summary $P report --report json=summary",
        0,
    );
    assert!(
        desk.read("summary").starts_with("{\n"),
        "only Markdown is appended"
    );
}

#[test]
fn jsonl_is_the_json_in_one_line() {
    let machine = Machine::new();
    machine.record(&recon());
    // With the hint of standard error, which is not JSON.
    let printed = machine.printed(&["report", "abcdefgh", "-o", "jsonl"], 0);
    let line = printed.lines().next().unwrap();
    let json: Value = serde_json::from_str(line).unwrap();
    assert_eq!(json, machine.json(&["report", "abcdefgh", "-o", "json"], 0));
}
