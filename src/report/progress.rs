//! What happens, while it happens: a line for each thing that is over, and at a terminal a spinner for what
//! is under way. On standard error, so that data stays data.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc::UnboundedReceiver;

use super::table::width;
use super::{Report, milliseconds, outcome};
use crate::engine::{Event, Started};

/// Shows events until their sender is gone.
pub async fn show_events(report: Report, mut events: UnboundedReceiver<Event>) {
    let mut progress = Progress::new(report);
    while let Some(event) = events.recv().await {
        progress.show(event);
    }
    progress.over();
}

struct Progress {
    report: Report,
    spinner: Option<ProgressBar>,
    begun: std::time::Instant,
    objects: usize,
}

impl Progress {
    fn new(report: Report) -> Self {
        let terminal =
            std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let spinner = (terminal && !report.output.quiet).then(|| {
            let spinner = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{spinner} {wide_msg}").expect("a fixed template");
            spinner.set_style(style);
            spinner.enable_steady_tick(Duration::from_millis(100));
            spinner
        });
        Self {
            report,
            spinner,
            begun: std::time::Instant::now(),
            objects: 0,
        }
    }

    fn show(&mut self, event: Event) {
        match event {
            Event::Started(Started {
                run,
                cluster,
                namespace,
            }) => {
                let context = cluster
                    .context
                    .map(|c| format!("context {c}, "))
                    .unwrap_or_default();
                let version = cluster.version.unwrap_or_default();
                let user = cluster.user.map(|user| format!(" as {user}")).unwrap_or_default();
                self.line(&format!(
                    "run {run} in namespace {namespace} of {context}{} ({version}){user}",
                    cluster.server
                ));
            }
            Event::Created(_) => {
                self.objects += 1;
                self.busy(&format!("{} objects created", self.objects));
            }
            Event::Waiting(what) => self.either(&format!("waiting for {what}")),
            Event::Ready => {
                self.line(&format!(
                    "pods ready after {:.1} s, attacking",
                    self.begun.elapsed().as_secs_f64()
                ));
            }
            Event::StepBegun(step) => self.busy(&step),
            Event::StepEnded(step, result) => {
                let said = result
                    .reason
                    .iter()
                    .chain(&result.evidence)
                    .cloned()
                    .collect::<Vec<_>>()
                    .join("; ");
                let time = milliseconds(result.duration_ms);
                self.line(&format!("{step}: {} in {time}: {said}", outcome(result.outcome)));
            }
            Event::Stopping => {
                self.line("stopping and cleaning up; once more ends at once and leaves it to the cluster");
            }
            Event::Removing(0) => {}
            Event::Removing(objects) => self.either(&format!("removing {objects} objects")),
            Event::Removed(object) => self.busy(&format!("removing {object}")),
            Event::Notice(text) => self.report_line(&format!("warning: {text}")),
        }
    }

    /// A line that stays; not shown when quiet.
    fn line(&self, text: &str) {
        if !self.report.output.quiet {
            self.report_line(text);
        }
    }

    fn report_line(&self, text: &str) {
        match &self.spinner {
            Some(spinner) => {
                let options = textwrap::Options::new(width()).subsequent_indent("  ");
                spinner.suspend(|| self.report.note(&textwrap::fill(text, options)));
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
