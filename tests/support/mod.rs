//! What the tests of the planner and of the reconcile share: a model of the world, a driver of the pure core, and
//! fakes of what the operator talks to.

// Every test binary compiles all of it and uses its own part.
#![allow(dead_code)]

pub mod fakes;
pub mod model;
