//! The victims that a run goes on without.

use std::collections::BTreeMap;

use super::Run;
use crate::error::Error;
use crate::event::Event;
use crate::result::VictimEnd;

/// The victims that could not start or stopped early, by pod, each with the reason.
#[derive(Debug, Default)]
pub(super) struct Lost(BTreeMap<String, Error>);

impl Lost {
    /// Records that a pod of the run was lost.
    ///
    /// # Errors
    /// Returns the reason if the run cannot go on: it concerns more than a victim, or no victim is left.
    pub(super) fn add(&mut self, run: &Run<'_>, pod: &str, error: Error) -> Result<(), Error> {
        let victims = &run.plan.victims;
        let is_victim = victims.iter().any(|victim| victim.pod == pod);
        let is_of_pod = matches!(
            error,
            Error::PodStopped { .. }
                | Error::PodUnready { .. }
                | Error::PodsTimedOut { .. }
                | Error::GateUnchecked { .. }
        );
        let others = victims.iter().filter(|victim| victim.pod != pod);
        let is_last = others.map(|victim| &victim.pod).all(|other| self.contains(other));
        if !is_of_pod || !is_victim || is_last {
            return Err(error);
        }
        if !self.contains(pod) {
            let text = format!("{error}; the run continues with the other victims");
            run.events.send(Event::Notice(text));
            self.0.insert(pod.to_owned(), error);
        }
        Ok(())
    }

    pub(super) fn contains(&self, pod: &str) -> bool {
        self.0.contains_key(pod)
    }

    /// Returns the reason of each pod, as the reason why its remaining steps did not run.
    pub(super) fn reasons(&self) -> BTreeMap<String, String> {
        let reasons = self.0.iter();
        reasons
            .map(|(pod, error)| (pod.clone(), error.to_string()))
            .collect()
    }

    /// Returns how a victim ended.
    pub(super) fn end(&self, pod: &str) -> Option<VictimEnd> {
        self.0.get(pod).map(end_of)
    }
}

/// Describes the end of a victim by the error that it caused.
pub(super) fn end_of(error: &Error) -> VictimEnd {
    match error {
        Error::PodStopped { reason, details, .. } | Error::PodUnready { reason, details, .. } => VictimEnd {
            reason: reason.clone(),
            details: details.clone(),
        },
        Error::PodsTimedOut { details, .. } => VictimEnd {
            reason: error.to_string(),
            details: details.clone(),
        },
        other => VictimEnd {
            reason: other.to_string(),
            details: vec![],
        },
    }
}
