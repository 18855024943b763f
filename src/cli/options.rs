//! Groups of arguments that several commands share.
//!
//! An argument with an environment variable is a setting: a config file may set it too ([`super::settings`]).

#![expect(
    missing_docs,
    reason = "a doc comment here is text of the help, which groups of arguments have not"
)]

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use secrecy::SecretString;

use super::values;
use crate::azure::{AzureOptions, Cloud, LoginKind};
use crate::cluster::connect::ConnectOptions;
use crate::defender::facts::Premise;
use crate::guard;
use crate::plan::{Cover, DEFAULT_PARALLEL, DEFAULT_REGISTRY, Fit, Options, Toleration};
use crate::report::{Color, Detail, Format, Output};
use crate::verify::{self, Overrides, Required};

pub(super) const KUBERNETES: &str = "Kubernetes options";
pub(super) const PODS: &str = "Pod options";
pub(super) const VERIFY: &str = "Verify options";
pub(super) const AZURE: &str = "Azure options";

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
    /// Require an alert that is optional in the run's scenarios, by its id; can be repeated
    #[arg(long, help_heading = VERIFY, value_name = "ALERT", value_parser = values::alert, value_delimiter = ',', env = "DEFENDER_SIM_EXPECT", hide_env = true, hide_short_help = true)]
    pub expect: Vec<String>,
    /// Do not require an alert that the run's scenarios expect, by its id; can be repeated
    #[arg(long, help_heading = VERIFY, value_name = "ALERT", value_parser = values::alert, value_delimiter = ',', env = "DEFENDER_SIM_OPTIONAL", hide_env = true, hide_short_help = true)]
    pub optional: Vec<String>,
    /// Those of both that are flags, not settings.
    #[arg(skip)]
    pub given: Vec<String>,
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

    /// Attack one pod in each group of nodes: node-pool, node, or the key of a label
    #[arg(long, value_name = "GROUPS", value_parser = values::cover, env = "DEFENDER_SIM_COVER", hide_env = true)]
    cover: Option<Cover>,
    /// Number of pods that are attacked at the same time
    #[arg(long, value_name = "NUMBER", default_value_t = DEFAULT_PARALLEL, env = "DEFENDER_SIM_PARALLEL", hide_env = true, hide_short_help = true)]
    parallel: NonZeroUsize,

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
    /// Converts the flags for the alerts of a run.
    pub fn overrides(&self) -> Overrides {
        Overrides {
            expect: self.expect.clone(),
            optional: self.optional.clone(),
            given: self.given.clone(),
        }
    }

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
            cover: self.cover,
            parallel: self.parallel,
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
