//! Ports of a LocalCluster on the Docker host.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::NodeRole;
use crate::api::schema;

/// Returns the default of every host address: only the host itself can connect.
pub(crate) fn loopback() -> String {
    "127.0.0.1".into()
}

/// A port of the nodes that is published on the Docker host.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = schema::not_the_api(), validation = schema::port_range(), validation = schema::host_range())]
pub struct PortSpec {
    /// Name of the port, a DNS label of at most 63 characters, unique in the list. An allocated host port is kept under
    /// this name.
    #[schemars(length(max = 63))]
    #[x_kube(validation = schema::port_name())]
    pub name: String,
    /// Port of the nodes, 1 to 65535: the port of a Service of type LoadBalancer (80 for HTTP with Traefik), a
    /// NodePort, or a hostPort of a Pod. 6443/TCP is reserved for the API.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Last port of the range that starts at `port`, as in a NetworkPolicy. A range requires `hostPort`, which starts a
    /// range of the same length. Defaults to `port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub end_port: Option<i32>,
    /// Port of the Docker host, 1 to 65535. Defaults to a free port that is allocated once and kept; see
    /// `status.ports`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub host_port: Option<i32>,
    /// IPv4 address of the Docker host that the port is bound to. Defaults to 127.0.0.1, which only accepts connections
    /// from the host itself; 0.0.0.0 accepts connections from everywhere that the host is reachable from.
    #[serde(rename = "hostIP", default = "loopback")]
    #[schemars(length(max = 15))]
    #[x_kube(validation = schema::host_ip())]
    pub host_ip: String,
    /// Transport protocol: TCP or UDP. Defaults to TCP.
    #[serde(default)]
    pub protocol: Protocol,
    /// Nodes that connections are distributed to: All, Servers or Agents, those of `agentPools` included.
    /// Defaults to All.
    #[serde(default)]
    pub nodes: NodeSet,
}

/// A transport protocol.
#[derive(
    JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Protocol {
    /// TCP.
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
    /// UDP.
    #[serde(rename = "UDP")]
    Udp,
}

impl Protocol {
    /// Returns the protocol as Docker writes it: `tcp` or `udp`.
    pub fn docker(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A set of nodes of the cluster.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeSet {
    /// All servers and agents.
    #[default]
    All,
    /// The nodes of `spec.servers`.
    Servers,
    /// The nodes of `spec.agents` and `spec.agentPools`.
    Agents,
}

impl NodeSet {
    /// Reports whether it contains the nodes with a role.
    pub fn contains(self, role: NodeRole) -> bool {
        match self {
            Self::All => true,
            Self::Servers => role == NodeRole::Server,
            Self::Agents => role == NodeRole::Agent,
        }
    }
}
