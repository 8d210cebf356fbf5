//! The Registry of a LocalCluster with `spec.registries.create`.

use kube::{Api, Resource, ResourceExt};
use serde_json::json;

use super::{
    context::Context,
    kube_io::{self, Error},
    report, resolve,
};
use crate::{
    api::{LocalCluster, Registry, condition::ConditionType, names, reason::Reason, uses::is_owned},
    plan::steps::Plan,
};

/// Creates, updates or deletes the cluster's own Registry according to the spec. Its owner reference deletes it with
/// the cluster.
pub async fn keep(ctx: &Context, cluster: &LocalCluster, plan: &mut Plan) -> Result<(), Error> {
    let namespace = cluster.namespace().unwrap_or_default();
    let name = names::own_registry(&cluster.name_any());
    let existing = ctx.registry(&namespace, &name);
    let ours = existing.as_ref().is_some_and(|r| is_owned(cluster, r));
    let Some(spec) = &cluster.spec.registries.create else {
        if let Some(registry) = existing.filter(|r| ours && r.metadata.deletion_timestamp.is_none()) {
            kube_io::delete(&ctx.client, &registry).await?;
            report::event(
                ctx,
                &cluster.object_ref(&()),
                "DeletedRegistry",
                &format!("Deleted Registry {name}: spec.registries.create was removed"),
            );
        }
        return Ok(());
    };
    if let Some(registry) = &existing {
        if !ours {
            let message = format!(
                "the Registry {name} exists and is not this cluster's own: name it in spec.registries.use instead, or \
                 rename one of the two"
            );
            plan.stalls(ConditionType::ResolvedRefs, Reason::NameConflict, message);
            return Ok(());
        }
        if registry.spec == *spec {
            return Ok(());
        }
    }
    let mut labels = serde_json::Map::new();
    labels.insert(resolve::MANAGED_BY.0.to_owned(), resolve::MANAGED_BY.1.into());
    let object = json!({
        "apiVersion": Registry::api_version(&()),
        "kind": Registry::kind(&()),
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels,
            "ownerReferences": [cluster.controller_owner_ref(&())],
        },
        "spec": spec,
    });
    let api = Api::<Registry>::namespaced(ctx.client.clone(), &namespace);
    match kube_io::apply(&api, &name, &object).await {
        Ok(()) => {
            let why = if existing.is_some() { "spec.registries.create changed" } else { "it did not exist" };
            let note = format!("Applied Registry {name}: {why}");
            report::event(ctx, &cluster.object_ref(&()), "AppliedRegistry", &note);
            Ok(())
        }
        // The API server's message names the cause, such as an immutable field.
        Err(Error::Kube(e)) if matches!(&*e, kube::Error::Api(s) if s.code == 422) => {
            let message = format!("spec.registries.create: {e}");
            plan.stalls(ConditionType::Accepted, Reason::InvalidSpec, message);
            Ok(())
        }
        Err(error) => Err(error),
    }
}
