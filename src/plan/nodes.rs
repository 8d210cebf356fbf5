//! The plan for a cluster's nodes: their containers, and their place in the created cluster.
//!
//! Servers go before agents, since a kubelet must not be newer than its API server. Agents are replaced one at a
//! time, each drained before; a node that does not work anyway is replaced at once.

use jiff::{SignedDuration, Timestamp};

use super::{
    cluster::{Desired, NodeSpec},
    containers::{Site, Standing, condition_of},
    desired::Role,
    local_cluster::{Inputs, has_volume, hold, volumes},
    observed::{Child, ChildState, Node},
    steps::{Action, NodeConfig, Plan, Target},
};
use crate::{
    api::{
        condition::{reasons, types},
        local_cluster::NodeRole,
    },
    docker::engine::{ContainerDetail, State},
    k3s::{self, args::CGROUP_V1},
};

/// How long Pods may take to leave a node before it goes all the same.
const DRAIN_LIMIT: SignedDuration = SignedDuration::from_secs(60);

/// How long a node may take from its container's start to its first report. A kubelet whose Node is deleted under it
/// never makes another one, and one whose password is lost is refused for ever; both take much less when all is well.
const REPORT_LIMIT: SignedDuration = SignedDuration::from_mins(3);

/// Plans all nodes of the cluster.
pub fn plan(plan: &mut Plan, desired: &Desired, inputs: &Inputs<'_>, site: &Site<'_>) {
    let mut settled = true;
    let mut outdated = Vec::new();
    // Whether there is something that agents can join, or will be by this plan. Agents without are taken for those
    // of a cluster that is lost, and removed.
    let mut rooted = false;
    for node in desired.servers.iter().chain(&desired.agents) {
        let server = node.container.role == Role::Node(NodeRole::Server);
        if !server && !rooted {
            plan.waits(types::AGENTS_READY, reasons::PENDING, "agents are made when a server can be");
            break;
        }
        let before = plan.problems.len();
        let standing = converge(plan, node, inputs, site);
        rooted |= server
            && (standing != Standing::Blocked
                || has_volume(&node.volumes, k3s::STATE_VOLUME, inputs.observed));
        if standing == Standing::Outdated {
            outdated.push(node);
        } else {
            judge(plan, desired, node, inputs, site);
            settled &= plan.problems.len() == before;
        }
    }
    match &inputs.observed.child {
        Child::Reachable(state) => {
            if !state.pods_can_start {
                let message = "no Pod can be made yet: the service account default/default does not exist";
                plan.waits(types::CONTROL_PLANE_READY, reasons::SERVICE_ACCOUNT_MISSING, message);
                settled = false;
            }
        }
        Child::Unreachable(why) => {
            settled = false;
            // Said of the API only when the container itself is as desired: else that is the cause.
            if !plan.problems.iter().any(|p| p.condition == types::CONTROL_PLANE_READY) {
                plan.waits(types::CONTROL_PLANE_READY, reasons::API_NOT_ANSWERING, why.clone());
            }
        }
        Child::Unknown => {
            settled = false;
            if !plan.problems.iter().any(|p| p.condition == types::CONTROL_PLANE_READY) {
                let message = "the servers have not written a kubeconfig yet";
                plan.waits(types::CONTROL_PLANE_READY, reasons::API_NOT_ANSWERING, message);
            }
        }
    }
    replace(plan, &outdated, settled, inputs, site);
    remove(plan, desired, inputs, site);
}

fn child<'a>(inputs: &'a Inputs<'_>) -> Option<&'a ChildState> {
    match &inputs.observed.child {
        Child::Reachable(state) => Some(state),
        Child::Unreachable(_) | Child::Unknown => None,
    }
}

fn node_of<'a>(inputs: &'a Inputs<'_>, name: &str) -> Option<&'a Node> {
    child(inputs)?.nodes.get(name)
}

/// Plans one node's volumes and container, its replacement excepted.
fn converge(plan: &mut Plan, node: &NodeSpec, inputs: &Inputs<'_>, site: &Site<'_>) -> Standing {
    let spec = &node.container;
    let hold = hold(inputs.refs);
    if site.own(&spec.name).is_some() || site.foreign(&spec.name).is_some() {
        return site.converge(plan, spec, &[], &[], hold);
    }
    if let Some((reason, message)) = hold.clone()
        && inputs.refs.registries.iter().any(|r| r.host_port.is_none())
    {
        // What goes into registries.yaml is not known yet.
        plan.waits(condition_of(spec.role), reason, message);
        site.has_image(plan, spec);
        return Standing::Blocked;
    }
    // A node whose password is lost is refused under its old name (k3s-io/k3s#802), so that name is freed first.
    let mut before: Vec<usize> = Vec::new();
    if node_of(inputs, &spec.name).is_some() && !has_volume(&node.volumes, k3s::ETC_VOLUME, inputs.observed) {
        before.push(plan.step(Action::DeleteNode { node: spec.name.clone() }, &[], "its password is lost"));
    }
    // Once the volume is there, nothing tells any more that the password was lost: it is made after.
    let made = volumes(plan, node, inputs.owner, inputs.observed, &before);
    let Some(made) = made else { return Standing::Blocked };
    before.extend(made);
    if !site.has_image(plan, spec) {
        return Standing::Blocked;
    }
    let why = if spec.command.iter().any(|arg| arg == CGROUP_V1) {
        "it did not exist; its kubelet is told to run on cgroup v1, which it refuses by itself"
    } else {
        "it did not exist"
    };
    let created = site.create(plan, spec, &before, why);
    site.finish(plan, spec, Target { name: spec.name.clone(), id: None }, &[], hold, created)
}

