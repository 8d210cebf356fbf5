//! What K3s makes of the containers: clusters that live in their servers' volumes, nodes that join them, and the
//! ways in which that goes wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use localcluster_operator::{
    api::names,
    child::{
        api::Error as ChildError,
        state::{ClusterConfigMap, ConfigKey, Found, Held, NodeConfig},
    },
    docker::engine::{Ended, State},
    k3s::{
        ETC_VOLUME, HOSTS_DIR, JOIN_FILE, KUBECONFIG_FILE, NEXT_TOKEN_FILE, REGISTRIES_FILE,
        SERVER_TOKEN_FILE, STATE_VOLUME, TOKEN_FILE,
        hosts_toml::HEADER,
        kube_proxy::Told,
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
        why if why.starts_with("409") => ChildError::Api(why),
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

/// The cluster's name on the Docker host, by the name of one of its nodes.
fn cluster_of(node: &str) -> Option<&str> {
    let (rest, _) = node.strip_prefix("k3d-")?.rsplit_once('-')?;
    rest.strip_suffix("-server").or_else(|| rest.strip_suffix("-agent"))
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
        let up =
            self.containers.values().filter(|c| c.serving && c.hung.is_none() && c.state == State::Running);
        let of = |c: &Container| Some((self.volumes[&volume(c, STATE_VOLUME)?].incarnation?, c.name.clone()));
        let up: Vec<(u8, String)> = up.filter_map(of).filter(|(i, _)| self.quorum(*i)).collect();
        for (incarnation, name) in up {
            let cluster = self.clusters.get_mut(&incarnation).unwrap();
            let node = cluster.nodes.get_mut(&name);
            node.into_iter().for_each(|n| n.api_renewed = Some(self.clock));
        }
    }

    /// Once after its start, K3s reads its registries file, and makes containerd's files of it anew.
    fn read_registries(&mut self, id: &str) {
        if self.containers[id].loaded.is_some() {
            return;
        }
        let file = self.read(id, REGISTRIES_FILE).unwrap_or_default();
        let text = String::from_utf8_lossy(&file).into_owned();
        let parsed = registries::parse_rendered(&text).unwrap_or_default();
        self.containers.get_mut(id).unwrap().loaded = Some(file);
        let generated = |path: &String, content: &Bytes| {
            path.starts_with(HOSTS_DIR) && content.starts_with(HEADER.as_bytes())
        };
        if let Some(state) = volume(&self.containers[id], STATE_VOLUME) {
            self.volumes.entry(state).or_default().files.retain(|path, content| !generated(path, content));
        }
        for (dir, text) in parsed.hosts(true) {
            self.write(id, &format!("{HOSTS_DIR}/{dir}/hosts.toml"), text.as_bytes()).unwrap();
        }
    }

    /// What a node's containerd does about registries: the credentials it was started with, and where it looks.
    pub fn registries_of(&self, id: &str) -> (BTreeMap<String, Auth>, BTreeMap<String, String>) {
        let loaded = self.containers[id].loaded.clone().unwrap_or_default();
        let parsed = registries::parse_rendered(&String::from_utf8_lossy(&loaded)).unwrap_or_default();
        let mut hosts = BTreeMap::new();
        for (path, content) in self.tree(id, HOSTS_DIR) {
            let dir = path.trim_start_matches(HOSTS_DIR).trim_matches('/').trim_end_matches("/hosts.toml");
            if content != registries::neutral_hosts(dir).as_bytes() {
                hosts.insert(path.clone(), String::from_utf8(content).unwrap());
            }
        }
        for (path, content) in self.tree(id, CERTIFICATES) {
            if !content.is_empty() {
                hosts.insert(path.clone(), String::from_utf8(content).unwrap());
            }
        }
        (parsed.auth(), hosts)
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
        if !self.containers[id].serving && self.clusters[&incarnation].token.as_ref() != Some(&token) {
            // The data is encrypted with another token: it exits.
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

    /// A server applies what is new in its manifests, and deletes nothing.
    fn deploy(&mut self, incarnation: u8, id: &str) {
        let files = self.tree(id, manifests::DIRECTORY);
        let cluster = self.clusters.get_mut(&incarnation).unwrap();
        for (path, content) in files {
            let content: Bytes = content.into();
            if cluster.applied.get(&path) != Some(&content) {
                let parsed = manifests::parse(&content).expect("what is put there can be applied");
                cluster.objects.extend(parsed.objects);
                cluster.applied.insert(path, content);
            }
        }
    }

    /// Those of these objects that are there.
    pub fn there(
        &self,
        cluster: &str,
        asked: &BTreeSet<ObjectRef>,
    ) -> Result<BTreeMap<ObjectRef, Found>, String> {
        let incarnation = self.incarnation(cluster).ok_or("connection refused")?;
        let there = self.clusters[&incarnation].objects.intersection(asked);
        Ok(there.map(|o| (o.clone(), Found { uid: o.to_string(), going: false })).collect())
    }

    pub fn delete_object(&mut self, cluster: &str, object: &ObjectRef) -> Result<(), String> {
        let incarnation = self.incarnation(cluster).ok_or("connection refused")?;
        self.clusters.get_mut(&incarnation).unwrap().objects.remove(object);
        Ok(())
    }

    /// A server without data joins the one at this address, as a learner at first.
    fn join_etcd(&mut self, id: &str, name: &str, state: &str, token: &Bytes, ip: Ipv4Addr) {
        self.containers.get_mut(id).unwrap().serving = false;
        let host = self.containers.values().find(|c| {
            c.state == State::Running && c.serving && c.networks.values().any(|p| p.ip == Some(ip))
        });
        let incarnation = host
            .and_then(|c| volume(c, STATE_VOLUME))
            .and_then(|v| self.volumes[&v].incarnation)
            .filter(|i| self.quorum(*i));
        let Some(incarnation) = incarnation else { return self.end(id, 1).unwrap() };
        let cluster = self.clusters.get_mut(&incarnation).unwrap();
        let learner = cluster.members.values().any(|votes| !votes);
        if !cluster.etcd || cluster.token.as_ref() != Some(token) || cluster.members.contains_key(name) {
            return self.end(id, 1).unwrap();
        }
        if !learner {
            cluster.members.insert(name.to_owned(), false);
            self.volumes.get_mut(state).unwrap().incarnation = Some(incarnation);
        }
    }

    /// Whether most of a cluster's voters are up.
    pub fn quorum(&self, incarnation: u8) -> bool {
        let cluster = &self.clusters[&incarnation];
        let voters: Vec<&String> =
            cluster.members.iter().filter(|(_, votes)| **votes).map(|(n, _)| n).collect();
        let up = voters.iter().filter(|name| {
            self.named(name).is_some_and(|c| {
                let state = volume(c, STATE_VOLUME).and_then(|v| self.volumes.get(&v)?.incarnation);
                // The others know it by the address that it was made with.
                c.state == State::Running
                    && c.networks.values().any(|p| p.ip.is_some() && p.ip == p.pinned)
                    && state == Some(incarnation)
            })
        });
        !cluster.etcd || up.count() * 2 > voters.len()
    }

    /// The servers of a cluster that could run K3s's own controllers.
    fn leaders(&self, incarnation: u8) -> Vec<String> {
        let cluster = &self.clusters[&incarnation];
        let up = self.containers.values().filter(|c| {
            let of = volume(c, STATE_VOLUME).and_then(|v| self.volumes.get(&v)?.incarnation);
            let serves = c.serving && c.hung.is_none() && c.state == State::Running;
            serves && of == Some(incarnation) && cluster.members.get(&c.name) == Some(&true)
        });
        let mut names: Vec<String> = up.map(|c| c.name.clone()).collect();
        names.sort();
        names
    }

    /// Whoever runs K3s's own controllers goes on, or another one takes over, at once where they were given back.
    fn lead(&mut self) {
        for incarnation in self.clusters.keys().copied().collect::<Vec<_>>() {
            if !self.clusters[&incarnation].etcd || !self.quorum(incarnation) {
                continue;
            }
            let (clock, able) = (self.clock, self.leaders(incarnation));
            let cluster = self.clusters.get_mut(&incarnation).unwrap();
            let next = match &cluster.lead {
                Some((holder, _)) if able.contains(holder) => Some(holder),
                Some((_, renewed)) if clock < renewed + LEASE => None,
                _ => able.first(),
            };
            let Some(next) = next.cloned() else { continue };
            cluster.lead = Some((next, clock));
            let going: Vec<String> =
                cluster.nodes.iter().filter(|(_, n)| n.going).map(|(name, _)| name.clone()).collect();
            going.iter().for_each(|name| cluster.let_go(name));
        }
    }

    /// Whether a server that lives runs K3s's own controllers.
    fn is_led(&self, incarnation: u8) -> bool {
        let cluster = &self.clusters[&incarnation];
        !cluster.etcd
            || cluster.lead.as_ref().is_some_and(|(holder, _)| self.leaders(incarnation).contains(holder))
    }

    /// They are given back for a server that has ended, if that is still how it was seen.
    pub fn release_lease(&mut self, cluster: &str, version: &str) -> Result<(), String> {
        let incarnation = self.reach(cluster, &self.kubeconfig_of(cluster)?)?;
        let known = self.clusters.get_mut(&incarnation).unwrap();
        if known.lead.as_ref().is_some_and(|lead| lead_version(lead) == version) {
            let holder = known.lead.take().unwrap().0;
            assert!(!self.leaders(incarnation).contains(&holder), "it was taken from {holder}, which lives");
            self.lead();
        }
        Ok(())
    }

    /// Learners become voters, and who was asked to go is taken out.
    fn vote(&mut self) {
        for incarnation in self.clusters.keys().copied().collect::<Vec<_>>() {
            if !self.quorum(incarnation) {
                continue;
            }
            let up: BTreeSet<String> = self
                .containers
                .values()
                .filter(|c| c.state == State::Running)
                .map(|c| c.name.clone())
                .collect();
            let led = self.is_led(incarnation);
            let cluster = self.clusters.get_mut(&incarnation).unwrap();
            // One that does not get on is removed, without its having a Node.
            cluster.members.retain(|name, votes| *votes || up.contains(name));
            // Its Node comes after: K3s starts the API when it votes.
            for votes in cluster.members.values_mut() {
                *votes = true;
            }
            for (name, node) in &mut cluster.nodes {
                if led && node.leaving && cluster.members.iter().any(|(other, votes)| *votes && other != name)
                {
                    cluster.members.remove(name);
                    (node.leaving, node.left) = (false, true);
                }
            }
        }
    }

    /// What a server writes of the token that its data is of.
    fn write_token(&mut self, id: &str, incarnation: u8) {
        let token = self.clusters[&incarnation].token.clone().unwrap_or_default();
        let whole = [b"K10ca::server:", &*token, b"\n"].concat();
        self.write(id, SERVER_TOKEN_FILE, &whole).unwrap();
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
        if *token != old && token.as_ref() != Some(&new) {
            return Ended { code: 1, stderr: "Unauthorized".into(), ..Ended::default() };
        }
        *token = Some(new);
        self.write_token(id, incarnation);
        self.write(id, NEXT_TOKEN_FILE, b"").unwrap();
        Ended::default()
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
            since: clock,
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

    /// Whether a node has another password than its Node was made with.
    pub fn is_refused(&self, id: &str) -> bool {
        let container = &self.containers[id];
        let incarnation = cluster_of(&container.name).and_then(|c| self.incarnation(c));
        let known = incarnation.and_then(|i| self.clusters[&i].passwords.get(&container.name));
        let own = volume(container, ETC_VOLUME).and_then(|v| self.volumes.get(&v)?.password);
        known.is_some_and(|known| own.is_some_and(|own| own != *known))
    }

    /// A kubelet reports, if its Node was there when it started.
    fn report(&mut self, name: &str) {
        let clock = self.clock;
        let Some(incarnation) = cluster_of(name).and_then(|c| self.incarnation(c)) else { return };
        let container = self.named(name).unwrap();
        let etc = volume(container, ETC_VOLUME).unwrap();
        let password = self.volumes[&etc].password;
        let broken = volume(container, KUBELET_VOLUME).is_some_and(|v| self.volumes[&v].broken)
            || self.no_network_plugin;
        let cluster = self.clusters.get_mut(&incarnation).unwrap();
        if cluster.passwords.get(name).copied() != password {
            return;
        }
        let Some(node) = cluster.nodes.get_mut(name) else { return };
        // It is made in one tick and ready in the next.
        node.turn(!broken && (node.ready || node.renewed < clock), clock);
        node.renewed = clock;
        match node.draining {
            Some(_) => node.pods = node.pods.saturating_sub(1),
            None if node.ready => node.pods = 1,
            None => {}
        }
    }

    /// Nodes whose kubelet does not report become NotReady; clusters that no volume holds are gone.
    fn forget(&mut self, alive: &BTreeSet<String>) {
        let clock = self.clock;
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
                    node.turn(node.ready && alive.contains(name), clock);
                }
            }
        }
    }

    /// What a node's kube-proxy tells: it has set up the Services a tick after its Node is Ready.
    pub fn kube_proxy(&self, name: &str) -> Told {
        let serves = self.named(name).filter(|c| c.serving && c.state == State::Running && c.hung.is_none());
        let Some(container) = serves else { return Told::Unsure };
        let ready = |cluster: &Cluster| {
            let node = cluster.nodes.get(name)?;
            let started = container.started.unwrap_or_default();
            Some(node.ready && node.since.max(started) < self.clock)
        };
        match self.clusters.values().find_map(ready) {
            Some(true) => Told::Answers,
            Some(false) | None => Told::Behind,
        }
    }

    /// The incarnation of a cluster whose server serves.
    pub fn incarnation(&self, cluster: &str) -> Option<u8> {
        let of = |server: &Container| {
            let state = volume(server, STATE_VOLUME)?;
            let serves = server.serving && server.state == State::Running;
            serves.then(|| self.volumes.get(&state)?.incarnation).flatten()
        };
        self.servers(cluster).find_map(of).filter(|incarnation| self.quorum(*incarnation))
    }

    /// The containers of a cluster's servers.
    fn servers<'a>(&'a self, cluster: &str) -> impl Iterator<Item = &'a Container> + use<'a> {
        let prefix = format!("k3d-{cluster}-server-");
        self.containers.values().filter(move |c| c.name.starts_with(&prefix))
    }

    /// A kubeconfig that one of a cluster's servers wrote.
    fn kubeconfig_of(&self, cluster: &str) -> Result<String, String> {
        let mut files = self.servers(cluster).filter_map(|c| self.read(&c.name, KUBECONFIG_FILE));
        Ok(String::from_utf8_lossy(&files.next().ok_or("no kubeconfig")?).into_owned())
    }

    /// Whether a load balancer on one of these networks leads to the cluster's server.
    fn forwards(&self, balancer: &str, cluster: &str, networks: &BTreeSet<String>) -> bool {
        let Some(balancer) = self.named(balancer) else { return false };
        let Some(config) = balancer.loaded.as_ref().map(|c| String::from_utf8_lossy(c)) else { return false };
        let leads = |ip: Ipv4Addr| config.contains(&format!("server {ip}:6443 "));
        balancer.state == State::Running
            && networks.iter().any(|n| balancer.networks.get(n).is_some_and(|p| p.ip.is_some()))
            && self
                .servers(cluster)
                .filter(|s| s.serving && s.hung.is_none())
                .flat_map(|s| s.networks.iter())
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
        if file.replace(&*self.certificate, CERTIFICATE) != kubeconfig(incarnation) {
            return Err("certificate signed by unknown authority".into());
        }
        Ok(incarnation)
    }

    /// A Node of the cluster that a node belongs to, for calls to its API.
    pub fn node(&mut self, name: &str) -> Result<&mut Node, String> {
        let cluster = cluster_of(name).ok_or("no node")?;
        let incarnation = self.reach(cluster, &self.kubeconfig_of(cluster)?)?;
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

    pub fn set_config(&mut self, cluster: &str, wanted: &ClusterConfigMap) -> Result<(), String> {
        let incarnation = self.reach(cluster, &self.kubeconfig_of(cluster)?)?;
        let config = &mut self.clusters.get_mut(&incarnation).unwrap().config;
        let theirs = config.get(&wanted.key).is_some_and(|held| !held.ours);
        match &wanted.content {
            Some(_) if theirs && !wanted.claimed => return Err("409 somebody else's".into()),
            Some(content) => {
                drop(config.insert(wanted.key, Held { content: content.clone(), ours: true }));
            }
            None if theirs && !wanted.claimed => {}
            None => drop(config.remove(&wanted.key)),
        }
        Ok(())
    }

    /// The Node, where the API answers and has it.
    fn known(&mut self, name: &str) -> Result<Option<&mut Node>, String> {
        match self.node(name) {
            Ok(node) => Ok(Some(node)),
            Err(gone) if gone.ends_with("not found") => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub fn delete_node(&mut self, name: &str) -> Result<(), String> {
        let there = self.known(name)?.is_some();
        let incarnation = self.incarnation(cluster_of(name).unwrap()).unwrap();
        let led = self.is_led(incarnation);
        let cluster = self.clusters.get_mut(&incarnation).unwrap();
        if let Some(node) = cluster.nodes.get_mut(name)
            && !led
        {
            node.going = true;
            return Err(format!("{WAITS}a server that lets it go"));
        }
        if there {
            cluster.let_go(name);
        }
        self.forget_password(name)
    }

    pub fn forget_password(&mut self, name: &str) -> Result<(), String> {
        self.known(name)?;
        let incarnation = self.incarnation(cluster_of(name).unwrap()).unwrap();
        self.clusters.get_mut(&incarnation).unwrap().passwords.remove(name);
        Ok(())
    }

    /// A server that has become a voter and has no Node yet loses its data. Nothing that K3s offers takes its member
    /// out of etcd then, so this is not asked of the operator: it is as if a person had done so.
    pub fn lose_joiner(&mut self, name: &str) {
        for cluster in self.clusters.values_mut().filter(|c| !c.nodes.contains_key(name)) {
            cluster.members.remove(name);
        }
    }

    pub fn leave_etcd(&mut self, name: &str) -> Result<(), String> {
        if let Some(node) = self.known(name)? {
            node.leaving = !node.left;
        }
        Ok(())
    }
}

impl Cluster {
    /// K3s lets a Node go that is deleted, with its member of etcd, unless that is the last one that votes.
    fn let_go(&mut self, name: &str) {
        if self.members.iter().any(|(other, votes)| *votes && other != name) {
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
