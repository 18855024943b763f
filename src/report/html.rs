//! Results as one HTML document, for people: it loads nothing, runs nothing, and can be printed.
//!
//! The template is `templates/report.html`, its style `templates/report.css`. askama escapes every value. The content
//! security policy of the document permits only this style, by its hash, so that markup which got through all the same
//! could neither run nor load anything. The markup is XML too, which lets a test parse it strictly.

mod alerts;
mod attack;
pub(super) mod fleet;
mod gaps;
mod steps;
mod timeline;

use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::junit::in_xml;
use super::markdown::period;
use super::meaning::{State, meaning, news};
use super::reasons::proved;
use super::table::{clean, seconds};
use crate::defender::facts::{Fact, Facts};
use crate::result::{Cleanup, Problem, RunResult};
use crate::scenario::Outcome;
use crate::words::counted;

use alerts::Alerts;
use attack::Attack;
use gaps::Gap;
use steps::{Place, Steps};
use timeline::Timeline;

const STYLE: &str = include_str!("../../templates/report.css");

#[derive(Template)]
#[template(path = "report.html", whitespace = "minimize")]
struct Page<'a> {
    result: &'a RunResult,
    style: &'static str,
    style_hash: String,
    title: String,
    state: Mark,
    meaning: &'static str,
    about: Vec<(&'static str, String)>,
    tiles: Vec<Tile>,
    problems: Vec<(&'static str, &'a Problem)>,
    gaps: Vec<Gap>,
    alerts: Alerts<'a>,
    steps: Steps<'a>,
    victims: Vec<Place<'a>>,
    timeline: Timeline<'a>,
    facts: Vec<Prerequisite<'a>>,
    attack: Attack<'a>,
    cleanup: Option<&'a Cleanup>,
    cleaned: String,
}

/// A state in words, with a symbol that repeats them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    /// Class of the colour: `good`, `bad`, `warn` or `idle`.
    class: &'static str,
    symbol: &'static str,
    word: &'static str,
}

/// A number that summarizes a part of the result.
struct Tile {
    class: &'static str,
    label: &'static str,
    value: String,
    note: String,
}

/// Whether the cluster has what alerts need.
struct Prerequisite<'a> {
    name: String,
    mark: Mark,
    reason: &'a str,
}

/// Renders a result as a document.
pub(super) fn render(result: &RunResult) -> String {
    let (state, title) = news(result);
    let problems = [
        ("Error", &result.problem),
        ("Alerts were not read completely", &result.verification_problem),
    ];
    let page = Page {
        result,
        style: STYLE,
        style_hash: STANDARD.encode(Sha256::digest(STYLE)),
        title,
        state: state_mark(state),
        meaning: meaning(result),
        about: about(result),
        tiles: tiles(result),
        problems: problems
            .into_iter()
            .filter_map(|(title, problem)| Some((title, problem.as_ref()?)))
            .collect(),
        gaps: gaps::gaps(result),
        alerts: Alerts::of(result),
        steps: Steps::of(result),
        victims: steps::victims(result),
        timeline: Timeline::of(result),
        facts: result.facts.as_ref().map(prerequisites).unwrap_or_default(),
        attack: Attack::of(result),
        cleanup: result.cleanup.as_ref(),
        cleaned: cleaned(result),
    };
    let mut text = page.render().expect("a result always renders");
    text.retain(in_xml);
    text
}

const fn mark(class: &'static str, symbol: &'static str, word: &'static str) -> Mark {
    Mark { class, symbol, word }
}

fn state_mark(state: State) -> Mark {
    match state {
        State::Passed => mark("good", "✓", "passed"),
        State::Waiting => mark("warn", "…", "waiting for alerts"),
        State::AlertsPassed => mark("warn", "!", "alerts pass, the run does not"),
        State::Failed => mark("bad", "✗", "failed"),
    }
}

fn outcome(outcome: Outcome) -> Mark {
    let (class, symbol) = match outcome {
        Outcome::Proved => ("good", "✓"),
        Outcome::Failed => ("bad", "✗"),
        Outcome::Blocked => ("warn", "⊘"),
        Outcome::Skipped => ("idle", "–"),
    };
    mark(class, symbol, outcome.as_str())
}

fn fact(fact: &Fact) -> (Mark, &str) {
    match fact {
        Fact::Yes => (mark("good", "✓", "yes"), ""),
        Fact::No(reason) => (mark("bad", "✗", "no"), reason),
        Fact::Unknown(reason) => (mark("warn", "?", "unknown"), reason),
    }
}

