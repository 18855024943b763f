//! Text output for scenarios and the plan of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::table::{self, fill, table};
use super::{Width, yaml};
use crate::defender::alerts::{self, Alert};
use crate::manifest::rights::{self, Grant, Right, Scope};
use crate::result::expectations;
use crate::scenario::catalogue::{self, Family};
use crate::scenario::{Action, AttackId, Scenario, Step};
use crate::words::paragraphs;

/// Returns the name of an ATT&CK Enterprise v19 tactic, or the ID itself if it is unknown.
pub(super) fn tactic(id: &str) -> &str {
    match id {
        "TA0001" => "Initial Access",
        "TA0002" => "Execution",
        "TA0003" => "Persistence",
        "TA0004" => "Privilege Escalation",
        "TA0005" => "Stealth",
        "TA0006" => "Credential Access",
        "TA0007" => "Discovery",
        "TA0008" => "Lateral Movement",
        "TA0009" => "Collection",
        "TA0010" => "Exfiltration",
        "TA0011" => "Command and Control",
        "TA0040" => "Impact",
        "TA0042" => "Resource Development",
        "TA0043" => "Reconnaissance",
        "TA0112" => "Defense Impairment",
        id => id,
    }
}

/// Formats one table per family.
pub(super) fn list(scenarios: &[Scenario], width: Width) -> String {
    let mut parts = vec![];
    for (family, title) in [
        (Family::Microsoft, "MICROSOFT"),
        (Family::Runtime, "RUNTIME"),
        (Family::ControlPlane, "CONTROL PLANE"),
    ] {
        let of_family = |id: &str| {
            let mut entries = catalogue::entries().iter();
            entries.any(|entry| entry.id == id && entry.family == family)
        };
        let rows = scenarios.iter().filter(|scenario| of_family(&scenario.id));
        let mut header = vec![title, "TITLE", "TACTICS", "SEVERITY", "NEEDS"];
        if width == Width::Wide {
            header.extend(["STEPS", "ALERTS", "TECHNIQUES", "CONTACTS"]);
        }
        parts.push(table(
            &header,
            rows.map(|scenario| listed(scenario, width)),
            width,
        ));
    }
    parts.join("\n")
}

fn listed(scenario: &Scenario, width: Width) -> Vec<String> {
    let tactics = scenario.tactics.iter().map(AttackId::v19);
    let alerts: Vec<&Alert> = scenario
        .alerts
        .iter()
        .filter_map(|alert| alerts::find(&alert.id))
        .collect();
    let severities = ["High", "Medium", "Low", "Informational"];
    let has = |severity: &&str| {
        alerts
            .iter()
            .any(|alert| alert.severity.as_deref() == Some(severity))
    };
    let highest = severities.into_iter().find(has).unwrap_or("-");
    let sensor = alerts
        .iter()
        .any(|alert| alert.needs_sensor(None))
        .then(|| "sensor".to_owned());
    let conditions: BTreeSet<_> = alerts.iter().filter_map(|alert| alert.condition).collect();
    let allow = scenario.consent.is_some().then(|| "--allow".to_owned());
    let needs = sensor
        .into_iter()
        .chain(conditions.iter().map(ToString::to_string))
        .chain(allow);
    let mut row = vec![
        scenario.id.clone(),
        scenario.title.clone(),
        match width {
            Width::Screen => joined(tactics.map(tactic), ", "),
            Width::Wide => joined(tactics, " "),
        },
        highest.to_owned(),
        joined(needs, ", "),
    ];
    if width == Width::Wide {
        let techniques = scenario.steps.iter().flat_map(|step| &step.techniques);
        let techniques: BTreeSet<_> = techniques.map(AttackId::v19).collect();
        row.extend([
            scenario.steps.len().to_string(),
            scenario.alerts.len().to_string(),
            joined(techniques, " "),
            scenario.needs.egress.join(" "),
        ]);
    }
    row
}

