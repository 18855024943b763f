//! Verification of runs on a real cluster.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use defender_sim::defender::alerts;
use defender_sim::result::merged_expectations;
use defender_sim::scenario::{Scenario, catalogue};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::azure::FakeAzure;
use super::{Machine, RECON, alert, unrelated, verdicts};
use crate::arm::{GROUP, SUBSCRIPTION};
use crate::contract::assert_keeps_to;
use crate::range::{Identity, sim_as};

#[test]
#[ignore = "needs the range: make range"]
fn run_waits_for_its_alerts_and_reports_them() {
    let _shared = crate::range::shared();
    let space = crate::range::Space::named("verify");
    let machine = Machine::new();
    // Alerts about continuing activity, as the API reports repeated alerts.
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
    // Alerts are raised one by one.
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

    // The record remains available without a cluster.
    let history = crate::range::sim(&["history", "-o", "name"]).assert(0).stdout;
    assert!(history.lines().any(|line| line == run), "{history}");
    let report = crate::range::sim(&["report", &run]).assert(0).stdout;
    assert!(report.contains("4 of 4 expected alerts raised"), "{report}");

    // Killed during the wait, and resumed.
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
fn baseline_fails_if_an_alert_is_raised() {
    let _shared = crate::range::shared();
    let space = crate::range::Space::named("baseline");
    let machine = Machine::new();
    let none = machine.file("none.json", &json!([unrelated()]));
    // Saved after the end of the wait, according to its modification time.
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
    // Detecting that there is no sensor needs permissions that a run does not.
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
    let read = ran.json()["verification"]["read"]
        .as_str()
        .unwrap()
        .parse::<jiff::Timestamp>()
        .unwrap();
    assert!(read.duration_since(waited("ended")).as_secs() >= 4, "{ran:#?}");
    let mut unexpected = alert("Suspicious PHP execution detected");
    unexpected["properties"]["endTimeUtc"] = "2099-01-01T00:00:00Z".into();
    unexpected["properties"]["entities"][0]["name"] = space.0.as_str().into();
    let one = machine.file("one.json", &json!([unexpected]));
    crate::range::sim(&[&["recon", "--baseline"], &verify[..], &[&one]].concat()).assert(5);
    // The human-readable output.
    let run = crate::range::text(&ran.json()["run"]);
    let again = crate::range::sim(&["verify", &run, "--wait=1s", "--alerts", &none]).assert(5);
    let count = "No alert was expected, and none was raised, as of";
    assert!(again.stdout.contains(count), "{again:#?}");
    let failure = "error: no alert could be raised: there is no Defender sensor";
    assert!(again.stderr.contains(failure), "{again:#?}");
    crate::range::assert_nothing_left(&space.0);
}

/// Runs the attack on real pods and reads every alert of the catalogue from Azure, one by one.
///
/// The waiting process is killed in between. Then repeats this with every condition.
#[test]
#[ignore = "needs the range: make range"]
fn alerts_raised_one_by_one_are_reported_after_a_restart() {
    let _shared = crate::range::shared();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(through_azure());
}

#[expect(clippy::too_many_lines, reason = "one run and its alerts, one by one")]
async fn through_azure() {
    let space = crate::range::Space::named("azure");
    // Detecting that there is no sensor needs permissions that a run does not.
    let ran = sim_as(Identity::Admin, &["all", "-n", &space.0, "-o", "json"]).assert(0);
    let run = crate::range::text(&ran.json()["run"]);
    let watched = FakeAzure::new(run, Path::new(env!("CARGO_TARGET_TMPDIR"))).await;
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
    // The alert at index n is raised at time n.
    let attacks: Vec<Scenario> = catalogue::attacks()
        .map(|id| catalogue::find(id).unwrap().clone())
        .collect();
    let expected = merged_expectations(&attacks);
    let all = || {
        expected
            .iter()
            .enumerate()
            .map(|(n, alert)| (1 + n as u64, raised(&alert.name)))
    };
    watched.azure.with(|state| state.alerts = all().collect());

    // The range has no sensor, which the run detected.
    let waiting = ["--interval=1s", "--wait=5m", "--assume=sensor=yes,audit-log=yes"];
    let mut first = watched.verify(&waiting).spawn().unwrap();
    let mut lines = BufReader::new(first.stderr.take().unwrap()).lines();
    for raised in [0, 5] {
        watched.azure.with(|state| state.now = raised);
        let part = format!(
            "{raised} expected alerts raised, waiting for {}",
            expected.len() as u64 - raised
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
    watched.azure.with(|state| state.now = expected.len() as u64);
    let verdicts = watched.verdicts(&waiting, 0).await;
    assert_eq!(verdicts.len(), expected.len());
    assert!(
        verdicts.values().all(|verdict| verdict == "raised"),
        "{verdicts:?}"
    );

    // No alert was raised in time. An alert with an unknown prerequisite is not reported as missing.
    watched.azure.with(|state| state.alerts.clear());
    let over = ["--wait=1s", "--assume=sensor=yes"];
    let verdicts = watched.verdicts(&over, 5).await;
    let known = |id: &str| alerts::find(id).unwrap();
    let optional = expected.iter().filter(|alert| alert.optional);
    let optional: BTreeSet<&str> = optional.map(|alert| alert.id.as_str()).collect();
    for (id, verdict) in &verdicts {
        let expected = match known(id).condition {
            _ if optional.contains(id.as_str()) => "notExpected",
            Some(_) => "unknown",
            None => "notRaised",
        };
        assert_eq!(verdict, expected, "{id}");
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
    // Without a sensor only the alerts of the audit log can be raised.
    for (flags, code, verdict) in [
        (&["--wait=1s"][..], 5, "unknown"),
        (&["--wait=1s", "--assume=audit-log=yes"], 5, "notRaised"),
    ] {
        for (id, reported) in watched.verdicts(flags, code).await {
            let is_expected = !known(&id).needs_sensor(None) && !optional.contains(id.as_str());
            let expected = if is_expected { verdict } else { "notExpected" };
            assert_eq!(reported, expected, "{id}");
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
