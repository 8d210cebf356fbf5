//! Settings of the operator that plans depend on.

use std::ops::RangeInclusive;

use ipnet::Ipv4Net;
use jiff::SignedDuration;

use super::management::Management;

/// Settings of the operator.
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
    /// Pool from which subnets are allocated, /24 each.
    pub network_pool: Ipv4Net,
    /// Subnets that specs may choose besides the pool.
    pub allowed_subnets: Vec<Ipv4Net>,
    /// Range from which host ports are allocated.
    pub port_range: RangeInclusive<u16>,
    /// The resolvers that Pods of created clusters use.
    pub node_dns: Vec<String>,
    /// The management cluster's own Node.
    pub management: Management,
    /// The directories of the host that specs may mount something below of.
    pub allowed_host_paths: Vec<String>,
    /// Time after which the node of a NotReady Node is repaired; `None` disables repairs.
    pub node_repair_after: Option<SignedDuration>,
}
