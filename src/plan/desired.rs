//! Desired state of a LocalCluster on the Docker host: plain values.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::{addresses::Addresses, steps::Problem};
use crate::{
    api::{local_cluster::DataLoss, names},
    child::state::NodeConfig,
    docker::spec::{ContainerSpec, FileSpec, NetworkSpec, VolumeSpec},
    k3s::registries::Registries,
};

/// Everything that a cluster wants.
#[derive(Clone, Debug)]
pub struct Desired {
    /// Names of the cluster.
    pub names: names::ClusterNames,
    /// Network of the cluster.
    pub network: NetworkSpec,
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
    /// The nodes that published ports are about to lead to, once they answer.
    pub awaited: Vec<String>,
    /// Registry configuration of the nodes; `None` while it is unknown.
    pub registries: Option<NodeRegistries>,
    /// The containers of others that are connected to the network, in the spec's order.
    pub strangers: Vec<String>,
    /// Images of the Docker host to import on all nodes.
    pub preload: Vec<String>,
    /// K3s version that the Nodes must report, if the tag of the image contains one.
    pub version: Option<String>,
    /// Policy for lost data.
    pub on_data_loss: DataLoss,
    /// The addresses of names that its nodes and Pods resolve.
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
    /// The labels and taints of its Node.
    pub config: NodeConfig,
    /// Host directories that the nodes of the cluster mount.
    pub mounts: Arc<Mounts>,
}

/// Allocation of a cluster, kept for its lifetime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// Subnet and addresses of the cluster.
    pub addresses: Addresses,
    /// The API's port on the Docker host.
    pub api_port: u16,
    /// Holder of that port, if another process or container prevents its publication.
    pub api_held: Option<String>,
    /// The published ports on the Docker host, in the spec's order.
    pub ports: Vec<AllocatedPort>,
}

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocatedPort {
    /// Name in the spec.
    pub name: String,
    /// First port on the Docker host.
    pub host_port: u16,
    /// In the load balancer's container.
    pub listen: u16,
    /// Ports of the range that are not published because they are in use, with their holders.
    pub held: BTreeMap<u16, String>,
}

/// Registry configuration of all nodes of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeRegistries {
    /// All of it together.
    pub merged: Registries,
    /// The certificates and, last, the registries file.
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
    /// The look at it; `None` where none of it may be mounted, or there is nothing.
    pub look: Option<Look>,
    /// Problems of the directories that must not be mounted.
    pub refused: Vec<Problem>,
}

/// A look at directories of the host.
#[derive(Clone, Debug)]
pub struct Look {
    /// The container that looks.
    pub looker: ContainerSpec,
    /// The directories, each with the allowed one that it is in.
    pub paths: BTreeMap<String, String>,
}
