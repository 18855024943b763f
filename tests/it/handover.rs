//! The handover to a SOC: `handover`, from the records of runs.

use serde_json::{Value, json};

use crate::contract::assert_keeps_to;
use crate::verify::{Machine, RECON, alert, recon};

const CLUSTER: &str = "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/rg/providers/\
                       Microsoft.ContainerService/managedClusters/blue";

#[test]
fn handover_has_the_alerts_of_the_last_verification() {
    let machine = Machine::new();
    machine.record(&recon());
    let before = machine.json(&["handover", "-o", "json"], 0);
    assert_keeps_to("handover", &before);
    assert_eq!(before["alerts"], json!([]));
    assert_eq!(before["verification"]["read"], Value::Null);
    assert_eq!(before["outstanding"].as_array().unwrap().len(), 4);
    let printed = machine.printed(&["handover"], 0);
    assert!(
        printed.contains("The alerts of this run were not verified."),
        "{printed}"
    );
    assert!(
        printed.contains("kubectl defender-sim verify abcdefgh --context prod\n"),
        "{printed}"
    );

    let all = machine.file("all.json", &json!(RECON.map(alert)));
    machine.printed(&["verify", "--alerts", &all], 0);
    let after = machine.json(&["handover", "abc", "-o", "json"], 0);
    assert_keeps_to("handover", &after);
    let alerts = after["alerts"].as_array().unwrap();
    let ids: Vec<_> = alerts.iter().map(|alert| alert["id"].as_str().unwrap()).collect();
    let mut expected = RECON.map(|name| format!("/alerts/{name}"));
    expected.sort();
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected);
    assert!(
        alerts
            .iter()
            .all(|alert| alert["link"] == "https://portal.example/1"),
        "{alerts:?}"
    );
    assert_eq!(after["outstanding"], json!([]));
    // Without other runs, a verification has the same window.
    for time in ["from", "until"] {
        assert_eq!(after["run"][time], before["run"][time]);
    }
    let names = machine.printed(&["handover", "-o", "name"], 0);
    assert_eq!(names.lines().collect::<Vec<_>>(), ids);
}

#[test]
fn queries_are_unchanged() {
    let machine = Machine::new();
    let mut run = recon();
    run.cluster.resource_id = Some(CLUSTER.into());
    machine.record(&run);
    let queries = &machine.json(&["handover", "-o", "json"], 0)["queries"];
    let text = |name: &str| queries[name].as_str().unwrap().to_owned();
    let both = text("resourceGraph") + "\n\n" + &text("logAnalytics");
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("handover_queries", both);
    });
}

#[test]
fn note_is_written_as_markdown_or_json() {
    let machine = Machine::new();
    machine.record(&recon());
    let path = |name: &str| machine.0.path().join(name).to_str().unwrap().to_owned();
    for (name, begin) in [
        ("a.md", "## Attack simulation"),
        ("a.json", "{\n  \"schema\": \"defender-sim/handover/v1\""),
    ] {
        machine.printed(&["handover", "--note", &path(name)], 0);
        let text = std::fs::read_to_string(path(name)).unwrap();
        assert!(text.starts_with(begin), "{text}");
    }
    let document: Value = serde_json::from_str(&std::fs::read_to_string(path("a.json")).unwrap()).unwrap();
    assert_keeps_to("handover", &document);
    // Standard output has either the note or the text.
    let printed = machine.run(&["handover", "--note", "-"]);
    assert_keeps_to("handover", &serde_json::from_slice(&printed.stdout).unwrap());
    machine.printed(&["handover", "--note", "-", "-o", "json"], 2);
    let absent = machine.printed(&["handover", "--note", &path("absent/a.md")], 2);
    assert!(absent.contains("absent"), "{absent}");
}

#[test]
fn record_from_elsewhere_is_read_from_a_file() {
    let machine = Machine::new();
    let mut run = serde_json::to_value(recon()).unwrap();
    let hostile = "sim\" or true // \u{1b}[2J\u{202e}\n| take 1";
    run["namespace"] = hostile.into();
    run["cluster"]["resourceId"] = "' or 1==1".into();
    let path = machine.file("run.json", &run);
    let document = machine.json(&["handover", "--record", &path, "-o", "json"], 0);
    assert_keeps_to("handover", &document);
    assert_eq!(document["run"]["namespace"], "sim\" or true // [2J | take 1");
    assert_eq!(document["run"]["cluster"]["resourceId"], Value::Null);
    let query = document["queries"]["logAnalytics"].as_str().unwrap();
    assert!(
        query.contains(r#"text has "sim\" or true // [2J | take 1""#),
        "{query}"
    );
    let printed = machine.printed(&["handover", "--record", &path], 0);
    assert!(
        !printed.contains('\u{1b}') && !printed.contains('\u{202e}'),
        "{printed:?}"
    );
    assert!(
        machine
            .printed(&["handover", "abcdefgh", "--record", &path], 2)
            .contains("cannot be used with")
    );
    assert!(machine.printed(&["handover"], 2).contains("no record of a run"));
}

#[test]
fn file_gets_its_alerts_by_a_report_of_the_verification() {
    let machine = Machine::new();
    let path = machine.file("run.json", &serde_json::to_value(recon()).unwrap());
    let all = machine.file("all.json", &json!(RECON.map(alert)));
    let report = format!("json={path}");
    let verify = ["verify", "--record", &path, "--report", &report];
    let printed = machine.printed(&["handover", "--record", &path], 0);
    let command = format!("kubectl defender-sim {} --context prod\n", verify.join(" "));
    assert!(printed.contains(&command), "{command} in {printed}");
    machine.printed(&[&verify[..], &["--alerts", &all]].concat(), 0);
    let document = machine.json(&["handover", "--record", &path, "-o", "json"], 0);
    assert_eq!(document["alerts"].as_array().unwrap().len(), 4);
}
