//! Survey of all nodes of a cluster, one after another: each is converged and judged.

use std::collections::BTreeMap;

use super::{
    cluster::Cluster,
    converge::converge,
    judge::{judge, judge_api, judge_pressure},
    volumes::has_volume,
};
use crate::{
    api::{condition::ConditionType, local_cluster::NodeRole, names::Pool, reason::Reason},
    docker::spec::Role,
    k3s,
    plan::{
        containers::Standing,
        desired::{Desired, NodeSpec, PoolSpec},
        servers::Servers,
        steps::Plan,
    },
};

/// Nodes by the state of their containers.
pub struct Survey<'a> {
    /// Nodes that must be replaced.
    pub outdated: Vec<&'a NodeSpec>,
    /// Nodes with containers that are as desired.
    pub current: Vec<&'a NodeSpec>,
    /// True if all servers and the API have no problems.
    settled: bool,
    /// Number of agents of each pool that are unavailable already.
    down: BTreeMap<&'a Pool, usize>,
}

impl<'a> Survey<'a> {
    /// Plans the convergence of all nodes, and adds their problems.
    pub fn new(plan: &mut Plan, cluster: &Cluster<'a>, servers: &mut Servers<'_>) -> Self {
        let mut survey =
            Self { outdated: Vec::new(), current: Vec::new(), settled: true, down: BTreeMap::new() };
        // Agents without a server are treated as those of a lost cluster, and removed.
        let mut rooted = false;
        for node in cluster.desired.nodes() {
            if node.container.role != Role::Node(NodeRole::Server) && !rooted {
                let message = "waiting for a server before creating agents";
                plan.waits(ConditionType::AgentsReady, Reason::Pending, message);
                break;
            }
            rooted |= survey.add(plan, cluster, servers, node);
        }
        // Replacement and repair do not depend on it: another spec may resolve it.
        survey.current.iter().for_each(|node| judge_pressure(plan, cluster, node));
        survey.settled &= judge_api(plan, cluster, &survey.current);
        survey
    }

    /// Adds a node, and reports whether it is a server that agents can join: it exists, or the plan creates it.
    fn add(
        &mut self,
        plan: &mut Plan,
        cluster: &Cluster<'_>,
        servers: &mut Servers<'_>,
        node: &'a NodeSpec,
    ) -> bool {
        let server = node.container.role == Role::Node(NodeRole::Server);
        let before = plan.problems.len();
        if server && servers.is_expelled(plan, node) {
            self.settled = false;
            return false;
        }
        let standing = converge(plan, cluster, servers, node);
        let root = server
            && (standing != Standing::Blocked
                || has_volume(&node.volumes, k3s::STATE_VOLUME, cluster.inputs.observed));
        if standing == Standing::Outdated {
            self.outdated.push(node);
            self.count(node, !server && !cluster.is_ready(&node.container.name));
            return root;
        }
        if !matches!(standing, Standing::Changing(_)) {
            self.current.push(node);
        }
        judge(plan, cluster, servers, node);
        if plan.problems.len() > before {
            self.settled &= !server;
            self.count(node, !server);
        }
        root
    }

    fn count(&mut self, node: &'a NodeSpec, down: bool) {
        *self.down.entry(&node.pool).or_default() += usize::from(down);
    }

    /// Returns the number of ready agents of each pool that may be replaced now.
    pub fn room(&self, desired: &'a Desired) -> BTreeMap<&'a Pool, usize> {
        let room = |(pool, spec): (&'a Pool, &PoolSpec)| {
            let down = self.down.get(pool).copied().unwrap_or_default();
            (pool, if self.settled { spec.max_unavailable.saturating_sub(down) } else { 0 })
        };
        desired.pools.iter().map(room).collect()
    }
}
