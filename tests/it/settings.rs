//! Flags, environment, config file: their precedence, the effect of each, and that every one is tested.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use defender_sim::cli;
use defender_sim::cluster::connect::ConnectOptions;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

/// A config folder for one test, and its content.
struct Home(tempfile::TempDir);

impl Home {
    fn with(config: Option<&str>) -> Self {
        let home = tempfile::tempdir().unwrap();
        if let Some(config) = config {
            std::fs::create_dir(home.path().join("defender-sim")).unwrap();
            std::fs::write(home.path().join("defender-sim/config.yaml"), config).unwrap();
        }
        Self(home)
    }

    fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-defender_sim"));
        command.args(arguments).env_clear().env("HOME", "/nonexistent");
        command
            .env("XDG_CONFIG_HOME", self.0.path())
            .envs(variables.iter().copied())
            .stdin(Stdio::null());
        command.output().unwrap()
    }

    /// Returns standard output. Panics if the command fails.
    fn printed(&self, arguments: &[&str], variables: &[(&str, &str)]) -> String {
        let output = self.run(arguments, variables);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Returns standard error. Panics unless the command line is rejected.
    fn refused(&self, arguments: &[&str], variables: &[(&str, &str)]) -> String {
        let output = self.run(arguments, variables);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        stderr
    }
}

/// Two values for each setting that differ from its default.
const VALUES: [(&str, [&str; 2]); 32] = [
    ("alert-names", ["a.yaml", "b.yaml"]),
    ("alerts-source", ["graph", "api"]),
    ("annotation", ["a=1", "b=2"]),
    ("assume", ["drift-policy=yes", "dns-detection=no"]),
    ("attacker-image", ["x/attacker:1", "y/attacker:2"]),
    ("azure-ca", ["a.pem", "b.pem"]),
    ("azure-cloud", ["AzureUSGovernment", "https://arm.example"]),
    ("azure-login", ["cli", "managed-identity"]),
    ("azure-tenant", ["a", "b"]),
    ("color", ["always", "never"]),
    ("cover", ["node-pool", "example.com/team"]),
    ("deadline", ["20m", "30m"]),
    ("expect", ["shred", "chattr"]),
    ("image-pull-policy", ["Never", "Always"]),
    ("image-pull-secret", ["one", "two"]),
    ("image-registry", ["registry.example/a", "registry.example/b"]),
    ("interval", ["30s", "2m"]),
    ("label", ["team=a", "team=b"]),
    ("max-time-to-detect", ["30m", "1h"]),
    ("node-selector", ["pool=a", "pool=b"]),
    ("optional", ["shred", "chattr"]),
    ("output", ["yaml", "json"]),
    ("parallel", ["1", "64"]),
    ("production-words", ["haupt", "principal"]),
    ("require-alerts", ["all", "2"]),
    ("resource-id", ["/a", "/b"]),
    ("service-account-annotation", ["id=a", "id=b"]),
    ("subscription", ["a", "b"]),
    ("timeout", ["2m", "3m"]),
    ("toleration", ["a:NoSchedule", "b=c:NoExecute"]),
    ("victim-image", ["x/victim:1", "y/victim:2"]),
    ("wait", ["1m", "2h"]),
];

fn variable(name: &str) -> String {
    format!("DEFENDER_SIM_{}", name.to_uppercase().replace('-', "_"))
}

