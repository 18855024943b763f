//! Reads objects that are not this tool's: page by page, each as no more than is asked of it, so that a large
//! cluster takes no more memory than a small one.

use kube::Resource;
use kube::api::ListParams;
use kube::core::Request;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Cluster, Result, place};

/// Objects that are asked for at once. A node takes 13 KB, and an answer is held as text and as values.
const CHUNK: u32 = 100;

/// A list as the API has it. The library's own needs objects that can be cloned.
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

/// Which objects of a kind: selectors as kubectl takes them, all objects where they are empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Which<'a> {
    /// By labels.
    pub labels: &'a str,
    /// By fields.
    pub fields: &'a str,
}

impl Cluster {
    /// Hands those objects of kind `K`, in one namespace or in all, to `each`. `T` is what is read of it: `K`, or
    /// a type with fewer fields. At most [`CHUNK`] are in memory at a time.
    pub async fn each<K, T>(
        &self,
        namespace: Option<&str>,
        which: Which<'_>,
        mut each: impl FnMut(T),
    ) -> Result<()>
    where
        K: Resource<DynamicType = ()>,
        T: DeserializeOwned,
    {
        let parameters = ListParams::default().labels(which.labels).fields(which.fields);
        let mut parameters = parameters.limit(CHUNK);
        let path = K::url_path(&(), namespace);
        loop {
            let page = self.call(
                || format!("list {} in {}", K::plural(&()), place(namespace)),
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

    /// The same, all of them: for kinds of which there are few.
    pub async fn all<K>(&self, namespace: Option<&str>) -> Result<Vec<K>>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        let mut all = vec![];
        self.each::<K, K>(namespace, Which::default(), |object| all.push(object))
            .await?;
        Ok(all)
    }

    /// Names of the API groups that the cluster serves.
    pub async fn api_groups(&self) -> Result<Vec<String>> {
        let groups = self
            .call(|| "list API groups".into(), self.client.list_api_groups())
            .await?;
        Ok(groups.groups.into_iter().map(|group| group.name).collect())
    }
}
