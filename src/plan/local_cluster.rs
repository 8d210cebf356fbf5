//! The plan for a LocalCluster: network and volumes, load balancer, servers, agents, registries.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    cluster::{Desired, NodeSpec, Refs},
    containers::{Owner, Site, Standing, right_place, short, taken},
    desired::{ContainerSpec, Endpoint, VolumeSpec},
    nodes,
    observed::Observed,
    steps::{Action, Plan, Target},
};
use crate::{
    api::{
        condition::{reasons, types},
        local_cluster::NodeRole,
        names,
    },
    docker::engine::{Container, Network, State},
    k3s,
};

/// What a plan is made of, besides what is desired.
pub struct Inputs<'a> {
    /// The cluster's owner labels.
    pub owner: &'a Owner,
    /// What there is.
    pub observed: &'a Observed,
    /// What the spec refers to.
    pub refs: &'a Refs,
    /// The name of the management cluster's Node that the operator runs on.
    pub node_name: Option<&'a str>,
    /// The time, which only bounds how long Pods may take to leave a node.
    pub now: jiff::Timestamp,
}

/// What has to be done so that there is what is desired.
pub fn plan(plan: &mut Plan, desired: &Desired, inputs: &Inputs<'_>) {
    let Inputs { owner, observed, .. } = *inputs;
    let Some(network) = network(plan, desired, owner, observed) else {
        plan.unjudged = Some(types::REGISTRIES_READY);
        // Images and volumes need no network, and pulls are what takes longest.
        let site = Site { owner, observed, network: None };
        for spec in desired.servers.iter().take(1).map(|s| &s.container).chain([&desired.load_balancer]) {
            site.has_image(plan, spec);
        }
        if reset(plan, desired, inputs).is_none() {
            for node in desired.servers.iter().chain(&desired.agents) {
                volumes(plan, node, owner, observed, &[]);
            }
        }
        return;
    };
    let site = Site { owner, observed, network: Some(&network.id) };
    registries(plan, desired, inputs, network);
    balancer(plan, desired, inputs, &site);
    if reset(plan, desired, inputs).is_some() {
        plan.waits(
            types::CONTROL_PLANE_READY,
            reasons::CREATING,
            "the servers' data is gone: making the cluster anew",
        );
        plan.waits(
            types::AGENTS_READY,
            reasons::CREATING,
            "the servers' data is gone: making the cluster anew",
        );
        return;
    }
    nodes::plan(plan, desired, inputs, &site);
}

/// The cluster's network; `None` while it has to be made.
fn network<'a>(
    plan: &mut Plan,
    desired: &Desired,
    owner: &Owner,
    observed: &'a Observed,
) -> Option<&'a Network> {
    let spec = &desired.network;
    let mut own: Vec<&Network> = observed.networks.iter().filter(|n| owner.owns(&n.labels)).collect();
    // A call whose reply was lost may have made a second one: engines before API 1.44 allow two of one name.
    let used = |n: &Network| observed.own.values().any(|d| d.container.networks.contains_key(&n.id));
    // The engine cuts trailing zeros off, so that times do not sort as text.
    own.sort_by_key(|n| (!used(n), n.created.parse::<jiff::Timestamp>().ok(), n.id.clone()));
    for surplus in own.iter().skip(1).filter(|n| !used(n)) {
        let remove = Action::RemoveNetwork { id: surplus.id.clone(), name: surplus.name.clone() };
        plan.step(remove, &[], "there were two");
    }
    if let Some(first) = own.first() {
        return Some(first);
    }
    if let Some(foreign) = observed.networks.iter().find(|n| n.name == spec.name) {
        plan.stalls(types::NETWORK_READY, reasons::NAME_CONFLICT, taken("network", &spec.name, &foreign.id));
        return None;
    }
    plan.waits(types::NETWORK_READY, reasons::CREATING, format!("the network {} is being made", spec.name));
    plan.step(Action::CreateNetwork(spec.clone()), &[], "it did not exist");
    None
}

/// Plans a node's missing volumes after the steps `after`; answers the steps, or `None` where a name is somebody
/// else's.
pub fn volumes(
    plan: &mut Plan,
    node: &NodeSpec,
    owner: &Owner,
    observed: &Observed,
    after: &[usize],
) -> Option<Vec<usize>> {
    let condition = super::containers::condition_of(node.container.role);
    let mut steps = Vec::new();
    for spec in &node.volumes {
        match observed.volumes.iter().find(|v| v.name == spec.name) {
            Some(v) if owner.owns(&v.labels) => {}
            Some(_) => {
                plan.stalls(condition, reasons::NAME_CONFLICT, taken("volume", &spec.name, &spec.name));
                return None;
            }
            None => steps.push(plan.step(Action::CreateVolume(spec.clone()), after, "")),
        }
    }
    Some(steps)
}

