//! Progress on standard error: a line for each event and, at a terminal, a spinner for the current activity.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use super::style::printable;
use super::table::fill;
use super::{Detail, Output, Report, milliseconds, outcome};
use crate::event::{Answer, Event, Question, Started};
use crate::result::StepResult;
use crate::scenario::Outcome;
use crate::words::counted;

mod fleet;

pub use fleet::show_fleet;

/// Columns of the longest outcome.
const OUTCOME: usize = 7;

/// Shows events until the channel is closed.
pub async fn show_events(report: Report, mut events: UnboundedReceiver<Event>) {
    let mut progress = Progress::new(report);
    while let Some(event) = events.recv().await {
        match event {
            Event::Finished => break,
            Event::Ask(question) => progress.ask(question).await,
            event => progress.show(event),
        }
    }
    progress.over();
}

/// Asks a question at the terminal.
async fn answer(report: &Report, mut question: Question) {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        let _ = question.answer.send(Answer::Nobody);
        return;
    }
    let text = question.text();
    let lines = text.lines().map(|line| {
        let indent = if line.starts_with("- ") { "  " } else { "" };
        fill(line, indent)
    });
    report.prompt(&(lines.collect::<Vec<_>>().join("\n") + " "));
    // A separate thread: nothing else may block on a line that may never arrive.
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
        // Interrupted: the cursor is still on the line of the question.
        () = question.answer.closed() => report.note(""),
    }
}

/// Notices shown so far. Each is shown once; the number of repetitions follows at the end of a phase.
#[derive(Default)]
struct Notices(Vec<Notice>);

struct Notice {
    text: String,
    /// Repetitions since the count was last shown.
    repeated: usize,
    count: usize,
}

impl Notices {
    /// Records a notice. Returns `true` if it is new and has to be shown.
    fn add(&mut self, text: &str) -> bool {
        let known = self.0.iter_mut().find(|notice| is_same(&notice.text, text));
        let is_new = known.is_none();
        if let Some(notice) = known {
            notice.repeated += 1;
            notice.count += 1;
        } else {
            self.0.push(Notice {
                text: text.to_owned(),
                repeated: 0,
                count: 1,
            });
        }
        is_new
    }

    /// Returns the notices that were repeated since the last call, with their counts.
    fn take_repeated(&mut self) -> Vec<String> {
        let repeated = self.0.iter_mut().filter(|notice| notice.repeated > 0);
        repeated
            .map(|notice| {
                notice.repeated = 0;
                format!("{} ({} times)", notice.text, notice.count)
            })
            .collect()
    }
}

/// Returns whether two notices differ at most in long numbers, such as the local port of a connection.
fn is_same(one: &str, other: &str) -> bool {
    const LONG: usize = 5;
    let parts = |text: &str| -> Vec<String> {
        text.split_inclusive(|c: char| !c.is_ascii_digit())
            .map(|part| {
                let digits = part.chars().take_while(char::is_ascii_digit).count();
                if digits < LONG {
                    part.to_owned()
                } else {
                    part[digits..].to_owned()
                }
            })
            .collect()
    };
    parts(one) == parts(other)
}

/// A step that ended on some victims.
#[derive(Default)]
struct Partial {
    ended: usize,
    proved: usize,
    /// Duration in milliseconds.
    slowest: f64,
}

struct Progress {
    report: Report,
    /// The cluster, if there are several. It begins each line.
    label: Option<String>,
    notices: Notices,
    spinner: Option<ProgressBar>,
    begun: std::time::Instant,
    objects: usize,
    /// Steps of the run, and how many of them ended on all victims.
    steps: (Vec<String>, usize),
    /// The victims of the run, if there are several, and the steps that ended on some of them.
    victims: Vec<(String, Option<String>)>,
    partial: BTreeMap<String, Partial>,
    /// Whether a question already named the cluster and the namespace.
    has_asked: bool,
}

/// Returns whether the progress is shown at a terminal.
pub(super) fn is_live(output: &Output) -> bool {
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    std::io::stderr().is_terminal() && !is_dumb && output.detail != Detail::Quiet
}

