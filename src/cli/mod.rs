//! The command line: definitions only. What a scenario is called and described as comes from the catalogue.
//! A flag that has an environment variable is a setting: the config file may set it too ([`config`]).

pub mod config;
pub mod values;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser, Styles};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{
    Arg, ArgAction, ArgMatches, Args, Command, CommandFactory as _, FromArgMatches as _, Parser, Subcommand,
    ValueEnum, value_parser,
};
use clap_complete::Shell;
use jiff::Timestamp;

use crate::azure::{AzureOptions, Cloud, LoginKind};
use crate::cluster::connect::ConnectOptions;
use crate::defender::facts::Premise;
use crate::exit::Exit;
use crate::files;
use crate::guard;
use crate::manifest::rights::{Scope, Subject};
use crate::plan::{DEFAULT_NAMESPACE, DEFAULT_REGISTRY, Fit, Options, Toleration};
use crate::report::Setting;
use crate::report::{Color, Detail, Format, Output, ReportFile};
use crate::scenario::catalogue;
use crate::schema::Schema;
use crate::secret::Secret;
use crate::untrusted;
use crate::verify::{self, Required};
use crate::words::paragraphs;

/// A parsed command line.
#[derive(Debug)]
pub struct Invocation {
    /// What to do.
    pub action: Action,
    /// Where to do it.
    pub connect: ConnectOptions,
    /// Bound of each single request, if given and not zero.
    pub request_timeout: Option<Duration>,
    /// Namespace given with `-n`.
    pub namespace: Option<String>,
    /// How to say it.
    pub output: Output,
    /// Variables that are named like settings and are none, sorted.
    pub unknown_variables: Vec<String>,
}

/// What to do.
#[derive(Debug)]
pub enum Action {
    /// Run scenarios, or say what a run would do.
    Run(Box<Run>),
    /// Say whether scenarios could be run here, and their alerts raised.
    Doctor(Box<Doctor>),
    /// Remove what runs left.
    Cleanup(Cleanup),
    /// Print the version of this tool, and of the cluster unless only the client's is asked for.
    Version {
        /// Only the client's.
        client: bool,
    },
    /// Print the scenarios there are.
    List,
    /// Print all of a scenario.
    Describe(Source),
    /// Print the alerts this tool knows.
    Alerts,
    /// Check scenario files.
    Lint(Vec<PathBuf>),
    /// Print the images that a run needs: the attacker's and the victim's.
    Images(Box<Options>),
    /// Look for the alerts of a run that has ended.
    Verify(Box<Verify>),
    /// Print the record of a run.
    Report(Recorded, Vec<ReportFile>),
    /// Print the runs that this machine has records of.
    History,
    /// Print the role that a run needs, bound to these subjects.
    Rights(Scope, Vec<Subject>),
    /// Print what settings are in force, and where they are from; and the path of the config file.
    Settings(Vec<Setting>, Option<PathBuf>),
    /// Print the JSON Schema of that name.
    Schema(Schema),
    /// Print the completion script of a shell.
    Completion(Shell),
    /// Write what makes kubectl complete this plugin, into this folder if one is given.
    InstallCompletion(Option<PathBuf>),
    /// Print the manual page, or write those of all commands into this folder.
    Man(Option<PathBuf>),
}

/// A run, as asked for.
#[derive(Debug)]
pub struct Run {
    /// What runs, in order.
    pub scenarios: Vec<Source>,
    /// How.
    pub options: Options,
    /// Whether it is only said what would be done, and by whom.
    pub dry_run: DryRun,
    /// Whether nobody has to be asked.
    pub yes: bool,
    /// Whether the cluster may look like production.
    pub allow_production: bool,
    /// Whether the namespace may be one of the cluster itself.
    pub allow_system_namespace: bool,
    /// Words that mean production.
    pub production_words: Vec<String>,
    /// Where the note for those who watch the cluster goes, if one is asked for.
    pub soc_note: Option<PathBuf>,
    /// Where reports go.
    pub reports: Vec<ReportFile>,
    /// Whether alerts are looked for afterwards, and how.
    pub verify: Option<VerifyOptions>,
}

/// A cleanup, as requested.
#[derive(Clone, Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub struct Cleanup {
    /// Remove this run only, whatever its state
    #[arg(long, value_name = "RUN", value_parser = values::run)]
    pub run: Option<String>,
    /// Also remove runs in progress and runs of other users
    #[arg(long)]
    pub force: bool,
    /// Print what would be removed, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Skip the confirmation prompt (required when not at a terminal)
    #[arg(short, long)]
    pub yes: bool,
    /// Allow namespaces of the cluster itself, such as kube-system
    #[arg(long)]
    pub allow_system_namespace: bool,
}

/// An examination, as asked for.
#[derive(Debug)]
pub struct Doctor {
    /// What it is asked for.
    pub scenarios: Vec<Source>,
    /// How they would be run.
    pub options: Options,
    /// Where the cluster is in Azure.
    pub azure: AzureOptions,
}

