//! Human-readable results of several clusters: one table of clusters and scenarios, and why clusters failed.

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
    PlanResult, Problem, RunResult, ScenarioResult, Verdict,
};
use crate::scenario::Outcome;
use crate::words::{counted, first_few};

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
                self.annotate(|pipeline| annotations(pipeline, run));
            } else if let Some(problem) = &cluster.problem {
                let title = format!("defender-sim {}", cluster.context);
                self.annotate(|pipeline| vec![pipeline.error(&title, &problem.message)]);
            }
        }
        let to_verify = result.runs().filter(|(_, run)| may_raise_alerts(run));
        let to_verify: Vec<&str> = to_verify.map(|(context, _)| context).collect();
        if !to_verify.is_empty() {
            let file = file.map(|file| file.to_string_lossy().into_owned());
            let file = file.iter().flat_map(|file| ["--fleet", file]);
            let contexts = to_verify.join(",");
            let words = ["defender-sim", "verify"].into_iter().chain(file);
            self.suggest(&self.kubectl.command(words.chain(["--contexts", &contexts])));
        }
    }

    /// Returns whether questions can be asked: both standard input and standard error are a terminal.
    pub fn can_ask(&self) -> bool {
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

/// Formats clusters and scenarios: the scenarios as columns or, if only that fits, as rows. If neither fits, the columns
/// are distributed among several tables.
fn runs(fleet: &FleetResult, width: Width) -> String {
    let mut ids: Vec<&str> = vec![];
    for (_, run) in fleet.runs() {
        for scenario in &run.scenarios {
            if !ids.contains(&scenario.id.as_str()) {
                ids.push(&scenario.id);
            }
        }
    }
    let is_verified = fleet.runs().any(|(_, run)| run.verification.is_some());
    let mut sections: Vec<(&str, Vec<String>)> = vec![];
    for id in ids {
        let cells = fleet.clusters.iter().map(|cluster| cell(cluster.run(), id));
        sections.push((id, cells.collect()));
    }
    if is_verified {
        sections.push(("ALERTS", fleet.clusters.iter().map(alerts).collect()));
    }
    sections.push(("EXIT", fleet.clusters.iter().map(exit).collect()));
    let names: Vec<String> = fleet
        .clusters
        .iter()
        .map(|cluster| visible(&cluster.context))
        .collect();
    let room = match width {
        Width::Screen => screen(),
        Width::Wide => usize::MAX,
    };
    let cell_width = |cells: &[String]| cells.iter().map(|cell| display_width(cell)).max().unwrap_or(0);
    let widths: Vec<usize> = sections
        .iter()
        .map(|(id, cells)| cell_width(cells).max(display_width(id)))
        .collect();
    let name_width = names
        .iter()
        .map(|name| display_width(name))
        .max()
        .unwrap_or(0)
        .clamp(7, NAME);
    let across = name_width + widths.iter().map(|width| width + GAP).sum::<usize>();
    let per_cluster = |index: usize| {
        let cells = sections.iter().map(|(_, cells)| display_width(&cells[index]));
        cells.max().unwrap_or(0).max(display_width(&names[index]))
    };
    let ids_width = sections
        .iter()
        .map(|(id, _)| display_width(id))
        .max()
        .unwrap_or(0)
        .max(8);
    let down = ids_width
        + (0..names.len())
            .map(|index| per_cluster(index) + GAP)
            .sum::<usize>();
    if across > room && down <= room {
        let header: Vec<&str> = std::iter::once("SCENARIO")
            .chain(names.iter().map(String::as_str))
            .collect();
        let rows = sections
            .into_iter()
            .map(|(id, cells)| std::iter::once(id.to_owned()).chain(cells).collect());
        return columns(&header, rows, width);
    }
    let mut tables = vec![];
    let mut remaining = &sections[..];
    let mut widths = &widths[..];
    while !remaining.is_empty() {
        let mut used = name_width;
        let fitting = widths.iter().take_while(|width| {
            used += *width + GAP;
            used <= room
        });
        let number = fitting.count().max(1);
        let (part, rest) = remaining.split_at(number);
        let header: Vec<&str> = std::iter::once("CLUSTER")
            .chain(part.iter().map(|(id, _)| *id))
            .collect();
        let rows = names.iter().enumerate().map(|(index, name)| {
            let cells = part.iter().map(|(_, cells)| cells[index].clone());
            std::iter::once(name.clone()).chain(cells).collect()
        });
        tables.push(columns(&header, rows, width));
        (remaining, widths) = (rest, &widths[number..]);
    }
    tables.join("\n")
}

/// Formats how many steps of a scenario were proved in a cluster and, if that was verified, how many alerts were raised.
fn cell(run: Option<&RunResult>, id: &str) -> String {
    let scenario = run.and_then(|run| Some((run, run.scenarios.iter().find(|scenario| scenario.id == id)?)));
    let Some((run, scenario)) = scenario else {
        return "-".to_owned();
    };
    let steps = scenario.steps.iter();
    let proved = steps
        .clone()
        .filter(|step| step.outcome == Outcome::Proved)
        .count();
    let is = |outcome| steps.clone().any(|step| step.outcome == outcome);
    let style = match (is(Outcome::Failed), is(Outcome::Blocked)) {
        (true, _) => RED,
        (false, true) => YELLOW,
        (false, false) => GREEN,
    };
    let steps =
        (!scenario.steps.is_empty()).then(|| paint(&format!("{proved}/{}", scenario.steps.len()), style));
    let parts: Vec<String> = steps.into_iter().chain(alerts_of(run, scenario)).collect();
    if parts.is_empty() {
        "-".to_owned()
    } else {
        parts.join(" ")
    }
}

/// Formats how many of a scenario's required alerts were raised, if it has some and that was verified.
fn alerts_of(run: &RunResult, scenario: &ScenarioResult) -> Option<String> {
    let alerts = run.verification.as_ref()?.alerts.iter();
    let required = alerts.filter(|alert| !alert.optional && alert.scenarios.contains(&scenario.id));
    let (mut raised, mut all, mut is_missing) = (0, 0, false);
    for alert in required {
        all += 1;
        raised += usize::from(alert.verdict == Verdict::Raised);
        is_missing |= alert.verdict == Verdict::NotRaised || alert.late;
    }
    let style = if is_missing {
        RED
    } else if raised == all {
        GREEN
    } else {
        YELLOW
    };
    (all > 0).then(|| paint(&format!("{raised}/{all}"), style))
}

/// Formats how many of all required alerts were raised in a cluster.
fn alerts(cluster: &ClusterOutcome) -> String {
    let verification = cluster.run().and_then(|run| run.verification.as_ref());
    verification.map_or_else(
        || "-".to_owned(),
        |verification| {
            let (raised, all) = verification.raised(false);
            format!("{raised} of {all}")
        },
    )
}

fn exit(cluster: &ClusterOutcome) -> String {
    let style = if cluster.exit == Exit::Ok { GREEN } else { RED };
    paint(&cluster.exit_code.to_string(), style)
}

/// Returns why a cluster failed, each with the next command.
fn failures(cluster: &ClusterOutcome, kubectl: &Kubectl) -> Vec<Problem> {
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
