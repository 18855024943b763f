//! Connects to the real API server in every way that kubectl supports, and survives broken connections.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::range::{Running, Space, assert_nothing_left, idle_pod, image_with, kubectl, shared, sim, state};

/// Writes a modified copy of the range's kubeconfig, with other users and servers.
fn kubeconfig(change: impl Fn(String) -> String) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = kubectl(&["config", "view", "--raw", "--flatten", "-o", "json"]);
    std::fs::write(file.path(), change(text)).unwrap();
    file
}

fn token(space: &Space) -> String {
    kubectl(&["create", "token", "default", "-n", &space.0])
        .trim()
        .to_owned()
}

#[test]
#[ignore = "needs the range: make range"]
fn every_request_says_whose_it_is() {
    let _shared = shared();
    let space = Space::named("agent");
    let mut running = Running::start(&["webshell", "-n", &space.0]);
    let run = running.run();
    running.end().assert(0);
    let audit = std::fs::read_to_string(state().join("log/audit.jsonl")).unwrap();
    let agent = format!("kubectl-defender_sim/{} (run {run})", env!("CARGO_PKG_VERSION"));
    let verbs: std::collections::BTreeSet<String> = audit
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|event| event["userAgent"] == agent.as_str())
        .map(|event| crate::range::text(&event["verb"]))
        .collect();
    for verb in ["create", "patch", "list", "watch", "delete", "get"] {
        assert!(verbs.contains(verb), "no {verb} by {agent}: {verbs:?}");
    }
}

#[test]
#[ignore = "needs the range: make range"]
fn warnings_of_the_api_server_are_shown_once() {
    let _shared = shared();
    let space = Space::new("warn", &["pod-security.kubernetes.io/warn=restricted"]);
    let ran = sim(&["webshell", "-n", &space.0]).assert(0);
    let warned = ran
        .stderr
        .lines()
        .filter(|line| line.starts_with("warning: would violate PodSecurity"))
        .count();
    assert!(warned >= 1, "{}", ran.stderr);
    let mut lines: Vec<&str> = ran
        .stderr
        .lines()
        .filter(|line| line.starts_with("warning:"))
        .collect();
    let all = lines.len();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), all, "{}", ran.stderr);
}