/// Says what is missing for a node to be ready, once its container is as desired.
fn judge(plan: &mut Plan, desired: &Desired, spec: &NodeSpec, inputs: &Inputs<'_>, site: &Site<'_>) {
    let name = &spec.container.name;
    let condition = condition_of(spec.container.role);
    let Some(detail) = site.own(name).filter(|d| d.container.state == State::Running) else { return };
    let Some(state) = child(inputs) else { return };
    let silent = |node: Option<&Node>| {
        detail.started_at.is_some_and(|started| {
            inputs.now >= started + REPORT_LIMIT
                && node.is_none_or(|n| n.renewed.is_none_or(|renewed| renewed < started))
        })
    };
    let node = state.nodes.get(name);
    if silent(node) {
        rejoin(plan, name, detail, node.is_some());
    }
    let Some(node) = node else {
        plan.waits(condition, reasons::NODE_STARTING, format!("{name} has not registered as a Node yet"));
        return;
    };
    if let Some((reason, message)) = unready(node, detail, desired.version.as_deref()) {
        plan.waits(condition, reason, format!("{name} {message}"));
        return;
    }
    if !is_configured(node, &spec.config) {
        let configure = Action::Configure { node: name.clone(), config: spec.config.clone() };
        plan.step(configure, &[], "its labels or taints differ");
        plan.waits(condition, reasons::UPDATING, format!("{name} gets its labels and taints"));
    }
    if node.draining_since.is_some() {
        plan.step(Action::Uncordon { node: name.clone() }, &[], "it takes Pods again");
        plan.waits(condition, reasons::UPDATING, format!("{name} is closed for Pods"));
    }
}

/// Plans what has a node join anew under its name: the Node and its password deleted, where there are any, and the
/// container restarted.
fn rejoin(plan: &mut Plan, name: &str, detail: &ContainerDetail, registered: bool) {
    let container = Target { name: name.to_owned(), id: Some(detail.container.id.clone()) };
    // The Node first: when this is the server, nobody answers once it is stopped.
    let delete = Action::DeleteNode { node: name.to_owned() };
    let deleted: Vec<usize> = if registered { vec![plan.step(delete, &[], "")] } else { Vec::new() };
    let grace = super::containers::GRACE;
    let stopped = plan.step(Action::Stop { container: container.clone(), grace }, &deleted, "");
    plan.step(Action::Start { container }, &[stopped], "it did not join the cluster");
}

/// Why a Node is not ready; `None` when it is. A Node stays Ready for 40 s and more after its kubelet died, so a
/// Ready that was said before the container's last start counts for nothing.
pub fn unready(
    node: &Node,
    detail: &ContainerDetail,
    version: Option<&str>,
) -> Option<(&'static str, String)> {
    if !node.ready {
        return Some((reasons::NODE_NOT_READY, format!("is not Ready: {}", node.message)));
    }
    if detail.started_at.is_some_and(|started| node.renewed.is_none_or(|renewed| renewed < started)) {
        return Some((reasons::NODE_STARTING, "has not reported since its container was started".into()));
    }
    match version {
        Some(wanted) if node.version != wanted => {
            Some((reasons::NODE_NOT_READY, format!("runs {} and not {wanted}", node.version)))
        }
        _ => None,
    }
}

/// Whether a Node has the labels and taints of the spec, and no longer those that were taken out of it.
fn is_configured(node: &Node, config: &NodeConfig) -> bool {
    let none = NodeConfig::default();
    node.configured.as_ref().unwrap_or(&none) == config
        && config.labels.iter().all(|(k, v)| node.labels.get(k) == Some(v))
        && config.taints.iter().all(|t| node.taints.contains(t))
}

