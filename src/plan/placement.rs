//! Placement of objects on one of several Docker hosts: the nodes of the management cluster.
//!
//! For each object a Pod is made, its placeholder, which the scheduler of the management cluster places. The object runs
//! on the host of its placeholder, `status.host`. [`judge`](judge::judge) decides for the controller what becomes of the
//! placeholder, and [`duty`](duty::duty) for the agent of a host what it has to do for an object.
//!
//! Nothing exists twice, since the placeholder has a fixed name and a finalizer, which the agent of its host removes when
//! no container of the object runs any more: until then there is no other one.

pub mod duty;
pub mod heartbeat;
pub mod hosts;
pub mod judge;
pub mod leftovers;
pub mod pod;

use std::collections::BTreeMap;

use super::kind::Kind;
use crate::{
    api::{
        FINALIZER,
        placement::{Amount, Data, HostLoss, Placement},
    },
    plan::validate::Valid,
};

/// An object to place.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Kind.
    pub kind: Kind,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// True if it is being deleted.
    pub deleting: bool,
    /// True if it is paused.
    pub paused: bool,
    /// True if it has the finalizer that keeps it until nothing of it is left on its host.
    pub held: bool,
    /// Where it may run.
    pub placement: Placement,
    /// What its placeholder requests; the problems of its spec if they are unknown.
    pub requests: Result<BTreeMap<String, Amount>, String>,
    /// Host that it is bound to.
    pub host: Option<String>,
    /// Objects on whose host it runs: images are pulled from a Registry on the same host only.
    pub near: Vec<Near>,
}

/// An object on whose host another one runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Near {
    /// Kind.
    pub kind: Kind,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Object {
    /// Returns the name of its placeholder.
    pub fn placeholder(&self) -> String {
        self.kind.placeholder(&self.name)
    }

    /// Reports whether it stays on its host for good.
    pub fn is_sticky(&self) -> bool {
        self.placement.data == Data::Sticky
    }

    /// Reports whether it is made anew elsewhere when its host is lost for good.
    pub fn is_recreated(&self) -> bool {
        !self.is_sticky() && self.placement.host_loss == HostLoss::Recreate
    }
}

/// Reports whether an object with these finalizers is kept until nothing of it is left on its host.
pub fn is_held(finalizers: &[String]) -> bool {
    finalizers.iter().any(|finalizer| finalizer == FINALIZER)
}

/// Memory in MiB for what every object has besides its nodes: the load balancer, or the registry without a limit.
const OVERHEAD_MEMORY: i64 = 64;
/// The same for the CPU, in thousandths.
const OVERHEAD_CPU: i64 = 10;

/// Returns what the placeholder of a cluster requests: the sum of the limits of its nodes, a little for its load balancer,
/// and what the spec says instead.
pub fn cluster_requests(valid: &Valid, placement: &Placement) -> BTreeMap<String, Amount> {
    let sum = |of: fn(&super::validate::ValidPool) -> Option<i64>| {
        let pools = valid.pools().map(|(_, pool)| {
            let nodes = i64::try_from(pool.count).unwrap_or(i64::MAX);
            of(pool).unwrap_or_default().saturating_mul(nodes)
        });
        pools.fold(0_i64, i64::saturating_add)
    };
    requests(sum(|pool| pool.memory), sum(|pool| pool.nano_cpus), placement)
}

/// Returns what the placeholder of a registry with this memory limit in bytes requests.
pub fn registry_requests(memory: Option<i64>, placement: &Placement) -> BTreeMap<String, Amount> {
    requests(memory.unwrap_or_default(), 0, placement)
}

fn requests(memory: i64, nano_cpus: i64, placement: &Placement) -> BTreeMap<String, Amount> {
    // Both are rounded up.
    let memory = memory.saturating_add((1 << 20) - 1) / (1 << 20);
    let cpus = nano_cpus.saturating_add(999_999) / 1_000_000;
    let text = |text: String| Amount(text.into());
    let mut all = BTreeMap::from([
        ("cpu".to_owned(), text(format!("{}m", cpus.saturating_add(OVERHEAD_CPU)))),
        ("memory".to_owned(), text(format!("{}Mi", memory.saturating_add(OVERHEAD_MEMORY)))),
    ]);
    all.extend(placement.resources.requests.clone());
    all
}

#[cfg(test)]
mod tests;
