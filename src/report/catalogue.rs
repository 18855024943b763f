//! What there is and what would happen, as text: scenarios, alerts, and the plan of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::table::{self, table, width};
use super::{Width, yaml};
use crate::defender::alerts::Alert;
use crate::manifest::{ATTACKER, Manifests, VICTIM};
use crate::plan::Plan;
use crate::result::{Admission, PlanResult, expectations};
use crate::scenario::{AttackId, Scenario};

pub(super) fn list(scenarios: &[Scenario], width: Width) -> String {
    let rows = scenarios.iter().map(|scenario| {
        let mut row = vec![
            scenario.id.clone(),
            scenario.title.clone(),
            joined(scenario.tactics.iter().map(AttackId::v19), " "),
            scenario.steps.len().to_string(),
            scenario.alerts.len().to_string(),
        ];
        if width == Width::Wide {
            let techniques = scenario.steps.iter().flat_map(|step| &step.techniques);
            row.push(joined(
                techniques.map(AttackId::v19).collect::<BTreeSet<_>>(),
                " ",
            ));
            row.push(scenario.needs.egress.join(" "));
        }
        row
    });
    let mut header = vec!["ID", "TITLE", "TACTICS", "STEPS", "ALERTS"];
    if width == Width::Wide {
        header.extend(["TECHNIQUES", "CONTACTS"]);
    }
    table(&header, rows, width)
}

pub(super) fn describe(scenario: &Scenario, width: Width) -> String {
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
    let _ = write!(
        text,
        "\n{}",
        table::expected(&expectations(&scenario.alerts), width)
    );
    text
}

fn joined(items: impl IntoIterator<Item = impl ToString>, separator: &str) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    items.join(separator)
}

fn or_nothing(text: &str) -> &str {
    if text.is_empty() { "nothing" } else { text }
}

pub(super) fn alerts(alerts: &[Alert], scenarios: &[Scenario], width: Width) -> String {
    let rows = alerts.iter().map(|alert| {
        let raised = scenarios
            .iter()
            .filter(|s| s.alerts.iter().any(|expected| expected.id == alert.id));
        let raised: Vec<&str> = raised.map(|scenario| scenario.id.as_str()).collect();
        let all = raised.len() == scenarios.len();
        let mut row = vec![
            alert.name.clone(),
            alert.severity.clone().unwrap_or_else(|| "unknown".into()),
            alert.tactics.join(" "),
            if all {
                "every one".to_owned()
            } else {
                raised.join(" ")
            },
        ];
        if width == Width::Wide {
            row.insert(0, alert.id.clone());
            row.push(alert.alert_type.clone().unwrap_or_else(|| "not public".into()));
            row.push(alert.source.clone());
            row.push(alert.needs.clone().unwrap_or_default());
        }
        row
    });
    let mut header = vec!["ALERT", "SEVERITY", "TACTICS", "SCENARIOS"];
    if width == Width::Wide {
        header.insert(0, "ID");
        header.extend(["TYPE", "SOURCE", "NEEDS"]);
    }
    table(&header, rows, width)
}

pub(super) fn plan(result: &PlanResult, plan: &Plan, width: Width) -> String {
    let mut text = String::new();
    let head = format!(
        "Nothing was done. A run would, in namespace {} of {}:",
        result.namespace, result.cluster
    );
    let _ = writeln!(text, "{}", paragraph(&head, ""));
    let _ = writeln!(text, "\n1. create these objects, all owned by the Job:");
    let mut not_told: BTreeMap<&str, usize> = BTreeMap::new();
    for object in &result.objects {
        let said = match &object.admission {
            None => String::new(),
            Some(Admission::Admitted) => ": admitted by the API server".to_owned(),
            Some(Admission::Refused(reason)) => format!(": REFUSED: {reason}"),
            Some(Admission::NotTold(reason)) => {
                *not_told.entry(reason).or_default() += 1;
                ": not asked".to_owned()
            }
        };
        let _ = writeln!(
            text,
            "{}",
            paragraph(&format!("     {}{said}", object.name), "       ")
        );
    }
    for (reason, objects) in not_told {
        let _ = writeln!(
            text,
            "{}",
            paragraph(&format!("   {objects} not asked: {reason}."), "   ")
        );
    }
    let made = if plan.namespace.given {
        "is made if it is not there"
    } else {
        "is made for the run"
    };
    let _ = writeln!(text, "   The namespace {made}, and removed afterwards if it was.");
    let _ = writeln!(text, "     {ATTACKER} runs {}", result.attacker_image);
    let _ = writeln!(text, "     {VICTIM} runs {}", result.victim_image);
    let _ = writeln!(
        text,
        "\n2. run these steps in {VICTIM}, each sent by {ATTACKER} through the web shell:"
    );
    for step in &result.steps {
        let _ = writeln!(text, "   {}: {}", step.id, step.title);
        for line in step.script.lines() {
            let _ = writeln!(text, "       {line}");
        }
    }
    let _ = writeln!(text, "\n3. contact these addresses from {VICTIM}:");
    for address in &result.addresses {
        let _ = writeln!(text, "     {address}");
    }
    if result.addresses.is_empty() {
        let _ = writeln!(text, "     none");
    }
    let end = if plan.options.keep {
        "leave all of it for a look; Kubernetes ends and removes it"
    } else {
        "remove all of it and look that nothing is left: at the end, on a failure, on Ctrl-C; if the client dies, \
         Kubernetes ends and removes it"
    };
    let end = format!("4. {end} after {} seconds.", result.deadline_seconds);
    let _ = writeln!(text, "\n{}", paragraph(&end, "   "));
    let _ = write!(text, "\n{}", table::expected(&result.alerts, width));
    text
}

fn paragraph(text: &str, indent: &str) -> String {
    textwrap::fill(text, textwrap::Options::new(width()).subsequent_indent(indent))
}

/// Ready for `kubectl apply -f -`, with what a client adds to them said in comments.
pub(super) fn manifests(manifests: &Manifests) -> String {
    let mut text = String::from(
        "# The objects of a run. A run adds to each of them but the first two an owner reference to the Job,\n\
         # which makes Kubernetes remove them by the deadline; applied by hand they stay until deleted, and only\n\
         # the pods end. The attack begins with:\n\
         #   kubectl annotate pod mdc-simulation-attacker defender-sim/go=yes\n",
    );
    for manifest in manifests.all() {
        let _ = write!(text, "---\n{}", yaml(&manifest.object));
    }
    text
}
