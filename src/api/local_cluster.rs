//! The kind `LocalCluster`: a K3s cluster of containers on a Docker host.

mod contents;
mod kubeconfig;
mod pool;
mod ports;
mod registries;
mod status;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use contents::*;
pub use kubeconfig::*;
pub use pool::*;
pub use ports::*;
pub use registries::*;
pub use status::*;

use super::{host_alias::HostAlias, placement::Placement, schema};

/// Desired state of the cluster.
///
/// All fields can be changed at any time unless stated otherwise. A rolling update replaces the containers of servers
/// one at a time, then those of agents, `maxUnavailable` of each pool at a time, each drained first (a single server is not).
/// Replaced containers keep their volumes and addresses, so the cluster keeps its data.
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
    doc = "A K3s cluster that runs in containers on the Docker host.",
    validation = schema::local_cluster_name(),
    scale(
        spec_replicas_path = ".spec.agents.count",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason"),
    printcolumn(name = "State", type_ = "string", json_path = ".spec.state", priority = 1),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Servers", type_ = "string", json_path = ".status.servers.summary"),
    printcolumn(name = "Agents", type_ = "string", json_path = ".status.agents.summary"),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".status.endpoint"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".status.expiresAt"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Host", type_ = "string", json_path = ".status.host", priority = 1),
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
        "it is part of the names of all containers, networks and volumes; create a new LocalCluster instead"
    ),
    validation = schema::immutable(
        "token",
        "the nodes of the cluster have joined with this token; create a new LocalCluster instead"
    ),
    validation = schema::api_host_port(),
    validation = schema::alias_of_container(),
    validation = schema::file_in_volume("servers"),
    validation = schema::file_in_volume("agents"),
    validation = schema::file_in_volume_of_pools(),
    validation = schema::agents_in_all()
)]
pub struct LocalClusterSpec {
    /// K3s version, such as `v1.36.2+k3s1` or `v1.36.2-rc1+k3s1`. Defaults to the version that the operator is
    /// configured with, see `status.defaultImage`. Mutually exclusive with `image`. Changing it replaces all nodes in a
    /// rolling update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = schema::version())]
    pub version: Option<String>,
    /// Full reference of the node image with a tag or a digest, as an alternative to `version`:
    /// `registry.example/k3s:v1.36.2-k3s1`. Changing it replaces all nodes in a rolling update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = schema::image())]
    pub image: Option<String>,
    /// Secret of type kubernetes.io/dockerconfigjson in the same namespace with the credentials to pull the node image.
    /// It does not apply to images of Pods in the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_secret: Option<LocalRef>,
    /// Running or Stopped. While the cluster is stopped, its containers are stopped, its data, ports and addresses are
    /// kept, and nothing is started, repaired or updated. Changes made meanwhile take effect when it runs again.
    #[serde(default)]
    pub state: ClusterState,
    /// Policy for a cluster that has lost its data because the Docker volumes of its only server, or of all of its
    /// servers, are missing or empty. Stop: nothing is created, and the cluster waits for the volumes to be restored,
    /// with reason DataLost. Recreate: the remains of the cluster are removed and a new, empty cluster replaces it,
    /// with a new CA and a new kubeconfig. Defaults to Stop.
    #[serde(default)]
    pub on_data_loss: DataLoss,
    /// Durable or Ephemeral. Durable: what K3s and Pods write is on the disk of the Docker host when they rely on it.
    /// Ephemeral, for clusters that nobody keeps, such as those of CI: the nodes do not wait for the disk. What K3s, its
    /// datastore, containerd and Pods flush stays in the memory of the Docker host until its kernel writes it, usually
    /// within half a minute. Restarts, kills and replacements of nodes, and a restart of Docker, lose nothing. WARNING:
    /// when the Docker host or its virtual machine crashes or loses power, the cluster, the volumes of its Pods, and what
    /// Pods wrote to directories and Docker volumes of `volumes` may be damaged: delete the cluster then, and create it
    /// again. Docker 26 and earlier, and nodes with `privileged: false`, write as if it were Durable. Changing it replaces
    /// all nodes in a rolling update and keeps the data. Defaults to Durable.
    #[serde(default)]
    pub durability: Durability,
    /// Name of the cluster on the Docker host; nodes are named `k3d-<clusterName>-server-0` and so on. Must be a DNS
    /// label of at most 32 characters. Defaults to the name of the object; in namespaces other than `default`, to
    /// `<namespace>-<name>-<hash>`, truncated to 32 characters. Immutable: it cannot be set, changed or removed after
    /// creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = schema::cluster_name())]
    pub cluster_name: Option<String>,
    /// Nodes that run the control plane, and workloads unless they are tainted. The count is 1, 3 or 5.
    #[serde(default = "NodePool::one")]
    #[schemars(transform = schema::servers)]
    #[x_kube(validation = schema::server_count())]
    pub servers: NodePool,
    /// Nodes that only run workloads, named `k3d-<clusterName>-agent-0` and so on. `kubectl scale lc <name>
    /// --replicas=3` sets their `count`.
    #[serde(default)]
    #[schemars(transform = schema::agents)]
    pub agents: NodePool,
    /// Further pools of agents with settings of their own, in addition to `agents`. Their nodes are named
    /// `k3d-<clusterName>-<name>-0` and so on. At most 8 pools, and 32 agents in total. When a pool is removed from the
    /// list, its nodes are drained and removed. The order of the list has no meaning. A change of a pool replaces only
    /// its own nodes. Pools are updated independently of each other, so that at most the sum of their `maxUnavailable`
    /// agents is unavailable during a rolling update of several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), transform = schema::agent_pools)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub agent_pools: Vec<AgentPool>,
    /// Token that nodes join with, as a key of a Secret in the same namespace. Defaults to a random token, stored in
    /// the Secret `<name>-token`. The field is immutable: it cannot be set, changed or removed after creation. The
    /// value in the Secret (letters, digits, `-`, `_` and `.`) can be changed: the server rotates its token, and all
    /// nodes are replaced in a rolling update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretKeyRef>,
    /// Docker network of the cluster.
    #[serde(default)]
    pub network: NetworkSpec,
    /// Address of the Kubernetes API. Changing `hostPort` replaces only the load balancer. Changing `hostIP` replaces
    /// the load balancer and, since the serving certificate contains it, the servers in a rolling update. Changing
    /// `sans`, `serverName` or `service` replaces the servers in a rolling update.
    #[serde(default)]
    pub api: ApiSpec,
    /// Kubeconfig in the Secret `<name>-kubeconfig`. Changes take effect in the running cluster without a restart: what
    /// another access or `ttl` handed out is revoked, except for the client certificate of Admin without a `ttl`, which
    /// stays valid until it expires.
    #[serde(default)]
    pub kubeconfig: KubeconfigSpec,
    /// Ports of the nodes that the load balancer publishes on the Docker host. At most 64 entries and 128 ports in
    /// total. Changing them replaces only the load balancer, which closes the connections through it; nodes and
    /// workloads keep running. A host port that is in use by another process or container is left out until it is free,
    /// while all others are published.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = schema::host_ports(), validation = schema::ports_in_all(), merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub ports: Vec<PortSpec>,
    /// Image registries that the nodes pull from. All fields are merged into the registries file of K3s: first the
    /// entries that the operator generates for `use`, `create` and `containers`, then `mirrors` and `configs`, then
    /// `config`; for the same key, each field of the later source takes precedence. Changes take effect on the running
    /// nodes within seconds without a restart, except that a change of credentials or of `defaultEndpoint` replaces all
    /// nodes in a rolling update, as does every change while `servers.args` contains --embedded-registry.
    #[serde(default)]
    pub registries: RegistriesSpec,
    /// Files to create in the nodes, such as certificates. At most 32. Changing them replaces the nodes in a rolling
    /// update, except for a file that the registries configuration references (`ca_file` and the like), which is
    /// updated in the running nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["path".into()]))]
    pub files: Vec<FileEntry>,
    /// Images of the Docker host to import into containerd on every node, each by its full name with a tag, as Pods
    /// reference it: `nginx:1.29`. An image that does not exist on the host is pulled there first, without credentials.
    /// An image is imported again when its tag refers to another image on the host or when a node has lost it; an image
    /// that is removed from the list stays on the nodes. At most 32. Changes take effect on the running nodes without a
    /// restart, and the cluster is Ready when all nodes have all images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 255)), transform = schema::preload_images)]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub preload_images: Vec<String>,
    /// Images that the nodes use.
    #[serde(default, skip_serializing_if = "ImagesSpec::is_default")]
    pub images: ImagesSpec,
    /// Kubernetes manifests that K3s applies in the cluster. At most 32. Changes take effect in the running cluster
    /// within 30 seconds without a restart. Objects that are removed from a manifest, or belong to a manifest that is
    /// removed from the list, are deleted. The cluster is Ready when all objects exist.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub manifests: Vec<ManifestEntry>,
    /// Hostnames that nodes and Pods resolve to the given addresses, with precedence over DNS. At most 32 addresses.
    /// Changing them replaces the nodes in a rolling update; Pods see the change within 90 seconds, when CoreDNS has
    /// reloaded it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = schema::alias_twice(), merge_strategy = ListMerge::Map(vec!["ip".into()]))]
    pub host_aliases: Vec<HostAlias>,
    /// Time to live: the cluster is deleted, with everything in it, this long after its creation. A duration in hours,
    /// minutes and seconds: `8h`, `1h30m`, `90s`. An Event with reason Expiring announces the deletion, and
    /// `status.expiresAt` is its time. The annotation `localcluster.dev/hold` with any value other than `false`
    /// prevents it; when the annotation is removed after that time, the cluster is deleted immediately. Defaults to
    /// none: the cluster does not expire. The time always counts from creation, so a value shorter than the age of the
    /// cluster deletes it immediately.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = schema::lifetime())]
    pub ttl: Option<String>,
    /// Docker host to run on, if the operator runs for several (roles `controller` and `agent`): for each object a
    /// placeholder Pod is scheduled, which requests what the object needs, and the object runs on the node of that Pod. If
    /// the operator runs for a single Docker host (role `all`), the field is not heeded, which the condition `Scheduled`
    /// says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
}

