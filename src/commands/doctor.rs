//! `doctor`: checks whether scenarios can run in a cluster and whether their alerts can be raised.

use super::session::Session;
use super::{Outcome, sources};
use crate::cli::Doctor;
use crate::doctor;

pub(super) async fn doctor(request: Doctor, session: &Session) -> Outcome {
    let sources = match request.scenarios {
        ids if ids.is_empty() => sources::all(),
        ids => sources::built_in(ids),
    };
    let plan = sources::plan(
        &sources,
        request.settings.options(false),
        session.namespace.clone(),
    )?;
    let connection = session.connect(None)?;
    let azure = (request.azure.options(), connection.marks());
    let result = doctor::doctor(connection.cluster, plan, connection.info, azure, &session.events).await;
    Ok(Box::new(move |report| {
        report.doctor(&result);
        result.exit
    }))
}
