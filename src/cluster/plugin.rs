//! Runs credential plugins by the protocol of client-go.
//!
//! The client library runs the plugin up to three times for one client
//! (<https://github.com/kube-rs/kube/issues/1088>), keeps its whole output, drops variables without a value, and
//! panics on a token with a line feed. This module runs the plugin once when credentials are needed and limits its
//! output.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use http::HeaderValue;
use jiff::Timestamp;
use kube::config::{ExecConfig, ExecInteractiveMode};
use rustls::sign::CertifiedKey;
use serde::Deserialize;
use serde_json::json;

use super::identity;
use crate::net::http::bearer;

/// Limit of the output of a plugin.
const OUTPUT: u64 = 1 << 20;
/// Bytes kept from the end of standard error for the error message.
const STDERR: usize = 16 << 10;

/// Held by the plugin that may prompt: the terminal belongs to the process, whose connections renew their credentials
/// independently.
static TERMINAL: Mutex<()> = Mutex::new(());
/// The protocol versions that kubectl supports.
pub(super) const VERSIONS: [&str; 2] = [
    "client.authentication.k8s.io/v1",
    "client.authentication.k8s.io/v1beta1",
];

/// The command line and environment of a plugin. It has no `Debug`: variables hold secrets.
#[derive(Clone)]
pub(super) struct Plugin {
    command: String,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    version: String,
    is_interactive: bool,
    info: String,
}

/// Credentials that a plugin printed.
pub(super) struct Credentials {
    pub(super) authorization: Option<HeaderValue>,
    pub(super) identity: Option<Arc<CertifiedKey>>,
    pub(super) expires: Option<Timestamp>,
}

/// The failure of a plugin. It holds nothing of its standard output.
#[derive(Debug, thiserror::Error)]
#[error("the credential plugin `{command}` {failure}")]
pub struct PluginError {
    pub command: String,
    pub failure: PluginFailure,
}

/// The part of a [`PluginError`] that follows the plugin's name.
#[derive(Debug, thiserror::Error)]
pub enum PluginFailure {
    #[error("cannot be run: {0}")]
    Run(io::Error),
    #[error("printed more than {} MiB", OUTPUT >> 20)]
    TooMuch,
    #[error("failed ({status})")]
    Failed { status: ExitStatus, stderr: String },
    #[error("printed something that is not an ExecCredential object")]
    NotCredentials,
    #[error("is configured for {expected} and returned {found:?}")]
    Version { expected: String, found: String },
    #[error("returned neither a token nor a client certificate")]
    Nothing,
    #[error("returned a client certificate without its key, or a key without its certificate")]
    Half,
    #[error("returned a token with a line feed or another character that a header cannot hold")]
    Token,
    #[error("returned an expirationTimestamp that is not an RFC 3339 timestamp")]
    Expiration,
    #[error("returned an invalid client certificate: {0}")]
    Identity(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    kind: Option<String>,
    api_version: Option<String>,
    status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    expiration_timestamp: Option<String>,
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
}

impl Plugin {
    /// Prepares a plugin from the user's entry.
    pub(super) fn new(exec: &ExecConfig) -> Self {
        let variables = exec.env.iter().flatten().filter_map(|entry| {
            let value = entry.get("value").cloned().unwrap_or_default();
            Some((entry.get("name")?.clone(), value))
        });
        let version = exec.api_version.clone().unwrap_or_default();
        let is_interactive = exec.interactive_mode != Some(ExecInteractiveMode::Never);
        let mut spec = json!({ "interactive": is_interactive });
        if let Some(cluster) = exec.cluster.as_ref().filter(|_| exec.provide_cluster_info) {
            spec["cluster"] = json!(cluster);
            // client-go writes it even if it is absent.
            spec["cluster"]["config"] = json!(cluster.config);
        }
        let info = json!({ "kind": "ExecCredential", "apiVersion": version, "spec": spec });
        Self {
            command: exec.command.clone().unwrap_or_default(),
            arguments: exec.args.clone().unwrap_or_default(),
            variables: variables.collect(),
            version,
            is_interactive,
            info: info.to_string(),
        }
    }

