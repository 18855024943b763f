//! Handles signals: the first one stops a run, which then cleans up; a second SIGINT ends the process immediately.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::exit::Exit;

/// Time within which a second SIGINT counts as the same key press. Wrappers forward what the terminal already sent to
/// every process.
const SAME_PRESS: Duration = Duration::from_millis(200);

/// A signal that asks a run to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    Interrupt,
    Terminate,
    HangUp,
}

/// The state of stop requests: whether a stop was requested, and by which signal.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<Option<Signal>>);

impl Stop {
    /// Listens for SIGINT, SIGTERM and SIGHUP from now on; for SIGHUP only if it is not ignored, as under `nohup`.
    /// `second` is called at the second SIGINT and is expected to end the process. Other signals do not call it: a
    /// closing terminal sends several, and a CI system follows SIGINT with SIGTERM.
    ///
    /// # Errors
    /// Fails if the operating system refuses a signal handler.
    pub fn on_signals(second: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        let (sender, receiver) = watch::channel(None);
        let mut signals = Signals::new()?;
        tokio::spawn(async move {
            let mut pressed: Option<Instant> = None;
            loop {
                let signal = signals.next().await;
                sender.send_if_modified(|first| {
                    let is_first = first.is_none();
                    first.get_or_insert(signal);
                    is_first
                });
                if signal != Signal::Interrupt {
                    continue;
                }
                match pressed {
                    Some(first) if first.elapsed() >= SAME_PRESS => second(),
                    Some(_) => {}
                    None => pressed = Some(Instant::now()),
                }
            }
        });
        Ok(Self(receiver))
    }

    /// Returns `true` if a stop was requested.
    pub fn requested(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Returns the exit code of a process that stopped on request: 128 plus the number of the first signal.
    pub fn exit(&self) -> Exit {
        match *self.0.borrow() {
            Some(Signal::Terminate) => Exit::Terminated,
            Some(Signal::HangUp) => Exit::HungUp,
            Some(Signal::Interrupt) | None => Exit::Interrupted,
        }
    }

    /// Waits until a stop is requested.
    pub async fn wait(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let hang_up = (!ignores_hang_up()).then(|| signal(SignalKind::hangup()));
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: hang_up.transpose()?,
        })
    }

    async fn next(&mut self) -> Signal {
        let hang_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
            _ = hang_up => Signal::HangUp,
        }
    }
}

/// Returns `true` if this process was started with SIGHUP ignored. Linux reports it in `/proc/self/status` (proc(5),
/// `SigIgn`); on other systems the result is `false`.
#[cfg(unix)]
fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // The lowest bit is signal 1, SIGHUP.
    ignored.is_some_and(|mask| mask & 1 == 1)
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> Signal {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        Signal::Interrupt
    }
}
