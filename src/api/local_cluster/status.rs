//! Status of a LocalCluster.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{KubeconfigStatus, Protocol};

/// Observed state of the cluster.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LocalClusterStatus {
    /// Generation of the spec that this status describes; -1 before the operator has processed the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions of the cluster; `Ready` summarizes them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Reason of the condition that `kubectl get` shows: `Ready`, or `Stopped` while the cluster is stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Time at which the cluster is deleted because of its time to live. Unset while the annotation `localcluster.dev/hold`
    /// prevents it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// Values that the HostPolicy of the namespace filled in, because the spec does not set these fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective: Option<Effective>,
    /// Violation of a HostPolicy that stops the cluster (`onViolation: Stop`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub violation: Option<ViolationStatus>,
    /// Node of the management cluster that is the Docker host of the cluster, where there are several (roles `controller`
    /// and `agent`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Internal address of that node.
    #[serde(rename = "hostIP", skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<String>,
    /// Pod in the same namespace by which the host was chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placeholder: Option<String>,
    /// K3s version of the servers, as reported by their Nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Node image in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Node image for a spec with neither `version` nor `image`. It stays when the operator is configured with another
    /// default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_image: Option<String>,
    /// URL of the API on the Docker host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// URLs of the API by client location.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Endpoints>,
    /// Secret in the same namespace that contains the kubeconfig.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubeconfig_secret: Option<String>,
    /// Service in the same namespace that leads to the API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_service: Option<String>,
    /// Token in the kubeconfig. Unset for the client certificate of K3s and without a kubeconfig.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<KubeconfigStatus>,
    /// Port of the API on the Docker host, kept for the lifetime of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_port: Option<HostPort>,
    /// Published ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub ports: Vec<PortStatus>,
    /// Docker network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkStatus>,
    /// Numbers of desired, existing and ready servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub servers: Option<PoolStatus>,
    /// Numbers of desired, existing and ready agents: those of `spec.agents` and of all pools of `spec.agentPools`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agents: Option<PoolStatus>,
    /// Numbers of desired, existing and ready agents of each pool of `spec.agentPools`, and of removed pools whose nodes
    /// still exist.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub agent_pools: Vec<AgentPoolStatus>,
    /// Number of existing agents of `spec.agents`, without those of `spec.agentPools`, for the scale subresource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Label selector of the scale subresource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Nodes of the cluster.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub nodes: Vec<NodeStatus>,
    /// Servers that were last observed as etcd voters or joining etcd; empty while a single server stores its data in
    /// SQLite. It distinguishes a lost quorum from one that never existed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub voters: Vec<String>,
    /// Server that the annotation `localcluster.dev/reset-quorum` named when it last reset etcd. etcd is not reset
    /// again until the annotation has another value or was removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quorum_reset: Option<String>,
    /// Registries that the nodes pull from: Registry objects and unmanaged containers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["cluster"]))]
    pub registries: Vec<UsedRegistryStatus>,
}

impl LocalClusterStatus {
    /// Forgets what was allocated on a Docker host.
    pub fn forget_allocation(&mut self) {
        (self.network, self.api_port) = (None, None);
        self.ports.clear();
        self.nodes.clear();
    }
}

/// Violation of a HostPolicy that stops the cluster.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ViolationStatus {
    /// Time from which the grace period counts.
    pub since: Time,
    /// Time from which the cluster is stopped.
    pub stops_at: Time,
}

/// Values that a HostPolicy filled in.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Effective {
    /// Values for the servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub servers: Option<EffectiveNodes>,
    /// Values for the agents of `spec.agents`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agents: Option<EffectiveNodes>,
    /// Values for the agents of each pool of `spec.agentPools`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub agent_pools: Vec<EffectivePool>,
    /// Time to live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// Time from which the time to live counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_since: Option<Time>,
    /// Life of the token in the kubeconfig.
    #[serde(rename = "kubeconfigTTL", skip_serializing_if = "Option::is_none")]
    pub kubeconfig_ttl: Option<String>,
}

