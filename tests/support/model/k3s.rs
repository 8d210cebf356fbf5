//! What K3s makes of the containers: clusters that live in their servers' volumes, nodes that join them, and the
//! ways in which that goes wrong.

mod accounts;
mod calls;
mod configuration;
pub mod etcd;
mod join;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use localcluster_operator::{
    api::names,
    child::{
        account::{Account, AccountRole},
        api::Error as ChildError,
        state::{ClusterConfigMap, ConfigKey, Found, Held, Member, NodeConfig},
    },
    docker::engine::{Ended, State},
    k3s::{
        self, ETC_VOLUME, HOSTS_DIR, JOIN_FILE, KUBECONFIG_FILE, NEXT_TOKEN_FILE, REGISTRIES_FILE,
        SERVER_TOKEN_FILE, STATE_VOLUME, TOKEN_FILE,
        hosts_toml::HEADER,
        kube_proxy::ProbeResult,
        manifests::{self, ObjectRef},
        registries::{self, Auth},
        versions,
    },
    plan::validate::CERTIFICATES,
};

use super::world::{Bytes, CERTIFICATE, Container, TICK, World};

/// Stands for what a server says in its log that was reset.
const RESET: &str = "/reset";

/// What a server's datastore holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cluster {
    pub token: Option<Bytes>,
    pub nodes: BTreeMap<String, Node>,
    /// The password that each node registered with. It goes with the Node.
    pub passwords: BTreeMap<String, u8>,
    /// The default service account.
    pub service_account: bool,
    /// Whether the data is in etcd, where other servers can join.
    pub etcd: bool,
    /// The members of etcd, and whether they vote.
    pub members: BTreeMap<String, bool>,
    /// In etcd: the server that runs K3s's own controllers, and when it last said so. It may have ended since.
    pub lead: Option<(String, i64)>,
    /// Keys of ConfigMaps.
    pub config: BTreeMap<ConfigKey, Held>,
    /// ServiceAccounts of kubeconfigs.
    pub accounts: BTreeMap<AccountRole, Account>,
    /// How many ServiceAccounts and tokens were made.
    pub made: u32,
    /// By how many seconds its clock is ahead of that of the operator.
    pub skew: i64,
    /// Objects of manifests.
    pub objects: BTreeSet<ObjectRef>,
    /// The manifests that the server has applied since it was started, by path.
    pub applied: BTreeMap<String, Bytes>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Node {
    pub ready: bool,
    /// Since when it is, or is not.
    pub since: i64,
    pub renewed: i64,
    /// The last word of its server's kube-apiserver.
    pub api_renewed: Option<i64>,
    /// Whether its disk is full.
    pub full: bool,
    /// Its address; `None` for that of its container.
    pub address: Option<Ipv4Addr>,
    pub version: String,
    pub draining: Option<i64>,
    /// Whether its server is to be taken out of etcd, and was.
    pub leaving: bool,
    pub left: bool,
    /// Whether no kubelet made it, so that K3s has nothing to keep it for until it has seen it.
    pub made: bool,
    /// Whether it is deleted, and K3s has not let it go yet.
    pub going: bool,
    /// Pods that a drain has to move.
    pub pods: u8,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<String>,
    pub configured: Option<Configured>,
}

impl Node {
    fn turn(&mut self, ready: bool, clock: i64) {
        if self.ready != ready {
            (self.ready, self.since) = (ready, clock);
        }
    }
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

/// How long K3s's own controllers stay with a server that has ended.
const LEASE: i64 = 45;
/// What a call says that waits for them.
const WAITS: &str = "it waits for ";

/// An answer of the created cluster's API that is none.
pub fn told(why: String) -> ChildError {
    match why {
        why if why.starts_with(WAITS) => ChildError::Waits(why),
        why if why.starts_with("409") || why.starts_with("404") => ChildError::Api(why),
        why => ChildError::Unreachable(why),
    }
}

/// The volume of the kubelet's own state.
pub const KUBELET_VOLUME: &str = "kubelet";

/// The kubeconfig of a cluster's incarnation: another CA each.
pub fn kubeconfig(incarnation: u8) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: default\n\
         clusters:\n- cluster:\n    certificate-authority-data: CA{incarnation}\n    server: https://127.0.0.1:6443\n  name: default\n\
         contexts:\n- context:\n    cluster: default\n    user: default\n  name: default\n\
         users:\n- name: default\n  user:\n    client-certificate-data: {CERTIFICATE}\n    client-key-data: KEY\n"
    )
}

