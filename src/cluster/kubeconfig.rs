//! Reads and merges kubeconfigs, and selects the context, cluster and user.
//!
//! This module handles the flags that select an entry (`--kubeconfig`, `--context`, `--cluster`, `--user`, and the
//! presence of `--server`); [`super::connect`] applies the other flags.

use std::collections::HashSet;
use std::io;
use std::path::{MAIN_SEPARATOR, Path, PathBuf};

use kube::config::{AuthInfo, Cluster, Context};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::connect::{ConnectError, ConnectOptions};
use crate::files;
use crate::net::Environment;
use crate::untrusted;

/// The entries of a connection, before or after flags are applied.
#[derive(Default)]
pub(super) struct Selection {
    pub(super) context: Option<String>,
    pub(super) cluster_name: Option<String>,
    pub(super) user_name: Option<String>,
    pub(super) cluster: Cluster,
    pub(super) user: AuthInfo,
    pub(super) in_cluster: bool,
}

/// A kubeconfig, possibly merged from several files.
#[derive(Default)]
pub(super) struct Kubeconfig {
    current_context: Option<String>,
    contexts: Vec<Named<Context>>,
    clusters: Vec<Named<Cluster>>,
    users: Vec<Named<AuthInfo>>,
}

/// An entry, or the reason why it is invalid, which is an error only if the entry is selected.
struct Named<T> {
    name: String,
    entry: Result<T, ConnectError>,
}

impl Kubeconfig {
    /// Adds the entries of `next` that this kubeconfig does not have.
    fn merge(mut self, next: Self) -> Self {
        fn append<T>(known: &mut Vec<Named<T>>, next: Vec<Named<T>>) {
            let names: HashSet<String> = known.iter().map(|entry| entry.name.clone()).collect();
            known.extend(next.into_iter().filter(|entry| !names.contains(&entry.name)));
        }
        self.current_context = self.current_context.or(next.current_context);
        append(&mut self.contexts, next.contexts);
        append(&mut self.clusters, next.clusters);
        append(&mut self.users, next.users);
        self
    }
}

/// Returns the merged kubeconfig, or `None` if no file has an entry; and the sources tried.
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
    let mut tried = Vec::new();
    if files.is_empty() {
        tried.push("~/.kube/config (no home directory)".to_owned());
    }
    for path in &files {
        let state = match read(path)? {
            None => "does not exist",
            Some(kubeconfig) => {
                merged = merged.merge(kubeconfig);
                "has no entries"
            }
        };
        tried.push(format!("{origin}{} ({state})", path.display()));
    }
    let blank = merged.current_context.is_none()
        && merged.contexts.is_empty()
        && merged.clusters.is_empty()
        && merged.users.is_empty();
    Ok(((!blank).then_some(merged), tried))
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

/// Returns the names of all entries of one kind.
///
/// # Errors
/// If a file cannot be read or parsed.
pub fn names(
    entry: Entry,
    options: &ConnectOptions,
    environment: &Environment,
) -> Result<Vec<String>, ConnectError> {
    let kubeconfig = load(options, environment)?.0.unwrap_or_default();
    Ok(match entry {
        Entry::Context => names_of(kubeconfig.contexts),
        Entry::Cluster => names_of(kubeconfig.clusters),
        Entry::User => names_of(kubeconfig.users),
    })
}

/// Reads a file and resolves its relative paths; returns `None` if it does not exist.
///
/// The client library panics on torn UTF-16, takes the first of two entries with one name, and refuses the whole file
/// for absent and null fields (<https://github.com/kube-rs/kube/issues/1076>) or repeated keys, which client-go accepts.
fn read(path: &Path) -> Result<Option<Kubeconfig>, ConnectError> {
    let content = match files::read(path) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(invalid(path, &error.to_string())),
    };
    let text = files::decode(&content).map_err(|error| invalid(path, &error.to_string()))?;
    let options = serde_saphyr::options! { duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(&text, options)
        // The snippet of the error would show lines of the file, and the secrets in them.
        .map_err(|error| invalid(path, &error.without_snippet().to_string()))?;
    // As in kubectl, the first document is the kubeconfig.
    let document = documents.into_iter().next().unwrap_or_default();
    parse(document, path).map(Some)
}

