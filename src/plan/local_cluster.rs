//! Plan of a LocalCluster: network and volumes, load balancer, servers, agents, registries.

use std::collections::BTreeMap;

use super::{
    connections,
    containers::{GRACE, Site, Standing},
    desired::Desired,
    host_aliases,
    inputs::Inputs,
    inside, joined, manifests, mounts, networks,
    nodes::{self, cluster::Cluster, repair, volumes::volumes},
    observed::Host,
    owner::Owner,
    preload, registries, resolvers, rotation,
    servers::{self, Servers, data_loss, no_quorum, quorum_reset},
    steps::{Action, Plan, Target},
};
use crate::{
    api::{condition::ConditionType, local_cluster::NodeRole, names::ClusterNames, reason::Reason},
    child::state::{Child, REGISTRY_HOSTING},
    docker::{
        engine::{ContainerDetail, Network, State},
        spec::{ContainerSpec, EndpointSettings},
    },
    k3s::{registries::REGISTRY_PORT, registry_hosting::Advertised},
};

/// Plans the transition of a cluster to its desired state.
pub fn plan(plan: &mut Plan, desired: &Desired, inputs: &Inputs<'_>) {
    let Inputs { owner, observed, .. } = *inputs;
    plan.repairs = repair::begin(desired, inputs);
    let Some(network) = network(plan, desired, owner, observed) else {
        plan.unjudged = Some(ConditionType::RegistriesReady);
        // Images and volumes need no network, and pulls take longest.
        let site = Site { owner, observed, network: None, further: &[] };
        for spec in desired.servers.iter().take(1).map(|s| &s.container).chain([&desired.load_balancer]) {
            site.has_image(plan, spec);
        }
        if !data_loss::plan(plan, desired, inputs) {
            // Further servers join one at a time, and a server with a volume counts as one with data.
            let servers = servers::existing(&desired.names, owner, observed, inputs.holders);
            let first = desired.servers.iter().take(1).filter(|_| servers.keys().all(|index| *index == 0));
            for node in first {
                volumes(plan, node, owner, observed, &[]);
            }
        }
        return;
    };
    let site = Site { owner, observed, network: Some(&network.id), further: &[] };
    let addresses = connections::plan(plan, desired, inputs, network);
    let balanced = balancer(plan, desired, inputs, &site);
    if data_loss::plan(plan, desired, inputs) {
        return;
    }
    let cluster = Cluster { desired, inputs, site: &site };
    let servers = Servers::new(cluster);
    if quorum_reset::plan(plan, &cluster, &servers) {
        return;
    }
    no_quorum::tell(plan, &servers);
    nodes::plan(plan, &cluster, servers, &balanced);
    preload::plan(plan, desired, inputs, &site);
    manifests::plan(plan, desired, inputs, &site);
    mounts::plan(plan, desired, inputs, &site);
    host_aliases::plan(plan, desired, inputs, &site);
    joined::plan(plan, desired, inputs);
    registries::judge_proxies(plan, desired, inputs, &site);
    if let Child::Reachable(state) = &observed.child {
        let advertised = inputs
            .refs
            .registries
            .iter()
            .find(|r| r.hosting && r.upstream.is_none())
            .map(|r| Advertised { hostname: r.hostname.clone(), port: REGISTRY_PORT, host: r.host() });
        let gateway = desired.addresses.gateway();
        let aliases = &desired.host_aliases;
        let mut wanted = inside::wanted(gateway, &addresses, aliases, advertised.as_ref(), state);
        if !inputs.refs.unknown_registries.is_empty() {
            // The advertised one may be a Registry that was not found.
            wanted.retain(|map| map.key != REGISTRY_HOSTING);
        }
        inside::plan(plan, &wanted, state, inputs.now);
    }
    rotation::plan(plan, desired, inputs);
}

/// Plans the stop of all containers of the cluster: agents before servers, so that their last reports arrive, and the
/// load balancer last. Servers stop one after another: an etcd leader transfers its leadership when it stops, and
/// waits up to 15 seconds for a member that is stopping too.
pub fn stop(plan: &mut Plan, names: &ClusterNames, observed: &Host) {
    let mut up: Vec<_> = observed.own.values().map(|d| &d.container).filter(|c| c.state.is_up()).collect();
    up.sort_by(|a, b| a.name.cmp(&b.name));
    let role = |name: &str| names.parse_node(name).map(|(pool, _)| pool.role());
    let mut last: Vec<usize> = Vec::new();
    for wanted in [Some(NodeRole::Agent), Some(NodeRole::Server), None] {
        let mut stopped = Vec::new();
        for container in up.iter().filter(|c| role(&c.name) == wanted) {
            let target = Target::of(container);
            let grace = if wanted.is_some() { GRACE } else { 0 };
            let step = plan.step(Action::Stop { container: target, grace }, &last, "spec.state is Stopped");
            if wanted == Some(NodeRole::Server) {
                last = vec![step];
            } else {
                stopped.push(step);
            }
            let message = format!("stopping {}", container.name);
            plan.waits(ConditionType::ControlPlaneReady, Reason::Stopping, message);
        }
        if !stopped.is_empty() {
            last = stopped;
        }
    }
}