/// The hash of the CA of a cluster's incarnation.
pub fn ca_hash(incarnation: u8) -> String {
    format!("{incarnation:064x}")
}

/// The cluster's name on the Docker host, by the name of one of its nodes.
fn cluster_of(node: &str) -> Option<&str> {
    let (rest, index) = node.strip_prefix("k3d-")?.rsplit_once('-')?;
    let (cluster, _) = rest.rsplit_once('-')?;
    index.parse::<usize>().is_ok().then_some(cluster)
}

impl World {
    /// One step of K3s's own progress on all nodes, and the passing of time.
    pub fn tick(&mut self) {
        self.clock += TICK;
        self.containers.values_mut().filter(|c| c.state == State::Running && c.collects()).for_each(|c| {
            (c.state, c.exit_code) = (State::Exited, Some(0));
            c.networks.values_mut().for_each(|place| place.ip = None);
        });
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
        for (id, _) in &nodes {
            self.read_registries(id);
        }
        for (id, _) in nodes.iter().filter(|(_, server)| *server) {
            self.serve(id);
        }
        self.lead();
        self.vote();
        let mut alive = BTreeSet::new();
        for (id, server) in &nodes {
            if (*server || self.join(id)) && !self.containers[id].frozen {
                alive.insert(self.containers[id].name.clone());
            }
        }
        for name in &alive {
            self.report(name);
        }
        self.renew();
        self.forget(&alive);
    }

    /// The kube-apiservers of those that can agree on it say that they are up.
    fn renew(&mut self) {
        let up = self
            .containers
            .values()
            .filter(|c| c.serving && c.hung.is_none() && !c.cut_off && c.state == State::Running);
        let of = |c: &Container| Some((self.volumes[&volume(c, STATE_VOLUME)?].incarnation?, c.name.clone()));
        let up: Vec<(u8, String)> = up.filter_map(of).filter(|(i, _)| self.quorum(*i)).collect();
        for (incarnation, name) in up {
            let cluster = self.clusters.get_mut(&incarnation).unwrap();
            let node = cluster.nodes.get_mut(&name);
            node.into_iter().for_each(|n| n.api_renewed = Some(self.clock));
        }
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
        let name = container.name.clone();
        let told = self.read(id, JOIN_FILE).unwrap_or_default();
        let told = String::from_utf8_lossy(&told).into_owned();
        let etcd = told.contains("cluster-init: true");
        if self.containers[id].resets() {
            return self.reset(id, &name, known, told.contains("server:"));
        }
        if let (None, Some((_, host))) = (known, told.split_once("server: https://")) {
            let ip: Ipv4Addr = host.split(':').next().unwrap().parse().unwrap();
            self.join_etcd(id, &name, &state, &token, ip);
            return;
        }
        let incarnation = known.unwrap_or_else(|| {
            let used: BTreeSet<u8> = self.volumes.values().filter_map(|v| v.incarnation).collect();
            (0..).find(|i| !used.contains(i)).unwrap()
        });
        if known.is_none() {
            let members = if etcd { BTreeMap::from([(name.clone(), true)]) } else { BTreeMap::new() };
            if k3s::token::ca_hash_of(&token).is_some() {
                // It has no CA that the token could name.
                self.end(id, 1).unwrap();
                return;
            }
            let cluster = Cluster { token: Some(token.clone()), etcd, members, ..Cluster::default() };
            self.clusters.insert(incarnation, cluster);
            self.volumes.get_mut(&state).unwrap().incarnation = Some(incarnation);
        }
        let cluster = self.clusters.get_mut(&incarnation).unwrap();
        if etcd && !cluster.etcd {
            cluster.etcd = true;
            cluster.members.insert(name.clone(), true);
        }
        if cluster.etcd && !cluster.members.contains_key(&name) {
            // It was removed: with its data it does not start.
            self.end(id, 1).unwrap();
            return;
        }
        if !self.quorum(incarnation) {
            self.containers.get_mut(id).unwrap().serving = false;
            return;
        }
        if !self.containers[id].serving && !self.admits(incarnation, &token) {
            // The data is encrypted with another token, or is of another CA: it exits.
            self.end(id, 1).unwrap();
            return;
        }
        let file = kubeconfig(incarnation).replace(CERTIFICATE, &self.certificate);
        self.write(id, KUBECONFIG_FILE, file.as_bytes()).unwrap();
        self.write_token(id, incarnation);
        let first = !self.containers[id].serving;
        self.containers.get_mut(id).unwrap().serving = true;
        if first {
            self.clusters.get_mut(&incarnation).unwrap().applied.clear();
            self.register(incarnation, id);
        }
        self.deploy(incarnation, id);
    }

