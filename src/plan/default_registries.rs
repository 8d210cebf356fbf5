//! Registries that a HostPolicy names for all clusters of its namespaces, `defaults.registries`. Nobody who writes a spec
//! chose them, so none of them may hold up a cluster, or restart one that runs.

use super::validate::{RegistryKey, Valid};
use crate::api::{LocalClusterStatus, Registry, host_policy::NamedRegistry, uses::allows};

/// Whether a cluster uses a Registry that its spec does not name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// It does.
    Yes,
    /// No longer: it is being deleted.
    No,
    /// It cannot, for this reason.
    Never(String),
}

/// Returns whether the clusters of a namespace may use a Registry that only the HostPolicy names.
pub fn judge(registry: &Registry, policy: &str, namespace: &str) -> Use {
    let never = |why: &str| Use::Never(unused(registry, policy, why));
    if registry.metadata.deletion_timestamp.is_some() {
        return Use::No;
    }
    if !allows(registry, namespace) {
        return never(&format!("its allowedNamespaces do not contain {namespace}; add {namespace} or *"));
    }
    if registry.spec.auth.is_some() {
        // Nodes read credentials only when they start, so they would be replaced for each change.
        return never("it requires a login; name it in spec.registries.use of the clusters that use it");
    }
    Use::Yes
}

/// Reports whether the Registry has run, on this host if there are several.
pub fn has_run(registry: &Registry, host: Option<&str>) -> bool {
    registry.status.as_ref().is_some_and(|status| {
        status.host_port.is_some() && host.is_none_or(|host| status.docker_host.as_deref() == Some(host))
    })
}

/// Returns the warning that a cluster does not use such a Registry.
pub fn unused(registry: &Registry, policy: &str, why: &str) -> String {
    let namespace = registry.metadata.namespace.as_deref().unwrap_or_default();
    let name = registry.metadata.name.as_deref().unwrap_or_default();
    format!(
        "the cluster does not use the Registry {namespace}/{name}, which the HostPolicy {policy} names in \
         defaults.registries: {why}"
    )
}

/// Returns those of the policy that the spec does not name.
pub fn others(defaults: &[NamedRegistry], valid: &Valid) -> Vec<RegistryKey> {
    let key =
        |named: &NamedRegistry| RegistryKey { namespace: named.namespace.clone(), name: named.name.clone() };
    defaults.iter().map(key).filter(|key| !valid.registries.used.contains(key)).collect()
}

/// Reports whether the defaults contain the Registry.
pub fn contain(defaults: &[NamedRegistry], registry: &Registry) -> bool {
    let (namespace, name) = (registry.metadata.namespace.as_deref(), registry.metadata.name.as_deref());
    defaults.iter().any(|key| Some(&*key.namespace) == namespace && Some(&*key.name) == name)
}

/// Returns those that the cluster had according to its status, as `namespace/name`: they stay while the policy is unknown.
pub fn had(status: &LocalClusterStatus, namespace: &str) -> Vec<String> {
    let had = status.registries.iter().filter(|used| used.by_default);
    had.map(|used| object(&used.name, namespace)).collect()
}

/// Returns a Registry as `namespace/name`, which a status in this namespace calls so.
pub fn object(name: &str, namespace: &str) -> String {
    if name.contains('/') { name.to_owned() } else { format!("{namespace}/{name}") }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::{
        api::{RegistrySpec, RegistryStatus, local_cluster::UsedRegistryStatus, registry::AuthSpec},
        plan::validate,
    };

    fn cache() -> Registry {
        let mut cache = Registry::new("hub", RegistrySpec::default());
        cache.metadata.namespace = Some("infra".into());
        cache.spec.allowed_namespaces = vec!["team-a".into()];
        cache.status = Some(RegistryStatus {
            host_port: Some(5000),
            cluster: Some("k3d-infra-hub:5000".into()),
            docker_host: Some("node-1".into()),
            ..RegistryStatus::default()
        });
        cache
    }

    #[test]
    fn one_that_allows_the_namespace_without_a_login_is_used() {
        let with = |change: fn(&mut Registry), namespace: &str| {
            let mut registry = cache();
            change(&mut registry);
            judge(&registry, "teams", namespace)
        };
        assert_eq!(with(|_| {}, "team-a"), Use::Yes);
        assert_eq!(with(|_| {}, "infra"), Use::Yes, "its own namespace");
        let goes = |r: &mut Registry| {
            r.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
        };
        assert_eq!(with(goes, "team-a"), Use::No);
        let told = |used: Use| match used {
            Use::Never(why) => why,
            other => panic!("{other:?}"),
        };
        let why = told(with(|_| {}, "team-b"));
        assert!(why.contains("infra/hub") && why.contains("HostPolicy teams"), "{why}");
        assert!(why.ends_with("add team-b or *"), "{why}");
        let login = |r: &mut Registry| {
            r.spec.auth = Some(AuthSpec { htpasswd_secret: "users".into(), client_secret: None });
        };
        assert!(told(with(login, "team-a")).contains("requires a login"));
    }

    #[test]
    fn one_of_another_host_has_not_run_here() {
        assert!(has_run(&cache(), None) && has_run(&cache(), Some("node-1")));
        assert!(!has_run(&cache(), Some("node-2")));
        assert!(!has_run(&Registry::new("new", RegistrySpec::default()), None));
    }

    #[test]
    fn what_the_spec_names_is_no_default() {
        let key =
            |namespace: &str, name: &str| NamedRegistry { namespace: namespace.into(), name: name.into() };
        let defaults = [key("infra", "hub"), key("infra", "quay")];
        let spec = serde_saphyr::from_str("registries: {use: [{name: quay, namespace: infra}]}").unwrap();
        let valid = validate::local_cluster("team-a", "dev", &spec).unwrap();
        let left = RegistryKey { namespace: "infra".into(), name: "hub".into() };
        assert_eq!(others(&defaults, &valid), [left]);
        assert!(contain(&defaults, &cache()) && !contain(&defaults[1..], &cache()));
        assert!(!contain(&[key("team-a", "hub")], &cache()));
    }

    #[test]
    fn what_a_cluster_had_is_in_its_status() {
        let used = |name: &str, by_default| UsedRegistryStatus {
            name: name.into(),
            by_default,
            ..UsedRegistryStatus::default()
        };
        let registries = vec![used("infra/hub", true), used("own", false), used("quay", true)];
        let status = LocalClusterStatus { registries, ..LocalClusterStatus::default() };
        assert_eq!(had(&status, "team-a"), ["infra/hub", "team-a/quay"]);
    }
}
