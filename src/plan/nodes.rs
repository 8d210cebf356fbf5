//! Plan of the nodes of a cluster: their containers, and their membership in the created cluster.
//!
//! Servers come before agents, since a kubelet must not be newer than its API server. Nodes are drained and replaced
//! one at a time, agents as many at a time as the spec allows; an agent that does not work is replaced at once.

pub mod agents;
pub mod health;
pub mod hold;
pub mod lifecycle;
pub mod repair;
pub mod volumes;

use super::{
    containers::{Site, Standing, condition_of},
    desired::{Desired, NodeSpec},
    inputs::Inputs,
    nodes::{
        agents::{remove, replace, works_now},
        health::{REPORT_LIMIT, is_configured, reports, silent_since, stranger, unready, works},
        hold::hold,
        lifecycle::{NOT_JOINED, restart},
        volumes::{has_volume, volumes},
    },
    registries,
    servers::{Servers, leases},
    steps::{Action, Plan},
};
use crate::{
    api::{condition::ConditionType, local_cluster::NodeRole, reason::Reason},
    child::state::{Child, Node},
    docker::{
        engine::{ContainerDetail, State},
        spec::{Role, VolumeSpec},
    },
    k3s::{self, args::CGROUP_V1},
    time::after,
};

/// Plans all nodes of the cluster. `after` contains the steps that reconfigure the load balancer: nodes leave after
/// them.
pub fn plan(
    plan: &mut Plan,
    desired: &Desired,
    inputs: &Inputs<'_>,
    site: &Site<'_>,
    mut servers: Servers<'_>,
    after: &[usize],
) {
    let mut settled = true;
    let mut outdated = Vec::new();
    let mut current = Vec::new();
    // Number of agents that are unavailable already.
    let mut down = 0;
    // True if there is a server to join, or this plan creates one. Agents without a server are treated as those of a
    // lost cluster, and removed.
    let mut rooted = false;
    for node in desired.nodes() {
        let server = node.container.role == Role::Node(NodeRole::Server);
        if !server && !rooted {
            plan.waits(
                ConditionType::AgentsReady,
                Reason::Pending,
                "waiting for a server before creating agents",
            );
            break;
        }
        let before = plan.problems.len();
        if server && servers.is_expelled(plan, node) {
            settled = false;
            continue;
        }
        let standing = converge(plan, desired, node, inputs, site, &mut servers);
        rooted |= server
            && (standing != Standing::Blocked
                || has_volume(&node.volumes, k3s::STATE_VOLUME, inputs.observed));
        if standing == Standing::Outdated {
            outdated.push(node);
            down += usize::from(!server && !works_now(node, inputs, site));
            continue;
        }
        if !matches!(standing, Standing::Changing(_)) {
            current.push(node);
        }
        let refused = site.own(&node.container.name).map(|d| &d.container.id);
        if let Some(words) = refused.and_then(|id| inputs.observed.refused_arguments.get(id)) {
            let pool = if server { "servers" } else { "agents" };
            let message = format!(
                "{} does not start: K3s rejects its arguments ({words}); correct spec.{pool}.args",
                node.container.name
            );
            plan.stalls(condition_of(node.container.role), Reason::ArgumentsRefused, message);
        }
        judge(plan, desired, node, inputs, site, &servers);
        if plan.problems.len() > before {
            settled &= !server;
            down += usize::from(!server);
        }
    }
    // Replacement and repair do not depend on it: another spec may resolve it.
    current.iter().for_each(|node| judge_pressure(plan, node, inputs, site));
    match &inputs.observed.child {
        Child::Reachable(state) => {
            if !state.pods_can_start {
                let message =
                    "waiting for the service account default/default: Pods cannot be created without it";
                plan.waits(ConditionType::ControlPlaneReady, Reason::ServiceAccountMissing, message);
                settled = false;
            }
        }
        Child::Unreachable(why) => {
            settled = false;
            for detail in current.iter().filter_map(|n| site.own(&n.container.name)) {
                if let Some(message) = repair::given_up(plan, &detail.container.name, detail, inputs) {
                    plan.stalls(ConditionType::ControlPlaneReady, Reason::RepairGivenUp, message);
                }
            }
            // The API is only reported if the container itself is as desired; otherwise the container is the cause.
            if !plan.problems.iter().any(|p| p.condition == ConditionType::ControlPlaneReady) {
                plan.waits(ConditionType::ControlPlaneReady, Reason::ApiNotAnswering, why.clone());
            }
        }
        Child::Unknown => {
            settled = false;
            if !plan.problems.iter().any(|p| p.condition == ConditionType::ControlPlaneReady) {
                let message = "waiting for the servers to write a kubeconfig";
                plan.waits(ConditionType::ControlPlaneReady, Reason::ApiNotAnswering, message);
            }
        }
    }
    if inputs.observed.child.state().is_none() && !desired.agents.is_empty() {
        let message = "the API of the cluster does not respond: the readiness of the agents is unknown";
        plan.unknown(ConditionType::AgentsReady, Reason::ApiNotAnswering, message);
    }
    let room = if settled { desired.max_unavailable.saturating_sub(down) } else { 0 };
    replace(plan, &outdated, room, inputs, site, &servers, after);
    repair::plan(plan, &current, inputs, site, &servers);
    servers.shrink(plan, after);
    remove(plan, desired, inputs, site, after);
    if inputs.observed.child.state().is_some_and(|state| state.nodes.values().any(|n| n.leaving && !n.left)) {
        leases::release(plan, inputs);
    }
}

