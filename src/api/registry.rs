//! The kind `Registry`: an image registry on the Docker host.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
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
    printcolumn(name = "Caches", type_ = "string", json_path = ".status.proxies"),
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
    /// characters. Default: `k3d-<name>`; in other namespaces than `default` with the namespace and a hash,
    /// `k3d-<namespace>-<name>-<hash>`. It can't be set, changed or removed after creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    #[x_kube(validation = schema::hostname())]
    pub hostname: Option<String>,
    /// The IPv4 address of the Docker host that the registry's port is bound to. By default only the host itself can
    /// connect; 0.0.0.0 lets in whoever reaches the host, to a registry without passwords. Clusters and tools know the
    /// registry by that address, or by `localhost` for 127.0.0.1 and 0.0.0.0.
    #[serde(rename = "hostIP", default = "loopback")]
    #[schemars(length(max = 15))]
    #[x_kube(validation = schema::host_ip())]
    pub host_ip: String,
    /// The port of the Docker host, 1 to 65535. Default: a free one, allocated once and kept; see `status.hostPort`. With
    /// a change of it the registry has other names: what was pushed by the one before can be pulled by the new one, and by
    /// the hostname with port 5000, which never changes. The clusters that use the registry are told within seconds, and
    /// nothing of them restarts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub host_port: Option<i32>,
    /// Where the images are kept.
    #[serde(default)]
    pub storage: StorageSpec,
    /// Makes the registry a pull-through cache of another one. Clusters that use it pull that one's images through it
    /// by themselves. Nothing can be pushed to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxySpec>,
    /// Has clients log in. Clusters that use the registry do so by themselves, with `clientSecret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthSpec>,
    /// Has the registry serve HTTPS. Clusters that use it trust it by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,
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
    /// Namespaces whose LocalClusters may use the registry, besides its own; `*` stands for all. They get its
    /// credentials and CA too. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 63)), transform = schema::allowed_namespaces)]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allowed_namespaces: Vec<String>,
    /// Whether clusters that use the registry advertise it to tools such as Tilt and Skaffold, by the ConfigMap
    /// `kube-public/local-registry-hosting` (KEP-1755). It names one registry: the first in the cluster's list that
    /// is no cache and has this set.
    #[serde(default = "yes")]
    pub local_registry_hosting: bool,
}

/// The default of what is on unless the spec says otherwise.
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
            memory: None,
            allowed_namespaces: Vec::new(),
            local_registry_hosting: true,
        }
    }
}

impl RegistrySpec {
    /// The names of all Secrets that it refers to.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let proxy = self.proxy.iter().filter_map(|p| p.credentials_secret.as_deref());
        let auth = self.auth.iter();
        let auth = auth.flat_map(|a| [Some(a.htpasswd_secret.as_str()), a.client_secret.as_deref()]);
        let tls = self.tls.iter();
        let tls = tls.flat_map(|t| [Some(t.secret_name.as_str()), t.ca_secret_name.as_deref()]);
        proxy.chain(auth.flatten()).chain(tls.flatten())
    }
}

/// Where the images are kept.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = schema::immutable(
    "volumeName",
    "the images would be left behind in the old volume; make a new Registry instead"
))]
#[x_kube(validation = schema::immutable(
    "hostPath",
    "the images would be left behind in the old place; make a new Registry instead"
))]
#[x_kube(validation = schema::host_path_alone())]
pub struct StorageSpec {
    /// Whether the volume that the operator made stays when the object is deleted; a Registry with the same hostname in
    /// the same namespace takes it up again. What counts is the value at the time of deletion.
    #[serde(default)]
    pub retain: bool,
    /// A Docker volume that exists already, instead of one that the operator makes: one whose label
    /// `localcluster.dev/allow-namespaces` names this namespace, among others with commas between, or is `*`. It is never
    /// removed. It can't be set, changed or removed after creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::volume_name())]
    pub volume_name: Option<String>,
    /// A directory of the Docker host, instead of a volume, by its absolute path: `/srv/registry`. It has to be there,
    /// without symbolic links on the way, and below a path that the operator allows (`--allow-host-path`, by default
    /// none). Nothing in it is ever removed. It can't be set, changed or removed after creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = schema::host_path())]
    pub host_path: Option<String>,
}

/// A pull-through cache of another registry.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxySpec {
    /// The registry to cache, by its URL without a path: `https://registry-1.docker.io`, `https://quay.io`.
    #[serde(rename = "remoteURL")]
    #[schemars(length(max = 270))]
    #[x_kube(validation = schema::remote_url())]
    pub remote_url: String,
    /// A Secret in this namespace with `username` and `password` for the remote registry. Without it, only public
    /// images can be cached. A change restarts the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::object_name())]
    pub credentials_secret: Option<String>,
    /// How long an image stays cached, as hours, minutes and seconds: `168h`, `1h30m`. `0s`: for ever. Default:
    /// registry's own, a week. Only images of registry from version 3 on heed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = schema::ttl())]
    pub ttl: Option<String>,
}

/// Who may use the registry.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthSpec {
    /// A Secret in this namespace with the key `htpasswd`: lines of `name:hash`, as `htpasswd -B` makes them (only
    /// bcrypt is known). A change takes effect at once.
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::object_name())]
    pub htpasswd_secret: String,
    /// A Secret in this namespace with `username` and `password`, by which the clusters that use the registry log in.
    /// Default: they don't, and their Pods bring image pull secrets. A change replaces the nodes of those clusters, one
    /// at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::object_name())]
    pub client_secret: Option<String>,
}

/// HTTPS.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsSpec {
    /// A Secret of type kubernetes.io/tls in this namespace: the certificate, valid for the registry's hostname, and
    /// its key. A change restarts the container.
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::object_name())]
    pub secret_name: String,
    /// A Secret in this namespace with the key `ca.crt`, by which clusters trust the registry. Default: `ca.crt` of
    /// `secretName`, or else its certificate itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::object_name())]
    pub ca_secret_name: Option<String>,
}

/// An environment variable.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    /// Its name, at most 128 characters.
    #[schemars(length(max = 128))]
    #[x_kube(validation = schema::env_name())]
    pub name: String,
    /// Its value, at most 4096 characters. Default: empty.
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
    /// The directory of the Docker host that holds the images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_path: Option<String>,
    /// The registry that this one caches, as image names begin: `docker.io`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxies: Option<String>,
    /// The id of the container, its first 12 digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The last garbage collection that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub garbage_collection: Option<GarbageCollectionStatus>,
}

/// A garbage collection that came to its end.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GarbageCollectionStatus {
    /// The value of the annotation `localcluster.dev/garbage-collect` that asked for it; another value asks anew. Of a
    /// value longer than 64 bytes, its hash.
    pub request: String,
    /// When it ended.
    pub time: Time,
    /// Whether it did what it was to do.
    pub succeeded: bool,
    /// What came of it.
    pub message: String,
}