    /// Returns whether the plugin may prompt at the terminal.
    pub(super) fn is_interactive(&self) -> bool {
        self.is_interactive
    }

    /// Runs the plugin once and waits for it.
    pub(super) fn run(&self) -> Result<Credentials, PluginError> {
        self.output()
            .and_then(|printed| self.parse(&printed))
            .map_err(|failure| PluginError {
                command: self.command.clone(),
                failure,
            })
    }

    fn output(&self) -> Result<Vec<u8>, PluginFailure> {
        let mut command = Command::new(&self.command);
        command
            .args(&self.arguments)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .env("KUBERNETES_EXEC_INFO", &self.info)
            .stdout(Stdio::piped());
        if self.is_interactive {
            command.stdin(Stdio::inherit()).stderr(Stdio::inherit());
        } else {
            command.stdin(Stdio::null()).stderr(Stdio::piped());
        }
        let _terminal = self
            .is_interactive
            .then(|| TERMINAL.lock().unwrap_or_else(PoisonError::into_inner));
        let mut child = command.spawn().map_err(PluginFailure::Run)?;
        let stderr = child
            .stderr
            .take()
            .map(|pipe| thread::spawn(move || read_tail(pipe)));
        let mut printed = Vec::new();
        let read = match child.stdout.take() {
            Some(pipe) => pipe.take(OUTPUT + 1).read_to_end(&mut printed),
            None => Ok(0),
        };
        if read.is_err() || printed.len() as u64 > OUTPUT {
            // It may have exited already.
            let _ = child.kill();
            let _ = child.wait();
            return Err(read.map_or_else(PluginFailure::Run, |_| PluginFailure::TooMuch));
        }
        let status = child.wait().map_err(PluginFailure::Run)?;
        let stderr = stderr.and_then(|thread| thread.join().ok()).unwrap_or_default();
        if !status.success() {
            return Err(PluginFailure::Failed { status, stderr });
        }
        Ok(printed)
    }

    fn parse(&self, printed: &[u8]) -> Result<Credentials, PluginFailure> {
        // client-go accepts YAML, which some plugins print.
        let answer: serde_json::Value = serde_json::from_slice(printed)
            .or_else(|_| serde_saphyr::from_slice(printed))
            .map_err(|_| PluginFailure::NotCredentials)?;
        let answer = Answer::deserialize(answer).map_err(|_| PluginFailure::NotCredentials)?;
        let found = answer.api_version.unwrap_or_default();
        if answer.kind.as_deref() != Some("ExecCredential") {
            return Err(PluginFailure::NotCredentials);
        }
        if found != self.version {
            let expected = self.version.clone();
            return Err(PluginFailure::Version { expected, found });
        }
        let status = answer.status.ok_or(PluginFailure::Nothing)?;
        // As in client-go, an empty text counts as absent.
        let given = |field: Option<String>| field.filter(|text| !text.trim().is_empty());
        let authorization = given(status.token).map(|token| bearer(token.trim()).ok_or(PluginFailure::Token));
        let identity = match (
            given(status.client_certificate_data),
            given(status.client_key_data),
        ) {
            (Some(certificate), Some(key)) => Some(
                identity::certified_key(certificate.as_bytes(), key.as_bytes())
                    .map_err(PluginFailure::Identity)?,
            ),
            (None, None) => None,
            _ => return Err(PluginFailure::Half),
        };
        if authorization.is_none() && identity.is_none() {
            return Err(PluginFailure::Nothing);
        }
        let expires = given(status.expiration_timestamp).map(|time| time.parse());
        Ok(Credentials {
            authorization: authorization.transpose()?,
            identity,
            expires: expires.transpose().map_err(|_| PluginFailure::Expiration)?,
        })
    }
}

/// Reads to the end and returns the last part.
fn read_tail(mut pipe: impl Read) -> String {
    let mut kept = VecDeque::new();
    let mut chunk = [0; 4096];
    while let Ok(read @ 1..) = pipe.read(&mut chunk) {
        kept.extend(&chunk[..read]);
        let excess = kept.len().saturating_sub(STDERR);
        kept.drain(..excess);
    }
    let kept: Vec<u8> = kept.into();
    String::from_utf8_lossy(&kept).into_owned()
}