/// Returns the setting as printed by `config view`.
fn seen(home: &Home, name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> (String, String) {
    // The output format is a setting as well.
    let form: &[&str] = if name == "output" { &[] } else { &["-o", "json"] };
    let text = home.printed(&[&["config", "view"], form, arguments].concat(), variables);
    let settings: Value = match serde_json::from_str(&text) {
        Ok(settings) => settings,
        Err(_) => serde_saphyr::from_str(&text).unwrap(),
    };
    let settings = settings.as_array().unwrap();
    let found = settings.iter().find(|setting| setting["name"] == name);
    let found = found.unwrap_or_else(|| panic!("no {name} in {settings:#?}"));
    assert_eq!(found["variable"], variable(name).as_str());
    let text = |key: &str| found[key].as_str().unwrap().to_owned();
    (text("value"), text("origin"))
}

#[test]
fn a_flag_wins_over_a_variable_over_the_file_over_the_default() {
    let shown = Home::with(None).printed(&["config", "view", "-o", "name"], &[]);
    let names: Vec<&str> = shown.lines().collect();
    assert_eq!(names, VALUES.map(|(name, _)| name), "every setting is tried here");

    for (name, [one, two]) in VALUES {
        let pair = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
        let flag = format!("--{name}={one}");
        let variable = variable(name);
        let file = Home::with(Some(&format!("# mine\n{name}: {two:?}\n")));
        let none = Home::with(None);
        if name != "output" {
            assert_eq!(seen(&none, name, &[], &[]).1, "default");
        }
        assert_eq!(seen(&file, name, &[], &[]), pair(two, "file"));
        assert_eq!(
            seen(&file, name, &[], &[(&variable, one)]),
            pair(one, "environment")
        );
        assert_eq!(
            seen(&file, name, &[&flag], &[(&variable, two)]),
            pair(one, "flag")
        );
    }
}

#[test]
fn every_setting_is_shown_within_80_columns_and_no_name_is_torn() {
    let home = Home::with(None);
    // Without -o wide, only settings with a value are printed.
    let shown = home.printed(&["config", "view"], &[]);
    let names = |text: &str| -> Vec<String> {
        let words = text.lines().filter_map(|line| line.split(' ').next());
        words.map(str::to_owned).collect()
    };
    let has_default = [
        "alerts-source",
        "color",
        "deadline",
        "image-registry",
        "interval",
        "output",
    ];
    assert!(
        has_default
            .iter()
            .all(|name| names(&shown).contains(&(*name).to_owned())),
        "{shown}"
    );
    assert!(!names(&shown).contains(&"victim-image".to_owned()), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    let wide = home.printed(&["config", "view", "-o", "wide"], &[]);
    assert!(
        VALUES.iter().all(|(name, _)| wide.contains(&variable(name))),
        "{wide}"
    );
    assert!(
        VALUES
            .iter()
            .all(|(name, _)| names(&wide).contains(&(*name).to_owned())),
        "{wide}"
    );
}

#[test]
fn empty_value_in_the_config_file_counts_as_not_set() {
    let home = Home::with(Some("deadline: ''\nattacker-image: \"\"\nlabel: ''\n"));
    for name in ["deadline", "attacker-image", "label"] {
        assert_eq!(seen(&home, name, &[], &[]).1, "default", "{name}");
    }
}

#[test]
fn a_config_file_that_cannot_be_used_is_named_with_the_reason() {
    for (config, printed) in [
        (
            "deadlines: 5m",
            "deadlines: no such setting; expected one of alert-names, ",
        ),
        (
            "deadline: 5s",
            "invalid value '5s' for '--deadline <DURATION>': expected between 10s and 24h",
        ),
        ("deadline: [5m, 6m]", "deadline: expected one value, found 2"),
        (
            "label: [team=a, b]",
            "invalid value 'b' for '--label <KEY=VALUE>'",
        ),
        (
            "label:\n  team: a",
            "label: expected a text, a number or a list of these at line 2",
        ),
        ("deadline: [", "at line 1"),
        ("yes: true", "yes: no such setting"),
        (
            "label: a=b\nlabel: c=d",
            "cannot be used: label: given twice at line 2, column 1",
        ),
        (
            "- deadline",
            "cannot be used: expected settings, such as \"deadline: 20m\" at line 1",
        ),
        (
            "wait: 1m\n---\nwait: 2m",
            "cannot be used: expected one document at line",
        ),
        (
            "production-words: ['']",
            "a value is required for '--production-words <WORDS>'",
        ),
    ] {
        let said_here = Home::with(Some(config)).refused(&["recon"], &[]);
        let head = "error: the config file ";
        assert!(
            said_here.starts_with(head) && said_here.contains("/defender-sim/config.yaml cannot be used: "),
            "{said_here}"
        );
        assert!(said_here.contains(printed), "{config}: {said_here}");
    }
    let home = Home::with(None);
    let missing = ["list", "--config", "/nonexistent/x.yaml"];
    assert!(
        home.refused(&missing, &[])
            .contains("/nonexistent/x.yaml cannot be used")
    );
    let variable = [("DEFENDER_SIM_CONFIG", "/nonexistent/y.yaml")];
    assert!(
        home.refused(&["list"], &variable)
            .contains("/nonexistent/y.yaml cannot be used")
    );
    for empty in ["", "---\n", "# nothing yet\n\n", "  \n"] {
        let home = Home::with(Some(empty));
        assert_eq!(seen(&home, "deadline", &[], &[]).1, "default", "{empty:?}");
    }
}

#[test]
fn a_variable_that_cannot_be_used_is_named_and_no_flag() {
    let home = Home::with(None);
    for (name, value, cause) in [
        ("DEADLINE", "5s", "invalid value '5s' for '--deadline <DURATION>'"),
        ("OUTPUT", "xml", "invalid value 'xml' for '--output <FORMAT>'"),
        ("LABEL", "team=a,b", "invalid value 'b' for '--label <KEY=VALUE>'"),
    ] {
        let variable = format!("DEFENDER_SIM_{name}");
        let printed = home.refused(&["recon"], &[(&variable, value)]);
        let head = format!("error: the variable {variable} cannot be used: {cause}");
        assert!(printed.starts_with(&head), "{printed}");
    }
    // The flag takes precedence, and the error names the flag.
    let bad = [("DEFENDER_SIM_DEADLINE", "5s")];
    let printed = home.refused(&["recon", "--deadline=6s"], &bad);
    assert!(
        printed.starts_with("error: invalid value '6s' for '--deadline"),
        "{printed}"
    );
    let printed = home.refused(&["recon", "--nope"], &[("DEFENDER_SIM_DEADLINE", "20m")]);
    assert!(
        printed.starts_with("error: unexpected argument '--nope'"),
        "{printed}"
    );
}

#[test]
fn an_empty_variable_counts_as_not_set_and_an_empty_flag_is_refused() {
    for (name, _) in VALUES {
        let home = Home::with(None);
        let empty = variable(name);
        if name != "output" {
            assert_eq!(seen(&home, name, &[], &[(&empty, "")]).1, "default", "{name}");
        }
    }
    let home = Home::with(None);
    for name in [
        "production-words",
        "image-registry",
        "attacker-image",
        "victim-image",
    ] {
        let flag = format!("--{name}=");
        let printed = home.refused(&["recon", &flag], &[]);
        assert!(
            printed.contains(&format!("a value is required for '--{name} ")),
            "{printed}"
        );
    }
}

/// A flag without effect is rejected on the command line, but not as a setting for all runs.
#[test]
fn a_flag_without_effect_is_refused() {
    let home = Home::with(None);
    let server = ["recon", "--server=https://127.0.0.1:1"];
    let dry = [&server[..], &["--dry-run"]].concat();
    for (flag, printed) in [
        ("--report=junit=x", "error: --report has no effect in a dry run"),
        ("--soc-note=x", "error: --soc-note has no effect in a dry run"),
        ("--verify", "error: --verify has no effect in a dry run"),
        ("--wait=5s", "error: --wait has no effect without --verify"),
    ] {
        assert!(
            home.refused(&[&dry[..], &[flag]].concat(), &[])
                .starts_with(printed),
            "{flag}"
        );
    }
    for flag in [
        "--alerts=x",
        "--interval=5s",
        "--resource-id=x",
        "--azure-login=cli",
    ] {
        let printed = home.refused(&[&server[..], &[flag]].concat(), &[]);
        let name = flag.split('=').next().unwrap();
        assert!(
            printed.starts_with(&format!("error: {name} has no effect without --verify")),
            "{printed}"
        );
    }
    let variables = [("DEFENDER_SIM_WAIT", "5s"), ("DEFENDER_SIM_ALERT_NAMES", "x")];
    home.printed(&dry, &variables);
    Home::with(Some("wait: 5s\nresource-id: x\n")).printed(&dry, &[]);
    let file = ["run", "-f", "x", "--baseline", "--dry-run"];
    assert!(
        home.refused(&file, &[])
            .contains("'--file <FILE>' cannot be used with '--baseline'")
    );
    let alone = ["run", "--baseline", "--dry-run", "--server=https://127.0.0.1:1"];
    assert!(home.printed(&alone, &[]).contains("baseline.visit"));
}

#[test]
fn a_named_config_file_replaces_that_of_the_user() {
    let home = Home::with(Some("deadline: 20m\n"));
    let other = home.0.path().join("other.yaml");
    std::fs::write(&other, "label: [team=a, cost=b]\nattacker-image: x/y:1\n").unwrap();
    let other = ["--config", other.to_str().unwrap()];
    assert_eq!(seen(&home, "deadline", &other, &[]).1, "default");
    assert_eq!(seen(&home, "label", &other, &[]).0, "team=a,cost=b");
    let plan = home.printed(
        &[
            &["recon", "--server", "https://127.0.0.1:1", "--dry-run"],
            &other[..],
        ]
        .concat(),
        &[],
    );
    assert!(plan.contains("mdc-simulation-attacker runs x/y:1"), "{plan}");
}

/// Returns the objects of a run with these flags, by kind.
fn manifests(arguments: &[&str]) -> Vec<Value> {
    let common = [
        "webshell",
        "--server",
        "https://127.0.0.1:1",
        "--dry-run",
        "-o",
        "yaml",
    ];
    let text = Home::with(None).printed(&[&common, arguments].concat(), &[]);
    text.split("---\n")
        .skip(1)
        .map(|object| serde_saphyr::from_str(object).unwrap())
        .collect()
}

#[test]
fn what_a_cluster_asks_of_objects_is_in_the_manifests() {
    let objects = manifests(&[
        "--image-pull-policy=Never",
        "--image-pull-secret=one,two",
        "--node-selector=pool=a",
        "--node-selector=kubernetes.io/arch=amd64",
        "--toleration=dedicated=security:NoSchedule",
        "--toleration=spot",
        "--label=team=sec,example.com/cost=42",
        "--annotation=note={a: b, c}",
        "--service-account-annotation=example.com/role=reader",
        "--image-registry=registry.example/sim/",
        "--victim-image=registry.example/v@sha256:0000000000000000000000000000000000000000000000000000000000000000",
        "--deadline=1h",
    ]);
    assert_eq!(objects.len(), 11);
    for object in &objects {
        let metadata = &object["metadata"];
        let name = &metadata["name"];
        assert_eq!(metadata["labels"]["team"], "sec", "{name}");
        assert_eq!(metadata["labels"]["example.com/cost"], "42", "{name}");
        assert_eq!(
            metadata["labels"]["app.kubernetes.io/managed-by"], "kubectl-defender-sim",
            "{name}"
        );
        assert_eq!(metadata["annotations"]["note"], "{a: b, c}", "{name}");
        match object["kind"].as_str().unwrap() {
            "Pod" => {
                let spec = &object["spec"];
                assert_eq!(spec["containers"][0]["imagePullPolicy"], "Never");
                assert_eq!(
                    spec["imagePullSecrets"],
                    serde_json::json!([{"name": "one"}, {"name": "two"}])
                );
                let nodes = serde_json::json!({"pool": "a", "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux"});
                assert_eq!(spec["nodeSelector"], nodes);
                let tolerations = serde_json::json!([
                    {"key": "dedicated", "operator": "Equal", "value": "security", "effect": "NoSchedule"},
                    {"key": "spot", "operator": "Exists"},
                ]);
                assert_eq!(spec["tolerations"], tolerations);
                assert_eq!(spec["activeDeadlineSeconds"], 3600);
                let image = spec["containers"][0]["image"].as_str().unwrap();
                let expected = if name == "mdc-simulation-attacker" {
                    "registry.example/sim/attacker:latest"
                } else {
                    "registry.example/v@sha256:0000000000000000000000000000000000000000000000000000000000000000"
                };
                assert_eq!(image, expected);
            }
            "ServiceAccount" => assert_eq!(metadata["annotations"]["example.com/role"], "reader"),
            "Job" => assert_eq!(object["spec"]["activeDeadlineSeconds"], 3600),
            _ => assert!(
                metadata["annotations"].get("example.com/role").is_none(),
                "{name}"
            ),
        }
    }
    let plain = manifests(&[]);
    let pod = plain.iter().find(|object| object["kind"] == "Pod").unwrap();
    for absent in ["imagePullSecrets", "tolerations"] {
        assert!(pod["spec"].get(absent).is_none(), "{absent}");
    }
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_reached() {
    let home = Home::with(None);
    for (flag, printed) in [
        ("--label=app.kubernetes.io/managed-by=me", "is set by this tool"),
        (
            "--label=pod-security.kubernetes.io/enforce=privileged",
            "decides what it may do",
        ),
        ("--label=team=a b", "expected a value of 63 letters"),
        ("--annotation=defender-sim/record=x", "is set by this tool"),
        ("--service-account-annotation=x", "expected key=value"),
        ("--node-selector=x", "expected key=value"),
        ("--toleration=a:Sometimes", "expected the effect NoSchedule"),
        ("--image-pull-policy=Sometimes", "IfNotPresent"),
        ("--report=pdf=x", "expected junit=FILE"),
        ("--dry-run=later", "server"),
        ("--deadline=48h", "expected between 10s and 24h"),
    ] {
        let refused = home.refused(&["recon", flag], &[]);
        assert!(refused.contains(printed), "{flag}: {refused}");
    }
    assert!(
        home.refused(&["recon", "-q", "-v"], &[])
            .contains("cannot be used with")
    );
}

#[test]
fn the_images_that_a_mirror_needs() {
    let home = Home::with(None);
    let names = home.printed(&["images", "list", "-o", "name"], &[]);
    let folder = "ghcr.io/microsoft/defender-for-cloud/attacksimulation";
    assert_eq!(
        names,
        format!("{folder}/attacker:latest\n{folder}/victim:latest\n")
    );
    let mirrored = home.printed(
        &["images", "list", "-o", "json", "--image-registry", "r.example/m"],
        &[],
    );
    let images: Value = serde_json::from_str(&mirrored).unwrap();
    assert_eq!(images[0]["image"], "r.example/m/attacker:latest");
    assert_eq!(images[1]["pod"], "victim");
    assert!(home.printed(&["images", "list"], &[]).starts_with("IMAGE "));
}

#[test]
fn every_kubernetes_option_arrives() {
    let flags = [
        ("--kubeconfig", "/k"),
        ("--context", "c"),
        ("--cluster", "k"),
        ("--user", "u"),
        ("--namespace", "n"),
        ("--server", "https://s"),
        ("--token", "t"),
        ("--as", "a"),
        ("--as-uid", "1"),
        ("--as-group", "g"),
        ("--as-user-extra", "e=f"),
        ("--certificate-authority", "/ca"),
        ("--client-certificate", "/cert"),
        ("--client-key", "/key"),
        ("--tls-server-name", "name"),
        ("--request-timeout", "7s"),
        ("--output", "json"),
    ];
    let line = ["p", "recon", "--insecure-skip-tls-verify"].into_iter();
    let line = line.chain(flags.into_iter().flat_map(|(flag, value)| [flag, value]));
    let invocation = cli::parse(line.map(Into::into)).unwrap();
    let expected = ConnectOptions {
        kubeconfig: Some("/k".into()),
        context: Some("c".into()),
        cluster: Some("k".into()),
        user: Some("u".into()),
        server: Some("https://s".into()),
        token: Some(SecretString::from("t")),
        impersonate: Some("a".into()),
        impersonate_uid: Some("1".into()),
        impersonate_groups: vec!["g".into()],
        impersonate_user_extra: vec![("e".into(), "f".into())],
        certificate_authority: Some("/ca".into()),
        client_certificate: Some("/cert".into()),
        client_key: Some("/key".into()),
        tls_server_name: Some("name".into()),
        insecure_skip_tls_verify: true,
    };
    assert_eq!(format!("{:?}", invocation.connect), format!("{expected:?}"));
    assert_eq!(invocation.connect.token.unwrap().expose_secret(), "t");
    assert_eq!(invocation.namespace.as_deref(), Some("n"));
    assert_eq!(invocation.request_timeout, Some(Duration::from_secs(7)));
    assert_eq!(invocation.output.format, defender_sim::report::Format::Json);
}

/// Adds every long flag of a command and its subcommands.
fn flags(command: &clap::Command, found: &mut std::collections::BTreeSet<String>) {
    let longs = command.get_arguments().filter_map(|arg| arg.get_long());
    found.extend(longs.map(|name| format!("--{name}")));
    for sub in command.get_subcommands() {
        flags(sub, found);
    }
}

/// Returns the text of all files below a folder.
fn text_below(path: &std::path::Path) -> String {
    if path.is_file() {
        return std::fs::read_to_string(path).unwrap();
    }
    let entries = std::fs::read_dir(path).unwrap();
    entries.map(|entry| text_below(&entry.unwrap().path())).collect()
}

#[test]
fn every_flag_has_a_test() {
    let tests = text_below(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it"));
    let mut command = cli::command();
    command.build();
    let mut found = std::collections::BTreeSet::new();
    flags(&command, &mut found);
    assert!(
        found.contains("--deadline") && found.contains("--context"),
        "{found:?}"
    );
    let named = |flag: &str| {
        let forms = [format!("\"{flag}\""), format!("\"{flag}=")];
        forms.iter().any(|form| tests.contains(form))
    };
    // Settings are tested above, by name.
    let tried = |flag: &str| VALUES.iter().any(|(name, _)| flag[2..] == **name);
    let untested: Vec<&String> = found.iter().filter(|flag| !named(flag) && !tried(flag)).collect();
    assert!(untested.is_empty(), "no test names {untested:?}");
}
