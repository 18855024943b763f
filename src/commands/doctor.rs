//! `doctor`: checks whether scenarios can run in a cluster and whether their alerts can be raised.

use super::session::Session;
use super::{Outcome, sources};
use crate::cli::Doctor;
use crate::doctor;
use crate::error::Error;
use crate::plan::Plan;
use crate::result::DoctorResult;

pub(super) async fn doctor(request: Doctor, session: &Session) -> Outcome {
    let plan = plan(&request, session)?;
    let result = check(&request, plan, session).await?;
    Ok(Box::new(move |report| {
        report.doctor(&result);
        result.exit
    }))
}

/// Plans the run whose prerequisites are checked.
pub(super) fn plan(request: &Doctor, session: &Session) -> Result<Plan, Error> {
    let sources = match &request.scenarios {
        ids if ids.is_empty() => sources::all(),
        ids => sources::built_in(ids.iter().cloned()),
    };
    let options = request.settings.clone().options(false);
    sources::plan(&sources, options, session.namespace.clone())
}

/// Checks one cluster.
///
/// # Errors
/// Fails if the kubeconfig, the flags or the credentials cannot be used.
pub(super) async fn check(request: &Doctor, plan: Plan, session: &Session) -> Result<DoctorResult, Error> {
    let connection = session.connect(None)?;
    let azure = (request.azure.options(), connection.marks());
    let events = &session.events;
    Ok(doctor::doctor(connection.cluster, plan, connection.info, azure, events).await)
}
