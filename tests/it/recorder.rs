//! Runs under the recorder of the range, and the programs that the kernel executed in them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use regex::Regex;
use serde_json::Value;

use crate::range::{Ran, Space, range_command, text};

/// A program that ran, with the actions of its forks before they executed another program.
#[derive(Debug)]
pub struct Program {
    /// When it was forked; orders programs of one container.
    pub at: u64,
    pub name: String,
    pub argv: Vec<String>,
    /// Indices of the ancestors in the list, nearest first.
    pub above: Vec<usize>,
    pub deeds: Vec<(u64, String)>,
}

impl Program {
    /// Returns the command line.
    pub fn command(&self) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
        let quoted = self.argv.iter().map(|argument| {
            if !argument.is_empty() && argument.chars().all(plain) {
                argument.clone()
            } else {
                format!("'{}'", argument.replace('\'', r"'\''"))
            }
        });
        quoted.collect::<Vec<_>>().join(" ")
    }

    /// Returns the names of the ancestors, nearest first.
    pub fn line<'a>(&self, of: &'a [Self]) -> Vec<&'a str> {
        self.above.iter().map(|&index| of[index].name.as_str()).collect()
    }
}

/// The programs by container name.
pub type Programs = BTreeMap<String, Vec<Program>>;

/// Runs scenarios under the recorder. Returns the programs by container name.
pub fn record(space: &Space, scenarios: &[&str]) -> Programs {
    record_run(space, scenarios).1
}

/// Like [`record`], also returns the outcome of the run.
pub fn record_run(space: &Space, arguments: &[&str]) -> (Ran, Programs) {
    let out = tempfile::NamedTempFile::new().unwrap();
    let (_, variables) = range_command();
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/range/record"))
        .arg(out.path())
        .args(["kubectl", "defender-sim", "run"])
        .args(arguments)
        .args(["--yes", "-q", "-o", "json", "-n", &space.0])
        .envs(variables)
        .output()
        .unwrap();
    let ran = Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    };
    let ran = ran.assert(0);
    let recorded: Value = serde_json::from_str(&std::fs::read_to_string(out.path()).unwrap()).unwrap();
    assert_eq!(recorded["lost"], 0);
    assert!(!recorded.to_string().contains("eyJ"), "a token was written down");
    let mut programs = BTreeMap::new();
    for container in recorded["containers"].as_array().unwrap() {
        if container["namespace"] == space.0.as_str() {
            let mut found = vec![];
            walk(&container["processes"], &[], &mut found);
            programs.insert(text(&container["container"]), found);
        }
    }
    (ran, programs)
}

fn walk(processes: &Value, above: &[usize], found: &mut Vec<Program>) {
    let list = |value: &Value| value.as_array().unwrap().clone();
    for process in list(processes) {
        let mut line = above.to_vec();
        if process["forked"] != true {
            line.insert(0, found.len());
            found.push(Program {
                at: process["at"].as_u64().unwrap(),
                name: text(&process["comm"]),
                argv: list(&process["argv"]).iter().map(text).collect(),
                above: above.to_vec(),
                deeds: vec![],
            });
        }
        if let Some(&program) = line.first() {
            let program = &mut found[program];
            let writes = list(&process["opens"])
                .into_iter()
                .filter(|open| open["write"] == true)
                .map(|open| (open, "writes"));
            let starts = list(&process["tried"])
                .into_iter()
                .map(|tried| (tried, "cannot start"));
            for (deed, verb) in writes.chain(starts) {
                let printed = format!("({} {verb} {})", program.name, text(&deed["path"]));
                program.deeds.push((deed["at"].as_u64().unwrap(), printed));
            }
        }
        walk(&process["children"], &line, found);
    }
}

