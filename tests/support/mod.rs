//! What the tests of the planner and of the reconcile share: a model of the world, and a driver of the pure core.

// Every test binary compiles all of it and uses its own part.
#![allow(dead_code)]

pub mod check;
pub mod interfere;
pub mod k3s;
pub mod lab;
pub mod observe;
pub mod script;
pub mod world;
