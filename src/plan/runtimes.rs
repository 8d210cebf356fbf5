//! OCI runtimes of nodes, `runtime` of pools. An engine refuses an unknown one when a container is created, which is too late:
//! the container that it replaces is gone then.

use super::{
    containers::{Site, condition_of},
    desired::NodeSpec,
    steps::Plan,
};
use crate::{api::reason::Reason, plan::policy::rules};

/// Reports whether the engine has the runtime of a node, so that its container may be created. If not, adds the problem.
pub fn exists(plan: &mut Plan, node: &NodeSpec, site: &Site<'_>) -> bool {
    let engine = &site.observed.engine;
    let Some(runtime) = node.container.runtime.as_ref().filter(|name| !engine.runtimes.contains(*name))
    else {
        return true;
    };
    let (field, source) = match &node.container.given_isolation.runtime {
        Some(_) => (format!("{}.runtime", node.pool.field()), "spec"),
        None => ("defaults.runtime of the HostPolicy".to_owned(), "policy"),
    };
    let message = format!(
        "{field}: no node of the pool is created or replaced, since the Docker engine has no OCI runtime {runtime}; install it \
         on the Docker host and add it to the engine's daemon.json, or change the {source} to one that it has: {}",
        rules::list(&engine.runtimes)
    );
    plan.stalls(condition_of(node.container.role), Reason::RuntimeNotFound, message);
    false
}
