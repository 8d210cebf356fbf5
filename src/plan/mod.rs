//! The pure core: from what is wanted and what there is to what has to be done.
//!
//! Nothing here reads a clock, the environment or chance, and nothing talks to Docker or Kubernetes: all of that
//! comes in as arguments. A plan never needs the observation to be exact; from any half-done state, planning again
//! leads to the same end.

pub mod addresses;
pub mod balance;
pub mod called;
pub mod cluster;
pub mod connections;
pub mod consent;
pub mod containers;
pub mod decide;
pub mod desired;
pub mod expiry;
pub mod failures;
pub mod hash;
pub mod host_aliases;
pub mod host_path;
pub mod inputs;
pub mod inside;
pub mod local_cluster;
pub mod management;
pub mod manifests;
pub mod mounts;
pub mod nodes;
pub mod observed;
pub mod owner;
pub mod ports;
pub mod preload;
pub mod refs;
pub mod refused;
pub mod registries;
pub mod registry;
pub mod rotation;
pub mod servers;
pub mod settings;
pub mod steps;
pub mod subject;
pub mod turns;
pub mod validate;
