//! `doctor`: whether scenarios can run here and their alerts be raised.

use super::session::Session;
use super::{Outcome, sources};
use crate::cli::Doctor;
use crate::doctor;

pub(super) async fn doctor(request: Doctor, session: &Session) -> Outcome {
    let plan = sources::plan(&request.scenarios, request.options, session.namespace.clone())?;
    let connection = session.connect(None)?;
    let azure = (request.azure, connection.marks());
    let result = doctor::doctor(connection.cluster, plan, connection.info, azure, &session.events).await;
    Ok(Box::new(move |report| {
        report.doctor(&result);
        result.exit
    }))
}
