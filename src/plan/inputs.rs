//! Inputs of the plan of a LocalCluster, besides its desired state.

use super::{
    management::Management,
    observed::Observed,
    owner::Owner,
    refs::Refs,
    steps::{Plan, Record},
};

/// What a plan is made of, besides what is desired.
pub struct Inputs<'a> {
    /// The cluster's owner labels.
    pub owner: &'a Owner,
    /// What there is.
    pub observed: &'a Observed,
    /// What the spec refers to.
    pub refs: &'a Refs,
    /// The management cluster's own Node.
    pub management: &'a Management,
    /// The servers that the cluster's data was in when that could last be told.
    pub holders: &'a [String],
    /// The reset of etcd that a user asks for.
    pub reset: Request<'a>,
    /// The repairs of nodes so far.
    pub repairs: &'a Record,
    /// How long a Node may be NotReady before its node is repaired; `None` for ever.
    pub repair_after: Option<jiff::SignedDuration>,
    /// The time, which only bounds how long something may take.
    pub now: jiff::Timestamp,
}

/// What becomes of a reset.
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

    /// What the status remembers after a plan.
    pub fn told(self, plan: &Plan) -> Option<&'a str> {
        self.asked.filter(|asked| self.done == Some(asked) || plan.reset.as_deref() == Some(*asked))
    }
}
