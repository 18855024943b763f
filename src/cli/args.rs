//! The arguments: one tree of clap derives. A scenario's command comes from the catalogue.
//!
//! An argument with an environment variable is a setting: a config file may set it too ([`super::settings`]).

#![expect(
    missing_docs,
    reason = "a doc comment here is text of the help, which groups of arguments have not"
)]

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser};
use clap::{ArgMatches, Args, Command, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use jiff::Timestamp;
use secrecy::SecretString;

use super::{help, values};
use crate::azure::{AzureOptions, Cloud, LoginKind};
use crate::cluster::connect::ConnectOptions;
use crate::defender::facts::Premise;
use crate::guard;
use crate::manifest::rights::Subject;
use crate::plan::{DEFAULT_REGISTRY, Fit, Options, Toleration};
use crate::report::{Color, Detail, Format, Output, ReportFile};
use crate::scenario::catalogue;
use crate::schema::Schema;
use crate::verify::{self, Required};

pub(super) const KUBERNETES: &str = "Kubernetes options";
const PODS: &str = "Pod options";
const VERIFY: &str = "Verify options";
const AZURE: &str = "Azure options";

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
#[derive(Debug, Subcommand)]
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
    History,
    /// Show a past run or export it
    Report(RecordReport),
    /// List scenarios
    List,
    /// Print a scenario: steps, proofs, alerts, needs
    #[command(long_about = help::DESCRIBE)]
    Describe {
        /// ID of a built-in scenario
        #[arg(value_name = "SCENARIO", value_parser = ids())]
        scenario: String,
    },
    /// List the alerts this tool knows
    Alerts,
    /// List images for mirroring
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Images {
        #[command(subcommand)]
        action: Images,
    },
    /// Print the smallest role that a run needs, and a binding (YAML)
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
#[derive(Debug)]
pub struct ScenarioRun {
    /// ID of the scenario.
    pub id: String,
    /// How it runs.
    pub run: RunArgs,
}

impl Subcommand for ScenarioRun {
    fn augment_subcommands(command: Command) -> Command {
        command.subcommands(catalogue::all().iter().map(|scenario| {
            RunArgs::augment_args(Command::new(scenario.id.as_str()))
                .about(scenario.title.as_str())
                .long_about(help::scenario(scenario))
        }))
    }

    fn augment_subcommands_for_update(command: Command) -> Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        catalogue::find(name).is_some()
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

/// `run`.
#[derive(Debug, Args)]
pub struct SelectedRun {
    /// Scenarios to run, in this order
    #[arg(value_name = "SCENARIO", value_parser = ids(), required_unless_present_any = ["file", "baseline"])]
    pub scenarios: Vec<String>,
    /// Scenario file of your own, - for standard input; can be repeated
    #[arg(short, long, value_name = "FILE", conflicts_with = "baseline")]
    pub file: Vec<PathBuf>,
    #[command(flatten)]
    pub run: RunArgs,
}

/// How scenarios run.
#[derive(Debug, Args)]
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
    /// Keep the pods for inspection until the deadline
    #[arg(long)]
    pub keep: bool,
    /// Write a report: junit=, json=, markdown= or navigator=FILE, - for standard output; can be
    /// repeated
    #[arg(long, value_name = "KIND=FILE", value_parser = values::report_file)]
    pub report: Vec<ReportFile>,
    /// Write a notice for the SOC before creating anything: Markdown to FILE.md, otherwise JSON
    #[arg(long, value_name = "FILE")]
    pub soc_note: Option<PathBuf>,
    /// Wait for the expected alerts afterwards and report which were raised
    #[arg(long)]
    pub verify: bool,
    /// Run a benign baseline instead; fails if any alert is raised
    #[arg(long)]
    pub baseline: bool,
    #[command(flatten)]
    pub settings: Settings,
    #[command(flatten)]
    pub verify_options: VerifyOptions,
}

/// `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Scenarios to check [default: all]
    #[arg(value_name = "SCENARIO", value_parser = ids())]
    pub scenarios: Vec<String>,
    #[command(flatten)]
    pub settings: Settings,
    #[command(flatten)]
    pub azure: AzureArgs,
}

/// `verify`.
#[derive(Debug, Args)]
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
    /// Write a report: junit=, json=, markdown= or navigator=FILE, - for standard output; can be
    /// repeated
    #[arg(long, value_name = "KIND=FILE", value_parser = values::report_file)]
    pub report: Vec<ReportFile>,
    #[command(flatten)]
    pub options: VerifyOptions,
}

