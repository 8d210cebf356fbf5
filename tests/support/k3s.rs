//! What K3s makes of the containers: clusters that live in their servers' volumes, nodes that join them, and the
//! ways in which that goes wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use localcluster_operator::{
    api::names,
    docker::engine::State,
    k3s::{ETC_VOLUME, KUBECONFIG_FILE, STATE_VOLUME, TOKEN_FILE, versions},
    plan::steps::NodeConfig,
};

use super::world::{Bytes, Container, TICK, World};

/// What a server's datastore holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cluster {
    pub token: Option<Bytes>,
    pub nodes: BTreeMap<String, Node>,
    /// The password that each node registered with. It goes with the Node.
    pub passwords: BTreeMap<String, u8>,
    /// The default service account.
    pub service_account: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Node {
    pub ready: bool,
    pub renewed: i64,
    pub version: String,
    pub draining: Option<i64>,
    /// Pods that a drain has to move.
    pub pods: u8,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<String>,
    pub configured: Option<Configured>,
}

/// [`NodeConfig`], to be hashed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Configured {
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<String>,
}

impl From<&NodeConfig> for Configured {
    fn from(c: &NodeConfig) -> Self {
        Self { labels: c.labels.clone(), taints: c.taints.clone() }
    }
}

/// The kubeconfig of a cluster's incarnation: another CA each.
pub fn kubeconfig(incarnation: u8) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: default\n\
         clusters:\n- cluster:\n    certificate-authority-data: CA{incarnation}\n    server: https://127.0.0.1:6443\n  name: default\n\
         contexts:\n- context:\n    cluster: default\n    user: default\n  name: default\n\
         users:\n- name: default\n  user:\n    client-certificate-data: CERT\n    client-key-data: KEY\n"
    )
}

/// The cluster's name on the Docker host, by the name of one of its nodes.
fn cluster_of(node: &str) -> Option<&str> {
    let (rest, _) = node.strip_prefix("k3d-")?.rsplit_once('-')?;
    rest.strip_suffix("-server").or_else(|| rest.strip_suffix("-agent"))
}

impl World {
    /// One step of K3s's own progress on all nodes, and the passing of time.
    pub fn tick(&mut self) {
        self.clock += TICK;
        let nodes: Vec<(String, bool)> = self
            .containers
            .iter()
            .filter(|(_, c)| c.state == State::Running)
            .filter_map(|(id, c)| match c.command.first().map(String::as_str) {
                Some("server") => Some((id.clone(), true)),
                Some("agent") => Some((id.clone(), false)),
                _ => None,
            })
            .collect();
        for cluster in self.clusters.values_mut() {
            cluster.service_account |= !cluster.nodes.is_empty();
        }
        for (id, _) in nodes.iter().filter(|(_, server)| *server) {
            self.serve(id);
        }
        let mut alive = BTreeSet::new();
        for (id, server) in &nodes {
            if *server || self.join(id) {
                alive.insert(self.containers[id].name.clone());
            }
        }
        for name in &alive {
            self.report(name);
        }
        self.forget(&alive);
    }

    /// A server forms its cluster, or goes on with the one in its volume.
    fn serve(&mut self, id: &str) {
        let container = &self.containers[id];
        let token = self.read(id, TOKEN_FILE);
        let placed = container.networks.values().any(|p| p.ip.is_some());
        let (Some(state), Some(token), true) = (volume(container, STATE_VOLUME), token, placed) else {
            self.containers.get_mut(id).unwrap().serving = false;
            return;
        };
        let known = self.volumes[&state].incarnation;
        let incarnation = known.unwrap_or_else(|| {
            let used: BTreeSet<u8> = self.volumes.values().filter_map(|v| v.incarnation).collect();
            (0..).find(|i| !used.contains(i)).unwrap()
        });
        if known.is_none() {
            self.clusters.insert(incarnation, Cluster { token: Some(token.clone()), ..Cluster::default() });
            self.volumes.get_mut(&state).unwrap().incarnation = Some(incarnation);
        }
        if self.clusters[&incarnation].token.as_ref() != Some(&token) {
            // The data is encrypted with another token: it exits.
            self.end(id, 1).unwrap();
            return;
        }
        self.write(id, KUBECONFIG_FILE, kubeconfig(incarnation).as_bytes()).unwrap();
        let first = !self.containers[id].serving;
        self.containers.get_mut(id).unwrap().serving = true;
        if first {
            self.register(incarnation, id);
        }
    }

