//! What a LocalCluster wants on the Docker host: from the valid spec, what it refers to and what was allocated to
//! complete container specs.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    ops::RangeInclusive,
};

use ipnet::Ipv4Net;

use super::{
    addresses::{self, Addresses},
    containers::Owner,
    desired::{ContainerSpec, Endpoint, FileChange, FileSpec, NetworkSpec, Role, VolumeSpec},
    observed::Observed,
    steps::{NodeConfig, Plan},
    validate::{Valid, ValidPool},
};
use crate::{
    api::{
        LocalClusterStatus,
        condition::{reasons, types},
        local_cluster::{NodeRole, NodeSet, Protocol},
        names,
    },
    docker::engine::Published,
    k3s::{
        self,
        args::{self, NodeArgs},
        load_balancer::{self, Forward},
        registries::{self, Mirrored},
        versions::{self, Version},
    },
};

/// What the operator was set up with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node image without tag.
    pub node_image_repository: String,
    /// The K3s version of clusters that name none.
    pub default_version: String,
    /// The load balancer's image.
    pub load_balancer_image: String,
    /// The image of registries that name none.
    pub registry_image: String,
    /// Where subnets are taken from, /24 each.
    pub network_pool: Ipv4Net,
    /// Where host ports are taken from.
    pub port_range: RangeInclusive<u16>,
    /// The resolvers that Pods of created clusters use.
    pub node_dns: Vec<String>,
    /// The name of the management cluster's Node that the operator runs on. A container of this name on the engine
    /// is that Node, and what the operator has to reach is attached to its network.
    pub node_name: Option<String>,
}

/// What the spec refers to.
#[derive(Clone, Debug, Default)]
pub struct Refs {
    /// The join secret.
    pub token: Vec<u8>,
    /// The registries in use, in the spec's order.
    pub registries: Vec<UsedRegistry>,
}

/// A registry in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedRegistry {
    /// The name of the Registry object.
    pub name: String,
    /// What its owner labels are.
    pub owner: Owner,
    /// Its container's name.
    pub hostname: String,
    /// Its port on the Docker host.
    pub host_port: Option<u16>,
    /// Whether it is Ready.
    pub ready: bool,
    /// Why it is not.
    pub message: String,
}

/// What was allocated to the cluster, for life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// Its subnet and addresses.
    pub addresses: Addresses,
    /// The API's port on the Docker host.
    pub api_port: u16,
    /// The published ports on the Docker host, in the spec's order.
    pub ports: Vec<AllocatedPort>,
}

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocatedPort {
    /// As in the spec.
    pub name: String,
    /// On the Docker host.
    pub host_port: u16,
    /// In the load balancer's container.
    pub listen: u16,
}

/// Everything that a cluster wants.
#[derive(Clone, Debug)]
pub struct Desired {
    /// Its names.
    pub names: names::ClusterNames,
    /// Its network.
    pub network: NetworkSpec,
    /// Its addresses.
    pub addresses: Addresses,
    /// Its servers.
    pub servers: Vec<NodeSpec>,
    /// Its agents.
    pub agents: Vec<NodeSpec>,
    /// Its load balancer.
    pub load_balancer: ContainerSpec,
    /// The K3s version that its Nodes have to tell, where the image's tag tells one.
    pub version: Option<String>,
}

/// A node.
#[derive(Clone, Debug)]
pub struct NodeSpec {
    /// Its container.
    pub container: ContainerSpec,
    /// Its volumes.
    pub volumes: Vec<VolumeSpec>,
    /// The labels and taints of its Node.
    pub config: NodeConfig,
}

