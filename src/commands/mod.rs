//! Commands: one file each, based on a [`Session`].
//!
//! A command returns its output, which is printed once, after its progress.

mod attack;
mod catalogue;
mod cleanup;
pub mod completion;
mod confirm;
mod doctor;
mod dry_run;
mod fleet;
mod interrupts;
mod job;
mod man;
mod publish;
mod records;
mod session;
mod slot;
mod sources;
mod verify;
mod version;

use crate::cli::{Action, Config, DryRun, Images, Invocation};
use crate::error::Error;
use crate::exit::Exit;
use crate::kubectl::Kubectl;
use crate::report::{Answer, Output, Report};

use session::Session;
use sources::Request;

/// Prints the result of a command and returns its exit code.
type Print = Box<dyn FnOnce(&Report) -> Exit>;

/// The result of a command.
type Outcome = Result<Print, Error>;

/// Prints a text and returns [`Exit::Ok`].
fn print(text: impl FnOnce(&Report) + 'static) -> Print {
    Box::new(|report| {
        text(report);
        Exit::Ok
    })
}

/// Runs a command and prints its result.
pub async fn carry_out(mut invocation: Invocation) -> Exit {
    if let Some(fleet) = invocation.fleet.take() {
        return Box::pin(fleet::carry_out(invocation, fleet)).await;
    }
    let (action, session, display) = Session::start(invocation);
    let outcome = Box::pin(dispatch(action, &session)).await;
    let report = session.close(display).await;
    let exit = match outcome {
        Ok(print) => print(&report),
        Err(error) => report.fail(&error),
    };
    report.finish(exit)
}

/// Prints the parser's answer to a command line that requests help or is invalid.
pub fn answer(answer: &Answer) -> Exit {
    let output = Output {
        color: answer.color,
        ..Output::default()
    };
    let report = Report::new(output, Kubectl::default());
    report.answer(answer);
    report.finish(answer.exit)
}

async fn dispatch(action: Action, session: &Session) -> Outcome {
    match action {
        Action::Scenario(scenario) => run(Request::one(scenario), session).await,
        Action::All(args) => run(Request::all(args), session).await,
        Action::Run(selected) => run(Request::selected(selected), session).await,
        Action::Doctor(request) => doctor::doctor(request, session).await,
        Action::Verify(request) => verify::verify(request, session).await,
        Action::Cleanup(request) => cleanup::cleanup(&request, session).await,
        Action::History(request) => records::history(&request, session),
        Action::Report(request) => records::report(request, session),
        Action::Handover(request) => records::handover(request, session),
        Action::List => Ok(catalogue::list()),
        Action::Describe { scenario } => catalogue::describe(scenario),
        Action::Alerts => Ok(catalogue::alerts()),
        Action::Lint { files } => Ok(catalogue::lint(&files)),
        Action::Images {
            action: Images::List(settings),
        } => Ok(catalogue::images(settings.options(false))),
        Action::Rights(request) => catalogue::rights(request, session.namespace.clone()),
        Action::Schema { name } => Ok(catalogue::schema(name)),
        Action::Config {
            action: Config::View(_),
        } => Ok(catalogue::settings(session)),
        Action::Completion(request) => completion::completion(request, session),
        Action::Man { folder } => man::man(folder.as_deref()),
        Action::Version { client } => version::version(client, session).await,
        Action::Help { .. } => unreachable!("the parser answers it"),
    }
}

async fn run(request: Request, session: &Session) -> Outcome {
    match request.args.dry_run {
        DryRun::None => Box::pin(attack::attack(request, session)).await,
        DryRun::Client => dry_run::client(&request, session),
        DryRun::Server => dry_run::server(&request, session).await,
    }
}
