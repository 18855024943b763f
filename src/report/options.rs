//! Output options from the command line.

use std::path::PathBuf;

use clap::ValueEnum;
use serde::Serialize;

use super::export;
use crate::exit::Exit;

/// How results and progress are printed.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// Format of the result on standard output.
    pub format: Format,
    /// When to use colour.
    pub color: Color,
    /// How much of the progress is shown.
    pub detail: Detail,
}

/// How much of the progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// Nothing.
    Quiet,
    /// Phases that take long or end.
    #[default]
    Normal,
    /// Every object and every step, with the time since the start.
    Verbose,
}

/// Format of the result on standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Human-readable.
    #[default]
    Table,
    /// Human-readable, more columns, no wrapping.
    Wide,
    /// For programs; results of runs, dry runs, doctor and cleanup carry a schema version.
    Json,
    /// The JSON in one line, for logs.
    Jsonl,
    /// The JSON as YAML; of a dry run, the manifests.
    Yaml,
    /// Names only, one per line.
    Name,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// At a terminal, unless `NO_COLOR` is set.
    #[value(help = "At a terminal, unless NO_COLOR is set")]
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// A file that a report is written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportFile {
    /// Format of the report.
    pub kind: export::Kind,
    /// Path of the file; `-` is standard output.
    pub path: PathBuf,
}

/// The effective value of a setting, and its origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Long name of the flag.
    pub name: String,
    /// Value as text; multiple values are joined by commas.
    pub value: String,
    /// `flag`, `environment`, `file` or `default`.
    pub origin: &'static str,
    /// Name of the environment variable that sets it.
    pub variable: String,
}

/// The answer to a command line that requests help or the version, or that is invalid.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Text to print.
    pub text: String,
    /// Whether this is help, which is trusted text with styles. Errors quote the command line.
    pub is_help: bool,
    /// When to use colour.
    pub color: Color,
    /// [`Exit::Ok`] for help and version, [`Exit::Usage`] for errors.
    pub exit: Exit,
}
