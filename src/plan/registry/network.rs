//! The network of a registry, which nothing else is on: containers on one network reach all ports of each other, and the
//! registries of two namespaces have nothing to do with each other. The clusters that use a registry connect it to theirs.
//!
//! Containers of earlier operators are on Docker's default network, which all of them share. They stay there until they are
//! replaced for another reason: Docker publishes the ports of a container on one of its networks, so a running one that is
//! moved loses all connections through them.

use super::{Desired, Inputs, Subject};
use crate::{
    api::{condition::ConditionType, names, reason::Reason},
    docker::{
        engine::{ContainerDetail, State},
        spec::{Addressing, NetworkSpec},
    },
    plan::{
        addresses,
        containers::Site,
        networks,
        steps::{Action, Plan},
    },
};

/// Reports whether an earlier operator created the container, on Docker's default network.
fn is_earlier(detail: &ContainerDetail) -> bool {
    !detail.container.labels.contains_key(names::NETWORK)
}

/// Reports whether the container was on Docker's default network, and is on no network any more. It is replaced.
pub fn has_lost_default(detail: &ContainerDetail) -> bool {
    let still = matches!(detail.container.state, State::Created | State::Exited | State::Running);
    is_earlier(detail) && detail.has_no_network && still
}

/// Returns the ID of the network that the container belongs on, and `Some(None)` if the one that it has, or has not, stays.
/// `None` if the network has to be created first. `kept` is true if the container need not be created.
pub fn plan(plan: &mut Plan, desired: &Desired, inputs: &Inputs<'_>, kept: bool) -> Option<Option<String>> {
    let Inputs { subject: Subject { owner, .. }, observed } = *inputs;
    let name = &desired.container.name;
    let own = observed.own_named(name).filter(|_| kept);
    if own.is_some_and(is_earlier) {
        plan.warnings.push(format!(
            "the container {name} is on Docker's default network, where other containers reach all of its ports: an \
             earlier version of the operator created it there, and it stays until it is replaced; remove it with \
             `docker rm -f {name}` to have it created again on a network of its own, with the same images and port"
        ));
        return Some(None);
    }
    if let Some(network) = networks::existing(plan, owner, observed) {
        return Some(Some(network.id.clone()));
    }
    create(plan, desired, inputs);
    // Pulls take longest.
    if !kept {
        Site { owner, observed, network: None, further: &[] }.has_image(plan, &desired.container);
    }
    // The clusters that use it reach a container that lost its network.
    own.is_some_and(|d| d.container.state == State::Running && !d.has_no_network).then_some(None)
}

fn create(plan: &mut Plan, desired: &Desired, inputs: &Inputs<'_>) {
    let Inputs { subject, observed } = *inputs;
    let mut labels = subject.owner.labels();
    labels.insert(names::APP.into(), "k3d".into());
    labels.insert(names::ROLE.into(), names::REGISTRY_ROLE.into());
    let name = names::registry_network(&desired.container.name);
    let spec = NetworkSpec { name, addressing: None, labels };
    if !networks::is_free(plan, &spec, subject.owner, observed, ConditionType::ContainerReady) {
        return;
    }
    let settings = subject.settings;
    let addressing = match settings
        .network_pool
        .filter(|pool| settings.pool_required || pool.prefix_len() < 24)
    {
        // In a pool of a single /24, a registry would leave no room for a cluster.
        None => None,
        Some(pool) => {
            let known = settings.known_addresses().into_iter().map(|(ip, _)| ip.into());
            let (avoided, refused): (Vec<_>, _) = (known.collect(), &subject.refused.subnets);
            let uid = &subject.owner.uid;
            let free = addresses::free_small_subnet(pool, &observed.networks, &avoided, refused, uid);
            let Some(subnet) = free else {
                let message = format!(
                    "no free subnet: every /28 of the network pool {pool} is in use; delete a cluster or a registry, \
                     or widen --network-pool"
                );
                plan.stalls(ConditionType::ContainerReady, Reason::AddressPoolExhausted, message);
                return;
            };
            let gateway = subnet.hosts().next().unwrap_or_else(|| subnet.network());
            Some(Addressing { subnet, gateway, ip_range: subnet })
        }
    };
    plan.step(Action::CreateNetwork(NetworkSpec { addressing, ..spec }), &[], networks::MISSING);
}
