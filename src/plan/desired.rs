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
    k3s::registries::Registries,
};
use std::net::Ipv4Addr;

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
    /// How many agents may be out of service while they are replaced.
    pub max_unavailable: usize,
    /// Its load balancer.
    pub load_balancer: ContainerSpec,
    /// The nodes that published ports are about to lead to, once they answer.
    pub awaited: Vec<String>,
    /// What its nodes are told of registries; `None` while that is not known.
    pub registries: Option<NodeRegistries>,
    /// The containers of others that are connected to the network, in the spec's order.
    pub strangers: Vec<String>,
    /// The images of the Docker host that are to be in all nodes.
    pub preload: Vec<String>,
    /// The K3s version that its Nodes have to tell, where the image's tag tells one.
    pub version: Option<String>,
    /// What happens when its data is lost.
    pub on_data_loss: DataLoss,
    /// The addresses of names that its nodes and Pods resolve.
    pub host_aliases: BTreeMap<String, IpAddr>,
    /// What of the host its nodes mount.
    pub mounts: Arc<Mounts>,
}

impl Desired {
    /// Its servers, then its agents.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeSpec> {
        self.servers.iter().chain(&self.agents)
    }
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
    /// What of the host the cluster's nodes mount.
    pub mounts: Arc<Mounts>,
}

/// What was allocated to the cluster, for life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// Its subnet and addresses.
    pub addresses: Addresses,
    /// The API's port on the Docker host.
    pub api_port: u16,
    /// Who else has that port, so that it is not published.
    pub api_held: Option<String>,
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
    /// The ports of the host, of its range, that are not published, since somebody else has them: who.
    pub held: BTreeMap<u16, String>,
}

/// What all nodes of a cluster are told of registries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeRegistries {
    /// All of it together.
    pub merged: Registries,
    /// The certificates and, last, the registries file.
    pub files: Vec<FileSpec>,
    /// Whether a registry itself is asked after its mirrors.
    pub default_endpoint: bool,
    /// Whether a change is made in running nodes.
    pub live: bool,
    /// Whether all that is known of the registries is in it. Nodes that run keep what they have until it is.
    pub complete: bool,
}

/// What of the host nodes mount.
#[derive(Clone, Debug, Default)]
pub struct Mounts {
    /// The look at it; `None` where none of it may be mounted, or there is nothing.
    pub look: Option<Look>,
    /// What of it may not be mounted.
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

/// A port of the Docker host.
pub type Binding = (Protocol, Ipv4Addr, u16);
