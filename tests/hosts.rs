//! End-to-end tests of the operator for several Docker hosts: three engines and a management cluster with a Node on each,
//! which `tests/world/hosts` creates on one machine.
//!
//! `make hosts` creates them and runs the tests; `make hosts GROUPS="drain loss::a_test"` runs some.

use std::process::ExitCode;

#[path = "hosts/agents.rs"]
mod agents;
#[path = "hosts/drain.rs"]
mod drain;
#[path = "support/live/mod.rs"]
mod live;
#[path = "hosts/loss.rs"]
mod loss;
#[path = "hosts/placement.rs"]
mod placement;
#[path = "hosts/rack.rs"]
mod rack;
#[path = "hosts/sampler.rs"]
mod sampler;

fn main() -> ExitCode {
    live::harness::main(&[placement::GROUP, drain::GROUP, agents::GROUP, loss::GROUP], &[], &[])
}
