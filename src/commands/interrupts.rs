//! Signals of a command, for one session or for all sessions of a fleet.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::exit::Exit;
use crate::report::Report;
use crate::signal::Stop;

/// Handles signals once for every session that listens: the first one stops all of them, a second SIGINT exits the
/// process.
#[derive(Clone, Default)]
pub(super) struct Interrupts(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Set as soon as a session listens. Until then, a signal ends the process.
    stop: Option<Stop>,
    /// What a second SIGINT prints for each session that has not ended, by the number of the session.
    last: BTreeMap<usize, String>,
}

impl Interrupts {
    /// Handles signals for a session from now on. The second SIGINT prints `last`, among those of other sessions.
    ///
    /// # Errors
    /// Fails if the operating system rejects a signal handler.
    pub fn listen(&self, session: usize, last: String, report: &Report) -> io::Result<Stop> {
        let mut state = self.state();
        state.last.insert(session, last);
        if let Some(stop) = &state.stop {
            return Ok(stop.clone());
        }
        let (interrupts, report) = (self.clone(), report.clone());
        let stop = Stop::on_signals(move || {
            // Sessions may have identical messages.
            let last: BTreeSet<String> = interrupts.state().last.values().cloned().collect();
            for last in &last {
                report.note(last);
            }
            // The user does not want to wait for the cleanup.
            std::process::exit(Exit::Interrupted.code().into());
        })?;
        state.stop = Some(stop.clone());
        Ok(stop)
    }

    /// Returns the exit code of a requested stop.
    pub fn stopped(&self) -> Option<Exit> {
        let state = self.state();
        let stop = state.stop.as_ref().filter(|stop| stop.requested());
        stop.map(Stop::exit)
    }

    /// Removes the message of a session that has ended.
    pub fn end(&self, session: usize) {
        self.state().last.remove(&session);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