/// Whether a volume of a node is there.
pub fn has_volume(spec: &[VolumeSpec], kind: &str, observed: &Observed) -> bool {
    let suffix = format!("-{kind}");
    let Some(wanted) = spec.iter().find(|v| v.name.ends_with(&suffix)) else { return false };
    observed.volumes.iter().any(|v| v.name == wanted.name)
}

/// When all of the servers' data is gone, agents of the lost cluster must not meet the new one: they hold
/// certificates of a CA that no longer exists. Plans their removal, before any new server data is made; `None` when
/// there is nothing to remove.
fn reset(plan: &mut Plan, desired: &Desired, inputs: &Inputs<'_>) -> Option<()> {
    let Inputs { owner, observed, .. } = *inputs;
    let lost = desired.servers.iter().all(|s| {
        !has_volume(&s.volumes, k3s::STATE_VOLUME, observed)
            && !observed.own.values().any(|d| d.container.name == s.container.name)
    });
    let prefix = desired.names.node_prefix(NodeRole::Agent);
    let agents: Vec<&Container> =
        observed.own.values().map(|d| &d.container).filter(|c| c.name.starts_with(&prefix)).collect();
    let volumes: Vec<_> =
        observed.volumes.iter().filter(|v| owner.owns(&v.labels) && v.name.starts_with(&prefix)).collect();
    if !lost || (agents.is_empty() && volumes.is_empty()) {
        return None;
    }
    let why = "the cluster that it belonged to is gone with its servers' data";
    let removed: Vec<usize> = agents
        .iter()
        .map(|c| {
            let container = Target { name: c.name.clone(), id: Some(c.id.clone()) };
            plan.step(Action::RemoveContainer { container }, &[], why)
        })
        .collect();
    for volume in volumes {
        plan.step(Action::RemoveVolume { name: volume.name.clone() }, &removed, why);
    }
    Some(())
}

/// The network on which the management cluster's own Node is reached, when it is a container of this engine.
pub fn management_network(observed: &Observed, node_name: Option<&str>, own_network: &str) -> Option<String> {
    let node = observed
        .containers
        .iter()
        .find(|c| Some(c.name.as_str()) == node_name && c.state == State::Running)?;
    let mut reachable = node.networks.iter().filter(|(id, place)| *id != own_network && place.ip.is_some());
    reachable.next().map(|(id, _)| id.clone())
}

/// Plans the load balancer. It is replaced at once when its ports change: it holds nothing, and no node notices.
fn balancer(plan: &mut Plan, desired: &Desired, inputs: &Inputs<'_>, site: &Site<'_>) {
    let spec = &desired.load_balancer;
    let further: Vec<(String, Endpoint)> =
        management_network(inputs.observed, inputs.node_name, site.network.unwrap_or_default())
            .into_iter()
            .map(|id| (id, Endpoint::default()))
            .collect();
    if site.converge(plan, spec, &further, &[], None) == Standing::Outdated && site.has_image(plan, spec) {
        site.replace(plan, spec, &further, &[], "its published ports or its image changed");
    }
}