/// `report`.
#[derive(Debug, Args)]
pub struct RecordReport {
    /// Run ID [default: the most recent]
    #[arg(value_name = "RUN")]
    pub run: Option<String>,
    /// Write a report: junit=, json=, markdown= or navigator=FILE, - for standard output; can be
    /// repeated
    #[arg(long, value_name = "KIND=FILE", value_parser = values::report_file)]
    pub report: Vec<ReportFile>,
}

/// `images`.
#[derive(Debug, Subcommand)]
pub enum Images {
    /// Print the images that a run needs
    List(Settings),
}

/// `rights`.
#[derive(Debug, Args)]
pub struct Rights {
    /// Scenarios to run [default: all]
    #[arg(value_name = "SCENARIO", value_parser = ids())]
    pub scenarios: Vec<String>,
    /// Print a Role for runs in the existing namespace of -n
    #[arg(long, requires = "namespace")]
    pub namespace_scoped: bool,
    /// Bind to user:NAME, group:NAME or serviceaccount:NAMESPACE:NAME; can be repeated
    #[arg(long, value_name = "SUBJECT")]
    pub subject: Vec<Subject>,
}

/// `config`.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Print every setting, and where it is from
    View(AllSettings),
}

/// Every argument that is a setting.
#[derive(Debug, Args)]
pub struct AllSettings {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    verify: VerifyOptions,
}

/// `completion`.
#[derive(Debug, Args)]
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
    PossibleValuesParser::new(catalogue::all().iter().map(|scenario| scenario.id.as_str()))
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
}

/// How alerts are read, and how long.
#[derive(Clone, Debug, Args)]
pub struct VerifyOptions {
    /// Time after a run in which alerts may still be raised [default: 90m]; a file given with --alerts is read
    /// again until then only if this is given
    #[arg(long, help_heading = VERIFY, value_name = "DURATION", value_parser = values::duration, env = "DEFENDER_SIM_WAIT", hide_env = true, hide_short_help = true)]
    pub wait: Option<Duration>,
    /// How many of the expected alerts have to be raised: all, none or a number [default: at least one, and none may
    /// be known to be missing]
    #[arg(long, help_heading = VERIFY, value_name = "NUMBER", env = "DEFENDER_SIM_REQUIRE_ALERTS", hide_env = true, hide_short_help = true)]
    pub require_alerts: Option<Required>,
    /// How often alerts are read meanwhile
    #[arg(long, help_heading = VERIFY, value_name = "DURATION", value_parser = values::interval, default_value = "60s", env = "DEFENDER_SIM_INTERVAL", hide_env = true, hide_short_help = true)]
    pub interval: Duration,
    /// Fail alerts that take longer than this
    #[arg(long, help_heading = VERIFY, value_name = "DURATION", value_parser = values::duration, env = "DEFENDER_SIM_MAX_TIME_TO_DETECT", hide_env = true, hide_short_help = true)]
    pub max_time_to_detect: Option<Duration>,
    /// Assume a prerequisite is met (=yes) or not (=no): plan, sensor, dns-detection, anti-malware, audit-log,
    /// drift-policy; can be repeated
    #[arg(long, help_heading = VERIFY, value_name = "PREMISE=yes|no", value_parser = values::assumption, value_delimiter = ',', env = "DEFENDER_SIM_ASSUME", hide_env = true, hide_short_help = true)]
    pub assume: Vec<(Premise, bool)>,
    /// File with further names of alerts (YAML): alert id, list of names
    #[arg(long, help_heading = VERIFY, value_name = "FILE", env = "DEFENDER_SIM_ALERT_NAMES", hide_env = true, hide_short_help = true)]
    pub alert_names: Option<PathBuf>,
    /// Read alerts from a file, or - for standard input: saved from the API, Resource Graph, a workspace or an export
    #[arg(long, help_heading = VERIFY, value_name = "FILE", hide_short_help = true)]
    pub alerts: Option<PathBuf>,
    /// Where in Azure alerts are read
    #[arg(long, help_heading = VERIFY, value_enum, default_value_t, value_name = "SOURCE", env = "DEFENDER_SIM_ALERTS_SOURCE", hide_env = true, hide_short_help = true)]
    pub alerts_source: AlertSource,
    #[command(flatten)]
    pub azure: AzureArgs,
}

