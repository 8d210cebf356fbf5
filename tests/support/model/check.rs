//! What must hold of every plan, and how two worlds are compared.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use localcluster_operator::{
    api::names::{self, VOLUME_OF},
    child::state::{Child, INVENTORY},
    docker::{engine::State, spec::RestartPolicy},
    plan::{
        observed::Observed,
        owner::Owner,
        service::objects::{Existing, ServiceChange},
        steps::{Action, Plan, Target},
    },
};

use super::world::{BRIDGE, Container, World};

/// The invariants of a plan: steps come after what they wait for, and touch nothing but what is the owner's.
pub fn plan(plan: &Plan, owner: &Owner, observed: &Observed) {
    let mut made = BTreeSet::new();
    for (index, step) in plan.steps.iter().enumerate() {
        assert!(step.after.iter().all(|a| *a < index), "{index} {step:?}");
        let labels = |t: &Target| {
            let id = t.id.as_ref()?;
            Some(&observed.containers.iter().find(|c| c.id == *id).expect("it was seen").labels)
        };
        let own = |t: &Target| match labels(t) {
            Some(labels) => owner.owns(labels),
            None => made.contains(&t.name),
        };
        let network =
            |id: &str| observed.networks.iter().find(|n| n.id == id).is_some_and(|n| owner.owns(&n.labels));
        let volume = |name: &str| {
            observed.volumes.iter().find(|v| v.name == name).is_some_and(|v| {
                owner.owns(&v.labels)
                    || v.labels.contains_key(VOLUME_OF) && v.labels[names::MANAGER] == owner.manager
            })
        };
        let sound = match &step.action {
            Action::CreateNetwork(spec) => owner.owns(&spec.labels),
            Action::CreateVolume(spec) => owner.owns(&spec.labels),
            Action::CreateContainer { spec, .. } => {
                let fresh = made.insert(spec.name.clone());
                fresh && owner.owns(&spec.labels) && spec.name.len() <= 63
            }
            Action::RemoveNetwork { id, .. } => network(id),
            Action::RemoveVolume { name } => volume(name),
            Action::Upload { container, .. }
            | Action::Start { container }
            | Action::Stop { container, .. }
            | Action::Unpause { container }
            | Action::Signal { container, .. }
            | Action::Expect { container, .. }
            | Action::SetRestart { container, .. }
            | Action::Exec { container, .. }
            | Action::RemoveFiles { container, .. }
            | Action::RemoveContainer { container } => own(container),
            // A cluster's own network and a registry's container, or the other way round.
            Action::Connect { network: id, container, .. } => network(id) || own(container),
            Action::Disconnect { network: id, container } => network(id) || own(container),
            Action::Drain { .. } | Action::Uncordon { .. } => true,
            Action::Configure { .. } | Action::DeleteNode { .. } | Action::LeaveEtcd { .. } => true,
            Action::ForgetPassword { .. } => true,
            // Only of a member that no Node shows.
            Action::RemoveMember(member) => {
                observed.child.state().is_some_and(|s| s.member_without_node(&member.node) == Some(member))
            }
            // Never one of a server that runs.
            Action::ReleaseLease { holder, .. } => {
                let own = observed.own.values().find(|d| d.container.name == *holder);
                own.is_none_or(|d| !d.container.state.is_up())
            }
            // Only what a manifest asked for once: the list is written before anything else is done.
            Action::DeleteObject { object, .. } => match &observed.child {
                Child::Reachable(state) => {
                    let held = state.config.get(&INVENTORY).map(|h| h.content.as_str()).unwrap_or_default();
                    let listed = held.contains(&format!("\"name\":\"{}\"", object.name));
                    listed
                        || step.after.iter().any(|i| matches!(&plan.steps[*i].action, Action::SetConfig(_)))
                }
                Child::Unknown | Child::Unreachable(_) => false,
            },
            Action::SetConfig(wanted) => match &observed.child {
                Child::Reachable(state) => {
                    wanted.claimed || state.config.get(&wanted.key).is_none_or(|h| h.ours)
                }
                Child::Unknown | Child::Unreachable(_) => false,
            },
            Action::CreateSecret(secret) => secret.owner == *owner,
            Action::ApplySecret(secret) => {
                let existing = observed.kubeconfig.secret.as_ref();
                secret.owner == *owner && existing.is_none_or(|e| e.is_owned(owner) && !e.is(secret))
            }
            // Never while what the API has is unknown.
            Action::GrantAccess { .. } => observed.child.state().is_some(),
            Action::RevokeAccess { role, uid } => {
                let state = observed.child.state();
                state.and_then(|s| s.accounts.get(role)).is_some_and(|account| account.uid == *uid)
            }
            Action::IssueToken(template) => {
                let existing = observed.kubeconfig.secret.as_ref();
                *template.owner() == *owner && existing.is_none_or(|e| e.is_owned(owner))
            }
            Action::DeleteSecret { namespace, uid, .. } => {
                let existing = observed.kubeconfig.secret.as_ref();
                namespace == owner.namespace() && existing.is_some_and(|e| e.is_owned(owner) && e.uid == *uid)
            }
            Action::Service(change) => {
                let (service, endpoints) = observed.service.own(owner);
                let uid = |own: Option<&Existing>| own.map(|own| own.uid.clone());
                let fits = match change {
                    ServiceChange::Apply(new) => new.uid == uid(service),
                    ServiceChange::ApplyEndpoints(slice) => slice.uid == uid(endpoints),
                    ServiceChange::Delete { uid: of, .. } => uid(service).as_ref() == Some(of),
                    ServiceChange::DeleteEndpoints { uid: of, .. } => uid(endpoints).as_ref() == Some(of),
                };
                change.owner() == owner && fits
            }
            Action::ApplyRegistry(registry) => registry.owner == *owner,
            Action::DeleteRegistry { namespace, .. } => namespace == owner.namespace(),
        };
        assert!(sound, "not ours: {} {step:?}", step.action);
    }
}

