//! The status of a LocalCluster.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Protocol;

/// What the cluster is now.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LocalClusterStatus {
    /// The generation of the spec that this status speaks of; -1 before the operator has seen the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The state in detail; `Ready` sums it up.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// When the cluster deletes itself, by `spec.ttl`. Not there while the annotation `localcluster.dev/hold` keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// The K3s version that the servers run, as their Nodes tell it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The node image in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The API's URL on the Docker host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The API's URLs by the place they are reached from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Endpoints>,
    /// The Secret in this namespace that holds the kubeconfig.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubeconfig_secret: Option<String>,
    /// The API's port on the Docker host, kept for the cluster's life.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_port: Option<HostPort>,
    /// The published ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub ports: Vec<PortStatus>,
    /// The Docker network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkStatus>,
    /// How many servers are wanted and ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub servers: Option<PoolStatus>,
    /// How many agents are wanted, exist and are ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agents: Option<PoolStatus>,
    /// The label selector of the scale subresource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub nodes: Vec<NodeStatus>,
    /// The servers that vote in etcd or are joining it, as they were last seen; empty where one server keeps its data in
    /// SQLite. By it a majority that is lost is told from one that was never there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub voters: Vec<String>,
    /// The server that the annotation `localcluster.dev/reset-quorum` named when etcd was reset by it. Nothing is reset
    /// again before the annotation says something else, or was removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quorum_reset: Option<String>,
    /// The registries that the nodes pull from: Registry objects and containers of others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["cluster"]))]
    pub registries: Vec<UsedRegistryStatus>,
}

/// The API's URLs.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoints {
    /// From the Docker host.
    pub host: String,
    /// From containers on the cluster's Docker network.
    pub network: String,
}

/// A port of the Docker host.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostPort {
    /// The address it is bound to.
    #[serde(rename = "hostIP")]
    pub host_ip: String,
    /// Its number.
    pub host_port: i32,
}

/// A published port.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortStatus {
    /// As in `spec.ports`.
    pub name: String,
    /// The address on the Docker host.
    #[serde(rename = "hostIP")]
    pub host_ip: String,
    /// The port on the Docker host.
    pub host_port: i32,
    /// The port of the nodes.
    pub port: i32,
    /// The last port of the nodes, where it is a range; those of the host are as many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_port: Option<i32>,
    /// The transport.
    pub protocol: Protocol,
    /// Why it, or a part of the range, is not published now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// The cluster's Docker network.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkStatus {
    /// Its name.
    pub name: String,
    /// Its Docker id.
    pub id: String,
    /// Its subnet.
    pub subnet: String,
}

/// How many nodes of a pool.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PoolStatus {
    /// By the spec.
    pub desired: i32,
    /// With a container.
    pub replicas: i32,
    /// Ready as Kubernetes Nodes, those that are yet to be replaced too.
    pub ready: i32,
}

/// A node.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// The name of its container and of its Node.
    pub name: String,
    /// What it is for.
    pub role: NodeRole,
    /// Where it stands.
    pub phase: NodePhase,
    /// Its address on the cluster's network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// The version its kubelet runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The id of its container, its first 12 digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// What was done since it was last Ready for a while, because its Node was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repairs: Option<NodeRepairs>,
}

/// The repairs of a node whose Node was not Ready for too long.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRepairs {
    /// How many.
    pub count: i32,
    /// When the last one began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Time>,
}

/// What a node is for.
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

/// Where a node stands.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodePhase {
    /// It has no container yet.
    #[default]
    Pending,
    /// Its container does not run.
    NotRunning,
    /// Its container runs; its Node is not ready yet.
    Starting,
    /// Its Node is ready at the wanted version.
    Ready,
    /// It is to be replaced, since its spec changed.
    Outdated,
    /// It is being taken away.
    Removing,
}

/// A registry that the nodes pull from.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsedRegistryStatus {
    /// The name of the Registry object, as `namespace/name` where it is in another one, or of the container.
    pub name: String,
    /// Push here from the Docker host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Its name and port on the cluster's network.
    pub cluster: String,
    /// The registry names that images may be pulled under.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<String>,
}
