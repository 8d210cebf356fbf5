//! The created cluster's own API: the second thing that is observed and acted on.

pub mod api;
