//! The kind `LocalCluster`: a K3s cluster of containers on the Docker host.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{registry::EnvVar, schema};

/// What the cluster is to be.
///
/// All fields can be changed at any time unless they say otherwise. What a change replaces is replaced on its volumes
/// and addresses, so the cluster keeps its data.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "localcluster.dev",
    version = "v1alpha1",
    kind = "LocalCluster",
    namespaced,
    shortname = "lc",
    category = "localdev",
    derive = "PartialEq",
    derive = "Default",
    status = "LocalClusterStatus",
    doc = "A K3s cluster whose nodes are containers on the Docker host.",
    validation = schema::local_cluster_name(),
    scale(
        spec_replicas_path = ".spec.agents.count",
        status_replicas_path = ".status.agents.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Servers", type_ = "integer", json_path = ".status.servers.ready"),
    printcolumn(name = "Agents", type_ = "integer", json_path = ".status.agents.ready"),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".status.endpoint"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Image", type_ = "string", json_path = ".status.image", priority = 1),
    printcolumn(name = "Network", type_ = "string", json_path = ".status.network.subnet", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = schema::version_or_image(),
    validation = schema::immutable(
        "clusterName",
        "it is in the names of all containers, networks and volumes; make a new LocalCluster instead"
    ),
    validation = schema::immutable(
        "token",
        "the cluster was made with it, and nodes that have joined know no other; make a new LocalCluster instead"
    ),
    validation = schema::api_host_port()
)]
pub struct LocalClusterSpec {
    /// The K3s version, as K3s writes it: `v1.36.2+k3s1`, or `v1.36.2-rc1+k3s1`. Default: the version that the
    /// operator was set up with. Not together with `image`. A change replaces the nodes with ones of the other
    /// version, the server first, then the agents one at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = schema::version())]
    pub version: Option<String>,
    /// The full reference of the node image, with a tag or a digest, instead of `version`:
    /// `registry.example/k3s:v1.36.2-k3s1`. A change replaces the nodes, the server first, then the agents one at a
    /// time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = schema::image())]
    pub image: Option<String>,
    /// A Secret of type kubernetes.io/dockerconfigjson in this namespace, for pulling the node image. Pods in the
    /// cluster pull with their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_secret: Option<LocalRef>,
    /// The cluster's name on the Docker host: nodes are called `k3d-<clusterName>-server-0` and so on. A DNS label of
    /// at most 32 characters. Default: the object's name, with the namespace before it (`<namespace>-<name>`) unless
    /// that is `default`, cut to 32 characters. It can't be set, changed or removed after creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = schema::cluster_name())]
    pub cluster_name: Option<String>,
    /// The nodes that run the control plane, and workloads too unless tainted. Only one is supported yet.
    #[serde(default = "NodePool::one")]
    #[schemars(transform = schema::servers)]
    #[x_kube(validation = schema::one_server())]
    pub servers: NodePool,
    /// The nodes that only run workloads. `kubectl scale lc <name> --replicas=3` sets their `count`.
    #[serde(default)]
    #[schemars(transform = schema::agents)]
    pub agents: NodePool,
    /// The secret by which nodes join, as a key of a Secret in this namespace. Default: one is made at random and kept
    /// in the Secret `<name>-token`. It can't be set, changed or removed after creation, and the value in the Secret
    /// must stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretKeyRef>,
    /// The cluster's Docker network.
    #[serde(default)]
    pub network: NetworkSpec,
    /// Where the Kubernetes API is reached. A change of `hostPort` replaces the load balancer; a change of `hostIP` or
    /// `sans`, which are in the serving certificate, replaces the server's container too.
    #[serde(default)]
    pub api: ApiSpec,
    /// Ports of the nodes that are published on the Docker host, through the cluster's load balancer. At most 64. A
    /// change replaces only the load balancer; nodes and their workloads go on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = schema::host_ports(), merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub ports: Vec<PortSpec>,
    /// The image registries that the nodes pull from.
    #[serde(default)]
    pub registries: RegistriesSpec,
}

/// Nodes of one kind.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodePool {
    /// How many nodes: 1 server (more are not supported yet), 0 to 32 agents. Default: 1 for servers, 0 for agents. A
    /// change adds nodes, or drains and removes those with the highest numbers; the others go on.
    #[serde(default)]
    #[schemars(range(min = 0, max = 32))]
    pub count: i32,
    /// Further arguments of K3s, each as one item, `--flag` or `--flag=value`: `--disable=traefik`,
    /// `--kubelet-arg=max-pods=50`. Flags that the operator sets itself are refused, and so are flags of servers for
    /// agents. At most 64. A change replaces the pool's node containers one at a time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 1024)), transform = schema::args)]
    pub args: Vec<String>,
    /// Environment variables of the node containers, such as HTTP_PROXY. Anyone who can inspect containers reads them:
    /// no secrets. At most 64. A change replaces the pool's node containers one at a time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), transform = schema::node_env)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<EnvVar>,
    /// Labels of the Nodes. At most 64. A change is made on the Nodes as they run, and nothing restarts; a label that
    /// is taken out is taken off them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(transform = schema::labels)]
    pub labels: BTreeMap<String, String>,
    /// Taints of the Nodes, as `key=value:Effect` or `key:Effect`, the effect being NoSchedule, PreferNoSchedule or
    /// NoExecute. At most 32. A change replaces the pool's node containers one at a time; a taint that is taken out is
    /// taken off the Nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 384)), transform = schema::taints)]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub taints: Vec<String>,
    /// Memory limit of each node container, as a quantity in bytes with a unit of Ki, Mi, Gi, Ti, k, M, G or T: `2Gi`.
    /// K3s needs about 1Gi for a server and 512Mi for an agent, without workloads. Default: no limit. A change
    /// replaces the pool's node containers one at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 28))]
    #[x_kube(validation = schema::memory())]
    pub memory: Option<String>,
    /// CPU limit of each node container, in cores as a decimal number in quotes: `"1.5"`. Default: no limit. A change
    /// replaces the pool's node containers one at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 14))]
    #[x_kube(validation = schema::cpus())]
    pub cpus: Option<String>,
}

