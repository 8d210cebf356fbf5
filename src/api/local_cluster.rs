//! The kind `LocalCluster`: a K3s cluster of containers on the Docker host.

mod contents;
mod registries;
mod status;

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use contents::*;
pub use registries::*;
pub use status::*;

use super::{
    host_alias::HostAlias,
    node_host::{HostVolume, Ulimit},
    registry::EnvVar,
    schema,
};

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
    printcolumn(name = "State", type_ = "string", json_path = ".spec.state", priority = 1),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Servers", type_ = "integer", json_path = ".status.servers.ready"),
    printcolumn(name = "Agents", type_ = "integer", json_path = ".status.agents.ready"),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".status.endpoint"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".status.expiresAt"),
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
    validation = schema::api_host_port(),
    validation = schema::alias_of_container(),
    validation = schema::file_in_volume("servers"),
    validation = schema::file_in_volume("agents")
)]
pub struct LocalClusterSpec {
    /// The K3s version, as K3s writes it: `v1.36.2+k3s1`, or `v1.36.2-rc1+k3s1`. Default: the version that the
    /// operator was set up with. Not together with `image`. A change replaces the nodes with ones of the other
    /// version, the servers first, one at a time, then the agents, `agents.maxUnavailable` at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = schema::version())]
    pub version: Option<String>,
    /// The full reference of the node image, with a tag or a digest, instead of `version`:
    /// `registry.example/k3s:v1.36.2-k3s1`. A change replaces the nodes, the servers first, one at a time, then the
    /// agents, `agents.maxUnavailable` at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = schema::image())]
    pub image: Option<String>,
    /// A Secret of type kubernetes.io/dockerconfigjson in this namespace, for pulling the node image. Pods in the
    /// cluster pull with their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_secret: Option<LocalRef>,
    /// Running, or Stopped: all of its containers are stopped, and its data, ports and addresses are kept. While it is
    /// stopped, nothing of it is started, repaired or changed; what was changed meanwhile takes effect when it runs
    /// again.
    #[serde(default)]
    pub state: ClusterState,
    /// What happens when the cluster's data is lost, since the Docker volumes of its only server, or of all of its servers,
    /// are gone or empty. Stop: nothing is created, and the cluster waits for the volumes to be restored, reason DataLost.
    /// Recreate: what is left of the cluster is removed, and a new, empty one takes its place, with another CA and another
    /// kubeconfig.
    #[serde(default)]
    pub on_data_loss: DataLoss,
    /// The cluster's name on the Docker host: nodes are called `k3d-<clusterName>-server-0` and so on. A DNS label of
    /// at most 32 characters. Default: the object's name; in other namespaces than `default` with the namespace and a
    /// hash, `<namespace>-<name>-<hash>`, cut to 32 characters. It can't be set, changed or removed after creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = schema::cluster_name())]
    pub cluster_name: Option<String>,
    /// The nodes that run the control plane, and workloads too unless tainted: 1, 3 or 5.
    #[serde(default = "NodePool::one")]
    #[schemars(transform = schema::servers)]
    #[x_kube(validation = schema::server_count())]
    pub servers: NodePool,
    /// The nodes that only run workloads. `kubectl scale lc <name> --replicas=3` sets their `count`.
    #[serde(default)]
    #[schemars(transform = schema::agents)]
    pub agents: NodePool,
    /// The secret by which nodes join, as a key of a Secret in this namespace. Default: one is made at random and kept
    /// in the Secret `<name>-token`. The field can't be set, changed or removed after creation; another value in the
    /// Secret (letters, digits, `-`, `_` and `.`) takes the place of the one before: the server exchanges it, and the
    /// nodes are replaced one at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretKeyRef>,
    /// The cluster's Docker network.
    #[serde(default)]
    pub network: NetworkSpec,
    /// Where the Kubernetes API is reached. A change of `hostPort` replaces the load balancer; a change of `hostIP` or
    /// `sans`, which are in the serving certificate, replaces the server's container too.
    #[serde(default)]
    pub api: ApiSpec,
    /// Ports of the nodes that are published on the Docker host, through the cluster's load balancer. At most 64
    /// entries, and 128 ports in all. A change replaces only the load balancer, which ends the connections through
    /// it; nodes and their workloads go on. A host port that something else holds is left out until it is free, and
    /// all others are published.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = schema::host_ports(), validation = schema::ports_in_all(), merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub ports: Vec<PortSpec>,
    /// The image registries that the nodes pull from.
    #[serde(default)]
    pub registries: RegistriesSpec,
    /// Files that are put into the nodes, such as certificates. At most 32. A change replaces the node containers one
    /// at a time, except that of a file which a registries file names (`ca_file` and the like): it is exchanged in the
    /// running nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["path".into()]))]
    pub files: Vec<FileEntry>,
    /// Images of the Docker host that are put into the containerd of every node, each by its full name with a tag, as
    /// Pods name it: `nginx:1.29`. One that the host does not have is pulled there, without credentials. One that is
    /// another one on the host later, or that a node lost, is put there again; one that is taken out of the list stays
    /// in the nodes. At most 32. A change is made in the running nodes, and nothing restarts; the cluster is Ready when
    /// all nodes have all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 255)), transform = schema::preload_images)]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub preload_images: Vec<String>,
    /// Kubernetes manifests that K3s applies in the cluster. At most 32. A change takes effect in the running cluster
    /// within half a minute, and nothing restarts; objects that are taken out of a manifest, or whose manifest is taken
    /// out of the list, are deleted. The cluster is Ready when all of their objects are there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub manifests: Vec<ManifestEntry>,
    /// Names that nodes and Pods resolve to given addresses, in front of what DNS says. At most 32 addresses. A change
    /// replaces the node containers one at a time; Pods see it within a minute and a half, when CoreDNS has read it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = schema::alias_twice(), merge_strategy = ListMerge::Map(vec!["ip".into()]))]
    pub host_aliases: Vec<HostAlias>,
    /// The cluster deletes itself, with all that is in it, this long after its creation, in hours, minutes and
    /// seconds: `8h`, `1h30m`, `90s`. An Event of reason Expiring tells before, and `status.expiresAt` when. The
    /// annotation `localcluster.dev/hold`, with any value but `false`, prevents it; a cluster of which the time is
    /// over goes at once when it is taken away. Default: none, the cluster stays. A change counts from the creation
    /// too, so that one that is shorter than the cluster's age deletes it at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = schema::lifetime())]
    pub ttl: Option<String>,
}

