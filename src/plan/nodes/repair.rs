//! Repair of running nodes with NotReady Nodes: restart, then replacement, one at a time; after the last repair the
//! user must intervene. If the API does not respond, servers that do not respond inside their container either are
//! repaired.
//!
//! The wait doubles before each repair, and the number of repairs is limited: a failure that survives a restart and
//! new volumes is usually caused by the host or by the configuration of the node. A server is only repaired while the
//! others have quorum without it, and the data of a single server is kept.

use jiff::{SignedDuration, Timestamp};

use super::{cluster::Cluster, health::NodeHealth, hold::blocked, lifecycle};
use crate::{
    api::{
        LocalClusterStatus,
        local_cluster::{NodeRepairs, NodeRole},
        reason::Reason,
    },
    docker::{
        engine::{ContainerDetail, State},
        spec::Role,
    },
    plan::{
        containers::condition_of,
        desired::{Desired, NodeSpec},
        inputs::Inputs,
        servers::{Absence, Servers},
        steps::{Action, Plan, Record, Repair as Mark, Repairs},
    },
    time,
};

/// Minimum time without a response after which a server that hangs is repaired.
const MIN_HANG: SignedDuration = SignedDuration::from_mins(1);

/// Maximum number of consecutive repairs of a node.
pub const MOST: u32 = 5;

/// Returns the repairs in a status. Repairs under another spec do not count.
pub fn remembered(status: &LocalClusterStatus, generation: i64) -> Record {
    let same = status.observed_generation == Some(generation);
    let of = |r: &NodeRepairs| Some(Repairs { count: r.count.try_into().ok()?, last: r.last.as_ref()?.0 });
    let nodes = status.nodes.iter().filter(|_| same);
    nodes.filter_map(|n| Some((n.name.clone(), n.repairs.as_ref().and_then(of)?))).collect()
}

/// Returns the repairs of desired nodes that still count.
pub fn begin(desired: &Desired, inputs: &Inputs<'_>) -> Record {
    let wanted = |name: &String| desired.nodes().any(|n| n.container.name == *name);
    let repairs = inputs.repairs.iter().filter(|_| inputs.repair_after.is_some());
    repairs.filter(|(name, _)| wanted(name)).map(|(name, r)| (name.clone(), *r)).collect()
}

/// A repair that is due.
struct Repair<'a> {
    node: &'a NodeSpec,
    health: NodeHealth<'a>,
    /// Number of repairs before it.
    done: u32,
    why: String,
}

/// Plans the repair of one of these nodes, with containers that are as desired, if one is due.
pub fn plan(plan: &mut Plan, cluster: &Cluster<'_>, servers: &Servers<'_>, nodes: &[&NodeSpec]) {
    let inputs = cluster.inputs;
    // The remaining servers of a lost quorum have no majority, however often they are restarted.
    let Some(after) = patience(inputs).filter(|_| servers.quorum_loss().is_none()) else { return };
    forget(plan, cluster, nodes, after);
    let mut busy = plan.repairs.iter().filter(|(name, past)| is_under_way(cluster, name, past, after));
    let busy = busy.next().map(|(name, _)| name.clone());
    for node in nodes {
        let name = &node.container.name;
        let past = plan.repairs.get(name).copied();
        let Some(health) = cluster.health(name).filter(|_| busy.as_ref().is_none_or(|b| b == name)) else {
            continue;
        };
        let Some(due) = due(inputs, health, past) else { continue };
        // A repair that was counted but not executed, since the operator or Docker was stopped.
        let undone = past.is_some_and(|p| health.detail.started_at.is_some_and(|started| started < p.last));
        let done = past.map_or(0, |p| p.count).saturating_sub(u32::from(undone));
        if !undone && (inputs.now < due || done >= MOST) {
            continue;
        }
        let what =
            if health.hung_since.is_some() { "its API does not respond" } else { "its Node is not Ready" };
        let why = format!("{what} (repair {} of {MOST})", done + 1);
        if repair_node(plan, cluster, servers, &Repair { node, health, done, why }) {
            if !undone {
                // A status stores whole seconds.
                let last = Timestamp::from_second(inputs.now.as_second()).unwrap_or(inputs.now);
                plan.repairs.insert(name.clone(), Repairs { count: done + 1, last });
                mark(plan);
            }
            return;
        }
    }
}

/// Marks the last step of a plan whose last steps are a repair.
fn mark(plan: &mut Plan) {
    let Some(last) = plan.steps.last() else { return };
    // The start of a container that was replaced is a part of its creation.
    let restarts = matches!(last.action, Action::Start { .. }) && !last.why.is_empty();
    plan.mark_repair(plan.steps.len() - 1, if restarts { Mark::Restart } else { Mark::Replace });
}

