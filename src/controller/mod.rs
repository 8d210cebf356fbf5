//! The shell round the pure core: watches, reconciles and reports.

pub mod backoff;
pub mod context;
pub mod credentials;
pub mod execute;
pub mod files;
pub mod kube_io;
pub mod local_cluster;
pub mod observe;
pub mod probe;
pub mod pulls;
pub mod reach;
pub mod reconcile;
pub mod registry;
pub mod report;
pub mod resolve;
pub mod triggers;
mod wiring;

pub use wiring::{Error, run};
