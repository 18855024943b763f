//! Sends the requests of steps to the Kubernetes API, in parallel, and deletes what they create.
//!
//! The proof of a request is the API server's answer. A refusal by a policy blocks a step, a missing right skips it.
//! Each object ends by itself: see [`crate::manifest::request`].

use std::time::Duration;

use futures::future::join_all;
use futures::stream::{self, StreamExt as _};
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::tracker::not_run;
use crate::cluster::request::{Answer, Call, Verb as Method};
use crate::cluster::{Cluster, Found};
use crate::event::{Event, Events};
use crate::manifest::request::{namespace_of, requested};
use crate::manifest::{Kind, Manifest, rights};
use crate::net::{Cause, Explanation};
use crate::plan::Plan;
use crate::result::{Cleanup, RequestResult, StepResult};
use crate::scenario::request::Verb;
use crate::scenario::{Outcome, Request, Step};
use crate::signal::Stop;

/// Limit of concurrent steps.
const PARALLEL: usize = 8;
/// Timeout for a deleted object to be gone.
const GONE: Duration = Duration::from_secs(20);

/// The requests of a run.
pub(super) struct Requests<'a> {
    pub cluster: &'a Cluster,
    pub plan: &'a Plan,
    /// UID of the anchor, which owns the objects in the namespace of the run; `None` for a run without pods.
    pub anchor: Option<String>,
    pub stop: &'a Stop,
    pub events: &'a Events,
}

/// The end of a step.
struct Ended {
    outcome: Outcome,
    reason: Option<String>,
    result: RequestResult,
    cleanup: Cleanup,
}

/// Why a step is not proved.
type Failure = (Outcome, String);

