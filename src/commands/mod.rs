//! What each command does: one file per command, each on a [`Session`]. A command returns what has to be printed,
//! which happens once, when its progress is over.

mod attack;
mod catalogue;
mod cleanup;
pub mod completion;
mod confirm;
mod doctor;
mod dry_run;
mod man;
mod records;
mod session;
mod sources;
mod verify;
mod version;

use crate::cli::{Action, Answer, DryRun, Invocation};
use crate::exit::Exit;
use crate::kubectl::Kubectl;
use crate::report::{Output, Report};
use crate::result::Problem;

use session::Session;

/// Prints the result of a command and returns its exit code.
type Print = Box<dyn FnOnce(&Report) -> Exit>;

/// How a command ends.
type Outcome = Result<Print, Problem>;

/// Prints something that always ends well.
fn print(text: impl FnOnce(&Report) + 'static) -> Print {
    Box::new(|report| {
        text(report);
        Exit::Ok
    })
}

/// Carries out a command and prints its result.
pub async fn carry_out(invocation: Invocation) -> Exit {
    let (action, session) = Session::start(invocation);
    let outcome = Box::pin(dispatch(action, &session)).await;
    let report = session.close().await;
    let exit = match outcome {
        Ok(print) => print(&report),
        Err(problem) => report.fail(&problem),
    };
    report.finish(exit)
}

/// Prints the parser's answer to a command line that asks for help or cannot be used.
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
        Action::Run(run) => match run.dry_run {
            DryRun::None => Box::pin(attack::attack(*run, session)).await,
            DryRun::Client => dry_run::client(*run, session),
            DryRun::Server => dry_run::server(*run, session).await,
        },
        Action::Doctor(request) => doctor::doctor(*request, session).await,
        Action::Verify(request) => verify::verify(*request, session).await,
        Action::Cleanup(request) => cleanup::cleanup(&request, session).await,
        Action::History => records::history(session),
        Action::Report(record, files) => records::report(&record, &files, session),
        Action::List => Ok(catalogue::list()),
        Action::Describe(source) => catalogue::describe(source),
        Action::Alerts => Ok(catalogue::alerts()),
        Action::Lint(files) => Ok(catalogue::lint(&files)),
        Action::Images(options) => Ok(catalogue::images(*options)),
        Action::Rights(scope, subjects) => Ok(print(move |report| report.rights(&scope, &subjects))),
        Action::Schema(name) => Ok(catalogue::schema(name)),
        Action::Settings(settings, file) => Ok(catalogue::settings(settings, file)),
        Action::Completion(shell) => Ok(print(move |report| report.text(&completion::script(shell)))),
        Action::InstallCompletion(folder) => completion::install_command(folder, session),
        Action::Man(folder) => man::man(folder.as_deref()),
        Action::Version { client } => version::version(client, session).await,
    }
}
