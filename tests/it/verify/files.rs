//! Alerts from files.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Machine, RECON, alert, recon, unrelated, verdicts};
use crate::contract::assert_keeps_to;

#[test]
fn alert_that_an_earlier_run_had_is_a_regression() {
    let machine = Machine::new();
    let earlier = recon();
    let mut later = earlier
        .clone()
        .in_cluster_time(jiff::SignedDuration::from_hours(24));
    later.run = "bcdefghi".to_owned();
    machine.record(&earlier);
    let alerts = |names: &[&str], day: &str| -> Value {
        let of_day = |name: &&str| alert(name).to_string().replace("2026-05-04", day);
        let alerts = names.iter().map(of_day);
        alerts
            .map(|alert| serde_json::from_str::<Value>(&alert).unwrap())
            .collect()
    };
    let all = machine.file("all.json", &alerts(&RECON, "2026-05-04"));
    machine.printed(&["verify", "abcdefgh", "--alerts", &all], 0);
    let before = machine.printed(&["history", "--compare"], 0);
    assert!(
        before.contains("1 of 1") && before.contains("2026-05-04"),
        "{before}"
    );

    machine.record(&later);
    let some = machine.file("some.json", &alerts(&RECON[1..], "2026-05-05"));
    let result = machine.json(&["verify", "bcdefghi", "--alerts", &some, "-o", "json"], 5);
    assert_keeps_to("run", &result);
    let regressions = &result["verification"]["regressions"];
    assert_eq!(regressions.as_array().unwrap().len(), 1, "{regressions}");
    assert_eq!(
        (&regressions[0]["alert"], &regressions[0]["lastRun"]),
        (&json!("web-shell"), &json!("abcdefgh"))
    );
    let trends = machine.json(&["history", "--compare", "-o", "json"], 5);
    let shells = trends[0]["alerts"].as_array().unwrap().iter();
    let shells: Vec<&Value> = shells.filter(|alert| alert["isRegression"] == true).collect();
    assert_eq!(shells.len(), 1, "{trends}");
    assert_eq!(
        (&shells[0]["raised"], &shells[0]["decided"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(shells[0]["medianSecondsToDetect"], 1200.0);
    let names = machine.printed(&["history", "--compare", "-o", "name"], 5);
    assert_eq!(names, "web-shell\n");
}

#[test]
fn missing_alert_fails_the_verification() {
    let machine = Machine::new();
    machine.record(&recon());
    let mut list: Vec<Value> = RECON.iter().map(|name| alert(name)).collect();
    list.push(alert("Suspicious PHP execution detected"));
    let all = machine.file("all.json", &json!({ "value": list }));
    let result = machine.json(&["verify", "abcdefgh", "--alerts", &all, "-o", "json"], 0);
    assert_keeps_to("run", &result);
    for (id, verdict) in verdicts(&result) {
        assert_eq!(verdict, "raised", "{id}");
    }
    let first = &result["verification"]["alerts"][0]["raised"];
    assert_eq!(first["secondsToDetect"], 1200.0);
    assert_eq!(
        result["verification"]["additional"][0]["name"],
        "Suspicious PHP execution detected"
    );

    let some = machine.file("some.json", &json!([alert(RECON[0])]));
    let result = machine.json(&["verify", "--alerts", &some, "-o", "json"], 5);
    let network = verdicts(&result)
        .into_iter()
        .find(|(id, _)| id == "network-scan")
        .unwrap();
    assert_eq!(network.1, "notRaised");
    let printed = machine.printed(&["verify", "--alerts", &some], 5);
    assert!(
        printed.contains("1 of 4 expected alerts raised") && printed.contains("not raised"),
        "{printed}"
    );
    // The record contains the last verdicts.
    let page = machine.file("page.json", &json!({"value": [alert(RECON[0])], "nextLink": "x"}));
    let result = machine.json(&["verify", "--alerts", &page, "-o", "json"], 0);
    for (id, verdict) in verdicts(&result) {
        let of_page = if id == "web-shell" { "raised" } else { "unknown" };
        assert_eq!(verdict, of_page, "{id}");
    }
    let result = machine.json(&["verify", "--alerts", &some, "-o", "json"], 5);
    let history = machine.printed(&["history"], 0);
    assert!(
        history.contains("abcdefgh  2026-05-04T10:00Z  prod     recon") && history.contains("1 of 4"),
        "{history}"
    );
    let report = machine.json(&["report", "abcdefgh", "-o", "json"], 0);
    assert_eq!(verdicts(&report), verdicts(&result));
    assert_eq!(report["exit"], "notProved", "the run's own exit stays");

    // The time limit.
    let gate = [
        "verify",
        "--alerts",
        &all,
        "--max-time-to-detect",
        "10m",
        "-o",
        "json",
    ];
    assert_eq!(machine.json(&gate, 5)["verification"]["alerts"][0]["late"], true);
}

#[test]
fn run_is_verified_by_a_file_or_a_time_window() {
    let machine = Machine::new();
    let printed = machine.printed(&["verify"], 2);
    assert!(
        printed.contains("no record of a run on this machine") && printed.contains("--record"),
        "{printed}"
    );
    let of_account = |name: &str| {
        let mut alert = alert(name);
        let account = json!({"type": "K8s-serviceaccount", "name": "mdc-simulation-pods-abcdefgh"});
        alert["properties"]["entities"]
            .as_array_mut()
            .unwrap()
            .push(account);
        alert
    };
    let all = machine.file("all.json", &json!({ "data": RECON.map(of_account) }));
    let record = machine.file("run.json", &serde_json::to_value(recon()).unwrap());
    machine.printed(&["verify", "--record", &record, "--alerts", &all], 0);
    let window = [
        "verify",
        "--since",
        "2026-05-04T10:00:00Z",
        "--until",
        "2026-05-04T10:01:00Z",
        "--scenario",
        "recon",
    ];
    let rest = [
        "--alerts",
        &all,
        "--server",
        "https://127.0.0.1:1",
        "-n",
        "mdc-simulation",
        "-o",
        "json",
    ];
    let result = machine.json(&[&window[..], &rest].concat(), 0);
    assert!(
        verdicts(&result).iter().all(|(_, verdict)| verdict == "raised"),
        "{result:#}"
    );
    let without = machine.printed(&["verify", "--since", "2026-05-04T10:00:00Z"], 2);
    assert!(without.contains("--scenario"), "{without}");
    let elsewhere = [
        &window[..],
        &["--alerts", &all, "--server", "https://127.0.0.1:1", "-n", "other"],
    ]
    .concat();
    assert!(machine.printed(&elsewhere, 5).contains("0 of 4"));
}

#[test]
fn assumptions_and_further_names_are_applied() {
    let machine = Machine::new();
    machine.record(&recon());
    let none = machine.file("none.json", &json!([unrelated()]));
    let printed = |assume: &str, code| {
        let result = machine.json(
            &["verify", "--alerts", &none, "--assume", assume, "-o", "json"],
            code,
        );
        verdicts(&result)
            .into_iter()
            .find(|(id, _)| id == "service-account-operation")
            .unwrap()
            .1
    };
    assert_eq!(printed("audit-log=no", 5), "notExpected");
    assert_eq!(printed("audit-log=yes", 5), "notRaised");
    assert_eq!(printed("drift-policy=no", 5), "unknown");
    assert!(
        machine
            .printed(&["verify", "--assume", "magic=yes"], 2)
            .contains("expected plan, sensor, dns-detection")
    );

    let renamed = machine.file("renamed.json", &json!([alert("Webshell entdeckt")]));
    let names = machine.file("names.json", &json!({"web-shell": ["Webshell entdeckt"]}));
    let path = |name: &str| machine.0.path().join(name).to_str().unwrap().to_owned();
    let junit = format!("--report=junit={}", path("junit.xml"));
    let layer = format!("--report=navigator={}", path("layer.json"));
    let result = machine.json(
        &[
            "verify",
            "--alerts",
            &renamed,
            "--alert-names",
            &names,
            &junit,
            &layer,
            "-o",
            "json",
        ],
        5,
    );
    assert_eq!(
        verdicts(&result)[0],
        ("web-shell".to_owned(), "raised".to_owned())
    );
    let read = |name: &str| std::fs::read_to_string(Path::new(&path(name))).unwrap();
    assert!(read("junit.xml").contains("defender-sim.alerts"));
    assert!(read("layer.json").contains("0: a step was not detected"));

    let broken = machine.file("broken.json", &json!("x"));
    std::fs::write(&broken, "{\"value\": [").unwrap();
    let printed = machine.printed(&["verify", "--alerts", &broken], 5);
    assert!(printed.contains("broken.json"), "{printed}");
    assert!(
        machine
            .printed(&["verify", "zzzzzzzz", "--alerts", &none], 2)
            .contains("no record of run zzzzzzzz")
    );
}

#[test]
fn invalid_options_are_refused() {
    let machine = Machine::new();
    machine.record(&recon());
    let names = machine.file("names.json", &json!({"webshell": ["x"]}));
    let none = machine.file("none.json", &json!([unrelated()]));
    let window = [
        "--since",
        "2026-05-04T10:01:00Z",
        "--until",
        "2026-05-04T10:00:00Z",
    ];
    let server = ["--scenario", "recon", "--server", "https://127.0.0.1:1"];
    for (flags, part) in [
        (
            vec!["--alerts", &none, "--alert-names", &names],
            "there is no alert \"webshell\"",
        ),
        (vec!["--interval", "0"], "expected 1s or more"),
        ([&window[..], &server].concat(), "is after --until"),
    ] {
        let printed = machine.printed(&[&["verify"][..], &flags].concat(), 2);
        assert!(printed.contains(part), "{part} in {printed}");
    }
    // A run does not start if alerts cannot be read.
    let id = "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/g/providers/Microsoft.ContainerService/managedClusters/c";
    let run = [
        "recon",
        "--yes",
        "--verify",
        "--server",
        "https://127.0.0.1:1",
        "--resource-id",
        id,
    ];
    let printed = machine.printed(&run, 3);
    assert!(printed.contains("az login"), "{printed}");
    // A file saved before the end of the wait may be incomplete.
    let mut run = recon();
    run.run = "fresh".to_owned();
    run.ended = jiff::Timestamp::now();
    machine.record(&run);
    std::thread::sleep(Duration::from_millis(1100));
    let result = machine.json(
        &["verify", "fresh", "--alerts", &none, "--wait=1s", "-o", "json"],
        5,
    );
    assert!(
        verdicts(&result).iter().all(|(_, verdict)| verdict == "unknown"),
        "{result:#}"
    );
    // Also for a baseline.
    run.scenarios[0].alerts.clear();
    machine.record(&run);
    let printed = machine.printed(&["verify", "fresh", "--alerts", &none, "--wait=1s"], 5);
    assert!(
        printed.contains("whether an alert was raised is unknown"),
        "{printed}"
    );
}

#[test]
fn inconclusive_file_fails_the_verification() {
    let machine = Machine::new();
    machine.record(&recon());
    let mut baseline = recon();
    baseline.run = "baseline".into();
    baseline.scenarios[0].alerts.clear();
    machine.record(&baseline);
    let changed = |property: &str, value: Value| {
        let mut alert = alert(RECON[0]);
        alert["properties"][property] = value;
        json!([alert])
    };
    let other = json!([{"type": "Microsoft.Security/assessments", "properties": {"displayName": "x"}}]);
    for (name, content, part) in [
        ("empty", json!([]), "it contains no alerts"),
        ("page", json!({"value": []}), "it contains no alerts"),
        ("other", other, "it contains no alerts, but 1 other item"),
        (
            "time",
            changed("startTimeUtc", json!("5/4/2026 10:00:30")),
            "its startTimeUtc \"5/4/2026 10:00:30\" cannot be read",
        ),
        (
            "place",
            changed("entities", json!("System.Object[]")),
            "its entities cannot be read",
        ),
    ] {
        let file = machine.file(&format!("{name}.json"), &content);
        for run in ["abcdefgh", "baseline"] {
            let assume = "--assume=plan=yes,sensor=yes";
            let arguments = ["verify", run, "--alerts", &file, assume];
            let printed = machine.printed(&[&arguments[..], &["-o", "wide"]].concat(), 5);
            assert!(printed.contains(part), "{name}: {run}: {part} in {printed}");
            let result = machine.json(&[&arguments[..], &["-o", "json"]].concat(), 5);
            let first = &result["verification"]["alerts"][0]["verdict"];
            assert!(first.is_null() || first == "unknown", "{name}: {run}: {result:#}");
        }
    }
}

#[test]
fn required_number_of_alerts_decides() {
    let machine = Machine::new();
    machine.record(&recon());
    let two = machine.file("two.json", &json!([alert(RECON[0]), alert(RECON[2])]));
    for (required, code) in [("none", 0), ("1", 0), ("2", 0), ("3", 5), ("all", 5)] {
        let printed = machine.printed(&["verify", "--alerts", &two, "--require-alerts", required], code);
        let failure = "error: 2 of 4 expected alerts were raised";
        assert_eq!(printed.contains(failure), code == 5, "{required}: {printed}");
    }
    let printed = machine.printed(&["verify", "--alerts", &two, "--require-alerts", "most"], 2);
    assert!(printed.contains("expected all, none or a number"), "{printed}");
}

#[test]
fn flags_overrule_which_alerts_are_required() {
    let machine = Machine::new();
    machine.record(&recon());
    let one = machine.file("one.json", &json!([alert(RECON[0])]));
    let read = ["verify", "--alerts", &one];
    let verify = |flags: &[&'static str]| [&read[..], flags].concat();
    let required = ["--expect", "network-scan,token-access"];
    let optional = ["--optional", "network-scan", "--optional=token-access"];

    machine.printed(&verify(&[]), 5);
    let result = machine.json(&verify(&[&optional[..], &["-o", "json"]].concat()), 0);
    assert_keeps_to("run", &result);
    let alerts = result["verification"]["alerts"].as_array().unwrap();
    let are_optional = alerts.iter().filter(|alert| alert["optional"] == true);
    let ids: Vec<&str> = are_optional.map(|alert| alert["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["network-scan", "token-access"]);
    // The record keeps it.
    let printed = machine.printed(&verify(&[]), 0);
    for part in [
        "1 of 2 expected alerts and 0 of 2 optional raised",
        "optional: it need not",
    ] {
        assert!(printed.contains(part), "{part} in {printed}");
    }
    let printed = machine.printed(&verify(&required), 5);
    assert!(
        printed.contains("1 of 4 expected alerts were raised"),
        "{printed}"
    );

    for (flags, part) in [
        (
            &["--expect", "web_shell"][..],
            "there is no alert \"web_shell\"; see: kubectl",
        ),
        (
            &["--expect", "shred"],
            "no scenario of this run raises the alert \"shred\"",
        ),
        (
            &["--optional", "shred"],
            "no scenario of this run raises the alert \"shred\"",
        ),
        (
            &["--expect", "web-shell", "--optional", "web-shell"],
            "the alert web-shell cannot be both expected and optional",
        ),
    ] {
        let printed = machine.printed(&verify(flags), 2);
        assert!(printed.contains(part), "{part} in {printed}");
    }
    // Settings may be meant for other runs, and flags take precedence.
    let with_variables = |flags: &[&'static str], code: i32| {
        let mut command = machine.command(&verify(flags));
        command.env("DEFENDER_SIM_OPTIONAL", "shred,network-scan,token-access");
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{flags:?}: {output:?}");
    };
    with_variables(&[], 0);
    with_variables(&required, 5);
}

#[test]
fn alert_that_a_run_does_not_raise_is_refused_before_the_run() {
    let machine = Machine::new();
    let run = ["recon", "--server", "https://127.0.0.1:1", "--yes"];
    let expect = ["--expect", "shred"];
    let printed = machine.printed(&[&run[..], &["--verify"], &expect].concat(), 2);
    assert!(
        printed.contains("no scenario of this run raises the alert \"shred\""),
        "{printed}"
    );
    let printed = machine.printed(&[&run[..], &expect].concat(), 2);
    assert!(
        printed.contains("--expect has no effect without --verify"),
        "{printed}"
    );
    // A setting changes the plan.
    let mut plan = machine.command(&["recon", "--server", "https://127.0.0.1:1", "--dry-run"]);
    let output = plan
        .env("DEFENDER_SIM_OPTIONAL", "network-scan")
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("optional: it need not be raised"), "{printed}");
}

#[test]
fn missing_sensor_fails_the_verification_and_its_junit_test() {
    let machine = Machine::new();
    machine.record(&recon());
    let none = machine.file("none.json", &json!([unrelated()]));
    let path = machine.0.path().join("junit.xml");
    let junit = format!("--report=junit={}", path.display());
    let assume = "--assume=sensor=no,audit-log=no";
    let printed = machine.printed(&["verify", "--alerts", &none, assume, &junit], 5);
    for part in [
        "error: 0 of 4 expected alerts were raised: --assume",
        "kubectl defender-sim doctor",
    ] {
        assert!(printed.contains(part), "{part} in {printed}");
    }
    let xml = std::fs::read_to_string(path).unwrap();
    assert!(
        xml.contains(r#"<failure type="alerts" message="0 of 4 expected alerts were raised"#),
        "{xml}"
    );
    // A raised alert outweighs an absent sensor.
    let one = machine.file("one.json", &json!([alert(RECON[0])]));
    let printed = machine.printed(&["verify", "--alerts", &one, "--assume=sensor=no"], 5);
    let contradiction = format!("rules it out, but \"{}\" was raised", RECON[0]);
    assert!(printed.contains(&contradiction), "{printed}");
}

#[test]
fn alerts_are_read_from_stdin_once() {
    let machine = Machine::new();
    // More alerts may be raised after a run that has just ended, but a pipe is read once.
    let mut run = recon();
    run.ended = jiff::Timestamp::now();
    machine.record(&run);
    let ongoing = RECON.map(|name| {
        let mut alert = alert(name);
        alert["properties"]["endTimeUtc"] = "2099-01-01T00:00:00Z".into();
        alert
    });
    let verify = |alerts: &[Value]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-defender_sim"));
        command
            .args(["verify", "--alerts", "-", "-o", "json"])
            .env_clear();
        command
            .env("XDG_STATE_HOME", machine.0.path())
            .env("HOME", "/nonexistent");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, json!(alerts).to_string().as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let result: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), verdicts(&result))
    };
    let (code, found) = verify(&ongoing);
    assert_eq!(code, Some(0));
    assert!(found.iter().all(|(_, verdict)| verdict == "raised"), "{found:?}");
    let (code, found) = verify(&ongoing[..1]);
    assert_eq!(code, Some(0), "more may come");
    assert!(
        found[1..].iter().all(|(_, verdict)| verdict == "unknown"),
        "{found:?}"
    );
}

#[test]
fn window_without_a_record_invents_no_run() {
    let machine = Machine::new();
    let recent = |name: &str| {
        let mut alert = alert(name);
        let now = jiff::Timestamp::now().to_string();
        alert["properties"]["startTimeUtc"] = now.as_str().into();
        alert["properties"]["timeGeneratedUtc"] = now.as_str().into();
        alert["properties"]["endTimeUtc"] = now.into();
        alert
    };
    let all = machine.file("all.json", &json!(RECON.map(recent)));
    let window = [
        "verify",
        "--since=30m",
        "--scenario=recon",
        "--alerts",
        &all,
        "-n",
        "mdc-simulation",
    ];
    let printed = machine.printed(&[&window[..], &["--server=https://127.0.0.1:1"]].concat(), 0);
    assert!(printed.contains("4 of 4 expected alerts raised"), "{printed}");
    for part in ["Run unknown", "STEP", "steps proved"] {
        assert!(!printed.contains(part), "{part} in {printed}");
    }
    let named = machine.printed(
        &[&window[..], &["--server=https://127.0.0.1:1", "-o=name"]].concat(),
        0,
    );
    assert!(!named.contains("run/"), "{named}");
}
