use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::*;
use crate::plan::Group;
use crate::scenario::{Scenario, catalogue};

/// Returns a plan with each kind of step and of attacker, and with steps that have the same request.
fn mixed() -> Plan {
    let mut scenarios = ["recon", "webshell", "baseline", "crypto", "webshell"]
        .map(|id| catalogue::find(id).unwrap().clone())
        .to_vec();
    scenarios[4].id = "again".to_owned();
    for (number, text) in [
        "cat <<E\n",
        "exit 1",
        "echo '",
        "say() { true; }; gate() { true; }",
    ]
    .into_iter()
    .enumerate()
    {
        scenarios.push(Scenario {
            id: format!("mine-{number}"),
            attacker: Some(text.to_owned()),
            ..scenarios[0].clone()
        });
    }
    scenarios[3].attacker = None;
    Plan {
        scenarios,
        ..crate::plan::tests::plan(None)
    }
}

fn find<'a>(manifests: &'a Manifests, kind: Kind, part: &str) -> &'a Value {
    let found = manifests.all().find(|m| m.kind == kind && m.name.contains(part));
    &found.unwrap().object
}

/// Runs the attacker's start command with a curl that answers requests without the key with `code`, or with no
/// connection for victims whose host begins with "victim-2" after their first step. Returns the log, and the requests as
/// query and curl configuration.
fn attack(manifests: &Manifests, code: u16) -> (String, Vec<(String, String)>) {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    let write = |path: &str, text: &str| {
        fs::create_dir_all(at(path).parent().unwrap()).unwrap();
        fs::write(at(path), text).unwrap();
    };
    let pod = find(manifests, Kind::Pod, ATTACKER);
    for (name, text) in find(manifests, Kind::ConfigMap, "steps")["data"]
        .as_object()
        .unwrap()
    {
        write(&format!("steps/{name}"), text.as_str().unwrap());
    }
    let key = &find(manifests, Kind::Secret, "key")["stringData"];
    for volume in pod["spec"]["volumes"].as_array().unwrap() {
        for item in volume["secret"]["items"].as_array().into_iter().flatten() {
            let path = item["path"].as_str().unwrap();
            let text = &key[item["key"].as_str().unwrap()];
            write(&format!("key/{path}"), text.as_str().unwrap());
        }
    }
    write("go/run", "now");
    let curl = format!(
        "#!/bin/bash\ngone={gone}\n\
         [ \"$1\" = -qso ] && {{ [ -e $gone ] && [[ $* = *victim-2.* ]] && exit 56; printf {code}; exit; }}\n\
         printf '%s\\0%s\\0' \"$5\" \"$(cat \"$CURL_HOME/.curlrc\" \"$3\")\" >>{sent}\n\
         printf 'noise\\ndefender-sim/2 victim-9 done\\ndefender-sim/2 %s http 200\\n' \"${{3##*/}}\"\n\
         [ \"${{3##*/}}\" != victim-2 ] || {{ touch $gone; exit 52; }}\n",
        gone = at("gone").display(),
        sent = at("sent").display()
    );
    write("bin/curl", &curl);
    fs::set_permissions(at("bin/curl"), fs::Permissions::from_mode(0o755)).unwrap();
    let script = pod["spec"]["containers"][0]["args"][0].as_str().unwrap();
    let output = Command::new("bash")
        .arg("-c")
        .arg(script.replace("/simulation", folder.path().to_str().unwrap()))
        .env(
            "PATH",
            format!("{}:/usr/local/bin:/usr/bin:/bin", at("bin").display()),
        )
        .output()
        .unwrap();
    let sent = fs::read_to_string(Path::new(&at("sent"))).unwrap_or_default();
    let sent: Vec<&str> = sent.split_terminator('\0').collect();
    let sent = sent
        .chunks(2)
        .map(|pair| (pair[0].to_owned(), pair[1].to_owned()));
    (String::from_utf8(output.stdout).unwrap(), sent.collect())
}

#[test]
fn gate_knows_each_request_that_the_attacker_sends() {
    let plan = mixed();
    let manifests = render(&plan, "user");
    let (log, sent) = attack(&manifests, 403);
    let run = find(&manifests, Kind::Secret, "gate")["stringData"]["run.json"].as_str();
    let run: Value = serde_json::from_str(run.unwrap()).unwrap();
    let ids: Vec<String> = plan.steps().map(|(id, _)| id).collect();
    assert_eq!(sent.len(), ids.len(), "{log}");
    assert_eq!(run["steps"].as_object().unwrap().len(), ids.len());
    for (id, (query, curlrc)) in ids.iter().zip(&sent) {
        assert_eq!(
            run["steps"][id]["requestSha256"],
            plan::hex(&Sha256::digest(query)),
            "{id}: {query}"
        );
        let header = format!(
            "header = \"X-Simulation-Step: {id} {}\"\n",
            plan.token(id).expose_secret()
        );
        assert!(curlrc.contains(&header), "{id}: {curlrc}");
        let header = format!(
            "header = \"X-Simulation-Victim: victim {}\"\n",
            plan.victim_token("victim").expose_secret()
        );
        assert!(curlrc.contains(&header), "{id}: {curlrc}");
    }
    let expected = expected_log("victim", &ids);
    assert_eq!(log.lines().collect::<Vec<_>>(), expected);
}

