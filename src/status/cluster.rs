//! Status of a LocalCluster.

use std::collections::BTreeSet;

use super::{Moment, judge, pools};
use crate::{
    api::{
        LocalClusterStatus,
        condition::{self, ConditionType},
        local_cluster::{
            Endpoints, HostPort, NetworkStatus, NodePhase, NodeRole, NodeStatus, Protocol, UsedRegistryStatus,
        },
        reason::Reason,
    },
    docker::{engine::State, spec::PortBinding},
    k3s::API_PORT,
    plan::{
        cluster::image_of,
        containers::outdated,
        decide::Decision,
        default_registries,
        desired::{Allocation, Desired, NodeSpec},
        kubeconfig::{host_url, network_url},
        nodes::health::NodeHealth,
        observed::Observed,
        owner::short,
        ports, registries, servers,
        steps::{Plan, Problem, Repairs},
        subject::Subject,
    },
};

/// Conditions of a LocalCluster in the order in which `Ready` evaluates them: causes before effects.
pub(super) const CLUSTER: [ConditionType; 11] = [
    ConditionType::Accepted,
    ConditionType::ResolvedRefs,
    ConditionType::DockerReachable,
    ConditionType::NetworkReady,
    ConditionType::RegistriesReady,
    ConditionType::LoadBalancerReady,
    ConditionType::ControlPlaneReady,
    ConditionType::AgentsReady,
    ConditionType::ImagesReady,
    ConditionType::ManifestsReady,
    ConditionType::KubeconfigReady,
];

/// Returns the status of a LocalCluster that could not be observed: its spec is invalid, Docker does not respond, or
/// references are missing. `unknown` is the first condition that cannot be evaluated.
pub fn cluster_blocked(
    previous: &LocalClusterStatus,
    problems: &[Problem],
    unknown: ConditionType,
    moment: Moment,
) -> LocalClusterStatus {
    let mut status = previous.clone();
    // Repairs under another spec do not count.
    if status.observed_generation != Some(moment.generation) {
        status.nodes.iter_mut().for_each(|n| n.repairs = None);
    }
    status.observed_generation = Some(moment.generation);
    judge(&mut status.conditions, &CLUSTER, problems, Some(unknown), moment);
    status
}

/// Inputs of the status of a LocalCluster.
pub struct ClusterView<'a> {
    /// The cluster.
    pub subject: &'a Subject<'a>,
    /// The allocation.
    pub allocation: &'a Allocation,
    /// The desired state.
    pub desired: &'a Desired,
    /// The observed state.
    pub observed: &'a Observed,
    /// The decision.
    pub decision: &'a Decision,
    /// Problems of the decision and of failed steps.
    pub problems: &'a [Problem],
}

