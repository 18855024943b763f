//! Everything that is written: standard output that takes nothing, report files, and text that is not fit for a
//! terminal.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use defender_sim::exit::Exit;
use defender_sim::report;
use defender_sim::result::Problem;
use defender_sim::scenario::catalogue;
use defender_sim::untrusted;
use serde_json::{Value, json};

use crate::verify::{Machine, RECON, alert, recon};

/// Every command that prints, in every form that differs, and its exit code. ALL and NONE are files with alerts.
const PRINTING: [(&str, i32); 28] = [
    ("list", 0),
    ("list -o wide", 0),
    ("list -o json", 0),
    ("list -o yaml", 0),
    ("list -o name", 0),
    ("describe recon", 0),
    ("alerts", 0),
    ("history", 0),
    ("report", 0),
    ("report -o json", 0),
    ("rights", 0),
    ("images list", 0),
    ("config view", 0),
    ("schema run", 0),
    ("completion bash", 0),
    ("__complete ", 0),
    ("man", 0),
    ("-h", 0),
    ("--help", 0),
    ("recon --help", 0),
    ("--version", 0),
    ("recon --server https://127.0.0.1:1 --dry-run", 0),
    ("recon --server https://127.0.0.1:1 --dry-run -o yaml", 0),
    ("version --server https://127.0.0.1:1", 3),
    ("verify --alerts ALL", 0),
    ("verify --alerts ALL -o yaml", 0),
    ("verify --alerts NONE --wait 0s --assume plan=yes,sensor=yes", 5),
    (
        "verify --alerts NONE --wait 0s --assume plan=yes,sensor=yes -o json",
        5,
    ),
];

/// Runs each of [`PRINTING`] into `stdout`, and has what came of it checked by `check`.
fn each_printing_into<T: Into<Stdio>>(stdout: impl Fn() -> T, check: impl Fn(&str, i32, &Output, &str)) {
    let machine = Machine::new();
    machine.record(&recon());
    let all = machine.file("all.json", &json!(RECON.map(alert)));
    let none = machine.file("none.json", &json!([]));
    for (line, code) in PRINTING {
        let arguments: Vec<&str> = line
            .split(' ')
            .map(|word| match word {
                "ALL" => &all,
                "NONE" => &none,
                word => word,
            })
            .collect();
        let output = machine.command(&arguments).stdout(stdout()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        check(line, code, &output, &said);
    }
}

#[test]
fn full_disk_is_7_unless_another_code_applies() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    each_printing_into(full, |line, code, output, said| {
        let expected = if code == 0 { 7 } else { code };
        assert_eq!(output.status.code(), Some(expected), "{line}: {said}");
        let message = "error: failed to write standard output: no space left on device\n";
        assert!(said.ends_with(message), "{line}: {said}");
        assert_eq!(said.matches("failed to write").count(), 1, "{line}: {said}");
    });
}

#[test]
fn reader_that_has_enough_is_no_error() {
    let closed = || std::io::pipe().unwrap().1;
    each_printing_into(closed, |line, code, output, said| {
        assert_eq!(output.status.code(), Some(code), "{line}: {said}");
        assert!(!said.contains("failed to write"), "{line}: {said}");
    });
}

/// A machine with one record, a folder for reports, and what they hold.
struct Desk(Machine);

impl Desk {
    fn new() -> Self {
        let machine = Machine::new();
        machine.record(&recon());
        Self(machine)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.0.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Runs a line of a shell in the folder, in which `$P` is the program, and returns what it wrote to both streams.
    #[track_caller]
    fn shell(&self, line: &str, code: i32) -> (String, String) {
        let program = self.0.command(&[]);
        let variables = program
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?)));
        let mut shell = Command::new("bash");
        shell
            .args(["-c", line])
            .current_dir(self.0.0.path())
            .stdin(Stdio::null());
        shell.env_clear().envs(variables).env("P", program.get_program());
        shell.env("PATH", std::env::var_os("PATH").unwrap());
        let output = shell.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{line}: {stdout}{stderr}");
        (stdout, stderr)
    }
}

