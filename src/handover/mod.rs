//! The handover to a SOC after a run, derived from the record of the run alone: nothing is read or changed in Azure.

mod query;
mod suppression;

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::azure::AzureCluster;
use crate::manifest::{ATTACKER, RUN_LABEL};
use crate::note::user_agent;
use crate::plan::{RunId, VICTIMS_OF_ATTACKER};
use crate::result::{
    ClusterInfo, HANDOVER_SCHEMA, Handover, HandoverAlert, HandoverVerification, OutstandingAlert,
    RaisedAlert, RunMarks, RunResult, UnattributedAlert, Verdict, Verification,
};
use crate::untrusted;
use crate::verify::DEFAULT_WAIT;

/// Tolerated difference between the clocks of this machine and of the nodes, as in a verification.
const MARGIN: SignedDuration = SignedDuration::from_mins(2);

/// Prefix of the name of a run's service account; the ID of the run follows.
const ACCOUNT: &str = "mdc-simulation-pods-";

/// Creates the handover of a run. Every text in it is a single visible line, except the queries.
pub fn handover(run: &RunResult, now: Timestamp) -> Handover {
    let cluster = run.cluster.resource_id.as_ref();
    let cluster = cluster.and_then(|id| untrusted::name(id).parse::<AzureCluster>().ok());
    let marks = marks(run, cluster.as_ref());
    let verification = run.verification.as_ref();
    let problem = run.verification_problem.as_ref();
    Handover {
        schema: HANDOVER_SCHEMA,
        version: untrusted::name(&run.version),
        created: now,
        queries: query::queries(&marks, cluster.as_ref()),
        suppression: suppression::suppression(run, &marks, cluster.as_ref(), now),
        run: marks,
        verification: HandoverVerification {
            read: verification.map(|verification| verification.read),
            source: verification.map(|verification| untrusted::name(&verification.source)),
            problem: problem.map(|problem| untrusted::name(&problem.message)),
        },
        alerts: verification.map(alerts).unwrap_or_default(),
        unattributed: verification.map(unattributed).unwrap_or_default(),
        outstanding: outstanding(run),
    }
}

/// Returns the marks of a run.
fn marks(run: &RunResult, cluster: Option<&AzureCluster>) -> RunMarks {
    let name = |text: &String| untrusted::name(text);
    let names = |texts: &mut dyn Iterator<Item = &String>| -> Vec<String> {
        let mut seen = BTreeSet::new();
        texts.map(name).filter(|text| seen.insert(text.clone())).collect()
    };
    // A record from elsewhere may contain any text as its ID.
    let id = RunId::matches(&run.run).then_some(run.run.as_str());
    let requests = || run.steps().filter_map(|step| step.request.as_ref());
    let namespaces = requests().filter_map(|request| request.namespace.as_ref());
    let mut pods = names(&mut run.victims.iter().map(|victim| &victim.pod));
    let has_pods = !pods.is_empty();
    let attackers = attackers(pods.len());
    pods.splice(0..0, attackers);
    let optional = |text: &Option<String>| text.as_ref().map(name);
    let verification = run.verification.as_ref();
    let shifted = |time: Timestamp, by: SignedDuration| time.saturating_add(by).unwrap_or(time);
    RunMarks {
        id: name(&run.run),
        scenarios: names(&mut run.scenarios.iter().map(|scenario| &scenario.id)),
        cluster: ClusterInfo {
            context: optional(&run.cluster.context),
            server: name(&run.cluster.server),
            version: optional(&run.cluster.version),
            user: optional(&run.cluster.user),
            kubeconfig_user: optional(&run.cluster.kubeconfig_user),
            impersonated: optional(&run.cluster.impersonated),
            resource_id: cluster.map(|cluster| cluster.id.clone()),
        },
        namespace: name(&run.namespace),
        other_namespaces: names(&mut namespaces.filter(|other| **other != run.namespace)),
        nodes: names(&mut run.victims.iter().filter_map(|victim| victim.node.as_ref())),
        service_account: id.filter(|_| has_pods).map(|id| format!("{ACCOUNT}{id}")),
        pods,
        objects: names(&mut requests().flat_map(|request| &request.objects)),
        selector: id.map(|id| format!("{RUN_LABEL}={id}")),
        user_agent: id.map(|id| user_agent(&untrusted::name(&run.version), id)),
        started: run.started,
        ended: run.ended,
        from: verification.map_or_else(|| shifted(run.started, -MARGIN), |known| known.from),
        until: verification.map_or_else(|| shifted(run.ended, MARGIN), |known| known.until),
        alerts_until: run.ended.saturating_add(DEFAULT_WAIT).unwrap_or(Timestamp::MAX),
        clock_offset_seconds: run.clock_offset_seconds,
    }
}

/// Returns the alerts that were raised, each once: the expected ones, also those of single victims, then the others.
fn alerts(verification: &Verification) -> Vec<HandoverAlert> {
    let expected = verification.alerts.iter().flat_map(|alert| {
        let victims = alert.victims.iter().filter_map(|victim| victim.raised.as_ref());
        let raised = alert.raised.iter().chain(victims);
        raised.map(|raised| (Some(&alert.id), raised))
    });
    let additional = verification.additional.iter().map(|alert| (None, alert));
    let mut alerts: Vec<HandoverAlert> = vec![];
    for (id, raised) in expected.chain(additional) {
        let alert = alert(id, raised);
        if !alerts.contains(&alert) {
            alerts.push(alert);
        }
    }
    alerts
}

/// Returns the names of the pods that attacked this number of victims.
fn attackers(victims: usize) -> impl Iterator<Item = String> {
    (1..=victims.div_ceil(VICTIMS_OF_ATTACKER)).map(|number| match number {
        1 => ATTACKER.to_owned(),
        _ => format!("{ATTACKER}-{number}"),
    })
}

fn alert(expected: Option<&String>, raised: &RaisedAlert) -> HandoverAlert {
    let name = |text: &String| untrusted::name(text);
    HandoverAlert {
        id: name(&raised.id),
        name: name(&raised.name),
        expected: expected.map(name),
        severity: raised.severity.as_ref().map(name),
        status: raised.status.as_ref().map(name),
        generated: raised.generated,
        link: raised.portal().map(String::from),
    }
}

fn unattributed(verification: &Verification) -> Vec<UnattributedAlert> {
    let alerts = verification.unattributed.iter();
    let alerts = alerts.map(|alert| UnattributedAlert {
        id: untrusted::name(&alert.id),
        name: untrusted::name(&alert.name),
        reason: untrusted::name(&alert.reason),
    });
    alerts.collect()
}

/// Returns the expected alerts that were not raised, each once.
fn outstanding(run: &RunResult) -> Vec<OutstandingAlert> {
    let new = |id: &str, name: &str, verdict| OutstandingAlert {
        id: untrusted::name(id),
        name: untrusted::name(name),
        verdict,
    };
    if let Some(verification) = &run.verification {
        let open = verification.alerts.iter();
        let open = open.filter(|alert| alert.verdict != Verdict::Raised);
        return open
            .map(|alert| new(&alert.id, &alert.name, Some(alert.verdict)))
            .collect();
    }
    let mut seen = BTreeSet::new();
    let expected = run.scenarios.iter().flat_map(|scenario| &scenario.alerts);
    let expected = expected.filter(|alert| alert.not_expected.is_none() && seen.insert(&alert.id));
    expected.map(|alert| new(&alert.id, &alert.name, None)).collect()
}

#[cfg(test)]
pub(crate) mod tests;
