//! Reading a scenario file. Whatever is wrong with it is said with the path of the field, what was expected,
//! and line and column.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::{API_VERSION, AttackId, Scenario, Step, payload};
use crate::defender::alerts;

/// Why a scenario file cannot be used: `steps[2].id: expected ... at line 9, column 3`.
#[derive(Debug, thiserror::Error)]
#[error("{}{cause}{}", label(field), place(*.location))]
pub struct ScenarioError {
    /// Path of the field, such as `steps[2].id`; empty for the file itself.
    pub field: String,
    /// What was expected, and what was found.
    pub cause: String,
    /// Line and column, from 1, where they are known.
    pub location: Option<(u64, u64)>,
}

fn label(field: &str) -> String {
    if field.is_empty() {
        String::new()
    } else {
        format!("{field}: ")
    }
}

fn place(location: Option<(u64, u64)>) -> String {
    location.map_or_else(String::new, |(line, column)| {
        format!(" at line {line}, column {column}")
    })
}

impl Scenario {
    /// Reads a scenario file and checks all that can be checked without running it.
    ///
    /// # Errors
    /// The first thing that does not fit the schema, or fits and cannot be.
    pub fn from_yaml(text: &str) -> Result<Self, ScenarioError> {
        let mut field = String::new();
        let parsed = serde_saphyr::with_deserializer_from_str(text, |deserializer| {
            serde_path_to_error::deserialize(deserializer).map_err(|error| {
                field = error.path().to_string();
                error.into_inner()
            })
        });
        let scenario: Self = parsed.map_err(|error| {
            let location = error.location().as_ref().map(line_and_column);
            let said = error.without_snippet().to_string();
            ScenarioError {
                // A key that cannot be read has no name yet, and the root is only a dot.
                field: field.trim_end_matches(".?").trim_matches('.').to_owned(),
                cause: said.strip_suffix(&place(location)).unwrap_or(&said).to_owned(),
                location,
            }
        })?;
        match check(&scenario) {
            Ok(()) => Ok(scenario),
            Err((field, cause)) => Err(ScenarioError {
                location: locate(text, &field),
                field,
                cause,
            }),
        }
    }
}

fn line_and_column(location: &Location) -> (u64, u64) {
    (location.line(), location.column())
}

/// Path of a field, and what is wrong with it.
type Wrong = (String, String);

/// What the schema cannot say.
fn check(scenario: &Scenario) -> Result<(), Wrong> {
    let wrong = |field: &str, cause: String| Err((field.to_owned(), cause));
    if scenario.api_version != API_VERSION {
        let cause = format!("expected {API_VERSION}, found {}", scenario.api_version);
        return wrong("apiVersion", cause);
    }
    kebab("id", &scenario.id)?;
    if scenario.steps.is_empty() {
        return wrong("steps", "expected at least one step".into());
    }
    for (i, step) in scenario.steps.iter().enumerate() {
        check_step(&format!("steps[{i}]"), step)?;
        if scenario.steps[..i].iter().any(|earlier| earlier.id == step.id) {
            let cause = format!("another step is called {:?} already", step.id);
            return wrong(&format!("steps[{i}].id"), cause);
        }
    }
    for (i, alert) in scenario.alerts.iter().enumerate() {
        if alerts::find(&alert.id).is_none() {
            let known: Vec<&str> = alerts::all().iter().map(|alert| alert.id.as_str()).collect();
            let cause = format!(
                "no alert {:?} is known; expected one of {}",
                alert.id,
                known.join(", ")
            );
            return wrong(&format!("alerts[{i}].id"), cause);
        }
        let step = alert.step.as_ref();
        if let Some(step) = step.filter(|&id| !scenario.steps.iter().any(|step| step.id == *id)) {
            let cause = format!("there is no step {step:?}");
            return wrong(&format!("alerts[{i}].step"), cause);
        }
    }
    for (i, tactic) in scenario.tactics.iter().enumerate() {
        attack_id(&format!("tactics[{i}]"), tactic, "TA0007", |id| {
            id.strip_prefix("TA").is_some_and(|digits| is_number(digits, 4))
        })?;
    }
    for name in scenario.environment.keys() {
        let first = |c: char| c.is_ascii_alphabetic() || c == '_';
        if !name.starts_with(first) || !name.chars().all(|c| first(c) || c.is_ascii_digit()) {
            let cause = format!("{name:?} is no name of an environment variable");
            return wrong("environment", cause);
        }
    }
    Ok(())
}

