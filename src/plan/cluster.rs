//! What a LocalCluster wants on the Docker host: from the valid spec, what it refers to and what was allocated to
//! complete container specs.

mod allocation;
mod build;
mod image;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    ops::RangeInclusive,
    sync::Arc,
};

use ipnet::Ipv4Net;
use jiff::SignedDuration;

use super::{addresses::Addresses, desired::{Mounts, NodeRegistries}, management::Management, owner::Owner, refs::Manifest};
use crate::{api::{local_cluster::DataLoss, names}, child::state::NodeConfig, docker::{engine::Container, spec::{ContainerSpec, NetworkSpec, VolumeSpec}}, k3s::registries::{on_host, Auth, Mirrored, Registries, Scheme, REGISTRY_PORT}};

pub use allocation::allocate;
pub use build::{Basis, desired};
pub use image::{image, image_of};

