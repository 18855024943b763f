//! Ends of runs: signals, kills, deadlines, cleanup, and several runs at once.

use std::time::Duration;

use crate::cluster::hold;
use crate::range::{Running, Space, assert_nothing_left, await_that, kubectl, left_in, shared, sim, text};

/// The alerts that were requested are not read.
#[test]
#[ignore = "needs the range: make range"]
fn a_signal_while_a_run_is_removed_leaves_its_alerts_unread() {
    let _shared = shared();
    let space = Space::named("unread");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[]").unwrap();
    let path = file.path().to_str().unwrap();
    let mut running = Running::start(&["webshell", "-n", &space.0, "--verify", "--alerts", path]);
    running.await_line("removing");
    running.signal("INT");
    let ran = running.end().assert(130);
    assert!(ran.stdout.contains("nothing left"), "{ran:#?}");
    assert_nothing_left(&space.0);
}

/// The two points at which runs are terminated: while pods start, and during the attack.
const POINTS: [(&str, &str); 2] = [("starting", "waiting for pod/"), ("attacking", "attacking")];

#[test]
#[ignore = "needs the range: make range"]
fn a_signal_cleans_up() {
    let _shared = shared();
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        for (name, line) in POINTS {
            let space = Space::named(&format!("{}-{name}", signal.to_lowercase()));
            let mut running = Running::start(&["recon", "-n", &space.0]);
            running.await_line(line);
            running.signal(signal);
            let ran = running.end().assert(code);
            assert!(ran.stdout.contains("nothing left"), "{ran:#?}");
            assert_nothing_left(&space.0);
        }
    }
}

#[test]
#[ignore = "needs the range: make range"]
fn cleanup_removes_what_a_killed_run_left() {
    let _shared = shared();
    for (name, line) in POINTS {
        let space = Space::named(&format!("kill-{name}"));
        let mut running = Running::start(&["recon", "-n", &space.0]);
        let run = running.run();
        running.await_line(line);
        running.signal("KILL");
        assert_eq!(running.end().code, None);
        assert_ne!(left_in(&space.0), Vec::<String>::new());
        // In all namespaces, but only this run: other tests run at the same time.
        let ran = sim(&["cleanup", "--run", &run]).assert(0);
        assert!(ran.stdout.contains("nothing left"), "{ran:#?}");
        assert_nothing_left(&space.0);
    }
}

