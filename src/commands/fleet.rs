//! A command on several clusters: one session for each, side by side, with one question, one display and one result.
//!
//! A cluster that cannot be used does not stop the others. Credentials that need a person are asked for one after the
//! other, before the clusters work side by side.

use std::sync::Arc;

use futures::future::join_all;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::interrupts::Interrupts;
use super::job::Job;
use super::session::{Session, unknown_variable};
use super::slot::Slot;
use crate::cli::{Action, Fleet, Invocation};
use crate::cluster::connect::ConnectError;
use crate::cluster::kubeconfig::{self, Entry};
use crate::error::Error;
use crate::event::Event;
use crate::exit::Exit;
use crate::net::Environment;
use crate::report::{Report, ReportFile, show_fleet};
use crate::result::{ClusterOutcome, ClusterResult, FleetResult, Problem};

/// Limit of the clusters that work at the same time.
const PARALLEL: usize = 8;

/// Runs a command on several clusters and prints its result.
pub(super) async fn carry_out(invocation: Invocation, fleet: Fleet) -> Exit {
    let report = Report::new(invocation.output.clone(), invocation.connect.kubectl());
    for name in &invocation.unknown_variables {
        report.note(&format!("warning: {}", unknown_variable(name)));
    }
    let exit = match Box::pin(run(invocation, fleet, &report)).await {
        Ok(exit) => exit,
        Err(error) => report.fail(&error),
    };
    report.finish(exit)
}

/// A cluster of the fleet and what is done there.
struct Member {
    context: String,
    session: Session,
    job: Job,
}

async fn run(invocation: Invocation, fleet: Fleet, report: &Report) -> Result<Exit, Error> {
    let started = Timestamp::now();
    let file = invocation.action.fleet().and_then(|args| args.fleet.clone());
    let files = report.open_files(reports(&invocation.action), None)?;
    let is_explicit = !matches!(fleet, Fleet::All);
    let (sender, events) = unbounded_channel();
    let mut members = start(invocations(&invocation, fleet)?, report, &sender)?;
    drop(sender);
    check_can_confirm(&members, report)?;
    remove_repeated(&mut members, is_explicit, report)?;
    let labels = members.iter().map(|member| member.context.clone()).collect();
    let display = tokio::spawn(show_fleet(report.clone(), labels, events));
    let mut has_credentials = vec![];
    for member in &members {
        let may_prompt = member.job.connects() && member.session.may_prompt();
        if may_prompt {
            report.notice(&format!("credentials for context {}", member.context));
            member.session.connect_early(member.job.plan()).await;
        }
        has_credentials.push(may_prompt);
    }
    let work = members.into_iter().zip(has_credentials);
    let work = work.map(|(member, has_credentials)| Box::pin(member.work(has_credentials)));
    let (clusters, failures): (Vec<ClusterOutcome>, Vec<Vec<Problem>>) =
        join_all(work).await.into_iter().unzip();
    // A failure of the display does not change the result.
    let _ = display.await;
    let result = FleetResult::new(clusters, (started, Timestamp::now()));
    report.fleet(&result, file.as_deref());
    for problem in failures.iter().flatten() {
        report.problem(problem);
    }
    Ok(result.exit.worse(report.write_fleet_reports(&files, &result)))
}

/// Returns the invocation for each cluster.
fn invocations(invocation: &Invocation, fleet: Fleet) -> Result<Vec<Invocation>, Error> {
    let contexts = match fleet {
        Fleet::File(members) => return Ok(members),
        Fleet::Contexts(contexts) => contexts,
        Fleet::All => {
            let environment = Environment::from_process();
            let contexts = kubeconfig::names(Entry::Context, &invocation.connect, &environment)?;
            if contexts.is_empty() {
                let tried = vec!["no context in the kubeconfig".to_owned()];
                return Err(ConnectError::NotConfigured { tried }.into());
            }
            contexts
        }
    };
    let members = contexts.into_iter().map(|context| {
        let mut member = invocation.clone();
        member.connect.context = Some(context);
        member
    });
    Ok(members.collect())
}

