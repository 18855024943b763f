//! Guards and the confirmation prompt before the first change to a cluster.

use tokio::sync::oneshot;

use super::session::Session;
use crate::cli::RunArgs;
use crate::cluster::connect::Target;
use crate::error::Error;
use crate::event::{Answer, Event, Question, Started};
use crate::guard;
use crate::plan::Plan;
use crate::words::counted;

/// Rejects clusters that resemble production unless allowed, and prompts for confirmation unless already given.
///
/// # Errors
/// Returns the rejection, with the flag that overrides it.
pub(super) async fn consent(
    run: &RunArgs,
    plan: &Plan,
    target: &Target,
    started: &Started,
    session: &Session,
) -> Result<(), Error> {
    let scenarios: Vec<&str> = plan
        .scenarios
        .iter()
        .map(|scenario| scenario.id.as_str())
        .collect();
    let place = format!(
        "{} in namespace {} of {}",
        scenarios.join(", "),
        started.namespace,
        started.cluster
    );
    let names = [
        ("context", target.context.as_deref()),
        ("cluster", target.cluster.as_deref()),
        ("server", Some(target.server.as_str())),
        ("namespace", Some(started.namespace.as_str())),
    ];
    let names: Vec<(&str, &str)> = names
        .into_iter()
        .filter_map(|(what, name)| Some((what, name?)))
        .collect();
    let sign = guard::production_sign(&run.settings.production_words, &names, &started.labels);
    if let Some(sign) = sign.filter(|_| !run.allow_production) {
        return Err(Error::Production { sign, run: place });
    }
    if guard::is_system_namespace(&started.namespace) && !run.allow_system_namespace {
        return Err(Error::SystemNamespace {
            namespace: started.namespace.clone(),
        });
    }
    allowed(run, plan)?;
    if run.yes {
        return Ok(());
    }
    let subject = Subject {
        place: place.clone(),
        consequences: consequences(plan),
        prompt: "Continue? [y/N]",
    };
    confirm(subject, format!("to run {place}, add --yes"), session).await
}

/// Fails if a scenario needs consent of its own and has not been allowed.
fn allowed(run: &RunArgs, plan: &Plan) -> Result<(), Error> {
    let missing = plan.scenarios.iter().filter_map(|scenario| {
        let consent = scenario.consent.as_ref()?;
        let is_missing = !run.allow.contains(&scenario.id);
        is_missing.then(|| {
            (
                scenario.id.clone(),
                format!("{}: {}", scenario.id, consent.trim()),
            )
        })
    });
    let (scenarios, reasons): (Vec<String>, Vec<String>) = missing.unzip();
    if scenarios.is_empty() {
        return Ok(());
    }
    Err(Error::ConsentMissing { scenarios, reasons })
}

/// Describes what a run creates, for the confirmation prompt.
fn consequences(plan: &Plan) -> String {
    let mut sentences = vec![];
    if !plan.victims.is_empty() {
        sentences.push(match (plan.victims.len(), plan.attackers().count()) {
            (1, _) => "This creates two pods there, one attacking the other.".to_owned(),
            (victims, attackers) => format!(
                "This creates {victims} pods there, one in each group of nodes, and {} that {} them.",
                counted(attackers, "pod"),
                if attackers == 1 { "attacks" } else { "attack" }
            ),
        });
    }
    if !plan.uncovered.is_empty() {
        let groups = plan.uncovered.iter().map(|uncovered| uncovered.group.as_str());
        let groups = groups.collect::<Vec<_>>().join(", ");
        sentences.push(format!("Not covered: {groups}."));
    }
    let requests = plan.requests().count();
    if requests > 0 {
        let also = if plan.victims.is_empty() {
            "This"
        } else {
            "It also"
        };
        let number = counted(requests, "request");
        sentences.push(format!(
            "{also} sends {number} to the Kubernetes API in your name, and deletes what they create at once."
        ));
    }
    let consents = plan
        .scenarios
        .iter()
        .filter_map(|scenario| scenario.consent.as_deref());
    sentences.extend(consents.map(|consent| consent.trim().to_owned()));
    if plan.victims.is_empty() {
        return sentences.join("\n");
    }
    sentences.push(if plan.options.keep {
        "The pods stay until the deadline.".to_owned()
    } else {
        "Everything is deleted afterwards.".to_owned()
    });
    sentences.join(" ")
}

/// The parts of a [`Question`].
pub(super) struct Subject {
    /// The cluster and what is done there.
    pub place: String,
    pub consequences: String,
    pub prompt: &'static str,
}

/// Asks a yes-or-no question before anything is changed.
///
/// # Errors
/// Fails if the answer is not yes or, with `hint`, if there is no terminal.
pub(super) async fn confirm(subject: Subject, hint: String, session: &Session) -> Result<(), Error> {
    let (sender, answer) = oneshot::channel();
    // The other clusters of a fleet need the slot to reach their own question.
    session.slot.release();
    session.events.send(Event::Ask(Question {
        subject: subject.place,
        consequences: subject.consequences,
        prompt: subject.prompt,
        answer: sender,
    }));
    let answer = answer.await;
    session.slot.acquire().await;
    match answer {
        Ok(Answer::Yes) => Ok(()),
        Ok(Answer::No) => Err(Error::NotConfirmed),
        Ok(Answer::Nobody) | Err(_) => Err(Error::NoTerminal { hint }),
    }
}
