//! A LocalCluster before Docker is observed in detail: plain values.

use jiff::Timestamp;

use super::{owner::Owner, refs::Refs, settings::Settings, steps::Problem, validate::Valid};
use crate::api::LocalClusterStatus;

/// A LocalCluster under reconciliation, with everything that is known before Docker is observed in detail.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The valid spec.
    pub valid: &'a Valid,
    /// Owner labels of the cluster.
    pub owner: &'a Owner,
    /// Settings of the operator.
    pub settings: &'a Settings,
    /// The contents of what the spec references.
    pub refs: &'a Refs,
    /// Why nothing may be created or replaced, see [`policy`](super::policy).
    pub frozen: Option<&'a Problem>,
    /// Last status.
    pub previous: &'a LocalClusterStatus,
    /// Generation of the object.
    pub generation: i64,
    /// Server that the annotation `localcluster.dev/reset-quorum` names.
    pub reset_quorum: Option<&'a str>,
    /// Current time, which only limits durations.
    pub now: Timestamp,
}