/// A look for the alerts of a run that has ended, as asked for.
#[derive(Debug)]
pub struct Verify {
    /// Which run.
    pub of: Of,
    /// How.
    pub options: VerifyOptions,
    /// Where reports go.
    pub reports: Vec<ReportFile>,
}

/// Which run alerts are looked for of.
#[derive(Debug)]
pub enum Of {
    /// One with a record.
    Run(Recorded),
    /// One that nothing is known of but what ran where and when.
    Window {
        /// What ran.
        scenarios: Vec<Source>,
        /// Not before.
        since: Timestamp,
        /// Not after.
        until: Timestamp,
    },
}

/// A record of a run.
#[derive(Clone, Debug)]
pub enum Recorded {
    /// That of the last run on this machine.
    Last,
    /// That of this run on this machine.
    Run(String),
    /// This file.
    File(PathBuf),
}

/// Where Defender's alerts are read, and how long.
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
    /// An alert that takes longer counts as missing
    #[arg(long, help_heading = VERIFY, value_name = "DURATION", value_parser = values::duration, env = "DEFENDER_SIM_MAX_TIME_TO_DETECT", hide_env = true, hide_short_help = true)]
    pub max_time_to_detect: Option<Duration>,
    /// Take it as given that something alerts need is there (=yes) or not (=no): plan, sensor,
    /// dns-detection, anti-malware, audit-log, drift-policy; can be repeated
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
    /// Where the cluster is there.
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

const VERIFY: &str = "Verify options";
const AZURE: &str = "Azure options";

/// Where a scenario is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In the catalogue, under this id.
    BuiltIn(String),
    /// In this file of the user's.
    File(PathBuf),
}

#[derive(Debug, Parser)]
#[command(
    name = "kubectl-defender_sim",
    version,
    about = "Run harmless attack simulations against Defender for Containers and prove them",
    long_about = "Run harmless attack simulations in the current cluster, so that Microsoft Defender for \
                  Containers has something to detect: every step is proved from inside the victim pod, and \
                  everything is removed again. Not affiliated with Microsoft.",
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 80
)]
struct Root {
    #[command(subcommand)]
    command: Fixed,
    #[command(flatten)]
    global: Global,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one, while the process starts")]
enum Fixed {
    /// Remove what runs left, from any machine
    #[command(
        long_about = "Remove what runs left, from any machine: the objects of each run, and the namespace if \
                            the run created it and it holds nothing else. Runs in progress and runs of other \
                            users are left alone, unless --run names one or --force is given. -n limits this \
                            to one namespace."
    )]
    Cleanup(Cleanup),
    /// Print the version of this tool and of the cluster
    Version {
        /// Print the version of this tool only
        #[arg(long)]
        client: bool,
    },
    /// Print the scenarios there are
    List,
    /// Print all of a scenario: steps, proofs, alerts, needs
    #[command(
        long_about = "Print all of a scenario: steps, proofs, alerts, needs. With -o yaml as a scenario \
                            file, the starting point for your own."
    )]
    Describe {
        /// Id of a built-in scenario
        #[arg(value_name = "SCENARIO", value_parser = ids())]
        scenario: String,
    },
    /// Print the alerts this tool knows
    Alerts,
    /// Say which expected alerts Defender raised for a run that has ended
    #[command(
        long_about = "Say which expected alerts Defender raised for a run that has ended: the last one, or \
                            the one named; by its record on this machine or in a file, or, where there is \
                            none, by namespace, time and scenarios. Can be stopped and taken up again."
    )]
    Verify {
        /// The run; the last one, unless named
        #[arg(value_name = "RUN")]
        run: Option<String>,
        /// Record of a run in a file, as --report json=FILE writes it
        #[arg(long, value_name = "FILE", conflicts_with = "run")]
        record: Option<PathBuf>,
        /// A run without a record: it started at this time, or so long ago; with -n and --scenario
        #[arg(long, value_name = "TIME|DURATION", value_parser = values::time, conflicts_with_all = ["run", "record"], requires = "scenario")]
        since: Option<Timestamp>,
        /// A run without a record: it ended at this time, or so long ago [default: now]
        #[arg(long, value_name = "TIME|DURATION", value_parser = values::time, requires = "since")]
        until: Option<Timestamp>,
        /// A run without a record: what ran; can be repeated
        #[arg(long, value_name = "SCENARIO", value_parser = ids(), requires = "since")]
        scenario: Vec<String>,
        /// Write a report: junit=, json=, markdown= or navigator=FILE, - for standard output; can be
        /// repeated
        #[arg(long, value_name = "KIND=FILE", value_parser = values::report_file)]
        report: Vec<ReportFile>,
        #[command(flatten)]
        options: VerifyOptions,
    },
    /// Print the record of a run, also as a report
    Report {
        /// The run; the last one, unless named
        #[arg(value_name = "RUN")]
        run: Option<String>,
        /// Write a report: junit=, json=, markdown= or navigator=FILE, - for standard output; can be
        /// repeated
        #[arg(long, value_name = "KIND=FILE", value_parser = values::report_file)]
        report: Vec<ReportFile>,
    },
    /// Print the runs that this machine has records of
    History,
    /// Print the smallest role that a run needs, and a binding (YAML)
    #[command(
        long_about = "Print the smallest role that a run needs, and a binding, for kubectl apply -f -: a \
                            ClusterRole for runs that create their namespace (-n, or mdc-simulation), or with \
                            --namespace-scoped a Role for runs in an existing one. No cluster is contacted."
    )]
    Rights {
        /// Scenarios to run [default: all]
        #[arg(value_name = "SCENARIO", value_parser = ids())]
        scenarios: Vec<String>,
        /// Print a Role for runs in the existing namespace of -n
        #[arg(long, requires = "namespace")]
        namespace_scoped: bool,
        /// Bind to user:NAME, group:NAME or serviceaccount:NAMESPACE:NAME; can be repeated
        #[arg(long, value_name = "SUBJECT")]
        subject: Vec<Subject>,
    },
    /// Print the JSON Schema of a file or an output
    Schema {
        /// Of what
        #[arg(value_name = "NAME", value_enum)]
        name: Schema,
    },
    /// Check scenario files
    #[command(
        long_about = "Check scenario files, each for every mistake that would keep a run from working. \
                            Mistakes go to standard error, as FILE:LINE:COLUMN: error: ...; with -o json \
                            the result goes to standard output too. Scripts are checked by bash, if this \
                            machine has it; nothing is run."
    )]
    Lint {
        /// Scenario files; - is standard input
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
    /// Complete commands, flags and names in kubectl or a shell
    #[command(
        long_about = "Complete commands, flags and names. With --install in \"kubectl defender-sim\", \
                            where kubectl itself is completed (kubectl 1.26 and later); namespaces and \
                            runs are asked from the cluster then. With the name of a shell, a script that \
                            completes \"kubectl-defender_sim\" goes to standard output."
    )]
    Completion {
        /// Shell to print a script for
        #[arg(
            value_name = "SHELL",
            value_enum,
            required_unless_present = "install",
            conflicts_with = "install"
        )]
        shell: Option<Shell>,
        /// Write kubectl_complete-defender_sim, into the plugin's own folder or DIR
        #[arg(long, value_name = "DIR", num_args = 0..=1)]
        #[expect(
            clippy::option_option,
            reason = "the form in which clap tells a flag from its value"
        )]
        install: Option<Option<PathBuf>>,
    },
    /// Print the manual page, or write one for each command
    Man {
        /// Folder to write the pages into; it is made if it is not there
        #[arg(value_name = "DIR")]
        folder: Option<PathBuf>,
    },
}

