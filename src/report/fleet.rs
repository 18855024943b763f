//! Human-readable results of several clusters: one table of clusters and scenarios, and why clusters failed.

pub(super) mod matrix;

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::Path;

use textwrap::core::display_width;

use super::annotations::annotations;
use super::meaning::{cleanup_command, proved_steps};
use super::reasons::proved;
use super::style::visible;
use super::table::{fill, table as columns, width as screen};
use super::{Format, GREEN, RED, Report, Width, YELLOW, json_line, may_raise_alerts, paint};
use crate::exit::Exit;
use crate::kubectl::Kubectl;
use crate::result::{
    Admission, CheckStatus, CleanupResult, ClusterOutcome, ClusterResult, DoctorResult, FleetResult,
    PlanResult, Problem, RunResult, Verification,
};
use crate::scenario::Outcome;
use crate::words::{counted, first_few};

use matrix::{Part, Tone};

/// Columns between two columns of a table.
const GAP: usize = 2;
/// Columns that the name of a cluster may take before it is wrapped.
const NAME: usize = 32;

impl Report {
    /// Prints the results of several clusters, why some of them failed, and the next commands.
    /// `file` is the fleet file, if there is one.
    pub fn fleet(&self, result: &FleetResult, file: Option<&Path>) {
        if self.output.format == Format::Jsonl {
            let lines = result.clusters.iter().map(json_line);
            self.data(&lines.collect::<String>());
        } else {
            let names = result.clusters.iter().map(|cluster| match cluster.run() {
                Some(run) if run.is_identified() => format!("run/{}", run.run),
                _ => cluster.context.clone(),
            });
            self.print(result, |width| table(result, width), names);
        }
        for cluster in &result.clusters {
            for failure in failures(cluster, &self.kubectl) {
                self.problem(&failure);
            }
            if let Some(run) = cluster.run() {
                let warnings = run.verification.iter().flat_map(Verification::warnings);
                for warning in warnings {
                    let warning = format!("{}: {warning}", cluster.context);
                    self.note(&format!("{}: {warning}", paint("warning", YELLOW)));
                }
                self.annotate(|pipeline| annotations(pipeline, run));
            } else if let Some(problem) = &cluster.problem {
                let title = format!("defender-sim {}", cluster.context);
                self.annotate(|pipeline| vec![pipeline.error(&title, &problem.message)]);
            }
        }
        let names = |is_named: fn(&RunResult) -> bool| {
            let named = result.runs().filter(|(_, run)| is_named(run));
            let named: Vec<&str> = named.map(|(context, _)| context).collect();
            (!named.is_empty()).then(|| named.join(","))
        };
        let file = file.map(|file| file.to_string_lossy().into_owned());
        let command = |words: &[&str], contexts: &str| {
            let words = std::iter::once("defender-sim").chain(words.iter().copied());
            let file = file.iter().flat_map(|file| ["--fleet", file]);
            self.kubectl
                .command(words.chain(file).chain(["--contexts", contexts]))
        };
        if let Some(contexts) = names(|run| run.kept_until.is_some()) {
            let cleanup = command(&["cleanup", "--force"], &contexts);
            self.hint(&format!("to remove the pods that are kept: {cleanup}"));
        }
        if let Some(contexts) = names(may_raise_alerts) {
            self.suggest(&command(&["verify"], &contexts));
        }
    }

    /// Returns whether a prompt is possible: both standard input and standard error are a terminal.
    pub fn can_prompt(&self) -> bool {
        std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
    }

    /// Returns this report with hints for another cluster.
    #[must_use]
    pub fn with_kubectl(&self, kubectl: Kubectl) -> Self {
        Self {
            kubectl,
            ..self.clone()
        }
    }
}

