//! What the tests of the planner and of the reconcile share: a model of the world, a driver of the pure core, and
//! fakes of what the operator talks to.

// Every test binary compiles all of it and uses its own part.
#![allow(dead_code)]

pub mod check;
pub mod fake_api;
pub mod fake_engine;
pub mod faults;
pub mod interfere;
pub mod k3s;
pub mod lab;
pub mod observe;
pub mod rig;
pub mod scenario;
pub mod script;
pub mod world;
