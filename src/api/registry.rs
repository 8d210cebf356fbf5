//! The kind `Registry`: an image registry on a Docker host.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod storage;

pub use storage::{MAX_SIZE, StorageSpec, StorageStatus};

use super::{local_cluster::loopback, placement::Placement, schema};

/// Desired state of the registry.
///
/// All fields can be changed at any time unless stated otherwise. A change replaces the container, unless the field
/// says that it does not; images are kept.
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
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Host", type_ = "string", json_path = ".status.host"),
    printcolumn(name = "Cluster", type_ = "string", json_path = ".status.cluster"),
    printcolumn(name = "Caches", type_ = "string", json_path = ".status.proxies"),
    printcolumn(name = "Used-By", type_ = "integer", json_path = ".status.users"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Docker-Host", type_ = "string", json_path = ".status.dockerHost", priority = 1),
    printcolumn(name = "Users", type_ = "string", json_path = ".status.usedBy", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = schema::immutable(
    "hostname",
    "clusters and the names of pushed images refer to it; create a new Registry instead"
))]
#[x_kube(validation = schema::schedule_of_cache())]
#[x_kube(validation = schema::retention_of_cache())]
pub struct RegistrySpec {
    /// Image of the registry, with a tag or a digest: `docker.io/library/registry:3`. Defaults to the image that the
    /// operator is configured with, see `status.defaultImage`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = schema::image())]
    pub image: Option<String>,
    /// Name of the container, which is also its DNS name in the clusters that use it: `registry.localhost`. At most 63
    /// characters; names of public registries, of Services and Pods, of the Docker host and of nodes are refused. Defaults
    /// to `k3d-<name>`; in namespaces other than `default`, to `k3d-<namespace>-<name>-<hash>`. Immutable: it cannot be
    /// set, changed or removed after creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63), transform = schema::own_hostname)]
    pub hostname: Option<String>,
    /// IPv4 address of the Docker host that the port of the registry is bound to. Defaults to 127.0.0.1, which only
    /// accepts connections from the host itself; 0.0.0.0 accepts connections from everywhere that the host is reachable
    /// from, without a password unless `auth` is set. The address is part of the name of the registry on the host; for
    /// 127.0.0.1 and 0.0.0.0 the name is `localhost`.
    #[serde(rename = "hostIP", default = "loopback")]
    #[schemars(length(max = 15))]
    #[x_kube(validation = schema::host_ip())]
    pub host_ip: String,
    /// Port of the Docker host, 1 to 65535. Defaults to a free port that is allocated once and kept; see
    /// `status.hostPort`. Changing it replaces the container of the registry and changes its name on the host: images
    /// that were pushed with the previous port can be pulled with the new one, and with the hostname and port 5000,
    /// which never change. Clusters that use the registry are updated within seconds without restarting or replacing
    /// nodes, except those with --embedded-registry, where nodes are replaced in a rolling update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub host_port: Option<i32>,
    /// Storage of the images.
    #[serde(default)]
    pub storage: StorageSpec,
    /// Makes the registry a pull-through cache of another registry. Clusters that use it pull the images of the other
    /// registry through it automatically. Pushing to it is not possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxySpec>,
    /// Requires clients to log in. Clusters that use the registry log in automatically with the credentials in
    /// `clientSecret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthSpec>,
    /// Serves HTTPS. Clusters that use the registry trust its certificate automatically.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,
    /// Allows clients to delete images. Defaults to false.
    #[serde(default)]
    pub delete_enabled: bool,
    /// Environment variables of the container, such as REGISTRY_LOG_LEVEL. The values are visible to anyone who can
    /// inspect containers and must not contain secrets. At most 64. Variables that the operator manages are refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), transform = schema::registry_env)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<EnvVar>,
    /// Removes regularly what deleted images leave behind. Not possible for a pull-through cache, which removes expired
    /// images itself. A change does not affect the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub garbage_collection: Option<GarbageCollectionSpec>,
    /// Tags and images that each garbage collection keeps; it removes the others. Defaults to none: all tags are kept. Not
    /// possible for a pull-through cache. A change does not affect the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionSpec>,
    /// Memory limit of the container, as a quantity in bytes with a unit of Ki, Mi, Gi, Ti, k, M, G or T: `512Mi`, or with
    /// `b`, `m`, `g` or `t` as in `docker run --memory`: `512m`. Defaults to 1Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 28))]
    #[x_kube(validation = schema::memory())]
    pub memory: Option<String>,
    /// Namespaces besides that of the registry in which LocalClusters may use it; `*` allows all namespaces. These
    /// clusters receive its credentials and CA certificate too; they lose both when their namespace is removed, but passwords
    /// must then be rotated. At most 64. A change does not affect the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 63)), transform = schema::allowed_namespaces)]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allowed_namespaces: Vec<String>,
    /// Specifies whether clusters that use the registry advertise it to tools such as Tilt and Skaffold with the
    /// ConfigMap `kube-public/local-registry-hosting` (KEP-1755). The ConfigMap contains a single registry: the first
    /// one in the list of the cluster that is not a cache and has this field set. Defaults to true. A change does not
    /// affect the container.
    #[serde(default = "yes")]
    pub local_registry_hosting: bool,
    /// Docker host to run on, if the operator runs for several (roles `controller` and `agent`): for each object a
    /// placeholder Pod is scheduled, which requests what the object needs, and the object runs on the node of that Pod. If
    /// the operator runs for a single Docker host (role `all`), the field is not heeded, which the condition `Scheduled`
    /// says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
}

