//! Formats of single values, each a pattern with a maximum length and the message for values that do not match.

use super::{pattern, text};

/// Format of a text in a spec.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// Pattern that the whole text matches.
    pub pattern: &'static str,
    /// Maximum length in bytes, which the schema has as `maxLength`.
    pub max: usize,
    /// Requirement, for values that do not match.
    pub message: &'static str,
}

const fn format(pattern: &'static str, max: usize, message: &'static str) -> Format {
    Format { pattern, max, message }
}

/// Name of a LocalCluster.
pub const NAME: Format = format(pattern::LABEL, 63, text::NAME);
/// Name of a cluster on the Docker host.
pub const CLUSTER_NAME: Format = format(pattern::LABEL, 32, text::CLUSTER_NAME);
/// Name of a pool of agents.
pub const POOL_NAME: Format = format(pattern::POOL_NAME, 20, text::POOL_NAME);
/// K3s version.
pub const VERSION: Format = format(pattern::VERSION, 32, text::VERSION);
/// Image with a tag or a digest.
pub const IMAGE: Format = format(pattern::IMAGE, 512, text::IMAGE);
/// Image to import, with a tag.
pub const PRELOAD_IMAGE: Format = format(pattern::TAGGED_IMAGE, 255, text::PRELOAD_IMAGE);
/// Name of a manifest.
pub const MANIFEST_NAME: Format = format(pattern::LABEL, 40, text::MANIFEST_NAME);
/// Name of a referenced object.
pub const OBJECT_NAME: Format = format(pattern::DNS, 253, text::OBJECT_NAME);
/// Key of a Secret or ConfigMap.
pub const SECRET_KEY: Format = format(pattern::SECRET_KEY, 253, text::SECRET_KEY);
/// Namespace of a referenced object.
pub const NAMESPACE: Format = format(pattern::LABEL, 63, text::NAMESPACE);
/// Namespace that may use a Registry.
pub const ALLOWED_NAMESPACE: Format = format(pattern::LABEL, 63, text::ALLOWED_NAMESPACE);
/// DNS name in a serving certificate.
pub const SAN: Format = format(pattern::DNS, 253, text::SAN);
/// Name of the API server in kubeconfigs.
pub const SERVER_NAME: Format = format(pattern::DNS, 253, text::SERVER_NAME);
/// Name of a published port.
pub const PORT_NAME: Format = format(pattern::LABEL, 63, text::PORT_NAME);
/// Host name of a registry.
pub const HOSTNAME: Format = format(pattern::DNS, 63, text::HOSTNAME);
/// Hostname in `spec.hostAliases`.
pub const ALIAS_NAME: Format = format(pattern::DNS, 253, text::ALIAS_NAME);
/// Registry that is mirrored.
pub const MIRRORED: Format = format(pattern::HOST, 260, text::MIRRORED);
/// Host of a registry endpoint.
pub const CONFIG_HOST: Format = format(pattern::HOST, 260, text::CONFIG_HOST);
/// URL of a mirror.
pub const ENDPOINT: Format = format(pattern::ENDPOINT, 270, text::ENDPOINT);
/// URL of the registry that a cache is for.
pub const REMOTE_URL: Format = format(pattern::REMOTE_URL, 270, text::REMOTE_URL);
/// Duration that a cache keeps images.
pub const TTL: Format = format(pattern::TTL, 32, text::TTL);
/// Times of a garbage collection.
pub const SCHEDULE: Format = format(pattern::SCHEDULE, 64, text::SCHEDULE);
/// K3s argument.
pub const ARG: Format = format(pattern::ARG, 1024, text::ARG);
/// Name of an environment variable.
pub const ENV_NAME: Format = format(pattern::ENV_NAME, 128, text::ENV_NAME);
/// Key of a label.
pub const LABEL_KEY: Format = format(pattern::LABEL_KEY, 317, text::LABEL_KEY);
/// Value of a label.
pub const LABEL_VALUE: Format = format(pattern::LABEL_VALUE, 63, text::LABEL_VALUE);
/// Key of a label of a container.
pub const CONTAINER_LABEL: Format = format(pattern::CONTAINER_LABEL, 128, text::CONTAINER_LABEL);
/// Taint.
pub const TAINT: Format = format(pattern::TAINT, 512, text::TAINT);
/// Name of a process limit.
pub const ULIMIT_NAME: Format = format(pattern::ULIMIT, 16, text::ULIMIT_NAME);
/// Path of a file in a node.
pub const FILE_PATH: Format = format(pattern::FILE_PATH, 255, text::FILE_PATH);
/// Path of a host directory in a node.
pub const MOUNT_PATH: Format = format(pattern::FILE_PATH, 255, text::MOUNT_PATH);
/// Path of a directory of the Docker host.
pub const HOST_PATH: Format = format(pattern::HOST_PATH, 1024, text::HOST_PATH);
/// Name of a Docker volume.
pub const VOLUME_NAME: Format = format(pattern::VOLUME_NAME, 253, text::VOLUME_NAME);
/// Name of a Docker network.
pub const NETWORK_NAME: Format = format(pattern::NETWORK_NAME, 128, text::NETWORK_NAME);
/// GPUs: all or a number.
pub const GPUS: Format = format(pattern::GPUS, 3, text::GPUS);
/// Name of an OCI runtime.
pub const RUNTIME: Format = format(pattern::RUNTIME, 63, text::RUNTIME);

/// Limits of processes of a node: K3s does not start with much fewer, and the kernel has no more.
pub const PIDS: std::ops::RangeInclusive<i32> = 1024..=4_194_304;