fn ids() -> PossibleValuesParser {
    PossibleValuesParser::new(catalogue::all().iter().map(|scenario| scenario.id.as_str()))
}

#[derive(Debug, Args)]
struct Global {
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
    output: Format,
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
    color: Color,
    /// Print the result, warnings and errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Print every object and step, with the time since the start
    #[arg(short, long, global = true)]
    verbose: bool,
    /// File with defaults for flags; see: config view
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "DEFENDER_SIM_CONFIG",
        hide_env = true
    )]
    config: Option<PathBuf>,

    /// Path to the kubeconfig file
    #[arg(long, global = true, help_heading = KUBERNETES, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Name of the kubeconfig context
    #[arg(long, global = true, help_heading = KUBERNETES, value_name = "NAME")]
    context: Option<String>,
    /// Name of the kubeconfig cluster
    #[arg(long, global = true, help_heading = KUBERNETES, value_name = "NAME", hide_short_help = true)]
    cluster: Option<String>,
    /// Name of the kubeconfig user
    #[arg(long, global = true, help_heading = KUBERNETES, value_name = "NAME", hide_short_help = true)]
    user: Option<String>,
    /// Namespace; a run uses one that exists and leaves it
    #[arg(short, long, global = true, help_heading = KUBERNETES, value_name = "NAME")]
    namespace: Option<String>,
    /// Address and port of the Kubernetes API server
    #[arg(short, long, global = true, help_heading = KUBERNETES, value_name = "URL", hide_short_help = true)]
    server: Option<String>,
    /// Bearer token for authentication to the API server
    #[arg(long, global = true, help_heading = KUBERNETES, hide_short_help = true, value_parser = values::secret)]
    token: Option<Secret>,
    /// Username to impersonate
    #[arg(long = "as", global = true, help_heading = KUBERNETES, value_name = "USER", hide_short_help = true)]
    impersonate: Option<String>,
    /// UID to impersonate
    #[arg(long = "as-uid", global = true, help_heading = KUBERNETES, value_name = "UID", hide_short_help = true)]
    impersonate_uid: Option<String>,
    /// Group to impersonate; can be repeated
    #[arg(long = "as-group", global = true, help_heading = KUBERNETES, value_name = "GROUP", hide_short_help = true)]
    impersonate_groups: Vec<String>,
    /// Extra user information to impersonate, as key=value; can be repeated
    #[arg(long = "as-user-extra", global = true, help_heading = KUBERNETES, value_name = "KEY=VALUE", value_parser = values::key_value, hide_short_help = true)]
    impersonate_user_extra: Vec<(String, String)>,
    /// Path to a certificate file of the certificate authority
    #[arg(long, global = true, help_heading = KUBERNETES, value_name = "FILE", hide_short_help = true)]
    certificate_authority: Option<PathBuf>,
    /// Path to a client certificate file
    #[arg(long, global = true, help_heading = KUBERNETES, value_name = "FILE", hide_short_help = true)]
    client_certificate: Option<PathBuf>,
    /// Path to a client key file
    #[arg(long, global = true, help_heading = KUBERNETES, value_name = "FILE", hide_short_help = true)]
    client_key: Option<PathBuf>,
    /// Server name to check the API server's certificate for
    #[arg(long, global = true, help_heading = KUBERNETES, value_name = "NAME", hide_short_help = true)]
    tls_server_name: Option<String>,
    /// Do not check the API server's certificate
    #[arg(long, global = true, help_heading = KUBERNETES, hide_short_help = true)]
    insecure_skip_tls_verify: bool,
    /// Time to wait for a single request, such as 10s; 0 means no limit [default: 30s]
    #[arg(long, global = true, help_heading = KUBERNETES, value_name = "DURATION", value_parser = values::duration, hide_short_help = true)]
    request_timeout: Option<Duration>,
}

