//! Calls to the management cluster's API, each bounded in time.

use std::{collections::BTreeMap, fmt::Debug, future::Future};

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Namespace, Secret},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    core::NamespaceResourceScope,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use super::times;
use crate::api::FINALIZER;

/// The field manager of everything that the operator applies. Another name would leave the old one an owner forever.
pub const FIELD_MANAGER: &str = "localcluster-operator";

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API's answer, or the lack of a connection.
    #[error("the Kubernetes API: {0}")]
    Kube(Box<kube::Error>),
    /// No answer in time.
    #[error("the Kubernetes API did not answer in time")]
    Timeout,
    /// The system gives no randomness for a new token.
    #[error("no random numbers for a new token: {0}")]
    Random(String),
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        Self::Kube(Box::new(error))
    }
}

impl Error {
    /// Whether the object changed or went away in between, so that looking again is all that is needed.
    pub fn is_stale(&self) -> bool {
        matches!(self, Self::Kube(e) if matches!(&**e, kube::Error::Api(s) if s.is_conflict() || s.is_not_found()))
    }
}

/// A call in time.
pub async fn bounded<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
    Ok(tokio::time::timeout(times::API_CALL, call).await.map_err(|_| Error::Timeout)??)
}

/// Adds or removes our finalizer, under the version that was read. Whether anything had to be done.
pub async fn set_finalizer<K>(client: &Client, object: &K, wanted: bool) -> Result<bool, Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let mut finalizers = object.finalizers().to_vec();
    if finalizers.iter().any(|f| f == FINALIZER) == wanted {
        return Ok(false);
    }
    finalizers.retain(|f| f != FINALIZER);
    if wanted {
        finalizers.push(FINALIZER.to_owned());
    }
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": object.resource_version()}});
    let api = Api::<K>::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    bounded(api.patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(patch))).await?;
    Ok(true)
}

/// Writes a status whole.
pub async fn write_status<K, S>(client: &Client, object: &K, status: &S) -> Result<(), Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    S: Serialize,
{
    let api = Api::<K>::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        // An object that was deleted and made again under the same name is another one.
        "metadata": {"uid": object.uid()},
        "status": status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    bounded(api.patch_status(&object.name_any(), &params, &Patch::Apply(patch))).await?;
    Ok(())
}

/// A Secret; `None` when there is none.
pub async fn secret(client: &Client, namespace: &str, name: &str) -> Result<Option<Secret>, Error> {
    bounded(Api::<Secret>::namespaced(client.clone(), namespace).get_opt(name)).await
}

/// Makes a Secret. `false`: there is one of that name by now.
pub async fn create_secret(client: &Client, secret: &Secret) -> Result<bool, Error> {
    let api = Api::<Secret>::namespaced(client.clone(), &secret.namespace().unwrap_or_default());
    let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
    match bounded(api.create(&params, secret)).await {
        Ok(_) => Ok(true),
        Err(Error::Kube(e)) if matches!(&*e, kube::Error::Api(s) if s.is_already_exists()) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Applies a Secret whole.
pub async fn apply_secret(client: &Client, secret: &Secret) -> Result<(), Error> {
    let api = Api::<Secret>::namespaced(client.clone(), &secret.namespace().unwrap_or_default());
    let params = PatchParams::apply(FIELD_MANAGER).force();
    bounded(api.patch(&secret.name_any(), &params, &Patch::Apply(secret))).await?;
    Ok(())
}

/// A ConfigMap; `None` when there is none.
pub async fn config_map(client: &Client, namespace: &str, name: &str) -> Result<Option<ConfigMap>, Error> {
    bounded(Api::<ConfigMap>::namespaced(client.clone(), namespace).get_opt(name)).await
}

/// Applies an object, given as JSON.
pub async fn apply<K>(api: &Api<K>, name: &str, object: &serde_json::Value) -> Result<(), Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    let params = PatchParams::apply(FIELD_MANAGER).force();
    bounded(api.patch(name, &params, &Patch::Apply(object))).await?;
    Ok(())
}

/// Has an object deleted, and no other of its name. Success when it is gone already.
pub async fn delete<K>(client: &Client, object: &K) -> Result<(), Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    match delete_if(client, object, Preconditions { uid: object.uid(), resource_version: None }).await {
        Err(error) if error.is_stale() => Ok(()),
        other => other,
    }
}

/// Has an object deleted as it was read: one that was changed since is not, which is a stale error.
pub async fn delete_unchanged<K>(client: &Client, object: &K) -> Result<(), Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    delete_if(
        client,
        object,
        Preconditions { uid: object.uid(), resource_version: object.resource_version() },
    )
    .await
}

async fn delete_if<K>(client: &Client, object: &K, as_read: Preconditions) -> Result<(), Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let api = Api::<K>::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let params = DeleteParams { preconditions: Some(as_read), ..DeleteParams::background() };
    bounded(api.delete(&object.name_any(), &params)).await?;
    Ok(())
}

/// A key of a Secret.
pub fn data<'a>(secret: &'a Secret, key: &str) -> Option<&'a [u8]> {
    secret.data.as_ref()?.get(key).map(|ByteString(bytes)| bytes.as_slice())
}

/// A Secret of an object, with these labels.
pub fn owned_secret(
    owner: OwnerReference,
    namespace: &str,
    name: &str,
    labels: BTreeMap<String, String>,
    data: BTreeMap<String, Vec<u8>>,
) -> Secret {
    let mut secret = Secret::default();
    secret.metadata.name = Some(name.to_owned());
    secret.metadata.namespace = Some(namespace.to_owned());
    secret.metadata.labels = Some(labels);
    secret.metadata.owner_references = Some(vec![owner]);
    secret.data = Some(data.into_iter().map(|(k, v)| (k, ByteString(v))).collect());
    secret.type_ = Some("Opaque".to_owned());
    secret
}

/// The id of the management cluster: the UID of its namespace `kube-system`, which lives as long as it does.
pub async fn manager(client: &Client) -> Result<String, Error> {
    let namespace = bounded(Api::<Namespace>::all(client.clone()).get("kube-system")).await?;
    Ok(namespace.uid().unwrap_or_default())
}
