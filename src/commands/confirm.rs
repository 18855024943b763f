//! Guards and the confirmation prompt before the first change to a cluster.

use tokio::sync::oneshot;

use crate::cli::RunArgs;
use crate::cluster::connect::Target;
use crate::error::Error;
use crate::event::{Answer, Event, Events, Question, Started};
use crate::guard;
use crate::plan::Plan;

/// Rejects clusters that resemble production unless allowed, and prompts for confirmation unless already given.
///
/// # Errors
/// Returns the rejection, with the flag that overrides it.
pub(super) async fn consent(
    run: &RunArgs,
    plan: &Plan,
    target: &Target,
    started: &Started,
    events: &Events,
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
    if run.yes {
        return Ok(());
    }
    let keep = if plan.options.keep {
        "They stay until the deadline."
    } else {
        "Everything is deleted afterwards."
    };
    let text =
        format!("{place}\nThis creates two pods there, one attacking the other. {keep}\nContinue? [y/N]");
    confirm(text, format!("to run {place}, add --yes"), events).await
}

/// Asks a yes-or-no question before anything is changed.
///
/// # Errors
/// Fails if the answer is not yes or, with `hint`, if there is no terminal.
pub(super) async fn confirm(text: String, hint: String, events: &Events) -> Result<(), Error> {
    let (sender, answer) = oneshot::channel();
    events.send(Event::Ask(Question { text, answer: sender }));
    match answer.await {
        Ok(Answer::Yes) => Ok(()),
        Ok(Answer::No) => Err(Error::NotConfirmed),
        Ok(Answer::Nobody) | Err(_) => Err(Error::NoTerminal { hint }),
    }
}
