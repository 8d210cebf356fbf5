//! A Docker engine as a plain value, with the engine's own semantics where the planner depends on them: what is taken,
//! what is in use, what survives what. A value can be cloned, compared and hashed, so that whole state spaces can be
//! explored.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use ipnet::Ipv4Net;
use localcluster_operator::{
    api::names,
    docker::{
        engine::{Ended, PathInfo, State, Update},
        error::Error,
        spec::{ContainerSpec, EndpointSettings, FileSpec, NetworkSpec, PortBinding, VolumeSpec},
    },
    k3s::{
        self,
        args::CLUSTER_RESET,
        hosts_file, images,
        kube_proxy::{self, Told},
        load_balancer::CONFIG_FILE,
        proxy,
    },
};

use super::k3s::Cluster;

pub type Labels = BTreeMap<String, String>;
pub type Bytes = Arc<[u8]>;
pub type Result<T> = std::result::Result<T, Error>;

/// How long a tick takes, in seconds.
pub const TICK: i64 = 30;
/// The time at the beginning, in seconds of the epoch.
pub const BEGIN: i64 = 1_700_000_000;
/// Where a node's containerd keeps its images.
const STATE_DIR: &str = "/var/lib/rancher/k3s/agent";
/// What stands for the admin's certificate.
pub const CERTIFICATE: &str = "CERT";
/// Docker's default network.
pub const BRIDGE: &str = "bridge~0";

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub clock: i64,
    /// By id.
    pub containers: BTreeMap<String, Container>,
    /// By id.
    pub networks: BTreeMap<String, Network>,
    /// By name.
    pub volumes: BTreeMap<String, Volume>,
    pub images: BTreeSet<String>,
    /// How often an image of the engine was made anew under its name.
    pub rebuilt: BTreeMap<String, u8>,
    /// Images that no registry has.
    pub unknown_images: BTreeSet<String>,
    /// Subnets that somebody took since the look, or that the engine does not tell of.
    pub unseen: BTreeSet<Ipv4Net>,
    /// Host ports that processes hold which are no containers.
    pub held_ports: BTreeSet<u16>,
    /// Directories of the host.
    pub host_directories: Arc<BTreeSet<String>>,
    /// Symbolic links of the host.
    pub host_links: Arc<BTreeSet<String>>,
    /// Whether two networks may have one name, as with engines before API 1.44.
    pub duplicates: bool,
    /// Whether nodes wait for a network plugin that nobody has installed yet.
    pub no_network_plugin: bool,
    /// The created clusters, by incarnation.
    pub clusters: BTreeMap<u8, Cluster>,
    /// What servers write as the admin's certificate when they start.
    pub certificate: Arc<str>,
    /// How many containers or networks of a name were made. Small, so that state spaces stay finite.
    pub made: BTreeMap<String, u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Container {
    pub name: String,
    pub image: String,
    pub command: Arc<[String]>,
    pub labels: Arc<Labels>,
    /// Volume names by directory.
    pub mounts: Arc<BTreeMap<String, String>>,
    /// What goes past a proxy, by each variable that lists that.
    pub past_proxy: Arc<[String]>,
    /// Directories of the host by directory.
    pub binds: Arc<BTreeMap<String, String>>,
    pub wanted_ports: Arc<[PortBinding]>,
    pub state: State,
    /// By network id. A stopped container keeps its place on a network that is gone.
    pub networks: BTreeMap<String, Place>,
    /// Files outside of volumes.
    pub files: BTreeMap<String, Bytes>,
    /// When a server that keeps its data in etcd was made; nothing depends on it for others.
    pub created: Option<i64>,
    pub started: Option<i64>,
    /// How often it was started again because it had ended by itself.
    pub started_again: u32,
    pub exit_code: Option<i64>,
    pub error: Option<String>,
    /// Whether the engine starts it again when it ends by itself.
    pub restart: bool,
    /// The configuration that nginx read last.
    pub loaded: Option<Bytes>,
    /// K3s: whether the API is served, or the cluster was joined, since the last start.
    pub serving: bool,
    /// K3s: whether the kubelet hangs, until the next start.
    pub frozen: bool,
    /// K3s: since when a server hangs as a whole, until the next start.
    pub hung: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Place {
    /// The network's name, which outlives the network.
    pub name: String,
    pub pinned: Option<Ipv4Addr>,
    pub aliases: Vec<String>,
    /// While it runs.
    pub ip: Option<Ipv4Addr>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    pub name: String,
    pub labels: Arc<Labels>,
    pub subnet: Ipv4Net,
    pub ip_range: Ipv4Net,
    pub created: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Volume {
    pub labels: Arc<Labels>,
    /// By absolute path in the container that it is mounted in.
    pub files: BTreeMap<String, Bytes>,
    /// In a node's state volume: the incarnation of the cluster that it belongs to.
    pub incarnation: Option<u8>,
    /// In a node's state volume: containerd's images, with the label that tells their id on the engine.
    pub images: BTreeMap<String, Option<String>>,
    /// In a node's etc volume: the node's password.
    pub password: Option<u8>,
    /// In a node's kubelet volume: something keeps the Node from being Ready.
    pub broken: bool,
}

impl Default for World {
    fn default() -> Self {
        let bridge = Network {
            name: "bridge".into(),
            labels: Arc::default(),
            subnet: "172.17.0.0/16".parse().unwrap(),
            ip_range: "172.17.0.0/16".parse().unwrap(),
            created: 0,
        };
        Self {
            clock: BEGIN,
            containers: BTreeMap::new(),
            networks: BTreeMap::from([(BRIDGE.to_owned(), bridge)]),
            volumes: BTreeMap::new(),
            images: BTreeSet::new(),
            rebuilt: BTreeMap::new(),
            unknown_images: BTreeSet::new(),
            unseen: BTreeSet::new(),
            held_ports: BTreeSet::new(),
            host_directories: Arc::new(["/srv", "/srv/images"].map(String::from).into()),
            host_links: Arc::default(),
            duplicates: false,
            no_network_plugin: false,
            clusters: BTreeMap::new(),
            certificate: CERTIFICATE.into(),
            made: BTreeMap::new(),
        }
    }
}

/// How a command ended that wrote this.
fn said(stdout: &str) -> Ended {
    Ended { stdout: stdout.to_owned(), ..Ended::default() }
}

fn missing<T>(what: &str) -> Result<T> {
    Err(Error::NotFound(format!("No such object: {what}")))
}

impl World {
    /// The id of a container, by id or name.
    pub fn id(&self, key: &str) -> Option<String> {
        if self.containers.contains_key(key) {
            return Some(key.to_owned());
        }
        self.containers.iter().find(|(_, c)| c.name == key).map(|(id, _)| id.clone())
    }

    pub fn named(&self, name: &str) -> Option<&Container> {
        self.containers.values().find(|c| c.name == name)
    }

    pub fn container(&mut self, key: &str) -> Result<&mut Container> {
        match self.id(key) {
            Some(id) => Ok(self.containers.get_mut(&id).unwrap()),
            None => missing(key),
        }
    }

    fn fresh_id(&mut self, name: &str) -> String {
        let number = self.made.entry(name.to_owned()).or_default();
        loop {
            let id = format!("{name}~{number}");
            *number = (*number + 1) % 4;
            if !self.containers.contains_key(&id) && !self.networks.contains_key(&id) {
                return id;
            }
        }
    }

    /// The same world as if it were the beginning: how long ago something was counts, up to a while, and when it was
    /// does not. So equal situations are equal values, and there is an end to them.
    pub fn canonical(&mut self) {
        const WHILE: i64 = 300;
        let past = self.clock - BEGIN;
        let shift = |t: i64| (t - past).max(BEGIN - WHILE);
        let starts: BTreeMap<String, i64> =
            self.containers.values().filter_map(|c| Some((c.name.clone(), c.started?))).collect();
        for container in self.containers.values_mut() {
            container.created = container.created.map(shift);
            container.started = container.started.map(shift);
        }
        for cluster in self.clusters.values_mut() {
            cluster.lead = cluster.lead.take().map(|(holder, renewed)| (holder, shift(renewed)));
            for (name, node) in &mut cluster.nodes {
                let started = starts.get(name).copied();
                // What was said before the last start stays so.
                let shift_said = |at: i64| {
                    let before = started.filter(|started| at < *started);
                    before.map_or(shift(at), |started| shift(at).min(shift(started) - 1))
                };
                node.api_renewed = node.api_renewed.map(shift_said);
                node.renewed = shift_said(node.renewed);
                node.draining = node.draining.map(shift);
                // Nothing is counted here that a Ready one would end.
                node.since = if node.ready { BEGIN - WHILE } else { shift(node.since) };
            }
        }
        for network in self.networks.values_mut() {
            network.created = shift(network.created);
        }
        self.clock = BEGIN;
        // No plan refers to containers that are gone; to networks, the containers on them do.
        let networks: BTreeSet<String> = self.networks.values().map(|n| n.name.clone()).collect();
        let places: BTreeSet<String> =
            self.containers.values().flat_map(|c| c.networks.values().map(|p| p.name.clone())).collect();
        self.made.retain(|name, _| networks.contains(name) || places.contains(name));
    }

    pub fn pull(&mut self, image: &str) -> Result<()> {
        if self.unknown_images.contains(image) {
            return Err(Error::Pull(format!("manifest for {image} not found: manifest unknown")));
        }
        self.images.insert(image.to_owned());
        Ok(())
    }

    pub fn create_network(&mut self, spec: &NetworkSpec) -> Result<String> {
        if !self.duplicates && self.networks.values().any(|n| n.name == spec.name) {
            return Err(Error::Conflict(format!("network with name {} already exists", spec.name)));
        }
        let overlaps = |n: &Network| n.subnet.contains(&spec.subnet) || spec.subnet.contains(&n.subnet);
        if self.networks.values().any(overlaps) || self.unseen.contains(&spec.subnet) {
            return Err(Error::Address("Pool overlaps with other one on this address space".into()));
        }
        let id = self.fresh_id(&spec.name);
        let network = Network {
            name: spec.name.clone(),
            labels: Arc::new(spec.labels.clone()),
            subnet: spec.subnet,
            ip_range: spec.ip_range,
            created: self.clock,
        };
        self.networks.insert(id.clone(), network);
        Ok(id)
    }

    pub fn remove_network(&mut self, id: &str) -> Result<()> {
        if !self.networks.contains_key(id) {
            return missing(id);
        }
        // Endpoints are active while their containers run; what is stopped does not keep a network.
        if self.containers.values().any(|c| c.is_up() && c.networks.contains_key(id)) {
            return Err(Error::Busy(format!("network {id} has active endpoints")));
        }
        self.networks.remove(id);
        Ok(())
    }

    pub fn create_volume(&mut self, spec: &VolumeSpec) -> Result<()> {
        let labels = Arc::new(spec.labels.clone());
        self.volumes.entry(spec.name.clone()).or_insert_with(|| Volume { labels, ..Volume::default() });
        Ok(())
    }

    pub fn remove_volume(&mut self, name: &str) -> Result<()> {
        if !self.volumes.contains_key(name) {
            return missing(name);
        }
        if self.containers.values().any(|c| c.mounts.values().any(|v| v == name)) {
            return Err(Error::Busy(format!("remove {name}: volume is in use")));
        }
        self.volumes.remove(name);
        Ok(())
    }

    pub fn create_container(&mut self, spec: &ContainerSpec, network: Option<&str>) -> Result<String> {
        if self.named(&spec.name).is_some() {
            return Err(Error::Conflict(format!("The container name \"/{}\" is already in use", spec.name)));
        }
        if !self.images.contains(&spec.image) {
            return Err(Error::NotFound(format!("No such image: {}", spec.image)));
        }
        if let Some(bind) = spec.binds.values().find(|b| !self.host_directories.contains(&b.source)) {
            return Err(Error::Invalid(format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {}",
                bind.source
            )));
        }
        let id = self.fresh_id(&spec.name);
        for volume in spec.mounts.values() {
            let made = || Volume { labels: Arc::new(spec.volume_labels.clone()), ..Volume::default() };
            self.volumes.entry(volume.clone()).or_insert_with(made);
        }
        let network = network.unwrap_or(BRIDGE).to_owned();
        let name = self.networks.get(&network).map(|n| n.name.clone()).unwrap_or_default();
        let place =
            Place { name, pinned: spec.endpoint.ip, aliases: spec.endpoint.aliases.clone(), ip: None };
        let env = spec.env.iter().chain(&spec.host_env).collect::<BTreeMap<_, _>>();
        let env: Vec<String> = env.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let container = Container {
            name: spec.name.clone(),
            image: spec.image.clone(),
            command: spec.command.clone().into(),
            labels: Arc::new(spec.labels.clone()),
            mounts: Arc::new(spec.mounts.clone()),
            past_proxy: proxy::lists(env.iter().map(String::as_str)).into(),
            binds: Arc::new(spec.binds.iter().map(|(to, b)| (to.clone(), b.source.clone())).collect()),
            wanted_ports: spec.ports.clone().into(),
            state: State::Created,
            networks: BTreeMap::from([(network, place)]),
            files: BTreeMap::new(),
            created: spec.labels.contains_key(names::DATASTORE).then_some(self.clock),
            started: None,
            started_again: 0,
            exit_code: None,
            error: None,
            restart: !spec.once,
            loaded: None,
            serving: false,
            frozen: false,
            hung: None,
        };
        self.containers.insert(id.clone(), container);
        Ok(id)
    }

    pub fn upload(&mut self, key: &str, files: &[FileSpec]) -> Result<()> {
        for file in files {
            self.write(key, &file.path, &file.content)?;
        }
        Ok(())
    }

    /// Puts a file where it belongs: into the volume that is mounted over it, if any.
    pub fn write(&mut self, key: &str, path: &str, content: &[u8]) -> Result<()> {
        let container = self.container(key)?;
        match container.volume_of(path) {
            Some(volume) => {
                self.volumes.entry(volume).or_default().files.insert(path.to_owned(), content.into());
            }
            None => drop(container.files.insert(path.to_owned(), content.into())),
        }
        Ok(())
    }

    pub fn read(&self, key: &str, path: &str) -> Option<Bytes> {
        let container = self.containers.get(&self.id(key)?)?;
        match container.volume_of(path) {
            Some(volume) => self.volumes.get(&volume)?.files.get(path).cloned(),
            None => container.files.get(path).cloned(),
        }
    }

    /// The files below a directory.
    pub fn tree(&self, key: &str, path: &str) -> BTreeMap<String, Vec<u8>> {
        let Some(container) = self.id(key).and_then(|id| self.containers.get(&id)) else {
            return BTreeMap::new();
        };
        let begin = format!("{path}/");
        let volumes = container.mounts.values().filter_map(|v| self.volumes.get(v));
        let files = volumes.flat_map(|v| v.files.iter()).chain(container.files.iter());
        files.filter(|(p, _)| p.starts_with(&begin)).map(|(p, c)| (p.clone(), c.to_vec())).collect()
    }

    /// What a path in a container is, where it is in a directory of the host.
    pub fn path_info(&self, key: &str, path: &str) -> Option<PathInfo> {
        let container = self.containers.get(&self.id(key)?)?;
        let file = PathInfo::default();
        if k3s::DATA.contains(&path) {
            return self.volumes.get(&container.volume_of(path)?)?.incarnation.map(|_| file);
        }
        if path == k3s::PASSWORD_FILE {
            return self.volumes.get(&container.volume_of(path)?)?.password.map(|_| file);
        }
        let (to, from) = container.binds.iter().find(|(to, _)| path.starts_with(to.as_str()))?;
        let outside = format!("{from}{}", &path[to.len()..]);
        let is_symlink = self.host_links.contains(&outside);
        let is_dir = self.host_directories.contains(&outside);
        (is_dir || is_symlink).then_some(PathInfo { is_dir, is_symlink })
    }

    /// The output of a container: only that of a garbage collection and of a reset of etcd is of interest.
    pub fn log(&self, key: &str) -> Vec<String> {
        let id = self.id(key);
        let collects = id.as_ref().is_some_and(|id| self.containers[id].collects());
        let line = "3 blobs marked, 2 blobs and 0 manifests eligible for deletion";
        match id {
            _ if collects => vec!["images".into(), line.into()],
            Some(id) if self.containers[&id].resets() => self.reset_log(&id),
            _ => Vec::new(),
        }
    }

    /// A garbage collection has the data for itself.
    fn check_data(&self, id: &str) {
        let me = &self.containers[id];
        let data =
            |c: &Container| c.mounts.get("/var/lib/registry").or(c.binds.get("/var/lib/registry")).cloned();
        for other in self.containers.iter().filter(|(other, c)| *other != id && c.is_up()).map(|(_, c)| c) {
            let shared = data(me).is_some() && data(me) == data(other);
            assert!(
                !(shared && (me.collects() || other.collects())),
                "{} and {} at once",
                me.name,
                other.name
            );
        }
    }

    pub fn start(&mut self, key: &str) -> Result<()> {
        let Some(id) = self.id(key) else { return missing(key) };
        let container = &self.containers[&id];
        match container.state {
            State::Running => return Ok(()),
            State::Paused => return Err(Error::Busy("cannot start a paused container".into())),
            _ => {}
        }
        let failure = self.hindrance(&id);
        if let Some(error) = failure {
            self.containers.get_mut(&id).unwrap().error = Some(error.to_string());
            return Err(error);
        }
        self.check_data(&id);
        let networks: Vec<String> = container.networks.keys().cloned().collect();
        for network in networks {
            let ip = self.address(&network, &id);
            self.containers.get_mut(&id).unwrap().networks.get_mut(&network).unwrap().ip = ip;
        }
        let loaded = self.read(&id, CONFIG_FILE);
        // After the report of the last tick, never at the same time.
        let started = self.clock + 1;
        let container = self.containers.get_mut(&id).unwrap();
        container.state = State::Running;
        container.started = Some(started);
        (container.exit_code, container.error) = (None, None);
        (container.loaded, container.serving) = (loaded, false);
        (container.frozen, container.hung) = (false, None);
        Ok(())
    }

    /// What keeps a container from being started.
    fn hindrance(&self, id: &str) -> Option<Error> {
        let container = &self.containers[id];
        for (network, place) in &container.networks {
            if !self.networks.contains_key(network) {
                return Some(Error::NotFound(format!("network {network} not found")));
            }
            if place.pinned.is_some_and(|ip| self.addresses(network, id).contains(&ip)) {
                return Some(Error::Address("Address already in use".into()));
            }
        }
        let taken = container.wanted_ports.iter().find(|p| self.port_taken(p, id))?;
        let PortBinding { host_ip, host_port, .. } = taken;
        Some(Error::PortTaken(format!("Bind for {host_ip}:{host_port} failed: port is already allocated")))
    }

    fn port_taken(&self, port: &PortBinding, but: &str) -> bool {
        let clash = |p: &PortBinding| {
            p.host_port == port.host_port
                && p.protocol == port.protocol
                && (p.host_ip == port.host_ip || p.host_ip == "0.0.0.0" || port.host_ip == "0.0.0.0")
        };
        let others = self.containers.iter().filter(|(id, c)| *id != but && c.is_up());
        self.held_ports.contains(&port.host_port)
            || others.flat_map(|(_, c)| c.wanted_ports.iter()).any(clash)
    }

    /// The addresses that others have on a network.
    fn addresses(&self, network: &str, but: &str) -> BTreeSet<Ipv4Addr> {
        let others = self.containers.iter().filter(|(id, _)| *id != but);
        others.filter_map(|(_, c)| c.networks.get(network)?.ip).collect()
    }

    /// The address that a container gets on a network.
    fn address(&self, network: &str, id: &str) -> Option<Ipv4Addr> {
        let pinned = self.containers[id].networks.get(network)?.pinned;
        let taken = self.addresses(network, id);
        pinned.or_else(|| self.networks[network].ip_range.hosts().skip(1).find(|ip| !taken.contains(ip)))
    }

    /// Ends a container's process.
    pub fn end(&mut self, key: &str, code: i64) -> Result<()> {
        let container = self.container(key)?;
        if container.is_up() {
            container.state = State::Exited;
            container.exit_code = Some(code);
            container.serving = false;
            container.networks.values_mut().for_each(|place| place.ip = None);
        }
        Ok(())
    }

    pub fn pause(&mut self, key: &str) -> Result<()> {
        let container = self.container(key)?;
        if container.state == State::Running {
            container.state = State::Paused;
        }
        Ok(())
    }

    pub fn unpause(&mut self, key: &str) -> Result<()> {
        let container = self.container(key)?;
        if container.state == State::Paused {
            container.state = State::Running;
        }
        Ok(())
    }

    /// SIGHUP. What does not run reads everything anew when it starts.
    pub fn hangup(&mut self, key: &str) -> Result<()> {
        let loaded = self.read(key, CONFIG_FILE);
        let container = self.container(key)?;
        if container.is_up() {
            container.loaded = loaded;
        }
        Ok(())
    }

    pub fn update(&mut self, key: &str, change: &Update) -> Result<()> {
        let container = self.container(key)?;
        container.restart = change.restart.unwrap_or(container.restart);
        Ok(())
    }

    /// A command in a container: `rm`, what asks kube-proxy, what writes the hosts file, and those of `ctr` about images.
    pub fn exec(&mut self, key: &str, command: &[String]) -> Result<Ended> {
        let container = self.container(key)?;
        if container.state != State::Running {
            return Err(Error::Busy(format!("Container {key} is not running")));
        }
        if command.iter().any(|a| a == "/readyz") {
            return Ok(Ended { code: i64::from(container.hung.is_some()), ..Ended::default() });
        }
        if command.iter().any(|a| a.contains("k3s token rotate")) {
            let id = self.id(key).unwrap();
            return Ok(self.rotate_token(&id));
        }
        if kube_proxy::asks(command) {
            let name = container.name.clone();
            let (code, seconds) = match self.kube_proxy(&name) {
                Told::Answers => (0, self.clock),
                Told::Behind => (0, 0),
                Told::Unsure => (1, 0),
            };
            let output = format!("kubeproxy_sync_proxy_rules_last_timestamp_seconds {seconds}\n");
            return Ok(Ended { code, stdout: output, ..Ended::default() });
        }
        if let [sh, _, script, _, content] = command
            && sh == "sh"
            && script.ends_with(&format!(">{}", hosts_file::FILE))
        {
            container.files.insert(hosts_file::FILE.to_owned(), content.as_bytes().into());
            return Ok(Ended::default());
        }
        let Some(volume) = container.volume_of(STATE_DIR) else { return Ok(Ended::default()) };
        if command[0] == "rm" {
            container.files.retain(|path, _| !command.contains(path));
            self.volumes.entry(volume).or_default().files.retain(|path, _| !command.contains(path));
            return Ok(Ended::default());
        }
        let images = &mut self.volumes.entry(volume).or_default().images;
        if command == images::list() {
            let line = |(name, id): (&String, &Option<String>)| match id {
                Some(id) => {
                    let own = images::OWN_LABEL;
                    let labels = format!("{}={id},{own}=sha256:0", images::ID_LABEL);
                    format!("{name} type sha256:0 1.0 KiB linux/amd64 {labels} \n")
                }
                None => format!("{name} type sha256:0 1.0 KiB linux/amd64 - \n"),
            };
            return Ok(said(&images.iter().map(line).collect::<String>()));
        }
        // All images are alike: a manifest and a configuration.
        if *command == images::content("sha256:0")[..] {
            let manifest = r#"{"config": {"digest": "sha256:1", "size": 2}, "layers": []}"#;
            return Ok(said(manifest));
        }
        if *command == images::content("sha256:1")[..] {
            return Ok(said("{}\n"));
        }
        // All that is labelled is labelled with its id.
        if let Some((name, id)) = command.iter().find_map(|arg| {
            let id = arg.strip_prefix(images::ID_LABEL)?.strip_prefix('=')?;
            Some((command[command.len() - 4].clone(), id.to_owned()))
        }) {
            let Some(label) = images.get_mut(&name) else {
                let stderr = format!("ctr: image {name}: not found\n");
                return Ok(Ended { code: 1, stderr, ..Ended::default() });
            };
            *label = Some(id);
        }
        Ok(Ended::default())
    }

    /// The id of an image of the engine.
    pub fn image_id(&self, reference: &str) -> Option<String> {
        let times = self.rebuilt.get(reference).copied().unwrap_or_default();
        self.images.contains(reference).then(|| format!("sha256:{reference}-{times}"))
    }

    /// An image of the engine goes into a node's containerd.
    pub fn pipe_image(&mut self, reference: &str, key: &str) -> Result<Ended> {
        if !self.images.contains(reference) {
            return missing(reference);
        }
        let container = self.container(key)?;
        let (State::Running, Some(volume)) = (container.state, container.volume_of(STATE_DIR)) else {
            return Err(Error::Busy(format!("Container {key} is not running")));
        };
        // Labels stay, whatever comes in under the name.
        self.volumes.entry(volume).or_default().images.entry(images::canonical(reference)).or_default();
        Ok(Ended::default())
    }

    /// All that puts an image into a node.
    pub fn import(&mut self, reference: &str, key: &str, id: &str) -> Result<()> {
        self.pipe_image(reference, key)?;
        self.exec(key, &images::label(reference, id, "sha256:0")).map(drop)
    }

    pub fn remove_container(&mut self, key: &str) -> Result<()> {
        let Some(id) = self.id(key) else { return missing(key) };
        self.containers.remove(&id);
        Ok(())
    }

    pub fn connect(&mut self, network: &str, key: &str, endpoint: &EndpointSettings) -> Result<()> {
        let Some(id) = self.id(key) else { return missing(key) };
        if !self.networks.contains_key(network) {
            return missing(network);
        }
        if self.containers[&id].networks.contains_key(network) {
            return Ok(());
        }
        let up = self.containers[&id].is_up();
        if up && endpoint.ip.is_some_and(|ip| self.addresses(network, &id).contains(&ip)) {
            return Err(Error::Address("Address already in use".into()));
        }
        let name = self.networks[network].name.clone();
        let container = self.containers.get_mut(&id).unwrap();
        // Docker keeps places by name: this one takes that on a network of the same name that is gone.
        container.networks.retain(|_, p| p.name != name);
        let place = Place { name, pinned: endpoint.ip, aliases: endpoint.aliases.clone(), ip: None };
        container.networks.insert(network.to_owned(), place);
        let ip = if up { self.address(network, &id) } else { None };
        self.containers.get_mut(&id).unwrap().networks.get_mut(network).unwrap().ip = ip;
        Ok(())
    }

    /// By the network's id or name. What is stopped can leave a network that is gone, but only by its name.
    pub fn disconnect(&mut self, network: &str, key: &str) -> Result<()> {
        let name = self.networks.get(network).map_or(network, |n| n.name.as_str()).to_owned();
        let known = self.networks.values().any(|n| n.name == name);
        let container = self.container(key)?;
        if !known && container.is_up() {
            return missing(network);
        }
        container.networks.retain(|_, p| p.name != name);
        Ok(())
    }
}

impl Container {
    /// Whether it has a process.
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Running | State::Paused)
    }

    /// Whether it is a garbage collection of a registry.
    pub fn collects(&self) -> bool {
        self.command.first().is_some_and(|c| c == "garbage-collect")
    }

    /// Whether it is a server that makes itself etcd's only member.
    pub fn resets(&self) -> bool {
        self.command.iter().any(|arg| arg == CLUSTER_RESET)
    }

    fn volume_of(&self, path: &str) -> Option<String> {
        self.mounts.iter().find(|(dir, _)| path.starts_with(&format!("{dir}/"))).map(|(_, v)| v.clone())
    }
}
