//! Repair of running nodes with NotReady Nodes: restart, then replacement, one at a time; after the last repair the
//! user must intervene. If the API does not respond, servers that do not respond inside their container either are
//! repaired.
//!
//! The wait doubles before each repair, and the number of repairs is limited: a failure that survives a restart and
//! new volumes is usually caused by the host or by the configuration of the node. A server is only repaired while the
//! others have quorum without it, and the data of a single server is kept.

use jiff::{SignedDuration, Timestamp};

use super::{
    health::{self, works},
    hold::blocked,
    lifecycle,
};
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
        containers::{Site, condition_of},
        desired::{Desired, NodeSpec},
        inputs::Inputs,
        servers::Servers,
        steps::{Plan, Record, Repairs},
    },
    time,
};

/// Minimum time that a server has until its API responds.
const START: SignedDuration = SignedDuration::from_mins(1);

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

/// Plans the repair of one of these nodes, with containers that are as desired, if one is due.
pub fn plan(
    plan: &mut Plan,
    nodes: &[&NodeSpec],
    inputs: &Inputs<'_>,
    site: &Site<'_>,
    servers: &Servers<'_>,
) {
    // The remaining servers of a lost quorum have no majority, however often they are restarted.
    let Some(after) = patience(inputs).filter(|_| servers.lost().is_none()) else { return };
    forget(plan, nodes, after, inputs, site);
    let mut busy = plan.repairs.iter().filter(|(name, past)| is_under_way(name, past, after, inputs, site));
    let busy = busy.next().map(|(name, _)| name.clone());
    for node in nodes {
        let name = &node.container.name;
        let past = plan.repairs.get(name).copied();
        let Some(detail) = site.own(name).filter(|_| busy.as_ref().is_none_or(|b| b == name)) else {
            continue;
        };
        let Some(due) = due(name, detail, past, inputs) else { continue };
        // A repair that was counted but not executed, since the operator or Docker was stopped.
        let undone = past.is_some_and(|p| detail.started_at.is_some_and(|started| started < p.last));
        let done = past.map_or(0, |p| p.count).saturating_sub(u32::from(undone));
        if !undone && (inputs.now < due || done >= MOST) {
            continue;
        }
        let what = if hangs(name, inputs) { "its API does not respond" } else { "its Node is not Ready" };
        let why = format!("{what} (repair {} of {MOST})", done + 1);
        if repair_node(plan, node, detail, done, &why, inputs, site, servers) {
            if !undone {
                // A status stores whole seconds.
                let last = Timestamp::from_second(inputs.now.as_second()).unwrap_or(inputs.now);
                plan.repairs.insert(name.clone(), Repairs { count: done + 1, last });
            }
            return;
        }
    }
}

/// Plans a repair after `done` earlier ones and reports whether it did.
#[allow(clippy::too_many_arguments)] // the parts of the picture
fn repair_node(
    plan: &mut Plan,
    node: &NodeSpec,
    detail: &ContainerDetail,
    done: u32,
    why: &str,
    inputs: &Inputs<'_>,
    site: &Site<'_>,
    servers: &Servers<'_>,
) -> bool {
    let spec = &node.container;
    let server = spec.role == Role::Node(NodeRole::Server);
    let one_of_several = server && servers.are_several();
    let hangs = hangs(&spec.name, inputs);
    // It may be a voter, whatever the state of its kubelet. If no API responds, there is no quorum to lose.
    if one_of_several && !hangs && !servers.majority_without(&spec.name) {
        let message = format!(
            "waiting for etcd quorum without {} before repairing it: its Node is not Ready",
            spec.name
        );
        plan.waits(condition_of(spec.role), Reason::NodeNotReady, message);
        return false;
    }
    if done == 0 || (one_of_several && hangs) {
        lifecycle::restart(plan, detail, &[], why);
        return true;
    }
    // A node that cannot be recreated is not removed.
    if blocked(plan, node, inputs, site) {
        return false;
    }
    let member = inputs.observed.node(&spec.name).is_some_and(|n| n.voter.is_some());
    if server && !one_of_several {
        site.replace(plan, spec, &[], why);
    } else if server && member {
        // It is removed after it has left etcd, and rejoins as a new member.
        servers.leave(plan, detail, &[], why);
    } else {
        lifecycle::take_away(plan, &spec.name, why, inputs, site, &[]);
    }
    true
}

