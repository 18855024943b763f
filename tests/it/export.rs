//! Exported results, validated against the published schemas of their formats.

use std::path::Path;
use std::process::{Command, Output};

use defender_sim::report::export::{Kind, render};

use crate::results;

fn xmllint(schema: &Path, document: &str) -> Output {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), document).unwrap();
    let mut command = Command::new("xmllint");
    command.args(["--nonet", "--noout", "--schema"]);
    command.args([schema, file.path()]).output().unwrap()
}

#[test]
#[ignore = "needs the schema: tests/schemas/fetch"]
fn junit_xml_is_what_jenkins_takes() {
    let schema = &Path::new(env!("CARGO_MANIFEST_DIR")).join("target/schemas/junit-10.xsd");
    assert!(
        schema.exists(),
        "no {}: run tests/schemas/fetch",
        schema.display()
    );
    for result in results::all() {
        let document = render(Kind::Junit, &result);
        let output = xmllint(schema, &document);
        let printed = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{printed}\n{document}");
    }
    // Tests the validation itself: it rejects an element that is not part of the format.
    let other = render(Kind::Junit, &results::mixed()).replacen("<testcase ", "<testcase other=\"\" ", 1);
    let output = xmllint(schema, &other);
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && printed.contains("'other'"),
        "{printed}"
    );
}
