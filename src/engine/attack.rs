//! Follows the attacker's log while the attack runs in the cluster, and reads it again if the stream breaks. Ends as
//! soon as one of the pods stops.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures::{AsyncBufRead, AsyncBufReadExt};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::pods::{Ending, NodeState, Pods, explain};
use super::tracker::Tracker;
use super::{Halt, Run};
use crate::error::{Error, Phase};
use crate::event::{Event, Events};
use crate::manifest::{ATTACKER, ATTACKER_CONTAINER, Kind, VICTIM, go_patch};
use crate::signal::Stop;
use crate::untrusted;

/// First pause before a log whose stream broke is requested again.
const AGAIN: Duration = Duration::from_millis(300);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Time without output after which a log stream counts as broken: each request of the attacker ends within 90 s.
const SILENCE: Duration = Duration::from_secs(120);
/// Maximum number of bytes kept of a line; the attacker's lines are shorter.
const MAX_LINE: usize = 64 << 10;
/// Interval at which the go annotation is set again until the attack starts.
const GO_AGAIN: Duration = Duration::from_secs(3);
/// Time without a new log line after which the nodes are read: the pod's node may no longer exist.
const QUIET: Duration = Duration::from_secs(5);
/// Interval at which the nodes are read while the log is quiet.
const READ_NODES: Duration = Duration::from_secs(3);
/// Timeout for reading the rest of the attacker's log after a pod stopped.
const DRAIN: Duration = Duration::from_secs(2);
/// The same timeout if the attacker exited, as it does after its last step: its log is complete and decides the result.
const DRAIN_EXITED: Duration = Duration::from_secs(30);

/// The progress of the attacker's log, shared by the parts of an attack.
struct Progress {
    /// Whether the attack has started.
    started: Cell<bool>,
    /// Time at which the last line was read.
    last_line: Cell<Instant>,
}

pub(super) async fn attack(
    run: &Run<'_>,
    pods: &mut Pods,
    tracker: &mut Tracker,
    stop: &Stop,
) -> Result<(), Halt> {
    let deadline = run.plan.options.deadline;
    let give_up = Instant::now() + deadline;
    let nodes = [ATTACKER, VICTIM].map(|name| (name, pods.node(name).map(str::to_owned)));
    let progress = Progress {
        started: Cell::new(false),
        last_line: Cell::new(Instant::now()),
    };
    let (name, ending) = tokio::select! {
        followed = timeout_at(give_up, follow(run, nodes[0].1.as_deref(), tracker, &progress)) => match followed {
            Ok(Ok(Followed::Done)) => return Ok(()),
            Ok(Ok(Followed::Ended(ending))) => (ATTACKER, ending),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(Error::AttackTimedOut { deadline }.into()),
        },
        ended = pods.ended(run) => ended,
        missing = node_missing(run, &nodes, &progress) => missing,
        never = say_again(run, &progress) => match never {},
        () = stop.wait() => return Err(Halt::Stopped),
    };
    tokio::select! {
        () = drain(run, name, &ending, tracker, &progress) => {}
        () = stop.wait() => return Err(Halt::Stopped),
    }
    if tracker.done() {
        return Ok(());
    }
    if tracker.depends_on_victim() && (name == VICTIM || pods.stops(run, VICTIM).await) {
        tracker.victim_stopped();
    }
    let error = Box::pin(explain(run, pods, name, ending, Phase::Attack)).await;
    Err(error.into())
}

/// Sets the go annotation to a new value until the attack starts. A node that read the annotation just before it was
/// set may read it again only a minute later, unless it changes once more.
async fn say_again(run: &Run<'_>, progress: &Progress) -> Infallible {
    let attacker = run.ledger.uid(Kind::Pod, ATTACKER).unwrap_or_default();
    for attempt in 2.. {
        sleep(GO_AGAIN).await;
        if progress.started.get() {
            break;
        }
        let patch = go_patch(run.plan, &attacker, attempt);
        let patched = run
            .cluster
            .patch(Kind::Pod, &run.plan.namespace.name, ATTACKER, &patch)
            .await;
        if let Err(error) = patched {
            run.events.send(Event::Notice(error.to_string()));
        }
    }
    std::future::pending().await
}

