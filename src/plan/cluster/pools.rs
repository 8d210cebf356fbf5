//! Allocation of the addresses of agents of `spec.agentPools`.
//!
//! Agents of `spec.agents` have addresses by their number. Those of pools cannot, since pools come, go and grow: each gets a
//! free address when it is created, and keeps it while it exists. Its container shows it, and the status after the
//! container was removed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use crate::{
    api::{condition::ConditionType, names::Pool, reason::Reason},
    plan::{addresses::Addresses, observed::Host, steps::Plan, subject::Subject},
};

/// Returns the addresses by node. Adds a problem if there are not enough: the other nodes do not depend on it.
pub fn allocate(
    plan: &mut Plan,
    subject: &Subject<'_>,
    observed: &Host,
    addresses: Addresses,
) -> BTreeMap<String, Ipv4Addr> {
    let Subject { valid, previous, .. } = *subject;
    let named = valid.nodes().filter(|(pool, _)| matches!(pool, Pool::Named(_)));
    let wanted: Vec<(String, Pool, usize)> =
        named.map(|(pool, index)| (valid.names.node_of(&pool, index), pool, index)).collect();
    if wanted.is_empty() {
        return BTreeMap::new();
    }
    let mut given: BTreeMap<String, Ipv4Addr> = BTreeMap::new();
    for (name, ..) in &wanted {
        let Some(own) = observed.own_named(name) else { continue };
        let pinned = own.container.networks.values().filter_map(|place| place.pinned);
        if let Some(ip) =
            pinned.into_iter().find(|ip| addresses.is_registry(*ip) && !given.values().any(|o| o == ip))
        {
            given.insert(name.clone(), ip);
        }
    }
    let attached = observed.containers.iter().map(|c| &c.networks);
    let attached = attached.chain(observed.own.values().map(|d| &d.container.networks));
    let mut taken: BTreeSet<Ipv4Addr> = attached
        .flat_map(|networks| networks.values().flat_map(|place| [place.pinned, place.ip]))
        .flatten()
        .collect();
    for (name, ..) in &wanted {
        let known = previous.nodes.iter().find(|node| node.name == *name && !given.contains_key(name));
        let known: Option<Ipv4Addr> = known.and_then(|node| node.ip.as_ref()?.parse().ok());
        if let Some(ip) = known.filter(|ip| addresses.is_registry(*ip) && taken.insert(*ip)) {
            given.insert(name.clone(), ip);
        }
    }
    for (name, pool, index) in &wanted {
        if given.contains_key(name) {
            continue;
        }
        let Some(ip) =
            addresses.of_pool(pool.name().unwrap_or_default(), *index).find(|ip| taken.insert(*ip))
        else {
            let message = format!(
                "{name} is not created: no address of {} is free for it; lower a count in spec.agentPools, or create \
                 a cluster with a larger spec.network.subnet",
                addresses.subnet
            );
            plan.stalls(ConditionType::AgentsReady, Reason::AddressPoolExhausted, message);
            continue;
        };
        given.insert(name.clone(), ip);
    }
    given
}