/// Nothing is doubled: names, addresses, host ports.
pub fn world(world: &World) {
    let mut names = BTreeSet::new();
    let mut addresses: BTreeSet<(&String, Ipv4Addr)> = BTreeSet::new();
    let mut ports = BTreeSet::new();
    for c in world.containers.values() {
        assert!(names.insert(&c.name), "two containers {}", c.name);
        for (network, place) in &c.networks {
            if let Some(ip) = place.ip {
                assert!(addresses.insert((network, ip)), "{ip} twice");
            }
        }
        if c.state == State::Running {
            for p in c.wanted_ports.iter() {
                assert!(ports.insert((&p.host_ip, p.host_port, &p.protocol)), "port {} twice", p.host_port);
            }
        }
    }
    registries(world);
    for (id, n) in world.networks.iter().filter(|(_, n)| n.labels.contains_key(names::UID)) {
        for (other, m) in world.networks.iter().filter(|(other, _)| *other != id) {
            assert!(!n.subnet.contains(&m.subnet), "{id} and {other} overlap");
        }
    }
}

/// Two registries are on one network only where a cluster uses both, and none is on Docker's default network, unless an
/// earlier operator created it there.
fn registries(world: &World) {
    let registry = |c: &&Container| {
        c.labels.contains_key(names::UID) && c.labels.get(names::ROLE).is_some_and(|role| role == "registry")
    };
    let mut on: BTreeMap<&String, &String> = BTreeMap::new();
    for c in world.containers.values().filter(registry) {
        for id in c.networks.keys() {
            let earlier = !c.labels.contains_key(names::NETWORK);
            assert!(earlier || id != BRIDGE, "{} is on Docker's default network", c.name);
            let shared = world.networks.get(id).is_some_and(|n| n.name.starts_with("k3d-"));
            if let Some(other) = on.insert(id, &c.name) {
                assert!(shared || earlier, "{} and {other} share {id}", c.name);
            }
        }
    }
}

/// No member of etcd is left behind by a server that is gone: it would count for the quorum.
pub fn members(world: &World) {
    assert_eq!(world.left_behind(), [] as [&String; 0], "members without a server");
}

