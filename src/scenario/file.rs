//! Reads scenario files. Each mistake is reported with the path of the field, what was expected, line and column.

use serde_saphyr::Error;

use super::Scenario;
use super::check::{check, hidden, unseen};
use crate::yaml::{self, Mistake, Tree};

impl Scenario {
    /// Parses a scenario file and checks everything that can be checked without running it.
    ///
    /// # Errors
    /// Returns every mistake, in the order of the file. A syntax or schema error ends the search.
    pub fn from_yaml(text: &str) -> Result<Self, Vec<Mistake>> {
        let (scenario, mistakes) = Self::read(text);
        scenario.filter(|_| mistakes.is_empty()).ok_or(mistakes)
    }

    /// Like [`Self::from_yaml`], and also returns a scenario with mistakes if it fits the schema.
    pub(crate) fn read(text: &str) -> (Option<Self>, Vec<Mistake>) {
        let words = |error: &Error| match error {
            Error::InvalidScalar { ty: "u8", .. } => Some("expected an exit status from 1 to 255"),
            _ => None,
        };
        let scenario = match yaml::parse::<Self>(text, words) {
            Ok(Some(scenario)) => scenario,
            Ok(None) => {
                let mistake = Mistake::new("", "expected a scenario, found an empty file", Some((1, 1)));
                return (None, vec![mistake]);
            }
            Err(mistake) => {
                let mut mistakes = hidden_in(text);
                // The parser's message about a control character is less specific.
                if mistakes.iter().all(|hidden| hidden.line != mistake.line) {
                    mistakes.push(mistake);
                }
                return (None, mistakes);
            }
        };
        let hidden = hidden(&scenario);
        // Comments may contain some too.
        let mut mistakes = if hidden.is_empty() {
            hidden_in(text)
        } else {
            vec![]
        };
        let wrong: Vec<_> = check(&scenario).into_iter().chain(hidden).collect();
        if !wrong.is_empty() {
            let tree = Tree::parse(text);
            let located = wrong.into_iter().map(|(field, cause)| {
                let place = tree.as_ref().map(|tree| tree.locate(&field));
                Mistake::new(&field, &cause, place)
            });
            mistakes.extend(located);
        }
        mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
        (Some(scenario), mistakes)
    }
}

/// Finds the first invisible character of each line.
fn hidden_in(text: &str) -> Vec<Mistake> {
    let lines = text.split('\n').zip(1..);
    let hidden = lines.filter_map(|(line, number)| {
        let line = line.strip_suffix('\r').unwrap_or(line);
        let (at, cause) = unseen(line, &['\t'])?;
        let column = line[..at].chars().count() as u64 + 1;
        Some(Mistake::new("", &cause, Some((number, column))))
    });
    hidden.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
apiVersion: defender-sim/v1
id: mine
title: t
description: d
steps:
- id: one
  title: t
  script: 'true'
  proof: p
- id: two
  title: t
  script: 'true'
  proof: p
alerts: []
";

    fn mistakes(text: &str) -> Vec<String> {
        let mistakes = Scenario::from_yaml(text).unwrap_err();
        mistakes.iter().map(Mistake::to_string).collect()
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table of mistakes")]
    fn what_is_wrong_is_said_with_path_and_place() {
        assert_eq!(Scenario::from_yaml(FILE).unwrap().id, "mine");
        let expected_fields = "expected one of id, title, script, command, visit, request, proof, blocked, skipped, techniques, \
                               threatMatrix at line 9, column 3";
        for (from, to, message) in [
            (
                "v1",
                "v9",
                "apiVersion: expected defender-sim/v1, found defender-sim/v9 at line 1, column 13",
            ),
            (
                "id: mine",
                "id: Mine Own",
                "id: expected lower-case words joined by -, 40 characters at most, found \"Mine Own\" at line 2, column 5",
            ),
            (
                "id: two",
                "id: one",
                "steps[1].id: another step is called \"one\" already at line 10, column 7",
            ),
            (
                "id: two",
                "id: one_two",
                "steps[1].id: expected lower-case words joined by -, 40 characters at most, found \"one_two\" at line 10, column 7",
            ),
            (
                "script: 'true'",
                "script: ''",
                "steps[0].script: expected text for bash at line 8, column 11",
            ),
            (
                "proof: p",
                "proof: p\n  visit: true",
                "steps[0].visit: a step has one action, and script is given too at line 10, column 10",
            ),
            (
                "  script: 'true'\n",
                "",
                "steps[0]: expected an action: script, command, visit or request at line 6, column 3",
            ),
            (
                "proof: p",
                "proof: p\n  blocked: {0: x}",
                "steps[0].blocked: exit status 0 always means proved at line 10, column 12",
            ),
            (
                "proof: p",
                "proof: p\n  blocked: {9: x}\n  skipped: {9: x}",
                "steps[0].skipped: exit status 9 means blocked already at line 11, column 12",
            ),
            (
                "proof: p",
                "proof: p\n  blocked: {300: x}",
                "steps[0].blocked: expected an exit status from 1 to 255 at line 10, column 13",
            ),
            (
                "proof: p",
                "proof: p\n  techniques: [T1]",
                "steps[0].techniques[0]: expected an id such as T1046 or T1552.001, found \"T1\" at line 10, column 16",
            ),
            (
                "proof: p",
                "proof: p\n  techniques: [[]]",
                "steps[0].techniques[0]: expected an id, or {v18: ID, v19: ID} at line 10, column 16",
            ),
            (
                "proof: p",
                "proof: p\n  threatMatrix: [T1046]",
                "steps[0].threatMatrix[0]: expected an id such as MS-TA9029, found \"T1046\" at line 10, column 18",
            ),
            (
                "proof: p",
                "proofs: p",
                &format!("steps[0].proofs: unknown field `proofs`, {expected_fields}"),
            ),
            (
                "  proof: p\n",
                "",
                "steps[0]: missing field `proof` at line 8, column 3",
            ),
            (
                "title: t\ndescription",
                "title: [\ndescription",
                "title: expected string scalar at line 3, column 8",
            ),
            (
                "alerts: []",
                "alerts: [{id: none}]",
                "alerts[0].id: there is no alert \"none\"; see: kubectl defender-sim alerts -o name at line",
            ),
            (
                "alerts: []",
                "alerts: [{id: web-shell, steps: [three]}]",
                "alerts[0].steps[0]: there is no step \"three\" at line 14, column 34",
            ),
            (
                "alerts: []",
                "alerts: []\ntactics: [T1046]",
                "tactics[0]: expected an id such as TA0007, found \"T1046\" at line 15, column 11",
            ),
            (
                "alerts: []",
                "alerts: []\nenvironment: {A B: c}",
                "environment: \"A B\" is not a valid name of an environment variable at line 15, column 14",
            ),
        ] {
            let mistakes = mistakes(&FILE.replacen(from, to, 1));
            assert_eq!(mistakes.len(), 1, "{to}: {mistakes:?}");
            assert!(mistakes[0].starts_with(message), "{to}:\n{mistakes:?}\n{message}");
        }
        let long = FILE.replace("'true'", &format!("'{}'", "x".repeat(6000)));
        let mistakes = mistakes(&long);
        for (i, mistake) in mistakes.iter().enumerate() {
            let message = format!("steps[{i}].script: makes a request line of ");
            assert!(mistake.starts_with(&message), "{mistake}");
        }
        assert_eq!(mistakes.len(), 2);
    }
}
