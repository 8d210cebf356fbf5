//! Desired state of a LocalCluster on the Docker host: plain values.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::{addresses::Addresses, steps::Problem, validate::ValidPool};
use crate::{
    api::{
        local_cluster::{DataLoss, Protocol},
        names::{ClusterNames, Pool},
    },
    child::state::NodeConfig,
    docker::spec::{ContainerSpec, FileSpec, NetworkSpec, VolumeSpec},
    k3s::{networks::Networks, registries::Registries},
};
use std::net::Ipv4Addr;

/// Desired state of a cluster.
#[derive(Clone, Debug)]
pub struct Desired {
    /// Names of the cluster.
    pub names: ClusterNames,
    /// Network of the cluster.
    pub network: NetworkSpec,
    /// Docker networks to join besides the cluster's own.
    pub join: Vec<String>,
    /// Pod and Service networks.
    pub networks: Networks,
    /// Addresses of the cluster.
    pub addresses: Addresses,
    /// Servers of the cluster.
    pub servers: Vec<NodeSpec>,
    /// Agents of the cluster, those of all pools.
    pub agents: Vec<NodeSpec>,
    /// Pools of the cluster.
    pub pools: BTreeMap<Pool, PoolSpec>,
    /// Load balancer of the cluster.
    pub load_balancer: ContainerSpec,
    /// Nodes that published ports forward to once they can handle traffic.
    pub awaited: Vec<String>,
    /// Registry configuration of the nodes; `None` while it is unknown.
    pub registries: Option<NodeRegistries>,
    /// Unmanaged containers that are connected to the network, in the order of the spec.
    pub foreign_registries: Vec<String>,
    /// Images of the Docker host to import on all nodes.
    pub preload: Vec<String>,
    /// Images of the Docker host that nodes get when they ask for them; `None` if they get none.
    pub host_images: Option<HostImages>,
    /// Node image for a spec with neither version nor image.
    pub default_image: String,
    /// K3s version that the Nodes must report, if the tag of the image contains one.
    pub version: Option<String>,
    /// Policy for lost data.
    pub on_data_loss: DataLoss,
    /// Addresses of names that nodes and Pods resolve.
    pub host_aliases: BTreeMap<String, IpAddr>,
    /// Host directories that the nodes mount.
    pub mounts: Arc<Mounts>,
}

impl Desired {
    /// Returns the servers, followed by the agents.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeSpec> {
        self.servers.iter().chain(&self.agents)
    }

    /// Returns pool and index of a node that the spec does not contain; `None` for one that it contains, and for any other
    /// name.
    pub fn surplus(&self, name: &str) -> Option<(Pool, usize)> {
        let (pool, index) = self.names.parse_node(name)?;
        let wanted = self.pools.get(&pool).is_some_and(|pool| pool.indexes.contains(&index));
        (!wanted).then_some((pool, index))
    }
}

/// A pool of nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSpec {
    /// Indexes of the nodes.
    pub indexes: BTreeSet<usize>,
    /// Number of nodes that may be unavailable during a rolling update.
    pub max_unavailable: usize,
}

impl PoolSpec {
    /// Returns the pool of a spec.
    pub fn of(pool: &ValidPool) -> Self {
        Self { indexes: pool.indexes().collect(), max_unavailable: pool.max_unavailable }
    }
}

/// Images of the Docker host for the nodes that ask for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostImages {
    /// They are served.
    Served {
        /// Address that the nodes ask.
        address: SocketAddr,
        /// Registries of the cluster, whose images come from nowhere else.
        own: BTreeSet<String>,
    },
    /// The cluster cannot use them, for this reason.
    Unsupported(String),
}

/// A node.
#[derive(Clone, Debug)]
pub struct NodeSpec {
    /// Pool of the node.
    pub pool: Pool,
    /// Container of the node.
    pub container: ContainerSpec,
    /// Volumes of the node.
    pub volumes: Vec<VolumeSpec>,
    /// Labels and taints of the Node.
    pub config: NodeConfig,
    /// Host directories that the nodes of the cluster mount.
    pub mounts: Arc<Mounts>,
}

/// Allocation of a cluster, kept for its lifetime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// Subnet and addresses of the cluster.
    pub addresses: Addresses,
    /// Addresses of the agents of `spec.agentPools`, by name. One without an address cannot be created.
    pub pools: BTreeMap<String, Ipv4Addr>,
    /// Port of the API on the Docker host.
    pub api_port: u16,
    /// Holder of that port, if another process or container prevents its publication.
    pub api_held: Option<String>,
    /// Published ports on the Docker host, in the order of the spec.
    pub ports: Vec<AllocatedPort>,
}

impl Allocation {
    /// Returns the address of a node.
    pub fn node(&self, names: &ClusterNames, pool: &Pool, index: usize) -> Option<Ipv4Addr> {
        match pool {
            Pool::Servers | Pool::Agents => Some(self.addresses.node(pool.role(), index)),
            Pool::Named(_) => self.pools.get(&names.node_of(pool, index)).copied(),
        }
    }
}

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocatedPort {
    /// Name in the spec.
    pub name: String,
    /// First port on the Docker host.
    pub host_port: u16,
    /// First port in the container of the load balancer.
    pub listen: u16,
    /// Ports of the range that are not published because they are in use, with their holders.
    pub held: BTreeMap<u16, String>,
}

/// Registry configuration of all nodes of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeRegistries {
    /// Merged configuration.
    pub merged: Registries,
    /// Certificates and, last, the registries file.
    pub files: Vec<FileSpec>,
    /// True if nodes fall back to the registry itself after its mirrors.
    pub default_endpoint: bool,
    /// True if changes are applied to running nodes.
    pub live: bool,
    /// True if all registries are known. Running nodes keep their configuration until then.
    pub complete: bool,
}

/// Host directories that nodes mount.
#[derive(Clone, Debug, Default)]
pub struct Mounts {
    /// Look at the directories; `None` if there are none, or none may be mounted.
    pub look: Option<Look>,
    /// Problems of the directories that must not be mounted.
    pub refused: Vec<Problem>,
}

/// A look at directories of the Docker host.
#[derive(Clone, Debug)]
pub struct Look {
    /// Helper container.
    pub looker: ContainerSpec,
    /// Directories, each with the allowed directory that contains it.
    pub paths: BTreeMap<String, String>,
}

/// A port of the Docker host.
pub type Binding = (Protocol, Ipv4Addr, u16);
