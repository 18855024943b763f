//! What can be printed without a cluster: scenarios, alerts, images, schemas, settings.

use std::path::PathBuf;

use super::{Outcome, Print, print, sources};
use crate::cli::Source;
use crate::defender::alerts;
use crate::exit::Exit;
use crate::plan::Options;
use crate::report::Setting;
use crate::scenario::catalogue;
use crate::schema::{self, Schema};

pub(super) fn list() -> Print {
    print(|report| report.list(catalogue::all()))
}

pub(super) fn describe(source: Source) -> Outcome {
    let scenarios = sources::read(&[source])?;
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

pub(super) fn settings(settings: Vec<Setting>, file: Option<PathBuf>) -> Print {
    print(move |report| {
        report.notice(&match file {
            Some(path) if path.exists() => format!("file: {}", path.display()),
            Some(path) => format!("file: {} (does not exist)", path.display()),
            None => "file: none, for lack of a home directory".to_owned(),
        });
        report.settings(&settings);
    })
}
