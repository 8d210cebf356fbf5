//! Replacement of outdated nodes and removal of surplus agents.

use super::{
    health::works,
    hold::blocked,
    lifecycle::{drained, take_away},
};
use crate::{
    api::{condition::ConditionType, local_cluster::NodeRole, reason::Reason},
    plan::{
        containers::{Site, condition_of},
        desired::{Desired, NodeSpec},
        inputs::Inputs,
        servers::Servers,
        steps::Plan,
    },
};

/// Plans the replacement of outdated nodes. At most `room` working agents are replaced.
pub fn replace(
    plan: &mut Plan,
    outdated: &[&NodeSpec],
    mut room: usize,
    inputs: &Inputs<'_>,
    site: &Site<'_>,
    servers: &Servers<'_>,
    after: &[usize],
) {
    for node in outdated {
        let NodeSpec { container, .. } = node;
        let other = site.own(&container.name).is_some_and(|d| d.container.image != container.image);
        let (reason, what) = if other {
            (Reason::Upgrading, format!("upgrading {} to the image {}", container.name, container.image))
        } else {
            (Reason::Updating, format!("replacing {}: its spec changed", container.name))
        };
        plan.waits(condition_of(container.role), reason, what);
    }
    let why = "its spec changed";
    if servers.roll(plan, outdated, after, |plan, node| blocked(plan, node, inputs, site)) {
        return;
    }
    // A node that is being drained already counts.
    let drains = |node: &NodeSpec| {
        inputs.observed.node(&node.container.name).is_some_and(|n| n.draining_since.is_some())
    };
    let (drained_now, others): (Vec<&NodeSpec>, Vec<&NodeSpec>) =
        outdated.iter().copied().partition(|node| drains(node));
    for node in drained_now.into_iter().chain(others) {
        if blocked(plan, node, inputs, site) {
            continue;
        }
        let name = &node.container.name;
        let Some(detail) = site.own(name) else { continue };
        let works = works(inputs.observed, detail);
        if !works && (inputs.observed.child.state().is_some() || !site.is_placed(detail)) {
            site.replace(plan, &node.container, after, why);
        } else if room > 0 && works {
            room -= 1;
            if drained(plan, name, ConditionType::AgentsReady, inputs) {
                site.replace(plan, &node.container, after, why);
            }
        }
    }
}

/// Plans the removal of surplus agents: drained, stopped, their Nodes and passwords deleted, then their containers
/// and volumes.
pub fn remove(plan: &mut Plan, desired: &Desired, inputs: &Inputs<'_>, site: &Site<'_>, after: &[usize]) {
    let wanted = desired.agents.len();
    let surplus =
        |name: &str| matches!(desired.names.parse_node(name), Some((NodeRole::Agent, i)) if i >= wanted);
    let mut names: std::collections::BTreeSet<String> = std::collections::BTreeSet::new();
    let own = inputs.observed.own.values().map(|d| &d.container.name);
    names.extend(own.filter(|n| surplus(n)).cloned());
    names.extend(
        inputs
            .observed
            .child
            .state()
            .into_iter()
            .flat_map(|c| c.nodes.keys())
            .filter(|n| surplus(n))
            .cloned(),
    );
    let volumes: Vec<_> = inputs.observed.volumes.iter().filter(|v| inputs.owner.owns(&v.labels)).collect();
    for volume in &volumes {
        let node = volume.name.rsplit_once('-').map(|(node, _)| node);
        names.extend(node.filter(|n| surplus(n)).map(str::to_owned));
    }
    for name in names {
        plan.waits(ConditionType::AgentsReady, Reason::Scaling, format!("removing {name}"));
        if inputs.observed.child.state().is_none() {
            let message = format!("waiting for the API of the cluster before removing {name}");
            plan.waits(ConditionType::AgentsReady, Reason::Scaling, message);
            continue;
        }
        let detail = site.own(&name);
        let works = detail.is_some_and(|d| works(inputs.observed, d));
        if works && !drained(plan, &name, ConditionType::AgentsReady, inputs) {
            continue;
        }
        take_away(plan, &name, "it is a surplus agent", inputs, site, after);
    }
}

pub fn works_now(node: &NodeSpec, inputs: &Inputs<'_>, site: &Site<'_>) -> bool {
    site.own(&node.container.name).is_some_and(|detail| works(inputs.observed, detail))
}