/// Allocates what the spec leaves open; what was allocated before is kept. `None`: the plan's problems say why not.
pub fn allocate(
    plan: &mut Plan,
    valid: &Valid,
    owner: &Owner,
    settings: &Settings,
    observed: &Observed,
    previous: &LocalClusterStatus,
    refused: &BTreeSet<u16>,
) -> Option<Allocation> {
    let subnet = subnet(plan, valid, owner, settings, observed, previous)?;
    let balancer = observed.own.values().find(|d| d.container.name == valid.names.load_balancer());
    let mut taken: BTreeSet<u16> = observed
        .containers
        .iter()
        .filter(|c| !owner.owns(&c.labels))
        .flat_map(|c| c.ports.iter().map(|p| p.host_port))
        .chain(refused.iter().copied())
        .chain(valid.api_port)
        .chain(valid.ports.iter().filter_map(|p| p.host_port))
        .collect();
    // Nothing is given twice: first what the spec names, then what worked before, then what is free. A port that once
    // worked is kept even when somebody else has it now: people have it in their configuration.
    let mut given: BTreeSet<(Protocol, u16)> =
        valid.api_port.map(|p| (Protocol::Tcp, p)).into_iter().collect();
    given.extend(valid.ports.iter().filter_map(|p| Some((p.protocol, p.host_port?))));
    let mut keep = |protocol: Protocol, wanted: Option<u16>, known: Option<i32>| {
        let known = known.and_then(|p| u16::try_from(p).ok());
        wanted.or_else(|| known.filter(|p| given.insert((protocol, *p))))
    };
    let api = keep(Protocol::Tcp, valid.api_port, previous.api_port.as_ref().map(|p| p.host_port));
    let kept: Vec<Option<u16>> = valid
        .ports
        .iter()
        .map(|port| {
            let known = previous.ports.iter().find(|p| p.name == port.name && p.protocol == port.protocol);
            keep(port.protocol, port.host_port, known.map(|p| p.host_port))
        })
        .collect();
    taken.extend(given.iter().map(|(_, p)| *p));
    let made = |listen: u16, protocol: Protocol| {
        let ports = &balancer?.wanted_ports;
        ports.iter().find(|p| p.port == listen && p.protocol == protocol.docker()).map(|p| p.host_port)
    };
    let mut allocate = |plan: &mut Plan, kept: Option<u16>, protocol: Protocol, listen: u16, seed: &str| {
        let made =
            made(listen, protocol).filter(|p| !refused.contains(p) && !given.contains(&(protocol, *p)));
        let port = kept.or(made).or_else(|| {
            let seed = format!("{}/{seed}", owner.uid);
            addresses::free_port(&settings.port_range, &seed, &taken)
        });
        if let Some(port) = port {
            taken.insert(port);
            given.insert((protocol, port));
        } else {
            let (first, last) = (settings.port_range.start(), settings.port_range.end());
            plan.stalls(
                types::LOAD_BALANCER_READY,
                reasons::PORT_CONFLICT,
                format!(
                    "no host port from {first} to {last} is free: name one in the spec, or widen --port-range"
                ),
            );
        }
        port
    };
    let api_port = allocate(plan, api, Protocol::Tcp, k3s::API_PORT, "api")?;
    let mut listening: BTreeSet<(Protocol, u16)> = BTreeSet::from([(Protocol::Tcp, k3s::API_PORT)]);
    let mut ports = Vec::new();
    for (port, kept) in valid.ports.iter().zip(kept) {
        let host_port = allocate(plan, kept, port.protocol, port.port, &port.name)?;
        // Two host ports may lead to one port of the nodes; the second listens under its host port's number.
        let listen = if listening.contains(&(port.protocol, port.port)) { host_port } else { port.port };
        listening.insert((port.protocol, listen));
        ports.push(AllocatedPort { name: port.name.clone(), host_port, listen });
    }
    Some(Allocation { addresses: Addresses { subnet }, api_port, ports })
}

/// The cluster's subnet: that of its network, else the last one known, else the spec's, else a free one.
fn subnet(
    plan: &mut Plan,
    valid: &Valid,
    owner: &Owner,
    settings: &Settings,
    observed: &Observed,
    previous: &LocalClusterStatus,
) -> Option<Ipv4Net> {
    let own = |labels: &BTreeMap<String, String>| owner.owns(labels);
    let existing = observed.networks.iter().find(|n| own(&n.labels)).and_then(|n| n.subnets.first().copied());
    if let Some(subnet) = existing {
        return Some(subnet);
    }
    let remembered = previous.network.as_ref().and_then(|n| n.subnet.parse().ok());
    let labelled = observed.own.values().find_map(|d| d.container.labels.get(names::SUBNET)?.parse().ok());
    let Some(subnet) = valid.subnet.or(remembered).or(labelled) else {
        let free = addresses::free_subnet(settings.network_pool, &observed.networks);
        if free.is_none() {
            plan.stalls(
                types::NETWORK_READY,
                reasons::ADDRESS_POOL_EXHAUSTED,
                format!(
                    "no /24 of the pool {} is free: delete a cluster, widen --network-pool, or set \
                     spec.network.subnet to a subnet outside of it",
                    settings.network_pool
                ),
            );
        }
        return free;
    };
    if let Some(other) = addresses::overlapping(subnet, &observed.networks) {
        let other_subnets: Vec<_> = other.subnets.iter().map(ToString::to_string).collect();
        plan.stalls(
            types::NETWORK_READY,
            reasons::SUBNET_CONFLICT,
            format!(
                "the subnet {subnet} overlaps with {} of the Docker network {}: remove that network, or make the \
                 cluster anew with another spec.network.subnet",
                other_subnets.join(", "),
                other.name
            ),
        );
        return None;
    }
    Some(subnet)
}

