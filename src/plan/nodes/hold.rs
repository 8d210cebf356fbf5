//! Reasons not to create a container of a node yet.

use super::cluster::Cluster;
use crate::{
    api::reason::Reason,
    plan::{containers::condition_of, desired::NodeSpec, inputs::Inputs, runtimes, steps::Plan},
};

/// Returns why nodes must not be started for the first time yet. A cluster that has started never waits for its
/// registries: their configuration is updated on running nodes.
pub fn hold(inputs: &Inputs<'_>) -> Option<(Reason, String)> {
    let Inputs { refs, observed, frozen, .. } = *inputs;
    if let Some(frozen) = frozen {
        return Some((frozen.reason, frozen.message.clone()));
    }
    let begun = observed.has_begun();
    if let Some(waiting) = refs.registries.iter().find(|r| !begun && r.host_port.is_none()) {
        let message = format!(
            "waiting for the Registry {} before the first start: it has no host port yet",
            waiting.name
        );
        return Some((Reason::RegistryNotReady, message));
    }
    let message = "waiting for the Secrets and ConfigMaps that spec.registries and spec.files reference";
    refs.inputs.is_none().then(|| (Reason::Pending, message.to_owned()))
}

/// Returns why the content of new containers is unknown; `None` if it is known.
pub fn unknown_content(inputs: &Inputs<'_>) -> Option<(Reason, String)> {
    hold(inputs).filter(|_| inputs.refs.inputs.is_none() || inputs.frozen.is_some())
}

/// Reports whether no container of a node may be created now, and adds the problem.
pub fn blocked(plan: &mut Plan, cluster: &Cluster<'_>, node: &NodeSpec) -> bool {
    if let Some((reason, message)) = hold(cluster.inputs) {
        plan.waits(condition_of(node.container.role), reason, message);
        return true;
    }
    !cluster.site.has_image(plan, &node.container) || !host_has(plan, cluster, node)
}

/// Reports whether the Docker host has what a new container of a node uses of it. If not, adds the problems.
pub fn host_has(plan: &mut Plan, cluster: &Cluster<'_>, node: &NodeSpec) -> bool {
    runtimes::exists(plan, node, cluster.site) && node.mounts.allow(plan, node, cluster.site)
}
