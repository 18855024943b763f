//! Follows the attackers' logs while the attack runs in the cluster, and reads them again if a stream breaks. Notices
//! at once when one of the pods stops.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use futures::{AsyncBufRead, AsyncBufReadExt, StreamExt};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::lost::Lost;
use super::pods::{Ending, NodeState, Pods, explain};
use super::ready::go;
use super::tracker::Tracker;
use super::{Halt, Run};
use crate::error::{Error, Phase};
use crate::event::{Event, Events};
use crate::manifest::{ATTACKER_CONTAINER, Kind};
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

/// The state of an attack, shared by its parts.
struct Progress<'a> {
    tracker: &'a RefCell<Tracker>,
    /// The attackers, each with the host names of its victims.
    attackers: Vec<(String, Vec<&'a str>)>,
    /// Time at which the last line of a log was read.
    last_line: Cell<Instant>,
}

impl Progress<'_> {
    fn is_done(&self) -> bool {
        let tracker = self.tracker.borrow();
        self.attackers
            .iter()
            .all(|(_, victims)| tracker.is_done_with(victims))
    }
}

/// Follows the attack to its end. A victim that stops is lost; an attacker that stops ends the run.
pub(super) async fn attack(
    run: &Run<'_>,
    pods: &mut Pods,
    tracker: &RefCell<Tracker>,
    lost: &mut Lost,
    stop: &Stop,
) -> Result<(), Halt> {
    let deadline = run.plan.options.deadline;
    let give_up = Instant::now() + deadline;
    let attackers = run.plan.attackers().map(|attacker| {
        let hosts = attacker.victims.iter().map(|victim| victim.host.as_str());
        (attacker.pod, hosts.collect())
    });
    let progress = Progress {
        tracker,
        attackers: attackers.collect(),
        last_line: Cell::new(Instant::now()),
    };
    let attackers = &progress.attackers;
    let nodes = run.plan.victims.iter().map(|victim| victim.pod.clone());
    let nodes = nodes.chain(attackers.iter().map(|(pod, _)| pod.clone()));
    let nodes = nodes.filter_map(|pod| Some((pods.node(&pod)?.to_owned(), pod)));
    let mut watched = Nodes::new(nodes.collect());
    let logs = attackers.iter().map(|attacker| {
        follow(
            run,
            pods.node(&attacker.0).map(str::to_owned),
            attacker,
            &progress,
        )
    });
    let mut logs: FuturesUnordered<_> = logs.collect();
    let mut explained = FuturesUnordered::new();
    loop {
        let (name, ending) = tokio::select! {
            log = timeout_at(give_up, logs.next()) => match log {
                Ok(Some(Ok(Followed::Ended(pod, ending)))) => (pod, ending),
                Ok(Some(Ok(Followed::Done))) if !logs.is_empty() => continue,
                Ok(Some(Ok(Followed::Done)) | None) => break,
                Ok(Some(Err(error))) => return Err(error.into()),
                Err(_) => return Err(Error::AttackTimedOut { deadline }.into()),
            },
            Some(explained) = explained.next() => {
                lose(run, explained, tracker, lost)?;
                continue;
            }
            ended = pods.ended(run) => ended,
            missing = watched.missing(run, &progress) => missing,
            never = say_again(run, &progress) => match never {},
            () = stop.wait() => return Err(Halt::Stopped),
        };
        let is_attacker = attackers.iter().any(|(pod, _)| *pod == name);
        if is_attacker || run.plan.victims.len() == 1 {
            tokio::select! {
                () = drain(run, &name, &ending, &progress) => {}
                () = stop.wait() => return Err(Halt::Stopped),
            }
            if progress.is_done() {
                break;
            }
            let pod = pods.get(&name).cloned();
            let error = Box::pin(explain(run, (name, pod), ending, Phase::Attack)).await;
            return Err(error.into());
        }
        watched.forget(&name);
        let pod = pods.get(&name).cloned();
        explained.push(async move {
            let stopped = (name.clone(), pod);
            let error = Box::pin(explain(run, stopped, ending, Phase::Attack)).await;
            (name, error)
        });
    }
    while let Some(explained) = explained.next().await {
        lose(run, explained, tracker, lost)?;
    }
    Ok(())
}

/// Records that a victim stopped, unless it had finished.
fn lose(
    run: &Run<'_>,
    (pod, error): (String, Error),
    tracker: &RefCell<Tracker>,
    lost: &mut Lost,
) -> Result<(), Error> {
    let has_finished = tracker.borrow().check_gates().all(|(other, _)| other != pod);
    if has_finished {
        return Ok(());
    }
    lost.add(run, &pod, error)
}