/// Each kind of report, and what it begins with.
const KINDS: [(&str, &str); 5] = [
    ("junit", "<?xml"),
    ("json", "{\n"),
    ("markdown", "## "),
    ("md", "## "),
    ("navigator", "{\n"),
];

#[test]
fn report_on_standard_output_follows_the_table_under_every_name() {
    let desk = Desk::new();
    std::os::unix::fs::symlink("/proc/self/fd/1", desk.path("link")).unwrap();
    let (table, hint) = desk.shell("$P report", 0);
    for (kind, begin) in KINDS {
        let (report, _) = desk.shell(&format!("$P report -q --report {kind}=file && cat file"), 0);
        let report = report.strip_prefix(&table).unwrap();
        assert!(report.starts_with(begin), "{report}");
        for name in ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"] {
            let line = format!("$P report --report {kind}={name}");
            let both = format!("{table}{report}");
            assert_eq!(desk.shell(&line, 0), (both.clone(), hint.clone()), "{line}");
            desk.shell(&format!("{line} >out"), 0);
            assert_eq!(desk.read("out"), both, "{line}");
            desk.shell(&format!("(echo first; {line}; echo last) >out"), 0);
            assert_eq!(desk.read("out"), format!("first\n{both}last\n"), "{line}");
        }
        // A file that standard output already goes to.
        desk.shell(&format!("$P report --report {kind}=out >out"), 0);
        assert_eq!(desk.read("out"), format!("{table}{report}"));
        let line = format!("$P report --report {kind}=/dev/stderr");
        let (stdout, stderr) = desk.shell(&line, 0);
        assert_eq!(
            (stdout, stderr.contains(report)),
            (table.clone(), true),
            "{stderr}"
        );
        desk.shell(&format!("$P report --report {kind}=/dev/fd/3 3>out"), 0);
        assert_eq!(desk.read("out"), report);
        desk.shell(
            &format!("$P report --report {kind}=/dev/fd/3 3> >(cat >out); wait $!"),
            0,
        );
        assert_eq!(desk.read("out"), report);
    }
}

#[test]
fn files_that_do_not_fit_together_are_2_and_change_nothing() {
    let desk = Desk::new();
    desk.shell("echo old >old; ln -s old link; ln old further; mkfifo fifo", 0);
    let taken = "standard output already carries the result";
    let same = "two reports go to the same file";
    for (arguments, part) in [
        ("-o json --report junit=-", taken),
        ("-o yaml --report junit=-", taken),
        ("-o name --report junit=-", taken),
        (
            "-o json --report junit=/dev/stdout",
            "/dev/stdout already carries the result",
        ),
        (
            "-o json --report junit=/dev/stdout >/dev/null",
            "/dev/stdout already carries the result",
        ),
        ("--report junit=- --report json=-", same),
        ("--report junit=- --report json=/dev/stdout", same),
        ("--report junit=/dev/stderr --report json=/dev/stderr", same),
        ("--report junit=new --report json=new", "same file: new and new"),
        ("--report md=new --report json=./new", same),
        ("--report junit=new --report json=$PWD/new", same),
        ("--report junit=old --report json=link", same),
        ("--report junit=old --report json=further", same),
        ("--report json=old --report json=old", same),
        ("--report junit=fifo --report json=fifo", same),
        (
            "--report json=new --report junit=no/such",
            "failed to write no/such: no such file",
        ),
    ] {
        let (stdout, stderr) = desk.shell(&format!("$P report {arguments}"), 2);
        assert!(stderr.contains(part), "{arguments}: {stderr}");
        assert_eq!(stdout, "", "{arguments}");
    }
    for note in [
        "--soc-note new --report json=new",
        "--soc-note - -o json",
        "--soc-note - --report md=-",
    ] {
        desk.shell(&format!("$P recon --server https://127.0.0.1:1 --yes {note}"), 2);
    }
    assert_eq!(desk.read("old"), "old\n");
    assert!(!desk.path("new").exists());
    desk.shell("$P report --report junit=/dev/null --report json=/dev/null", 0);
}

