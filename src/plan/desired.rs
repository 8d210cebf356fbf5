//! Desired state of a LocalCluster on the Docker host: plain values.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::{addresses::Addresses, steps::Problem};
use crate::{
    api::{
        local_cluster::{DataLoss, Protocol},
        names,
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
    pub names: names::ClusterNames,
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
    /// Agents of the cluster.
    pub agents: Vec<NodeSpec>,
    /// Number of agents that may be unavailable during a rolling update.
    pub max_unavailable: usize,
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
}

/// A node.
#[derive(Clone, Debug)]
pub struct NodeSpec {
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
    /// Port of the API on the Docker host.
    pub api_port: u16,
    /// Holder of that port, if another process or container prevents its publication.
    pub api_held: Option<String>,
    /// Published ports on the Docker host, in the order of the spec.
    pub ports: Vec<AllocatedPort>,
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
