//! The command line: definitions only. What a scenario is called and described as comes from the catalogue.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{
    Arg, ArgAction, ArgMatches, Args, Command, CommandFactory as _, FromArgMatches as _, Parser, Subcommand,
    ValueEnum, value_parser,
};

use crate::cluster::connect::ConnectOptions;
use crate::exit::Exit;
use crate::plan::{DEFAULT_REGISTRY, Options};
use crate::scenario::catalogue;
use crate::secret::Secret;

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
}

/// What to do.
#[derive(Debug)]
pub enum Action {
    /// Run these scenarios.
    Run(Vec<Source>, Options),
    /// Remove what earlier runs left; only this run, if given.
    Cleanup(Option<String>),
    /// Print versions.
    Version,
    /// Say what a run would do, and do nothing.
    DryRun(Vec<Source>, Options),
    /// Print the scenarios there are.
    List,
    /// Print all of a scenario.
    Describe(Source),
    /// Print the alerts this tool knows.
    Alerts,
    /// Check a scenario file.
    Lint(PathBuf),
}

/// Where a scenario is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In the catalogue, under this id.
    BuiltIn(String),
    /// In this file of the user's.
    File(PathBuf),
}

/// How to say it.
#[derive(Clone, Debug)]
pub struct Output {
    /// Form of the result on standard output.
    pub format: Format,
    /// Whether to use colour.
    pub color: Color,
    /// Whether to keep progress to oneself.
    pub quiet: bool,
}

/// Form of the result on standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs; carries a schema version.
    Json,
    /// The same for people who read YAML; of a dry run, the manifests.
    Yaml,
}

/// Whether to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// At a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
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
enum Fixed {
    /// Remove what earlier runs left, from any machine
    #[command(
        long_about = "Remove what earlier runs left, from any machine: every object that carries this \
                            tool's label, and every namespace that this tool made. Without -n in all \
                            namespaces. A run that is still active is removed too; name one with --run."
    )]
    Cleanup {
        /// Remove only this run
        #[arg(long, value_name = "RUN")]
        run: Option<String>,
    },
    /// Print the version of this tool and of the cluster
    Version,
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
    /// Check a scenario file
    Lint {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
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
        hide_possible_values = false
    )]
    output: Format,
    /// When to use colour
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    color: Color,
    /// Print the result and errors only
    #[arg(short, long, global = true)]
    quiet: bool,

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
    /// Namespace to run in; one that exists is used and stays
    #[arg(short, long, global = true, help_heading = KUBERNETES, value_name = "NAME")]
    namespace: Option<String>,
    /// Address and port of the Kubernetes API server
    #[arg(short, long, global = true, help_heading = KUBERNETES, value_name = "URL", hide_short_help = true)]
    server: Option<String>,
    /// Bearer token for authentication to the API server
    #[arg(long, global = true, help_heading = KUBERNETES, hide_short_help = true, value_parser = secret)]
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
    #[arg(long = "as-user-extra", global = true, help_heading = KUBERNETES, value_name = "KEY=VALUE", value_parser = key_value, hide_short_help = true)]
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
    /// Time to wait for a single request, such as 10s; 0 means the default of 30s
    #[arg(long, global = true, help_heading = KUBERNETES, value_name = "DURATION", value_parser = duration, hide_short_help = true)]
    request_timeout: Option<Duration>,
}

const KUBERNETES: &str = "Kubernetes options";

/// kubectl's dry-run strategies, as far as they are supported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum DryRun {
    /// Do it.
    #[default]
    None,
    /// Ask nobody.
    Client,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Say what would be done, and do nothing; with -o yaml, as manifests
    #[arg(long, value_enum, value_name = "STRATEGY", default_value_t, num_args = 0..=1, require_equals = true, default_missing_value = "client")]
    dry_run: DryRun,
    /// Time after which the cluster ends the run by itself
    #[arg(long, value_name = "DURATION", value_parser = deadline, default_value = "15m")]
    deadline: Duration,
    /// Time the pods may take to become ready
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5m")]
    timeout: Duration,
    /// Where the images named "attacker" and "victim" are
    #[arg(long, value_name = "REGISTRY", default_value = DEFAULT_REGISTRY, hide_default_value = true)]
    image_registry: String,
    /// Image of the attacker pod
    #[arg(long, value_name = "IMAGE")]
    attacker_image: Option<String>,
    /// Image of the victim pod
    #[arg(long, value_name = "IMAGE")]
    victim_image: Option<String>,
}