fn invalid(path: &Path, reason: &str) -> ConnectError {
    ConnectError::Kubeconfig {
        path: path.to_owned(),
        reason: untrusted::lines(reason),
    }
}

fn parse(mut document: Value, path: &Path) -> Result<Kubeconfig, ConnectError> {
    remove_nulls(&mut document);
    let mut document = match document {
        Value::Null => Map::new(),
        Value::Object(document) => document,
        _ => return Err(invalid(path, "it is not a kubeconfig")),
    };
    for (key, expected) in [("kind", "Config"), ("apiVersion", "v1")] {
        match document.get(key) {
            None => {}
            Some(Value::String(found)) if found.is_empty() || found == expected => {}
            Some(_) => {
                let reason = format!("it is not a kubeconfig: its {key} is not {expected}");
                return Err(invalid(path, &reason));
            }
        }
    }
    let current_context = match document.remove("current-context") {
        None => None,
        // An empty value does not hide that of the next file.
        Some(Value::String(name)) => Some(name).filter(|name| !name.trim().is_empty()),
        Some(_) => return Err(invalid(path, "current-context: expected a string")),
    };
    Ok(Kubeconfig {
        current_context,
        contexts: entries(&mut document, "contexts", "context", path)?,
        clusters: entries(&mut document, "clusters", "cluster", path)?,
        users: entries(&mut document, "users", "user", path)?,
    })
}

/// Parses the entries of a list such as `users`, whose content has the key `user`.
fn entries<T: DeserializeOwned>(
    document: &mut Map<String, Value>,
    list: &str,
    key: &str,
    path: &Path,
) -> Result<Vec<Named<T>>, ConnectError> {
    let found = match document.remove(list) {
        None => Vec::new(),
        Some(Value::Array(found)) => found,
        Some(_) => return Err(invalid(path, &format!("{list}: expected a list"))),
    };
    let mut names = HashSet::new();
    let mut entries = Vec::with_capacity(found.len());
    for (at, entry) in found.into_iter().enumerate() {
        let Value::Object(mut entry) = entry else {
            return Err(invalid(path, &format!("{list}[{at}]: expected a mapping")));
        };
        let name = match entry.remove("name") {
            None => String::new(),
            Some(Value::String(name)) => name,
            Some(_) => return Err(invalid(path, &format!("{list}[{at}].name: expected a string"))),
        };
        if !names.insert(name.clone()) {
            let reason = format!("{list}: duplicate name {:?}", untrusted::name(&name));
            return Err(invalid(path, &reason));
        }
        let content = entry.remove(key).unwrap_or_else(|| Value::Object(Map::new()));
        let content = normalize(content, key, path);
        let entry = serde_path_to_error::deserialize(content).map_err(|error| {
            let field = format!("{list}[{at}].{key}.{}", error.path());
            invalid(
                path,
                &format!("{field}: {}", without_value(&error.inner().to_string())),
            )
        });
        entries.push(Named { name, entry });
    }
    Ok(entries)
}

/// Removes null values, which client-go reads as absent.
fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(remove_nulls);
        }
        Value::Array(items) => {
            items.retain(|item| !item.is_null());
            items.iter_mut().for_each(remove_nulls);
        }
        _ => {}
    }
}

