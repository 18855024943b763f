//! `history` and `report`: runs that this machine has records of.

use super::Outcome;
use super::session::Session;
use crate::cli::Recorded;
use crate::event::{Event, Events};
use crate::exit::Exit;
use crate::history::{self, History};
use crate::report::ReportFile;
use crate::result::{Problem, RunResult};

pub(super) fn history(session: &Session) -> Outcome {
    let mut records = History::of_user()?.all()?;
    let (namespace, context) = (session.namespace.as_ref(), session.context());
    records.runs.retain(|run| {
        namespace.is_none_or(|namespace| *namespace == run.namespace)
            && (context.is_none() || context == run.cluster.context.as_ref())
    });
    Ok(Box::new(move |report| {
        report.history(&records);
        Exit::Ok
    }))
}

pub(super) fn report(record: &Recorded, files: &[ReportFile], session: &Session) -> Outcome {
    let result = read(record, session.namespace.as_deref())?;
    let files = session.report.open_files(files, None)?;
    Ok(Box::new(move |report| {
        report.run(&result);
        report.write_reports(&files, &result)
    }))
}

/// Reads a record. The last one is the last one of `namespace`, if that is given.
pub(super) fn read(record: &Recorded, namespace: Option<&str>) -> Result<RunResult, Problem> {
    match record {
        Recorded::File(path) => history::read(path),
        Recorded::Run(run) => History::of_user()?.load(run),
        Recorded::Last => History::of_user()?.last(namespace),
    }
}

/// Keeps a record. A failure to do so is a notice: the run itself did not fail.
pub(super) fn keep(result: &RunResult, events: &Events) {
    if let Err(problem) = History::of_user().and_then(|history| history.save(result)) {
        events.send(Event::Notice(problem.message));
    }
}
