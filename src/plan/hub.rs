//! The hub: a K3s server without nodes whose API holds LocalClusters and Registries, and the operator, both as
//! containers beside the clusters. What they are, and the next step towards them or towards their removal.

pub mod desired;
pub mod down;
pub mod manifests;
pub mod observed;
pub mod step;
pub mod up;
