//! Completion of command lines: scripts for shells, and answers for kubectl.
//!
//! kubectl runs a program called `kubectl_complete-defender_sim` with the words after the plugin's name.
//!
//! An answer has one candidate per line, `value<TAB>description`, then a colon and a directive to the shell (cobra's
//! `ShellCompDirective`). Completion must not fail, prompt or block: values that are not available within a second are
//! not offered.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use clap::{Arg, Command, ValueHint};
use clap_complete::Shell;
use clap_complete::engine::{self, ArgValueCandidates, ArgValueCompleter, CompletionCandidate};

use super::session::Session;
use super::{Outcome, print};
use crate::cli::{self, Completion};
use crate::cluster::connect;
use crate::cluster::kubeconfig::{self, Entry};
use crate::cluster::{self, Cluster, Found, Selectors};
use crate::defender::alerts::{self, Alert};
use crate::error::Error;
use crate::exit::Exit;
use crate::files;
use crate::history::History;
use crate::kubectl::Kubectl;
use crate::manifest::Kind;
use crate::net::Environment;
use crate::report::{Output, OutputFile, Report};
use crate::result::RunResult;
use crate::scenario::catalogue;
use crate::untrusted;

/// Name of the program in `PATH`.
const PROGRAM: &str = "kubectl-defender_sim";
/// Name of the program that kubectl runs for completions.
const COMPLETER: &str = "kubectl_complete-defender_sim";
/// Header that identifies a file written by this program.
const HEAD: &str = "#!/bin/sh\n# Written by: kubectl defender-sim completion --install\n";
const CALL: &str = "exec kubectl-defender_sim __complete \"$@\"\n";
/// Timeout for finding all candidates.
const BOUND: Duration = Duration::from_secs(1);

/// Prints the completions of a command line.
pub fn complete(words: Vec<OsString>) -> Exit {
    let report = Report::new(Output::default(), Kubectl::default());
    report.text(&answer(words));
    report.finish(Exit::Ok)
}

/// `completion`: prints the script for a shell, or enables completion of this plugin in kubectl.
pub(super) fn completion(request: Completion, session: &Session) -> Outcome {
    if let Some(shell) = request.shell {
        return Ok(print(move |report| report.text(&script(shell))));
    }
    let path = install(request.install.flatten(), &session.report)?;
    Ok(print(move |report| {
        report.notice(&format!("wrote {}", path.display()));
        report.notice(if is_found() {
            "check it: kubectl __complete defender-sim \"\""
        } else {
            "kubectl looks for it on PATH, which does not have this folder: add it, or name one that is there"
        });
    }))
}

/// Returns the words to complete, the last one unfinished, or `None` if completion was not requested.
pub fn asked(arguments: impl IntoIterator<Item = OsString>) -> Option<Vec<OsString>> {
    let mut arguments = arguments.into_iter().peekable();
    let program = arguments.next()?;
    let name = Path::new(&program).file_name()?.to_string_lossy();
    let by_name = name.starts_with(COMPLETER);
    (by_name || arguments.next_if(|first| first == "__complete").is_some()).then(|| arguments.collect())
}

/// Returns the completions in the format that kubectl parses.
fn answer(words: Vec<OsString>) -> String {
    // Even a bug must not write to the user's prompt.
    std::panic::set_hook(Box::new(|_| {}));
    let (sender, receiver) = mpsc::channel();
    // A thread, because a credential plugin may block it, which no timer can interrupt. It ends with the process.
    std::thread::spawn(move || sender.send(find(words)));
    let found = receiver.recv_timeout(BOUND).unwrap_or_default();
    let lines = found.candidates.iter().filter_map(line).collect::<String>();
    // 0: offer files if there are no candidates; 4: do not offer files.
    format!("{lines}:{}\n", if found.files { 0 } else { 4 })
}

#[derive(Default)]
struct Answer {
    candidates: Vec<CompletionCandidate>,
    /// Whether a file may follow here.
    files: bool,
}

/// An incomplete command line.
struct Line {
    /// All words, starting with the program.
    words: Vec<OsString>,
    files: AtomicBool,
}

