//! Settings of the operator that plans depend on.

use std::{net::Ipv4Addr, ops::RangeInclusive};

use ipnet::Ipv4Net;
use jiff::SignedDuration;

use super::management::Management;
use crate::docker::spec::{Isolation, Limits};

/// Settings of the operator.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Node image without a tag.
    pub node_image_repository: String,
    /// K3s version of clusters without one in the spec.
    pub default_version: String,
    /// Image of load balancers.
    pub load_balancer_image: String,
    /// Image of registries without one in the spec.
    pub registry_image: String,
    /// Pool from which subnets are allocated, /24 each; `None` if Docker chooses them.
    pub network_pool: Option<Ipv4Net>,
    /// True if a HostPolicy requires all subnets to be in the pool.
    pub pool_required: bool,
    /// Subnets that specs may choose besides the pool.
    pub allowed_subnets: Vec<Ipv4Net>,
    /// Range from which host ports are allocated.
    pub port_range: RangeInclusive<u16>,
    /// Resolvers that Pods of created clusters use. If empty, they use those of the Docker host, through the load
    /// balancer.
    pub node_dns: Vec<String>,
    /// Node of the management cluster.
    pub management: Management,
    /// Host of an engine that is reached over the network; `None` if it runs on the same machine. Addresses of its
    /// containers, and its ports on 127.0.0.1, are not reached from here, where they may be those of others.
    pub engine_host: Option<String>,
    /// Directories of the Docker host below which specs may mount directories.
    pub allowed_host_paths: Vec<String>,
    /// Time after which the node of a NotReady Node is repaired; `None` disables repairs.
    pub node_repair_after: Option<SignedDuration>,
    /// Time after which what an object left that no longer exists is removed; `None` for never.
    pub remove_orphans_after: Option<SignedDuration>,
    /// Limits of nodes where the spec has none.
    pub node_defaults: Limits,
    /// OCI runtime and privileges of nodes where the spec does not decide.
    pub node_isolation: Isolation,
    /// What objects may do in a namespace that no HostPolicy selects.
    pub without_policy: WithoutPolicy,
    /// Namespaces whose objects the operator manages; all if empty.
    pub namespaces: Vec<String>,
}

impl Settings {
    /// Returns the addresses of the host environment that no subnet may contain.
    pub fn known_addresses(&self) -> Vec<(Ipv4Addr, &'static str)> {
        let resolvers =
            self.node_dns.iter().filter_map(|ip| Some((ip.parse().ok()?, "a resolver (--node-dns)")));
        let node = self.management.ip().map(|ip| (ip, "the Node of the management cluster"));
        resolvers.chain(node).collect()
    }

    /// Reports whether the operator manages the objects of a namespace.
    pub fn manages(&self, namespace: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.iter().any(|managed| managed == namespace)
    }
}

/// What objects may do in a namespace that no HostPolicy selects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WithoutPolicy {
    /// Nothing is created.
    #[default]
    Refuse,
    /// Everything that the settings of the operator allow.
    Unrestricted,
}

#[cfg(test)]
impl Settings {
    /// Returns settings for tests, without a Node of the management cluster and without host directories.
    pub fn sample() -> Self {
        Self {
            node_image_repository: "docker.io/rancher/k3s".into(),
            default_version: "v1.36.2+k3s1".into(),
            load_balancer_image: "nginx:1".into(),
            registry_image: "registry:3".into(),
            network_pool: None,
            pool_required: false,
            allowed_subnets: Vec::new(),
            port_range: 20000..=20099,
            node_dns: Vec::new(),
            management: Management::None,
            engine_host: None,
            allowed_host_paths: Vec::new(),
            node_repair_after: None,
            remove_orphans_after: None,
            node_defaults: Limits::default(),
            node_isolation: Isolation::default(),
            without_policy: WithoutPolicy::Refuse,
            namespaces: Vec::new(),
        }
    }
}
