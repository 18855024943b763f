//! Reads foreign objects page by page and field by field, so that memory does not grow with the cluster.

use kube::Resource;
use kube::api::ListParams;
use kube::core::Request;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Cluster, Result, describe_scope};

/// Objects on a page. A node takes 13 KB, and a page is held as text and as values.
const PAGE_SIZE: u32 = 100;

/// A page of a list. The type of the library requires objects that implement `Clone`.
#[derive(Deserialize)]
struct Page<T> {
    #[serde(default)]
    metadata: PageMetadata,
    items: Vec<T>,
}

#[derive(Default, Deserialize)]
struct PageMetadata {
    #[serde(rename = "continue")]
    next: Option<String>,
}

/// Selectors in the syntax of kubectl; empty ones match all objects.
#[derive(Clone, Copy, Debug, Default)]
pub struct Selectors<'a> {
    /// The label selector.
    pub labels: &'a str,
    /// The field selector.
    pub fields: &'a str,
}

impl Cluster {
    /// Passes the matching objects of kind `K`, in one namespace or in all, to `each`. `T` is `K` or a type with fewer
    /// fields. At most [`PAGE_SIZE`] objects are in memory at a time.
    pub async fn for_each<K, T>(
        &self,
        namespace: Option<&str>,
        selectors: Selectors<'_>,
        mut each: impl FnMut(T),
    ) -> Result<()>
    where
        K: Resource<DynamicType = ()>,
        T: DeserializeOwned,
    {
        let parameters = ListParams::default()
            .labels(selectors.labels)
            .fields(selectors.fields);
        let mut parameters = parameters.limit(PAGE_SIZE);
        let path = K::url_path(&(), namespace);
        loop {
            let page = self.call(
                || format!("list {} in {}", K::plural(&()), describe_scope(namespace)),
                async {
                    let request = Request::new(&path).list(&parameters);
                    let request = request.map_err(kube::Error::BuildRequest)?;
                    self.client.request::<Page<T>>(request).await
                },
            );
            let page = page.await?;
            page.items.into_iter().for_each(&mut each);
            match page.metadata.next.filter(|next| !next.is_empty()) {
                Some(next) => parameters.continue_token = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Lists all objects of a kind that has few of them.
    pub async fn list_all<K>(&self, namespace: Option<&str>) -> Result<Vec<K>>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        let mut all = vec![];
        self.for_each::<K, K>(namespace, Selectors::default(), |object| all.push(object))
            .await?;
        Ok(all)
    }

    /// Lists the names of the API groups that the cluster serves.
    pub async fn api_groups(&self) -> Result<Vec<String>> {
        let groups = self
            .call(|| "list API groups".into(), self.client.list_api_groups())
            .await?;
        Ok(groups.groups.into_iter().map(|group| group.name).collect())
    }
}