fn find(words: Vec<OsString>) -> Answer {
    let mut words: Vec<OsString> = [PROGRAM.into()].into_iter().chain(words).collect();
    if words.len() == 1 {
        words.push(OsString::new());
    }
    let current = words
        .last()
        .map(|word| word.to_string_lossy().into_owned())
        .unwrap_or_default();
    let line = Arc::new(Line {
        words: words.clone(),
        files: AtomicBool::new(false),
    });
    // The engine would parse the next word as the flag's value, which only "=" can set.
    let last = words.len() - 1;
    let mut index = 0..;
    words.retain(|word| index.next() == Some(last) || word != "--dry-run");
    let last = words.len() - 1;
    let mut command = with_completers(cli::command(), &line);
    let found = engine::complete(&mut command, words, last, None);
    let mut candidates = found.unwrap_or_default();
    if !current.starts_with('-') {
        // As in kubectl, flags are offered only after a hyphen.
        candidates.retain(|candidate| !candidate.get_value().to_string_lossy().starts_with('-'));
    } else if let Some((flag, _)) = current.split_once('=') {
        // The shell adds the flag itself.
        let prefix = format!("{flag}=");
        let value = |candidate: CompletionCandidate| {
            let value = candidate.get_value().to_string_lossy();
            let value = value.strip_prefix(&prefix).unwrap_or(&value).to_owned();
            CompletionCandidate::new(value).help(candidate.get_help().cloned())
        };
        candidates = candidates.into_iter().map(value).collect();
    }
    let files = line.files.load(Ordering::Relaxed);
    if files && !current.starts_with('-') {
        // If a flag's value is optional, the engine also offers what may follow the flag, and the shell would then not
        // offer files.
        candidates.clear();
    }
    Answer { candidates, files }
}

/// Formats a line of the answer. Returns `None` if the value is not a single word on a single line.
fn line(candidate: &CompletionCandidate) -> Option<String> {
    let value = candidate.get_value().to_str()?;
    if value.is_empty() || untrusted::name(value) != value {
        return None;
    }
    let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
    let help = help.lines().next().unwrap_or_default();
    Some(if help.is_empty() {
        format!("{value}\n")
    } else {
        format!("{value}\t{help}\n")
    })
}

fn with_completers(command: Command, line: &Arc<Line>) -> Command {
    command
        .mut_args(|arg| with_completer(arg, line))
        .mut_subcommands(|sub| with_completers(sub, line))
}

fn with_completer(arg: Arg, line: &Arc<Line>) -> Arg {
    let find: fn(&Line) -> Option<Vec<CompletionCandidate>> = match arg.get_id().as_str() {
        "scenario" | "scenarios" => |line| Some(scenarios(line)),
        "expect" | "optional" => |_| Some(known_alerts()),
        "context" | "contexts" => |line| entries(line, Entry::Context),
        "cluster" => |line| entries(line, Entry::Cluster),
        "user" => |line| entries(line, Entry::User),
        "namespace" => namespaces,
        "run" if arg.is_positional() => |_| recorded(),
        "run" => runs,
        _ if arg.get_value_hint() == ValueHint::AnyPath => {
            let line = Arc::clone(line);
            return arg.add(ArgValueCompleter::new(move |_: &OsStr| {
                line.files.store(true, Ordering::Relaxed);
                vec![]
            }));
        }
        _ => return arg,
    };
    let line = Arc::clone(line);
    arg.add(ArgValueCandidates::new(move || find(&line).unwrap_or_default()))
}

/// Returns the scenarios that are not on the command line yet: each may be given only once.
fn scenarios(line: &Line) -> Vec<CompletionCandidate> {
    let (_, earlier) = line.words.split_last().expect("the program is always there");
    let entries = catalogue::entries().iter();
    let new = entries.filter(|entry| !earlier.contains(&OsString::from(entry.id)));
    new.map(|entry| CompletionCandidate::new(entry.id).help(Some(entry.title().into())))
        .collect()
}

/// Returns all known alerts.
fn known_alerts() -> Vec<CompletionCandidate> {
    let candidate = |alert: &Alert| CompletionCandidate::new(&alert.id).help(Some(alert.name.clone().into()));
    alerts::all().iter().map(candidate).collect()
}

fn entries(line: &Line, entry: Entry) -> Option<Vec<CompletionCandidate>> {
    let (options, _) = cli::parse_partial(&line.words)?;
    let names = kubeconfig::names(entry, &options, &environment()).ok()?;
    Some(names.into_iter().map(CompletionCandidate::new).collect())
}

fn namespaces(line: &Line) -> Option<Vec<CompletionCandidate>> {
    let found = ask(line, |_| None, Kind::Namespace, "")?;
    Some(
        found
            .into_iter()
            .map(|namespace| CompletionCandidate::new(namespace.name))
            .collect(),
    )
}

