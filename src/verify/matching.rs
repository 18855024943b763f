//! Selects the alerts of a run and matches them to the expected ones: by alert type, if that is public, or by display
//! name in any known spelling.

use std::collections::{BTreeMap, BTreeSet};

use super::attribution::{Relation, Subject, pods_in};
use super::fired::{About, FiredAlert};
use crate::defender::alerts::Alert;
use crate::plan::{VICTIM, is_pod_name};
use crate::result::UnattributedAlert;

/// Further names of alerts, by their ID in the catalogue.
pub type Names = BTreeMap<String, Vec<String>>;

/// The alerts of a source that are, or may be, of a run.
#[derive(Debug, Default)]
pub struct AttributedAlerts {
    /// Alerts of the run.
    attributed: Vec<Attributed>,
    /// Alerts that may be of the run, and why that is unknown.
    unknown: Vec<(Attributed, String)>,
}

/// An alert that is, or may be, of a run.
#[derive(Clone, Debug)]
struct Attributed {
    alert: FiredAlert,
    /// Whether it names more of the run than the namespace.
    is_named: bool,
    /// The victim that it names, if it names exactly one.
    victim: Option<String>,
}

impl AttributedAlerts {
    /// Adds an alert if it is, or may be, of the run that `subject` describes.
    pub fn add(&mut self, mut alert: FiredAlert, subject: &Subject) {
        let Some(relation) = subject.relation(&alert) else {
            return;
        };
        let victim = named_victim(&alert);
        // Most of an alert's size, and not needed any more.
        alert.about = About::default();
        let is_named = relation == Relation::Named;
        let attributed = Attributed {
            alert,
            is_named,
            victim,
        };
        match relation {
            Relation::Named | Relation::Namespace => self.attributed.push(attributed),
            Relation::Unknown(reason) => self.unknown.push((attributed, reason)),
        }
    }

    /// Returns the alerts of one victim of several. Alerts that name none of them may be of this one.
    pub(super) fn of_victim(&self, pod: &str) -> Self {
        let is_of = |attributed: &&Attributed| attributed.victim.as_deref() == Some(pod);
        let attributed = self.attributed.iter();
        let without = attributed
            .clone()
            .filter(|attributed| attributed.victim.is_none());
        let without = without.map(|attributed| (attributed.clone(), "it names no single victim".to_owned()));
        let unknown = self.unknown.iter().filter(|(attributed, _)| {
            attributed.victim.is_none() || attributed.victim.as_deref() == Some(pod)
        });
        Self {
            attributed: attributed.filter(is_of).cloned().collect(),
            unknown: unknown.cloned().chain(without).collect(),
        }
    }

    /// Returns the alert of the run at this index.
    pub(super) fn get(&self, index: usize) -> &FiredAlert {
        &self.attributed[index].alert
    }

    /// Returns the indices of the run's alerts that match an expected one, the first raised first.
    pub(super) fn matching(&self, expected: &Alert, names: &Names) -> Vec<usize> {
        let attributed = self.attributed.iter().enumerate();
        let mut matching: Vec<usize> = attributed
            .filter(|(_, attributed)| matches(&attributed.alert, expected, names))
            .map(|(index, _)| index)
            .collect();
        matching.sort_by_key(|index| self.get(*index).generated);
        matching
    }

    /// Returns why an expected alert may be one that cannot be attributed or has no name.
    pub(super) fn candidate(&self, expected: &Alert, names: &Names) -> Option<String> {
        let may_match = |fired: &FiredAlert| fired.name.is_none() || matches(fired, expected, names);
        let mut unknown = self.unknown.iter();
        if let Some((attributed, reason)) = unknown.find(|(attributed, _)| may_match(&attributed.alert)) {
            return Some(format!(
                "{} may be this alert: {reason}",
                attributed.alert.label()
            ));
        }
        let mut attributed = self.attributed.iter().map(|attributed| &attributed.alert);
        attributed
            .find(|fired| fired.name.is_none())
            .map(|fired| format!("{} may be this alert", fired.label()))
    }

