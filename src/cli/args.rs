//! The commands and their arguments: one tree of clap derives. A scenario's command comes from the catalogue.

#![expect(
    missing_docs,
    reason = "a doc comment here is text of the help, which groups of arguments have not"
)]

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{ArgMatches, Args, Command, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use http::Uri;
use jiff::Timestamp;

use super::fleet::FleetArgs;
use super::options::{AzureArgs, Global, Settings, VerifyOptions};
use super::{help, values};
use crate::manifest::rights::Subject;
use crate::report::ReportFile;
use crate::scenario::catalogue::{self, Family};
use crate::schema::Schema;

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-defender_sim",
    version,
    about = "Run harmless attack simulations to validate Microsoft Defender for Containers",
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 80
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub action: Action,
    #[command(flatten)]
    pub global: Global,
}

/// A command with its arguments.
#[derive(Clone, Debug, Subcommand)]
pub enum Action {
    /// Run one scenario.
    #[command(flatten)]
    Scenario(ScenarioRun),
    /// Run every attack in turn; webshell is part of each
    All(RunArgs),
    /// Run several scenarios in turn, or your own
    Run(SelectedRun),
    /// Check whether scenarios can run and their alerts be raised
    #[command(long_about = help::DOCTOR)]
    Doctor(Doctor),
    /// Check which expected alerts were raised for a finished run
    #[command(long_about = help::VERIFY)]
    Verify(Verify),
    /// Delete leftovers of runs, from any machine
    #[command(long_about = help::CLEANUP)]
    Cleanup(Cleanup),
    /// List past runs of this machine
    History(History),
    /// Show a past run or export it
    Report(RecordReport),
    /// Print what a SOC needs after a run: alerts, queries, marks
    #[command(long_about = help::HANDOVER)]
    Handover(Handover),
    /// List scenarios
    List,
    /// Print a scenario: steps, proofs, alerts, needs
    #[command(long_about = help::DESCRIBE)]
    Describe {
        /// ID of a built-in scenario
        #[arg(value_name = "SCENARIO", value_parser = ids())]
        scenario: String,
    },
    /// List the known alerts, and what raises them
    #[command(long_about = help::ALERTS)]
    Alerts,
    /// List images for mirroring
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Images {
        #[command(subcommand)]
        action: Images,
    },
    /// Print the smallest role that a run needs, with a binding
    #[command(long_about = help::RIGHTS)]
    Rights(Rights),
    /// Check scenario files
    #[command(long_about = help::LINT)]
    Lint {
        /// Scenario files; - is standard input
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
    /// Print the JSON Schema of a file or an output
    Schema {
        /// Document to describe
        #[arg(value_name = "NAME", value_enum)]
        name: Schema,
    },
    /// Show the defaults in force
    #[command(long_about = help::CONFIG, subcommand_required = true, arg_required_else_help = true)]
    Config {
        #[command(subcommand)]
        action: Config,
    },
    /// Complete commands, flags and names in kubectl or a shell
    #[command(long_about = help::COMPLETION)]
    Completion(Completion),
    /// Print the manual page, or write one for each command
    Man {
        /// Folder to write the pages into; created if it does not exist
        #[arg(value_name = "DIR")]
        folder: Option<PathBuf>,
    },
    /// Print the version of this tool and of the cluster
    Version {
        /// Print the version of this tool only
        #[arg(long)]
        client: bool,
    },
    /// Print help for a command
    Help {
        /// Command to describe
        #[arg(value_name = "COMMAND")]
        command: Vec<String>,
    },
}

/// A run of one built-in scenario: a command of the scenario's name.
#[derive(Clone, Debug)]
pub struct ScenarioRun {
    /// ID of the scenario.
    pub id: String,
    /// How it runs.
    pub run: RunArgs,
}

impl Subcommand for ScenarioRun {
    fn augment_subcommands(command: Command) -> Command {
        command.subcommands(catalogue::entries().iter().map(|entry| {
            RunArgs::augment_args(Command::new(entry.id))
                .about(entry.title())
                .long_about(help::scenario(entry))
        }))
    }

    fn augment_subcommands_for_update(command: Command) -> Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        catalogue::entries().iter().any(|entry| entry.id == name)
    }
}

