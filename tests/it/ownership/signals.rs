//! Signals and clocks.

use std::time::Duration;

use crate::range::{Running, Space, assert_nothing_left, shared, sim, text};

#[test]
#[ignore = "needs the range: make range"]
fn only_a_second_interrupt_ends_a_run_at_once() {
    let _shared = shared();
    for (name, signals, code) in [
        ("hup", &["HUP", "HUP", "HUP"][..], 129),
        ("term", &["TERM", "TERM"], 143),
        ("int-term", &["INT", "TERM"], 130),
    ] {
        let space = Space::named(&format!("signals-{name}"));
        let mut running = Running::start(&["recon", "-n", &space.0]);
        running.await_line("attacking");
        for signal in signals {
            running.signal(signal);
            std::thread::sleep(Duration::from_millis(300));
        }
        let ran = running.end().assert(code);
        assert!(ran.stdout.contains("nothing left"), "{name}: {ran:#?}");
        assert_nothing_left(&space.0);
    }
}

#[test]
#[ignore = "needs the range: make range"]
fn run_ended_at_once_keeps_its_record() {
    let _shared = shared();
    let space = Space::named("ended");
    let mut running = Running::start(&["recon", "-n", &space.0]);
    let run = running.run();
    running.await_line("attacking");
    running.signal("INT");
    running.await_line("stopping");
    std::thread::sleep(Duration::from_millis(300));
    running.signal("INT");
    let ran = running.end().assert(130);
    assert!(
        ran.stderr
            .contains(&format!("cleanup --run {run} -n {}", space.0)),
        "{ran:#?}"
    );
    let report = sim(&["report", &run]).assert(0);
    assert!(report.stderr.contains("ended before the run did"), "{report:#?}");
    sim(&["cleanup", "--run", &run, "-n", &space.0]).assert(0);
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn run_started_with_hangup_ignored_survives_it() {
    let _shared = shared();
    let space = Space::named("nohup");
    let mut running = Running::start_under(&["nohup"], &["webshell", "-n", &space.0]);
    running.await_line("waiting for pod/");
    running.signal("HUP");
    running.end().assert(0);
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn times_of_a_run_are_the_cluster_s_whatever_the_clock_of_the_client() {
    let _shared = shared();
    let space = Space::named("clock");
    let arguments = ["webshell", "-n", &space.0, "-o", "json"];
    let running = Running::start_under(&["faketime", "-f", "+20m"], &arguments);
    let ran = running.end().assert(0);
    let json = ran.json();
    let offset = json["clockOffsetSeconds"].as_i64().unwrap();
    assert!((-1210..-1190).contains(&offset), "{offset}");
    assert!(ran.stderr.contains("this machine's clock is 1"), "{ran:#?}");
    let step = &json["scenarios"][0]["steps"][0];
    for time in [&json["started"], &json["ended"], &step["started"]] {
        let time: jiff::Timestamp = text(time).parse().unwrap();
        let age = jiff::Timestamp::now().duration_since(time).as_secs();
        assert!((-10..120).contains(&age), "{time}");
    }
    assert_nothing_left(&space.0);
}
