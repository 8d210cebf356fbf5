//! Inputs of the plan of a LocalCluster, besides its desired state.

use super::{
    management::Management,
    observed::Observed,
    owner::Owner,
    refs::Refs,
    steps::{Plan, Problem, Record},
};

/// Inputs of a plan besides the desired state.
pub struct Inputs<'a> {
    /// Owner labels of the cluster.
    pub owner: &'a Owner,
    /// The observed state.
    pub observed: &'a Observed,
    /// The contents of what the spec references.
    pub refs: &'a Refs,
    /// Why nothing may be created or replaced, see [`policy`](super::policy).
    pub frozen: Option<&'a Problem>,
    /// Node of the management cluster.
    pub management: &'a Management,
    /// The servers that contained the data of the cluster when it was last observed.
    pub holders: &'a [String],
    /// Requested reset of etcd.
    pub reset: Request<'a>,
    /// Repairs of nodes so far.
    pub repairs: &'a Record,
    /// Time after which the node of a NotReady Node is repaired; `None` disables repairs.
    pub repair_after: Option<jiff::SignedDuration>,
    /// Current time, which only limits durations.
    pub now: jiff::Timestamp,
}

/// A request to reset etcd.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// The server that the annotation names.
    pub asked: Option<&'a str>,
    /// The server that it named when it last triggered a reset. While it names the same server, nothing is reset
    /// again.
    pub done: Option<&'a str>,
}

impl<'a> Request<'a> {
    /// Returns the server to reset etcd to, if that was not done yet.
    pub fn due(self) -> Option<&'a str> {
        self.asked.filter(|asked| self.done != Some(asked))
    }

    /// Returns the request to record in the status after a plan.
    pub fn recorded(self, plan: &Plan) -> Option<&'a str> {
        self.asked.filter(|asked| self.done == Some(asked) || plan.reset.as_deref() == Some(*asked))
    }
}