/// The cluster in Azure, and the login there.
#[derive(Clone, Debug, Args)]
pub struct AzureArgs {
    /// The cluster's resource id in Azure
    #[arg(long, help_heading = AZURE, value_name = "ID", env = "DEFENDER_SIM_RESOURCE_ID", hide_env = true, hide_short_help = true)]
    pub resource_id: Option<String>,
    /// The subscription to look in
    #[arg(long, help_heading = AZURE, value_name = "ID", env = "DEFENDER_SIM_SUBSCRIPTION", hide_env = true, hide_short_help = true)]
    pub subscription: Option<String>,
    /// Which Azure.
    #[arg(long, help = "Which Azure: AzureCloud, AzureUSGovernment, or an endpoint, https://...", help_heading = AZURE, value_name = "CLOUD", env = "DEFENDER_SIM_AZURE_CLOUD", hide_env = true, hide_short_help = true)]
    pub azure_cloud: Option<Cloud>,
    /// How to log in: workload-identity, managed-identity, cli or azd
    #[arg(long, help_heading = AZURE, value_name = "LOGIN", value_parser = values::login, env = "DEFENDER_SIM_AZURE_LOGIN", hide_env = true, hide_short_help = true)]
    pub azure_login: Option<LoginKind>,
    /// The tenant to log in to
    #[arg(long, help_heading = AZURE, value_name = "ID", env = "DEFENDER_SIM_AZURE_TENANT", hide_env = true, hide_short_help = true)]
    pub azure_tenant: Option<String>,
    /// File with certificates to trust besides the system's
    #[arg(long, help_heading = AZURE, value_name = "FILE", env = "DEFENDER_SIM_AZURE_CA", hide_env = true, hide_short_help = true)]
    pub azure_ca: Option<PathBuf>,
}

/// Where in Azure alerts are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum AlertSource {
    /// The alerts API: as fresh as it gets.
    #[default]
    Api,
    /// Azure Resource Graph: one query.
    Graph,
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

/// Arguments of every command.
#[derive(Debug, Args)]
pub(super) struct Global {
    /// Output format
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        env = "DEFENDER_SIM_OUTPUT",
        hide_env = true
    )]
    pub output: Format,
    /// When to use colour
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "WHEN",
        env = "DEFENDER_SIM_COLOR",
        hide_env = true
    )]
    pub color: Color,
    /// Print the result, warnings and errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print every object and step, with the time since the start
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// File with defaults for flags; see: config view
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "DEFENDER_SIM_CONFIG",
        hide_env = true
    )]
    pub config: Option<PathBuf>,

    /// Path to the kubeconfig file
    #[arg(long, global = true, help_heading = KUBERNETES, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Name of the kubeconfig context
    #[arg(long, global = true, help_heading = KUBERNETES, value_name = "NAME")]
    pub context: Option<String>,
    /// Name of the kubeconfig cluster
    #[arg(long, global = true, help_heading = KUBERNETES, value_name = "NAME", hide_short_help = true)]
    pub cluster: Option<String>,
    /// Name of the kubeconfig user
    #[arg(long, global = true, help_heading = KUBERNETES, value_name = "NAME", hide_short_help = true)]
    pub user: Option<String>,
    /// Namespace to run in (an existing one is kept)
    #[arg(short, long, global = true, help_heading = KUBERNETES, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Address and port of the Kubernetes API server
    #[arg(short, long, global = true, help_heading = KUBERNETES, value_name = "URL", hide_short_help = true)]
    pub server: Option<String>,
    /// Bearer token for authentication to the API server
    #[arg(long, global = true, help_heading = KUBERNETES, hide_short_help = true, value_parser = values::secret)]
    pub token: Option<SecretString>,
    /// Username to impersonate
    #[arg(long = "as", global = true, help_heading = KUBERNETES, value_name = "USER", hide_short_help = true)]
    pub impersonate: Option<String>,
    /// UID to impersonate
    #[arg(long = "as-uid", global = true, help_heading = KUBERNETES, value_name = "UID", hide_short_help = true)]
    pub impersonate_uid: Option<String>,
    /// Group to impersonate; can be repeated
    #[arg(long = "as-group", global = true, help_heading = KUBERNETES, value_name = "GROUP", hide_short_help = true)]
    pub impersonate_groups: Vec<String>,
    /// Extra user information to impersonate, as key=value; can be repeated
    #[arg(long = "as-user-extra", global = true, help_heading = KUBERNETES, value_name = "KEY=VALUE", value_parser = values::key_value, hide_short_help = true)]
    pub impersonate_user_extra: Vec<(String, String)>,
    /// Path to a certificate file of the certificate authority
    #[arg(long, global = true, help_heading = KUBERNETES, value_name = "FILE", hide_short_help = true)]
    pub certificate_authority: Option<PathBuf>,
    /// Path to a client certificate file
    #[arg(long, global = true, help_heading = KUBERNETES, value_name = "FILE", hide_short_help = true)]
    pub client_certificate: Option<PathBuf>,
    /// Path to a client key file
    #[arg(long, global = true, help_heading = KUBERNETES, value_name = "FILE", hide_short_help = true)]
    pub client_key: Option<PathBuf>,
    /// Server name to check the API server's certificate for
    #[arg(long, global = true, help_heading = KUBERNETES, value_name = "NAME", hide_short_help = true)]
    pub tls_server_name: Option<String>,
    /// Do not check the API server's certificate
    #[arg(long, global = true, help_heading = KUBERNETES, hide_short_help = true)]
    pub insecure_skip_tls_verify: bool,
    /// Time to wait for a single request, such as 10s; 0 means no limit [default: 30s]
    #[arg(long, global = true, help_heading = KUBERNETES, value_name = "DURATION", value_parser = values::duration, hide_short_help = true)]
    pub request_timeout: Option<Duration>,
}