#[test]
#[ignore = "needs the range: make range"]
#[expect(clippy::too_many_lines, reason = "one account that calls in two ways")]
fn a_token_and_a_plugin_say_who_is_calling() {
    let _shared = shared();
    let space = Space::new("who", &[]);
    let account = format!("system:serviceaccount:{}:default", space.0);
    kubectl(&[
        "create",
        "rolebinding",
        "edit",
        "-n",
        &space.0,
        "--clusterrole=edit",
        "--serviceaccount",
        &account[22..],
    ]);
    kubectl(&[
        "create",
        "rolebinding",
        "admin",
        "-n",
        &space.0,
        "--clusterrole=admin",
        "--serviceaccount",
        &account[22..],
    ]);
    let token = token(&space);
    // As in kubectl, a client certificate in the kubeconfig would take precedence over a token.
    let nobody = kubeconfig(|text| {
        let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
        config["users"][0]["user"] = serde_json::json!({});
        config.to_string()
    });
    let nobody = nobody.path().to_str().unwrap();
    let ran = sim(&[
        "webshell",
        "-n",
        &space.0,
        "--kubeconfig",
        nobody,
        "--token",
        &token,
    ])
    .assert(0);
    assert!(ran.stderr.contains(&format!("as {account}")), "{}", ran.stderr);
    assert!(
        !format!("{ran:?}").contains(&token[..20]),
        "the token was printed"
    );

    let script = tempfile::NamedTempFile::new().unwrap();
    let answer = format!(
        r#"{{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{{"token":"{token}"}}}}"#
    );
    std::fs::write(script.path(), format!("cat <<'E'\n{answer}\nE\n")).unwrap();
    let with_plugin = |command: &str, path: &str| {
        kubeconfig(|text| {
            let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
            config["users"][0]["user"] = serde_json::json!({"exec": {
                "apiVersion": "client.authentication.k8s.io/v1", "command": command, "args": [path],
                "interactiveMode": "IfAvailable", "installHint": "get it where you got the rest"}});
            config.to_string()
        })
    };
    let good = with_plugin("sh", script.path().to_str().unwrap());
    let ran = sim(&[
        "webshell",
        "-n",
        &space.0,
        "--kubeconfig",
        good.path().to_str().unwrap(),
    ])
    .assert(0);
    assert!(ran.stderr.contains(&format!("as {account}")), "{}", ran.stderr);
    let missing = with_plugin("no-such-plugin", "");
    let ran = sim(&[
        "webshell",
        "-n",
        &space.0,
        "--kubeconfig",
        missing.path().to_str().unwrap(),
    ])
    .assert(3);
    assert!(
        ran.stderr.contains("no-such-plugin") && ran.stderr.contains("get it where you got the rest"),
        "{ran:?}"
    );
    let failing = with_plugin("sh", "/nonexistent/script");
    let ran = sim(&[
        "webshell",
        "-n",
        &space.0,
        "--kubeconfig",
        failing.path().to_str().unwrap(),
    ])
    .assert(3);
    assert!(
        ran.stderr.contains("the credential plugin") && ran.stderr.contains("/nonexistent/script"),
        "{ran:?}"
    );
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn a_certificate_of_another_authority_is_not_accepted() {
    let _shared = shared();
    let other = kubeconfig(|text| {
        let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
        // A client certificate is not a certificate authority.
        let certificate = config["users"][0]["user"]["client-certificate-data"].clone();
        config["clusters"][0]["cluster"]["certificate-authority-data"] = certificate;
        config.to_string()
    });
    let ran = sim(&["recon", "--kubeconfig", other.path().to_str().unwrap()]).assert(3);
    assert!(
        ran.stderr.contains("signed by an authority that is not trusted"),
        "{}",
        ran.stderr
    );
}

#[test]
#[ignore = "needs the range: make range"]
fn in_a_pod_the_pods_own_account_is_used() {
    let _shared = shared();
    let space = Space::new("pod", &[]);
    let image = image_with(
        "client",
        "victim",
        &[(
            env!("CARGO_BIN_EXE_kubectl-defender_sim"),
            "usr/bin/kubectl-defender_sim",
        )],
    );
    idle_pod(&space.0, "client", &image);
    // The account has no permissions; the API server itself must reject it.
    let ran = crate::range::try_kubectl(&[
        "exec",
        "client",
        "-n",
        &space.0,
        "--",
        "kubectl-defender_sim",
        "recon",
        "-n",
        &space.0,
    ]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(
        ran.stderr.contains("missing rights for a run in namespace"),
        "{ran:?}"
    );
}

/// A tunnel to the API server that can be interrupted.
struct Detour {
    process: Child,
    port: String,
}

impl Detour {
    fn new() -> Self {
        const FORWARD: &str = r#"
import signal, socket, sys, threading
live = set()
def cut(*_):
    for one in list(live):
        try: one.shutdown(socket.SHUT_RDWR)
        except OSError: pass
signal.signal(signal.SIGUSR1, cut)
def pump(a, b):
    try:
        while data := a.recv(65536): b.sendall(data)
    except OSError: pass
    for one in (a, b):
        live.discard(one)
        try: one.shutdown(socket.SHUT_RDWR)
        except OSError: pass
def accept():
    while True:
        here, _ = listener.accept()
        there = socket.create_connection(("192.0.2.10", 6443))
        live.update((here, there))
        for pair in ((here, there), (there, here)):
            threading.Thread(target=pump, args=pair, daemon=True).start()
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
threading.Thread(target=accept, daemon=True).start()
sys.stdin.read()
"#;
        let exec = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/range/exec");
        let mut command = Command::new(exec);
        command
            .args(["/usr/bin/python3", "-c", FORWARD])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut port = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut port)
            .unwrap();
        Self {
            process,
            port: port.trim().to_owned(),
        }
    }

    fn cut(&self) {
        let id = self.process.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", "USR1", &id])
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for Detour {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

#[test]
#[ignore = "needs the range: make range"]
fn a_connection_that_breaks_during_the_attack_is_taken_up_again() {
    let _shared = shared();
    let space = Space::named("broken");
    let detour = Detour::new();
    let server = format!("https://127.0.0.1:{}", detour.port);
    let mut running = Running::start(&[
        "recon",
        "-n",
        &space.0,
        "--server",
        &server,
        "--tls-server-name",
        "kubernetes",
    ]);
    running.await_line("recon.access-review: proved");
    detour.cut();
    let ran = running.end().assert(0);
    assert!(ran.stdout.contains("3 of 3 steps proved"), "{ran:#?}");
    for step in ["read-token", "access-review", "scan-services"] {
        assert_eq!(
            ran.stderr.matches(&format!("recon.{step}: proved")).count(),
            1,
            "{}",
            ran.stderr
        );
    }
    assert_nothing_left(&space.0);
}
