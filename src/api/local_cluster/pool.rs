//! Pools of nodes of a LocalCluster.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::{
    LocalCluster,
    node_host::{HostVolume, Ulimit},
    registry::EnvVar,
    schema,
};

/// Most arguments of a pool of `spec.agentPools`, and most characters of each.
pub const POOL_ARGS: (usize, usize) = (16, 256);
/// Most taints of such a pool.
pub const POOL_TAINTS: usize = 8;
/// Most labels of such a pool.
pub const POOL_LABELS: usize = 32;

/// A pool of nodes with the same role and configuration.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodePool {
    /// Number of nodes: 1, 3 or 5 servers, 0 to 32 agents. Defaults to 1 server and 0 agents; required in `agentPools`.
    /// A single server stores
    /// its data in SQLite. Three and five servers store it in etcd and tolerate the loss of one or two of them; when
    /// the count first exceeds 1, the first server restarts once to migrate its data. Changing the count adds nodes, or
    /// drains and removes the nodes with the highest numbers, servers one at a time; the other nodes keep running. See
    /// `excludedIndexes` for other agents than the last.
    #[serde(default)]
    #[schemars(range(min = 0, max = 32))]
    pub count: i32,
    /// Maximum number of agents of the pool that can be unavailable during a rolling update, 1 to 32. Agents that are not
    /// working for other reasons count too. Defaults to 1. Servers are always replaced one at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = schema::max_unavailable())]
    pub max_unavailable: Option<i32>,
    /// Indexes, the numbers in the names of nodes, that no agent of the pool has: with `count: 2` and
    /// `excludedIndexes: [0]` the agents are 1 and 2. To remove a certain agent, lower the count and exclude its index in
    /// one change; the others keep running. To get another agent instead of it, exclude its index only. An index that is
    /// no longer excluded is used again, for the agent with the highest index. At most 16, each 0 to 31, and at most 32
    /// together with the count. Defaults to none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(range(min = 0, max = 31)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub excluded_indexes: Vec<i32>,
    /// Additional K3s arguments, each as one item, `--flag` or `--flag=value`: `--disable=traefik`,
    /// `--kubelet-arg=max-pods=50`. Flags that the operator manages, server flags on agents, and flags that K3s rejects
    /// or silently ignores (`--no-deploy`, `--disable=kube-proxy`) are refused with a message that names the
    /// alternative. At most 64. Changing them replaces the nodes of the pool in a rolling update.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 1024)), transform = schema::args)]
    pub args: Vec<String>,
    /// Environment variables of the node containers, such as HTTP_PROXY. NO_PROXY is extended with the addresses and
    /// domains of the cluster. The values are visible to anyone who can inspect containers and must not contain
    /// secrets. At most 64. Changing them replaces the nodes of the pool in a rolling update.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), transform = schema::node_env)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<EnvVar>,
    /// Labels of the Node objects. At most 64. Changes take effect on the running Nodes without a restart; a label that
    /// is removed here is removed from the Nodes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(transform = schema::labels)]
    pub labels: BTreeMap<String, String>,
    /// Labels of the node containers, as `docker inspect` shows them and `docker ps --filter label=team=shop` finds them. The
    /// values are visible to anyone who can inspect containers and must not contain secrets. Keys that the operator, k3d,
    /// Docker, Compose or kind use are refused. At most 64. Changing them replaces the nodes of the pool in a rolling
    /// update.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(transform = schema::container_labels)]
    pub container_labels: BTreeMap<String, String>,
    /// Taints of the Node objects, as `key=value:Effect` or `key:Effect`, where the effect is NoSchedule,
    /// PreferNoSchedule or NoExecute. At most 32. Changing them replaces the nodes of the pool in a rolling update; a
    /// taint that is removed here is removed from the Nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 384)), transform = schema::taints)]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub taints: Vec<String>,
    /// Memory limit of each node container, as a quantity in bytes with a unit of Ki, Mi, Gi, Ti, k, M, G or T: `2Gi`, or
    /// with a lowercase unit as in `docker run --memory`: `2g` is 2Gi, `512m` is 512Mi, `t` is Ti, and `b` are bytes; but
    /// `k` is 1000 bytes, as in every quantity. Another way to write the same limit changes nothing. K3s needs about 1Gi for a server and 512Mi for an agent, without workloads. Memory of the host beyond the limit
    /// is declared as system-reserved, so that the allocatable memory of the Node equals the limit, unless `args`
    /// contains --kubelet-arg=system-reserved. Defaults to no limit. Changing it replaces the nodes of the pool in a
    /// rolling update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 28))]
    #[x_kube(validation = schema::memory())]
    pub memory: Option<String>,
    /// Size of `/dev/shm` of each node container, as a quantity like `memory`: `1Gi`. Pods with `hostIPC` share it; any
    /// other Pod has 64Mi of its own, which an emptyDir volume of medium Memory on `/dev/shm` replaces. Its content counts
    /// towards `memory`. Defaults to the size that the Docker engine sets, 64Mi unless configured. Changing it replaces the
    /// nodes of the pool in a rolling update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 28))]
    #[x_kube(validation = schema::memory())]
    pub shm_size: Option<String>,
    /// CPU limit of each node container, as a quoted decimal number of CPUs: `"1.5"`. The allocatable CPUs of the Node
    /// equal the limit, as with `memory`. Defaults to no limit. Changing it replaces the nodes of the pool in a rolling
    /// update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 14))]
    #[x_kube(validation = schema::cpus())]
    pub cpus: Option<String>,
    /// Highest number of processes and threads in each node container, 1024 to 4194304, like `docker run --pids-limit`.
    /// K3s and its own Pods have about 300. Defaults to no limit. Changing it replaces the nodes of the pool in a rolling
    /// update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = schema::pids())]
    pub pids: Option<i32>,
    /// Resource limits (`ulimit`) of the processes in each node container, by name. Pods inherit the hard limits.
    /// Defaults to the limits of the Docker engine. At most 15. Changing them replaces the nodes of the pool in a
    /// rolling update.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 15))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub ulimits: Vec<Ulimit>,
    /// Directories and files of the Docker host to mount into each node container, below a path that the operator allows
    /// (`--allow-host-path`, by default none), and Docker volumes that allow the namespace. All nodes of the pool share
    /// them, and their content is never removed. At most 16. Changing them replaces the nodes of the pool in a rolling update.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = schema::mounts_apart(), merge_strategy = ListMerge::Map(vec!["mountPath".into()]))]
    pub volumes: Vec<HostVolume>,
    /// GPUs of the Docker host for each node container, as in `docker run --gpus`: `all`, or a quoted number, `"1"`.
    /// The Docker host needs the NVIDIA Container Toolkit, and the node image the NVIDIA container runtime, which the
    /// image of K3s does not contain. Defaults to none. Changing it replaces the nodes of the pool in a rolling update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 3))]
    #[x_kube(validation = schema::gpus())]
    pub gpus: Option<String>,
    /// OCI runtime of each node container, as in `docker run --runtime`: one that `docker info` lists under Runtimes, such
    /// as `sysbox-runc`. While the Docker engine has no such runtime, no node of the pool is created or replaced. Defaults
    /// to the default runtime of the Docker engine. Changing it replaces the nodes of the pool in a rolling update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    #[x_kube(validation = schema::runtime())]
    pub runtime: Option<String>,
    /// Specifies whether each node container is privileged, as K3s requires with the usual runtimes: whoever may create
    /// Pods in the cluster then has all rights on the Docker host. With `false`, a node works only with a runtime that
    /// runs K3s without privileges: Sysbox, which refuses privileged containers. Defaults to true. Changing it
    /// replaces the nodes of the pool in a rolling update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
}

/// A further pool of agents.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentPool {
    /// Name of the pool, which is part of the names of its nodes: a lowercase letter, followed by at most 19 lowercase
    /// letters and digits. It is unique in the list. A pool with another name is another pool, with other nodes.
    #[schemars(length(max = 20), transform = schema::pool_name)]
    pub name: String,
    /// Settings of the nodes.
    #[serde(flatten)]
    pub pool: NodePool,
}

/// Returns the LocalCluster of a file with the number of servers that API servers fill in: deserialization has one default
/// for all pools that a spec contains.
pub fn from_file(mut cluster: Value) -> serde_json::Result<LocalCluster> {
    if let Some(servers) = cluster.pointer_mut("/spec/servers").and_then(Value::as_object_mut) {
        let count = servers.entry("count").or_insert(Value::Null);
        if count.is_null() {
            *count = 1.into();
        }
    }
    serde_json::from_value(cluster)
}

impl NodePool {
    /// Returns the default of the server pool.
    pub(super) fn one() -> Self {
        Self { count: 1, ..Self::default() }
    }
}