#[test]
#[ignore = "needs the range: make range"]
fn a_run_without_its_client_ends_by_itself() {
    let _shared = shared();
    let space = Space::named("deadline");
    let mut running = Running::start(&["recon", "-n", &space.0, "--deadline", "30s"]);
    running.await_line("attacking");
    running.signal("KILL");
    running.end();
    await_that("only the namespace is left", Duration::from_secs(45), || {
        left_in(&space.0) == [format!("namespace/{}", space.0)]
    });
    assert_eq!(kubectl(&["get", "pods", "-n", &space.0, "-o", "name"]), "");
    // The next run uses and removes the namespace.
    sim(&["webshell", "-n", &space.0]).assert(0);
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn a_second_run_is_refused_in_the_same_namespace_and_works_in_another() {
    let _shared = shared();
    let (space, other) = (Space::named("first"), Space::named("second"));
    let (n, file) = (space.0.as_str(), hold());
    let operator = ["--as", "second-operator", "--as-group", "system:masters"];
    let mut first = Running::start(&["run", "-f", file.path().to_str().unwrap(), "-n", n, "-o", "json"]);
    let run = first.run();
    let objects = || {
        let form = r#"jsonpath={range .items[*]}{.kind} {.metadata.name} {.metadata.uid} {.metadata.deletionTimestamp}{"\n"}{end}"#;
        kubectl(&[
            "get",
            "pods,jobs,services,configmaps,secrets",
            "-n",
            n,
            "-o",
            form,
        ])
    };
    // Once while pods start, once during the attack.
    for line in POINTS.map(|(_, line)| line) {
        first.await_line(line);
        let before = objects();
        let ran = sim(&[&["recon", "-n", n][..], &operator].concat()).assert(3);
        assert!(
            ran.stderr
                .contains(&format!("run {run} of operator holds namespace {n} until ")),
            "{}",
            ran.stderr
        );
        assert_eq!(ran.stdout, "");
        assert_eq!(objects(), before);
    }
    let elsewhere = sim(&[&["webshell", "-n", &other.0, "-o", "json"][..], &operator].concat()).assert(0);
    assert_eq!(elsewhere.outcomes(), [("whoami".to_owned(), "proved".to_owned())]);
    assert_eq!(elsewhere.json()["cluster"]["user"], "second-operator");
    // The first run ends only now, when the file that it waits for is created in its own pod.
    kubectl(&["exec", "mdc-simulation-victim", "-n", n, "--", "touch", "/tmp/go"]);
    let first = first.end().assert(0);
    let proved = ["hold", "after"].map(|step| (step.to_owned(), "proved".to_owned()));
    assert_eq!(first.outcomes(), proved, "{first:#?}");
    assert_nothing_left(n);
    assert_nothing_left(&other.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn steps_that_an_interrupted_run_did_not_begin_are_skipped() {
    let _shared = shared();
    let (space, file) = (Space::named("not-begun"), hold());
    let path = file.path().to_str().unwrap();
    let mut running = Running::start(&["run", "webshell", "-f", path, "-n", &space.0, "-o", "json"]);
    running.await_line("webshell.whoami: proved");
    running.signal("INT");
    let ran = running.end().assert(130);
    let outcomes: Vec<String> = ran.outcomes().into_iter().map(|(_, outcome)| outcome).collect();
    assert_eq!(outcomes[0], "proved", "{ran:#?}");
    assert_eq!(outcomes[2], "skipped", "{ran:#?}");
    let reason = text(&ran.json()["scenarios"][1]["steps"][1]["reason"]);
    assert_eq!(reason, "not run: interrupted", "{ran:#?}");
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn of_runs_that_start_at_once_one_goes_through() {
    // A run that fails to create the namespace must not remove it from the run that created it.
    let _shared = shared();
    let space = Space::named("at-once");
    let start = |_| Running::start_bare(&["webshell", "-n", &space.0]);
    let runs: Vec<Running> = (0..8).map(start).collect();
    let ran: Vec<_> = runs.into_iter().map(Running::end).collect();
    // A run that starts late may start after the first one ended.
    let of = |code| ran.iter().filter(|ran| ran.code == Some(code)).count();
    assert!(of(0) >= 1 && of(0) + of(3) == 8, "{ran:#?}");
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn cleanup_of_one_run_leaves_another_alone() {
    // By then, the namespace that the first run created belongs to the second one.
    let _shared = shared();
    let space = Space::named("two-runs");
    let n = &space.0;
    let killed = || {
        let mut running = Running::start(&["webshell", "-n", n]);
        let run = running.run();
        running.await_line("attacking");
        running.signal("KILL");
        running.end();
        run
    };
    // The namespace belongs to the first run; as at the deadline, its objects are removed with their owner.
    let first = killed();
    kubectl(&["delete", "job", "mdc-simulation", "-n", n]);
    await_that("only the namespace is left", Duration::from_secs(45), || {
        left_in(n) == [format!("namespace/{n}")]
    });
    let second = killed();
    let objects = || {
        let of_second = format!("defender-sim/run={second}");
        kubectl(&[
            "get",
            "pods,jobs,services,secrets",
            "-n",
            n,
            "-l",
            &of_second,
            "-o",
            "name",
            "--ignore-not-found",
        ])
    };
    let before = objects();
    assert_ne!(before, "");
    sim(&["cleanup", "--run", &first]).assert(3);
    assert_eq!(objects(), before);
    sim(&["cleanup", "--run", &second]).assert(0);
    assert_eq!(objects(), "");
}