/// What can be set for all runs.
#[derive(Clone, Debug, Args)]
pub struct Settings {
    /// Deadline after which the cluster terminates the run
    #[arg(long, value_name = "DURATION", value_parser = values::deadline, default_value = "15m", env = "DEFENDER_SIM_DEADLINE", hide_env = true)]
    deadline: Duration,
    /// Timeout for the pods to become ready
    #[arg(long, value_name = "DURATION", value_parser = values::duration, default_value = "5m", env = "DEFENDER_SIM_TIMEOUT", hide_env = true)]
    timeout: Duration,
    /// Words in names and labels that mean production
    #[arg(long, value_name = "WORDS", value_parser = NonEmptyStringValueParser::new(), value_delimiter = ',', default_values = guard::WORDS, env = "DEFENDER_SIM_PRODUCTION_WORDS", hide_env = true, hide_short_help = true)]
    pub production_words: Vec<String>,

    /// Where the images named "attacker" and "victim" are
    #[arg(long, help_heading = PODS, value_name = "REGISTRY", value_parser = NonEmptyStringValueParser::new(), default_value = DEFAULT_REGISTRY, hide_default_value = true, env = "DEFENDER_SIM_IMAGE_REGISTRY", hide_env = true)]
    image_registry: String,
    /// Image of the attacker pod
    #[arg(long, help_heading = PODS, value_name = "IMAGE", value_parser = NonEmptyStringValueParser::new(), env = "DEFENDER_SIM_ATTACKER_IMAGE", hide_env = true)]
    attacker_image: Option<String>,
    /// Image of the victim pod
    #[arg(long, help_heading = PODS, value_name = "IMAGE", value_parser = NonEmptyStringValueParser::new(), env = "DEFENDER_SIM_VICTIM_IMAGE", hide_env = true)]
    victim_image: Option<String>,
    /// When images are pulled
    #[arg(long, help_heading = PODS, value_name = "POLICY", value_parser = ["Always", "IfNotPresent", "Never"], env = "DEFENDER_SIM_IMAGE_PULL_POLICY", hide_env = true, hide_short_help = true)]
    image_pull_policy: Option<String>,
    /// Secret of the namespace to pull images with; can be repeated
    #[arg(long, help_heading = PODS, value_name = "NAME", value_delimiter = ',', env = "DEFENDER_SIM_IMAGE_PULL_SECRET", hide_env = true, hide_short_help = true)]
    image_pull_secret: Vec<String>,
    /// Label that a node has to have; can be repeated
    #[arg(long, help_heading = PODS, value_name = "KEY=VALUE", value_parser = values::node_label, value_delimiter = ',', env = "DEFENDER_SIM_NODE_SELECTOR", hide_env = true, hide_short_help = true)]
    node_selector: Vec<(String, String)>,
    /// Taint that the pods tolerate, as KEY[=VALUE][:EFFECT]; can be repeated
    #[arg(long, help_heading = PODS, value_name = "TAINT", value_delimiter = ',', env = "DEFENDER_SIM_TOLERATION", hide_env = true, hide_short_help = true)]
    toleration: Vec<Toleration>,
    /// Further label of every object; can be repeated
    #[arg(long, help_heading = PODS, value_name = "KEY=VALUE", value_parser = values::label, value_delimiter = ',', env = "DEFENDER_SIM_LABEL", hide_env = true, hide_short_help = true)]
    label: Vec<(String, String)>,
    /// Further annotation of every object; can be repeated
    #[arg(long, help_heading = PODS, value_name = "KEY=VALUE", value_parser = values::annotation, env = "DEFENDER_SIM_ANNOTATION", hide_env = true, hide_short_help = true)]
    annotation: Vec<(String, String)>,
    /// Annotation of the pods' service account; can be repeated
    #[arg(long, help_heading = PODS, value_name = "KEY=VALUE", value_parser = values::annotation, env = "DEFENDER_SIM_SERVICE_ACCOUNT_ANNOTATION", hide_env = true, hide_short_help = true)]
    service_account_annotation: Vec<(String, String)>,
}

