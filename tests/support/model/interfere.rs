//! What others do to the world: people at the command line, other programs, the host.

use std::{collections::BTreeMap, sync::Arc};

use localcluster_operator::{
    api::names,
    docker::{
        engine::State,
        spec::{EndpointSettings, PortBinding, RestartPolicy},
    },
    k3s::load_balancer::CONFIG_FILE,
};

use super::k3s::KUBELET_VOLUME;
use super::world::{Container, Network, Place, World};

/// One act. Names are names, whoever they belong to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outside {
    Stop(String),
    Kill(String),
    Remove(String),
    RemoveWithVolumes(String),
    Pause(String),
    Disconnect(String),
    /// The kubelet of a node hangs.
    Freeze(String),
    /// A server hangs as a whole.
    Hang(String),
    /// No other server is reached by a server, nor reaches it, until its next start.
    CutOff(String),
    /// What a kubelet keeps in its volume is spoilt.
    Break(String),
    /// Stops what is on it and removes it.
    RemoveNetwork(String),
    RemoveVolume(String),
    Tamper(String),
    DeleteNode(String),
    /// Takes all that is kept inside the clusters away.
    DeleteConfig,
    /// The images are made anew on the engine under their names.
    Rebuild,
    /// Removes the images of the node with this volume.
    RemoveImages(String),
    /// Somebody deletes all objects of manifests from the clusters.
    DeleteObjects,
    ForeignContainer(String),
    ForeignNetwork(String),
    ForeignVolume(String),
    /// A foreign container on somebody's network.
    Visitor(String),
    HoldPort(u16),
    FreePort(u16),
    /// The host gets other resolvers: a VPN comes or goes.
    ChangeResolvers,
}

impl World {
    /// Everything that can be done now to what belongs to an object and to its nodes.
    pub fn possible(&self) -> Vec<Outside> {
        let mut all = Vec::new();
        for c in self.containers.values().filter(|c| c.labels.contains_key(names::UID)) {
            let n = || c.name.clone();
            all.extend([Outside::Stop(n()), Outside::Remove(n()), Outside::RemoveWithVolumes(n())]);
            if c.is_up() {
                all.extend([Outside::Kill(n()), Outside::Pause(n()), Outside::Disconnect(n())]);
            }
            let node = c.command.first().is_some_and(|a| a == "agent" || a == "server");
            if c.state == State::Running && node && !c.frozen {
                all.push(Outside::Freeze(n()));
            }
            if c.loaded.is_some() {
                all.push(Outside::Tamper(n()));
            }
        }
        for n in self.networks.values().filter(|n| n.labels.contains_key(names::UID)) {
            all.extend([Outside::RemoveNetwork(n.name.clone()), Outside::Visitor(n.name.clone())]);
        }
        for name in self.volumes.keys() {
            if !self.containers.values().any(|c| c.mounts.values().any(|v| v == name)) {
                all.push(Outside::RemoveVolume(name.clone()));
            }
        }
        for cluster in self.clusters.values() {
            all.extend(cluster.nodes.keys().map(|n| Outside::DeleteNode(n.clone())));
        }
        if self.clusters.values().any(|cluster| !cluster.config.is_empty()) {
            all.push(Outside::DeleteConfig);
        }
        if self.clusters.values().any(|cluster| !cluster.objects.is_empty()) {
            all.push(Outside::DeleteObjects);
        }
        let preloaded = self.volumes.iter().filter(|(_, v)| !v.images.is_empty()).map(|(name, _)| name);
        for volume in preloaded {
            all.extend([Outside::Rebuild, Outside::RemoveImages(volume.clone())]);
        }
        all
    }

