//! The Docker Engine: the [`engine::Engine`] interface and its implementation, the only code that uses bollard.

pub mod archive;
pub mod bollard;
pub mod client;
pub mod convert;
pub mod engine;
pub mod error;
pub mod events;
pub mod fault;
mod output;
mod pipe;
mod pull;
pub mod spec;