impl FromArgMatches for ScenarioRun {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let (id, matches) = matches.subcommand().expect("clap requires a subcommand");
        Ok(Self {
            id: id.to_owned(),
            run: RunArgs::from_arg_matches(matches)?,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// A `CronJob`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CronJobName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// `run`.
#[derive(Clone, Debug, Args)]
pub struct SelectedRun {
    /// Scenarios to run, in this order
    #[arg(value_name = "SCENARIO", value_parser = ids(), required_unless_present_any = ["file", "family", "baseline"])]
    pub scenarios: Vec<String>,
    /// Every scenario of a family, except those that need --allow: microsoft, runtime or control-plane; can be repeated
    #[arg(long, value_name = "FAMILY", value_parser = values::family, conflicts_with = "baseline")]
    pub family: Vec<Family>,
    /// Scenario file of your own, - for standard input; can be repeated
    #[arg(short, long, value_name = "FILE", conflicts_with = "baseline")]
    pub file: Vec<PathBuf>,
    #[command(flatten)]
    pub run: RunArgs,
}

/// How scenarios run.
#[derive(Clone, Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub struct RunArgs {
    /// Print the plan without running it; "server" also submits every object without persisting it
    #[arg(long, value_enum, value_name = "STRATEGY", default_value_t, num_args = 0..=1, require_equals = true, default_missing_value = "client")]
    pub dry_run: DryRun,
    /// Skip the confirmation prompt (required when not at a terminal)
    #[arg(short, long)]
    pub yes: bool,
    /// Run although names or labels look like production
    #[arg(long)]
    pub allow_production: bool,
    /// Run in a namespace of the cluster itself, such as kube-system
    #[arg(long)]
    pub allow_system_namespace: bool,
    /// Run a scenario that needs consent of its own; can be repeated
    #[arg(long, value_name = "SCENARIO")]
    pub allow: Vec<String>,
    /// Keep the pods for inspection until the deadline
    #[arg(long)]
    pub keep: bool,
    /// Write a report: junit=, json=, markdown=, html=, navigator= or openmetrics=FILE, - for
    /// standard output; can be repeated
    #[arg(long, value_name = "KIND=FILE", value_parser = values::report_file)]
    pub report: Vec<ReportFile>,
    /// Write a notice for the SOC before creating anything: Markdown to FILE.md, otherwise JSON
    #[arg(long, value_name = "FILE")]
    pub soc_note: Option<PathBuf>,
    /// Send the metrics of the run to this Pushgateway
    #[arg(long, value_name = "URL", value_parser = values::gateway)]
    pub push_gateway: Option<Uri>,
    /// Cron job that starts this run: gets events, and remembers in its config map what was detected
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = values::cron_job)]
    pub cron_job: Option<CronJobName>,
    /// Wait for the expected alerts afterwards and report which were raised
    #[arg(long)]
    pub verify: bool,
    /// Run a benign baseline instead; fails if any alert is raised
    #[arg(long)]
    pub baseline: bool,
    #[command(flatten)]
    pub settings: Settings,
    #[command(flatten)]
    pub fleet: FleetArgs,
    #[command(flatten)]
    pub verify_options: VerifyOptions,
}

/// `doctor`.
#[derive(Clone, Debug, Args)]
pub struct Doctor {
    /// Scenarios to check [default: all]
    #[arg(value_name = "SCENARIO", value_parser = ids())]
    pub scenarios: Vec<String>,
    #[command(flatten)]
    pub settings: Settings,
    #[command(flatten)]
    pub fleet: FleetArgs,
    #[command(flatten)]
    pub azure: AzureArgs,
}

/// `verify`.
#[derive(Clone, Debug, Args)]
pub struct Verify {
    /// Run ID [default: the most recent]
    #[arg(value_name = "RUN")]
    pub run: Option<String>,
    /// Record of a run in a file, as --report json=FILE writes it
    #[arg(long, value_name = "FILE", conflicts_with = "run")]
    pub record: Option<PathBuf>,
    /// A run without a record: it started at this time, or so long ago; with -n and --scenario
    #[arg(long, value_name = "TIME|DURATION", value_parser = values::time, conflicts_with_all = ["run", "record"], requires = "scenario")]
    pub since: Option<Timestamp>,
    /// A run without a record: it ended at this time, or so long ago [default: now]
    #[arg(long, value_name = "TIME|DURATION", value_parser = values::time, requires = "since")]
    pub until: Option<Timestamp>,
    /// A run without a record: what ran; can be repeated
    #[arg(long, value_name = "SCENARIO", value_parser = ids(), requires = "since")]
    pub scenario: Vec<String>,
    /// Write a report: junit=, json=, markdown=, html=, navigator= or openmetrics=FILE, - for
    /// standard output; can be repeated
    #[arg(long, value_name = "KIND=FILE", value_parser = values::report_file)]
    pub report: Vec<ReportFile>,
    #[command(flatten)]
    pub fleet: FleetArgs,
    #[command(flatten)]
    pub options: VerifyOptions,
}