/// Whether a cluster runs.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClusterState {
    /// It runs.
    #[default]
    Running,
    /// Its containers are stopped, with its data, ports and addresses kept.
    Stopped,
}

/// What happens when a cluster's data is lost.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataLoss {
    /// Nothing is created until a person decides.
    #[default]
    Stop,
    /// A new, empty cluster takes its place.
    Recreate,
}

/// Nodes of one kind.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodePool {
    /// How many nodes: 1, 3 or 5 servers, 0 to 32 agents. Default: 1 for servers, 0 for agents. One server keeps its
    /// data in SQLite. Three and five keep it in etcd, and the cluster goes on while one, or two, of them are lost; the
    /// first time that there is more than one, the first server restarts once to move its data. A change adds nodes, or
    /// drains and removes those with the highest numbers, servers one at a time; the others go on.
    #[serde(default)]
    #[schemars(range(min = 0, max = 32))]
    pub count: i32,
    /// How many agents may be out of service at the same time while they are replaced, for another version or another
    /// change of their spec: 1 to 32. Those that do not work anyway count. Default: 1. Servers are always replaced one
    /// at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = schema::max_unavailable())]
    pub max_unavailable: Option<i32>,
    /// Further arguments of K3s, each as one item, `--flag` or `--flag=value`: `--disable=traefik`,
    /// `--kubelet-arg=max-pods=50`. Refused, with what to write, are flags that the operator sets itself, those of servers
    /// for agents, and what K3s does not start with or takes without effect (`--no-deploy`, `--disable=kube-proxy`). At
    /// most 64. A change replaces the pool's node containers one at a time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 1024)), transform = schema::args)]
    pub args: Vec<String>,
    /// Environment variables of the node containers, such as HTTP_PROXY, with which NO_PROXY is completed by what is
    /// inside of the cluster. Anyone who can inspect containers reads them: no secrets. At most 64. A change replaces the
    /// pool's node containers one at a time.
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
    /// K3s needs about 1Gi for a server and 512Mi for an agent, without workloads. What the host has beyond it is
    /// reserved, so that the Node's allocatable memory is the limit, unless `args` have a --kubelet-arg=system-reserved
    /// of their own. Default: no limit. A change replaces the pool's node containers one at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 28))]
    #[x_kube(validation = schema::memory())]
    pub memory: Option<String>,
    /// CPU limit of each node container, in cores as a decimal number in quotes: `"1.5"`. The Node's allocatable CPUs
    /// are the limit, as with `memory`. Default: no limit. A change replaces the pool's node containers one at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 14))]
    #[x_kube(validation = schema::cpus())]
    pub cpus: Option<String>,
    /// Limits of the processes in each node container (`ulimit`), by name. Pods inherit the hard ones. Default: those
    /// of the Docker engine. At most 15. A change replaces the pool's node containers one at a time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 15))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub ulimits: Vec<Ulimit>,
    /// Directories of the Docker host in each node container, below what the operator allows (`--allow-host-path`, by
    /// default nothing). All nodes of the pool share them, and nothing in them is ever removed. At most 16. A change
    /// replaces the pool's node containers one at a time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = schema::mounts_apart(), merge_strategy = ListMerge::Map(vec!["mountPath".into()]))]
    pub volumes: Vec<HostVolume>,
    /// GPUs of the Docker host in each node container, as `docker run --gpus`: `all`, or how many in quotes, `"1"`. The
    /// Docker host needs NVIDIA's container toolkit, and the node image NVIDIA's container runtime, which K3s's own has
    /// not. Default: none. A change replaces the pool's node containers one at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 3))]
    #[x_kube(validation = schema::gpus())]
    pub gpus: Option<String>,
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
    /// The IPv4 subnet of the nodes, /16 to /25, by its first address: `10.231.16.0/24`. It has to be in the
    /// operator's pool (`--network-pool`) or in what it allows besides (`--allow-subnet`). Default: a free /24 of the pool; see
    /// `status.network`. It can't be set, changed or removed after creation.
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
#[x_kube(validation = schema::not_the_api(), validation = schema::port_range(), validation = schema::host_range())]
pub struct PortSpec {
    /// A name, unique in the list: a DNS label of at most 63 characters. An allocated host port is kept under it.
    #[schemars(length(max = 63))]
    #[x_kube(validation = schema::port_name())]
    pub name: String,
    /// The port of the nodes, 1 to 65535: one of a Service of type LoadBalancer (80 for Traefik's HTTP), a NodePort,
    /// or a hostPort of a Pod. Not 6443/TCP, which is the API.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// The last port of a range that begins with `port`, as in a NetworkPolicy. `hostPort` then begins a range of the
    /// same length, and has to be given. Default: `port` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub end_port: Option<i32>,
    /// The port of the Docker host, 1 to 65535. Default: a free one, allocated once and kept; see `status.ports`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub host_port: Option<i32>,
    /// The IPv4 address of the Docker host that the port is bound to. Default: 127.0.0.1, to which only the host itself
    /// can connect; 0.0.0.0 lets in whoever reaches the host.
    #[serde(rename = "hostIP", default = "loopback")]
    #[schemars(length(max = 15))]
    #[x_kube(validation = schema::host_ip())]
    pub host_ip: String,
    /// The transport: TCP or UDP. Default: TCP.
    #[serde(default)]
    pub protocol: Protocol,
    /// The nodes that connections are spread over: All, Servers or Agents. Default: All.
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