/// Returns the status of a LocalCluster.
pub fn cluster(previous: &LocalClusterStatus, view: &ClusterView<'_>, moment: Moment) -> LocalClusterStatus {
    let ClusterView { subject, allocation, desired, observed, decision, problems } = *view;
    let Subject { valid, .. } = *subject;
    let Plan { unjudged, forgets, .. } = decision.plan;
    let mut conditions = previous.conditions.clone();
    judge(&mut conditions, &CLUSTER, problems, unjudged, moment);
    condition::set(&mut conditions, ConditionType::Stopped, (false, Reason::NotStopped, ""), moment);
    super::surroundings::set(&mut conditions, view, moment);

    let nodes = nodes(view);
    let published = published(view);
    let api_port = api_port(view, published, previous);
    let wanted = &desired.load_balancer.ports;
    let ports = ports::reported(valid, allocation, wanted, published, &previous.ports);
    let endpoints = api_port.as_ref().map(|p| Endpoints {
        host: host_url(subject.settings, valid.server_name.as_deref(), &p.host_ip, p.host_port),
        network: network_url(allocation),
    });
    let version = nodes.iter().find_map(|n| n.version.clone());
    let first = desired.servers.first();
    // A node that is about to be replaced still serves.
    let serves =
        |name: &str| observed.own_named(name).is_some_and(|d| NodeHealth::of(d, observed).is_ready());
    let [servers, agents] =
        [NodeRole::Server, NodeRole::Agent].map(|role| pools::of_role(&desired.pools, role, &nodes, serves));
    LocalClusterStatus {
        observed_generation: Some(moment.generation),
        conditions,
        reason: None,
        voters: voters(view, previous),
        quorum_reset: subject.quorum_reset(decision).map(str::to_owned),
        expires_at: previous.expires_at.clone(),
        host: previous.host.clone(),
        host_ip: previous.host_ip.clone(),
        placeholder: previous.placeholder.clone(),
        effective: super::effective::of(previous, view),
        violation: previous.violation.clone(),
        version: version.or_else(|| previous.version.clone().filter(|_| !forgets)),
        image: first.and_then(|s| image_of(observed, &s.container.name)).or_else(|| previous.image.clone()),
        default_image: Some(desired.default_image.clone()),
        endpoint: endpoints.as_ref().map(|e| e.host.clone()),
        endpoints,
        kubeconfig_secret: decision.kubeconfig.secret.clone(),
        api_service: decision.service.clone(),
        kubeconfig: decision.kubeconfig.token.clone(),
        api_port,
        ports,
        network: network(view).or_else(|| previous.network.clone()),
        servers: Some(servers),
        agents: Some(agents),
        agent_pools: pools::named(&desired.pools, &nodes, serves),
        replicas: Some(pools::scaled(&nodes)),
        selector: Some(pools::selector(&desired.names)),
        nodes,
        registries: used_registries(subject),
    }
}

/// Returns the desired nodes, followed by surplus nodes that still exist.
fn nodes(view: &ClusterView<'_>) -> Vec<NodeStatus> {
    let ClusterView { desired, observed, decision, .. } = *view;
    desired
        .nodes()
        .map(|spec| NodeStatus {
            repairs: decision.plan.repairs.get(&spec.container.name).map(Repairs::reported),
            ..node(spec, desired, observed)
        })
        .chain(leaving(desired, observed))
        .collect()
}

/// Returns the ports that the load balancer publishes; `None` before its first start. One that was started had its
/// ports then, and gets them again.
fn published<'a>(view: &ClusterView<'a>) -> Option<&'a [PortBinding]> {
    let balancer = view.observed.own_named(&view.desired.load_balancer.name);
    balancer.filter(|d| d.started_at.is_some()).map(|d| d.wanted_ports.as_slice())
}

/// Returns the host port of the API. A port that is in use is not requested from Docker now. It is kept until it is
/// free again.
fn api_port(
    view: &ClusterView<'_>,
    published: Option<&[PortBinding]>,
    previous: &LocalClusterStatus,
) -> Option<HostPort> {
    let is_api = |p: &&PortBinding| p.port == API_PORT && p.protocol == Protocol::Tcp.docker();
    let wanted = view.desired.load_balancer.ports.iter().find(is_api);
    match wanted.filter(|p| published.is_some_and(|published| published.contains(p))) {
        Some(p) => Some(HostPort { host_ip: p.host_ip.clone(), host_port: p.host_port.into() }),
        None => previous.api_port.clone(),
    }
}

fn network(view: &ClusterView<'_>) -> Option<NetworkStatus> {
    let ClusterView { subject, desired, observed, .. } = *view;
    let own = observed.networks.iter().find(|n| subject.owner.owns_network(n))?;
    Some(NetworkStatus {
        name: own.name.clone(),
        id: short(&own.id).to_owned(),
        subnet: desired.addresses.subnet.to_string(),
    })
}