/// Formats the results as one table, and how many clusters failed.
fn table(fleet: &FleetResult, width: Width) -> String {
    let has_runs = fleet.runs().next().is_some();
    let mut text = if has_runs {
        runs(fleet, width)
    } else {
        let headers = fleet
            .clusters
            .iter()
            .find_map(|cluster| match cluster.result.as_ref()? {
                ClusterResult::Doctor(_) => Some(&["OK", "WARNING", "FAILED", "UNKNOWN"][..]),
                ClusterResult::Cleanup(_) => Some(&["REMOVED", "LEFT", "SKIPPED", "WOULD REMOVE"][..]),
                ClusterResult::Plan(_) => Some(&["NAMESPACE", "OBJECTS", "REFUSED"][..]),
                ClusterResult::Run(_) => None,
            });
        plain(fleet, headers.unwrap_or_default(), width)
    };
    let passed = fleet
        .clusters
        .iter()
        .filter(|cluster| cluster.exit == Exit::Ok)
        .count();
    let clusters = counted(fleet.clusters.len(), "cluster");
    let cells = match fleet.runs().find(|(_, run)| run.verification.is_some()) {
        _ if !has_runs => "",
        Some(_) => " Cells: steps proved, and the scenario's required alerts raised.",
        None => " Cells: steps proved.",
    };
    let _ = writeln!(
        text,
        "\n{}",
        fill(&format!("{passed} of {clusters} passed.{cells}"), "")
    );
    text
}

/// Formats one row per cluster, with these columns between its name and its exit code.
fn plain(fleet: &FleetResult, headers: &[&str], width: Width) -> String {
    let rows = fleet.clusters.iter().map(|cluster| {
        let cells = match &cluster.result {
            Some(ClusterResult::Doctor(result)) => doctor_cells(result),
            Some(ClusterResult::Cleanup(result)) => cleanup_cells(result),
            Some(ClusterResult::Plan(result)) => plan_cells(result),
            Some(ClusterResult::Run(_)) | None => vec!["-".to_owned(); headers.len()],
        };
        let name = std::iter::once(cluster.context.clone());
        name.chain(cells).chain([exit(cluster)]).collect()
    });
    let header: Vec<&str> = std::iter::once("CLUSTER")
        .chain(headers.iter().copied())
        .chain(["EXIT"])
        .collect();
    columns(&header, rows, width)
}

fn doctor_cells(result: &DoctorResult) -> Vec<String> {
    let number = |status| {
        result
            .checks
            .iter()
            .filter(|check| check.status == status)
            .count()
            .to_string()
    };
    [
        CheckStatus::Ok,
        CheckStatus::Warning,
        CheckStatus::Failed,
        CheckStatus::Unknown,
    ]
    .map(number)
    .to_vec()
}

fn cleanup_cells(result: &CleanupResult) -> Vec<String> {
    let CleanupResult {
        cleanup,
        skipped,
        would_remove,
        ..
    } = result;
    let numbers = [
        cleanup.removed.len(),
        cleanup.left.len(),
        skipped.len(),
        would_remove.len(),
    ];
    numbers.map(|number| number.to_string()).to_vec()
}

fn plan_cells(result: &PlanResult) -> Vec<String> {
    let objects = result.objects.len().to_string();
    vec![
        result.namespace.clone(),
        objects,
        refused(result).count().to_string(),
    ]
}

fn refused(result: &PlanResult) -> impl Iterator<Item = (&str, &str)> {
    let objects = result.objects.iter();
    objects.filter_map(|object| match &object.admission {
        Some(Admission::Refused(reason)) => Some((object.name.as_str(), reason.as_str())),
        _ => None,
    })
}

/// A table of text: clusters by scenarios.
struct Sheet {
    names: Vec<String>,
    titles: Vec<String>,
    /// A cell for each cluster, by title.
    cells: Vec<Vec<String>>,
}