#[test]
fn report_that_cannot_be_written_at_the_end_is_7_and_keeps_the_old_one() {
    let desk = Desk::new();
    desk.0.file("none.json", &json!([]));
    desk.shell("echo old >old", 0);
    // No file may grow any more, and that is an error, not a signal.
    let limited = "trap '' XFSZ; ulimit -f 0; exec $P";
    let missing = "verify --alerts none.json --wait 0s --assume plan=yes,sensor=yes";
    for (arguments, code) in [("report", 7), (missing, 5)] {
        for name in ["old", "new"] {
            let line = format!("{limited} {arguments} --report json={name} --report md=/dev/stderr");
            let (stdout, stderr) = desk.shell(&line, code);
            assert!(stdout.contains("Run abcdefgh"), "{stdout}");
            let message = format!("error: failed to write {name}: file too large\n");
            assert!(stderr.contains(&message), "{stderr}");
            assert!(stderr.contains("## ❌ "), "the other report: {stderr}");
        }
    }
    assert_eq!(desk.read("old"), "old\n");
    let folder = desk.0.0.path();
    let names = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = names
        .filter(|name| name.to_string_lossy().starts_with(".tmp"))
        .collect();
    assert!(left.is_empty() && !desk.path("new").exists(), "{left:?}");
}

#[test]
fn markdown_is_appended_to_the_job_summary() {
    let desk = Desk::new();
    let (report, _) = desk.shell("$P report -q --report md=plain >/dev/null && cat plain", 0);
    desk.shell("ln -s summary link", 0);
    for name in ["summary", "./summary", "$PWD/summary", "link"] {
        for named in ["summary", "$PWD/summary", "link"] {
            let line = format!("GITHUB_STEP_SUMMARY={named} $P report --report md={name}");
            desk.shell("echo earlier >summary", 0);
            let (_, stderr) = desk.shell(&line, 0);
            assert!(stderr.contains("appended to the job summary "), "{stderr}");
            assert_eq!(desk.read("summary"), format!("earlier\n\n{report}"), "{line}");
        }
    }
    desk.shell(
        "rm summary; GITHUB_STEP_SUMMARY=summary $P report --report md=link",
        0,
    );
    assert_eq!(desk.read("summary"), report);
    for (line, expected) in [
        (
            "GITHUB_STEP_SUMMARY=other $P report --report md=summary",
            report.as_str(),
        ),
        ("GITHUB_STEP_SUMMARY= $P report --report md=summary", &report),
        ("$P report --report md=summary", &report),
    ] {
        desk.shell("echo earlier >summary", 0);
        assert!(!desk.shell(line, 0).1.contains("appended"), "{line}");
        assert_eq!(desk.read("summary"), expected, "{line}");
    }
    desk.shell(
        "echo earlier >summary; GITHUB_STEP_SUMMARY=summary $P report --report json=summary",
        0,
    );
    assert!(
        desk.read("summary").starts_with("{\n"),
        "only Markdown is appended"
    );
}

/// What a terminal obeys or what changes a text unseen, and a forged style.
const UNSEEN: &str = "\u{1b}[2J\u{1b}]0;x\u{7}\u{9b}31m\u{202e}\u{2066}\u{200b}\u{7f}\u{8}\u{feff}\u{1b}[1m\u{1b}[31mFORGED\u{1b}[0m";
/// The same where a line break is possible too.
const TORN: &str = "\u{85}\u{2028}\r";

