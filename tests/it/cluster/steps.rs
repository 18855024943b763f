//! Outcomes of steps: missing tools, cut networks, clouds, and a web shell that others try to use.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json as value};

use crate::range::{
    Finally, IMAGES, Running, Space, alone, assert_nothing_left, idle_pod, image, kubectl, run_inside,
    shared, sim, state, text, try_kubectl,
};

#[test]
#[ignore = "needs the range: make range"]
fn a_tool_that_is_missing_fails_its_step_only() {
    let _shared = shared();
    let space = Space::named("no-nmap");
    let image = image("no-nmap", "victim", &[("usr/bin/.wh.nmap", "")]);
    let ran = sim(&["recon", "-n", &space.0, "--victim-image", &image, "-o", "json"]).assert(4);
    let outcomes: Vec<String> = ran.outcomes().into_iter().map(|(_, outcome)| outcome).collect();
    assert_eq!(outcomes, ["proved", "proved", "failed"], "{ran:#?}");
    let json = ran.json();
    let step = &json["scenarios"][0]["steps"][2];
    assert_eq!(step["reason"], "a program it needs is not in the victim's image");
    assert!(
        text(&step["evidence"]).ends_with("nmap: command not found"),
        "{step}"
    );
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn a_decoy_that_is_missing_skips_its_steps_and_is_no_failure() {
    let _shared = shared();
    let space = Space::named("no-decoy");
    let image = image("no-decoy", "victim", &[("home/user/.wh..git-credentials", "")]);
    let ran = sim(&["secrets", "-n", &space.0, "--victim-image", &image, "-o", "json"]).assert(0);
    let json = ran.json();
    let steps = json["scenarios"][0]["steps"].as_array().unwrap();
    let seen: Vec<[String; 2]> = steps
        .iter()
        .map(|step| [text(&step["outcome"]), text(&step["reason"])])
        .collect();
    let expected = [
        ["skipped", "the victim's image has no .git-credentials"],
        [
            "skipped",
            "the victim's image has no decoy /home/user/.git-credentials",
        ],
        ["proved", ""],
        ["proved", ""],
    ];
    assert_eq!(seen, expected, "{ran:#?}");
    assert_nothing_left(&space.0);
}

/// Evidence is truncated by bytes, and a script may print anything.
#[test]
#[ignore = "needs the range: make range"]
fn a_log_that_is_no_text_is_read_to_its_end() {
    let _shared = shared();
    let space = Space::named("bytes");
    let file = tempfile::NamedTempFile::new().unwrap();
    let scenario = value!({
        "apiVersion": "defender-sim/v1", "id": "bytes", "title": "Bytes", "description": "Prints what is no text.",
        "steps": [
            { "id": "print", "title": "print", "script": "printf 'a\\xff%0.s' {1..400} >&2\n", "proof": "printed" },
            { "id": "after", "title": "go on", "script": "true\n", "proof": "gone on" },
        ],
        "alerts": [],
    });
    std::fs::write(file.path(), scenario.to_string()).unwrap();
    let path = file.path().to_str().unwrap();
    let ran = sim(&["run", "-f", path, "-n", &space.0, "-o", "json"]).assert(0);
    assert_eq!(ran.outcomes().len(), 2);
    ran.assert_proved();
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
#[expect(
    clippy::too_many_lines,
    reason = "one run, and everybody who asks its web shell"
)]
fn the_web_shell_answers_nobody_but_its_attacker() {
    let _shared = shared();
    let space = Space::named("third");
    let mut running = Running::start(&["webshell", "-n", &space.0]);
    running.await_line("attacking");
    running.signal("KILL");
    running.end();
    let n = &space.0;
    let get = |what: &str| -> Vec<Value> {
        let objects = kubectl(&["get", what, "-n", n, "-l", "defender-sim/run", "-o", "json"]);
        let objects: Value = serde_json::from_str(&objects).unwrap();
        objects["items"].as_array().unwrap().clone()
    };
    // Everything that a third pod could know except the key; ConfigMaps, which more users may read, contain none of it.
    let maps = get("configmaps");
    let in_maps: Vec<&String> = maps
        .iter()
        .flat_map(|map| map["data"].as_object().unwrap().keys())
        .collect();
    assert_eq!(in_maps, ["001-webshell.whoami"]);
    let secrets = get("secrets");
    let secret = |name: &str| {
        let data = secrets.iter().find_map(|secret| secret["data"][name].as_str());
        String::from_utf8(STANDARD.decode(data.unwrap()).unwrap()).unwrap()
    };
    let settings: Value = serde_json::from_str(&secret("run.json")).unwrap();
    let known = [
        String::new(),
        text(&maps[0]["metadata"]["labels"]["defender-sim/run"]),
        text(&settings["secret"]),
        text(&settings["keySha256"]),
        text(&maps[0]["metadata"]["uid"]),
    ];

    let attacker = format!("{IMAGES}/attacker:latest");
    idle_pod(n, "third", &attacker);
    let ask_as = |victim: &str, key: &str, step: &str, command: &str| {
        let key = format!("X-Simulation-Key: {key}");
        let victim = format!("X-Simulation-Victim: {victim}");
        let step = format!("X-Simulation-Step: {step}");
        let url = format!("http://mdc-simulation-victim/ws.php?cmd={command}");
        let headers = ["-H", &key, "-H", &step, "-H", &victim, &url];
        let curl = ["exec", "third", "-n", n, "--", "curl", "-s", "-w", "%{http_code}"];
        kubectl(&[&curl[..], &headers].concat())
    };
    let ask = |key: &str, step: &str, command: &str| ask_as("victim x", key, step, command);
    let (step, other) = ("webshell.whoami x", "webshell.other x");
    let touch = "touch%20/tmp/proof";
    for key in known {
        for command in ["whoami", touch] {
            let answer = ask(&key, step, command);
            assert!(answer.ends_with("its attacker.\n403"), "with {key:?}: {answer}");
        }
    }
    // Even with the key, only this run's own steps run, each under its own name.
    let curlrc = secret("001");
    let key = curlrc.split("X-Simulation-Key: ").nth(1).unwrap();
    let key = key.split('"').next().unwrap();
    let refused = [
        (step, touch),
        (step, "cat%20/gate/run.json"),
        (step, "whoami&visit=webshell.whoami"),
        (step, "whoami%20"),
        (other, "whoami"),
        ("", "whoami"),
    ];
    for (step, command) in refused {
        let answer = ask(key, step, command);
        assert!(
            answer.ends_with("its attacker.\n403"),
            "{step} {command}: {answer}"
        );
    }
    // Nor does a victim answer for another one.
    for victim in ["", "victim-1 x", "mdc-simulation-victim x"] {
        let answer = ask_as(victim, key, step, "whoami");
        assert!(answer.ends_with("its attacker.\n403"), "{victim}: {answer}");
    }
    let ran =
        try_kubectl(&["exec", "mdc-simulation-victim", "-n", n, "--", "ls", "/tmp/proof"]).code == Some(0);
    assert!(!ran, "something ran that is no step");
    // Proves that the rejected requests above were otherwise valid.
    let answer = ask(key, step, "whoami");
    assert!(
        answer.contains(" webshell.whoami 0 ") && answer.ends_with(" www-data\n200"),
        "{answer}"
    );
    kubectl(&["delete", "pod", "third", "-n", n, "--grace-period=1"]);
    sim(&["cleanup", "--force", "-n", n]).assert(0);
    assert_nothing_left(n);
}

