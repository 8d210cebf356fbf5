//! Desired state of a LocalCluster on the Docker host: complete container specs from the valid spec, the referenced
//! objects and the allocation.

mod allocation;
mod build;
mod image;
mod load_balancer;
mod node;
mod pools;
mod subnet;

pub use allocation::allocate;
pub use build::{Basis, desired};
pub use image::{NodeImage, default_image, image, image_of};
pub use subnet::{choose, give_back};
