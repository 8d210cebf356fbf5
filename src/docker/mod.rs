//! The Docker Engine: the [`engine::Engine`] seam and, behind it, the only code that knows bollard.

pub mod engine;
pub mod error;