/// Desired power state of a cluster.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClusterState {
    /// The containers run.
    #[default]
    Running,
    /// The containers are stopped; data, ports and addresses are kept.
    Stopped,
}

/// Policy for a cluster that has lost its data.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataLoss {
    /// Nothing is created until a user intervenes.
    #[default]
    Stop,
    /// A new, empty cluster replaces the lost one.
    Recreate,
}

/// What a crash of the Docker host may damage.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Durability {
    /// Nothing: what is flushed is on the disk.
    #[default]
    Durable,
    /// The whole cluster: nodes do not wait for the disk.
    Ephemeral,
}

/// Reference to an object in the same namespace.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LocalRef {
    /// Name of the object.
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::object_name())]
    pub name: String,
}

/// Reference to a key of a Secret in the same namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::object_name())]
    pub secret_name: String,
    /// Key in the data of the Secret. Defaults to `token`.
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

/// Docker network of the cluster.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = schema::immutable(
    "subnet",
    "the addresses of all nodes are in it; create a new LocalCluster instead"
))]
pub struct NetworkSpec {
    /// IPv4 subnet of the nodes in canonical form, /16 to /25: `10.231.16.0/24`. It must be within the network pool of
    /// the operator (`--network-pool`) or a subnet that the operator additionally allows (`--allow-subnet`). Defaults
    /// to a free /24 of the pool or, without a pool, of those that Docker chooses from; see `status.network`. Immutable: it cannot be set, changed or removed after creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 18))]
    #[x_kube(validation = schema::subnet(), validation = schema::subnet_range())]
    pub subnet: Option<String>,
    /// Existing Docker networks that nodes and load balancer join besides the network of the cluster, such as one with
    /// databases and registries: they and Pods reach its containers by their names, and those reach them. Each network has the driver `bridge`, and its label
    /// `localcluster.dev/allow-namespaces` contains this namespace in a comma-separated list, or is `*`. The operator
    /// connects and disconnects its own containers, and changes nothing else about the network. At most 4. Changes take
    /// effect on the running nodes without a restart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), inner(length(max = 128)), transform = schema::joined_networks)]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub join: Vec<String>,
}