/// Converts an entry to the form of the client library: removes empty texts, which mean "not set", adds required
/// fields, and makes paths absolute.
fn normalize(mut content: Value, key: &str, path: &Path) -> Value {
    let is_set = |value: &Value| value.as_str().is_none_or(|text| !text.trim().is_empty());
    let Value::Object(fields) = &mut content else {
        return content;
    };
    fields.retain(|_, value| is_set(value));
    if let Some(Value::Array(extensions)) = fields.get_mut("extensions") {
        extensions.retain(|entry| entry["name"].is_string() && !entry["extension"].is_null());
    }
    if key == "context" {
        fields.entry("cluster").or_insert_with(|| "".into());
    }
    if let Some(Value::Object(provider)) = fields.get_mut("auth-provider") {
        provider.entry("name").or_insert_with(|| "".into());
    }
    let directory = path.parent().unwrap_or(Path::new(""));
    let absolute = |value: &mut Value| {
        let joined = value.as_str().filter(|text| Path::new(text).is_relative());
        let joined = joined.and_then(|text| directory.join(text).to_str().map(str::to_owned));
        if let Some(joined) = joined {
            *value = joined.into();
        }
    };
    for file in [
        "certificate-authority",
        "client-certificate",
        "client-key",
        "tokenFile",
    ] {
        if let Some(value) = fields.get_mut(file) {
            absolute(value);
        }
    }
    if let Some(Value::Object(exec)) = fields.get_mut("exec") {
        exec.retain(|_, value| is_set(value));
        // A command without a separator is searched on PATH.
        if let Some(command) = exec.get_mut("command")
            && command.as_str().is_some_and(|text| text.contains(MAIN_SEPARATOR))
        {
            absolute(command);
        }
    }
    content
}

/// Removes the value from a type error, since it may be a secret.
fn without_value(error: &str) -> String {
    match (error.find(['`', '"']), error.rfind(", expected")) {
        (Some(value), Some(expected)) if value < expected => {
            format!("{}{}", error[..value].trim_end(), &error[expected..])
        }
        _ => error.to_owned(),
    }
}