const KUBERNETES: &str = "Kubernetes options";

/// kubectl's dry-run strategies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DryRun {
    /// Do it.
    #[default]
    None,
    /// Ask nobody.
    Client,
    /// Have the API server admit every object.
    Server,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
struct RunArgs {
    /// Say what would be done, and do nothing; "server" asks the API server
    #[arg(long, value_enum, value_name = "STRATEGY", default_value_t, num_args = 0..=1, require_equals = true, default_missing_value = "client")]
    dry_run: DryRun,
    /// Do not ask whether to go on; has to be given where nobody can be asked
    #[arg(short, long)]
    yes: bool,
    /// Run although names or labels look like production
    #[arg(long)]
    allow_production: bool,
    /// Run in a namespace of the cluster itself, such as kube-system
    #[arg(long)]
    allow_system_namespace: bool,
    /// Leave the pods for a look, until the deadline
    #[arg(long)]
    keep: bool,
    /// Write a report: junit=, json=, markdown= or navigator=FILE, - for standard output; can be
    /// repeated
    #[arg(long, value_name = "KIND=FILE", value_parser = values::report_file)]
    report: Vec<ReportFile>,
    /// Write a note for the SOC before creating anything: Markdown to FILE.md, otherwise JSON
    #[arg(long, value_name = "FILE")]
    soc_note: Option<PathBuf>,
    /// Afterwards wait for Defender's alerts, and say which were raised
    #[arg(long)]
    verify: bool,
    /// Run nothing suspicious in the same pods instead: no alert may come
    #[arg(long)]
    baseline: bool,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    verify_options: VerifyOptions,
}

