//! The command for people, `localcluster`.

pub mod hub;
pub mod kubeconfig;
