//! Several clusters: the flags that select them, and the file of `--fleet`.
//!
//! The file gives each cluster a context and further flags, by their long names. These are parsed as if they were on
//! the command line, where the same flag takes precedence; settings of the environment and the config file do not.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::NonEmptyStringValueParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches as _};
use serde::Deserialize;

use super::args::{Action, Arguments, RunArgs, SelectedRun};
use super::settings::{self, Value};
use super::{Invocation, ScenarioRun, VerifyOptions, invocation, options, raw};
use crate::files;
use crate::report::export::Kind;
use crate::yaml::{self, Mistake, Tree};

const FLEET: &str = "Fleet options";

/// Which clusters, if not one.
#[derive(Clone, Debug, Default, Args)]
pub struct FleetArgs {
    /// Contexts of the kubeconfig, to work on several clusters side by side
    #[arg(long, help_heading = FLEET, value_name = "NAMES", value_delimiter = ',', value_parser = NonEmptyStringValueParser::new(), conflicts_with = "all_contexts")]
    pub contexts: Vec<String>,
    /// Work on the cluster of every context of the kubeconfig
    #[arg(long, help_heading = FLEET)]
    pub all_contexts: bool,
    /// File with contexts, and flags for each (YAML); --contexts selects some of them
    #[arg(long, help_heading = FLEET, value_name = "FILE", conflicts_with = "all_contexts", hide_short_help = true)]
    pub fleet: Option<PathBuf>,
}

/// The clusters of a command for several.
#[derive(Clone, Debug)]
pub enum Fleet {
    /// Every context of the kubeconfig.
    All,
    /// These contexts.
    Contexts(Vec<String>),
    /// The invocation for each cluster.
    File(Vec<Invocation>),
}

/// Flags that select a cluster or an identity in it, by the ids of their arguments.
const OF_ONE_CLUSTER: [&str; 9] = [
    "context",
    "cluster",
    "user",
    "server",
    "token",
    "certificate_authority",
    "client_certificate",
    "client_key",
    "tls_server_name",
];

/// Flags that the file may give to a cluster, besides those with the headings of pods, verification and Azure.
const OF_EACH_CLUSTER: [&str; 14] = [
    "namespace",
    "as",
    "as-uid",
    "as-group",
    "as-user-extra",
    "request-timeout",
    "allow",
    "allow-production",
    "allow-system-namespace",
    "deadline",
    "timeout",
    "production-words",
    "cover",
    "parallel",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    clusters: Vec<BTreeMap<String, Value>>,
}

/// What is known when the command line has been parsed without the file.
pub(super) struct Parsed<'a> {
    /// All arguments, starting with the program.
    pub words: &'a [OsString],
    /// The program, with settings as defaults.
    pub command: &'a Command,
    /// The program and the subcommands that were named.
    pub chain: &'a [&'a Command],
    /// The matches of the last of them.
    pub leaf: &'a ArgMatches,
}

