//! What a LocalCluster wants on the Docker host: from the valid spec, what it refers to and what was allocated to
//! complete container specs.

mod allocation;
mod build;
mod image;

pub use allocation::allocate;
pub use build::{Basis, desired};
pub use image::{image, image_of};