/// Returns the default of fields that are enabled unless the spec disables them.
pub(crate) fn yes() -> bool {
    true
}

impl Default for RegistrySpec {
    fn default() -> Self {
        Self {
            image: None,
            hostname: None,
            host_ip: loopback(),
            host_port: None,
            storage: StorageSpec::default(),
            proxy: None,
            auth: None,
            tls: None,
            delete_enabled: false,
            env: Vec::new(),
            garbage_collection: None,
            retention: None,
            memory: None,
            allowed_namespaces: Vec::new(),
            local_registry_hosting: true,
            placement: None,
        }
    }
}

impl RegistrySpec {
    /// Returns the names of all Secrets that the spec references.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let proxy = self.proxy.iter().filter_map(|p| p.credentials_secret.as_deref());
        let auth = self.auth.iter();
        let auth = auth.flat_map(|a| [Some(a.htpasswd_secret.as_str()), a.client_secret.as_deref()]);
        let tls = self.tls.iter();
        let tls = tls.flat_map(|t| [Some(t.secret_name.as_str()), t.ca_secret_name.as_deref()]);
        proxy.chain(auth.flatten()).chain(tls.flatten())
    }
}

/// Garbage collection of the images.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GarbageCollectionSpec {
    /// Times at which the registry is stopped, for seconds to minutes, to remove blobs that no image refers to: minute,
    /// hour, day of the month, month and day of the week in UTC, as for a CronJob. `0 3 * * *` is each day at 03:00. A time
    /// that passed more than an hour ago, since the operator was not running, is skipped.
    #[schemars(length(max = 64))]
    #[x_kube(validation = schema::schedule())]
    pub schedule: String,
}

/// Tags and images that garbage collections keep, in each repository. A tag is removed only if each rule that is given
/// allows it. The age of a tag is the time since it was last pushed. What refers to a kept image, such as its signatures, and
/// what it consists of, such as the images of its platforms, is kept with it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = schema::retention_rules())]
pub struct RetentionSpec {
    /// Number of tags to keep in each repository, those that were pushed last; 1 to 10000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub keep_tags: Option<i32>,
    /// Time to keep a tag after it was last pushed, in hours, minutes and seconds: `720h`, `1h30m`. An image that has no tag
    /// any more is kept for this time too, counted from its own push; without the field, for a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = schema::keep_for())]
    pub keep_for: Option<String>,
}

