//! Replacement of outdated nodes and removal of surplus agents.

use std::{collections::BTreeSet, net::IpAddr};

use super::{
    cluster::Cluster,
    hold::blocked,
    lifecycle::{drained, remove_node},
    survey::Survey,
};
use crate::{
    api::{condition::ConditionType, local_cluster::NodeRole, names::Pool, reason::Reason},
    child::state::Node,
    plan::{containers::condition_of, desired::NodeSpec, servers::Servers, steps::Plan},
};

/// Plans the replacement of outdated nodes: servers first, then agents. `after` contains the steps that reconfigure the
/// load balancer.
pub fn replace(
    plan: &mut Plan,
    cluster: &Cluster<'_>,
    servers: &Servers<'_>,
    survey: &Survey<'_>,
    after: &[usize],
) {
    for node in &survey.outdated {
        let NodeSpec { container, .. } = node;
        let other = cluster.own(&container.name).is_some_and(|d| d.container.image != container.image);
        let (reason, what) = if other {
            (Reason::Upgrading, format!("upgrading {} to the image {}", container.name, container.image))
        } else {
            (Reason::Updating, format!("replacing {}: its spec changed", container.name))
        };
        plan.waits(condition_of(container.role), reason, what);
    }
    if !servers.roll(plan, &survey.outdated, after) {
        replace_agents(plan, cluster, survey, after);
    }
}

/// Plans the replacement of outdated agents: all that are not ready, and of the others of each pool as many as may be
/// unavailable.
fn replace_agents(plan: &mut Plan, cluster: &Cluster<'_>, survey: &Survey<'_>, after: &[usize]) {
    let Cluster { inputs, site, .. } = *cluster;
    let mut rooms = survey.room(cluster.desired);
    let why = "its spec changed";
    // A node that is being drained already counts.
    let drains =
        |node: &NodeSpec| cluster.node(&node.container.name).is_some_and(|n| n.draining_since.is_some());
    let (drained_now, others): (Vec<&NodeSpec>, Vec<&NodeSpec>) =
        survey.outdated.iter().copied().partition(|node| drains(node));
    for node in drained_now.into_iter().chain(others) {
        if blocked(plan, cluster, node) {
            continue;
        }
        let name = &node.container.name;
        let Some(health) = cluster.health(name) else { continue };
        let ready = health.is_ready();
        let Some(room) = rooms.get_mut(&node.pool) else { continue };
        if !ready && (inputs.observed.child.state().is_some() || !site.is_placed(health.detail)) {
            site.replace(plan, &node.container, after, why);
        } else if *room > 0 && ready {
            *room -= 1;
            if drained(plan, cluster, name, ConditionType::AgentsReady) {
                site.replace(plan, &node.container, after, why);
            }
        }
    }
}

/// Plans the removal of surplus agents: drained, stopped, their Nodes and passwords deleted, then their containers
/// and volumes.
pub fn remove(plan: &mut Plan, cluster: &Cluster<'_>, after: &[usize]) {
    for name in surplus(cluster) {
        plan.waits(ConditionType::AgentsReady, Reason::Scaling, format!("removing {name}"));
        if !cluster.is_reachable() {
            let message = format!("waiting for the API of the cluster before removing {name}");
            plan.waits(ConditionType::AgentsReady, Reason::Scaling, message);
            continue;
        }
        if cluster.is_ready(&name) && !drained(plan, cluster, &name, ConditionType::AgentsReady) {
            continue;
        }
        remove_node(plan, cluster, &name, after, "it is a surplus agent");
    }
}

/// Returns the names of surplus agents of which a container, a Node or a volume exists.
fn surplus(cluster: &Cluster<'_>) -> BTreeSet<String> {
    let Cluster { desired, inputs, .. } = *cluster;
    let is_agent = |name: &str| {
        desired.surplus(name).map(|(pool, _)| pool).filter(|pool| pool.role() == NodeRole::Agent)
    };
    let containers = inputs.observed.own.values().map(|d| d.container.name.as_str());
    // Users may have joined Nodes with such names from elsewhere: a pool that does not exist proves nothing.
    let ours = |(name, node): &(&String, &Node)| {
        let address = |ip: &IpAddr| matches!(ip, IpAddr::V4(ip) if desired.addresses.is_registry(*ip));
        !matches!(is_agent(name), Some(Pool::Named(_))) || node.addresses.iter().any(address)
    };
    let nodes = cluster.state().into_iter().flat_map(|state| &state.nodes);
    let nodes = nodes.filter(ours).map(|(name, _)| name.as_str());
    let volumes = inputs.observed.volumes.iter().filter(|v| inputs.owner.owns(&v.labels));
    let volumes = volumes.filter_map(|v| v.name.rsplit_once('-')).map(|(node, _)| node);
    let surplus = containers.chain(nodes).chain(volumes).filter(|name| is_agent(name).is_some());
    surplus.map(str::to_owned).collect()
}
