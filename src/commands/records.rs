//! `history`, `report` and `handover`: the recorded runs of this machine.

use super::Outcome;
use super::session::Session;
use std::path::PathBuf;

use crate::cli::{self, RecordReport};
use crate::error::Error;
use crate::event::{Event, Events};
use crate::exit::Exit;
use crate::handover;
use crate::history::{self, History};
use crate::report::export;
use crate::result::{self, RunResult};

pub(super) fn history(request: &cli::History, session: &Session) -> Outcome {
    let mut records = History::of_user()?.all()?;
    let (namespace, context) = (session.namespace.as_ref(), session.context());
    records.runs.retain(|run| {
        namespace.is_none_or(|namespace| *namespace == run.namespace)
            && (context.is_none() || context == run.cluster.context.as_ref())
    });
    let compare = request.compare;
    Ok(Box::new(move |report| {
        if !compare {
            report.history(&records);
            return Exit::Ok;
        }
        let trends = result::trends(&records.runs);
        report.trends(&trends);
        report.unreadable(&records);
        let mut alerts = trends.iter().flat_map(|trend| &trend.alerts);
        if alerts.any(|alert| alert.is_regression) {
            Exit::AlertMissing
        } else {
            Exit::Ok
        }
    }))
}

pub(super) fn report(request: RecordReport, session: &Session) -> Outcome {
    let result = read(
        &Record::new(request.run, None),
        session.namespace.as_deref(),
        None,
    )?;
    let files = session.report.open_files(&request.report, None)?;
    Ok(Box::new(move |report| {
        report.run(&result);
        report.write_reports(&files, &result)
    }))
}

pub(super) fn handover(request: cli::Handover, session: &Session) -> Outcome {
    let record = Record::new(request.run, request.record.clone());
    let result = read(&record, session.namespace.as_deref(), None)?;
    let handover = handover::handover(&result, jiff::Timestamp::now());
    let files = session.report.open_files(&[], request.note.as_deref())?;
    Ok(Box::new(move |report| {
        report.handover(&handover, request.record.as_deref());
        let Some((path, file)) = request.note.as_ref().zip(files.note) else {
            return Exit::Ok;
        };
        match file.write(&export::render_handover(path, &handover), report) {
            Ok(()) => Exit::Ok,
            Err(error) => report.error(&error),
        }
    }))
}

/// A record of a run.
pub(super) enum Record {
    /// The last run on this machine.
    Last,
    /// A run on this machine, by its ID.
    Run(String),
    /// A file.
    File(PathBuf),
}

impl Record {
    pub fn new(run: Option<String>, file: Option<PathBuf>) -> Self {
        match (run, file) {
            (_, Some(file)) => Self::File(file),
            (Some(run), None) => Self::Run(run),
            (None, None) => Self::Last,
        }
    }
}

/// Reads a record. [`Record::Last`] is the last run in `namespace` and in `context`, if given.
pub(super) fn read(
    record: &Record,
    namespace: Option<&str>,
    context: Option<&str>,
) -> Result<RunResult, Error> {
    match record {
        Record::File(path) => history::read(path),
        Record::Run(run) => History::of_user()?.load(run),
        Record::Last => History::of_user()?.last(namespace, context),
    }
}

/// Saves a record. A failure is only a notice, because the run itself did not fail.
pub(super) fn keep(result: &RunResult, events: &Events) {
    if let Err(error) = History::of_user().and_then(|history| history.save(result)) {
        events.send(Event::Notice(error.to_string()));
    }
}
