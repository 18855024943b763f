//! The published contract: JSON Schemas, and files and outputs that conform to them.

use std::path::{Path, PathBuf};
use std::process::Command;

use defender_sim::scenario::Scenario;
use serde_json::Value;

/// Returns the path of a published schema.
pub fn schema_file(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("docs/schema").join(format!("{name}.json"))
}

/// Asserts that `value` conforms to the published schema with that name.
#[track_caller]
pub fn assert_keeps_to(name: &str, value: &Value) {
    let schema = std::fs::read_to_string(schema_file(name)).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "not {name}: {errors:#?} in {value:#}");
}

fn printed(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-defender_sim"));
    command.args(arguments).env_clear().env("HOME", "/nonexistent");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_published_schemas_are_those_of_the_code() {
    for name in [
        "scenario", "run", "plan", "cleanup", "note", "handover", "doctor", "fleet",
    ] {
        let published = std::fs::read_to_string(schema_file(name)).unwrap();
        assert!(
            printed(&["schema", name]) == published,
            "write it anew: kubectl-defender_sim schema {name} >docs/schema/{name}.json"
        );
    }
}

/// Formats the alerts of `alerts -o json` as a table of docs/alerts.md.
fn alert_table(alerts: &[Value], plane: &str) -> String {
    let mut table = "| alert | id | type | severity | clouds | certainty | raised by |\n\
                     |--|--|--|--|--|--|--|\n"
        .to_owned();
    for alert in alerts.iter().filter(|alert| alert["plane"] == plane) {
        let text = |key: &str| alert[key].as_str().unwrap_or("-");
        let clouds = alert["clouds"].as_array().into_iter().flatten();
        let clouds = clouds.map(|cloud| cloud.as_str().unwrap());
        let windows = Some("(also Windows)").filter(|_| alert["windows"] == true);
        let clouds = clouds.chain(windows).collect::<Vec<_>>().join(" ");
        let raised_by = alert["raisedBy"].as_array().unwrap().iter().map(|trigger| {
            let step = trigger["step"].as_str().map(|step| format!(".{step}"));
            let optional = Some(" (optional)").filter(|_| trigger["optional"] == true);
            let scenario = trigger["scenario"].as_str().unwrap();
            format!(
                "`{scenario}{}`{}",
                step.unwrap_or_default(),
                optional.unwrap_or_default()
            )
        });
        let raised_by = raised_by.collect::<Vec<_>>().join(", ");
        let nothing = match alert["excluded"].as_str() {
            Some(reason) => format!("nothing: {reason}"),
            None => "nothing yet".to_owned(),
        };
        let or = |text: String, other: &str| if text.is_empty() { other.to_owned() } else { text };
        let cells = [
            text("name").replace('`', ""),
            format!("`{}`", text("id")),
            text("type").to_owned(),
            text("severity").to_owned(),
            or(clouds, "-"),
            text("certainty").to_owned(),
            or(raised_by, &nothing),
        ];
        table.extend(["| ", &cells.join(" | "), " |\n"]);
    }
    table
}

/// After a change of the catalogue or of a scenario: `INSTA_UPDATE=always cargo test --test it contract::`.
#[test]
fn the_documented_alerts_are_those_of_the_catalogue() {
    let alerts: Vec<Value> = serde_json::from_str(&printed(&["alerts", "-o", "json"])).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/alerts.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (text, _) = page.split_once("## Control plane\n").unwrap();
    let expected = format!(
        "{text}## Control plane\n\n{}\n## Runtime\n\n{}",
        alert_table(&alerts, "control-plane"),
        alert_table(&alerts, "runtime")
    );
    if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
        std::fs::write(&path, &expected).unwrap();
    } else {
        assert!(
            page == expected,
            "docs/alerts.md is not up to date: set INSTA_UPDATE=always to write it anew"
        );
    }
}

#[test]
fn scenario_files_keep_to_their_schema() {
    for id in printed(&["list", "-o", "name"]).lines() {
        let file = printed(&["describe", id, "-o", "yaml"]);
        assert_keeps_to("scenario", &serde_saphyr::from_str(&file).unwrap());
        let json = printed(&["describe", id, "-o", "json"]);
        assert_keeps_to("scenario", &serde_json::from_str(&json).unwrap());
    }
    let broken = printed(&["describe", "recon", "-o", "json"]).replace("\"proof\"", "\"proofs\"");
    let broken: Value = serde_json::from_str(&broken).unwrap();
    assert!(std::panic::catch_unwind(|| assert_keeps_to("scenario", &broken)).is_err());
}

#[test]
fn plans_keep_to_their_schema() {
    let plan = [
        "all",
        "--server",
        "https://127.0.0.1:1",
        "--dry-run",
        "-o",
        "json",
    ];
    assert_keeps_to("plan", &serde_json::from_str(&printed(&plan)).unwrap());
}

/// Returns the scenario in the documentation.
pub fn documented_scenario() -> String {
    let page = include_str!("../../docs/scenarios.md");
    let (_, from) = page.split_once("```yaml\n").unwrap();
    from.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_documented_scenario_is_one() {
    let scenario = Scenario::from_yaml(&documented_scenario()).unwrap();
    assert_eq!(scenario.steps.len(), 2);
    assert_keeps_to(
        "scenario",
        &serde_saphyr::from_str(&documented_scenario()).unwrap(),
    );
}