    /// Returns the alerts of the run that are not expected, with `strict` also those that name only the namespace; then
    /// the alerts that may be of the run.
    pub(super) fn into_others(
        self,
        used: &BTreeSet<usize>,
        strict: bool,
    ) -> (Vec<FiredAlert>, Vec<UnattributedAlert>) {
        // An export repeats an alert each time it changes.
        let mut ids: BTreeSet<String> = used.iter().map(|index| self.get(*index).id.clone()).collect();
        let attributed = self.attributed.into_iter().enumerate();
        let additional = attributed
            .filter(|(index, attributed)| (attributed.is_named || strict) && !used.contains(index))
            .map(|(_, attributed)| attributed.alert)
            .filter(|fired| fired.id.is_empty() || ids.insert(fired.id.clone()));
        let unknown = self.unknown.into_iter();
        let unattributed = unknown.map(|(attributed, reason)| UnattributedAlert {
            name: attributed.alert.label(),
            id: attributed.alert.id,
            reason,
        });
        (additional.collect(), unattributed.collect())
    }
}

/// Returns the only victim that an alert names.
fn named_victim(alert: &FiredAlert) -> Option<String> {
    let about = &alert.about;
    let mentioned = about.mentions.iter().flat_map(|text| pods_in(text));
    let named = about.pods.iter().map(String::as_str).chain(mentioned);
    let victims: BTreeSet<&str> = named
        .filter(|pod| pod.starts_with(VICTIM) && is_pod_name(pod))
        .collect();
    victims
        .first()
        .filter(|_| victims.len() == 1)
        .map(|&pod| pod.to_owned())
}

/// Whether a raised alert is an expected one, or its form if a policy blocks the behaviour: both detect it.
fn matches(alert: &FiredAlert, expected: &Alert, names: &Names) -> bool {
    expected.forms().any(|form| matches_form(alert, form, names))
}

fn matches_form(alert: &FiredAlert, expected: &Alert, names: &Names) -> bool {
    let has_type = alert
        .alert_type
        .as_ref()
        .zip(expected.alert_type.as_ref())
        .is_some_and(|(raised, expected)| current_type(raised) == current_type(expected));
    let further = names.get(&expected.id).into_iter().flatten();
    let mut known = std::iter::once(&expected.name)
        .chain(&expected.spellings)
        .chain(&expected.localized)
        .chain(further);
    let name = alert.name.as_deref().map(normalize);
    has_type || name.is_some_and(|name| known.any(|known| normalize(known) == name))
}

/// Returns an alert type in upper case, with the prefix `K8S_` for `AKS_`, which it has replaced.
fn current_type(alert_type: &str) -> String {
    let name = alert_type.to_ascii_uppercase();
    match name.strip_prefix("AKS_") {
        Some(rest) => format!("K8S_{rest}"),
        None => name,
    }
}