fn check_step(path: &str, step: &Step) -> Result<(), Wrong> {
    let wrong = |field: &str, cause: String| Err((format!("{path}.{field}"), cause));
    kebab(&format!("{path}.id"), &step.id)?;
    if step.visit && (step.direct.is_some() || !step.script.is_empty()) {
        return wrong("visit", "a visit has no script and no direct command".into());
    }
    if !step.visit && step.script.trim().is_empty() {
        return wrong("script", "expected text for bash".into());
    }
    for (field, table) in [("blocked", &step.blocked), ("skipped", &step.skipped)] {
        if table.contains_key(&0) {
            return wrong(field, "exit status 0 always means proved".into());
        }
    }
    if let Some(status) = step
        .skipped
        .keys()
        .find(|status| step.blocked.contains_key(status))
    {
        let cause = format!("exit status {status} means blocked already");
        return wrong("skipped", cause);
    }
    let length = payload::request_line_length(&payload::victim_script(step));
    if length > payload::MAX_REQUEST_LINE {
        let limit = payload::MAX_REQUEST_LINE;
        let cause = format!("makes a request line of {length} bytes, and nginx takes {limit}");
        return wrong("script", cause);
    }
    for (i, technique) in step.techniques.iter().enumerate() {
        attack_id(
            &format!("{path}.techniques[{i}]"),
            technique,
            "T1046 or T1552.001",
            |id| {
                let (technique, sub) = id.split_once('.').unwrap_or((id, "000"));
                let digits = technique.strip_prefix('T');
                digits.is_some_and(|digits| is_number(digits, 4)) && is_number(sub, 3)
            },
        )?;
    }
    for (i, id) in step.threat_matrix.iter().enumerate() {
        if !id
            .strip_prefix("MS-TA")
            .is_some_and(|digits| is_number(digits, 4))
        {
            let cause = format!("expected an id such as MS-TA9029, found {id:?}");
            return wrong(&format!("threatMatrix[{i}]"), cause);
        }
    }
    Ok(())
}

fn kebab(field: &str, id: &str) -> Result<(), Wrong> {
    let word =
        |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    if id.len() <= 40 && id.split('-').all(word) {
        return Ok(());
    }
    let cause = format!("expected lower-case words joined by -, 40 characters at most, found {id:?}");
    Err((field.to_owned(), cause))
}

fn is_number(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn attack_id(field: &str, id: &AttackId, example: &str, fits: impl Fn(&str) -> bool) -> Result<(), Wrong> {
    let bad = match id {
        AttackId::Same(id) => Some(id).filter(|id| !fits(id)),
        AttackId::Differs { v18, v19 } => [v18, v19].into_iter().find(|id| !fits(id)),
    };
    bad.map_or(Ok(()), |bad| {
        Err((
            field.to_owned(),
            format!("expected an id such as {example}, found {bad:?}"),
        ))
    })
}

/// Line and column of the field with that path, or of the nearest one above that is there.
fn locate(text: &str, path: &str) -> Option<(u64, u64)> {
    let mut node: Spanned<Node> = serde_saphyr::from_str(text).ok()?;
    for name in path.split(['.', '[', ']']).filter(|name| !name.is_empty()) {
        let Some(at) = node.value.0.iter().position(|(key, _)| key == name) else {
            break;
        };
        node = node.value.0.swap_remove(at).1;
    }
    Some(line_and_column(&node.referenced))
}

/// Any YAML, with what is below each key or number.
struct Node(Vec<(String, Spanned<Node>)>);

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Below;
        impl<'de> Visitor<'de> for Below {
            type Value = Node;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut below = vec![];
                while let Some(entry) = map.next_entry()? {
                    below.push(entry);
                }
                Ok(Node(below))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
                let mut below = vec![];
                while let Some(item) = items.next_element()? {
                    below.push((below.len().to_string(), item));
                }
                Ok(Node(below))
            }
            fn visit_str<E>(self, _: &str) -> Result<Node, E> {
                Ok(Node(vec![]))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
                Ok(Node(vec![]))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
                Ok(Node(vec![]))
            }
            fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
                Ok(Node(vec![]))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
                Ok(Node(vec![]))
            }
            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node(vec![]))
            }
        }
        deserializer.deserialize_any(Below)
    }
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

    #[test]
    fn what_is_wrong_is_said_with_path_and_place() {
        assert_eq!(Scenario::from_yaml(FILE).unwrap().id, "mine");
        let expected_fields = "expected one of id, title, script, visit, direct, proof, blocked, skipped, techniques, \
                               threatMatrix at line 9, column 3";
        for (from, to, said) in [
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
                "steps[0].visit: a visit has no script and no direct command at line 10, column 10",
            ),
            (
                "  script: 'true'\n",
                "",
                "steps[0].script: expected text for bash at line 6, column 3",
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
                "steps[0].blocked: invalid u8 at line 10, column 13",
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
                "alerts[0].id: no alert \"none\" is known; expected one of web-shell, ",
            ),
            (
                "alerts: []",
                "alerts: [{id: web-shell, step: three}]",
                "alerts[0].step: there is no step \"three\" at line 14, column 32",
            ),
            (
                "alerts: []",
                "alerts: []\ntactics: [T1046]",
                "tactics[0]: expected an id such as TA0007, found \"T1046\" at line 15, column 11",
            ),
            (
                "alerts: []",
                "alerts: []\nenvironment: {A B: c}",
                "environment: \"A B\" is no name of an environment variable at line 15, column 14",
            ),
        ] {
            let error = Scenario::from_yaml(&FILE.replacen(from, to, 1))
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(said), "{to}:\n{error}\n{said}");
        }
        let long = FILE.replace("'true'", &format!("'{}'", "x".repeat(6000)));
        let error = Scenario::from_yaml(&long).unwrap_err().to_string();
        assert!(
            error.starts_with("steps[0].script: makes a request line of "),
            "{error}"
        );
    }
}