/// What can be set for all runs.
#[derive(Debug, Args)]
struct Settings {
    /// Time after which the cluster ends the run by itself
    #[arg(long, value_name = "DURATION", value_parser = values::deadline, default_value = "15m", env = "DEFENDER_SIM_DEADLINE", hide_env = true)]
    deadline: Duration,
    /// Time the pods may take to become ready
    #[arg(long, value_name = "DURATION", value_parser = values::duration, default_value = "5m", env = "DEFENDER_SIM_TIMEOUT", hide_env = true)]
    timeout: Duration,
    /// Words in names and labels that mean production
    #[arg(long, value_name = "WORDS", value_parser = NonEmptyStringValueParser::new(), value_delimiter = ',', default_values = guard::WORDS, env = "DEFENDER_SIM_PRODUCTION_WORDS", hide_env = true, hide_short_help = true)]
    production_words: Vec<String>,

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

const PODS: &str = "Pod options";

/// The whole command line, with a subcommand for each scenario.
pub fn command() -> Command {
    let mut command = Root::command().after_help(exit_codes());
    // Scenarios first: they are what the tool is for.
    let scenarios = catalogue::all().iter().enumerate().map(|(order, scenario)| {
        RunArgs::augment_args(Command::new(scenario.id.as_str()))
            .about(scenario.title.as_str())
            .long_about(format!(
                "{}\n\n{}",
                scenario.title,
                paragraphs(&scenario.description)
            ))
            .display_order(order)
    });
    command = command.subcommands(scenarios);
    let several = Arg::new("scenarios")
        .num_args(1..)
        .value_name("SCENARIO")
        .value_parser(ids());
    let file = Arg::new("file")
        .short('f')
        .long("file")
        .value_name("FILE")
        .action(ArgAction::Append);
    let file = file
        .value_parser(value_parser!(PathBuf))
        .help("Scenario file of your own, - for standard input; can be repeated");
    let view = VerifyOptions::augment_args(Settings::augment_args(Command::new("view")))
        .about("Print every setting, and where it is from");
    command = command.subcommand(
        Command::new("config")
            .about("Show the defaults in force")
            .long_about(CONFIG)
            .subcommand_required(true)
            .arg_required_else_help(true)
            .subcommand(view),
    );
    let list = Settings::augment_args(Command::new("list")).about("Print the images that a run needs");
    command = command.subcommand(
        Command::new("images")
            .about("Show what a mirror needs")
            .subcommand_required(true)
            .arg_required_else_help(true)
            .subcommand(list),
    );
    command = command.subcommand(
        RunArgs::augment_args(Command::new("all"))
            .about("Run every attack, one after the other; webshell is part of each")
            .display_order(800),
    );
    command = command.subcommand(
        RunArgs::augment_args(
            Command::new("run")
                .arg(
                    several
                        .help("Scenarios to run, in this order")
                        .required_unless_present_any(["file", "baseline"]),
                )
                .arg(file),
        )
        .mut_arg("baseline", |baseline| baseline.conflicts_with("file"))
        .about("Run several scenarios, one after the other")
        .display_order(801),
    );
    let examined = Arg::new("scenarios")
        .num_args(1..)
        .value_name("SCENARIO")
        .value_parser(ids())
        .help("Scenarios it is asked for; where none is named, those of \"all\"");
    command = command.subcommand(
        AzureArgs::augment_args(Settings::augment_args(Command::new("doctor").arg(examined)))
            .about("Check whether scenarios can run here, and alerts be raised")
            .long_about(DOCTOR)
            .display_order(802),
    );
    command
        .mut_subcommand("cleanup", |c| c.display_order(900))
        .mut_subcommand("verify", |c| c.display_order(802))
        .mut_subcommand("report", |c| c.display_order(803))
        .mut_subcommand("history", |c| c.display_order(804))
        .mut_subcommand("version", |c| c.display_order(905))
        .mut_subcommand("list", |c| c.display_order(901))
        .mut_subcommand("describe", |c| c.display_order(902))
        .mut_subcommand("alerts", |c| c.display_order(903))
        .mut_subcommand("lint", |c| c.display_order(904))
        .mut_subcommand("images", |c| c.display_order(906))
        .mut_subcommand("rights", |c| c.display_order(906))
        .mut_subcommand("config", |c| c.display_order(907))
        .mut_subcommand("schema", |c| c.display_order(908))
        .mut_subcommand("completion", |c| c.display_order(909))
        .mut_subcommand("man", |c| c.display_order(910))
}

const CONFIG: &str = "Show the defaults in force. They come from, in this order: the flag, an environment \
                      variable (DEFENDER_SIM_ and the flag's name), the config file, the built-in \
                      default. The file is YAML with the long names of flags as keys; it is \
                      defender-sim/config.yaml in the user's config folder (XDG_CONFIG_HOME), or named by \
                      --config.";

const DOCTOR: &str = "Check whether scenarios can run here, and alerts be raised: rights, namespace, policies, \
                      quota, nodes, images, network policies, and Defender's sensor; where somebody is \
                      logged in to Azure, also how Defender is set up there. Nothing is made or changed. \
                      Exits with 3 if something that is needed is missing.";

fn exit_codes() -> String {
    let lines = Exit::ALL.map(|(exit, text)| format!("  {:>3}  {text}", exit.code()));
    format!("Exit codes:\n{}", lines.join("\n"))
}

/// The answer to a command line that asks for help or the version, or that cannot be used.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What to print.
    pub text: String,
    /// Whether this is help: text of this program only, with styles. Errors quote what is on the command line.
    pub is_help: bool,
    /// Whether to use colour.
    pub color: Color,
    /// [`Exit::Ok`] for help and version, [`Exit::Usage`] for errors.
    pub exit: Exit,
}

/// Parses the arguments of the process; the first is the program, whose name decides how help and errors
/// call it.
///
/// # Errors
/// The answer, for usage errors, help and version.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, Answer> {
    let arguments = without_empty_flags(&command(), arguments);
    let parsed = try_parse(&arguments, command().styles(Styles::plain()));
    parsed
        .map_err(with_tip)
        .map_err(|error| answer(error, &arguments))
}

fn answer(error: clap::Error, arguments: &[OsString]) -> Answer {
    let help = [
        ErrorKind::DisplayHelp,
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
    ];
    let is_help = help.contains(&error.kind());
    let styled = is_help.then(|| try_parse(arguments, command()).err()).flatten();
    let error = styled.unwrap_or(error);
    Answer {
        text: raw(&error),
        is_help,
        color: color(arguments),
        exit: if error.use_stderr() { Exit::Usage } else { Exit::Ok },
    }
}

/// The text of an error with all it quotes. clap's own conversion takes out what looks like a style.
fn raw(error: &clap::Error) -> String {
    error.render().ansi().to_string()
}

