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

/// Every built-in scenario, in the order in which `all` runs them.
pub fn all() -> &'static [Scenario] {
    &CATALOGUE
}

/// The scenarios that `all` stands for: but for the web shell, which is part of every other one.
pub fn attacks() -> impl Iterator<Item = &'static Scenario> {
    all().iter().filter(|scenario| scenario.id != "webshell")
}

/// What `--baseline` runs in the place of any scenario: no attack.
pub fn baseline() -> &'static Scenario {
    &BASELINE
}

/// The built-in scenario of that id.
pub fn find(id: &str) -> Option<&'static Scenario> {
    let mut every = all().iter().chain([baseline()]);
    every.find(|scenario| scenario.id == id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::defender::alerts;

    #[test]
    fn ids_are_unique() {
        let every = all().iter().chain([baseline()]);
        let ids: BTreeSet<&str> = every.map(|scenario| scenario.id.as_str()).collect();
        assert_eq!(ids.len(), all().len() + 1);
    }

    #[test]
    fn every_expected_alert_is_in_the_alert_catalogue() {
        for scenario in all() {
            for alert in &scenario.alerts {
                assert!(alerts::find(&alert.id).is_some(), "{}: {}", scenario.id, alert.id);
            }
        }
    }
}