#[test]
#[ignore = "needs the range: make range"]
fn a_cut_network_blocks_a_step() {
    let _alone = alone();
    let space = Space::named("cut");
    let rule = [
        "INPUT",
        "-s",
        "10.244.0.0/24",
        "-p",
        "tcp",
        "--dport",
        "6443",
        "-j",
        "REJECT",
    ];
    let _healed = Finally(|| {
        run_inside(&[&["iptables", "-D"][..], &rule].concat());
    });
    run_inside(&[&["iptables", "-I"][..], &rule].concat()).assert(0);
    let ran = sim(&["recon", "-n", &space.0, "-o", "json"]).assert(4);
    let json = ran.json();
    let outcomes: Vec<String> = ran.outcomes().into_iter().map(|(_, outcome)| outcome).collect();
    assert_eq!(outcomes, ["proved", "blocked", "proved"], "{ran:#?}");
    let step = &json["scenarios"][0]["steps"][1];
    assert_eq!(step["reason"], "the connection to the API server was refused");
}

#[test]
#[ignore = "needs the range: make range"]
fn metadata_service_that_is_cut_off_blocks_the_step_within_seconds() {
    let _alone = alone();
    let space = Space::named("metadata-cut");
    for (target, evidence) in [
        (
            "REJECT",
            "169.254.169.254 refused the connection, or no route leads there",
        ),
        ("DROP", "169.254.169.254 did not answer in time"),
    ] {
        let rule = [
            "INPUT",
            "-s",
            "10.244.0.0/24",
            "-d",
            "169.254.169.254",
            "-j",
            target,
        ];
        let _healed = Finally(|| {
            run_inside(&[&["iptables", "-D"][..], &rule].concat());
        });
        run_inside(&[&["iptables", "-I"][..], &rule].concat()).assert(0);
        let ran = sim(&["lateral-mov", "-n", &space.0, "-o", "json"]).assert(4);
        let step = &ran.json()["scenarios"][0]["steps"][0];
        assert_eq!(step["outcome"], "blocked", "{ran:#?}");
        assert_eq!(step["evidence"], evidence);
        assert_eq!(
            step["reason"],
            "the metadata service cannot be reached from the pod"
        );
        let took = step["durationMs"].as_f64().unwrap();
        assert!(took < 5000.0, "{took} ms");
    }
}

