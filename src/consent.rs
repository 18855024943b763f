//! Whether a run may begin: the last word before the first change.

use tokio::sync::oneshot;

use crate::cli::Run;
use crate::cluster::connect::Target;
use crate::engine::{Answer, Event, Events, Question, Started};
use crate::exit::Exit;
use crate::guard;
use crate::plan::Plan;
use crate::result::Problem;

/// Refuses what looks like production, unless that was allowed, and asks whoever sits at the terminal, unless
/// they said yes before.
///
/// # Errors
/// The refusal, with the flag that lifts it.
pub async fn consent(
    run: &Run,
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
    let sign = guard::production_sign(&run.production_words, &names, &started.labels);
    if let Some(sign) = sign.filter(|_| !run.allow_production) {
        return Err(refusal(
            format!("this looks like production: {sign}; nothing was made"),
            Some(format!("to run {place} all the same: --allow-production")),
        ));
    }
    if run.yes {
        return Ok(());
    }
    let keep = if plan.options.keep {
        "They stay until the deadline."
    } else {
        "All of it is removed again."
    };
    let text = format!("{place}\nTwo pods are made there, and one attacks the other. {keep}\nGo on? [y/N]");
    let (sender, answer) = oneshot::channel();
    events.send(Event::Ask(Question { text, answer: sender }));
    match answer.await {
        Ok(Answer::Yes) => Ok(()),
        Ok(Answer::No) => Err(refusal(
            "not run: the answer was not yes; nothing was made".to_owned(),
            None,
        )),
        Ok(Answer::Nobody) | Err(_) => Err(refusal(
            "not run: there is no terminal to ask at whether to go on; nothing was made".to_owned(),
            Some(format!("to run {place}: --yes")),
        )),
    }
}

fn refusal(message: String, hint: Option<String>) -> Problem {
    Problem {
        message,
        hint,
        details: vec![],
        exit: Exit::NotStarted,
    }
}
