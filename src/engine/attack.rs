//! Follows the attacker's log while the attack runs in the cluster, and reads it again when it breaks off.

use std::time::Duration;

use futures::{AsyncBufReadExt, StreamExt};
use tokio::time::{Instant, sleep, timeout_at};

use super::tracker::Tracker;
use super::{Event, Events, Halt, Stop};
use crate::cluster::Cluster;
use crate::exit::Exit;
use crate::manifest::ATTACKER;
use crate::plan::Plan;
use crate::result::Problem;

/// Pause before a log that broke off is asked for again.
const AGAIN: Duration = Duration::from_millis(300);

pub(super) async fn attack(
    cluster: &Cluster,
    plan: &Plan,
    tracker: &mut Tracker,
    stop: &Stop,
    events: &Events,
) -> Result<(), Halt> {
    let give_up = Instant::now() + plan.deadline;
    tokio::select! {
        ended = timeout_at(give_up, follow(cluster, plan, tracker, events)) => {
            ended.unwrap_or_else(|_| Err(unproved(format!("the attack did not end within {} s", plan.deadline.as_secs()))))
        }
        () = stop.wait() => Err(Halt::Stopped),
    }
}

fn unproved(message: String) -> Halt {
    Halt::Problem(Problem {
        message,
        hint: None,
        details: vec![],
        exit: Exit::NotProved,
    })
}

async fn follow(cluster: &Cluster, plan: &Plan, tracker: &mut Tracker, events: &Events) -> Result<(), Halt> {
    let namespace = &plan.namespace.name;
    loop {
        match cluster.follow_log(namespace, ATTACKER).await {
            Ok(log) => {
                let mut lines = std::pin::pin!(log.lines());
                while let Some(Ok(line)) = lines.next().await {
                    tracker.line(&line, events);
                    if tracker.done() {
                        return Ok(());
                    }
                }
            }
            Err(error) => events.send(Event::Notice(error.to_string())),
        }
        // The stream ended without the attacker's last word: did the attacker, or only the stream?
        match cluster.pod(namespace, ATTACKER).await {
            Ok(None) => return Err(unproved(format!("pod/{ATTACKER} was removed by somebody else"))),
            Ok(Some(pod)) => {
                let status = pod.status.unwrap_or_default();
                if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
                    let why = status
                        .reason
                        .unwrap_or_else(|| "its start command ended early".into());
                    return Err(unproved(format!(
                        "pod/{ATTACKER} ended before its last step: {why}"
                    )));
                }
            }
            Err(error) => events.send(Event::Notice(error.to_string())),
        }
        sleep(AGAIN).await;
    }
}