impl NodePool {
    fn one() -> Self {
        Self { count: 1, ..Self::default() }
    }
}

/// The name of an object in the same namespace.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LocalRef {
    /// The object's name.
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::object_name())]
    pub name: String,
}

/// A key of a Secret in the same namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The Secret's name.
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::object_name())]
    pub secret_name: String,
    /// The key in the Secret's data.
    #[serde(default = "SecretKeyRef::default_key")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::secret_key())]
    pub key: String,
}

impl SecretKeyRef {
    fn default_key() -> String {
        "token".into()
    }
}

/// The cluster's Docker network.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = schema::immutable(
    "subnet",
    "all nodes have their addresses in it; make a new LocalCluster instead"
))]
pub struct NetworkSpec {
    /// The IPv4 subnet of the nodes, /16 to /25, by its first address: `172.31.16.0/24`. Default: a free /24 of the
    /// operator's pool; see `status.network`. It can't be set, changed or removed after creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 18))]
    #[x_kube(validation = schema::subnet(), validation = schema::subnet_range())]
    pub subnet: Option<String>,
}

/// Where the Kubernetes API is reached.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiSpec {
    /// The IPv4 address of the Docker host that the API's port is bound to. By default only the host itself can
    /// connect; 0.0.0.0 lets in whoever reaches the host.
    #[serde(rename = "hostIP", default = "loopback")]
    #[schemars(length(max = 15))]
    #[x_kube(validation = schema::host_ip())]
    pub host_ip: String,
    /// The port of the Docker host, 1 to 65535. Default: a free one, allocated once and kept; see `status.apiPort`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub host_port: Option<i32>,
    /// Further DNS names and IP addresses in the API's serving certificate, for clients that reach it by them. At most
    /// 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 253)), transform = schema::sans)]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub sans: Vec<String>,
}

impl Default for ApiSpec {
    fn default() -> Self {
        Self { host_ip: loopback(), host_port: None, sans: Vec::new() }
    }
}

/// The default of every host address: nothing outside the host can connect.
pub(crate) fn loopback() -> String {
    "127.0.0.1".into()
}

/// A published port.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = schema::not_the_api())]
pub struct PortSpec {
    /// A name, unique in the list: a DNS label of at most 63 characters. An allocated host port is kept under it.
    #[schemars(length(max = 63))]
    #[x_kube(validation = schema::port_name())]
    pub name: String,
    /// The port of the nodes, 1 to 65535: one of a Service of type LoadBalancer (80 for Traefik's HTTP), a NodePort,
    /// or a hostPort of a Pod. Not 6443/TCP, which is the API.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// The port of the Docker host, 1 to 65535. Default: a free one, allocated once and kept; see `status.ports`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub host_port: Option<i32>,
    /// The IPv4 address of the Docker host that the port is bound to. By default only the host itself can connect;
    /// 0.0.0.0 lets in whoever reaches the host.
    #[serde(rename = "hostIP", default = "loopback")]
    #[schemars(length(max = 15))]
    #[x_kube(validation = schema::host_ip())]
    pub host_ip: String,
    /// The transport: TCP or UDP.
    #[serde(default)]
    pub protocol: Protocol,
    /// The nodes that connections are spread over: All, Servers or Agents.
    #[serde(default)]
    pub nodes: NodeSet,
}

/// A transport protocol.
#[derive(
    JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Protocol {
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
    #[serde(rename = "UDP")]
    Udp,
}

impl Protocol {
    /// As Docker writes it: `tcp` or `udp`.
    pub fn docker(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// Which of the cluster's nodes.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeSet {
    /// Servers and agents.
    #[default]
    All,
    /// The nodes of `spec.servers`.
    Servers,
    /// The nodes of `spec.agents`.
    Agents,
}

/// The image registries that the nodes pull from.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RegistriesSpec {
    /// Registry objects of this namespace. What was pushed to one of them can be pulled by the name it was pushed
    /// under. At most 16. A change replaces the node containers one at a time.
    #[serde(rename = "use", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub used: Vec<LocalRef>,
}

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
    /// The registries that the nodes pull from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
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
    /// The transport.
    pub protocol: Protocol,
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
    /// Ready as Kubernetes Nodes, at the wanted version.
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
    /// The name of the Registry object.
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
