//! Reads, creates, changes and deletes objects.

use std::time::Duration;

use futures::future;
use kube::Api;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions,
};
use kube::core::{GroupVersionKind, PartialObjectMeta};

use super::{Cluster, Found, Result, Selectors, describe_scope, selector};
use crate::manifest::{Kind, Manifest, OWNER};
use crate::net::Cause;

/// Objects on a page of a list.
const PAGE_SIZE: u32 = 500;

impl Cluster {
    fn api(&self, kind: Kind, namespace: Option<&str>) -> Api<DynamicObject> {
        let gvk = GroupVersionKind::gvk(kind.group(), kind.version(), kind.kind());
        let resource = ApiResource::from_gvk_with_plural(&gvk, kind.plural());
        match namespace {
            Some(namespace) if kind.is_namespaced() => {
                Api::namespaced_with(self.client.clone(), namespace, &resource)
            }
            _ => Api::all_with(self.client.clone(), &resource),
        }
    }

    /// Returns the metadata of an object, or `None` if it does not exist.
    pub async fn get(&self, kind: Kind, namespace: &str, name: &str) -> Result<Option<Found>> {
        let api = self.api(kind, Some(namespace));
        let found = self
            .call(|| format!("get {}/{name}", kind.singular()), async {
                api.get_metadata_opt(name).await
            })
            .await?;
        Ok(found.map(|object| Found::new(kind, &object)))
    }

    /// Lists the objects of one kind that match selectors, in one namespace or in all.
    pub async fn list(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        selectors: Selectors<'_>,
    ) -> Result<Vec<Found>> {
        let parameters = ListParams::default()
            .labels(selectors.labels)
            .fields(selectors.fields);
        let mut found = vec![];
        let what = format!("{} in {}", kind.plural(), describe_scope(namespace));
        self.each_metadata(self.api(kind, namespace), &parameters, what, |object| {
            found.push(Found::new(kind, &object));
            true
        })
        .await?;
        Ok(found)
    }

    /// Lists namespaced objects of one run or all runs, in one namespace or in all. Foreign objects with the run label
    /// are skipped.
    pub async fn list_ours(&self, namespace: Option<&str>, run: Option<&str>) -> Result<Vec<Found>> {
        let labels = selector(run);
        let selectors = Selectors {
            labels: &labels,
            ..Selectors::default()
        };
        let lists = Kind::OF_RUN.map(|kind| self.list(kind, namespace, selectors));
        let found = future::try_join_all(lists).await?.into_iter().flatten();
        Ok(found.filter(Found::is_ours).collect())
    }

    /// Passes the metadata of each object to `each`, page by page, until it returns `false`.
    pub(super) async fn each_metadata(
        &self,
        api: Api<DynamicObject>,
        parameters: &ListParams,
        what: String,
        mut each: impl FnMut(PartialObjectMeta<DynamicObject>) -> bool,
    ) -> Result<()> {
        let mut parameters = parameters.clone().limit(PAGE_SIZE);
        loop {
            let page = self
                .call(|| format!("list {what}"), api.list_metadata(&parameters))
                .await?;
            if !page.items.into_iter().all(&mut each) {
                return Ok(());
            }
            match page.metadata.continue_.filter(|next| !next.is_empty()) {
                Some(next) => parameters.continue_token = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Creates an object and returns it as the API server stored it. Fails if it exists.
    pub async fn create(&self, manifest: &Manifest, namespace: &str) -> Result<(Found, serde_json::Value)> {
        let api = self.api(manifest.kind, Some(namespace));
        let object: DynamicObject = typed(&manifest.object);
        let parameters = PostParams {
            field_manager: Some(OWNER.to_owned()),
            ..PostParams::default()
        };
        let created = self
            .call(
                || format!("create {}", manifest.reference()),
                api.create(&parameters, &object),
            )
            .await?;
        Ok((Found::new(manifest.kind, &created), created.data))
    }

    /// Submits an object to the API server in a dry run.
    pub async fn admit(&self, manifest: &Manifest, namespace: &str) -> Result<()> {
        let api = self.api(manifest.kind, Some(namespace));
        let object: DynamicObject = typed(&manifest.object);
        let parameters = PostParams {
            dry_run: true,
            field_manager: Some(OWNER.to_owned()),
        };
        self.call(
            || format!("create {} in a dry run", manifest.reference()),
            api.create(&parameters, &object),
        )
        .await?;
        Ok(())
    }

    /// Applies an object without force: a field with another owner is a conflict.
    pub async fn apply(&self, manifest: &Manifest, namespace: &str) -> Result<Found> {
        let api = self.api(manifest.kind, Some(namespace));
        let parameters = PatchParams::apply(OWNER).validation_strict();
        let patch = Patch::Apply(&manifest.object);
        let created = self
            .call(|| format!("apply {}", manifest.reference()), async {
                api.patch(&manifest.name, &parameters, &patch).await
            })
            .await?;
        Ok(Found::new(manifest.kind, &created))
    }

    /// Merges `patch` into an object. The patch holds the UID, so that no other object of that name is changed.
    pub async fn patch(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        patch: &serde_json::Value,
    ) -> Result<()> {
        let api = self.api(kind, Some(namespace));
        let parameters = PatchParams {
            field_manager: Some(OWNER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(patch);
        self.call(
            || format!("patch {}/{name}", kind.singular()),
            api.patch_metadata(name, &parameters, &patch),
        )
        .await?;
        Ok(())
    }

    /// Deletes exactly this object; succeeds if it no longer exists.
    pub async fn delete(&self, object: &Found) -> Result<()> {
        let api = self.api(object.kind, object.namespace.as_deref());
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(object.uid.clone()),
                resource_version: None,
            }),
            ..DeleteParams::background()
        };
        let deleted = self
            .call(
                || format!("delete {}", object.reference()),
                api.delete(&object.name, &parameters),
            )
            .await;
        match deleted {
            Err(error) if error.is_not_found() => Ok(()),
            // Another object has the name.
            Err(error) if error.explained.cause == Cause::Conflict => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Waits until the object no longer exists, or another one has its name. It polls, since a watch needs more
    /// permissions than `get`. The caller bounds the wait.
    ///
    /// # Errors
    /// If the caller must not read the object.
    pub async fn wait_until_gone(&self, object: &Found) -> Result<()> {
        let mut pause = Duration::from_millis(50);
        loop {
            let namespace = object.namespace.as_deref().unwrap_or(&object.name);
            match self.get(object.kind, namespace, &object.name).await {
                Ok(Some(found)) if found.uid == object.uid => {}
                Ok(_) => return Ok(()),
                Err(error) if error.is_final() => return Err(error),
                Err(_) => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(Duration::from_millis(500));
        }
    }

    /// Returns an object with its content, or `None` if it does not exist.
    pub async fn object(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<(Found, serde_json::Value)>> {
        let api = self.api(kind, Some(namespace));
        let doing = || format!("get {}/{name}", kind.singular());
        let object = self.call(doing, api.get_opt(name)).await?;
        Ok(object.map(|object| (Found::new(kind, &object), object.data)))
    }
}

fn typed<T: serde::de::DeserializeOwned>(object: &serde_json::Value) -> T {
    serde_json::from_value(object.clone()).expect("a manifest is always a Kubernetes object")
}
