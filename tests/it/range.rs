//! The real cluster of `tests/range`, as tests use it.
//!
//! It provides the real binary through the real kubectl, namespaces that are removed with the test, and locks that
//! isolate tests from each other.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, mpsc};
use std::time::{Duration, Instant};

use defender_sim::scenario::catalogue;
use serde_json::Value;

/// Folder of the default images.
pub const IMAGES: &str = "ghcr.io/microsoft/defender-for-cloud/attacksimulation";
/// Timeout of a command. Only one that hangs takes longer.
const BOUND: Duration = Duration::from_secs(180);
/// Every namespaced kind that the range supports, not only those that this tool creates.
static KINDS: LazyLock<String> = LazyLock::new(|| {
    let names = kubectl(&[
        "api-resources",
        "--namespaced",
        "--verbs=list,delete",
        "-o",
        "name",
    ]);
    // A test defines kinds temporarily, and they may be gone when they are requested.
    let lasting = names.lines().filter(|name| !name.ends_with(".sim.example.org"));
    lasting.collect::<Vec<_>>().join(",")
});

/// The outcome of a command.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    /// Returns the outcomes by step ID.
    pub fn outcomes(&self) -> Vec<(String, String)> {
        let json = self.json();
        let scenarios = json["scenarios"].as_array().unwrap().iter();
        scenarios
            .flat_map(|scenario| scenario["steps"].as_array().unwrap())
            .map(|step| (text(&step["id"]), text(&step["outcome"])))
            .collect()
    }

    /// Asserts that every step was proved.
    #[track_caller]
    pub fn assert_proved(&self) {
        let outcomes = self.outcomes().into_iter();
        let unproved: Vec<_> = outcomes.filter(|(_, outcome)| outcome != "proved").collect();
        assert_eq!(unproved, [], "{self:#?}");
    }

    #[track_caller]
    pub fn assert(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Returns the program that runs a command in the range, and its environment variables.
///
/// Records of runs are stored in the tests' own folder, not in that of the user.
pub fn range_command() -> (PathBuf, [(&'static str, String); 2]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let binary = Path::new(env!("CARGO_BIN_EXE_kubectl-defender_sim"));
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", binary.parent().unwrap().display());
    (
        root.join("tests/range/exec"),
        [
            ("PATH", path),
            ("XDG_STATE_HOME", env!("CARGO_TARGET_TMPDIR").to_owned()),
        ],
    )
}

fn inside(program: &str) -> Command {
    let (exec, variables) = range_command();
    let mut command = Command::new(exec);
    command.arg(program).envs(variables);
    command
}

/// The user that runs a command of this tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Has all permissions.
    Admin,
    /// Has only the printed `ClusterRole`, for each namespace of [`Space::named`].
    Operator,
    /// Has only the printed `Role`, in each namespace of [`Space::new`].
    Tenant,
}

/// The namespaces for which identities have the permissions of a run.
static GRANTED: Mutex<BTreeMap<String, Identity>> = Mutex::new(BTreeMap::new());

impl Identity {
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Tenant => "tenant",
        }
    }

    /// Returns the least privileged identity that can run this command.
    ///
    /// For runs and for the cleanup of one namespace, this is the identity of the namespace. Other commands read the
    /// entire cluster; a command that selects another identity needs a privileged one.
    fn least(arguments: &[&str]) -> Self {
        let flag = |names: &[&str]| arguments.iter().any(|word| names.contains(word));
        let namespace = arguments
            .windows(2)
            .find(|pair| pair[0] == "-n")
            .map(|pair| pair[1]);
        let run = yes(arguments).is_some() && (arguments[0] != "cleanup" || namespace.is_some());
        if !run || flag(&["--as", "--kubeconfig", "--token"]) {
            return Self::Admin;
        }
        let granted = GRANTED.lock().unwrap_or_else(PoisonError::into_inner);
        let namespace = namespace.unwrap_or("mdc-simulation");
        granted.get(namespace).copied().unwrap_or(Self::Admin)
    }

    /// Returns the variable that makes a command in the range run as this identity.
    pub fn variable(self) -> String {
        let file = state().join(format!("{}.kubeconfig", self.name()));
        format!("KUBECONFIG={}", file.display())
    }

    /// Prepares a command in the range as this identity.
    fn inside(self, program: &str) -> Command {
        let mut command = inside("env");
        command.args([&self.variable(), program]);
        command
    }

    /// Grants the permissions that `kubectl defender-sim rights` prints for a run in this namespace.
    fn grant(self, namespace: &str) {
        let subject = format!("user:{}", self.name());
        let scope: &[&str] = match self {
            Self::Tenant => &["--namespace-scoped"],
            _ => &[],
        };
        let arguments = [&["rights", "-n", namespace, "--subject", &subject], scope].concat();
        apply(&sim_as(Self::Admin, &arguments).assert(0).stdout);
        let resource = format!("namespaces/{namespace}");
        let question = [
            "auth",
            "can-i",
            "get",
            &resource,
            "-n",
            namespace,
            "--as",
            self.name(),
        ];
        await_that("the rights count", Duration::from_secs(20), || {
            try_kubectl(&question).stdout == "yes\n"
        });
        let mut granted = GRANTED.lock().unwrap_or_else(PoisonError::into_inner);
        granted.insert(namespace.to_owned(), self);
    }
}

