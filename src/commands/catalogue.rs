//! Commands that need no cluster: scenarios, alerts, images, schemas, settings.

use std::path::PathBuf;

use super::session::Session;
use super::{Outcome, Print, print, sources};
use crate::cli::Rights;
use crate::defender::alerts;
use crate::error::Error;
use crate::exit::Exit;
use crate::manifest::rights::{self, Right, Scope};
use crate::plan::{DEFAULT_NAMESPACE, Options};
use crate::scenario::catalogue;
use crate::schema::{self, Schema};

pub(super) fn list() -> Print {
    print(|report| report.list(catalogue::all()))
}

pub(super) fn describe(scenario: String) -> Outcome {
    let scenarios = sources::read(&sources::built_in([scenario]))?;
    Ok(print(move |report| {
        for scenario in &scenarios {
            report.describe(scenario);
        }
    }))
}

pub(super) fn alerts() -> Print {
    print(|report| report.alerts(alerts::all(), catalogue::all()))
}

pub(super) fn lint(files: &[PathBuf]) -> Print {
    let linted = crate::lint::lint(files);
    Box::new(move |report| {
        report.lint(&linted);
        let is_valid = linted.iter().all(|file| file.errors.is_empty());
        if is_valid { Exit::Ok } else { Exit::Usage }
    })
}

pub(super) fn images(options: Options) -> Print {
    print(move |report| report.images(&options.attacker_image, &options.victim_image))
}

pub(super) fn schema(name: Schema) -> Print {
    print(move |report| report.schema(&schema::schema(name)))
}

pub(super) fn rights(request: Rights, namespace: Option<String>) -> Outcome {
    let sources = if request.scenarios.is_empty() {
        sources::all()
    } else {
        sources::built_in(request.scenarios)
    };
    let scenarios = sources::read(&sources)?;
    let namespace = namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
    let scope = if request.namespace_scoped {
        Scope::Namespace(namespace)
    } else {
        Scope::Cluster(namespace)
    };
    let mut rights = rights::of_scenarios(&scenarios, scope.namespace_use());
    rights.extend(request.cover.then_some(rights::LIST_NODES));
    let in_cluster = |right: &&Right| !right.is_namespaced && !right.is_on_namespaces();
    if let Some(right) = rights
        .iter()
        .find(in_cluster)
        .filter(|_| request.namespace_scoped)
    {
        return Err(Error::RoleTooNarrow {
            verb: right.verb,
            resource: right.qualified(),
        });
    }
    Ok(print(move |report| {
        report.rights(&rights, &scope, &request.subject);
    }))
}

pub(super) fn settings(session: &Session) -> Print {
    let (settings, file) = (session.settings.clone(), session.config_path.clone());
    print(move |report| {
        report.notice(&match file {
            Some(path) if path.exists() => format!("file: {}", path.display()),
            Some(path) => format!("file: {} (does not exist)", path.display()),
            None => "file: none, for lack of a home directory".to_owned(),
        });
        report.settings(&settings);
    })
}