/// Everything that the cluster wants.
pub fn desired(
    valid: &Valid,
    owner: &Owner,
    settings: &Settings,
    refs: &Refs,
    allocation: &Allocation,
    observed: &Observed,
) -> Desired {
    let image = image(valid, settings, observed);
    let version = versions::of_image(&image);
    let refuses = version.as_deref().and_then(Version::parse).is_none_or(|v| v.refuses_cgroup_v1());
    let cgroup_v1 = observed.engine.cgroup_v1 && refuses;
    let build = Build { valid, owner, settings, refs, allocation, observed, image, cgroup_v1 };
    let Addresses { subnet } = allocation.addresses;
    Desired {
        names: valid.names.clone(),
        network: NetworkSpec {
            name: valid.names.network(),
            subnet,
            gateway: allocation.addresses.gateway(),
            ip_range: allocation.addresses.strangers(),
            labels: build.labels(None),
        },
        addresses: allocation.addresses,
        servers: (0..valid.servers.count).map(|i| build.node(NodeRole::Server, &valid.servers, i)).collect(),
        agents: (0..valid.agents.count).map(|i| build.node(NodeRole::Agent, &valid.agents, i)).collect(),
        load_balancer: build.load_balancer(),
        version,
    }
}

/// The node image of a cluster. One that names neither version nor image keeps the image that it was made with, so
/// that an operator with another default changes nothing that is there.
pub fn image(valid: &Valid, settings: &Settings, observed: &Observed) -> String {
    let of_version = |v: &str| format!("{}:{}", settings.node_image_repository, versions::tag(v));
    let named = valid.image.clone().or_else(|| valid.version.as_deref().map(of_version));
    named
        .or_else(|| image_of(observed, &valid.names.node(NodeRole::Server, 0)))
        .unwrap_or_else(|| of_version(&settings.default_version))
}

/// The image that an own container was made from.
pub fn image_of(observed: &Observed, container: &str) -> Option<String> {
    observed.own.values().find(|d| d.container.name == container).map(|d| d.container.image.clone())
}

struct Build<'a> {
    valid: &'a Valid,
    owner: &'a Owner,
    settings: &'a Settings,
    refs: &'a Refs,
    allocation: &'a Allocation,
    observed: &'a Observed,
    image: String,
    cgroup_v1: bool,
}

