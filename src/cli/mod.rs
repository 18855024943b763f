//! The command line: parses the user's words into a command with its arguments.
//!
//! [`args`] defines it, [`settings`] reads additional values from the environment and the config file, [`help`]
//! explains it. Commands receive the parsed values; nothing below them depends on this module.

mod args;
mod fleet;
mod help;
mod options;
mod settings;
mod values;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::Styles;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args as _, Command, CommandFactory as _, FromArgMatches as _};

use args::Arguments;
pub use args::{
    Action, Cleanup, Completion, Config, CronJobName, Doctor, DryRun, Handover, History, Images,
    RecordReport, Rights, RunArgs, ScenarioRun, SelectedRun, Verify,
};
pub use fleet::Fleet;
use options::Global;
pub use options::VerifyOptions;
use settings::Settings;

use crate::cluster::connect::ConnectOptions;
use crate::exit::Exit;
use crate::files;
use crate::report::{Answer, Color, Format, Output, Setting};
use crate::scenario::catalogue;
use crate::untrusted;

/// A parsed command line.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The command.
    pub action: Action,
    /// The clusters, if there are several.
    pub fleet: Option<Fleet>,
    /// The cluster to connect to.
    pub connect: ConnectOptions,
    /// Timeout of each single request, if given.
    pub request_timeout: Option<Duration>,
    /// Namespace given with `-n`.
    pub namespace: Option<String>,
    /// How results and progress are printed.
    pub output: Output,
    /// Variables named like settings that do not exist, sorted.
    pub unknown_variables: Vec<String>,
    /// Every setting of the command, for `config view`; otherwise none.
    pub settings: Vec<Setting>,
    /// The config file, whether it exists or not.
    pub config_path: Option<PathBuf>,
}

/// Returns the definition of the entire command line.
pub fn command() -> Command {
    help::decorate(Arguments::command())
}

/// Parses the arguments of the process. The first one is the program, by whose name help and errors refer to it.
///
/// # Errors
/// Returns the answer to usage errors and to requests for help or the version.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, Answer> {
    let command = command();
    let arguments = without_empty_flags(&command, arguments);
    let command = named(command, arguments.first());
    match try_parse(&arguments, &command) {
        Ok(Parsed::Invocation(invocation)) => Ok(*invocation),
        Ok(Parsed::Help(text)) => Err(Answer {
            text,
            is_help: true,
            color: color(&arguments),
            exit: Exit::Ok,
        }),
        Err(error) => Err(answer(&with_tip(error), &arguments)),
    }
}

/// A valid command line.
enum Parsed {
    Invocation(Box<Invocation>),
    /// A request for this text.
    Help(String),
}

/// Returns the command under the name that the user invoked.
fn named(command: Command, program: Option<&OsString>) -> Command {
    let Some(name) = program.and_then(|program| Path::new(program).file_name()) else {
        return command;
    };
    let name = name.to_string_lossy();
    if name.starts_with("kubectl-") {
        let name = "kubectl defender-sim";
        command.bin_name(name).display_name(name)
    } else {
        command.bin_name(untrusted::name(&name))
    }
}

