//! The Docker Engine: the [`engine::Engine`] interface and its implementation, the only code that uses bollard.

pub mod archive;
mod attach;
pub mod bollard;
pub mod client;
pub mod convert;
pub mod direct;
mod download;
pub mod elf;
mod endpoints;
pub mod engine;
pub mod error;
pub mod events;
pub mod fault;
pub mod host;
mod images;
pub mod listener;
mod listing;
mod output;
mod pipe;
mod pull;
pub mod remembered;
pub mod share;
pub mod spec;
mod tls;
pub mod tunnel;
pub mod tunnels;