/// Selects the context, and by it the cluster and the user.
pub(super) fn select(options: &ConnectOptions, kubeconfig: Kubeconfig) -> Result<Selection, ConnectError> {
    let Kubeconfig {
        current_context,
        contexts,
        clusters,
        users,
    } = kubeconfig;
    let context_name = options.context.clone().or(current_context);
    let context = match &context_name {
        Some(name) => Some(find(contexts, name).map_err(unknown("context", name))??),
        None if options.server.is_some() || options.cluster.is_some() => None,
        None => {
            let known = names_of(contexts);
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

    let found = match &cluster_name {
        Some(name) => find(clusters, name),
        None => Err(names_of(clusters)),
    };
    let cluster = match found {
        Ok(cluster) => cluster?,
        // The flag replaces the only required field of the entry.
        Err(_) if options.server.is_some() && options.cluster.is_none() => Cluster::default(),
        Err(known) => {
            return Err(unknown("cluster", cluster_name.as_deref().unwrap_or_default())(
                known,
            ));
        }
    };
    let user = match (&user_name, &options.user) {
        (Some(name), flag) => match find(users, name) {
            Ok(user) => user?,
            Err(known) if flag.is_some() => return Err(unknown("user", name)(known)),
            // kubectl connects without credentials if the context refers to a missing user; setups with an
            // authenticating proxy rely on it.
            Err(_) => AuthInfo::default(),
        },
        (None, _) => AuthInfo::default(),
    };
    Ok(Selection {
        context: context_name,
        cluster_name,
        user_name,
        cluster,
        user,
        in_cluster: false,
    })
}

/// Returns the entry with this name, or the names of all.
fn find<T>(entries: Vec<Named<T>>, name: &str) -> Result<Result<T, ConnectError>, Vec<String>> {
    let (mut found, others): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.name == name);
    match found.pop() {
        Some(found) => Ok(found.entry),
        None => Err(names_of(others)),
    }
}

fn names_of<T>(entries: Vec<Named<T>>) -> Vec<String> {
    entries.into_iter().map(|entry| entry.name).collect()
}

fn unknown(kind: &'static str, name: &str) -> impl FnOnce(Vec<String>) -> ConnectError + use<> {
    let name = name.to_owned();
    move |known| ConnectError::Unknown { kind, name, known }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `content` as the file `dir/config`.
    fn read_content(content: &[u8]) -> Result<Kubeconfig, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        std::fs::write(&path, content).unwrap();
        match read(&path) {
            Ok(kubeconfig) => Ok(kubeconfig.unwrap()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn entry_with_type_error_is_refused_only_if_selected() {
        let text = "users:\n- {name: bad, user: {token: 12345}}\n- {name: good, user: {token: t}}\n";
        let kubeconfig = read_content(text.as_bytes()).unwrap();
        let (bad, good): (Vec<_>, Vec<_>) = kubeconfig.users.into_iter().partition(|user| user.name == "bad");
        assert!(good[0].entry.is_ok());
        let error = bad[0].entry.as_ref().unwrap_err().to_string();
        assert!(
            error.contains("users[0].user.token: invalid type: integer, expected"),
            "{error}"
        );
        assert!(!error.contains("12345"), "{error}");
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let text = "
clusters: [{name: c, cluster: {certificate-authority: ca, extensions: [{name: x}, {name: w, extension: {}}]}}]
users:
- {name: u, user: {client-certificate: '', client-key: /abs, tokenFile: sub/t, exec: {command: ./p, interactiveMode: ''}}}
- {name: v, user: {exec: {command: p}}}
";
        let kubeconfig = read_content(text.as_bytes()).unwrap();
        let cluster = kubeconfig.clusters[0].entry.as_ref().unwrap();
        assert!(cluster.certificate_authority.as_ref().unwrap().ends_with("/ca"));
        assert_eq!(cluster.extensions.as_ref().unwrap().len(), 1);
        let user = kubeconfig.users[0].entry.as_ref().unwrap();
        assert_eq!(user.client_certificate, None);
        assert_eq!(user.client_key.as_deref(), Some("/abs"));
        assert!(user.token_file.as_ref().unwrap().starts_with('/'));
        let exec = user.exec.as_ref().unwrap();
        assert!(exec.command.as_ref().unwrap().starts_with('/') && exec.interactive_mode.is_none());
        let other = kubeconfig.users[1].entry.as_ref().unwrap();
        assert_eq!(other.exec.as_ref().unwrap().command.as_deref(), Some("p"));
    }

    #[test]
    fn malformed_file_is_refused_with_reason() {
        for (content, reason) in [
            (&b"\xff\xfea\0b"[..], "its last character is torn"),
            (b"\xfe\xff\0a\0", "its last character is torn"),
            (b"\xff\xfe\0\xd8", "not valid UTF-16"),
            (b"a: \xff", "not valid UTF-8"),
            (b"text", "it is not a kubeconfig"),
            (b"[a]", "it is not a kubeconfig"),
            (b"kind: Pod", "its kind is not Config"),
            (b"apiVersion: v2", "its apiVersion is not v1"),
            (b"users: {}", "users: expected a list"),
            (b"users: [a]", "users[0]: expected a mapping"),
            (b"users: [{name: 7}]", "users[0].name: expected a string"),
            (b"users: [{name: a}, {name: a}]", "users: duplicate name \"a\""),
            (b"contexts: [{context: {}}, {}]", "contexts: duplicate name \"\""),
            (b"current-context: [x]", "current-context: expected a string"),
        ] {
            let Err(error) = read_content(content) else {
                panic!("{content:?} was read");
            };
            assert!(error.contains(reason), "{error}");
        }
        for content in [
            &b""[..],
            b"# nothing",
            b"null",
            b"users: null",
            b"---\n",
            b"\xef\xbb\xbf",
            b"\xff\xfe",
        ] {
            assert!(read_content(content).is_ok(), "{content:?}");
        }
    }
}
