//! Follows the attacker's log while the attack runs in the cluster, and reads it again when it breaks off.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::time::Duration;

use futures::{AsyncBufRead, AsyncBufReadExt};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::tracker::Tracker;
use super::{Event, Events, Halt, Stop, gone};
use crate::cluster::Cluster;
use crate::exit::Exit;
use crate::manifest::{ATTACKER, ATTACKER_CONTAINER, Kind, go_patch};
use crate::plan::Plan;
use crate::result::Problem;
use crate::untrusted;

/// Pause before a log that broke off is asked for again.
const AGAIN: Duration = Duration::from_millis(300);
/// The attacker says something more often: each of its requests ends within 90 s.
const SILENCE: Duration = Duration::from_secs(120);
/// More than a line of the attacker's has.
const MAX_LINE: usize = 64 << 10;
/// Time after which the attack is let begin once more, if it has not.
const GO_AGAIN: Duration = Duration::from_secs(3);

pub(super) async fn attack(
    cluster: &Cluster,
    plan: &Plan,
    attacker: &str,
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
        never = say_again(cluster, plan, attacker, &begun, events) => match never {},
        () = stop.wait() => Err(Halt::Stopped),
    }
}

/// A node that looked at the go annotation just before it was set may look again only a minute later, unless
/// it changes once more.
async fn say_again(
    cluster: &Cluster,
    plan: &Plan,
    attacker: &str,
    begun: &Cell<bool>,
    events: &Events,
) -> Infallible {
    for attempt in 2.. {
        sleep(GO_AGAIN).await;
        if begun.get() {
            break;
        }
        let patched = cluster
            .patch(
                Kind::Pod,
                &plan.namespace.name,
                ATTACKER,
                &go_patch(plan, attacker, attempt),
            )
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

/// How the reading of a log ended.
enum Read {
    /// The attacker said its last word.
    Done,
    /// With the log.
    Ended,
    /// Somewhere in it.
    Broken,
}

async fn follow(
    cluster: &Cluster,
    plan: &Plan,
    tracker: &mut Tracker,
    begun: &Cell<bool>,
    events: &Events,
) -> Result<(), Halt> {
    let namespace = &plan.namespace.name;
    // Why the attacker has ended, once it has: then its log is whole.
    let mut ended = None;
    loop {
        let read = match cluster.follow_log(namespace, ATTACKER, ATTACKER_CONTAINER).await {
            Ok(log) => read(log, tracker, begun, events).await,
            Err(error) if error.is_final() && !error.is_not_found() => return Err(error.into()),
            Err(error) => {
                events.send(Event::Notice(error.to_string()));
                Read::Broken
            }
        };
        match (read, &ended) {
            (Read::Done, _) => return Ok(()),
            (Read::Ended, Some(why)) => {
                return Err(unproved(format!(
                    "pod/{ATTACKER} ended before its last step: {why}"
                )));
            }
            _ => {}
        }
        match cluster.pod(namespace, ATTACKER).await {
            Ok(None) => return Err(unproved(gone(plan, ATTACKER))),
            Ok(Some(pod)) => {
                let status = pod.status.unwrap_or_default();
                if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
                    let why = status.reason.as_deref().map(untrusted::line);
                    ended = Some(why.unwrap_or_else(|| "its start command ended early".into()));
                }
            }
            Err(error) => events.send(Event::Notice(error.to_string())),
        }
        sleep(AGAIN).await;
    }
}

async fn read(log: impl AsyncBufRead, tracker: &mut Tracker, begun: &Cell<bool>, events: &Events) -> Read {
    let mut log = std::pin::pin!(log);
    let mut line = vec![];
    loop {
        match timeout(SILENCE, next_line(&mut log, &mut line)).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => return Read::Ended,
            // A connection that is silent for so long is none.
            Ok(Err(_)) | Err(_) => return Read::Broken,
        }
        tracker.line(&String::from_utf8_lossy(&line), events);
        begun.set(tracker.begun());
        if tracker.done() {
            return Read::Done;
        }
    }
}

/// Reads the next line into `line`, without its end, whatever its bytes; what is beyond `MAX_LINE` of it is left
/// out. False at the end of the log: what stands there without a line's end may be torn.
async fn next_line(log: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    loop {
        let chunk = log.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(false);
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        let room = MAX_LINE.saturating_sub(line.len());
        line.extend_from_slice(&part[..part.len().min(room)]);
        let used = end.map_or(chunk.len(), |end| end + 1);
        log.consume_unpin(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_whole_whatever_is_in_them() {
        let endless = [&vec![b'x'; MAX_LINE + 7][..], b"\n"].concat();
        let log = [b"one\n\xff\xfe\n\n", &endless[..], b"two\ntorn"].concat();
        // In chunks of three bytes.
        let mut log = futures::io::BufReader::with_capacity(3, &log[..]);
        let mut lines = vec![];
        let mut line = vec![];
        while next_line(&mut log, &mut line).await.unwrap() {
            lines.push(line.clone());
        }
        let expected = [&b"one"[..], b"\xff\xfe", b"", &endless[..MAX_LINE], b"two"];
        assert_eq!(lines, expected);
    }
}
