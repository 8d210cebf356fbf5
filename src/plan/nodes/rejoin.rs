//! Rejoin of nodes that the cluster does not accept under their name: a node that lost its password, or one that never
//! reported.

use super::{
    cluster::Cluster,
    lifecycle::{NOT_JOINED, restart},
};
use crate::{
    api::reason::Reason,
    child::state::Node,
    docker::engine::ContainerDetail,
    plan::{
        containers::condition_of,
        desired::NodeSpec,
        inputs::Inputs,
        servers::leases,
        steps::{Action, Plan},
    },
};

/// Plans the rejoin of a node that lost its node password, adds a problem, and returns the step. K3s rejects a node
/// with another password under the name of its Node (k3s-io/k3s#802). The Node of an etcd member is kept, since the
/// member would be removed with it.
pub fn with_new_password(plan: &mut Plan, cluster: &Cluster<'_>, node: &NodeSpec) -> Option<usize> {
    let name = &node.container.name;
    let registered = cluster.node(name)?;
    let message = format!("{name} lost its node password: rejoining it with a new one");
    plan.waits(condition_of(node.container.role), Reason::NodePasswordLost, message);
    Some(accept(plan, name, registered, "its node password is lost", cluster.inputs))
}

/// Plans the rejoin of a node under its name: its Node and password are deleted if they exist, and the container is
/// restarted. The Node of the last voter is never deleted, since etcd cannot lose its only member: the node rejoins
/// with another password.
pub fn restarted(plan: &mut Plan, cluster: &Cluster<'_>, detail: &ContainerDetail) {
    let name = &detail.container.name;
    // This comes first: if this is the server, the API does not respond once it is stopped.
    let accepted = cluster.node(name).map(|node| accept(plan, name, node, "", cluster.inputs));
    restart(plan, detail, accepted.as_slice(), NOT_JOINED);
}

/// Plans that the cluster accepts a node with another password, and returns the step.
fn accept(plan: &mut Plan, name: &str, registered: &Node, why: &str, inputs: &Inputs<'_>) -> usize {
    match registered.voter {
        Some(_) => plan.step(Action::ForgetPassword { node: name.to_owned() }, &[], why),
        None => leases::delete_node(plan, name, &[], why, inputs),
    }
}
