//! The network of an object: the only one that it owns, and the name that it needs.

use super::{
    observed::Host,
    owner::{Owner, taken},
    steps::{Action, Plan},
};
use crate::{
    api::{condition::ConditionType, reason::Reason},
    docker::{engine::Network, spec::NetworkSpec},
};

/// Reason in Events for the creation of a network.
pub const MISSING: &str = "it did not exist";

/// Returns the network of the object, and plans the removal of duplicates.
pub fn existing<'a>(plan: &mut Plan, owner: &Owner, observed: &'a Host) -> Option<&'a Network> {
    let mut own: Vec<&Network> = observed.networks.iter().filter(|n| owner.owns_network(n)).collect();
    // A call without a reply may have created a second network: engines before API 1.44 allow duplicate names.
    let used = |n: &Network| observed.own.values().any(|d| d.container.networks.contains_key(&n.id));
    // The engine omits trailing zeros, so times do not sort as text.
    own.sort_by_key(|n| (!used(n), n.created.parse::<jiff::Timestamp>().ok(), n.id.clone()));
    for surplus in own.iter().skip(1).filter(|n| !used(n)) {
        plan.step(Action::remove(surplus), &[], "it is a duplicate");
    }
    own.first().copied()
}

/// Reports whether a missing network may be created: no other one has its name. Adds a problem either way.
pub fn is_free(
    plan: &mut Plan,
    spec: &NetworkSpec,
    owner: &Owner,
    observed: &Host,
    condition: ConditionType,
) -> bool {
    let name = &spec.name;
    let Some(foreign) = observed.networks.iter().find(|n| n.name == *name) else {
        plan.waits(condition, Reason::Creating, format!("creating the network {name}"));
        return true;
    };
    let message = taken(owner, "network", name, &foreign.id, &foreign.labels);
    plan.stalls(condition, Reason::NameConflict, message);
    false
}
