//! Guards and the confirmation prompt before the first change to a cluster.

use tokio::sync::oneshot;

use crate::cli::RunArgs;
use crate::cluster::connect::Target;
use crate::event::{Answer, Event, Events, Question, Started};
use crate::exit::Exit;
use crate::guard;
use crate::plan::Plan;
use crate::result::Problem;

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
) -> Result<(), Problem> {
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
        return Err(refusal(
            format!("this looks like production: {sign}; nothing was made"),
            Some(format!("to run {place} all the same: --allow-production")),
        ));
    }
    if guard::is_system_namespace(&started.namespace) && !run.allow_system_namespace {
        return Err(system_namespace(&started.namespace));
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
pub(super) async fn confirm(text: String, hint: String, events: &Events) -> Result<(), Problem> {
    let (sender, answer) = oneshot::channel();
    events.send(Event::Ask(Question { text, answer: sender }));
    match answer.await {
        Ok(Answer::Yes) => Ok(()),
        Ok(Answer::No) => Err(refusal(
            "aborted: not confirmed; nothing was changed".to_owned(),
            None,
        )),
        Ok(Answer::Nobody) | Err(_) => Err(refusal(
            "cannot prompt for confirmation: not a terminal; nothing was changed".to_owned(),
            Some(hint),
        )),
    }
}

/// Creates the problem that a system namespace is rejected.
pub(super) fn system_namespace(name: &str) -> Problem {
    refusal(
        format!("{name} is a system namespace; nothing was changed"),
        Some("use another one with -n, or add --allow-system-namespace".to_owned()),
    )
}

fn refusal(message: String, hint: Option<String>) -> Problem {
    Problem {
        hint,
        ..Problem::new(Exit::NotStarted, message)
    }
}