/// Creates a spinner that shows the current activity and its duration; `None` if not at a terminal.
fn spinner(report: &Report) -> Option<ProgressBar> {
    is_live(&report.output).then(|| {
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
            // Created with the first event: most commands have no events.
            spinner: None,
            report,
            label: None,
            notices: Notices::default(),
            begun: std::time::Instant::now(),
            objects: 0,
            steps: (vec![], 0),
            victims: vec![],
            partial: BTreeMap::new(),
            has_asked: false,
        }
    }

    /// Asks a question. Removes the spinner, which would overwrite the question.
    async fn ask(&mut self, question: Question) {
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
        self.has_asked = true;
        answer(&self.report, question).await;
    }

    fn show(&mut self, event: Event) {
        if self.spinner.is_none() && self.label.is_none() && !matches!(event, Event::Notice(_)) {
            self.spinner = spinner(&self.report);
        }
        if matches!(event, Event::Ready | Event::Stopping | Event::Removing(_)) {
            self.show_repeated();
        }
        match event {
            Event::Started(Started {
                run,
                cluster,
                namespace,
                steps,
                victims,
                ..
            }) => {
                self.victims = victims;
                // The time that the question was open is not part of the run.
                self.begun = std::time::Instant::now();
                self.steps = (steps, 0);
                self.line(&if self.has_asked && self.spinner.is_some() {
                    format!("run {run}")
                } else {
                    format!("run {run} in namespace {namespace} of {cluster}")
                });
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
                self.busy("attacking");
            }
            Event::StepStarted(step) => {
                let (all, ended) = (self.steps.0.len(), self.steps.1);
                self.detail(&format!("{step} started"), &format!("{}/{all} {step}", ended + 1));
            }
            Event::StepEnded(step, result) if result.victim.is_some() && self.victims.len() > 1 => {
                self.step_on_victim(&step, &result);
            }
            Event::StepEnded(step, result) => {
                self.steps.1 += 1;
                self.step(&step, &result);
            }
            Event::Stopping => {
                self.show_partial();
                self.line("stopping and cleaning up (press Ctrl-C again to quit immediately and leave cleanup to the cluster)");
            }
            Event::Ask(_) | Event::Removing(0) | Event::Ended(_) | Event::Finished => {}
            Event::Removing(objects) => {
                self.show_partial();
                self.either(&format!("removing {}", counted(objects, "object")));
            }
            Event::Removed(object) => {
                self.detail(&format!("{object} deleted"), &format!("removing {object}"));
            }
            Event::Alerts {
                raised,
                waiting,
                until,
            } => {
                let raised = format!("{} raised", counted(raised, "expected alert"));
                match waiting {
                    0 => self.line(&raised),
                    _ => self.either(&format!("{raised}, waiting for {waiting} until {until:.0}")),
                }
            }
            Event::Notice(text) => {
                if self.notices.add(&text) {
                    self.report_line(&format!("warning: {text}"));
                }
            }
        }
    }

    /// Prints the line of a step that ended, in columns at a terminal.
    fn step(&self, step: &str, result: &StepResult) {
        let is_news = !matches!(result.outcome, Outcome::Proved | Outcome::Skipped);
        if self.label.is_some() && self.report.output.detail == Detail::Normal && !is_news {
            return;
        }
        let (steps, ended) = &self.steps;
        let number = format!("{ended}/{}", steps.len());
        let time = milliseconds(result.duration_ms);
        let (outcome, text) = (outcome(result.outcome), result.explanation());
        if self.spinner.is_some() && self.label.is_none() && self.report.output.detail == Detail::Normal {
            let width = steps.iter().map(String::len).max().unwrap_or_default();
            let gap = " ".repeat(OUTCOME.saturating_sub(result.outcome.as_str().len()));
            let line = format!("{outcome}{gap} {number:>5}  {step:width$} {time:>6}  {text}");
            self.indented(&line, OUTCOME + 8);
        } else {
            let time = result
                .duration_ms
                .map_or_else(String::new, |_| format!(" in {time}"));
            self.line(&format!("{number} {step}: {outcome}{time}: {text}"));
        }
    }

    /// Prints the line of a step once it ended on all victims, and one for each victim on which it was not proved.
    fn step_on_victim(&mut self, step: &str, result: &StepResult) {
        if result.outcome != Outcome::Proved {
            let pod = result.victim.as_deref().unwrap_or_default();
            let victim = self.victims.iter().find(|(known, _)| known == pod);
            let label = victim.and_then(|(_, group)| group.as_deref()).unwrap_or(pod);
            let (outcome, text) = (outcome(result.outcome), result.explanation());
            self.line(&format!("{step} on {label}: {outcome}: {text}"));
        }
        let partial = self.partial.entry(step.to_owned()).or_default();
        partial.ended += 1;
        if result.outcome == Outcome::Proved {
            partial.proved += 1;
            partial.slowest = partial.slowest.max(result.duration_ms.unwrap_or_default());
        }
        if partial.ended == self.victims.len() {
            self.show_step(step);
        } else {
            let text = format!("{step} on {} of {} victims", partial.ended, self.victims.len());
            self.busy(&text);
        }
    }

    /// Prints the line of a step that ended on victims.
    fn show_step(&mut self, step: &str) {
        let Some(partial) = self.partial.remove(step) else {
            return;
        };
        self.steps.1 += 1;
        let all = counted(self.victims.len(), "victim");
        let slowest = match partial.proved {
            0 => String::new(),
            _ => format!(", at most {}", milliseconds(Some(partial.slowest))),
        };
        let (steps, ended) = (self.steps.0.len(), self.steps.1);
        let Partial { proved, .. } = partial;
        if self.label.is_some() && self.report.output.detail == Detail::Normal && proved == self.victims.len()
        {
            return;
        }
        self.line(&format!(
            "{ended}/{steps} {step}: proved on {proved} of {all}{slowest}"
        ));
    }

    /// Prints the lines of steps that did not end on all victims.
    fn show_partial(&mut self) {
        let steps = self.steps.0.clone();
        for step in steps {
            self.show_step(&step);
        }
    }

    fn show_repeated(&mut self) {
        for text in self.notices.take_repeated() {
            self.report_line(&format!("warning: {text}"));
        }
    }

    /// Prints a permanent line, unless the output is quiet.
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

    /// Prints `line` if the output is verbose; otherwise shows `busy` as the current activity.
    fn detail(&self, line: &str, busy: &str) {
        if self.report.output.detail == Detail::Verbose {
            self.line(line);
        } else {
            self.busy(busy);
        }
    }

    fn report_line(&self, text: &str) {
        self.indented(text, 2);
    }

    /// Prints a permanent line; at a terminal, its continuation lines are indented.
    fn indented(&self, text: &str, indent: usize) {
        let text = &self.labelled(text);
        match &self.spinner {
            Some(spinner) => spinner.suspend(|| self.report.note(&fill(text, &" ".repeat(indent)))),
            None => self.report.note(text),
        }
    }

    /// Shows the current activity, at a terminal only.
    fn busy(&self, text: &str) {
        if let Some(spinner) = &self.spinner {
            spinner.set_message(printable(&self.labelled(text)));
        }
    }

    /// Announces something that may take long: as the current activity at a terminal, otherwise as a line.
    fn either(&self, text: &str) {
        match &self.spinner {
            Some(_) => self.busy(text),
            None => self.line(text),
        }
    }

    /// Returns a text that begins with the cluster, if there are several.
    fn labelled(&self, text: &str) -> String {
        match &self.label {
            Some(label) => format!("{label}: {text}"),
            None => text.to_owned(),
        }
    }

    fn over(mut self) {
        self.show_repeated();
        if let Some(spinner) = self.spinner {
            spinner.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_notice_is_shown_once_and_counted() {
        let mut notices = Notices::default();
        for _ in 0..134 {
            notices.add("pods \"node2\" not found");
        }
        assert!(!notices.add("pods \"node2\" not found"));
        assert!(notices.add("pods \"node3\" not found"));
        assert!(notices.add("read tcp 192.0.2.10:43210->192.0.2.11:10250: i/o timeout"));
        assert!(!notices.add("read tcp 192.0.2.10:54321->192.0.2.11:10250: i/o timeout"));
        assert!(notices.add("read tcp 192.0.2.10:54321->192.0.2.12:10250: i/o timeout"));
        let expected = [
            "pods \"node2\" not found (135 times)",
            "read tcp 192.0.2.10:43210->192.0.2.11:10250: i/o timeout (2 times)",
        ];
        assert_eq!(notices.take_repeated(), expected);
        assert_eq!(notices.take_repeated(), Vec::<String>::new());
        notices.add("pods \"node2\" not found");
        assert_eq!(notices.take_repeated(), ["pods \"node2\" not found (136 times)"]);
    }
}
