//! What a LocalCluster wants on the Docker host: from the valid spec, what it refers to and what was allocated to
//! complete container specs.

mod allocation;
mod build;
mod image;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    ops::RangeInclusive,
    sync::Arc,
};

use ipnet::Ipv4Net;
use jiff::SignedDuration;

use super::{
    addresses::Addresses,
    containers::Owner,
    desired::{ContainerSpec, NetworkSpec, VolumeSpec},
    management::Management,
    manifests::Manifest,
    mounts::Mounts,
    registries::NodeRegistries,
    steps::NodeConfig,
};
use crate::{
    api::{local_cluster::DataLoss, names},
    docker::engine::Container,
    k3s::registries::{Auth, Mirrored, REGISTRY_PORT, Registries, Scheme, on_host},
};

pub use allocation::allocate;
pub use build::{Basis, desired};
pub use image::{image, image_of};

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
    /// Where specs may choose a subnet, beside the pool.
    pub allowed_subnets: Vec<Ipv4Net>,
    /// Where host ports are taken from.
    pub port_range: RangeInclusive<u16>,
    /// The resolvers that Pods of created clusters use.
    pub node_dns: Vec<String>,
    /// The management cluster's own Node.
    pub management: Management,
    /// The directories of the host that specs may mount something below of.
    pub allowed_host_paths: Vec<String>,
    /// How long a Node may be NotReady before its node is repaired; `None` for ever.
    pub node_repair_after: Option<SignedDuration>,
}

/// What the spec refers to.
#[derive(Clone, Debug, Default)]
pub struct Refs {
    /// The join secret.
    pub token: Vec<u8>,
    /// The join secret that is to take its place.
    pub next_token: Option<Vec<u8>>,
    /// The registries in use, in the spec's order.
    pub registries: Vec<UsedRegistry>,
    /// The manifests that K3s is to apply.
    pub manifests: Vec<Manifest>,
    /// What goes into the nodes. `None` while something that it is made of is missing: nodes then stay as they are.
    pub inputs: Option<NodeInputs>,
}

/// What goes into the nodes from Secrets and ConfigMaps.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct NodeInputs {
    /// The credentials of `spec.registries.configs`, by host.
    pub credentials: BTreeMap<String, Auth>,
    /// The certificates of `spec.registries.configs`, by path, with their modes.
    pub certificates: BTreeMap<String, (u32, Vec<u8>)>,
    /// The user's own registries file.
    pub config: Registries,
    /// The contents of `spec.files`, by path.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl std::fmt::Debug for NodeInputs {
    /// Without the contents, which may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeInputs").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A registry in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsedRegistry {
    /// The name of the Registry object, as `namespace/name` where it is in another one.
    pub name: String,
    /// What its owner labels are.
    pub owner: Owner,
    /// Its container's name.
    pub hostname: String,
    /// Its port on the Docker host; `None` while nothing tells it.
    pub host_port: Option<u16>,
    /// The address of the Docker host that the port is bound to, where it is not 127.0.0.1.
    pub host_ip: Option<Ipv4Addr>,
    /// Whether it serves HTTPS.
    pub tls: bool,
    /// Whom to trust there, in PEM.
    pub ca: Option<Vec<u8>>,
    /// How to log in.
    pub auth: Option<Auth>,
    /// The registry that it caches.
    pub upstream: Option<String>,
    /// Whether tools in the cluster are told of it.
    pub hosting: bool,
    /// Why it does not serve, by the last word of its own status. What that does not tell, for whatever reason, is no
    /// trouble: its container shows whether it runs.
    pub trouble: Option<String>,
}

impl UsedRegistry {
    /// Its name and port on the cluster's network.
    pub fn address(&self) -> String {
        format!("{}:{REGISTRY_PORT}", self.hostname)
    }

    /// Its port on the Docker host, as its container was made with it.
    pub fn port_of(&self, container: &Container) -> Option<u16> {
        let its = container.name == self.hostname && self.owner.owns(&container.labels);
        its.then(|| container.labels.get(names::EXTERNAL_PORT)?.parse().ok()).flatten()
    }

    /// Where it is reached on the Docker host.
    pub fn host(&self) -> Option<String> {
        self.host_port.map(|port| on_host(self.host_ip.unwrap_or(Ipv4Addr::LOCALHOST), port))
    }

    /// As the nodes see it.
    pub fn mirrored(&self) -> Mirrored {
        Mirrored {
            hostname: self.hostname.clone(),
            port: REGISTRY_PORT,
            host: self.host(),
            scheme: if self.tls { Scheme::Https } else { Scheme::Http },
            upstream: self.upstream.clone(),
        }
    }
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
