//! The command line for people.

pub mod hub;
