//! Restart, drain and removal of one node.

use jiff::SignedDuration;

use super::cluster::Cluster;
use crate::{
    api::{condition::ConditionType, reason::Reason},
    docker::engine::ContainerDetail,
    plan::{
        containers::GRACE,
        servers::leases,
        steps::{Action, Plan, Target},
    },
    time::after,
};

/// Reason in Events for a node that must rejoin.
pub const NOT_JOINED: &str = "it did not join the cluster";

/// Time limit for the eviction of Pods from a node before its replacement or removal.
pub const DRAIN_LIMIT: SignedDuration = SignedDuration::from_secs(60);

/// Plans the restart of the container of a node, after the steps `after`.
pub fn restart(plan: &mut Plan, detail: &ContainerDetail, after: &[usize], why: &str) {
    let container = Target::of(&detail.container);
    let stopped = plan.step(Action::Stop { container: container.clone(), grace: GRACE }, after, "");
    plan.step(Action::Start { container }, &[stopped], why);
}

/// Reports whether a node is drained: no evictable Pod is left, or the time limit has passed. Otherwise plans the
/// eviction.
pub fn drained(plan: &mut Plan, cluster: &Cluster<'_>, name: &str, condition: ConditionType) -> bool {
    let Some(node) = cluster.node(name) else { return true };
    let over = |since| node.pods_to_evict == 0 || cluster.inputs.now >= after(since, DRAIN_LIMIT);
    if node.draining_since.is_some_and(over) {
        return true;
    }
    let message = format!("draining {name}: {} pods left to evict", node.pods_to_evict);
    plan.waits(condition, Reason::Draining, message);
    let why = if node.draining_since.is_none() { "to replace or remove it" } else { "" };
    plan.step(Action::Drain { node: name.to_owned() }, &[], why);
    false
}

/// Plans the removal of a node, after the steps `after`: its Node with its password (and with it the etcd member of a
/// server), its container and its volumes.
pub fn remove_node(plan: &mut Plan, cluster: &Cluster<'_>, name: &str, after: &[usize], why: &str) {
    let detail = cluster.own(name);
    // It is stopped before its Node is deleted: a running kubelet would register it again.
    let stopped = detail.map(|d| {
        let container = Target::of(&d.container);
        plan.step(Action::Stop { container, grace: GRACE }, after, "")
    });
    // The Lease of an exited holder, which finalizes its Node, can be released by the next plan.
    if detail.is_some_and(|d| d.container.state.is_up()) && leases::holds(cluster.inputs.observed, name) {
        return;
    }
    let last = stopped.as_ref().map_or(after, std::slice::from_ref);
    let deleted = leases::delete_node(plan, name, last, why, cluster.inputs);
    remove_container_and_volumes(plan, cluster, name, &[deleted], why);
}

/// Plans the removal of the container and volumes of a node, after the steps `after`.
pub fn remove_container_and_volumes(
    plan: &mut Plan,
    cluster: &Cluster<'_>,
    name: &str,
    after: &[usize],
    why: &str,
) {
    let mut last = after.to_vec();
    if let Some(detail) = cluster.own(name) {
        let container = Target::of(&detail.container);
        last = vec![plan.step(Action::RemoveContainer { container }, &last, why)];
    }
    for volume in cluster.inputs.observed.volumes.iter().filter(|v| cluster.inputs.owner.owns(&v.labels)) {
        if volume.name.rsplit_once('-').is_some_and(|(node, _)| node == name) {
            plan.step(Action::RemoveVolume { name: volume.name.clone() }, &last, "");
        }
    }
}
