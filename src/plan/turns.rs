//! Turns of clusters that start at the same time. A K3s server needs about ten seconds of a CPU until it works;
//! twenty that start together on two CPUs are all silent for minutes, and so is Docker.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{
    desired::Desired,
    nodes::health::NodeHealth,
    observed::Reached,
    queue::Wait,
    steps::{Action, Plan},
};
use crate::{
    api::{
        condition::{self, ConditionType},
        local_cluster::NodeRole,
        reason::Reason,
    },
    docker::spec::Role,
};

/// Reports whether the plan starts a cluster: it creates or starts a server when none was ever started, or when all
/// are stopped since the cluster was stopped. A server that exited is repaired without a turn.
pub fn begins(plan: &Plan, desired: &Desired, observed: &Reached, previous: &[Condition]) -> bool {
    let server = |name: &str| desired.names.parse_server(name).is_some();
    let mut servers = observed.own.values().filter(|d| server(&d.container.name));
    let waits = condition::get(previous, ConditionType::ControlPlaneReady)
        .is_some_and(|c| c.reason == Reason::Queued);
    let begun = if waits || condition::is_true(previous, ConditionType::Stopped) {
        servers.any(|d| d.container.state.is_up())
    } else {
        servers.any(|d| d.started_at.is_some())
    };
    !begun
        && plan.steps.iter().any(|step| match &step.action {
            Action::CreateContainer { spec, .. } => spec.role == Role::Node(NodeRole::Server),
            Action::Start { container } => server(&container.name),
            _ => false,
        })
}

/// Reports whether a started cluster works, so that the next one may start. A cluster that only lacks a network
/// plugin counts as working.
pub fn works(observed: &Reached) -> bool {
    let mut nodes = observed.own.values().map(|detail| NodeHealth::of(detail, observed));
    nodes.any(|health| health.is_ready() || health.lacks_network_plugin())
}

/// Message about a cluster that is queued.
fn waits(why: Wait) -> String {
    match why {
        Wait::Host => "queued: as many clusters as the host has CPUs are already starting".to_owned(),
        Wait::Others => "queued: nobody waits for this cluster of a pool, and one place is left for clusters that somebody \
                         asks for"
            .to_owned(),
        Wait::Namespace(most) => format!(
            "queued: as many clusters of the namespace as its HostPolicy allows are already starting \
             (quota.concurrentStarts: {most})"
        ),
    }
}

/// Defers the steps of the plan, except for the network. Its steps come first, so that indices stay valid.
pub fn wait(plan: &mut Plan, why: Wait) {
    let message = waits(why);
    let network = |action: &Action| matches!(action, Action::CreateNetwork(_) | Action::RemoveNetwork { .. });
    plan.steps.retain(|step| network(&step.action));
    for problem in
        plan.problems.iter_mut().filter(|p| !p.stalled() && p.condition != ConditionType::NetworkReady)
    {
        problem.reason = Reason::Queued;
        problem.message.clone_from(&message);
    }
    plan.waits(ConditionType::ControlPlaneReady, Reason::Queued, message);
}
