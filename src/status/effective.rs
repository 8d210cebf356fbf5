//! Values that the HostPolicy of a namespace filled in.

use super::ClusterView;
use crate::{
    api::{
        LocalClusterSpec, LocalClusterStatus,
        local_cluster::{Effective, EffectiveLimits, EffectivePool, NodePool},
        names::Pool,
    },
    docker::{engine::ContainerDetail, spec::Limits},
    plan::{containers::outdated, desired::NodeSpec, policy::rules},
};

/// Returns the limits of the nodes without their own: those that Docker shows of an existing one, and those that a missing
/// one gets. The time to live is that of the last status.
pub(super) fn of(previous: &LocalClusterStatus, view: &ClusterView<'_>) -> Option<Effective> {
    let desired = view.desired;
    let before = previous.effective.clone().unwrap_or_default();
    let of = |pool: &Pool| limits(desired.nodes().filter(|node| node.pool == *pool), view);
    let named = desired.pools.keys().filter_map(|pool| Some((pool.name()?, pool)));
    Some(Effective {
        servers: Some(of(&Pool::Servers)),
        agents: Some(of(&Pool::Agents)),
        agent_pools: named
            .map(|(name, pool)| EffectivePool { name: name.to_owned(), limits: of(pool) })
            .collect(),
        ..before
    })
}

fn limits<'a>(nodes: impl Iterator<Item = &'a NodeSpec>, view: &ClusterView<'_>) -> EffectiveLimits {
    let ClusterView { desired, observed, .. } = *view;
    let network = observed.network_of(desired.addresses.subnet).map(|n| n.id.as_str());
    let highest = nodes.fold(Limits::default(), |highest, node| {
        // The limits of one that is replaced may be those of another spec.
        let kept = |d: &&ContainerDetail| !outdated(observed, d, &node.container, network);
        let exists = observed.own_named(&node.container.name).filter(kept);
        let has = exists.map_or(node.container.defaults, |detail| detail.limits);
        Limits {
            memory: highest.memory.max(has.memory),
            nano_cpus: highest.nano_cpus.max(has.nano_cpus),
            pids: highest.pids.max(has.pids),
        }
    });
    EffectiveLimits {
        memory: highest.memory.map(|n| rules::bytes(n.into())),
        cpus: highest.nano_cpus.map(|n| rules::cpus(n.into())),
        pids: highest.pids.and_then(|n| n.try_into().ok()),
    }
}

/// Removes what the spec sets, and what is empty.
pub fn effective(spec: &LocalClusterSpec, status: &mut LocalClusterStatus) {
    let left = |limits: Option<EffectiveLimits>, pool: &NodePool| {
        let EffectiveLimits { memory, cpus, pids } = limits.filter(|_| pool.count > 0)?;
        let left = EffectiveLimits {
            memory: memory.filter(|_| pool.memory.is_none()),
            cpus: cpus.filter(|_| pool.cpus.is_none()),
            pids: pids.filter(|_| pool.pids.is_none()),
        };
        (left != EffectiveLimits::default()).then_some(left)
    };
    let named = |EffectivePool { name, limits }: EffectivePool| {
        let pool = spec.agent_pools.iter().find(|pool| pool.name == name)?;
        Some(EffectivePool { limits: left(Some(limits), &pool.pool)?, name })
    };
    let of = |all: Effective| Effective {
        servers: left(all.servers, &spec.servers),
        agents: left(all.agents, &spec.agents),
        agent_pools: all.agent_pools.into_iter().filter_map(named).collect(),
        ..all
    };
    status.effective = status.effective.take().map(of).filter(|all| *all != Effective::default());
}
