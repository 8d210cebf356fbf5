//! The shell round the pure core: watches, reconciles and reports.

mod act;
pub mod backoff;
mod balance;
mod carry_out;
pub mod context;
pub mod credentials;
mod details;
pub mod execute;
mod expiry;
pub mod files;
mod hang;
pub mod known;
pub mod kube_io;
pub mod local_cluster;
pub mod manifests;
pub mod observe;
pub mod own_registry;
pub mod pace;
pub mod panics;
mod pass;
mod ports;
pub mod preload;
pub mod probe;
pub mod pulls;
pub mod reach;
pub mod reconcile;
pub mod references;
pub mod registry;
mod registry_refs;
pub mod report;
pub mod resolve;
mod stopped;
pub mod triggers;
pub mod turns;
mod wiring;

pub use wiring::{Error, run};
