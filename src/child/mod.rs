//! The created cluster's own API: the second thing that is observed and acted on.

pub mod api;
pub mod config;
pub mod connect;
pub mod kube;
pub mod kubeconfig;
pub mod nodes;
mod objects;
pub mod state;
