//! The kind `HostPolicy`: what the objects of selected namespaces may use of the Docker host.

mod nodes;
mod status;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use nodes::{Defaults, KubeconfigRules, NamedRegistry, NodeRules, PerNode};
pub use status::{HostPolicyStatus, Usage};

/// Rules for the LocalClusters and Registries in the selected namespaces.
///
/// A field that is not set restricts nothing. Of the policies that select a namespace, the one with the highest priority
/// applies alone; of several with this priority, the one with the first name. An object that violates its policy is not
/// created. If it exists, it keeps running and is started, restarted and deleted as before, but none of its containers,
/// networks and volumes is created or replaced until the spec or the policy changes.
///
/// Patterns match whole values. In images, `*` matches any text without `/`, and `**` any text; images are compared by
/// their full names: `docker.io/library/registry:3`, `docker.io/rancher/k3s:*`, `registry.example/team-a/**`. In
/// other values `*` matches any text, and `{namespace}` is the namespace of the object.
#[allow(clippy::duplicated_attributes, reason = "columns have the same types")]
// An unknown field is a rule that this version does not know: the policy cannot be read then, and refuses everything.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "localcluster.dev",
    version = "v1alpha1",
    kind = "HostPolicy",
    plural = "hostpolicies",
    shortname = "lhp",
    derive = "PartialEq",
    derive = "Default",
    status = "HostPolicyStatus",
    doc = "Rules for what LocalClusters and Registries may use of the Docker host.",
    printcolumn(name = "Priority", type_ = "integer", json_path = ".spec.priority"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Namespaces", type_ = "integer", json_path = ".status.namespaces"),
    printcolumn(name = "Clusters", type_ = "integer", json_path = ".status.usage.clusters"),
    printcolumn(name = "Registries", type_ = "integer", json_path = ".status.usage.registries"),
    printcolumn(name = "Violations", type_ = "string", json_path = ".status.violations"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostPolicySpec {
    /// Precedence over other policies that select the same namespace; the highest applies. Defaults to 0.
    #[serde(default)]
    pub priority: i32,
    /// Effect on what violates the policy. Defaults to Enforce. With Audit nothing is refused, frozen or stopped: the
    /// condition `PolicyViolation`, an Event and a metric report violations. `defaults` apply, and subnets and ports that a
    /// spec does not name are allocated from `network.pools` and `ports.ranges`, with both.
    // Without a default in the schema: an older operator could not read the policies that it would be filled into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Namespaces that the policy applies to, by their labels. `{}` selects all. Kubernetes sets the label
    /// `kubernetes.io/metadata.name` to the name of each namespace.
    pub namespace_selector: LabelSelector,
    /// Limits for the sum over all objects of each namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
    /// Limits for each node of a LocalCluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_node: Option<PerNode>,
    /// Values for fields that a LocalCluster does not set. They are not written into its spec: `status.effective` shows
    /// them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<Defaults>,
    /// Rules for the nodes of LocalClusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodeRules>,
    /// Rules for the kubeconfigs of LocalClusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<KubeconfigRules>,
    /// Rules for Registries, including those of `spec.registries.create`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<RegistryRules>,
    /// Rules for images of the Docker host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<ImageRules>,
    /// Containers that `spec.registries.containers` may name, as patterns. The container itself must allow the
    /// namespace too, with its label `localcluster.dev/allow-namespaces`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    pub containers: Option<Vec<String>>,
    /// Names that `spec.clusterName` may be, as patterns: `{namespace}-*`. A LocalCluster without this field has a name
    /// that contains its namespace, which is always allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    pub cluster_names: Option<Vec<String>>,
    /// Other management clusters that objects may take clusters and registries over from with the annotation
    /// `localcluster.dev/adopts`, as patterns for the UID of their namespace `kube-system`: `*` is all of them. The Docker
    /// host does not show whether an operator there still runs, which would manage the same containers. Unlike other fields,
    /// without this one there are none, and the mode does not matter. What an earlier object of this management cluster left
    /// may always be taken over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    pub adopt: Option<Vec<String>>,
    /// Rules for the networks of LocalClusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkRules>,
    /// Rules for ports of the Docker host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<PortRules>,
    /// Directories of the Docker host that objects may mount, with everything below them. They must also be within
    /// those that the operator allows (`--allow-host-path`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub host_paths: Option<Vec<HostPathRule>>,
    /// Effect on a LocalCluster that violates the policy for longer than `grace`. Defaults to Keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_violation: Option<OnViolation>,
    /// Time for which a LocalCluster may violate the policy before `onViolation: Stop` takes effect: `24h`, the default. It
    /// counts from when both the violation and the effect apply, which the status of the LocalCluster shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub grace: Option<String>,
    /// Longest time to live of a LocalCluster: `336h`. `spec.ttl` or `defaults.ttl` must be set then, and the annotation
    /// `localcluster.dev/hold` is not allowed.
    #[serde(default, rename = "maxTTL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub max_ttl: Option<String>,
}

/// Effect on what violates the policy.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// It is not created, and if it exists, nothing of it is created or replaced.
    #[default]
    Enforce,
    /// It is only reported.
    Audit,
}

/// Effect on LocalClusters that violate the policy. Registries are always kept.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnViolation {
    /// They keep running as they are.
    #[default]
    Keep,
    /// After the grace period their containers are stopped, as with `state: Stopped`: all data is kept. They run again
    /// when they no longer violate the policy.
    Stop,
}