    /// An agent joins; whether its kubelet can report.
    fn join(&mut self, id: &str) -> bool {
        let container = &self.containers[id];
        let name = container.name.clone();
        let Some(incarnation) = cluster_of(&name).and_then(|c| self.incarnation(c)) else { return false };
        let Some(state) = volume(container, STATE_VOLUME) else { return false };
        let on = container.networks.iter().filter(|(_, p)| p.ip.is_some());
        let networks: BTreeSet<_> = on.map(|(id, _)| id.clone()).collect();
        if container.serving {
            // An agent that has joined knows the servers themselves.
            return self.volumes[&state].incarnation == Some(incarnation) && !networks.is_empty();
        }
        let balancer = cluster_of(&name).map(|c| names::ClusterNames::new(c).load_balancer());
        let reached = balancer.is_some_and(|b| self.forwards(&b, cluster_of(&name).unwrap(), &networks));
        let token = self.read(id, TOKEN_FILE);
        if !reached || token != self.clusters[&incarnation].token {
            return false;
        }
        if self.volumes[&state].incarnation.is_some_and(|i| i != incarnation) {
            return false;
        }
        self.volumes.get_mut(&state).unwrap().incarnation = Some(incarnation);
        if !self.register(incarnation, id) {
            return false;
        }
        self.containers.get_mut(id).unwrap().serving = true;
        true
    }

    /// A kubelet that starts makes its Node. `false`: its password is another one than the Node was made with.
    fn register(&mut self, incarnation: u8, id: &str) -> bool {
        let container = self.containers[id].clone();
        let Some(etc) = volume(&container, ETC_VOLUME) else { return false };
        let cluster = self.clusters.get_mut(&incarnation).unwrap();
        let known = cluster.passwords.get(&container.name).copied();
        let volume = self.volumes.get_mut(&etc).unwrap();
        let password = *volume.password.get_or_insert_with(|| known.map_or(0, |k| (k + 1) % 4));
        if known.is_some_and(|k| k != password) {
            return false;
        }
        cluster.passwords.insert(container.name.clone(), password);
        let clock = self.clock;
        let version = versions::of_image(&container.image).unwrap_or_default();
        let node = cluster.nodes.entry(container.name.clone()).or_insert_with(|| Node {
            renewed: clock,
            pods: 1,
            taints: container
                .command
                .iter()
                .filter_map(|a| a.strip_prefix("--node-taint=").map(str::to_owned))
                .collect(),
            ..Node::default()
        });
        node.version = version;
        true
    }

    /// A kubelet reports, if its Node was there when it started.
    fn report(&mut self, name: &str) {
        let clock = self.clock;
        let Some(incarnation) = cluster_of(name).and_then(|c| self.incarnation(c)) else { return };
        let container = self.named(name).unwrap();
        let etc = volume(container, ETC_VOLUME).unwrap();
        let password = self.volumes[&etc].password;
        let cluster = self.clusters.get_mut(&incarnation).unwrap();
        if cluster.passwords.get(name).copied() != password {
            return;
        }
        let Some(node) = cluster.nodes.get_mut(name) else { return };
        // It is made in one tick and ready in the next.
        node.ready |= node.renewed < clock;
        node.renewed = clock;
        match node.draining {
            Some(_) => node.pods = node.pods.saturating_sub(1),
            None if node.ready => node.pods = 1,
            None => {}
        }
    }

    /// Nodes whose kubelet does not report become NotReady; clusters that no volume holds are gone.
    fn forget(&mut self, alive: &BTreeSet<String>) {
        let held: BTreeSet<u8> = self.volumes.values().filter_map(|v| v.incarnation).collect();
        self.clusters.retain(|i, _| held.contains(i));
        let serving: BTreeSet<u8> = self
            .containers
            .values()
            .filter(|c| c.serving && c.command.first().is_some_and(|a| a == "server"))
            .filter_map(|c| self.volumes[&volume(c, STATE_VOLUME)?].incarnation)
            .collect();
        for (incarnation, cluster) in &mut self.clusters {
            if serving.contains(incarnation) {
                for (name, node) in &mut cluster.nodes {
                    node.ready &= alive.contains(name);
                }
            }
        }
    }

