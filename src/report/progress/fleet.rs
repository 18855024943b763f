//! Progress of several clusters: each line begins with its cluster, and one question is asked for all of them.

use futures::future::join_all;
use indicatif::ProgressBar;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use super::{Progress, answer, is_live, spinner};
use crate::event::{Event, Question};
use crate::report::Report;
use crate::words::counted;

/// Shows the events of the clusters with these labels until the last of them has ended.
pub async fn show_fleet(report: Report, labels: Vec<String>, mut events: UnboundedReceiver<(usize, Event)>) {
    let mut fleet = Fleet::new(&report, labels);
    while let Some((member, event)) = events.recv().await {
        match event {
            Event::Ask(question) => fleet.asked.push((member, question)),
            Event::Ended(summary) => {
                fleet.members[member].spinner.clone_from(&fleet.spinner);
                fleet.members[member].line(&summary);
                fleet.ended += 1;
                fleet.count();
            }
            event => fleet.show(member, event),
        }
        fleet.ask(&report).await;
        if fleet.ended == fleet.members.len() {
            break;
        }
    }
    fleet.over();
}

struct Fleet {
    members: Vec<Progress>,
    /// One spinner for all of them.
    spinner: Option<ProgressBar>,
    /// The questions that have no answer yet, with their clusters.
    asked: Vec<(usize, Question)>,
    ended: usize,
}

impl Fleet {
    fn new(report: &Report, labels: Vec<String>) -> Self {
        let member = |label| Progress {
            label: Some(label),
            ..Progress::new(report.clone())
        };
        Self {
            members: labels.into_iter().map(member).collect(),
            spinner: None,
            asked: vec![],
            ended: 0,
        }
    }

    fn show(&mut self, member: usize, event: Event) {
        let member = &mut self.members[member];
        if self.spinner.is_none() && is_live(&member.report.output) && !matches!(event, Event::Notice(_)) {
            self.spinner = spinner(&member.report);
        }
        member.spinner.clone_from(&self.spinner);
        member.show(event);
    }

    /// Replaces the activity of a cluster that has ended.
    fn count(&self) {
        if let Some(spinner) = &self.spinner {
            let clusters = counted(self.members.len(), "cluster");
            spinner.set_message(format!("{} of {clusters} done", self.ended));
        }
    }

    /// Asks one question as soon as every cluster has asked or ended.
    async fn ask(&mut self, report: &Report) {
        // A cluster that was interrupted meanwhile needs no answer.
        self.asked.retain(|(_, question)| !question.answer.is_closed());
        if self.asked.is_empty() || self.asked.len() + self.ended < self.members.len() {
            return;
        }
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
        for member in &mut self.members {
            member.spinner = None;
        }
        self.asked.sort_by_key(|(member, _)| *member);
        let questions = self.asked.drain(..).map(|(_, question)| question);
        let questions: Vec<Question> = questions.collect();
        let (sender, receiver) = oneshot::channel();
        let question = Question {
            answer: sender,
            ..combined(&questions, self.members.len())
        };
        let mut answers: Vec<_> = questions.into_iter().map(|question| question.answer).collect();
        let distribute = async move {
            let interrupted = join_all(answers.iter_mut().map(oneshot::Sender::closed));
            let given = tokio::select! {
                given = receiver => given.ok(),
                _ = interrupted => None,
            };
            for (answer, given) in answers.into_iter().zip(std::iter::repeat(given)) {
                given.map(|given| answer.send(given));
            }
        };
        tokio::join!(answer(report, question), distribute);
    }

    fn over(self) {
        for member in self.members {
            member.over();
        }
        if let Some(spinner) = self.spinner {
            spinner.finish_and_clear();
        }
    }
}

/// Combines the questions of several clusters. What they have in common is stated once.
fn combined(questions: &[Question], clusters: usize) -> Question {
    let mut consequences: Vec<&str> = vec![];
    for question in questions {
        if !consequences.contains(&question.consequences.as_str()) {
            consequences.push(&question.consequences);
        }
    }
    let subjects = questions.iter().map(|question| format!("- {}", question.subject));
    let number = match questions.len() {
        number if number == clusters => format!("{}:", counted(number, "cluster")),
        number => format!("{number} of {}:", counted(clusters, "cluster")),
    };
    Question {
        subject: std::iter::once(number)
            .chain(subjects)
            .collect::<Vec<_>>()
            .join("\n"),
        consequences: consequences.join("\n"),
        prompt: questions[0].prompt,
        answer: oneshot::channel().0,
    }
}
