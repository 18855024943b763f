//! What there is and what would happen, as text: scenarios, alerts, and the plan of a run.

use std::fmt::Write;

use serde_json::{Value, json};

use super::table::{self, table, width};
use super::yaml;
use crate::defender::alerts::Alert;
use crate::manifest::{ATTACKER, Manifest, Manifests, VICTIM};
use crate::plan::Plan;
use crate::result::ClusterInfo;
use crate::scenario::{AttackId, Scenario};

/// Schema of a plan in JSON.
const PLAN_SCHEMA: &str = "defender-sim/plan/v1";

pub(super) fn list(scenarios: &[Scenario]) -> String {
    let rows = scenarios.iter().map(|scenario| {
        vec![
            scenario.id.clone(),
            scenario.title.clone(),
            joined(scenario.tactics.iter().map(AttackId::v19), " "),
            scenario.steps.len().to_string(),
            scenario.alerts.len().to_string(),
        ]
    });
    table(&["ID", "TITLE", "TACTICS", "STEPS", "ALERTS"], rows)
}

pub(super) fn describe(scenario: &Scenario) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{}: {}\n\n{}",
        scenario.id,
        scenario.title,
        scenario.description.trim_end()
    );
    let _ = writeln!(text, "\nTactics:  {}", joined(&scenario.tactics, ", "));
    let _ = writeln!(text, "Tools:    {}", scenario.needs.tools.join(", "));
    let _ = writeln!(
        text,
        "Contacts: {}",
        or_nothing(&scenario.needs.egress.join(", "))
    );
    let _ = writeln!(text, "Leaves:   {}", or_nothing(&scenario.leaves.join(", ")));
    for step in &scenario.steps {
        let _ = writeln!(text, "\nStep {}: {}", step.id, step.title);
        let _ = writeln!(text, "  proved when: {}", step.proof);
        for (outcome, table) in [("blocked", &step.blocked), ("skipped", &step.skipped)] {
            for (status, why) in table {
                let _ = writeln!(text, "  {outcome} on exit status {status}: {why}");
            }
        }
        if !step.techniques.is_empty() {
            let _ = writeln!(text, "  techniques: {}", joined(&step.techniques, ", "));
        }
        if !step.threat_matrix.is_empty() {
            let _ = writeln!(text, "  threat matrix: {}", step.threat_matrix.join(", "));
        }
        for line in step.script.lines() {
            let _ = writeln!(text, "    {line}");
        }
    }
    let _ = write!(text, "\n{}", expected(std::slice::from_ref(scenario)));
    text
}

fn joined(items: impl IntoIterator<Item = impl ToString>, separator: &str) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    items.join(separator)
}

fn or_nothing(text: &str) -> &str {
    if text.is_empty() { "nothing" } else { text }
}

fn expected(scenarios: &[Scenario]) -> String {
    let alerts = scenarios.iter().flat_map(|scenario| &scenario.alerts);
    table::expected(alerts.map(|alert| alert.id.as_str()))
}

pub(super) fn alerts(alerts: &[Alert], scenarios: &[Scenario]) -> String {
    let rows = alerts.iter().map(|alert| {
        let raised = scenarios
            .iter()
            .filter(|s| s.alerts.iter().any(|expected| expected.id == alert.id));
        let raised: Vec<&str> = raised.map(|scenario| scenario.id.as_str()).collect();
        let all = raised.len() == scenarios.len();
        vec![
            alert.name.clone(),
            alert.severity.clone().unwrap_or_else(|| "unknown".into()),
            alert.tactics.join(" "),
            if all {
                "every one".to_owned()
            } else {
                raised.join(" ")
            },
        ]
    });
    table(&["ALERT", "SEVERITY", "TACTICS", "SCENARIOS"], rows)
}

