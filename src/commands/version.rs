//! `version`: prints the versions of this program and of the cluster.

use super::session::{Session, VERSION};
use super::{Outcome, print};
use crate::error::Error;
use crate::exit::Exit;

pub(super) async fn version(client: bool, session: &Session) -> Outcome {
    if client {
        return Ok(print(|report| report.version(VERSION, None)));
    }
    let server = async { Ok::<_, Error>(session.connect(None)?.cluster.version().await?) }.await;
    Ok(Box::new(move |report| {
        report.version(VERSION, server.as_deref().ok());
        match server {
            Ok(_) => Exit::Ok,
            Err(error) => report.fail(&error),
        }
    }))
}
