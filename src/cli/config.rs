//! The config file: defaults for flags that are the same for every run of a user or a pipeline.
//!
//! A key is the long name of a flag, a value what the flag would take, a list where the flag can be repeated.
//! What the file says becomes clap's default, so that one parser judges all values and the precedence is
//! clap's: flag, environment, file, built-in default.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use etcetera::BaseStrategy as _;
use serde::Deserialize;

use crate::files;
use crate::report::Setting;
use crate::untrusted;
use crate::yaml;

/// What a config file says.
pub(super) struct File {
    path: PathBuf,
    values: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text, a number or a list of these")]
enum Value {
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Value>),
}

impl Value {
    fn texts(self) -> Vec<String> {
        match self {
            Value::Bool(value) => vec![value.to_string()],
            Value::Number(value) => vec![value.to_string()],
            Value::Text(value) => vec![value],
            Value::List(values) => values.into_iter().flat_map(Value::texts).collect(),
        }
    }
}

impl File {
    /// The file that `--config` or its variable names, which has to be there, or the one in the user's
    /// config folder, which may be.
    pub(super) fn read(named: Option<&Path>) -> Result<Option<Self>, clap::Error> {
        let (path, has_to_be) = match named {
            Some(path) => (path.to_owned(), true),
            None => match default_path() {
                Some(path) => (path, false),
                None => return Ok(None),
            },
        };
        let bad = |cause: &str| unusable(&path, cause);
        let text = match files::read_text(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !has_to_be => return Ok(None),
            Err(error) => return Err(bad(&error.to_string())),
        };
        let words = |error: &serde_saphyr::Error| match error {
            serde_saphyr::Error::Unexpected {
                expected: "mapping start",
                ..
            } => Some("expected settings, such as \"deadline: 20m\""),
            _ => None,
        };
        let values: Option<BTreeMap<String, Value>> =
            yaml::parse(&text, words).map_err(|mistake| bad(&mistake.to_string()))?;
        // An empty text counts as not set, as with a variable.
        let values = values
            .into_iter()
            .flatten()
            .filter(|(_, value)| !matches!(value, Value::Text(text) if text.is_empty()))
            .map(|(key, value)| (key, value.texts()))
            .collect();
        Ok(Some(Self { path, values }))
    }

    /// The command with what the file says as defaults.
    pub(super) fn as_defaults(&self, command: Command) -> Result<Command, clap::Error> {
        let known = settable(&command);
        for (name, values) in &self.values {
            let Some(repeats) = known.get(name) else {
                let names: Vec<&str> = known.keys().map(String::as_str).collect();
                return Err(self.blame(&format!(
                    "{name}: no such setting; expected one of {}",
                    names.join(", ")
                )));
            };
            if values.len() != 1 && !repeats {
                return Err(self.blame(&format!("{name}: expected one value, found {}", values.len())));
            }
        }
        Ok(self.defaults_below(command))
    }

    fn defaults_below(&self, mut command: Command) -> Command {
        let ids: Vec<String> = command
            .get_arguments()
            .filter(|arg| name(arg).is_some_and(|name| self.values.contains_key(name)))
            .map(|arg| arg.get_id().to_string())
            .collect();
        for id in ids {
            command = command.mut_arg(id, |arg| {
                let values = name(&arg).map(|name| self.values[name].clone());
                arg.default_values(values.unwrap_or_default())
            });
        }
        let names: Vec<String> = command
            .get_subcommands()
            .map(|sub| sub.get_name().to_owned())
            .collect();
        for name in names {
            command = command.mut_subcommand(name, |sub| self.defaults_below(sub));
        }
        command
    }

    /// An error that the file is the cause of.
    pub(super) fn blame(&self, cause: &str) -> clap::Error {
        unusable(&self.path, cause.trim_start_matches("error: ").trim_end())
    }

    fn sets(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }
}

fn unusable(path: &Path, cause: &str) -> clap::Error {
    let cause: Vec<_> = cause.lines().map(untrusted::escaped).collect();
    let text = format!(
        "the config file {} cannot be used: {}\n",
        files::shown(path),
        cause.join("\n")
    );
    clap::Error::raw(ErrorKind::ValueValidation, text)
}

/// The config file of the user; `None` without a home directory.
pub(super) fn default_path() -> Option<PathBuf> {
    let folders = etcetera::choose_base_strategy().ok()?;
    Some(folders.config_dir().join("defender-sim").join("config.yaml"))
}

/// Name of a flag that file and environment may set: one that has a variable, but for the file itself.
fn name(arg: &Arg) -> Option<&str> {
    arg.get_env()?;
    arg.get_long().filter(|&name| name != "config")
}

/// Every such flag of a command and of those below it, and whether it can be repeated.
fn settable(command: &Command) -> BTreeMap<String, bool> {
    let here = command.get_arguments().filter_map(|arg| {
        let repeats = matches!(arg.get_action(), ArgAction::Append);
        Some((name(arg)?.to_owned(), repeats))
    });
    let below = command.get_subcommands().flat_map(settable);
    here.chain(below).collect()
}

/// What is in force for the last of `commands`, which `matches` is of, with the flags it has from those above.
pub(super) fn settings(commands: &[&Command], matches: &ArgMatches, file: Option<&File>) -> Vec<Setting> {
    let mut settings: Vec<Setting> = commands
        .iter()
        .flat_map(|command| command.get_arguments())
        .filter_map(|arg| {
            let name = name(arg)?.to_owned();
            let raw = matches.get_raw(arg.get_id().as_str());
            let values: Vec<_> = raw
                .into_iter()
                .flatten()
                .map(|value| value.to_string_lossy())
                .collect();
            let origin = match matches.value_source(arg.get_id().as_str()) {
                Some(ValueSource::CommandLine) => "flag",
                Some(ValueSource::EnvVariable) => "environment",
                _ if file.is_some_and(|file| file.sets(&name)) => "file",
                _ => "default",
            };
            let variable = arg.get_env()?.to_string_lossy().into_owned();
            Some(Setting {
                value: values.join(","),
                name,
                origin,
                variable,
            })
        })
        .collect();
    settings.sort_by(|a, b| a.name.cmp(&b.name));
    settings
}