/// Starts a session for each cluster, and plans what is done there.
fn start(
    invocations: Vec<Invocation>,
    report: &Report,
    events: &UnboundedSender<(usize, Event)>,
) -> Result<Vec<Member>, Error> {
    let (interrupts, slots) = (Interrupts::default(), Arc::new(Semaphore::new(PARALLEL)));
    let mut members = vec![];
    for (number, mut invocation) in invocations.into_iter().enumerate() {
        // Already reported, once for all clusters.
        invocation.unknown_variables.clear();
        let context = invocation.connect.context.clone().unwrap_or_default();
        let report = report.with_kubectl(invocation.connect.kubectl());
        let slot = Slot::of(&slots);
        let (action, session, receiver) = Session::of(invocation, report, number, interrupts.clone(), slot);
        tokio::spawn(forward(number, receiver, events.clone()));
        let job = Job::new(action, &session)?;
        members.push(Member {
            context,
            session,
            job,
        });
    }
    Ok(members)
}

async fn forward(number: usize, mut from: UnboundedReceiver<Event>, to: UnboundedSender<(usize, Event)>) {
    while let Some(event) = from.recv().await {
        if to.send((number, event)).is_err() {
            break;
        }
    }
}

/// Fails without a terminal if a confirmation is needed.
///
/// # Errors
/// Returns one error for all clusters, before any of them is contacted.
fn check_can_confirm(members: &[Member], report: &Report) -> Result<(), Error> {
    if report.can_prompt() {
        return Ok(());
    }
    let contexts: Vec<&str> = members.iter().map(|member| member.context.as_str()).collect();
    match members.iter().find_map(|member| member.job.needs_confirmation()) {
        Some(what) => Err(Error::NoTerminal {
            hint: format!("to {what} in {}, add --yes", contexts.join(", ")),
        }),
        None => Ok(()),
    }
}

/// Rejects contexts that change the same namespace of the same cluster. If the user did not name them, all but the first
/// are skipped.
fn remove_repeated(members: &mut Vec<Member>, is_explicit: bool, report: &Report) -> Result<(), Error> {
    let mut seen: Vec<(String, Option<String>, String)> = vec![];
    let mut kept = vec![];
    for member in std::mem::take(members) {
        let server = member.session.resolve().ok().map(|(target, _)| target.server);
        let (Some(server), Some(namespace)) = (server, member.job.changed_namespace(&member.session)) else {
            kept.push(member);
            continue;
        };
        let same = seen
            .iter()
            .find(|(known, of, _)| *known == server && *of == namespace);
        let Some((_, _, first)) = same else {
            seen.push((server, namespace, member.context.clone()));
            kept.push(member);
            continue;
        };
        let error = Error::ContextsSame {
            first: first.clone(),
            second: member.context,
        };
        if is_explicit {
            return Err(error);
        }
        report.note(&format!("warning: {error}; the second one is skipped"));
    }
    *members = kept;
    Ok(())
}

impl Member {
    /// Does the work in this cluster and returns its outcome, with failures beyond those of its result.
    async fn work(self, has_credentials: bool) -> (ClusterOutcome, Vec<Problem>) {
        let Self {
            context,
            session,
            job,
        } = self;
        session.slot.acquire().await;
        if let Some(exit) = session.stopped() {
            let outcome = ClusterOutcome::failed(context, None, exit);
            session.end("not started".to_owned());
            return (outcome, vec![]);
        }
        if job.connects() && !has_credentials {
            session.connect_early(job.plan()).await;
        }
        let kubectl = session.kubectl();
        let (outcome, failures) = match Box::pin(job.carry_out(&session, &context)).await {
            Ok((result, failures)) => (ClusterOutcome::new(context.clone(), result), failures),
            Err(error) => {
                let problem = error.to_problem(&kubectl);
                (
                    ClusterOutcome::failed(context.clone(), problem, error.exit()),
                    vec![],
                )
            }
        };
        let mut outcome = outcome;
        let mut problems = vec![];
        for error in failures {
            outcome.add_failure(error.exit());
            let problem = error.to_problem(&kubectl);
            problems.push(Problem {
                message: format!("{context}: {}", problem.message),
                ..problem
            });
        }
        session.end(summary(&outcome));
        (outcome, problems)
    }
}

/// Returns the last line of progress in a cluster.
fn summary(outcome: &ClusterOutcome) -> String {
    match (&outcome.problem, &outcome.result) {
        (Some(problem), _) => format!("failed: {}", problem.message),
        (None, Some(ClusterResult::Run(run))) if run.verification.is_none() => {
            format!("done: {}", crate::report::meaning::proved_steps(run))
        }
        _ => format!("done, exit code {}", outcome.exit_code),
    }
}

/// Returns the files for the reports of a command.
fn reports(action: &Action) -> &[ReportFile] {
    match action {
        Action::Verify(verify) => &verify.report,
        action => action.run().map_or(&[], |run| &run.report),
    }
}
