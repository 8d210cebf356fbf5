//! Calls to the management cluster's API, each with a timeout.

use std::{collections::BTreeMap, fmt::Debug, future::Future};

use async_trait::async_trait;
use k8s_openapi::{
    ByteString,
    api::{
        core::v1::{ConfigMap, Namespace, Secret, Service},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    core::{NamespaceResourceScope, PartialObjectMeta},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{management_api::ManagementApi, times};
use crate::{
    api::{ADOPTS_ANNOTATION, FINALIZER, HostPolicy, LocalCluster, Registry, names::MANAGED_BY},
    plan::{
        failures::WriteError,
        own_registry::OwnRegistry,
        owner::Owner,
        secret::{Existing, Secret as DesiredSecret},
        service::objects::{ApiEndpoints, ApiService, PORT, PORT_NAME, ServiceChange},
    },
};

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

/// Applies the complete status of a HostPolicy, of which only the metadata may be known.
pub async fn write_policy_status<S: Serialize>(
    client: &Client,
    policy: &ObjectMeta,
    status: &S,
) -> Result<(), Error> {
    let patch = json!({
        "apiVersion": HostPolicy::api_version(&()),
        "kind": HostPolicy::kind(&()),
        "metadata": {"uid": policy.uid},
        "status": status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let api = Api::<PartialObjectMeta<HostPolicy>>::all(client.clone());
    let name = policy.name.as_deref().unwrap_or_default();
    bounded(api.patch_status(name, &params, &Patch::Apply(patch))).await?;
    Ok(())
}

/// Returns a Secret; `None` if it does not exist.
pub async fn secret(client: &Client, namespace: &str, name: &str) -> Result<Option<Secret>, Error> {
    bounded(Api::<Secret>::namespaced(client.clone(), namespace).get_opt(name)).await
}

/// Returns a Secret as a value; `None` if it does not exist.
pub async fn existing_secret(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<Existing>, Error> {
    let secret = secret(client, namespace, name).await?;
    Ok(secret.map(|secret| Existing {
        uid: secret.uid().unwrap_or_default(),
        owners: secret.owner_references().iter().map(|owner| owner.uid.clone()).collect(),
        labels: secret.labels().clone(),
        annotations: secret.annotations().clone(),
        data: secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect(),
    }))
}

/// Returns a ConfigMap; `None` if it does not exist.
pub async fn config_map(client: &Client, namespace: &str, name: &str) -> Result<Option<ConfigMap>, Error> {
    bounded(Api::<ConfigMap>::namespaced(client.clone(), namespace).get_opt(name)).await
}

/// Deletes an object if it still has the version that was read; otherwise returns a stale error.
pub async fn delete_unchanged<K>(client: &Client, object: &K) -> Result<(), Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let api = Api::<K>::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let as_read = Preconditions { uid: object.uid(), resource_version: object.resource_version() };
    bounded(api.delete(&object.name_any(), &delete_params(as_read))).await?;
    Ok(())
}

fn delete_params(as_read: Preconditions) -> DeleteParams {
    DeleteParams { preconditions: Some(as_read), ..DeleteParams::background() }
}

/// Returns the value of a key of a Secret.
pub fn data<'a>(secret: &'a Secret, key: &str) -> Option<&'a [u8]> {
    secret.data.as_ref()?.get(key).map(|ByteString(bytes)| bytes.as_slice())
}

/// Returns the ID of the management cluster: the UID of its namespace `kube-system`, which exists as long as the
/// cluster.
pub async fn manager(client: &Client) -> Result<String, Error> {
    let namespace = bounded(Api::<Namespace>::all(client.clone()).get("kube-system")).await?;
    Ok(namespace.uid().unwrap_or_default())
}

#[async_trait]
impl ManagementApi for Client {
    async fn create_secret(&self, secret: &DesiredSecret) -> Result<(), WriteError> {
        let api = Api::<Secret>::namespaced(self.clone(), secret.owner.namespace());
        bounded(api.create(&create_params(), &secret_object(secret))).await.map_err(write_error)?;
        Ok(())
    }

    async fn apply_secret(&self, secret: &DesiredSecret) -> Result<(), WriteError> {
        let api = Api::<Secret>::namespaced(self.clone(), secret.owner.namespace());
        let patch = Patch::Apply(secret_object(secret));
        bounded(api.patch(&secret.name, &apply_params(), &patch)).await.map_err(write_error)?;
        Ok(())
    }

    async fn delete_secret(&self, namespace: &str, name: &str, uid: &str) -> Result<(), WriteError> {
        delete(&Api::<Secret>::namespaced(self.clone(), namespace), name, uid).await
    }

    async fn change_service(&self, change: &ServiceChange) -> Result<(), WriteError> {
        let owner = change.owner();
        let services = || Api::<Service>::namespaced(self.clone(), owner.namespace());
        let slices = || Api::<EndpointSlice>::namespaced(self.clone(), owner.namespace());
        match change {
            ServiceChange::Apply(service) => {
                write(&services(), service.uid.as_deref(), service_object(owner)).await
            }
            ServiceChange::ApplyEndpoints(slice) => {
                write(&slices(), slice.uid.as_deref(), slice_object(slice)).await
            }
            ServiceChange::Delete { uid, .. } => delete(&services(), owner.name(), uid).await,
            ServiceChange::DeleteEndpoints { uid, .. } => delete(&slices(), owner.name(), uid).await,
        }
    }

    async fn apply_registry(&self, registry: &OwnRegistry) -> Result<(), WriteError> {
        let api = Api::<Registry>::namespaced(self.clone(), registry.owner.namespace());
        let mut patch = json!({
            "apiVersion": Registry::api_version(&()),
            "kind": Registry::kind(&()),
            "metadata": {
                "name": registry.name,
                "namespace": registry.owner.namespace(),
                "labels": BTreeMap::from([MANAGED_BY]),
                "ownerReferences": [owner_reference(&registry.owner)],
            },
            "spec": registry.spec,
        });
        if let Some(adopts) = &registry.adopts {
            patch["metadata"]["annotations"] = json!({ADOPTS_ANNOTATION: adopts});
        }
        let patched = bounded(api.patch(&registry.name, &apply_params(), &Patch::Apply(patch))).await;
        patched.map_err(write_error)?;
        Ok(())
    }

    async fn delete_registry(&self, namespace: &str, name: &str, uid: &str) -> Result<(), WriteError> {
        delete(&Api::<Registry>::namespaced(self.clone(), namespace), name, uid).await
    }
}

/// Returns the metadata of an object with the name of its owner.
fn metadata(owner: &Owner, labels: BTreeMap<String, String>) -> Value {
    json!({
        "name": owner.name(),
        "namespace": owner.namespace(),
        "labels": labels,
        "ownerReferences": [owner_reference(owner)],
    })
}

/// Returns a Service without a selector.
fn service_object(owner: &Owner) -> Value {
    json!({
        "metadata": metadata(owner, ApiService::labels()),
        "spec": {
            "type": "ClusterIP",
            "ipFamilies": ["IPv4"],
            "ports": [{"name": PORT_NAME, "port": PORT, "protocol": "TCP"}],
        },
    })
}

fn slice_object(slice: &ApiEndpoints) -> Value {
    let addresses = slice.addresses();
    let endpoints = match addresses.is_empty() {
        true => Vec::new(),
        false => vec![json!({"addresses": addresses, "conditions": {"ready": true}})],
    };
    json!({
        "metadata": metadata(&slice.owner, slice.labels()),
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": PORT_NAME, "port": slice.port(), "protocol": "TCP"}],
    })
}

/// Creates an object, or updates the one with this UID. An apply would also change one that another client has created in
/// the meantime.
async fn write<K>(api: &Api<K>, uid: Option<&str>, mut object: Value) -> Result<(), WriteError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + Debug,
{
    object["apiVersion"] = K::api_version(&()).into();
    object["kind"] = K::kind(&()).into();
    let written = match uid {
        Some(uid) => {
            object["metadata"]["uid"] = uid.into();
            let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            bounded(api.patch(&name, &apply_params(), &Patch::Apply(object))).await
        }
        None => {
            let object = serde_json::from_value(object).map_err(|e| WriteError::Invalid(e.to_string()))?;
            bounded(api.create(&create_params(), &object)).await
        }
    };
    written.map(drop).map_err(|error| match write_error(error) {
        // The API server does not call it a conflict that the one with this UID is gone, and another one has its name.
        WriteError::Invalid(message) if message.contains("metadata.uid") => WriteError::Changed,
        other => other,
    })
}

/// Deletes the object with this UID.
async fn delete<K>(api: &Api<K>, name: &str, uid: &str) -> Result<(), WriteError>
where
    K: Clone + DeserializeOwned + Debug,
{
    let as_read = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    match bounded(api.delete(name, &delete_params(as_read))).await {
        // It is already deleted, or another one has its name.
        Err(error) if error.is_stale() => Ok(()),
        other => other.map(drop).map_err(write_error),
    }
}

fn create_params() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() }
}