/// What each node container of a pool has. Where its nodes have different limits, because the HostPolicy was changed after
/// some of them were created, the highest.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EffectiveNodes {
    /// Memory limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// CPU limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<String>,
    /// Highest number of processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<i32>,
    /// OCI runtime. Where nodes have different ones, there is none here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// False if no node is privileged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
}

/// What each node container of a pool of `spec.agentPools` has.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectivePool {
    /// Name of the pool.
    pub name: String,
    /// Values for its nodes.
    #[serde(flatten)]
    pub nodes: EffectiveNodes,
}

/// URLs of the API.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoints {
    /// URL for clients on the Docker host.
    pub host: String,
    /// URL for containers on the Docker network of the cluster.
    pub network: String,
}

/// A port of the Docker host.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostPort {
    /// IP address that the port is bound to.
    #[serde(rename = "hostIP")]
    pub host_ip: String,
    /// Port number.
    pub host_port: i32,
}

/// A published port.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortStatus {
    /// Name of the entry in `spec.ports`.
    pub name: String,
    /// IP address on the Docker host.
    #[serde(rename = "hostIP")]
    pub host_ip: String,
    /// Port on the Docker host.
    pub host_port: i32,
    /// Port of the nodes.
    pub port: i32,
    /// Last port of the nodes if the entry is a range; the range of the Docker host has the same length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_port: Option<i32>,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Reason why the port, or a part of the range, is currently not published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Docker network of the cluster.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkStatus {
    /// Name of the network.
    pub name: String,
    /// Docker ID of the network.
    pub id: String,
    /// Subnet of the network.
    pub subnet: String,
}

/// Numbers of nodes in a pool.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PoolStatus {
    /// Number of nodes in the spec.
    pub desired: i32,
    /// Number of nodes with a container.
    pub replicas: i32,
    /// Number of nodes with a Ready Node object, including outdated nodes.
    pub ready: i32,
    /// Numbers of ready and of desired nodes: `1/2`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub summary: String,
}

impl PoolStatus {
    /// Creates an instance.
    pub fn new(desired: i32, replicas: i32, ready: i32) -> Self {
        Self { desired, replicas, ready, summary: format!("{ready}/{desired}") }
    }
}

/// Numbers of nodes in a pool of `spec.agentPools`.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AgentPoolStatus {
    /// Name of the pool.
    pub name: String,
    /// Number of nodes in the spec.
    pub desired: i32,
    /// Number of nodes with a container.
    pub replicas: i32,
    /// Number of nodes with a Ready Node object, including outdated nodes.
    pub ready: i32,
}

/// A node.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Name of the container and of the Node object.
    pub name: String,
    /// Role of the node.
    pub role: NodeRole,
    /// Pool of `spec.agentPools` that the node belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Phase of the node.
    pub phase: NodePhase,
    /// IP address on the Docker network of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Version of the kubelet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// ID of the container, truncated to 12 digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Repairs since the node was last Ready for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repairs: Option<NodeRepairs>,
}

/// Repairs of a node that was not Ready for too long.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRepairs {
    /// Number of repairs.
    pub count: i32,
    /// Start time of the last repair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Time>,
}

/// Role of a node.
#[derive(
    JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum NodeRole {
    /// Runs the control plane.
    #[default]
    Server,
    /// Only runs workloads.
    Agent,
}

/// Phase of a node.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodePhase {
    /// The container does not exist yet.
    #[default]
    Pending,
    /// The container is not running.
    NotRunning,
    /// The container is running; the Node is not Ready yet.
    Starting,
    /// The Node is Ready at the desired version.
    Ready,
    /// The container is waiting to be replaced because the spec changed.
    Outdated,
    /// The node is being removed.
    Removing,
}

/// A registry that the nodes pull from.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsedRegistryStatus {
    /// Name of the Registry object, as `namespace/name` if it is in another namespace, or of the container.
    pub name: String,
    /// Address for pushing images from the Docker host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Host name and port on the Docker network of the cluster.
    pub cluster: String,
    /// Registry names that images can be pulled with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<String>,
    /// True if the HostPolicy of the namespace names it in `defaults.registries`, and the spec does not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_default: bool,
}
