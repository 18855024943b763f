//! Help: groups of commands, examples, and topics without a command.

use std::fmt::Write as _;

use clap::Command;

use crate::exit::Exit;
use crate::scenario::catalogue::{self, Entry, Family};
use crate::words::paragraphs;

pub(super) const DOCTOR: &str = "Check whether scenarios can run here and their alerts be raised: rights, namespace, \
    policies, quota, nodes, images, network policies, and Defender's sensor; with a login to Azure, also how Defender \
    is configured there. Nothing is created or changed. Exits with 3 if a prerequisite is missing.";
pub(super) const VERIFY: &str = "Check which expected alerts were raised for a finished run: the most recent one or the \
    one named, by its record on this machine or in a file; without a record, by namespace, time and scenarios. Can be \
    interrupted and resumed.";
pub(super) const CLEANUP: &str = "Delete leftovers of runs, from any machine: the objects of each run, and the namespace \
    if the run created it and it holds nothing else. Runs in progress and runs of other users are left alone, unless \
    --run names one or --force is given. -n limits this to one namespace.";
pub(super) const HANDOVER: &str = "Print what a SOC needs after a run, from its record: the alerts of the run with links, \
    KQL that finds them, how to recognize the run, and proposed suppression rules, limited to such runs. Verify the run \
    first: the alerts are those that were read then. Nothing is read or changed in Azure.";
pub(super) const DESCRIBE: &str = "Print a scenario: steps, proofs, alerts, needs. With -o yaml it is a scenario file, \
    the starting point for your own.";
pub(super) const ALERTS: &str = "List every alert of Defender for Containers that is publicly known, and what raises \
    it. CERTAINTY is the evidence of that: \"sampled\": a public sample shows the alert and what raised it; \
    \"documented\": Microsoft documents it, but no such sample is known; \"unverified\": only the name of the alert is \
    public. -o wide also prints steps, names, types and prerequisites.";
pub(super) const RIGHTS: &str = "Print the smallest role that a run needs, and a binding, for kubectl apply -f -: a \
    ClusterRole for runs that create their namespace (-n, or mdc-simulation), or with --namespace-scoped a Role for runs \
    in an existing one. No cluster is contacted.";
pub(super) const LINT: &str = "Check scenario files, each for every mistake that would keep a run from working. \
    Mistakes go to standard error, as FILE:LINE:COLUMN: error: ...; with -o json the result goes to standard output \
    too. Scripts are checked by bash, if this machine has it; nothing is run.";
pub(super) const COMPLETION: &str = "Complete commands, flags and names. With --install in \"kubectl defender-sim\", \
    where kubectl itself is completed (kubectl 1.26 and later); namespaces and runs are read from the cluster then. With \
    the name of a shell, a script that completes \"kubectl-defender_sim\" goes to standard output.";
pub(super) const CONFIG: &str = "Show the defaults in force. They come from, in this order: the flag, an environment \
    variable (DEFENDER_SIM_ and the flag's name), the config file, the built-in default. The file is YAML with the long \
    names of flags as keys; it is defender-sim/config.yaml in the user's config folder (XDG_CONFIG_HOME), or named by \
    --config.";

/// Commands by purpose. The scenarios of the catalogue are listed first.
const GROUPS: [(&str, &[&str]); 6] = [
    ("Attacks", &["all", "run"]),
    (RUNTIME, &[]),
    (CONTROL_PLANE, &[]),
    (
        "Before and after a run",
        &["doctor", "verify", "cleanup", "history", "report", "handover"],
    ),
    (
        "Reference",
        &["list", "describe", "alerts", "images", "rights", "lint", "schema"],
    ),
    ("Setup", &["config", "completion", "man", "version", "help"]),
];

const RUNTIME: &str = "More attacks in the victim";
const CONTROL_PLANE: &str = "Attacks through the Kubernetes API";

/// Returns the title and description of a scenario.
pub(super) fn scenario(entry: &Entry) -> String {
    format!("{}\n\n{}", entry.title(), paragraphs(&entry.description()))
}

