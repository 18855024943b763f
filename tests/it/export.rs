//! Exported results against what others publish of their formats.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use defender_sim::report::export::{Kind, render};

use crate::results;

/// Has the schema fetched where it is not there yet: without it, the test fails.
fn schema() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemas/fetch");
    let output = Command::new(script).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the schema cannot be had: {said}");
    String::from_utf8(output.stdout).unwrap().trim_end().into()
}

fn xmllint(schema: &Path, document: &str) -> Output {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), document).unwrap();
    let mut command = Command::new("xmllint");
    command.args(["--nonet", "--noout", "--schema"]);
    command.args([schema, file.path()]).output().unwrap()
}

#[test]
fn junit_xml_is_what_jenkins_takes() {
    let schema = schema();
    for result in [
        results::mixed(),
        results::verified(),
        results::unclean(),
        results::not_started(),
        results::interrupted(),
        results::hostile(),
    ] {
        let document = render(Kind::Junit, &result);
        let output = xmllint(&schema, &document);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}\n{document}");
    }
    // The check itself: something that is no part of the format is refused.
    let other = render(Kind::Junit, &results::mixed()).replacen("<testcase ", "<testcase other=\"\" ", 1);
    let output = xmllint(&schema, &other);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("'other'"), "{said}");
}