/// Plans the replacement of nodes that were made from another spec.
fn replace(plan: &mut Plan, outdated: &[&NodeSpec], settled: bool, inputs: &Inputs<'_>, site: &Site<'_>) {
    let is_server = |node: &&NodeSpec| node.container.role == Role::Node(NodeRole::Server);
    let servers = outdated.iter().copied().find(|n| is_server(n));
    for node in outdated {
        let message = format!("{} is to be replaced, since its spec changed", node.container.name);
        plan.waits(condition_of(node.container.role), reasons::UPDATING, message);
    }
    let why = "its spec changed";
    let blocked = |plan: &mut Plan, node: &NodeSpec| {
        if let Some((reason, message)) = hold(inputs.refs) {
            plan.waits(condition_of(node.container.role), reason, message);
            return true;
        }
        !site.has_image(plan, &node.container)
    };
    if let Some(server) = servers {
        if !blocked(plan, server) {
            site.replace(plan, &server.container, &[], &[], why);
        }
        return;
    }
    let works = |name: &str, detail: &ContainerDetail| {
        detail.container.state == State::Running
            && node_of(inputs, name).is_some_and(|n| unready(n, detail, None).is_none())
    };
    // One that an earlier plan stopped half-way counts too: it comes back before the next one goes.
    let all_work = outdated.iter().all(|node| {
        let name = &node.container.name;
        site.own(name).is_some_and(|detail| works(name, detail))
    });
    let mut may_disturb = settled && all_work;
    for node in outdated {
        if blocked(plan, node) {
            continue;
        }
        let name = &node.container.name;
        let Some(detail) = site.own(name) else { continue };
        let works = works(name, detail);
        let on_network = site.network.is_none_or(|n| detail.container.networks.contains_key(n));
        if !works && (child(inputs).is_some() || !on_network) {
            site.replace(plan, &node.container, &[], &[], why);
        } else if may_disturb && works {
            may_disturb = false;
            if drained(plan, name, inputs) {
                site.replace(plan, &node.container, &[], &[], why);
            }
        }
    }
}

/// Whether a node may go: no Pod that can move is left on it, or they had their time. Plans their eviction if not.
fn drained(plan: &mut Plan, name: &str, inputs: &Inputs<'_>) -> bool {
    let Some(node) = node_of(inputs, name) else { return true };
    if let Some(since) = node.draining_since {
        let over: Timestamp = since + DRAIN_LIMIT;
        if node.pods_to_evict == 0 || inputs.now >= over {
            return true;
        }
    }
    let message = format!("{name} is being drained: {} Pods have to go", node.pods_to_evict);
    plan.waits(types::AGENTS_READY, reasons::DRAINING, message);
    let why = if node.draining_since.is_none() { "it is to go" } else { "" };
    plan.step(Action::Drain { node: name.to_owned() }, &[], why);
    false
}

/// Plans the removal of agents that are no longer wanted: drained, stopped, their Nodes and passwords deleted, then
/// their containers and volumes.
fn remove(plan: &mut Plan, desired: &Desired, inputs: &Inputs<'_>, site: &Site<'_>) {
    let wanted = desired.agents.len();
    let surplus =
        |name: &str| matches!(desired.names.parse_node(name), Some((NodeRole::Agent, i)) if i >= wanted);
    let mut names: std::collections::BTreeSet<String> = std::collections::BTreeSet::new();
    let own = inputs.observed.own.values().map(|d| &d.container.name);
    names.extend(own.filter(|n| surplus(n)).cloned());
    names.extend(child(inputs).into_iter().flat_map(|c| c.nodes.keys()).filter(|n| surplus(n)).cloned());
    let volumes: Vec<_> = inputs.observed.volumes.iter().filter(|v| inputs.owner.owns(&v.labels)).collect();
    for volume in &volumes {
        let node = volume.name.rsplit_once('-').map(|(node, _)| node);
        names.extend(node.filter(|n| surplus(n)).map(str::to_owned));
    }
    for name in names {
        plan.waits(types::AGENTS_READY, reasons::SCALING, format!("{name} is being taken away"));
        let Some(state) = child(inputs) else {
            let message = format!("{name} is taken away when the cluster's API answers");
            plan.waits(types::AGENTS_READY, reasons::SCALING, message);
            continue;
        };
        let detail = site.own(&name);
        let node = state.nodes.get(&name);
        let works = detail.is_some_and(|d| {
            d.container.state == State::Running && node.is_some_and(|n| unready(n, d, None).is_none())
        });
        if works && !drained(plan, &name, inputs) {
            continue;
        }
        let why = "the cluster has fewer agents now";
        let mut last: Vec<usize> = Vec::new();
        let target = detail.map(|d| Target { name: name.clone(), id: Some(d.container.id.clone()) });
        // Stopped before its Node is deleted: a running kubelet would register it again.
        if let Some(container) = target.clone() {
            last = vec![plan.step(Action::Stop { container, grace: super::containers::GRACE }, &last, "")];
        }
        last = vec![plan.step(Action::DeleteNode { node: name.clone() }, &last, why)];
        if let Some(container) = target {
            last = vec![plan.step(Action::RemoveContainer { container }, &last, why)];
        }
        for volume in volumes.iter().filter(|v| v.name.rsplit_once('-').is_some_and(|(n, _)| n == name)) {
            plan.step(Action::RemoveVolume { name: volume.name.clone() }, &last, "");
        }
    }
}
