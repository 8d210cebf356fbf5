//! Status of a HostPolicy.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Observed state of the policy.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostPolicyStatus {
    /// Generation of the spec that the status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions: Accepted, Ready and Ambiguous.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Number of namespaces that the policy applies to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<i32>,
    /// Sums over the objects in these namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Objects that violate the policy, as `namespace/name`. At most 20; the message of Ready has their number.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub violations: Vec<String>,
}

/// Sums over the objects in all namespaces that a policy applies to.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Usage {
    /// Number of LocalClusters.
    pub clusters: i32,
    /// Number of Registries.
    pub registries: i32,
    /// Number of nodes.
    pub nodes: i32,
    /// CPUs of the nodes that have a limit.
    pub cpus: String,
    /// Memory of the nodes and Registries that have a limit.
    pub memory: String,
    /// Number of ports of the Docker host.
    pub host_ports: i32,
}
