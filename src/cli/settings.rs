//! Settings from environment variables and the config file.
//!
//! A setting is an argument with an environment variable. Both sources are read before the command line is parsed and
//! become defaults of the arguments, so that the precedence is: flag, environment, file, built-in default. Each value
//! is validated separately by its argument's parser, so that an error names the variable or the file.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::builder::Styles;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use etcetera::BaseStrategy as _;
use serde::Deserialize;

use super::raw;
use crate::files;
use crate::report::Setting;
use crate::untrusted;
use crate::yaml;

/// Prefix of the environment variables of settings.
const PREFIX: &str = "DEFENDER_SIM_";

/// Values from the environment and the config file.
#[derive(Default)]
pub(super) struct Settings {
    /// Values and their origin, by the long name of the flag.
    values: BTreeMap<String, (Vec<OsString>, &'static str)>,
    /// Invalid values. They matter only to commands with the flag.
    errors: BTreeMap<String, clap::Error>,
    /// Whether there is neither a variable nor a config file, so that defaults stay as built in.
    is_absent: bool,
    /// Variables named like settings that do not exist.
    pub unknown_variables: Vec<String>,
}

impl Settings {
    /// Reads the environment and the config file: `config`, or the user's default one.
    ///
    /// # Errors
    /// Fails if the file cannot be read or names an unknown setting.
    pub fn read(command: &Command, config: Option<&Path>) -> Result<Self, clap::Error> {
        let file = File::read(config)?;
        let mut names = std::env::vars_os().map(|(name, _)| name);
        if file.is_none() && !names.any(|name| name.to_string_lossy().starts_with(PREFIX)) {
            return Ok(Self {
                is_absent: true,
                ..Self::default()
            });
        }
        let known = settable(command);
        let mut settings = Self {
            unknown_variables: unknown_variables(command),
            ..Self::default()
        };
        if let Some(file) = file {
            file.check_names(&known)?;
            for (name, values) in file.values {
                let values: Vec<OsString> = values.into_iter().map(OsString::from).collect();
                match judge(&known[&name], &values) {
                    Ok(()) => _ = settings.values.insert(name, (values, "file")),
                    Err(error) => _ = settings.errors.insert(name, unusable(&file.path, &raw(&error))),
                }
            }
        }
        for (name, arg) in known {
            let Some(variable) = arg.get_env().and_then(variable) else {
                continue;
            };
            let values = split(&arg, &variable);
            match judge(&arg, &values) {
                Ok(()) => {
                    settings.errors.remove(&name);
                    settings.values.insert(name, (values, "environment"));
                }
                Err(error) => {
                    let cause = raw(&error);
                    let cause = cause.trim_start_matches("error: ").trim_end();
                    let text = format!(
                        "the variable {} cannot be used: {cause}\n",
                        arg.get_env().unwrap_or_default().display()
                    );
                    settings.errors.insert(name, clap::Error::raw(error.kind(), text));
                }
            }
        }
        Ok(settings)
    }

    /// Returns the command with these values as defaults, and without environment variables.
    pub fn as_defaults(&self, command: Command) -> Command {
        if self.is_absent {
            return command;
        }
        let command = command.mut_args(|arg| {
            let values = name(&arg).and_then(|name| self.values.get(name));
            match values.cloned() {
                // Already used to find the file; the argument remains for the help.
                _ if arg.get_id() == "config" => arg.env(None),
                Some((values, _)) => arg.env(None).default_values(values),
                None => arg.env(None),
            }
        });
        command.mut_subcommands(|sub| self.as_defaults(sub))
    }

