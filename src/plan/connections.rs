//! Containers on the network of a cluster besides its own: the registries in use.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use super::{
    consent,
    containers::right_place,
    desired::Desired,
    inputs::Inputs,
    observed::Observed,
    owner::Owner,
    refs::UsedRegistry,
    steps::{Action, Plan, Target},
};
use crate::{
    api::{condition::ConditionType, names, reason::Reason},
    child::state,
    docker::{
        engine::{Attachment, Container, Network, State},
        spec::EndpointSettings,
    },
    k3s::dns,
};

/// Plans the connection of registries in use and the disconnection of those no longer in use. Returns the names of
/// the registries on the network, each with its current or planned address.
pub fn plan(
    plan: &mut Plan,
    desired: &Desired,
    inputs: &Inputs<'_>,
    network: &Network,
) -> BTreeMap<String, Option<Ipv4Addr>> {
    let taken = attached(inputs.observed, network).filter_map(|(_, p)| p.pinned.or(p.ip));
    // Agents of `spec.agentPools` that are about to be created share their range.
    let taken = taken.chain(desired.agents.iter().filter_map(|agent| agent.container.endpoint.ip)).collect();
    let mut table = Table {
        desired,
        inputs,
        network,
        taken,
        used: BTreeSet::new(),
        addresses: BTreeMap::new(),
        resolved: resolved(desired, inputs),
    };
    for registry in &inputs.refs.registries {
        table.use_registry(plan, registry);
    }
    for name in &desired.foreign_registries {
        table.use_foreign(plan, name);
    }
    table.leave_unknown();
    table.disconnect_unused(plan);
    table.addresses
}

/// Returns the containers on the network of the cluster.
fn attached<'a>(
    observed: &'a Observed,
    network: &'a Network,
) -> impl Iterator<Item = (&'a Container, &'a Attachment)> {
    observed.containers.iter().filter_map(|c| Some((c, c.networks.get(&network.id)?)))
}

/// Reports whether an unmanaged container may be connected. The Node of the management cluster never is.
fn is_allowed(container: &Container, inputs: &Inputs<'_>) -> bool {
    let management = inputs.management.container(inputs.observed, &inputs.owner.manager);
    let management = management.is_some_and(|c| c.id == container.id);
    !management && consent::connects(&container.labels, inputs.owner.namespace())
}

/// Reports whether an object in another namespace, or the cluster itself, owns the resource with these labels.
fn is_of_others(labels: &BTreeMap<String, String>, owner: &Owner) -> bool {
    let managed = labels.get(names::MANAGER) == Some(&owner.manager);
    managed && (owner.owns(labels) || names::owner_namespace(labels) != Some(owner.namespace()))
}

/// Returns the message about a container that does not exist or does not allow this namespace; see [`consent`].
fn refusal(name: &str, namespace: &str) -> String {
    format!(
        "spec.registries.containers: no container {name} on this Docker host allows the namespace {namespace}; {}. \
         For a Registry object, use spec.registries.use",
        instead(namespace)
    )
}

fn instead(namespace: &str) -> String {
    format!(
        "recreate it with `docker run {} …`, since labels of an existing container cannot be changed, or remove it \
         from the list",
        consent::option(namespace)
    )
}

/// Reports whether a container is waiting for Docker to restart it. Docker then reports success for a disconnect
/// without effect; the container is evaluated again after its start.
fn is_between(container: &Container) -> bool {
    container.state == State::Restarting
}

/// Returns the addresses that CoreDNS has for the registries in use. Recreated containers get them back in any order
/// of creation: CoreDNS takes half a minute to load another one.
fn resolved(desired: &Desired, inputs: &Inputs<'_>) -> BTreeMap<String, Ipv4Addr> {
    let Some(state) = inputs.observed.child.state() else { return BTreeMap::new() };
    let held = state.config.get(&state::DNS).map(|held| dns::parse(&held.content)).unwrap_or_default();
    let registries = inputs.refs.registries.iter().map(|r| &r.hostname);
    let used: BTreeSet<&String> = registries.chain(&desired.foreign_registries).collect();
    let ours = |(name, ip): (String, IpAddr)| match ip {
        IpAddr::V4(ip) if used.contains(&name) && desired.addresses.is_registry(ip) => Some((name, ip)),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    };
    held.into_iter().filter_map(ours).collect()
}

