//! A Docker engine as a plain value, with the engine's own semantics where the planner depends on them: what is taken,
//! what is in use, what survives what. A value can be cloned, compared and hashed, so that whole state spaces can be
//! explored.

mod canonical;
mod exec;
mod files;
mod hub;
mod process;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use ipnet::Ipv4Net;
use localcluster_operator::{
    api::names,
    docker::{
        engine::{Ended, EngineInfo, ImageNames, PathInfo, RegistryAuth, State, Update},
        error::Error,
        spec::{
            ContainerSpec, EndpointSettings, FileSpec, Isolation, Limits, NetworkSpec, PortBinding,
            RestartPolicy, Role, VolumeSpec,
        },
    },
    k3s::{
        self,
        args::CLUSTER_RESET,
        etcd, hosts_file, images,
        kube_proxy::{self, ProbeResult},
        load_balancer::CONFIG_FILE,
        proxy,
    },
    plan::{registry::fill, secret::Existing, service::objects::ObservedService},
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
/// OCI runtimes of the engine, the default one first.
const RUNTIMES: [&str; 2] = ["runc", "sysbox-runc"];

/// Returns what the engine tells about its runtimes.
pub fn runtimes() -> EngineInfo {
    EngineInfo {
        runtimes: RUNTIMES.map(String::from).into(),
        default_runtime: RUNTIMES[0].into(),
        ..EngineInfo::default()
    }
}

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
    /// Images that were made on the host, and are of no registry.
    pub built: BTreeSet<String>,
    /// Repositories that a registry shows to those with the password `right` only.
    pub private: BTreeSet<String>,
    /// Subnets that somebody took since the look, or that the engine does not tell of.
    pub unseen: BTreeSet<Ipv4Net>,
    /// Subnets that the engine chooses from, in this order.
    pub pools: Arc<Vec<Ipv4Net>>,
    /// Routes of the host.
    pub routes: Arc<Vec<Ipv4Net>>,
    /// Sizes of the storage of registries that can be measured, in bytes, by host name.
    pub sizes: BTreeMap<String, i64>,
    /// Host ports that processes hold which are no containers.
    pub held_ports: BTreeSet<u16>,
    /// Directories of the host.
    pub host_directories: Arc<BTreeSet<String>>,
    /// Symbolic links of the host.
    pub host_links: Arc<BTreeSet<String>>,
    /// Regular files of the host, by path.
    pub host_files: Arc<BTreeSet<String>>,
    /// Whether two networks may have one name, as with engines before API 1.44.
    pub duplicates: bool,
    /// Whether a failed start takes a container off its networks, as with Docker 29.
    pub failed_starts_disconnect: bool,
    /// Whether nodes wait for a network plugin that nobody has installed yet.
    pub no_network_plugin: bool,
    /// The Secrets of the management cluster that the operator wrote, by namespace and name.
    pub secrets: Arc<BTreeMap<(String, String), Existing>>,
    /// The Services of the management cluster with their EndpointSlices, by namespace and name.
    pub services: Arc<BTreeMap<(String, String), ObservedService>>,
    /// The created clusters, by incarnation.
    pub clusters: BTreeMap<u8, Cluster>,
    /// What servers write as the admin's certificate when they start.
    pub certificate: Arc<str>,
    /// The host's resolvers.
    pub resolvers: u8,
    /// The upstream registries of caches.
    pub upstreams: Arc<Upstreams>,
    /// How many containers or networks of a name were made. Small, so that state spaces stay finite.
    pub made: BTreeMap<String, u8>,
}

