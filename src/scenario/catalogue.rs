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

static CATALOGUE: LazyLock<Vec<Scenario>> = LazyLock::new(|| {
    FILES
        .iter()
        .map(|text| serde_saphyr::from_str(text).expect("a built-in scenario is checked by a unit test"))
        .collect()
});

/// Every built-in scenario, in the order in which `all` runs them.
pub fn all() -> &'static [Scenario] {
    &CATALOGUE
}

/// The built-in scenario of that id.
pub fn find(id: &str) -> Option<&'static Scenario> {
    all().iter().find(|scenario| scenario.id == id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::defender::alerts;

    #[test]
    fn ids_are_unique_and_kebab_case() {
        let kebab = |id: &str| {
            !id.is_empty()
                && !id.starts_with('-')
                && id
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        };
        let mut seen = BTreeSet::new();
        for scenario in all() {
            assert_eq!(scenario.api_version, super::super::API_VERSION);
            assert!(kebab(&scenario.id), "{}", scenario.id);
            assert!(seen.insert(scenario.id.clone()), "{} twice", scenario.id);
            for step in &scenario.steps {
                assert!(kebab(&step.id), "{}.{}", scenario.id, step.id);
                assert!(
                    seen.insert(format!("{}.{}", scenario.id, step.id)),
                    "{}.{} twice",
                    scenario.id,
                    step.id
                );
            }
        }
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