    /// What a server says that was run with `--cluster-reset`.
    pub fn reset_log(&self, id: &str) -> Vec<String> {
        match (self.containers[id].exit_code, self.read(id, RESET)) {
            (_, Some(_)) => vec!["Managed etcd cluster membership has been reset".into()],
            (Some(1), None) => vec!["level=fatal msg=\"Error: there is no data in etcd\"".into()],
            _ => Vec::new(),
        }
    }

    /// `--cluster-reset`: the server is etcd's only member, and ends.
    fn reset(&mut self, id: &str, name: &str, incarnation: Option<u8>, joins: bool) {
        let cluster = incarnation.and_then(|i| self.clusters.get_mut(&i)).filter(|c| c.etcd && !joins);
        let Some(cluster) = cluster else { return self.end(id, 1).unwrap() };
        cluster.members = BTreeMap::from([(name.to_owned(), true)]);
        self.write(id, RESET, b"").unwrap();
        self.end(id, 0).unwrap();
    }

    /// What a server writes of the token that its data is of.
    fn write_token(&mut self, id: &str, incarnation: u8) {
        let token = self.clusters[&incarnation].token.clone().unwrap_or_default();
        let whole = [format!("K10{}::server:", ca_hash(incarnation)).as_bytes(), &*token, b"\n"].concat();
        self.write(id, SERVER_TOKEN_FILE, &whole).unwrap();
    }

    /// Whether a node with this token may join, and does: a token that names another CA keeps it from it.
    fn admits(&self, incarnation: u8, token: &[u8]) -> bool {
        let known = self.clusters[&incarnation].token.as_deref();
        let ca = k3s::token::ca_hash_of(token).is_none_or(|hash| hash == ca_hash(incarnation));
        ca && known.is_some_and(|known| k3s::token::is_same(known, token))
    }

    /// `k3s token rotate`, as the operator runs it: from the one file's content to the other's.
    pub fn rotate_token(&mut self, id: &str) -> Ended {
        let state = volume(&self.containers[id], STATE_VOLUME);
        let known = state.and_then(|s| self.volumes[&s].incarnation).filter(|_| self.containers[id].serving);
        let old = self.read(id, TOKEN_FILE);
        let new = self.read(id, NEXT_TOKEN_FILE).filter(|new| !new.is_empty());
        let (Some(incarnation), Some(new)) = (known, new) else {
            return Ended { code: 1, stderr: "connection refused".into(), ..Ended::default() };
        };
        let token = &mut self.clusters.get_mut(&incarnation).unwrap().token;
        let is = |other: &[u8]| token.as_deref().is_some_and(|token| k3s::token::is_same(token, other));
        if !old.is_some_and(|old| is(&old)) && !is(&new) {
            return Ended { code: 1, stderr: "Unauthorized".into(), ..Ended::default() };
        }
        *token = Some(new);
        self.write_token(id, incarnation);
        self.write(id, NEXT_TOKEN_FILE, b"").unwrap();
        Ended::default()
    }
}

impl Cluster {
    /// K3s lets a Node go that is deleted, with its member of etcd, unless that is the last one that votes.
    fn let_go(&mut self, name: &str) {
        let unseen = self.nodes.get(name).is_some_and(|node| node.made && node.leaving);
        if !unseen && self.members.iter().any(|(other, votes)| *votes && other != name) {
            self.members.remove(name);
        }
        self.nodes.remove(name);
        self.passwords.remove(name);
    }
}

/// The version of a Lease.
pub fn lead_version((holder, renewed): &(String, i64)) -> String {
    format!("{holder}@{renewed}")
}

/// The name of a node's volume of a kind.
fn volume(container: &Container, kind: &str) -> Option<String> {
    let suffix = format!("-{kind}");
    container.mounts.values().find(|v| v.ends_with(&suffix)).cloned()
}