    /// The incarnation of a cluster whose server serves.
    pub fn incarnation(&self, cluster: &str) -> Option<u8> {
        let server = self.named(&format!("k3d-{cluster}-server-0"))?;
        let serves = server.serving && server.state == State::Running;
        let state = volume(server, STATE_VOLUME)?;
        serves.then(|| self.volumes.get(&state)?.incarnation).flatten()
    }

    /// Whether a load balancer on one of these networks leads to the cluster's server.
    fn forwards(&self, balancer: &str, cluster: &str, networks: &BTreeSet<String>) -> bool {
        let server = self.named(&format!("k3d-{cluster}-server-0"));
        let (Some(balancer), Some(server)) = (self.named(balancer), server) else { return false };
        let Some(config) = balancer.loaded.as_ref().map(|c| String::from_utf8_lossy(c)) else { return false };
        let leads = |ip: Ipv4Addr| config.contains(&format!("server {ip}:6443 "));
        balancer.state == State::Running
            && networks.iter().any(|n| balancer.networks.get(n).is_some_and(|p| p.ip.is_some()))
            && server
                .networks
                .iter()
                .any(|(n, p)| balancer.networks.contains_key(n) && p.ip.is_some_and(leads))
    }

    /// The created cluster as the operator reaches it by its name and kubeconfig.
    pub fn reach(&self, cluster: &str, file: &str) -> Result<u8, String> {
        let incarnation = self.incarnation(cluster).ok_or("connection refused")?;
        let names = names::ClusterNames::new(cluster);
        let networks = self.networks.keys().cloned().collect();
        if !self.forwards(&names.load_balancer(), cluster, &networks) {
            return Err("no way to the API".into());
        }
        if file != kubeconfig(incarnation) {
            return Err("certificate signed by unknown authority".into());
        }
        Ok(incarnation)
    }

    /// A Node of the cluster that a node belongs to, for calls to its API.
    pub fn node(&mut self, name: &str) -> Result<&mut Node, String> {
        let cluster = cluster_of(name).ok_or("no node")?;
        let server = format!("k3d-{cluster}-server-0");
        let file = self.read(&server, KUBECONFIG_FILE).ok_or("no kubeconfig")?;
        let incarnation = self.reach(cluster, &String::from_utf8_lossy(&file))?;
        let cluster = self.clusters.get_mut(&incarnation).unwrap();
        cluster.nodes.get_mut(name).ok_or_else(|| format!("nodes {name} not found"))
    }

    pub fn drain(&mut self, name: &str) -> Result<(), String> {
        let clock = self.clock;
        self.node(name)?.draining.get_or_insert(clock);
        Ok(())
    }

    pub fn uncordon(&mut self, name: &str) -> Result<(), String> {
        self.node(name)?.draining = None;
        Ok(())
    }

    pub fn configure(&mut self, name: &str, config: &NodeConfig) -> Result<(), String> {
        let node = self.node(name)?;
        let before = node.configured.replace(config.into()).unwrap_or_default();
        node.labels.retain(|k, _| !before.labels.contains_key(k));
        node.labels.extend(config.labels.clone());
        node.taints.retain(|t| !before.taints.contains(t));
        node.taints.extend(config.taints.iter().cloned());
        node.taints.sort();
        node.taints.dedup();
        Ok(())
    }

    pub fn delete_node(&mut self, name: &str) -> Result<(), String> {
        match self.node(name) {
            Ok(_) => {}
            Err(gone) if gone.ends_with("not found") => {}
            Err(error) => return Err(error),
        }
        let incarnation = self.incarnation(cluster_of(name).unwrap()).unwrap();
        let cluster = self.clusters.get_mut(&incarnation).unwrap();
        cluster.nodes.remove(name);
        cluster.passwords.remove(name);
        Ok(())
    }
}

/// The name of a node's volume of a kind.
fn volume(container: &Container, kind: &str) -> Option<String> {
    let suffix = format!("-{kind}");
    container.mounts.values().find(|v| v.ends_with(&suffix)).cloned()
}
