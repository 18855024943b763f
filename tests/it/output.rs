//! Everything that is written: standard output that takes nothing, report files, and text that is not fit for a
//! terminal.

use std::fs::File;
use std::process::{Output, Stdio};

use serde_json::json;

use crate::verify::{Machine, RECON, alert, recon};

/// Every command that prints, in every form that differs, and its exit code. ALL and NONE are files with alerts.
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

/// Runs each of [`PRINTING`] into `stdout`, and has what came of it checked by `check`.
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
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        check(line, code, &output, &said);
    }
}

#[test]
fn full_disk_is_7_unless_another_code_applies() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    each_printing_into(full, |line, code, output, said| {
        let expected = if code == 0 { 7 } else { code };
        assert_eq!(output.status.code(), Some(expected), "{line}: {said}");
        let message = "error: failed to write standard output: no space left on device\n";
        assert!(said.ends_with(message), "{line}: {said}");
        assert_eq!(said.matches("failed to write").count(), 1, "{line}: {said}");
    });
}

#[test]
fn reader_that_has_enough_is_no_error() {
    let closed = || std::io::pipe().unwrap().1;
    each_printing_into(closed, |line, code, output, said| {
        assert_eq!(output.status.code(), Some(code), "{line}: {said}");
        assert!(!said.contains("failed to write"), "{line}: {said}");
    });
}
