//! Text output for scenarios and the plan of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use jiff::SignedDuration;

use super::table::{self, fill, table};
use super::{Width, yaml};
use crate::kubectl::Kubectl;
use crate::manifest::rights::{self, Grant, Scope};
use crate::manifest::{ATTACKER, GO, Manifests, VICTIM};
use crate::plan::Plan;
use crate::result::{Admission, ClusterInfo, PlanResult, PlannedObject, expectations};
use crate::scenario::{AttackId, Scenario};
use crate::words::paragraphs;

/// Returns the name of an ATT&CK Enterprise v19 tactic, or the ID itself if it is unknown.
fn tactic(id: &str) -> &str {
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

pub(super) fn list(scenarios: &[Scenario], width: Width) -> String {
    let rows = scenarios.iter().map(|scenario| {
        let tactics = scenario.tactics.iter().map(AttackId::v19);
        let mut row = vec![
            scenario.id.clone(),
            scenario.title.clone(),
            match width {
                Width::Screen => joined(tactics.map(tactic), ", "),
                Width::Wide => joined(tactics, " "),
            },
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

pub(super) fn plan(result: &PlanResult, plan: &Plan, width: Width) -> String {
    let mut text = String::new();
    let namespace = &result.namespace;
    let head = if result.cluster.server == ClusterInfo::NO_CLUSTER {
        format!(
            "Dry run: nothing was created, and no cluster is configured. A run would, in namespace {namespace}:"
        )
    } else {
        format!(
            "Dry run: nothing was created. A run would, in namespace {namespace} of {}:",
            result.cluster
        )
    };
    let _ = writeln!(text, "{}", fill(&head, ""));
    let heading = "1. create these objects; the Job owns everything else except the namespace:";
    let _ = writeln!(text, "\n{heading}");
    for object in &result.objects {
        let message = match &object.admission {
            None => String::new(),
            Some(Admission::Admitted) => ": admitted by the API server".to_owned(),
            Some(Admission::Refused(reason)) => format!(": REFUSED: {reason}"),
            Some(Admission::NotTold(_)) => ": not submitted".to_owned(),
        };
        let _ = writeln!(
            text,
            "{}",
            fill(&format!("     {}{message}", object.name), "       ")
        );
    }
    for line in not_asked(&result.objects) {
        let _ = writeln!(text, "{}", fill(&format!("   {line}."), "   "));
    }
    let namespace = if plan.namespace.given {
        "The namespace is used and kept if it exists; otherwise it is created, and deleted afterwards."
    } else {
        "The namespace is created for the run, and deleted afterwards."
    };
    let _ = writeln!(text, "{}", fill(&format!("   {namespace}"), "   "));
    for (pod, image) in [(ATTACKER, &result.attacker_image), (VICTIM, &result.victim_image)] {
        let _ = writeln!(text, "{}", fill(&format!("   {pod} runs {image}"), "     "));
    }
    let heading = format!("2. run these steps in {VICTIM}, each sent by {ATTACKER} through the web shell:");
    let _ = writeln!(text, "\n{}", fill(&heading, "   "));
    for step in &result.steps {
        let heading = format!("   {}: {}", step.id, step.title);
        let _ = writeln!(text, "{}", fill(&heading, "     "));
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
        "keep everything for inspection; Kubernetes deletes it"
    } else {
        "delete everything and verify that nothing is left: at the end, on a failure, on Ctrl-C; if the client \
         dies, Kubernetes deletes it"
    };
    let deadline = SignedDuration::from_secs(i64::try_from(result.deadline_seconds).unwrap_or(i64::MAX));
    let end = format!("4. {end} after {deadline:#}.");
    let _ = writeln!(text, "\n{}", fill(&end, "   "));
    let _ = write!(text, "\n{}", table::expected(&result.alerts, width));
    text
}

/// Returns every object that the API server rejected, with the reason.
pub(super) fn refused(objects: &[PlannedObject]) -> impl Iterator<Item = String> {
    objects.iter().filter_map(|object| match &object.admission {
        Some(Admission::Refused(reason)) => Some(format!("{} is refused: {reason}", object.name)),
        _ => None,
    })
}

/// Returns one line per reason for which objects were not submitted to the API server: their number and names.
pub(super) fn not_asked(objects: &[PlannedObject]) -> Vec<String> {
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for object in objects {
        if let Some(Admission::NotTold(reason)) = &object.admission {
            reasons.entry(reason).or_default().push(&object.name);
        }
    }
    let line = |(reason, names): (&str, Vec<&str>)| {
        format!("{} not asked: {reason} ({})", names.len(), names.join(", "))
    };
    reasons.into_iter().map(line).collect()
}

/// Renders the manifests for `kubectl apply -f -`; comments describe what a client adds.
pub(super) fn manifests(manifests: &Manifests, namespace: &str, kubectl: &Kubectl) -> String {
    let go = format!("{GO}=yes");
    let command = kubectl.command(["annotate", "pod", ATTACKER, &go, "-n", namespace]);
    let mut text = format!(
        "# The objects of a run. A run adds to each of them but the first two an owner reference to the Job,\n\
         # which makes Kubernetes remove them by the deadline; applied by hand they stay until deleted, and only\n\
         # the pods end. The attack begins with:\n\
         #   {command}\n",
    );
    for manifest in manifests.all() {
        let _ = write!(text, "---\n{}", yaml(&manifest.object));
    }
    text
}

/// Renders the grant for `kubectl apply -f -`, with the optional rules commented out.
pub(super) fn grant(grant: &Grant, scope: &Scope) -> String {
    let namespace = scope.namespace();
    let purpose = match scope {
        Scope::Cluster(_) => format!("that creates namespace {namespace} and deletes it"),
        Scope::Namespace(_) => format!("in namespace {namespace}, which exists and stays"),
    };
    let [role, binding] = grant.items.each_ref().map(yaml);
    let mut text = format!("# The rights of a run {purpose}.\n---\n{role}");
    for (right, reason) in scope.optional() {
        let _ = writeln!(text, "# Optional: {reason}.");
        // Skips the key, which the role already has: once uncommented, the lines extend its list.
        let rules = yaml(&BTreeMap::from([("rules", rights::rules(&[right], scope))]));
        for line in rules.lines().skip(1) {
            let _ = writeln!(text, "#{line}");
        }
    }
    text + "---\n" + &binding
}

/// Renders the permissions of a run, grouped by resource.
pub(super) fn rights(scope: &Scope, width: Width) -> String {
    let needed = rights::by_resource(&rights::of_run(scope.namespace_use()));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_api_server_does_not_take_is_said_with_the_reason() {
        let object = |name: &str, admission| PlannedObject {
            name: name.into(),
            admission,
        };
        let objects = [
            object("namespace/sim", Some(Admission::NotTold("it exists".into()))),
            object("secret/a", Some(Admission::Refused("exceeded quota".into()))),
            object("pod/b", Some(Admission::NotTold("a webhook".into()))),
            object("pod/c", Some(Admission::NotTold("a webhook".into()))),
            object("job/d", Some(Admission::Admitted)),
            object("service/e", None),
        ];
        let refused: Vec<String> = refused(&objects).collect();
        assert_eq!(refused, ["secret/a is refused: exceeded quota"]);
        assert_eq!(
            not_asked(&objects),
            [
                "2 not asked: a webhook (pod/b, pod/c)",
                "1 not asked: it exists (namespace/sim)"
            ]
        );
    }
}
