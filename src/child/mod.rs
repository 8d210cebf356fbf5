//! The API of the created cluster, the second system that is observed and acted on.

pub mod api;
mod call;
pub mod config;
pub mod connect;
pub mod error;
pub mod etcd;
pub mod kube;
pub mod kubeconfig;
mod limits;
pub mod nodes;
mod objects;
pub mod path;
pub mod state;
