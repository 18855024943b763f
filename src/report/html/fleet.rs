//! The results of several clusters as one document: clusters by scenarios, then each cluster.
//!
//! The template is `templates/fleet.html`. What holds for the document of one result holds for this one.

use askama::Template;
use base64::Engine as _;
use sha2::{Digest as _, Sha256};

use super::super::fleet::matrix::{self, Tone};
use super::super::markdown::period;
use super::super::meaning::news;
use super::super::reasons::proved;
use super::alerts::Alerts;
use super::gaps::{Gap, gaps};
use super::steps::Steps;
use super::{Mark, STANDARD, STYLE, Tile, about, in_xml, mark, state_mark};
use crate::exit::Exit;
use crate::result::{ClusterOutcome, FleetResult, Problem, RunResult};
use crate::words::counted;

#[derive(Template)]
#[template(path = "fleet.html", whitespace = "minimize")]
struct Page<'a> {
    fleet: &'a FleetResult,
    style: &'static str,
    style_hash: String,
    title: String,
    time: String,
    state: Mark,
    meaning: &'static str,
    tiles: Vec<Tile>,
    columns: Vec<&'a str>,
    rows: Vec<Row<'a>>,
    clusters: Vec<Section<'a>>,
}

/// A cluster in the matrix.
struct Row<'a> {
    context: &'a str,
    cells: Vec<Vec<Entry>>,
}

/// A number in a cell.
struct Entry {
    class: &'static str,
    text: String,
    what: &'static str,
}

/// The part of the document about one cluster.
struct Section<'a> {
    context: &'a str,
    state: Mark,
    exit_code: u8,
    news: String,
    about: Vec<(&'static str, String)>,
    problems: Vec<&'a Problem>,
    gaps: Vec<Gap>,
    alerts: Option<Alerts<'a>>,
    steps: Option<Steps<'a>>,
}

/// Renders the results as a document.
pub(in crate::report) fn render(fleet: &FleetResult) -> String {
    let passed = passed(fleet);
    let columns = matrix::columns(fleet);
    let rows = fleet.clusters.iter().enumerate().map(|(index, cluster)| Row {
        context: &cluster.context,
        cells: columns
            .iter()
            .map(|column| entries(&column.cells[index]))
            .collect(),
    });
    let rows = rows.collect();
    let listed = Exit::ALL.into_iter().find(|(exit, _)| *exit == fleet.exit);
    let page = Page {
        fleet,
        style: STYLE,
        style_hash: STANDARD.encode(Sha256::digest(STYLE)),
        title: format!("{passed} of {} passed", counted(fleet.clusters.len(), "cluster")),
        time: period(fleet.started, fleet.ended),
        state: state_of(fleet.exit),
        meaning: listed.map_or("", |(_, meaning)| meaning),
        tiles: tiles(fleet),
        columns: columns.iter().map(|column| heading(column.title)).collect(),
        rows,
        clusters: fleet.clusters.iter().map(section).collect(),
    };
    let mut text = page.render().expect("a result always renders");
    text.retain(in_xml);
    text
}

/// Returns the heading of a column.
fn heading(title: &str) -> &str {
    match title {
        "ALERTS" => "Alerts",
        "EXIT" => "Exit code",
        scenario => scenario,
    }
}

fn passed(fleet: &FleetResult) -> usize {
    let clusters = fleet.clusters.iter();
    clusters.filter(|cluster| cluster.exit == Exit::Ok).count()
}

fn state_of(exit: Exit) -> Mark {
    match exit {
        Exit::Ok => mark("good", "✓", "passed"),
        _ => mark("bad", "✗", "failed"),
    }
}

fn entries(parts: &[matrix::Part]) -> Vec<Entry> {
    let entries = parts.iter().map(|part| Entry {
        class: match part.tone {
            Tone::Good => "good",
            Tone::Warn => "warn",
            Tone::Bad => "bad",
            Tone::Idle => "idle",
        },
        text: part.text.clone(),
        what: part.what,
    });
    entries.collect()
}