/// Returns the lines about a victim that accepts every request.
fn expected_log(victim: &str, ids: &[String]) -> Vec<String> {
    let mut expected = vec!["gate before 403 0".to_owned()];
    for id in ids {
        expected.extend([
            format!("begin {id}"),
            "http 200".to_owned(),
            format!("end {id} 0"),
        ]);
    }
    expected.extend(["gate after 403 0", "done"].map(str::to_owned));
    let line = |line: String| format!("defender-sim/2 {victim} {line}");
    expected.into_iter().map(line).collect()
}

/// Returns a plan with a victim on each of these nodes.
fn covering(nodes: usize, parallel: usize) -> Plan {
    let mut plan = crate::plan::tests::plan(None);
    let groups = (1..=nodes).map(|number| Group::Node(format!("node{number}")));
    plan.options.parallel = NonZeroUsize::new(parallel).unwrap();
    plan.cover(groups.collect(), "arm64".to_owned(), vec![]);
    plan
}

#[test]
fn each_victim_is_attacked_until_it_does_not_answer() {
    for parallel in [1, 2, 32] {
        let plan = covering(3, parallel);
        let ids: Vec<String> = plan.steps().map(|(id, _)| id).collect();
        let (log, sent) = attack(&render(&plan, "user"), 403);
        let lines = |victim: &str| -> Vec<&str> {
            let mark = format!("defender-sim/2 {victim} ");
            log.lines().filter(|line| line.starts_with(&mark)).collect()
        };
        assert_eq!(lines("victim-1"), expected_log("victim-1", &ids));
        assert_eq!(lines("victim-3"), expected_log("victim-3", &ids));
        let first = &ids[0];
        let expected = [
            "gate before 403 0".to_owned(),
            format!("begin {first}"),
            "http 200".to_owned(),
            format!("end {first} 52"),
            "gate after 0 56".to_owned(),
            "done".to_owned(),
        ];
        assert_eq!(
            lines("victim-2"),
            expected.map(|line| format!("defender-sim/2 victim-2 {line}"))
        );
        // A victim cannot speak for another.
        assert_eq!(lines("victim-9"), Vec::<&str>::new(), "{log}");
        assert_eq!(sent.len(), 2 * ids.len() + 1);
    }
}

#[test]
fn each_attacker_knows_its_own_victims_only() {
    let plan = covering(230, 32);
    let manifests = render(&plan, "user");
    let pods: Vec<&Manifest> = manifests.pods.iter().collect();
    let names: Vec<&str> = pods.iter().map(|pod| pod.name.as_str()).collect();
    assert_eq!(names.len(), 233);
    assert_eq!(
        (names[0], names[229]),
        ("mdc-simulation-victim-1", "mdc-simulation-victim-230")
    );
    assert_eq!(
        names[230..],
        [
            "mdc-simulation-attacker",
            "mdc-simulation-attacker-2",
            "mdc-simulation-attacker-3"
        ]
    );
    for (attacker, number) in pods[230..].iter().zip([100, 100, 30]) {
        let volumes = attacker.object["spec"]["volumes"].as_array().unwrap();
        let items = volumes
            .iter()
            .flat_map(|volume| volume["secret"]["items"].as_array().into_iter().flatten());
        let victims = items.filter(|item| item["key"].as_str().unwrap().starts_with("victim-"));
        assert_eq!(victims.count(), number, "{}", attacker.name);
    }
    let term = &pods[6].object["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        ["nodeSelectorTerms"][0];
    assert_eq!(term["matchFields"][0]["values"][0], "node7");
    assert_eq!(
        term["matchExpressions"][0]["values"],
        serde_json::json!(["arm64"])
    );
    let services = manifests
        .supporting
        .iter()
        .filter(|manifest| manifest.kind == Kind::Service);
    assert_eq!(services.count(), 2);
}

#[test]
fn attacker_sends_no_step_while_the_gate_is_open() {
    for code in [200, 404, 502] {
        let (log, sent) = attack(&render(&mixed(), "user"), code);
        assert_eq!(sent, []);
        assert_eq!(
            log,
            format!("defender-sim/2 victim gate before {code} 0\ndefender-sim/2 victim done\n")
        );
    }
}

#[test]
fn secrets_of_proofs_are_apart_and_in_secrets_only() {
    let plan = mixed();
    let manifests = render(&plan, "user");
    let tokens = plan.steps().map(|(id, _)| plan.token(&id));
    let tokens = tokens.chain([plan.victim_token("victim")]);
    let attackers = tokens.chain([plan.key.clone()]).map(|secret| (secret, "key"));
    let places = attackers.chain([(plan.victim_secret(), "gate")]);
    for (secret, place) in places {
        let holders = manifests
            .all()
            .filter(|m| m.object.to_string().contains(secret.expose_secret()));
        let holders: Vec<String> = holders.map(Manifest::reference).collect();
        assert_eq!(holders, [format!("secret/{}", suffixed(&plan, place))]);
    }
    let seed = plan.seed.expose_secret();
    assert!(!manifests.all().any(|m| m.object.to_string().contains(seed)));
}
