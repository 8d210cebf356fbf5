//! The pure core: from desired and observed state to steps.
//!
//! Nothing here reads a clock, the environment or a random source, and nothing communicates with Docker or
//! Kubernetes: all inputs are arguments. A plan does not require an exact observation; from any incomplete state,
//! planning again leads to the same end.

pub mod addresses;
pub mod adoption;
pub mod balance;
pub mod called;
pub mod checkup;
pub mod cluster;
pub mod connections;
pub mod consent;
pub mod containers;
pub mod decide;
pub mod default_registries;
pub mod desired;
pub mod expiry;
pub mod failures;
pub mod hash;
pub mod host_aliases;
pub mod host_images;
pub mod host_limits;
pub mod host_path;
pub mod hub;
pub mod inputs;
pub mod inside;
pub mod joined;
pub mod kind;
pub mod kubeconfig;
pub mod local_cluster;
pub mod management;
pub mod manifests;
pub mod mounts;
pub mod networks;
pub mod nodes;
pub mod observed;
pub mod orphans;
pub mod own_registry;
pub mod owner;
pub mod placement;
pub mod policy;
pub mod pool;
pub mod ports;
pub mod preload;
pub mod queue;
pub mod record;
pub mod refs;
pub mod refused;
pub mod registries;
pub mod registry;
pub mod resolvers;
pub mod rotation;
pub mod runtimes;
pub mod secret;
pub mod servers;
pub mod service;
pub mod settings;
pub mod steps;
pub mod subject;
pub mod token;
pub mod turns;
pub mod validate;
