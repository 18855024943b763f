//! The only module that prints: data to standard output, everything else to standard error.

mod alerts;
mod annotations;
mod catalogue;
mod coverage;
mod doctor;
pub mod export;
mod files;
#[path = "../../tests/support/results.rs"]
#[cfg(test)]
pub(crate) mod fixture;
mod fleet;
mod handover;
mod html;
mod junit;
mod markdown;
pub(crate) mod meaning;
mod navigator;
mod note;
pub mod openmetrics;
mod options;
mod plan;
mod progress;
mod reasons;
mod style;
mod table;
mod target;
mod trend;

use std::io::{self, IsTerminal as _, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anstream::stream::{AsLockedWrite, RawStream};
use anstream::{AutoStream, ColorChoice};
use serde::Serialize;

use crate::defender::alerts::Alert;
use crate::error::Error;
use crate::exit::Exit;
use crate::history::Records;
use crate::kubectl::Kubectl;
use crate::lint::Linted;
use crate::manifest::rights::{Grant, Right, Scope, Subject};
use crate::manifest::{self, VICTIM};
use crate::plan::Plan;
use crate::result::{
    CleanupResult, ClusterInfo, DoctorResult, Handover, PlanResult, Problem, RunResult, Trend, Verdict,
    Verification,
};
use crate::scenario::{Outcome, Scenario};
use crate::untrusted;
use crate::words::counted;

use annotations::{Pipeline, annotations};
pub use files::{Files, OutputFile};
pub use options::{Answer, Color, Detail, Format, Output, ReportFile, Setting};
pub use progress::{show_events, show_fleet};
use style::{CYAN, GREEN, RED, YELLOW, paint};

/// The output of this process.
#[derive(Clone, Debug)]
pub struct Report {
    output: Output,
    kubectl: Kubectl,
    /// The first error of writing to standard output.
    unwritten: Arc<OnceLock<Error>>,
    /// Whether standard output carries a report, and so no table.
    stdout_taken: Arc<AtomicBool>,
}

impl Report {
    /// Creates a report that prints as configured by `output`; hints repeat the connection flags of `kubectl`.
    pub fn new(output: Output, kubectl: Kubectl) -> Self {
        Self {
            output,
            kubectl,
            unwritten: Arc::default(),
            stdout_taken: Arc::default(),
        }
    }

    fn choice(&self, terminal: bool) -> ColorChoice {
        match self.output.color {
            Color::Always => ColorChoice::AlwaysAnsi,
            // anstream supports NO_COLOR, CLICOLOR and TERM=dumb.
            Color::Auto if terminal => ColorChoice::Auto,
            Color::Auto | Color::Never => ColorChoice::Never,
        }
    }

    /// Writes data to standard output. [`Report::finish`] reports a failure.
    fn data(&self, text: &str) {
        if let Err(source) = self.write_stdout(text) {
            // Only the first failure is reported.
            let _ = self.unwritten.set(Error::Unwritten {
                what: "standard output".to_owned(),
                source,
            });
        }
    }

    fn write_stdout(&self, text: &str) -> io::Result<()> {
        self.write(io::stdout().lock(), text)
    }

    fn write_stderr(&self, text: &str) -> io::Result<()> {
        self.write(io::stderr().lock(), text)
    }

    /// Writes a text to a stream. Everything that is printed passes through this function.
    fn write(&self, stream: impl RawStream + AsLockedWrite, text: &str) -> io::Result<()> {
        let choice = self.choice(stream.is_terminal());
        let mut stream = AutoStream::new(stream, choice);
        let written = stream.write_all(style::printable(text).as_bytes());
        files::unless_left(written.and_then(|()| stream.flush()))
    }

    /// Reports a failure to write to standard output, if any. Returns the exit code of the process.
    pub fn finish(&self, exit: Exit) -> Exit {
        let unwritten = self.unwritten.get();
        unwritten.map_or(exit, |error| exit.worse(self.error(error)))
    }

    /// Prints the parser's answer: help or the version as data, an error as an error.
    pub fn answer(&self, answer: &Answer) {
        let text = match answer.text.strip_prefix("error: ") {
            _ if answer.is_help => style::sealed(&answer.text),
            Some(message) => format!("{}: {message}", paint("error", RED)),
            None => answer.text.clone(),
        };
        match answer.exit {
            Exit::Ok => self.data(&text),
            _ => self.note(text.trim_end()),
        }
    }

    /// Writes a question to standard error and leaves the cursor on its line.
    fn prompt(&self, text: &str) {
        // A failure to write to standard error cannot be reported anywhere.
        let _ = self.write_stderr(text);
    }

    /// Writes a line to standard error.
    pub fn note(&self, text: &str) {
        let _ = self.write_stderr(&format!("{text}\n"));
    }

    /// Writes a line to standard error, unless the output is quiet.
    pub fn notice(&self, text: &str) {
        if self.output.detail != Detail::Quiet {
            self.note(text);
        }
    }

    /// Prints a value in the requested format: `table` returns the text for people at a given width, `names` the names.
    fn print<T: Serialize>(
        &self,
        value: &T,
        table: impl FnOnce(Width) -> String,
        names: impl IntoIterator<Item = String>,
    ) {
        match self.output.format {
            Format::Table | Format::Wide if self.stdout_taken.load(Ordering::Relaxed) => {}
            Format::Table => self.data(&table(Width::Screen)),
            Format::Wide => self.data(&table(Width::Wide)),
            Format::Json => self.data(&json(value)),
            Format::Jsonl => self.data(&json_line(value)),
            Format::Yaml => self.data(&yaml(value)),
            Format::Name => self.data(&names.into_iter().map(|name| name + "\n").collect::<String>()),
        }
    }

    /// Prints the result of a run.
    pub fn run(&self, result: &RunResult) {
        self.show_run(result, false);
    }

    /// Prints the result of a run whose progress was shown. A terminal gets only what the progress did not include.
    pub fn finished_run(&self, result: &RunResult) {
        let is_shown = progress::is_live(&self.output) && std::io::stdout().is_terminal();
        self.show_run(result, is_shown);
    }

    fn show_run(&self, result: &RunResult, is_shown: bool) {
        let nothing =
            result.cleanup.is_none() && result.kept_until.is_none() && result.verification.is_none();
        let table = |width| {
            if nothing {
                String::new()
            } else {
                table::run(result, width, is_shown && width == Width::Screen)
            }
        };
        let name = result.is_identified().then(|| format!("run/{}", result.run));
        self.print(result, table, name);
        if let Some(problem) = &result.problem {
            self.problem(problem);
        }
        if let Some(problem) = &result.verification_problem {
            self.problem(problem);
        }
        if let Some(verification) = &result.verification {
            self.verification(verification, result);
        }
        for problem in result.cleanup.iter().flat_map(|cleanup| &cleanup.problems) {
            self.note(&format!("{}: {problem}", paint("error", RED)));
        }
        let unclean = result.cleanup.as_ref().is_some_and(|cleanup| !cleanup.is_clean());
        if unclean || result.kept_until.is_some() {
            self.hint(&self.cleanup_of(&result.run, &result.namespace, &result.cluster));
        }
        if result.kept_until.is_some() {
            let kubectl = self.kubectl.in_context(result.cluster.context.as_deref());
            let pod = result.victims.first().map_or(VICTIM, |victim| &victim.pod);
            let exec = kubectl.command(["exec", "-it", "-n", &result.namespace, pod]);
            self.notice(&format!(
                "{}: to look around: {exec} -- bash",
                paint("hint", CYAN)
            ));
        }
        self.suggest_verify(result);
        self.annotate(|pipeline| annotations(pipeline, result));
    }

    /// Prints annotations if this process is part of a pipeline that shows them.
    fn annotate(&self, lines: impl FnOnce(Pipeline) -> Vec<String>) {
        let is_true = |name: &str| {
            let value = std::env::var_os(name);
            value.is_some_and(|value| value.eq_ignore_ascii_case("true"))
        };
        for line in Pipeline::detect(is_true).map(lines).into_iter().flatten() {
            self.note(&line);
        }
    }

    /// Prints the notes on the alerts that the verdicts do not include, and the next command.
    fn verification(&self, verification: &Verification, result: &RunResult) {
        for warning in verification.warnings() {
            self.note(&format!("{}: {warning}", paint("warning", YELLOW)));
        }
        let kubectl = self.kubectl.in_context(result.cluster.context.as_deref());
        if let Some(failure) = &verification.failure {
            self.note(&format!("{}: {failure}", paint("error", RED)));
            if verification.count(Verdict::Raised) == 0 {
                let doctor = kubectl.command(["defender-sim", "doctor"]);
                self.hint(&format!("check what alerts need with: {doctor}"));
            }
        }
        if verification.count(Verdict::Waiting) > 0 && result.is_identified() {
            self.hint(&format!("continue with: {}", self.verify_of(result)));
        }
    }

    /// Prints the command that verifies the alerts of a run.
    fn suggest_verify(&self, result: &RunResult) {
        if may_raise_alerts(result) {
            self.suggest(&self.verify_of(result));
        }
    }

    fn suggest(&self, verify: &str) {
        self.notice(&format!(
            "{}: alerts are usually raised within 5 to 90 minutes; check them with:\n  {verify}",
            paint("hint", CYAN),
        ));
    }

    /// Prints the recorded runs and reports unreadable records.
    pub fn history(&self, records: &Records) {
        let runs = &records.runs;
        let ids = runs.iter().map(|run| run.run.clone());
        self.print(runs, |width| table::history(runs, width), ids);
        self.unreadable(records);
    }

    /// Warns of records that cannot be read.
    pub fn unreadable(&self, records: &Records) {
        for record in &records.unreadable {
            self.note(&format!("warning: {}", record.message));
        }
    }

    /// Prints the handover of a run; `record` is the file with its record, unless it is one of this machine.
    pub fn handover(&self, handover: &Handover, record: Option<&Path>) {
        let run = &handover.run;
        let kubectl = self.kubectl.in_context(run.cluster.context.as_deref());
        let verify = match record.map(|path| path.to_string_lossy()) {
            None => kubectl.command(["defender-sim", "verify", &run.id]),
            // Only a report adds the alerts to a file.
            Some(file) => {
                let json = format!("json={file}");
                kubectl.command(["defender-sim", "verify", "--record", &file, "--report", &json])
            }
        };
        let ids = handover.alerts.iter().map(|alert| alert.id.clone());
        self.print(handover, |width| handover::text(handover, &verify, width), ids);
    }

    /// Prints detection over time.
    pub fn trends(&self, trends: &[Trend]) {
        let regressed = trends.iter().flat_map(|trend| &trend.alerts);
        let ids = regressed
            .filter(|alert| alert.is_regression)
            .map(|alert| alert.alert.clone());
        self.print(&trends, |width| trend::trends(trends, width), ids);
    }

    /// Prints the result of a cleanup.
    pub fn cleanup(&self, result: &CleanupResult) {
        let names = [&result.would_remove, &result.cleanup.removed]
            .into_iter()
            .flatten();
        self.print(result, |_| table::cleanup(result), names.cloned());
        if let Some(run) = result.skipped.first() {
            let command = self.cleanup_of(&run.run, &run.namespace, &result.cluster);
            self.hint(&format!("to remove it all the same: {command}"));
        }
        for problem in &result.cleanup.problems {
            self.note(&format!("{}: {problem}", paint("error", RED)));
        }
    }

    /// Prints the results of the checks of a cluster.
    pub fn doctor(&self, result: &DoctorResult) {
        let ids = result.checks.iter().map(|check| check.id.to_owned());
        self.print(result, |width| doctor::doctor(result, width), ids);
    }

    /// Prints the versions of client and server.
    pub fn version(&self, client: &str, server: Option<&str>) {
        let value = serde_json::json!({ "clientVersion": client, "serverVersion": server });
        let server = server
            .map(|server| format!("Server Version: {server}\n"))
            .unwrap_or_default();
        let text = format!("Client Version: v{client}\n{server}");
        self.print(&value, |_| text, [format!("v{client}")]);
    }

    /// Prints the plan of a run; in the YAML format, its manifests for `kubectl apply -f -`.
    pub fn plan(&self, result: &PlanResult, plan: &Plan) {
        if self.output.format == Format::Yaml {
            let manifests = manifest::render(plan, "the user who runs it");
            self.data(&plan::manifests(&manifests, &result.namespace, &self.kubectl));
        } else {
            let names = result.objects.iter().map(|object| object.name.clone());
            self.print(result, |width| plan::plan(result, plan, width), names);
        }
        if matches!(self.output.format, Format::Yaml | Format::Name) {
            // The other formats print this next to the objects.
            for refusal in plan::refused(&result.objects) {
                self.note(&format!("{}: {refusal}", paint("error", RED)));
            }
            for line in plan::not_asked(&result.objects) {
                self.note(&format!("{}: {line}", paint("warning", YELLOW)));
            }
        }
    }

    /// Prints the available scenarios.
    pub fn list(&self, scenarios: &[Scenario]) {
        let ids = scenarios.iter().map(|scenario| scenario.id.clone());
        self.print(&scenarios, |width| catalogue::list(scenarios, width), ids);
    }

    /// Prints the details of a scenario; in the YAML format, a scenario file.
    pub fn describe(&self, scenario: &Scenario) {
        self.print(
            scenario,
            |width| catalogue::describe(scenario, width),
            [scenario.id.clone()],
        );
    }

    /// Prints each mistake in scenario files, in the format that editors parse, and which files have none.
    pub fn lint(&self, files: &[Linted]) {
        for file in files {
            let warnings = file.warnings.iter().map(|warning| ("warning", YELLOW, warning));
            let errors = file.errors.iter().map(|error| ("error", RED, error));
            for (word, style, mistake) in warnings.chain(errors) {
                let (place, word) = (file.place(mistake), paint(word, style));
                self.note(&format!("{place}: {word}: {}", mistake.sentence()));
            }
            if let Some(scenario) = file.content.as_ref().filter(|_| file.errors.is_empty()) {
                let steps = counted(scenario.steps.len(), "step");
                self.notice(&format!("{}: ok ({}, {steps})", file.file, scenario.id));
            }
        }
        let fine = files.iter().filter(|file| file.errors.is_empty());
        let ids = fine.filter_map(|file| file.scenario.clone());
        self.print(&files, |_| String::new(), ids);
    }

    /// Prints the known alerts and what raises them.
    pub fn alerts(&self, alerts: &[Alert], scenarios: &[Scenario]) {
        let ids = alerts.iter().map(|alert| alert.id.clone());
        let listed = alerts::listed(alerts, scenarios);
        self.print(
            &listed,
            |width| alerts::alerts(&listed, scenarios.len(), width),
            ids,
        );
    }

    /// Prints the role that a run needs and its binding; in the YAML format, for `kubectl apply -f -`.
    pub fn rights(&self, rights: &[Right], scope: &Scope, subjects: &[Subject]) {
        let grant = Grant::new(rights, scope, subjects);
        if self.output.format == Format::Yaml {
            self.data(&catalogue::grant(&grant, scope));
        } else {
            let names = grant.items.iter().map(catalogue::reference);
            self.print(&grant, |width| catalogue::rights(rights, scope, width), names);
        }
    }

    /// Prints the images of both pods.
    pub fn images(&self, attacker: &str, victim: &str) {
        let images = [("attacker", attacker), ("victim", victim)];
        let value = images.map(|(pod, image)| serde_json::json!({ "pod": pod, "image": image }));
        let rows = images.map(|(pod, image)| vec![image.to_owned(), pod.to_owned()]);
        let table = |width| table::table(&["IMAGE", "POD"], rows, width);
        self.print(&value, table, images.map(|(_, image)| image.to_owned()));
    }

    /// Prints the settings of a command.
    pub fn settings(&self, settings: &[Setting]) {
        let names = settings.iter().map(|setting| setting.name.clone());
        self.print(&settings, |width| table::settings(settings, width), names);
    }

    /// Prints a JSON Schema, as YAML in the YAML format and as JSON in all others.
    pub fn schema(&self, schema: &serde_json::Value) {
        self.data(&if self.output.format == Format::Yaml {
            yaml(schema)
        } else {
            json(schema)
        });
    }

    /// Prints a text that does not depend on the format: a script, a manual page or a completion.
    pub fn text(&self, text: &str) {
        self.data(text);
    }

    /// Prints why something failed, and the next command.
    pub fn problem(&self, problem: &Problem) {
        // A terminal gets lines wrapped at words, a pipe one line per message.
        let wrap = std::io::stderr().is_terminal();
        let lines = |text: &str| {
            if wrap {
                table::fill(text, "  ")
            } else {
                text.to_owned()
            }
        };
        self.note(&lines(&format!("{}: {}", paint("error", RED), problem.message)));
        for detail in &problem.details {
            self.note(&lines(&format!("  {detail}")));
        }
        if let Some(hint) = &problem.hint {
            self.hint(hint);
        }
    }

    /// Prints an error and returns its exit code.
    pub fn error(&self, error: &Error) -> Exit {
        self.problem(&error.to_problem(&self.kubectl));
        error.exit()
    }

    /// Prints the error of the command, also as an annotation, and returns its exit code.
    pub fn fail(&self, error: &Error) -> Exit {
        let exit = self.error(error);
        self.annotate(|pipeline| vec![pipeline.error("defender-sim", &error.to_string())]);
        exit
    }

    /// Returns the command that verifies the alerts of a run.
    fn verify_of(&self, result: &RunResult) -> String {
        let kubectl = self.kubectl.in_context(result.cluster.context.as_deref());
        kubectl.command(["defender-sim", "verify", &result.run])
    }

    /// Returns the command that removes a run, independent of the current context.
    pub fn cleanup_of(&self, run: &str, namespace: &str, cluster: &ClusterInfo) -> String {
        let kubectl = self.kubectl.in_context(cluster.context.as_deref());
        meaning::cleanup_command(&kubectl, run, namespace)
    }

    fn hint(&self, hint: &str) {
        self.note(&format!("{}: {hint}", paint("hint", CYAN)));
    }
}

/// Returns whether a run may have raised alerts that were not verified.
fn may_raise_alerts(result: &RunResult) -> bool {
    let mut alerts = result.scenarios.iter().flat_map(|scenario| &scenario.alerts);
    let is_expected = alerts.any(|alert| alert.not_expected.is_none());
    let has_attacked = result.steps().any(|step| step.outcome == Outcome::Proved);
    let is_verified = result.verification.is_some() || result.verification_problem.is_some();
    is_expected && has_attacked && !is_verified
}

/// The maximum width of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    /// The width of the terminal, or 80 columns.
    Screen,
    /// Unlimited, with additional columns.
    Wide,
}

