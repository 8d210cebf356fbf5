//! A LocalCluster as a reconcile knows it before it looks at Docker in detail: plain values.

use jiff::Timestamp;

use super::{owner::Owner, refs::Refs, settings::Settings, validate::Valid};
use crate::api::LocalClusterStatus;

/// A LocalCluster under reconciliation, with everything that is known of it before Docker is looked at in detail.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The valid spec.
    pub valid: &'a Valid,
    /// Owner labels of the cluster.
    pub owner: &'a Owner,
    /// The operator's settings.
    pub settings: &'a Settings,
    /// The contents of what the spec references.
    pub refs: &'a Refs,
    /// The last status.
    pub previous: &'a LocalClusterStatus,
    /// The object's generation.
    pub generation: i64,
    /// The server that the annotation `localcluster.dev/reset-quorum` names.
    pub reset_quorum: Option<&'a str>,
    /// The time, which only bounds how long something may take.
    pub now: Timestamp,
}