fn try_parse(arguments: &[OsString], command: &Command) -> Result<Parsed, clap::Error> {
    let config =
        flag(arguments, "--config").or_else(|| settings::variable(OsStr::new("DEFENDER_SIM_CONFIG")));
    let config = config.map(PathBuf::from);
    let settings = Settings::read(command, config.as_deref());
    let parsed = match &settings {
        Ok(settings) => settings.as_defaults(command.clone()),
        // Help is printed all the same.
        Err(_) => Settings::default().as_defaults(command.clone()),
    };
    // Help does not need settings, and its styles are for a terminal.
    let matches = parsed
        .clone()
        .styles(Styles::plain())
        .try_get_matches_from(arguments);
    let matches = matches.map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp => parsed
            .clone()
            .try_get_matches_from(arguments)
            .err()
            .unwrap_or(error),
        _ => error,
    })?;
    let words = arguments;
    let arguments = Arguments::from_arg_matches(&matches)?;
    if let Action::Help { command: path } = &arguments.action {
        return help_for(path, parsed).map(Parsed::Help);
    }
    check_stdin(&arguments, config.as_deref())?;
    let mut settings = settings?;
    let mut chain = vec![&parsed];
    let mut leaf = &matches;
    while let Some((name, sub)) = leaf.subcommand() {
        chain.extend(chain[chain.len() - 1].find_subcommand(name));
        leaf = sub;
    }
    settings.check(&chain, leaf)?;
    check_effects(&arguments.action, leaf)?;
    let mut invocation = invocation(arguments, leaf)?;
    invocation.fleet = fleet::Parsed {
        words,
        command: &parsed,
        chain: &chain,
        leaf,
    }
    .fleet(&invocation.action)?;
    // Only `config view` shows them.
    if let Action::Config { .. } = invocation.action {
        invocation.settings = settings.in_force(command, &chain, leaf);
    }
    invocation.config_path = config.or_else(settings::default_path);
    invocation.unknown_variables = settings.unknown_variables;
    Ok(Parsed::Invocation(Box::new(invocation)))
}

/// Returns the invocation of parsed arguments, without settings and without a fleet. `leaf` shows which flags are on the
/// command line.
fn invocation(arguments: Arguments, leaf: &ArgMatches) -> Result<Invocation, clap::Error> {
    let Arguments { mut action, global } = arguments;
    if let Some(options) = verify_options(&mut action) {
        settle_overrides(options, leaf)?;
    }
    let mut output = global.output();
    // `kubectl apply` cannot read a table.
    if matches!(action, Action::Rights(_)) && leaf.value_source("output") == Some(ValueSource::DefaultValue) {
        output.format = Format::Yaml;
    }
    Ok(Invocation {
        fleet: None,
        settings: vec![],
        config_path: None,
        unknown_variables: vec![],
        request_timeout: global.request_timeout(),
        namespace: global.namespace.clone(),
        output,
        action,
        connect: global.connect(),
    })
}

/// Returns the help of a command or a topic.
fn help_for(path: &[String], mut command: Command) -> Result<String, clap::Error> {
    command.build();
    let text = match path {
        [topic] if command.find_subcommand(topic).is_none() => help::topic(topic, &command),
        _ => None,
    };
    if let Some(text) = text {
        return Ok(text);
    }
    let mut found = &mut command;
    for name in path {
        found = found.find_subcommand_mut(name).ok_or_else(|| {
            let text = format!(
                "no command or topic {name:?}\n\n  tip: commands and topics are listed with: kubectl defender-sim help\n"
            );
            clap::Error::raw(ErrorKind::InvalidSubcommand, text)
        })?;
    }
    Ok(found.render_long_help().ansi().to_string())
}

/// Returns the value of a flag in unparsed arguments.
fn flag(arguments: &[OsString], name: &str) -> Option<OsString> {
    let mut words = arguments.iter().skip(1).take_while(|word| *word != "--");
    while let Some(word) = words.next() {
        if word == name {
            return words.next().cloned();
        }
        let value = word
            .to_str()
            .and_then(|word| word.strip_prefix(name)?.strip_prefix('='));
        if let Some(value) = value {
            return Some(value.into());
        }
    }
    None
}

/// Returns when to use colour, for unparsed arguments.
fn color(arguments: &[OsString]) -> Color {
    let color = flag(arguments, "--color").or_else(|| std::env::var_os("DEFENDER_SIM_COLOR"));
    match color.as_deref().and_then(OsStr::to_str) {
        Some("always") => Color::Always,
        Some("never") => Color::Never,
        _ => Color::Auto,
    }
}

fn answer(error: &clap::Error, arguments: &[OsString]) -> Answer {
    let is_bare = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    Answer {
        text: if is_bare && arguments.len() < 2 {
            help::BARE.to_owned()
        } else {
            raw(error)
        },
        is_help: is_bare || error.kind() == ErrorKind::DisplayHelp,
        color: color(arguments),
        exit: if error.use_stderr() { Exit::Usage } else { Exit::Ok },
    }
}

