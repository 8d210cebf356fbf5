//! Storage of the images of a Registry.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::schema;

/// Lowest and highest value of `maxSize`.
pub const MAX_SIZE: (i64, i64) = (1 << 20, 1 << 50);

/// Storage of the images.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = schema::immutable(
    "volumeName",
    "the images would remain in the old volume; create a new Registry instead"
))]
#[x_kube(validation = schema::immutable(
    "hostPath",
    "the images would remain in the old directory; create a new Registry instead"
))]
#[x_kube(validation = schema::host_path_alone())]
pub struct StorageSpec {
    /// Keeps the volume of the registry when the object is deleted; a Registry with the same hostname in the same
    /// namespace reuses it. The value at the time of deletion applies. Defaults to false. A change does not affect the
    /// container.
    #[serde(default)]
    pub retain: bool,
    /// Existing Docker volume to use instead of one that the operator creates. Its label
    /// `localcluster.dev/allow-namespaces` must contain this namespace in a comma-separated list, or be `*`. The volume
    /// is never removed. Immutable: it cannot be set, changed or removed after creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::volume_name())]
    pub volume_name: Option<String>,
    /// Absolute path of a directory of the Docker host to use instead of a volume: `/srv/registry`. The directory must
    /// exist, without symbolic links in its path, below a path that the operator allows (`--allow-host-path`, by
    /// default none). Its content is never removed. Immutable: it cannot be set, changed or removed after creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = schema::host_path())]
    pub host_path: Option<String>,
    /// Size up to which the storage may grow, as a quantity in bytes with a unit of Ki, Mi, Gi, Ti, k, M, G or T: `20Gi`. At
    /// least 1Mi. The size is measured every few minutes. From 90 % on, the condition `StorageFull` is True, and a garbage
    /// collection runs. From 100 % on, the registry refuses pushes and deletions until less than 95 % is used; pulls go
    /// on. A pull-through cache goes on caching, and only has the condition. Defaults to no limit. A change does not affect the
    /// container, unless pushes are or were refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 28))]
    #[x_kube(validation = schema::max_size())]
    pub max_size: Option<String>,
}

/// Storage of a registry with `spec.storage.maxSize`.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StorageStatus {
    /// Size that was measured last, rounded down to a hundredth of `spec.storage.maxSize`: `18.2Gi`.
    pub used: String,
}
