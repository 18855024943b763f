//! The built-in scenarios, embedded in the binary, one YAML file each.

use std::sync::LazyLock;

use super::Scenario;

const FILES: [&str; 7] = [
    include_str!("catalogue/recon.yaml"),
    include_str!("catalogue/lateral-mov.yaml"),
    include_str!("catalogue/secrets.yaml"),
    include_str!("catalogue/crypto.yaml"),
    include_str!("catalogue/webshell.yaml"),
    include_str!("catalogue/ti-domain.yaml"),
    include_str!("catalogue/anti-malware.yaml"),
];

static CATALOGUE: LazyLock<Vec<Scenario>> =
    LazyLock::new(|| FILES.iter().map(|text| built_in(text)).collect());
static BASELINE: LazyLock<Scenario> = LazyLock::new(|| built_in(include_str!("catalogue/baseline.yaml")));

fn built_in(text: &str) -> Scenario {
    Scenario::from_yaml(text).expect("a built-in scenario is checked by a unit test")
}

/// Returns every built-in scenario, in the order in which `all` runs them.
pub fn all() -> &'static [Scenario] {
    &CATALOGUE
}

/// Returns the scenarios that `all` runs: every one except the web shell, which is part of all others.
pub fn attacks() -> impl Iterator<Item = &'static Scenario> {
    all().iter().filter(|scenario| scenario.id != "webshell")
}

/// Returns the scenario that `--baseline` runs instead of any other. It contains no attack.
pub fn baseline() -> &'static Scenario {
    &BASELINE
}

/// Returns the built-in scenario with this ID, or `None` if it does not exist.
pub fn find(id: &str) -> Option<&'static Scenario> {
    let mut every = all().iter().chain([baseline()]);
    every.find(|scenario| scenario.id == id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::defender::alerts;

    /// Returns the exit status of a step's script in this machine's bash, with only these programs.
    fn status(scenario: &str, step: &str, programs: &[(&str, &str)]) -> Option<i32> {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        for (name, text) in programs {
            std::fs::write(at.join(name), format!("#!/bin/sh\n{text}\n")).unwrap();
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(at.join(name), mode).unwrap();
        }
        let steps = &find(scenario).unwrap().steps;
        let script = steps.iter().find(|known| known.id == step).unwrap().text();
        let script = script.replace("/sbin/", &format!("{}/", at.display()));
        let mut bash = std::process::Command::new("/bin/bash");
        bash.args(["-c", &script]).current_dir(at).env("PATH", at);
        bash.output().unwrap().status.code()
    }

    #[test]
    fn a_lookup_that_hangs_is_no_domain_that_resolved() {
        let (timeout, looked_up) = (("timeout", "shift\nexec \"$@\""), ("getent", "exit 0"));
        for (curl, getent, expected) in [
            ("exit 0", None, 0),
            ("exit 6", None, 6),
            ("exit 7", None, 0),
            ("exit 28", Some(looked_up), 0),
            ("exit 28", Some(("getent", "exit 2")), 28),
            ("exit 28", None, 28),
        ] {
            let programs: Vec<_> = [("curl", curl), timeout].into_iter().chain(getent).collect();
            let found = status("ti-domain", "contact-domain", &programs);
            assert_eq!(found, Some(expected), "{curl}, {getent:?}");
        }
    }

    #[test]
    fn what_was_not_executed_is_not_proved() {
        for (step, program) in [("load-msr", "modprobe"), ("touch-ld-preload", "touch")] {
            for (text, expected) in [
                (Some("exit 0"), 0),
                (Some("exit 1"), 0),
                (Some("exit 126"), 126),
                (Some("kill -KILL $$"), 137),
                (None, 127),
            ] {
                let programs: Vec<_> = text.into_iter().map(|text| (program, text)).collect();
                assert_eq!(
                    status("crypto", step, &programs),
                    Some(expected),
                    "{step}: {text:?}"
                );
            }
        }
    }

    #[test]
    fn ids_are_unique() {
        let every = all().iter().chain([baseline()]);
        let ids: BTreeSet<&str> = every.map(|scenario| scenario.id.as_str()).collect();
        assert_eq!(ids.len(), all().len() + 1);
    }

    #[test]
    fn every_expected_alert_is_known_and_can_be_raised() {
        for scenario in all() {
            for alert in &scenario.alerts {
                let known = alerts::find(&alert.id);
                let is_possible = known.is_some_and(|alert| alert.excluded.is_none());
                assert!(is_possible, "{}: {}", scenario.id, alert.id);
            }
        }
    }
}
