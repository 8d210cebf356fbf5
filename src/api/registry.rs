//! The kind `Registry`: an image registry on the Docker host.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::local_cluster::loopback;

/// What the registry is to be.
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
pub struct RegistrySpec {
    /// The registry's image. Default: the image the operator was set up with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The name of the container, which is its DNS name in clusters. Default: `k3d-<name>`, with the namespace
    /// before the name unless that is `default`. It can't be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The host address that the registry's port is bound to.
    #[serde(rename = "hostIP", default = "loopback")]
    pub host_ip: String,
    /// The host port. Default: a free one, allocated once and kept; see `status.hostPort`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_port: Option<i32>,
    /// Where the images are kept.
    #[serde(default)]
    pub storage: StorageSpec,
    /// Whether the registry lets clients delete images.
    #[serde(default)]
    pub delete_enabled: bool,
    /// Environment variables of the container. Anyone who can inspect containers reads them: no secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    /// Memory limit of the container, a quantity: `512Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
pub struct StorageSpec {
    /// Whether the volume stays when the object is deleted; a Registry with the same hostname takes it up again.
    #[serde(default)]
    pub retain: bool,
    /// A Docker volume that exists already. It is never removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_name: Option<String>,
}

/// An environment variable.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// Its value.
    #[serde(default)]
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