impl Parsed<'_> {
    /// Returns the clusters of a command for several, or `None` if it is one for a single cluster.
    ///
    /// # Errors
    /// Fails if a flag makes no sense for several clusters, or if the file cannot be used.
    pub fn fleet(&self, action: &Action) -> Result<Option<Fleet>, clap::Error> {
        let Some(args) = action.fleet() else {
            return Ok(None);
        };
        let flag = match args {
            FleetArgs { fleet: Some(_), .. } => "--fleet",
            FleetArgs {
                all_contexts: true, ..
            } => "--all-contexts",
            FleetArgs { contexts, .. } if contexts.is_empty() => return Ok(None),
            FleetArgs { .. } => "--contexts",
        };
        self.check(action, flag)?;
        if let Some(twice) = repeated(&args.contexts) {
            return Err(refuse(&format!("the context {twice} is named twice")));
        }
        Ok(Some(match &args.fleet {
            Some(path) => Fleet::File(self.read(path, &args.contexts)?),
            None if args.all_contexts => Fleet::All,
            None => Fleet::Contexts(args.contexts.clone()),
        }))
    }

    /// Rejects flags that are meant for one cluster.
    fn check(&self, action: &Action, flag: &str) -> Result<(), clap::Error> {
        let one = |name: &str, why: &str| refuse(&format!("{name} cannot be used with {flag}: {why}"));
        let arguments = || self.chain.iter().flat_map(|command| command.get_arguments());
        for id in OF_ONE_CLUSTER {
            if self.leaf.value_source(id) == Some(ValueSource::CommandLine) {
                let long = arguments().find(|arg| arg.get_id() == id).and_then(Arg::get_long);
                return Err(one(&format!("--{}", long.unwrap_or(id)), "it is for one cluster"));
            }
        }
        let run = action.run();
        let (reports, verify) = match action {
            Action::Verify(verify) => (&verify.report[..], Some(&verify.options)),
            _ => (
                run.map_or(&[][..], |run| &run.report),
                run.map(|run| &run.verify_options),
            ),
        };
        let of_run = run.is_some_and(|run| run.soc_note.is_some());
        let scheduled = run.is_some_and(|run| run.cron_job.is_some());
        let run_id = match action {
            Action::Verify(verify) => verify.run.is_some(),
            Action::Cleanup(cleanup) => cleanup.run.is_some(),
            _ => false,
        };
        let recorded = matches!(action, Action::Verify(verify) if verify.record.is_some());
        for (name, is_given, why) in [
            ("--soc-note", of_run, "a note is about one run"),
            ("--cron-job", scheduled, "a cron job is in one cluster"),
            ("a run ID", run_id, "a run is in one cluster"),
            ("--record", recorded, "a record is of one run"),
        ] {
            if is_given {
                return Err(one(name, why));
            }
        }
        if let Some(report) = reports.iter().find(|report| !report.kind.holds_several_results()) {
            let kinds = Kind::ALL.into_iter().filter(|kind| kind.holds_several_results());
            let kinds: Vec<&str> = kinds.map(Kind::as_str).collect();
            let name = format!("--report {}=", report.kind.as_str());
            let why = format!("reports on several clusters are {}", kinds.join(", "));
            return Err(one(&name, &why));
        }
        check_inputs(action, verify, flag)
    }

    /// Reads the file and returns the invocation for each of its clusters, or for those in `contexts` if it is not
    /// empty.
    fn read(&self, path: &Path, contexts: &[String]) -> Result<Vec<Invocation>, clap::Error> {
        let unusable = |mistake: &Mistake| {
            let text = format!("the fleet file {} cannot be used: {mistake}", files::shown(path));
            refuse(&text)
        };
        let text = files::read_text(path).map_err(|error| {
            refuse(&format!(
                "the fleet file {} cannot be read: {error}",
                files::shown(path)
            ))
        })?;
        let entries = parse(&text).map_err(|mistake| unusable(&mistake))?;
        let tree = Tree::parse(&text);
        let mistake = |field: &str, message: &str| {
            Mistake::new(field, message, tree.as_ref().map(|tree| tree.locate(field)))
        };
        let mut members = vec![];
        let mut known = BTreeSet::new();
        for (index, mut flags) in entries.into_iter().enumerate() {
            let field = |name: &str| format!("clusters[{index}].{name}");
            let context = flags.remove("context").map(Value::texts).unwrap_or_default();
            let context = match &context[..] {
                [context] if !context.is_empty() => context,
                _ => {
                    let cause = mistake(&field("context"), "expected the name of a context");
                    return Err(unusable(&cause));
                }
            };
            if !known.insert(context.clone()) {
                return Err(unusable(&mistake(&field("context"), "given twice")));
            }
            let mut words = vec![];
            for (name, value) in flags {
                let judged = self.words_of(&name, value);
                words.extend(judged.map_err(|message| unusable(&mistake(&field(&name), &message)))?);
            }
            if contexts.is_empty() || contexts.contains(context) {
                members.push(self.invocation(context, words)?);
            }
        }
        if let Some(unknown) = contexts.iter().find(|&context| !known.contains(context)) {
            let known: Vec<String> = known.into_iter().collect();
            return Err(refuse(&format!(
                "the fleet file {} has no context {unknown:?} (it has {})",
                files::shown(path),
                known.join(", ")
            )));
        }
        Ok(members)
    }

    /// Returns the words of a flag in the file; none if the command does not have it, or if the command line has it.
    fn words_of(&self, name: &str, value: Value) -> Result<Vec<OsString>, String> {
        let Some(arg) = flags_of_each(self.command).remove(name) else {
            let names: Vec<String> = flags_of_each(self.command).into_keys().collect();
            return Err(format!(
                "no such flag for a cluster; expected one of {}",
                names.join(", ")
            ));
        };
        let values = value.texts();
        if !arg.get_action().takes_values() {
            return match &values[..] {
                [value] if value == "true" => Ok(self.unless_given(&arg, vec![format!("--{name}")])),
                [value] if value == "false" => Ok(vec![]),
                _ => Err("expected true or false".to_owned()),
            };
        }
        if values.len() != 1 && !matches!(arg.get_action(), ArgAction::Append) {
            return Err(format!("expected one value, found {}", values.len()));
        }
        let raw_values: Vec<OsString> = values.iter().map(OsString::from).collect();
        settings::judge(&arg, &raw_values).map_err(|error| {
            let cause = raw(&error);
            cause.trim_start_matches("error: ").trim_end().to_owned()
        })?;
        let words = values.iter().map(|value| format!("--{name}={value}"));
        Ok(self.unless_given(&arg, words.collect()))
    }

    fn unless_given(&self, arg: &Arg, words: Vec<String>) -> Vec<OsString> {
        let mut arguments = self.chain.iter().flat_map(|command| command.get_arguments());
        let is_known = arguments.any(|known| known.get_long() == arg.get_long());
        let source = is_known
            .then(|| self.leaf.value_source(arg.get_id().as_str()))
            .flatten();
        if is_known && source != Some(ValueSource::CommandLine) {
            words.into_iter().map(OsString::from).collect()
        } else {
            vec![]
        }
    }

    /// Returns the invocation for one cluster, with the flags that the file gives to it.
    fn invocation(&self, context: &str, flags: Vec<OsString>) -> Result<Invocation, clap::Error> {
        let end = self.words.iter().position(|word| word == "--");
        let (before, after) = self.words.split_at(end.unwrap_or(self.words.len()));
        let words = before.iter().cloned().chain(flags).chain(after.iter().cloned());
        let matches = self.command.clone().try_get_matches_from(words)?;
        let mut member = invocation(Arguments::from_arg_matches(&matches)?, self.leaf)?;
        member.connect.context = Some(context.to_owned());
        Ok(member)
    }
}