#[test]
#[ignore = "needs the range: make range"]
fn the_cloud_that_is_there_is_found_and_none_is_no_failure() {
    let _alone = alone();
    let space = Space::named("clouds");
    let flavour = state().join("flavour");
    let _removed = Finally(|| {
        let _ = std::fs::remove_file(&flavour);
    });
    let mut seen = vec![];
    for cloud in ["aws", "gcp", "azure", "none"] {
        std::fs::write(&flavour, cloud).unwrap();
        let ran = sim(&["lateral-mov", "-n", &space.0, "-o", "json"]);
        let step = ran.json()["scenarios"][0]["steps"][0].clone();
        let printed = ["outcome", "evidence", "reason"].map(|key| text(&step[key]));
        seen.push((cloud, ran.code, printed));
    }
    let expected = [
        ("aws", ["proved", "AWS: credentials of the node's role", ""]),
        (
            "gcp",
            ["proved", "GCP: a token of the default service account", ""],
        ),
        (
            "azure",
            [
                "proved",
                "Azure in westeurope: a token of the node's identity",
                "",
            ],
        ),
        (
            "none",
            [
                "skipped",
                "no cloud answered at 169.254.169.254",
                "no metadata service of a known cloud here",
            ],
        ),
    ];
    let expected: Vec<_> = expected
        .map(|(cloud, printed)| (cloud, Some(0), printed.map(str::to_owned)))
        .into();
    assert_eq!(seen, expected);
}

#[test]
#[ignore = "needs the range: make range"]
fn a_scenario_file_runs_as_the_built_in_ones_do() {
    let _shared = shared();
    let space = Space::named("file");
    let file = tempfile::NamedTempFile::new().unwrap();
    let start = sim(&["describe", "secrets", "-o", "yaml"]).assert(0).stdout;
    std::fs::write(file.path(), start.replace("id: secrets", "id: my-secrets")).unwrap();
    let path = file.path().to_str().unwrap();
    sim(&["lint", path]).assert(0);
    let ran = sim(&["run", "webshell", "-f", path, "-n", &space.0, "-o", "json"]).assert(0);
    assert!(
        ran.outcomes().iter().all(|(_, outcome)| outcome == "proved"),
        "{ran:#?}"
    );
    assert_eq!(ran.json()["scenarios"][1]["id"], "my-secrets");
    assert_nothing_left(&space.0);
}
