//! Content of the nodes of a LocalCluster: files, manifests and their sources.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::NodeSet;
use crate::api::schema;

/// A text, given inline or by reference.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = schema::one_source())]
pub struct TextSource {
    /// Inline text. It must not contain secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub inline: Option<String>,
    /// Name of a Secret in the same namespace that contains the text at `key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::object_name())]
    pub secret_name: Option<String>,
    /// Name of a ConfigMap in the same namespace that contains the text at `key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::object_name())]
    pub config_map_name: Option<String>,
    /// Key in the Secret or ConfigMap. Defaults to `registries.yaml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::secret_key())]
    pub key: Option<String>,
}

/// A file in the nodes. Exactly one of `inline`, `secret` and `configMap` provides its content.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = schema::one_content())]
pub struct FileEntry {
    /// Absolute path in the node: `/etc/ssl/certs/corp.pem`. Paths that K3s, Docker or the operator write to are
    /// refused.
    #[schemars(length(max = 255), transform = schema::file_path)]
    pub path: String,
    /// Inline content, at most 64 KiB. It must not contain secrets. The file has mode 0644.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub inline: Option<String>,
    /// Key of a Secret in the same namespace. The file has mode 0600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<KeyRef>,
    /// Key of a ConfigMap in the same namespace. The file has mode 0644.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<KeyRef>,
    /// Nodes that get the file: All, Servers or Agents. Defaults to All.
    #[serde(default)]
    pub nodes: NodeSet,
}

/// Images that the nodes of a cluster use.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImagesSpec {
    /// Specifies whether nodes use the images that the Docker host has, each under its own name: after
    /// `docker build -t app:1 .`, a Pod with `image: app:1` runs, without a push and without a list. When a node pulls an
    /// image by a tag, what the Docker host has by this name is imported into the node; the host takes precedence over
    /// the registry, as it does for `docker run`. An image that is built, pulled or loaded again is imported again when a
    /// node pulls it the next time (`imagePullPolicy: Always`). Images that the host does not have, images by digest,
    /// those of the registries in `registries.use`, `create` and `containers`, and those of registries with rewrites come
    /// from their registries, so that a push to a registry of the cluster counts. With `registries.defaultEndpoint: false`,
    /// only the host and the mirrors are asked. A policy limits the images by `images.preload` and `images.proveAccess`.
    /// It needs K3s v1.29.3 or later, and cannot be used with --embedded-registry. Changes take effect on the running nodes
    /// without a restart; imported images stay. Defaults to false.
    #[serde(default)]
    pub from_docker_host: bool,
}

impl ImagesSpec {
    /// Reports whether no field is set.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A manifest that K3s applies. Exactly one of `inline`, `secret` and `configMap` provides its content.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = schema::one_content())]
pub struct ManifestEntry {
    /// Name of the manifest, unique in the list: at most 40 lowercase letters, digits and hyphens. The Addon that K3s
    /// creates for it is named `localcluster-<name>`.
    #[schemars(length(max = 40))]
    #[x_kube(validation = schema::manifest_name())]
    pub name: String,
    /// Inline manifest, at most 64 KiB: objects in YAML or JSON, each with apiVersion, kind and metadata.name. Objects
    /// without a namespace are created in `default`. It must not contain secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub inline: Option<String>,
    /// Key of a Secret in the same namespace that contains the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<KeyRef>,
    /// Key of a ConfigMap in the same namespace that contains the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<KeyRef>,
}

/// Reference to a key of a Secret or ConfigMap in the same namespace.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeyRef {
    /// Name of the object.
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::object_name())]
    pub name: String,
    /// Key in the data of the object.
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::secret_key())]
    pub key: String,
}
