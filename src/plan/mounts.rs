//! Host directories and files and Docker volumes in nodes, the `volumes` of pools: see [`host_path`](super::host_path) and
//! [`consent`](super::consent). Existing nodes keep their mounts; only nodes that are about to be created are checked.

use std::sync::Arc;

use super::{
    consent,
    containers::{Site, condition_of, outdated},
    desired::{Desired, Look, Mounts, NodeSpec},
    host_path,
    inputs::Inputs,
    owner::Owner,
    registries,
    steps::Plan,
    validate::{Valid, ValidPool},
};
use crate::{
    api::{
        names::{self, ClusterNames, Pool},
        reason::Reason,
    },
    docker::spec::{Bind, Role},
};

/// Returns the name of the helper container.
fn name(names: &ClusterNames) -> String {
    format!("k3d-{}-path", names.cluster)
}

impl Mounts {
    /// Creates the mounts of a cluster with this node image. `allowed` contains the directories that the operator
    /// allows.
    pub fn new<'v>(valid: &'v Valid, owner: &Owner, image: &str, allowed: &[String]) -> Arc<Self> {
        let of = |(pool, valid): (Pool, &'v ValidPool)| {
            let field = format!("{}.volumes", pool.field());
            valid.volumes.values().map(move |bind| (field.clone(), bind))
        };
        let all: Vec<(String, &Bind)> = valid.pools().flat_map(of).collect();
        let refused = all.iter().filter(|(_, bind)| host_path::allowed(&bind.source, allowed).is_none());
        let mut labels = owner.labels();
        labels.insert(names::APP.into(), "k3d".into());
        labels.insert(names::ROLE.into(), "path".into());
        let container = (name(&valid.names), Role::NodeHelper, image);
        let paths = all.iter().map(|(_, bind)| bind.source.as_str());
        Arc::new(Self {
            look: Look::new(container, labels, paths, allowed),
            refused: refused.map(|(field, bind)| host_path::refusal(field, &bind.source, allowed)).collect(),
        })
    }

    /// Reports whether all mounts of a node are allowed, and real directories, files and volumes, so that its container may
    /// be created. If not, plans the check or adds a problem.
    pub fn allow(&self, plan: &mut Plan, node: &NodeSpec, site: &Site<'_>) -> bool {
        let host = Site { network: None, ..*site };
        let condition = condition_of(node.container.role);
        let instead = "use the path that it points to";
        // All of them are checked to report all errors at once.
        let unsound = node.container.binds.values().filter(|bind| {
            // A path that was not checked must not be mounted, see [`plan`].
            let look = self.look.as_ref().filter(|look| look.paths.contains_key(&bind.source));
            let mount = host_path::Mount { path: &bind.source, condition, or_file: true, instead };
            !look.is_some_and(|look| look.is_sound(plan, &mount, &host))
        });
        let unsound = unsound.count();
        let allows = |name| consent::to_volume(&host.observed.volumes, name, host.owner.namespace());
        let withheld: Vec<_> =
            node.container.given_volumes.values().filter(|given| !allows(&given.name)).collect();
        for given in &withheld {
            let message = consent::no_volume("volumes", &given.name, site.owner.namespace());
            plan.stalls(condition, Reason::NotAllowed, message);
        }
        unsound == 0 && withheld.is_empty()
    }
}

/// Adds the problems of mounts that are not allowed, and plans the removal of the helper container once no node is
/// about to be created.
pub fn plan(plan: &mut Plan, desired: &Desired, inputs: &Inputs<'_>, site: &Site<'_>) {
    plan.problems.extend(desired.mounts.refused.iter().cloned());
    let to_be_made = |node: &NodeSpec| {
        let own = site.own(&node.container.name);
        own.is_none_or(|detail| {
            outdated(inputs.observed, detail, &node.container, site.network)
                || registries::has_other_credentials(desired, detail, inputs)
        })
    };
    if !desired.nodes().any(|n| !n.container.binds.is_empty() && to_be_made(n)) {
        host_path::forget(plan, &name(&desired.names), &Site { network: None, ..*site });
    }
}
