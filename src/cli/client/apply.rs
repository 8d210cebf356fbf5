//! Writes to the management cluster.

use kube::{
    Api, Resource,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{FIELD_MANAGER, management::Management, spec::Objects};
use crate::{
    api::{LocalCluster, Registry, local_cluster::ClusterState},
    cli::Result,
};

/// Applies objects, server-side.
pub(super) async fn all(management: &Management, objects: &Objects) -> Result {
    for object in objects.all() {
        one(management, object).await?;
    }
    Ok(())
}

/// Applies an object, server-side.
pub(super) async fn one(management: &Management, object: &Value) -> Result {
    let mut object = object.clone();
    let own = object["metadata"]["namespace"].as_str();
    let namespace = own.unwrap_or(&management.namespace).to_owned();
    object["metadata"]["namespace"] = namespace.as_str().into();
    let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
    let resource = if kind == "Registry" {
        ApiResource::erase::<Registry>(&())
    } else {
        ApiResource::erase::<LocalCluster>(&())
    };
    let api: Api<DynamicObject> = Api::namespaced_with(management.client(), &namespace, &resource);
    let params = PatchParams::apply(FIELD_MANAGER).validation_strict();
    let applied = api.patch(name, &params, &Patch::Apply(&object)).await;
    applied.map_err(|error| management.told(&format!("cannot apply the {kind} {name}"), &error))?;
    eprintln!("{kind} {name} applied in the namespace {namespace}");
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Sets the desired state of a cluster, and leaves the other fields to those who manage them.
pub(super) async fn state(management: &Management, name: &str, state: ClusterState) -> Result {
    change(management, name, &json!({"spec": {"state": state}})).await
}

/// Merges a change into a cluster.
pub(super) async fn change(management: &Management, name: &str, patch: &Value) -> Result {
    management.tell(&format!("patch {} {name} --type=merge -p '{patch}'", LocalCluster::plural(&())));
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    let patched = management.api::<LocalCluster>().patch(name, &params, &Patch::Merge(patch)).await;
    match patched {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status))
            if status.is_not_found() && !status.message.contains("page not found") =>
        {
            Err(management.missing(name))
        }
        Err(error) => Err(management.told(&format!("cannot change the LocalCluster {name}"), &error)),
    }
}
