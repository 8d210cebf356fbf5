//! Nodes that run and whose Nodes are not Ready: restarted, then replaced, one at a time, and in the end left to people.
//! Where nobody tells of Nodes, since the API does not answer: servers that do not answer inside of them either.
//!
//! The wait before each repair is twice as long as before the last one, and there is an end to them: what a restart and
//! new volumes do not cure is mostly the host's, or in what the node was told. A server is only ever touched while the
//! others can agree without it, and the data of an only one is kept.

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

/// How long a server has at least until its API is up.
const START: SignedDuration = SignedDuration::from_mins(1);

/// How many repairs of a node there are in a row.
pub const MOST: u32 = 5;

/// The repairs that a status tells of. Those of another spec count no longer.
pub fn remembered(status: &LocalClusterStatus, generation: i64) -> Record {
    let same = status.observed_generation == Some(generation);
    let of = |r: &NodeRepairs| Some(Repairs { count: r.count.try_into().ok()?, last: r.last.as_ref()?.0 });
    let nodes = status.nodes.iter().filter(|_| same);
    nodes.filter_map(|n| Some((n.name.clone(), n.repairs.as_ref().and_then(of)?))).collect()
}

/// The repairs that still count of nodes that are wanted.
pub fn begin(desired: &Desired, inputs: &Inputs<'_>) -> Record {
    let wanted = |name: &String| desired.nodes().any(|n| n.container.name == *name);
    let repairs = inputs.repairs.iter().filter(|_| inputs.repair_after.is_some());
    repairs.filter(|(name, _)| wanted(name)).map(|(name, r)| (name.clone(), *r)).collect()
}

/// Plans the repair of one of these nodes, the containers of which are as desired, where one is due.
pub fn plan(
    plan: &mut Plan,
    nodes: &[&NodeSpec],
    inputs: &Inputs<'_>,
    site: &Site<'_>,
    servers: &Servers<'_>,
) {
    // Those that are left of most have nobody to agree with, however often they are restarted.
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
        // One that was counted and not carried out, since the operator or Docker was stopped.
        let undone = past.is_some_and(|p| detail.started_at.is_some_and(|started| started < p.last));
        let done = past.map_or(0, |p| p.count).saturating_sub(u32::from(undone));
        if !undone && (inputs.now < due || done >= MOST) {
            continue;
        }
        let what = if hangs(name, inputs) { "its API does not respond" } else { "its Node is not Ready" };
        let why = format!("{what} (repair {} of {MOST})", done + 1);
        if mend(plan, node, detail, done, &why, inputs, site, servers) {
            if !undone {
                // A status tells whole seconds.
                let last = Timestamp::from_second(inputs.now.as_second()).unwrap_or(inputs.now);
                plan.repairs.insert(name.clone(), Repairs { count: done + 1, last });
            }
            return;
        }
    }
}

/// Plans a repair after so many before it; whether it could.
#[allow(clippy::too_many_arguments)] // the parts of the picture
fn mend(
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
    // It may vote, whatever its kubelet does. Where nobody answers, there is no majority that it could break.
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
    // What can't be made again is not taken away.
    if blocked(plan, node, inputs, site) {
        return false;
    }
    let member = inputs.observed.node(&spec.name).is_some_and(|n| n.voter.is_some());
    if server && !one_of_several {
        site.replace(plan, spec, &[], &[], why);
    } else if server && member {
        // It is taken away when it has left, and comes back as a new one.
        servers.leave(plan, detail, &[], why);
    } else {
        lifecycle::take_away(plan, &spec.name, why, inputs, site, &[]);
    }
    true
}

/// Forgets the repairs of nodes that have been Ready for long enough.
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

/// Whether nobody can tell yet what came of a node's last repair, so that no other one is begun.
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

/// When a node was last repaired, or made anew by it.
fn begun(past: &Repairs, detail: &ContainerDetail) -> Timestamp {
    detail.created_at.map_or(past.last, |created| created.max(past.last))
}

/// When it is time to repair a node, or to give it up; `None` for one that works, or has not had its time to start.
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
        // After its repair it ends by itself, and each start would give it its whole time.
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
        // Those that never report are let join anew.
        (None, None) => return None,
    };
    Some(time::after(since, time::doubled(after, doubled)))
}

/// How long it is waited before a first repair; `None` for ever.
fn patience(inputs: &Inputs<'_>) -> Option<SignedDuration> {
    let after = inputs.repair_after?;
    Some(if inputs.observed.hung.is_empty() { after } else { after.max(START) })
}

/// Whether nobody answers, a server neither.
fn hangs(name: &str, inputs: &Inputs<'_>) -> bool {
    inputs.observed.hung.contains_key(name)
}

/// What there is to say of a node that is not Ready after its last repair, when it has had its time.
pub fn given_up(plan: &Plan, name: &str, detail: &ContainerDetail, inputs: &Inputs<'_>) -> Option<String> {
    let past = plan.repairs.get(name).filter(|p| p.count >= MOST)?;
    let (due, after) = (due(name, detail, Some(*past), inputs)?, inputs.repair_after?);
    let told = inputs.observed.node(name).filter(|n| !n.ready).map(|n| n.message.as_str());
    let what = if hangs(name, inputs) {
        format!("was restarted {MOST} times because its API did not respond, and still does not")
    } else {
        format!(
            "was restarted, and then replaced {} times, because its Node was not Ready, and still is not ({})",
            MOST - 1,
            told.unwrap_or("its kubelet does not report"),
        )
    };
    (inputs.now >= due).then(|| {
        format!(
            "{name} {what}; no further repair is attempted, see `docker logs {name}`. Repairs resume when the spec \
             changes, or after the Node has been Ready for {after:#}, such as after `docker restart {name}`",
        )
    })
}
