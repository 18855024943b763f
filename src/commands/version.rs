//! `version`: prints the versions of this program and of the cluster.

use super::session::{Session, VERSION};
use super::{Outcome, print};
use crate::exit::Exit;
use crate::result::Problem;

pub(super) async fn version(client: bool, session: &Session) -> Outcome {
    if client {
        return Ok(print(|report| report.version(VERSION, None)));
    }
    let server = match session.connect(None) {
        Ok(connection) => connection.cluster.version().await.map_err(Problem::from),
        Err(problem) => Err(problem),
    };
    Ok(Box::new(move |report| {
        report.version(VERSION, server.as_deref().ok());
        match server {
            Ok(_) => Exit::Ok,
            Err(problem) => report.fail(&problem),
        }
    }))
}
