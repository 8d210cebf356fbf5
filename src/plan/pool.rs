//! Pools of LocalClusters and the claims that take them: what a pool creates and deletes, and which claim takes which
//! cluster.
//!
//! A cluster is of the pool or of the claim that its owner reference names; one write moves it from one to the other, if
//! it still has the version that was looked at. So it is never given twice, and a pool, which deletes only the version
//! that it has seen free, never deletes one that was taken meanwhile. Before that write, the claim names the cluster in
//! its status by another write of the same sort: an operator that was killed between the two, or whose last call is still
//! on its way, takes the same one again and no second one.

pub mod claims;
pub mod decide;
pub mod member;
pub mod template;
#[cfg(test)]
mod tests;
