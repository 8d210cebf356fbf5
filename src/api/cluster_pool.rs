//! The kind `LocalClusterPool`: LocalClusters that are ready before somebody asks for one.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{local_cluster::LocalClusterSpec, schema};

/// Desired state of the pool.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "localcluster.dev",
    version = "v1alpha1",
    kind = "LocalClusterPool",
    namespaced,
    shortname = "lcpool",
    category = "localdev",
    derive = "PartialEq",
    derive = "Default",
    status = "LocalClusterPoolStatus",
    doc = "LocalClusters that are kept ready in a namespace, for LocalClusterClaims to take.",
    validation = schema::cluster_pool_name(),
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".spec.replicas"),
    printcolumn(name = "Available", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Claimed", type_ = "integer", json_path = ".status.claimed"),
    printcolumn(name = "Waiting", type_ = "integer", json_path = ".status.waiting"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Current", type_ = "integer", json_path = ".status.updatedReplicas", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct LocalClusterPoolSpec {
    /// Number of clusters that the pool keeps ready, 0 to 50. Clusters that claims have taken do not count. `kubectl
    /// scale lcpool <name> --replicas=3` sets it. Clusters beyond a lower number are deleted, those that are not ready
    /// first.
    #[serde(default = "LocalClusterPoolSpec::one")]
    #[schemars(range(min = 0, max = 50))]
    pub replicas: i32,
    /// The LocalClusters that the pool creates. A change replaces the clusters of the pool one after the other, each when
    /// the one before is ready; until then claims may still take one of before. Clusters that claims have taken stay as
    /// they are.
    #[serde(default)]
    pub template: ClusterTemplate,
    /// State in which clusters wait for a claim. Running: a claim has its cluster at once. Stopped: each cluster is stopped
    /// once it was ready, needs neither CPU nor memory, and a claim starts it, which takes seconds.
    #[serde(default)]
    pub standby: Standby,
    /// Age at which a cluster that no claim has taken is replaced, such as `24h`, so that its images and certificates do
    /// not grow old. A duration in hours, minutes and seconds. Defaults to none: clusters are kept until a claim takes
    /// them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = schema::lifetime())]
    pub max_age: Option<String>,
}

impl LocalClusterPoolSpec {
    fn one() -> i32 {
        1
    }
}

impl Default for LocalClusterPoolSpec {
    fn default() -> Self {
        Self {
            replicas: Self::one(),
            template: ClusterTemplate::default(),
            standby: Standby::default(),
            max_age: None,
        }
    }
}

/// The LocalClusters that a pool creates.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterTemplate {
    /// Metadata of the clusters.
    #[serde(default)]
    pub metadata: TemplateMetadata,
    /// Spec of the clusters, as of a LocalCluster, with three differences: `clusterName` and `network.subnet` cannot be
    /// set, since no two clusters can have the same, and `state` is not heeded, see `standby`.
    #[serde(default = "ClusterTemplate::no_spec")]
    #[schemars(transform = schema::template)]
    #[x_kube(validation = schema::own_name_and_subnet())]
    pub spec: LocalClusterSpec,
}

impl ClusterTemplate {
    /// Returns what a spec without fields means, which is not what `Default` returns: that has no servers.
    fn no_spec() -> LocalClusterSpec {
        serde_json::from_value(serde_json::json!({})).expect("all fields have defaults")
    }
}

impl Default for ClusterTemplate {
    fn default() -> Self {
        Self { metadata: TemplateMetadata::default(), spec: Self::no_spec() }
    }
}

/// Metadata of the clusters of a pool. Keys that begin with `localcluster.dev/` are left out, except for the annotation
/// `localcluster.dev/hold`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TemplateMetadata {
    /// Labels of the clusters, in addition to `localcluster.dev/pool`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the clusters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// State in which the clusters of a pool wait for a claim.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standby {
    /// They run.
    #[default]
    Running,
    /// They are stopped once they were ready.
    Stopped,
}

/// Observed state of the pool.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LocalClusterPoolStatus {
    /// Generation of the spec that this status describes; -1 before the operator has processed the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions of the pool; `Ready` is True while as many clusters as `spec.replicas` says are ready, all made from the
    /// current template.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Reason of the condition `Ready`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Number of clusters that no claim has taken.
    pub replicas: i32,
    /// Number of those that a claim can take now.
    pub ready_replicas: i32,
    /// Number of those that are made from the current template and are not older than `spec.maxAge`.
    pub updated_replicas: i32,
    /// Number of clusters of the pool that claims have taken and that still exist.
    pub claimed: i32,
    /// Number of claims that wait for a cluster.
    pub waiting: i32,
    /// Label selector of the scale subresource: the clusters that no claim has taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
}
