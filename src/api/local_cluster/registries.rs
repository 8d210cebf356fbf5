//! What a LocalCluster pulls images from.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::TextSource;
use crate::api::{
    registry::{RegistrySpec, yes},
    schema,
};

/// The image registries that the nodes pull from.
///
/// All of it is merged into K3s's registries file: first what the operator makes of `use`, `create` and `containers`,
/// then `mirrors` and `configs`, then `config`; on one key, each field of the later one wins. A change takes effect in
/// the running nodes within seconds and restarts nothing, except that changed credentials, and `defaultEndpoint`,
/// replace the node containers, one at a time.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistriesSpec {
    /// Registry objects. What was pushed to one of them can be pulled by the name it was pushed under; what a
    /// pull-through cache stands for is pulled through it. At most 16.
    #[serde(rename = "use", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = schema::used_twice(), merge_strategy = ListMerge::Atomic)]
    pub used: Vec<RegistryRef>,
    /// A Registry of this cluster's own: an object named `<name>-registry` with this spec, which is used like the
    /// others and deleted with the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<RegistrySpec>,
    /// Registries in containers that somebody else runs on this Docker host. They are connected to the cluster's
    /// network while the cluster lives and are not changed otherwise. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub containers: Vec<RegistryContainer>,
    /// Where the images of a registry are looked for first, as in K3s's registries file. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["registry".into()]))]
    pub mirrors: Vec<MirrorSpec>,
    /// How to log in to hosts and whom to trust there, as in K3s's registries file. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["host".into()]))]
    pub configs: Vec<RegistryConfig>,
    /// A K3s registries file (`registries.yaml`), which wins over all of the above, field by field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<TextSource>,
    /// Whether a registry itself is asked after all of its mirrors. `false` sets K3s's
    /// --disable-default-registry-endpoint; K3s heeds it only for registries that no config names.
    #[serde(default = "yes")]
    pub default_endpoint: bool,
}

impl Default for RegistriesSpec {
    fn default() -> Self {
        Self {
            used: Vec::new(),
            create: None,
            containers: Vec::new(),
            mirrors: Vec::new(),
            configs: Vec::new(),
            config: None,
            default_endpoint: true,
        }
    }
}

/// A Registry object.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RegistryRef {
    /// Its name.
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::object_name())]
    pub name: String,
    /// Its namespace. Default: this one. A Registry of another one must allow it by `allowedNamespaces`.
    #[serde(default)]
    #[schemars(length(max = 63))]
    #[x_kube(validation = schema::namespace())]
    pub namespace: String,
}

/// A registry in a container that somebody else runs.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistryContainer {
    /// The container's name: `registry.localhost`.
    #[schemars(length(max = 63))]
    #[x_kube(validation = schema::hostname())]
    pub name: String,
    /// The port that the registry listens on in its container, by plain HTTP unless `mirrors` names another endpoint.
    /// Default: 5000.
    #[serde(default = "registry_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// The port of the Docker host that leads there, if any, for images that were pushed by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub host_port: Option<i32>,
}

fn registry_port() -> i32 {
    5000
}

/// Where the images of a registry are looked for first.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MirrorSpec {
    /// The registry as image names begin: `docker.io`, `registry.example:5000`, or `*` for all that have no entry.
    #[schemars(length(max = 260))]
    #[x_kube(validation = schema::mirrored(), validation = schema::mirrored_word())]
    pub registry: String,
    /// The URLs to ask, in this order: `https://mirror.example`, `http://cache:5000`, `https://mirror.example/v2/hub`
    /// for what is below a path. Default: those that the operator knows for this registry. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 270)), transform = schema::endpoints)]
    pub endpoints: Vec<String>,
    /// Changes to image names on their way to the endpoints. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub rewrites: Vec<Rewrite>,
}

/// A change to image names.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = schema::replacement_slash())]
pub struct Rewrite {
    /// A regular expression (RE2) on the name without registry and tag: `^library/(.*)`.
    #[schemars(length(max = 255))]
    #[x_kube(validation = schema::pattern_slash())]
    pub pattern: String,
    /// What the match becomes, with `$1` for the first group: `mirror/$1`.
    #[schemars(length(max = 255))]
    pub replacement: String,
}

/// How to log in to a host and whom to trust there.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegistryConfig {
    /// The host of an endpoint, with its port where the URL has one: `registry.example:5443`. Not the registry that it
    /// is a mirror of.
    #[schemars(length(max = 260))]
    #[x_kube(validation = schema::config_host())]
    pub host: String,
    /// A Secret in this namespace: of type kubernetes.io/basic-auth or kubernetes.io/dockerconfigjson, or with the keys
    /// `username` and `password`, or `auth` (both in base64, as `name:password`), or `identity_token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<SecretRef>,
    /// TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<RegistryTls>,
}

/// A Secret in the same namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Its name.
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::object_name())]
    pub secret_name: String,
}

/// Whom to trust at a host, and how to prove who the node is.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = schema::one_ca())]
pub struct RegistryTls {
    /// A Secret in this namespace with the key `ca.crt`: the certificate authorities to trust, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::object_name())]
    pub ca_secret_name: Option<String>,
    /// The same in a ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::object_name())]
    pub ca_config_map_name: Option<String>,
    /// A Secret of type kubernetes.io/tls in this namespace: the nodes' own certificate and key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::object_name())]
    pub client_secret_name: Option<String>,
    /// Trust anyone. Plain HTTP is another thing: an endpoint of `http://…`. Default: false.
    #[serde(default)]
    pub insecure_skip_verify: bool,
}
