//! A Kubernetes operator that runs K3s clusters and image registries on a Docker host, declaratively.
//!
//! A reconciliation is a straight line; everything that decides is pure, everything that acts is simple:
//!
//! ```text
//! CR ──validate──▶ Valid ──desired──▶ Desired ───┐
//! refs (Secrets, Registries) ──resolve───────────┤
//! Docker, child API ──observe──▶ Observed ───────┴─plan──▶ Plan ──execute──▶ Report ──▶ status, Secrets, Events
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs)]
// For types other than numbers: their operators may panic where a method saturates, see `time`.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]
// A panic costs an object its reconciliation; tests may panic, as helpers outside of `#[test]` do.
#![cfg_attr(not(test), warn(clippy::panic, clippy::unwrap_used))]
// The limits are in clippy.toml.
#![cfg_attr(not(test), warn(clippy::too_many_lines))]

pub mod api;
pub mod child;
pub mod cli;
pub mod config;
pub mod controller;
pub mod docker;
pub mod k3s;
#[cfg(test)]
#[path = "../tests/support/fakes/kubernetes.rs"]
mod kubernetes;
pub mod lease;
pub mod metrics;
pub mod plan;
pub mod server;
pub mod status;
pub mod telemetry;
pub mod time;
