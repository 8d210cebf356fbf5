//! The command for people, `localcluster`.

pub mod client;
pub mod convert;
mod failure;
pub mod hub;
pub mod kubeconfig;
mod paint;
mod ports;
mod valid;

pub use failure::{Failure, Result, causes};
