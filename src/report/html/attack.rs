//! The tactics and techniques of MITRE ATT&CK.

use super::super::catalogue::tactic;
use super::super::meaning::State;
use super::{Mark, outcome, state_mark};
use crate::result::{RunResult, StepResult};

/// The tactics of the scenarios and the techniques of the steps, by ID.
pub(super) struct Attack<'a> {
    pub tactics: Vec<Tactic<'a>>,
    pub techniques: Vec<Technique<'a>>,
}

/// A tactic, with the scenarios that serve it.
pub(super) struct Tactic<'a> {
    pub id: &'a str,
    pub name: &'a str,
    pub link: Option<String>,
    pub scenarios: Vec<&'a str>,
}

/// A technique, with the steps that use it.
pub(super) struct Technique<'a> {
    pub id: &'a str,
    pub link: Option<String>,
    pub steps: Vec<Use>,
}

/// A step that uses a technique.
pub(super) struct Use {
    pub step: String,
    pub mark: Mark,
}

impl<'a> Attack<'a> {
    pub fn of(result: &'a RunResult) -> Self {
        let mut found = Self {
            tactics: vec![],
            techniques: vec![],
        };
        for scenario in &result.scenarios {
            for id in &scenario.tactics {
                found.tactic(id).scenarios.push(&scenario.id);
            }
            for step in &scenario.steps {
                let name = format!("{}.{}", scenario.id, step.id);
                for id in &step.techniques {
                    found.technique(id).add(&name, step);
                }
            }
        }
        found.tactics.sort_by_key(|tactic| tactic.id);
        found.techniques.sort_by_key(|technique| technique.id);
        found
    }

    fn tactic(&mut self, id: &'a str) -> &mut Tactic<'a> {
        let known = self.tactics.iter().position(|tactic| tactic.id == id);
        let index = known.unwrap_or_else(|| {
            self.tactics.push(Tactic {
                id,
                name: Some(tactic(id)).filter(|name| *name != id).unwrap_or_default(),
                link: link(id),
                scenarios: vec![],
            });
            self.tactics.len() - 1
        });
        &mut self.tactics[index]
    }

    fn technique(&mut self, id: &'a str) -> &mut Technique<'a> {
        let known = self.techniques.iter().position(|technique| technique.id == id);
        let index = known.unwrap_or_else(|| {
            self.techniques.push(Technique {
                id,
                link: link(id),
                steps: vec![],
            });
            self.techniques.len() - 1
        });
        &mut self.techniques[index]
    }
}

impl Technique<'_> {
    /// Adds a step, which has an entry for each victim. One that differs between victims is mixed.
    fn add(&mut self, name: &str, step: &StepResult) {
        let mark = outcome(step.outcome);
        match self.steps.iter_mut().find(|known| known.step == name) {
            Some(known) if known.mark != mark => known.mark = mixed(),
            Some(_) => {}
            None => self.steps.push(Use {
                step: name.to_owned(),
                mark,
            }),
        }
    }
}

/// The mark of a step with several outcomes.
fn mixed() -> Mark {
    Mark {
        word: "differs between victims",
        ..state_mark(State::AlertsPassed)
    }
}

/// Returns the page of a tactic or technique, or `None` if the ID is not one: a record may contain anything.
fn link(id: &str) -> Option<String> {
    let is_number = |text: &str, length| text.len() == length && text.bytes().all(|b| b.is_ascii_digit());
    if let Some(number) = id.strip_prefix("TA") {
        return is_number(number, 4).then(|| format!("https://attack.mitre.org/tactics/{id}/"));
    }
    let number = id.strip_prefix('T')?;
    let (technique, sub) = match number.split_once('.') {
        Some((technique, sub)) => (technique, Some(sub)),
        None => (number, None),
    };
    let is_valid = is_number(technique, 4) && sub.is_none_or(|sub| is_number(sub, 3));
    is_valid.then(|| {
        format!(
            "https://attack.mitre.org/techniques/T{}/",
            number.replace('.', "/")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Outcome;

    #[test]
    fn only_ids_of_attack_are_links() {
        for (id, path) in [
            ("TA0007", Some("tactics/TA0007/")),
            ("T1046", Some("techniques/T1046/")),
            ("T1496.001", Some("techniques/T1496/001/")),
            ("T1046/..", None),
            ("T104é", None),
            ("T1496.01", None),
            ("TA00071", None),
            ("javascript:x", None),
            ("", None),
        ] {
            let expected = path.map(|path| format!("https://attack.mitre.org/{path}"));
            assert_eq!(link(id), expected, "{id}");
        }
    }

    #[test]
    fn a_step_that_differs_between_victims_is_mixed() {
        let mut result = crate::report::fixture::mixed();
        let mut other = result.scenarios[0].steps[0].clone();
        other.outcome = Outcome::Failed;
        result.scenarios[0].steps.push(other);
        let attack = Attack::of(&result);
        let technique = attack
            .techniques
            .iter()
            .find(|found| found.id == "T1069")
            .unwrap();
        assert_eq!(technique.steps.len(), 1);
        assert_eq!(technique.steps[0].mark.word, "differs between victims");
    }
}
