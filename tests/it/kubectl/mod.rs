//! Compares this program with kubectl: the same kubeconfig, flags and server.

mod certificates;
mod credentials;
mod kubeconfigs;
mod server;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use tempfile::TempDir;

use server::{Identity, Servers};

/// The comparable outcome of a run.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    connected: bool,
    identities: BTreeSet<Identity>,
    plugin_runs: usize,
    exec_info: Option<Value>,
}

/// The directory of a case.
struct Case<'a> {
    servers: &'a Servers,
    folder: TempDir,
    /// The differences between the programs.
    differences: RefCell<Vec<String>>,
}

impl Drop for Case<'_> {
    fn drop(&mut self) {
        let differences = self.differences.take();
        // A second panic would abort the other tests.
        assert!(
            std::thread::panicking() || differences.is_empty(),
            "{}",
            differences.join("\n\n")
        );
    }
}

impl<'a> Case<'a> {
    fn new(servers: &'a Servers) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            servers,
            folder,
            differences: RefCell::default(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Writes a plugin that counts its runs, records its input, and prints `answer` with `$` expanded.
    fn plugin(&self, answer: &str) {
        use std::os::unix::fs::PermissionsExt;

        let script = "#!/bin/sh\ncd \"${0%/*}\"\necho run >> runs\nprintf %s \"$KUBERNETES_EXEC_INFO\" > info\ncat <<END\n";
        self.write("plugin", format!("{script}{answer}\nEND\n"));
        std::fs::set_permissions(self.path("plugin"), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn https(&self) -> String {
        format!(
            "{{server: 'https://{}', certificate-authority-data: {}}}",
            self.servers.https,
            BASE64.encode(&self.servers.authority)
        )
    }

    fn http(&self) -> String {
        format!("{{server: 'http://{}'}}", self.servers.http)
    }

    fn config(&self, cluster: &str, user: &str) {
        self.write(
            "config",
            format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
                 contexts:\n- name: c\n  context: {{cluster: c, user: u}}\n\
                 clusters:\n- name: c\n  cluster: {cluster}\nusers:\n- name: u\n  user: {user}\n"
            ),
        );
    }

    fn run(&self, program: &Path, flags: &[&str]) -> (Outcome, String) {
        self.servers.log.lock().unwrap().clear();
        for left in ["runs", "info"] {
            let _ = std::fs::remove_file(self.path(left));
        }
        let Output {
            status,
            stdout,
            stderr,
        } = Command::new(program)
            .args(["version", "--kubeconfig", "config"])
            .args(flags)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("OUTER", "outer")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let read = |name| std::fs::read_to_string(self.path(name)).ok();
        let outcome = Outcome {
            connected: status.success(),
            identities: self.servers.log.lock().unwrap().iter().cloned().collect(),
            plugin_runs: read("runs").map_or(0, |runs| runs.lines().count()),
            exec_info: read("info").map(|info| serde_json::from_str(&info).unwrap()),
        };
        let text = [stdout, stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        (outcome, text.concat())
    }

    fn ours(&self, flags: &[&str]) -> (Outcome, String) {
        self.run(Path::new(env!("CARGO_BIN_EXE_kubectl-defender_sim")), flags)
    }

    fn kubectl(&self, flags: &[&str]) -> (Outcome, String) {
        self.run(&kubectl(), flags)
    }

    /// Runs both programs and records differences.
    fn compare(&self, name: &str, flags: &[&str]) -> Outcome {
        let (mut theirs, their_text) = self.kubectl(flags);
        // The kubectl of some distributions requests the version of the server first.
        theirs.plugin_runs = theirs.plugin_runs.min(1);
        let (ours, text) = self.ours(flags);
        if ours != theirs || text.contains("panicked") {
            self.differences.borrow_mut().push(format!(
                "{name}: {ours:?}\nkubectl: {theirs:?}\n{their_text}\nours: {text}"
            ));
        }
        ours
    }
}

/// Returns the path of the range's kubectl, or of the installed one.
fn kubectl() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/range-cache/bin/kubectl");
    if built.is_file() {
        return built;
    }
    which::which("kubectl").expect("kubectl is on PATH")
}

const EXEC: &str = "apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: ./plugin";

fn credential(status: &str) -> String {
    format!(
        r#"{{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{{{status}}}}}"#
    )
}