impl Sheet {
    fn of(fleet: &FleetResult) -> Self {
        let columns = matrix::columns(fleet);
        let names = fleet.clusters.iter().map(|cluster| visible(&cluster.context));
        Self {
            names: names.collect(),
            titles: columns.iter().map(|column| column.title.to_owned()).collect(),
            cells: columns
                .into_iter()
                .map(|column| column.cells.iter().map(|parts| cell(parts)).collect())
                .collect(),
        }
    }

    /// Returns the table with the other orientation, whose first title is that of the scenarios.
    fn turned(&self) -> Self {
        let cells = 0..self.names.len();
        let cells = cells.map(|index| self.cells.iter().map(|column| column[index].clone()).collect());
        Self {
            names: self.titles.clone(),
            titles: self.names.clone(),
            cells: cells.collect(),
        }
    }

    /// Returns the width of the first column, and of each other one.
    fn widths(&self, first: &str) -> (usize, Vec<usize>) {
        let names = self.names.iter().map(|name| display_width(name)).max();
        let names = names.unwrap_or(0).clamp(first.len(), NAME);
        let columns = self.titles.iter().zip(&self.cells).map(|(title, cells)| {
            let widest = cells.iter().map(|cell| display_width(cell)).max();
            widest.unwrap_or(0).max(display_width(title))
        });
        (names, columns.collect())
    }

    /// Returns whether the table fits into this many columns of the screen.
    fn fits(&self, first: &str, room: usize) -> bool {
        let (names, columns) = self.widths(first);
        names + columns.iter().map(|width| width + GAP).sum::<usize>() <= room
    }

    /// Formats the table, or several that fit if it does not.
    fn format(&self, first: &str, room: usize, width: Width) -> String {
        let (names, mut widths) = self.widths(first);
        let (mut titles, mut cells) = (&self.titles[..], &self.cells[..]);
        let mut tables = vec![];
        while !titles.is_empty() {
            let mut used = names;
            let fitting = widths.iter().take_while(|width| {
                used += **width + GAP;
                used <= room
            });
            let number = fitting.count().max(1);
            let header = titles[..number].iter().map(String::as_str);
            let header: Vec<&str> = std::iter::once(first).chain(header).collect();
            let rows = self.names.iter().enumerate().map(|(index, name)| {
                let row = cells[..number].iter().map(|column| column[index].clone());
                std::iter::once(name.clone()).chain(row).collect()
            });
            tables.push(columns(&header, rows, width));
            (titles, cells) = (&titles[number..], &cells[number..]);
            widths.drain(..number);
        }
        tables.join("\n")
    }
}

/// Formats clusters and scenarios: the scenarios as columns or, if only that fits, as rows. If neither fits, the columns
/// are distributed among several tables.
fn runs(fleet: &FleetResult, width: Width) -> String {
    const FIRST: &str = "CLUSTER";
    const TURNED: &str = "SCENARIO";
    let room = match width {
        Width::Screen => screen(),
        Width::Wide => usize::MAX,
    };
    let sheet = Sheet::of(fleet);
    let turned = sheet.turned();
    if !sheet.fits(FIRST, room) && turned.fits(TURNED, room) {
        turned.format(TURNED, room, width)
    } else {
        sheet.format(FIRST, room, width)
    }
}

fn cell(parts: &[Part]) -> String {
    let parts = parts.iter().map(|part| match part.tone {
        Tone::Good => paint(&part.text, GREEN),
        Tone::Warn => paint(&part.text, YELLOW),
        Tone::Bad => paint(&part.text, RED),
        Tone::Idle => part.text.clone(),
    });
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() {
        "-".to_owned()
    } else {
        parts.join(" ")
    }
}

fn exit(cluster: &ClusterOutcome) -> String {
    let style = if cluster.exit == Exit::Ok { GREEN } else { RED };
    paint(&cluster.exit_code.to_string(), style)
}

