//! Looking for the alerts of a run: from files here, from Azure in `azure/`, on real pods at the end.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use defender_sim::result::RunResult;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::arm::{FakeArm, FakeCli, Fault, GROUP, SUBSCRIPTION};
use crate::contract::assert_keeps_to;
use crate::range::{Identity, sim_as};
use crate::results;

/// A machine of the test's own: a folder for records, and files.
pub struct Machine(pub tempfile::TempDir);

impl Machine {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn file(&self, name: &str, content: &Value) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, content.to_string()).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-defender_sim"));
        command.args(arguments).env_clear().env("HOME", "/nonexistent");
        command.env("XDG_STATE_HOME", self.0.path()).stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    #[track_caller]
    pub fn said(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        String::from_utf8_lossy(&output.stdout).into_owned() + &stderr
    }

    #[track_caller]
    pub fn json(&self, arguments: &[&str], code: i32) -> Value {
        let output = self.run(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Puts a record there as a run does.
    pub fn record(&self, run: &RunResult) {
        let folder = self.0.path().join("defender-sim/runs");
        std::fs::create_dir_all(&folder).unwrap();
        let text = serde_json::to_string(run).unwrap();
        std::fs::write(folder.join(format!("{}.json", run.run)), text).unwrap();
    }
}

/// A recon run of 2026-05-04, 10:00 to 10:01, all of it proved.
pub fn recon() -> RunResult {
    let mut run = results::mixed();
    run.run = "abcdefgh".into();
    run.namespace = "mdc-simulation".into();
    run.started = "2026-05-04T10:00:00Z".parse().unwrap();
    run.ended = "2026-05-04T10:01:00Z".parse().unwrap();
    let scenario = defender_sim::scenario::catalogue::find("recon").unwrap();
    let steps = scenario.steps.iter().map(|step| {
        json!({"id": step.id, "title": step.title, "techniques": [], "begun": "2026-05-04T10:00:10Z", "outcome": "proved"})
    });
    let alerts = defender_sim::result::expectations(&scenario.alerts);
    run.scenarios = serde_json::from_value(json!([{
        "id": "recon", "title": "t", "tactics": [], "steps": steps.collect::<Vec<_>>(), "alerts": alerts,
    }]))
    .unwrap();
    run
}

pub fn alert(name: &str) -> Value {
    json!({"id": format!("/alerts/{name}"), "properties": {
        "alertDisplayName": name, "severity": "Medium", "status": "Active",
        "startTimeUtc": "2026-05-04T10:00:30Z", "endTimeUtc": "2026-05-04T10:00:40Z",
        "timeGeneratedUtc": "2026-05-04T10:20:10Z", "alertUri": "https://portal.example/1",
        "entities": [{"type": "K8s-namespace", "name": "mdc-simulation"}, {"type": "K8s-pod", "name": "mdc-simulation-victim"}],
    }})
}

/// An alert of something else: a list without any alert is refused.
pub fn unrelated() -> Value {
    let mut other = alert("Suspicious PHP execution detected");
    other["properties"]["entities"] = json!([{"type": "K8s-namespace", "name": "shop"}]);
    other
}

pub const RECON: [&str; 4] = [
    "Possible Web Shell activity detected",
    "Suspicious Kubernetes service account operation detected",
    "Network Scanning Tool Detected (Preview)",
    "Suspicious access to workload identity token or service account token detected",
];

fn verdicts(result: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let alerts = result["verification"]["alerts"].as_array().unwrap().iter();
    alerts
        .map(|alert| (text(&alert["id"]), text(&alert["verdict"])))
        .collect()
}

#[test]
fn every_expected_alert_raised_is_0_and_one_missing_is_5() {
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
    let said = machine.said(&["verify", "--alerts", &some], 5);
    assert!(
        said.contains("1 of 4 expected alerts raised") && said.contains("not raised"),
        "{said}"
    );
    // What was seen last is in the record.
    let page = machine.file("page.json", &json!({"value": [alert(RECON[0])], "nextLink": "x"}));
    let result = machine.json(&["verify", "--alerts", &page, "-o", "json"], 0);
    for (id, verdict) in verdicts(&result) {
        let of_page = if id == "web-shell" {
            "raised"
        } else {
            "couldNotTell"
        };
        assert_eq!(verdict, of_page, "{id}");
    }
    let result = machine.json(&["verify", "--alerts", &some, "-o", "json"], 5);
    let history = machine.said(&["history"], 0);
    assert!(
        history.contains("abcdefgh  2026-05-04T10:00Z  prod     recon") && history.contains("1 of 4"),
        "{history}"
    );
    let report = machine.json(&["report", "abcdefgh", "-o", "json"], 0);
    assert_eq!(verdicts(&report), verdicts(&result));
    assert_eq!(report["exit"], "notProved", "the run's own exit stays");

    // The gate on time.
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
fn a_run_is_verified_without_a_record_or_by_that_of_another_machine() {
    let machine = Machine::new();
    let said = machine.said(&["verify"], 2);
    assert!(
        said.contains("no record of a run on this machine") && said.contains("--record"),
        "{said}"
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
    machine.said(&["verify", "--record", &record, "--alerts", &all], 0);
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
    let without = machine.said(&["verify", "--since", "2026-05-04T10:00:00Z"], 2);
    assert!(without.contains("--scenario"), "{without}");
    let elsewhere = [
        &window[..],
        &["--alerts", &all, "--server", "https://127.0.0.1:1", "-n", "other"],
    ]
    .concat();
    assert!(machine.said(&elsewhere, 5).contains("0 of 4"));
}

#[test]
fn conditions_names_and_reports_are_what_the_user_says() {
    let machine = Machine::new();
    machine.record(&recon());
    let none = machine.file("none.json", &json!([unrelated()]));
    let said = |assume: &str, code| {
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
    assert_eq!(said("audit-log=no", 5), "notExpected");
    assert_eq!(said("audit-log=yes", 5), "notRaised");
    assert_eq!(said("drift-policy=no", 5), "couldNotTell");
    assert!(
        machine
            .said(&["verify", "--assume", "magic=yes"], 2)
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
    let said = machine.said(&["verify", "--alerts", &broken], 5);
    assert!(said.contains("broken.json"), "{said}");
    assert!(
        machine
            .said(&["verify", "zzzzzzzz", "--alerts", &none], 2)
            .contains("no record of run zzzzzzzz")
    );
}

/// A run that has just ended, and an Azure to look for its alerts in.
async fn just_ended() -> (Machine, Watched) {
    let machine = Machine::new();
    let mut run = recon();
    run.ended = jiff::Timestamp::now();
    run.started = run.ended - jiff::SignedDuration::from_secs(30);
    machine.record(&run);
    let watched = Watched::new(run.run, machine.0.path()).await;
    (machine, watched)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_lost_while_it_waits_is_no_success() {
    let (_machine, watched) = just_ended().await;
    let mut waiting = watched.verify(&["--interval=1s", "--wait=5m"]).spawn().unwrap();
    let mut lines = BufReader::new(waiting.stderr.take().unwrap()).lines();
    let first = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await;
    let first = first.unwrap().unwrap().unwrap();
    assert!(first.contains("waiting for 4"), "{first}");
    watched.azure.with(|state| state.forbidden = true);
    let output = tokio::time::timeout(Duration::from_secs(60), waiting.wait_with_output()).await;
    let output = output.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(5));
    // What was known is told all the same.
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(verdicts(&result).iter().all(|(_, verdict)| verdict == "waiting"));
    let mut said = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        said.push_str(&line);
    }
    assert!(said.contains("Microsoft.Security/alerts/read"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_at_the_first_look_is_waited_out_as_azure_says() {
    let (_machine, watched) = just_ended().await;
    // The plan is read before alerts are, which are asked for three times.
    watched.azure.fault(Fault::Headers(vec![]));
    (0..3).for_each(|_| watched.azure.fault(Fault::Status(503, vec![])));
    let later = vec![("retry-after", "300".to_owned())];
    watched.azure.fault(Fault::Status(429, later));
    let mut waiting = watched.verify(&["--interval=1s", "--wait=30m"]).spawn().unwrap();
    let mut lines = BufReader::new(waiting.stderr.take().unwrap()).lines();
    for part in ["Azure failed (503)", "another 300 s"] {
        let line = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await;
        let line = line.unwrap().unwrap().unwrap();
        assert!(line.contains(part), "{part} in {line}");
    }
    let asked = watched.azure.server.requests().len();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(watched.azure.server.requests().len(), asked);
    waiting.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_a_look_that_takes_long() {
    let (_machine, watched) = just_ended().await;
    watched.azure.fault(Fault::Slow(Duration::from_secs(20)));
    let looking = watched.verify(&["--alerts-source=api"]).spawn().unwrap();
    let asked = async {
        while watched.azure.server.requests().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asked)
        .await
        .unwrap();
    let pid = looking.id().unwrap().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    let output = tokio::time::timeout(Duration::from_secs(15), looking.wait_with_output()).await;
    let output = output.expect("it does not wait for the answer").unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
}

#[test]
fn what_cannot_be_meant_is_refused() {
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
        let said = machine.said(&[&["verify"][..], &flags].concat(), 2);
        assert!(said.contains(part), "{part} in {said}");
    }
    // Alerts that cannot be read keep a run from starting.
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
    let said = machine.said(&run, 3);
    assert!(said.contains("az login"), "{said}");
    // A file from before all could have come says nothing about what is not in it.
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
        verdicts(&result)
            .iter()
            .all(|(_, verdict)| verdict == "couldNotTell"),
        "{result:#}"
    );
    // Nor where nothing was expected.
    run.scenarios[0].alerts.clear();
    machine.record(&run);
    let said = machine.said(&["verify", "fresh", "--alerts", &none, "--wait=1s"], 5);
    assert!(said.contains("whether an alert was raised is unknown"), "{said}");
}

/// A saved list and what becomes of a run's alerts, and of a baseline's, by it.
#[test]
fn files_that_prove_nothing_pass_nothing() {
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
            let said = machine.said(&[&arguments[..], &["-o", "wide"]].concat(), 5);
            assert!(said.contains(part), "{name}: {run}: {part} in {said}");
            let result = machine.json(&[&arguments[..], &["-o", "json"]].concat(), 5);
            let first = &result["verification"]["alerts"][0]["verdict"];
            assert!(
                first.is_null() || first == "couldNotTell",
                "{name}: {run}: {result:#}"
            );
        }
    }
}

#[test]
fn fewer_alerts_may_be_required() {
    let machine = Machine::new();
    machine.record(&recon());
    let two = machine.file("two.json", &json!([alert(RECON[0]), alert(RECON[2])]));
    for (required, code) in [("none", 0), ("1", 0), ("2", 0), ("3", 5), ("all", 5)] {
        let said = machine.said(&["verify", "--alerts", &two, "--require-alerts", required], code);
        let failure = "error: 2 of 4 expected alerts were raised";
        assert_eq!(said.contains(failure), code == 5, "{required}: {said}");
    }
    let said = machine.said(&["verify", "--alerts", &two, "--require-alerts", "most"], 2);
    assert!(said.contains("expected all, none or a number"), "{said}");
}

#[test]
fn nothing_raised_for_lack_of_a_sensor_is_5_and_a_failed_test() {
    let machine = Machine::new();
    machine.record(&recon());
    let none = machine.file("none.json", &json!([unrelated()]));
    let path = machine.0.path().join("junit.xml");
    let junit = format!("--report=junit={}", path.display());
    let assume = "--assume=sensor=no,audit-log=no";
    let said = machine.said(&["verify", "--alerts", &none, assume, &junit], 5);
    for part in [
        "error: 0 of 4 expected alerts were raised: --assume",
        "kubectl defender-sim doctor",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let xml = std::fs::read_to_string(path).unwrap();
    assert!(
        xml.contains(r#"<failure type="alerts" message="0 of 4 expected alerts were raised"#),
        "{xml}"
    );
    // Evidence beats absence.
    let one = machine.file("one.json", &json!([alert(RECON[0])]));
    let said = machine.said(&["verify", "--alerts", &one, "--assume=sensor=no"], 5);
    let contradiction = format!("is not so here, but \"{}\" was raised", RECON[0]);
    assert!(said.contains(&contradiction), "{said}");
}

#[test]
fn alerts_are_read_from_standard_input_and_once() {
    let machine = Machine::new();
    // Of a run that has just ended, more alerts may come: a pipe is not waited for.
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
        found[1..].iter().all(|(_, verdict)| verdict == "couldNotTell"),
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
    let said = machine.said(&[&window[..], &["--server=https://127.0.0.1:1"]].concat(), 0);
    assert!(said.contains("4 of 4 expected alerts raised"), "{said}");
    for part in ["Run unknown", "STEP", "steps proved"] {
        assert!(!said.contains(part), "{part} in {said}");
    }
    let named = machine.said(
        &[&window[..], &["--server=https://127.0.0.1:1", "-o=name"]].concat(),
        0,
    );
    assert!(!named.contains("run/"), "{named}");
}

#[test]
#[ignore = "needs the range: make range"]
fn a_run_waits_for_its_alerts_and_says_which_came() {
    let _shared = crate::range::shared();
    let space = crate::range::Space::named("verify");
    let machine = Machine::new();
    // Alerts about something that began long ago and goes on, as the API tells of what repeats.
    let ongoing = |name: &str| {
        let mut alert = alert(name);
        alert["properties"]["endTimeUtc"] = "2099-01-01T00:00:00Z".into();
        alert["properties"]["entities"][0]["name"] = space.0.as_str().into();
        alert
    };
    let alerts = machine.0.path().join("alerts.json");
    std::fs::write(&alerts, "[]").unwrap();
    let path = alerts.to_str().unwrap();
    let arguments = [
        "recon",
        "--verify",
        "--alerts",
        path,
        "--interval=1s",
        "--wait=5m",
        // The range has no sensor.
        "--assume=sensor=yes",
        "-n",
        &space.0,
        "-o",
        "json",
    ];
    let mut running = crate::range::Running::start(&arguments);
    let run = running.run();
    running.await_line("0 expected alerts raised, waiting for 4");
    // They come one by one.
    std::fs::write(&alerts, json!([ongoing(RECON[1])]).to_string()).unwrap();
    running.await_line("1 expected alert raised, waiting for 3");
    std::fs::write(&alerts, json!(RECON.map(ongoing)).to_string()).unwrap();
    let ran = running.end().assert(0);
    assert_keeps_to("run", &ran.json());
    assert!(
        verdicts(&ran.json())
            .iter()
            .all(|(_, verdict)| verdict == "raised"),
        "{ran:#?}"
    );
    crate::range::assert_nothing_left(&space.0);

    // The record is there for later, without a cluster.
    let history = crate::range::sim(&["history", "-o", "name"]).assert(0).stdout;
    assert!(history.lines().any(|line| line == run), "{history}");
    let report = crate::range::sim(&["report", &run]).assert(0).stdout;
    assert!(report.contains("4 of 4 expected alerts raised"), "{report}");

    // Killed while it waits, and taken up again.
    std::fs::write(&alerts, "[]").unwrap();
    let mut running = crate::range::Running::start(&arguments);
    let run = running.run();
    running.await_line("0 expected alerts raised, waiting for 4");
    running.signal("KILL");
    drop(running.end());
    std::fs::write(&alerts, json!(RECON.map(ongoing)).to_string()).unwrap();
    let again = crate::range::sim(&["verify", &run, "--alerts", path, "-o", "json"]).assert(0);
    assert!(
        verdicts(&again.json())
            .iter()
            .all(|(_, verdict)| verdict == "raised"),
        "{again:#?}"
    );
    crate::range::assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn the_baseline_runs_nothing_and_must_raise_nothing() {
    let _shared = crate::range::shared();
    let space = crate::range::Space::named("baseline");
    let machine = Machine::new();
    let none = machine.file("none.json", &json!([unrelated()]));
    // Not of before the end of the wait, as it would be here.
    let later = std::time::SystemTime::now() + Duration::from_secs(3600);
    let file = std::fs::File::options().write(true).open(&none).unwrap();
    file.set_modified(later).unwrap();
    let verify = [
        "--verify",
        "--interval=1s",
        "--wait=5s",
        "-n",
        &space.0,
        "-o",
        "json",
        "--alerts",
    ];
    // Whether there is a sensor takes rights that a run does not need. There is none, so no alert could be raised.
    let arguments = [&["recon", "--baseline"], &verify[..], &[&none]].concat();
    let refused = sim_as(Identity::Admin, &arguments).assert(3);
    for part in [
        "no alert can be raised: there is no Defender sensor",
        "--assume sensor=yes",
    ] {
        assert!(refused.stderr.contains(part), "{part} in {refused:#?}");
    }
    crate::range::assert_nothing_left(&space.0);
    let assumed = [&arguments[..], &["--assume=sensor=yes"]].concat();
    let ran = sim_as(Identity::Admin, &assumed).assert(0);
    assert_eq!(ran.outcomes(), [("visit".to_owned(), "proved".to_owned())]);
    let waited = |key: &str| {
        ran.json()[key]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .unwrap()
    };
    let looked = ran.json()["verification"]["looked"]
        .as_str()
        .unwrap()
        .parse::<jiff::Timestamp>()
        .unwrap();
    assert!(looked.duration_since(waited("ended")).as_secs() >= 4, "{ran:#?}");
    let mut unexpected = alert("Suspicious PHP execution detected");
    unexpected["properties"]["endTimeUtc"] = "2099-01-01T00:00:00Z".into();
    unexpected["properties"]["entities"][0]["name"] = space.0.as_str().into();
    let one = machine.file("one.json", &json!([unexpected]));
    crate::range::sim(&[&["recon", "--baseline"], &verify[..], &[&one]].concat()).assert(5);
    // For people: what it says, and what it is worth where there is no sensor.
    let run = crate::range::text(&ran.json()["run"]);
    let again = crate::range::sim(&["verify", &run, "--wait=1s", "--alerts", &none]).assert(5);
    let count = "No alert was expected, and none was raised, as of";
    assert!(again.stdout.contains(count), "{again:#?}");
    let failure = "error: no alert could be raised: there is no Defender sensor";
    assert!(again.stderr.contains(failure), "{again:#?}");
    crate::range::assert_nothing_left(&space.0);
}

/// From the attack on real pods to the verdicts: by a login, over HTTPS, with every alert of the catalogue, one
/// after the other; the process that waits is killed in between. Then with every condition.
#[test]
#[ignore = "needs the range: make range"]
fn alerts_that_come_to_azure_one_by_one_are_told_by_another_process_too() {
    let _shared = crate::range::shared();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(through_azure());
}

const TOKEN: &str = "a-token-that-nobody-may-see";

/// A run, and the Azure in which its alerts come.
struct Watched {
    run: String,
    cluster: String,
    /// Where records are.
    state: std::path::PathBuf,
    azure: FakeArm,
    cli: FakeCli,
}

impl Watched {
    /// Of this run, whose record is below `state`.
    async fn new(run: String, state: &Path) -> Self {
        let azure = FakeArm::start().await;
        azure.accept(TOKEN);
        Self {
            run,
            cluster: format!(
                "/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.ContainerService/managedClusters/range"
            ),
            state: state.to_owned(),
            azure,
            cli: FakeCli::new("az", TOKEN),
        }
    }

    /// `verify`, not started yet.
    fn verify(&self, flags: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_kubectl-defender_sim"));
        command.args(["verify", &self.run, "-o", "json", "--resource-id", &self.cluster]);
        command.args(["--azure-cloud", &self.azure.server.url(), "--azure-ca"]);
        command.arg(self.azure.authority()).args(flags);
        let path = format!("{}:/usr/bin:/bin", self.cli.folder().display());
        command
            .env_clear()
            .envs([("PATH", path.as_str()), ("HOME", "/nonexistent")])
            .env("XDG_STATE_HOME", &self.state)
            .kill_on_drop(true);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// The verdicts of a look that ends by itself.
    async fn verdicts(&self, flags: &[&str], code: i32) -> BTreeMap<String, String> {
        let output = self.verify(flags).output().await.unwrap();
        let (stdout, stderr) = (output.stdout, String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{flags:?}: {stderr}");
        assert!(!stderr.contains(TOKEN) && !String::from_utf8_lossy(&stdout).contains(TOKEN));
        let result: Value = serde_json::from_slice(&stdout).unwrap();
        assert_keeps_to("run", &result);
        verdicts(&result).into_iter().collect()
    }

    fn plan(&self, tier: &str) {
        let path = format!("/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Security/pricings/Containers");
        let plan = json!({"properties": {"pricingTier": tier}});
        self.azure.with(|state| state.objects.insert(path, plan));
    }
}

async fn through_azure() {
    let space = crate::range::Space::named("azure");
    // Whether there is a sensor takes rights that a run does not need.
    let ran = sim_as(Identity::Admin, &["all", "-n", &space.0, "-o", "json"]).assert(0);
    let run = crate::range::text(&ran.json()["run"]);
    let watched = Watched::new(run, Path::new(env!("CARGO_TARGET_TMPDIR"))).await;
    let raised = |name: &str| {
        let mut alert = alert(name);
        let folder = "providers/Microsoft.Security/locations/centralus/alerts";
        alert["id"] = format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/{folder}/{name}").into();
        let properties = &mut alert["properties"];
        for key in ["startTimeUtc", "endTimeUtc"] {
            properties[key] = ran.json()["ended"].clone();
        }
        properties["timeGeneratedUtc"] = jiff::Timestamp::now().to_string().into();
        properties["entities"][0]["name"] = space.0.as_str().into();
        properties["resourceIdentifiers"] =
            json!([{"type": "AzureResource", "azureResourceId": watched.cluster}]);
        alert
    };
    // The alert at place n comes at the time n.
    let known = defender_sim::defender::alerts::all();
    let all = || {
        known
            .iter()
            .enumerate()
            .map(|(n, alert)| (1 + n as u64, raised(&alert.name)))
    };
    watched.azure.with(|state| state.alerts = all().collect());

    // The range has no sensor, which the run saw.
    let waiting = ["--interval=1s", "--wait=5m", "--assume=sensor=yes,audit-log=yes"];
    let mut first = watched.verify(&waiting).spawn().unwrap();
    let mut lines = BufReader::new(first.stderr.take().unwrap()).lines();
    for come in [0, 5] {
        watched.azure.with(|state| state.now = come);
        let part = format!(
            "{come} expected alerts raised, waiting for {}",
            known.len() as u64 - come
        );
        let found = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if line.contains(&part) {
                    return;
                }
            }
            panic!("no line with {part:?}");
        };
        let found = tokio::time::timeout(Duration::from_secs(60), found).await;
        found.unwrap_or_else(|_| panic!("no {part:?}"));
    }
    first.kill().await.unwrap();
    watched.azure.with(|state| state.now = 99);
    let verdicts = watched.verdicts(&waiting, 0).await;
    assert_eq!(verdicts.len(), known.len());
    assert!(
        verdicts.values().all(|verdict| verdict == "raised"),
        "{verdicts:?}"
    );

    // Nothing came, and the time is over. What is not known to be there is not told to be missing.
    watched.azure.with(|state| state.alerts.clear());
    let over = ["--wait=1s", "--assume=sensor=yes"];
    let verdicts = watched.verdicts(&over, 5).await;
    for alert in known {
        let expected = if alert.condition.is_some() {
            "couldNotTell"
        } else {
            "notRaised"
        };
        assert_eq!(verdicts[&alert.id], expected, "{}", alert.id);
    }
    for (condition, id) in [
        ("audit-log", "service-account-operation"),
        ("drift-policy", "binary-drift"),
        ("dns-detection", "test-domain"),
        ("anti-malware", "malware-execution"),
    ] {
        for (is, verdict) in [("no", "notExpected"), ("yes", "notRaised")] {
            let assume = format!("--assume={condition}={is}");
            let verdicts = watched.verdicts(&[&over[..], &[&assume]].concat(), 5).await;
            assert_eq!(verdicts[id], verdict, "{assume}");
        }
    }
    // Without a sensor only that of the audit log can come.
    let audited = "service-account-operation";
    for (flags, code, verdict) in [
        (&["--wait=1s"][..], 5, "couldNotTell"),
        (&["--wait=1s", "--assume=audit-log=yes"], 5, "notRaised"),
    ] {
        for (id, told) in watched.verdicts(flags, code).await {
            let expected = if id == audited { verdict } else { "notExpected" };
            assert_eq!(told, expected, "{id}");
        }
    }
    watched.plan("Standard");
    assert_eq!(watched.verdicts(&over, 5).await["web-shell"], "notRaised");
    watched.plan("Free");
    let verdicts = watched.verdicts(&over, 5).await;
    assert!(
        verdicts.values().all(|verdict| verdict == "notExpected"),
        "{verdicts:?}"
    );
    crate::range::assert_nothing_left(&space.0);
}
