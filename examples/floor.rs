//! The minimum cost of a recon run: the same objects and script with plain API calls instead of the engine.
//!
//! Applies the objects, waits for them, runs the script and deletes everything, without the engine's safeguards. The
//! benchmark (`make bench`) alternates it with the plugin. Prints one line per mark: `proof`, `result`, `end`.

use std::error::Error;
use std::time::Duration;

use defender_sim::manifest::{self, ATTACKER, Kind, Manifest};
use defender_sim::plan::{DEFAULT_PARALLEL, DEFAULT_REGISTRY, Fit, Options, Plan};
use defender_sim::scenario::catalogue;
use futures::future::try_join_all;
use futures::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, LogParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::runtime::{conditions, wait::await_condition};
use kube::{Client, ResourceExt};

fn api(client: &Client, kind: Kind, namespace: &str) -> Api<DynamicObject> {
    let gvk = GroupVersionKind::gvk(kind.group(), kind.version(), kind.kind());
    let resource = ApiResource::from_gvk_with_plural(&gvk, kind.plural());
    if kind.is_namespaced() {
        Api::namespaced_with(client.clone(), namespace, &resource)
    } else {
        Api::all_with(client.clone(), &resource)
    }
}

async fn apply(client: &Client, manifest: Manifest, namespace: &str) -> kube::Result<DynamicObject> {
    let parameters = PatchParams::apply("floor");
    api(client, manifest.kind, namespace)
        .patch(&manifest.name, &parameters, &Patch::Apply(&manifest.object))
        .await
}

/// Performs one request of a step.
async fn create_and_delete(client: &Client, manifest: Manifest) -> kube::Result<()> {
    let object: DynamicObject = serde_json::from_value(manifest.object).map_err(kube::Error::SerdeError)?;
    let api = api(
        client,
        manifest.kind,
        object.metadata.namespace.as_deref().unwrap_or_default(),
    );
    api.create(&PostParams::default(), &object).await?;
    // Its owner does not exist, so it may be gone.
    match api.delete(&manifest.name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        deleted => deleted.map(drop),
    }
}

#[expect(clippy::too_many_lines, reason = "the calls of a run, in their order")]
#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "the marks are what the benchmark reads")]
async fn main() -> Result<(), Box<dyn Error>> {
    let namespace = "bench-floor";
    let options = Options {
        cover: None,
        parallel: DEFAULT_PARALLEL,
        attacker_image: format!("{DEFAULT_REGISTRY}/attacker:latest"),
        victim_image: format!("{DEFAULT_REGISTRY}/victim:latest"),
        deadline: Duration::from_secs(300),
        timeout: Duration::from_secs(60),
        keep: false,
        fit: Fit::default(),
    };
    let mut random = [0; 64];
    getrandom::fill(&mut random)?;
    let find = |id: String| catalogue::find(&id).cloned().ok_or(format!("no scenario {id}"));
    let scenarios = std::env::args()
        .skip(1)
        .map(find)
        .collect::<Result<Vec<_>, _>>()?;
    let plan = Plan::new(
        options,
        Some(namespace.into()),
        scenarios,
        random,
        jiff::Timestamp::now(),
    );
    let manifests = manifest::render(&plan, "floor");

    let client = Client::try_default().await?;
    let space: DynamicObject = serde_json::from_value(manifests.namespace.object)?;
    let space = api(&client, Kind::Namespace, "")
        .create(&PostParams::default(), &space)
        .await?;
    let anchor = apply(&client, manifests.anchor, namespace)
        .await?
        .uid()
        .unwrap_or_default();
    for batch in [manifests.supporting, manifests.pods] {
        try_join_all(
            batch
                .into_iter()
                .map(|m| apply(&client, m.owned_by_anchor(&anchor), namespace)),
        )
        .await?;
    }
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    let ready = |pod: Option<&Pod>| {
        let conditions = pod
            .and_then(|pod| pod.status.as_ref())
            .and_then(|status| status.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
    };
    await_condition(pods.clone(), manifest::VICTIM, ready).await?;
    let attacker = await_condition(pods.clone(), ATTACKER, ready).await?;
    let attacker = attacker.and_then(|pod| pod.uid()).unwrap_or_default();
    pods.patch(
        ATTACKER,
        &PatchParams::default(),
        &Patch::Merge(manifest::go_patch(&plan, &attacker, 1)),
    )
    .await?;
    let requested = manifests
        .requested
        .into_iter()
        .map(|manifest| create_and_delete(&client, manifest));
    let follow = async {
        let log = LogParams {
            follow: true,
            ..LogParams::default()
        };
        let mut lines = pods.log_stream(ATTACKER, &log).await?.lines();
        let mut proofs = 0;
        while let Some(line) = lines
            .try_next()
            .await
            .map_err(|error| kube::Error::Service(error.into()))?
        {
            if line.starts_with("defender-sim/2 victim report ") {
                proofs += 1;
                if proofs == 1 {
                    println!("proof");
                }
            }
            if line.ends_with(" done") {
                break;
            }
        }
        Ok(())
    };
    futures::future::try_join(follow, try_join_all(requested)).await?;
    println!("result");
    let spaces = api(&client, Kind::Namespace, "");
    // Deletes the pods at the same time; otherwise the namespace controller needs a second pass.
    futures::future::try_join(
        pods.delete_collection(&DeleteParams::default(), &kube::api::ListParams::default()),
        async { spaces.delete(namespace, &DeleteParams::default()).await },
    )
    .await?;
    await_condition(
        spaces,
        namespace,
        conditions::is_deleted(&space.uid().unwrap_or_default()),
    )
    .await?;
    println!("end");
    Ok(())
}
