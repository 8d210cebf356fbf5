//! Inputs of the plan of a LocalCluster, besides its desired state.

use super::{
    management::Management,
    observed::Observed,
    owner::Owner,
    refs::Refs,
    steps::{Plan, Record},
};

/// Inputs of a plan besides the desired state.
pub struct Inputs<'a> {
    /// The cluster's owner labels.
    pub owner: &'a Owner,
    /// The observed state.
    pub observed: &'a Observed,
    /// The contents of what the spec references.
    pub refs: &'a Refs,
    /// The management cluster's own Node.
    pub management: &'a Management,
    /// The servers that contained the data of the cluster when it was last observed.
    pub holders: &'a [String],
    /// The reset of etcd that a user asks for.
    pub reset: Request<'a>,
    /// The repairs of nodes so far.
    pub repairs: &'a Record,
    /// Time after which the node of a NotReady Node is repaired; `None` disables repairs.
    pub repair_after: Option<jiff::SignedDuration>,
    /// The time, which only bounds how long something may take.
    pub now: jiff::Timestamp,
}

/// A request to reset etcd.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// The server that the annotation names.
    pub asked: Option<&'a str>,
    /// The server that it named when etcd was last reset by it. While it goes on to do so, nothing is reset again.
    pub done: Option<&'a str>,
}

impl<'a> Request<'a> {
    pub fn due(self) -> Option<&'a str> {
        self.asked.filter(|asked| self.done != Some(asked))
    }

    /// Returns the request to record in the status after a plan.
    pub fn told(self, plan: &Plan) -> Option<&'a str> {
        self.asked.filter(|asked| self.done == Some(asked) || plan.reset.as_deref() == Some(*asked))
    }
}