/// Formats a time in UTC.
fn utc(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// Returns what ran where, when and as whom.
fn about(result: &RunResult) -> Vec<(&'static str, String)> {
    let cluster = &result.cluster;
    let scenarios: Vec<&str> = result
        .scenarios
        .iter()
        .map(|scenario| scenario.id.as_str())
        .collect();
    let user = match (&cluster.user, &cluster.impersonated, &cluster.kubeconfig_user) {
        (Some(user), ..) => Some(user.clone()),
        (None, Some(user), _) => Some(format!("{user}, impersonated")),
        (None, None, Some(user)) => Some(format!("user {user} of the kubeconfig")),
        (None, None, None) => None,
    };
    let sensors: Vec<&Fact> = result
        .victims
        .iter()
        .filter_map(|victim| victim.sensor.as_ref())
        .collect();
    let ready = sensors.iter().filter(|sensor| ***sensor == Fact::Yes).count();
    let of_many =
        (sensors.len() > 1).then(|| format!("ready on the nodes of {ready} of {} pods", sensors.len()));
    let of_one = result.facts.as_ref().map(|facts| {
        let (mark, reason) = fact(&facts.sensor);
        let word = match mark.word {
            "yes" => "ready on the node of the pods",
            "no" => "not ready",
            word => word,
        };
        [word, reason]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(": ")
    });
    let kind = result.facts.as_ref().and_then(|facts| facts.cloud);
    let entries = [
        ("Run", result.is_identified().then(|| result.run.clone())),
        ("Scenarios", Some(scenarios.join(" "))),
        ("Time", Some(period(result.started, result.ended))),
        ("Context", cluster.context.clone()),
        ("API server", Some(cluster.server.clone())),
        ("Kubernetes", cluster.version.clone()),
        ("Kind of cluster", kind.map(|kind| kind.to_string())),
        ("Azure resource", cluster.resource_id.clone()),
        ("Namespace", Some(result.namespace.clone())),
        ("User", user),
        ("Defender sensor", of_many.or(of_one)),
        ("Clock of the cluster", result.clock_offset_seconds.map(clock)),
        (
            "Version",
            Some(format!("kubectl defender-sim {}", result.version)),
        ),
    ];
    let known = entries
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    known.filter(|(_, value)| !value.is_empty()).collect()
}

/// Formats the difference of the cluster's clock.
fn clock(offset: i64) -> String {
    let word = if offset < 0 { "behind" } else { "ahead of" };
    format!(
        "{} s {word} that of the machine that started the run; all times here are the cluster's",
        offset.unsigned_abs()
    )
}

fn tiles(result: &RunResult) -> Vec<Tile> {
    let (proved, all) = proved(result);
    let skipped = result
        .steps()
        .filter(|step| step.outcome == Outcome::Skipped)
        .count();
    let note = [counted(result.victims.len(), "victim")]
        .into_iter()
        .chain((skipped > 0).then(|| format!("{skipped} skipped")));
    let steps = Tile {
        class: steps::rating(&result.steps().collect::<Vec<_>>()),
        label: "Steps proved",
        value: if all == 0 {
            "unknown".to_owned()
        } else {
            format!("{proved} of {all}")
        },
        note: note.collect::<Vec<_>>().join(", "),
    };
    let mut tiles = vec![steps];
    tiles.extend(alerts::tiles(result));
    let (class, value) = match &result.cleanup {
        Some(cleanup) if cleanup.is_clean() => ("good", "verified"),
        Some(cleanup) if cleanup.verified => ("bad", "objects left"),
        Some(_) => ("bad", "not verified"),
        None if result.kept_until.is_some() => ("warn", "pods kept"),
        None => ("idle", "none needed"),
    };
    tiles.push(Tile {
        class,
        label: "Cleanup",
        value: value.to_owned(),
        note: result.cleanup.as_ref().map_or_else(String::new, |cleanup| {
            format!("{} removed", counted(cleanup.removed.len(), "object"))
        }),
    });
    tiles
}

/// Formats what became of the objects of the run.
fn cleaned(result: &RunResult) -> String {
    match (&result.cleanup, result.kept_until) {
        (Some(cleanup), _) => clean(cleanup),
        (None, Some(until)) => format!("The pods are kept for inspection until about {}.", utc(until)),
        (None, None) => "Nothing was created, so nothing had to be removed.".to_owned(),
    }
}

fn prerequisites(facts: &Facts) -> Vec<Prerequisite<'_>> {
    let common = [
        ("plan Defender for Containers".to_owned(), &facts.plan),
        ("sensor ready on the node of the pods".to_owned(), &facts.sensor),
    ];
    let conditions = facts.conditions.iter();
    let conditions = conditions.map(|(condition, fact)| (condition.to_string(), fact));
    let all = common.into_iter().chain(conditions);
    all.map(|(name, known)| {
        let (mark, reason) = fact(known);
        Prerequisite { name, mark, reason }
    })
    .collect()
}

#[cfg(test)]
mod tests;
