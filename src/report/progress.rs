//! What happens, while it happens: a line for each thing that is over, and at a terminal a spinner for what
//! is under way. On standard error, so that data stays data.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use super::table::fill;
use super::{Report, milliseconds, outcome};
use crate::cli::Detail;
use crate::engine::{Answer, Event, Question, Started};
use crate::words::counted;

/// Shows events until their sender is gone.
pub async fn show_events(report: Report, mut events: UnboundedReceiver<Event>) {
    let mut progress = Progress::new(report);
    while let Some(event) = events.recv().await {
        match event {
            Event::Ask(question) => progress.ask(question).await,
            event => progress.show(event),
        }
    }
    progress.over();
}

/// Puts a question to whoever is at the terminal.
async fn answer(report: &Report, mut question: Question) {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        let _ = question.answer.send(Answer::Nobody);
        return;
    }
    let lines = question.text.lines().map(|line| fill(line, ""));
    report.prompt(&(lines.collect::<Vec<_>>().join("\n") + " "));
    // A thread of its own: nothing else may wait for a line that perhaps never comes.
    let (sender, line) = oneshot::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let _ = std::io::stdin().read_line(&mut line);
        let _ = sender.send(line);
    });
    tokio::select! {
        line = line => {
            let line = line.unwrap_or_default().trim().to_lowercase();
            let yes = line == "y" || line == "yes";
            let _ = question.answer.send(if yes { Answer::Yes } else { Answer::No });
        }
        // Interrupted: the terminal is still in the line of the question.
        () = question.answer.closed() => report.note(""),
    }
}

struct Progress {
    report: Report,
    spinner: Option<ProgressBar>,
    begun: std::time::Instant,
    objects: usize,
}

/// At a terminal, what is under way and for how long.
fn spinner(report: &Report) -> Option<ProgressBar> {
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    let shown = std::io::stderr().is_terminal() && !dumb && report.output.detail != Detail::Quiet;
    shown.then(|| {
        let spinner = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}");
        spinner.set_style(style.expect("a fixed template"));
        spinner.enable_steady_tick(Duration::from_millis(100));
        spinner
    })
}

impl Progress {
    fn new(report: Report) -> Self {
        Self {
            spinner: spinner(&report),
            report,
            begun: std::time::Instant::now(),
            objects: 0,
        }
    }

    /// The spinner would draw over the question.
    async fn ask(&mut self, question: Question) {
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
        answer(&self.report, question).await;
        self.spinner = spinner(&self.report);
    }

    fn show(&mut self, event: Event) {
        match event {
            Event::Started(Started {
                run,
                cluster,
                namespace,
                ..
            }) => {
                // How long somebody thought about the question says nothing about the cluster.
                self.begun = std::time::Instant::now();
                self.line(&format!("run {run} in namespace {namespace} of {cluster}"));
            }
            Event::Created(object) => {
                self.objects += 1;
                self.detail(
                    &format!("{object} created"),
                    &format!("{} created", counted(self.objects, "object")),
                );
            }
            Event::Checking => self.either("checking"),
            Event::Waiting(what) => self.either(&format!("waiting for {what}")),
            Event::Ready => {
                self.line(&format!(
                    "pods ready after {:.1} s, attacking",
                    self.begun.elapsed().as_secs_f64()
                ));
            }
            Event::StepBegun(step) => self.detail(&format!("{step} begun"), &step),
            Event::StepEnded(step, result) => {
                let said = result.said();
                let time = milliseconds(result.duration_ms);
                self.line(&format!("{step}: {} in {time}: {said}", outcome(result.outcome)));
            }
            Event::Stopping => {
                self.line("stopping and cleaning up (press Ctrl-C again to quit immediately and leave cleanup to the cluster)");
            }
            Event::Ask(_) | Event::Removing(0) => {}
            Event::Removing(objects) => self.either(&format!("removing {}", counted(objects, "object"))),
            Event::Removed(object) => {
                self.detail(&format!("{object} deleted"), &format!("removing {object}"));
            }
            Event::Alerts { raised, waiting } => {
                let raised = format!("{} raised", counted(raised, "expected alert"));
                match waiting {
                    0 => self.line(&raised),
                    _ => self.either(&format!("{raised}, waiting for {waiting}")),
                }
            }
            Event::Notice(text) => self.report_line(&format!("warning: {text}")),
        }
    }

    /// A line that stays; not shown when quiet.
    fn line(&self, text: &str) {
        match self.report.output.detail {
            Detail::Quiet => {}
            Detail::Normal => self.report_line(text),
            Detail::Verbose => {
                let elapsed = self.begun.elapsed().as_secs_f64();
                self.report_line(&format!("{elapsed:6.2} s  {text}"));
            }
        }
    }

    /// A line where every detail is wanted, else what is under way.
    fn detail(&self, line: &str, busy: &str) {
        if self.report.output.detail == Detail::Verbose {
            self.line(line);
        } else {
            self.busy(busy);
        }
    }

    fn report_line(&self, text: &str) {
        match &self.spinner {
            Some(spinner) => {
                spinner.suspend(|| self.report.note(&fill(text, "  ")));
            }
            None => self.report.note(text),
        }
    }

    /// What is under way: only a terminal shows it.
    fn busy(&self, text: &str) {
        if let Some(spinner) = &self.spinner {
            spinner.set_message(text.to_owned());
        }
    }

    /// What may take long: a terminal shows it as under way, everything else as a line.
    fn either(&self, text: &str) {
        match &self.spinner {
            Some(_) => self.busy(text),
            None => self.line(text),
        }
    }

    fn over(self) {
        if let Some(spinner) = self.spinner {
            spinner.finish_and_clear();
        }
    }
}
