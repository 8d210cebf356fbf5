//! Numbers of nodes in the status of a LocalCluster.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    api::{
        local_cluster::{AgentPoolStatus, NodePhase, NodeRole, NodeStatus, PoolStatus},
        names::{self, ClusterNames, Pool},
    },
    plan::desired::PoolSpec,
};

fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// Returns the numbers of nodes with a role. `serves` tells whether a node is ready.
pub(super) fn of_role(
    pools: &BTreeMap<Pool, PoolSpec>,
    role: NodeRole,
    nodes: &[NodeStatus],
    serves: impl Fn(&str) -> bool,
) -> PoolStatus {
    let desired =
        pools.iter().filter(|(pool, _)| pool.role() == role).map(|(_, spec)| spec.indexes.len()).sum();
    status(desired, nodes.iter().filter(|node| node.role == role), serves)
}

/// Returns the numbers of nodes of each pool of `spec.agentPools`, and of removed ones with nodes.
pub(super) fn named(
    pools: &BTreeMap<Pool, PoolSpec>,
    nodes: &[NodeStatus],
    serves: impl Fn(&str) -> bool,
) -> Vec<AgentPoolStatus> {
    let known = pools.keys().filter_map(Pool::name).chain(nodes.iter().filter_map(|n| n.pool.as_deref()));
    let names: BTreeSet<&str> = known.collect();
    let of = |name: &str| {
        let spec = pools.get(&Pool::Named(name.to_owned()));
        let its = nodes.iter().filter(|node| node.pool.as_deref() == Some(name));
        let PoolStatus { desired, replicas, ready, .. } =
            status(spec.map_or(0, |spec| spec.indexes.len()), its, &serves);
        AgentPoolStatus { name: name.to_owned(), desired, replicas, ready }
    };
    names.into_iter().map(of).collect()
}

fn status<'a>(
    desired: usize,
    nodes: impl Iterator<Item = &'a NodeStatus> + Clone,
    serves: impl Fn(&str) -> bool,
) -> PoolStatus {
    let stays = |node: &&NodeStatus| node.phase != NodePhase::Removing;
    let replicas = nodes.clone().filter(|node| node.container.is_some()).count();
    let ready = nodes.filter(stays).filter(|node| serves(&node.name)).count();
    PoolStatus::new(count(desired), count(replicas), count(ready))
}

/// Returns the number of agents that the scale subresource counts: it sets the count of `spec.agents`, so those of
/// `spec.agentPools` would never add up to it.
pub(super) fn scaled(nodes: &[NodeStatus]) -> i32 {
    let its =
        |node: &&NodeStatus| node.role == NodeRole::Agent && node.pool.is_none() && node.container.is_some();
    count(nodes.iter().filter(its).count())
}

/// Returns the label selector of the containers that the scale subresource counts.
pub(super) fn selector(names: &ClusterNames) -> String {
    format!("{}={},{}=agent,!{}", names::CLUSTER, names.cluster, names::ROLE, names::POOL)
}