/// Returns the text of an error unmodified. clap's own conversion removes everything that resembles a style.
fn raw(error: &clap::Error) -> String {
    error.render().ansi().to_string()
}

/// Adds a tip for common habits to an error if clap has none or a wrong one.
fn with_tip(mut error: clap::Error) -> clap::Error {
    let given = match error.kind() {
        ErrorKind::UnknownArgument => ContextKind::InvalidArg,
        ErrorKind::InvalidSubcommand => ContextKind::InvalidSubcommand,
        _ => return error,
    };
    let Some(ContextValue::String(given)) = error.get(given) else {
        return error;
    };
    let tip = match given.as_str() {
        "scenarios" | "scenario" | "ls" => "scenarios are listed with: kubectl defender-sim list",
        "options" => "the flags of all commands are listed with: kubectl defender-sim help options",
        "dr" | "check" | "preflight" => "the cluster is checked with: kubectl defender-sim doctor",
        "plan" => "a run is planned with: kubectl defender-sim SCENARIO --dry-run",
        "delete" | "clean" | "rm" => "leftovers of runs are deleted with: kubectl defender-sim cleanup",
        "-f" | "--file" => "a scenario file is run with: kubectl defender-sim run -f FILE",
        "client" | "server" => "the value of --dry-run follows =, as in --dry-run=server",
        "-v" | "--v" | "-=" => "-v takes no level",
        "-A" | "--all-namespaces" => "without -n, cleanup and history look at every namespace",
        name if catalogue::find(name).is_some() => {
            "several scenarios are run with: kubectl defender-sim run A B"
        }
        level if level.starts_with('-') && level[1..].parse::<u8>().is_ok() => "-v takes no level",
        _ => return error,
    };
    for suggested in [
        ContextKind::SuggestedArg,
        ContextKind::SuggestedSubcommand,
        ContextKind::Suggested,
    ] {
        let _ = error.remove(suggested);
    }
    error.insert(
        ContextKind::Suggested,
        ContextValue::StyledStrs(vec![tip.to_owned().into()]),
    );
    error
}

/// Removes kubectl's flags with an empty value, as in `--context "$UNSET"`: kubectl treats them as not given.
fn without_empty_flags(command: &Command, arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let flags: Vec<String> = command
        .get_arguments()
        .filter(|arg| arg.get_help_heading() == Some(options::KUBERNETES) && arg.get_action().takes_values())
        .flat_map(|arg| {
            let long = arg.get_long().map(|name| format!("--{name}"));
            let short = arg.get_short().map(|name| format!("-{name}"));
            long.into_iter().chain(short)
        })
        .collect();
    let is_flag = |text: &str| flags.iter().any(|flag| flag == text);
    let mut kept = Vec::new();
    let mut arguments = arguments.into_iter().peekable();
    while let Some(argument) = arguments.next() {
        let text = argument.to_str().unwrap_or_default();
        if text == "--" {
            kept.push(argument);
            break;
        }
        if is_flag(text) && arguments.peek().is_some_and(|value| value.is_empty()) {
            arguments.next();
        } else if !text.strip_suffix('=').is_some_and(is_flag) {
            kept.push(argument);
        }
    }
    kept.extend(arguments);
    kept
}

/// Returns the cluster and the namespace of an incomplete command line, or `None` if it already has an error.
///
/// The first of `words` is the program.
pub fn parse_partial(words: &[OsString]) -> Option<(ConnectOptions, Option<String>)> {
    if let Err(error) = command().try_get_matches_from(words) {
        let missing = [ErrorKind::MissingSubcommand, ErrorKind::MissingRequiredArgument];
        // An incomplete run ID is not valid yet.
        let of_run = error.get(ContextKind::InvalidArg).is_some_and(
            |argument| matches!(argument, ContextValue::String(name) if name.starts_with("--run ")),
        );
        if !missing.contains(&error.kind()) && !of_run {
            return None;
        }
    }
    let matches = command().ignore_errors(true).try_get_matches_from(words).ok()?;
    let global = Global::from_arg_matches(matches.subcommand().map_or(&matches, |(_, sub)| sub)).ok()?;
    let namespace = global.namespace.clone();
    Some((global.connect(), namespace))
}