impl Requests<'_> {
    /// Performs every request. Returns the results by the full IDs of their steps, without those that were not started
    /// before a signal, and the result of the cleanup.
    pub(super) async fn perform(&self) -> (Vec<(String, StepResult)>, Cleanup) {
        let steps = stream::iter(self.plan.requests());
        let steps = steps.map(|(id, step, request)| self.step(id, step, request));
        let ended: Vec<_> = steps.buffer_unordered(PARALLEL).collect().await;
        let mut all = Cleanup {
            verified: true,
            ..Cleanup::default()
        };
        let mut results = vec![];
        for (id, result, cleanup) in ended.into_iter().flatten() {
            all.absorb(cleanup);
            results.push((id, result));
        }
        (results, all)
    }

    async fn step(
        &self,
        id: String,
        step: &Step,
        request: &Request,
    ) -> Option<(String, StepResult, Cleanup)> {
        if self.stop.requested() {
            return None;
        }
        self.events.send(Event::StepStarted(id.clone()));
        let (started, clock) = (Timestamp::now(), Instant::now());
        let ended = match request.verb {
            Verb::Create => self.create(&id, request).await,
            Verb::List => self.list(request).await,
            Verb::Patch => self.patch(&id, request).await,
        };
        let result = StepResult {
            started: Some(started),
            outcome: ended.outcome,
            reason: ended.reason,
            duration_ms: Some(clock.elapsed().as_secs_f64() * 1000.0),
            evidence: evidence(&ended.result),
            request: Some(ended.result),
            ..not_run(step, None)
        };
        self.events.send(Event::StepEnded(id.clone(), result.clone()));
        Some((id, result, ended.cleanup))
    }

    async fn create(&self, id: &str, request: &Request) -> Ended {
        let objects = requested(self.plan, id, request);
        let mut ended = self.begin(request, &objects);
        if let Err(failure) = self.check_rights(request).await {
            return ended.fail(failure);
        }
        let mut created = vec![];
        for object in &objects {
            if let Err(failure) = self
                .create_one(request, object, &mut ended.result, &mut created)
                .await
            {
                ended = ended.fail(failure);
                break;
            }
        }
        if ended.outcome == Outcome::Proved && request.hold_seconds > 0 {
            let hold = Duration::from_secs(request.hold_seconds.into());
            let _ = timeout(hold, self.stop.wait()).await;
        }
        ended.cleanup = remove(self.cluster, &created).await;
        ended
    }

    fn begin(&self, request: &Request, objects: &[Manifest]) -> Ended {
        let kind = Kind::of_api(request.api_version(), request.kind());
        let namespace = kind.and_then(|kind| namespace_of(self.plan, kind, request));
        let names: Vec<String> = match objects {
            [] => kind.map(Kind::resource).into_iter().collect(),
            objects => objects.iter().map(Manifest::reference).collect(),
        };
        Ended {
            outcome: Outcome::Proved,
            reason: None,
            result: RequestResult {
                verb: request.verb.as_str().to_owned(),
                objects: names,
                namespace: namespace.map(str::to_owned),
                ..RequestResult::default()
            },
            cleanup: Cleanup {
                verified: true,
                ..Cleanup::default()
            },
        }
    }

    async fn check_rights(&self, request: &Request) -> Result<(), Failure> {
        let Some(kind) = Kind::of_api(request.api_version(), request.kind()) else {
            return Err((Outcome::Failed, format!("unknown kind {}", request.kind())));
        };
        let namespace = namespace_of(self.plan, kind, request).unwrap_or_default();
        let needed = rights::of_request(request);
        match self.cluster.missing_rights(namespace, &needed).await {
            Err(error) => Err((Outcome::Failed, error.to_string())),
            Ok(missing) if missing.is_empty() => Ok(()),
            Ok(missing) => Err((
                Outcome::Skipped,
                format!("missing rights: {}", rights::grouped(&missing)),
            )),
        }
    }

    /// Creates an object and adds it to `created`, even if the cluster changed it or the answer was lost.
    async fn create_one(
        &self,
        request: &Request,
        manifest: &Manifest,
        result: &mut RequestResult,
        created: &mut Vec<Found>,
    ) -> Result<(), Failure> {
        let namespace = result.namespace.clone();
        let manifest = match &self.anchor {
            Some(anchor) if namespace.as_ref() == Some(&self.plan.namespace.name) => {
                manifest.clone().owned_by_anchor(anchor)
            }
            _ => manifest.clone(),
        };
        let call = Call {
            method: Method::Create,
            kind: manifest.kind,
            namespace: namespace.as_deref(),
            name: None,
            body: Some(&manifest.object),
            user_agent: request.user_agent.as_deref(),
        };
        let answer = match self.cluster.send(call).await {
            Ok(answer) => answer,
            Err(error) => {
                // The request may have arrived all the same.
                let place = namespace.as_deref().unwrap_or_default();
                let found = self.cluster.get(manifest.kind, place, &manifest.name).await;
                created.extend(found.ok().flatten().filter(Found::is_ours));
                return Err((Outcome::Failed, error.to_string()));
            }
        };
        let object = record(answer, result).map_err(|refusal| judge(&refusal, Verb::Create))?;
        let found = Found::parse(manifest.kind, &object).ok_or_else(|| {
            (
                Outcome::Failed,
                "the API server's answer is not an object".to_owned(),
            )
        })?;
        let owner = &manifest.object["metadata"]["ownerReferences"][0]["uid"];
        let is_owned = found.owners.iter().any(|uid| owner == uid.as_str());
        let is_ours = found.is_ours();
        created.push(found);
        let lost = match request.missing_lock(&manifest.object, &object) {
            Some(lock) => Some(lock),
            None if !is_ours => Some("/metadata/labels".to_owned()),
            None if !is_owned => Some("/metadata/ownerReferences".to_owned()),
            None => None,
        };
        match lost {
            None => Ok(()),
            Some(lock) => {
                let reason = format!(
                    "the cluster changed {lock}, which keeps the object harmless; it was deleted at once"
                );
                Err((Outcome::Failed, reason))
            }
        }
    }

    async fn list(&self, request: &Request) -> Ended {
        let mut ended = self.begin(request, &[]);
        let Some(kind) = Kind::of_api(request.api_version(), request.kind()) else {
            return ended.fail((Outcome::Failed, format!("unknown kind {}", request.kind())));
        };
        let namespace = ended.result.namespace.clone();
        let call = Call {
            method: Method::List,
            kind,
            namespace: namespace.as_deref(),
            name: None,
            body: None,
            user_agent: request.user_agent.as_deref(),
        };
        let answered = match self.cluster.send(call).await {
            Ok(answer) => record(answer, &mut ended.result).map_err(|refusal| judge(&refusal, Verb::List)),
            Err(error) => Err((Outcome::Failed, error.to_string())),
        };
        match answered {
            Ok(_) => ended,
            Err(failure) => ended.fail(failure),
        }
    }

    /// Adds entries to an existing object, removes them, and verifies that it is as before.
    async fn patch(&self, id: &str, request: &Request) -> Ended {
        let objects = requested(self.plan, id, request);
        let mut ended = self.begin(request, &objects);
        let Some(object) = objects.first() else {
            return ended.fail((Outcome::Failed, format!("unknown kind {}", request.kind())));
        };
        if let Err(failure) = self.check_rights(request).await {
            return ended.fail(failure);
        }
        if let Err(failure) = self.patch_and_restore(request, object, &mut ended).await {
            return ended.fail(failure);
        }
        ended
    }

    async fn patch_and_restore(
        &self,
        request: &Request,
        object: &Manifest,
        ended: &mut Ended,
    ) -> Result<(), Failure> {
        let namespace = ended.result.namespace.clone();
        let send = async |method, body: Option<&Value>| {
            let call = Call {
                method,
                kind: object.kind,
                namespace: namespace.as_deref(),
                name: Some(&object.name),
                body,
                user_agent: request.user_agent.as_deref(),
            };
            let answer = self.cluster.send(call).await;
            answer.map_err(|error| (Outcome::Failed, error.to_string()))
        };
        let content = |answer: Answer| answer.content.map_err(|refusal| judge(&refusal, Verb::Patch));
        let before = content(send(Method::Get, None).await?)?;
        let added = object.object["data"].as_object().cloned().unwrap_or_default();
        let version = &before["metadata"]["resourceVersion"];
        let patch = json!({ "metadata": { "resourceVersion": version }, "data": added });
        let patched = send(Method::Patch, Some(&patch)).await;
        let patched = patched.map(|answer| record(answer, &mut ended.result));
        if let Ok(Err(refusal)) = patched {
            return Err(judge(&refusal, Verb::Patch));
        }
        // The entries may exist even if the answer was lost.
        let removed: serde_json::Map<String, Value> =
            added.keys().map(|key| (key.clone(), Value::Null)).collect();
        let restored = send(Method::Patch, Some(&json!({ "data": removed })))
            .await
            .and_then(content);
        let after = match restored {
            Ok(_) => send(Method::Get, None).await.and_then(content),
            Err(failure) => Err(failure),
        };
        let is_gone = |after: &Value| added.keys().all(|key| after["data"].get(key).is_none());
        let entry = format!("an entry of {}", object.reference());
        match after {
            Ok(after) if is_gone(&after) => ended.cleanup.removed.push(entry),
            Ok(_) => ended.cleanup.left.push(entry),
            Err((_, reason)) => {
                ended.cleanup.left.push(entry);
                ended.cleanup.problems.push(reason);
            }
        }
        patched.map(|_| ())
    }
}