/// Removes from a display name what differs between Microsoft's own pages and between alerts: case, a full stop,
/// quotation marks, "(Preview)", "[seen multiple times]", articles, spaces.
fn normalize(name: &str) -> String {
    let name = name.to_lowercase().replace('\u{2019}', "'").replace('`', "");
    let name = name.replace("(preview)", " ");
    let name = name.trim().trim_end_matches('.');
    let repeated = ["[seen multiple times]", "seen multiple times"];
    let first = repeated.iter().find_map(|suffix| name.strip_suffix(suffix));
    let words = first.unwrap_or(name).split_whitespace();
    words
        .filter(|word| !["a", "an", "the"].contains(word))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::{judge_all, raised, run, verdicts};
    use super::super::options::JudgeOptions;
    use super::*;
    use crate::defender::alerts;
    use crate::result::Verdict;

    #[test]
    fn name_matches_in_every_published_spelling() {
        for (name, other) in [
            (
                "Command within a container accessed `ld.so.preload`",
                "command within container accessed ld.so.preload.",
            ),
            (
                "Network Scanning Tool Detected (Preview)",
                "Network scanning tool  detected",
            ),
            ("Outil d’analyse réseau détecté", "outil d'analyse réseau détecté"),
            (
                "Kubernetes events deleted",
                "Kubernetes events deleted [seen multiple times]",
            ),
            (
                "Usage of OAST domain detected (Preview)",
                "Usage of OAST domain detected seen multiple times.",
            ),
        ] {
            assert_eq!(normalize(name), normalize(other));
        }
        let names: Names = [("web-shell".to_owned(), vec!["Mögliche Webshell".to_owned()])].into();
        let alert = raised("mögliche webshell", "2026-05-04T10:00:30Z");
        let options = JudgeOptions {
            names,
            ..JudgeOptions::default()
        };
        assert_eq!(
            verdicts(&run("recon"), &[alert], &options)["web-shell"].0,
            Verdict::Raised
        );
        assert_eq!(current_type("AKS_DeleteEvents"), current_type("k8s_DeleteEvents"));
        let mut by_type = raised("Renamed", "2026-05-04T10:00:30Z");
        by_type["properties"]["alertType"] = "K8S.NODE_ImdsCall".into();
        let found = verdicts(&run("lateral-mov"), &[by_type], &JudgeOptions::default());
        assert_eq!(found["metadata-access"].0, Verdict::Raised);
    }

    #[test]
    fn no_name_matches_two_alerts() {
        let mut known: BTreeMap<String, &str> = BTreeMap::new();
        for alert in alerts::all() {
            let names = std::iter::once(&alert.name)
                .chain(&alert.spellings)
                .chain(&alert.localized);
            for name in names.map(|name| normalize(name)) {
                let other = known.insert(name, &alert.id);
                assert!(
                    other.is_none_or(|id| id == alert.id),
                    "{other:?} and {}",
                    alert.id
                );
            }
        }
    }

    #[test]
    fn blocked_form_counts_for_the_alert_but_not_the_reverse() {
        for (scenario, id, blocked) in [
            ("crypto", "binary-drift", "drift-blocked"),
            ("anti-malware", "malware-execution", "malware-blocked"),
        ] {
            let mut run = run(scenario);
            let mut verdicts_on = |name: &str, optional: bool| {
                let mut alerts = run.scenarios[0].alerts.iter_mut();
                alerts.find(|alert| alert.id == blocked).unwrap().optional = optional;
                let alert = raised(name, "2026-05-04T10:00:30Z");
                let found = verdicts(&run, &[alert], &JudgeOptions::default());
                [found[id].0, found[blocked].0]
            };
            let name = |id: &str| alerts::find(id).unwrap().name.as_str();
            for (name, optional, verdict) in [
                (name(blocked), true, Verdict::Raised),
                (name(id), true, Verdict::NotExpected),
                (name(id), false, Verdict::NotRaised),
            ] {
                assert_eq!(verdicts_on(name, optional), [Verdict::Raised, verdict], "{name}");
            }
        }
    }

    #[test]
    fn further_alerts_of_the_same_pods_are_additional() {
        let mut run = run("recon");
        let other = raised("Suspicious PHP execution detected", "2026-05-04T10:00:30Z");
        let mut namespace_only = raised("Something else", "2026-05-04T10:00:30Z");
        namespace_only["id"] = "/other".into();
        namespace_only["properties"]["entities"] =
            json!([{"type": "K8s-namespace", "name": "mdc-simulation"}]);
        let alerts = [other.clone(), other, namespace_only];
        let subject = Subject::of(&run, vec![], false);
        let verification = judge_all(&run, &alerts, &subject, &JudgeOptions::default());
        let names: Vec<&str> = verification
            .additional
            .iter()
            .map(|alert| alert.name.as_str())
            .collect();
        assert_eq!(names, ["Suspicious PHP execution detected"]);
        run.scenarios[0].alerts.clear();
        let verification = judge_all(&run, &alerts, &subject, &JudgeOptions::default());
        assert_eq!(verification.additional.len(), 2, "a baseline expects neither");
        let failure =
            "no alert was expected, but these were raised: Suspicious PHP execution detected, Something else";
        assert_eq!(verification.failure.as_deref(), Some(failure));
    }
}
