//! The API: the kinds [`LocalCluster`], [`Registry`], [`HostPolicy`], [`LocalClusterPool`] and [`LocalClusterClaim`], their
//! conditions, and the names and labels of their objects on the Docker host.
//!
//! It contains types only: nothing here communicates with Kubernetes or Docker.

pub mod cluster_claim;
pub mod cluster_pool;
pub mod condition;
pub mod crds;
pub mod host_alias;
pub mod host_policy;
pub mod local_cluster;
pub mod names;
pub mod node_host;
pub mod placement;
pub mod reason;
pub mod reference;
pub mod registry;
pub mod rules;
pub(crate) mod schema;
mod text_enum;
pub mod uses;

pub use cluster_claim::{LocalClusterClaim, LocalClusterClaimSpec, LocalClusterClaimStatus};
pub use cluster_pool::{LocalClusterPool, LocalClusterPoolSpec, LocalClusterPoolStatus};
pub use host_policy::{HostPolicy, HostPolicySpec, HostPolicyStatus};
pub use local_cluster::{LocalCluster, LocalClusterSpec, LocalClusterStatus};
pub use registry::{Registry, RegistrySpec, RegistryStatus};

/// Served and stored version of all kinds.
pub const VERSION: &str = "v1alpha1";
/// Annotation that pauses reconciliation of the object, including its deletion, if its value is `"true"`.
pub const PAUSED_ANNOTATION: &str = "localcluster.dev/paused";
/// Annotation that keeps a LocalCluster from being deleted when its time to live is over, with any value other than
/// `"false"`.
pub const HOLD_ANNOTATION: &str = "localcluster.dev/hold";
/// Annotation that resets etcd in a LocalCluster that has lost its quorum: the name of the server that continues alone
/// with its data. The container that carries out the reset has it as a label.
pub const RESET_QUORUM_ANNOTATION: &str = "localcluster.dev/reset-quorum";
/// Annotation that requests a garbage collection of a Registry with each new value: the registry is stopped while blobs
/// that no image references are removed.
pub const GARBAGE_COLLECT_ANNOTATION: &str = "localcluster.dev/garbage-collect";
/// Annotation by which an object takes over what Docker's labels give to an earlier object of the same kind, namespace and
/// name: `<UID>@<management cluster>`, several with commas between them. That of a LocalCluster counts for the Registry of its
/// `spec.registries.create` too.
pub const ADOPTS_ANNOTATION: &str = "localcluster.dev/adopts";
/// Finalizer that keeps an object until all its resources on the Docker host are removed.
pub const FINALIZER: &str = "localcluster.dev/docker";
/// Label of a LocalCluster that a LocalClusterPool has created: the name of the pool. Its owner reference, and not the label,
/// says whether it is free.
pub const POOL_LABEL: &str = "localcluster.dev/pool";
/// Label of a LocalCluster that a LocalClusterClaim has taken: the name of the claim.
pub const CLAIM_LABEL: &str = "localcluster.dev/claim";
/// Annotation of a LocalCluster that a LocalClusterPool has created: the hash of the template that it was made from.
pub const TEMPLATE_ANNOTATION: &str = "localcluster.dev/template-hash";
