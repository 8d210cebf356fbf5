//! Docker networks of the user that the containers of a cluster join besides their own network, `spec.network.join`.
//!
//! A network must consent, see [`consent`]. It is never changed but for the endpoints of the cluster's own containers. These
//! have a name of the operator on it, so that a connection that a user made is not taken away.
//!
//! The default route of the nodes must stay on their own network: K3s and flannel take the address of a node from it. An
//! engine from version 28 on has a priority for that; earlier ones take the first network by name.
//!
//! A container on such a network may have the name of the load balancer there, and K3s sends a bare token to whoever answers.
//! Until the CA of the cluster is known, which then is part of the token, nothing is connected.

use super::{
    consent,
    desired::Desired,
    inputs::Inputs,
    steps::{Action, Plan, Target},
};
use crate::{
    api::{condition::ConditionType, names, reason::Reason},
    docker::{
        engine::{Network, State},
        spec::EndpointSettings,
    },
};

/// The only driver whose networks are on the same host and have the host between them and others.
pub const DRIVER: &str = "bridge";
/// First version of Docker with priorities of networks.
const PRIORITIES: u32 = 28;

/// Reports whether the objects of a namespace may join a network.
pub fn allows(network: &Network, namespace: &str) -> bool {
    network.driver == DRIVER && consent::given(&network.labels, namespace)
}

/// Plans that the running containers of the cluster join the networks that the spec names, and leave those that it no longer
/// names. Adds a problem for each network that cannot be joined. Containers on it stay on it.
///
/// A container is connected after its start, so that none stays down for want of a network of others.
pub fn plan(plan: &mut Plan, desired: &Desired, inputs: &Inputs<'_>) {
    leave(plan, desired, inputs);
    for name in &desired.join {
        match find(name, desired, inputs) {
            Ok(network) => join(plan, network, desired, inputs),
            Err(why) => {
                let message = format!("spec.network.join: {why}");
                plan.stalls(ConditionType::NetworkReady, Reason::NotAllowed, message);
            }
        }
    }
}

/// Plans that the load balancer and all nodes that run join a network.
fn join(plan: &mut Plan, network: &Network, desired: &Desired, inputs: &Inputs<'_>) {
    let name = &network.name;
    let known = inputs.refs.ca_hash.is_some();
    let names = &desired.names;
    let joins = |name: &str| names.parse_node(name).is_some() || *name == names.load_balancer();
    let missing = inputs
        .observed
        .own
        .values()
        .map(|detail| &detail.container)
        .filter(|c| c.state == State::Running && joins(&c.name) && !c.networks.contains_key(&network.id));
    for container in missing {
        if !known {
            let message = format!(
                "waiting for the first server before joining {name}: the CA of the cluster is unknown"
            );
            plan.waits(ConditionType::NetworkReady, Reason::Pending, message);
            return;
        }
        let message = format!("connecting {} to the network {name}", container.name);
        plan.waits(ConditionType::NetworkReady, Reason::Updating, message);
        // What is about to be replaced or restarted is connected then.
        if plan.steps.iter().all(|step| step.action.subject() != container.name) {
            let on = Action::Connect {
                network: network.id.clone(),
                container: Target::of(container),
                endpoint: EndpointSettings::joined(),
            };
            plan.step(on, &[], "spec.network.join names the network");
        }
    }
}

/// Returns the network with this name, or why it cannot be joined. Nothing is told of a network that does not consent.
fn find<'a>(name: &str, desired: &Desired, inputs: &Inputs<'a>) -> Result<&'a Network, String> {
    let (observed, namespace) = (inputs.observed, inputs.owner.namespace());
    let named = observed.networks.iter().filter(|n| n.name == name && allows(n, namespace));
    let Some(network) = named.min_by_key(|n| &n.id) else {
        return Err(format!(
            "no Docker network {name} with the driver {DRIVER} allows the namespace {namespace}; create one with `docker \
             network create {} {name}`. Labels of an existing network cannot be changed; remove it first",
            consent::option(namespace)
        ));
    };
    let overlap = |subnet| Some((subnet, desired.networks.overlapping(subnet)?));
    if let Some((subnet, inner)) = network.subnets.iter().copied().find_map(overlap) {
        return Err(format!(
            "the subnet {subnet} of {name} overlaps {inner}, the Pod or Service network of the cluster, so its containers \
             cannot be reached; use a network with another subnet"
        ));
    }
    let own = &desired.network.name;
    if takes_route(name, own, &observed.engine.version) {
        return Err(format!(
            "{name} would have the default route of the nodes, since it comes before {own}, and Docker {} takes the first \
             network by name; update Docker to version {PRIORITIES}, or use a network whose name comes after {own}",
            observed.engine.version
        ));
    }
    Ok(network)
}

/// Reports whether a network would take the default route of the nodes from their own network.
fn takes_route(name: &str, own: &str, version: &str) -> bool {
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    major.is_none_or(|major| major < PRIORITIES) && name < own
}

/// Plans that the containers of the cluster leave the networks that they joined and that the spec no longer names.
fn leave(plan: &mut Plan, desired: &Desired, inputs: &Inputs<'_>) {
    for detail in inputs.observed.own.values() {
        let container = &detail.container;
        // Docker reports success for a disconnect without effect while it restarts a container.
        if matches!(container.state, State::Restarting | State::Removing | State::Dead) {
            continue;
        }
        for (network, place) in &container.networks {
            let joined = place.aliases.iter().any(|alias| alias == names::JOINED);
            let exists = inputs.observed.networks.iter().any(|n| n.id == *network);
            if joined && exists && !desired.join.contains(&place.network_name) {
                let off = Action::Disconnect { network: network.clone(), container: Target::of(container) };
                plan.step(off, &[], "spec.network.join no longer names the network");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_route_stays_on_the_own_network() {
        for version in ["28.0.0", "29", "29.1.3-rd", "100.0"] {
            assert!(!takes_route("a", "k3d-dev", version), "{version}");
        }
        for version in ["27.5.1", "20.10.24", "", "dev"] {
            assert!(takes_route("a", "k3d-dev", version), "{version}");
            assert!(takes_route("Shared", "k3d-dev", version), "{version}");
            assert!(!takes_route("shared", "k3d-dev", version), "{version}");
        }
    }
}
