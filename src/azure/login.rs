//! Tokens: from whom, in which order, and for how long they are kept.
//!
//! The credentials are those of `azure_identity`. Tried are, unless one is asked for:
//!
//! 1. workload identity, when `AZURE_CLIENT_ID`, `AZURE_TENANT_ID` and `AZURE_FEDERATED_TOKEN_FILE` are set; it
//!    is then the only one: who sets them does not mean whoever is logged in on the machine
//! 2. the Azure CLI
//! 3. the Azure Developer CLI
//!
//! Managed identity is used only when asked for: where there is none, asking takes long.
//!
//! A token is kept until shortly before its end, since the CLIs keep none. A credential is made anew for each
//! token: the official ones keep theirs, and would hand out again the one that Azure has just refused.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::cloud::CustomConfiguration;
use azure_core::credentials::TokenCredential;
use azure_core::error::ErrorKind;
use azure_core::http::{ClientOptions, RetryOptions, Transport as SdkTransport};
use azure_identity::{
    AzureCliCredential, AzureCliCredentialOptions, AzureDeveloperCliCredential,
    AzureDeveloperCliCredentialOptions, ClientAssertionCredentialOptions, Executor,
    ManagedIdentityCredential, ManagedIdentityCredentialOptions, WorkloadIdentityCredential,
    WorkloadIdentityCredentialOptions,
};
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use tokio::sync::Mutex;

use super::Cloud;
use crate::net::http::Transport;
use crate::net::{Cause, Environment, Explanation};

/// A token is not used any more when it has less left than this: clocks differ, and requests take time.
const MARGIN: SignedDuration = SignedDuration::from_mins(5);
/// A new token is used at least this long, however short its life: a CLI is not started for every request.
const LEAST: SignedDuration = SignedDuration::from_secs(30);
/// Bound of getting a token: a CLI may take its time to start.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(60);
const WORKLOAD: [&str; 3] = ["AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE"];

/// Where a token comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginKind {
    /// The identity of a pod, by a token that Kubernetes gives it.
    WorkloadIdentity,
    /// The identity of a virtual machine or of an app service.
    ManagedIdentity,
    /// Whoever is logged in with `az`.
    AzureCli,
    /// Whoever is logged in with `azd`.
    AzureDeveloperCli,
}

impl fmt::Display for LoginKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WorkloadIdentity => "workload identity",
            Self::ManagedIdentity => "managed identity",
            Self::AzureCli => "the Azure CLI",
            Self::AzureDeveloperCli => "the Azure Developer CLI",
        })
    }
}

impl LoginKind {
    fn hint(self, cloud: &Cloud) -> &'static str {
        match (self, cloud) {
            (Self::AzureCli, Cloud::UsGovernment) => "az cloud set --name AzureUSGovernment, then az login",
            (Self::AzureCli, _) => "az login",
            (Self::AzureDeveloperCli, _) => "azd auth login",
            (Self::WorkloadIdentity, _) => {
                "check AZURE_CLIENT_ID, AZURE_TENANT_ID and the identity's federated credential: az identity \
                 federated-credential list"
            }
            (Self::ManagedIdentity, _) => "is an identity assigned to this machine? see: az vm identity show",
        }
    }
}

/// What the user says about the login.
#[derive(Clone, Debug, Default)]
pub struct LoginOptions {
    /// This one and no other.
    pub only: Option<LoginKind>,
    /// The tenant, where it is not the login's own. Of no meaning to a managed identity.
    pub tenant: Option<String>,
}

/// See the module's description.
pub(super) struct Login {
    options: LoginOptions,
    environment: Environment,
    cloud: Cloud,
    transport: Transport,
    held: Mutex<Option<Held>>,
}

/// A token and what is known of it.
#[derive(Clone)]
pub(super) struct Held {
    pub token: SecretString,
    pub kind: LoginKind,
    /// Which one of all: counted, so that nobody has to compare tokens.
    pub number: u64,
    renew: Timestamp,
    ends: Timestamp,
}

impl Login {
    pub fn new(options: LoginOptions, environment: Environment, cloud: Cloud, transport: Transport) -> Self {
        Self {
            options,
            environment,
            cloud,
            transport,
            held: Mutex::default(),
        }
    }

    /// A token that is good for a while; not the one of the number `refused`.
    pub async fn token(&self, refused: Option<u64>) -> Result<Held, Explanation> {
        // Held while a token is got, so that many calls at once get one.
        let mut held = self.held.lock().await;
        let usable = held.as_ref().filter(|held| Some(held.number) != refused);
        let now = Timestamp::now();
        if let Some(held) = usable.filter(|held| now < held.renew) {
            return Ok(held.clone());
        }
        match self.acquire().await {
            Ok((token, kind, ends)) => {
                let new = Held {
                    token,
                    kind,
                    number: held.as_ref().map_or(0, |held| held.number + 1),
                    renew: renewal(Timestamp::now(), ends),
                    ends,
                };
                *held = Some(new.clone());
                Ok(new)
            }
            // The old one is still good.
            Err(explained) => usable.filter(|held| now < held.ends).cloned().ok_or(explained),
        }
    }

    fn order(&self) -> Vec<LoginKind> {
        if let Some(only) = self.options.only {
            return vec![only];
        }
        if WORKLOAD.iter().all(|name| self.environment.get(name).is_some()) {
            return vec![LoginKind::WorkloadIdentity];
        }
        vec![LoginKind::AzureCli, LoginKind::AzureDeveloperCli]
    }

