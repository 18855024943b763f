//! Records of runs: how one is selected, and which are rejected.

use std::process::Command;

use serde_json::{Value, json};

use crate::verify::{Machine, RECON, alert, recon};

#[test]
fn last_run_is_selected_by_namespace() {
    let machine = Machine::new();
    let none = machine.file("none.json", &json!([]));
    let (mut here, mut there) = (recon(), recon());
    (here.run, there.run) = ("here".into(), "there".into());
    there.namespace = "other".into();
    there.started += jiff::SignedDuration::from_hours(1);
    there.ended += jiff::SignedDuration::from_hours(1);
    machine.record(&here);
    machine.record(&there);
    let run = |arguments: &[&str]| {
        let verify = ["verify", "--alerts", &none, "-o", "json", "--assume=sensor=yes"];
        machine.json(&[&verify[..], arguments].concat(), 5)["run"].clone()
    };
    assert_eq!(run(&[]), "there");
    assert_eq!(run(&["-n", "mdc-simulation"]), "here");
    assert_eq!(run(&["here", "-n", "other"]), "here");
    assert!(
        machine
            .printed(&["verify", "-n", "third"], 2)
            .contains("no record of a run in namespace third")
    );
}

#[test]
fn record_file_is_validated_and_not_saved() {
    let machine = Machine::new();
    let all = machine.file("all.json", &json!(RECON.map(alert)));
    let record = serde_json::to_value(recon()).unwrap();
    let path = machine.file("run.json", &record);
    machine.printed(&["verify", "--record", &path, "--alerts", &all], 0);
    assert_eq!(machine.json(&["history", "-o", "json"], 0), json!([]));
    for (field, value, part) in [
        ("schema", "defender-sim/run/v9", "its schema is"),
        ("run", "../../x", "is not a run ID"),
    ] {
        let mut record = record.clone();
        record[field] = value.into();
        let path = machine.file("other.json", &record);
        let printed = machine.printed(&["verify", "--record", &path, "--alerts", &all], 2);
        assert!(printed.contains(part), "{printed}");
    }
}

#[test]
fn time_window_needs_no_cluster_if_the_source_is_given() {
    let machine = Machine::new();
    let all = machine.file("all.json", &json!(RECON.map(alert)));
    let window = [
        "verify",
        "--since=2026-05-04T10:00:00Z",
        "--until=2026-05-04T10:01:00Z",
    ];
    let window = [&window[..], &["--scenario=recon", "-n", "mdc-simulation"]].concat();
    let printed = machine.printed(&[&window[..], &["--alerts", &all]].concat(), 0);
    assert!(printed.contains("4 of 4"), "{printed}");
    assert!(machine.printed(&window, 3).contains("no cluster is configured"));
}

#[test]
fn every_output_has_the_reason_for_unread_alerts() {
    let machine = Machine::new();
    machine.record(&recon());
    let torn = machine.0.path().join("torn.json");
    std::fs::write(&torn, "[{").unwrap();
    let written = machine.0.path().join("result.json");
    let report = format!("--report=json={}", written.display());
    let result = machine.json(
        &[
            "verify",
            "--alerts",
            torn.to_str().unwrap(),
            "--wait=1s",
            "-o",
            "json",
            &report,
        ],
        5,
    );
    let reason = result["verificationProblem"]["message"].as_str().unwrap();
    assert!(reason.contains("torn.json"), "{reason}");
    assert_eq!(result["verification"], Value::Null);
    let written: Value = serde_json::from_slice(&std::fs::read(&written).unwrap()).unwrap();
    assert_eq!(written["verificationProblem"], result["verificationProblem"]);
}

#[test]
fn unreadable_record_is_reported_and_never_skipped_as_the_last() {
    for (make, part) in [
        (
            "head -c 100 $R/abcdefgh.json >$R/newer.json",
            "newer.json is not a record of a run: EOF",
        ),
        (": >$R/newer.json", "newer.json is not a record of a run: EOF"),
        (
            "sed s,run/v2,run/v3, $R/abcdefgh.json >$R/newer.json",
            "newer.json was written by a newer version of this tool",
        ),
        ("mkfifo $R/newer.json", "newer.json is not a plain file"),
        ("mkdir $R/newer.json", "newer.json is not a plain file"),
        ("ln -s nowhere $R/newer.json", "newer.json: no such file"),
        (
            "truncate -s 500M $R/newer.json",
            "newer.json: it is larger than 16 MiB",
        ),
        (
            "printf '\\377' >$R/newer.json",
            "newer.json: it is not valid UTF-8",
        ),
    ] {
        let machine = Machine::new();
        machine.record(&recon());
        let all = machine.file("all.json", &json!(RECON.map(alert)));
        let folder = machine.0.path().join("defender-sim/runs");
        let made = Command::new("sh").args(["-c", make]).env("R", &folder).status();
        assert!(made.unwrap().success(), "{make}");
        let hint = "kubectl defender-sim report abcdefgh";
        for arguments in [
            &["report"][..],
            &["verify", "--alerts", &all],
            &["report", "-n", "mdc-simulation"],
        ] {
            let printed = machine.printed(arguments, 2);
            assert!(
                printed.contains(part) && printed.contains(hint),
                "{make}: {printed}"
            );
            assert!(!printed.contains("Run abcdefgh"), "{make}: {printed}");
        }
        assert!(machine.printed(&["report", "newer"], 2).contains(part), "{make}");
        for arguments in [
            &["report", "abcdefgh"][..],
            &["verify", "abcdefgh", "--alerts", &all],
        ] {
            assert!(machine.printed(arguments, 0).contains("Run abcdefgh"), "{make}");
        }
        let history = machine.run(&["history", "-o", "name"]);
        assert_eq!(history.status.code(), Some(0), "{make}");
        assert_eq!(history.stdout, b"abcdefgh\n", "{make}");
        let printed = String::from_utf8(history.stderr).unwrap();
        assert!(
            printed.starts_with("warning: ") && printed.contains(part),
            "{make}: {printed}"
        );
    }
}

#[test]
fn run_is_found_by_printed_name_or_prefix() {
    let machine = Machine::new();
    let all = machine.file("all.json", &json!(RECON.map(alert)));
    for id in ["abcdefgh", "abxyz234", "zzzzzzzz"] {
        let mut run = recon();
        run.run = id.into();
        machine.record(&run);
    }
    for (wanted, found) in [
        ("abc", "abcdefgh"),
        ("run/zzzzzzzz", "zzzzzzzz"),
        ("run/abx", "abxyz234"),
    ] {
        for arguments in [&["report", wanted][..], &["verify", wanted, "--alerts", &all]] {
            assert!(
                machine.printed(arguments, 0).contains(&format!("Run {found} ")),
                "{arguments:?}"
            );
        }
    }
    for (wanted, part) in [
        ("ab", "several runs begin with ab: abcdefgh, abxyz234"),
        ("run/ab", "several runs begin with ab: abcdefgh, abxyz234"),
        ("abq", "no record of run abq"),
    ] {
        for arguments in [&["report", wanted][..], &["verify", wanted, "--alerts", &all]] {
            let printed = machine.printed(arguments, 2);
            assert!(
                printed.contains(part) && printed.contains("kubectl defender-sim history"),
                "{printed}"
            );
        }
    }
}
