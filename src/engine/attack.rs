//! Follows the attacker's log while the attack runs in the cluster, and reads it again when it breaks off.

use std::cell::Cell;
use std::convert::Infallible;
use std::time::Duration;

use futures::{AsyncBufReadExt, StreamExt};
use tokio::time::{Instant, sleep, timeout_at};

use super::tracker::Tracker;
use super::{Event, Events, Halt, Stop};
use crate::cluster::Cluster;
use crate::exit::Exit;
use crate::manifest::{ATTACKER, go_patch};
use crate::plan::Plan;
use crate::result::Problem;

/// Pause before a log that broke off is asked for again.
const AGAIN: Duration = Duration::from_millis(300);
/// Time after which the attack is let begin once more, if it has not.
const GO_AGAIN: Duration = Duration::from_secs(3);

pub(super) async fn attack(
    cluster: &Cluster,
    plan: &Plan,
    tracker: &mut Tracker,
    stop: &Stop,
    events: &Events,
) -> Result<(), Halt> {
    let give_up = Instant::now() + plan.options.deadline;
    let begun = Cell::new(false);
    tokio::select! {
        ended = timeout_at(give_up, follow(cluster, plan, tracker, &begun, events)) => {
            ended.unwrap_or_else(|_| Err(unproved(format!("the attack did not end within {} s", plan.options.deadline.as_secs()))))
        }
        never = say_again(cluster, plan, &begun, events) => match never {},
        () = stop.wait() => Err(Halt::Stopped),
    }
}

/// A node that looked at the go annotation just before it was set may look again only a minute later, unless
/// it changes once more.
async fn say_again(cluster: &Cluster, plan: &Plan, begun: &Cell<bool>, events: &Events) -> Infallible {
    for attempt in 2.. {
        sleep(GO_AGAIN).await;
        if begun.get() {
            break;
        }
        let patched = cluster
            .patch_pod(&plan.namespace.name, ATTACKER, &go_patch(plan, attempt))
            .await;
        if let Err(error) = patched {
            events.send(Event::Notice(error.to_string()));
        }
    }
    std::future::pending().await
}

fn unproved(message: String) -> Halt {
    Halt::Problem(Problem {
        message,
        hint: None,
        details: vec![],
        exit: Exit::NotProved,
    })
}

async fn follow(
    cluster: &Cluster,
    plan: &Plan,
    tracker: &mut Tracker,
    begun: &Cell<bool>,
    events: &Events,
) -> Result<(), Halt> {
    let namespace = &plan.namespace.name;
    loop {
        match cluster.follow_log(namespace, ATTACKER).await {
            Ok(log) => {
                let mut lines = std::pin::pin!(log.lines());
                while let Some(Ok(line)) = lines.next().await {
                    tracker.line(&line, events);
                    begun.set(tracker.begun());
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