    /// Does it; `false` where there is nothing to do it to.
    pub fn interfere(&mut self, act: &Outside) -> bool {
        let before = self.clone();
        match act {
            Outside::Stop(name) => drop(self.end(name, 0)),
            Outside::Kill(name) => drop(self.end(name, 137)),
            Outside::Remove(name) => drop(self.remove_container(name)),
            Outside::RemoveWithVolumes(name) => {
                let mounts = self.named(name).map(|c| c.mounts.clone()).unwrap_or_default();
                drop(self.remove_container(name));
                for volume in mounts.values() {
                    drop(self.remove_volume(volume));
                }
            }
            Outside::Pause(name) => drop(self.pause(name)),
            Outside::Disconnect(name) => {
                if let Ok(container) = self.container(name) {
                    container.networks.retain(|n, _| n.starts_with("bridge"));
                }
            }
            Outside::Freeze(name) => self.container(name).into_iter().for_each(|c| c.frozen = true),
            Outside::Hang(name) => {
                let clock = self.clock;
                self.container(name).into_iter().for_each(|c| (c.frozen, c.hung) = (true, Some(clock)));
            }
            Outside::CutOff(name) => {
                self.container(name).into_iter().for_each(|c| (c.frozen, c.cut_off) = (true, true));
            }
            Outside::Break(name) => {
                let volume = self.volumes.get_mut(&format!("{name}-{KUBELET_VOLUME}"));
                volume.into_iter().for_each(|v| v.broken = true);
            }
            Outside::RemoveNetwork(name) => {
                let ids: Vec<String> =
                    self.networks.iter().filter(|(_, n)| n.name == *name).map(|(id, _)| id.clone()).collect();
                for id in ids {
                    let on: Vec<String> = self
                        .containers
                        .iter()
                        .filter(|(_, c)| c.networks.contains_key(&id))
                        .map(|(id, _)| id.clone())
                        .collect();
                    for container in on {
                        // A stranger's container is only taken off.
                        let ours = self.containers[&container].labels.contains_key(names::UID);
                        drop(if ours { self.end(&container, 0) } else { self.disconnect(&id, &container) });
                    }
                    drop(self.remove_network(&id));
                }
            }
            Outside::RemoveVolume(name) => drop(self.remove_volume(name)),
            Outside::Tamper(name) => {
                if let Ok(c) = self.container(name) {
                    c.files.insert(CONFIG_FILE.into(), Arc::from(*b"tampered"));
                }
            }
            Outside::DeleteNode(name) => drop(self.delete_node(name)),
            Outside::DeleteConfig => self.clusters.values_mut().for_each(|c| c.config.clear()),
            Outside::DeleteObjects => self.clusters.values_mut().for_each(|c| c.objects.clear()),
            Outside::Rebuild => {
                let images = self.images.clone();
                images.into_iter().for_each(|i| *self.rebuilt.entry(i).or_default() ^= 1);
            }
            Outside::RemoveImages(volume) => {
                self.volumes.get_mut(volume).into_iter().for_each(|v| v.images.clear());
            }
            Outside::ForeignContainer(name) => drop(self.foreign(name, &[])),
            Outside::ForeignNetwork(name) => {
                if !self.networks.values().any(|n| n.name == *name) {
                    let network = Network {
                        name: name.clone(),
                        labels: Arc::default(),
                        subnet: "10.99.0.0/24".parse().unwrap(),
                        ip_range: "10.99.0.0/24".parse().unwrap(),
                        created: self.clock,
                    };
                    self.networks.insert(format!("foreign-{name}"), network);
                }
            }
            Outside::ForeignVolume(name) => {
                self.volumes.entry(name.clone()).or_default();
            }
            Outside::Visitor(network) => {
                let id = self.networks.iter().find(|(_, n)| n.name == *network).map(|(id, _)| id.clone());
                if let (Some(id), true) = (id, self.foreign("visitor", &[])) {
                    drop(self.connect(&id, "visitor", &EndpointSettings::default()));
                }
            }
            Outside::HoldPort(port) => drop(self.held_ports.insert(*port)),
            Outside::ChangeResolvers => self.resolvers ^= 1,
            Outside::FreePort(port) => drop(self.held_ports.remove(port)),
        }
        *self != before
    }

    /// A running container of somebody else's, with these published ports; `false` when the name is taken.
    pub fn foreign(&mut self, name: &str, ports: &[PortBinding]) -> bool {
        if self.named(name).is_some() {
            return false;
        }
        let container = Container {
            name: name.to_owned(),
            image: "foreign".into(),
            command: Arc::from([]),
            labels: Arc::new(BTreeMap::from([("com.example".to_owned(), "foreign".to_owned())])),
            mounts: Arc::default(),
            past_proxy: Arc::from([]),
            wanted_ports: ports.into(),
            limits: Default::default(),
            isolation: Default::default(),
            skips_flushes: false,
            state: State::Running,
            networks: BTreeMap::from([(
                super::world::BRIDGE.to_owned(),
                Place { name: "bridge".into(), ..Place::default() },
            )]),
            files: BTreeMap::new(),
            binds: Default::default(),
            writable_binds: Arc::from([]),
            created: None,
            ended: None,
            started: Some(self.clock),
            started_again: 0,
            exit_code: None,
            error: None,
            restart_policy: RestartPolicy::UnlessStopped,
            resolvers: 0,
            loaded: None,
            serving: false,
            frozen: false,
            hung: None,
            cut_off: false,
        };
        self.containers.insert(format!("foreign-{name}"), container);
        true
    }

    /// Everything that belongs to nobody here, without its places on networks: it must never change.
    pub fn strangers(&self) -> Vec<String> {
        let mut all = Vec::new();
        for (id, c) in self.containers.iter().filter(|(_, c)| !c.labels.contains_key(names::UID)) {
            let c = Container { networks: BTreeMap::new(), ..c.clone() };
            all.push(format!("{id} {c:?}"));
        }
        for (id, n) in self.networks.iter().filter(|(_, n)| !n.labels.contains_key(names::UID)) {
            all.push(format!("{id} {n:?}"));
        }
        for (name, v) in self.volumes.iter().filter(|(_, v)| !v.labels.contains_key(names::UID)) {
            all.push(format!("{name} {v:?}"));
        }
        all
    }

    /// Takes away what took a name, a place or a port from us.
    pub fn strangers_leave(&mut self) {
        self.containers.retain(|_, c| c.labels.contains_key(names::UID));
        self.networks.retain(|id, n| id == super::world::BRIDGE || n.labels.contains_key(names::UID));
        self.volumes.retain(|_, v| v.labels.contains_key(names::UID));
        self.held_ports.clear();
    }
}