/// The styles of this program.
const STYLES: [&str; 8] = [
    "\u{1b}[0m",
    "\u{1b}[1m",
    "\u{1b}[4m",
    "\u{1b}[31m",
    "\u{1b}[32m",
    "\u{1b}[33m",
    "\u{1b}[36m",
    "\u{1b}[2m",
];

/// Insists that nothing in an output is obeyed by a terminal or unseen, except this program's own styles.
#[track_caller]
fn assert_shown(line: &str, output: &Output) {
    for stream in [&output.stdout, &output.stderr] {
        let text = String::from_utf8(stream.clone()).unwrap();
        let forged = "\u{1b}[31mFORGED";
        assert!(!text.contains(forged), "{line}: {text:?}");
        let plain = STYLES
            .iter()
            .fold(text.clone(), |text, style| text.replace(style, ""));
        assert!(!plain.contains(untrusted::is_unseen), "{line}: {text:?}");
    }
}

/// A machine on which everything that a user, a file or the environment can name has such text in it.
fn hostile_machine() -> Machine {
    let machine = Machine::new();
    let file = |name: &str, content: &Value| {
        // Escaped, which every reader of YAML takes too.
        std::fs::write(machine.0.path().join(name), report::json(content)).unwrap();
    };
    let mut run = recon();
    let text = format!("{UNSEEN}{TORN}");
    run.namespace.clone_from(&text);
    run.node = Some(text.clone());
    run.cluster.context = Some(text.clone());
    run.cluster.server.clone_from(&text);
    run.cluster.user = Some(text.clone());
    run.problem = Some(Problem {
        message: text.clone(),
        hint: Some(text.clone()),
        details: vec![text.clone()],
        exit: Exit::NotProved,
    });
    let scenario = &mut run.scenarios[0];
    for field in [
        &mut scenario.title,
        &mut scenario.steps[0].title,
        &mut scenario.alerts[0].name,
    ] {
        field.clone_from(&text);
    }
    scenario.steps[0].evidence = Some(text.clone());
    scenario.steps[0].reason = Some(text.clone());
    scenario.tactics = vec![text.clone()];
    scenario.steps[0].techniques = vec![text.clone()];
    let cleanup = run.cleanup.as_mut().unwrap();
    (cleanup.left, cleanup.problems) = (vec![text.clone()], vec![text.clone()]);
    machine.record(&run);
    let record = serde_json::to_value(&run).unwrap();
    file(&format!("{UNSEEN}.json"), &record);
    let mut raised = alert(RECON[0]);
    raised["properties"]["severity"] = text.clone().into();
    raised["properties"]["alertUri"] = text.clone().into();
    file("alerts.json", &json!([raised]));
    file(&format!("alerts{UNSEEN}.json"), &json!([]));
    file("defender-sim/runs/torn.json", &json!({ "schema": text }));
    file(&format!("defender-sim/runs/{UNSEEN}.json"), &json!([text]));
    let kubeconfig = json!({
        "current-context": text,
        "contexts": [{"name": text, "context": {"cluster": text, "user": text, "namespace": text}}],
        "clusters": [{"name": text, "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": text, "user": {}}],
    });
    file("kubeconfig", &kubeconfig);
    file("no-context", &json!({ "current-context": text, "contexts": [] }));
    let scenario = |name: &str, change: &dyn Fn(&mut Value)| {
        let mut scenario = serde_json::to_value(catalogue::find("recon").unwrap()).unwrap();
        scenario["id"] = "mine".into();
        change(&mut scenario);
        file(name, &scenario);
    };
    for field in ["title", "description", "leaves", "id"] {
        let value = if field == "leaves" {
            json!([text])
        } else {
            json!(text)
        };
        scenario(&format!("{field}.yaml"), &|scenario| {
            scenario[field] = value.clone();
        });
    }
    for field in ["title", "script"] {
        let value: Value = format!("echo {text}").into();
        scenario(&format!("step-{field}.yaml"), &|scenario| {
            scenario["steps"][0][field] = value.clone();
        });
    }
    scenario("key.yaml", &|scenario| scenario[&text] = 1.into());
    scenario("variant.yaml", &|scenario| {
        scenario["steps"][0]["proof"] = json!(text);
    });
    file(
        "config.yaml",
        &json!({ "image-registry": text, "production-words": [text] }),
    );
    file("bad-key.yaml", &json!({ text.clone(): 1 }));
    file("bad-value.yaml", &json!({ "deadline": text }));
    machine
}