fn try_parse(arguments: &[OsString], mut command: Command) -> Result<Invocation, clap::Error> {
    if called_by_kubectl(arguments.first()) {
        command = command
            .bin_name("kubectl defender-sim")
            .display_name("kubectl defender-sim");
    } else if let Some(program) = arguments
        .first()
        .and_then(|program| Path::new(program).file_name())
    {
        command = command.bin_name(untrusted::name(&program.to_string_lossy()));
    }
    // Twice: what the file says are defaults for the second time. Parsing leaves a command that cannot be
    // changed any more, so the first time is a copy's.
    let matches = with_variables(command.clone()).try_get_matches_from(arguments);
    let matches = matches.map_err(|error| blame_variable(error, &command, arguments))?;
    check_stdin(&matches)?;
    let named = matches.get_one::<PathBuf>("config").cloned();
    let file = config::File::read(named.as_deref())?;
    let matches = match &file {
        Some(file) => {
            command = file.as_defaults(command)?;
            let matches = with_variables(command.clone()).try_get_matches_from(arguments);
            matches.map_err(|error| file.blame(&raw(&error)))?
        }
        None => matches,
    };
    invocation(&matches, &command, file.as_ref())
}

/// The error with a tip for what people type by habit, where clap has none or a wrong one.
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
        "dr" | "check" | "preflight" => "the cluster is checked with: kubectl defender-sim doctor",
        "plan" => "a run is planned with: kubectl defender-sim SCENARIO --dry-run",
        "delete" | "clean" | "rm" => "leftovers of runs are removed with: kubectl defender-sim cleanup",
        "-f" | "--file" => "a scenario file is run with: kubectl defender-sim run -f FILE",
        "client" | "server" => "the value of --dry-run stands behind =, as in --dry-run=server",
        "-v" | "--v" | "-=" => "-v takes no level",
        "-A" | "--all-namespaces" => "without -n, every namespace is meant where that makes sense",
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