/// Returns why a cluster failed, each with the next command.
pub(super) fn failures(cluster: &ClusterOutcome, kubectl: &Kubectl) -> Vec<Problem> {
    let kubectl = kubectl.in_context(Some(&cluster.context));
    let found = match (&cluster.result, &cluster.problem) {
        (Some(ClusterResult::Run(run)), _) => of_run(run, &kubectl),
        (Some(ClusterResult::Doctor(result)), _) => of_doctor(result, &kubectl),
        (Some(ClusterResult::Cleanup(result)), _) => of_cleanup(result),
        (Some(ClusterResult::Plan(result)), _) => of_plan(result),
        (None, Some(problem)) => vec![(problem.message.clone(), problem.hint.clone())],
        (None, None) if cluster.exit == Exit::Ok => vec![],
        (None, None) => vec![("stopped before it began".to_owned(), None)],
    };
    let named = found.into_iter().map(|(message, hint)| Problem {
        message: format!("{}: {message}", cluster.context),
        hint,
        details: vec![],
    });
    named.collect()
}

fn of_run(run: &RunResult, kubectl: &Kubectl) -> Vec<(String, Option<String>)> {
    let report =
        || Some(format!("see: kubectl defender-sim report {}", run.run)).filter(|_| run.is_identified());
    let mut found = vec![];
    let unproved = run.scenarios.iter().flat_map(|scenario| {
        let steps = scenario.steps.iter();
        let steps = steps.filter(|step| matches!(step.outcome, Outcome::Failed | Outcome::Blocked));
        steps.map(|step| format!("{}.{}", scenario.id, step.id))
    });
    let unproved: Vec<String> = unproved.collect();
    if let Some(problem) = &run.problem {
        found.push((problem.message.clone(), problem.hint.clone().or_else(report)));
    } else if matches!(run.exit, Exit::Interrupted | Exit::Terminated | Exit::HungUp) {
        found.push((format!("interrupted; {}", proved_steps(run)), report()));
    } else if !unproved.is_empty() && run.verification.is_none() {
        let (proved, all) = proved(run);
        let message = format!(
            "{proved} of {} proved, not {}",
            counted(all, "step"),
            first_few(&unproved)
        );
        found.push((message, report()));
    }
    if let Some(cleanup) = run.cleanup.as_ref().filter(|cleanup| !cleanup.is_clean()) {
        let command = cleanup_command(kubectl, &run.run, &run.namespace);
        let message = match &cleanup.left[..] {
            [] => "could not verify that nothing was left behind".to_owned(),
            left => format!("left behind: {}", first_few(left)),
        };
        found.push((message, Some(command)));
    }
    if let Some(problem) = &run.verification_problem {
        found.push((problem.message.clone(), problem.hint.clone()));
    }
    let failure = run
        .verification
        .as_ref()
        .and_then(|verification| verification.failure.as_ref());
    found.extend(failure.map(|failure| (failure.clone(), report())));
    found
}

fn of_doctor(result: &DoctorResult, kubectl: &Kubectl) -> Vec<(String, Option<String>)> {
    let failed = result
        .checks
        .iter()
        .filter(|check| check.status == CheckStatus::Failed);
    let failed: Vec<String> = failed
        .map(|check| format!("{}: {}", check.id, check.seen))
        .collect();
    if failed.is_empty() {
        return vec![];
    }
    let doctor = kubectl.command(["defender-sim", "doctor"]);
    vec![(failed.join("; "), Some(format!("see every check: {doctor}")))]
}

fn of_cleanup(result: &CleanupResult) -> Vec<(String, Option<String>)> {
    let mut found: Vec<_> = result
        .cleanup
        .problems
        .iter()
        .map(|problem| (problem.clone(), None))
        .collect();
    if !result.cleanup.left.is_empty() {
        found.push((format!("left behind: {}", first_few(&result.cleanup.left)), None));
    }
    found
}

fn of_plan(result: &PlanResult) -> Vec<(String, Option<String>)> {
    refused(result)
        .map(|(object, reason)| (format!("{object} is refused: {reason}"), None))
        .collect()
}

#[cfg(test)]
mod tests;