/// Returns the runs that have records on this machine.
fn recorded() -> Option<Vec<CompletionCandidate>> {
    let runs = History::of_user().ok()?.all().ok()?.runs;
    let run = |run: RunResult| {
        let scenarios: Vec<String> = run.scenarios.into_iter().map(|scenario| scenario.id).collect();
        let help = format!("{} at {:.0}", scenarios.join(" "), run.started);
        CompletionCandidate::new(run.run).help(Some(help.into()))
    };
    Some(runs.into_iter().map(run).collect())
}

/// Returns the runs in the cluster. Each run has one Job, which owns everything else.
fn runs(line: &Line) -> Option<Vec<CompletionCandidate>> {
    let found = ask(line, |namespace| namespace, Kind::Job, &cluster::selector(None))?;
    let run = |job: &Found| {
        let place = job.namespace.as_ref().map(|namespace| untrusted::name(namespace));
        let place = place.map(|namespace| format!("in namespace {namespace}").into());
        Some(CompletionCandidate::new(job.run()?).help(place))
    };
    Some(found.iter().filter_map(run).collect())
}

/// Queries the cluster that the command line selects.
fn ask(
    line: &Line,
    place: impl FnOnce(Option<String>) -> Option<String>,
    kind: Kind,
    selector: &str,
) -> Option<Vec<Found>> {
    let (options, namespace) = cli::parse_partial(&line.words)?;
    let (config, _) = connect::resolve(&options, &environment()).ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .ok()?;
    let agent = concat!(
        "kubectl-defender_sim/",
        env!("CARGO_PKG_VERSION"),
        " (completion)"
    );
    runtime.block_on(async {
        let cluster = Cluster::new(connect::client(config, agent, |_| ()).ok()?, BOUND);
        cluster
            .list(
                kind,
                place(namespace).as_deref(),
                Selectors {
                    labels: selector,
                    ..Selectors::default()
                },
            )
            .await
            .ok()
    })
}

/// Returns the environment of the process, without a terminal for prompts.
fn environment() -> Environment {
    Environment {
        stdin_is_terminal: false,
        ..Environment::from_process()
    }
}

/// Returns the script for a shell that completes the program under its own name.
fn script(shell: Shell) -> String {
    let mut script = vec![];
    clap_complete::generate(shell, &mut cli::command(), PROGRAM, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Returns whether the program that kubectl runs for completions is in `PATH`.
fn is_found() -> bool {
    which::which_global(COMPLETER).is_ok()
}

/// Writes the program that kubectl runs, next to this one or to `folder`, and returns its path.
///
/// # Errors
/// Fails if the folder does not exist or is not writable, or if a file of another program has the same name.
fn install(folder: Option<PathBuf>, report: &Report) -> Result<PathBuf, Error> {
    if cfg!(windows) {
        return Err(Error::CompletionUnsupported);
    }
    let beside = || Some(which::which_global(PROGRAM).ok()?.parent()?.to_owned());
    let folder = folder
        .or_else(beside)
        .ok_or(Error::NotOnPath { program: PROGRAM })?;
    let path = folder.join(COMPLETER);
    let ours = files::read_text(&path).is_ok_and(|text| text.starts_with(HEAD));
    if !ours && path.symlink_metadata().is_ok() {
        return Err(Error::CompleterForeign { path });
    }
    let written = OutputFile::program(&path).and_then(|file| file.write(&format!("{HEAD}{CALL}"), report));
    written.map_err(|error| Error::CompleterUnwritten(Box::new(error)))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_asked_by_its_name_or_by_a_word() {
        let asked = |line: &[&str]| asked(line.iter().map(Into::into));
        let words = |words: &[&str]| Some(words.iter().map(Into::into).collect::<Vec<OsString>>());
        assert_eq!(
            asked(&["/x/kubectl_complete-defender_sim", "run", ""]),
            words(&["run", ""])
        );
        assert_eq!(asked(&["kubectl_complete-defender_sim.exe"]), words(&[]));
        assert_eq!(
            asked(&["kubectl-defender_sim", "__complete", "-n"]),
            words(&["-n"])
        );
        assert_eq!(asked(&["kubectl-defender_sim", "recon", "__complete"]), None);
        assert_eq!(asked(&[]), None);
    }

    #[test]
    fn a_candidate_is_one_word_of_one_line() {
        let line = |value: &str, help: &str| {
            line(&CompletionCandidate::new(value).help(Some(help.to_owned().into())))
        };
        assert_eq!(line("a", "first\nsecond"), Some("a\tfirst\n".to_owned()));
        assert_eq!(line("a", ""), Some("a\n".to_owned()));
        for torn in ["", "a\nb", "a\tb", "\u{1b}[2Ja", "a\u{202e}b"] {
            assert_eq!(line(torn, "x"), None, "{torn:?}");
        }
    }
}
