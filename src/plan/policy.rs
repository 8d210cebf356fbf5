//! HostPolicies: which one applies to a namespace, what it allows of a spec, and what it allows of each step.
//!
//! A spec is judged as a whole, for a message that says what to change ([`judge`]). The steps are judged again when they
//! are planned ([`restrain`]) and when they are executed ([`permit`]), by what they do and not by the field that they come
//! from: what a later field leads to is refused too.

pub mod access;
pub mod admission;
pub mod check;
pub mod host_images;
pub mod judge;
pub mod parse;
pub mod pattern;
pub mod permit;
pub mod restrain;
pub mod rules;
pub mod select;
pub mod standing;
pub mod stop;
pub mod term;
pub mod usage;