impl Build<'_> {
    fn labels(&self, role: Option<&str>) -> BTreeMap<String, String> {
        let mut labels = self.owner.labels();
        labels.insert(names::APP.into(), "k3d".into());
        labels.insert(names::CLUSTER.into(), self.valid.names.cluster.clone());
        if let Some(role) = role {
            labels.insert(names::ROLE.into(), role.into());
            labels.insert(names::SUBNET.into(), self.allocation.addresses.subnet.to_string());
        }
        labels
    }

    fn node(&self, role: NodeRole, pool: &ValidPool, index: usize) -> NodeSpec {
        let name = self.valid.names.node(role, index);
        let mut sans = self.valid.sans.clone();
        sans.push(self.valid.api_ip.to_string());
        sans.push(self.allocation.addresses.load_balancer().to_string());
        let command = args::command(&NodeArgs {
            role,
            load_balancer: &self.valid.names.load_balancer(),
            sans: &sans,
            taints: &pool.taints,
            cgroup_v1: self.cgroup_v1,
            extra: &pool.args,
        });
        let mirrored: Vec<Mirrored> = self
            .refs
            .registries
            .iter()
            .filter_map(|r| Some(Mirrored { hostname: r.hostname.clone(), host_port: r.host_port? }))
            .collect();
        let resolvers: String =
            self.settings.node_dns.iter().map(|ip| format!("nameserver {ip}\n")).collect();
        let file = |path: &str, mode, content: Vec<u8>, change| FileSpec {
            path: path.into(),
            mode,
            content,
            change,
        };
        let labels = self.labels(Some(match role {
            NodeRole::Server => "server",
            NodeRole::Agent => "agent",
        }));
        let volumes = k3s::NODE_VOLUMES
            .iter()
            .map(|(kind, _)| VolumeSpec { name: names::volume(&name, kind), labels: self.labels(None) })
            .collect();
        let container = ContainerSpec {
            role: Role::Node(role),
            image: self.image.clone(),
            command,
            env: pool.env.clone(),
            labels,
            privileged: true,
            tmpfs: vec!["/run".into(), "/var/run".into()],
            volume_labels: self.labels(None),
            mounts: k3s::NODE_VOLUMES
                .iter()
                .map(|(kind, path)| ((*path).to_owned(), names::volume(&name, kind)))
                .collect(),
            endpoint: self.endpoint(self.allocation.addresses.node(role, index)),
            ports: Vec::new(),
            memory: pool.memory,
            nano_cpus: pool.nano_cpus,
            extra_hosts: BTreeMap::from([(
                "host.k3d.internal".to_owned(),
                self.allocation.addresses.gateway().to_string(),
            )]),
            files: vec![
                file(k3s::TOKEN_FILE, 0o600, self.refs.token.clone(), FileChange::Keep),
                file(
                    k3s::REGISTRIES_FILE,
                    0o600,
                    registries::render(&mirrored).into_bytes(),
                    FileChange::Replace,
                ),
                file(k3s::RESOLV_CONF_FILE, 0o644, resolvers.into_bytes(), FileChange::Replace),
            ],
            name,
        };
        let config = NodeConfig { labels: pool.labels.clone(), taints: pool.taints.clone() };
        NodeSpec { container, volumes, config }
    }

    fn endpoint(&self, ip: Ipv4Addr) -> Endpoint {
        Endpoint { ip: Some(ip), aliases: Vec::new() }
    }

    fn load_balancer(&self) -> ContainerSpec {
        let addresses = self.allocation.addresses;
        let nodes = |role, pool: &ValidPool| (0..pool.count).map(move |i| addresses.node(role, i));
        let servers: Vec<_> = nodes(NodeRole::Server, &self.valid.servers).collect();
        let agents: Vec<_> = nodes(NodeRole::Agent, &self.valid.agents).collect();
        let mut forwards = vec![Forward {
            listen: k3s::API_PORT,
            protocol: Protocol::Tcp,
            port: k3s::API_PORT,
            nodes: servers.clone(),
        }];
        let mut ports = vec![Published {
            host_ip: self.valid.api_ip.to_string(),
            host_port: self.allocation.api_port,
            port: k3s::API_PORT,
            protocol: Protocol::Tcp.docker().into(),
        }];
        for (port, allocated) in self.valid.ports.iter().zip(&self.allocation.ports) {
            forwards.push(Forward {
                listen: allocated.listen,
                protocol: port.protocol,
                port: port.port,
                nodes: match port.nodes {
                    NodeSet::All => servers.iter().chain(&agents).copied().collect(),
                    NodeSet::Servers => servers.clone(),
                    NodeSet::Agents => agents.clone(),
                },
            });
            ports.push(Published {
                host_ip: port.host_ip.to_string(),
                host_port: allocated.host_port,
                port: allocated.listen,
                protocol: port.protocol.docker().into(),
            });
        }
        let config = load_balancer::render(&forwards).into_bytes();
        let mut files = vec![FileSpec {
            path: load_balancer::CONFIG_FILE.into(),
            mode: 0o644,
            content: config,
            change: FileChange::Hangup,
        }];
        files.push(FileSpec {
            path: load_balancer::APPLIED_FILE.into(),
            mode: 0o644,
            content: names::hex(&files[0].sha256()).into_bytes(),
            change: FileChange::Hangup,
        });
        let mut labels = self.labels(Some("loadbalancer"));
        labels.insert(names::API_PORT.into(), self.allocation.api_port.to_string());
        let name = self.valid.names.load_balancer();
        ContainerSpec {
            role: Role::LoadBalancer,
            // Kept for the same reason as the node image.
            image: image_of(self.observed, &name)
                .unwrap_or_else(|| self.settings.load_balancer_image.clone()),
            name,
            command: Vec::new(),
            env: BTreeMap::new(),
            labels,
            privileged: false,
            tmpfs: Vec::new(),
            mounts: BTreeMap::new(),
            volume_labels: BTreeMap::new(),
            endpoint: self.endpoint(addresses.load_balancer()),
            ports,
            memory: None,
            nano_cpus: None,
            extra_hosts: BTreeMap::new(),
            files,
        }
    }
}
