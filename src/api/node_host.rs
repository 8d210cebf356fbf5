//! What the nodes of a pool are given of the Docker host, besides memory and processors.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// A limit of the processes in a node.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = schema::ulimit_order(), validation = schema::ulimit_nofile())]
pub struct Ulimit {
    /// Its name, as `docker run --ulimit` has it: `nofile`, `nproc`, `memlock`, `core`, …
    #[schemars(length(max = 16))]
    #[x_kube(validation = schema::ulimit_name())]
    pub name: String,
    /// What processes begin with, in the limit's own unit (bytes, seconds or a number). -1: no limit.
    #[schemars(range(min = -1))]
    pub soft: i64,
    /// How far they may raise it, at least `soft`. -1: as far as they like. Default: `soft`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1))]
    pub hard: Option<i64>,
}

/// A directory of the Docker host in the nodes.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostVolume {
    /// The directory, by its absolute path: `/srv/data`. It has to be there, without symbolic links on the way, and
    /// below a path that the operator allows (`--allow-host-path`, by default none).
    #[schemars(length(max = 1024))]
    #[x_kube(validation = schema::host_path())]
    pub host_path: String,
    /// Where it is in the nodes, by its absolute path: `/data`. Pods get it with a volume of type hostPath. Paths where
    /// K3s, Docker or the operator keep something are refused, except `/var/lib/rancher/k3s/storage`, where volumes of
    /// K3s's own storage class are.
    #[schemars(length(max = 255), transform = schema::mount_path)]
    pub mount_path: String,
    /// Whether the nodes can only read it. Default: false.
    #[serde(default)]
    pub read_only: bool,
}