/// The registries on the network of a cluster, and their addresses.
struct Table<'a> {
    desired: &'a Desired,
    inputs: &'a Inputs<'a>,
    network: &'a Network,
    /// Addresses in use.
    taken: BTreeSet<Ipv4Addr>,
    /// IDs of the containers that the cluster uses.
    used: BTreeSet<String>,
    /// Current or planned addresses by name.
    addresses: BTreeMap<String, Option<Ipv4Addr>>,
    /// Addresses that CoreDNS has.
    resolved: BTreeMap<String, Ipv4Addr>,
}

impl Table<'_> {
    /// Plans the connection of a Registry. Adds a problem if it is not ready.
    fn use_registry(&mut self, plan: &mut Plan, registry: &UsedRegistry) {
        let its = |c: &&Container| c.name == registry.hostname && registry.owner.owns(&c.labels);
        let container = self.inputs.observed.containers.iter().find(its);
        let name = &registry.name;
        if registry.by_default {
            if let Some(container) = container.filter(|c| self.has_room(c)) {
                self.connect(plan, container, &format!("the Registry {name} of its HostPolicy"));
            }
            return;
        }
        self.addresses.insert(registry.hostname.clone(), None);
        let why = match (&registry.trouble, container) {
            (Some(trouble), None) => Some(format!("waiting for the Registry {name}: {trouble}")),
            (None, None) => Some(format!("waiting for the Registry {name}: it has no container yet")),
            (Some(trouble), Some(_)) => Some(format!("the Registry {name} is not ready: {trouble}")),
            (None, Some(c)) if c.state != State::Running => {
                Some(format!("the container {} of the Registry {name} is not running", c.name))
            }
            (None, Some(_)) => None,
        };
        if let Some(message) = why {
            plan.waits(ConditionType::RegistriesReady, Reason::RegistryNotReady, message);
        }
        if let Some(container) = container {
            self.connect(plan, container, &format!("the Registry {name}"));
        }
    }

    /// Reports whether a container is on the network, or there is an address for it.
    fn has_room(&self, container: &Container) -> bool {
        container.networks.contains_key(&self.network.id) || self.free(&container.name).is_some()
    }

    /// Plans the connection of an unmanaged container if it may be connected. Adds a problem if it may not be, or is
    /// not running.
    fn use_foreign(&mut self, plan: &mut Plan, name: &str) {
        let Inputs { owner, observed, .. } = *self.inputs;
        let namespace = owner.namespace();
        self.addresses.entry(name.to_owned()).or_default();
        let container = observed.containers.iter().find(|c| c.name == name);
        let allowed = container.filter(|c| is_allowed(c, self.inputs));
        // A container that was connected before consent was required stays connected until it is removed from the
        // spec. Registries of other namespaces always required consent, and may have withdrawn it.
        let before = container
            .filter(|c| c.networks.contains_key(&self.network.id) && !is_of_others(&c.labels, owner));
        let Some(container) = allowed.or(before) else {
            plan.stalls(ConditionType::RegistriesReady, Reason::NotAllowed, refusal(name, namespace));
            return;
        };
        if container.state != State::Running {
            let message = format!("the container {name} is not running; start it with `docker start {name}`");
            plan.waits(ConditionType::RegistriesReady, Reason::RegistryNotReady, message);
        }
        if allowed.is_some() {
            self.connect(plan, container, &format!("the registry in container {name}"));
        } else {
            plan.warnings.push(format!(
                "the container {name} does not allow the namespace {namespace}: it stays on the network of the \
                 cluster, but is not reconnected; {}",
                instead(namespace)
            ));
            self.leave(container);
        }
    }

    /// Leaves the containers of Registries that were not found where they are.
    fn leave_unknown(&mut self) {
        let Inputs { observed, owner, refs, .. } = *self.inputs;
        let unknown = |c: &&Container| {
            let managed = c.labels.get(names::MANAGER) == Some(&owner.manager);
            let registry = names::is_registry(&c.labels);
            managed
                && registry
                && c.labels.get(names::OWNER).is_some_and(|o| refs.unknown_registries.contains(o))
        };
        for container in observed.containers.iter().filter(unknown) {
            self.leave(container);
        }
    }

    /// Plans the disconnection of registries that the cluster no longer uses.
    fn disconnect_unused(&self, plan: &mut Plan) {
        let owner = self.inputs.owner;
        for (container, place) in attached(self.inputs.observed, self.network) {
            let registry = names::is_registry(&container.labels);
            let managed = container.labels.get(names::MANAGER) == Some(&owner.manager);
            // Docker allocates addresses of the other half: an address in this range was assigned by the operator.
            let placed = place.pinned.or(place.ip).is_some_and(|ip| self.desired.addresses.is_registry(ip));
            let ours = owner.owns(&container.labels);
            let stays = ours || is_between(container) || self.used.contains(&container.id);
            if !stays && ((registry && managed) || placed) {
                let target = Target::of(container);
                let off = Action::Disconnect { network: self.network.id.clone(), container: target };
                plan.step(off, &[], "the cluster no longer uses it");
            }
        }
    }

    /// Returns an address for a registry: its previous one, or one that no container uses and CoreDNS does not
    /// contain.
    fn free(&self, name: &str) -> Option<Ipv4Addr> {
        if let Some(had) = self.resolved.get(name).filter(|ip| !self.taken.contains(ip)) {
            return Some(*had);
        }
        let known: BTreeSet<Ipv4Addr> = self.taken.iter().chain(self.resolved.values()).copied().collect();
        let addresses = self.desired.addresses;
        addresses.free_registry(&known).or_else(|| addresses.free_registry(&self.taken))
    }

    /// Uses a container without connecting it.
    fn leave(&mut self, container: &Container) {
        let place = container.networks.get(&self.network.id);
        self.used.insert(container.id.clone());
        self.addresses.insert(container.name.clone(), place.and_then(|p| p.pinned.or(p.ip)));
    }

    fn connect(&mut self, plan: &mut Plan, container: &Container, what: &str) {
        if !self.used.insert(container.id.clone()) {
            return;
        }
        let addresses = self.desired.addresses;
        let place = container.networks.get(&self.network.id);
        let pinned = place.and_then(|p| p.pinned).filter(|ip| addresses.is_registry(*ip));
        let Some(ip) = pinned.or_else(|| self.free(&container.name)) else {
            let message = format!(
                "no free address for another registry in subnet {}; use fewer registries, or recreate the cluster \
                with a larger spec.network.subnet",
                addresses.subnet
            );
            plan.stalls(ConditionType::RegistriesReady, Reason::AddressPoolExhausted, message);
            return;
        };
        self.taken.insert(ip);
        self.addresses.insert(container.name.clone(), Some(ip));
        // Docker resolves the name of the container, which is that of the registry, on every network but the default
        // one.
        let endpoint = EndpointSettings::aside(ip);
        let right = place.is_some_and(|p| right_place(p, &endpoint, container.state == State::Running));
        if right || is_between(container) {
            return;
        }
        let target = Target::of(container);
        let mut after = Vec::new();
        if place.is_some() {
            let off = Action::Disconnect { network: self.network.id.clone(), container: target.clone() };
            after.push(plan.step(off, &[], ""));
        }
        let on = Action::Connect { network: self.network.id.clone(), container: target, endpoint };
        plan.step(on, &after, format!("the cluster uses {what}"));
        plan.waits(
            ConditionType::RegistriesReady,
            Reason::RegistryNotReady,
            format!("connecting {what} to the network of the cluster"),
        );
    }
}