/// Removes the record of repairs of nodes that have been Ready for long enough.
fn forget(plan: &mut Plan, nodes: &[&NodeSpec], after: SignedDuration, inputs: &Inputs<'_>, site: &Site<'_>) {
    for name in nodes.iter().map(|n| &n.container.name).filter(|n| inputs.repairs.contains_key(*n)) {
        let Some(detail) = site.own(name).filter(|d| works(inputs.observed, d)) else { continue };
        let ready = inputs.observed.node(name).and_then(|n| n.since).max(detail.started_at);
        let over = time::after(ready.unwrap_or(inputs.now), after);
        if inputs.now >= over {
            plan.repairs.remove(name);
        } else {
            plan.again = Some(plan.again.map_or(over, |at| at.min(over)));
        }
    }
}

/// Reports whether the outcome of the last repair of a node is still unknown, which delays further repairs.
fn is_under_way(
    name: &str,
    past: &Repairs,
    after: SignedDuration,
    inputs: &Inputs<'_>,
    site: &Site<'_>,
) -> bool {
    let Some(detail) = site.own(name) else { return true };
    let leaving = inputs.observed.node(name).is_some_and(|n| n.leaving || n.left);
    let recent = inputs.now < time::after(begun(past, detail), after);
    !works(inputs.observed, detail) && (leaving || recent || detail.started_at.is_none())
}

/// Returns when a node was last repaired or recreated by a repair.
fn begun(past: &Repairs, detail: &ContainerDetail) -> Timestamp {
    detail.created_at.map_or(past.last, |created| created.max(past.last))
}

/// Returns when a repair of a node is due, or when to give up; `None` for a node that works or is still starting.
fn due(
    name: &str,
    detail: &ContainerDetail,
    past: Option<Repairs>,
    inputs: &Inputs<'_>,
) -> Option<Timestamp> {
    let after = patience(inputs)?;
    let doubled = past.map(|p| p.count).filter(|count| *count < MOST).unwrap_or_default();
    if let Some(since) = inputs.observed.hung.get(name).filter(|_| detail.container.state == State::Running) {
        let since = detail.started_at?.max(*since);
        return Some(time::after(since, time::doubled(after, doubled)));
    }
    inputs.observed.child.state()?;
    if works(inputs.observed, detail) {
        return None;
    }
    let started = match (detail.container.state, past) {
        // After its repair the container exits repeatedly, and each start would extend its time.
        (State::Running | State::Restarting, Some(past)) if detail.started_again > 0 => begun(&past, detail),
        (State::Running, _) => detail.started_at?,
        _ => return None,
    };
    let node = inputs.observed.node(name).filter(|n| health::reports(n, detail));
    if node.is_some_and(|node| health::lacks_network_plugin(node, detail)) {
        return None;
    }
    let since = match (node, past) {
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
    Some(if inputs.observed.hung.is_empty() { after } else { after.max(START) })
}

/// Reports whether neither the API nor this server responds.
fn hangs(name: &str, inputs: &Inputs<'_>) -> bool {
    inputs.observed.hung.contains_key(name)
}

/// Returns the message about a node that is still not Ready after its last repair and the wait that follows it.
pub fn given_up(plan: &Plan, name: &str, detail: &ContainerDetail, inputs: &Inputs<'_>) -> Option<String> {
    let past = plan.repairs.get(name).filter(|p| p.count >= MOST)?;
    let (due, after) = (due(name, detail, Some(*past), inputs)?, inputs.repair_after?);
    let reported = inputs.observed.node(name).filter(|n| !n.ready).map(|n| n.message.as_str());
    let what = if hangs(name, inputs) {
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
