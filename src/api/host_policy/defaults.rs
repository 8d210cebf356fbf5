//! Values for fields that a LocalCluster does not set.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Values for fields that a LocalCluster does not set.
///
/// Limits apply to nodes when they are created, and count for the quota. A change of them concerns nodes that are created
/// or replaced from then on: those that exist are neither replaced nor restarted for it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Defaults {
    /// Memory limit of each node whose pool sets no `memory`: `2Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub memory: Option<String>,
    /// CPU limit of each node whose pool sets no `cpus`: `2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub cpus: Option<String>,
    /// Highest number of processes and threads of each node whose pool sets no `pids`, 1024 to 4194304: `8192`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1024, max = 4_194_304))]
    pub pids: Option<i32>,
    /// Time to live of a LocalCluster without `spec.ttl`: `72h`. It begins with the creation of the LocalCluster, or when
    /// the default first applies to one that exists, and then ends no earlier than after this time. A default that
    /// becomes shorter begins again, but does not extend the life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub ttl: Option<String>,
    /// Registries that every LocalCluster uses besides those of its spec, such as a cache for each upstream registry. Each
    /// must allow the namespace by its `allowedNamespaces`, and require no login. A cluster never waits for one of them: while
    /// it does not exist, is being deleted or does not respond, images are pulled as without it. Running nodes take a change up
    /// without a restart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["namespace", "name"]))]
    pub registries: Vec<NamedRegistry>,
}

/// A Registry object.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NamedRegistry {
    /// Namespace of the Registry.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Name of the Registry.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}
