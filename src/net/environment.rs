//! The process environment as a value, so that tests can pass their own.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};
use std::path::PathBuf;

const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The process environment. It has no `Debug`: variables hold secrets.
#[derive(Clone, Default)]
pub struct Environment {
    /// The environment variables, which programs started by this one inherit.
    pub variables: BTreeMap<OsString, OsString>,
    /// The user's home directory.
    pub home: Option<PathBuf>,
    /// Whether standard input is a terminal, so that credential plugins can prompt.
    pub stdin_is_terminal: bool,
    /// The directory in which a pod finds its token and certificate authority.
    pub service_account: PathBuf,
}

impl Environment {
    /// Reads the environment of this process.
    #[must_use]
    pub fn from_process() -> Self {
        Self {
            variables: std::env::vars_os().collect(),
            home: std::env::home_dir().filter(|home| !home.as_os_str().is_empty()),
            stdin_is_terminal: io::stdin().is_terminal(),
            service_account: SERVICE_ACCOUNT.into(),
        }
    }

    /// Returns the value of a variable, or `None` if it is unset or empty.
    pub(crate) fn get(&self, name: &str) -> Option<&OsStr> {
        let exact = self.variables.get(OsStr::new(name));
        // On Windows `Path` is `PATH`.
        let found = exact.or_else(|| {
            let mut entries = self.variables.iter().filter(|_| cfg!(windows));
            entries
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value)
        });
        found.map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// Returns the value of a variable, or `None` if it is unset, empty or not Unicode.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.get(name).and_then(OsStr::to_str).map(str::to_owned)
    }
}

/// An environment that consists of variables.
impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        let variables = variables.into_iter();
        Self {
            variables: variables.map(|(key, value)| (key.into(), value.into())).collect(),
            ..Self::default()
        }
    }
}
