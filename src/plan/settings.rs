//! Settings of the operator that plans depend on.

use std::ops::RangeInclusive;

use ipnet::Ipv4Net;
use jiff::SignedDuration;

use super::management::Management;

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