/// Returns the examples of a command: a description and the arguments of each.
fn examples(command: &str) -> &'static [(&'static str, &'static str)] {
    match command {
        "all" => &[
            ("Every attack, without a question", "all --yes"),
            (
                "In a pipeline: wait for the alerts, fail if none is raised",
                "all --yes --verify --report junit=alerts.xml",
            ),
        ],
        "run" => &[
            ("Two attacks in one run", "run recon secrets"),
            ("A scenario of your own", "run -f mine.yaml"),
            (
                "A mix of both, without running it",
                "run recon -f mine.yaml --dry-run",
            ),
        ],
        "doctor" => &[
            ("Everything that \"all\" needs", "doctor"),
            (
                "What two attacks need in an existing namespace",
                "doctor recon secrets -n team-a",
            ),
            ("Several clusters", "doctor --contexts eu-1,eu-2"),
        ],
        "cleanup" => &[
            ("What would be deleted", "cleanup --dry-run"),
            ("One run, whatever its state", "cleanup --run q33wg4p3"),
        ],
        "list" => &[("With techniques and contacted hosts", "list -o wide")],
        "describe" => &[
            ("What an attack does", "describe recon"),
            ("A starting point for your own", "describe recon -o yaml"),
        ],
        "alerts" => &[("With types and sources", "alerts -o wide")],
        "images" | "list images" => &[("For a script that mirrors them", "images list -o name")],
        "rights" => &[
            (
                "A role for a CI account",
                "rights recon --subject serviceaccount:ci:runner",
            ),
            ("For runs in one namespace", "rights -n team-a --namespace-scoped"),
        ],
        "lint" => &[("Before a commit", "lint scenarios/a.yaml scenarios/b.yaml")],
        "schema" => &[("For an editor", "schema scenario")],
        "config" | "view" => &[("Settings and where they are from", "config view")],
        "completion" => &[
            ("For kubectl, in a folder of PATH", "completion --install"),
            ("For a shell", "completion bash"),
        ],
        "man" => &[("Read it", "man"), ("One page a command", "man ./man1")],
        "version" => &[("Without a cluster", "version --client")],
        "help" => &[
            ("Flags of a command", "help recon"),
            ("Exit codes", "help exit-codes"),
        ],
        _ => examples_of_records(command),
    }
}

/// Returns the examples of a command that reads the record of a run.
fn examples_of_records(command: &str) -> &'static [(&'static str, &'static str)] {
    match command {
        "verify" => &[
            ("Wait for the alerts of the last run", "verify"),
            ("What is known of a run now", "verify q33wg4p3 --wait 0"),
            (
                "By alerts that were saved before",
                "verify --alerts alerts.json --report markdown=summary.md",
            ),
            (
                "A run without a record",
                "verify --since 90m --scenario recon -n team-a",
            ),
        ],
        "history" => &[
            ("Runs in one namespace", "history -n team-a"),
            ("For programs", "history -o json"),
        ],
        "report" => &[
            ("The most recent run again", "report"),
            (
                "As a document for people",
                "report q33wg4p3 --report html=report.html",
            ),
        ],
        "handover" => &[
            ("The most recent run", "handover"),
            (
                "As a document for a ticket",
                "handover q33wg4p3 --note handover.md",
            ),
        ],
        _ => &[],
    }
}

/// Returns the examples of running the scenario with that ID.
fn examples_of_scenario(id: &str) -> String {
    format!(
        "Examples:\n  # Run it, after a confirmation\n  kubectl defender-sim {id}\n\n  \
         # What would be created and run\n  kubectl defender-sim {id} --dry-run\n\n  \
         # In a pipeline\n  kubectl defender-sim {id} --yes --verify --report junit=alerts.xml"
    )
}

/// Adds examples to every command, and the grouped help to the program.
pub(super) fn decorate(command: Command) -> Command {
    let names: Vec<String> = command
        .get_subcommands()
        .map(|sub| sub.get_name().to_owned())
        .collect();
    let command = names.into_iter().fold(command, |command, name| {
        let is_scenario = catalogue::entries().iter().any(|entry| entry.id == name);
        let text = if is_scenario {
            examples_of_scenario(&name)
        } else {
            text_of(examples(&name))
        };
        command.mut_subcommand(name, |sub| {
            let text = text.clone();
            let nested: Vec<String> = sub
                .get_subcommands()
                .map(|sub| sub.get_name().to_owned())
                .collect();
            let sub = nested.into_iter().fold(sub, |sub, name| {
                sub.mut_subcommand(name, |nested| nested.after_help(text.clone()))
            });
            sub.after_help(text)
        })
    });
    let text = root(&command);
    // The manual page does not include topics.
    let exits = topic("exit-codes", &command).unwrap_or_default();
    command.override_help(text).after_help(exits)
}