pub(super) fn plan(plan: &Plan, cluster: &ClusterInfo, manifests: &Manifests) -> String {
    let mut text = String::new();
    let context = cluster
        .context
        .as_deref()
        .map(|name| format!("context {name}, "))
        .unwrap_or_default();
    let _ = writeln!(
        text,
        "Nothing was done. A run would, in namespace {} of {context}{}:",
        plan.namespace.name, cluster.server
    );
    let _ = writeln!(text, "\n1. create these objects, all owned by the first:");
    for manifest in objects(manifests).skip(1) {
        let _ = writeln!(text, "     {}", manifest.reference());
    }
    let made = if plan.namespace.given {
        "is made if it is not there"
    } else {
        "is made for the run"
    };
    let _ = writeln!(text, "   The namespace {made}, and removed afterwards if it was.");
    let _ = writeln!(text, "     {ATTACKER} runs {}", plan.attacker_image);
    let _ = writeln!(text, "     {VICTIM} runs {}", plan.victim_image);
    let _ = writeln!(
        text,
        "\n2. run these steps in {VICTIM}, each sent by {ATTACKER} through the web shell:"
    );
    for (id, step) in plan.steps() {
        let _ = writeln!(text, "   {id}: {}", step.title);
        for line in step.script.lines() {
            let _ = writeln!(text, "       {line}");
        }
    }
    let _ = writeln!(text, "\n3. contact these addresses from {VICTIM}:");
    for address in addresses(plan) {
        let _ = writeln!(text, "     {address}");
    }
    let end = format!(
        "4. remove all of it and look that nothing is left: at the end, on a failure, on Ctrl-C; if the client dies, \
         Kubernetes ends and removes it after {} seconds.",
        plan.deadline.as_secs()
    );
    let _ = writeln!(
        text,
        "\n{}",
        textwrap::fill(&end, textwrap::Options::new(width()).subsequent_indent("   "))
    );
    let _ = write!(text, "\n{}", expected(&plan.scenarios));
    text
}

fn objects(manifests: &Manifests) -> impl Iterator<Item = &Manifest> {
    [&manifests.namespace, &manifests.anchor]
        .into_iter()
        .chain(&manifests.supporting)
        .chain(&manifests.pods)
}

fn addresses(plan: &Plan) -> Vec<&str> {
    let mut addresses: Vec<&str> = plan
        .scenarios
        .iter()
        .flat_map(|scenario| &scenario.needs.egress)
        .map(String::as_str)
        .collect();
    addresses.dedup();
    if addresses.is_empty() {
        addresses.push("none");
    }
    addresses
}

pub(super) fn plan_value(plan: &Plan, cluster: &ClusterInfo, manifests: &Manifests) -> Value {
    let steps: Vec<Value> = plan
        .steps()
        .map(|(id, step)| json!({ "id": id, "title": step.title, "pod": VICTIM, "script": step.script, "proof": step.proof }))
        .collect();
    json!({
        "schema": PLAN_SCHEMA,
        "cluster": cluster,
        "namespace": plan.namespace.name,
        "images": { "attacker": plan.attacker_image, "victim": plan.victim_image },
        "objects": objects(manifests).map(Manifest::reference).collect::<Vec<_>>(),
        "steps": steps,
        "addresses": addresses(plan),
        "alerts": plan.scenarios.iter().flat_map(|s| &s.alerts).collect::<Vec<_>>(),
        "deadlineSeconds": plan.deadline.as_secs(),
    })
}

/// Ready for `kubectl apply -f -`, with what a client adds to them said in comments.
pub(super) fn manifests(manifests: &Manifests) -> String {
    let mut text = String::from(
        "# The objects of a run. A run adds to each of them but the first two an owner reference to the Job,\n\
         # which makes Kubernetes remove them by the deadline; applied by hand they stay until deleted, and only\n\
         # the pods end. The attack begins with:\n\
         #   kubectl annotate pod mdc-simulation-attacker defender-sim/go=yes\n",
    );
    for manifest in objects(manifests) {
        let _ = write!(text, "---\n{}", yaml(&manifest.object));
    }
    text
}
