//! Checks scenarios beyond their schema, and whether scenarios can share a run.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{API_VERSION, ATTACKER, AttackId, Request, Scenario, Step, address, payload};
use crate::defender::alerts;
use crate::untrusted::{code_point, is_layout, is_unseen};

/// Path of a field, and the mistake in it.
pub(super) type Wrong = (String, String);

/// Finds the first invisible character that is not `allowed`. Such a character can hide what a scenario does from
/// readers of the file. Returns its byte position and the cause.
pub(super) fn unseen(text: &str, allowed: &[char]) -> Option<(usize, String)> {
    let mut characters = text.char_indices();
    let (at, c) = characters.find(|(_, c)| (is_unseen(*c) || is_layout(*c)) && !allowed.contains(c))?;
    let code = code_point(c);
    let cause = format!("found {code}; control characters and marks that do not show are not allowed");
    Some((at, cause))
}

/// Finds every text of a scenario with an invisible character. Line feeds and tabs are allowed.
pub(super) fn hidden(scenario: &Scenario) -> Vec<Wrong> {
    fn search(path: &str, value: &Value, found: &mut Vec<Wrong>) {
        match value {
            Value::String(text) => {
                found.extend(unseen(text, &['\n', '\t']).map(|(_, cause)| (path.to_owned(), cause)));
            }
            Value::Array(items) => {
                for (i, item) in items.iter().enumerate() {
                    search(&format!("{path}[{i}]"), item, found);
                }
            }
            Value::Object(fields) => {
                let dot = if path.is_empty() { "" } else { "." };
                for (key, field) in fields {
                    search(&format!("{path}{dot}{key}"), field, found);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let mut found = vec![];
    let scenario = serde_json::to_value(scenario).expect("a scenario is always JSON");
    search("", &scenario, &mut found);
    found
}

/// Checks everything that the schema cannot express.
pub(super) fn check(scenario: &Scenario) -> Vec<Wrong> {
    let mut checks = Checks(vec![]);
    if scenario.api_version != API_VERSION {
        let cause = format!("expected {API_VERSION}, found {}", scenario.api_version);
        checks.wrong("apiVersion", cause);
    }
    checks.add("id", kebab(&scenario.id));
    checks.one_line("title", &scenario.title);
    if scenario.steps.is_empty() {
        checks.wrong("steps", "expected at least one step");
    }
    for (i, step) in scenario.steps.iter().enumerate() {
        checks.step(&format!("steps[{i}]"), step);
        if scenario.steps[..i].iter().any(|earlier| earlier.id == step.id) {
            let cause = format!("another step is called {:?} already", step.id);
            checks.wrong(format!("steps[{i}].id"), cause);
        }
    }
    checks.alerts(scenario);
    if scenario.consent.is_none() {
        for (i, step) in scenario.steps.iter().enumerate() {
            if step.request.as_ref().is_some_and(Request::needs_consent) {
                let cause = "an object that affects others needs the field consent in the scenario";
                checks.wrong(format!("steps[{i}].request"), cause);
            }
        }
    }
    for (i, tactic) in scenario.tactics.iter().enumerate() {
        let is_tactic = |id: &str| id.strip_prefix("TA").is_some_and(|digits| is_number(digits, 4));
        checks.add(format!("tactics[{i}]"), attack_id(tactic, "TA0007", is_tactic));
    }
    for name in scenario.environment.keys() {
        let first = |c: char| c.is_ascii_alphabetic() || c == '_';
        if !name.starts_with(first) || !name.chars().all(|c| first(c) || c.is_ascii_digit()) {
            let cause = format!("{name:?} is not a valid name of an environment variable");
            checks.wrong("environment", cause);
        }
    }
    let lists = [
        ("needs.tools", &scenario.needs.tools),
        ("leaves", &scenario.leaves),
    ];
    for (list, items) in lists {
        for (i, item) in items.iter().enumerate() {
            checks.one_line(format!("{list}[{i}]"), item);
        }
    }
    for (i, contact) in scenario.needs.egress.iter().enumerate() {
        if address(contact).is_none() {
            let cause =
                format!("expected an address with a port, such as example.com:443, found {contact:?}");
            checks.wrong(format!("needs.egress[{i}]"), cause);
        }
    }
    checks.0
}

struct Checks(Vec<Wrong>);

impl Checks {
    fn wrong(&mut self, field: impl Into<String>, cause: impl Into<String>) {
        self.0.push((field.into(), cause.into()));
    }

    fn add(&mut self, field: impl Into<String>, cause: Option<String>) {
        self.0.extend(cause.map(|cause| (field.into(), cause)));
    }

    /// Checks that a text is one line. Titles and similar texts are printed within a line, and the gate compares a line
    /// with `expect`.
    fn one_line(&mut self, field: impl Into<String>, text: &str) {
        if text.contains('\n') {
            self.wrong(field, "expected one line (in YAML, >- joins lines)");
        }
    }

    fn step(&mut self, path: &str, step: &Step) {
        let at = |field: &str| format!("{path}.{field}");
        self.add(at("id"), kebab(&step.id));
        self.one_line(at("title"), &step.title);
        self.one_line(at("proof"), &step.proof);
        self.action(path, step);
        for (field, table) in [("blocked", &step.blocked), ("skipped", &step.skipped)] {
            if table.contains_key(&0) {
                self.wrong(at(field), "exit status 0 always means proved");
            }
            for (status, reason) in table {
                self.one_line(at(&format!("{field}.{status}")), reason);
            }
        }
        let mut twice = step.skipped.keys();
        if let Some(status) = twice.find(|status| step.blocked.contains_key(status)) {
            let cause = format!("exit status {status} means blocked already");
            self.wrong(at("skipped"), cause);
        }
        for (i, technique) in step.techniques.iter().enumerate() {
            let is_technique = |id: &str| {
                let (technique, sub) = id.split_once('.').unwrap_or((id, "000"));
                let digits = technique.strip_prefix('T');
                digits.is_some_and(|digits| is_number(digits, 4)) && is_number(sub, 3)
            };
            let wrong = attack_id(technique, "T1046 or T1552.001", is_technique);
            self.add(at(&format!("techniques[{i}]")), wrong);
        }
        for (i, id) in step.threat_matrix.iter().enumerate() {
            let digits = id.strip_prefix("MS-TA");
            if !digits.is_some_and(|digits| is_number(digits, 4)) {
                let cause = format!("expected an id such as MS-TA9029, found {id:?}");
                self.wrong(at(&format!("threatMatrix[{i}]")), cause);
            }
        }
    }

    fn action(&mut self, path: &str, step: &Step) {
        let at = |field: &str| format!("{path}.{field}");
        let actions = [
            ("script", step.script.is_some()),
            ("command", step.command.is_some()),
            ("visit", step.visit),
            ("request", step.request.is_some()),
        ];
        let given: Vec<&str> = actions
            .into_iter()
            .filter(|(_, given)| *given)
            .map(|(name, _)| name)
            .collect();
        match given[..] {
            [] => self.wrong(path, "expected an action: script, command, visit or request"),
            [_] => {}
            [first, second, ..] => {
                let cause = format!("a step has one action, and {first} is given too");
                self.wrong(at(second), cause);
            }
        }
        if let Some(command) = &step.command {
            self.one_line(at("command.run"), command.run.trim());
            self.one_line(at("command.expect"), &command.expect);
        }
        if let Some(request) = &step.request {
            for (field, cause) in request.check() {
                self.wrong(at(&format!("request.{field}")), cause);
            }
        }
        if given == ["script"] && step.text().trim().is_empty() {
            self.wrong(at("script"), "expected text for bash");
        }
        let length = payload::request_line_length(&payload::victim_script(step.text()));
        if length > payload::MAX_REQUEST_LINE {
            let limit = payload::MAX_REQUEST_LINE;
            let cause = format!("makes a request line of {length} bytes, and nginx takes {limit}");
            self.wrong(at("script"), cause);
        }
    }

    fn alerts(&mut self, scenario: &Scenario) {
        for (i, alert) in scenario.alerts.iter().enumerate() {
            self.add(format!("alerts[{i}].id"), alerts::get(&alert.id).err());
            for (j, id) in alert.steps.iter().enumerate() {
                if !scenario.steps.iter().any(|step| step.id == *id) {
                    self.wrong(
                        format!("alerts[{i}].steps[{j}]"),
                        format!("there is no step {id:?}"),
                    );
                }
            }
        }
    }
}

fn kebab(id: &str) -> Option<String> {
    let word =
        |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let is_kebab = id.len() <= 40 && id.split('-').all(word);
    (!is_kebab).then(|| format!("expected lower-case words joined by -, 40 characters at most, found {id:?}"))
}

fn is_number(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn attack_id(id: &AttackId, example: &str, fits: impl Fn(&str) -> bool) -> Option<String> {
    let bad = match id {
        AttackId::Same(id) => Some(id).filter(|id| !fits(id)),
        AttackId::Differs { v18, v19 } => [v18, v19].into_iter().find(|id| !fits(id)),
    };
    bad.map(|bad| format!("expected an id such as {example}, found {bad:?}"))
}

/// Returns every reason why these scenarios cannot share the pods of a run.
pub fn conflicts(scenarios: &[Scenario]) -> Vec<String> {
    let mut conflicts = vec![];
    let (mut servers, mut variables) = (BTreeMap::new(), BTreeMap::new());
    for (i, scenario) in scenarios.iter().enumerate() {
        let id = &scenario.id;
        if scenarios[..i].iter().any(|earlier| earlier.id == *id) {
            conflicts.push(format!("scenario {id} is named twice"));
            continue;
        }
        for port in server_ports(scenario) {
            let first = servers.entry(port).or_insert(id);
            if *first != id {
                conflicts.push(format!(
                    "scenarios {first} and {id} both start a server on port {port} of the attacker"
                ));
            }
        }
        for (name, value) in &scenario.environment {
            let (first, set) = variables.entry(name).or_insert((id, value));
            if *set != value {
                conflicts.push(format!(
                    "scenarios {first} and {id} set the variable {name} to different values"
                ));
            }
        }
    }
    conflicts
}

/// Returns the ports of the attacker that the victim contacts, which the text in `attacker` must serve.
fn server_ports(scenario: &Scenario) -> impl Iterator<Item = u16> {
    let contacts = scenario.attacker.iter().flat_map(|_| &scenario.needs.egress);
    contacts
        .filter_map(|contact| address(contact))
        .filter(|(host, _)| *host == ATTACKER)
        .map(|(_, port)| port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::catalogue;

    fn scenario(id: &str, change: impl FnOnce(&mut Scenario)) -> Scenario {
        let mut scenario = catalogue::find("webshell").unwrap().clone();
        scenario.id = id.to_owned();
        change(&mut scenario);
        scenario
    }

    #[test]
    fn scenarios_of_a_run_share_no_port_and_no_variable() {
        let server = |id: &str, address: &str| {
            scenario(id, |scenario| {
                scenario.attacker = Some("true".to_owned());
                scenario.needs.egress = vec![address.to_owned()];
            })
        };
        let variable = |id: &str, value: &str| {
            scenario(id, |scenario| {
                scenario.environment = [("X".to_owned(), value.to_owned())].into();
            })
        };
        let client = scenario("client", |scenario| {
            scenario.needs.egress = vec![format!("{ATTACKER}:80")];
        });
        let crypto = catalogue::find("crypto").unwrap().clone();
        let a = server("a", &format!("{ATTACKER}:80"));
        let cases: [(&[Scenario], &[&str]); _] = [
            (catalogue::all(), &[]),
            (&[a.clone(), client.clone()], &[]),
            (&[a.clone(), server("b", &format!("{ATTACKER}:81"))], &[]),
            (&[a.clone(), server("b", "example.com:80")], &[]),
            (
                &[a.clone(), server("b", &format!("{ATTACKER}:80"))],
                &["scenarios a and b both start a server on port 80 of the attacker"],
            ),
            (
                &[crypto, client, server("b", &format!("{ATTACKER}, port 80")), a],
                &[
                    "scenarios crypto and b both start a server on port 80 of the attacker",
                    "scenarios crypto and a both start a server on port 80 of the attacker",
                ],
            ),
            (&[variable("a", "1"), variable("b", "1")], &[]),
            (
                &[variable("a", "1"), variable("b", "2")],
                &["scenarios a and b set the variable X to different values"],
            ),
            // The gate distinguishes steps by their IDs, not by what they run.
            (&[scenario("a", |_| {}), scenario("b", |_| {})], &[]),
            (
                &[scenario("a", |_| {}), scenario("a", |_| {})],
                &["scenario a is named twice"],
            ),
        ];
        for (scenarios, expected) in cases {
            assert_eq!(conflicts(scenarios), expected);
        }
    }
}