/// Returns the voters of etcd: the only member after a reset, those that were last observed, and the servers that may
/// be voters soon, since a started container joins as soon as possible.
fn voters(view: &ClusterView<'_>, previous: &LocalClusterStatus) -> Vec<String> {
    let ClusterView { desired, observed, decision, .. } = *view;
    if let Some(only) = &decision.plan.reset {
        return vec![only.clone()];
    }
    if decision.plan.forgets {
        return Vec::new();
    }
    let Some(state) = observed.child.state() else { return previous.voters.clone() };
    let server = |name: &str| desired.names.parse_server(name).is_some();
    let votes = state.nodes.iter().filter(|(name, n)| server(name) && n.voter == Some(true) && !n.left);
    let joins = observed.own.values().filter(|d| d.started_at.is_some() && servers::is_made_for_etcd(d));
    let gone = |name: &String| state.nodes.get(name).is_some_and(|n| n.left);
    // One that was left behind counts for the quorum like any other.
    let unregistered = state.members.iter().flatten().filter(|m| !m.learner && server(&m.node));
    let all = votes.map(|(name, _)| name).chain(joins.map(|d| &d.container.name));
    let all = all.chain(unregistered.map(|m| &m.node)).filter(|name| !gone(name));
    all.cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

/// Returns the Registry objects in use, followed by unmanaged containers and by what the cluster keeps while it is not known
/// whether it uses it.
fn used_registries(subject: &Subject<'_>) -> Vec<UsedRegistryStatus> {
    let Subject { valid, refs, owner, previous, .. } = *subject;
    let named = refs.registries.iter().map(|r| (&r.name, r.by_default));
    let named = named.chain(valid.registries.containers.iter().map(|c| (&c.name, false)));
    let mirrored = registries::mirrored(&valid.registries, refs);
    let used = named.zip(mirrored).map(|((name, by_default), mirrored)| UsedRegistryStatus {
        name: name.clone(),
        by_default,
        cluster: mirrored.address(),
        mirrors: mirrored.names().into_iter().chain(mirrored.upstream.clone()).collect(),
        host: mirrored.host,
    });
    let kept = previous.registries.iter().filter(|used| {
        let object = default_registries::object(&used.name, owner.namespace());
        used.by_default && refs.unknown_registries.contains(&object)
    });
    let mut seen = BTreeSet::new();
    used.chain(kept.cloned()).filter(|used| seen.insert(used.cluster.clone())).collect()
}

fn node(spec: &NodeSpec, desired: &Desired, observed: &Observed) -> NodeStatus {
    let name = &spec.container.name;
    let detail = observed.own_named(name);
    let seen = observed.node(name);
    let network = observed.network_of(desired.addresses.subnet).map(|n| n.id.as_str());
    let phase = match (detail, seen) {
        (None, _) => NodePhase::Pending,
        (Some(d), _) if d.container.state != State::Running => NodePhase::NotRunning,
        (Some(d), _) if outdated(observed, d, &spec.container, network) => NodePhase::Outdated,
        (Some(d), _) if NodeHealth::of(d, observed).unready(desired.version.as_deref()).is_none() => {
            NodePhase::Ready
        }
        (Some(_), _) => NodePhase::Starting,
    };
    NodeStatus {
        name: name.clone(),
        role: spec.pool.role(),
        pool: spec.pool.name().map(str::to_owned),
        phase,
        ip: spec.container.endpoint.ip.map(|ip| ip.to_string()),
        version: seen.map(|n| n.version.clone()).filter(|v| !v.is_empty()),
        container: detail.map(|d| short(&d.container.id).to_owned()),
        repairs: None,
    }
}

/// Returns surplus nodes that still exist.
fn leaving<'a>(desired: &'a Desired, observed: &'a Observed) -> impl Iterator<Item = NodeStatus> + 'a {
    observed.own.values().filter_map(|d| {
        let (pool, _) = desired.surplus(&d.container.name)?;
        Some(NodeStatus {
            name: d.container.name.clone(),
            role: pool.role(),
            pool: pool.name().map(str::to_owned),
            phase: NodePhase::Removing,
            ip: None,
            version: None,
            container: Some(short(&d.container.id).to_owned()),
            repairs: None,
        })
    })
}
