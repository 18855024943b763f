//! Text output for the plan of a run, and its manifests.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::SignedDuration;

use super::table::{self, fill};
use super::{Width, yaml};
use crate::kubectl::Kubectl;
use crate::manifest::{ATTACKER, GO, Manifests};
use crate::plan::Plan;
use crate::result::{Admission, ClusterInfo, PlanResult, PlannedObject};

/// Formats a plan: where it runs, what it creates, runs and contacts, and how it ends.
pub(super) fn plan(result: &PlanResult, plan: &Plan, width: Width) -> String {
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
    let mut sections = vec![];
    if !result.victims.is_empty() {
        sections.extend([objects(result, plan), victim_steps(result), addresses(result)]);
    }
    sections.extend(requests(result));
    sections.extend((!result.victims.is_empty()).then(|| end(result, plan)));
    let mut text = fill(&head, "") + "\n";
    for (number, (heading, body)) in (1..).zip(sections) {
        let heading = fill(&format!("{number}. {heading}"), "   ");
        let _ = write!(text, "\n{heading}\n{body}");
    }
    let _ = write!(text, "\n{}", table::expected(&result.alerts, width));
    text
}

/// The heading of a section, and its lines.
type Section = (String, String);

fn objects(result: &PlanResult, plan: &Plan) -> Section {
    let mut text = String::new();
    for object in &result.objects {
        let message = match &object.admission {
            None => String::new(),
            Some(Admission::Admitted) => ": admitted by the API server".to_owned(),
            Some(Admission::Refused(reason)) => format!(": REFUSED: {reason}"),
            Some(Admission::NotAsked(_)) => ": not submitted".to_owned(),
        };
        let line = format!("     {}{message}", object.name);
        let _ = writeln!(text, "{}", fill(&line, "       "));
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
    let attacker = result.attacker_image.iter().map(|image| (ATTACKER, image));
    let victims = result.victims.iter().map(|victim| (&*victim.pod, &victim.image));
    for (pod, image) in attacker.chain(victims) {
        let _ = writeln!(text, "{}", fill(&format!("   {pod} runs {image}"), "     "));
    }
    let heading = "create these objects; the Job owns everything else except the namespace:";
    (heading.to_owned(), text)
}

fn victims(result: &PlanResult) -> String {
    let pods: Vec<&str> = result.victims.iter().map(|victim| victim.pod.as_str()).collect();
    pods.join(", ")
}

fn victim_steps(result: &PlanResult) -> Section {
    let heading = format!(
        "run these steps in {}, each sent by {ATTACKER} through the web shell:",
        victims(result)
    );
    let mut text = String::new();
    for step in result.steps.iter().filter(|step| step.request.is_none()) {
        let heading = format!("   {}: {}", step.id, step.title);
        let _ = writeln!(text, "{}", fill(&heading, "     "));
        for line in step.script.iter().flat_map(|script| script.lines()) {
            let _ = writeln!(text, "       {line}");
        }
    }
    (heading, text)
}

fn addresses(result: &PlanResult) -> Section {
    let mut text = String::new();
    for address in &result.addresses {
        let _ = writeln!(text, "     {address}");
    }
    if result.addresses.is_empty() {
        text += "     none\n";
    }
    (format!("contact these addresses from {}:", victims(result)), text)
}

/// Formats the requests to the Kubernetes API; `None` if there are none.
fn requests(result: &PlanResult) -> Option<Section> {
    let requests = result
        .steps
        .iter()
        .filter_map(|step| Some((step, step.request.as_ref()?)));
    let mut text = String::new();
    for (step, request) in requests {
        let heading = format!("   {}: {}", step.id, step.title);
        let _ = writeln!(text, "{}", fill(&heading, "     "));
        let [first, ..] = &request.objects[..] else {
            let _ = writeln!(text, "       {} {}", request.verb, request.resource);
            continue;
        };
        let number = match request.objects.len() {
            1 => String::new(),
            number => format!(" {number} times, the first"),
        };
        let _ = writeln!(text, "       {}{number}:", request.verb);
        for line in yaml(first).lines() {
            let _ = writeln!(text, "         {line}");
        }
    }
    let heading = "send these requests to the Kubernetes API, as you, and delete what they create at once (they are \
                   never sent as a dry run, which Defender may detect as well):";
    (!text.is_empty()).then(|| (heading.to_owned(), text))
}

fn end(result: &PlanResult, plan: &Plan) -> Section {
    let end = if plan.options.keep {
        "keep everything for inspection; Kubernetes deletes it"
    } else {
        "delete everything and verify that nothing is left: at the end, on a failure, on Ctrl-C; if the client \
         dies, Kubernetes deletes it"
    };
    let deadline = SignedDuration::from_secs(i64::try_from(result.deadline_seconds).unwrap_or(i64::MAX));
    (format!("{end} after {deadline:#}."), String::new())
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
        if let Some(Admission::NotAsked(reason)) = &object.admission {
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
    let mut text = String::new();
    if manifests.requested.is_empty() || manifests.all().next().is_some() {
        text = format!(
            "# The objects of a run. A run adds to each of them but the first two an owner reference to the Job,\n\
             # which makes Kubernetes remove them by the deadline; applied by hand they stay until deleted, and only\n\
             # the pods end. The attack begins with:\n\
             #   {command}\n",
        );
    }
    for manifest in manifests.all() {
        let _ = write!(text, "---\n{}", yaml(&manifest.object));
    }
    if !manifests.requested.is_empty() {
        text += "# The objects that steps create and delete at once. Their owner does not exist, so Kubernetes removes\n\
                 # them within seconds.\n";
    }
    for manifest in &manifests.requested {
        let _ = write!(text, "---\n{}", yaml(&manifest.object));
    }
    text
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
            object("namespace/sim", Some(Admission::NotAsked("it exists".into()))),
            object("secret/a", Some(Admission::Refused("exceeded quota".into()))),
            object("pod/b", Some(Admission::NotAsked("a webhook".into()))),
            object("pod/c", Some(Admission::NotAsked("a webhook".into()))),
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