impl VerifyOptions {
    /// Converts the flags for `verify`.
    pub fn options(&self) -> verify::VerifyOptions {
        verify::VerifyOptions {
            wait: self.wait,
            interval: self.interval,
            required: self.require_alerts.unwrap_or_default(),
            max_time_to_detect: self.max_time_to_detect,
            assumptions: self.assume.clone(),
            alert_names: self.alert_names.clone(),
            alerts: self.alerts.clone(),
            use_graph: self.alerts_source == AlertSource::Graph,
            azure: self.azure.options(),
        }
    }
}

impl AzureArgs {
    /// Converts the flags for `azure`.
    pub fn options(&self) -> AzureOptions {
        AzureOptions {
            resource_id: self.resource_id.clone(),
            subscription: self.subscription.clone(),
            cloud: self.azure_cloud.clone(),
            login: self.azure_login,
            tenant: self.azure_tenant.clone(),
            certificate_authority: self.azure_ca.clone(),
        }
    }
}

impl Settings {
    /// Converts the flags for a plan.
    pub fn options(self, keep: bool) -> Options {
        let registry = self.image_registry.trim_end_matches('/');
        let image =
            |given: Option<String>, name| given.unwrap_or_else(|| format!("{registry}/{name}:latest"));
        Options {
            attacker_image: image(self.attacker_image, "attacker"),
            victim_image: image(self.victim_image, "victim"),
            deadline: self.deadline,
            timeout: self.timeout,
            keep,
            fit: Fit {
                image_pull_policy: self.image_pull_policy,
                image_pull_secrets: self.image_pull_secret,
                node_selector: self.node_selector.into_iter().collect(),
                tolerations: self.toleration,
                labels: self.label.into_iter().collect(),
                annotations: self.annotation.into_iter().collect(),
                service_account_annotations: self.service_account_annotation.into_iter().collect(),
            },
        }
    }
}

impl Global {
    /// How results and progress are printed.
    pub fn output(&self) -> Output {
        Output {
            format: self.output,
            color: self.color,
            detail: match (self.quiet, self.verbose) {
                (true, _) => Detail::Quiet,
                (false, true) => Detail::Verbose,
                (false, false) => Detail::Normal,
            },
        }
    }

    /// Limit of each single request, if one is given. As with kubectl, 0 means no limit.
    pub fn request_timeout(&self) -> Option<Duration> {
        self.request_timeout.map(|timeout| match timeout {
            Duration::ZERO => Duration::MAX,
            timeout => timeout,
        })
    }

    /// Converts the flags for a connection.
    pub fn connect(self) -> ConnectOptions {
        ConnectOptions {
            kubeconfig: self.kubeconfig,
            context: self.context,
            cluster: self.cluster,
            user: self.user,
            server: self.server,
            token: self.token,
            impersonate: self.impersonate,
            impersonate_uid: self.impersonate_uid,
            impersonate_groups: self.impersonate_groups,
            impersonate_user_extra: self.impersonate_user_extra,
            certificate_authority: self.certificate_authority,
            client_certificate: self.client_certificate,
            client_key: self.client_key,
            tls_server_name: self.tls_server_name,
            insecure_skip_tls_verify: self.insecure_skip_tls_verify,
        }
    }
}
