//! Fakes of what the operator talks to, with a fault at any call.

pub mod api;
pub mod engine;
pub mod faults;
pub mod kubernetes;
pub mod process;
pub mod rig;