/// The whole command line, with a subcommand for each scenario.
pub fn command() -> Command {
    let mut command = Root::command().after_help(exit_codes());
    // Scenarios first: they are what the tool is for.
    let scenarios = catalogue::all().iter().enumerate().map(|(order, scenario)| {
        RunArgs::augment_args(Command::new(scenario.id.as_str()))
            .about(scenario.title.as_str())
            .long_about(format!("{}\n\n{}", scenario.title, scenario.description))
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
        .help("Scenario file of your own; can be repeated");
    command = command.subcommand(
        RunArgs::augment_args(Command::new("all"))
            .about("Run every scenario, one after the other")
            .display_order(800),
    );
    command = command.subcommand(
        RunArgs::augment_args(
            Command::new("run")
                .arg(
                    several
                        .help("Scenarios to run, in this order")
                        .required_unless_present("file"),
                )
                .arg(file),
        )
        .about("Run several scenarios, one after the other")
        .display_order(801),
    );
    command
        .mut_subcommand("cleanup", |c| c.display_order(900))
        .mut_subcommand("version", |c| c.display_order(905))
        .mut_subcommand("list", |c| c.display_order(901))
        .mut_subcommand("describe", |c| c.display_order(902))
        .mut_subcommand("alerts", |c| c.display_order(903))
        .mut_subcommand("lint", |c| c.display_order(904))
}

fn exit_codes() -> String {
    let lines = Exit::ALL.map(|(exit, text)| format!("  {:>3}  {text}", exit.code()));
    format!("Exit codes:\n{}", lines.join("\n"))
}

/// Parses the arguments of the process; the first is the program, whose name decides how help and errors
/// call it.
///
/// # Errors
/// clap's own, for usage errors, help and version.
pub fn parse(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Invocation, clap::Error> {
    let arguments: Vec<_> = arguments.into_iter().collect();
    let mut command = command();
    if called_by_kubectl(arguments.first()) {
        command = command
            .bin_name("kubectl defender-sim")
            .display_name("kubectl defender-sim");
    }
    let matches = command.try_get_matches_from_mut(arguments)?;
    invocation(&matches)
}

fn called_by_kubectl(program: Option<&std::ffi::OsString>) -> bool {
    program
        .and_then(|program| std::path::Path::new(program).file_name())
        .is_some_and(|name| name.to_string_lossy().starts_with("kubectl-"))
}

fn invocation(matches: &ArgMatches) -> Result<Invocation, clap::Error> {
    let (name, sub) = matches.subcommand().expect("clap requires a subcommand");
    let global = Global::from_arg_matches(sub)?;
    let action = match name {
        "cleanup" => Action::Cleanup(sub.get_one::<String>("run").cloned()),
        "version" => Action::Version,
        "list" => Action::List,
        "alerts" => Action::Alerts,
        "describe" => Action::Describe(Source::BuiltIn(
            sub.get_one::<String>("scenario").cloned().unwrap_or_default(),
        )),
        "lint" => Action::Lint(sub.get_one::<PathBuf>("file").cloned().unwrap_or_default()),
        name => {
            let run = RunArgs::from_arg_matches(sub)?;
            let built_in = |id: &String| Source::BuiltIn(id.clone());
            let scenarios: Vec<Source> = match name {
                // The web shell is part of every other scenario.
                "all" => catalogue::all()
                    .iter()
                    .filter(|s| s.id != "webshell")
                    .map(|s| built_in(&s.id))
                    .collect(),
                "run" => {
                    let ids = sub
                        .get_many::<String>("scenarios")
                        .into_iter()
                        .flatten()
                        .map(built_in);
                    let files = sub.get_many::<PathBuf>("file").into_iter().flatten().cloned();
                    ids.chain(files.map(Source::File)).collect()
                }
                scenario => vec![Source::BuiltIn(scenario.to_owned())],
            };
            let dry_run = run.dry_run;
            let options = options(run, global.namespace.clone());
            match dry_run {
                DryRun::None => Action::Run(scenarios, options),
                DryRun::Client => Action::DryRun(scenarios, options),
            }
        }
    };
    Ok(Invocation {
        action,
        request_timeout: global.request_timeout.filter(|timeout| !timeout.is_zero()),
        namespace: global.namespace.clone(),
        output: Output {
            format: global.output,
            color: global.color,
            quiet: global.quiet,
        },
        connect: connect(global),
    })
}

fn options(run: RunArgs, namespace: Option<String>) -> Options {
    let registry = run.image_registry.trim_end_matches('/').to_owned();
    Options {
        namespace,
        attacker_image: run
            .attacker_image
            .unwrap_or_else(|| format!("{registry}/attacker:latest")),
        victim_image: run
            .victim_image
            .unwrap_or_else(|| format!("{registry}/victim:latest")),
        deadline: run.deadline,
        timeout: run.timeout,
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

#[expect(clippy::unnecessary_wraps, reason = "the form clap wants of a value parser")]
fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text.to_owned()))
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected key=value")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// `30s`, `10m`, `1h30m`; a number alone is seconds, as kubectl has it.
fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let wrong = || "expected a duration such as 30s, 10m or 1h30m".to_owned();
    let duration: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(duration).map_err(|_| wrong())
}

/// Shorter, and the pods would be ended before they can be ready; longer, and nobody remembers.
fn deadline(text: &str) -> Result<Duration, String> {
    let deadline = duration(text)?;
    let allowed = Duration::from_secs(10)..=Duration::from_secs(24 * 3600);
    if allowed.contains(&deadline) {
        Ok(deadline)
    } else {
        Err("expected between 10s and 24h".to_owned())
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
    fn durations() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert!(duration("soon").is_err());
        assert!(duration("-5s").is_err());
        assert!(deadline("5s").is_err());
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