/// Plans the volumes and the container of a node, except for its replacement.
fn converge(
    plan: &mut Plan,
    desired: &Desired,
    node: &NodeSpec,
    inputs: &Inputs<'_>,
    site: &Site<'_>,
    servers: &mut Servers<'_>,
) -> Standing {
    let spec = &node.container;
    let hold = hold(inputs);
    // Set while the content of a new container is unknown.
    let unknown = hold.clone().filter(|_| inputs.refs.inputs.is_none());
    if let Some(detail) = site.own(&spec.name) {
        if registries::has_other_credentials(desired, detail, inputs) {
            return Standing::Outdated;
        }
        // A container that was started has all it needs.
        if let Some((reason, message)) = unknown.filter(|_| detail.started_at.is_none()) {
            plan.waits(condition_of(spec.role), reason, message);
            return Standing::Blocked;
        }
        if detail.started_at.is_none() && !servers.may_begin(plan, &spec.name) {
            return Standing::Blocked;
        }
        let lost = inputs.observed.kept.get(&detail.container.id).is_some_and(|kept| !kept.password);
        let before = if lost { rejoin_with_new_password(plan, node, inputs) } else { None };
        return site.converge(plan, spec, before.as_slice(), hold);
    }
    if site.foreign(&spec.name).is_some() {
        return site.converge(plan, spec, &[], hold);
    }
    if let Some((reason, message)) = unknown {
        plan.waits(condition_of(spec.role), reason, message);
        site.has_image(plan, spec);
        return Standing::Blocked;
    }
    if !node.mounts.allow(plan, node, site) || !servers.may_begin(plan, &spec.name) {
        return Standing::Blocked;
    }
    let mut before: Vec<usize> = Vec::new();
    if !has_volume(&node.volumes, k3s::ETC_VOLUME, inputs.observed) {
        before.extend(rejoin_with_new_password(plan, node, inputs));
    }
    // Remains of agents without a volume of a server belong to a lost cluster.
    if spec.role == Role::Node(NodeRole::Agent) {
        before.extend(roots(plan, desired));
    }
    // Once the volume exists, nothing shows that the password was lost, so the volume is created afterwards.
    let made = volumes(plan, node, inputs.owner, inputs.observed, &before);
    let Some(made) = made else { return Standing::Blocked };
    before.extend(made);
    if !site.has_image(plan, spec) {
        return Standing::Blocked;
    }
    let why = if spec.command.iter().any(|arg| arg == CGROUP_V1) {
        "it did not exist; fail-cgroupv1=false lets its kubelet run on cgroup v1"
    } else {
        "it did not exist"
    };
    // Some of its volumes exist with unknown content, which is observed first.
    let there = |v: &VolumeSpec| inputs.observed.volumes.iter().any(|seen| seen.name == v.name);
    if spec.expects.is_empty() && node.volumes.iter().any(there) {
        return Standing::Changing(site.make(plan, spec, &before, why));
    }
    let created = site.create(plan, spec, &before, why);
    site.finish(plan, spec, created, hold)
}

/// Plans the rejoin of a node that lost its node password, adds a problem, and returns the step. K3s rejects a node
/// with another password under the name of its Node (k3s-io/k3s#802). The Node of an etcd member is kept, since the
/// member would be removed with it.
fn rejoin_with_new_password(plan: &mut Plan, node: &NodeSpec, inputs: &Inputs<'_>) -> Option<usize> {
    let name = &node.container.name;
    let registered = inputs.observed.node(name)?;
    let message = format!("{name} lost its node password: rejoining it with a new one");
    plan.waits(condition_of(node.container.role), Reason::NodePasswordLost, message);
    Some(forget(plan, name, registered, "its node password is lost", inputs))
}

/// Plans that the cluster accepts a node with another password, and returns the step.
fn forget(plan: &mut Plan, name: &str, registered: &Node, why: &str, inputs: &Inputs<'_>) -> usize {
    match registered.voter {
        Some(_) => plan.step(Action::ForgetPassword { node: name.to_owned() }, &[], why),
        None => leases::delete_node(plan, name, &[], why, inputs),
    }
}

/// Returns the planned step that creates the first server, which is not created without its volumes.
fn roots(plan: &Plan, desired: &Desired) -> Vec<usize> {
    let first = desired.names.node(NodeRole::Server, 0);
    let makes =
        |action: &Action| matches!(action, Action::CreateContainer { spec, .. } if spec.name == first);
    plan.steps.iter().enumerate().filter(|(_, step)| makes(&step.action)).map(|(index, _)| index).collect()
}