    /// Reports an invalid value if the parsed command needs it.
    ///
    /// `commands` are the program and its subcommands, `matches` belongs to the last one.
    pub fn check(&mut self, commands: &[&Command], matches: &ArgMatches) -> Result<(), clap::Error> {
        for arg in commands.iter().flat_map(|command| command.get_arguments()) {
            let is_given = matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
            let error = arg.get_long().and_then(|name| self.errors.remove(name));
            if let Some(error) = error.filter(|_| !is_given) {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Returns the effective settings of the last of `commands`, to which `matches` belongs.
    pub fn in_force(&self, variables: &Command, commands: &[&Command], matches: &ArgMatches) -> Vec<Setting> {
        let known = settable(variables);
        let arguments = commands.iter().flat_map(|command| command.get_arguments());
        let mut settings: Vec<Setting> = arguments
            .filter_map(|arg| {
                let (name, known) = known.get_key_value(arg.get_long()?)?;
                let raw = matches.get_raw(arg.get_id().as_str()).into_iter().flatten();
                let values: Vec<_> = raw.map(|value| value.to_string_lossy()).collect();
                let is_given = matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
                let origin = match self.values.get(name) {
                    _ if is_given => "flag",
                    Some((_, origin)) => origin,
                    None => "default",
                };
                Some(Setting {
                    value: values.join(","),
                    name: name.clone(),
                    origin,
                    variable: known.get_env()?.to_string_lossy().into_owned(),
                })
            })
            .collect();
        settings.sort_by(|a, b| a.name.cmp(&b.name));
        settings
    }
}

/// Returns the value of a variable that is set and not empty.
pub(super) fn variable(name: &OsStr) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Splits the value of a variable if the flag accepts a list.
fn split(arg: &Arg, value: &OsStr) -> Vec<OsString> {
    match (arg.get_value_delimiter(), value.to_str()) {
        (Some(delimiter), Some(text)) => text.split(delimiter).map(OsString::from).collect(),
        _ => vec![value.to_owned()],
    }
}

/// Validates values with the parser of their argument.
pub(super) fn judge(arg: &Arg, values: &[OsString]) -> Result<(), clap::Error> {
    let long = arg.get_long().unwrap_or_default();
    let words = values.iter().map(|value| {
        let mut word = OsString::from(format!("--{long}="));
        word.push(value);
        word
    });
    Command::new("settings")
        .no_binary_name(true)
        .disable_help_flag(true)
        .styles(Styles::plain())
        .arg(arg.clone().env(None))
        .try_get_matches_from(words)
        .map(|_| ())
}

/// Returns the variables of the process that are named like settings, but that no argument reads.
fn unknown_variables(command: &Command) -> Vec<String> {
    fn collect(command: &Command, known: &mut BTreeSet<OsString>) {
        let variables = command.get_arguments().filter_map(Arg::get_env);
        known.extend(variables.map(OsStr::to_owned));
        command.get_subcommands().for_each(|sub| collect(sub, known));
    }
    let mut known = BTreeSet::new();
    collect(command, &mut known);
    let set: BTreeSet<OsString> = std::env::vars_os().map(|(name, _)| name).collect();
    let unknown = set.difference(&known).map(|name| name.to_string_lossy());
    unknown
        .filter(|name| name.starts_with(PREFIX))
        .map(Cow::into_owned)
        .collect()
}

/// Returns the long name of an argument that is a setting.
fn name(arg: &Arg) -> Option<&str> {
    arg.get_env()?;
    arg.get_long().filter(|&name| name != "config")
}

/// Returns every setting of a command and its subcommands.
fn settable(command: &Command) -> BTreeMap<String, Arg> {
    let here = command.get_arguments();
    let here = here.filter_map(|arg| Some((name(arg)?.to_owned(), arg.clone())));
    let below = command.get_subcommands().flat_map(settable);
    here.chain(below).collect()
}

/// A config file.
struct File {
    path: PathBuf,
    values: BTreeMap<String, Vec<String>>,
}

/// A value in a file of flags.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text, a number or a list of these")]
pub(super) enum Value {
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Value>),
}

impl Value {
    pub fn texts(self) -> Vec<String> {
        match self {
            Value::Bool(value) => vec![value.to_string()],
            Value::Number(value) => vec![value.to_string()],
            Value::Text(value) => vec![value],
            Value::List(values) => values.into_iter().flat_map(Value::texts).collect(),
        }
    }
}

impl File {
    /// Reads the given file, which must exist, or the user's default one, which may be absent.
    fn read(named: Option<&Path>) -> Result<Option<Self>, clap::Error> {
        let (path, has_to_exist) = match named {
            Some(path) => (path.to_owned(), true),
            None => match default_path() {
                Some(path) => (path, false),
                None => return Ok(None),
            },
        };
        let bad = |cause: &str| unusable(&path, cause);
        let text = match files::read_text(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !has_to_exist => return Ok(None),
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
        // An empty text counts as unset, as in a variable.
        let values = values
            .into_iter()
            .flatten()
            .filter(|(_, value)| !matches!(value, Value::Text(text) if text.is_empty()))
            .map(|(key, value)| (key, value.texts()))
            .collect();
        Ok(Some(Self { path, values }))
    }

    fn check_names(&self, known: &BTreeMap<String, Arg>) -> Result<(), clap::Error> {
        for (name, values) in &self.values {
            let Some(arg) = known.get(name) else {
                let names: Vec<&str> = known.keys().map(String::as_str).collect();
                let names = names.join(", ");
                let cause = format!("{name}: no such setting; expected one of {names}");
                return Err(unusable(&self.path, &cause));
            };
            if values.len() != 1 && !matches!(arg.get_action(), ArgAction::Append) {
                let cause = format!("{name}: expected one value, found {}", values.len());
                return Err(unusable(&self.path, &cause));
            }
        }
        Ok(())
    }
}

fn unusable(path: &Path, cause: &str) -> clap::Error {
    let cause = cause.trim_start_matches("error: ").trim_end();
    let cause: Vec<_> = cause.lines().map(untrusted::escaped).collect();
    let text = format!(
        "the config file {} cannot be used: {}\n",
        files::shown(path),
        cause.join("\n")
    );
    clap::Error::raw(ErrorKind::ValueValidation, text)
}

/// Returns the path of the user's config file, or `None` without a home directory.
pub(super) fn default_path() -> Option<PathBuf> {
    let folders = etcetera::choose_base_strategy().ok()?;
    Some(folders.config_dir().join("defender-sim").join("config.yaml"))
}
