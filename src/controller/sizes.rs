//! Maximum sizes of what is read from containers, in bytes: root in a node can write anything there.

/// A file that has the content of a Secret or ConfigMap, which has at most 1 MiB.
pub const CONTENT: usize = 2 << 20;
/// A file that K3s writes: kubeconfig and token.
pub const WRITTEN: usize = 64 << 10;
/// A file of the system: resolv.conf and hosts.
pub const SYSTEM: usize = 256 << 10;
/// Directories of the container runtime's registries, and their certificates.
pub const REGISTRIES: usize = 1 << 20;
/// Manifests of K3s and of users.
pub const MANIFESTS: usize = 8 << 20;
/// All files in the cache.
pub const CACHE: usize = 32 << 20;