/// What the caches meet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Upstreams {
    /// Why none answers.
    pub silent: Option<String>,
    /// What the caches have logged.
    pub log: Vec<String>,
    /// Entry points of images that have another one than the official images.
    pub entrypoints: BTreeMap<String, Vec<String>>,
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
    /// Those of the host's directories that it can write to.
    pub writable_binds: Arc<[String]>,
    pub wanted_ports: Arc<[PortBinding]>,
    pub limits: Limits,
    pub isolation: Isolation,
    pub skips_flushes: bool,
    pub state: State,
    /// By network id. A stopped container keeps its place on a network that is gone.
    pub networks: BTreeMap<String, Place>,
    /// Files outside of volumes.
    pub files: BTreeMap<String, Bytes>,
    /// When a server that keeps its data in etcd was made; nothing depends on it for others.
    pub created: Option<i64>,
    pub started: Option<i64>,
    /// When one ended that Docker does not start again: a server that leaves etcd. Of others, nothing depends on it.
    pub ended: Option<i64>,
    /// How often it was started again because it had ended by itself.
    pub started_again: u32,
    pub exit_code: Option<i64>,
    pub error: Option<String>,
    pub restart_policy: RestartPolicy,
    /// The resolvers that the host had at the last start.
    pub resolvers: u8,
    /// The configuration that nginx read last.
    pub loaded: Option<Bytes>,
    /// K3s: whether the API is served, or the cluster was joined, since the last start.
    pub serving: bool,
    /// K3s: whether the kubelet hangs, until the next start.
    pub frozen: bool,
    /// K3s: since when a server hangs as a whole, until the next start.
    pub hung: Option<i64>,
    /// Whether it reaches no other server.
    pub cut_off: bool,
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
            sizes: BTreeMap::new(),
            unknown_images: BTreeSet::new(),
            built: BTreeSet::new(),
            private: BTreeSet::new(),
            pools: Arc::new((17..32).map(|n| Ipv4Net::new([172, n, 0, 0].into(), 16).unwrap()).collect()),
            routes: Arc::default(),
            unseen: BTreeSet::new(),
            held_ports: BTreeSet::new(),
            failed_starts_disconnect: false,
            host_directories: Arc::new(["/srv", "/srv/images"].map(String::from).into()),
            host_links: Arc::default(),
            host_files: Arc::default(),
            duplicates: false,
            no_network_plugin: false,
            secrets: Arc::default(),
            services: Arc::default(),
            clusters: BTreeMap::new(),
            certificate: CERTIFICATE.into(),
            resolvers: 0,
            upstreams: Arc::default(),
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
        let taken = |subnet: Ipv4Net| {
            let networks = self.networks.values().map(|n| &n.subnet);
            networks.chain(&self.unseen).any(|n| n.contains(&subnet) || subnet.contains(n))
        };
        let (subnet, ip_range) = match &spec.addressing {
            Some(given) if taken(given.subnet) => {
                return Err(Error::Address("Pool overlaps with other one on this address space".into()));
            }
            Some(given) => (given.subnet, given.ip_range),
            None => {
                let routed = |pool: &Ipv4Net| {
                    self.routes.iter().any(|route| route.contains(pool) || pool.contains(route))
                };
                let free = self.pools.iter().find(|pool| !taken(**pool) && !routed(pool));
                let none = || "could not find an available, non-overlapping IPv4 address pool".to_owned();
                let pool = *free.ok_or_else(|| Error::Address(none()))?;
                (pool, pool)
            }
        };
        let id = self.fresh_id(&spec.name);
        let network = Network {
            name: spec.name.clone(),
            labels: Arc::new(spec.labels.clone()),
            subnet,
            ip_range,
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
        let exists = |path| self.host_directories.contains(path) || self.host_files.contains(path);
        if let Some(bind) = spec.binds.values().find(|b| !exists(&b.source)) {
            return Err(Error::Invalid(format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {}",
                bind.source
            )));
        }
        let id = self.fresh_id(&spec.name);
        let given = spec.given_volumes.iter().map(|(to, given)| (to.clone(), given.name.clone()));
        let mounts: BTreeMap<String, String> = spec.mounts.clone().into_iter().chain(given).collect();
        for volume in mounts.values() {
            let made = || Volume { labels: Arc::new(spec.volume_labels.clone()), ..Volume::default() };
            self.volumes.entry(volume.clone()).or_insert_with(made);
        }
        let alone = matches!(spec.role, Role::RegistryHelper | Role::NodeHelper);
        let network = network.or((!alone).then_some(BRIDGE)).map(str::to_owned);
        let place = |id: String| {
            // Docker asks for the network only when it starts.
            let name = self.networks.get(&id).map_or_else(|| id.clone(), |n| n.name.clone());
            let aliases = spec.endpoint.aliases.clone();
            (id, Place { name, pinned: spec.endpoint.ip, aliases, ip: None })
        };
        let networks = network.map(place).into_iter().collect();
        let env = spec.env.iter().chain(&spec.host_env).collect::<BTreeMap<_, _>>();
        let env: Vec<String> = env.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let container = Container {
            name: spec.name.clone(),
            image: spec.image.clone(),
            command: spec.command.clone().into(),
            labels: Arc::new(
                spec.given_labels.iter().chain(&spec.labels).map(|(k, v)| (k.clone(), v.clone())).collect(),
            ),
            mounts: Arc::new(mounts),
            past_proxy: proxy::lists(env.iter().map(String::as_str)).into(),
            binds: Arc::new(spec.binds.iter().map(|(to, b)| (to.clone(), b.source.clone())).collect()),
            writable_binds: spec.binds.values().filter(|b| !b.read_only).map(|b| b.source.clone()).collect(),
            wanted_ports: spec.ports.clone().into(),
            limits: spec.limits(),
            isolation: Isolation {
                runtime: Some(spec.runtime.clone().unwrap_or_else(|| RUNTIMES[0].to_owned())),
                privileged: Some(spec.privileged),
            },
            skips_flushes: spec.skips_flushes,
            state: State::Created,
            networks,
            files: BTreeMap::new(),
            created: spec.labels.contains_key(names::DATASTORE).then_some(self.clock),
            ended: None,
            started: None,
            started_again: 0,
            exit_code: None,
            error: None,
            restart_policy: spec.restart_policy,
            resolvers: 0,
            loaded: None,
            serving: false,
            frozen: false,
            hung: None,
            cut_off: false,
        };
        self.containers.insert(id.clone(), container);
        Ok(id)
    }

    pub fn remove_container(&mut self, key: &str) -> Result<()> {
        let Some(id) = self.id(key) else { return missing(key) };
        self.containers.remove(&id);
        Ok(())
    }

    pub fn connect(&mut self, network: &str, key: &str, endpoint: &EndpointSettings) -> Result<()> {
        let Some(id) = self.id(key) else { return missing(key) };
        if !self.networks.contains_key(network) {
            // Docker asks for the network only when a container starts that does not run.
            if self.containers[&id].is_up() {
                return missing(network);
            }
            let (pinned, aliases) = (endpoint.ip, endpoint.aliases.clone());
            let place = Place { name: network.to_owned(), pinned, aliases, ip: None };
            self.containers.get_mut(&id).unwrap().networks.insert(network.to_owned(), place);
            return Ok(());
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
        self.command.iter().any(|arg| arg == "garbage-collect")
    }

    /// Whether it is a server that makes itself etcd's only member.
    pub fn resets(&self) -> bool {
        self.command.iter().any(|arg| arg == CLUSTER_RESET)
    }

    fn volume_of(&self, path: &str) -> Option<String> {
        self.mounts.iter().find(|(dir, _)| path.starts_with(&format!("{dir}/"))).map(|(_, v)| v.clone())
    }
}
