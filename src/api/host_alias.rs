//! Names that a cluster's nodes and Pods resolve, besides what DNS tells them.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// Names of an IP address.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostAlias {
    /// The IPv4 or IPv6 address: `10.0.0.5`, `2001:db8::5`.
    #[schemars(length(max = 45))]
    #[x_kube(validation = schema::alias_ip())]
    pub ip: String,
    /// The DNS names that lead there, in lower case: `db.internal`. At most 16. Each name can have only one address,
    /// and those of the cluster's own containers, registries and Services are refused.
    #[schemars(length(min = 1, max = 16), inner(length(max = 253)), transform = schema::alias_names)]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub hostnames: Vec<String>,
}