/// `history`.
#[derive(Clone, Debug, Args)]
pub struct History {
    /// Compare the alerts of verified runs; exit with 5 if one that was raised earlier is missing now
    #[arg(long)]
    pub compare: bool,
}

/// `report`.
#[derive(Clone, Debug, Args)]
pub struct RecordReport {
    /// Run ID [default: the most recent]
    #[arg(value_name = "RUN")]
    pub run: Option<String>,
    /// Write a report: junit=, json=, markdown=, html=, navigator= or openmetrics=FILE, - for
    /// standard output; can be repeated
    #[arg(long, value_name = "KIND=FILE", value_parser = values::report_file)]
    pub report: Vec<ReportFile>,
}

/// `handover`.
#[derive(Clone, Debug, Args)]
pub struct Handover {
    /// Run ID [default: the most recent]
    #[arg(value_name = "RUN")]
    pub run: Option<String>,
    /// Record of a run in a file, as --report json=FILE writes it
    #[arg(long, value_name = "FILE", conflicts_with = "run")]
    pub record: Option<PathBuf>,
    /// Write it for the SOC as well: Markdown to FILE.md, otherwise JSON
    #[arg(long, value_name = "FILE")]
    pub note: Option<PathBuf>,
}

/// `images`.
#[derive(Clone, Debug, Subcommand)]
pub enum Images {
    /// Print the images that a run needs
    List(Settings),
}

/// `rights`.
#[derive(Clone, Debug, Args)]
pub struct Rights {
    /// Scenarios to run [default: all]
    #[arg(value_name = "SCENARIO", value_parser = ids())]
    pub scenarios: Vec<String>,
    /// Print a Role for runs in the existing namespace of -n
    #[arg(long, requires = "namespace")]
    pub namespace_scoped: bool,
    /// Add what --cover needs: to list nodes
    #[arg(long)]
    pub cover: bool,
    /// Bind to user:NAME, group:NAME or serviceaccount:NAMESPACE:NAME; can be repeated
    #[arg(long, value_name = "SUBJECT")]
    pub subject: Vec<Subject>,
}

/// `config`.
#[derive(Clone, Debug, Subcommand)]
pub enum Config {
    /// Print every setting, and where it is from
    View(AllSettings),
}

/// Every argument that is a setting.
#[derive(Clone, Debug, Args)]
pub struct AllSettings {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    verify: VerifyOptions,
}

/// `completion`.
#[derive(Clone, Debug, Args)]
pub struct Completion {
    /// Shell to print a script for
    #[arg(
        value_name = "SHELL",
        value_enum,
        required_unless_present = "install",
        conflicts_with = "install"
    )]
    pub shell: Option<Shell>,
    /// Write kubectl_complete-defender_sim, into the plugin's own folder or DIR
    #[arg(long, value_name = "DIR", num_args = 0..=1)]
    pub install: Option<Option<PathBuf>>,
}

fn ids() -> PossibleValuesParser {
    PossibleValuesParser::new(catalogue::entries().iter().map(|entry| entry.id))
}

/// `cleanup`.
#[derive(Clone, Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub struct Cleanup {
    /// Remove this run only, whatever its state
    #[arg(long, value_name = "RUN", value_parser = values::run)]
    pub run: Option<String>,
    /// Also remove runs in progress and runs of other users
    #[arg(long)]
    pub force: bool,
    /// Print what would be deleted without deleting it
    #[arg(long)]
    pub dry_run: bool,
    /// Skip the confirmation prompt (required when not at a terminal)
    #[arg(short, long)]
    pub yes: bool,
    /// Allow namespaces of the cluster itself, such as kube-system
    #[arg(long)]
    pub allow_system_namespace: bool,
    #[command(flatten)]
    pub fleet: FleetArgs,
}

/// Dry-run strategies, as kubectl has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DryRun {
    /// Run for real.
    #[default]
    None,
    /// No contact with the cluster.
    Client,
    /// The API server admits every object, and persists none.
    Server,
}