/// Lines that show text from outside, in every way it can come in.
const SHOWN: [&str; 58] = [
    // What is typed.
    "--UNSEEN",
    "UNSEEN",
    "list UNSEEN",
    "list -o UNSEEN",
    "list --color UNSEEN",
    "recon --deadline UNSEEN",
    "describe UNSEEN",
    "lint UNSEEN",
    "report UNSEEN",
    "report run/UNSEEN",
    "verify --record UNSEEN",
    "report --report UNSEEN=x",
    "report --report json=UNSEEN/x",
    "recon --label UNSEEN=x",
    "cleanup --run UNSEEN",
    "run -f UNSEEN --dry-run",
    "man UNSEEN.json/x",
    "completion --install UNSEEN",
    "rights --subject UNSEEN",
    "rights -n UNSEEN",
    "history --config UNSEEN",
    "version --server UNSEEN",
    "recon --dry-run --kubeconfig UNSEEN",
    "recon --dry-run --kubeconfig kubeconfig --context UNSEEN",
    "images list --image-registry UNSEEN",
    "images list --image-registry UNSEEN -o name",
    "images list --image-registry UNSEEN -o yaml",
    "config view --image-registry UNSEEN",
    "verify --since UNSEEN",
    "verify --alerts UNSEEN --record UNSEEN.json",
    // Records and alerts.
    "report abcdefgh",
    "report abcdefgh -o wide",
    "report abcdefgh -o json",
    "report abcdefgh -o yaml",
    "report abcdefgh --report junit=-",
    "report abcdefgh --report json=-",
    "report abcdefgh --report md=-",
    "report abcdefgh --report navigator=-",
    "report",
    "history",
    "history -o wide",
    "history -o json",
    "verify --record UNSEEN.json --alerts alerts.json --wait 0s",
    "verify abcdefgh --alerts alertsUNSEEN.json --wait 0s",
    "verify abcdefgh --alerts alerts.json --wait 0s --report md=-",
    // The kubeconfig and the config file.
    "recon --dry-run --kubeconfig kubeconfig",
    "recon --dry-run --kubeconfig kubeconfig -o json",
    "recon --dry-run --kubeconfig kubeconfig -o name -n UNSEEN",
    "recon --dry-run --kubeconfig kubeconfig -o yaml --image-registry UNSEEN",
    "recon --dry-run --kubeconfig no-context",
    "report run/abcdefgh -o wide --report json=/dev/stdout",
    "doctor --kubeconfig kubeconfig",
    "config view --config config.yaml",
    "config view --config config.yaml -o yaml",
    "images list --config config.yaml",
    "list --config bad-key.yaml",
    "recon --config bad-value.yaml",
    "recon --dry-run --server https://127.0.0.1:1 --config config.yaml",
];

/// Lines that may show it, or refuse it before.
const PERHAPS_SHOWN: [&str; 17] = [
    "lint title.yaml",
    "lint id.yaml",
    "lint key.yaml",
    "lint variant.yaml",
    "run -f title.yaml --dry-run --server https://127.0.0.1:1",
    "run -f description.yaml --dry-run --server https://127.0.0.1:1",
    "run -f leaves.yaml --dry-run --server https://127.0.0.1:1",
    "run -f step-title.yaml --dry-run --server https://127.0.0.1:1",
    "run -f step-script.yaml --dry-run --server https://127.0.0.1:1",
    "run -f step-script.yaml --dry-run --server https://127.0.0.1:1 -o json",
    "run -f step-script.yaml --dry-run --server https://127.0.0.1:1 -o yaml",
    "run -f variant.yaml --dry-run --server https://127.0.0.1:1 -o wide",
    "recon --yes --kubeconfig kubeconfig",
    "__complete UNSEEN",
    "__complete --kubeconfig kubeconfig --context ",
    "__complete report ",
    "report abcdefgh -o name",
];

