//! Docker objects of the operator whose LocalCluster or Registry no longer exists: someone removed its finalizer. Nothing
//! else reports them, and nodes among them still run. They are not removed, since the object may be restored.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::observed::Host;
use crate::api::names::{self, VOLUME_OF};

/// Names of such objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orphans {
    /// Containers.
    pub containers: BTreeSet<String>,
    /// Networks.
    pub networks: BTreeSet<String>,
    /// Volumes, except for the images that a deleted Registry left behind on purpose.
    pub volumes: BTreeSet<String>,
}

impl Orphans {
    /// Returns what this operator created on the host for objects other than the `living`, given by their UIDs. `manager`
    /// is the ID of the management cluster. In namespaces that the operator does not manage, nothing is known to be gone.
    pub fn of(host: &Host, manager: &str, living: &BTreeSet<String>, manages: impl Fn(&str) -> bool) -> Self {
        let is_orphan = |labels: &BTreeMap<String, String>| {
            labels.get(names::MANAGER).is_some_and(|m| m == manager)
                && names::owner_namespace(labels).is_some_and(&manages)
                && labels.get(names::UID).is_some_and(|uid| !living.contains(uid))
        };
        let containers = host.containers.iter().filter(|c| is_orphan(&c.labels));
        let networks = host.networks.iter().filter(|n| is_orphan(&n.labels));
        let volumes =
            host.volumes.iter().filter(|v| is_orphan(&v.labels) && !v.labels.contains_key(VOLUME_OF));
        Self {
            containers: containers.map(|c| c.name.clone()).collect(),
            networks: networks.map(|n| n.name.clone()).collect(),
            volumes: volumes.map(|v| v.name.clone()).collect(),
        }
    }

    /// Reports whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Orphans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { containers, networks, volumes } = self;
        let parts = [("containers", containers), ("networks", networks), ("volumes", volumes)];
        let named = parts.into_iter().filter(|(_, names)| !names.is_empty()).map(|(kind, names)| {
            format!("{kind} {}", names.iter().map(String::as_str).collect::<Vec<_>>().join(", "))
        });
        f.write_str(&named.collect::<Vec<_>>().join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::engine::{Container, Network, Volume};

    fn labels(manager: &str, uid: &str) -> BTreeMap<String, String> {
        let all = [(names::MANAGER, manager), (names::UID, uid), (names::OWNER, "team-a/dev")];
        all.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    }

    #[test]
    fn only_objects_of_nobody_are_orphans() {
        let (living, gone, others) = (labels("m", "living"), labels("m", "gone"), labels("other", "gone"));
        let mut kept = gone.clone();
        kept.insert(VOLUME_OF.into(), "k3d-images".into());
        let all = [("living", &living), ("gone", &gone), ("others", &others), ("foreign", &BTreeMap::new())];
        let name = |name: &str| name.to_owned();
        let host = Host {
            containers: all
                .map(|(n, labels)| Container {
                    name: name(n),
                    labels: labels.clone(),
                    ..Container::default()
                })
                .into(),
            networks: all
                .map(|(n, labels)| Network { name: name(n), labels: labels.clone(), ..Network::default() })
                .into(),
            volumes: [("living", &living), ("gone", &gone), ("kept", &kept)]
                .map(|(n, labels)| Volume { name: name(n), labels: labels.clone() })
                .into(),
            ..Host::default()
        };
        let orphans = Orphans::of(&host, "m", &BTreeSet::from(["living".to_owned()]), |namespace| {
            namespace == "team-a"
        });
        assert_eq!(orphans.to_string(), "containers gone; networks gone; volumes gone");
        assert!(!orphans.is_empty());
        let both = BTreeSet::from(["living".to_owned(), "gone".to_owned()]);
        assert!(Orphans::of(&host, "m", &both, |_| true).is_empty());
        assert!(Orphans::of(&host, "m", &BTreeSet::new(), |namespace| namespace == "team-b").is_empty());
    }
}