/// Plans a repair, and reports whether it did.
fn repair_node(plan: &mut Plan, cluster: &Cluster<'_>, servers: &Servers<'_>, repair: &Repair<'_>) -> bool {
    let Repair { node, health, done, why } = repair;
    let spec = &node.container;
    let server = spec.role == Role::Node(NodeRole::Server);
    let one_of_several = server && servers.are_several();
    let hangs = health.hung_since.is_some();
    // It may be a voter, whatever the state of its kubelet. If no API responds, there is no quorum to lose.
    if one_of_several && !hangs && !servers.has_quorum_without(plan, &spec.name, Absence::Stopped) {
        let message = format!(
            "waiting for etcd quorum without {} before repairing it: its Node is not Ready",
            spec.name
        );
        plan.waits(condition_of(spec.role), Reason::NodeNotReady, message);
        return false;
    }
    if *done == 0 || (one_of_several && hangs) {
        lifecycle::restart(plan, health.detail, &[], why);
        return true;
    }
    // A node that cannot be recreated is not removed.
    if blocked(plan, cluster, node) {
        return false;
    }
    let member = health.node.is_some_and(|n| n.voter.is_some());
    if server && !one_of_several {
        cluster.site.replace(plan, spec, &[], why);
    } else if server && member {
        // It is removed after it has left etcd, and rejoins as a new member.
        servers.leave(plan, health.detail, &[], why);
    } else {
        lifecycle::remove_node(plan, cluster, &spec.name, &[], why);
    }
    true
}

/// Removes the record of repairs of nodes that have been Ready for long enough.
fn forget(plan: &mut Plan, cluster: &Cluster<'_>, nodes: &[&NodeSpec], after: SignedDuration) {
    let now = cluster.inputs.now;
    for name in nodes.iter().map(|n| &n.container.name).filter(|n| cluster.inputs.repairs.contains_key(*n)) {
        let Some(health) = cluster.health(name).filter(NodeHealth::is_ready) else { continue };
        let ready = health.node.and_then(|n| n.since).max(health.detail.started_at);
        let over = time::after(ready.unwrap_or(now), after);
        if now >= over {
            plan.repairs.remove(name);
        } else {
            plan.look_again(over);
        }
    }
}

/// Reports whether the outcome of the last repair of a node is still unknown, which delays further repairs.
fn is_under_way(cluster: &Cluster<'_>, name: &str, past: &Repairs, after: SignedDuration) -> bool {
    let Some(health) = cluster.health(name) else { return true };
    let leaving = health.node.is_some_and(|n| n.leaving || n.left);
    let recent = cluster.inputs.now < time::after(begun(past, health.detail), after);
    !health.is_ready() && (leaving || recent || health.detail.started_at.is_none())
}

/// Returns when a node was last repaired or recreated by a repair.
fn begun(past: &Repairs, detail: &ContainerDetail) -> Timestamp {
    detail.created_at.map_or(past.last, |created| created.max(past.last))
}

/// Returns when a repair of a node is due, or when to give up; `None` for a node that works or is still starting.
fn due(inputs: &Inputs<'_>, health: NodeHealth<'_>, past: Option<Repairs>) -> Option<Timestamp> {
    let NodeHealth { detail, .. } = health;
    let after = patience(inputs)?;
    let doubled = past.map(|p| p.count).filter(|count| *count < MOST).unwrap_or_default();
    if let Some(since) = health.hung_since.filter(|_| health.is_running()) {
        let since = detail.started_at?.max(since);
        return Some(time::after(since, time::doubled(after, doubled)));
    }
    inputs.observed.child.state()?;
    if health.is_ready() || health.lacks_network_plugin() {
        return None;
    }
    let started = match (detail.container.state, past) {
        // After its repair the container exits repeatedly, and each start would extend its time.
        (State::Running | State::Restarting, Some(past)) if detail.started_again > 0 => begun(&past, detail),
        (State::Running, _) => detail.started_at?,
        _ => return None,
    };
    let since = match (health.node.filter(|_| health.has_reported()), past) {
        (Some(node), _) => node.since.map_or(started, |since| since.max(started)),
        (None, Some(_)) => started,
        // Nodes that never report are rejoined instead.
        (None, None) => return None,
    };
    Some(time::after(since, time::doubled(after, doubled)))
}

/// Returns the wait before a first repair; `None` disables repairs.
fn patience(inputs: &Inputs<'_>) -> Option<SignedDuration> {
    let after = inputs.repair_after?;
    Some(if inputs.observed.hung.is_empty() { after } else { after.max(MIN_HANG) })
}

/// Returns the message about a node that is still not Ready after its last repair and the wait that follows it.
pub fn given_up(plan: &Plan, inputs: &Inputs<'_>, health: NodeHealth<'_>) -> Option<String> {
    let name = health.name();
    let past = plan.repairs.get(name).filter(|p| p.count >= MOST)?;
    let (due, after) = (due(inputs, health, Some(*past))?, inputs.repair_after?);
    let reported = health.node.filter(|n| !n.ready).map(|n| n.message.as_str());
    let what = if health.hung_since.is_some() {
        format!("was restarted {MOST} times because its API did not respond, and still does not")
    } else {
        format!(
            "was restarted, and then replaced {} times, because its Node was not Ready, and still is not ({})",
            MOST - 1,
            reported.unwrap_or("its kubelet does not report"),
        )
    };
    (inputs.now >= due).then(|| {
        format!(
            "{name} {what}; no further repair is attempted, see `docker logs {name}`. Repairs resume when the spec \
             changes, or after the Node has been Ready for {after:#}, such as after `docker restart {name}`",
        )
    })
}
