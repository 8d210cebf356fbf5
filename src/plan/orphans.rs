//! Docker objects of the operator whose LocalCluster or Registry no longer exists: someone removed its finalizer. Nothing
//! else reports them, and nodes among them still run. The object may be restored, so they are removed only if an
//! administrator wants it, and after a delay; see [`Sweep`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::{SignedDuration, Timestamp};

use super::{local_cluster, observed::Host, owner::Owner, steps::Plan};
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

/// The objects of the management cluster that exist, of both kinds.
#[derive(Clone, Debug, Default)]
pub struct Living {
    /// Their UIDs.
    pub uids: BTreeSet<String>,
    /// Their names, as `namespace/name`.
    pub names: BTreeSet<String>,
}

/// Returns the owners that are gone and whose Docker objects nothing needs. An object that exists again under the same
/// name, from a backup or from GitOps, has another UID; a person decides whether it needs the data of the earlier one.
/// Clusters continue to use the container of a Registry that is gone.
pub fn gone(host: &Host, manager: &str, living: &Living, manages: impl Fn(&str) -> bool) -> Vec<Owner> {
    let is_living = |labels: &BTreeMap<String, String>| {
        labels.get(names::MANAGER).is_some_and(|m| m == manager)
            && labels.get(names::UID).is_some_and(|uid| living.uids.contains(uid))
    };
    let used: BTreeSet<&String> =
        host.networks.iter().filter(|n| is_living(&n.labels)).map(|n| &n.id).collect();
    let in_use = |owner: &Owner| {
        let mut own = host.containers.iter().filter(|c| owner.owns(&c.labels));
        own.any(|c| c.networks.keys().any(|id| used.contains(id)))
    };
    let volumes = host.volumes.iter().map(|v| &v.labels).filter(|labels| !labels.contains_key(VOLUME_OF));
    let containers = host.containers.iter().map(|c| &c.labels);
    let all = containers.chain(host.networks.iter().map(|n| &n.labels)).chain(volumes);
    let owners = all.filter(|labels| !is_living(labels)).filter_map(|labels| {
        let (uid, object) = (labels.get(names::UID)?.clone(), labels.get(names::OWNER)?.clone());
        Some((uid.clone(), Owner { uid, object, manager: labels.get(names::MANAGER)?.clone() }))
    });
    let owners: BTreeMap<String, Owner> = owners.collect();
    let is_gone = |owner: &Owner| {
        owner.manager == manager
            && manages(owner.namespace())
            && !living.names.contains(&owner.object)
            && !in_use(owner)
    };
    owners.into_values().filter(is_gone).collect()
}

/// Plans the removal of what an owner left, except for images of registries, which may be there on purpose.
pub fn remove(plan: &mut Plan, owner: &Owner, host: &Host) {
    let images = |name: &str| host.volumes.iter().any(|v| v.name == name && v.labels.contains_key(VOLUME_OF));
    local_cluster::teardown(plan, owner, host, images);
}

/// The owners that are gone, by UID, with the time since which every look has found them gone.
#[derive(Debug, Default)]
pub struct Sweep(BTreeMap<String, Timestamp>);

impl Sweep {
    /// Records the owners that are gone, and returns those that have been for this time.
    pub fn due(&mut self, gone: Vec<Owner>, now: Timestamp, after: SignedDuration) -> Vec<Owner> {
        self.0.retain(|uid, _| gone.iter().any(|owner| owner.uid == *uid));
        let mut is_due = |owner: &Owner| {
            let since = *self.0.entry(owner.uid.clone()).or_insert(now);
            now.duration_since(since) >= after
        };
        gone.into_iter().filter(|owner| is_due(owner)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::engine::{Attachment, Container, Network, Volume};

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

    /// A host with a container, a network and a volume of this owner.
    fn left(labels: &BTreeMap<String, String>) -> Host {
        let id = || "left".to_owned();
        Host {
            containers: vec![Container { id: id(), labels: labels.clone(), ..Container::default() }],
            networks: vec![Network { id: id(), labels: labels.clone(), ..Network::default() }],
            volumes: vec![Volume { name: id(), labels: labels.clone() }],
            ..Host::default()
        }
    }

    fn is_gone(host: &Host, living: &Living) -> bool {
        let gone = gone(host, "m", living, |namespace| namespace == "team-a");
        assert!(gone.iter().all(|owner| owner.uid == "gone"), "{gone:?}");
        !gone.is_empty()
    }

    #[test]
    fn what_may_be_needed_is_not_swept() {
        let one = |name: &str| BTreeSet::from([name.to_owned()]);
        let living = Living { uids: one("living"), names: one("team-a/other") };
        let host = left(&labels("m", "gone"));
        assert!(is_gone(&host, &living));
        assert!(!is_gone(&host, &Living { uids: one("gone"), ..Living::default() }));
        assert!(
            !is_gone(&host, &Living { names: one("team-a/dev"), ..Living::default() }),
            "it exists again"
        );
        assert!(!is_gone(&left(&labels("other", "gone")), &living), "of another management cluster");
        assert!(!is_gone(&left(&BTreeMap::new()), &living));
        let mut elsewhere = labels("m", "gone");
        elsewhere.insert(names::OWNER.into(), "team-b/dev".into());
        assert!(!is_gone(&left(&elsewhere), &living), "in a namespace that others manage");
        // A registry whose object is gone serves a cluster.
        let mut used = host.clone();
        used.networks.push(Network { id: "n".into(), labels: labels("m", "living"), ..Network::default() });
        used.containers[0].networks.insert("n".into(), Attachment::default());
        assert!(!is_gone(&used, &living));
    }

    #[test]
    fn images_of_registries_are_never_removed() {
        let owner = Owner { uid: "gone".into(), manager: "m".into(), object: "team-a/dev".into() };
        let removed = |host: &Host| {
            let mut plan = Plan::default();
            remove(&mut plan, &owner, host);
            plan.steps.iter().map(|step| step.action.kind()).collect::<Vec<_>>()
        };
        let mut host = left(&owner.labels());
        assert_eq!(removed(&host), ["RemoveContainer", "RemoveNetwork", "RemoveVolume"]);
        host.volumes[0].labels.insert(VOLUME_OF.into(), "k3d-images".into());
        assert_eq!(removed(&host), ["RemoveContainer", "RemoveNetwork"]);
        host.containers.clear();
        host.networks.clear();
        assert!(!is_gone(&host, &Living::default()), "there is nothing to do");
    }

    #[test]
    fn only_who_is_gone_all_the_time_is_due() {
        let owner = |uid: &str| Owner { uid: uid.into(), manager: "m".into(), object: "team-a/dev".into() };
        let at = |minutes: i64| Timestamp::from_second(minutes * 60).unwrap();
        let mut sweep = Sweep::default();
        let mut due = |gone: &[&str], minutes: i64| {
            let gone = gone.iter().map(|uid| owner(uid)).collect();
            let due = sweep.due(gone, at(minutes), SignedDuration::from_mins(10));
            due.into_iter().map(|owner| owner.uid).collect::<Vec<_>>()
        };
        let none: [&str; 0] = [];
        assert_eq!(due(&["a"], 0), none);
        assert_eq!(due(&["a", "b"], 9), none);
        assert_eq!(due(&["a", "b"], 10), ["a"]);
        assert_eq!(due(&["a"], 11), ["a"], "again, until nothing is left");
        assert_eq!(due(&["a", "b"], 20), ["a"], "it was back meanwhile");
        assert_eq!(due(&["b"], 30), ["b"]);
    }
}
