//! Servers of a cluster as members of one etcd cluster: joins, replacement, removal, and loss of quorum.
//!
//! A single server stores its data in SQLite. As soon as a second one is desired, the first migrates its data to
//! etcd, and the others join one at a time: etcd supports one learner, and a member counts for the quorum once it is
//! added. No plan removes a voter while the remaining ones would lose quorum.

pub mod data_loss;
pub mod leases;
pub mod no_quorum;
pub mod quorum_reset;

mod health;
mod members;
mod membership;
mod rolling;
mod surplus;

use std::collections::BTreeMap;

pub use health::serving;
use health::{Evidence, ServerHealth};
pub use members::{
    NOT_JOINING, Server, existing, holders, in_etcd, is_known, is_made_for_etcd, join_file, joins,
};

use super::nodes::{cluster::Cluster, health::REPORT_LIMIT};
use crate::{
    api::local_cluster::NodeRole,
    child::state::ChildState,
    plan::steps::{Action, Plan},
    time::after,
};

/// Voters of a cluster of which most have lost their data.
#[derive(Clone, Debug)]
pub struct QuorumLoss<'a> {
    /// Servers that still have their data.
    pub left: Vec<&'a str>,
    /// Servers that lost their data.
    pub gone: Vec<&'a str>,
}

/// How a server is absent from etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// It is stopped and remains a voter. All servers that may be voters unreported count.
    Stopped,
    /// It was removed from etcd.
    Removed,
    /// It has no Node, and is a voter nevertheless.
    Unregistered,
}

/// Plan of the servers.
pub struct Servers<'a> {
    cluster: Cluster<'a>,
    evidence: Evidence<'a>,
    /// Health of the existing servers by index.
    existing: BTreeMap<usize, ServerHealth<'a>>,
    etcd: bool,
    /// The server that is joining, at most one at a time.
    joining: Option<String>,
}

impl<'a> Servers<'a> {
    /// Creates the plan of a cluster.
    pub fn new(cluster: Cluster<'a>) -> Self {
        let Cluster { desired, inputs, site } = cluster;
        let existing = existing(&desired.names, inputs.owner, inputs.observed, inputs.holders);
        let etcd = in_etcd(desired.servers.len(), &existing);
        let evidence = Evidence { observed: inputs.observed, network: site.network, etcd, now: inputs.now };
        let health = |(index, server)| {
            let name = desired.names.node(NodeRole::Server, index);
            (index, ServerHealth::of(evidence, &name, server))
        };
        let existing = existing.into_iter().map(health).collect();
        Self { cluster, evidence, existing, etcd, joining: None }
    }

    fn name(&self, index: usize) -> String {
        self.cluster.desired.names.node(NodeRole::Server, index)
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.cluster.desired.names.parse_server(name)
    }

    /// Returns the health of a server, even if only its Node exists.
    fn health(&self, name: &str) -> ServerHealth<'a> {
        let known = self.index(name).and_then(|index| self.existing.get(&index));
        let missing = Server { detail: None, data: false };
        known.copied().unwrap_or_else(|| ServerHealth::of(self.evidence, name, missing))
    }

    /// Reports whether changes of other servers need not wait for a server.
    fn is_dependable(&self, name: &str) -> bool {
        self.health(name).is_dependable(self.cluster.inputs.repairs.contains_key(name))
    }

    /// Returns the names of all existing servers.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.existing.keys().map(|index| self.name(*index))
    }

    /// Returns the health of all existing servers, except for one.
    fn others(&self, name: &str) -> impl Iterator<Item = (String, &ServerHealth<'a>)> {
        let own = self.index(name);
        let others = self.existing.iter().filter(move |(index, _)| Some(**index) != own);
        others.map(|(index, health)| (self.name(*index), health))
    }

    /// Reports whether there are at least two servers.
    pub fn are_several(&self) -> bool {
        self.existing.len() > 1
    }

    /// Reports whether a server is a member of an etcd cluster with other voters. The last voter remains a member
    /// without its Node.
    pub fn is_one_of_several(&self, name: &str) -> bool {
        let voter = self.cluster.node(name).and_then(|node| node.voter);
        voter.is_some_and(|voter| self.voters().is_some_and(|voters| voters > usize::from(voter)))
    }

    /// Returns the number of voters of etcd, if the API responds.
    fn voters(&self) -> Option<usize> {
        self.cluster.state().map(|state| state.voters().len())
    }

    /// Reports whether the other servers have quorum without one; `false` while the API does not respond. A server that the
    /// plan already takes away does not count: two that are taken by the same plan would be absent at the same time.
    pub fn has_quorum_without(&self, plan: &Plan, name: &str, absence: Absence) -> bool {
        let Some(reported) = self.cluster.state().map(ChildState::voters) else { return false };
        let count = reported.len();
        let voters = match absence {
            Absence::Stopped => {
                let uncounted =
                    |other: &str, h: &ServerHealth<'_>| h.may_vote_unreported && !reported.contains(other);
                count + self.others(name).filter(|(other, h)| uncounted(other, h)).count()
            }
            Absence::Removed => count - usize::from(reported.contains(name)),
            Absence::Unregistered => count + usize::from(!reported.contains(name)),
        };
        let counts = |other: &str, h: &ServerHealth<'_>| h.counts_for_quorum && !is_taken(plan, other);
        self.others(name).filter(|(other, h)| counts(other, h)).count() * 2 > voters
    }

    /// Returns the voters with and without data if most have lost their data.
    ///
    /// One that was started counts as a voter, since it joins as soon as it can. If it has not joined and cannot, the others
    /// may be all that is left of a quorum: then they have run without a leader for a while.
    pub fn quorum_loss(&self) -> Option<QuorumLoss<'a>> {
        if !self.etcd || self.cluster.is_reachable() || self.cluster.inputs.holders.len() < 2 {
            return None;
        }
        let has_data = |name: &str| self.health(name).has_data;
        let joined = |name: &str| !self.evidence.observed.without_data.contains(name);
        self.loss(has_data).or_else(|| {
            let loss = self.loss(|name| has_data(name) && joined(name))?;
            loss.left.iter().all(|name| self.lacks_leader_for_long(name)).then_some(loss)
        })
    }

    /// Returns the voters with and without data if most are without.
    fn loss(&self, has_data: impl Fn(&str) -> bool) -> Option<QuorumLoss<'a>> {
        let voters = self.cluster.inputs.holders;
        let (left, gone): (Vec<&str>, Vec<&str>) =
            voters.iter().map(String::as_str).partition(|name| has_data(name));
        (!left.is_empty() && left.len() <= voters.len() / 2).then_some(QuorumLoss { left, gone })
    }

    /// Reports whether the etcd of a server has no leader although it has run for long enough to elect one.
    fn lacks_leader_for_long(&self, name: &str) -> bool {
        let Evidence { observed, now, .. } = self.evidence;
        let started = self.health(name).detail.and_then(|d| d.started_at);
        observed.leaders.get(name) == Some(&false) && started.is_some_and(|at| now >= after(at, REPORT_LIMIT))
    }
}

/// Reports whether a plan stops a server, or removes it from etcd.
fn is_taken(plan: &Plan, name: &str) -> bool {
    plan.steps.iter().any(|step| match &step.action {
        Action::Stop { container, .. } => container.name == name,
        Action::LeaveEtcd { node } => node == name,
        _ => false,
    })
}
