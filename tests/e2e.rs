//! End to end: what users see of the operator, by kubectl, docker and Pods that run, on the test world.
//!
//! `make e2e` brings the world up and runs this; `cargo test --test e2e -- drift` runs what has "drift" in its name.

use std::process::ExitCode;

#[path = "e2e/changes.rs"]
mod changes;
#[path = "e2e/cluster.rs"]
mod cluster;
#[path = "e2e/deletion.rs"]
mod deletion;
#[path = "e2e/drift.rs"]
mod drift;
#[path = "e2e/idle.rs"]
mod idle;
#[path = "e2e/kills.rs"]
mod kills;
#[path = "support/live.rs"]
mod live;
#[path = "support/live_harness.rs"]
mod live_harness;
#[path = "support/live_operator.rs"]
mod live_operator;
#[path = "support/live_proxy.rs"]
mod live_proxy;
#[path = "support/live_scene.rs"]
mod live_scene;
#[path = "e2e/process.rs"]
mod process;
#[path = "e2e/registry.rs"]
mod registry;
#[path = "e2e/rights.rs"]
mod rights;
#[path = "e2e/secrets.rs"]
mod secrets;
#[path = "e2e/trouble.rs"]
mod trouble;

fn main() -> ExitCode {
    live_harness::main(&[
        cluster::GROUP,
        trouble::GROUP,
        registry::GROUP,
        deletion::GROUP,
        rights::GROUP,
        kills::GROUP,
        process::GROUP,
    ])
}