/// Where two normal worlds differ.
pub fn differences(a: &BTreeMap<String, String>, b: &BTreeMap<String, String>) -> Vec<String> {
    let keys: BTreeSet<_> = a.keys().chain(b.keys()).collect();
    let differing = keys.into_iter().filter(|k| a.get(*k) != b.get(*k));
    differing.map(|k| format!("{k}\n  {:?}\n  {:?}", a.get(k), b.get(k))).collect()
}

impl World {
    /// The members of etcd whose server is gone.
    fn left_behind(&self) -> Vec<&String> {
        let members = self.clusters.values().flat_map(|c| c.members.keys());
        members.filter(|name| self.named(name).is_none()).collect()
    }

    /// The world without what may differ between two ways to the same end: ids, times, passwords, incarnations.
    pub fn normal(&self) -> BTreeMap<String, String> {
        let network = |id: &String| self.networks.get(id).map_or("gone", |n| n.name.as_str()).to_owned();
        let mut all = BTreeMap::new();
        for (id, c) in &self.containers {
            let node = matches!(c.command.first().map(String::as_str), Some("server" | "agent"));
            let told = node.then(|| self.registries_of(id));
            // What it was started with is only of interest as far as it still counts.
            let loaded = c.loaded.as_ref().filter(|_| !node);
            let mut labels = (*c.labels).clone();
            labels.remove(names::SPEC_HASH);
            // Once in etcd, the data stays there.
            labels.remove(names::DATASTORE);
            let places: BTreeMap<_, _> = c.networks.iter().map(|(n, p)| (network(n), p)).collect();
            let text = format!(
                "{} {} {} {:?} {labels:?} {:?} {:?} {:?} {places:?} {:?} {:?} {told:?}",
                c.image,
                c.skips_flushes,
                c.restart_policy == RestartPolicy::UnlessStopped,
                c.command,
                c.mounts,
                c.wanted_ports,
                c.state,
                loaded.map(|l| String::from_utf8_lossy(l).into_owned()),
                c.serving,
            );
            all.insert(format!("container {}", c.name), text);
        }
        for n in self.networks.values() {
            all.insert(format!("network {}", n.name), format!("{} {:?}", n.subnet, n.labels));
        }
        for (name, v) in &self.volumes {
            let text = format!("{:?} {} {}", v.labels, v.incarnation.is_some(), v.password.is_some());
            all.insert(format!("volume {name}"), text);
        }
        for name in self.left_behind() {
            all.insert(format!("member {name}"), "left behind".into());
        }
        for cluster in self.clusters.values() {
            for (name, n) in &cluster.nodes {
                // Not its taints: one that the Node registered with, and that the spec lost before the operator had
                // configured the Node for the first time, stays, since nothing tells who it is from.
                let text = format!("{} {:?} {:?}", n.ready, n.draining, n.labels);
                all.insert(format!("node {name}"), text);
            }
            for (role, account) in &cluster.accounts {
                let text = format!("{} {:?}", account.uid.is_some(), account.binding);
                all.insert(format!("account {}", role.account()), text);
            }
            for (key, held) in &cluster.config {
                all.insert(format!("config {}", key.name), format!("{held:?}"));
            }
        }
        all
    }

    /// The world in few lines.
    pub fn brief(&self) -> String {
        let containers = self.containers.iter().map(|(id, c)| {
            let since = c.started.map(|s| self.clock - s);
            let places: Vec<_> = c.networks.iter().map(|(n, p)| format!("{n} {:?}", p.ip)).collect();
            format!("{id} {:?} since {since:?} serving {} on {places:?} {:?}", c.state, c.serving, c.error)
        });
        let networks = self.networks.iter().map(|(id, n)| format!("network {id} {}", n.subnet));
        let volumes = self.volumes.iter().map(|(name, v)| {
            let ours = v.labels.contains_key(names::UID);
            format!("volume {name} ours {ours} incarnation {:?} password {:?}", v.incarnation, v.password)
        });
        let nodes =
            self.clusters.iter().map(|(i, c)| format!("cluster {i} {:?} {:#?}", c.passwords, c.nodes));
        containers.chain(networks).chain(volumes).chain(nodes).collect::<Vec<_>>().join("\n")
    }

    /// What has to survive interference with the outside only: the servers' data.
    pub fn incarnations(&self) -> BTreeSet<u8> {
        self.clusters.keys().copied().collect()
    }
}
