//! Rules for the nodes and kubeconfigs of LocalClusters.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::local_cluster::KubeconfigAccess;

/// Limits for each node of a LocalCluster.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PerNode {
    /// Highest `memory` of a pool: `4Gi`. Every pool of nodes must set it then, or the policy `defaults.memory`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub max_memory: Option<String>,
    /// Highest `cpus` of a pool: `4`. Every pool of nodes must set it then, or the policy `defaults.cpus`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub max_cpus: Option<String>,
    /// Highest `pids` of a pool, 1024 to 4194304: `16384`. Every pool of nodes must set it then, or the policy
    /// `defaults.pids`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1024, max = 4_194_304))]
    pub max_pids: Option<i32>,
    /// Highest number of GPUs of a node. `gpus: all` is more than any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max_gpus: Option<i32>,
}

/// Values for fields that a LocalCluster does not set.
///
/// Limits, `runtime` and `privileged` apply to nodes when they are created; limits count for the quota. A change of them
/// concerns nodes that are created or replaced from then on: those that exist are neither replaced nor restarted for it.
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
    /// Life of the token in the kubeconfig of each LocalCluster without `spec.kubeconfig.ttl`, 10m to 8760h: `8h`. Instead
    /// of the client certificate of K3s, Admin has a token then. It applies to running clusters at once.
    #[serde(default, rename = "kubeconfigTTL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub kubeconfig_ttl: Option<String>,
    /// OCI runtime of each node whose pool sets no `runtime`: `sysbox-runc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub runtime: Option<String>,
    /// Specifies whether each node whose pool does not set `privileged` is privileged. Set it to false with the runtime of
    /// Sysbox, which refuses privileged containers. Defaults to true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
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

/// Rules for the nodes of LocalClusters.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeRules {
    /// Node images, as patterns. A `version` is the tag of the operator's node image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 512)))]
    pub images: Option<Vec<String>>,
    /// Specifies whether images must be named by digest, `docker.io/rancher/k3s:v1.36.2-k3s1@sha256:…`: Docker then runs
    /// exactly this content, whatever the tag refers to. `spec.image` must be set then. Defaults to false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_digest: Option<bool>,
    /// OCI runtimes of node containers, as patterns: `sysbox-*`. Every pool of nodes must set `runtime` then, or the policy
    /// `defaults.runtime`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    pub runtimes: Option<Vec<String>>,
    /// Specifies whether node containers may be privileged. Whoever may create Pods in a cluster with privileged nodes has
    /// all rights on the Docker host. With false, every pool of nodes must set `privileged: false`, or the policy
    /// `defaults.privileged: false`; such nodes need a runtime that runs K3s without privileges, so set `runtimes` too.
    /// Defaults to true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
    /// K3s arguments that are refused, as patterns: `--kube-apiserver-arg=*`. A flag without a value is refused if its
    /// pattern has one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 512)))]
    pub args_deny: Vec<String>,
    /// Environment variables that pools may set, as patterns. K3s also takes many of its arguments from variables that
    /// begin with `K3S_`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 256)))]
    pub env: Option<Vec<String>>,
    /// Keys of `containerLabels` that pools may set, as patterns: `com.example.*`. Tools on the Docker host may act on
    /// labels of containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 256)))]
    pub container_labels: Option<Vec<String>>,
    /// Docker volumes that pools may mount by `volumeName`, as patterns. The volume itself must allow the namespace too,
    /// with its label `localcluster.dev/allow-namespaces`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 255)))]
    pub volumes: Option<Vec<String>>,
}

/// Rules for the kubeconfigs of LocalClusters.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KubeconfigRules {
    /// Values that `spec.kubeconfig.access` may have. A LocalCluster that does not set it has Admin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4))]
    pub access: Option<Vec<KubeconfigAccess>>,
    /// Longest life of the token in a kubeconfig, at least 10m: `24h`. The client certificate of K3s, which Admin has
    /// without a life, lives longer: `spec.kubeconfig.ttl` or `defaults.kubeconfigTTL` must be set for Admin then.
    #[serde(default, rename = "maxTTL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub max_ttl: Option<String>,
}
