//! The command for people, `localcluster`.

mod adoptable;
pub mod client;
pub mod convert;
pub mod engine;
mod failure;
pub mod hub;
pub mod kubeconfig;
mod paint;
mod ports;
pub mod redact;
mod valid;

pub use crate::docker::error::causes;
pub use failure::{Failure, Result};