/// Rejects inputs that are of one cluster, or that can be read only once.
fn check_inputs(action: &Action, verify: Option<&VerifyOptions>, flag: &str) -> Result<(), clap::Error> {
    let azure = match action {
        Action::Doctor(doctor) => Some(&doctor.azure),
        _ => verify.map(|verify| &verify.azure),
    };
    if azure.is_some_and(|azure| azure.resource_id.is_some()) {
        return Err(refuse(&format!(
            "--resource-id cannot be used with {flag}: it names one cluster; a file of --fleet gives each its own"
        )));
    }
    let files = match action {
        Action::Run(selected) => &selected.file[..],
        _ => &[],
    };
    let alerts = verify
        .into_iter()
        .flat_map(|verify| [&verify.alerts, &verify.alert_names]);
    let mut inputs = files.iter().chain(alerts.flatten());
    if inputs.any(|path| files::is_stdin(path)) {
        return Err(refuse(&format!(
            "standard input (-) cannot be used with {flag}: every cluster reads it"
        )));
    }
    Ok(())
}

/// Returns the flags that the file may give to a cluster, by their long names.
fn flags_of_each(command: &Command) -> BTreeMap<String, Arg> {
    let headings = [options::PODS, options::VERIFY, options::AZURE];
    let is_of_each = |arg: &&Arg| {
        let heading = arg.get_help_heading();
        let long = arg.get_long().unwrap_or_default();
        heading.is_some_and(|heading| headings.contains(&heading)) || OF_EACH_CLUSTER.contains(&long)
    };
    let here = command.get_arguments().filter(is_of_each);
    let here = here.filter_map(|arg| Some((arg.get_long()?.to_owned(), arg.clone())));
    // Another command may have a flag of the same name.
    let has_fleet = |sub: &&Command| sub.get_arguments().any(|arg| arg.get_id() == "contexts");
    let below = command
        .get_subcommands()
        .filter(has_fleet)
        .flat_map(flags_of_each);
    here.chain(below).collect()
}

fn parse(text: &str) -> Result<Vec<BTreeMap<String, Value>>, Mistake> {
    let words = |error: &serde_saphyr::Error| match error {
        serde_saphyr::Error::Unexpected {
            expected: "mapping start",
            ..
        } => Some("expected a mapping, such as \"context: NAME\""),
        serde_saphyr::Error::Unexpected {
            expected: "sequence start",
            ..
        } => Some("expected a list of clusters"),
        _ => None,
    };
    let clusters = yaml::parse::<File>(text, words)?.map(|file| file.clusters);
    clusters.filter(|clusters| !clusters.is_empty()).ok_or_else(|| {
        Mistake::new(
            "clusters",
            "expected a list of clusters, found none",
            Some((1, 1)),
        )
    })
}

fn repeated(names: &[String]) -> Option<&String> {
    let mut seen = BTreeSet::new();
    names.iter().find(|name| !seen.insert(*name))
}

fn refuse(text: &str) -> clap::Error {
    clap::Error::raw(ErrorKind::ArgumentConflict, format!("{text}\n"))
}

impl Action {
    /// Returns the arguments of a run.
    pub fn run(&self) -> Option<&RunArgs> {
        match self {
            Self::Scenario(ScenarioRun { run, .. }) | Self::All(run) | Self::Run(SelectedRun { run, .. }) => {
                Some(run)
            }
            _ => None,
        }
    }

    /// Returns the flags that select the clusters of a command which can work on several.
    pub fn fleet(&self) -> Option<&FleetArgs> {
        match self {
            Self::Doctor(doctor) => Some(&doctor.fleet),
            Self::Verify(verify) => Some(&verify.fleet),
            Self::Cleanup(cleanup) => Some(&cleanup.fleet),
            action => action.run().map(|run| &run.fleet),
        }
    }
}