fn apply_params() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force()
}

fn write_error(error: Error) -> WriteError {
    match &error {
        Error::Kube(kube) if error.is_stale() => {
            tracing::debug!(%kube, "an object changed in the meantime");
            WriteError::Changed
        }
        Error::Kube(kube) if matches!(&**kube, kube::Error::Api(status) if status.code == 422) => {
            WriteError::Invalid(kube.to_string())
        }
        Error::Kube(_) | Error::Timeout | Error::Random(_) => WriteError::Failed(error.to_string()),
    }
}

/// Returns the reference of an object to the LocalCluster that owns it.
fn owner_reference(owner: &Owner) -> OwnerReference {
    OwnerReference {
        api_version: LocalCluster::api_version(&()).into_owned(),
        kind: LocalCluster::kind(&()).into_owned(),
        name: owner.name().to_owned(),
        uid: owner.uid.clone(),
        controller: Some(true),
        ..OwnerReference::default()
    }
}

fn secret_object(secret: &DesiredSecret) -> Secret {
    let mut object = Secret::default();
    object.metadata.name = Some(secret.name.clone());
    object.metadata.namespace = Some(secret.owner.namespace().to_owned());
    object.metadata.labels = Some(secret.all_labels());
    object.metadata.annotations = Some(secret.annotations.clone()).filter(|all| !all.is_empty());
    object.metadata.owner_references = Some(vec![owner_reference(&secret.owner)]);
    let data = secret.data.iter().map(|(key, value)| (key.clone(), ByteString(value.clone())));
    object.data = Some(data.collect());
    object.type_ = Some("Opaque".to_owned());
    object
}
