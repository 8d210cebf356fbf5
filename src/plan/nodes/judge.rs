//! Judgement of nodes with containers that are as desired, and of the API of their cluster.

use super::{
    cluster::Cluster,
    health::{NodeHealth, is_configured},
    rejoin, repair,
};
use crate::{
    api::{condition::ConditionType, local_cluster::NodeRole, reason::Reason},
    child::state::Child,
    docker::{engine::State, spec::Role},
    plan::{
        containers::condition_of,
        desired::NodeSpec,
        registries,
        servers::Servers,
        steps::{Action, Plan, Problem},
    },
};

/// Adds the problems of a node with a container that is as desired, and plans what resolves them.
pub fn judge(plan: &mut Plan, cluster: &Cluster<'_>, servers: &Servers<'_>, spec: &NodeSpec) {
    let name = &spec.container.name;
    let condition = condition_of(spec.container.role);
    judge_arguments(plan, cluster, spec);
    // A container that exits repeatedly is between two starts most of the time.
    let up = |h: &NodeHealth<'_>| matches!(h.detail.container.state, State::Running | State::Restarting);
    let Some(health) = cluster.health(name).filter(up) else { return };
    if !cluster.is_reachable() {
        return;
    }
    if let Some(ip) = health.foreign_address() {
        let message = format!(
            "the Node {name} belongs to another machine, which joined from {ip}, so {name} cannot join under its \
             name; stop K3s on that machine and delete the Node"
        );
        plan.stalls(condition, Reason::NameConflict, message);
        return;
    }
    judge_registration(plan, cluster, servers, condition, health);
    if !health.is_running() {
        return;
    }
    if let Some(problem) = unready(plan, cluster, condition, health) {
        plan.problems.push(problem);
        return;
    }
    if spec.container.role == Role::Node(NodeRole::Server) {
        servers.judge(plan, name);
    }
    configure(plan, cluster, spec, health);
}

/// Adds a problem if K3s rejects the arguments of a node.
fn judge_arguments(plan: &mut Plan, cluster: &Cluster<'_>, spec: &NodeSpec) {
    let name = &spec.container.name;
    let refused = &cluster.inputs.observed.refused_arguments;
    let Some(words) = cluster.own(name).and_then(|d| refused.get(&d.container.id)) else { return };
    let field = spec.pool.field();
    let message = format!("{name} does not start: K3s rejects its arguments ({words}); correct {field}.args");
    plan.stalls(condition_of(spec.container.role), Reason::ArgumentsRefused, message);
}

/// Plans the rejoin of a node that has not registered in time, or that the cluster rejects.
fn judge_registration(
    plan: &mut Plan,
    cluster: &Cluster<'_>,
    servers: &Servers<'_>,
    condition: ConditionType,
    health: NodeHealth<'_>,
) {
    let name = health.name();
    let rejected = cluster.inputs.observed.rejected.contains(&health.detail.container.id);
    let silent = health.is_overdue(cluster.inputs.now) || (rejected && !health.has_reported());
    if silent && !plan.repairs.contains_key(name) {
        if servers.is_one_of_several(name) {
            // It may still be a voter, and would leave etcd with its Node: it rejoins as a new member.
            servers.expel(plan, health.detail);
        } else {
            rejoin::restarted(plan, cluster, health.detail);
        }
    }
    if rejected {
        let message = format!(
            "the cluster rejects the node password of {name}: its Node was registered with another one"
        );
        plan.waits(condition, Reason::NodePasswordLost, message);
    }
}

/// Returns the problem of a running node that is not ready.
fn unready(
    plan: &Plan,
    cluster: &Cluster<'_>,
    condition: ConditionType,
    health: NodeHealth<'_>,
) -> Option<Problem> {
    if let Some(message) = repair::given_up(plan, cluster.inputs, health) {
        return Some(Problem::stalls(condition, Reason::RepairGivenUp, message));
    }
    let (reason, message) = health.unready(cluster.desired.version.as_deref())?;
    Some(Problem::waits(condition, reason, message))
}

/// Plans the labels, taints and registries of a ready node, and uncordons it.
fn configure(plan: &mut Plan, cluster: &Cluster<'_>, spec: &NodeSpec, health: NodeHealth<'_>) {
    let name = &spec.container.name;
    let condition = condition_of(spec.container.role);
    let Some(node) = health.node else { return };
    if !is_configured(node, &spec.config) {
        let configure = Action::Configure { node: name.clone(), config: spec.config.clone() };
        plan.step(configure, &[], "they differed from the spec");
        plan.waits(condition, Reason::Updating, format!("updating labels and taints of {name}"));
    }
    registries::refresh(plan, cluster.desired, health.detail, cluster.inputs);
    if node.draining_since.is_some() {
        plan.step(Action::Uncordon { node: name.clone() }, &[], "it is ready for Pods again");
        plan.waits(condition, Reason::Updating, format!("{name} is cordoned; uncordoning"));
    }
}

/// Adds a problem if new Pods are not scheduled to a healthy node because of pressure.
pub fn judge_pressure(plan: &mut Plan, cluster: &Cluster<'_>, spec: &NodeSpec) {
    let name = &spec.container.name;
    let Some(node) = cluster.node(name).filter(|_| cluster.is_ready(name)) else { return };
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

/// Adds the problems of the API of the cluster, and reports whether there are none. `nodes` have containers that are as
/// desired.
pub fn judge_api(plan: &mut Plan, cluster: &Cluster<'_>, nodes: &[&NodeSpec]) -> bool {
    let mut works = false;
    // The API is only reported if the container itself is as desired; otherwise the container is the cause.
    let silent = |plan: &mut Plan, message: &str| {
        if !plan.problems.iter().any(|p| p.condition == ConditionType::ControlPlaneReady) {
            plan.waits(ConditionType::ControlPlaneReady, Reason::ApiNotAnswering, message);
        }
    };
    match &cluster.inputs.observed.child {
        Child::Reachable(state) if state.pods_can_start => works = true,
        Child::Reachable(_) => {
            let message =
                "waiting for the service account default/default: Pods cannot be created without it";
            plan.waits(ConditionType::ControlPlaneReady, Reason::ServiceAccountMissing, message);
        }
        Child::Unreachable(why) => {
            for health in nodes.iter().filter_map(|n| cluster.health(&n.container.name)) {
                if let Some(message) = repair::given_up(plan, cluster.inputs, health) {
                    plan.stalls(ConditionType::ControlPlaneReady, Reason::RepairGivenUp, message);
                }
            }
            silent(plan, why);
        }
        Child::Unknown => silent(plan, "waiting for the servers to write a kubeconfig"),
    }
    if !cluster.is_reachable() && !cluster.desired.agents.is_empty() {
        let message = "the API of the cluster does not respond: the readiness of the agents is unknown";
        plan.unknown(ConditionType::AgentsReady, Reason::ApiNotAnswering, message);
    }
    works
}