/// Returns the network of the cluster; `None` while it does not exist.
fn network<'a>(plan: &mut Plan, desired: &Desired, owner: &Owner, observed: &'a Host) -> Option<&'a Network> {
    let choices = || observed.networks.iter().filter(|n| owner.owns_choice(n));
    if let Some(network) = networks::existing(plan, owner, observed) {
        for choice in choices() {
            plan.step(Action::remove(choice), &[], "");
        }
        return Some(network);
    }
    if networks::is_free(plan, &desired.network, owner, observed, ConditionType::NetworkReady) {
        // The subnet was read from them, and Docker creates no network on a subnet that one of them has.
        let freed: Vec<usize> = choices().map(|n| plan.step(Action::remove(n), &[], "")).collect();
        plan.step(Action::CreateNetwork(desired.network.clone()), &freed, networks::MISSING);
    }
    None
}

/// Plans the load balancer and returns its last step. It is replaced at once when its ports change: it has no state,
/// and no node is affected.
fn balancer(plan: &mut Plan, desired: &Desired, inputs: &Inputs<'_>, site: &Site<'_>) -> Vec<usize> {
    let spec = &desired.load_balancer;
    let own = site.network.unwrap_or_default();
    let shared = inputs.management.network(inputs.observed, &inputs.owner.manager, own);
    let further: Vec<(String, EndpointSettings)> =
        shared.into_iter().map(|id| (id, EndpointSettings::default())).collect();
    let site = &Site { further: &further, ..*site };
    let mut standing = site.converge(plan, spec, &[], None);
    if standing == Standing::Outdated && site.has_image(plan, spec) {
        if let Some(old) = site.own(&spec.name) {
            plan.waits(ConditionType::LoadBalancerReady, Reason::Updating, replacing(old, spec));
        }
        standing = site.replace(plan, spec, &[], "its published ports or its image changed");
    }
    if standing == Standing::Running
        && let Some(restarted) = resolvers::plan(plan, desired, inputs.observed)
    {
        standing = Standing::Changing(restarted);
    }
    for name in &desired.awaited {
        let message = format!(
            "waiting for {name} before published ports lead to it: its kube-proxy has not set up all Services yet, \
             or it does not reach the Pods of the other nodes"
        );
        plan.waits(ConditionType::LoadBalancerReady, Reason::Updating, message);
    }
    match standing {
        Standing::Changing(last) => vec![last],
        Standing::Running | Standing::Outdated | Standing::Blocked => Vec::new(),
    }
}

/// Returns the message about a load balancer that is being replaced. Docker starts and stops one process per port,
/// one after the other, which takes seconds for many ports.
fn replacing(old: &ContainerDetail, new: &ContainerSpec) -> String {
    let ports = |n: usize| if n == 1 { "1 port".to_owned() } else { format!("{n} ports") };
    format!(
        "replacing {} because its published ports or its image changed: Docker unpublishes {} and publishes {}, one \
         after the other; no port responds meanwhile, including that of the API",
        new.name,
        ports(old.wanted_ports.len()),
        ports(new.ports.len())
    )
}

/// Plans the removal of everything that `owner` owns according to its labels, from any state. Unmanaged containers
/// are disconnected from networks and otherwise left unchanged. Volumes for which `keep` returns true are kept.
pub fn teardown(plan: &mut Plan, owner: &Owner, observed: &Host, keep: impl Fn(&str) -> bool) {
    let mut gone: BTreeMap<&str, usize> = BTreeMap::new();
    let why = "the object was deleted";
    for container in observed.containers.iter().filter(|c| owner.owns(&c.labels)) {
        if container.state == State::Removing {
            plan.waits(
                ConditionType::Ready,
                Reason::Deleting,
                format!("waiting for Docker to remove {}", container.name),
            );
            continue;
        }
        let target = Target::of(container);
        gone.insert(&container.id, plan.step(Action::RemoveContainer { container: target }, &[], why));
    }
    let containers: Vec<usize> = gone.values().copied().collect();
    for network in observed.networks.iter().filter(|n| owner.owns(&n.labels)) {
        let mut after = containers.clone();
        for container in &observed.containers {
            if container.networks.contains_key(&network.id) && !owner.owns(&container.labels) {
                let container = Target::of(container);
                let off = Action::Disconnect { network: network.id.clone(), container };
                after.push(plan.step(off, &[], "the network is being removed"));
            }
        }
        plan.step(Action::remove(network), &after, why);
    }
    for volume in observed.volumes.iter().filter(|v| owner.owns(&v.labels) && !keep(&v.name)) {
        plan.step(Action::RemoveVolume { name: volume.name.clone() }, &containers, why);
    }
    if !plan.steps.is_empty() {
        plan.waits(
            ConditionType::Ready,
            Reason::Deleting,
            format!("removing {} Docker objects", plan.steps.len()),
        );
    }
}
