//! The API that users write: the kinds [`LocalCluster`] and [`Registry`], their conditions, and the names and
//! labels that their objects get on the Docker host.
//!
//! Types only: nothing here talks to Kubernetes or Docker.

pub mod condition;
pub mod crds;
pub mod local_cluster;
pub mod names;
pub mod registry;
pub mod rules;
mod schema;

pub use local_cluster::{LocalCluster, LocalClusterSpec, LocalClusterStatus};
pub use registry::{Registry, RegistrySpec, RegistryStatus};

/// The API group of both kinds.
pub const GROUP: &str = "localcluster.dev";
/// The served and stored version of both kinds.
pub const VERSION: &str = "v1alpha1";
/// With the value `"true"`: the operator touches nothing of this object, its deletion included.
pub const PAUSED_ANNOTATION: &str = "localcluster.dev/paused";
/// The finalizer that keeps an object until everything it made on the Docker host is gone.
pub const FINALIZER: &str = "localcluster.dev/docker";
