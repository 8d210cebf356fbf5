//! Survey of all nodes of a cluster, one after another: each is converged and judged.

use super::{
    cluster::Cluster,
    converge::converge,
    judge::{judge, judge_api, judge_pressure},
    volumes::has_volume,
};
use crate::{
    api::{condition::ConditionType, local_cluster::NodeRole, reason::Reason},
    docker::spec::Role,
    k3s,
    plan::{containers::Standing, desired::NodeSpec, servers::Servers, steps::Plan},
};

/// Nodes by the state of their containers.
pub struct Survey<'a> {
    /// Nodes that must be replaced.
    pub outdated: Vec<&'a NodeSpec>,
    /// Nodes with containers that are as desired.
    pub current: Vec<&'a NodeSpec>,
    /// True if all servers and the API have no problems.
    settled: bool,
    /// Number of agents that are unavailable already.
    down: usize,
}

impl<'a> Survey<'a> {
    /// Plans the convergence of all nodes, and adds their problems.
    pub fn new(plan: &mut Plan, cluster: &Cluster<'a>, servers: &mut Servers<'_>) -> Self {
        let mut survey = Self { outdated: Vec::new(), current: Vec::new(), settled: true, down: 0 };
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
            self.down += usize::from(!server && !cluster.is_ready(&node.container.name));
            return root;
        }
        if !matches!(standing, Standing::Changing(_)) {
            self.current.push(node);
        }
        judge(plan, cluster, servers, node);
        if plan.problems.len() > before {
            self.settled &= !server;
            self.down += usize::from(!server);
        }
        root
    }

    /// Returns the number of ready agents that may be replaced now.
    pub fn room(&self, max_unavailable: usize) -> usize {
        if self.settled { max_unavailable.saturating_sub(self.down) } else { 0 }
    }
}
