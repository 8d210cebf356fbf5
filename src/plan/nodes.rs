//! Plan of the nodes of a cluster: their containers, and their membership in the created cluster.
//!
//! Servers come before agents, since a kubelet must not be newer than its API server. Nodes are drained and replaced
//! one at a time, agents as many at a time as the spec allows; an agent that does not work is replaced at once.

pub mod cluster;
pub mod health;
pub mod hold;
pub mod lifecycle;
pub mod repair;
pub mod volumes;

mod agents;
mod converge;
mod judge;
mod rejoin;
mod survey;

use cluster::Cluster;
use survey::Survey;

use super::{
    servers::{Servers, leases},
    steps::Plan,
};

/// Plans all nodes of the cluster. `after` contains the steps that reconfigure the load balancer: nodes leave after
/// them.
pub fn plan(plan: &mut Plan, cluster: &Cluster<'_>, mut servers: Servers<'_>, after: &[usize]) {
    let survey = Survey::new(plan, cluster, &mut servers);
    agents::replace(plan, cluster, &servers, &survey, after);
    repair::plan(plan, cluster, &servers, &survey.current);
    servers.shrink(plan, after);
    agents::remove(plan, cluster, after);
    if cluster.state().is_some_and(|state| state.nodes.values().any(|n| n.leaving && !n.left)) {
        leases::release(plan, cluster.inputs);
    }
}