/// Applies manifests as the administrator.
pub fn apply(manifests: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), manifests).unwrap();
    kubectl(&["apply", "-f", file.path().to_str().unwrap()]);
}

fn ran(command: Command) -> Ran {
    Running::spawn(command).end()
}

/// Runs `kubectl defender-sim ARGUMENTS` to completion, as the least privileged identity that can run it.
pub fn sim(arguments: &[&str]) -> Ran {
    Running::start(arguments).end()
}

/// Like [`sim`], as the given identity.
pub fn sim_as(identity: Identity, arguments: &[&str]) -> Ran {
    Running::start_as(identity, arguments).end()
}

/// Like [`sim`], but without adding a confirmation.
pub fn sim_unasked(arguments: &[&str]) -> Ran {
    let mut command = Identity::least(arguments).inside("kubectl");
    command.arg("defender-sim").args(arguments);
    ran(command)
}

/// Returns the flag that confirms runs and cleanups, because a test has no terminal.
pub fn yes(arguments: &[&str]) -> Option<&'static str> {
    let run = |name: &&&str| catalogue::find(name).is_some() || ["all", "run", "cleanup"].contains(*name);
    arguments.first().filter(run).map(|_| "--yes")
}

/// Runs `kubectl ARGUMENTS`. Panics if it fails.
pub fn kubectl(arguments: &[&str]) -> String {
    let ran = try_kubectl(arguments);
    assert_eq!(ran.code, Some(0), "kubectl {arguments:?}: {ran:?}");
    ran.stdout
}

pub fn try_kubectl(arguments: &[&str]) -> Ran {
    let mut command = inside("kubectl");
    command.args(arguments);
    ran(command)
}

/// Runs any other command in the range.
pub fn run_inside(arguments: &[&str]) -> Ran {
    let mut command = inside(arguments[0]);
    command.args(&arguments[1..]);
    ran(command)
}

/// A webhook that modifies or refuses the objects created in one namespace until it is dropped: see
/// `tests/range/webhook`.
pub struct Webhook(Child);