#[test]
fn text_from_outside_is_shown_and_never_obeyed() {
    let machine = hostile_machine();
    let run = |line: &str, variable: &str| {
        let words: Vec<String> = line
            .split(' ')
            .map(|word| word.replace("UNSEEN", UNSEEN))
            .collect();
        let mut arguments: Vec<&str> = words.iter().map(String::as_str).collect();
        if arguments[0] != "__complete" {
            arguments.extend(["--color", "always"]);
        }
        let mut command = machine.command(&arguments);
        command.current_dir(machine.0.path()).env(variable, UNSEEN);
        let output = command.output().unwrap();
        assert!(
            output.status.code().is_some_and(|code| code != 1),
            "{line}: {output:?}"
        );
        assert_shown(&format!("{variable} {line}"), &output);
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    for line in SHOWN {
        let text = run(line, "UNUSED");
        assert!(text.contains("FORGED"), "{line}: {text}");
    }
    for line in PERHAPS_SHOWN {
        run(line, "UNUSED");
    }
    for (variable, line) in [
        ("DEFENDER_SIM_DEADLINE", "recon --dry-run"),
        ("DEFENDER_SIM_OUTPUT", "list"),
        ("DEFENDER_SIM_IMAGE_REGISTRY", "config view"),
        ("DEFENDER_SIM_IMAGE_REGISTRY", "config view -o json"),
        ("DEFENDER_SIM_CONFIG", "config view"),
        ("KUBECONFIG", "recon --dry-run"),
        ("GITHUB_STEP_SUMMARY", "report abcdefgh --report md=UNSEEN"),
    ] {
        // A long value is wrapped.
        let text = run(line, variable);
        let joined: String = text.split_whitespace().collect();
        assert!(joined.contains("FORGED"), "{variable} {line}: {text}");
    }
    let mut command = machine.command(&["--help", "--color", "always"]);
    let output = command.arg0(UNSEEN).output().unwrap();
    assert_shown("the name of the program", &output);
}

#[test]
fn data_for_programs_has_the_text_unchanged() {
    let machine = hostile_machine();
    let text = format!("{UNSEEN}{TORN}\u{e0041}");
    let settings = |format: &str| {
        let mut command = machine.command(&["config", "view", "-o", format]);
        let output = command
            .env("DEFENDER_SIM_IMAGE_REGISTRY", &text)
            .output()
            .unwrap();
        assert_shown(format, &output);
        String::from_utf8(output.stdout).unwrap()
    };
    let json: Value = serde_json::from_str(&settings("json")).unwrap();
    let yaml: Value = serde_saphyr::from_str(&settings("yaml")).unwrap();
    for settings in [json, yaml] {
        let settings = settings.as_array().unwrap();
        let setting = settings
            .iter()
            .find(|setting| setting["name"] == "image-registry")
            .unwrap();
        assert_eq!(setting["value"], text.as_str());
    }
}

#[test]
fn columns_stay_in_line_beside_text_from_outside() {
    let machine = hostile_machine();
    let mut command = machine.command(&["config", "view", "--color", "always"]);
    let output = command
        .env("DEFENDER_SIM_IMAGE_REGISTRY", "a\u{1b}[31mb\u{202e}c")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let column = text.lines().next().unwrap().find("FROM").unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("image-registry"))
        .unwrap();
    assert!(line.contains("a\\u{1b}[31mb\\u{202e}c"), "{text}");
    assert_eq!(line.find("environment"), Some(column), "{text}");
}
