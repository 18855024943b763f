//! The note for the SOC before a run.

use jiff::{SignedDuration, Timestamp};

use crate::event::Started;
use crate::kql;
use crate::manifest::{ATTACKER, RUN_LABEL, VICTIM, service_account_name};
use crate::plan::Plan;
use crate::result::{NOTE_SCHEMA, Note, NoteStep, merged_expectations};
use crate::verify::DEFAULT_WAIT;

/// The deadline starts when the Job controller starts the Job, soon after the note is written.
const MARGIN: SignedDuration = SignedDuration::from_mins(1);

/// Creates the note for a run that starts at `from`; `agent` is the user agent of its client.
pub fn soc_note(plan: &Plan, started: &Started, agent: &str, from: Timestamp) -> Note {
    let until = from + (plan.ends() - plan.created) + MARGIN;
    let alerts_until = until + DEFAULT_WAIT;
    let attackers = plan.attackers().map(|attacker| attacker.pod);
    let victims = plan.victims.iter().map(|victim| victim.pod.clone());
    let pods: Vec<String> = attackers.chain(victims).collect();
    let service_account = service_account_name(plan);
    // The names of several pods begin with these: `has` finds a text between any characters but letters and digits.
    let names = [ATTACKER, VICTIM, &service_account];
    let steps = plan
        .steps()
        .map(|(id, step)| NoteStep {
            id,
            title: step.title.clone(),
            techniques: step.techniques.iter().map(|id| id.v19().to_owned()).collect(),
        })
        .collect();
    Note {
        schema: NOTE_SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        run: started.run.clone(),
        cluster: started.cluster.clone(),
        namespace: started.namespace.clone(),
        query: query((from, alerts_until), &started.namespace, &names),
        pods,
        service_account,
        images: vec![
            plan.options.attacker_image.clone(),
            plan.options.victim_image.clone(),
        ],
        selector: format!("{RUN_LABEL}={}", started.run),
        user_agent: agent.to_owned(),
        from,
        until,
        alerts_until,
        steps,
        addresses: plan.addresses(),
        alerts: merged_expectations(&plan.scenarios),
    }
}

/// Returns the query for alerts in a period whose entities include the namespace and one of these names.
fn query((from, until): (Timestamp, Timestamp), namespace: &str, names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| kql::quoted(name)).collect();
    let names = names.join(", ");
    format!(
        "SecurityAlert\n\
         | where TimeGenerated between ({} .. {})\n\
         | where Entities has {} and Entities has_any ({names})",
        kql::datetime(from),
        kql::datetime(until),
        kql::quoted(namespace)
    )
}

/// Returns the user agent of a run's requests to the API server, as its audit log has it.
pub fn user_agent(version: &str, run: &str) -> String {
    format!("kubectl-defender_sim/{version} (run {run})")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::plan;
    use crate::result::ClusterInfo;
    use crate::scenario::catalogue;

    /// Creates a note for recon and secrets, which share an alert, in the given namespace.
    pub(crate) fn note(namespace: &str) -> Note {
        let mut plan = plan::tests::plan(None);
        plan.scenarios.push(catalogue::find("secrets").unwrap().clone());
        let started = Started {
            run: plan.run.to_string(),
            scenarios: vec![],
            victims: vec![],
            steps: vec![],
            cluster: ClusterInfo {
                context: Some("prod".into()),
                server: "https://192.0.2.1".into(),
                ..ClusterInfo::default()
            },
            namespace: namespace.to_owned(),
            labels: vec![],
        };
        let from = "2026-05-25T16:29:02.5Z".parse().unwrap();
        soc_note(&plan, &started, "agent", from)
    }

    #[test]
    fn alerts_are_announced_until_90_minutes_after_the_deadline() {
        let note = note("sim");
        // The deadline of the plan is 10 minutes, and the cluster may start it a minute later.
        assert_eq!(note.until, "2026-05-25T16:40:02.5Z".parse().unwrap());
        assert_eq!(note.alerts_until, "2026-05-25T18:10:02.5Z".parse().unwrap());
    }

    #[test]
    fn step_of_an_alert_is_one_of_the_steps() {
        let note = note("sim");
        let step = |id: &str| {
            let alert = note.alerts.iter().find(|alert| alert.id == id);
            alert.unwrap().steps.clone()
        };
        assert_eq!(step("service-account-operation"), ["recon.access-review"]);
        // Expected by both scenarios.
        assert_eq!(step("token-access"), ["recon.read-token"]);
        assert_eq!(step("web-shell"), [""; 0]);
        for id in note.alerts.iter().flat_map(|alert| &alert.steps) {
            let step = note.steps.iter().find(|step| step.id == *id).unwrap();
            assert!(!step.title.is_empty() && !step.techniques.is_empty(), "{id}");
        }
    }

    #[test]
    fn query_has_period_namespace_and_names() {
        let account = note("sim").service_account;
        assert_eq!(
            note("sim").query,
            format!(
                "SecurityAlert\n\
                 | where TimeGenerated between (datetime(2026-05-25T16:29:02Z) .. datetime(2026-05-25T18:10:02Z))\n\
                 | where Entities has \"sim\" and Entities has_any \
                 (\"mdc-simulation-attacker\", \"mdc-simulation-victim\", \"{account}\")"
            )
        );
        let hostile = note("a\" or 1==1 // \\\n| x").query;
        let part = r#"Entities has "a\" or 1==1 // \\\n| x" and "#;
        assert!(hostile.contains(part), "{hostile}");
        assert_eq!(hostile.lines().count(), 3, "{hostile}");
    }
}
