//! The kind `Registry`: an image registry on the Docker host.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{local_cluster::loopback, schema};

/// What the registry is to be.
///
/// All fields can be changed at any time unless they say otherwise. A change replaces the container; the images stay.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "localcluster.dev",
    version = "v1alpha1",
    kind = "Registry",
    plural = "registries",
    namespaced,
    shortname = "lreg",
    category = "localdev",
    derive = "PartialEq",
    derive = "Default",
    status = "RegistryStatus",
    doc = "An image registry that runs as a container on the Docker host.",
    validation = schema::registry_name(),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Host", type_ = "string", json_path = ".status.host"),
    printcolumn(name = "Cluster", type_ = "string", json_path = ".status.cluster"),
    printcolumn(name = "Used-By", type_ = "string", json_path = ".status.usedBy"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = schema::immutable(
    "hostname",
    "clusters and pushed images know the registry by it; make a new Registry instead"
))]
pub struct RegistrySpec {
    /// The registry's image, with a tag or a digest: `docker.io/library/registry:3`. Default: the image that the
    /// operator was set up with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = schema::image())]
    pub image: Option<String>,
    /// The name of the container, which is its DNS name in the clusters that use it: `registry.localhost`. At most 63
    /// characters. Default: `k3d-<name>`, with the namespace before the name (`k3d-<namespace>-<name>`) unless that is
    /// `default`. It can't be set, changed or removed after creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    #[x_kube(validation = schema::hostname())]
    pub hostname: Option<String>,
    /// The IPv4 address of the Docker host that the registry's port is bound to. By default only the host itself can
    /// connect; 0.0.0.0 lets in whoever reaches the host, to a registry without passwords.
    #[serde(rename = "hostIP", default = "loopback")]
    #[schemars(length(max = 15))]
    #[x_kube(validation = schema::host_ip())]
    pub host_ip: String,
    /// The port of the Docker host, 1 to 65535. Default: a free one, allocated once and kept; see `status.hostPort`. A
    /// change also replaces the node containers of the clusters that use the registry, one at a time, since K3s reads
    /// the names of registries when it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub host_port: Option<i32>,
    /// Where the images are kept.
    #[serde(default)]
    pub storage: StorageSpec,
    /// Whether clients may delete images.
    #[serde(default)]
    pub delete_enabled: bool,
    /// Environment variables of the container, such as REGISTRY_LOG_LEVEL. Anyone who can inspect containers reads
    /// them: no secrets. At most 64. Variables that the operator sets itself are refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), transform = schema::registry_env)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<EnvVar>,
    /// Memory limit of the container, as a quantity in bytes with a unit of Ki, Mi, Gi, Ti, k, M, G or T: `512Mi`.
    /// Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 28))]
    #[x_kube(validation = schema::memory())]
    pub memory: Option<String>,
}

impl Default for RegistrySpec {
    fn default() -> Self {
        Self {
            image: None,
            hostname: None,
            host_ip: loopback(),
            host_port: None,
            storage: StorageSpec::default(),
            delete_enabled: false,
            env: Vec::new(),
            memory: None,
        }
    }
}

/// Where the images are kept.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = schema::immutable(
    "volumeName",
    "the images would be left behind in the old volume; make a new Registry instead"
))]
pub struct StorageSpec {
    /// Whether the volume that the operator made stays when the object is deleted; a Registry with the same hostname
    /// takes it up again. What counts is the value at the time of deletion.
    #[serde(default)]
    pub retain: bool,
    /// A Docker volume that exists already, instead of one that the operator makes. It is never removed. It can't be
    /// set, changed or removed after creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::volume_name())]
    pub volume_name: Option<String>,
}

/// An environment variable.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    /// Its name, at most 128 characters.
    #[schemars(length(max = 128))]
    #[x_kube(validation = schema::env_name())]
    pub name: String,
    /// Its value, at most 4096 characters.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    pub value: String,
}

/// What the registry is now.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RegistryStatus {
    /// The generation of the spec that this status speaks of; -1 before the operator has seen the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The state in detail; `Ready` sums it up.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Push here from the Docker host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The registry's name and port in the clusters that use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The port on the Docker host, kept for the registry's life.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_port: Option<i32>,
    /// The LocalClusters that use the registry, as `namespace/name`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub used_by: Vec<String>,
    /// The Docker volume that holds the images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// The id of the container, its first 12 digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}