/// Rejects a command line that uses standard input more than once: it can be read only once.
fn check_stdin(arguments: &Arguments, config: Option<&Path>) -> Result<(), clap::Error> {
    let alerts = |options: &VerifyOptions| [options.alerts.clone(), options.alert_names.clone()];
    let inputs: Vec<Option<PathBuf>> = match &arguments.action {
        Action::Scenario(scenario) => alerts(&scenario.run.verify_options).into(),
        Action::All(run) => alerts(&run.verify_options).into(),
        Action::Run(selected) => {
            let files = selected.file.iter().cloned().map(Some);
            files.chain(alerts(&selected.run.verify_options)).collect()
        }
        Action::Verify(verify) => {
            let alerts = alerts(&verify.options).into_iter();
            alerts.chain([verify.record.clone()]).collect()
        }
        Action::Handover(handover) => vec![handover.record.clone()],
        Action::Lint { files } => files.iter().cloned().map(Some).collect(),
        _ => vec![],
    };
    let named = inputs.into_iter().flatten().chain(config.map(Path::to_owned));
    if named.filter(|path| files::is_stdin(path)).count() > 1 {
        let text = "standard input (-) can be read only once\n";
        return Err(clap::Error::raw(ErrorKind::ArgumentConflict, text));
    }
    Ok(())
}

/// Returns the options of verification of a command that verifies alerts.
fn verify_options(action: &mut Action) -> Option<&mut VerifyOptions> {
    match action {
        Action::Scenario(ScenarioRun { run, .. })
        | Action::All(run)
        | Action::Run(SelectedRun { run, .. }) => Some(&mut run.verify_options),
        Action::Verify(verify) => Some(&mut verify.options),
        _ => None,
    }
}

/// Lets the flags --expect and --optional take precedence over settings, which may be meant for other runs.
fn settle_overrides(options: &mut VerifyOptions, matches: &ArgMatches) -> Result<(), clap::Error> {
    let VerifyOptions {
        expect,
        optional,
        given,
        ..
    } = options;
    let is_given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    match (is_given("expect"), is_given("optional")) {
        (true, true) => {
            if let Some(both) = expect.iter().find(|&id| optional.contains(id)) {
                let text = format!("the alert {both} cannot be both expected and optional\n");
                return Err(clap::Error::raw(ErrorKind::ArgumentConflict, text));
            }
            given.extend(expect.iter().chain(&*optional).cloned());
        }
        (true, false) => given.clone_from(expect),
        (false, true) => {
            expect.retain(|id| !optional.contains(id));
            given.clone_from(optional);
        }
        (false, false) => {}
    }
    Ok(())
}

/// Rejects flags without effect. A variable or the config file may set them for other runs.
fn check_effects(action: &Action, matches: &ArgMatches) -> Result<(), clap::Error> {
    let (Action::Scenario(ScenarioRun { run, .. }) | Action::All(run) | Action::Run(SelectedRun { run, .. })) =
        action
    else {
        return Ok(());
    };
    let is_given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    let refuse = |flag: &str, why: &str| {
        let text = format!("--{flag} has no effect {why}\n");
        Err(clap::Error::raw(ErrorKind::ArgumentConflict, text))
    };
    if run.dry_run != DryRun::None {
        for (flag, is_set) in [
            ("report", !run.report.is_empty()),
            ("soc-note", run.soc_note.is_some()),
            ("verify", run.verify),
        ] {
            if is_set {
                return refuse(flag, "in a dry run");
            }
        }
    }
    if !run.verify {
        let options = VerifyOptions::augment_args(Command::new("verify"));
        let given = options
            .get_arguments()
            .find(|arg| is_given(arg.get_id().as_str()));
        if let Some(flag) = given.and_then(|arg| arg.get_long()) {
            return refuse(flag, "without --verify");
        }
    }
    Ok(())
}