/// Adds the problems of a node with a container that is as desired.
fn judge(
    plan: &mut Plan,
    desired: &Desired,
    spec: &NodeSpec,
    inputs: &Inputs<'_>,
    site: &Site<'_>,
    servers: &Servers<'_>,
) {
    let name = &spec.container.name;
    let condition = condition_of(spec.container.role);
    // A container that exits repeatedly is between two starts most of the time.
    let up = |d: &&ContainerDetail| matches!(d.container.state, State::Running | State::Restarting);
    let Some(detail) = site.own(name).filter(up) else { return };
    let Some(state) = inputs.observed.child.state() else { return };
    let rejected = inputs.observed.rejected.contains(&detail.container.id);
    let silent = |node: Option<&Node>| {
        let over = silent_since(node, detail).is_some_and(|since| inputs.now >= after(since, REPORT_LIMIT));
        (over || rejected) && !node.is_some_and(|n| reports(n, detail))
    };
    let node = state.nodes.get(name);
    if let Some(ip) = node.and_then(|node| stranger(node, detail)) {
        let message = format!(
            "the Node {name} belongs to another machine, which joined from {ip}, so {name} cannot join under its \
             name; stop K3s on that machine and delete the Node"
        );
        plan.stalls(condition, Reason::NameConflict, message);
        return;
    }
    if silent(node) && !plan.repairs.contains_key(name) {
        match node.filter(|n| servers.is_one_of_several(n)) {
            // It may still be a voter, and would leave etcd with its Node: it rejoins as a new member.
            Some(_) => servers.expel(plan, name, detail),
            None => rejoin(plan, name, detail, node, inputs),
        }
    }
    if rejected {
        let message = format!(
            "the cluster rejects the node password of {name}: its Node was registered with another one"
        );
        plan.waits(condition, Reason::NodePasswordLost, message);
    }
    if detail.container.state != State::Running {
        return;
    }
    if let Some(message) = repair::given_up(plan, name, detail, inputs) {
        plan.stalls(condition, Reason::RepairGivenUp, message);
        return;
    }
    let Some(node) = node else {
        plan.waits(condition, Reason::NodeStarting, format!("waiting for {name} to register as a Node"));
        return;
    };
    if let Some((reason, message)) = unready(node, detail, desired.version.as_deref()) {
        plan.waits(condition, reason, format!("{name} {message}"));
        return;
    }
    if spec.container.role == Role::Node(NodeRole::Server) {
        servers.judge(plan, node, name);
    }
    if !is_configured(node, &spec.config) {
        let configure = Action::Configure { node: name.clone(), config: spec.config.clone() };
        plan.step(configure, &[], "they differed from the spec");
        plan.waits(condition, Reason::Updating, format!("updating labels and taints of {name}"));
    }
    registries::refresh(plan, desired, detail, inputs);
    if node.draining_since.is_some() {
        plan.step(Action::Uncordon { node: name.clone() }, &[], "it is ready for Pods again");
        plan.waits(condition, Reason::Updating, format!("{name} is cordoned; uncordoning"));
    }
}

/// Adds a problem if new Pods are not scheduled to a healthy node because of pressure.
fn judge_pressure(plan: &mut Plan, spec: &NodeSpec, inputs: &Inputs<'_>, site: &Site<'_>) {
    let name = &spec.container.name;
    let detail = site.own(name).filter(|d| works(inputs.observed, d));
    let Some(node) = detail.and_then(|_| inputs.observed.node(name)) else { return };
    let Some(pressure) = node.pressures.first() else { return };
    let cure = match pressure.as_str() {
        "DiskPressure" => "free disk space on the Docker host, or lower the kubelet's eviction thresholds",
        "MemoryPressure" => "free memory on the Docker host, or raise the memory of the pool",
        "PIDPressure" => "stop processes in the node, or raise the PID limit of the Docker host",
        _ => "check the Pods of its network plugin",
    };
    let message = format!(
        "{name} is Ready but reports {}, so no new Pods are scheduled to it; {cure}",
        node.pressures.join(", ")
    );
    plan.waits(condition_of(spec.container.role), Reason::NodePressure, message);
}

/// Plans the rejoin of a node under its name: its Node and password are deleted if they exist, and the container is
/// restarted. The Node of the last voter is never deleted, since etcd cannot lose its only member: the node rejoins
/// with another password.
fn rejoin(
    plan: &mut Plan,
    name: &str,
    detail: &ContainerDetail,
    registered: Option<&Node>,
    inputs: &Inputs<'_>,
) {
    // This comes first: if this is the server, the API does not respond once it is stopped.
    let forgotten = registered.map(|node| forget(plan, name, node, "", inputs));
    restart(plan, detail, forgotten.as_slice(), NOT_JOINED);
}
