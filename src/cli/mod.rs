//! The command for people, `localcluster`.

pub mod kubeconfig;