/// Deletes objects, each by a request of its own, and verifies that they are gone.
pub(super) async fn remove(cluster: &Cluster, objects: &[Found]) -> Cleanup {
    let removals = objects.iter().map(async |object| {
        let gone = async {
            cluster.delete(object).await?;
            cluster.wait_until_gone(object).await
        };
        match timeout(GONE, gone).await {
            Ok(Ok(())) => Ok(object.reference()),
            Ok(Err(error)) => Err((object.reference(), error.to_string())),
            Err(_) => {
                let reason = format!("{} is not gone after {} s", object.reference(), GONE.as_secs());
                Err((object.reference(), reason))
            }
        }
    });
    let mut cleanup = Cleanup {
        verified: true,
        ..Cleanup::default()
    };
    for removed in join_all(removals).await {
        match removed {
            Ok(reference) => cleanup.removed.push(reference),
            Err((reference, problem)) => {
                cleanup.left.push(reference);
                cleanup.problems.push(problem);
            }
        }
    }
    cleanup
}

impl Ended {
    fn fail(self, (outcome, reason): Failure) -> Self {
        Self {
            outcome,
            reason: Some(reason),
            ..self
        }
    }
}

/// Adds an answer to the result of its step. Returns the object.
fn record(answer: Answer, result: &mut RequestResult) -> Result<Value, Explanation> {
    result.status = Some(answer.status);
    result.audit_id = answer.audit_id;
    for warning in answer.warnings {
        if !result.warnings.contains(&warning) {
            result.warnings.push(warning);
        }
    }
    let object = answer.content?;
    let text = |field: &str| object["metadata"][field].as_str().map(str::to_owned);
    result.uid = text("uid");
    result.resource_version = text("resourceVersion").filter(|version| !version.is_empty());
    Ok(object)
}

