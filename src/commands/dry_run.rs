//! `--dry-run`: prints what a run would do, and whether the API server would admit it.

use super::session::{Session, VERSION};
use super::sources::Request;
use super::{Outcome, Print};
use crate::cluster::connect::ConnectError;
use crate::engine;
use crate::error::Error;
use crate::exit::Exit;
use crate::manifest::{self, Kind, request::requested};
use crate::plan::Plan;
use crate::result::{
    Admission, ClusterInfo, PLAN_SCHEMA, PlanResult, PlannedObject, PlannedRequest, PlannedStep,
    PlannedVictim, merged_expectations,
};

/// Prints the plan without contacting a cluster. Without a kubeconfig, the plan names no cluster.
pub(super) fn client(request: &Request, session: &Session) -> Outcome {
    let plan = request.plan(session.namespace.clone())?;
    let result = describe(&plan, session)?;
    Ok(print_plan(plan, result))
}

/// Submits every object to the API server without persisting it.
pub(super) async fn server(request: &Request, session: &Session) -> Outcome {
    let mut plan = request.plan(session.namespace.clone())?;
    let result = admit(&mut plan, session).await?;
    Ok(print_plan(plan, result))
}

/// Describes a plan without contacting the cluster.
///
/// # Errors
/// Fails if the kubeconfig or the flags are invalid.
pub(super) fn describe(plan: &Plan, session: &Session) -> Result<PlanResult, Error> {
    if plan.options.cover.is_some() {
        return Err(Error::CoverWithoutCluster);
    }
    let info = match session.resolve() {
        Ok((_, info)) => info,
        Err(ConnectError::NotConfigured { .. }) if session.is_default() => ClusterInfo::none(),
        Err(error) => return Err(error.into()),
    };
    let manifests = manifest::render(plan, "the user who runs it");
    let objects = manifests.all().map(|manifest| PlannedObject {
        name: manifest.reference(),
        admission: None,
    });
    Ok(result(plan, info, objects.collect()))
}

/// Describes a plan with the API server's answer to every object.
///
/// # Errors
/// Fails if the cluster cannot be read.
pub(super) async fn admit(plan: &mut Plan, session: &Session) -> Result<PlanResult, Error> {
    let connection = session.connect(Some(plan))?;
    engine::cover(&connection.cluster, plan).await?;
    let mut info = connection.info;
    let objects = engine::admit(&connection.cluster, plan, &mut info, &session.events).await?;
    Ok(result(plan, info, objects))
}

fn print_plan(plan: Plan, result: PlanResult) -> Print {
    Box::new(move |report| {
        report.plan(&result, &plan);
        result.exit
    })
}

fn result(plan: &Plan, cluster: ClusterInfo, objects: Vec<PlannedObject>) -> PlanResult {
    let is_refused = |object: &PlannedObject| matches!(object.admission, Some(Admission::Refused(_)));
    let exit = if objects.iter().any(is_refused) {
        Exit::NotStarted
    } else {
        Exit::Ok
    };
    let steps = plan.steps().map(|(id, step)| PlannedStep {
        id: id.clone(),
        title: step.title.clone(),
        victims: plan
            .victims
            .iter()
            .filter(|_| step.runs_in_victim())
            .map(|victim| victim.pod.clone())
            .collect(),
        script: Some(step.text().to_owned()).filter(|text| !text.is_empty()),
        request: step.request.as_ref().map(|request| PlannedRequest {
            verb: request.verb.as_str().to_owned(),
            resource: Kind::of_api(request.api_version(), request.kind())
                .map(Kind::resource)
                .unwrap_or_default(),
            objects: requested(plan, &id, request)
                .into_iter()
                .map(|object| object.object)
                .collect(),
        }),
        proof: step.proof.clone(),
    });
    PlanResult {
        schema: PLAN_SCHEMA,
        version: VERSION,
        cluster,
        namespace: plan.namespace.name.clone(),
        attacker_image: (!plan.victims.is_empty()).then(|| plan.options.attacker_image.clone()),
        victims: plan
            .victims
            .iter()
            .map(|victim| PlannedVictim {
                pod: victim.pod.clone(),
                group: engine::group_of(victim),
                image: plan.options.victim_image.clone(),
            })
            .collect(),
        uncovered: engine::uncovered(plan),
        objects,
        steps: steps.collect(),
        addresses: plan.addresses(),
        alerts: merged_expectations(&plan.scenarios),
        deadline_seconds: plan.options.deadline.as_secs(),
        exit,
        exit_code: exit.code(),
    }
}