/// Formats a value as JSON with a trailing newline. Invisible characters are escaped.
pub fn json(value: &impl Serialize) -> String {
    escaped(&pretty(value))
}

/// Formats a value as one line of JSON, with the same escapes.
fn json_line(value: &impl Serialize) -> String {
    escaped(&serde_json::to_string(value).expect("a result is always JSON")) + "\n"
}

fn escaped(json: &str) -> String {
    untrusted::escape(json, |c| match c.encode_utf16(&mut [0; 2]) {
        [high, low] => format!("\\u{high:04x}\\u{low:04x}"),
        _ => format!("\\u{:04x}", u32::from(c)),
    })
}

fn yaml(value: &impl Serialize) -> String {
    let text = serde_saphyr::to_string(value).expect("a result is always YAML");
    if !text.contains(untrusted::is_unseen) {
        return text;
    }
    // Only quoted strings can contain escapes. JSON is YAML in which all strings are quoted.
    untrusted::escape(&pretty(value), |c| format!("\\U{:08x}", u32::from(c)))
}

fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("a result is always JSON") + "\n"
}

fn outcome(outcome: Outcome) -> String {
    let style = match outcome {
        Outcome::Proved => GREEN,
        Outcome::Failed => RED,
        Outcome::Blocked | Outcome::Skipped => YELLOW,
    };
    paint(outcome.as_str(), style)
}

fn milliseconds(ms: Option<f64>) -> String {
    match ms {
        None => "-".to_owned(),
        Some(ms) if ms < 0.5 => "<1 ms".to_owned(),
        Some(ms) if ms < 999.5 => format!("{ms:.0} ms"),
        Some(ms) => format!("{:.1} s", ms / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_record_are_quoted() {
        let cluster = ClusterInfo {
            context: Some("my cluster".to_owned()),
            ..ClusterInfo::default()
        };
        let kubectl = Kubectl::new([("context", Some("other".into())), ("as", Some("bob".into()))]);
        let report = Report::new(Output::default(), kubectl);
        assert_eq!(
            report.cleanup_of("r", "x; touch /tmp/pwn #", &cluster),
            "kubectl defender-sim cleanup --run r -n 'x; touch /tmp/pwn #' --context 'my cluster' --as bob"
        );
        let refused_without = report.cleanup_of("r", "kube-system", &cluster);
        assert!(
            refused_without.contains("-n kube-system --allow-system-namespace"),
            "{refused_without}"
        );
    }
}
