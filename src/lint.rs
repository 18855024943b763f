//! Checks scenario files: everything that [`Scenario::from_yaml`] checks, and that bash can parse every script.

use std::cell::LazyCell;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use serde::Serialize;

use crate::files;
use crate::scenario::{Action, Scenario};
use crate::untrusted;
use crate::yaml::{Mistake, Tree};

/// The result of checking a scenario file.
#[derive(Clone, Debug, Serialize)]
pub struct Linted {
    /// Name of the file.
    pub file: String,
    /// ID of the scenario; `None` if the file cannot be parsed as a scenario.
    pub scenario: Option<String>,
    /// Mistakes that prevent a run.
    pub errors: Vec<Mistake>,
    /// Findings that do not prevent a run.
    pub warnings: Vec<Mistake>,
    /// The scenario, possibly with mistakes; `None` if the file cannot be parsed as a scenario.
    #[serde(skip)]
    pub content: Option<Scenario>,
}

impl Linted {
    /// Returns the location of a mistake in the format that editors parse: `FILE:LINE:COLUMN`.
    pub fn place(&self, mistake: &Mistake) -> String {
        match (mistake.line, mistake.column) {
            (Some(line), Some(column)) => format!("{}:{line}:{column}", self.file),
            _ => self.file.clone(),
        }
    }

    /// Formats every error with its location.
    pub fn sentences(&self) -> impl Iterator<Item = String> {
        let errors = self.errors.iter();
        errors.map(|error| format!("{}: {}", self.place(error), error.sentence()))
    }
}

/// Checks each file; `-` is standard input.
pub fn lint(files: &[PathBuf]) -> Vec<Linted> {
    let bash: LazyCell<_> = LazyCell::new(Bash::find);
    files.iter().map(|path| lint_file(path, &bash)).collect()
}

fn lint_file(path: &Path, bash: &LazyCell<Result<Bash, String>>) -> Linted {
    let mut linted = Linted {
        file: files::shown(path),
        scenario: None,
        errors: vec![],
        warnings: vec![],
        content: None,
    };
    let text = match files::read_text(path) {
        Ok(text) => text,
        Err(error) => {
            let message = format!("failed to read it: {error}");
            linted.errors.push(Mistake::new("", &message, None));
            return linted;
        }
    };
    (linted.content, linted.errors) = Scenario::read(&text);
    let Some(scenario) = &linted.content else {
        return linted;
    };
    linted.scenario = Some(untrusted::escaped(&scenario.id).into_owned());
    let tree = Tree::parse(&text);
    if scenario.alerts.is_empty() {
        let place = tree.as_ref().map(|tree| tree.locate("alerts"));
        linted
            .warnings
            .push(Mistake::new("alerts", "no alert is expected", place));
    }
    match &**bash {
        Ok(bash) => {
            for (field, script) in scripts(scenario) {
                if let Err(refusal) = bash.parse(script) {
                    let line = refusal.line.unwrap_or_default();
                    let place = tree
                        .as_ref()
                        .map(|tree| tree.locate_line(&text, &field, script, line));
                    let message = format!("bash cannot parse it: {}", refusal.reason);
                    linted.errors.push(Mistake::new(&field, &message, place));
                }
            }
            linted.errors.sort_by_key(|error| (error.line, error.column));
        }
        Err(reason) => {
            let message = format!("scripts not checked: {reason}");
            linted.warnings.push(Mistake::new("", &message, None));
        }
    }
    linted
}

/// Returns every shell script with the path of its field.
fn scripts(scenario: &Scenario) -> Vec<(String, &str)> {
    let steps = scenario.steps.iter().enumerate();
    let steps = steps.filter_map(|(i, step)| match step.action() {
        Action::Script(script) => Some((format!("steps[{i}].script"), script)),
        Action::Command(command) => Some((format!("steps[{i}].command.run"), command.run.as_str())),
        Action::Visit | Action::Request(_) => None,
    });
    let attacker = scenario.attacker.iter();
    let scripts = steps.chain(attacker.map(|text| ("attacker".to_owned(), text.as_str())));
    scripts.filter(|(_, script)| !script.is_empty()).collect()
}

/// A local bash that parses scripts like the bash in the pods.
pub struct Bash(PathBuf);

/// Why bash cannot parse a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Line number, starting at 1, if bash reports one.
    pub line: Option<usize>,
    /// The error message of bash.
    pub reason: String,
}

impl Bash {
    /// Oldest supported major version: its syntax is that of the current one. macOS ships an older version.
    const OLDEST: u32 = 4;

    /// Finds bash in `PATH`.
    ///
    /// # Errors
    /// Fails if bash is absent, does not run, or is too old.
    pub fn find() -> Result<Self, String> {
        let found = which::which_global("bash").map_err(|_| "bash not found".to_owned())?;
        let bash = Self(found);
        let version = bash.command().args(["-c", "echo $BASH_VERSINFO"]).output();
        let version = version.map_err(|error| format!("bash cannot be run: {error}"))?;
        let version = String::from_utf8_lossy(&version.stdout);
        match version.trim().parse::<u32>() {
            Ok(version) if version < Self::OLDEST => Err(format!("bash {version} is too old")),
            Ok(_) => Ok(bash),
            // Windows has a program of that name even if bash is not installed.
            Err(_) => Err("bash does not run".to_owned()),
        }
    }

    /// Creates a bash command that is independent of the environment: no startup files, English messages.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.0);
        for variable in ["BASH_ENV", "ENV", "SHELLOPTS", "BASHOPTS", "POSIXLY_CORRECT"] {
            command.env_remove(variable);
        }
        command
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Parses a script with bash, without running it.
    ///
    /// # Errors
    /// Returns the first syntax error.
    pub fn parse(&self, script: &str) -> Result<(), Refusal> {
        let refusal = |line, reason: &str| Refusal {
            line,
            reason: reason.to_owned(),
        };
        let mut command = self.command();
        // A script can enable extglob for the lines that follow; bash ignores this if it only parses.
        if script.contains("extglob") {
            command.args(["-O", "extglob"]);
        }
        let output = output_for(command.arg("-n"), script);
        let output = output.map_err(|error| refusal(None, &error.to_string()))?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        // `bash: line 3: syntax error ...`, possibly with exit status 0; warnings concern the end of a here-document.
        let complaints = stderr.lines().filter_map(|line| {
            let (line, reason) = line.split_once(": line ")?.1.split_once(": ")?;
            (!reason.starts_with("warning: ")).then(|| refusal(line.parse().ok(), reason))
        });
        match complaints.into_iter().next() {
            Some(refusal) => Err(refusal),
            None if output.status.success() => Ok(()),
            None => Err(refusal(None, &format!("it ended with {}", output.status))),
        }
    }
}

/// Runs `command` with `input` as its standard input, which it may leave partly unread.
fn output_for(command: &mut Command, input: &str) -> io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).spawn()?;
    let stdin = child.stdin.take();
    thread::scope(|scope| {
        scope.spawn(|| stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
        child.wait_with_output()
    })
}
