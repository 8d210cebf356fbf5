//! The API that users write: the kinds [`LocalCluster`] and [`Registry`], their conditions, and the names and
//! labels that their objects get on the Docker host.
//!
//! Types only: nothing here talks to Kubernetes or Docker.

pub mod condition;
pub mod crds;
pub mod host_alias;
pub mod local_cluster;
pub mod names;
pub mod node_host;
pub mod registry;
pub mod rules;
mod schema;
pub mod uses;

pub use local_cluster::{LocalCluster, LocalClusterSpec, LocalClusterStatus};
pub use registry::{Registry, RegistrySpec, RegistryStatus};

/// The API group of both kinds.
pub const GROUP: &str = "localcluster.dev";
/// The served and stored version of both kinds.
pub const VERSION: &str = "v1alpha1";
/// With the value `"true"`: the operator touches nothing of this object, its deletion included.
pub const PAUSED_ANNOTATION: &str = "localcluster.dev/paused";
/// On a LocalCluster, with any value but `"false"`: it is not deleted when its time to live is over.
pub const HOLD_ANNOTATION: &str = "localcluster.dev/hold";
/// On a LocalCluster whose servers' data is lost but for a minority: the server, by its name, that goes on with its data
/// alone. The operator's container that carries it out has it as a label.
pub const RESET_QUORUM_ANNOTATION: &str = "localcluster.dev/reset-quorum";
/// On a Registry, with any new value: stops it for a moment and removes the blobs that no image refers to.
pub const GARBAGE_COLLECT_ANNOTATION: &str = "localcluster.dev/garbage-collect";
/// The finalizer that keeps an object until everything it made on the Docker host is gone.
pub const FINALIZER: &str = "localcluster.dev/docker";
