//! Convergence of one node: its volumes and its container, except for its replacement.

use super::{
    cluster::Cluster,
    hold::{hold, host_has, unknown_content},
    rejoin,
    volumes::{has_volume, volumes},
};
use crate::{
    api::local_cluster::NodeRole,
    docker::{
        engine::ContainerDetail,
        spec::{ContainerSpec, Role, VolumeSpec},
    },
    k3s::{self, args::CGROUP_V1},
    plan::{
        containers::{Standing, condition_of},
        desired::{Desired, NodeSpec},
        registries,
        servers::Servers,
        steps::{Action, Plan, Repair},
    },
};

/// Plans the volumes and the container of a node, except for its replacement.
pub fn converge(
    plan: &mut Plan,
    cluster: &Cluster<'_>,
    servers: &mut Servers<'_>,
    node: &NodeSpec,
) -> Standing {
    let spec = &node.container;
    if let Some(detail) = cluster.own(&spec.name) {
        return converge_existing(plan, cluster, servers, node, detail);
    }
    if cluster.site.foreign(&spec.name).is_some() {
        return cluster.site.converge(plan, spec, &[], hold(cluster.inputs));
    }
    if let Some((reason, message)) = unknown_content(cluster.inputs) {
        plan.waits(condition_of(spec.role), reason, message);
        cluster.site.has_image(plan, spec);
        return Standing::Blocked;
    }
    if !host_has(plan, cluster, node) || !servers.may_begin(plan, &spec.name) {
        return Standing::Blocked;
    }
    create(plan, cluster, node)
}

/// Plans the convergence of a node with a container.
fn converge_existing(
    plan: &mut Plan,
    cluster: &Cluster<'_>,
    servers: &mut Servers<'_>,
    node: &NodeSpec,
    detail: &ContainerDetail,
) -> Standing {
    let spec = &node.container;
    let inputs = cluster.inputs;
    // What ran is not held back since the content of its replacement is unknown.
    let outdated = |plan: &mut Plan| match unknown_content(inputs) {
        Some(_) => cluster.site.run_outdated(plan, spec),
        None => Standing::Outdated,
    };
    if registries::has_other_credentials(cluster.desired, detail, inputs) {
        return outdated(plan);
    }
    // A container that was started has all it needs.
    if detail.started_at.is_none() {
        if let Some((reason, message)) = unknown_content(inputs) {
            plan.waits(condition_of(spec.role), reason, message);
            return Standing::Blocked;
        }
        if !servers.may_begin(plan, &spec.name) {
            return Standing::Blocked;
        }
    }
    let lost = inputs.observed.kept.get(&detail.container.id).is_some_and(|kept| !kept.password);
    let before = if lost { rejoin::with_new_password(plan, cluster, node) } else { None };
    match cluster.site.converge(plan, spec, before.as_slice(), hold(inputs)) {
        Standing::Outdated => outdated(plan),
        standing => standing,
    }
}

/// Plans the creation of a node: its volumes, its container and, unless it is held back, its first start.
fn create(plan: &mut Plan, cluster: &Cluster<'_>, node: &NodeSpec) -> Standing {
    let Cluster { inputs, site, .. } = *cluster;
    let spec = &node.container;
    let mut before: Vec<usize> = Vec::new();
    if !has_volume(&node.volumes, k3s::ETC_VOLUME, inputs.observed) {
        before.extend(rejoin::with_new_password(plan, cluster, node));
    }
    // Remains of agents without a volume of a server belong to a lost cluster.
    if spec.role == Role::Node(NodeRole::Agent) {
        before.extend(creates_first_server(plan, cluster.desired));
    }
    // Once the volume exists, nothing shows that the password was lost, so the volume is created afterwards.
    let Some(made) = volumes(plan, node, inputs.owner, inputs.observed, &before) else {
        return Standing::Blocked;
    };
    before.extend(made);
    if !site.has_image(plan, spec) {
        return Standing::Blocked;
    }
    let why = why_created(spec);
    // Some of its volumes exist with unknown content, which is observed first.
    let there = |v: &VolumeSpec| inputs.observed.volumes.iter().any(|seen| seen.name == v.name);
    if spec.expects.is_empty() && node.volumes.iter().any(there) {
        let made = site.make(plan, spec, &before, why);
        return Standing::Changing(plan.mark_repair(made, Repair::Recreate));
    }
    let next = plan.steps.len();
    let created = site.create(plan, spec, &before, why);
    plan.mark_repair(next, Repair::Recreate);
    site.finish(plan, spec, created, hold(inputs))
}

fn why_created(spec: &ContainerSpec) -> &'static str {
    if spec.command.iter().any(|arg| arg == CGROUP_V1) {
        "it did not exist; fail-cgroupv1=false lets its kubelet run on cgroup v1"
    } else {
        "it did not exist"
    }
}

/// Returns the planned step that creates the first server, which is not created without its volumes.
fn creates_first_server(plan: &Plan, desired: &Desired) -> Vec<usize> {
    let first = desired.names.node(NodeRole::Server, 0);
    let makes =
        |action: &Action| matches!(action, Action::CreateContainer { spec, .. } if spec.name == first);
    plan.steps.iter().enumerate().filter(|(_, step)| makes(&step.action)).map(|(index, _)| index).collect()
}
