//! The built-in scenarios, embedded in the binary, one YAML file each.

use std::fmt;
use std::sync::{LazyLock, OnceLock};

use super::Scenario;

/// Groups of built-in scenarios.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// What Microsoft's simulation tool does.
    Microsoft,
    /// More behaviour in the victim, which the Defender sensor detects.
    Runtime,
    /// Requests to the Kubernetes API, which Defender detects in the audit log.
    ControlPlane,
}

impl Family {
    /// All families.
    pub const ALL: [Self; 3] = [Self::Microsoft, Self::Runtime, Self::ControlPlane];

    /// Returns the name of the family.
    pub fn as_str(self) -> &'static str {
        match self {
            Family::Microsoft => "microsoft",
            Family::Runtime => "runtime",
            Family::ControlPlane => "control-plane",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A file, which is parsed when it is needed: the command line needs only IDs and titles.
#[derive(Debug)]
pub struct Entry {
    /// Family of the scenario.
    pub family: Family,
    /// ID of the scenario.
    pub id: &'static str,
    text: &'static str,
}

impl Entry {
    /// Returns the title of the scenario.
    pub fn title(&self) -> &'static str {
        let mut lines = self.text.lines();
        lines
            .find_map(|line| line.strip_prefix("title: "))
            .unwrap_or_default()
    }
}

impl Entry {
    /// Returns the description of the scenario.
    pub fn description(&self) -> String {
        let lines = self
            .text
            .lines()
            .skip_while(|line| *line != "description: |")
            .skip(1);
        let lines = lines.map_while(|line| line.strip_prefix("  ").or(line.is_empty().then_some(line)));
        lines.flat_map(|line| [line, "\n"]).collect()
    }
}

macro_rules! entries {
    ($($family:ident $folder:literal: $($id:literal)*;)*) => {
        [$($(Entry {
            family: Family::$family,
            id: $id,
            text: include_str!(concat!("catalogue/", $folder, "/", $id, ".yaml")),
        },)*)*]
    };
}

/// Every scenario, in the order in which it is listed and run.
static ENTRIES: &[Entry] = &entries! {
    Microsoft "microsoft":
        "recon" "lateral-mov" "secrets" "crypto" "webshell" "ti-domain" "anti-malware";
    Runtime "runtime":
        "discovery" "execution" "persistence" "accounts" "anti-forensics" "impair-defenses" "attack-tools" "tunnels"
        "miner-behaviour" "exploited-app" "docker-commands" "dns" "canary";
    ControlPlane "control-plane":
        "rbac" "inert-workloads" "events" "admission" "kube-system" "miner-image" "exposed-service" "coredns"
        "service-account" "gated-deployment";
};

static PARSED: [OnceLock<Scenario>; ENTRIES.len()] = [const { OnceLock::new() }; ENTRIES.len()];
static ALL: LazyLock<Vec<Scenario>> =
    LazyLock::new(|| ENTRIES.iter().map(|entry| built_in(entry.text)).collect());
static BASELINE: LazyLock<Scenario> =
    LazyLock::new(|| built_in(include_str!("catalogue/microsoft/baseline.yaml")));

fn built_in(text: &str) -> Scenario {
    Scenario::from_yaml(text).expect("a built-in scenario is checked by a unit test")
}

/// Returns every built-in scenario without parsing it.
pub fn entries() -> &'static [Entry] {
    ENTRIES
}

/// Returns every built-in scenario, in the order of [`entries`].
pub fn all() -> &'static [Scenario] {
    &ALL
}

/// Returns the IDs of the scenarios of a family, except those that need consent of their own.
pub fn family(family: Family) -> impl Iterator<Item = &'static str> {
    let scenarios = ENTRIES.iter().zip(all());
    let of_family =
        scenarios.filter(move |(entry, scenario)| entry.family == family && scenario.consent.is_none());
    of_family.map(|(entry, _)| entry.id)
}

/// Returns the IDs of the scenarios that `all` runs, which is what Microsoft's tool does: its family without the web
/// shell, which is part of every scenario.
pub fn attacks() -> impl Iterator<Item = &'static str> {
    let entries = ENTRIES.iter().filter(|entry| entry.family == Family::Microsoft);
    entries.map(|entry| entry.id).filter(|id| *id != "webshell")
}

/// Returns the scenario that `--baseline` runs instead of any other. It contains no attack.
pub fn baseline() -> &'static Scenario {
    &BASELINE
}

/// Returns the built-in scenario with this ID, or `None` if it does not exist.
pub fn find(id: &str) -> Option<&'static Scenario> {
    if id == BASELINE_ID {
        return Some(baseline());
    }
    let index = ENTRIES.iter().position(|entry| entry.id == id)?;
    Some(PARSED[index].get_or_init(|| built_in(ENTRIES[index].text)))
}

/// ID of [`baseline`].
const BASELINE_ID: &str = "baseline";

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
    fn entries_have_the_ids_and_titles_of_their_files() {
        let mut ids = BTreeSet::from([BASELINE_ID]);
        assert_eq!(baseline().id, BASELINE_ID);
        for (entry, scenario) in entries().iter().zip(all()) {
            assert_eq!((entry.id, entry.title()), (&*scenario.id, &*scenario.title));
            assert_eq!(entry.description(), scenario.description, "{}", entry.id);
            assert_eq!(find(entry.id), Some(scenario));
            assert!(ids.insert(entry.id), "{}", entry.id);
        }
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