fn tiles(fleet: &FleetResult) -> Vec<Tile> {
    let (passed, all) = (passed(fleet), fleet.clusters.len());
    let class = |good: bool| if good { "good" } else { "bad" };
    let sum = |numbers: &dyn Fn(&RunResult) -> (usize, usize)| {
        let numbers = fleet.runs().map(|(_, run)| numbers(run));
        numbers.fold((0, 0), |sum, (some, all)| (sum.0 + some, sum.1 + all))
    };
    let tile = |label, (some, all): (usize, usize), note: String| Tile {
        class: class(some == all),
        label,
        value: format!("{some} of {all}"),
        note,
    };
    let runs = counted(fleet.runs().count(), "run");
    let mut tiles = vec![
        tile("Clusters passed", (passed, all), String::new()),
        tile("Steps proved", sum(&proved), runs),
    ];
    let verified: Vec<&RunResult> = fleet
        .runs()
        .filter_map(|(_, run)| run.verification.is_some().then_some(run))
        .collect();
    if !verified.is_empty() {
        let raised = sum(&|run: &RunResult| run.verification.as_ref().map_or((0, 0), |it| it.raised(false)));
        let note = format!("in {}", counted(verified.len(), "cluster"));
        tiles.push(tile("Required alerts raised", raised, note));
    }
    let cleanups = fleet.runs().filter_map(|(_, run)| run.cleanup.as_ref());
    let cleanups: Vec<bool> = cleanups.map(crate::result::Cleanup::is_clean).collect();
    let clean = cleanups.iter().filter(|is_clean| **is_clean).count();
    if !cleanups.is_empty() {
        tiles.push(tile("Cleanup verified", (clean, cleanups.len()), String::new()));
    }
    tiles
}

fn section(cluster: &ClusterOutcome) -> Section<'_> {
    let (state, news, about) = match cluster.run() {
        Some(run) => {
            let (state, news) = news(run);
            (state_mark(state), news, about(run))
        }
        None => (state_of(cluster.exit), "No result".to_owned(), vec![]),
    };
    let of_run = cluster.run().into_iter();
    let of_run = of_run
        .flat_map(|run| [&run.problem, &run.verification_problem])
        .flatten();
    Section {
        context: &cluster.context,
        state,
        exit_code: cluster.exit_code,
        news,
        about,
        problems: cluster.problem.iter().chain(of_run).collect(),
        gaps: cluster.run().map(gaps).unwrap_or_default(),
        alerts: cluster.run().map(Alerts::of),
        steps: cluster.run().map(Steps::of),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_inert, complete, samples};
    use super::*;
    use crate::report::export::{self, Kind};
    use crate::result::ClusterResult;

    fn fleet(context: &str) -> FleetResult {
        let problem = Problem {
            message: format!("failed to reach the cluster: {context}"),
            hint: Some(context.to_owned()),
            details: vec![context.to_owned()],
        };
        let time = "2026-01-02T03:04:05Z".parse().unwrap();
        let runs = samples().into_iter().chain([complete()]);
        let clusters =
            runs.map(|run| ClusterOutcome::new(context.to_owned(), ClusterResult::Run(Box::new(run))));
        let down = ClusterOutcome::failed(context.to_owned(), problem, Exit::NotStarted);
        FleetResult::new(clusters.chain([down]).collect(), (time, time))
    }

    #[test]
    fn document_is_inert_and_has_every_cluster() {
        let fleet = fleet("eu");
        let parsed = assert_inert(&render(&fleet));
        let count = |name: &str| parsed.elements.iter().filter(|element| *element == name).count();
        assert_eq!(count("table"), count("caption"));
        assert_eq!(count("th"), parsed.values("scope").count());
        let sections = parsed
            .values("id")
            .filter(|id| id.starts_with("cluster-"))
            .count();
        assert_eq!(sections, fleet.clusters.len());
        assert!(parsed.text.contains("failed to reach the cluster: eu"));
    }

    #[test]
    fn hostile_context_stays_text() {
        for text in ["\"><script>alert(1)</script>", "{{ x }}'&", "javascript:alert(1)"] {
            let parsed = assert_inert(&export::render_fleet(Kind::Html, &fleet(text)));
            assert!(parsed.text.matches(text).count() > 10, "{text}");
        }
    }

    /// Writes a document to look at: `HTML_REPORTS=FOLDER cargo test --lib report::html -- --ignored`.
    #[test]
    #[ignore = "writes files to look at"]
    fn fleet_to_look_at() {
        let folder = std::path::PathBuf::from(std::env::var_os("HTML_REPORTS").expect("HTML_REPORTS is set"));
        let mut fleet = fleet("down-1");
        fleet.clusters = fleet.clusters.into_iter().skip(1).step_by(2).collect();
        for (index, cluster) in fleet.clusters.iter_mut().enumerate() {
            cluster.context = format!("prod-eu-{index}");
        }
        std::fs::write(folder.join("fleet.html"), render(&fleet)).unwrap();
    }
}