impl Webhook {
    /// Applies a JSON Patch to objects of the given kinds, or of all kinds if the list is empty. A string in place of the
    /// patch refuses objects of the given kinds with that message.
    pub fn start(namespace: &str, patch: &Value, kinds: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/range/webhook");
        let mut command = inside(script.to_str().unwrap());
        command.args([namespace, &patch.to_string()]).args(kinds);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Runs a function at the end of a test, even if the test fails.
pub struct Finally<F: FnMut()>(pub F);

impl<F: FnMut()> Drop for Finally<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Returns the state folder of the range.
pub fn state() -> PathBuf {
    let name = std::env::var("RANGE_NETNS").unwrap_or_else(|_| "range".into());
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target").join(name)
}

/// Adds an image to the range's registry: one of the two default images with additional executables.
pub fn image(name: &str, base: &str, files: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<(String, &str)> = files
        .iter()
        .enumerate()
        .map(|(number, (path, content))| {
            let source = folder.path().join(number.to_string());
            std::fs::write(&source, content).unwrap();
            (source.to_str().unwrap().to_owned(), *path)
        })
        .collect();
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(source, path)| (source.as_str(), *path))
        .collect();
    image_with(name, base, &files)
}

/// Like [`image`], from local files: the source and the target path of each.
pub fn image_with(name: &str, base: &str, files: &[(&str, &str)]) -> String {
    let overlay = tempfile::tempdir().unwrap();
    for (source, path) in files {
        let path = overlay.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::copy(source, &path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    image_of(name, base, overlay.path(), &[])
}

/// Like [`image`], from a folder with the overlay, with these flags of `tests/range/image`.
pub fn image_of(name: &str, base: &str, overlay: &Path, flags: &[&str]) -> String {
    let name = format!("ghcr.io/tests/{name}:latest");
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/range/image");
    let mut command = Command::new(tool);
    command
        .args(flags)
        .args([&name, &format!("{IMAGES}/{base}:latest")])
        .arg(overlay);
    let ran = ran(command);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    name
}

/// A running command, which is killed when the test ends.
pub struct Running {
    child: Child,
    stdout: mpsc::Receiver<String>,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    /// Starts `kubectl defender-sim ARGUMENTS`.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_as(Identity::least(arguments), arguments)
    }

    /// Like [`Running::start`], as the given identity.
    pub fn start_as(identity: Identity, arguments: &[&str]) -> Self {
        let mut command = identity.inside("kubectl");
        command.arg("defender-sim").args(arguments).args(yes(arguments));
        Self::spawn(command)
    }

    /// Starts `PROGRAM... kubectl defender-sim ARGUMENTS`; PROGRAM must replace itself with its command, like `nohup`.
    pub fn start_under(program: &[&str], arguments: &[&str]) -> Self {
        let mut command = inside(program[0]);
        command.args(&program[1..]).args(["kubectl", "defender-sim"]);
        command.args(arguments).args(yes(arguments));
        Self::spawn(command)
    }

    /// Like [`Running::start`] without kubectl and its startup time: for runs that must overlap.
    pub fn start_bare(arguments: &[&str]) -> Self {
        let mut command = Identity::least(arguments).inside("kubectl-defender_sim");
        command.args(arguments).args(yes(arguments));
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = lines(child.stdout.take().unwrap());
        let lines = lines(child.stderr.take().unwrap());
        Self {
            child,
            stdout,
            lines,
            seen: vec![],
        }
    }

    /// Waits for a progress line that contains `part`.
    pub fn await_line(&mut self, part: &str) -> String {
        let end = Instant::now() + Duration::from_secs(60);
        while let Ok(line) = self
            .lines
            .recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            self.seen.push(line.clone());
            if line.contains(part) {
                return line.trim_end().to_owned();
            }
        }
        panic!("no line with {part:?} in {:#?}", self.seen)
    }

    /// Returns the ID of the run, from its first line.
    pub fn run(&mut self) -> String {
        let line = self.await_line("run ");
        line.split_whitespace().nth(1).unwrap().to_owned()
    }

    /// Sends a signal to the plugin itself: every program between it and the test has replaced itself with it.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &id])
                .status()
                .unwrap()
                .success()
        );
    }

    pub fn end(mut self) -> Ran {
        // Both streams end with the last process that has them open.
        let end = Instant::now() + BOUND;
        let rest = |lines: &mpsc::Receiver<String>| {
            let mut text = String::new();
            loop {
                match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                    Ok(line) => text.push_str(&line),
                    Err(mpsc::RecvTimeoutError::Disconnected) => return text,
                    Err(mpsc::RecvTimeoutError::Timeout) => panic!("not over within {BOUND:?}: {text}"),
                }
            }
        };
        let stdout = rest(&self.stdout);
        let stderr = self.seen.concat() + &rest(&self.lines);
        Ran {
            code: self.child.wait().unwrap().code(),
            stdout,
            stderr,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Has no effect if the process has ended: it was waited for, and Rust keeps track of that.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns lines with their line endings as they arrive; invalid UTF-8 is replaced.
fn lines(from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = vec![];
        while from.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
            line.clear();
        }
    });
    receiver
}

