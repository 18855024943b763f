//! Obtains and caches tokens by the credentials of `azure_identity`.
//!
//! Unless a login is requested, these are tried in order:
//!
//! 1. workload identity alone, if `AZURE_CLIENT_ID`, `AZURE_TENANT_ID` and `AZURE_FEDERATED_TOKEN_FILE` are set
//! 2. the Azure CLI
//! 3. the Azure Developer CLI
//!
//! Managed identity is used only on request, since its timeout is long on other machines.
//!
//! Tokens are cached until shortly before they expire, since the CLIs do not cache them. Each token gets a new
//! credential: those of `azure_identity` cache their token and would return the one that Azure just refused.

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

/// Time before its expiration at which a token is renewed, since clocks differ and requests take time.
const MARGIN: SignedDuration = SignedDuration::from_mins(5);
/// Minimum use of a token, so that no CLI is started for every request.
const MIN_USE: SignedDuration = SignedDuration::from_secs(30);
/// Timeout of obtaining a token, which includes the start of a CLI.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(60);
const WORKLOAD: [&str; 3] = ["AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE"];

/// The source of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginKind {
    /// The identity of a pod, by its service account token.
    WorkloadIdentity,
    /// The identity of a virtual machine or app service.
    ManagedIdentity,
    /// The login of `az`.
    AzureCli,
    /// The login of `azd`.
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
            (Self::ManagedIdentity, _) => "check that this machine has an identity: az vm identity show",
        }
    }
}

/// The options of the login.
#[derive(Clone, Debug, Default)]
pub struct LoginOptions {
    /// The only kind to try.
    pub only: Option<LoginKind>,
    /// The tenant, if it is not the default of the login. Managed identity ignores it.
    pub tenant: Option<String>,
}

/// A login with a cached token.
pub(super) struct Login {
    options: LoginOptions,
    environment: Environment,
    cloud: Cloud,
    transport: Transport,
    cached: Mutex<Option<CachedToken>>,
}

/// A token with its source and times.
#[derive(Clone)]
pub(super) struct CachedToken {
    pub token: SecretString,
    pub kind: LoginKind,
    /// The sequence number, so that tokens need not be compared.
    pub number: u64,
    renew_at: Timestamp,
    expires_at: Timestamp,
}

impl Login {
    pub fn new(options: LoginOptions, environment: Environment, cloud: Cloud, transport: Transport) -> Self {
        Self {
            options,
            environment,
            cloud,
            transport,
            cached: Mutex::default(),
        }
    }

    /// Returns a valid token other than that with the number `refused`.
    pub async fn token(&self, refused: Option<u64>) -> Result<CachedToken, Explanation> {
        // Locked while a token is obtained, so that concurrent calls share it.
        let mut held = self.cached.lock().await;
        let usable = held.as_ref().filter(|held| Some(held.number) != refused);
        let now = Timestamp::now();
        if let Some(held) = usable.filter(|held| now < held.renew_at) {
            return Ok(held.clone());
        }
        match self.acquire().await {
            Ok((token, kind, expires_at)) => {
                let new = CachedToken {
                    token,
                    kind,
                    number: held.as_ref().map_or(0, |held| held.number + 1),
                    renew_at: renewal(Timestamp::now(), expires_at),
                    expires_at,
                };
                *held = Some(new.clone());
                Ok(new)
            }
            // The cached token is still valid.
            Err(explained) => usable
                .filter(|held| now < held.expires_at)
                .cloned()
                .ok_or(explained),
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
        let (mut reasons, mut hints) = (vec![], vec![]);
        for kind in self.order() {
            let token = async {
                let credential = self.credential(kind)?;
                credential.get_token(&[&scope], None).await
            };
            let reason = match tokio::time::timeout(LOGIN_TIMEOUT, token).await {
                Ok(Ok(token)) => {
                    let expires_at = Timestamp::from_second(token.expires_on.unix_timestamp());
                    let expires_at = expires_at.unwrap_or(Timestamp::MAX);
                    return Ok((SecretString::from(token.token.secret()), kind, expires_at));
                }
                Ok(Err(error)) => reason(&error),
                Err(_) => format!("no answer within {} s", LOGIN_TIMEOUT.as_secs()),
            };
            reasons.push(format!("{kind}: {reason}"));
            hints.push(kind.hint(&self.cloud));
        }
        let message = format!("no login to Azure: {}", reasons.join("; "));
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
            // The caller retries.
            retry: RetryOptions::none(),
            ..ClientOptions::default()
        };
        Ok(match kind {
            LoginKind::WorkloadIdentity => {
                let [tenant, client, file] = WORKLOAD.map(|name| self.environment.text(name));
                WorkloadIdentityCredential::new(Some(WorkloadIdentityCredentialOptions {
                    credential_options: ClientAssertionCredentialOptions { client_options },
                    // Prevents reading the process environment.
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

/// Returns the time to renew a token obtained now.
fn renewal(now: Timestamp, expires_at: Timestamp) -> Timestamp {
    (expires_at - MARGIN).max(now + MIN_USE)
}

/// Formats an error without type names and without the answer, which may hold the token.
fn reason(error: &azure_core::Error) -> String {
    let inner = error
        .downcast_ref::<azure_core::Error>()
        .filter(|_| matches!(error.kind(), ErrorKind::Credential))
        .unwrap_or(error);
    match inner.kind() {
        // Parsers quote their input, unlike messages of the library itself.
        ErrorKind::DataConversion if inner.get_ref().is_some() => "its answer cannot be parsed".to_owned(),
        _ => inner.to_string().trim().to_owned(),
    }
}

/// Runs the CLIs with an environment, and kills them when the call is dropped.
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
            // Prompts cannot be answered.
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
    fn token_is_renewed_before_its_end_but_used_for_a_minimum() {
        let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let minutes = SignedDuration::from_mins;
        for (left, used) in [
            (minutes(60), minutes(55)),
            (minutes(6), minutes(1)),
            (minutes(5), MIN_USE),
            (minutes(0), MIN_USE),
            (minutes(-60), MIN_USE),
        ] {
            assert_eq!(renewal(now, now + left), now + used, "{left:?}");
        }
    }

    #[tokio::test]
    async fn cached_token_is_kept_if_renewal_fails() {
        let environment: Environment = [("PATH", "/does/not/exist")].into_iter().collect();
        let cloud = Cloud::Public;
        let authority = rcgen::generate_simple_self_signed(["x.test".to_owned()]).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), authority.cert.pem()).unwrap();
        let transport = Transport::new(Some(file.path()), Environment::default()).unwrap();
        // No program is found.
        let login = Login::new(LoginOptions::default(), environment, cloud, transport);
        let now = Timestamp::now();
        for (expires_at, refused, kept) in [
            (now + MARGIN, None, true),
            (now + MARGIN, Some(7), false),
            (now - MIN_USE, None, false),
        ] {
            *login.cached.lock().await = Some(CachedToken {
                token: SecretString::from("old"),
                kind: LoginKind::AzureCli,
                number: 7,
                renew_at: now,
                expires_at,
            });
            assert_eq!(
                login.token(refused).await.is_ok(),
                kept,
                "{expires_at} {refused:?}"
            );
        }
    }
}