    async fn acquire(&self) -> Result<(SecretString, LoginKind, Timestamp), Explanation> {
        let scope = format!("{}/.default", self.cloud.endpoint());
        let (mut said, mut hints) = (vec![], vec![]);
        for kind in self.order() {
            let token = async {
                let credential = self.credential(kind)?;
                credential.get_token(&[&scope], None).await
            };
            let reason = match tokio::time::timeout(LOGIN_TIMEOUT, token).await {
                Ok(Ok(token)) => {
                    let ends = Timestamp::from_second(token.expires_on.unix_timestamp());
                    let ends = ends.unwrap_or(Timestamp::MAX);
                    return Ok((SecretString::from(token.token.secret()), kind, ends));
                }
                Ok(Err(error)) => reason(&error),
                Err(_) => format!("no answer within {} s", LOGIN_TIMEOUT.as_secs()),
            };
            said.push(format!("{kind}: {reason}"));
            hints.push(kind.hint(&self.cloud));
        }
        let message = format!("there is no login to Azure: {}", said.join("; "));
        Err(Explanation::new(Cause::Auth, message).with_hint(hints.join(", or ")))
    }

    fn credential(&self, kind: LoginKind) -> azure_core::Result<Arc<dyn TokenCredential>> {
        let tenant_id = self.options.tenant.clone();
        let programs = Programs(self.environment.clone());
        let mut authority = CustomConfiguration::default();
        authority.authority_host = self
            .cloud
            .authority(self.environment.text("AZURE_AUTHORITY_HOST"));
        let client_options = ClientOptions {
            transport: Some(SdkTransport::new(Arc::new(self.transport.clone()))),
            cloud: Some(Arc::new(authority.into())),
            // Whoever asks for a token asks again.
            retry: RetryOptions::none(),
            ..ClientOptions::default()
        };
        Ok(match kind {
            LoginKind::WorkloadIdentity => {
                let [tenant, client, file] = WORKLOAD.map(|name| self.environment.text(name));
                WorkloadIdentityCredential::new(Some(WorkloadIdentityCredentialOptions {
                    credential_options: ClientAssertionCredentialOptions { client_options },
                    // Never left to the process: the variables are those given.
                    tenant_id: Some(tenant_id.or(tenant).unwrap_or_default()),
                    client_id: Some(client.unwrap_or_default()),
                    token_file_path: Some(PathBuf::from(file.unwrap_or_default())),
                }))?
            }
            LoginKind::ManagedIdentity => {
                ManagedIdentityCredential::new(Some(ManagedIdentityCredentialOptions {
                    client_options,
                    ..ManagedIdentityCredentialOptions::default()
                }))?
            }
            LoginKind::AzureCli => AzureCliCredential::new(Some(AzureCliCredentialOptions {
                tenant_id,
                executor: Some(Arc::new(programs)),
                ..AzureCliCredentialOptions::default()
            }))?,
            LoginKind::AzureDeveloperCli => {
                AzureDeveloperCliCredential::new(Some(AzureDeveloperCliCredentialOptions {
                    tenant_id,
                    executor: Some(Arc::new(programs)),
                }))?
            }
        })
    }
}

/// When a token got now is to be replaced.
fn renewal(now: Timestamp, ends: Timestamp) -> Timestamp {
    (ends - MARGIN).max(now + LEAST)
}

/// What went wrong, without the names of types and without the answer: it may hold the token.
fn reason(error: &azure_core::Error) -> String {
    let inner = error
        .downcast_ref::<azure_core::Error>()
        .filter(|_| matches!(error.kind(), ErrorKind::Credential))
        .unwrap_or(error);
    match inner.kind() {
        // Parsers quote what they read, except for a word of the library's own.
        ErrorKind::DataConversion if inner.get_ref().is_some() => "its answer cannot be read".to_owned(),
        _ => inner.to_string().trim().to_owned(),
    }
}

/// Runs the CLIs with the environment given, and ends them when nobody waits any more.
struct Programs(Environment);

impl fmt::Debug for Programs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Programs")
    }
}

#[async_trait]
impl Executor for Programs {
    async fn run(&self, program: &OsStr, args: &[&OsStr]) -> io::Result<Output> {
        tokio::process::Command::new(program)
            .args(args)
            .env_clear()
            .envs(&self.0.variables)
            // Nobody can answer a question.
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_replaced_before_its_end_and_used_for_a_while() {
        let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let minutes = SignedDuration::from_mins;
        for (left, used) in [
            (minutes(60), minutes(55)),
            (minutes(6), minutes(1)),
            (minutes(5), LEAST),
            (minutes(0), LEAST),
            (minutes(-60), LEAST),
        ] {
            assert_eq!(renewal(now, now + left), now + used, "{left:?}");
        }
    }

    #[tokio::test]
    async fn an_old_token_is_replaced_and_kept_where_there_is_no_new_one() {
        let environment: Environment = [("PATH", "/does/not/exist")].into_iter().collect();
        let cloud = Cloud::Public;
        let authority = rcgen::generate_simple_self_signed(["x.test".to_owned()]).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), authority.cert.pem()).unwrap();
        let transport = Transport::new(Some(file.path()), Environment::default()).unwrap();
        // No program is found.
        let login = Login::new(LoginOptions::default(), environment, cloud, transport);
        let now = Timestamp::now();
        for (ends, refused, kept) in [
            (now + MARGIN, None, true),
            (now + MARGIN, Some(7), false),
            (now - LEAST, None, false),
        ] {
            *login.held.lock().await = Some(Held {
                token: SecretString::from("old"),
                kind: LoginKind::AzureCli,
                number: 7,
                renew: now,
                ends,
            });
            assert_eq!(login.token(refused).await.is_ok(), kept, "{ends} {refused:?}");
        }
    }
}
