//! Names of an object on the Docker host. A name never changes: objects that an earlier operator named by another
//! rule keep their names. The name is read from the labels of existing resources, or from the status if there are
//! none.

use std::collections::{BTreeMap, BTreeSet};

use super::{observed::Host, owner::Owner, registry::volume::is_retained};
use crate::{
    api::{
        LocalClusterStatus,
        names::{self, VOLUME_OF},
    },
    docker::engine::Volume,
};

/// Returns the existing name of a cluster; `None` if nothing of it exists or existed.
pub fn cluster(owner: &Owner, observed: &Host, previous: &LocalClusterStatus) -> Option<String> {
    let label = |labels: &BTreeMap<String, String>| {
        owner.owns(labels).then(|| labels.get(names::CLUSTER).cloned()).flatten()
    };
    let containers = observed.containers.iter().map(|c| &c.labels);
    let networks = observed.networks.iter().map(|n| &n.labels);
    let volumes = observed.volumes.iter().map(|v| &v.labels);
    let reported = || previous.network.as_ref()?.name.strip_prefix("k3d-").map(str::to_owned);
    containers.chain(networks).chain(volumes).find_map(label).or_else(reported)
}

/// Returns the host name of the Registry with these owner labels: the one in its spec, the existing one, or a new
/// one. `reported` is its `status.cluster`, and `living` contains the UIDs of all Registries.
pub fn registry(
    owner: &Owner,
    explicit: Option<&str>,
    reported: Option<&str>,
    observed: &Host,
    living: &BTreeSet<String>,
) -> String {
    if let Some(name) = explicit {
        return name.to_owned();
    }
    let (namespace, name) = owner.object.split_once('/').unwrap_or_default();
    let fresh = names::registry(namespace, name, None);
    let role = |labels: &BTreeMap<String, String>| labels.get(names::ROLE).is_some_and(|r| r == "registry");
    let container = observed.containers.iter().find(|c| owner.owns(&c.labels) && role(&c.labels));
    let volume = || {
        let own = observed.volumes.iter().find(|v| owner.owns(&v.labels) && v.labels.contains_key(VOLUME_OF));
        own.map(|v| v.name.clone())
    };
    let status = || reported.and_then(|address| Some(address.rsplit_once(':')?.0.to_owned()));
    // An earlier object with the same name may have left its images under its own name.
    let retained = || {
        let its = |v: &&Volume| {
            v.labels.get(names::OWNER) == Some(&owner.object)
                && v.labels.get(VOLUME_OF) == Some(&v.name)
                && is_retained(v, owner, &v.name, living)
        };
        let mut all: Vec<_> = observed.volumes.iter().filter(its).map(|v| v.name.clone()).collect();
        all.sort_by_key(|name| (*name != fresh, name.clone()));
        all.into_iter().next()
    };
    container.map(|c| c.name.clone()).or_else(volume).or_else(status).or_else(retained).unwrap_or(fresh)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::local_cluster::NetworkStatus,
        docker::engine::{Container, Network},
    };

    fn owner() -> Owner {
        Owner { uid: "u".into(), manager: "m".into(), object: "team-a/images".into() }
    }

    fn labels(owner: &Owner, more: &[(&str, &str)]) -> BTreeMap<String, String> {
        let more = more.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        owner.labels().into_iter().chain(more).collect()
    }

    #[test]
    fn a_cluster_keeps_the_name_that_anything_of_it_has() {
        let named = |owner: &Owner, name: &str| labels(owner, &[(names::CLUSTER, name)]);
        let other = Owner { uid: "other".into(), ..owner() };
        let container = |labels| Container { labels, ..Container::default() };
        let foreign = container(named(&other, "foreign"));
        let status = LocalClusterStatus::default();
        let mut observed = Host { containers: vec![foreign], ..Host::default() };
        assert_eq!(cluster(&owner(), &observed, &status), None);
        let told = NetworkStatus { name: "k3d-team-a-dev".into(), ..NetworkStatus::default() };
        let status = LocalClusterStatus { network: Some(told), ..status };
        assert_eq!(cluster(&owner(), &observed, &status).as_deref(), Some("team-a-dev"));
        let status = LocalClusterStatus::default();
        observed.volumes = vec![Volume { labels: named(&owner(), "by-volume"), ..Volume::default() }];
        assert_eq!(cluster(&owner(), &observed, &status).as_deref(), Some("by-volume"));
        observed.networks = vec![Network { labels: named(&owner(), "by-network"), ..Network::default() }];
        assert_eq!(cluster(&owner(), &observed, &status).as_deref(), Some("by-network"));
        // What was made for a moment has no such label.
        observed.containers.push(container(labels(&owner(), &[])));
        observed.containers.push(container(named(&owner(), "by-container")));
        assert_eq!(cluster(&owner(), &observed, &status).as_deref(), Some("by-container"));
    }

    #[test]
    fn a_registry_keeps_the_name_that_anything_of_it_has() {
        let none = BTreeSet::new();
        let called = |told: Option<&str>, observed: &Host, living: &BTreeSet<String>| {
            registry(&owner(), None, told, observed, living)
        };
        let fresh = names::registry("team-a", "images", None);
        let mut observed = Host::default();
        assert_eq!(called(None, &observed, &none), fresh);

        let before = Owner { uid: "before".into(), ..owner() };
        let volume = |owner: &Owner, name: &str| Volume {
            name: name.into(),
            labels: labels(owner, &[(VOLUME_OF, name)]),
        };
        observed.volumes = vec![volume(&before, "k3d-team-a-images")];
        assert_eq!(called(None, &observed, &none), "k3d-team-a-images");
        assert_eq!(called(None, &observed, &BTreeSet::from(["before".to_owned()])), fresh);
        let elsewhere = Owner { object: "team/a-images".into(), ..before.clone() };
        observed.volumes = vec![volume(&elsewhere, "k3d-team-a-images")];
        assert_eq!(called(None, &observed, &none), fresh);
        observed.volumes = vec![volume(&before, "a"), volume(&before, &fresh)];
        assert_eq!(called(None, &observed, &none), fresh);

        assert_eq!(called(Some("told:5000"), &observed, &none), "told");
        observed.volumes.push(volume(&owner(), "by-volume"));
        assert_eq!(called(Some("told:5000"), &observed, &none), "by-volume");
        let container = |name: &str, role: &str| Container {
            name: name.into(),
            labels: labels(&owner(), &[(names::ROLE, role)]),
            ..Container::default()
        };
        observed.containers = vec![container("helper", "registry-gc"), container("by-container", "registry")];
        assert_eq!(called(Some("told:5000"), &observed, &none), "by-container");
        assert_eq!(registry(&owner(), Some("its-own"), None, &observed, &none), "its-own");
    }
}
