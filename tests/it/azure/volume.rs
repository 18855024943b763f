//! Time and memory limits of ten thousand alerts.

use std::time::Instant;

use defender_sim::azure::{Arm, ArmOptions, Saved, Source};
use defender_sim::net::Environment;
use serde_json::{Value, json};

use super::{TOKEN, scope, since};
use crate::arm::{FakeArm, FakeCli, alert};

const FORM: &str = "DEFENDER_SIM_TEST_FORM";

/// Reads ten thousand alerts in a separate process to measure its memory. Started by the test below.
#[tokio::test]
#[expect(clippy::print_stdout, reason = "it is how the other half learns of it")]
async fn ten_thousand_alerts_alone() {
    let Ok(form) = std::env::var(FORM) else {
        return;
    };
    let (form, place) = form.split_once(' ').unwrap();
    let source = if form == "file" {
        Source::Saved(Saved::File(place.into()))
    } else {
        let arm = Arm::new(ArmOptions {
            cloud: place.parse().unwrap(),
            certificate_authority: std::env::var_os("DEFENDER_SIM_TEST_CA").map(Into::into),
            environment: Environment::from_process(),
            ..ArmOptions::default()
        })
        .unwrap();
        match form {
            "rest" => Source::Alerts(arm, scope()),
            _ => Source::Graph(arm, scope()),
        }
    };
    let begun = Instant::now();
    let mut mentions = 0;
    let answer = source
        .alerts(since(), |alert| mentions += alert.about.mentions.len())
        .await
        .unwrap();
    let (took, count) = (begun.elapsed().as_millis(), answer.alerts);
    assert!(mentions > count);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    let peak = line.split_whitespace().nth(1).unwrap();
    println!("\nmeasured {count} {took} {peak}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(
    clippy::print_stdout,
    reason = "whoever changes the reader wants to see the numbers"
)]
async fn ten_thousand_alerts_take_little_time_and_memory() {
    let azure = FakeArm::start().await;
    let cli = FakeCli::new("az", TOKEN);
    azure.accept(TOKEN);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("alerts.json");
    let all: Vec<Value> = (0..10_000).map(alert).collect();
    std::fs::write(&file, json!(all).to_string()).unwrap();
    for form in ["rest", "graph", "file"] {
        azure.prepare(&all, form == "graph");
        let place = if form == "file" {
            file.display().to_string()
        } else {
            azure.server.url()
        };
        let output = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--nocapture",
                "azure::volume::ten_thousand_alerts_alone",
            ])
            .envs(cli.variables(&[(FORM, &format!("{form} {place}"))]))
            .env("DEFENDER_SIM_TEST_CA", azure.authority())
            .output()
            .await
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        let measured = printed.lines().find_map(|line| line.strip_prefix("measured "));
        let measured =
            measured.unwrap_or_else(|| panic!("{printed}{}", String::from_utf8_lossy(&output.stderr)));
        println!("{form}: {measured}");
        let numbers: Vec<u64> = measured
            .split(' ')
            .map(|number| number.parse().unwrap())
            .collect();
        let [count, milliseconds, kilobytes] = numbers[..] else {
            panic!("{measured}");
        };
        // A debug build on a shared machine is slow.
        let most = if cfg!(debug_assertions) { 120_000 } else { 2_000 };
        assert_eq!(count, 10_000);
        assert!(milliseconds < most, "{form}: {milliseconds} ms");
        assert!(kilobytes < 100_000, "{form}: {kilobytes} kB");
    }
}