/// Returns the outcome of a step whose request was refused: by a policy, for lack of a right, or for another reason.
fn judge(refusal: &Explanation, verb: Verb) -> Failure {
    let text = refusal.message.clone();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let lacks_right = has(&[
        "\" cannot ",
        "attempting to grant RBAC permissions not currently held",
    ]);
    let is_policy = has(&[
        "denied the request",
        "denied request",
        "violates PodSecurity",
        "denied by autogke",
        "disallowed by cluster policy",
        "GKE Warden",
    ]);
    let outcome = match refusal.cause {
        _ if is_policy => Outcome::Blocked,
        _ if has(&["exceeded quota"]) => Outcome::Failed,
        Cause::Forbidden if lacks_right => Outcome::Skipped,
        Cause::Forbidden => Outcome::Blocked,
        Cause::NotFound if verb != Verb::Create => Outcome::Skipped,
        _ => Outcome::Failed,
    };
    (outcome, text)
}

/// Describes an answer for people; the names and UIDs of the objects are in the result.
fn evidence(result: &RequestResult) -> Option<String> {
    let status = StatusCode::from_u16(result.status?).ok()?;
    let mut parts = vec![status.to_string()];
    parts.extend(result.audit_id.iter().map(|id| format!("audit id {id}")));
    parts.extend(
        result
            .warnings
            .iter()
            .map(|warning| format!("warning: {warning}")),
    );
    Some(parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_is_blocked_by_policies_and_skipped_without_rights() {
        use Outcome::{Blocked, Failed, Skipped};
        let forbidden = Cause::Forbidden;
        for (cause, verb, text, outcome) in [
            (
                forbidden,
                Verb::Create,
                "pods \"x\" is forbidden: violates PodSecurity \"baseline:latest\"",
                Blocked,
            ),
            (
                forbidden,
                Verb::Create,
                "admission webhook \"validation.gatekeeper.sh\" denied the request: [azurepolicy-x]",
                Blocked,
            ),
            (
                Cause::Invalid,
                Verb::Create,
                "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no",
                Blocked,
            ),
            (
                Cause::Other,
                Verb::Create,
                "admission webhook \"validate.kyverno.svc-fail\" denied the request",
                Blocked,
            ),
            (
                forbidden,
                Verb::Create,
                "GKE Warden rejected the request because it violates one or more constraints",
                Blocked,
            ),
            (
                forbidden,
                Verb::Create,
                "pods \"x\" is forbidden: some admission plugin",
                Blocked,
            ),
            (
                forbidden,
                Verb::Create,
                "roles is forbidden: User \"u\" cannot create resource \"roles\" in API group",
                Skipped,
            ),
            (
                forbidden,
                Verb::Create,
                "user \"u\" is attempting to grant RBAC permissions not currently held:\n{}",
                Skipped,
            ),
            (
                forbidden,
                Verb::Create,
                "pods \"x\" is forbidden: exceeded quota: q",
                Failed,
            ),
            (
                Cause::NotFound,
                Verb::Patch,
                "configmaps \"coredns-custom\" not found",
                Skipped,
            ),
            (
                Cause::NotFound,
                Verb::Create,
                "namespaces \"n\" not found",
                Failed,
            ),
            (
                Cause::AlreadyExists,
                Verb::Create,
                "roles \"x\" already exists",
                Failed,
            ),
            (Cause::Invalid, Verb::Create, "Pod \"x\" is invalid: spec", Failed),
        ] {
            let refusal = Explanation::new(cause, text);
            assert_eq!(judge(&refusal, verb), (outcome, text.to_owned()));
        }
    }
}
