//! Size limits of input files.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

fn run(arguments: &[&str], home: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-defender_sim"));
    let command = command.args(arguments).env_clear().env("HOME", home);
    command.env("XDG_STATE_HOME", home).output().unwrap()
}

#[test]
fn endless_files_are_refused() {
    let home = tempfile::tempdir().unwrap();
    for arguments in [
        &["lint", "/dev/zero"][..],
        &["run", "-f", "/dev/zero", "--dry-run"],
        &["list", "--config", "/dev/zero"],
        &["verify", "--record", "/dev/zero"],
        &["recon", "--yes", "--kubeconfig", "/dev/zero"],
        &[
            "recon",
            "--yes",
            "--server",
            "https://127.0.0.1:1",
            "--certificate-authority",
            "/dev/zero",
        ],
    ] {
        let start = Instant::now();
        let output = run(arguments, home.path());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(
            stderr.contains("/dev/zero") && stderr.contains("larger than 16 MiB"),
            "{arguments:?}: {stderr}"
        );
        assert!(start.elapsed() < Duration::from_secs(20), "{arguments:?}");
    }
}

#[test]
fn history_ignores_pipes_and_huge_files() {
    let home = tempfile::tempdir().unwrap();
    let runs = home.path().join("defender-sim/runs");
    std::fs::create_dir_all(&runs).unwrap();
    let pipe = runs.join("abcdefgh.json");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let huge = std::fs::File::create(runs.join("hgfedcba.json")).unwrap();
    huge.set_len(1 << 40).unwrap();
    let start = Instant::now();
    let output = run(&["history", "-o", "name"], home.path());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert!(start.elapsed() < Duration::from_secs(20));
}
