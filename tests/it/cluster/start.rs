//! Runs that cannot start, and why.

use std::time::{Duration, Instant};

use super::apply;
use crate::range::{
    IMAGES, Identity, Space, assert_nothing_left, await_that, image, kubectl, shared, sim, sim_as,
};

#[test]
#[ignore = "needs the range: make range"]
fn a_victim_without_a_web_server_is_named() {
    let _shared = shared();
    let space = Space::named("no-server");
    let image = format!("{IMAGES}/attacker:latest");
    let ran = sim(&["recon", "-n", &space.0, "--victim-image", &image]).assert(4);
    assert!(
        ran.stderr
            .contains("pod/mdc-simulation-victim cannot become ready"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("exit status 127"), "{}", ran.stderr);
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn a_web_server_without_php_is_named() {
    let _shared = shared();
    let space = Space::named("no-php");
    let image = image("no-php", "victim", &[("usr/local/sbin/php-fpm", "#!/bin/sh\n")]);
    let ran = sim(&["recon", "-n", &space.0, "--victim-image", &image]).assert(4);
    assert!(
        ran.stderr
            .contains("the victim's web server has no PHP behind it (HTTP 502)"),
        "{}",
        ran.stderr
    );
    assert!(ran.stdout.contains("0 of 3 steps proved"), "{}", ran.stdout);
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn an_image_that_cannot_be_pulled_ends_the_wait() {
    let _shared = shared();
    let space = Space::named("no-image");
    let begun = Instant::now();
    let image = ["--victim-image", "ghcr.io/tests/none:latest"];
    // Reading events needs a permission that a run does not.
    let arguments = [&["recon", "-n", &space.0], &image[..]].concat();
    let ran = sim_as(Identity::Admin, &arguments).assert(3);
    assert!(ran.stderr.contains("ImagePullBackOff"), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("Failed: "),
        "the pod's events are missing: {}",
        ran.stderr
    );
    assert!(begun.elapsed() < Duration::from_secs(60), "--timeout is 300 s");
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn a_pod_that_fits_nowhere_ends_the_wait() {
    let _shared = shared();
    let space = Space::new("no-room", &[]);
    let range = r#"{"apiVersion":"v1","kind":"LimitRange","metadata":{"name":"odd"},"spec":{"limits":[{"type":"Container","defaultRequest":{"example.org/none":"1"},"default":{"example.org/none":"1"}}]}}"#;
    apply(&space.0, range);
    let ran = sim(&["recon", "-n", &space.0]).assert(3);
    assert!(ran.stderr.contains("cannot be scheduled"), "{}", ran.stderr);
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn what_admission_refuses_is_said_in_its_words() {
    let _shared = shared();
    let space = Space::new("restricted", &["pod-security.kubernetes.io/enforce=restricted"]);
    let ran = sim(&["recon", "-n", &space.0]).assert(3);
    assert!(
        ran.stderr.contains("violates PodSecurity \"restricted:latest\""),
        "{}",
        ran.stderr
    );
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn a_quota_that_is_used_up_is_said_at_once() {
    let _shared = shared();
    let space = Space::new("quota", &[]);
    let quota = r#"{"apiVersion":"v1","kind":"ResourceQuota","metadata":{"name":"full"},"spec":{"hard":{"pods":"1"}}}"#;
    apply(&space.0, quota);
    await_that("the quota counts", Duration::from_secs(30), || {
        let form = "jsonpath={.status.hard.pods}";
        kubectl(&["get", "resourcequota", "full", "-n", &space.0, "-o", form]) == "1"
    });
    let begun = Instant::now();
    let ran = sim(&["recon", "-n", &space.0]).assert(3);
    assert!(
        ran.stderr.contains("exceeded quota: full, requested: pods=1"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("pod/mdc-simulation-"), "{}", ran.stderr);
    assert!(begun.elapsed() < Duration::from_secs(30), "--timeout is 300 s");
    assert_nothing_left(&space.0);
}

#[test]
#[ignore = "needs the range: make range"]
fn without_rights_nothing_is_made() {
    let _shared = shared();
    let space = Space::new("no-rights", &[]);
    let ran = sim(&["recon", "-n", &space.0, "--as", "nobody-here"]).assert(3);
    assert!(
        ran.stderr
            .contains("pods (get, list, watch, create, patch, delete)"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("kubectl auth can-i"), "{}", ran.stderr);
    assert_nothing_left(&space.0);
}