/// Limits for the sum over all objects of each namespace, stopped ones included. If they do not suffice for all objects,
/// older ones come first.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Quota {
    /// Number of LocalClusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub clusters: Option<i32>,
    /// Number of Registries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub registries: Option<i32>,
    /// Number of nodes: servers and agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub nodes: Option<i32>,
    /// CPUs of all nodes: `8`, `1.5`. Every pool of nodes must set `cpus` then, or the policy
    /// `defaults.cpus`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub cpus: Option<String>,
    /// Memory of all nodes and Registries: `16Gi`. Every pool of nodes and every Registry must set `memory` then;
    /// `defaults.memory` suffices for nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub memory: Option<String>,
    /// Number of ports of the Docker host: one for the API of each LocalCluster and one for each Registry, and those of
    /// `spec.ports`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub host_ports: Option<i32>,
    /// Number of LocalClusters that start at the same time; the others are `Queued`. On the whole host, as many start at the
    /// same time as it has CPUs, and namespaces take turns. Defaults to that number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub concurrent_starts: Option<i32>,
    /// Number of images that are pulled at the same time. On the whole host, there are four pulls at the same time, not
    /// counting those that last longer than five minutes, and namespaces take turns. Defaults to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub concurrent_pulls: Option<i32>,
}

/// Rules for Registries.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegistryRules {
    /// Images of registries, as patterns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 512)))]
    pub images: Option<Vec<String>>,
    /// Specifies whether images must be named by digest, `docker.io/library/registry:3@sha256:…`: Docker then runs
    /// exactly this content, whatever the tag refers to. `image` must be set then, unless the image of the operator has a digest. Defaults to false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_digest: Option<bool>,
    /// Names that `spec.hostname` may be, as patterns: `k3d-{namespace}-*`. A Registry without this field has a name
    /// that contains its namespace, which is always allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    pub hostnames: Option<Vec<String>>,
    /// URLs that `spec.proxy.remoteURL` may be: `https://registry-1.docker.io`.
    #[serde(default, rename = "remoteURLs", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 512)))]
    pub remote_urls: Option<Vec<String>>,
    /// Specifies whether a Registry whose port is bound to another address than 127.0.0.0/8 must set `spec.auth`. Its
    /// images can otherwise be read and replaced by everyone who reaches the Docker host. Defaults to false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_auth_beyond_loopback: Option<bool>,
    /// Volumes that `spec.storage.volumeName` may be, as patterns. The volume itself must allow the namespace too, with
    /// its label `localcluster.dev/allow-namespaces`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 255)))]
    pub volumes: Option<Vec<String>>,
}

/// Rules for images of the Docker host.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageRules {
    /// Images that `spec.preloadImages` may contain, and that nodes get with `spec.images.fromDockerHost`, as patterns. An
    /// empty list allows none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 512)))]
    pub preload: Option<Vec<String>>,
    /// Specifies whether an image that the Docker host has, maybe with the credentials of others, may only be used once
    /// its registry has shown that the namespace can read the same content: with the credentials of
    /// `spec.imagePullSecret`, or without any. It applies to `spec.image` and `spec.preloadImages` of LocalClusters and to
    /// `spec.image` of Registries when containers are created and images imported, and not to the images of the operator.
    /// What runs is not affected. Not checked with `mode: Audit`. Defaults to false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prove_access: Option<bool>,
    /// Images that need no such proof, as patterns: those that are built on the Docker host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 512)))]
    pub shared: Option<Vec<String>>,
}

/// Rules for the networks of LocalClusters.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkRules {
    /// IPv4 networks that contain all subnets, /8 to /24. Subnets that the spec does not name are allocated from the
    /// first, which takes the place of `--network-pool`. `spec.network.subnet` must also be within the networks that the
    /// operator allows (`--network-pool` and `--allow-subnet`) or within the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), inner(length(max = 18)))]
    pub pools: Option<Vec<String>>,
    /// Specifies whether `spec.network.subnet` may be set. Defaults to true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explicit_subnet: Option<bool>,
    /// Docker networks that `spec.network.join` may name, as patterns. The network itself must allow the namespace too,
    /// with its label `localcluster.dev/allow-namespaces`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 128)))]
    pub join: Option<Vec<String>>,
}

/// Rules for ports of the Docker host.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PortRules {
    /// Addresses of the Docker host that ports may be bound to: `127.0.0.1`.
    #[serde(default, rename = "hostIPs", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(max = 15)))]
    pub host_ips: Option<Vec<String>>,
    /// Ranges that contain all ports. Ports that the spec does not name are allocated from the first, which takes the
    /// place of `--port-range`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub ranges: Option<Vec<PortRange>>,
}

/// A range of ports.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PortRange {
    /// First port.
    #[schemars(range(min = 1, max = 65535))]
    pub from: i32,
    /// Last port.
    #[schemars(range(min = 1, max = 65535))]
    pub to: i32,
}

/// A directory of the Docker host that objects may mount.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostPathRule {
    /// Absolute path: `/srv/team-a`.
    #[schemars(length(max = 255))]
    pub path: String,
    /// Specifies whether it may only be mounted read-only. Defaults to false.
    #[serde(default)]
    pub read_only: bool,
}
