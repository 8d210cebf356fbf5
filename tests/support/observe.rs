//! The picture that the operator gets of the world.

use std::collections::BTreeMap;

use jiff::Timestamp;
use localcluster_operator::{
    api::names,
    docker::engine::{self, Attachment, ContainerDetail, EngineInfo, State},
    k3s::{KUBECONFIG_FILE, load_balancer},
    plan::{
        containers::Owner,
        observed::{Child, ChildState, ImageState, Node, Observed},
        steps::NodeConfig,
    },
};
use sha2::{Digest, Sha256};

use super::world::{Container, Network, World};

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

impl World {
    pub fn now(&self) -> Timestamp {
        at(self.clock)
    }

    pub fn observe(&self, owner: &Owner) -> Observed {
        let containers: Vec<_> = self.containers.iter().map(|(id, c)| self.listed(id, c)).collect();
        let own = self.containers.iter().filter(|(_, c)| owner.owns(&c.labels));
        let own: BTreeMap<_, _> = own.map(|(id, c)| (id.clone(), self.detail(id, c))).collect();
        let images = self.images.iter().map(|i| (i.clone(), ImageState::Present));
        let failed = self.unknown_images.iter().map(|i| (i.clone(), ImageState::Failed("unknown".into())));
        let mut files = BTreeMap::new();
        for (id, detail) in &own {
            let balancer = detail.container.labels.get(names::ROLE).is_some_and(|r| r == "loadbalancer");
            if detail.container.state == State::Running && balancer {
                for path in [load_balancer::CONFIG_FILE, load_balancer::APPLIED_FILE] {
                    let hash = self.read(id, path).map(|content| Sha256::digest(&*content).into());
                    files.insert((id.clone(), path.to_owned()), hash);
                }
            }
        }
        Observed {
            engine: EngineInfo { id: "engine".into(), version: "29".into(), cgroup_v1: false },
            networks: self.networks.iter().map(|(id, n)| network(id, n)).collect(),
            volumes: self
                .volumes
                .iter()
                .map(|(name, v)| engine::Volume { name: name.clone(), labels: (*v.labels).clone() })
                .collect(),
            images: failed.chain(images).collect(),
            child: self.child(&own),
            containers,
            own,
            files,
        }
    }

    pub fn listed(&self, id: &str, c: &Container) -> engine::Container {
        let place = |(id, p): (&String, &super::world::Place)| {
            let (network_name, aliases) = (p.name.clone(), p.aliases.clone());
            (id.clone(), Attachment { network_name, ip: p.ip, pinned: p.pinned, aliases })
        };
        engine::Container {
            id: id.to_owned(),
            name: c.name.clone(),
            image: c.image.clone(),
            labels: (*c.labels).clone(),
            state: c.state,
            networks: c.networks.iter().map(place).collect(),
            ports: if c.is_up() { c.wanted_ports.to_vec() } else { Vec::new() },
        }
    }

    pub fn detail(&self, id: &str, c: &Container) -> ContainerDetail {
        ContainerDetail {
            container: self.listed(id, c),
            started_at: c.started.map(at),
            exit_code: c.exit_code,
            error: c.error.clone(),
            wanted_ports: c.wanted_ports.to_vec(),
            volumes: c.mounts.values().cloned().collect(),
        }
    }

    fn child(&self, own: &BTreeMap<String, ContainerDetail>) -> Child {
        let server = own.values().find(|d| {
            d.container.labels.get(names::ROLE).is_some_and(|r| r == "server") && d.started_at.is_some()
        });
        let Some(server) = server else { return Child::Unknown };
        let Some(file) = self.read(&server.container.id, KUBECONFIG_FILE) else { return Child::Unknown };
        match self.state(&server.container.labels[names::CLUSTER], &String::from_utf8_lossy(&file)) {
            Ok(state) => Child::Reachable(state),
            Err(why) => Child::Unreachable(why),
        }
    }

    /// What the created cluster's API tells.
    pub fn state(&self, cluster: &str, kubeconfig: &str) -> Result<ChildState, String> {
        let incarnation = self.reach(cluster, kubeconfig)?;
        let cluster = &self.clusters[&incarnation];
        let node = |n: &super::k3s::Node| Node {
            ready: n.ready,
            message: if n.ready { String::new() } else { "kubelet is silent".into() },
            version: n.version.clone(),
            renewed: Some(at(n.renewed)),
            schedulable: n.draining.is_none(),
            draining_since: n.draining.map(at),
            pods_to_evict: if n.draining.is_some() { n.pods.into() } else { 0 },
            labels: n.labels.clone(),
            taints: n.taints.clone(),
            configured: n
                .configured
                .as_ref()
                .map(|c| NodeConfig { labels: c.labels.clone(), taints: c.taints.clone() }),
        };
        Ok(ChildState {
            nodes: cluster.nodes.iter().map(|(name, n)| (name.clone(), node(n))).collect(),
            pods_can_start: cluster.service_account,
        })
    }
}

pub fn network(id: &str, n: &Network) -> engine::Network {
    engine::Network {
        id: id.to_owned(),
        name: n.name.clone(),
        labels: (*n.labels).clone(),
        subnets: vec![n.subnet],
        driver: "bridge".into(),
        created: at(n.created).to_string(),
    }
}