/// Makes attackers start that have not started. A node that read the annotation just before it was set may read it again
/// only a minute later, unless it changes once more.
async fn say_again(run: &Run<'_>, progress: &Progress<'_>) -> Infallible {
    for attempt in 2.. {
        sleep(GO_AGAIN).await;
        let has_started = |victims: &[&str]| progress.tracker.borrow().has_started(victims);
        let waiting = progress
            .attackers
            .iter()
            .filter(|(_, victims)| !has_started(victims));
        let waiting: Vec<&String> = waiting.map(|(pod, _)| pod).collect();
        if waiting.is_empty() {
            break;
        }
        for attacker in waiting {
            if let Err(error) = go(run, attacker, attempt).await {
                run.events.send(Event::Notice(error.to_string()));
            }
        }
    }
    std::future::pending().await
}

/// The nodes of the pods, which are read while the logs are quiet.
struct Nodes {
    /// Name of the node and of the pod.
    pods: Vec<(String, String)>,
    shown: Vec<String>,
}

impl Nodes {
    fn new(pods: Vec<(String, String)>) -> Self {
        Self { pods, shown: vec![] }
    }

    /// Stops reading the node of a pod.
    fn forget(&mut self, pod: &str) {
        self.pods.retain(|(_, known)| known != pod);
    }

    /// Returns the first pod whose node no longer exists.
    async fn missing(&mut self, run: &Run<'_>, progress: &Progress<'_>) -> (String, Ending) {
        loop {
            sleep(READ_NODES).await;
            if progress.last_line.get().elapsed() < QUIET {
                continue;
            }
            for (node, pod) in &self.pods {
                match NodeState::confirmed(run.cluster, node).await {
                    NodeState::Missing => return (pod.clone(), Ending::NodeMissing(untrusted::line(node))),
                    NodeState::NotReady(state) if !self.shown.contains(&state) => {
                        self.shown.push(state.clone());
                        run.events.send(Event::Notice(state));
                    }
                    NodeState::NotReady(_) | NodeState::Ready | NodeState::Unknown => {}
                }
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

/// Why following an attacker's log ended.
enum Followed {
    /// The attacker reported that it is done.
    Done,
    /// The attacker's pod stopped.
    Ended(String, Ending),
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
    node: Option<String>,
    attacker: &(String, Vec<&str>),
    progress: &Progress<'_>,
) -> Result<Followed, Error> {
    let (cluster, namespace, pod) = (run.cluster, &run.plan.namespace.name, &attacker.0);
    let on_node = node.map_or_else(String::new, |node| {
        format!(" (on node {})", untrusted::line(&node))
    });
    let mut pauses_left = pauses();
    loop {
        let before = progress.last_line.get();
        let read = match cluster.follow_log(namespace, pod, ATTACKER_CONTAINER).await {
            Ok(log) => read(log, attacker, progress, run.events).await,
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
        let ending = match cluster.pod(namespace, pod).await {
            Ok(None) => Some(Ending::Deleted),
            Ok(Some(found)) if found.metadata.uid != run.ledger.uid(Kind::Pod, pod) => Some(Ending::Replaced),
            Ok(Some(found)) => Ending::of(&found),
            Err(error) => {
                run.events.send(Event::Notice(error.to_string()));
                None
            }
        };
        if let Some(ending) = ending {
            return Ok(Followed::Ended(pod.clone(), ending));
        }
        if progress.last_line.get() > before {
            pauses_left = pauses();
        }
        sleep(pauses_left.next().unwrap_or(LONGEST_PAUSE)).await;
    }
}

/// Reads the rest of the attackers' logs after a pod stopped: steps that were reported until then are proved.
async fn drain(run: &Run<'_>, name: &str, ending: &Ending, progress: &Progress<'_>) {
    let has_exited =
        progress.attackers.iter().any(|(pod, _)| pod == name) && matches!(ending, Ending::Exited(_));
    let bound = if has_exited { DRAIN_EXITED } else { DRAIN };
    let logs = progress.attackers.iter().map(async |attacker| {
        for pause in pauses() {
            let namespace = &run.plan.namespace.name;
            let log = run
                .cluster
                .read_log(namespace, &attacker.0, ATTACKER_CONTAINER)
                .await;
            match log {
                Ok(log) => {
                    if !matches!(read(log, attacker, progress, run.events).await, Read::Broken) {
                        return;
                    }
                }
                Err(error) if error.is_final() => return,
                Err(_) => {}
            }
            sleep(pause).await;
        }
    });
    let _ = timeout(bound, join_all(logs)).await;
}

async fn read(
    log: impl AsyncBufRead,
    (_, victims): &(String, Vec<&str>),
    progress: &Progress<'_>,
    events: &Events,
) -> Read {
    let mut log = std::pin::pin!(log);
    let mut line = vec![];
    loop {
        match timeout(SILENCE, next_line(&mut log, &mut line)).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => return Read::Ended,
            // A connection without data for this long counts as broken.
            Ok(Err(_)) | Err(_) => return Read::Broken,
        }
        let mut tracker = progress.tracker.borrow_mut();
        tracker.line(&String::from_utf8_lossy(&line), events);
        progress.last_line.set(Instant::now());
        if tracker.is_done_with(victims) {
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
