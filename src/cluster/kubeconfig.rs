//! Which entries of a kubeconfig are meant: the files that are read and merged, and the context, cluster and
//! user found in them.
//!
//! It knows the flags that choose an entry (`--kubeconfig`, `--context`, `--cluster`, `--user`) and whether
//! there is a `--server`. What the other flags put over an entry, and what becomes of it, is for
//! [`super::connect`].

use std::io;
use std::path::{Path, PathBuf};

use kube::config::{AuthInfo, Cluster, Kubeconfig, KubeconfigError};

use super::connect::{ConnectError, ConnectOptions, Environment};
use crate::untrusted;

/// The entries that a connection is made of, before and after the flags.
#[derive(Default)]
pub(super) struct Chosen {
    pub(super) context: Option<String>,
    pub(super) cluster_name: Option<String>,
    pub(super) user_name: Option<String>,
    pub(super) cluster: Cluster,
    pub(super) user: AuthInfo,
    pub(super) in_cluster: bool,
}

/// The merged kubeconfig, or `None` if there is no entry in any; and the places looked at.
pub(super) fn load(
    options: &ConnectOptions,
    environment: &Environment,
) -> Result<(Option<Kubeconfig>, Vec<String>), ConnectError> {
    if let Some(path) = &options.kubeconfig {
        return match read(path)? {
            Some(kubeconfig) => Ok((Some(kubeconfig), Vec::new())),
            None => Err(ConnectError::KubeconfigMissing { path: path.clone() }),
        };
    }
    let listed: Vec<PathBuf> = environment.get("KUBECONFIG").map_or(Vec::new(), |list| {
        std::env::split_paths(list)
            .filter(|path| !path.as_os_str().is_empty())
            .collect()
    });
    let (origin, files) = if listed.is_empty() {
        let default = environment
            .home
            .as_ref()
            .map(|home| home.join(".kube").join("config"));
        ("", default.into_iter().collect())
    } else {
        ("KUBECONFIG: ", listed)
    };
    let mut merged = Kubeconfig::default();
    let mut looked = Vec::new();
    if files.is_empty() {
        looked.push("~/.kube/config (there is no home directory)".to_owned());
    }
    for path in &files {
        let state = match read(path)? {
            None => "does not exist",
            Some(kubeconfig) => {
                merged = merged.merge(kubeconfig).map_err(|error| unusable(path, &error))?;
                "has no entries"
            }
        };
        looked.push(format!("{origin}{} ({state})", path.display()));
    }
    let blank = merged.current_context.is_none()
        && merged.contexts.is_empty()
        && merged.clusters.is_empty()
        && merged.auth_infos.is_empty();
    Ok(((!blank).then_some(merged), looked))
}

/// A kind of entry that a flag can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Of `--context`.
    Context,
    /// Of `--cluster`.
    Cluster,
    /// Of `--user`.
    User,
}

/// The names of all such entries.
///
/// # Errors
/// When a file cannot be used.
pub fn names(
    entry: Entry,
    options: &ConnectOptions,
    environment: &Environment,
) -> Result<Vec<String>, ConnectError> {
    let kubeconfig = load(options, environment)?.0.unwrap_or_default();
    Ok(match entry {
        Entry::Context => kubeconfig.contexts.into_iter().map(|entry| entry.name).collect(),
        Entry::Cluster => kubeconfig.clusters.into_iter().map(|entry| entry.name).collect(),
        Entry::User => kubeconfig
            .auth_infos
            .into_iter()
            .map(|entry| entry.name)
            .collect(),
    })
}

/// One file, its relative paths resolved against its directory; `None` if it is not there.
fn read(path: &Path) -> Result<Option<Kubeconfig>, ConnectError> {
    match Kubeconfig::read_from(path) {
        Ok(mut kubeconfig) => {
            // An empty value must not hide that of the next file.
            drop_empty(&mut kubeconfig.current_context);
            Ok(Some(kubeconfig))
        }
        Err(KubeconfigError::ReadConfig(error, _)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unusable(path, &error)),
    }
}

fn unusable(path: &Path, error: &KubeconfigError) -> ConnectError {
    let reason = match error {
        KubeconfigError::ReadConfig(error, _) => error.to_string(),
        // With its snippet, the parser's error would show lines of the file, and what is in them.
        KubeconfigError::Parse(error) => error.without_snippet().to_string(),
        other => other.to_string(),
    };
    ConnectError::Kubeconfig {
        path: path.to_owned(),
        reason: untrusted::lines(&reason),
    }
}

/// Finds the context, and by it the cluster and the user.
pub(super) fn choose(options: &ConnectOptions, kubeconfig: Kubeconfig) -> Result<Chosen, ConnectError> {
    let Kubeconfig {
        clusters,
        auth_infos,
        contexts,
        current_context,
        ..
    } = kubeconfig;
    let unknown = |kind, name: &str, known| ConnectError::Unknown {
        kind,
        name: name.to_owned(),
        known,
    };
    let context_name = options.context.clone().or(current_context);
    let context = match &context_name {
        Some(name) => {
            let found = contexts.iter().find(|entry| entry.name == *name);
            let found = found.and_then(|entry| entry.context.clone());
            Some(found.ok_or_else(|| {
                unknown(
                    "context",
                    name,
                    contexts.iter().map(|entry| entry.name.clone()).collect(),
                )
            })?)
        }
        None if options.server.is_some() || options.cluster.is_some() => None,
        None => {
            let known = contexts.into_iter().map(|entry| entry.name).collect();
            return Err(ConnectError::NoCurrentContext { known });
        }
    };
    let of_context = context.as_ref().map(|context| context.cluster.clone());
    let cluster_name = options
        .cluster
        .clone()
        .or(of_context)
        .filter(|name| !name.is_empty());
    let of_context = context.as_ref().and_then(|context| context.user.clone());
    let user_name = options
        .user
        .clone()
        .or(of_context)
        .filter(|name| !name.is_empty());

    let cluster = cluster_name.as_ref().and_then(|name| {
        let found = clusters.iter().find(|entry| entry.name == *name);
        found.and_then(|entry| entry.cluster.clone())
    });
    let cluster = match (cluster, &cluster_name) {
        (Some(cluster), _) => cluster,
        // The flag gives the one thing that is needed of the entry.
        (None, _) if options.server.is_some() && options.cluster.is_none() => Cluster::default(),
        (None, name) => {
            let known = clusters.into_iter().map(|entry| entry.name).collect();
            return Err(unknown("cluster", name.as_deref().unwrap_or_default(), known));
        }
    };
    let user = user_name.as_ref().and_then(|name| {
        let found = auth_infos.iter().find(|entry| entry.name == *name);
        found.map(|entry| entry.auth_info.clone().unwrap_or_default())
    });
    let user = match (user, &options.user) {
        (Some(user), _) => user,
        (None, Some(name)) => {
            let known = auth_infos.into_iter().map(|entry| entry.name).collect();
            return Err(unknown("user", name, known));
        }
        // kubectl connects without credentials when only the context names a user that is not there, and
        // set-ups with an authenticating proxy rely on it.
        (None, None) => AuthInfo::default(),
    };
    Ok(Chosen {
        context: context_name,
        cluster_name,
        user_name,
        cluster,
        user,
        in_cluster: false,
    })
}

pub(super) fn drop_empty(field: &mut Option<String>) {
    if field.as_ref().is_some_and(|text| text.trim().is_empty()) {
        *field = None;
    }
}
