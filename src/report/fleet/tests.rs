use super::*;
use crate::report::fixture;
use crate::result::{Cleanup, ScenarioResult};

/// Returns the outcome of a run in this context.
fn outcome(context: &str, run: RunResult) -> ClusterOutcome {
    ClusterOutcome::new(context.to_owned(), ClusterResult::Run(Box::new(run)))
}

fn unreachable(context: &str) -> ClusterOutcome {
    let problem = Problem {
        message: "failed to reach the cluster: refused".to_owned(),
        hint: Some("kubectl config view".to_owned()),
        details: vec!["more".to_owned()],
    };
    ClusterOutcome::failed(context.to_owned(), problem, Exit::NotStarted)
}

fn fleet(clusters: Vec<ClusterOutcome>) -> FleetResult {
    let time = "2026-01-02T03:04:05Z".parse().unwrap();
    FleetResult::new(clusters, (time, time))
}

/// Returns a table without styles.
fn plain_table(fleet: &FleetResult, width: Width) -> String {
    let printed = super::super::style::printable(&table(fleet, width));
    let styles = ["\u{1b}[0m", "\u{1b}[1m", "\u{1b}[31m", "\u{1b}[32m", "\u{1b}[33m"];
    styles.iter().fold(printed, |text, style| text.replace(style, ""))
}

/// Returns a run with this many scenarios of a step each.
fn with_scenarios(number: usize) -> RunResult {
    let mut run = fixture::mixed();
    let scenario = run.scenarios[0].clone();
    let scenarios = (0..number).map(|index| ScenarioResult {
        id: format!("scenario-{index}"),
        ..scenario.clone()
    });
    run.scenarios = scenarios.collect();
    run
}

#[track_caller]
fn assert_fits(text: &str) {
    assert!(text.lines().all(|line| display_width(line) <= screen()), "{text}");
}

#[test]
fn table_has_clusters_and_scenarios_and_the_worst_exit_code() {
    let fleet = fleet(vec![
        outcome("eu-1", fixture::mixed()),
        unreachable("down"),
        outcome("eu-2", fixture::unclean()),
    ]);
    assert_eq!(fleet.exit, Exit::LeftBehind);
    let text = plain_table(&fleet, Width::Screen);
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("CLUSTER  one") && lines[0].ends_with("EXIT"),
        "{text}"
    );
    assert!(lines[2].starts_with("down     -"), "{text}");
    assert_eq!(
        lines.last(),
        Some(&"0 of 3 clusters passed. Cells: steps proved."),
        "{text}"
    );
    assert_fits(&text);
}

#[test]
fn verified_runs_have_alerts_in_their_cells() {
    let text = plain_table(&fleet(vec![outcome("eu-1", fixture::verified())]), Width::Screen);
    assert!(text.lines().next().unwrap().contains("ALERTS"), "{text}");
    assert!(text.contains("2 of 6"), "{text}");
    let unwrapped = text.replace('\n', " ");
    assert!(
        unwrapped.contains("Cells: steps proved, and the scenario's required alerts raised."),
        "{text}"
    );
}

#[test]
fn every_layout_fits_the_screen_and_has_every_cluster_and_scenario() {
    let long = |index: usize| format!("arn:aws:eks:eu-central-1:111122223333:cluster/name-{index}");
    for (clusters, scenarios, first) in [
        (2, 2, "CLUSTER"),
        (2, 20, "SCENARIO"),
        (30, 3, "CLUSTER"),
        (30, 30, "CLUSTER"),
        (1, 1, "CLUSTER"),
    ] {
        let outcomes = (0..clusters).map(|index| outcome(&format!("c-{index}"), with_scenarios(scenarios)));
        let fleet = fleet(outcomes.collect());
        let text = plain_table(&fleet, Width::Screen);
        assert!(text.starts_with(first), "{text}");
        assert_fits(&text);
        for index in 0..scenarios {
            assert!(text.contains(&format!("scenario-{index}")), "{index} in {text}");
        }
        for index in 0..clusters {
            assert!(text.contains(&format!("c-{index}")), "{index} in {text}");
        }
        let wide = plain_table(&fleet, Width::Wide);
        assert_eq!(wide.matches("CLUSTER").count(), 1, "{wide}");
    }
    let outcomes = (0..3).map(|index| outcome(&long(index), with_scenarios(9)));
    assert_fits(&plain_table(&fleet(outcomes.collect()), Width::Screen));
}

