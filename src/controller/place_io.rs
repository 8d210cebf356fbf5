//! Calls to the management cluster's API about placeholders and Nodes, each with a timeout.

use std::fmt::Debug;

use k8s_openapi::api::{
    core::v1::{Node, Pod},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions},
    core::{ApiResource, NamespaceResourceScope, PartialObjectMeta},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::kube_io::{Error, FIELD_MANAGER, bounded};
use crate::plan::placement::pod::RUNS;

/// Field manager of what the role `controller` applies, so that the agents and it do not write the same fields.
const CONTROLLER: &str = "localcluster-controller";

/// Reads an object by the API itself.
pub async fn read<K>(client: &Client, namespace: &str, name: &str) -> Result<Option<K>, Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    bounded(Api::<K>::namespaced(client.clone(), namespace).get_opt(name)).await
}

/// Applies the part of a status that the role `controller` writes.
pub async fn write_place<K>(client: &Client, object: &K, status: Value) -> Result<(), Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    apply_status(client, object, (CONTROLLER, json!({"uid": object.uid()})), status).await
}

/// Applies the part of a status that an agent writes otherwise, if the object still has the version that was read.
pub async fn write_unchanged_status<K, S>(client: &Client, object: &K, status: &S) -> Result<(), Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    S: Serialize,
{
    let as_read = json!({"uid": object.uid(), "resourceVersion": object.resource_version()});
    apply_status(client, object, (FIELD_MANAGER, as_read), json!(status)).await
}

async fn apply_status<K>(
    client: &Client,
    object: &K,
    (manager, metadata): (&str, Value),
    status: Value,
) -> Result<(), Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let api = Api::<K>::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": metadata,
        "status": status,
    });
    let params = PatchParams::apply(manager).force();
    bounded(api.patch_status(&object.name_any(), &params, &Patch::Apply(patch))).await?;
    Ok(())
}

/// Returns the image of the first container of a Pod.
pub async fn image_of_pod(client: &Client, namespace: &str, name: &str) -> Result<Option<String>, Error> {
    let pod = bounded(Api::<Pod>::namespaced(client.clone(), namespace).get(name)).await?;
    Ok(pod.spec.and_then(|spec| spec.containers.into_iter().next()?.image))
}

/// Patches a Node.
pub async fn patch_node(client: &Client, name: &str, patch: &Value) -> Result<(), Error> {
    let api = Api::<PartialObjectMeta<Node>>::all(client.clone());
    bounded(api.patch(name, &PatchParams::default(), &Patch::Merge(patch))).await?;
    Ok(())
}

/// Creates a placeholder, as its spec says with fields that this version of the operator does not know. Returns the status
/// code and the message of a refusal.
pub async fn create_placeholder(
    client: &Client,
    namespace: &str,
    pod: Value,
) -> Result<Result<(), (u16, String)>, Error> {
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<Pod>(&()));
    let pod: DynamicObject = serde_json::from_value(pod).map_err(kube::Error::SerdeError)?;
    let params = PostParams { field_manager: Some(CONTROLLER.into()), ..PostParams::default() };
    match bounded(api.create(&params, &pod)).await {
        Ok(_) => Ok(Ok(())),
        Err(Error::Kube(error)) => match *error {
            // A Pod of that name: the watch tells whose.
            kube::Error::Api(status) if status.code == 409 => {
                let message = "a Pod of that name exists that is not the operator's; rename or delete it";
                match bounded(api.get_opt(&pod.name_any())).await {
                    Ok(Some(found))
                        if found.labels().contains_key(crate::plan::placement::pod::PLACEHOLDER) =>
                    {
                        Ok(Ok(()))
                    }
                    Ok(Some(_)) => Ok(Err((409, message.into()))),
                    Ok(None) => Ok(Ok(())),
                    Err(error) => Err(error),
                }
            }
            kube::Error::Api(status) if matches!(status.code, 400 | 403 | 404 | 422) => {
                Ok(Err((status.code, status.message.clone())))
            }
            error => Err(error.into()),
        },
        Err(error) => Err(error),
    }
}

/// Deletes a placeholder, which its agent notices.
pub async fn delete_placeholder(client: &Client, pod: &Pod) -> Result<(), Error> {
    delete(client, pod, DeleteParams::background()).await
}

/// Removes the finalizer of a placeholder.
pub async fn release_placeholder(client: &Client, pod: &Pod) -> Result<(), Error> {
    let left: Vec<&String> = pod.finalizers().iter().filter(|finalizer| *finalizer != RUNS).collect();
    // None is added to a Pod that is being deleted.
    let patch = json!({"metadata": {"finalizers": left, "uid": pod.uid()}});
    let api = Api::<Pod>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    settled(bounded(api.patch(&pod.name_any(), &PatchParams::default(), &Patch::Merge(patch))).await)
}

/// Creates or updates the budget of a placeholder.
pub async fn apply_budget(client: &Client, namespace: &str, budget: Value) -> Result<(), Error> {
    let api: Api<PodDisruptionBudget> = Api::namespaced(client.clone(), namespace);
    let name = budget["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let params = PatchParams::apply(CONTROLLER).force();
    bounded(api.patch(&name, &params, &Patch::Apply(budget))).await?;
    Ok(())
}

/// Deletes the budget of a placeholder.
pub async fn delete_budget(client: &Client, budget: &PodDisruptionBudget) -> Result<(), Error> {
    delete(client, budget, DeleteParams::background()).await
}

async fn delete<K>(client: &Client, object: &K, params: DeleteParams) -> Result<(), Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let api = Api::<K>::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let as_read = Preconditions { uid: object.uid(), resource_version: None };
    let params = DeleteParams { preconditions: Some(as_read), ..params };
    settled(bounded(api.delete(&object.name_any(), &params)).await)
}

/// Returns the success of a call whose object may be gone, or another one of its name.
fn settled<T>(called: Result<T, Error>) -> Result<(), Error> {
    match called {
        Err(error) if error.is_stale() => Ok(()),
        other => other.map(drop),
    }
}
