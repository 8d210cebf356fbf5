//! Placement of an object on one of several Docker hosts, by the scheduler of the management cluster.

use std::{borrow::Cow, collections::BTreeMap};

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::schema;

/// Where the object may run, if the operator runs for several Docker hosts (roles `controller` and `agent`). For each
/// object a Pod is scheduled, its placeholder, which requests what the object needs; the object runs on the node of that
/// Pod. For a single Docker host (role `all`) the field is not heeded, which the condition `Scheduled` says.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = schema::recreates_what_is_ephemeral())]
pub struct Placement {
    /// Labels that a node must have, in addition to `localcluster.dev/docker: ready`. A change takes effect when the
    /// placeholder is made anew.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Affinity of the placeholder, as in the spec of a Pod. A change takes effect when the placeholder is made anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<PodField>,
    /// Tolerations of the placeholder, as in the spec of a Pod. A change takes effect when the placeholder is made anew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub tolerations: Vec<PodField>,
    /// Topology spread constraints of the placeholder, as in the spec of a Pod. A change takes effect when the
    /// placeholder is made anew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub topology_spread_constraints: Vec<PodField>,
    /// PriorityClass of the placeholder. A change takes effect when the placeholder is made anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub priority_class_name: Option<String>,
    /// Scheduler of the placeholder. Defaults to that of the management cluster. A change takes effect when the
    /// placeholder is made anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub scheduler_name: Option<String>,
    /// Additional labels of the placeholder, such as `kueue.x-k8s.io/queue-name`. A change takes effect when the
    /// placeholder is made anew.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Resources that the placeholder requests.
    #[serde(default)]
    pub resources: PlacementResources,
    /// Sticky: the object is bound for good to the host that it was first placed on, `status.host`, as a local volume is.
    /// Ephemeral: when its placeholder is gone, it may be made anew on another host, without its
    /// data; a cluster then is, too, when its data is lost, whatever `onDataLoss` says. Defaults to Sticky.
    #[serde(default)]
    pub data: Data,
    /// Stop: when its host is drained, the object is stopped in order. Block: a PodDisruptionBudget refuses the eviction
    /// of its placeholder, so that a drain waits. Defaults to Stop.
    #[serde(default)]
    pub drain: Drain,
    /// What happens when its host is lost for good: its Node was deleted, or is not ready and has the taint
    /// `node.kubernetes.io/out-of-service`. Wait: nothing. Recreate: the object is made anew on another host, which needs
    /// `data: Ephemeral`. Defaults to Wait.
    #[serde(default)]
    pub host_loss: HostLoss,
}

/// Resources that a placeholder requests.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PlacementResources {
    /// Requests by the name of the resource, as in the spec of a container: `cpu: "2"`, `memory: 4Gi`. Those of `cpu` and
    /// `memory` default to the limits of all nodes of the cluster, as far as they have any, and a little for its load
    /// balancer.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, Amount>,
}

/// Part of the spec of a Pod, which the API server checks when the Pod is created.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PodField(pub Value);

impl JsonSchema for PodField {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "PodField".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
    }
}

/// A quantity of a resource: a string or a number.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Amount(pub Value);

impl JsonSchema for Amount {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"x-kubernetes-int-or-string": true})
    }
}

/// Whether the data binds an object to its host.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Data {
    /// The object stays on its host.
    #[default]
    Sticky,
    /// The object may be made anew elsewhere.
    Ephemeral,
}

/// What a drain of the host does.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Drain {
    /// It stops the object in order.
    #[default]
    Stop,
    /// It waits.
    Block,
}

/// What the loss of the host does.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostLoss {
    /// The object waits for its host.
    #[default]
    Wait,
    /// The object is made anew elsewhere.
    Recreate,
}
