//! What is put into a LocalCluster's nodes, and where it comes from.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::NodeSet;
use crate::api::schema;

/// A text, or where it is.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = schema::one_source())]
pub struct TextSource {
    /// The text itself, without anything secret in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub inline: Option<String>,
    /// A Secret in this namespace that has it under `key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::object_name())]
    pub secret_name: Option<String>,
    /// A ConfigMap in this namespace that has it under `key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::object_name())]
    pub config_map_name: Option<String>,
    /// The key in the Secret or ConfigMap. Default: `registries.yaml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::secret_key())]
    pub key: Option<String>,
}

/// A file in nodes: its content is one of `inline`, `secret` and `configMap`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = schema::one_content())]
pub struct FileEntry {
    /// The absolute path in the node: `/etc/ssl/certs/corp.pem`. Paths that K3s, Docker or the operator write are
    /// refused.
    #[schemars(length(max = 255), transform = schema::file_path)]
    pub path: String,
    /// The content itself, at most 64 KiB and nothing secret. The file's mode is 0644.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub inline: Option<String>,
    /// A key of a Secret in this namespace. The file's mode is 0600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<KeyRef>,
    /// A key of a ConfigMap in this namespace. The file's mode is 0644.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<KeyRef>,
    /// The nodes that get it: All, Servers or Agents. Default: All.
    #[serde(default)]
    pub nodes: NodeSet,
}

/// A manifest that K3s applies: its content is one of `inline`, `secret` and `configMap`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = schema::one_content())]
pub struct ManifestEntry {
    /// A name, unique in the list: at most 40 lower-case letters, digits and hyphens. K3s's Addon for it is called
    /// `localcluster-<name>`.
    #[schemars(length(max = 40))]
    #[x_kube(validation = schema::manifest_name())]
    pub name: String,
    /// The manifest itself, at most 64 KiB and nothing secret: objects in YAML or JSON, each with apiVersion, kind and
    /// metadata.name. Those without a namespace go to `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub inline: Option<String>,
    /// A key of a Secret in this namespace that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<KeyRef>,
    /// A key of a ConfigMap in this namespace that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<KeyRef>,
}

/// A key of a Secret or ConfigMap in the same namespace.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeyRef {
    /// The object's name.
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::object_name())]
    pub name: String,
    /// The key in its data.
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::secret_key())]
    pub key: String,
}