fn text_of(examples: &[(&str, &str)]) -> String {
    let example = |(purpose, line): &(&str, &str)| format!("  # {purpose}\n  kubectl defender-sim {line}");
    let examples: Vec<String> = examples.iter().map(example).collect();
    format!("Examples:\n{}", examples.join("\n\n"))
}

/// Returns the help of the program.
fn root(command: &Command) -> String {
    const WIDTH: usize = 16;
    let mut text = "\
Run harmless attack simulations to validate Microsoft Defender for Containers.
Every step is proved from inside the victim pod, and everything that was
created is deleted afterwards. Not affiliated with Microsoft.

Examples:
  # Can attacks run here, and can Defender detect them?
  kubectl defender-sim doctor

  # One attack, then (up to 90 minutes later) which alerts were raised
  kubectl defender-sim recon
  kubectl defender-sim verify

  # In a pipeline: run everything, wait for the alerts, fail if none is raised
  kubectl defender-sim all --yes --verify --report junit=alerts.xml
"
    .to_owned();
    let about = |name: &str| {
        let sub = command.find_subcommand(name);
        sub.and_then(Command::get_about)
            .map(ToString::to_string)
            .unwrap_or_default()
    };
    for (title, names) in GROUPS {
        let _ = writeln!(text, "\n{title}:");
        let entries = catalogue::entries().iter();
        let of_group = entries
            .filter(|entry| group(entry.family) == title)
            .map(|entry| entry.id);
        for name in of_group.chain(names.iter().copied()) {
            let _ = writeln!(text, "  {name:WIDTH$} {}", about(name));
        }
    }
    text + "
Usage: kubectl defender-sim COMMAND [flags]

  help COMMAND      the flags of a command (COMMAND -h has the common ones)
  help options      the flags of all commands
  help exit-codes   the exit codes
"
}

/// Returns the group of the scenarios of a family.
fn group(family: Family) -> &'static str {
    match family {
        Family::Microsoft => "Attacks",
        Family::Runtime => RUNTIME,
        Family::ControlPlane => CONTROL_PLANE,
    }
}

/// The output of the program without a command.
pub(super) const BARE: &str = "\
Run harmless attack simulations to validate Microsoft Defender for Containers.

  kubectl defender-sim doctor   can attacks run, and can Defender detect them?
  kubectl defender-sim recon    run one attack
  kubectl defender-sim verify   which of its alerts were raised?
  kubectl defender-sim help     all commands

error: a command is required
";

/// Returns the text of a topic, or `None` if it does not exist.
pub(super) fn topic(name: &str, command: &Command) -> Option<String> {
    match name {
        "exit-codes" => {
            let lines = Exit::ALL.map(|(exit, text)| format!("  {:>3}  {text}\n", exit.code()));
            Some(format!(
                "Exit codes:\n{}\nIf several apply, the first of {} is returned.\n",
                lines.concat(),
                Exit::precedence()
            ))
        }
        "options" => {
            let globals = command.get_arguments().filter(|arg| arg.is_global_set()).cloned();
            let mut options = Command::new("options")
                .about("Flags of all commands")
                .disable_help_flag(true)
                .max_term_width(80)
                .help_template("{about}:\n\n{options}")
                .args(globals);
            Some(options.render_long_help().ansi().to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::command;
    use super::*;

    #[test]
    fn every_command_is_in_one_group_and_has_examples_that_parse() {
        let command = command();
        for sub in command.get_subcommands() {
            let name = sub.get_name();
            let groups = GROUPS.iter().filter(|(_, names)| names.contains(&name)).count();
            let expected = usize::from(catalogue::find(name).is_none());
            assert_eq!(groups, expected, "{name}");
            let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            let lines: Vec<&str> = help
                .lines()
                .filter_map(|line| line.strip_prefix("  kubectl "))
                .collect();
            assert!(!lines.is_empty(), "{name} has no examples");
            for line in lines {
                let words = line.split(' ').map(|word| word.trim_matches('"'));
                if let Err(error) = command.clone().try_get_matches_from(words) {
                    panic!("{line}: {error}");
                }
            }
        }
    }
}
