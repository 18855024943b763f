//! The `CronJob` that starts runs: its events, and the `ConfigMap` of the same name that lasts from run to run.

use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference};
use kube::api::{Api, PostParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Resource as _, ResourceExt as _};

use super::{Cluster, Result};
use crate::manifest::OWNER;

/// Key of the state in the `ConfigMap`.
const STATE: &str = "state.json";
/// Limit of the note of an event, in bytes, which the API server checks.
const MAX_NOTE: usize = 1024;

/// The `CronJob` that starts a run.
#[derive(Clone, Debug)]
pub struct Schedule {
    reference: ObjectReference,
    namespace: String,
    state: ConfigMap,
}

impl Schedule {
    /// Returns the text that the last run kept, if there is one.
    pub fn state(&self) -> Option<&str> {
        self.state.data.as_ref()?.get(STATE).map(String::as_str)
    }
}

impl Cluster {
    /// Reads a `CronJob` and the `ConfigMap` of its name.
    ///
    /// # Errors
    /// If one of them does not exist or cannot be read.
    pub async fn schedule(&self, namespace: &str, name: &str) -> Result<Schedule> {
        let jobs = Api::<CronJob>::namespaced(self.client.clone(), namespace);
        let maps = Api::<ConfigMap>::namespaced(self.client.clone(), namespace);
        let (job, state) = tokio::try_join!(
            self.call(|| format!("get cronjob.batch/{name}"), jobs.get(name)),
            self.call(|| format!("get configmap/{name}"), maps.get(name)),
        )?;
        Ok(Schedule {
            reference: job.object_ref(&()),
            namespace: namespace.to_owned(),
            state,
        })
    }

    /// Keeps a text until the next run.
    ///
    /// # Errors
    /// If it cannot be written, or another run wrote it in the meantime.
    pub async fn keep_state(&self, schedule: &Schedule, text: String) -> Result<()> {
        let mut state = schedule.state.clone();
        let data = state.data.get_or_insert_default();
        data.insert(STATE.to_owned(), text);
        let maps = Api::<ConfigMap>::namespaced(self.client.clone(), &schedule.namespace);
        let name = state.name_any();
        let parameters = PostParams::default();
        let replace = maps.replace(&name, &parameters, &state);
        self.call(|| format!("update configmap/{name}"), replace).await?;
        Ok(())
    }

    /// Creates an event of a `CronJob`.
    ///
    /// # Errors
    /// If it cannot be created.
    pub async fn tell(&self, schedule: &Schedule, reason: &str, is_warning: bool, note: &str) -> Result<()> {
        let reporter = Reporter {
            controller: OWNER.to_owned(),
            instance: None,
        };
        let event = Event {
            type_: if is_warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: reason.to_owned(),
            note: Some(shortened(note).to_owned()),
            action: "Run".to_owned(),
            secondary: None,
        };
        let recorder = Recorder::new(self.client.clone(), reporter);
        let publish = recorder.publish(&event, &schedule.reference);
        let name = schedule.reference.name.as_deref().unwrap_or_default();
        self.call(|| format!("create an event of cronjob.batch/{name}"), publish)
            .await
    }
}

/// Returns the beginning of a text that fits into a note.
fn shortened(note: &str) -> &str {
    let mut end = note.len().min(MAX_NOTE);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    &note[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn note_is_shortened_between_characters() {
        assert_eq!(shortened("short"), "short");
        let long = format!("x{}", "\u{e4}".repeat(MAX_NOTE));
        assert_eq!(shortened(&long).len(), MAX_NOTE - 1);
    }
}
