//! Registries that a LocalCluster pulls images from.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::TextSource;
use crate::api::{
    registry::{RegistrySpec, yes},
    schema,
};

/// Image registries that the nodes pull from.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistriesSpec {
    /// Registry objects to use. Images that were pushed to one of them can be pulled by the name they were pushed with;
    /// images of a registry that has a pull-through cache here are pulled through the cache. At most 16.
    #[serde(rename = "use", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = schema::used_twice(), merge_strategy = ListMerge::Atomic)]
    pub used: Vec<RegistryRef>,
    /// Spec of a Registry for this cluster only: an object named `<name>-registry`, which is used like the registries
    /// in `use` and deleted with the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<RegistrySpec>,
    /// Registries in containers on the Docker host that are not managed by the operator. They are connected to the
    /// network of the cluster while the cluster exists, and are not modified otherwise. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub containers: Vec<RegistryContainer>,
    /// Mirrors to try before a registry, as in the registries file of K3s. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["registry".into()]))]
    pub mirrors: Vec<MirrorSpec>,
    /// Credentials and TLS configuration of registry hosts, as in the registries file of K3s. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["host".into()]))]
    pub configs: Vec<RegistryConfig>,
    /// A registries file of K3s (`registries.yaml`). Its fields take precedence over all others here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<TextSource>,
    /// Specifies whether containerd falls back to a registry itself after all of its mirrors. `false` sets
    /// --disable-default-registry-endpoint, which K3s only applies to registries without an entry in `configs`.
    /// Defaults to true.
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

/// Reference to a Registry object.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RegistryRef {
    /// Name of the Registry.
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::object_name())]
    pub name: String,
    /// Namespace of the Registry. Defaults to the namespace of this object. A Registry in another namespace must list
    /// this namespace in `allowedNamespaces`.
    #[serde(default)]
    #[schemars(length(max = 63))]
    #[x_kube(validation = schema::namespace())]
    pub namespace: String,
}

/// A registry in a container that is not managed by the operator.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistryContainer {
    /// Name of the container: `registry.localhost`.
    #[schemars(length(max = 63))]
    #[x_kube(validation = schema::hostname())]
    pub name: String,
    /// Port that the registry listens on in its container, with plain HTTP unless `mirrors` contains another endpoint.
    /// Defaults to 5000.
    #[serde(default = "registry_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Port of the Docker host that the registry is published on, for images that were pushed with it. Defaults to
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub host_port: Option<i32>,
}

fn registry_port() -> i32 {
    5000
}

/// Mirrors of a registry.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MirrorSpec {
    /// Registry as it appears in image names: `docker.io`, `registry.example:5000`, or `*` for all registries without
    /// an entry.
    #[schemars(length(max = 260))]
    #[x_kube(validation = schema::mirrored(), validation = schema::mirrored_word())]
    pub registry: String,
    /// URLs of the mirrors in the order in which they are tried: `https://mirror.example`, `http://cache:5000`, or
    /// `https://mirror.example/v2/hub` for a mirror below a path. Defaults to the endpoints that the operator knows for
    /// this registry. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 270)), transform = schema::endpoints)]
    pub endpoints: Vec<String>,
    /// Rewrites of image names in requests to the endpoints. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub rewrites: Vec<Rewrite>,
}

/// A rewrite of image names.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = schema::replacement_slash())]
pub struct Rewrite {
    /// Regular expression (RE2) that is matched against the name without registry and tag: `^library/(.*)`.
    #[schemars(length(max = 255))]
    #[x_kube(validation = schema::pattern_slash())]
    pub pattern: String,
    /// Replacement of the match, where `$1` is the first group: `mirror/$1`.
    #[schemars(length(max = 255))]
    pub replacement: String,
}

/// Credentials and TLS configuration of a registry host.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegistryConfig {
    /// Host of an endpoint, with its port if the URL has one: `registry.example:5443`. This is not the registry that
    /// the endpoint mirrors.
    #[schemars(length(max = 260))]
    #[x_kube(validation = schema::config_host())]
    pub host: String,
    /// Secret in the same namespace with the credentials: of type kubernetes.io/basic-auth or
    /// kubernetes.io/dockerconfigjson, or with the keys `username` and `password`, `auth` (base64 of `name:password`),
    /// or `identity_token`. Changing them replaces all nodes in a rolling update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<SecretRef>,
    /// TLS configuration. Changes take effect on the running nodes without a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<RegistryTls>,
}

/// Reference to a Secret in the same namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::object_name())]
    pub secret_name: String,
}

/// Certificates that nodes trust and present at a registry host.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = schema::one_ca())]
pub struct RegistryTls {
    /// Secret in the same namespace with the key `ca.crt`: the certificate authorities to trust, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::object_name())]
    pub ca_secret_name: Option<String>,
    /// ConfigMap in the same namespace with the key `ca.crt`: the certificate authorities to trust, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::object_name())]
    pub ca_config_map_name: Option<String>,
    /// Secret of type kubernetes.io/tls in the same namespace: the client certificate and key of the nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = schema::object_name())]
    pub client_secret_name: Option<String>,
    /// Skips verification of the certificate. Plain HTTP is configured with an `http://` endpoint instead. Defaults to
    /// false.
    #[serde(default)]
    pub insecure_skip_verify: bool,
}
