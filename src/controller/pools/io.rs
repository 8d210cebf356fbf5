//! Writes about pools and claims, each with a timeout.

use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    api::{LocalCluster, LocalClusterClaim, LocalClusterClaimStatus},
    controller::kube_io::{Error, FIELD_MANAGER, bounded},
};

fn api<K>(client: &Client, object: &impl ResourceExt) -> Api<K>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced(client.clone(), &object.namespace().unwrap_or_default())
}

/// Creates a LocalCluster. Fails with a stale error if it exists.
pub async fn create(client: &Client, cluster: &LocalCluster) -> Result<(), Error> {
    let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
    bounded(api::<LocalCluster>(client, cluster).create(&params, cluster)).await?;
    Ok(())
}

/// Patches a LocalCluster, and returns what it is then. The patch says which version it is for.
pub async fn patch(client: &Client, cluster: &LocalCluster, patch: &Value) -> Result<LocalCluster, Error> {
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    bounded(api::<LocalCluster>(client, cluster).patch(&cluster.name_any(), &params, &Patch::Merge(patch)))
        .await
}

/// Applies the complete status of a claim if it still has the version that was read, and returns what it is then.
pub async fn write_claim(
    client: &Client,
    claim: &LocalClusterClaim,
    status: &LocalClusterClaimStatus,
) -> Result<LocalClusterClaim, Error> {
    let patch = json!({
        "apiVersion": <LocalClusterClaim as kube::Resource>::api_version(&()),
        "kind": <LocalClusterClaim as kube::Resource>::kind(&()),
        "metadata": {"uid": claim.uid(), "resourceVersion": claim.resource_version()},
        "status": status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    bounded(api::<LocalClusterClaim>(client, claim).patch_status(
        &claim.name_any(),
        &params,
        &Patch::Apply(patch),
    ))
    .await
}

/// Returns why the API server refuses a write, if it does for what the write says.
pub fn refusal(error: &Error) -> Option<String> {
    let Error::Kube(error) = error else { return None };
    let kube::Error::Api(status) = &**error else { return None };
    matches!(status.code, 400 | 403 | 422).then(|| status.message.clone())
}