/// Returns the first pod whose node no longer exists. Reads the nodes while the log is quiet.
async fn node_missing(
    run: &Run<'_>,
    nodes: &[(&'static str, Option<String>); 2],
    progress: &Progress,
) -> (&'static str, Ending) {
    let mut shown = vec![];
    loop {
        sleep(READ_NODES).await;
        if progress.last_line.get().elapsed() < QUIET {
            continue;
        }
        for (name, node) in nodes {
            let Some(node) = node else { continue };
            match NodeState::confirmed(run.cluster, node).await {
                NodeState::Missing => return (name, Ending::NodeMissing(untrusted::line(node))),
                NodeState::NotReady(state) if !shown.contains(&state) => {
                    shown.push(state.clone());
                    run.events.send(Event::Notice(state));
                }
                NodeState::NotReady(_) | NodeState::Ready | NodeState::Unknown => {}
            }
        }
    }
}

/// Why reading a log ended.
enum Read {
    /// The attacker reported that it is done.
    Done,
    /// The log ended.
    Ended,
    /// The log could not be read to its end.
    Broken,
}

/// Why following the attacker's log ended.
enum Followed {
    /// The attacker reported that it is done.
    Done,
    /// The attacker's pod stopped.
    Ended(Ending),
}

fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(AGAIN)
        .with_max_delay(LONGEST_PAUSE)
        .without_max_times()
        .build()
}

async fn follow(
    run: &Run<'_>,
    node: Option<&str>,
    tracker: &mut Tracker,
    progress: &Progress,
) -> Result<Followed, Error> {
    let (cluster, namespace) = (run.cluster, &run.plan.namespace.name);
    let on_node = node.map_or_else(String::new, |node| {
        format!(" (on node {})", untrusted::line(node))
    });
    let mut pauses_left = pauses();
    loop {
        let before = progress.last_line.get();
        let read = match cluster.follow_log(namespace, ATTACKER, ATTACKER_CONTAINER).await {
            Ok(log) => read(log, tracker, progress, run.events).await,
            Err(error) if error.is_final() && !error.is_not_found() => {
                return Err(Error::Log(error));
            }
            Err(error) => {
                run.events.send(Event::Notice(format!("{error}{on_node}")));
                Read::Broken
            }
        };
        if matches!(read, Read::Done) {
            return Ok(Followed::Done);
        }
        // The log is read by pod name, so check that it is still the same pod.
        match cluster.pod(namespace, ATTACKER).await {
            Ok(None) => return Ok(Followed::Ended(Ending::Deleted)),
            Ok(Some(pod)) if pod.metadata.uid != run.ledger.uid(Kind::Pod, ATTACKER) => {
                return Ok(Followed::Ended(Ending::Replaced));
            }
            Ok(Some(pod)) => {
                if let Some(ending) = Ending::of(&pod) {
                    return Ok(Followed::Ended(ending));
                }
            }
            Err(error) => run.events.send(Event::Notice(error.to_string())),
        }
        if progress.last_line.get() > before {
            pauses_left = pauses();
        }
        sleep(pauses_left.next().unwrap_or(LONGEST_PAUSE)).await;
    }
}

/// Reads the rest of the attacker's log after a pod stopped: steps that were reported until then are proved.
async fn drain(run: &Run<'_>, name: &str, ending: &Ending, tracker: &mut Tracker, progress: &Progress) {
    let exited = name == ATTACKER && matches!(ending, Ending::Exited(_));
    let bound = if exited { DRAIN_EXITED } else { DRAIN };
    let read = async {
        for pause in pauses() {
            let log = run
                .cluster
                .read_log(&run.plan.namespace.name, ATTACKER, ATTACKER_CONTAINER)
                .await;
            match log {
                Ok(log) => {
                    if !matches!(read(log, tracker, progress, run.events).await, Read::Broken) {
                        return;
                    }
                }
                Err(error) if error.is_final() => return,
                Err(_) => {}
            }
            sleep(pause).await;
        }
    };
    let _ = timeout(bound, read).await;
}

async fn read(log: impl AsyncBufRead, tracker: &mut Tracker, progress: &Progress, events: &Events) -> Read {
    let mut log = std::pin::pin!(log);
    let mut line = vec![];
    loop {
        match timeout(SILENCE, next_line(&mut log, &mut line)).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => return Read::Ended,
            // A connection without data for this long counts as broken.
            Ok(Err(_)) | Err(_) => return Read::Broken,
        }
        tracker.line(&String::from_utf8_lossy(&line), events);
        progress.started.set(tracker.has_started());
        progress.last_line.set(Instant::now());
        if tracker.done() {
            return Read::Done;
        }
    }
}

/// Reads the next line into `line`, without its line feed. The line may contain any bytes and is truncated to
/// `MAX_LINE`. Returns `false` at the end of the log. Text without a line feed at the end is skipped, since it may be
/// incomplete.
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
