//! The kind `LocalClusterClaim`: takes a LocalCluster of a pool.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    local_cluster::{PortSpec, PortStatus},
    schema,
};

/// Desired state of the claim.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "localcluster.dev",
    version = "v1alpha1",
    kind = "LocalClusterClaim",
    namespaced,
    shortname = "lcclaim",
    category = "localdev",
    derive = "PartialEq",
    derive = "Default",
    status = "LocalClusterClaimStatus",
    doc = "Takes a LocalCluster of a LocalClusterPool. The cluster is deleted with the claim.",
    validation = schema::cluster_claim_name(),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason"),
    printcolumn(name = "Pool", type_ = "string", json_path = ".spec.poolName"),
    printcolumn(name = "Cluster", type_ = "string", json_path = ".status.clusterName"),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".status.endpoint"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".status.expiresAt"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Secret", type_ = "string", json_path = ".status.kubeconfigSecret", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = schema::immutable(
        "poolName",
        "a claim takes one cluster; create another LocalClusterClaim instead"
    ),
    validation = schema::immutable(
        "ports",
        "they are set when the claim takes its cluster; change spec.ports of that LocalCluster instead"
    )
)]
pub struct LocalClusterClaimSpec {
    /// LocalClusterPool in the same namespace. Immutable.
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::object_name())]
    pub pool_name: String,
    /// Time after which the claim is deleted, with its cluster, counted from the time at which it took the cluster. A
    /// duration in hours, minutes and seconds: `8h`, `1h30m`, `90s`. `status.expiresAt` is the time of the deletion, and the
    /// annotation `localcluster.dev/hold` of the claim with any value other than `false` prevents it. Defaults to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = schema::lifetime())]
    pub lifetime: Option<String>,
    /// Ports of the nodes that the load balancer publishes on the Docker host, in addition to those of the pool's
    /// template, or instead of those with the same name. They replace only the load balancer. Immutable: `spec.ports` of
    /// the cluster can be changed later.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = schema::host_ports(), validation = schema::ports_in_all(), merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub ports: Vec<PortSpec>,
}

/// Observed state of the claim.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LocalClusterClaimStatus {
    /// Generation of the spec that this status describes; -1 before the operator has processed the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions of the claim: `Bound` once it has its cluster, `Ready` while that cluster is ready.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Reason of the condition `Ready`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// LocalCluster in the same namespace that the claim has taken, or is about to take while `Bound` is False.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_name: Option<String>,
    /// UID of that LocalCluster.
    #[serde(rename = "clusterUID", skip_serializing_if = "Option::is_none")]
    pub cluster_uid: Option<String>,
    /// Time at which the claim took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound_at: Option<Time>,
    /// Time at which the claim is deleted because of `spec.lifetime`. Unset while the annotation `localcluster.dev/hold`
    /// prevents it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// URL of the API of the cluster on the Docker host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Secret in the same namespace that contains the kubeconfig of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubeconfig_secret: Option<String>,
    /// K3s version of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Published ports of the cluster.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub ports: Vec<PortStatus>,
}