/// A pull-through cache of another registry.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxySpec {
    /// URL of the registry to cache, without a path: `https://registry-1.docker.io`, `https://quay.io`.
    #[serde(rename = "remoteURL")]
    #[schemars(length(max = 270))]
    #[x_kube(validation = schema::remote_url())]
    pub remote_url: String,
    /// Secret in the same namespace with the keys `username` and `password` for the remote registry. Without it, only
    /// public images can be cached. Changing the credentials replaces the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::object_name())]
    pub credentials_secret: Option<String>,
    /// Time that an image is cached, in hours, minutes and seconds: `168h`, `1h30m`; then it is removed.
    /// Registry images before version 3 know no other time than one week. Defaults to `0s`: images are kept, unless
    /// `deleteEnabled` is true, with which the registry's own default applies, one week.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = schema::ttl())]
    pub ttl: Option<String>,
}

/// Authentication of clients.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthSpec {
    /// Secret in the same namespace with the key `htpasswd`: lines of `name:hash`, as created by `htpasswd -B` (only
    /// bcrypt is supported). Changing its content takes effect immediately and restarts nothing.
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::object_name())]
    pub htpasswd_secret: String,
    /// Secret in the same namespace with the keys `username` and `password` that the clusters using the registry log in
    /// with. Defaults to none: nodes do not log in, and Pods need image pull secrets. Changing the credentials replaces
    /// the nodes of these clusters in a rolling update, but not the container of the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::object_name())]
    pub client_secret: Option<String>,
}

/// TLS configuration of the registry.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsSpec {
    /// Secret of type kubernetes.io/tls in the same namespace: the certificate, valid for the hostname of the registry,
    /// and its key. Changing them replaces the container.
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::object_name())]
    pub secret_name: String,
    /// Secret in the same namespace with the key `ca.crt`: the CA certificates that clusters trust the registry by.
    /// Defaults to `ca.crt` of `secretName`, or else its certificate. Changes take effect on the running nodes of these
    /// clusters without a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::object_name())]
    pub ca_secret_name: Option<String>,
}

/// An environment variable.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    /// Name of the variable, at most 128 characters.
    #[schemars(length(max = 128))]
    #[x_kube(validation = schema::env_name())]
    pub name: String,
    /// Value of the variable, at most 4096 characters. Defaults to the empty string.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    pub value: String,
}

/// Observed state of the registry.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RegistryStatus {
    /// Generation of the spec that this status describes; -1 before the operator has processed the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions of the registry; `Ready` summarizes them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Address for pushing images from the Docker host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Node of the management cluster that is the Docker host of the registry, where there are several (roles
    /// `controller` and `agent`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker_host: Option<String>,
    /// Internal address of that node.
    #[serde(rename = "hostIP", skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<String>,
    /// Pod in the same namespace by which the host was chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placeholder: Option<String>,
    /// Host name and port of the registry in the clusters that use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Port on the Docker host, kept for the lifetime of the registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_port: Option<i32>,
    /// LocalClusters that use the registry, as `namespace/name`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub used_by: Vec<String>,
    /// Number of LocalClusters that use the registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<i32>,
    /// Docker volume that contains the images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// Directory of the Docker host that contains the images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_path: Option<String>,
    /// Registry that this one caches, as it appears in image names: `docker.io`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxies: Option<String>,
    /// ID of the container, truncated to 12 digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Image for a spec without `image`. It stays when the operator is configured with another default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_image: Option<String>,
    /// Last garbage collection that the annotation, the schedule or `spec.storage.maxSize` requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub garbage_collection: Option<GarbageCollectionStatus>,
    /// Storage of a registry with `spec.storage.maxSize`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageStatus>,
}

/// A completed garbage collection.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GarbageCollectionStatus {
    /// Value of the annotation `localcluster.dev/garbage-collect` that requested one last; a different value requests
    /// another one. A value longer than 64 bytes is represented by its hash. Empty if the annotation has requested none.
    pub request: String,
    /// Time of completion.
    pub time: Time,
    /// Success of the collection.
    pub succeeded: bool,
    /// Result in words.
    pub message: String,
    /// Smallest size of the storage since then, of a registry with `spec.storage.maxSize`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<String>,
}
