//! The record of the repairs of nodes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::local_cluster::NodeRepairs;

/// Repairs of a node since it was last Ready for long enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repairs {
    /// Number of repairs.
    pub count: u32,
    /// Start of the last repair.
    pub last: Timestamp,
}

impl Repairs {
    /// Returns the repairs for a status.
    pub fn reported(&self) -> NodeRepairs {
        NodeRepairs { count: self.count.try_into().unwrap_or(i32::MAX), last: Some(Time(self.last)) }
    }
}

/// Repairs by node name.
pub type Record = BTreeMap<String, Repairs>;