/// Returns the requests in order: the step, and the index of the web shell's `sh -c` in the victim's list.
///
/// Asserts that the attacker sent and the victim ran the same commands in the same order, and that otherwise only the
/// victim's servers ran.
#[track_caller]
pub fn requests(programs: &Programs) -> Vec<(String, usize)> {
    let (attacker, victim) = (&programs["attacker"], &programs["victim"]);
    let mut sent: Vec<(String, String)> = vec![];
    let mut step = String::new();
    // The gate is checked before the first step and after the last.
    let check = "curl -qso /dev/null -m 10 -w '%{http_code}' http://mdc-simulation-victim/ws.php";
    let curls = attacker.iter().filter(|program| program.argv[0] == "curl");
    let curls: Vec<String> = curls
        .map(Program::command)
        .filter(|command| command.contains("http://mdc-simulation-victim/"))
        .collect();
    // The attacker waits for its own web server.
    let own_server = Regex::new(r"^curl -qsfo /dev/null http://localhost(:\d+)?/").unwrap();
    let checks: Vec<usize> = (0..curls.len()).filter(|&i| curls[i] == check).collect();
    assert_eq!(checks, [0, curls.len() - 1], "{curls:#?}");
    for program in attacker {
        let argv: Vec<&str> = program.argv.iter().map(String::as_str).collect();
        match argv[..] {
            ["base64", "-w0", file] => {
                let name = file.strip_prefix("/simulation/steps/").unwrap();
                name[4..].strip_suffix(".sh").unwrap().clone_into(&mut step);
            }
            [
                "curl",
                "-Gs",
                "-K",
                "/simulation/key/victim",
                "--data-urlencode",
                data,
                "http://mdc-simulation-victim/ws.php",
            ] => {
                assert_eq!(program.line(attacker), ["bash"]);
                let request = (step.clone(), data.strip_prefix("cmd=").unwrap().to_owned());
                // Retried only if the connection failed.
                if sent.last() != Some(&request) {
                    sent.push(request);
                }
            }
            _ => assert!(
                program.argv[0] != "curl"
                    || program.command() == check
                    || own_server.is_match(&program.command()),
                "another request: {program:#?}"
            ),
        }
    }
    let is_shell = |p: &Program| {
        p.name == "sh" && p.argv.len() == 3 && p.argv[1] == "-c" && p.line(victim) == ["php-fpm", "sh"]
    };
    let mut shells: Vec<usize> = (0..victim.len()).filter(|&i| is_shell(&victim[i])).collect();
    shells.sort_by_key(|&i| victim[i].at);
    let ran: Vec<&str> = shells.iter().map(|&i| victim[i].argv[2].as_str()).collect();
    let commands: Vec<&str> = sent.iter().map(|(_, command)| command.as_str()).collect();
    assert_eq!(ran, commands, "what the victim ran is not what the attacker sent");
    let others = victim.iter().enumerate().filter(|(index, program)| {
        !shells.contains(index) && !program.above.iter().any(|above| shells.contains(above))
    });
    let others: Vec<&str> = others.map(|(_, program)| program.name.as_str()).collect();
    assert_eq!(others, ["sh", "php-fpm", "nginx"], "{victim:#?}");
    sent.into_iter().map(|(step, _)| step).zip(shells).collect()
}

/// A step that the victim ran, by the indices of its programs in the victim's list.
pub struct Delivery {
    /// ID of the step.
    pub step: String,
    /// The web shell's `sh -c`.
    pub shell: usize,
    /// The bash that ran the script.
    pub bash: usize,
}

/// Returns the steps in order.
///
/// Asserts that each was sent in its own web shell request, as a script that a bash decoded from Base64, and that every
/// other program of the request ran below that bash.
#[track_caller]
pub fn deliveries(programs: &Programs) -> Vec<Delivery> {
    let victim = &programs["victim"];
    let base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    let deliver = |(step, shell): (String, usize)| {
        let command = &victim[shell].argv[2];
        let payload = command
            .strip_prefix("echo ")
            .and_then(|c| c.strip_suffix("| base64 -d| bash"));
        assert!(payload.is_some_and(|p| p.chars().all(base64)), "{command}");
        let below = (0..victim.len()).filter(|&i| victim[i].above.contains(&shell));
        let (delivery, work): (Vec<usize>, Vec<usize>) = below.partition(|&i| victim[i].above[0] == shell);
        let commands: Vec<String> = delivery.iter().map(|&i| victim[i].command()).collect();
        assert_eq!(commands, ["base64 -d", "bash"], "{step}");
        let bash = delivery[1];
        for program in work.into_iter().map(|i| &victim[i]) {
            assert!(program.above.contains(&bash), "{step}: {program:#?}");
            let line = program.line(victim);
            assert!(
                line.ends_with(&["bash", "sh", "php-fpm", "sh"]),
                "{step}: {program:#?}"
            );
        }
        Delivery { step, shell, bash }
    };
    requests(programs).into_iter().map(deliver).collect()
}