#[test]
fn failures_name_the_cluster_the_cause_and_the_next_command() {
    let kubectl = Kubectl::new([("kubeconfig", Some("k".to_owned()))]);
    let of = |cluster: &ClusterOutcome| {
        let failures = failures(cluster, &kubectl).into_iter();
        let failures = failures.map(|problem| (problem.message, problem.hint.unwrap_or_default()));
        failures.collect::<Vec<_>>()
    };
    let pair = |message: &str, hint: &str| (message.to_owned(), hint.to_owned());
    assert_eq!(
        of(&unreachable("down")),
        [pair(
            "down: failed to reach the cluster: refused",
            "kubectl config view"
        )]
    );
    let run = fixture::interrupted().run;
    assert!(
        of(&outcome("eu", fixture::interrupted()))[0]
            .0
            .starts_with("eu: interrupted; ")
    );
    let unclean = of(&outcome("eu", fixture::unclean()));
    let cleanup = format!("kubectl defender-sim cleanup --run {run} -n sim --context eu --kubeconfig k");
    assert!(
        unclean.contains(&pair("eu: left behind: pod/b", &cleanup)),
        "{unclean:?}"
    );
    let unverified = RunResult {
        cleanup: Some(Cleanup::default()),
        ..fixture::unclean()
    };
    let unverified = of(&outcome("eu", unverified));
    assert!(
        unverified.contains(&pair(
            "eu: could not verify that nothing was left behind",
            &cleanup
        )),
        "{unverified:?}"
    );
    let mixed = of(&outcome("eu", fixture::mixed()));
    assert!(mixed[0].0.contains("proved, not one.fetch"), "{mixed:?}");
    assert_eq!(mixed[0].1, format!("see: kubectl defender-sim report {run}"));
    let stopped = ClusterOutcome::failed("eu".to_owned(), None, Exit::Interrupted);
    assert_eq!(of(&stopped), [pair("eu: stopped before it began", "")]);
}

#[test]
fn run_that_did_not_start_is_its_problem() {
    let cluster = outcome("eu", fixture::not_started());
    assert!(cluster.result.is_none());
    assert_eq!(cluster.problem.unwrap().message, "pods is forbidden");
}

#[test]
fn reports_on_several_clusters_hold_all_of_them() {
    use crate::report::export::{Kind, render_fleet};

    let fleet = fleet(vec![outcome("eu|1", fixture::verified()), unreachable("<down>")]);
    let junit = render_fleet(Kind::Junit, &fleet);
    for part in [
        "<testsuite name=\"defender-sim.eu|1.one\"",
        "classname=\"defender-sim.eu|1.alerts\"",
        "<testsuite name=\"defender-sim.&lt;down&gt;.run\" tests=\"1\" failures=\"0\" errors=\"1\"",
        "failed to reach the cluster: refused",
    ] {
        assert!(junit.contains(part), "{part} in {junit}");
    }
    let markdown = render_fleet(Kind::Markdown, &fleet);
    for part in [
        "| <code>eu&#124;1</code> |",
        "### <code>eu&#124;1</code>: ",
        "### <code>&lt;down&gt;</code>: ❌ no result",
        "**Error:** <code>failed to reach the cluster: refused</code>",
    ] {
        assert!(markdown.contains(part), "{part} in {markdown}");
    }
    let json: serde_json::Value = serde_json::from_str(&render_fleet(Kind::Json, &fleet)).unwrap();
    assert_eq!(json["clusters"][1]["context"], "<down>");
}
