//! Requirements for victim images.
//!
//! The web user, the owner of the web root and the shell may differ from those of the default image.

use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use crate::range::{Ran, Space, assert_nothing_left, image_of, shared, sim, text};

const WEB_ROOT: &str = "var/www/html";
/// Numeric IDs of Debian's users and groups.
const ROOT: u32 = 0;
const GAMES: u32 = 5;
const GAMES_GROUP: u32 = 60;
const WWW_DATA: u32 = 33;

/// Runs PHP's workers as `games` instead of `www-data`. The socket still belongs to the web server.
fn another_web_user(overlay: &Path) {
    let path = "etc/php/8.2/fpm/php-fpm.conf";
    let ours = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("images/victim/rootfs")
        .join(path);
    let theirs = std::fs::read_to_string(ours).unwrap().replace(
        "\nuser = www-data\ngroup = www-data\n",
        "\nuser = games\ngroup = games\n",
    );
    let path = overlay.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, theirs).unwrap();
}

/// Adds the web root with the web shell.
fn web_root(overlay: &Path, user: u32, group: u32, mode: u32) {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("images/victim/rootfs");
    let web_root = overlay.join(WEB_ROOT);
    std::fs::create_dir_all(&web_root).unwrap();
    let shell = web_root.join("ws.php");
    std::fs::copy(ours.join(WEB_ROOT).join("ws.php"), &shell).unwrap();
    for path in [&web_root, &shell] {
        chown(path, Some(user), Some(group)).unwrap();
    }
    std::fs::set_permissions(&web_root, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Replaces `sh` with bash.
fn another_shell(overlay: &Path) {
    let folder = overlay.join("usr/bin");
    std::fs::create_dir_all(&folder).unwrap();
    symlink("bash", folder.join("sh")).unwrap();
}

/// Runs all scenarios on a variant of the victim's image.
///
/// An additional step reports the properties of the variant: the web user, the web root's owner and mode, the shell.
fn run(name: &str, space: &Space, variant: impl Fn(&Path)) -> Ran {
    let overlay = tempfile::tempdir().unwrap();
    variant(overlay.path());
    let image = image_of(name, "victim", overlay.path(), &["--keep-owners"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), SAY).unwrap();
    let scenarios = [
        "run",
        "recon",
        "lateral-mov",
        "secrets",
        "crypto",
        "ti-domain",
        "anti-malware",
        "webshell",
    ];
    let path = file.path().to_str().unwrap();
    let options = ["-f", path, "-n", &space.0, "--victim-image", &image, "-o", "json"];
    sim(&[&scenarios[..], &options].concat())
}

const SAY: &str = r#"
apiVersion: defender-sim/v1
id: image
title: The image
description: What the image is.
steps:
- id: says
  title: say who runs what
  script: echo "$(id -un), $(stat -c '%U:%G %a' .), $(readlink /bin/sh)" >&2
  proof: it was printed
alerts: []
"#;

/// Asserts that the variant was the intended one, and that every step was proved.
#[track_caller]
fn assert_all_proved(name: &str, image: &str, variant: impl Fn(&Path)) {
    let _shared = shared();
    let space = Space::named(name);
    let ran = run(name, &space, variant).assert(0);
    ran.assert_proved();
    assert_eq!(ran.outcomes().len(), 17, "{ran:#?}");
    let scenarios = ran.json()["scenarios"].clone();
    assert_eq!(scenarios[7]["steps"][0]["evidence"], image);
    let user = image.split(',').next().unwrap();
    assert_eq!(scenarios[6]["steps"][0]["evidence"], user, "of whoami");
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn with_another_web_user() {
    assert_all_proved("web-user", "games, games:games 755, dash", |overlay| {
        another_web_user(overlay);
        web_root(overlay, GAMES, GAMES_GROUP, 0o755);
    });
}

#[test]
#[ignore = "needs the range: make range"]
fn with_another_owner_of_the_web_root() {
    assert_all_proved("web-root", "www-data, root:www-data 2775, dash", |overlay| {
        web_root(overlay, ROOT, WWW_DATA, 0o2775);
    });
}

#[test]
#[ignore = "needs the range: make range"]
fn with_bash_as_the_shell() {
    assert_all_proved("shell", "www-data, www-data:www-data 755, bash", another_shell);
}

#[test]
#[ignore = "needs the range: make range"]
fn with_another_user_owner_and_shell() {
    assert_all_proved("all-three", "games, root:games 2775, bash", |overlay| {
        another_web_user(overlay);
        web_root(overlay, ROOT, GAMES_GROUP, 0o2775);
        another_shell(overlay);
    });
}

/// The contract does not allow this image: only the steps that write to the web root fail, and report the reason.
#[test]
#[ignore = "needs the range: make range"]
fn a_web_root_that_cannot_be_written_is_named() {
    let _shared = shared();
    let space = Space::named("read-only");
    let ran = run("read-only", &space, |overlay| {
        web_root(overlay, ROOT, ROOT, 0o755);
    })
    .assert(4);
    let json = ran.json();
    let unproved: Vec<[String; 4]> = json["scenarios"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|scenario| scenario["steps"].as_array().unwrap())
        .filter(|step| step["outcome"] != "proved")
        .map(|step| ["id", "outcome", "reason", "evidence"].map(|key| text(&step[key])))
        .collect();
    // The evidence of a shell starts with its location in the script.
    let expected = [
        ("download-miner", "blocked", "the file could not be written", ""),
        (
            "run-miner",
            "failed",
            "exit status 1",
            "chmod: cannot access 'xmrig': No such file or directory",
        ),
        (
            "write-file",
            "failed",
            "exit status 1",
            "./infected_file: Permission denied",
        ),
        (
            "run-file",
            "failed",
            "exit status 1",
            "chmod: cannot access './infected_file': No such file or directory",
        ),
    ];
    assert_eq!(unproved.len(), expected.len(), "{unproved:#?}");
    for (seen, expected) in unproved.iter().zip(expected) {
        let (step, outcome, reason, evidence) = expected;
        assert_eq!(seen[..3], [step, outcome, reason]);
        assert!(
            seen[3].ends_with(evidence),
            "{seen:?} does not end in {evidence:?}"
        );
    }
    assert_nothing_left(&space.0);
}