/// `arguments` without kubectl's flags that have an empty value, as in `--context "$UNSET"`: kubectl takes them as not
/// given.
fn without_empty_flags(command: &Command, arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let flags: Vec<String> = command
        .get_arguments()
        .filter(|arg| arg.get_help_heading() == Some(KUBERNETES) && arg.get_action().takes_values())
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

/// A variable that is empty counts as not set.
fn with_variables(command: Command) -> Command {
    without_variables(command, |name| {
        std::env::var_os(name).is_some_and(|value| value.is_empty())
    })
}

fn without_variables(command: Command, these: fn(&OsStr) -> bool) -> Command {
    command
        .mut_args(|arg| {
            if arg.get_env().is_some_and(these) {
                arg.env(None)
            } else {
                arg
            }
        })
        .mut_subcommands(|sub| without_variables(sub, these))
}

/// The start of the names of all variables that are settings.
const VARIABLE: &str = "DEFENDER_SIM_";

/// Variables of the process that are named like settings, but that no argument of `command` reads.
fn unknown_variables(command: &Command) -> Vec<String> {
    fn collect(command: &Command, known: &mut BTreeSet<OsString>) {
        known.extend(
            command
                .get_arguments()
                .filter_map(|arg| arg.get_env())
                .map(OsStr::to_owned),
        );
        command.get_subcommands().for_each(|sub| collect(sub, known));
    }
    let mut known = BTreeSet::new();
    collect(command, &mut known);
    let set: BTreeSet<OsString> = std::env::vars_os().map(|(name, _)| name).collect();
    let unknown = set.difference(&known).map(|name| name.to_string_lossy());
    unknown
        .filter(|name| name.starts_with(VARIABLE))
        .map(Cow::into_owned)
        .collect()
}

/// An error that is not there without variables is one of theirs, and names the one.
fn blame_variable(error: clap::Error, command: &Command, arguments: &[OsString]) -> clap::Error {
    let without = without_variables(command.clone(), |_| true).try_get_matches_from(arguments);
    if without.is_err_and(|without| raw(&without) == raw(&error)) {
        return error;
    }
    let Some(ContextValue::String(named)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let mut built = command.clone();
    built.build();
    let Some(variable) = variable_of(&built, named) else {
        return error;
    };
    let cause = raw(&error);
    let cause = cause.trim_start_matches("error: ");
    clap::Error::raw(
        error.kind(),
        format!("the variable {variable} cannot be used: {cause}"),
    )
}

/// The variable of the argument that clap calls by this name.
fn variable_of(command: &Command, named: &str) -> Option<String> {
    let here = command.get_arguments().find(|arg| arg.to_string() == named);
    let variable = here.and_then(|arg| Some(arg.get_env()?.to_string_lossy().into_owned()));
    variable.or_else(|| command.get_subcommands().find_map(|sub| variable_of(sub, named)))
}

/// Whether to use colour for an answer, as far as a line that was not parsed tells.
fn color(arguments: &[OsString]) -> Color {
    let mut words = arguments.iter().map(|word| word.to_string_lossy());
    let mut asked = std::env::var("DEFENDER_SIM_COLOR").ok();
    while let Some(word) = words.next() {
        if word == "--color" {
            asked = words.next().map(Cow::into_owned);
        } else if let Some(value) = word.strip_prefix("--color=") {
            asked = Some(value.to_owned());
        }
    }
    match asked.as_deref() {
        Some("always") => Color::Always,
        Some("never") => Color::Never,
        _ => Color::Auto,
    }
}

/// What a command line that is still being typed says of the cluster and the namespace. The first of `words`
/// is the program. Something may be missing; where something is wrong already, nobody knows where it leads.
pub fn unfinished(words: &[OsString]) -> Option<(ConnectOptions, Option<String>)> {
    if let Err(error) = command().try_get_matches_from(words) {
        let missing = [ErrorKind::MissingSubcommand, ErrorKind::MissingRequiredArgument];
        // A run ID that is being typed is no valid one yet.
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
    Some((connect(global), namespace))
}

fn called_by_kubectl(program: Option<&OsString>) -> bool {
    program
        .and_then(|program| Path::new(program).file_name())
        .is_some_and(|name| name.to_string_lossy().starts_with("kubectl-"))
}

fn invocation(
    matches: &ArgMatches,
    command: &Command,
    file: Option<&config::File>,
) -> Result<Invocation, clap::Error> {
    check_stdin(matches)?;
    let (name, sub) = matches.subcommand().expect("clap requires a subcommand");
    let mut global = Global::from_arg_matches(sub)?;
    let action = match name {
        "cleanup" => Action::Cleanup(Cleanup::from_arg_matches(sub)?),
        "version" => Action::Version {
            client: sub.get_flag("client"),
        },
        "list" => Action::List,
        "alerts" => Action::Alerts,
        "describe" => Action::Describe(Source::BuiltIn(
            sub.get_one::<String>("scenario").cloned().unwrap_or_default(),
        )),
        "lint" => Action::Lint(sub.get_many("files").into_iter().flatten().cloned().collect()),
        "history" => Action::History,
        "report" => Action::Report(
            recorded(sub.get_one::<String>("run"), None),
            sub.get_many("report").into_iter().flatten().cloned().collect(),
        ),
        "verify" => {
            let options = VerifyOptions::from_arg_matches(sub)?;
            let of = match sub.get_one("since") {
                Some(&since) => Of::Window {
                    scenarios: sub
                        .get_many("scenario")
                        .into_iter()
                        .flatten()
                        .cloned()
                        .map(Source::BuiltIn)
                        .collect(),
                    since,
                    until: sub.get_one("until").copied().unwrap_or_else(Timestamp::now),
                },
                None => Of::Run(recorded(
                    sub.get_one::<String>("run"),
                    sub.get_one::<PathBuf>("record"),
                )),
            };
            Action::Verify(Box::new(Verify {
                of,
                options,
                reports: sub.get_many("report").into_iter().flatten().cloned().collect(),
            }))
        }
        "rights" => {
            let namespace = global.namespace.clone();
            let namespace = namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
            // A table is of no use to kubectl apply.
            if sub.value_source("output") == Some(ValueSource::DefaultValue) {
                global.output = Format::Yaml;
            }
            let scope = if sub.get_flag("namespace_scoped") {
                Scope::Namespace(namespace)
            } else {
                Scope::Cluster(namespace)
            };
            let subjects = sub.get_many("subject").into_iter().flatten().cloned();
            Action::Rights(scope, subjects.collect())
        }
        "schema" => Action::Schema(*sub.get_one("name").expect("clap requires a name")),
        "completion" => match sub.get_one("shell") {
            Some(shell) => Action::Completion(*shell),
            None => Action::InstallCompletion(sub.get_one("install").cloned()),
        },
        "man" => Action::Man(sub.get_one("folder").cloned()),
        "doctor" => {
            let named = if sub.contains_id("scenarios") {
                "run"
            } else {
                "all"
            };
            Action::Doctor(Box::new(Doctor {
                scenarios: sources(named, sub),
                options: Settings::from_arg_matches(sub)?.options(false),
                azure: AzureArgs::from_arg_matches(sub)?.options(),
            }))
        }
        "images" => {
            let (_, list) = sub.subcommand().expect("clap requires a subcommand");
            Action::Images(Box::new(Settings::from_arg_matches(list)?.options(false)))
        }
        "config" => {
            let (_, seen) = sub.subcommand().expect("clap requires a subcommand");
            let view = command
                .find_subcommand("config")
                .and_then(|c| c.find_subcommand("view"));
            let commands = [command, view.expect("it was parsed")];
            let path = global.config.clone().or_else(config::default_path);
            Action::Settings(config::settings(&commands, seen, file), path)
        }
        name => {
            let run = RunArgs::from_arg_matches(sub)?;
            without_effect(&run, sub)?;
            Action::Run(Box::new(Run {
                scenarios: if run.baseline {
                    vec![Source::BuiltIn(catalogue::baseline().id.clone())]
                } else {
                    sources(name, sub)
                },
                dry_run: run.dry_run,
                yes: run.yes,
                allow_production: run.allow_production,
                allow_system_namespace: run.allow_system_namespace,
                production_words: run.settings.production_words.clone(),
                soc_note: run.soc_note,
                reports: run.report,
                verify: run.verify.then_some(run.verify_options),
                options: run.settings.options(run.keep),
            }))
        }
    };
    let detail = match (global.quiet, global.verbose) {
        (true, _) => Detail::Quiet,
        (false, true) => Detail::Verbose,
        (false, false) => Detail::Normal,
    };
    Ok(Invocation {
        unknown_variables: unknown_variables(command),
        action,
        // As with kubectl, 0 means no limit.
        request_timeout: global.request_timeout.map(|timeout| match timeout {
            Duration::ZERO => Duration::MAX,
            timeout => timeout,
        }),
        namespace: global.namespace.clone(),
        output: Output {
            format: global.output,
            color: global.color,
            detail,
        },
        connect: connect(global),
    })
}

/// Refuses a command line that names standard input more than once: it can be read only once.
fn check_stdin(matches: &ArgMatches) -> Result<(), clap::Error> {
    let (_, sub) = matches.subcommand().expect("clap requires a subcommand");
    let inputs = ["file", "files", "record", "alert_names", "alerts", "config"];
    let named = inputs
        .into_iter()
        .filter_map(|id| sub.try_get_many::<PathBuf>(id).ok()?);
    if named.flatten().filter(|path| files::is_stdin(path)).count() > 1 {
        let text = "standard input (-) can be read only once\n";
        return Err(clap::Error::raw(ErrorKind::ArgumentConflict, text));
    }
    Ok(())
}

/// Refuses what is on the command line and would do nothing: somebody relies on it. A variable or the config
/// file may set it for other runs.
fn without_effect(run: &RunArgs, matches: &ArgMatches) -> Result<(), clap::Error> {
    let given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    let refuse = |flag: &str, why: &str| {
        let text = format!("--{flag} does nothing {why}\n");
        Err(clap::Error::raw(ErrorKind::ArgumentConflict, text))
    };
    if run.dry_run != DryRun::None {
        let acts = ["report", "soc_note", "verify"];
        if let Some(id) = acts.into_iter().find(|id| given(id)) {
            return refuse(&id.replace('_', "-"), "in a dry run");
        }
    }
    if !run.verify {
        let options = VerifyOptions::augment_args(Command::new("verify"));
        let mut flags = options
            .get_arguments()
            .map(|arg| (arg.get_id().as_str(), arg.get_long()));
        if let Some((_, Some(flag))) = flags.find(|(id, _)| given(id)) {
            return refuse(flag, "without --verify");
        }
    }
    Ok(())
}

fn recorded(run: Option<&String>, file: Option<&PathBuf>) -> Recorded {
    match (run, file) {
        (_, Some(file)) => Recorded::File(file.clone()),
        (Some(run), None) => Recorded::Run(run.clone()),
        (None, None) => Recorded::Last,
    }
}

/// The scenarios that a subcommand stands for.
fn sources(name: &str, sub: &ArgMatches) -> Vec<Source> {
    match name {
        "all" => {
            let ids = catalogue::attacks().map(|scenario| scenario.id.clone());
            ids.map(Source::BuiltIn).collect()
        }
        "run" => {
            let ids = sub.get_many::<String>("scenarios").into_iter().flatten().cloned();
            let files = sub.try_get_many::<PathBuf>("file").ok().flatten();
            let files = files.into_iter().flatten().cloned();
            ids.map(Source::BuiltIn).chain(files.map(Source::File)).collect()
        }
        scenario => vec![Source::BuiltIn(scenario.to_owned())],
    }
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
    /// What they say, for whoever asks Azure.
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
    fn options(self, keep: bool) -> Options {
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

fn connect(global: Global) -> ConnectOptions {
    ConnectOptions {
        kubeconfig: global.kubeconfig,
        context: global.context,
        cluster: global.cluster,
        user: global.user,
        server: global.server,
        token: global.token,
        impersonate: global.impersonate,
        impersonate_uid: global.impersonate_uid,
        impersonate_groups: global.impersonate_groups,
        impersonate_user_extra: global.impersonate_user_extra,
        certificate_authority: global.certificate_authority,
        client_certificate: global.client_certificate,
        client_key: global.client_key,
        tls_server_name: global.tls_server_name,
        insecure_skip_tls_verify: global.insecure_skip_tls_verify,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_hold() {
        command().debug_assert();
    }

    #[test]
    fn flags_are_taken_on_either_side_of_the_subcommand() {
        for line in [["p", "-n", "x", "recon"], ["p", "recon", "-n", "x"]] {
            let invocation = parse(line.map(Into::into)).unwrap();
            assert_eq!(invocation.namespace.as_deref(), Some("x"), "{line:?}");
        }
    }

    #[test]
    fn a_token_does_not_show() {
        let invocation = parse(["p", "recon", "--token", "hunter2"].map(Into::into)).unwrap();
        assert!(!format!("{invocation:?}").contains("hunter2"));
    }
}
