//! Calls to the management cluster's API, each with a timeout.

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

/// Field manager of everything that the operator applies. A different name would leave the old one as an owner.
pub const FIELD_MANAGER: &str = "localcluster-operator";

/// Error of a call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Error response of the API, or a failed connection.
    #[error("the Kubernetes API: {0}")]
    Kube(Box<kube::Error>),
    /// No response within the timeout.
    #[error("the Kubernetes API did not answer in time")]
    Timeout,
    /// The system provides no random numbers for a new token.
    #[error("no random numbers for a new token: {0}")]
    Random(String),
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        Self::Kube(Box::new(error))
    }
}

impl Error {
    /// Reports whether the object was changed or deleted after it was read, so that another reconciliation is
    /// sufficient.
    pub fn is_stale(&self) -> bool {
        matches!(self, Self::Kube(e) if matches!(&**e, kube::Error::Api(s) if s.is_conflict() || s.is_not_found()))
    }
}

/// Awaits a call with a timeout.
pub async fn bounded<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
    Ok(tokio::time::timeout(times::API_CALL, call).await.map_err(|_| Error::Timeout)??)
}

/// Adds or removes the operator's finalizer if the object still has the version that was read. Reports whether anything
/// changed.
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

/// Applies the complete status.
pub async fn write_status<K, S>(client: &Client, object: &K, status: &S) -> Result<(), Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    S: Serialize,
{
    let api = Api::<K>::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        // The UID protects an object that was deleted and created again under the same name.
        "metadata": {"uid": object.uid()},
        "status": status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    bounded(api.patch_status(&object.name_any(), &params, &Patch::Apply(patch))).await?;
    Ok(())
}

/// Returns a Secret; `None` if it does not exist.
pub async fn secret(client: &Client, namespace: &str, name: &str) -> Result<Option<Secret>, Error> {
    bounded(Api::<Secret>::namespaced(client.clone(), namespace).get_opt(name)).await
}

/// Creates a Secret. Returns `false` if one with the same name exists.
pub async fn create_secret(client: &Client, secret: &Secret) -> Result<bool, Error> {
    let api = Api::<Secret>::namespaced(client.clone(), &secret.namespace().unwrap_or_default());
    let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
    match bounded(api.create(&params, secret)).await {
        Ok(_) => Ok(true),
        Err(Error::Kube(e)) if matches!(&*e, kube::Error::Api(s) if s.is_already_exists()) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Applies a complete Secret.
pub async fn apply_secret(client: &Client, secret: &Secret) -> Result<(), Error> {
    let api = Api::<Secret>::namespaced(client.clone(), &secret.namespace().unwrap_or_default());
    let params = PatchParams::apply(FIELD_MANAGER).force();
    bounded(api.patch(&secret.name_any(), &params, &Patch::Apply(secret))).await?;
    Ok(())
}

/// Returns a ConfigMap; `None` if it does not exist.
pub async fn config_map(client: &Client, namespace: &str, name: &str) -> Result<Option<ConfigMap>, Error> {
    bounded(Api::<ConfigMap>::namespaced(client.clone(), namespace).get_opt(name)).await
}

/// Applies an object that is given as JSON.
pub async fn apply<K>(api: &Api<K>, name: &str, object: &serde_json::Value) -> Result<(), Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    let params = PatchParams::apply(FIELD_MANAGER).force();
    bounded(api.patch(name, &params, &Patch::Apply(object))).await?;
    Ok(())
}

/// Deletes an object with this UID. Succeeds if it is already deleted.
pub async fn delete<K>(client: &Client, object: &K) -> Result<(), Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    match delete_if(client, object, Preconditions { uid: object.uid(), resource_version: None }).await {
        Err(error) if error.is_stale() => Ok(()),
        other => other,
    }
}

/// Deletes an object if it still has the version that was read; otherwise returns a stale error.
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

/// Returns the value of a key of a Secret.
pub fn data<'a>(secret: &'a Secret, key: &str) -> Option<&'a [u8]> {
    secret.data.as_ref()?.get(key).map(|ByteString(bytes)| bytes.as_slice())
}

/// Returns a Secret with these labels and this owner.
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

/// Returns the ID of the management cluster: the UID of its namespace `kube-system`, which exists as long as the
/// cluster.
pub async fn manager(client: &Client) -> Result<String, Error> {
    let namespace = bounded(Api::<Namespace>::all(client.clone()).get("kube-system")).await?;
    Ok(namespace.uid().unwrap_or_default())
}