/// Starts an idle pod for a test, and waits until commands can run in it.
pub fn idle_pod(namespace: &str, name: &str, image: &str) {
    let idle = ["--restart=Never", "--command", "--", "sleep", "300"];
    kubectl(&[&["run", name, "-n", namespace, "--image", image][..], &idle].concat());
    let pod = format!("pod/{name}");
    kubectl(&[
        "wait",
        "--for=condition=Ready",
        &pod,
        "-n",
        namespace,
        "--timeout=60s",
    ]);
}

/// Returns the objects in a namespace that carry the tool's label, and the namespace itself if it does.
pub fn left_in(namespace: &str) -> Vec<String> {
    let label = "app.kubernetes.io/managed-by=kubectl-defender-sim";
    let name = format!("metadata.name={namespace}");
    let objects = kubectl(&[
        "get",
        &KINDS,
        "-n",
        namespace,
        "-l",
        label,
        "-o",
        "name",
        "--ignore-not-found",
    ]);
    let space = kubectl(&[
        "get",
        "namespaces",
        "-l",
        label,
        "--field-selector",
        &name,
        "-o",
        "name",
    ]);
    objects.lines().chain(space.lines()).map(str::to_owned).collect()
}

#[track_caller]
pub fn assert_nothing_left(namespace: &str) {
    assert_eq!(left_in(namespace), Vec::<String>::new());
}

/// Waits until `condition` holds.
#[track_caller]
pub fn await_that(what: &str, within: Duration, condition: impl Fn() -> bool) {
    let end = Instant::now() + within;
    while !condition() {
        assert!(Instant::now() < end, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// A namespace of one test, which is removed with it.
pub struct Space(pub String);

impl Space {
    /// Creates the namespace with these labels.
    pub fn new(name: &str, labels: &[&str]) -> Self {
        let space = Self::of_test(name);
        kubectl(&["create", "namespace", &space.0]);
        kubectl(&[&["label", "namespace", &space.0, "test=defender-sim"], labels].concat());
        Identity::Tenant.grant(&space.0);
        space
    }

    /// Reserves a name only, for a namespace that the run creates.
    pub fn named(name: &str) -> Self {
        let space = Self::of_test(name);
        Identity::Operator.grant(&space.0);
        space
    }

    /// Returns a name that no other test run on the range uses.
    fn of_test(name: &str) -> Self {
        Self(format!("test-{name}-{}", std::process::id()))
    }
}

impl Drop for Space {
    #[expect(
        clippy::print_stderr,
        reason = "what a failed test leaves for whoever reads its output"
    )]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", try_kubectl(&["get", "pods,events", "-n", &self.0]).stdout);
        }
        try_kubectl(&[
            "delete",
            "namespace",
            &self.0,
            "--ignore-not-found",
            "--wait=false",
        ]);
        // Belongs to a `ClusterRole`; a `Role` is deleted with the namespace.
        let role = format!("kubectl-defender-sim-run-{}", self.0);
        let kinds = "clusterroles,clusterrolebindings";
        try_kubectl(&["delete", kinds, &role, "--ignore-not-found", "--wait=false"]);
    }
}

static DEFAULT_NAMESPACE: Mutex<()> = Mutex::new(());
static WHOLE_RANGE: RwLock<()> = RwLock::new(());

/// Locks the default namespace for one test at a time, and waits until the previous test's is gone.
///
/// A namespace of another owner is not removed.
pub fn default_namespace() -> (Space, MutexGuard<'static, ()>) {
    let guard = DEFAULT_NAMESPACE.lock().unwrap_or_else(PoisonError::into_inner);
    await_that(
        "namespace mdc-simulation is free",
        Duration::from_secs(60),
        || kubectl(&["get", "namespace", "mdc-simulation", "--ignore-not-found"]).is_empty(),
    );
    Identity::Operator.grant("mdc-simulation");
    (Space("mdc-simulation".into()), guard)
}

/// Locks the range for tests that can share it with others.
pub fn shared() -> RwLockReadGuard<'static, ()> {
    WHOLE_RANGE.read().unwrap_or_else(PoisonError::into_inner)
}

/// Locks the range for tests that change what all its pods observe.
pub fn alone() -> RwLockWriteGuard<'static, ()> {
    WHOLE_RANGE.write().unwrap_or_else(PoisonError::into_inner)
}
