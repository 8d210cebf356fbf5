//! References from LocalClusters to Registries.

use super::{LocalCluster, Registry, names};

/// Reports whether the spec of the cluster references the registry, regardless of whether the registry allows it.
pub fn refers(cluster: &LocalCluster, registry: &Registry) -> bool {
    let own = cluster.metadata.namespace.as_deref().unwrap_or_default();
    let namespace = registry.metadata.namespace.as_deref().unwrap_or_default();
    let name = registry.metadata.name.as_deref().unwrap_or_default();
    let registries = &cluster.spec.registries;
    let used = registries.used.iter().any(|r| {
        let of = if r.namespace.is_empty() { own } else { r.namespace.as_str() };
        r.name == name && of == namespace
    });
    used || (registries.create.is_some() && own == namespace && is_own(cluster, registry))
}

/// Reports whether the registry allows clusters in this namespace to use it.
pub fn allows(registry: &Registry, namespace: &str) -> bool {
    registry.metadata.namespace.as_deref() == Some(namespace)
        || registry.spec.allowed_namespaces.iter().any(|a| a == "*" || a == namespace)
}

/// Reports whether the cluster uses the registry, which must then be deleted after the cluster.
///
/// A cluster that is being deleted does not block the deletion of its own registry: in a foreground deletion the
/// cluster waits for its dependents, and both would wait for each other indefinitely.
pub fn uses(cluster: &LocalCluster, registry: &Registry) -> bool {
    let goes = cluster.metadata.deletion_timestamp.is_some();
    refers(cluster, registry)
        && allows(registry, cluster.metadata.namespace.as_deref().unwrap_or_default())
        && !(goes && is_owned(cluster, registry))
}

/// Reports whether the cluster created the registry by `registries.create`.
fn is_own(cluster: &LocalCluster, registry: &Registry) -> bool {
    let name = cluster.metadata.name.as_deref().map(names::own_registry);
    name.is_some() && name == registry.metadata.name && is_owned(cluster, registry)
}

/// Reports whether the registry has an owner reference to the cluster.
pub fn is_owned(cluster: &LocalCluster, registry: &Registry) -> bool {
    let owners = registry.metadata.owner_references.iter().flatten();
    cluster.metadata.uid.as_ref().is_some_and(|uid| owners.into_iter().any(|o| o.uid == *uid))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};

    use super::*;
    use crate::api::{LocalClusterSpec, RegistrySpec, local_cluster::RegistryRef};

    fn cluster(namespace: &str, used: &[(&str, &str)]) -> LocalCluster {
        let mut cluster = LocalCluster::new("dev", LocalClusterSpec::default());
        cluster.metadata.namespace = Some(namespace.into());
        cluster.metadata.uid = Some("cluster".into());
        cluster.spec.registries.used = used
            .iter()
            .map(|(namespace, name)| RegistryRef { name: (*name).into(), namespace: (*namespace).into() })
            .collect();
        cluster
    }

    fn registry(namespace: &str, name: &str, allowed: &[&str]) -> Registry {
        let mut registry = Registry::new(name, RegistrySpec::default());
        registry.metadata.namespace = Some(namespace.into());
        registry.spec.allowed_namespaces = allowed.iter().map(|a| (*a).into()).collect();
        registry
    }

    fn owned(mut registry: Registry) -> Registry {
        let owner = OwnerReference { uid: "cluster".into(), ..OwnerReference::default() };
        registry.metadata.owner_references = Some(vec![owner]);
        registry
    }

    #[test]
    fn a_namespace_is_the_own_one_unless_it_is_named() {
        let here = registry("a", "images", &[]);
        assert!(uses(&cluster("a", &[("", "images")]), &here));
        assert!(uses(&cluster("a", &[("a", "images")]), &here));
        assert!(!uses(&cluster("b", &[("", "images")]), &here));
        assert!(!uses(&cluster("a", &[("b", "images")]), &here));
        assert!(!uses(&cluster("a", &[("", "others")]), &here));
    }

    #[test]
    fn another_namespace_needs_consent() {
        let from_b = cluster("b", &[("a", "images")]);
        for (allowed, used) in [(&[][..], false), (&["c"], false), (&["c", "b"], true), (&["*"], true)] {
            let registry = registry("a", "images", allowed);
            assert!(refers(&from_b, &registry));
            assert_eq!(uses(&from_b, &registry), used, "{allowed:?}");
        }
    }

    #[test]
    fn a_cluster_that_goes_lets_its_own_registry_go() {
        let mut owner = cluster("a", &[]);
        let own = owned(registry("a", "dev-registry", &[]));
        assert!(!uses(&owner, &own));
        owner.spec.registries.create = Some(RegistrySpec::default());
        assert!(uses(&owner, &own));
        assert!(!uses(&owner, &registry("a", "dev-registry", &[])), "an unrelated registry with that name");
        assert!(!uses(&owner, &owned(registry("a", "other", &[]))));

        let mut user = cluster("a", &[("", "images")]);
        for goes in [&mut owner, &mut user] {
            goes.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
        }
        assert!(!uses(&owner, &own));
        assert!(uses(&user, &registry("a", "images", &[])), "it is used until its network is gone");
    }

    #[test]
    fn a_cluster_with_a_long_name_uses_its_own_registry_too() {
        let name = "a".repeat(63);
        let mut cluster = cluster("default", &[]);
        cluster.metadata.name = Some(name.clone());
        cluster.spec.registries.create = Some(RegistrySpec::default());
        let own = owned(registry("default", &names::own_registry(&name), &[]));
        assert!(uses(&cluster, &own));
    }
}