/// Plans the connections of the registries in use, and the disconnection of those no longer in use.
fn registries(plan: &mut Plan, desired: &Desired, inputs: &Inputs<'_>, network: &Network) {
    let Inputs { observed, refs, .. } = *inputs;
    let attached: Vec<(&Container, _)> =
        observed.containers.iter().filter_map(|c| Some((c, c.networks.get(&network.id)?))).collect();
    let mut taken: BTreeSet<_> = attached.iter().filter_map(|(_, p)| p.pinned.or(p.ip)).collect();
    let mut used = BTreeSet::new();
    for registry in &refs.registries {
        if !registry.ready {
            plan.waits(
                types::REGISTRIES_READY,
                reasons::REGISTRY_NOT_READY,
                format!("the Registry {} is not ready: {}", registry.name, registry.message),
            );
        }
        let Some(container) = observed
            .containers
            .iter()
            .find(|c| c.name == registry.hostname && registry.owner.owns(&c.labels))
        else {
            if registry.ready {
                let message = format!("the container of the Registry {} is missing", registry.name);
                plan.waits(types::REGISTRIES_READY, reasons::REGISTRY_NOT_READY, message);
            }
            continue;
        };
        used.insert(container.id.clone());
        let place = container.networks.get(&network.id);
        let pinned = place.and_then(|p| p.pinned).filter(|ip| desired.addresses.subnet.contains(ip));
        let Some(ip) = pinned.or_else(|| desired.addresses.free_registry(&taken)) else {
            plan.stalls(
                types::REGISTRIES_READY,
                reasons::ADDRESS_POOL_EXHAUSTED,
                format!("the subnet {} has no address left for registries", desired.addresses.subnet),
            );
            continue;
        };
        taken.insert(ip);
        // Docker resolves the container's name, which is the registry's, on every network but the default one.
        let endpoint = Endpoint { ip: Some(ip), aliases: Vec::new() };
        if place.is_some_and(|p| right_place(p, &endpoint, container.state == State::Running)) {
            continue;
        }
        let target = Target { name: container.name.clone(), id: Some(container.id.clone()) };
        let mut after = Vec::new();
        if place.is_some() {
            let off = Action::Disconnect { network: network.id.clone(), container: target.clone() };
            after.push(plan.step(off, &[], ""));
        }
        let on = Action::Connect { network: network.id.clone(), container: target, endpoint };
        plan.step(on, &after, format!("the cluster uses the Registry {}", registry.name));
        let message = format!("the Registry {} is being connected", registry.name);
        plan.waits(types::REGISTRIES_READY, reasons::REGISTRY_NOT_READY, message);
    }
    for (container, _) in attached {
        let registry = container.labels.get(names::ROLE).is_some_and(|r| r == "registry");
        let managed = container.labels.get(names::MANAGER) == Some(&inputs.owner.manager);
        if registry && managed && !used.contains(&container.id) {
            let target = Target { name: container.name.clone(), id: Some(container.id.clone()) };
            let off = Action::Disconnect { network: network.id.clone(), container: target };
            plan.step(off, &[], "the cluster no longer uses it");
        }
    }
}

/// Why nodes must not be started for the first time yet.
pub fn hold(refs: &Refs) -> Option<(&'static str, String)> {
    let waiting = refs.registries.iter().find(|r| !r.ready || r.host_port.is_none())?;
    Some((reasons::REGISTRY_NOT_READY, format!("it starts when the Registry {} is ready", waiting.name)))
}

/// Plans the removal of everything that `owner` owns, told by labels alone, from whatever state. Networks are freed
/// of strangers first, which otherwise stay as they are. Volumes for which `keep` is true stay.
pub fn teardown(plan: &mut Plan, owner: &Owner, observed: &Observed, keep: impl Fn(&str) -> bool) {
    let mut gone: BTreeMap<&str, usize> = BTreeMap::new();
    let why = "its object was deleted";
    for container in observed.containers.iter().filter(|c| owner.owns(&c.labels)) {
        if container.state == State::Removing {
            plan.waits(types::READY, reasons::DELETING, format!("{} is being removed", container.name));
            continue;
        }
        let target = Target { name: container.name.clone(), id: Some(container.id.clone()) };
        gone.insert(&container.id, plan.step(Action::RemoveContainer { container: target }, &[], why));
    }
    let containers: Vec<usize> = gone.values().copied().collect();
    for network in observed.networks.iter().filter(|n| owner.owns(&n.labels)) {
        let mut after = containers.clone();
        for stranger in &observed.containers {
            if stranger.networks.contains_key(&network.id) && !owner.owns(&stranger.labels) {
                let container = Target { name: stranger.name.clone(), id: Some(stranger.id.clone()) };
                let off = Action::Disconnect { network: network.id.clone(), container };
                after.push(plan.step(off, &[], "the cluster's network is removed"));
            }
        }
        let remove = Action::RemoveNetwork { id: network.id.clone(), name: network.name.clone() };
        plan.step(remove, &after, why);
    }
    for volume in observed.volumes.iter().filter(|v| owner.owns(&v.labels) && !keep(&v.name)) {
        plan.step(Action::RemoveVolume { name: volume.name.clone() }, &containers, why);
    }
    if !plan.steps.is_empty() {
        plan.waits(types::READY, reasons::DELETING, format!("removing {} Docker objects", plan.steps.len()));
    }
}

/// The container of a spec, for messages.
pub fn describe(spec: &ContainerSpec, observed: &Observed) -> String {
    let id = observed
        .own
        .values()
        .find(|d| d.container.name == spec.name)
        .map(|d| short(&d.container.id).to_owned());
    match id {
        Some(id) => format!("{} ({id})", spec.name),
        None => spec.name.clone(),
    }
}
