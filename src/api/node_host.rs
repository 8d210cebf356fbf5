//! Resources of the Docker host for the nodes of a pool, other than memory and CPUs.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// A resource limit of the processes in a node.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = schema::ulimit_order(), validation = schema::ulimit_nofile())]
pub struct Ulimit {
    /// Name of the limit, as in `docker run --ulimit`: `nofile`, `nproc`, `memlock`, `core`, …
    #[schemars(length(max = 16))]
    #[x_kube(validation = schema::ulimit_name())]
    pub name: String,
    /// Soft limit, which processes start with, in the unit of the limit (bytes, seconds or a number). -1 means
    /// unlimited.
    #[schemars(range(min = -1))]
    pub soft: i64,
    /// Hard limit, up to which processes may raise the soft limit; at least `soft`. -1 means unlimited. Defaults to
    /// `soft`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1))]
    pub hard: Option<i64>,
}

/// A directory, a file or a volume of the Docker host that is mounted into the nodes.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = schema::one_volume_source())]
pub struct HostVolume {
    /// Absolute path of a directory or a regular file: `/srv/data`. It must exist, without symbolic links in its path,
    /// below a path that the operator allows (`--allow-host-path`, by default none). Nodes keep the file that existed when
    /// they started, also when another one replaces it under this name. Either this or `volumeName` is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = schema::host_path())]
    pub host_path: Option<String>,
    /// Name of an existing Docker volume. Its label `localcluster.dev/allow-namespaces` must contain this namespace in a
    /// comma-separated list, or be `*`. The operator neither creates nor removes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::volume_name())]
    pub volume_name: Option<String>,
    /// Absolute path in the nodes: `/data`. Pods mount it with a volume of type hostPath. Paths that K3s, Docker or the
    /// operator use are refused, except `/var/lib/rancher/k3s/storage`, which contains the volumes of the default
    /// storage class of K3s.
    #[schemars(length(max = 255), transform = schema::mount_path)]
    pub mount_path: String,
    /// Mounts it read-only. Defaults to false.
    #[serde(default)]
    pub read_only: bool,
}