/// Address of the Kubernetes API.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiSpec {
    /// IPv4 address of the Docker host that the port of the API is bound to. Defaults to 127.0.0.1, which only accepts
    /// connections from the host itself; 0.0.0.0 accepts connections from everywhere that the host is reachable from. If
    /// the operator runs for several Docker hosts, the default is the address of the host, `status.hostIP`.
    #[serde(rename = "hostIP", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 15))]
    #[x_kube(validation = schema::host_ip())]
    pub host_ip: Option<String>,
    /// Port of the Docker host, 1 to 65535. Defaults to a free port that is allocated once and kept; see
    /// `status.apiPort`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub host_port: Option<i32>,
    /// Additional DNS names and IP addresses in the serving certificate of the API, for clients that connect by them.
    /// At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 253)), transform = schema::sans)]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub sans: Vec<String>,
    /// DNS name or IPv4 address by which clients reach the Docker host: `dev.example.test`. The key `kubeconfig` of the
    /// Secret and `status.endpoint` contain it instead of `hostIP`, and the serving certificate is valid for it, as for
    /// `sans`. The clients must resolve it, and `hostIP` must be an address that they reach; the operator itself does not
    /// use it. Defaults to the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::server_name())]
    pub server_name: Option<String>,
    /// Service in the same namespace of the management cluster, named like the object, that leads to the API: None or
    /// ClusterIP. With ClusterIP, Pods of the management cluster reach the API at `https://<name>.<namespace>.svc`, also
    /// after its address has changed. The key `value` of the kubeconfig Secret contains that URL, and the serving
    /// certificate is valid for it. An existing Service with this name that is not the object's is left unchanged.
    /// Defaults to None.
    #[serde(default)]
    pub service: ApiService,
}

/// Type of the Service that leads to the API.
#[derive(
    JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum ApiService {
    /// There is no Service.
    #[default]
    None,
    /// A Service without a selector, with a cluster IP.
    #[serde(rename = "ClusterIP")]
    ClusterIp,
}
