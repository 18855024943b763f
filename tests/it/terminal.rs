//! Untrusted text: whatever a user, a file or the environment contains, a terminal never interprets it.

use std::os::unix::process::CommandExt as _;
use std::process::Output;

use defender_sim::report;
use defender_sim::result::Problem;
use defender_sim::scenario::catalogue;
use defender_sim::untrusted;
use serde_json::{Value, json};

use crate::verify::{Machine, RECON, alert, recon};

/// Text that terminals interpret, invisible characters, and a forged style.
const UNSEEN: &str = "\u{1b}[2J\u{1b}]0;x\u{7}\u{9b}31m\u{202e}\u{2066}\u{200b}\u{7f}\u{8}\u{feff}\u{1b}[1m\u{1b}[31mFORGED\u{1b}[0m";
/// The same for places that allow line breaks.
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

/// Asserts that an output contains nothing invisible and nothing that a terminal interprets.
///
/// The styles of this program are allowed.
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

/// Creates a machine on which everything that a user, a file or the environment can name contains such text.
#[expect(clippy::too_many_lines, reason = "a text for everything that has a name")]
fn hostile_machine() -> Machine {
    let machine = Machine::new();
    let file = |name: &str, content: &Value| {
        // Escaped, which every YAML parser accepts as well.
        std::fs::write(machine.0.path().join(name), report::json(content)).unwrap();
    };
    let mut run = recon();
    let text = format!("{UNSEEN}{TORN}");
    run.namespace.clone_from(&text);
    run.victims[0].node = Some(text.clone());
    run.cluster.context = Some(text.clone());
    run.cluster.server.clone_from(&text);
    run.cluster.user = Some(text.clone());
    run.problem = Some(Problem {
        message: text.clone(),
        hint: Some(text.clone()),
        details: vec![text.clone()],
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

/// Command lines that show untrusted text, from every source.
const SHOWN: [&str; 63] = [
    // Arguments.
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
    "report abcdefgh --report html=-",
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
    "doctor --kubeconfig kubeconfig --all-contexts",
    "doctor --kubeconfig kubeconfig --all-contexts -o json",
    "recon --contexts UNSEEN,UNSEEN",
    "recon --fleet bad-key.yaml",
    "config view --config config.yaml",
    "config view --config config.yaml -o yaml",
    "images list --config config.yaml",
    "list --config bad-key.yaml",
    "recon --config bad-value.yaml",
    "recon --dry-run --server https://127.0.0.1:1 --config config.yaml",
];

/// Command lines that may show the text, or fail before.
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
        ("GITHUB_STEP_SUMMARY", "report abcdefgh --report md=UNSEEN"),
    ] {
        // Long values are wrapped.
        let text = run(line, variable);
        let joined: String = text.split_whitespace().collect();
        assert!(joined.contains("FORGED"), "{variable} {line}: {text}");
    }
    // A kubeconfig that does not exist is ignored.
    run("recon --dry-run", "KUBECONFIG");
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
