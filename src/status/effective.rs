//! Values that the HostPolicy of a namespace filled in.

use std::collections::BTreeSet;

use super::ClusterView;
use crate::{
    api::{
        LocalClusterSpec, LocalClusterStatus,
        local_cluster::{Effective, EffectiveNodes, EffectivePool, NodePool},
        names::Pool,
    },
    docker::{
        engine::ContainerDetail,
        spec::{Isolation, Limits},
    },
    plan::{containers::outdated, desired::NodeSpec, policy::rules},
};

/// Returns what the nodes have where their pools set nothing: what Docker shows of an existing one, and what a missing one
/// gets. The other values are those of the last status.
pub(super) fn of(previous: &LocalClusterStatus, view: &ClusterView<'_>) -> Option<Effective> {
    let desired = view.desired;
    let before = previous.effective.clone().unwrap_or_default();
    let of = |pool: &Pool| nodes(desired.nodes().filter(|node| node.pool == *pool), view);
    let named = desired.pools.keys().filter_map(|pool| Some((pool.name()?, pool)));
    Some(Effective {
        servers: Some(of(&Pool::Servers)),
        agents: Some(of(&Pool::Agents)),
        agent_pools: named
            .map(|(name, pool)| EffectivePool { name: name.to_owned(), nodes: of(pool) })
            .collect(),
        ..before
    })
}

fn nodes<'a>(nodes: impl Iterator<Item = &'a NodeSpec>, view: &ClusterView<'_>) -> EffectiveNodes {
    let ClusterView { desired, observed, .. } = *view;
    let network = observed.network_of(desired.addresses.subnet).map(|n| n.id.as_str());
    let each = nodes.map(|node| {
        // What one that is replaced has may be from another spec.
        let kept = |d: &&ContainerDetail| !outdated(observed, d, &node.container, network);
        let made = observed.own_named(&node.container.name).filter(kept);
        match made {
            Some(detail) => (detail.limits, isolation(detail, node, &observed.engine.default_runtime)),
            None => (node.container.defaults, wanted(node)),
        }
    });
    let (limits, isolations): (Vec<Limits>, Vec<Isolation>) = each.unzip();
    let highest = limits.into_iter().fold(Limits::default(), |highest, has| Limits {
        memory: highest.memory.max(has.memory),
        nano_cpus: highest.nano_cpus.max(has.nano_cpus),
        pids: highest.pids.max(has.pids),
    });
    let runtimes: BTreeSet<_> = isolations.iter().map(|has| has.runtime.as_ref()).collect();
    let runtime = runtimes.first().filter(|_| runtimes.len() == 1).copied().flatten();
    let unprivileged = !isolations.is_empty() && isolations.iter().all(|has| has.privileged == Some(false));
    EffectiveNodes {
        memory: highest.memory.map(|n| rules::bytes(n.into())),
        cpus: highest.nano_cpus.map(|n| rules::cpus(n.into())),
        pids: highest.pids.and_then(|n| n.try_into().ok()),
        runtime: runtime.cloned(),
        privileged: unprivileged.then_some(false),
    }
}

fn wanted(node: &NodeSpec) -> Isolation {
    let spec = &node.container;
    Isolation { runtime: spec.runtime.clone(), privileged: Some(spec.privileged) }
}

/// Returns what an existing node has. An engine shows its default runtime for a container that was created without one, which
/// no policy chose.
fn isolation(detail: &ContainerDetail, node: &NodeSpec, default: &str) -> Isolation {
    let chosen = |runtime: &&String| *runtime != default || node.container.runtime.as_ref() == Some(*runtime);
    Isolation {
        runtime: detail.runtime.as_ref().filter(chosen).cloned(),
        privileged: Some(detail.privileged),
    }
}

/// Removes what the spec sets, and what is empty.
pub fn effective(spec: &LocalClusterSpec, status: &mut LocalClusterStatus) {
    let left = |nodes: Option<EffectiveNodes>, pool: &NodePool| {
        let EffectiveNodes { memory, cpus, pids, runtime, privileged } = nodes.filter(|_| pool.count > 0)?;
        let left = EffectiveNodes {
            memory: memory.filter(|_| pool.memory.is_none()),
            cpus: cpus.filter(|_| pool.cpus.is_none()),
            pids: pids.filter(|_| pool.pids.is_none()),
            runtime: runtime.filter(|_| pool.runtime.is_none()),
            privileged: privileged.filter(|_| pool.privileged.is_none()),
        };
        (left != EffectiveNodes::default()).then_some(left)
    };
    let named = |EffectivePool { name, nodes }: EffectivePool| {
        let pool = spec.agent_pools.iter().find(|pool| pool.name == name)?;
        Some(EffectivePool { nodes: left(Some(nodes), &pool.pool)?, name })
    };
    let of = |all: Effective| Effective {
        servers: left(all.servers, &spec.servers),
        agents: left(all.agents, &spec.agents),
        agent_pools: all.agent_pools.into_iter().filter_map(named).collect(),
        ..all
    };
    status.effective = status.effective.take().map(of).filter(|all| *all != Effective::default());
}
