//! Hostnames that the nodes and Pods of a cluster resolve in addition to DNS.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// Hostnames of an IP address.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostAlias {
    /// IPv4 or IPv6 address: `10.0.0.5`, `2001:db8::5`. `host-gateway` is the Docker host, at the gateway of the cluster's
    /// network, as in `docker run --add-host`.
    #[schemars(length(max = 45))]
    #[x_kube(validation = schema::alias_ip())]
    pub ip: String,
    /// Lowercase DNS names that resolve to the address: `db.internal`. At most 16. A name may have only one address,
    /// and the names of the containers, registries and Services of the cluster are refused.
    #[schemars(length(min = 1, max = 16), inner(length(max = 253)), transform = schema::alias_names)]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub hostnames: Vec<String>,
}
