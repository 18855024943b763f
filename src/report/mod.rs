//! The only place that prints. Data goes to standard output, everything else to standard error.

mod catalogue;
mod progress;
mod table;

use std::io::{self, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::cli::{Color, Format, Output};
use crate::defender::alerts::Alert;
use crate::manifest::Manifests;
use crate::plan::Plan;
use crate::result::{CleanupResult, ClusterInfo, Problem, RunResult};
use crate::scenario::{Outcome, Scenario};

pub use progress::show_events;

/// Where a run of this program says things, and how.
#[derive(Clone, Debug)]
pub struct Report {
    output: Output,
}

impl Report {
    /// Speaks as `output` says.
    pub fn new(output: Output) -> Self {
        Self { output }
    }

    fn choice(&self, terminal: bool) -> ColorChoice {
        match self.output.color {
            Color::Always => ColorChoice::AlwaysAnsi,
            // anstream knows NO_COLOR, CLICOLOR and TERM=dumb.
            Color::Auto if terminal => ColorChoice::Auto,
            Color::Auto | Color::Never => ColorChoice::Never,
        }
    }

    /// Writes data. A reader that went away (`| head`) is no error of ours.
    fn data(&self, text: &str) {
        let stdout = io::stdout();
        let mut stream = AutoStream::new(stdout.lock(), self.choice(io::stdout().is_terminal()));
        let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
    }

    /// Writes a line for people.
    pub fn note(&self, text: &str) {
        let stderr = io::stderr();
        let mut stream = AutoStream::new(stderr.lock(), self.choice(io::stderr().is_terminal()));
        let _ = writeln!(stream, "{text}");
    }

    fn json(&self, value: &impl Serialize) {
        let mut text = serde_json::to_string_pretty(value).expect("a result is always JSON");
        text.push('\n');
        self.data(&text);
    }

    /// Prints a value in the machine's form that was asked for; false where a table was.
    fn machine(&self, value: &impl Serialize) -> bool {
        match self.output.format {
            Format::Json => self.json(value),
            Format::Yaml => self.data(&yaml(value)),
            Format::Table => return false,
        }
        true
    }

    /// Prints what a run was found to have done.
    pub fn run(&self, result: &RunResult) {
        if !self.machine(result) && result.cleanup.is_some() {
            self.data(&table::run(result));
        }
        if let Some(problem) = &result.problem {
            self.problem(problem);
        }
        for problem in result.cleanup.iter().flat_map(|cleanup| &cleanup.problems) {
            self.note(&format!("{}: {problem}", paint("error", RED)));
        }
        if result.cleanup.as_ref().is_some_and(|cleanup| !cleanup.is_clean()) {
            self.hint(&format!("kubectl defender-sim cleanup --run {}", result.run));
        }
    }

    /// Prints what a clean-up was found to have done.
    pub fn cleanup(&self, result: &CleanupResult) {
        if !self.machine(result) {
            self.data(&table::cleanup(result));
        }
        for problem in &result.cleanup.problems {
            self.note(&format!("{}: {problem}", paint("error", RED)));
        }
    }

    /// Prints versions.
    pub fn version(&self, client: &str, server: Option<&str>) {
        if !self.machine(&serde_json::json!({ "clientVersion": client, "serverVersion": server })) {
            let server = server
                .map(|server| format!("Server Version: {server}\n"))
                .unwrap_or_default();
            self.data(&format!("Client Version: v{client}\n{server}"));
        }
    }

    /// Prints what a run would do. As YAML, the manifests, as `kubectl apply -f -` takes them.
    pub fn dry_run(&self, plan: &Plan, cluster: &ClusterInfo, manifests: &Manifests) {
        match self.output.format {
            Format::Table => self.data(&catalogue::plan(plan, cluster, manifests)),
            Format::Json => self.json(&catalogue::plan_value(plan, cluster, manifests)),
            Format::Yaml => self.data(&catalogue::manifests(manifests)),
        }
    }

    /// Prints the scenarios there are.
    pub fn list(&self, scenarios: &[Scenario]) {
        if !self.machine(&scenarios) {
            self.data(&catalogue::list(scenarios));
        }
    }

    /// Prints all of a scenario; as YAML, a scenario file.
    pub fn describe(&self, scenario: &Scenario) {
        if !self.machine(scenario) {
            self.data(&catalogue::describe(scenario));
        }
    }

    /// Prints the alerts there are, and which scenarios raise them.
    pub fn alerts(&self, alerts: &[Alert], scenarios: &[Scenario]) {
        if !self.machine(&alerts) {
            self.data(&catalogue::alerts(alerts, scenarios));
        }
    }

    /// Prints why something did not work, and what to do next.
    pub fn problem(&self, problem: &Problem) {
        self.note(&format!("{}: {}", paint("error", RED), problem.message));
        for detail in &problem.details {
            self.note(&format!("  {detail}"));
        }
        if let Some(hint) = &problem.hint {
            self.hint(hint);
        }
    }

    fn hint(&self, hint: &str) {
        self.note(&format!("{}: {hint}", paint("hint", CYAN)));
    }
}

fn yaml(value: &impl Serialize) -> String {
    serde_saphyr::to_string(value).expect("a result is always YAML")
}

const RED: Style = AnsiColor::Red.on_default().bold();
const GREEN: Style = AnsiColor::Green.on_default();
const YELLOW: Style = AnsiColor::Yellow.on_default();
const CYAN: Style = AnsiColor::Cyan.on_default();

fn paint(text: &str, style: Style) -> String {
    format!("{style}{text}{style:#}")
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
        Some(ms) if ms < 1000.0 => format!("{ms:.0} ms"),
        Some(ms) => format!("{:.1} s", ms / 1000.0),
    }
}