pub(super) fn describe(scenario: &Scenario, width: Width) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{}: {}\n\n{}",
        scenario.id,
        scenario.title,
        fill(&paragraphs(&scenario.description), "")
    );
    text.push('\n');
    for (what, names) in [
        ("Tactics:  ", joined(&scenario.tactics, ", ")),
        ("Tools:    ", scenario.needs.tools.join(", ")),
        ("Contacts: ", scenario.needs.egress.join(", ")),
        ("Leaves:   ", scenario.leaves.join(", ")),
    ] {
        let names = if names.is_empty() { "nothing" } else { &names };
        let _ = writeln!(text, "{}", fill(&format!("{what}{names}"), "          "));
    }
    for step in &scenario.steps {
        let heading = format!("Step {}: {}", step.id, step.title);
        let mut facts = vec![format!("  proved when: {}", step.proof)];
        for (outcome, table) in [("blocked", &step.blocked), ("skipped", &step.skipped)] {
            let line = |(status, why)| format!("  {outcome} on exit status {status}: {why}");
            facts.extend(table.iter().map(line));
        }
        if !step.techniques.is_empty() {
            facts.push(format!("  techniques: {}", joined(&step.techniques, ", ")));
        }
        if !step.threat_matrix.is_empty() {
            facts.push(format!("  threat matrix: {}", step.threat_matrix.join(", ")));
        }
        let _ = writeln!(text, "\n{}", fill(&heading, "  "));
        for fact in facts {
            let _ = writeln!(text, "{}", fill(&fact, "    "));
        }
        for line in action_text(step).lines() {
            let _ = writeln!(text, "    {line}");
        }
    }
    let _ = write!(
        text,
        "\n{}",
        table::expected(&expectations(&scenario.alerts), width)
    );
    text
}

/// Returns what a step does as text: the script, the command, or the request in YAML.
fn action_text(step: &Step) -> String {
    match step.action() {
        Action::Script(text) => text.to_owned(),
        Action::Command(command) => command.run.clone(),
        Action::Visit => String::new(),
        Action::Request(request) => yaml(request),
    }
}

fn joined(items: impl IntoIterator<Item = impl ToString>, separator: &str) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    items.join(separator)
}

/// Renders the grant for `kubectl apply -f -`, with the optional rules commented out.
pub(super) fn grant(grant: &Grant, scope: &Scope) -> String {
    let namespace = scope.namespace();
    let purpose = match scope {
        Scope::Cluster(_) => format!("that creates namespace {namespace} and deletes it"),
        Scope::Namespace(_) => format!("in namespace {namespace}, which exists and stays"),
    };
    let mut text = format!("# The rights of a run {purpose}.\n");
    let Some((role, others)) = grant.items.split_first() else {
        return text;
    };
    text += "---\n";
    text += &yaml(role);
    // The first role is that of the run, if the run itself needs rights.
    let role_namespace = role["metadata"]["namespace"].as_str();
    let is_of_run = role_namespace.is_none_or(|name| name == namespace);
    for (right, reason) in scope.optional().filter(|_| is_of_run) {
        let _ = writeln!(text, "# Optional: {reason}.");
        // Skips the key, which the role already has: once uncommented, the lines extend its list.
        let rules = yaml(&BTreeMap::from([("rules", rights::rules(&[right], scope))]));
        for line in rules.lines().skip(1) {
            let _ = writeln!(text, "#{line}");
        }
    }
    others
        .iter()
        .fold(text, |text, other| text + "---\n" + &yaml(other))
}

/// Renders the permissions of a run, grouped by resource.
pub(super) fn rights(needed: &[Right], scope: &Scope, width: Width) -> String {
    let needed = rights::by_resource(needed);
    let needed = needed
        .into_iter()
        .map(|(resource, verbs)| vec![resource, verbs.join(", "), "required".to_owned()]);
    let optional = scope.optional().map(|(right, reason)| {
        vec![
            right.qualified(),
            right.verb.to_owned(),
            format!("optional: {reason}"),
        ]
    });
    table(&["RESOURCE", "VERBS", "NEED"], needed.chain(optional), width)
}

/// Returns a role or binding as kubectl names it: `role.rbac.authorization.k8s.io/NAME`.
pub(super) fn reference(object: &serde_json::Value) -> String {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let group = text(&object["apiVersion"]);
    let group = group.split('/').next().unwrap_or_default();
    format!(
        "{}.{group}/{}",
        text(&object["kind"]).to_lowercase(),
        text(&object["metadata"]["name"])
    )
}
