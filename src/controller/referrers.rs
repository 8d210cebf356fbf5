//! Objects that reference a Secret or a ConfigMap, which are reconciled when it changes.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{ResourceExt, core::PartialObjectMeta, runtime::reflector::ObjectRef};

use super::{
    context::{ClusterGuard, Context, RegistryGuard},
    references,
};
use crate::api::{LocalCluster, Registry};

/// Returns the LocalClusters that a Secret belongs to, or that reference it themselves or through a Registry.
pub fn users_of_secret(ctx: &Context, secret: &PartialObjectMeta<Secret>) -> Vec<ObjectRef<ClusterGuard>> {
    let (namespace, name) = (secret.namespace(), secret.name_any());
    let registries = ctx.registries.state();
    let through: Vec<&Registry> =
        registries.iter().filter_map(|r| r.0.as_ref().ok()).filter(|r| has_secret(r, secret)).collect();
    clusters_that(ctx, |cluster| {
        let own = cluster.name_any();
        let itself = cluster.namespace() == namespace
            && ([format!("{own}-kubeconfig"), format!("{own}-token")].contains(&name)
                || references::secrets(&cluster.spec).contains(&name.as_str()));
        itself || through.iter().any(|registry| ctx.refers(cluster, registry))
    })
}

/// Returns the LocalClusters that reference a ConfigMap.
pub fn users_of_config_map(
    ctx: &Context,
    map: &PartialObjectMeta<ConfigMap>,
) -> Vec<ObjectRef<ClusterGuard>> {
    let (namespace, name) = (map.namespace(), map.name_any());
    clusters_that(ctx, |c| {
        c.namespace() == namespace && references::config_maps(&c.spec).contains(&name.as_str())
    })
}

fn clusters_that(ctx: &Context, uses: impl Fn(&LocalCluster) -> bool) -> Vec<ObjectRef<ClusterGuard>> {
    let clusters = ctx.clusters.state();
    let used = clusters.iter().filter(|c| c.0.as_ref().is_ok_and(&uses));
    used.map(|c| ObjectRef::from_obj(&**c)).collect()
}

/// Returns the Registries that reference a Secret.
pub fn registries_of_secret(
    ctx: &Context,
    secret: &PartialObjectMeta<Secret>,
) -> Vec<ObjectRef<RegistryGuard>> {
    let registries = ctx.registries.state();
    let used = registries.iter().filter(|r| r.0.as_ref().is_ok_and(|r| has_secret(r, secret)));
    used.map(|r| ObjectRef::from_obj(&**r)).collect()
}

fn has_secret(registry: &Registry, secret: &PartialObjectMeta<Secret>) -> bool {
    let name = secret.name_any();
    registry.namespace() == secret.namespace() && registry.spec.secrets().any(|s| s == name)
}
