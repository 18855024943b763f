//! Fixtures of the unit tests of connecting.

use std::ffi::OsString;
use std::path::PathBuf;

use tempfile::TempDir;

use super::{ConnectError, ConnectOptions, resolve};
use crate::net::Environment;

pub(super) const TWO: &str = "
apiVersion: v1
kind: Config
current-context: blue
clusters:
- {name: b, cluster: {server: 'https://b.example.test:6443', certificate-authority-data: ''}}
- {name: r, cluster: {server: r.example.test, insecure-skip-tls-verify: true, tls-server-name: inner}}
users:
- {name: bob, user: {token: bob-token, as: '', as-groups: []}}
- {name: ann, user: {tokenFile: token, client-certificate: sub/ann.crt, client-key: sub/ann.key}}
contexts:
- {name: blue, context: {cluster: b, user: bob, namespace: shop}}
- {name: red, context: {cluster: r, user: ann}}
- {name: torn, context: {cluster: gone, user: gone}}
- {name: anonymous, context: {cluster: b, user: gone}}
";

/// Creates a home directory whose `~/.kube/config` has `content`.
pub(super) fn home(content: &str) -> (TempDir, Environment) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join(".kube")).unwrap();
    write(&directory, ".kube/config", content);
    let environment = Environment {
        home: Some(directory.path().to_owned()),
        ..Environment::default()
    };
    (directory, environment)
}

pub(super) fn write(directory: &TempDir, name: &str, content: &str) -> PathBuf {
    let path = directory.path().join(name);
    std::fs::write(&path, content).unwrap();
    path
}

pub(super) fn set(environment: &mut Environment, name: &str, value: impl Into<OsString>) {
    environment.variables.insert(name.into(), value.into());
}

pub(super) fn refused(options: &ConnectOptions, environment: &Environment) -> ConnectError {
    match resolve(options, environment) {
        Err(error) => error,
        Ok((_, target)) => panic!("resolved to {target:?}"),
    }
}

pub(super) fn options(change: impl FnOnce(&mut ConnectOptions)) -> ConnectOptions {
    let mut options = ConnectOptions::default();
    change(&mut options);
    options
}

#[expect(clippy::unnecessary_wraps, reason = "what the fields it fills take")]
pub(super) fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}
