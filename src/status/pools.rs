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

#[cfg(test)]
mod tests {
    use super::*;

    /// A node of a pool, by the name of one in `spec.agentPools`, or by its role; with a container, unless it is missing.
    fn node(name: &str, pool: &str, phase: NodePhase) -> NodeStatus {
        let role = if pool == "server" { NodeRole::Server } else { NodeRole::Agent };
        NodeStatus {
            name: name.into(),
            role,
            pool: (!matches!(pool, "server" | "agent")).then(|| pool.into()),
            phase,
            container: (phase != NodePhase::Pending).then(|| "1".into()),
            ..NodeStatus::default()
        }
    }

    fn spec(indexes: &[usize]) -> PoolSpec {
        PoolSpec { indexes: indexes.iter().copied().collect(), max_unavailable: 1 }
    }

    #[test]
    fn nodes_are_counted_by_their_role_and_by_their_pool() {
        let pools = BTreeMap::from([
            (Pool::Servers, spec(&[0])),
            (Pool::Agents, spec(&[0, 1, 2])),
            (Pool::Named("gpu".into()), spec(&[4, 7])),
            (Pool::Named("new".into()), spec(&[0])),
        ]);
        let nodes = [
            node("s0", "server", NodePhase::Ready),
            node("a0", "agent", NodePhase::Ready),
            node("a1", "agent", NodePhase::Outdated),
            node("a2", "agent", NodePhase::Pending),
            node("a3", "agent", NodePhase::Removing),
            node("g4", "gpu", NodePhase::Ready),
            node("g7", "gpu", NodePhase::NotRunning),
            node("o0", "old", NodePhase::Removing),
        ];
        // Those that are removed serve to the end, and count no more.
        let serves = |name: &str| !matches!(name, "a2" | "g7");
        let of = |role| of_role(&pools, role, &nodes, serves);
        assert_eq!(of(NodeRole::Server), PoolStatus::new(1, 1, 1));
        assert_eq!(of(NodeRole::Agent), PoolStatus::new(6, 6, 3));
        let counts: Vec<_> = named(&pools, &nodes, serves)
            .into_iter()
            .map(|pool| (pool.name, pool.desired, pool.replicas, pool.ready))
            .collect();
        let expected = [("gpu", 2, 2, 1), ("new", 1, 0, 0), ("old", 0, 1, 0)];
        assert_eq!(counts, expected.map(|(name, a, b, c)| (name.to_owned(), a, b, c)));
        assert_eq!(scaled(&nodes), 3, "agents of spec.agents with a container");
        let selector = selector(&ClusterNames::new("k3d-dev"));
        let labels = [names::CLUSTER, names::ROLE, names::POOL];
        assert_eq!(selector, format!("{}=k3d-dev,{}=agent,!{}", labels[0], labels[1], labels[2]));
    }
}
